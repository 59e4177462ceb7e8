"""Running graphs on NumPy arrays for `nn`: whole networks by their plan, single operations at once.

The arithmetic is `program`'s (native code, or the reference); this file checks what goes in,
keeps built programs, and adds what an inference program leaves out on a plain call in training
mode: dropout, and batch norm with the batch's statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from striate.errors import ShapeError
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node, Shape
from striate.nn.parameter import Array, Float32, as_float32
from striate.nn.result import Place, rebuilt
from striate.nn.trace import Traced
from striate.settings import next_generator

if TYPE_CHECKING:
    from striate.formula.operation import Operation


class Inference(Protocol):
    """What `program.build_inference` gives."""

    def run(self, x: Any, parameters: Mapping[str, Float32], frozen: bool = False) -> Float32: ...

    def values(
        self, x: Any, parameters: Mapping[str, Float32], names: list[str], frozen: bool = False
    ) -> dict[str, Float32]: ...


def build(graph: Graph) -> Inference:
    """The program that computes a graph."""
    from striate.program import build_inference  # late: it is not needed to define networks

    program: Inference = build_inference(graph)
    return program


class Plan:
    """A traced network with its program, built when it first runs."""

    def __init__(self, traced: Traced, earlier: Plan | None = None) -> None:
        self.traced, self.graph = traced, traced.graph
        # A Parameter keeps its array for life, so the arrays are looked up once.
        self._arrays: Mapping[str, Float32] = MappingProxyType(dict(traced.arrays))
        self._by_batch = traced.by_batch
        self._inference: Inference | None = None
        if earlier is not None and earlier.graph.to_json() == self.graph.to_json():
            self._inference = earlier._inference
        self._output = self.graph.nodes[self.graph.outputs[0]]
        self._single = isinstance(traced.result, Place)
        draws = any(find_operation(node.op).draws for node in self.graph.steps)
        by_batch = any(node.op == "batch_norm_training" for node in self.graph.steps)
        self._in_training = draws or by_batch or bool(self._by_batch)

    @property
    def inference(self) -> Inference:
        if self._inference is None:
            self._inference = build(self.graph)
        return self._inference

    def parameters(self) -> Mapping[str, Float32]:
        """The arrays of the parameters and buffers that the graph reads: live, not copies."""
        return self._arrays

    def run(self, *inputs: Float32) -> Any:
        """What the network gives for a batch of each input: an array, or as many as it returns."""
        if not self._single:
            return self._several(inputs)
        if len(inputs[0]) == 0:
            return np.empty((0, *self._output.shape), np.float32)
        if self._output.op == "input":
            return np.array(inputs[self.traced.inputs.index(self._output.name)])
        if self._in_training:
            return self._run_in_training(inputs)[self._output.name]
        return self.inference.run(inputs[0] if len(inputs) == 1 else inputs, self.parameters())

    def _several(self, inputs: Sequence[Float32]) -> Any:
        names = list(self.graph.outputs)
        values: Mapping[str, Float32]
        if len(inputs[0]) == 0:
            values = {n: np.empty((0, *self.graph.nodes[n].shape), np.float32) for n in names}
        elif self._in_training:
            values = self._run_in_training(inputs)
        else:
            given = inputs[0] if len(inputs) == 1 else inputs
            values = self.inference.values(given, self.parameters(), names)
        return returned(self.traced, values)

    def _run_in_training(self, inputs: Sequence[Float32]) -> Mapping[str, Float32]:
        """Node by node: an inference program drops nothing and keeps no statistics."""
        given = dict(zip(self.traced.inputs, inputs, strict=True))
        values: dict[str, Float32] = {**given, **self.parameters()}
        for node in self.graph.steps:
            arrays = [values[name] for name in node.inputs]
            batched = [self.graph.nodes[name].batched for name in node.inputs]
            if node.op == "dropout":
                values[node.name] = drop(arrays[0], node.attributes["p"])
            elif node.op == "uniform":
                shape = (len(arrays[0]), *node.shape)
                values[node.name] = next_generator().random(shape, np.float32)
            elif node.name in self._by_batch or node.op == "batch_norm_training":
                count = self._by_batch.get(node.name)
                batches = 0 if count is None else int(count)
                values[node.name] = normalize_batch(arrays, node.attributes, batches)
                if count is not None:
                    count += 1
            else:
                values[node.name] = compute(node.op, arrays, node.attributes, batched)
        return values


def returned(traced: Traced, values: Mapping[str, Float32]) -> Any:
    """What forward returns, with a network's values in it; one of its inputs is copied."""

    def leaf(place: Place) -> Float32:
        value = values[place.node]
        return np.array(value) if place.node in traced.inputs else value

    return rebuilt(traced.result, leaf)


def as_batch(value: Any, where: str) -> Float32:
    """A batch as float32 in C order: at least one axis, the first is the samples."""
    array = as_float32(value, where)
    if array.ndim == 0:
        raise ShapeError(
            f"{where}: expected a batch (n, ...); got a single number, shape=(). "
            "Pass an array whose first axis is the samples."
        )
    return array


def drop(x: Float32, p: float) -> Float32:
    """`x/(1 − p)` where a uniform number is at least p, else 0."""
    kept = next_generator().random(x.shape) >= p
    dropped: Float32 = np.where(kept, x / np.float32(1 - p), np.float32(0))
    return dropped


def normalize_batch(
    arrays: Sequence[Float32], attributes: Mapping[str, Any], batches: int = 0
) -> Float32:
    """Batch norm with the batch's statistics; it moves the running ones towards them.

    Args:
        arrays: x (n, channels, …), w, b, mean and var; the last two are changed in place.
        attributes: eps and momentum.
        batches: how many there were before.
    """
    from striate.formula.norm import BatchNormTraining

    operation = BatchNormTraining()
    found = operation.reference(attributes, arrays).astype(np.float32)
    x, _, _, *running = arrays
    for old, new in zip(
        running,
        operation.running_statistics(attributes, x, *running, batches=batches),
        strict=True,
    ):
        old[...] = new
    return found


# ---- single operations -----------------------------------------------------------------------


def compute(
    op: str, arrays: Sequence[Array], attributes: Mapping[str, Any], batched: Sequence[bool]
) -> Float32:
    """One operation on arrays: float32 in, float32 out.

    Args:
        op: the operation's name in graphs.
        arrays: its inputs, those that are batched with the batch axis first.
        attributes: the operation's.
        batched: which inputs have a batch axis (a convolution's weight has none).
    """
    sizes = {len(a) for a, is_batch in zip(arrays, batched, strict=True) if is_batch}
    if len(sizes) != 1:
        listed = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(
            f"{op}: expected arrays with the same number of samples; got shapes {listed}."
        )
    shapes = tuple(
        a.shape[1:] if is_batch else a.shape for a, is_batch in zip(arrays, batched, strict=True)
    )
    text = json.dumps(dict(attributes), sort_keys=True)
    single = _single(op, text, shapes, tuple(batched))
    if sizes == {0}:
        return np.empty((0, *single.shape), np.float32)
    return single.run(arrays)


class _Single:
    """One operation as a graph of its own; natively, but for losses."""

    def __init__(self, graph: Graph, node: Node, batched: Sequence[bool]) -> None:
        self.graph, self.node, self.shape = graph, node, node.shape
        self.batched = tuple(batched)
        self.operation: Operation = find_operation(node.op)
        known = self.operation.has_formula or sum(batched) == 1 or node.op == "concat"
        self.native = known and not self.operation.is_loss
        self._inference: Inference | None = None

    def run(self, arrays: Sequence[Array]) -> Float32:
        if not self.native:  # losses are computed in float64
            exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
            return np.asarray(
                self.operation.reference(self.node.attributes, exact), np.float32, "C"
            )
        if self._inference is None:
            self._inference = build(self.graph)
        named = dict(zip(self.node.inputs, arrays, strict=True))
        inputs = tuple(named.pop(node.name) for node in self.graph.inputs)
        return self._inference.run(inputs, named)


@lru_cache(maxsize=64)
def _single(op: str, text: str, shapes: tuple[Shape, ...], batched: tuple[bool, ...]) -> _Single:
    graph = Graph()
    names: list[str] = []
    for k, is_batch in enumerate(batched):
        kind = "input" if is_batch else "parameter"
        names.append(f"{kind}{k}")
        graph.append(Node(names[-1], kind, shape=shapes[k], batched=is_batch))
    node = graph.apply(op, op, tuple(names), json.loads(text))
    graph.outputs = (op,)
    return _Single(graph, node, batched)
