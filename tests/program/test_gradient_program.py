"""Gradient programs: native against the reference, to inputs, inner nodes and parameters."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from blocked_networks import BLOCKED_BUILDERS
from harness import check_close
from networks import BUILDERS, Net, Problem, X, Y

from striate import settings
from striate.codegen.targets import Target
from striate.errors import ModelError, ShapeError
from striate.graph.graph import Graph, Node
from striate.graph.statistics import buffers, with_batch_statistics
from striate.program import build_gradient, build_inference, native_gradient
from striate.program.gradient_program import ReferenceGradient
from striate.program.native_gradient import NativeGradient


@cache
def _built(name: str) -> Problem:
    return {**BUILDERS, **BLOCKED_BUILDERS}[name]()


@pytest.fixture(params=[*BUILDERS, *BLOCKED_BUILDERS])
def problem(request: pytest.FixtureRequest) -> Problem:
    return _built(request.param)


def everything(graph: Graph) -> list[str]:
    running = buffers(graph)
    return [name for name in graph.nodes if name not in running]


def upstream(graph: Graph, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    shapes = {o: (count, *graph.nodes[o].shape) for o in graph.outputs}
    return {o: rng.normal(size=shape).astype(np.float32) for o, shape in shapes.items()}


def compare(graph: Graph, problem: Problem, count: int, target: Target, draws: bool) -> None:
    wanted, parameters = everything(graph), problem.parameters()
    exact = ReferenceGradient(graph, None, wanted, draws, exact=True)
    native = NativeGradient(graph, None, wanted, draws, target)
    x, u = problem.images(count), upstream(graph, count)
    y, slopes = native.run(x, parameters, u, seed=3, step=2)
    right, expected = exact.run(x, parameters, u, seed=3, step=2)
    for name in right:
        assert y[name].shape == right[name].shape
        if count:
            check_close(y[name], right[name], factor=60)
    for name in wanted:
        assert slopes[name].shape == expected[name].shape
        if expected[name].size and np.abs(expected[name]).max() > 1e-9:
            check_close(slopes[name], expected[name], factor=200, dense=0)


def test_native_against_the_reference(problem: Problem, target: Target) -> None:
    width = target.width
    for count in (0, 1, width - 1, width, width + 1):
        compare(problem.graph, problem, count, target, draws=False)


def test_in_training_mode(problem: Problem, target: Target) -> None:
    graph = with_batch_statistics(problem.graph)
    if any(node.op in ("dropout", "batch_norm_training") for node in graph.steps):
        compare(graph, problem, target.width + 1, target, draws=True)


def test_threads_do_not_change_a_bit(problem: Problem) -> None:
    graph = with_batch_statistics(problem.graph)
    wanted, parameters = everything(graph), problem.parameters()
    x, u, found = problem.images(19), upstream(graph, 19), []
    for threads in (1, 2, 3):
        settings.set_num_threads(threads)
        program = NativeGradient(graph, None, wanted, draws=True)
        parts = program.run(x, parameters, u, seed=1)
        found.append([a.tobytes() for part in parts for a in part.values()])
    assert found[0] == found[1] == found[2]


def test_the_outputs_are_those_of_inference(problem: Problem) -> None:
    program = build_gradient(problem.graph)
    x, parameters = problem.images(3), problem.parameters()
    values = program.start(x, parameters).values
    expected = build_inference(problem.graph).run(x, parameters)
    check_close(values[problem.graph.outputs[0]], expected, factor=60)


def test_running_statistics_stay() -> None:
    problem = _built("residual norms")
    graph, parameters = with_batch_statistics(problem.graph), problem.parameters()
    before = {name: a.copy() for name, a in parameters.items()}
    build_gradient(graph, None, ["x"]).run(problem.images(4), parameters)
    assert all(np.array_equal(before[name], a) for name, a in parameters.items())


def test_several_pulls_and_passes(lenet: Problem) -> None:
    graph, parameters = lenet.graph, lenet.parameters()
    wanted = ["input", "conv2", "fc1.weight", "conv1.bias"]
    x, u = lenet.images(9), upstream(lenet.graph, 9)
    other = {name: -2 * a for name, a in u.items()}
    program = NativeGradient(graph, None, wanted)
    first = program.start(x, parameters)
    once = first.pull(u)
    again = first.pull(u)
    second = program.start(lenet.images(9)[::-1], parameters)
    turned = second.pull({name: a[::-1] for name, a in u.items()})
    late = first.pull(other)
    for name in wanted:
        assert np.array_equal(once[name], again[name])
        assert np.allclose(late[name], -2 * once[name], rtol=1e-5, atol=1e-6)
    check_close(turned["input"][::-1], once["input"], factor=60)
    alone = NativeGradient(graph, None, ["conv2"]).run(x, parameters, u)[1]
    assert list(alone) == ["conv2"] and np.allclose(alone["conv2"], once["conv2"], atol=1e-6)


def test_no_upstream_is_ones(lenet: Problem) -> None:
    parameters, x = lenet.parameters(), lenet.images(3)
    program = build_gradient(lenet.graph, None, ["fc3.bias", "fc3.weight"])
    _, slopes = program.run(x, parameters)
    assert (slopes["fc3.bias"] == 3).all()


def _two_inputs() -> Problem:
    net = Net(2, 5, 6)
    net.graph.append(Node("y", "input", shape=(2, 5, 6)))
    a = net.map(X * Y, net.conv("x", 2, padding=[[1, 1], [1, 1]]), "y")
    joined = net.op("concat", a, "y", axis=1)
    return Problem(net.done(net.linear(net.flat(net.map("relu", joined)), 3), a))


@pytest.mark.parametrize("count", [1, 20])
def test_several_inputs_and_outputs(target: Target, count: int) -> None:
    problem = _two_inputs()
    graph, parameters, x = problem.graph, problem.parameters(), problem.images(count)
    y = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)
    wanted = everything(graph)
    exact = ReferenceGradient(graph, None, wanted, exact=True)
    native = NativeGradient(graph, None, wanted, target=target)
    inner = graph.outputs[1]
    for up in (upstream(graph, count), {inner: upstream(graph, count)[inner]}):
        right, expected = exact.run({"x": x, "y": y}, parameters, up)
        values, slopes = native.run((x, y), parameters, up)
        for name in right:
            check_close(values[name], right[name], factor=30)
        for name in wanted:
            check_close(slopes[name], expected[name], factor=60, dense=0)
    assert np.abs(slopes["y"]).max() > 0 and not slopes["linear.weight"].any()
    inference = build_inference(graph)
    found = inference.values((x, y), parameters, [*graph.outputs, "y"])
    for name in graph.outputs:
        check_close(found[name], right[name], factor=30)
    assert np.array_equal(found["y"], y)


def test_one_gradient_for_several_nodes(target: Target) -> None:
    net = Net(2, 3, 3)
    net.graph.append(Node("y", "input", shape=(2, 3, 3)))
    graph = net.done(net.map("tanh", net.map(X + Y, "x", "y")))
    x = np.random.default_rng(0).normal(size=(2, 5, 2, 3, 3)).astype(np.float32)
    values, slopes = NativeGradient(graph, None, everything(graph), target=target).run(tuple(x), {})
    right = 1 - np.tanh(x[0] + x[1]) ** 2
    for name in ("x", "y", graph.steps[0].name):
        check_close(slopes[name], right, factor=30)
    assert (slopes[graph.outputs[0]] == 1).all()
    check_close(values[graph.outputs[0]], np.tanh(x[0] + x[1]), factor=30)


def test_the_output_may_be_an_input() -> None:
    graph = Net(3, 2).done("x")
    program = NativeGradient(graph, None, ["x"])
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    values, slopes = program.run(x, {}, {"x": -x})
    assert np.array_equal(values["x"], x) and np.array_equal(slopes["x"], -x)


def test_large_batches_go_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _built("residual norms")
    wanted, parameters, x = everything(problem.graph), problem.parameters(), problem.images(11)
    u = upstream(problem.graph, 11)
    program = NativeGradient(problem.graph, None, wanted)
    values, slopes = program.run(x, parameters, u)
    (loaded,) = program._loaded.values()
    size = loaded.plan.memory.values.size
    monkeypatch.setattr(native_gradient, "_MOST_FLOATS", 4 * size)
    pieces, parts = program.run(x, parameters, u)
    for name in values:
        check_close(pieces[name], values[name], factor=60)
    for name in wanted:
        check_close(parts[name], slopes[name], factor=200, dense=0)


def test_parameters_changed_in_place_are_noticed(lenet: Problem) -> None:
    parameters, x = lenet.parameters(), lenet.images(2)
    program = NativeGradient(lenet.graph, None, ["input"])
    first, _ = program.run(x, parameters)
    parameters["fc3.bias"] += 1
    second, _ = program.run(x, {k: v.astype(np.float64) for k, v in parameters.items()})
    name = lenet.graph.outputs[0]
    assert np.allclose(second[name], first[name] + 1, atol=1e-5)


def test_faults_are_told(lenet: Problem) -> None:
    graph, parameters, x = lenet.graph, lenet.parameters(), lenet.images(2)
    with pytest.raises(ModelError, match=r"no node 'conv3'. Did you mean"):
        build_gradient(graph, None, ["conv3"])
    norms = _built("residual norms")
    with pytest.raises(ModelError, match=r"'norm.mean' expected a node .* got a running statistic"):
        build_gradient(norms.graph, None, ["norm.mean"])
    program = build_gradient(graph, None, ["input"])
    name = graph.outputs[0]
    with pytest.raises(ShapeError, match=r"upstream of .* expected shape \(2, 10\); got \(2, 9\)"):
        program.run(x, parameters, {name: np.zeros((2, 9))})
    with pytest.raises(ModelError, match=r"upstream of 'fc' expected one of"):
        program.run(x, parameters, {"fc": np.zeros((2, 10))})
    with pytest.raises(ShapeError, match=r"images of shape \(n, 1, 28, 28\)"):
        program.run(x[:, 0], parameters)
    two = build_gradient(_two_inputs().graph)
    a = np.zeros((2, 2, 5, 6))
    with pytest.raises(ModelError, match=r"expected 2 arrays, one for each of \['x', 'y'\]; got 1"):
        two.start(a, {})
    with pytest.raises(ShapeError, match=r"same number of samples; got shapes \(2, 2, 5, 6\), \(1"):
        two.start((a, a[:1]), {})
    with pytest.raises(ModelError, match=r"arrays for \['x', 'y'\]; got \['x'\]"):
        two.start({"x": a}, {})


def test_the_backend_by_name(lenet: Problem) -> None:
    assert isinstance(build_gradient(lenet.graph, backend="native"), NativeGradient)
    reference = build_gradient(lenet.graph, None, ["input"], backend="reference")
    values, slopes = reference.run(lenet.images(1), lenet.parameters())
    assert all(a.dtype == np.float32 for a in (*values.values(), *slopes.values()))
