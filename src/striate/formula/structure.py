"""Operations that move numbers: concat, slice, reshape, flip, roll; and dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    require_attributes,
    whole_attribute,
)
from striate.random import Draw, dropout_uniform


class _Mover(Operation):
    has_formula = False
    arguments = ("x",)


class Concat(_Mover):
    """The inputs one after another along `axis` (which counts the batch axis, so it is ≥ 1).

    >>> Concat().shape({"axis": 1}, [(4, 8, 8), (2, 8, 8)])
    (6, 8, 8)
    """

    name = "concat"
    attributes = ("axis",)

    def argument_names(self, attributes: Attributes, count: int) -> tuple[str, ...]:
        if count < 1:
            raise ShapeError("concat: expected at least one input; got none.")
        return tuple(f"x{k}" for k in range(count))

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        axis = _axis(self.name, attributes, shapes[0])
        rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(rests) != 1 or len({len(shape) for shape in shapes}) != 1:
            listed = ", ".join(str(tuple(shape)) for shape in shapes)
            raise ShapeError(
                f"concat: expected shapes that are equal but for axis {axis + 1} (the batch is "
                f"axis 0); got {listed} besides the batch."
            )
        total = sum(shape[axis] for shape in shapes)
        return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        parts = [np.asarray(a, np.float64) for a in arrays]
        return np.concatenate(parts, axis=int(attributes["axis"]))

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        axis = int(attributes["axis"])
        ends = np.cumsum([np.shape(a)[axis] for a in arrays])
        return list(np.split(np.asarray(upstream, np.float64), ends[:-1], axis=axis))

    def source(
        self, attributes: Attributes, shapes: Sequence[Shape], at: Shape
    ) -> tuple[int, Shape]:
        axis = int(attributes["axis"]) - 1
        place = at[axis]
        for number, shape in enumerate(shapes):
            if place < shape[axis]:
                return number, (*at[:axis], place, *at[axis + 1 :])
            place -= shape[axis]
        raise OptionError(f"concat: expected a place in the output; got {at}.")


class Slice(_Mover):
    """`y = x[…, start:stop, …]` along `axis` (which counts the batch axis, so it is ≥ 1).

    >>> Slice().shape({"axis": 1, "start": 2, "stop": 6}, [(8, 5)])
    (4, 5)
    """

    name = "slice"
    attributes = ("axis", "start", "stop")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        axis = _axis(self.name, attributes, x)
        start = whole_attribute(self.name, attributes, "start", 0)
        stop = whole_attribute(self.name, attributes, "stop", 1)
        if not start < stop <= x[axis]:
            raise ShapeError(
                f"slice: expected 0 ≤ start < stop ≤ {x[axis]} along axis {axis + 1}; got "
                f"start={start}, stop={stop}, shape {x} besides the batch."
            )
        return (*x[:axis], stop - start, *x[axis + 1 :])

    def _part(self, attributes: Attributes) -> tuple[slice, ...]:
        axis = int(attributes["axis"])
        part = slice(int(attributes["start"]), int(attributes["stop"]))
        return (*(slice(None),) * axis, part)

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        return np.array(np.asarray(arrays[0], np.float64)[self._part(attributes)])

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        whole = np.zeros(np.shape(arrays[0]))
        whole[self._part(attributes)] = upstream
        return [whole]

    def source(
        self, attributes: Attributes, shapes: Sequence[Shape], at: Shape
    ) -> tuple[int, Shape]:
        axis = int(attributes["axis"]) - 1
        return 0, (*at[:axis], at[axis] + int(attributes["start"]), *at[axis + 1 :])


class Reshape(_Mover):
    """The numbers of each sample in another shape, in C order; one entry may be −1.

    >>> Reshape().shape({"shape": [-1]}, [(16, 5, 5)])
    (400,)
    """

    name = "reshape"
    attributes = ("shape",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        count = math.prod(shapes[0])
        target = [int(k) for k in attributes["shape"]]
        if target.count(-1) > 1 or any(k < 1 and k != -1 for k in target):
            raise OptionError(
                f"reshape: shape expected positive sizes and at most one -1; got {target}."
            )
        known = math.prod(k for k in target if k != -1)
        shape = tuple(count // known if k == -1 else k for k in target)
        if math.prod(shape) != count:
            raise ShapeError(
                f"reshape: expected a shape of {'·'.join(map(str, shapes[0])) or 1} = {count} "
                f"numbers a sample; got {target} for an input of shape {tuple(shapes[0])}."
            )
        return shape

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        x = np.array(arrays[0], np.float64)
        return x.reshape(x.shape[0], *self.shape(attributes, [x.shape[1:]]))

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        return [np.array(upstream, np.float64).reshape(np.shape(arrays[0]))]

    def source(
        self, attributes: Attributes, shapes: Sequence[Shape], at: Shape
    ) -> tuple[int, Shape]:
        flat = np.ravel_multi_index(at, self.shape(attributes, shapes))
        return 0, tuple(int(k) for k in np.unravel_index(flat, shapes[0]))


class Dropout(_Mover):
    """In training `y = x/(1−p)` where a uniform number is ≥ p, else 0; otherwise `y = x`.

    The number depends on (seed, step, site, sample's position in the batch, element) only; see
    `striate.random.dropout_uniform`. `site` tells the dropouts of one network apart.

    Source: Srivastava et al., Journal of Machine Learning Research 15 (2014).
    """

    name = "dropout"
    draws = True
    attributes = ("p", "site")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        whole_attribute(self.name, attributes, "site", 0)
        p = attributes["p"]
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
            raise OptionError(f"dropout: p expected a number from 0 to below 1; got {p!r}.")
        return tuple(shapes[0])

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        return np.array(arrays[0], np.float64)

    def training(self, attributes: Attributes, x: ArrayLike, draw: Draw) -> Array:
        """The output in training; its gradient is the same function of the upstream gradient."""
        values, p = np.asarray(x, np.float64), float(attributes["p"])
        samples = np.arange(values.shape[0])
        elements = math.prod(values.shape[1:])
        u = dropout_uniform(draw.seed, draw.step, int(attributes["site"]), samples, elements)
        kept = u.reshape(values.shape) >= p
        return np.where(kept, values / (1.0 - p), 0.0)

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        return [np.array(upstream, np.float64)]

    def source(
        self, attributes: Attributes, shapes: Sequence[Shape], at: Shape
    ) -> tuple[int, Shape]:
        return 0, tuple(at)


class Flip(Operation):
    """`y[n,i] = x[n, I − 1 − i]`: the order turned round along some axes.

    Attributes: `axes`, counting the batch as 0. Input: x (n, …). Output: the same shape.

    >>> Flip().reference({"axes": [1]}, [[[1.0, 2.0, 3.0]]])
    array([[3., 2., 1.]])
    """

    name = "flip"
    arguments = ("x",)
    attributes = ("axes",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        for axis in attributes["axes"]:
            _axis(self.name, {"axis": axis}, shapes[0])
        return tuple(shapes[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, turned = tuple(shapes[0]), list(attributes["axes"])
        place = axes(" ".join(["n", *(f"k{k}" for k in range(1, len(x)))]))
        read = [axis * -1 + (x[k] - 1) if k in turned else axis for k, axis in enumerate(place)]
        sizes = {str(axis): size for axis, size in zip(place, x, strict=True)}
        return Formula(place, Tensor("x")[tuple(read)], sizes, {"x": x})


class Roll(Operation):
    """`y[n,i] = x[n, (i − shift) mod I]`: shifted along axes, what leaves one end enters the other.

    Attributes: `axes`, counting the batch as 0, and a shift for each in `shifts`.
    Input: x (n, …). Output: the same shape.

    >>> Roll().reference({"axes": [1], "shifts": [1]}, [[[1.0, 2.0, 3.0]]])
    array([[3., 1., 2.]])
    """

    name = "roll"
    arguments = ("x",)
    attributes = ("axes", "shifts")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        over, shifts = list(attributes["axes"]), list(attributes["shifts"])
        whole = all(isinstance(k, int) and not isinstance(k, bool) for k in shifts)
        if len(over) != len(shifts) or len(set(over)) != len(over) or not whole:
            raise OptionError(
                f"roll: expected a whole shift for each of different axes; got axes={over}, "
                f"shifts={shifts}."
            )
        for axis in over:
            _axis(self.name, {"axis": axis}, shapes[0])
        return tuple(shapes[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        shifts = dict(zip(attributes["axes"], attributes["shifts"], strict=True))
        place = axes(" ".join(["n", *(f"k{k}" for k in range(1, len(x)))]))
        read = [
            (axis - shifts[k] % x[k]) % x[k] if shifts.get(k, 0) % x[k] else axis
            for k, axis in enumerate(place)
        ]
        sizes = {str(axis): size for axis, size in zip(place, x, strict=True)}
        return Formula(place, Tensor("x")[tuple(read)], sizes, {"x": x})


def _axis(name: str, attributes: Attributes, shape: Shape) -> int:
    """The axis as counted without the batch."""
    axis = whole_attribute(name, attributes, "axis", 1)
    if axis > len(shape):
        raise ShapeError(
            f"{name}: expected an axis from 1 to {len(shape)}; got axis={axis} for shape "
            f"{tuple(shape)} besides the batch."
        )
    return axis - 1
