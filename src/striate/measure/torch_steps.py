"""Operations of our graphs in torch's functions: those that need no more than a line or two.

A step takes the tensors that a node reads and gives its tensor. Convolutions, pooling, batch norm
and elementwise formulas are in `torch_graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from striate.graph.graph import Node

Step = Callable[..., Any]


def _torch() -> Any:
    return import_module("torch")


def _permute(node: Node) -> Step:
    order = (0, *node.attributes["order"])
    return lambda x: x.permute(order)


def _pad(node: Node) -> Step:
    pad = _torch().nn.functional.pad
    sides = [k for pair in reversed(list(node.attributes["padding"])) for k in pair]
    mode, value = node.attributes["mode"], float(node.attributes["value"])
    return lambda x: pad(x, sides, mode, value if mode == "constant" else None)


def _layer_norm(node: Node) -> Step:
    layer_norm, eps = _torch().nn.functional.layer_norm, float(node.attributes["eps"])
    sizes = node.shape[-int(node.attributes["axes"]) :]
    return lambda x, w=None, b=None: layer_norm(x, sizes, w, b, eps)


def _group_norm(node: Node) -> Step:
    group_norm, eps = _torch().nn.functional.group_norm, float(node.attributes["eps"])
    groups = int(node.attributes["groups"])
    return lambda x, w=None, b=None: group_norm(x, groups, w, b, eps)


def _along(name: str) -> Callable[[Node], Step]:
    """softmax and its like, along the axis that the node names, or the last."""

    def make(node: Node) -> Step:
        function, axis = getattr(_torch(), name), int(node.attributes.get("axis", -1))
        return lambda x: function(x, axis)

    return make


def _tile(node: Node) -> Step:
    return lambda x: x.repeat(1, *node.attributes["repeats"])


def _flip(node: Node) -> Step:
    return lambda x: x.flip(list(node.attributes["axes"]))


def _roll(node: Node) -> Step:
    return lambda x: x.roll(list(node.attributes["shifts"]), list(node.attributes["axes"]))


def _einsum(node: Node) -> Step:
    einsum, equation = _torch().einsum, node.attributes["equation"]
    return lambda *operands: einsum(equation, *operands)


def _logsumexp(node: Node) -> Step:
    axes, keepdim = list(node.attributes["axes"]), bool(node.attributes["keepdim"])
    return lambda x: x.logsumexp(axes, keepdim)


def _embedding(_: Node) -> Step:
    embedding = _torch().nn.functional.embedding
    return lambda x, w, *_: embedding(x.long(), w)


STEPS: Mapping[str, Callable[[Node], Step]] = {
    "permute": _permute,
    "pad": _pad,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "softmax_along": _along("softmax"),
    "log_softmax": _along("log_softmax"),
    "cumsum": _along("cumsum"),
    "tile": _tile,
    "flip": _flip,
    "roll": _roll,
    "einsum": _einsum,
    "logsumexp": _logsumexp,
    "embedding": _embedding,
}
