"""Batch norm in graphs: its running statistics are kept, its gradient is that of the batch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net

from striate.graph.gradient import differentiate
from striate.graph.graph import Graph
from striate.graph.statistics import buffers, with_batch_statistics
from striate.program.reference import evaluate_graph

SETTINGS = {"eps": 1e-5, "momentum": 0.1}


def _network() -> Graph:
    """Two batch norms, of which the second is computed twice."""
    net = Net(2, 5, 5)
    first = _norm(net, net.conv("x", 3, bias=False), "a")
    second = _norm(net, net.map("relu", first), "b")
    third = net.op("batch_norm", second, *(f"b.{k}" for k in ("w", "b", "mean", "var")), **SETTINGS)
    return net.done(net.linear(net.flat(net.map("tanh", third)), 4))


def _norm(net: Net, x: str, name: str) -> str:
    size = net.graph.nodes[x].shape[0]
    parts = [net.parameter(f"{name}.{part}", size) for part in ("w", "b", "mean", "var")]
    return net.op("batch_norm", x, *parts, **SETTINGS)


def test_buffers_are_the_running_statistics() -> None:
    graph = _network()
    assert buffers(graph) == ("a.mean", "a.var", "b.mean", "b.var")
    assert buffers(with_batch_statistics(graph)) == buffers(graph)
    assert buffers(Net(2).done("x")) == ()


def test_differentiating_turns_to_the_statistics_of_the_batch() -> None:
    graph = _network()
    result, found = differentiate(graph, "cross_entropy", [p.name for p in graph.parameters])
    assert not set(found) & set(buffers(graph))
    assert set(found) == {p.name for p in graph.parameters} - set(buffers(graph))
    assert [n.op for n in graph.steps if "norm" in n.op] == ["batch_norm"] * 3
    for node in graph.nodes.values():
        again = result.nodes[node.name]
        assert (again.inputs, again.attributes) == (node.inputs, node.attributes)
        assert again.op == ("batch_norm_training" if node.op == "batch_norm" else node.op)
    slope = result.nodes[found["a.w"]]
    assert slope.op == "batch_norm_training:dw" and not slope.batched
    assert slope.inputs[1:] == result.nodes["batch_norm"].inputs


def test_against_central_differences() -> None:
    graph = _network()
    wrt = [*(p.name for p in graph.parameters), "x"]
    result, found = differentiate(graph, "cross_entropy", wrt)
    rng = np.random.default_rng(0)
    leaves: dict[str, Any] = {p.name: rng.normal(size=p.shape) for p in graph.parameters}
    leaves |= {"x": rng.normal(size=(3, 2, 5, 5)), "target": np.array([1, 0, 3])}
    slopes = evaluate_graph(result, leaves, found.values())
    for leaf, node in found.items():
        direction, ends = rng.normal(size=leaves[leaf].shape), []
        for sign in (1, -1):
            moved = {**leaves, leaf: leaves[leaf] + sign * 1e-6 * direction}
            ends.append(evaluate_graph(result, moved, ["loss"])["loss"].mean())
        expected = (ends[0] - ends[1]) / 2e-6
        assert (slopes[node] * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-8), leaf
