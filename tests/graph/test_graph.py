"""Networks as data: building, pruning, other input shapes, JSON and what damages it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from networks import BUILDERS, Net, X

from striate.errors import ModelError, ShapeError
from striate.formula.activation import map_attributes
from striate.graph.gradient import differentiate
from striate.graph.graph import Graph, Node


def small() -> Graph:
    net = Net(2, 6, 6)
    a = net.map("relu", net.conv("x", 3))
    net.map("tanh", a)  # read by nobody
    return net.done(net.linear(net.flat(net.max_pool(a)), 5))


# ---- building ------------------------------------------------------------------------------------


def test_shapes_follow() -> None:
    graph = small()
    shapes = {node.op: node.shape for node in graph.steps}
    assert shapes["conv2d"] == (3, 4, 4) and shapes["max_pool2d"] == (3, 2, 2)
    assert shapes["reshape"] == (12,) and shapes["linear"] == (5,)
    assert [n.name for n in graph.inputs] == ["x"]
    names = ["conv.weight", "conv.bias", "linear.weight", "linear.bias"]
    assert [n.name for n in graph.parameters] == names
    assert [n.op for n in graph.consumers("map")] == ["map", "max_pool2d"]


def test_names_are_unique_and_known() -> None:
    graph = small()
    with pytest.raises(ModelError, match="two nodes are named 'conv2d'"):
        graph.append(Node("conv2d", "input"))
    with pytest.raises(ModelError, match="'y' reads 'nothing', which no node before it gives"):
        graph.append(Node("y", "map", ("nothing",)))
    assert graph.unique("fresh") == "fresh" and graph.unique("map") == "map_2"


def test_a_misfit_names_the_node() -> None:
    graph = small()
    with pytest.raises(ShapeError, match=r"^wrong: conv2d: expected in_channels"):
        attributes = graph.nodes["conv2d"].attributes
        graph.apply("wrong", "conv2d", ("map", "conv.weight"), attributes)
    with pytest.raises(ModelError, match=r"unknown operation 'conv2'. Did you mean 'conv2d'"):
        graph.apply("wrong", "conv2", ("x",))
    assert "wrong" not in graph.nodes


def test_what_a_gradient_node_is_of() -> None:
    node = Node("g", "conv2d:dw", ("a",))
    assert (node.operation, node.gradient_of) == ("conv2d", "w")
    assert (Node("y", "conv2d").operation, Node("y", "conv2d").gradient_of) == ("conv2d", None)


def test_a_copy_is_apart() -> None:
    graph = small()
    other = graph.copy()
    other.apply("more", "map", ("map",), map_attributes("relu"))
    assert "more" not in graph.nodes and other.outputs == graph.outputs


# ---- pruning, other shapes -----------------------------------------------------------------------


def test_pruned() -> None:
    graph = small()
    assert set(graph.nodes) - set(graph.pruned().nodes) == {"map_1"}
    assert graph.pruned().outputs == graph.outputs
    first = graph.pruned(["conv2d"])
    assert list(first.nodes) == ["x", "conv.weight", "conv.bias", "conv2d"]
    assert first.outputs == ("conv2d",)
    assert list(graph.pruned(["linear.bias"]).nodes) == ["x", "linear.bias"]  # inputs stay
    assert "map_1" in graph.nodes


@pytest.mark.parametrize("name", BUILDERS)
def test_pruning_keeps_all_that_is_needed(name: str) -> None:
    graph = BUILDERS[name]().graph
    pruned = graph.pruned()
    assert pruned.pruned().to_json() == pruned.to_json()
    for node in pruned.nodes.values():
        assert all(i in pruned.nodes for i in node.inputs)


def test_with_input_shape() -> None:
    net = Net(2, 6, 6)
    graph = net.done(net.max_pool(net.conv("x", 3)))
    wide = graph.with_input_shape((2, 9, 30))
    assert wide.nodes["max_pool2d"].shape == (3, 3, 14)
    assert wide.nodes["conv.weight"].shape == (3, 2, 3, 3)
    assert graph.nodes["max_pool2d"].shape == (3, 2, 2) and wide.outputs == graph.outputs
    with pytest.raises(ShapeError, match="in_channels=3"):
        graph.with_input_shape((3, 6, 6))
    with pytest.raises(ShapeError, match="conv2d"):
        graph.with_input_shape((2, 2, 2))
    with pytest.raises(ShapeError, match="linear"):
        small().with_input_shape((2, 8, 8))


# ---- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_json_round_trip(name: str) -> None:
    graph = BUILDERS[name]().graph
    data = json.loads(json.dumps(graph.to_json()))
    again = Graph.from_json(data)
    assert again.to_json() == graph.to_json() and again.outputs == graph.outputs
    for node in graph.nodes.values():
        found = again.nodes[node.name]
        assert (found.shape, found.inputs, found.batched) == (node.shape, node.inputs, node.batched)


def test_gradient_nodes_travel_too() -> None:
    graph, _ = differentiate(small(), "cross_entropy", ["conv.weight", "linear.bias"])
    data = json.loads(json.dumps(graph.to_json()))
    assert Graph.from_json(data).to_json() == graph.to_json()


def _damage(change: Any) -> Any:
    data = copy.deepcopy(small().to_json())
    change(data)
    return data


def _node(data: Any, op: str) -> Any:
    return next(n for n in data["nodes"] if n["op"] == op)


DAMAGES: dict[str, tuple[Any, str]] = {
    "no data": (None, "expected a striate graph"),
    "a list": ([], "expected a striate graph"),
    "a text": ("graph", "expected a striate graph"),
    "empty": ({}, "expected a striate graph"),
    "format": (_damage(lambda d: d.update(format="onnx")), "expected format 'striate-graph-1'"),
    "no nodes": (_damage(lambda d: d.pop("nodes")), "damaged data"),
    "nodes": (_damage(lambda d: d.update(nodes=7)), "damaged data"),
    "node": (_damage(lambda d: d["nodes"].insert(0, None)), "damaged data"),
    "no name": (_damage(lambda d: d["nodes"][3].pop("name")), "damaged data"),
    "no inputs": (_damage(lambda d: d["nodes"][3].pop("inputs")), "damaged data"),
    "twice": (_damage(lambda d: d["nodes"].append(d["nodes"][0])), "two nodes are named 'x'"),
    "operation": (_damage(lambda d: _node(d, "conv2d").update(op="conv9d")), "unknown operation"),
    "gradient": (_damage(lambda d: _node(d, "map").update(op="map:dq")), "map"),
    "input": (_damage(lambda d: _node(d, "map").update(inputs=["z"])), "reads 'z', which no node"),
    "order": (_damage(lambda d: d["nodes"].reverse()), "which no node"),
    "output": (_damage(lambda d: d.update(outputs=["zz"])), "output 'zz' is no node"),
    "outputs": (_damage(lambda d: d.update(outputs=3)), "damaged data"),
    "shape": (_damage(lambda d: d["nodes"][0].update(shape=[3, 6, 6])), "in_channels"),
    "shape of text": (_damage(lambda d: d["nodes"][0].update(shape=["a"])), "damaged data"),
    "attribute": (_damage(lambda d: _node(d, "conv2d")["attributes"].pop("stride")), "stride"),
    "value": (
        _damage(lambda d: _node(d, "conv2d")["attributes"].update(stride=[0, 1])),
        "stride",
    ),
    "kind": (_damage(lambda d: _node(d, "conv2d")["attributes"].update(padding=1)), "padding"),
    "function": (
        _damage(lambda d: _node(d, "map")["attributes"].update(expr=["system", "x"])),
        "unknown function 'system'",
    ),
    "expression": (_damage(lambda d: _node(d, "map")["attributes"].update(expr={})), "expression"),
    "attributes": (_damage(lambda d: _node(d, "map").update(attributes=None)), "map"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_json_is_a_model_error(name: str) -> None:
    data, message = DAMAGES[name]
    with pytest.raises(ModelError, match=message):
        Graph.from_json(data)


def test_shapes_are_worked_out_anew() -> None:
    data = _damage(lambda d: _node(d, "conv2d").update(shape=[9, 9, 9], batched=False))
    node = Graph.from_json(data).nodes["conv2d"]
    assert node.shape == (3, 4, 4) and node.batched


def test_expressions_travel() -> None:
    net = Net(3)
    graph = net.done(net.map(X * X / (1 + abs(X)), "x"))
    again = Graph.from_json(json.loads(json.dumps(graph.to_json())))
    assert again.nodes["map"].attributes == graph.nodes["map"].attributes
