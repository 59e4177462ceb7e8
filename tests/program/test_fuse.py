"""Maps in tails: every node once, nothing read before it is made, what others read is kept."""

from __future__ import annotations

import pytest
from networks import Net, Problem, X, Y

from striate.formula.expression import Var, evaluate
from striate.graph.gradient import differentiate
from striate.graph.graph import Graph
from striate.kernels.kernel import Tail
from striate.program.fuse import Schedule, fuse


def _whole(problem: Problem) -> Graph:
    names = [p.name for p in problem.graph.parameters]
    graph, gradients = differentiate(problem.graph, problem.loss, names)
    return graph.pruned([*problem.graph.outputs, *gradients.values()])


def _check(graph: Graph, schedule: Schedule) -> None:
    made = {n.name for n in graph.nodes.values() if n.op in ("input", "parameter")}
    for step in schedule.steps:
        for name in step.reads:
            assert schedule.root[name] in made, f"{step.node.name} reads {name} too early"
        for name in step.writes:
            assert name not in made, f"{name} is made twice"
            made.add(name)
        extras = 0 if step.tail is None else step.tail.extras
        assert len(step.extras) == extras
    assert {schedule.root[o] for o in graph.outputs} <= made


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "with gradients"])
def test_schedules_are_in_order_and_whole(problem: Problem, backward: bool) -> None:
    graph = _whole(problem) if backward else problem.graph.pruned()
    schedule = fuse(graph)
    _check(graph, schedule)
    work = [n for n in graph.steps if n.op not in ("map", "reshape")]
    assert [s.node.name for s in schedule.steps if s.node.op != "map"] == [n.name for n in work]


def test_lenet_has_no_map_of_its_own(lenet: Problem) -> None:
    for graph in (lenet.graph, _whole(lenet)):
        assert not [s for s in fuse(graph).steps if s.node.op == "map"]


def _tails(schedule: Schedule) -> dict[str, Tail | None]:
    return {step.node.op: step.tail for step in schedule.steps}


def test_a_chain_of_maps_is_one_tail() -> None:
    net = Net(1, 4, 4)
    a = net.map(X + 1, net.conv("x", 2))
    graph = net.done(net.map(X * X, a))
    (step,) = fuse(graph).steps
    assert step.tail is not None and not step.tail.keep and step.output == graph.outputs[0]
    assert evaluate(step.tail.expr, {"v": 2.0}) == 9.0


def test_what_others_read_is_kept_or_not_fused() -> None:
    net = Net(1, 4, 4)
    conv = net.conv("x", 2)
    relu = net.map("relu", conv)
    graph = net.done(net.map(X * Y, relu, conv))  # conv is read twice, relu once
    steps = fuse(graph).steps
    assert [s.node.op for s in steps] == ["conv2d"] or steps[0].writes == (relu, conv)
    _check(graph, fuse(graph))
    graph.outputs = (*graph.outputs, relu, conv)  # now all three are wanted
    schedule = fuse(graph)
    _check(graph, schedule)
    assert {name for s in schedule.steps for name in s.writes} >= {relu, conv}


def test_a_map_waits_for_what_else_it_reads() -> None:
    net = Net(2, 4, 4)
    first = net.conv("x", 2, 1)
    second = net.conv(net.map("relu", first), 2, 1)
    graph = net.done(net.map(X - Y, first, second))
    schedule = fuse(graph)
    _check(graph, schedule)
    last = schedule.steps[-1]
    assert last.tail is not None and last.extras == (first,)
    assert evaluate(last.tail.expr, {"v": 5.0, "e0": 7.0}) == 2.0


def test_maps_of_inputs_and_of_parts_stay_by_themselves() -> None:
    net = Net(4, 3, 3)
    part = net.op("slice", net.map("tanh", "x"), axis=1, start=1, stop=3)
    graph = net.done(net.map("relu", part))
    assert [s.node.op for s in fuse(graph).steps] == ["map", "slice", "map"]


def test_aliases_share_memory() -> None:
    net = Net(1, 2, 2)
    conv = net.conv("x", 3, 2)
    flat = net.flat(conv)
    image = net.op("reshape", flat, shape=[1, 3, 1])
    dropped = net.op("dropout", image, p=0.5, site=0)
    graph = net.done(net.map(Var("x") * 2, dropped))
    schedule = fuse(graph, ("reshape", "dropout"))
    assert {schedule.root[n] for n in (flat, image, dropped)} == {conv}
    assert [s.node.op for s in schedule.steps] == ["conv2d"]
    assert [s.node.op for s in fuse(graph).steps] == ["conv2d", "dropout"]
    assert _tails(fuse(graph))["dropout"] is not None
