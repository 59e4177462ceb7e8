"""Lowering with inputs that stand for any numbers: a model becomes one graph with parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from striate.errors import ModelError
from striate.formats.onnx.files import array_of
from striate.formats.onnx.lowering import Call, Lowering
from striate.formats.onnx.names import Names
from striate.formats.onnx.value import FLOAT32, Array, Place, Recorder, Value
from striate.graph.graph import Graph, Node, Shape

# a number that is the same for every sample: ["where", x = x, p, p] reads x for its batch only
_EACH_CHANNEL = ["where", ["eq", "x", "x"], "k0", "k0"]
_OF_EACH = {"inputs": ["x", "p"], "expr": ["where", ["eq", "x", "x"], "p", "p"]}


class SymbolicRecorder(Recorder):
    """The one graph of a network; the weights of the model become its parameters."""

    def __init__(self, batch: int) -> None:
        super().__init__(batch)
        self.names = Names()
        self.stem = "node"
        self._anchor = ""

    def input(self, name: str, shape: Shape) -> str:
        """An input of the network (without the batch)."""
        node = self.graph.append(Node(self.names.plain(name), "input", shape=shape))
        self._anchor = self._anchor or node.name
        return node.name

    def enter(self, array: Array, value: Value) -> str:
        """Numbers of the model where a tensor of samples is expected: the same for every sample."""
        if (array != array[:1]).any():
            raise ModelError(
                "expected numbers of the model's own that are alike for every sample; got others "
                "for each of a batch"
            )
        row = np.ascontiguousarray(array[0], np.float32)
        if array.ndim < 2 or not row.size:
            raise ModelError("expected a tensor with an axis besides the batch; got none")
        if value.label:
            one = self._one(row.ndim)
            return self.apply("broadcast_map", [one, self.parameter(row, value)], _OF_EACH).name
        return self._fixed(row)

    def _fixed(self, row: Array) -> str:
        """Numbers that belong to an operator, and are no weights: they stand in the graph."""
        if (row == row.flat[0]).all():
            number = {"inputs": ["x"], "expr": float(row.flat[0])}
            single = self.apply("map", [self._one(row.ndim)], number).name
            return self.apply("tile", [single], {"repeats": list(row.shape)}).name
        wide = self.apply("tile", [self._one(1)], {"repeats": [row.size]}).name
        table = {"expr": _EACH_CHANNEL, "constants": [[float(k) for k in row.flat]]}
        flat = self.apply("channel_map", [wide], table).name
        return self.apply("reshape", [flat], {"shape": list(row.shape)}).name

    def _one(self, rank: int) -> str:
        """One number of each sample, with this many axes of size 1."""
        flat = self.apply("reshape", [self._anchor], {"shape": [-1]}).name
        one = self.apply("slice", [flat], {"axis": 1, "start": 0, "stop": 1}).name
        return self.apply("reshape", [one], {"shape": [1] * rank}).name

    def parameter(self, array: Array, value: Value) -> str:
        name = self.names.dotted(value.label or f"{self.stem}.constant")
        self.parameters[name] = np.array(array, np.float32, order="C")
        self.graph.append(Node(name, "parameter", shape=array.shape, batched=False))
        return name

    def apply(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> Node:
        return self.graph.apply(self.names.plain(self.stem), op, tuple(inputs), attributes)

    def run(self, names: Sequence[str]) -> dict[str, Array]:
        """Refused: the numbers are not there."""
        raise ModelError(
            "expected a network whose shapes do not depend on the numbers of its input; got one "
            "that computes a shape, an index or a table from them"
        )


class SymbolicLowering(Lowering):
    """A run through a model whose inputs stand for any numbers.

    Args:
        opset: of the model.
        batch: the size of a batch while it is read.
        functions: the model's own functions that are striate's operations, by name.
        training: whether dropout drops.
    """

    symbolic = True

    def __init__(
        self, opset: int, batch: int, functions: Mapping[str, Any], training: bool
    ) -> None:
        super().__init__(opset)
        self.batch, self.training, self.functions = batch, training, functions
        self.only = SymbolicRecorder(batch)
        self.weights: set[str] = set()

    def recorder(self, batch: int) -> Recorder:
        if batch != self.batch:
            raise ModelError(
                "expected every sample to be computed by itself; got an operation along the batch "
                "axis"
            )
        return self.only

    def weigh(self, name: str, array: Any) -> None:
        """An initialiser: a weight where it holds floating-point numbers."""
        number = array.dtype.kind == "f"
        value = Value.of(np.asarray(array, np.float32) if number else array, True, name)
        if number:
            self.weights.add(name)
        self.only.names.reserve(name)
        self.values[name] = value

    def enter(self, name: str, shape: Shape, dtype: Any) -> None:
        """An input of the model, shape with the batch."""
        node = self.only.input(name, shape[1:])
        self.values[name] = Value(shape, dtype, place=Place(self.only, node, False))

    def run(self, node: Any) -> None:
        if node.domain not in ("", "ai.onnx"):
            self._run_function(node)
        elif node.op_type == "If":
            self._run_branch(node)
        else:
            super().run(node)

    def _run_branch(self, node: Any) -> None:
        """The branch that a condition chooses which the input does not decide."""
        call = Call(self, node)
        condition = call.value(0)
        if not condition.is_known:
            call.refuse("expected a condition that does not depend on the input")
        wanted = "then_branch" if bool(condition.array.ravel()[0]) else "else_branch"
        branch = next((a.g for a in node.attribute if a.name == wanted), None)
        if branch is None or len(branch.output) != len(node.output):
            call.refuse(f"expected a {wanted} that gives its {len(node.output)} outputs")
        for tensor in branch.initializer:
            self.weigh(tensor.name, array_of(tensor))
        for inner in branch.node:
            self.run(inner)
        for name, output in zip(node.output, branch.output, strict=True):
            if output.name not in self.values:
                call.refuse(f"its branch gives no {output.name!r}")
            self.values[name] = self.values[output.name]

    def _run_function(self, node: Any) -> None:
        """A function of the model that is an operation of striate."""
        call = Call(self, node)
        self.begin(call)
        known = self.functions.get(node.op_type) if node.domain == "striate" else None
        if known is None:
            raise ModelError(
                f"onnx: {call.where} is of the domain {node.domain!r}; expected operators of ONNX "
                "itself, or functions that the model brings along."
            )
        op, attributes = known
        found = call.apply(op, call.present(), attributes, whole=False, dtype=FLOAT32)
        self.values[node.output[0]] = self.keep(node.output[0], found)

    def begin(self, call: Call) -> None:
        self.only.stem = call.outputs[0] if call.outputs else "node"

    def keep(self, name: str, value: Value) -> Value:
        """Numbers of any precision are float32 in a network."""
        if value.is_known and value.dtype.kind == "f" and value.dtype != FLOAT32:
            value = Value.of(value.array.astype(np.float32), value.constant, value.label)
        return super().keep(name, value)

    def alike(self, value: Value) -> Value:
        """Numbers of the model's own that are repeated for every sample, as one sample."""
        if self.batch > 1 and value.rank and value.shape[0] == self.batch:
            if (value.array == value.array[:1]).all():
                found = value.derived("alike", lambda a: a[:1])
                found.constant = True
                return found
        return value

    def graph_of(self, names: Sequence[str]) -> Graph:
        """The graph that computes these outputs."""
        return self.only.graph.pruned([self._output(name) for name in names])

    def _output(self, name: str) -> str:
        """The node that gives an output."""
        if name not in self.values:
            raise ModelError(f"onnx: the output {name!r} is given by no node.")
        value = self.values[name]
        if value.is_known or value.place is None:
            raise ModelError(f"onnx: the output {name!r} does not depend on the input.")
        if not value.rank or value.shape[0] != self.batch:
            raise ModelError(
                f"onnx: the output {name!r} expected the batch as its first axis; got shape "
                f"{value.shape} for a batch of {self.batch}."
            )
        return value.node(self.only, False)
