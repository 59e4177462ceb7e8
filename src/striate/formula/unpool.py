"""Where maxima were (switches), and putting numbers back there. Formulas and shape rules.

A switch is the flat position of a maximum in its plane, row by row, as PyTorch counts: a whole
number that float32 holds exactly below 2²⁴.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.adaptive_pool import AdaptiveMaxPool, FractionalMaxPool
from striate.formula.expression import Expr, Index, Max, Reduce, Tensor, call, minimum, where
from striate.formula.formula import Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Shape,
    require_attributes,
    require_rank,
    sizes_attribute,
)
from striate.formula.pool import PLACES, SPACE, TAPS, C, N, Windows, _MaxPool, look_up, sizes_of

_EXACT = 2**24


def _switches(pooled: Formula) -> Formula:
    """The formula of where the maxima of a max pooling are, from that of their values.

    The first place of a window that holds the maximum; with NaNs in it, the first NaN.
    """
    largest = pooled.body
    if not isinstance(largest, Reduce):
        raise OptionError(f"switches: expected a maximum over windows; got {largest}.")
    read, shape = largest.body, pooled.shapes["x"]
    space = read.index[2:]  # type: ignore[attr-defined]
    place, constants = _flat(shape[2:], space)
    strange = where(call("ne", read, read), place, math.inf)  # only NaN differs from itself
    hit = where(call("ge", read, largest), place, strange)
    over = tuple(Index(((axis, 1),)) for axis in largest.over)
    outside = {**pooled.outside, **dict.fromkeys(constants, math.inf)}
    last = math.prod(shape[2:]) - 1
    body = minimum(-Max(over, -hit), last)  # dilated windows may miss a small image altogether
    return Formula(
        pooled.output, body, pooled.sizes, pooled.shapes, outside, constants, result="place"
    )


def _flat(image: Shape, at: Sequence[Index]) -> tuple[Expr, dict[str, Array]]:
    """The flat position of a place as a sum of one table an axis, and those tables."""
    body: Expr | None = None
    constants: dict[str, Array] = {}
    for k, (axis, size) in enumerate(zip(SPACE[len(image)], image, strict=True)):
        constants[axis] = np.arange(size, dtype=float) * math.prod(image[k + 1 :])
        part = Tensor(axis)[at[k]]
        body = part if body is None else body + part
    return body if body is not None else call("add", 0, 0), constants


def require_exact(name: str, image: Shape) -> None:
    """Refuse planes whose flat positions float32 cannot count."""
    if math.prod(image) > _EXACT:
        raise ShapeError(
            f"{name}: expected planes of at most 2^24 = {_EXACT} places, which float32 can "
            f"number; got {'·'.join(map(str, image))} = {math.prod(image)}. Pool smaller pieces."
        )


class MaxPoolIndices(Windows):
    """The flat position in its plane of each window's first maximum; see `max_pool2d`.

    Input: x (n, channels, …) with one to three axes of space. Output: a number for each window.
    There is no gradient.

    >>> settings = {"kernel": [2], "stride": [2], "padding": [[0, 0]], "dilation": [1]}
    >>> MaxPoolIndices().reference(settings, [[[[1.0, 2.0, 4.0, 3.0]]]])
    array([[[1., 2.]]])
    """

    name = stem = "max_pool_indices"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        found = super().shape(attributes, shapes)
        require_exact(self.name, tuple(shapes[0][1:]))
        return found

    def differentiable(self, argument: str) -> bool:
        return False

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        return _switches(_MaxPool(self._rank(attributes)).formula(attributes, shapes))


class AdaptiveMaxPoolIndices(AdaptiveMaxPool):
    """The flat position in its plane of each window's first maximum; see `adaptive_max_pool2d`.

    Input: x (n, channels, …). Output: a number for each window. There is no gradient.
    """

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.name += "_indices"

    def differentiable(self, argument: str) -> bool:
        return False

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        require_exact(self.name, tuple(shapes[0][2:]))
        return _switches(super().formula(attributes, shapes))


class FractionalMaxPoolIndices(FractionalMaxPool):
    """The flat position in its plane of each window's first maximum; see `fractional_max_pool`.

    Input: x (n, channels, …). Output: a number for each window. There is no gradient.
    """

    name = "fractional_max_pool_indices"

    def differentiable(self, argument: str) -> bool:
        return False

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        require_exact(self.name, tuple(shapes[0][2:]))
        return _switches(super().formula(attributes, shapes))


class MaxUnpool(Windows):
    """Each number put back to the place that its switch names; 0 elsewhere.

    `y[n,c,h,w] = x[n,c,i,j]` where `indices[n,c,i,j] = h·W + w`. Each place looks only at the
    windows that it is in: `i = (h + P − p·d)/s`, over whole quotients. Where overlapping windows
    name the same place the largest number counts; so max pooling and unpooling with its switches
    keeps the maxima where they were.

    Inputs: x and indices (n, channels, …) with one to three axes of space.
    Output: (n, channels, *output).

    Source: Zeiler & Fergus, Visualizing and understanding convolutional networks,
    arXiv:1311.2901; Noh, Hong & Han, arXiv:1505.04366.
    """

    name = stem = "max_unpool"
    arguments = ("x", "indices")
    attributes = ("kernel", "stride", "padding", "dilation", "output")

    def differentiable(self, argument: str) -> bool:
        return argument == "x"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, rank = tuple(shapes[0]), self._rank(attributes)
        require_rank(self.name, "x", x, f"channels, {', '.join(SPACE[rank])}")
        if tuple(shapes[1]) != x:
            raise ShapeError(
                f"{self.name}: expected one index for each number; got x {x} and indices "
                f"{tuple(shapes[1])} besides the batch."
            )
        output = sizes_attribute(self.name, attributes, "output", rank)
        require_exact(self.name, output)
        windows = zip(SPACE[rank], output, *self._windows(attributes), strict=True)
        places = tuple(self._count(*along) for along in windows)
        if places != x[1:]:
            raise ShapeError(
                f"{self.name}: expected the output of max pooling an image of {output}, whose "
                f"windows are {places}; got x {x}. Give as output_size the size of the image "
                f"that was pooled."
            )
        return (x[0], *output)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, rank = tuple(shapes[0]), self._rank(attributes)
        kernel, stride, padding, dilation = self._windows(attributes)
        output = tuple(attributes["output"])
        along = zip(PLACES[rank], TAPS[rank], stride, padding, dilation, strict=True)
        window = tuple((h - p * d + before) // s for h, p, s, (before, _), d in along)
        here, constants = _flat(output, PLACES[rank])
        value, switch = (look_up(name, N, C, *window) for name in self.arguments)
        hit = where(call("eq", switch, here), value, -math.inf)
        largest = Max(TAPS[rank], hit)
        sizes = {"n": x[0], "c": x[1]}
        sizes |= sizes_of(PLACES[rank], output) | sizes_of(TAPS[rank], kernel)
        return Formula(
            (N, C, *PLACES[rank]),
            where(call("eq", largest, -math.inf), 0, largest),
            sizes,
            {"x": x, "indices": tuple(shapes[1])},
            outside={"indices": -1.0},
            constants=constants,
        )
