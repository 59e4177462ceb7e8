"""Any of our graphs as a torch module: the same arithmetic, written as one would write it in torch.

Each node becomes a call of torch.nn.functional. Activations and additions work in place where
nothing else reads their input, as torchvision's networks do. Nothing here is timed; `peers` does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError
from striate.formula.activation import map_expression
from striate.formula.expression import Call, Const, Expr, Var, evaluate, from_json
from striate.graph.graph import Graph, Node
from striate.measure.torch_steps import STEPS, Step

Weights = Mapping[str, NDArray[Any]]
# Operations whose output may be overwritten: their gradient does not read it.
_REPLACEABLE = ("conv2d", "conv_transpose2d", "linear", "batch_norm")


def torch_package() -> Any:
    """torch, which is imported only where it is used; untyped, since it may not be there."""
    return import_module("torch")


def torch_module(
    graph: Graph,
    weights: Weights,
    dtype: Any = None,
    inplace: bool = True,
    training: bool = False,
) -> Any:
    """A graph with these weights as a `torch.nn.Module`.

    Args:
        graph: forward nodes only; its inputs are the module's, in their order.
        weights: name -> array, of every parameter and running statistic.
        dtype: float32, or what is given.
        inplace: whether elementwise steps may overwrite what nobody else reads.
        training: batch norm reads the batch's statistics, and keeps the running ones.
    """
    torch = torch_package()

    base: Any = torch.nn.Module

    class GraphModule(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            slots = {n.name: k for k, n in enumerate(graph.nodes.values())}
            statistics, self._held = running_statistics(graph), []
            for node in graph.parameters:
                value = torch.tensor(weights[node.name], dtype=dtype or torch.float32)
                holder, leaf = _holder(self, node.name), node.name.rpartition(".")[2]
                if node.name in statistics:
                    holder.register_buffer(leaf, value)
                else:
                    holder.register_parameter(leaf, torch.nn.Parameter(value))
                self._held.append((holder, leaf, slots[node.name]))
            self._given = [slots[n.name] for n in graph.inputs]
            self._count, self._given_back = len(slots), [slots[name] for name in graph.outputs]
            self._steps = [
                (_step(graph, n, inplace, training), [slots[i] for i in n.inputs], slots[n.name])
                for n in graph.steps
            ]

        def forward(self, *images: Any) -> Any:
            values: list[Any] = [None] * self._count
            for place, image in zip(self._given, images, strict=True):
                values[place] = image
            for holder, leaf, place in self._held:
                values[place] = getattr(holder, leaf)
            for call, inputs, place in self._steps:
                values[place] = call(*[values[i] for i in inputs])
            found = tuple(values[place] for place in self._given_back)
            return found[0] if len(found) == 1 else found

        def arrays(self) -> dict[str, NDArray[Any]]:
            """The parameters (without running statistics) by their names in the graph."""
            return {
                name: k.detach().contiguous().numpy()
                for name, k in self.named_parameters(remove_duplicate=False)
            }

    return GraphModule()


def _holder(root: Any, name: str) -> Any:
    """The module that holds "layer1.0.weight": made, with those above it, where it is missing."""
    for part in name.split(".")[:-1]:
        if part not in root._modules:
            root.add_module(part, torch_package().nn.Module())
        root = root._modules[part]
    return root


def running_statistics(graph: Graph) -> set[str]:
    """The parameters of a graph that no gradient reaches: means and variances of batch norms."""
    return {name for node in graph.steps if node.op == "batch_norm" for name in node.inputs[3:]}


def _step(graph: Graph, node: Node, inplace: bool, training: bool) -> Step:
    if node.op == "map":
        return _map(node, [inplace and _replaceable(graph, i) for i in node.inputs])
    if node.op == "batch_norm":
        return _batch_norm(node, training)
    if node.op not in _STEPS:
        raise ModelError(
            f"to_torch: expected operations that torch has; got {node.op!r} ({node.name}). Write "
            "that layer in torch, or save the weights: striate.save_torch(net, path)."
        )
    return _STEPS[node.op](node)


def _replaceable(graph: Graph, name: str) -> bool:
    node = graph.nodes[name]
    reads = sum(list(n.inputs).count(name) for n in graph.nodes.values())
    added = node.op == "map" and known_map(node) == "add"
    return reads == 1 and name not in graph.outputs and (node.op in _REPLACEABLE or added)


# ---- elementwise -----------------------------------------------------------------------------

_SAMPLES = np.linspace(-9.0, 9.0, 73)
_KNOWN: dict[str, Callable[..., Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
}


def known_map(node: Node) -> str:
    """What a map node is called elsewhere ("relu6", "add", …), found by its values; or ""."""
    names, body = map_expression(node.attributes)
    points = (_SAMPLES, _SAMPLES[::-1] * 0.7)[: len(names)]
    if len(points) < len(names):
        return ""
    found = np.broadcast_to(evaluate(body, dict(zip(names, points, strict=True))), _SAMPLES.shape)
    for name, function in _KNOWN.items():
        if len(names) == _arity(name) and np.allclose(found, function(*points), 1e-12, 1e-12):
            return name
    return ""


def _arity(name: str) -> int:
    return 2 if name in ("add", "mul") else 1


def _map(node: Node, free: Sequence[bool]) -> Step:
    torch = torch_package()
    F = torch.nn.functional

    name = known_map(node)
    steps: dict[str, Step] = {
        "relu": lambda x: F.relu(x, inplace=free[0]),
        "relu6": lambda x: F.relu6(x, inplace=free[0]),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": F.silu,
        "mul": torch.mul,
        "add": torch.add,
    }
    if name == "add" and any(free):
        return (lambda x, y: x.add_(y)) if free[0] else (lambda x, y: y.add_(x))
    if name:
        return steps[name]
    names, body = map_expression(node.attributes)
    return lambda *values: _on_tensors(body, dict(zip(names, values, strict=True)))


def _on_tensors(e: Expr, values: Mapping[str, Any]) -> Any:
    """The value of a scalar expression on tensors."""
    torch = torch_package()

    if isinstance(e, Const):
        return e.value
    if isinstance(e, Var):
        return values[e.name]
    if not isinstance(e, Call):
        raise ModelError(f"torch_graph: no step for {e}")
    parts = [_on_tensors(a, values) for a in e.arguments]
    if e.function in _OPERATORS:
        return _OPERATORS[e.function](*parts)
    kind = next(p for p in parts if isinstance(p, torch.Tensor))
    return getattr(torch, e.function)(*(torch.as_tensor(p, dtype=kind.dtype) for p in parts))


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "pow": operator.pow,
    "where": lambda condition, a, b: torch_package().where(condition != 0, a, b),
    "gt": lambda a, b: (a > b) * 1.0,
    "ge": lambda a, b: (a >= b) * 1.0,
    "lt": lambda a, b: (a < b) * 1.0,
    "le": lambda a, b: (a <= b) * 1.0,
    "eq": lambda a, b: (a == b) * 1.0,
    "ne": lambda a, b: (a != b) * 1.0,
    "softplus": lambda a: torch_package().nn.functional.softplus(a, threshold=80.0),
}


def _broadcast_map(node: Node) -> Step:
    names, body = node.attributes["inputs"], from_json(node.attributes["expr"])
    return lambda *values: _on_tensors(body, dict(zip(names, values, strict=True)))


def _reduce(node: Node) -> Step:
    a = node.attributes
    inner, outer = from_json(a["inner"]), from_json(a["outer"])
    axes, keepdim, name = (
        list(a["axes"]),
        bool(a["keepdim"]),
        "sum" if a["how"] == "sum" else "amax",
    )

    def call(x: Any) -> Any:
        terms = _on_tensors(inner, {"x": x})
        return _on_tensors(outer, {"t": getattr(terms, name)(axes, keepdim)})

    return call


# ---- layers ----------------------------------------------------------------------------------


def _padded(padding: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Padding as an argument where it is even on both sides, else as one of `pad` beforehand."""
    if all(a == b for a, b in padding):
        return tuple(a for a, _ in padding), None
    return (0,) * len(padding), [k for pair in reversed(list(padding)) for k in pair]


def _conv(node: Node) -> Step:
    F = torch_package().nn.functional
    conv = getattr(F, node.op)

    a = node.attributes
    sides, before = _padded(a["padding"])
    stride, dilation, groups = tuple(a["stride"]), tuple(a["dilation"]), int(a["groups"])

    def call(x: Any, w: Any, b: Any = None) -> Any:
        x = x if before is None else F.pad(x, before)
        return conv(x, w, b, stride, sides, dilation, groups)

    return call


def _conv_transpose(node: Node) -> Step:
    conv = getattr(torch_package().nn.functional, node.op)

    a = node.attributes
    sides, uneven = _padded(a["padding"])
    if uneven is not None:
        raise ModelError("torch_graph: uneven padding of a transposed convolution")
    extra = tuple(int(k) for k in a.get("output_padding", (0,) * len(a["stride"])))
    stride, dilation, groups = tuple(a["stride"]), tuple(a["dilation"]), int(a["groups"])
    return lambda x, w, b=None: conv(x, w, b, stride, sides, extra, groups, dilation)


def _linear(_: Node) -> Step:
    F = torch_package().nn.functional

    return lambda x, w, b=None: F.linear(x, w, b)


def _max_pool(node: Node) -> Step:
    F = torch_package().nn.functional
    pool = getattr(F, node.op)

    a = node.attributes
    sides, before = _padded(a["padding"])
    kernel, stride, dilation = tuple(a["kernel"]), tuple(a["stride"]), tuple(a["dilation"])

    def call(x: Any) -> Any:
        x = x if before is None else F.pad(x, before, value=float("-inf"))
        return pool(x, kernel, stride, sides, dilation)

    return call


def _avg_pool(node: Node) -> Step:
    pool = getattr(torch_package().nn.functional, node.op)

    a = node.attributes
    sides, before = _padded(a["padding"])
    if before is not None:
        raise ModelError("torch_graph: uneven padding of an average")
    kernel, stride, counted = tuple(a["kernel"]), tuple(a["stride"]), bool(a["count_include_pad"])
    return lambda x: pool(x, kernel, stride, sides, False, counted)


def _adaptive_pool(node: Node) -> Step:
    pool = getattr(torch_package().nn.functional, node.op)

    size = tuple(node.shape[1:])
    return lambda x: pool(x, size)


def _batch_norm(node: Node, training: bool) -> Step:
    F = torch_package().nn.functional
    eps, momentum = float(node.attributes["eps"]), float(node.attributes["momentum"])
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, training, momentum, eps)


def _local_response_norm(node: Node) -> Step:
    F = torch_package().nn.functional

    a = node.attributes
    size, alpha, beta, k = int(a["size"]), float(a["alpha"]), float(a["beta"]), float(a["k"])
    return lambda x: F.local_response_norm(x, size, alpha, beta, k)


def _concat(node: Node) -> Step:
    torch = torch_package()

    axis = int(node.attributes["axis"])
    return lambda *parts: torch.cat(parts, axis)


def _slice(node: Node) -> Step:
    a = node.attributes
    axis, start, count = int(a["axis"]), int(a["start"]), int(a["stop"]) - int(a["start"])
    return lambda x: x.narrow(axis, start, count)


def _reshape(node: Node) -> Step:
    shape = node.shape
    return lambda x: x.reshape(x.shape[0], *shape)


def _dropout(node: Node) -> Step:
    F = torch_package().nn.functional

    p = float(node.attributes["p"])
    return lambda x: F.dropout(x, p, True)


def _softmax(_: Node) -> Step:
    torch = torch_package()

    return lambda x: torch.softmax(x, 1)


_RANKS = ("1d", "2d", "3d")
_STEPS: dict[str, Callable[[Node], Step]] = {
    **dict.fromkeys((f"conv{rank}" for rank in _RANKS), _conv),
    **dict.fromkeys((f"conv_transpose{rank}" for rank in _RANKS), _conv_transpose),
    **dict.fromkeys((f"max_pool{rank}" for rank in _RANKS), _max_pool),
    **dict.fromkeys((f"avg_pool{rank}" for rank in _RANKS), _avg_pool),
    **dict.fromkeys((f"adaptive_avg_pool{rank}" for rank in _RANKS), _adaptive_pool),
    **dict.fromkeys((f"adaptive_max_pool{rank}" for rank in _RANKS), _adaptive_pool),
    "broadcast_map": _broadcast_map,
    "concat": _concat,
    "dropout": _dropout,
    "linear": _linear,
    "local_response_norm": _local_response_norm,
    "reduce": _reduce,
    "reshape": _reshape,
    "slice": _slice,
    "softmax": _softmax,
    **STEPS,
}
