"""Convolution of images with a bank of filters (cross-correlation: the kernel is not flipped).

The formula and the shape rule. Native kernels are in `kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import ShapeError
from striate.formula.expression import Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    padding_attribute,
    pair_attribute,
    require_attributes,
    require_rank,
    whole_attribute,
)
from striate.shapes import require_output


class Conv2d(Operation):
    """`y[n,o,i,j] = b[o] + Σ_{c,p,q} x[n, c, i·s + p·d − P, j·s + q·d − P] · w[o,c,p,q]`.

    With groups, output channels of group g read the input channels of group g. x is 0 outside.

    Inputs: x (n, in_channels, ih, iw); w (out_channels, in_channels/groups, kh, kw);
    b (out_channels,) or none. Output: (n, out_channels, oh, ow),
    `oh = ⌊(ih + top + bottom − dh·(kh−1) − 1)/sh⌋ + 1`.

    Source: Dumoulin & Visin, A guide to convolution arithmetic, arXiv:1603.07285.

    >>> settings = {"stride": [1, 1], "padding": [[0, 0], [0, 0]], "dilation": [1, 1], "groups": 1}
    >>> Conv2d().shape(settings, [(1, 28, 28), (6, 1, 5, 5)])
    (6, 24, 24)
    """

    name = "conv2d"
    arguments = ("x", "w", "b")
    optional = 1
    parameters = ("w", "b")
    attributes = ("stride", "padding", "dilation", "groups")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, w = shapes[0], shapes[1]
        require_rank(self.name, "x", x, "channels, height, width")
        require_rank(self.name, "w", w, "out_channels, in_channels/groups, height, width")
        self._require_channels(whole_attribute(self.name, attributes, "groups", 1), x, w)
        if len(shapes) == 3 and tuple(shapes[2]) != (w[0],):
            raise ShapeError(
                f"conv2d: b expected shape ({w[0]},), one number an output channel; "
                f"got {tuple(shapes[2])}."
            )
        stride = pair_attribute(self.name, attributes, "stride")
        dilation = pair_attribute(self.name, attributes, "dilation")
        padding = padding_attribute(self.name, attributes)
        sizes = (
            require_output(self.name, axis, x[1 + k], w[2 + k], stride[k], padding[k], dilation[k])
            for k, axis in enumerate(("height", "width"))
        )
        return (w[0], *sizes)

    def _require_channels(self, groups: int, x: Shape, w: Shape) -> None:
        if x[0] % groups or w[0] % groups:
            raise ShapeError(
                f"conv2d: expected in_channels and out_channels divisible by groups; got "
                f"in_channels={x[0]}, out_channels={w[0]}, groups={groups}."
            )
        if x[0] != w[1] * groups:
            raise ShapeError(
                f"conv2d: expected in_channels = {w[1]}·{groups} = {w[1] * groups} "
                f"(in_channels/groups of w times groups); got in_channels={x[0]}, "
                f"x {tuple(x)}, w {tuple(w)}. Make the layer with in_channels={x[0]}."
            )

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        groups, out_channels, channels = int(attributes["groups"]), shapes[1][0], shapes[1][1]
        (sh, sw), (dh, dw) = attributes["stride"], attributes["dilation"]
        rows, columns = padding_attribute(self.name, attributes)
        n, g, o, i, j, c, p, q = axes("n g o i j c p q")
        x, w, b = Tensor("x"), Tensor("w"), Tensor("b")
        out, into = (o, c) if groups == 1 else (g * (out_channels // groups) + o, g * channels + c)
        patch = x[n, into, i * sh + p * dh - rows[0], j * sw + q * dw - columns[0]]
        body = Sum((c, p, q), patch * w[out, c, p, q])
        if len(names) == 3:
            body = b[out] + body
        return Formula.infer(
            (n, out, i, j),
            body,
            dict(zip(names, shapes, strict=True)),
            padding={"x": ((0, 0), (0, 0), rows, columns)},
            sizes={"o": out_channels // groups, "g": groups, "c": channels},
        )
