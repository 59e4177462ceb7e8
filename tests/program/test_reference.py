"""The reference backend: forward, gradient and training of whole graphs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from striate.errors import DataError, ModelError, OptionError, ShapeError
from striate.formula.activation import map_attributes
from striate.formula.expression import Var
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph, Node
from striate.program.reference import ReferenceInference, ReferenceTraining, evaluate_graph
from striate.random import Draw, dropout_uniform

POOL = {"kernel": [2, 2], "stride": [2, 2], "padding": [[0, 0], [0, 0]]}
CONV = {"stride": [1, 1], "padding": [[1, 1], [1, 1]], "dilation": [1, 1], "groups": 1}
SGD = UpdateRule(
    "sgd",
    ("momentum",),
    ("lr", "mu"),
    (
        ("momentum", Var("mu") * Var("momentum") + Var("g")),
        ("p", Var("p") - Var("lr") * Var("momentum")),
    ),
)


def network(dropout: bool = False) -> Graph:
    """Two branches that meet: everything a gradient graph has to handle."""
    graph = Graph([Node("x", "input", shape=(1, 6, 6))])
    for name, shape in {
        "a.weight": (2, 1, 3, 3),
        "a.bias": (2,),
        "b.weight": (2, 1, 3, 3),
        "c.weight": (3, 4 * 9),
        "c.bias": (3,),
    }.items():
        graph.append(Node(name, "parameter", shape=shape, batched=False))
    graph.apply("a", "conv2d", ("x", "a.weight", "a.bias"), CONV)
    graph.apply("relu", "map", ("a",), map_attributes("relu"))
    graph.apply("b", "conv2d", ("x", "b.weight"), CONV)
    graph.apply("tanh", "map", ("b",), map_attributes("scaled_tanh"))
    graph.apply("product", "map", ("relu", "tanh"), map_attributes(Var("p") * Var("q"), ("p", "q")))
    graph.apply("join", "concat", ("relu", "product"), {"axis": 1})
    graph.apply("pool", "avg_pool2d", ("join",), {**POOL, "count_include_pad": True})
    graph.apply("flat", "reshape", ("pool",), {"shape": [-1]})
    last = "flat"
    if dropout:
        last = graph.apply("drop", "dropout", ("flat",), {"p": 0.25, "site": 3}).name
    graph.apply("c", "linear", (last, "c.weight", "c.bias"))
    graph.outputs = ("c",)
    return graph


def weights(graph: Graph) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {n.name: (0.3 * rng.normal(size=n.shape)).astype("f4") for n in graph.parameters}


def samples(count: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    return rng.random((count, 1, 6, 6), np.float32), rng.integers(0, 3, count)


def trained(loss: str = "cross_entropy", dropout: bool = False) -> ReferenceTraining:
    graph = network(dropout)
    training = ReferenceTraining(graph, loss, SGD)
    for name, value in weights(graph).items():
        training.parameters[name][...] = value
    return training


def hyper(steps: int) -> Any:
    return np.tile(np.array([0.1, 0.5], np.float32), (steps, 1))


def test_values_of_inner_nodes() -> None:
    graph = network()
    inference, parameters = ReferenceInference(graph), weights(graph)
    x, _ = samples(3)
    out = inference.run(x, parameters)
    assert out.shape == (3, 3) and out.dtype == np.float32
    values = inference.values(x, parameters, ["x", "relu", "c"])
    assert np.array_equal(values["c"], out) and np.array_equal(values["x"], x)
    assert values["relu"].min() == 0
    one = inference.exact(x[1:2], parameters, ["c"])["c"]
    assert np.allclose(one, inference.exact(x, parameters, ["c"])["c"][1:2], rtol=1e-13)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("dropout", [False, True])
def test_gradient_of_a_whole_network(loss: str, dropout: bool) -> None:
    training = trained(loss, dropout)
    x, labels = samples(4)
    targets = labels if loss == "cross_entropy" else np.eye(3, dtype=np.float32)[labels]
    draw = Draw(seed=7, step=2)
    _, slopes = training.gradient(x, targets, draw)
    assert slopes.keys() == training.parameters.keys()
    start = {name: np.array(p, np.float64) for name, p in training.parameters.items()}
    rng, step = np.random.default_rng(2), 1e-6
    for name, slope in slopes.items():
        direction = rng.normal(size=slope.shape)
        ends = []
        for sign in (1, -1):
            leaves = {**start, name: start[name] + sign * step * direction}
            leaves |= {"x": x, training.target.name: targets}
            found = evaluate_graph(training.graph, leaves, [training.loss.name], draw)
            ends.append(found[training.loss.name].mean())
        expected = (ends[0] - ends[1]) / (2 * step)
        assert (slope * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-9), name


def test_a_step_is_the_rule_applied_to_the_gradient() -> None:
    training = trained()
    x, t = samples(8)
    before = {name: p.copy() for name, p in training.parameters.items()}
    losses, slopes = training.gradient(x[:5], t[:5])
    result = training.run(x, t, np.arange(5), batch_size=5, hyper=hyper(1))
    assert result.steps == 1 and np.allclose(result.losses, losses, rtol=1e-6)
    for name, slope in slopes.items():
        momentum = training.state[f"momentum:{name}"]
        assert np.array_equal(momentum, slope.astype(np.float32))
        expected = before[name] - np.float64(np.float32(0.1)) * slope
        np.testing.assert_allclose(training.parameters[name], expected, rtol=1e-6)


def test_training_in_pieces_is_training_at_once() -> None:
    x, t = samples(11)
    order = np.random.default_rng(3).permutation(11)
    whole, parts = trained(dropout=True), trained(dropout=True)
    steps: list[int] = []
    full = whole.run(x, t, order, batch_size=4, hyper=hyper(3), seed=5, progress=steps.append)
    first = parts.run(x, t, order[:4], batch_size=4, hyper=hyper(1), seed=5)
    rest = parts.run(x, t, order[4:], batch_size=4, hyper=hyper(2), first_step=1, seed=5)
    assert full.steps == 3 and full.losses.shape == full.correct.shape == (11,)
    assert np.array_equal(full.losses, np.concatenate([first.losses, rest.losses]))
    assert np.array_equal(full.correct, np.concatenate([first.correct, rest.correct]))
    for name, value in whole.parameters.items():
        assert np.array_equal(value, parts.parameters[name])


def test_it_learns() -> None:
    x, t = samples(12)
    training = trained()
    order = np.tile(np.arange(12), 30)
    result = training.run(x, t, order, batch_size=4, hyper=hyper(90))
    assert result.losses[-12:].mean() < 0.8 * result.losses[:12].mean()
    assert result.correct[-12:].mean() > result.correct[:12].mean()


def test_dropout_drops_what_its_numbers_say() -> None:
    graph = Graph([Node("x", "input", shape=(2, 3))])
    graph.apply("y", "dropout", ("x",), {"p": 0.25, "site": 3})
    x = np.arange(1.0, 31).reshape(5, 2, 3)
    found = evaluate_graph(graph, {"x": x}, ["y"], Draw(seed=9, step=4))["y"]
    u = dropout_uniform(9, 4, 3, range(5), 6).reshape(5, 2, 3)
    assert np.array_equal(found, np.where(u >= 0.25, x / 0.75, 0))
    assert 0 < (found == 0).sum() < 20
    assert np.array_equal(evaluate_graph(graph, {"x": x}, ["y"])["y"], x)


def test_stop_ends_before_the_next_step() -> None:
    training, stop = trained(), threading.Event()
    stop.set()
    x, t = samples(4)
    result = training.run(x, t, np.arange(4), batch_size=2, hyper=hyper(2), stop=stop)
    assert (result.steps, result.losses.size) == (0, 0)


def test_faults_are_told() -> None:
    graph = network()
    inference, parameters = ReferenceInference(graph), weights(graph)
    x, t = samples(4)
    with pytest.raises(ShapeError, match=r"images of shape \(n, 1, 6, 6\); got \(4, 1, 6\)"):
        inference.run(x[..., 0], parameters)
    with pytest.raises(ModelError, match=r"expected 'a.weight'; got"):
        inference.run(x, {})
    with pytest.raises(ShapeError, match=r"a.bias expected shape \(2,\); got \(3,\)"):
        inference.run(x, {**parameters, "a.bias": np.zeros(3)})
    with pytest.raises(ModelError, match=r"no node 'rellu'. Did you mean 'relu'"):
        inference.values(x, parameters, ["rellu"])
    with pytest.raises(ModelError, match="a graph with an input and an output"):
        ReferenceInference(Graph())
    with pytest.raises(OptionError, match="unknown loss 'msee'"):
        ReferenceTraining(graph, "msee", SGD)
    training = trained()
    with pytest.raises(ShapeError, match=r"targets of shape \(4,\); got \(3,\)"):
        training.run(x, t[:3], np.arange(4), batch_size=2, hyper=hyper(2))
    with pytest.raises(ShapeError, match="order expected positions from 0 to 3"):
        training.run(x, t, np.array([4]), batch_size=2, hyper=hyper(1))
    with pytest.raises(ShapeError, match=r"hyper expected shape \(2, 2\).*lr, mu; got \(1, 2\)"):
        training.run(x, t, np.arange(4), batch_size=2, hyper=hyper(1))
    with pytest.raises(OptionError, match="batch_size expected at least 1; got 0"):
        training.run(x, t, np.arange(4), batch_size=0, hyper=hyper(1))
    with pytest.raises(DataError, match=r"labels from 0 to 2; got [345] for sample 0"):
        training.run(x, t + 3, np.arange(1), batch_size=2, hyper=hyper(1))


NORM = {"eps": 1e-5, "momentum": 0.25}


def test_training_keeps_running_statistics_and_running_uses_them() -> None:
    graph = Graph([Node("x", "input", shape=(2, 3))])
    for name in ("w", "b", "mean", "var"):
        graph.append(Node(name, "parameter", shape=(2,), batched=False))
    graph.apply("norm", "batch_norm", ("x", "w", "b", "mean", "var"), NORM)
    graph.outputs = ("norm",)
    training = ReferenceTraining(graph, "mse", SGD)
    assert set(training.parameters) == {"w", "b", "mean", "var"}
    assert set(training.state) == {"momentum:w", "momentum:b"}
    training.parameters["w"][...] = training.parameters["var"][...] = 1
    rng = np.random.default_rng(0)
    x, t = rng.random((8, 2, 3), np.float32), rng.random((8, 2, 3), np.float32)
    training.run(x, t, np.arange(8), batch_size=4, hyper=hyper(2))
    mean, var = np.zeros(2), np.ones(2)
    for batch in (x[:4].astype(float), x[4:].astype(float)):
        mean = (0.75 * mean + 0.25 * batch.mean((0, 2))).astype("f4").astype(float)
        new = batch.transpose(1, 0, 2).reshape(2, -1).var(1, ddof=1)
        var = (0.75 * var + 0.25 * new).astype("f4").astype(float)
    assert np.array_equal(training.parameters["mean"], mean.astype("f4"))
    assert np.array_equal(training.parameters["var"], var.astype("f4"))
    p = training.parameters
    expected = (x - p["mean"][:, None]) / np.sqrt(p["var"][:, None] + 1e-5) * p["w"][:, None]
    found = ReferenceInference(graph).run(x, p)
    assert np.allclose(found, expected + p["b"][:, None], rtol=1e-6, atol=1e-6)
