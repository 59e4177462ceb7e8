"""Nodes of ONNX while they are written: of a graph, or of the body of a function.

Small constants (axes, shapes, tables) are Constant nodes, so that the initialisers of a model are
its parameters and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, INT64, BOOL = 1, 7, 9  # the numbers that ONNX gives these types


class Builder:
    """A list of nodes that grows, with names that are given once.

    Args:
        opset: the version of ONNX's operator set.
        taken: names that are in use already.
    """

    def __init__(self, opset: int, taken: Iterable[str] = ()) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self._taken = set(taken)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._helper = import_module("onnx").helper
        self._from_array = import_module("onnx").numpy_helper.from_array

    def unique(self, stem: str) -> str:
        """`stem`, or with a number behind it where that name is taken."""
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node of one output; its name."""
        return self.several(kind, inputs, 1, domain=domain, **attributes)[0]

    def several(
        self, kind: str, inputs: Sequence[str], count: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append a node of several outputs; their names."""
        names = [self.unique(kind.lower()) for _ in range(count)]
        given = {key: value for key, value in attributes.items() if value is not None}
        node = self._helper.make_node(kind, list(inputs), names, domain=domain or None, **given)
        self.nodes.append(node)
        return names

    def rename(self, value: str, name: str) -> str:
        """Call what the last node gives `name`; any other value gets that name by Identity."""
        last = self.nodes[-1] if self.nodes else None
        if last is not None and list(last.output) == [value] and last.op_type != "Constant":
            self.nodes[-1].output[0] = name
            self.nodes[-1].name = name
            return name
        self.nodes.append(self._helper.make_node("Identity", [value], [name], name=name))
        return name

    # ---- constants ------------------------------------------------------------------------

    def constant(self, array: NDArray[Any]) -> str:
        """A tensor that belongs to the operation; equal ones are written once."""
        whole = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (whole.dtype.str, whole.shape, whole.tobytes())
        if key not in self._constants:
            name = self.unique("constant")
            tensor = self._from_array(whole, name)
            self.nodes.append(self._helper.make_node("Constant", [], [name], value=tensor))
            self._constants[key] = name
        return self._constants[key]

    def number(self, value: float) -> str:
        """One float32 number."""
        return self.constant(np.asarray(value, np.float32))

    def integers(self, values: Sequence[int]) -> str:
        """A list of whole numbers: axes, a shape, sizes."""
        return self.constant(np.asarray(list(values), np.int64))

    # ---- what is written differently in different versions ------------------------------------

    def reduce(self, kind: str, x: str, axes: Sequence[int], keep: bool) -> str:
        """ReduceSum, ReduceMax …: the axes became an input in version 13 or 18."""
        if kind == "ReduceSum" or self.opset >= 18:
            return self.op(kind, x, self.integers(axes), keepdims=int(keep))
        return self.op(kind, x, axes=list(axes), keepdims=int(keep))

    def unsqueeze(self, x: str, axes: Sequence[int]) -> str:
        """New axes of size 1, at these places of the result."""
        return self.op("Unsqueeze", x, self.integers(axes)) if axes else x

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Another shape without the batch, which stays in front."""
        return self.op("Reshape", x, self.integers([0, *shape]))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Axis k of the result is axis `order[k]`."""
        return x if list(order) == sorted(order) else self.op("Transpose", x, perm=list(order))

    def split(self, x: str, axis: int, sizes: Sequence[int]) -> list[str]:
        """Parts of these sizes along an axis."""
        return self.several("Split", [x, self.integers(sizes)], len(sizes), axis=axis)

    def pad(self, x: str, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> str:
        """`pads`: before each axis, then behind each."""
        inputs = [x, self.integers(pads)]
        if mode == "constant":
            inputs.append(self.number(value))
        return self.op("Pad", *inputs, mode=mode)
