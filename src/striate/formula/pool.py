"""Pooling: the largest or the mean number of each window. Formulas and shape rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from striate.errors import OptionError
from striate.formula.expression import Max, Read, Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    padding_attribute,
    pair_attribute,
    require_attributes,
    require_rank,
)
from striate.shapes import require_output

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
            reach = dilation[k] * (kernel[k] - 1) + 1
            if max(padding[k]) > reach // 2:
                raise OptionError(
                    f"{self.name}: padding expected at most half of the window, {reach // 2}; got "
                    f"{list(padding[k])} along {axis}, where the window reaches over {reach}. "
                    f"More would make windows that hold padding only."
                )
        sizes = (
            require_output(self.name, axis, x[1 + k], kernel[k], stride[k], padding[k], dilation[k])
            for k, axis in enumerate(_AXES)
        )
        return (x[0], *sizes)

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
