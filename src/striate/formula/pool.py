"""Pooling: the largest or the mean number of each window. Formulas and shape rules.

Of sequences, images and volumes: one rule for all, `Windows`. Other things that a window may be
summed up as are in `window_pool`; windows that adapt to the image in `adaptive_pool`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from striate.errors import OptionError
from striate.formula.expression import Expr, Index, Max, Read, Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    padding_attribute,
    require_attributes,
    require_rank,
    sizes_attribute,
)
from striate.shapes import conv_output_size, require_output

SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
PLACES = {1: axes("i"), 2: axes("i j"), 3: axes("k i j")}  # axes of the output
TAPS = {1: axes("p"), 2: axes("p q"), 3: axes("r p q")}  # axes of a window
N, C = axes("n c")


def sizes_of(names: Sequence[Index], sizes: Sequence[int]) -> dict[str, int]:
    """Axis name -> number of values."""
    return {str(axis): int(size) for axis, size in zip(names, sizes, strict=True)}


def look_up(tensor: str, *index: Index) -> Read:
    """The read `tensor[index]`."""
    return Tensor(tensor)[index]


class Windows(Operation):
    """What all poolings over windows share: their attributes, sizes and where they lie.

    `rank` counts the axes of space; 0 stands for as many as the kernel has sizes.
    """

    arguments: tuple[str, ...] = ("x",)
    attributes: tuple[str, ...] = ("kernel", "stride", "padding", "dilation")
    rank = 0
    stem = ""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank or self.rank
        self.name = f"{self.stem}{self.rank}d" if self.rank else self.stem

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, rank = tuple(shapes[0]), self._rank(attributes)
        require_rank(self.name, "x", x, f"channels, {', '.join(SPACE[rank])}")
        windows = zip(SPACE[rank], x[1:], *self._windows(attributes), strict=True)
        return (x[0], *(self._count(*along) for along in windows))

    def _rank(self, attributes: Attributes) -> int:
        if self.rank:
            return self.rank
        kernel = attributes["kernel"]
        if not isinstance(kernel, Sequence) or len(kernel) not in SPACE:
            raise OptionError(
                f"{self.name}: kernel expected one to three sizes, one an axis of space; "
                f"got {kernel!r}."
            )
        return len(kernel)

    def _windows(
        self, attributes: Attributes
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
        """Kernel, stride, padding and dilation, each with an entry for an axis of space."""
        rank = self._rank(attributes)
        kernel, stride = (
            sizes_attribute(self.name, attributes, key, rank, 1) for key in ("kernel", "stride")
        )
        dilation = (1,) * rank
        if "dilation" in self.attributes:
            dilation = sizes_attribute(self.name, attributes, "dilation", rank, 1)
        return kernel, stride, padding_attribute(self.name, attributes, rank), dilation

    def _count(
        self, axis: str, size: int, kernel: int, stride: int, padding: tuple[int, int], step: int
    ) -> int:
        """How many windows lie along an axis; windows that hold padding only are refused."""
        reach, (before, after) = step * (kernel - 1) + 1, padding
        last = conv_output_size(size, kernel, stride, before + after, step) - 1
        if before > reach // 2 or (after > reach // 2 and last * stride - before >= size):
            raise OptionError(
                f"{self.name}: padding expected at most half of the window, {reach // 2}; got "
                f"{list(padding)} along {axis}, where the window reaches over {reach}. "
                f"More would make windows that hold padding only."
            )
        return require_output(self.name, axis, size, kernel, stride, padding, step)

    def _spots(self, attributes: Attributes) -> tuple[Index, ...]:
        """`i·s + p·d − P` along each axis of space."""
        rank = self._rank(attributes)
        _, stride, padding, dilation = self._windows(attributes)
        along = zip(PLACES[rank], TAPS[rank], stride, padding, dilation, strict=True)
        return tuple(i * s + p * d - before for i, p, s, (before, _), d in along)

    def _over(self, attributes: Attributes) -> tuple[Index, ...]:
        """The axes that a window runs over."""
        return TAPS[self._rank(attributes)]

    def _output(self, attributes: Attributes) -> tuple[Index, ...]:
        return (N, C, *PLACES[self._rank(attributes)])

    def _sizes(self, attributes: Attributes, x: Shape) -> dict[str, int]:
        output = self.shape(attributes, [x[1:], *[()] * (len(self.arguments) - 1)])
        return {
            **sizes_of(self._output(attributes), (x[0], *output)),
            **sizes_of(self._over(attributes), self._windows(attributes)[0]),
        }


class _MaxPool(Windows):
    """`y[n,c,i,j] = max_{p,q} x[n, c, i·s + p·d − P, j·s + q·d − P]`, 1-D to 3-D.

    Outside the image x is −∞. A NaN in a window comes out; of equal maxima the first (row by row)
    gets the gradient.

    Input: x (n, channels, …). Output: (n, channels, …), as many axes.
    """

    stem = "max_pool"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        return Formula(
            self._output(attributes),
            Max(self._over(attributes), look_up("x", N, C, *self._spots(attributes))),
            self._sizes(attributes, x),
            {"x": x},
            outside={"x": -math.inf},
        )


class MaxPool2d(_MaxPool):
    """Max pooling of images: `y[n,c,i,j] = max_{p,q} x[n, c, i·s + p·d − P, j·s + q·d − P]`.

    Outside the image x is −∞. A NaN in a window comes out; of equal maxima the first (row by row)
    gets the gradient.

    Input: x (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> settings = {"kernel": [2, 2], "stride": [2, 2], "padding": [[0, 0], [0, 0]],
    ...             "dilation": [1, 1]}
    >>> MaxPool2d().shape(settings, [(6, 28, 28)])
    (6, 14, 14)
    """

    rank = 2


class MaxPool1d(_MaxPool):
    """Max pooling of sequences: `y[n,c,i] = max_p x[n, c, i·s + p·d − P]`; see `MaxPool2d`."""

    rank = 1


class MaxPool3d(_MaxPool):
    """Max pooling of volumes (n, channels, id, ih, iw); see `MaxPool2d`."""

    rank = 3


def axis_counts(
    size: int,
    windows: int,
    along: tuple[int, int, tuple[int, int], int],
    counted: tuple[int, int],
    weights: Array | None = None,
) -> Array:
    """The weight (or number) of the places that count, in each window along an axis.

    Args:
        size: of the input.
        windows: how many.
        along: kernel, stride, padding and dilation of the axis.
        counted: how much of the padding counts, (before, after).
        weights: of a window's places; 1 each if not given.

    >>> axis_counts(5, 3, (2, 2, (0, 1), 1), (0, 0))
    array([2., 2., 1.])
    """
    kernel, stride, (before, _), step = along
    spots = np.arange(windows)[:, None] * stride + np.arange(kernel) * step - before
    inside = (spots >= -counted[0]) & (spots < size + counted[1])
    found: Array = inside @ (np.ones(kernel) if weights is None else weights)
    return found


def separable(
    name: str, tables: Sequence[Array], at: Sequence[Index]
) -> tuple[Expr, dict[str, Array]]:
    """A product of one table an axis, `a[i]·b[j]`, and the constants that it reads."""
    names = [f"{name}_{axis}" for axis in at]
    body: Expr = Tensor(names[0])[at[0]]
    for key, axis in zip(names[1:], at[1:], strict=True):
        body = body * Tensor(key)[axis]
    return body, dict(zip(names, tables, strict=True))


class _AvgPool(Windows):
    """`y[n,c,i,j] = Σ_{p,q} x[n, c, i·s + p − P, j·s + q − P] / (kh·kw)`, 1-D to 3-D.

    With `count_include_pad` false the divisor is the number of places inside the image.

    Input: x (n, channels, …). Output: (n, channels, …), as many axes.
    """

    stem = "avg_pool"
    attributes = ("kernel", "stride", "padding", "count_include_pad")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        if not isinstance(attributes["count_include_pad"], bool):
            raise OptionError(
                f"{self.name}: count_include_pad expected true or false; "
                f"got {attributes['count_include_pad']!r}."
            )
        return super().shape(attributes, shapes)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        total = Sum(self._over(attributes), look_up("x", N, C, *self._spots(attributes)))
        sizes, output = self._sizes(attributes, x), self._output(attributes)
        windows = self._windows(attributes)
        padded = any(any(side) for side in attributes["padding"])
        if attributes["count_include_pad"] or not padded:
            return Formula(output, total / math.prod(windows[0]), sizes, {"x": x})
        counts = [
            axis_counts(size, sizes[str(axis)], along, (0, 0))
            for size, axis, along in zip(x[2:], output[2:], zip(*windows, strict=True), strict=True)
        ]
        inside, constants = separable("inside", counts, output[2:])
        return Formula(output, total / inside, sizes, {"x": x}, constants=constants)


class AvgPool2d(_AvgPool):
    """Average pooling of images: `Σ_{p,q} x[n, c, i·s + p − P, j·s + q − P] / (kh·kw)`.

    With `count_include_pad` false the divisor is the number of places inside the image.

    Input: x (n, channels, ih, iw). Output: (n, channels, oh, ow).
    """

    rank = 2


class AvgPool1d(_AvgPool):
    """Average pooling of sequences (n, channels, length); see `AvgPool2d`."""

    rank = 1


class AvgPool3d(_AvgPool):
    """Average pooling of volumes (n, channels, id, ih, iw); see `AvgPool2d`."""

    rank = 3
