"""Any of our inference graphs as an ONNX model, for the peers that read those.

Only the operations of the networks measured here; not the package's ONNX export. Batch norm stays
a node of its own: the peers fold it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError
from striate.graph.graph import Graph, Node
from striate.measure.torch_graph import known_map

_OPSET, _IR = 17, 9
_MAPS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "add": "Add",
    "mul": "Mul",
}


def onnx_package() -> Any:
    """onnx, which is imported only where it is used; untyped, since it may not be there."""
    return import_module("onnx")


def onnx_model(graph: Graph, weights: Mapping[str, NDArray[Any]], batch: int) -> bytes:
    """A forward graph as a serialised model for a batch of a fixed size.

    Raises:
        ModelError: an operation that has no counterpart here.
    """
    onnx = onnx_package()

    nodes: list[Any] = []
    constants = {n.name: np.ascontiguousarray(weights[n.name]) for n in graph.parameters}
    for node in graph.steps:
        nodes += _nodes(graph, node, constants)

    def described(node: Node) -> Any:
        return onnx.helper.make_tensor_value_info(
            node.name, onnx.TensorProto.FLOAT, [batch, *node.shape]
        )

    made = onnx.helper.make_graph(
        nodes,
        "network",
        [described(n) for n in graph.inputs],
        [described(graph.nodes[o]) for o in graph.outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", _OPSET)]
    model = onnx.helper.make_model(made, opset_imports=opsets, ir_version=_IR)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _nodes(graph: Graph, node: Node, constants: dict[str, NDArray[Any]]) -> list[Any]:
    onnx = onnx_package()

    if node.op == "map":
        return _map(node, constants)
    if node.op == "reshape":
        name = f"{node.name}:shape"
        constants[name] = np.array([0, *node.shape], np.int64)
        return [onnx.helper.make_node("Reshape", [*node.inputs, name], [node.name])]
    if node.op == "slice":
        return [_slice(node, constants)]
    if node.op not in _OPERATIONS:
        raise ModelError(f"onnx_graph: no operation for {node.op!r}")
    name, attributes = _OPERATIONS[node.op](graph, node)
    return [onnx.helper.make_node(name, list(node.inputs), [node.name], **attributes)]


def _map(node: Node, constants: dict[str, NDArray[Any]]) -> list[Any]:
    onnx = onnx_package()

    name, inputs = known_map(node), list(node.inputs)
    if name == "relu6":
        constants[f"{node.name}:0"] = np.array(0, np.float32)
        constants[f"{node.name}:6"] = np.array(6, np.float32)
        ends = [f"{node.name}:0", f"{node.name}:6"]
        return [onnx.helper.make_node("Clip", [*inputs, *ends], [node.name])]
    if name == "silu":
        inner = f"{node.name}:sigmoid"
        return [
            onnx.helper.make_node("Sigmoid", inputs, [inner]),
            onnx.helper.make_node("Mul", [*inputs, inner], [node.name]),
        ]
    if name not in _MAPS:
        raise ModelError(f"onnx_graph: no operation for the map {node.name!r}")
    return [onnx.helper.make_node(_MAPS[name], inputs, [node.name])]


def _slice(node: Node, constants: dict[str, NDArray[Any]]) -> Any:
    onnx = onnx_package()

    names = []
    for key, given in (("start", "start"), ("stop", "stop"), ("axis", "axis")):
        names.append(f"{node.name}:{key}")
        constants[names[-1]] = np.array([int(node.attributes[given])], np.int64)
    return onnx.helper.make_node("Slice", [*node.inputs, *names], [node.name])


# ---- attributes ------------------------------------------------------------------------------

Made = tuple[str, dict[str, Any]]


def _pads(node: Node) -> list[int]:
    padding = node.attributes["padding"]
    return [a for a, _ in padding] + [b for _, b in padding]


def _conv(graph: Graph, node: Node) -> Made:
    a = node.attributes
    found = {
        "kernel_shape": list(graph.nodes[node.inputs[1]].shape[2:]),
        "strides": list(a["stride"]),
        "dilations": list(a["dilation"]),
        "pads": _pads(node),
        "group": int(a["groups"]),
    }
    if node.op == "conv2d":
        return "Conv", found
    return "ConvTranspose", {
        **found,
        "output_padding": [int(k) for k in a.get("output_padding", (0, 0))],
    }


def _max_pool(_: Graph, node: Node) -> Made:
    a = node.attributes
    return "MaxPool", {
        "kernel_shape": list(a["kernel"]),
        "strides": list(a["stride"]),
        "dilations": list(a["dilation"]),
        "pads": _pads(node),
    }


def _avg_pool(_: Graph, node: Node) -> Made:
    a = node.attributes
    return "AveragePool", {
        "kernel_shape": list(a["kernel"]),
        "strides": list(a["stride"]),
        "pads": _pads(node),
        "count_include_pad": int(a["count_include_pad"]),
    }


def _adaptive_avg_pool(graph: Graph, node: Node) -> Made:
    source, out = graph.nodes[node.inputs[0]].shape[1:], node.shape[1:]
    if out == (1, 1):
        return "GlobalAveragePool", {}
    if any(s % o for s, o in zip(source, out, strict=True)):
        raise ModelError(f"onnx_graph: adaptive pooling of {source} to {out}")
    size = [s // o for s, o in zip(source, out, strict=True)]
    if set(size) == {1}:
        return "Identity", {}
    return "AveragePool", {"kernel_shape": size, "strides": size}


def _batch_norm(_: Graph, node: Node) -> Made:
    return "BatchNormalization", {"epsilon": float(node.attributes["eps"])}


def _local_response_norm(_: Graph, node: Node) -> Made:
    a = node.attributes
    return "LRN", {
        "size": int(a["size"]),
        "alpha": float(a["alpha"]),
        "beta": float(a["beta"]),
        "bias": float(a["k"]),
    }


_OPERATIONS: dict[str, Callable[[Graph, Node], Made]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv,
    "linear": lambda _, __: ("Gemm", {"transB": 1}),
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "batch_norm": _batch_norm,
    "local_response_norm": _local_response_norm,
    "concat": lambda _, n: ("Concat", {"axis": int(n.attributes["axis"])}),
    "softmax": lambda _, __: ("Softmax", {"axis": 1}),
    "dropout": lambda _, __: ("Identity", {}),
}
