"""Lowering: the nodes of an ONNX model, one after another, to striate's operations.

A handler of `operators` is given a `Call`: the node's inputs as values, its attributes and the
operator set. It applies operations: float32 (and truth values) go into a graph, which native code
runs; other number types are computed by the operation's float64 reference, and then rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, StriateError
from striate.formats.onnx.batch_axis import (
    batch_after,
    batch_axis,
    is_symbol,
    moved,
    to_front,
    to_place,
)
from striate.formats.onnx.files import first_line
from striate.formats.onnx.registry import find_handler
from striate.formats.onnx.value import BOOL, FLOAT32, INT64, Array, Place, Recorder, Value
from striate.formula.activation import Activation, map_attributes
from striate.formula.broadcast import BATCHED, WEIGHTS, broadcast_attributes
from striate.formula.expression import Const, Expr, trace_scalar
from striate.formula.operation import Operation
from striate.formula.operations import find_operation
from striate.graph.graph import Shape

MOST_NUMBERS = 2**28  # of one tensor that a model's own numbers ask for: a gigabyte of float32
DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_EXACT = 2**53  # up to here float64 holds every whole number


class Lowering:
    """One run through a model: its values by name, and the graphs that grow.

    Attributes:
        symbolic: whether the inputs stand for any numbers, as they do while a model is imported.
        training: whether dropout drops, of a symbolic run.
        weights: names of what is trained, also where it is a single number.
        made: how many numbers nodes have made out of nothing (`ConstantOfShape` and its kind).
    """

    symbolic = False
    training = False
    weights: Collection[str] = ()

    def __init__(self, opset: int) -> None:
        self.made = 0
        self.opset = opset
        self.values: dict[str, Value] = {}
        self.recorders: dict[int, Recorder] = {}
        self.used: set[str] = set()  # "graph", "reference", "numpy"

    def recorder(self, batch: int) -> Recorder:
        if batch not in self.recorders:
            self.recorders[batch] = Recorder(batch)
        return self.recorders[batch]

    def run(self, node: Any) -> None:
        """Lower one node."""
        call = Call(self, node)
        self.begin(call)
        try:
            found = find_handler(node.op_type, self.opset, call.where)(call)
        except StriateError as error:
            if call.where in str(error):
                raise
            raise ModelError(f"onnx: {call.where}: {error}") from error
        except DAMAGED as error:  # what a damaged node leads to, where no handler looks for it
            if not self.symbolic:
                raise
            raise ModelError(
                f"onnx: {call.where}: expected inputs and attributes that fit together; got others "
                f"({first_line(error)})."
            ) from error
        call.require_all_read()
        results = [found] if isinstance(found, Value) else list(found)
        for name, value in zip(node.output, results, strict=False):
            if name and value is None and not self.symbolic:
                call.refuse(f"its output {name!r} is not computed here")
            if name and value is not None:
                self.values[name] = self.keep(name, value)
        missing = [name for name in node.output[len(results) :] if name]
        if missing and not self.symbolic:  # else whoever reads it says so
            call.refuse(f"its output {missing[0]!r} is not computed here")

    def begin(self, call: Call) -> None:
        """Called before a node is lowered."""

    def alike(self, value: Value) -> Value:
        """A value whose samples are all the same, as one of them; any other as it is."""
        return value

    def keep(self, name: str, value: Value) -> Value:
        """What is kept of a node's output."""
        if value.constant and not value.label and value.is_known:
            value.label = name
        return value


class Call:
    """A node that is being lowered."""

    def __init__(self, lowering: Lowering, node: Any) -> None:
        self.lowering = lowering
        self.op = str(node.op_type)
        self.where = f"node {node.name or node.output[0]!r} ({node.op_type})"
        self.opset = lowering.opset
        self.outputs = [str(name) for name in node.output]
        self._attributes = {a.name: a for a in node.attribute}
        self._read: set[str] = set()
        self.inputs: list[Value | None] = []
        for name in node.input:
            if name and name not in lowering.values:
                raise ModelError(f"onnx: {self.where} reads {name!r}, which nothing gives.")
            self.inputs.append(lowering.values[name] if name else None)

    # ---- what the node says ---------------------------------------------------------------

    def value(self, position: int) -> Value:
        """A required input."""
        found = self.maybe(position)
        if found is None:
            self.refuse(f"expected at least {position + 1} inputs; got {len(self.inputs)}")
        return found

    def maybe(self, position: int) -> Value | None:
        """An input that may be left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def present(self) -> list[Value]:
        """All inputs that are there."""
        return [v for v in self.inputs if v is not None]

    def wants(self, output: int) -> bool:
        """Whether the model uses that output."""
        return output < len(self.outputs) and bool(self.outputs[output])

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value."""
        self._read.add(name)
        if name not in self._attributes:
            return default
        found = import_module("onnx").helper.get_attribute_value(self._attributes[name])
        if isinstance(found, bytes):
            return found.decode()
        if isinstance(found, (int, float, str)):
            return found
        if hasattr(found, "__iter__"):
            return [k.decode() if isinstance(k, bytes) else k for k in found]
        return found

    def integers(self, position: int, name: str = "", default: Any = None) -> Any:
        """A list of whole numbers that is an input or, in older versions, an attribute."""
        found = self.maybe(position)
        if found is not None:
            return [int(k) for k in found.array.ravel()]
        listed = self.attribute(name, default) if name else default
        return listed

    def require_all_read(self) -> None:
        """Refuse attributes that the handler does not know: their meaning would be lost."""
        for name in self._attributes:
            if name not in self._read:
                known = ", ".join(sorted(self._read)) or "none"
                self.refuse(f"the attribute {name!r} is not supported; supported are: {known}")

    def refuse(self, why: str) -> NoReturn:
        raise ModelError(f"onnx: {self.where}: {why}.")

    # ---- what a handler does with it ------------------------------------------------------

    def given(self, array: Any, dtype: Any = None, constant: bool | None = None) -> Value:
        """A value made by NumPy: shapes, types and whole numbers, never the model's arithmetic.

        It counts as the model's own where all inputs are, unless said otherwise.
        """
        self.lowering.used.add("numpy")
        own = all(v.constant for v in self.present()) if constant is None else constant
        labels = [v.label for v in self.present() if v.label and v.dtype.kind == "f" and v.rank]
        return Value.of(np.asarray(array, dtype), own, labels[0] if own and labels else "")

    def require_room(self, shape: Sequence[int], made: bool = False) -> None:
        """Refuse sizes that a damaged model could ask for; of what is `made`, all together."""
        count = math.prod(shape)
        if any(k < 0 for k in shape) or count > MOST_NUMBERS:
            self.refuse(f"expected a shape of at most {MOST_NUMBERS} numbers; got {tuple(shape)}")
        self.lowering.made += count if made else 0
        if self.lowering.made > MOST_NUMBERS:
            self.refuse(f"expected a model that makes at most {MOST_NUMBERS} numbers; got more")

    def apply(
        self,
        op: str,
        inputs: Sequence[Value],
        attributes: Mapping[str, Any] | None = None,
        *,
        whole: bool | None = None,
        dtype: Any = None,
    ) -> Value:
        """Apply an operation of striate.

        Args:
            op: its name.
            inputs: values; parameters of the operation are taken as they are, all others in the
                form that `whole` says.
            attributes: the operation's.
            whole: True: each input is one sample; False: axis 0 of each is the batch. By default
                what fits best; for operations that treat all axes alike.
            dtype: of the output, by default that of the first input.
        """
        settings = dict(attributes or {})
        operation = find_operation(op)
        names = operation.argument_names(settings, len(inputs))
        shared = operation.shared(settings)
        data = [v for v, name in zip(inputs, names, strict=True) if name not in shared]
        result = np.dtype(data[0].dtype if dtype is None else dtype)
        form = _form(data) if whole is None else whole
        kinds = (FLOAT32, BOOL)
        fits = result in kinds and data[0].dtype in kinds and _graph_holds(inputs)
        if fits and not all(v.constant for v in inputs):
            return self._record(operation, inputs, settings, form, result)
        return self._exact(operation, inputs, settings, form, result)

    def _record(
        self,
        operation: Operation,
        inputs: Sequence[Value],
        settings: dict[str, Any],
        whole: bool,
        dtype: np.dtype[Any],
    ) -> Value:
        names, shared = operation.argument_names(settings, len(inputs)), operation.shared(settings)
        data = [v for v, name in zip(inputs, names, strict=True) if name not in shared]
        if not whole:
            self._require_batch(operation.name, data)
        batch = next((v for v in data if not v.is_known), data[0]).shape[0] if not whole else 1
        recorder = self.lowering.recorder(batch)
        nodes = [
            v.parameter(recorder) if name in shared else v.node(recorder, whole)
            for v, name in zip(inputs, names, strict=True)
        ]
        node = recorder.apply(operation.name, nodes, settings)
        self.lowering.used.add("graph")
        shape = node.shape if whole else (recorder.batch, *node.shape)
        return Value(shape, dtype, place=Place(recorder, node.name, whole))

    def _require_batch(self, op: str, data: Sequence[Value]) -> None:
        # while a model is imported, its own numbers may stand for those of every sample
        varied = [v for v in data if not (self.lowering.symbolic and v.is_known)] or data
        if any(v.rank < 1 for v in data) or any(v.shape[0] != varied[0].shape[0] for v in varied):
            listed = ", ".join(str(v.shape) for v in data)
            self.refuse(f"{op} expected tensors with the same axis 0, the batch; got {listed}")

    def _exact(
        self,
        operation: Operation,
        inputs: Sequence[Value],
        settings: dict[str, Any],
        whole: bool,
        dtype: np.dtype[Any],
    ) -> Value:
        """By the operation's float64 reference, rounded to the type of the output."""
        names, shared = operation.argument_names(settings, len(inputs)), operation.shared(settings)
        arrays = [
            self._as_float64(v.array[None] if whole and name not in shared else v.array)
            for v, name in zip(inputs, names, strict=True)
        ]
        shapes = [
            a.shape if name in shared else a.shape[1:]
            for a, name in zip(arrays, names, strict=True)
        ]
        operation.shape(settings, shapes)
        self.lowering.used.add("reference")
        found = operation.reference(settings, arrays)
        constant = all(v.constant for v in inputs)
        return Value.of(as_type(found[0] if whole else found, dtype), constant)

    def _as_float64(self, array: Array) -> NDArray[np.float64]:
        if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
            if max(abs(int(array.min())), abs(int(array.max()))) > _EXACT:
                self.refuse(f"expected whole numbers up to {_EXACT}, which float64 holds exactly")
        return np.asarray(array).astype(np.float64)

    def map(self, function: Callable[..., Any], *inputs: Value, dtype: Any = None) -> Value:
        """A scalar function of values, which are broadcast to a common shape as NumPy does."""
        folded, kept = _fold(function, inputs, self.lowering)
        shape = self._common_shape(inputs)
        found = self._mapped(folded, kept, np.dtype(dtype or inputs[0].dtype))
        return self.expand(found, shape)

    def activation(self, function: str | Activation, x: Value) -> Value:
        """A named scalar function, or one with settings, of striate's list."""
        if not x.rank:
            return self.reshape(self.activation(function, self.reshape(x, (1,))), ())
        return self.apply("map", [x], map_attributes(function))

    def _common_shape(self, inputs: Sequence[Value]) -> Shape:
        try:
            shape = np.broadcast_shapes(*(v.shape for v in inputs))
        except ValueError:
            listed = ", ".join(str(v.shape) for v in inputs)
            self.refuse(f"expected shapes that broadcast to one; got {listed}")
        self.require_room(shape)
        return shape

    def _mapped(
        self, function: Callable[..., Any], inputs: Sequence[Value], dtype: np.dtype[Any]
    ) -> Value:
        shape = self._common_shape(inputs)
        if any(moved(v) for v in inputs):
            return self._mapped_in_front(function, inputs, dtype)
        if not shape:  # a sample has at least one axis
            single = [self.reshape(v, (1,)) for v in inputs]
            return self.reshape(self._mapped(function, single, dtype), ())
        own = [v.constant for v in inputs]
        if all(v.shape == shape for v in inputs) and (all(own) or not any(own)):
            body: Expr = trace_scalar(function, BATCHED[: len(inputs)])
            attributes = map_attributes(body, BATCHED[: len(inputs)])
            return self.apply("map", inputs, attributes, dtype=dtype)
        full = [self.reshape(v, (*(1,) * (len(shape) - v.rank), *v.shape)) for v in inputs]
        whole = _form_of_broadcast(full, shape)
        batched = [whole or v.shape[0] == shape[0] for v in full]
        if not all(own):  # what belongs to the model needs no batch
            full = [self.lowering.alike(v) if v.is_known and not whole else v for v in full]
            batched = [
                (is_batch and not (v.constant and (whole or v.shape[0] == 1))) or self._is_fixed(v)
                for is_batch, v in zip(batched, full, strict=True)
            ]
        data, weights = iter(BATCHED), iter(WEIGHTS)
        names = tuple(next(data if k else weights) for k in batched)
        body = trace_scalar(function, names)
        attributes = broadcast_attributes(body, names)
        return self.apply("broadcast_map", full, attributes, whole=whole, dtype=dtype)

    def _is_fixed(self, value: Value) -> bool:
        """Whether a known value is no weight of an imported network."""
        return self.lowering.symbolic and value.is_known and not value.label

    def _mapped_in_front(
        self, function: Callable[..., Any], inputs: Sequence[Value], dtype: np.dtype[Any]
    ) -> Value:
        """A scalar function where the batch is another axis than 0."""
        rank = max(v.rank for v in inputs)
        full = [self.reshape(v, (*(1,) * (rank - v.rank), *v.shape)) for v in inputs]
        axes = {batch_axis(v) for v in full if is_symbol(v)}
        if len(axes) != 1:
            self.refuse(f"expected the batch at one axis of all inputs; got axes {sorted(axes)}")
        (axis,) = axes
        return to_place(self._mapped(function, [to_front(v, axis) for v in full], dtype), axis)

    def expand(self, value: Value, shape: Sequence[int]) -> Value:
        """A value repeated along axes of 1 until it has this shape."""
        target = tuple(shape)
        if value.shape == target:
            return value
        self.require_room(target)
        if value.constant or not math.prod(target):
            self.require_room(target, made=True)
            return value.derived(("expand", target), lambda a: np.broadcast_to(a, target))
        full = self.reshape(value, (*(1,) * (len(target) - value.rank), *value.shape))
        return self.tile(full, [n // k for n, k in zip(target, full.shape, strict=True)])

    def tile(self, value: Value, repeats: Sequence[int]) -> Value:
        """A value repeated whole along its axes."""
        whole, _ = self.form(value, [k for k, n in enumerate(repeats) if n > 1])
        return self.apply("tile", [value], {"repeats": list(repeats[not whole :])}, whole=whole)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """The same numbers in another shape."""
        target = tuple(int(k) for k in shape)
        if target == value.shape:
            return value
        known = value.constant or (value.is_known and value.dtype == INT64)
        if known or not math.prod(target):
            return value.derived(("reshape", target), lambda a: a.reshape(target))
        if self.lowering.symbolic and is_symbol(value):
            axis = batch_after(value, target)
            if axis is not None and len(target) > 1:
                return self._reshape_samples(value, target, axis)
        whole, _ = self.form(value, [] if target[:1] == value.shape[:1] else [0])
        sizes = list(target if whole else target[1:])
        if not sizes:
            return self._dropped(value, target)
        return self.apply("reshape", [value], {"shape": sizes}, whole=whole)

    def _reshape_samples(self, value: Value, target: Shape, axis: int) -> Value:
        """Each sample in another shape; the batch comes to lie at an axis."""
        front, sizes = to_front(value), [*target[:axis], *target[axis + 1 :]]
        if list(front.shape[1:]) != sizes:
            front = self.apply("reshape", [front], {"shape": sizes}, whole=False)
        return to_place(front, axis)

    def _dropped(self, value: Value, target: Shape) -> Value:
        """One number without axes: the array of one, since a sample has at least one axis."""
        return Value.of(value.array.reshape(target), value.constant)

    def form(self, value: Value, axes: Sequence[int]) -> tuple[bool, int]:
        """The form that serves an operation along these axes, and what it adds to an axis.

        Graphs count the batch as axis 0: in the whole form an ONNX axis k is axis k + 1.
        """
        if moved(value):
            self.refuse(f"expected the batch as axis 0; it is axis {batch_axis(value)}")
        whole = _form([value]) or any(axis == 0 for axis in axes)
        return whole, int(whole)

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            self.refuse(f"expected an axis from {-rank} to {rank - 1}; got {axis}")
        return axis % max(rank, 1)


def _form(data: Sequence[Value]) -> bool:
    """Whether these values are taken whole: as the first graph value is, else where they must."""
    for value in data:
        if value.place is not None and not value.is_known:
            return value.place.whole
    return any(v.rank < 2 for v in data) or len({v.shape[0] for v in data}) != 1


def _form_of_broadcast(full: Sequence[Value], shape: Shape) -> bool:
    """Whether values of equally many axes are taken whole to be broadcast to a shape."""
    for value in full:
        if value.place is not None and not value.is_known:
            return value.place.whole or value.shape[0] != shape[0]
    return len(shape) < 2


def _fold(
    function: Callable[..., Any], inputs: Sequence[Value], lowering: Lowering
) -> tuple[Callable[..., Any], list[Value]]:
    """The function with the model's own single numbers as constants of it, but for weights."""

    def is_number(value: Value) -> bool:
        if not value.is_known or value.dtype not in (FLOAT32, BOOL) or not value.array.size:
            return False
        if lowering.symbolic and not value.label:  # a state that begins with zeros, say
            return bool((value.array == value.array.flat[0]).all())
        single = value.constant and value.array.size == 1
        return single and not (value.rank and value.label in lowering.weights)

    fixed = {k: Const(float(v.array.flat[0])) for k, v in enumerate(inputs) if is_number(v)}
    if not fixed or len(fixed) == len(inputs):
        return function, list(inputs)

    def rest(*given: Expr) -> Any:
        left = iter(given)
        return function(*(fixed[k] if k in fixed else next(left) for k in range(len(inputs))))

    return rest, [v for k, v in enumerate(inputs) if k not in fixed]


def _graph_holds(inputs: Sequence[Value]) -> bool:
    """Whether float32 holds the numbers, and none of the tensors is empty."""
    for value in inputs:
        if not math.prod(value.shape):
            return False
        if value.is_known and value.dtype not in (FLOAT32, BOOL):
            array = value.array
            if array.dtype.kind not in "iu" or (array.astype(np.float32) != array).any():
                return False
    return True


def as_type(array: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    """float64 rounded to a type; whole numbers lose their fraction and wrap."""
    if dtype.kind in "iu":
        with np.errstate(invalid="ignore"):
            return np.asarray(np.trunc(array).astype(np.int64).astype(dtype))
    return np.asarray(array).astype(dtype)
