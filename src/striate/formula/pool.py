"""Pooling: the largest or the mean number of each window. Formulas and shape rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from striate.errors import OptionError
from striate.formula.expression import Max, Read, Sum, Tensor, axes
from striate.formula.formula import Cost, Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    padding_attribute,
    pair_attribute,
    require_attributes,
    require_rank,
)
from striate.shapes import conv_output_size, require_output

_AXES = ("height", "width")
_N, _C, _I, _J, _P, _Q = axes("n c i j p q")


class _Pool(Operation):
    arguments = ("x",)

    def _dilation(self, attributes: Attributes) -> tuple[int, int]:
        return (1, 1)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = shapes[0]
        require_rank(self.name, "x", x, "channels, height, width")
        kernel = pair_attribute(self.name, attributes, "kernel")
        stride = pair_attribute(self.name, attributes, "stride")
        padding, dilation = padding_attribute(self.name, attributes), self._dilation(attributes)
        for k, axis in enumerate(_AXES):
            self._require_pixels(axis, x[1 + k], kernel[k], stride[k], padding[k], dilation[k])
        sizes = (
            require_output(self.name, axis, x[1 + k], kernel[k], stride[k], padding[k], dilation[k])
            for k, axis in enumerate(_AXES)
        )
        return (x[0], *sizes)

    def _require_pixels(
        self, axis: str, size: int, kernel: int, stride: int, padding: tuple[int, int], step: int
    ) -> None:
        """Refuse windows that hold padding only."""
        reach, (before, after) = step * (kernel - 1) + 1, padding
        last = conv_output_size(size, kernel, stride, before + after, step) - 1
        if before > reach // 2 or (after > reach // 2 and last * stride - before >= size):
            raise OptionError(
                f"{self.name}: padding expected at most half of the window, {reach // 2}; got "
                f"{list(padding)} along {axis}, where the window reaches over {reach}. "
                f"More would make windows that hold padding only."
            )

    def _window(self, attributes: Attributes) -> Read:
        """`x[n, c, i·s + p·d − P, j·s + q·d − P]`."""
        (sh, sw), (dh, dw) = attributes["stride"], self._dilation(attributes)
        rows, columns = padding_attribute(self.name, attributes)
        return Tensor("x")[_N, _C, _I * sh + _P * dh - rows[0], _J * sw + _Q * dw - columns[0]]

    def _sizes(self, attributes: Attributes, x: Shape) -> dict[str, int]:
        _, height, width = self.shape(attributes, [x[1:]])
        kh, kw = attributes["kernel"]
        return {"n": x[0], "c": x[1], "i": height, "j": width, "p": kh, "q": kw}


class MaxPool2d(_Pool):
    """`y[n,c,i,j] = max_{p,q} x[n, c, i·s + p·d − P, j·s + q·d − P]`.

    Outside the image x is −∞. A NaN in a window comes out; of equal maxima the first (row by row)
    gets the gradient.

    Input: x (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> settings = {"kernel": [2, 2], "stride": [2, 2], "padding": [[0, 0], [0, 0]],
    ...             "dilation": [1, 1]}
    >>> MaxPool2d().shape(settings, [(6, 28, 28)])
    (6, 14, 14)
    """

    name = "max_pool2d"
    attributes = ("kernel", "stride", "padding", "dilation")

    def _dilation(self, attributes: Attributes) -> tuple[int, int]:
        return pair_attribute(self.name, attributes, "dilation")

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        return Formula(
            (_N, _C, _I, _J),
            Max((_P, _Q), self._window(attributes)),
            self._sizes(attributes, shapes[0]),
            {"x": tuple(shapes[0])},
            outside={"x": -math.inf},
        )


class AvgPool2d(_Pool):
    """`y[n,c,i,j] = Σ_{p,q} x[n, c, i·s + p − P, j·s + q − P] / (kh·kw)`.

    With `count_include_pad` false the divisor is the number of places inside the image.

    Input: x (n, channels, ih, iw). Output: (n, channels, oh, ow).
    """

    name = "avg_pool2d"
    attributes = ("kernel", "stride", "padding", "count_include_pad")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        if not isinstance(attributes["count_include_pad"], bool):
            raise OptionError(
                f"avg_pool2d: count_include_pad expected true or false; "
                f"got {attributes['count_include_pad']!r}."
            )
        return super().shape(attributes, shapes)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        window, x = self._window(attributes), tuple(shapes[0])
        total = Sum((_P, _Q), window)
        sizes, output = self._sizes(attributes, x), (_N, _C, _I, _J)
        padded = any(any(side) for side in attributes["padding"])
        if attributes["count_include_pad"] or not padded:
            return Formula(output, total / (sizes["p"] * sizes["q"]), sizes, {"x": x})
        inside = Sum((_P, _Q), Tensor("inside")[window.index[2:]])
        ones = {"inside": np.ones(x[2:])}
        return Formula(output, total / inside, sizes, {"x": x}, constants=ones)


class AdaptiveAvgPool2d(Operation):
    """The mean of each of h×w windows that together cover the image, whatever its size.

    `y[n,c,i,j] = Σ_{p,q} x[n,c,p,q] / count`, p from `⌊i·ih/h⌋` to below `⌈(i+1)·ih/h⌉`, q
    likewise. Where h and w divide the image's sizes this is average pooling with stride = kernel
    = the quotient; else the formula weighs all pixels, most of them with 0.

    Input: x (n, channels, ih, iw). Output: (n, channels, h, w) with `output` = [h, w].

    >>> AdaptiveAvgPool2d().shape({"output": [6, 6]}, [(256, 13, 13)])
    (256, 6, 6)
    """

    name = "adaptive_avg_pool2d"
    arguments = ("x",)
    attributes = ("output",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = shapes[0]
        require_rank(self.name, "x", x, "channels, height, width")
        return (x[0], *pair_attribute(self.name, attributes, "output"))

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        _, h, w = self.shape(attributes, [x[1:]])
        return self._even(x, h, w) if x[2] % h == x[3] % w == 0 else self._uneven(x, h, w)

    def _even(self, x: Shape, h: int, w: int) -> Formula:
        kh, kw = x[2] // h, x[3] // w
        sizes = {"n": x[0], "c": x[1], "i": h, "j": w, "p": kh, "q": kw}
        window = Tensor("x")[_N, _C, _I * kh + _P, _J * kw + _Q]
        return Formula((_N, _C, _I, _J), Sum((_P, _Q), window) / (kh * kw), sizes, {"x": x})

    def _uneven(self, x: Shape, h: int, w: int) -> Formula:
        sizes = {"n": x[0], "c": x[1], "i": h, "j": w, "p": x[2], "q": x[3]}
        shares = {"rows": _shares(x[2], h), "columns": _shares(x[3], w)}
        weight = Tensor("rows")[_I, _P] * Tensor("columns")[_J, _Q]
        body = Sum((_P, _Q), Tensor("x")[_N, _C, _P, _Q] * weight)
        return Formula((_N, _C, _I, _J), body, sizes, {"x": x}, constants=shares)

    def cost(self, attributes: Attributes, shapes: Sequence[Shape]) -> Cost:
        """Each window's additions, and its division."""
        (channels, *image), (h, w) = shapes[0], self.shape(attributes, shapes)[1:]
        rows, columns = (
            sum(stop - start for start, stop in adaptive_windows(size, count))
            for size, count in zip(image, (h, w), strict=True)
        )
        return Cost(0, channels * rows * columns)


def adaptive_windows(size: int, count: int) -> list[tuple[int, int]]:
    """First and past-the-last place of `count` windows over a row of `size`.

    >>> adaptive_windows(5, 3)
    [(0, 2), (1, 4), (3, 5)]
    """
    return [(k * size // count, -(-(k + 1) * size // count)) for k in range(count)]


def _shares(size: int, count: int) -> Array:
    """What each place counts for in each window: (count, size)."""
    shares = np.zeros((count, size))
    for row, (start, stop) in zip(shares, adaptive_windows(size, count), strict=True):
        row[start:stop] = 1 / (stop - start)
    return shares
