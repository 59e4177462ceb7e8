"""A formula read as ONNX: the nodes that compute any operation which is written as one.

Every value has the axes that it depends on, in the order of the formula. A read of a tensor gathers
along each of its axes by a table of places, a sum of products is an Einsum, a maximum a ReduceMax,
and scalar functions broadcast. The batch stays open; all other sizes are fixed by the tables.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formats.onnx.builder import Builder
from striate.formats.onnx.scalars import Scalar, function, number
from striate.formula.expression import Call, Const, Expr, Index, Read, Reduce
from striate.formula.formula import Formula
from striate.formula.numeric import factors


@dataclass(frozen=True)
class Part:
    """The value of a part of a formula: its name and its axes, which are its dimensions."""

    scalar: Scalar
    axes: tuple[str, ...] = ()


class FormulaBody:
    """One formula being written.

    Args:
        b: takes the nodes.
        formula: on any number of samples; its first axis is the batch.
        tensors: the names of the values that it reads.
        batched: one of these that has a batch axis.
    """

    def __init__(
        self, b: Builder, formula: Formula, tensors: Mapping[str, str], batched: str
    ) -> None:
        self.b, self.formula, self.tensors, self.batched = b, formula, tensors, batched
        order = (*formula.free, *(a for a in formula.reduced if a not in formula.free))
        self._place = {axis: k for k, axis in enumerate(order)}
        self._known: dict[Expr, Part] = {}

    def write(self) -> str:
        """The name of the result."""
        b, free = self.b, self.formula.free
        found = self.value(self.formula.body)
        name = self._aligned(number(b, found.scalar), found.axes, free)
        if set(found.axes) != set(free):
            name = b.op("Expand", name, self._full_shape(free))
        if any(index.axis is None for index in self.formula.output):
            name = b.reshape(name, self.formula.shape[1:])
        return name

    def _full_shape(self, free: Sequence[str]) -> str:
        b = self.b
        batch = b.op("Gather", b.op("Shape", self.batched), b.integers([0]))
        rest = b.integers([self.formula.sizes[a] for a in free[1:]])
        return b.op("Concat", batch, rest, axis=0)

    # ---- values ---------------------------------------------------------------------------

    def value(self, e: Expr) -> Part:
        """The value of a part; equal parts are computed once."""
        if e not in self._known:
            self._known[e] = self._value(e)
        return self._known[e]

    def _value(self, e: Expr) -> Part:
        if isinstance(e, Const):
            return Part(Scalar(self.b.number(e.value)))
        if isinstance(e, Read):
            return self._read(e)
        if isinstance(e, Call):
            return self._call(e)
        if isinstance(e, Reduce):
            return self._sum(e) if e.how == "sum" else self._largest(e)
        raise OptionError(f"export_onnx: expected a formula without free scalars; got {e}.")

    def _call(self, e: Call) -> Part:
        parts = [self.value(a) for a in e.arguments]
        axes = self._ordered({axis for part in parts for axis in part.axes})
        inputs = [Scalar(self._aligned(p.scalar.name, p.axes, axes), p.scalar.truth) for p in parts]
        return Part(function(self.b, e.function, inputs), axes)

    def _largest(self, e: Reduce) -> Part:
        part = self.value(e.body)
        return self._reduced("ReduceMax", number(self.b, part.scalar), part.axes, e.over)

    def _sum(self, e: Reduce) -> Part:
        scale, found = factors(e.body)
        parts = [self.value(part) for part in found]
        axes = self._ordered({axis for part in parts for axis in part.axes})
        # an axis that no factor has counts its values
        scale *= math.prod(self.formula.sizes[a] for a in e.over if a not in axes)
        if not parts:
            return Part(Scalar(self.b.number(scale)))
        if len(parts) == 1:
            name = number(self.b, parts[0].scalar)
            total = self._reduced("ReduceSum", name, axes, e.over)
        else:
            total = self._contracted(parts, axes, e.over)
        if scale == 1:
            return total
        scaled = self.b.op("Mul", total.scalar.name, self.b.number(scale))
        return Part(Scalar(scaled), total.axes)

    def _contracted(self, parts: Sequence[Part], axes: tuple[str, ...], over: Any) -> Part:
        letters = dict(zip(axes, string.ascii_letters, strict=False))
        left = ",".join("".join(letters[a] for a in part.axes) for part in parts)
        kept = tuple(a for a in axes if a not in over)
        equation = f"{left}->{''.join(letters[a] for a in kept)}"
        names = [number(self.b, part.scalar) for part in parts]
        return Part(Scalar(self.b.op("Einsum", *names, equation=equation)), kept)

    def _reduced(self, kind: str, name: str, axes: tuple[str, ...], over: Sequence[str]) -> Part:
        places = [k for k, axis in enumerate(axes) if axis in over]
        kept = tuple(a for a in axes if a not in over)
        found = self.b.reduce(kind, name, places, keep=False) if places else name
        return Part(Scalar(found), kept)

    # ---- axes -----------------------------------------------------------------------------

    def _ordered(self, axes: set[str]) -> tuple[str, ...]:
        return tuple(sorted(axes, key=self._place.__getitem__))

    def _aligned(self, name: str, own: tuple[str, ...], axes: Sequence[str]) -> str:
        """With axes of size 1 for those that it lacks, but for the first ones."""
        if not own:
            return name
        behind = list(axes)[list(axes).index(own[0]) :]
        return self.b.unsqueeze(name, [k for k, axis in enumerate(behind) if axis not in own])

    # ---- reads ----------------------------------------------------------------------------

    def _read(self, read: Read) -> Part:
        constant = self.formula.constants.get(read.tensor)
        if constant is not None:
            name, shape = self.b.constant(constant.astype(np.float32)), np.shape(constant)
        else:
            name, shape = self.tensors[read.tensor], self.formula.shapes[read.tensor]
        axes = [axis for index in read.index for axis, _ in index.terms]
        if len(set(axes)) == len(axes):
            return self._separately(read, name, shape)
        return self._together(read, name, shape)

    def _separately(self, read: Read, name: str, shape: tuple[int, ...]) -> Part:
        """Along one axis of the tensor after another, the last one first."""
        axes: list[str] = []
        for k in reversed(range(len(shape))):
            index = read.index[k]
            plain = index.axis is not None and (
                self.formula.sizes[index.axis] == shape[k] or index.axis == self.formula.free[0]
            )
            if not plain:
                table = self._table([index])[0]
                name = self._gathered(name, k, table, shape[k], k + 1 + len(axes), read)
            axes = [axis for axis, _ in index.terms] + axes
        return self._sorted(name, axes)

    def _gathered(
        self, name: str, axis: int, table: NDArray[Any], size: int, rank: int, read: Read
    ) -> str:
        """Places along an axis; those outside read one more place that is added behind."""
        b, inside = self.b, (table >= 0) & (table < size)
        if not inside.all():
            pads = [0] * rank + [int(k == axis) for k in range(rank)]
            name = b.pad(name, pads, value=self.formula.outside.get(read.tensor, 0.0))
            table = np.where(inside, table, size)
        return b.op("Gather", name, b.constant(table.astype(np.int64)), axis=axis)

    def _together(self, read: Read, name: str, shape: tuple[int, ...]) -> Part:
        """Where two axes of the tensor share an axis of the formula: one table of all places."""
        batched = int(read.index[0].axis == self.formula.free[0])
        tables = self._table(read.index[batched:])
        inner = shape[batched:]
        inside = np.ones((), bool)
        for table, size in zip(tables, inner, strict=True):
            inside = inside & (table >= 0) & (table < size)
        clipped = [np.clip(t, 0, n - 1) for t, n in zip(tables, inner, strict=True)]
        places = np.ravel_multi_index(tuple(np.broadcast_arrays(*clipped)), inner)
        count = math.prod(inner)
        flat = self.b.op("Reshape", name, self.b.integers([*([0] * batched), count]))
        table = np.where(inside, places, count)
        found = self._gathered(flat, batched, table, count, batched + 1, read)
        axes = self._axes_of(read.index[batched:])
        return self._sorted(found, [*([self.formula.free[0]] * batched), *axes])

    def _axes_of(self, indices: Sequence[Index]) -> list[str]:
        return list(dict.fromkeys(axis for index in indices for axis, _ in index.terms))

    def _table(self, indices: Sequence[Index]) -> list[NDArray[Any]]:
        """The value of each index, one dimension for each axis that any of them has."""
        axes = self._axes_of(indices)
        sizes = [self.formula.sizes[a] for a in axes]
        grid = dict(zip(axes, np.indices(sizes), strict=True))
        return [np.asarray(index.at(grid), np.int64) for index in indices]

    def _sorted(self, name: str, axes: Sequence[str]) -> Part:
        ordered = self._ordered(set(axes))
        return Part(Scalar(self.b.transpose(name, [list(axes).index(a) for a in ordered])), ordered)
