"""The gradient transform: each rule, and every network against differences in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import BUILDERS, Net, Problem, X, Y

from striate import nn
from striate.errors import OptionError
from striate.formula.activation import ACTIVATIONS, map_attributes
from striate.formula.expression import Expr, Var, diff, evaluate, from_json, maximum, where
from striate.graph.gradient import LOSSES, RELU_RULES, differentiate, pull_back
from striate.graph.graph import Graph
from striate.program import build_gradient
from striate.program.reference import evaluate_graph
from striate.random import Draw


def _slopes(problem: Problem, wrt: list[str]) -> tuple[Graph, dict[str, str]]:
    return differentiate(problem.graph, problem.loss, wrt)


@pytest.mark.parametrize("name", [n for n in BUILDERS if n != "lenet"])
def test_against_central_differences(name: str) -> None:
    """To every parameter and to the input, along a random direction."""
    problem = BUILDERS[name]()
    wrt = [*(p.name for p in problem.graph.parameters), "x"]
    graph, found = _slopes(problem, wrt)
    leaves: dict[str, Any] = {n: v.astype(float) for n, v in problem.parameters().items()}
    leaves |= {"x": problem.images(3).astype(float), "target": problem.targets(3)}
    draw = Draw(5, 1)
    slopes = evaluate_graph(graph, leaves, found.values(), draw)
    rng = np.random.default_rng(4)
    for leaf, node in found.items():
        slope, h = slopes[node], 1e-6
        assert slope.shape == leaves[leaf].shape
        direction = rng.normal(size=slope.shape)
        ends = []
        for sign in (1, -1):
            moved = {**leaves, leaf: leaves[leaf] + sign * h * direction}
            ends.append(evaluate_graph(graph, moved, ["loss"], draw)["loss"].mean())
        expected = (ends[0] - ends[1]) / (2 * h)
        assert (slope * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-8), leaf
    unused = {"unused"} if name == "unused parameter" else set()
    dead = {"linear.weight", "linear.bias"} if unused else set()
    assert set(found) == set(wrt) - unused - dead


def _ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.steps]


def _backward(net: Net, output: str, wrt: list[str], loss: str = "mse") -> tuple[Graph, Any]:
    return differentiate(net.done(output), loss, wrt)


def test_the_forward_part_stays() -> None:
    problem = BUILDERS["branches"]()
    graph, _ = _slopes(problem, ["conv.weight"])
    names = list(problem.graph.nodes)
    assert list(graph.nodes)[: len(names)] == names
    assert list(graph.nodes)[len(names) : len(names) + 3] == ["target", "loss", "loss:dx"]
    assert graph.outputs == (*problem.graph.outputs, "loss")
    assert "loss" not in problem.graph.nodes


def test_operations_have_gradient_nodes() -> None:
    net = Net(2, 6, 6)
    conv = net.conv("x", 3)
    pool = net.max_pool(conv)
    mean = net.pool("avg_pool2d", pool, 2, 1, count_include_pad=True)
    out = net.linear(net.op("softmax", net.flat(mean)), 2)
    graph, found = _backward(net, out, ["x", "conv.weight", "conv.bias", "linear.weight"])
    new = _ops(graph)[len(_ops(net.graph)) :]
    assert new == [
        "mse_loss",
        "mse_loss:dx",
        "linear:dx",
        "linear:dw",
        "softmax:dx",
        "reshape",
        "avg_pool2d:dx",
        "max_pool2d:dx",
        "conv2d:dx",
        "conv2d:dw",
        "conv2d:db",
    ]
    weight = graph.nodes[found["conv.weight"]]
    assert weight.shape == (3, 2, 3, 3) and not weight.batched
    assert graph.nodes[found["x"]].batched
    assert weight.inputs == ("max_pool2d:dx", "x", "conv.weight", "conv.bias")


def test_only_what_is_asked_for() -> None:
    net = Net(2, 6, 6)
    out = net.linear(net.flat(net.map("relu", net.conv("x", 3))), 2)
    graph, found = _backward(net, out, ["linear.weight"])
    assert [op for op in _ops(graph) if ":" in op] == ["mse_loss:dx", "linear:dw"]
    assert list(found) == ["linear.weight"]
    _, nothing = _backward(net, out, [])
    assert nothing == {}


def test_reshape_concat_slice_dropout() -> None:
    net = Net(2, 4, 3)
    a, b = net.conv("x", 2, 1), net.conv("x", 3, 1)
    joined = net.op("concat", a, b, axis=1)
    part = net.op("slice", joined, axis=2, start=1, stop=3)
    flat = net.flat(net.op("dropout", part, p=0.5, site=9))
    graph, _ = _backward(net, flat, ["conv.weight"])
    back = graph.steps[len(net.graph.steps) + 2 :]
    assert [n.op for n in back[:4]] == ["reshape", "dropout", "slice:dx", "slice"]
    assert back[0].attributes == {"shape": [5, 2, 3]}
    assert back[1].attributes == {"p": 0.5, "site": 9}
    assert back[3].attributes == {"axis": 1, "start": 0, "stop": 2}


def test_gradients_that_meet_are_added_once_each() -> None:
    net = Net(3)
    total = net.map(X + Y, "x", net.map("tanh", "x"))
    graph, found = _backward(net, total, ["x"])
    assert graph.nodes[found["x"]].name == "x:sum"
    sums = [n for n in graph.steps if n.name.startswith("x:sum")]
    assert len(sums) == 1 and sums[0].inputs[0] == "loss:dx"


def test_maps_that_pass_the_gradient_on_add_no_node() -> None:
    net = Net(3)
    graph, found = _backward(net, net.map(X + 1, "x"), ["x"])
    assert found["x"] == "loss:dx"
    net = Net(3)
    step = net.map(where(X > 0, 1, 0), "x")
    graph, found = _backward(net, net.map(X * Y, step, net.linear("x", 3)), ["linear.weight"])
    assert not [n for n in graph.steps if n.name.startswith(f"{step}:d")]


def test_input_names_of_a_map_do_not_collide() -> None:
    """A user's function may call its input g or y."""
    for names in (("g",), ("y",), ("g", "y"), ("g", "g_")):
        net = Net(4)
        variables = [Var(n) for n in names]
        body: Expr = variables[0] * variables[0] * 0.5
        for v in variables[1:]:
            body = body * v
        attributes = map_attributes(body, names)
        inputs = ("x", net.linear("x", 4))[: len(names)]
        out = net.op("map", *inputs, **attributes)
        graph, found = _backward(net, out, ["x"])
        x = np.random.default_rng(0).normal(size=(2, 4))
        leaves = {"x": x, "target": np.zeros((2, 4))}
        leaves |= {p.name: np.full(p.shape, 0.3) for p in net.graph.parameters}
        slope = evaluate_graph(graph, leaves, [found["x"]])[found["x"]]
        moved = []
        for sign in (1, -1):
            near = {**leaves, "x": x + sign * 1e-6}
            moved.append(evaluate_graph(graph, near, ["loss"])["loss"].mean())
        assert slope.sum() == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.gradient_y is not None])
def test_gradients_in_terms_of_the_output_are_the_derivatives(name: str) -> None:
    attributes = map_attributes(name)
    expr, by_output = from_json(attributes["expr"]), from_json(attributes["gradient_y"]["x"])
    x = np.random.default_rng(0).normal(size=100) * 2
    y = evaluate(expr, {"x": x})
    expected = evaluate(diff(expr, X), {"x": x})
    np.testing.assert_allclose(evaluate(by_output, {"x": x, "y": y}), expected, atol=1e-12)


def test_ties_of_relu() -> None:
    """At 0 the slope is 0, by the output and by the derivative alike."""
    for expr in ("relu", maximum(X, 0) + 0 * X):
        net = Net(1)
        graph, found = _backward(net, net.map(expr, "x"), ["x"])
        leaves = {"x": np.zeros((1, 1)), "target": np.ones((1, 1))}
        slope = evaluate_graph(graph, leaves, [found["x"]])[found["x"]]
        assert slope[0, 0] == 0


def test_names_that_are_taken() -> None:
    net = Net(3)
    net.graph.apply("target", "map", ("x",), map_attributes("tanh"))
    net.graph.apply("loss", "linear", ("target", net.parameter("w", 2, 3)))
    graph, found = _backward(net, "loss", ["w"], "cross_entropy")
    assert graph.outputs == ("loss", "loss_1")
    assert graph.nodes["loss_1"].inputs == ("loss", "target_1")
    assert found["w"] in graph.nodes


def test_an_unknown_loss() -> None:
    with pytest.raises(OptionError, match=r"unknown loss 'crossentropy'. Did you mean"):
        differentiate(BUILDERS["groups"]().graph, "crossentropy", [])
    assert set(LOSSES) == {"cross_entropy", "mse"}


# ---- what goes back through a ReLU -------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("rule", RELU_RULES)
def test_rules_of_relu(rule: str, backend: str) -> None:
    """Against the three rules written out, through two ReLUs with a layer between."""
    net = nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU())
    rng = np.random.default_rng(0)
    x, up = rng.normal(size=(6, 7)).astype("f4"), rng.normal(size=(6, 5)).astype("f4")
    graph = net.eval().to_graph((7,))
    program = build_gradient(graph, None, ["input"], relu=rule, backend=backend)
    found = program.run(x, net.state_dict(), {graph.outputs[0]: up})[1]["input"]
    w = {name: array.astype(float) for name, array in net.state_dict().items()}

    def back(g: Any, before: Any) -> Any:
        open_here = before > 0
        passed = {"gradient": open_here, "guided": open_here & (g > 0), "deconvolution": g > 0}
        return g * passed[rule]

    first = x @ w["0.weight"].T + w["0.bias"]
    second = np.maximum(first, 0) @ w["2.weight"].T + w["2.bias"]
    expected = back(back(up, second) @ w["2.weight"], first) @ w["0.weight"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_only_a_relu_has_other_rules() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.1), nn.Linear(4, 2), nn.Tanh())
    x = np.random.default_rng(1).normal(size=(2, 3)).astype("f4")
    graph = net.eval().to_graph((3,))
    found = [
        build_gradient(graph, None, ["input"], relu=rule).run(x, net.state_dict())[1]["input"]
        for rule in RELU_RULES
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_an_unknown_rule_is_refused() -> None:
    graph = nn.ReLU().to_graph((3,))
    with pytest.raises(OptionError, match=r"unknown rule relu='guidet'. Did you mean 'guided'"):
        pull_back(graph, graph.outputs, ["input"], "guidet")
