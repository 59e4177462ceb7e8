"""The backend that ONNX's own tests call: prepare a model, run it on arrays.

Operators only: `importer` reads whole networks as modules. A model's whole-number inputs
(shapes, axes, indices) are needed to know the shapes, so a model is lowered when it is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from striate.errors import ModelError, ShapeError
from striate.formats.onnx.lowering import Lowering
from striate.formats.onnx.registry import find_handler
from striate.formats.onnx.value import Array, Value, compute

_DOMAINS = ("", "ai.onnx")


class Representation:
    """A model that can be run.

    Attributes:
        used: how the last run computed: "graph" (a program of striate's, native by default),
            "reference" (a formula in float64) or "numpy" (shapes, types and whole numbers).
    """

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.opset = _opset_of(model)
        self.used: frozenset[str] = frozenset()
        self._constants = {k.name: array_of(k) for k in self.graph.initializer}
        for node in self.graph.node:
            where = f"node {node.name or node.output[0]!r}"
            if node.domain not in _DOMAINS:
                raise ModelError(
                    f"onnx: {where} is {node.op_type} of the domain {node.domain!r}; expected "
                    f"operators of ONNX itself (domain '')."
                )
            find_handler(node.op_type, self.opset, where)

    def run(self, inputs: Sequence[Any] | dict[str, Any], **_: Any) -> tuple[Array, ...]:
        """The outputs of the model.

        Args:
            inputs: arrays in the model's order, or by name.
        """
        lowering = Lowering(self.opset)
        own = {name: Value.of(array, constant=True) for name, array in self._constants.items()}
        lowering.values.update(own)
        lowering.values.update(self._named(inputs))
        for node in self.graph.node:
            lowering.run(node)
        found = [self._output(lowering, output.name) for output in self.graph.output]
        compute(found)
        self.used = frozenset(lowering.used)
        return tuple(value.array for value in found)

    def _named(self, inputs: Sequence[Any] | dict[str, Any]) -> dict[str, Value]:
        names = [k.name for k in self.graph.input]
        if isinstance(inputs, dict):
            missing = [name for name in names if name not in {**self._constants, **inputs}]
            if missing:
                raise ShapeError(f"onnx: expected an array for {missing[0]!r}; got none.")
            return {name: _tensor(name, array) for name, array in inputs.items()}
        asked = [name for name in names if name not in self._constants]
        if len(inputs) == len(asked):
            names = asked
        if len(inputs) != len(names):
            raise ShapeError(f"onnx: expected inputs {', '.join(names)}; got {len(inputs)} arrays.")
        return {name: _tensor(name, array) for name, array in zip(names, inputs, strict=True)}

    def _output(self, lowering: Lowering, name: str) -> Value:
        if name not in lowering.values:
            raise ModelError(f"onnx: the output {name!r} is given by no node.")
        return lowering.values[name]


def _tensor(name: str, array: Any) -> Value:
    """The value of an input."""
    if not isinstance(array, (np.ndarray, np.generic)):
        raise ModelError(
            f"onnx: the input {name!r} expected an array; got {type(array).__name__}. Sequences "
            "and optional values are not supported."
        )
    return Value.of(array)


class Backend:
    """What `onnx.backend.test` asks of a backend: the methods of `onnx.backend.base.Backend`.

    It is no subclass, so that onnx is imported only when a model is read.
    """

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **_: Any) -> Representation:
        """Check a model and make it ready.

        Args:
            model: an `onnx.ModelProto`, or one as bytes.
            device: "CPU".
        Raises:
            ModelError: no valid model, weights in other files, an operator that is unknown here.
        """
        if not cls.supports_device(device):
            raise ModelError(f"onnx: expected the device 'CPU'; got {device!r}.")
        return Representation(checked(model))

    @classmethod
    def run_model(
        cls, model: Any, inputs: Any, device: str = "CPU", **keywords: Any
    ) -> tuple[Array, ...]:
        """Prepare a model and run it once."""
        return cls.prepare(model, device, **keywords).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **keywords: Any
    ) -> tuple[Array, ...]:
        """Run one operator on arrays."""
        newest = import_module("onnx").defs.onnx_opset_version()
        lowering = Lowering(int(keywords.get("opset_version", newest)))
        for name, array in zip(node.input, inputs, strict=True):
            lowering.values[name] = _tensor(name, array)
        lowering.run(node)
        return tuple(lowering.values[name].array for name in node.output if name)

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **_: Any) -> bool:
        """Whether every operator of the model is known here."""
        try:
            cls.prepare(model, device)
        except ModelError:
            return False
        return True

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device.split(":")[0] == "CPU"


def checked(model: Any) -> Any:
    """A model that onnx's checker accepts and that needs no other file."""
    onnx = import_module("onnx")
    decode = import_module("google.protobuf.message").DecodeError
    try:
        found = onnx.load_model_from_string(model) if isinstance(model, bytes) else model
        for tensor in _tensors(found.graph):
            _require_inside(onnx, tensor)
        onnx.checker.check_model(found)
    except decode as error:
        raise ModelError(f"onnx: expected a model; got damaged data ({error}).") from None
    except onnx.checker.ValidationError as error:
        raise ModelError(f"onnx: expected a valid model; the checker says: {error}") from None
    return found


def _tensors(graph: Any) -> list[Any]:
    """The tensors of a graph: its weights, and those that nodes hold."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += list(attribute.tensors)
            if attribute.HasField("g"):
                found += _tensors(attribute.g)
            for inner in attribute.graphs:
                found += _tensors(inner)
    return found


def _require_inside(onnx: Any, tensor: Any) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(
            f"onnx: the tensor {tensor.name!r} lies in another file, which is not opened. "
            "Save the model with its weights inside."
        )


def array_of(tensor: Any) -> Array:
    """The numbers of a tensor of the model."""
    found: Array = import_module("onnx").numpy_helper.to_array(tensor)
    return found


def _opset_of(model: Any) -> int:
    versions = [o.version for o in model.opset_import if o.domain in _DOMAINS]
    return int(versions[0]) if versions else 1
