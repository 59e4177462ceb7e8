"""Pooling to a fixed number of windows: adaptive and fractional. Formulas and shape rules.

The windows lie where a table says: window i of an axis covers the places `table[i·K + p]`, p from
0 to below K, the longest window's length; shorter ones are filled up with −1, which reads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Index, Max, Sum
from striate.formula.formula import Cost, Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    require_rank,
    sizes_attribute,
)
from striate.formula.pool import PLACES, SPACE, TAPS, C, N, look_up, separable, sizes_of

Spans = Sequence[tuple[int, int]]  # first and past-the-last place of each window along an axis


class TableWindows(Operation):
    """Pooling over windows whose first and last places are listed, axis by axis."""

    arguments = ("x",)

    def _output_sizes(self, attributes: Attributes, x: Shape) -> tuple[int, ...]:
        """The sizes of the output along its axes of space; `x` without the batch."""
        raise OptionError(f"{self.name}: the number of windows is not known.")

    def _spans(self, attributes: Attributes, x: Shape) -> list[Spans]:
        """The windows along each axis of space; `x` without the batch."""
        raise OptionError(f"{self.name}: the windows are not known.")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        return (x[0] if x else 0, *self._output_sizes(attributes, x))

    def _read(self, spans: Sequence[Spans]) -> tuple[tuple[Index, ...], dict[str, int]]:
        """The indices of space of the windows' places, and the sizes of their axes."""
        rank = len(spans)
        longest = [max(stop - start for start, stop in along) for along in spans]
        spots = tuple(
            _spot(i, p, along, k)
            for i, p, along, k in zip(PLACES[rank], TAPS[rank], spans, longest, strict=True)
        )
        counts = sizes_of(PLACES[rank], [len(along) for along in spans])
        return spots, {**counts, **sizes_of(TAPS[rank], longest)}

    def _largest(self, attributes: Attributes, x: Shape) -> Formula:
        spans = self._spans(attributes, x[1:])
        spots, sizes = self._read(spans)
        rank = len(spans)
        return Formula(
            (N, C, *PLACES[rank]),
            Max(TAPS[rank], look_up("x", N, C, *spots)),
            {"n": x[0], "c": x[1], **sizes},
            {"x": x},
            outside={"x": -math.inf},
        )

    def cost(self, attributes: Attributes, shapes: Sequence[Shape]) -> Cost:
        """An operation for each number that a window reads."""
        x = tuple(shapes[0])
        reads = math.prod(
            sum(stop - start for start, stop in along) for along in self._spans(attributes, x)
        )
        return Cost(0, x[0] * reads)


def _spot(i: Index, p: Index, along: Spans, longest: int) -> Index:
    """Place p of window i."""
    if len({stop - start for start, stop in along}) == 1:
        starts = [start for start, _ in along]
        if starts == [k * longest for k in range(len(starts))]:
            return i * longest + p  # windows side by side need no table
    table = [start + k if k < stop - start else -1 for start, stop in along for k in range(longest)]
    return (i * longest + p).through(table)


def adaptive_windows(size: int, count: int) -> list[tuple[int, int]]:
    """First and past-the-last place of `count` windows over a row of `size`.

    >>> adaptive_windows(5, 3)
    [(0, 2), (1, 4), (3, 5)]
    """
    return [(k * size // count, -(-(k + 1) * size // count)) for k in range(count)]


class Adaptive(TableWindows):
    """h×w windows that together cover the image, whatever its size.

    Window i reaches from `⌊i·ih/h⌋` to below `⌈(i+1)·ih/h⌉`.
    """

    attributes = ("output",)
    stem = ""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.name = f"{self.stem}{rank}d"

    def _output_sizes(self, attributes: Attributes, x: Shape) -> tuple[int, ...]:
        require_rank(self.name, "x", x, f"channels, {', '.join(SPACE[self.rank])}")
        return sizes_attribute(self.name, attributes, "output", self.rank)

    def _spans(self, attributes: Attributes, x: Shape) -> list[Spans]:
        output = self._output_sizes(attributes, x)
        return [adaptive_windows(size, k) for size, k in zip(x[1:], output, strict=True)]


class AdaptiveMaxPool(Adaptive):
    """`y[n,c,i,j] = max_{p,q} x[n,c,p,q]` over window (i, j) of those that cover the image.

    Along an axis of `size` places with `h` windows, window i reaches from `⌊i·size/h⌋` to below
    `⌈(i+1)·size/h⌉`.

    Input: x (n, channels, …) with one to three axes of space. Output: (n, channels, *output).

    >>> AdaptiveMaxPool(2).shape({"output": [6, 6]}, [(256, 13, 13)])
    (256, 6, 6)
    """

    stem = "adaptive_max_pool"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        return self._largest(attributes, tuple(shapes[0]))


class AdaptiveAvgPool(Adaptive):
    """`y[n,c,i,j] = Σ_{p,q} x[n,c,p,q] / count` over window (i, j) of those that cover the image.

    Along an axis of `size` places with `h` windows, window i reaches from `⌊i·size/h⌋` to below
    `⌈(i+1)·size/h⌉`. Where h divides the size this is average pooling with stride = kernel = the
    quotient.

    Input: x (n, channels, …) with one to three axes of space. Output: (n, channels, *output).

    >>> AdaptiveAvgPool(2).shape({"output": [6, 6]}, [(256, 13, 13)])
    (256, 6, 6)
    """

    stem = "adaptive_avg_pool"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        spans, rank = self._spans(attributes, x[1:]), self.rank
        spots, sizes = self._read(spans)
        total: Expr = Sum(TAPS[rank], look_up("x", N, C, *spots))
        lengths = [np.array([float(b - a) for a, b in along]) for along in spans]
        sizes = {"n": x[0], "c": x[1], **sizes}
        output = (N, C, *PLACES[rank])
        if all(len(set(along)) == 1 for along in lengths):
            whole = math.prod(int(along[0]) for along in lengths)
            return Formula(output, total / whole, sizes, {"x": x})
        count, constants = separable("count", lengths, PLACES[rank])
        return Formula(output, total / count, sizes, {"x": x}, constants=constants)


class FractionalMaxPool(TableWindows):
    """`y[n,c,i,j] = max_{p,q} x[n, c, a[i] + p, b[j] + q]`: windows that begin where drawn.

    The attribute `starts` lists, for each axis of space, where each window begins (a and b).

    Input: x (n, channels, …) with one to three axes of space. Output: a window for each start.

    Source: Graham, Fractional max-pooling, arXiv:1412.6071.

    >>> FractionalMaxPool().shape({"kernel": [2], "starts": [[0, 1, 3]]}, [(4, 5)])
    (4, 3)
    """

    name = "fractional_max_pool"
    attributes = ("kernel", "starts")

    def _output_sizes(self, attributes: Attributes, x: Shape) -> tuple[int, ...]:
        starts = attributes["starts"]
        if not isinstance(starts, Sequence) or len(starts) not in SPACE:
            raise OptionError(
                f"{self.name}: starts expected one to three lists, one an axis of space; "
                f"got {starts!r}."
            )
        space = SPACE[len(starts)]
        require_rank(self.name, "x", x, f"channels, {', '.join(space)}")
        kernel = sizes_attribute(self.name, attributes, "kernel", len(starts))
        for axis, size, k, along in zip(space, x[1:], kernel, starts, strict=True):
            if not along or min(along) < 0 or max(along) + k > size:
                raise ShapeError(
                    f"{self.name}: expected windows inside the {axis} of {size}; got windows of "
                    f"{k} that begin at {list(along)}. Draw the starts for this size."
                )
        return tuple(len(along) for along in starts)

    def _spans(self, attributes: Attributes, x: Shape) -> list[Spans]:
        self._output_sizes(attributes, x)
        kernel, starts = attributes["kernel"], attributes["starts"]
        return [[(a, a + k) for a in along] for k, along in zip(kernel, starts, strict=True)]

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        return self._largest(attributes, tuple(shapes[0]))
