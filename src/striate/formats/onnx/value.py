"""Values of an ONNX model while it is lowered: arrays, or nodes of graphs that grow.

A striate graph has one batch axis and holds float32. ONNX tensors have no batch axis and many
types. So a value is entered in one of two forms: *batched*, where its axis 0 is the batch, or
*whole*, where the tensor is one sample of a batch of 1. There is one graph for each size of
batch; a value that is needed in another form than the one that it has is computed first and
enters as an input. A network that keeps its batch axis in front becomes one graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import CompileError, ModelError
from striate.graph.graph import Graph, Node, Shape
from striate.program import build_inference

Array = NDArray[Any]
FLOAT32, BOOL, INT64 = np.dtype(np.float32), np.dtype(np.bool_), np.dtype(np.int64)


class Recorder:
    """A graph that grows, the arrays that it reads, and its batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.graph = Graph()
        self.inputs: dict[str, Array] = {}
        self.parameters: dict[str, Array] = {}

    def enter(self, array: Array, value: Value) -> str:
        """An input (batch, …), which holds the numbers of a value."""
        name = f"input{len(self.inputs)}"
        self.inputs[name] = np.ascontiguousarray(array, np.float32)
        self.graph.append(Node(name, "input", shape=array.shape[1:]))
        return name

    def parameter(self, array: Array, value: Value) -> str:
        """An array without a batch axis, which holds the numbers of a value."""
        name = f"parameter{len(self.parameters)}"
        self.parameters[name] = np.ascontiguousarray(array, np.float32)
        self.graph.append(Node(name, "parameter", shape=array.shape, batched=False))
        return name

    def apply(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> Node:
        name = f"v{len(self.graph.nodes)}"
        return self.graph.apply(name, op, tuple(inputs), attributes)

    def run(self, names: Sequence[str]) -> dict[str, Array]:
        """The values of some nodes."""
        needed = self.graph.pruned(names)
        read = {name for node in needed.steps for name in node.inputs} | set(names)
        kept = [n for n in needed.nodes.values() if n.op != "input" or n.name in read]
        text = json.dumps(Graph(kept, names).to_json())
        inputs = {n.name: self.inputs[n.name] for n in needed.inputs if n.name in read}
        parameters = {n.name: self.parameters[n.name] for n in needed.parameters}
        found: dict[str, Array] = _program(text).values(inputs, parameters, list(names))
        return found


@lru_cache(maxsize=32)
def _program(text: str) -> Any:
    """The program of a graph; models run again and again, so the last ones are kept."""
    return build_inference(Graph.from_json(json.loads(text)))


@dataclass(frozen=True)
class Place:
    """A node of a growing graph, and the form in which it holds the value.

    Batched, the node has the batch in front; in the value it is the axis `axis`.
    """

    recorder: Recorder
    node: str
    whole: bool
    axis: int = 0


class Value:
    """A tensor of the model.

    Attributes:
        shape: in full.
        dtype: the ONNX type as a NumPy one; graphs hold float32, and truth values as 0 and 1.
        constant: whether it belongs to the model; an input, and what follows from one, does not.
        label: of what belongs to the model, the name that it has there; "" if it has none.
    """

    def __init__(
        self,
        shape: Shape,
        dtype: Any,
        array: Array | None = None,
        place: Place | None = None,
        constant: bool = False,
        label: str = "",
    ) -> None:
        self.shape = tuple(int(k) for k in shape)
        self.constant, self.label = constant, label
        self.dtype = np.dtype(dtype)
        self.place = place
        self._array = array
        self._entered: dict[tuple[Recorder, str], str] = {}
        self._derived: dict[Hashable, Value] = {}

    @classmethod
    def of(cls, array: Any, constant: bool = False, label: str = "") -> Value:
        """The value of an array."""
        found = np.asarray(array)
        return cls(found.shape, found.dtype, found, constant=constant, label=label)

    def derived(self, key: Hashable, function: Callable[[Array], Any]) -> Value:
        """The same numbers in another form; asked for again under `key` it is the same value.

        So a weight that several nodes turn round stays one weight.
        """
        if key not in self._derived:
            self._derived[key] = Value.of(function(self.array), self.constant, self.label)
        return self._derived[key]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_known(self) -> bool:
        """Whether the numbers are there without running anything."""
        return self._array is not None

    @property
    def array(self) -> Array:
        """The numbers; runs the graph up to here where they are not known."""
        if self._array is None:
            compute([self])
        if self._array is None:
            raise CompileError("onnx: a value has neither an array nor a graph.")
        return self._array

    def settle(self, found: Array) -> None:
        """Keep what the graph gave."""
        self._array = np.ascontiguousarray(found.reshape(self.shape)).astype(self.dtype)

    def node(self, recorder: Recorder, whole: bool) -> str:
        """The name of the node that holds the value in this form."""
        if self.place is not None and self.place.recorder is recorder:
            if self.place.axis:
                raise ModelError(f"expected the batch as axis 0; it is axis {self.place.axis}")
            if self.place.whole == whole:
                return self.place.node
            if recorder.batch == 1:
                return self._turned(recorder, self.place.node, whole)
        key = (recorder, "whole" if whole else "batched")
        if key not in self._entered:
            self._entered[key] = recorder.enter(self.array[None] if whole else self.array, self)
        return self._entered[key]

    def _turned(self, recorder: Recorder, node: str, whole: bool) -> str:
        """The other form, where the batch is 1: the same numbers in another shape."""
        key = (recorder, "whole" if whole else "batched")
        if key not in self._entered:
            shape = self.shape if whole else self.shape[1:]
            found = recorder.apply("reshape", [node], {"shape": list(shape)})
            self._entered[key] = found.name
        return self._entered[key]

    def parameter(self, recorder: Recorder) -> str:
        """The name of the parameter that holds the value."""
        key = (recorder, "parameter")
        if key not in self._entered:
            self._entered[key] = recorder.parameter(self.array, self)
        return self._entered[key]


def compute(values: Sequence[Value]) -> None:
    """Run what is needed to know these values, one program for each graph."""
    groups: dict[int, list[Value]] = {}
    for value in values:
        if not value.is_known and value.place is not None:
            groups.setdefault(id(value.place.recorder), []).append(value)
    for group in groups.values():
        places = [v.place for v in group if v.place is not None]
        found = places[0].recorder.run(list(dict.fromkeys(p.node for p in places)))
        for value, place in zip(group, places, strict=True):
            value.settle(found[place.node])
