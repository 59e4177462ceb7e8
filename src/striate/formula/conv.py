"""Convolution with a bank of filters (the kernel is not flipped), and its transpose.

Of sequences, images and volumes: one rule for all. The formula and the shape rule; native kernels
are in `kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Index, Sum, Tensor, axes
from striate.formula.formula import Cost, Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    padding_attribute,
    require_attributes,
    require_rank,
    sizes_attribute,
    whole_attribute,
)
from striate.shapes import require_output

_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_PLACES = {1: "i", 2: "i j", 3: "k i j"}  # axes of the output
_TAPS = {1: "p", 2: "p q", 3: "r p q"}  # axes of the kernel
_N, _G, _O, _C = axes("n g o c")


class _Conv(Operation):
    arguments: tuple[str, ...] = ("x", "w", "b")
    optional = 1
    parameters = ("w", "b")
    attributes: tuple[str, ...] = ("stride", "padding", "dilation", "groups")
    rank = 2
    weight_axes = "out_channels, in_channels/groups"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, w = tuple(shapes[0]), tuple(shapes[1])
        space = ", ".join(_NAMES[self.rank])
        require_rank(self.name, "x", x, f"channels, {space}")
        require_rank(self.name, "w", w, f"{self.weight_axes}, {space}")
        groups = whole_attribute(self.name, attributes, "groups", 1)
        outputs = self._outputs(groups, x, w)
        if len(shapes) == 3 and tuple(shapes[2]) != (outputs,):
            raise ShapeError(
                f"{self.name}: b expected shape ({outputs},), one number an output channel; "
                f"got {tuple(shapes[2])}."
            )
        return (outputs, *self._sizes(attributes, x[1:], w[2:]))

    def _outputs(self, groups: int, x: Shape, w: Shape) -> int:
        """The number of output channels, where those of x and w fit."""
        if x[0] % groups or w[0] % groups:
            raise ShapeError(
                f"{self.name}: expected in_channels and out_channels divisible by groups; got "
                f"in_channels={x[0]}, out_channels={w[0]}, groups={groups}."
            )
        if x[0] != w[1] * groups:
            raise ShapeError(
                f"{self.name}: expected in_channels = {w[1]}·{groups} = {w[1] * groups} "
                f"(in_channels/groups of w times groups); got in_channels={x[0]}, "
                f"x {tuple(x)}, w {tuple(w)}. Make the layer with in_channels={x[0]}."
            )
        return w[0]

    def _sizes(self, attributes: Attributes, image: Shape, kernel: Shape) -> tuple[int, ...]:
        """The sizes of the output along its axes of space."""
        stride = sizes_attribute(self.name, attributes, "stride", self.rank)
        dilation = sizes_attribute(self.name, attributes, "dilation", self.rank)
        padding = padding_attribute(self.name, attributes, self.rank)
        names = _NAMES[self.rank]
        return tuple(
            require_output(self.name, axis, *sizes)
            for axis, *sizes in zip(names, image, kernel, stride, padding, dilation, strict=True)
        )

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        groups, channels = int(attributes["groups"]), self._channels(attributes, shapes)
        taps, places = axes(_TAPS[self.rank]), axes(_PLACES[self.rank])
        out, into = (_O, _C) if groups == 1 else (_G * channels[0] + _O, _G * channels[1] + _C)
        read = (_N, into, *self._window(attributes, places, taps))
        weight = (*self._weight(out, into), *taps)
        body: Expr = Sum((_C, *taps), Tensor("x")[read] * Tensor("w")[weight])
        if len(names) == 3:
            body = Tensor("b")[out] + body
        sizes = {"n": shapes[0][0], "g": groups, "o": channels[0], "c": channels[1]}
        output = self._sizes(attributes, tuple(shapes[0][2:]), tuple(shapes[1][2:]))
        kernel = tuple(shapes[1][2:])
        for axis, size in zip((*places, *taps), (*output, *kernel), strict=True):
            sizes[str(axis)] = size
        tensors = {name: tuple(s) for name, s in zip(names, shapes, strict=True)}
        return Formula((_N, out, *places), body, sizes, tensors)

    def _channels(self, attributes: Attributes, shapes: Sequence[Shape]) -> tuple[int, int]:
        """Output and input channels of one group."""
        return shapes[1][0] // int(attributes["groups"]), shapes[1][1]

    def _weight(self, out: Index, into: Index) -> tuple[Index, ...]:
        """The first two indices of the weight."""
        return out, _C

    def _window(
        self, attributes: Attributes, places: Sequence[Index], taps: Sequence[Index]
    ) -> tuple[Index, ...]:
        """The places of x that the output's `places` read."""
        padding = padding_attribute(self.name, attributes, self.rank)
        stride, dilation = attributes["stride"], attributes["dilation"]
        return tuple(
            place * s + tap * d - before
            for place, tap, s, d, (before, _) in zip(
                places, taps, stride, dilation, padding, strict=True
            )
        )


class Conv2d(_Conv):
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


class Conv1d(_Conv):
    """`y[n,o,i] = b[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · w[o,c,p]`: `Conv2d` of sequences.

    Its attributes are lists of one: `{"stride": [1], "padding": [[0, 0]], …}`.

    Inputs: x (n, in_channels, length); w (out_channels, in_channels/groups, k); b or none.
    Output: (n, out_channels, length).
    """

    name, rank = "conv1d", 1


class Conv3d(_Conv):
    """`y[n,o,k,i,j] = b[o] + Σ_{c,r,p,q} x[n, c, k·s + r·d − P, …] · w[o,c,r,p,q]`: of volumes.

    Its attributes are lists of three, for depth, height and width.

    Inputs: x (n, in_channels, id, ih, iw); w (out_channels, in_channels/groups, kd, kh, kw); b or
    none. Output: (n, out_channels, od, oh, ow).
    """

    name, rank = "conv3d", 3


class ConvTranspose2d(_Conv):
    """The transpose of `Conv2d`: what it sends back to its input.

    `y[n,o,i,j] = b[o] + Σ_{c,p,q} x[n, c, (i + P − p·d)/s, (j + P − q·d)/s] · w[c,o,p,q]`, where x
    is 0 at places that are outside or no whole numbers.

    Inputs: x (n, in_channels, ih, iw); w (in_channels, out_channels/groups, kh, kw);
    b (out_channels,) or none. Output: (n, out_channels, oh, ow),
    `oh = (ih − 1)·sh − top − bottom + dh·(kh−1) + output_padding + 1`.

    Source: Dumoulin & Visin, A guide to convolution arithmetic, arXiv:1603.07285.

    >>> settings = {"stride": [2, 2], "padding": [[0, 0], [0, 0]], "output_padding": [0, 0],
    ...             "dilation": [1, 1], "groups": 1}
    >>> ConvTranspose2d().shape(settings, [(64, 28, 28), (64, 32, 2, 2)])
    (32, 56, 56)
    """

    name = "conv_transpose2d"
    attributes = ("stride", "padding", "output_padding", "dilation", "groups")
    weight_axes = "in_channels, out_channels/groups"

    def _outputs(self, groups: int, x: Shape, w: Shape) -> int:
        if w[0] % groups:
            raise ShapeError(
                f"{self.name}: expected in_channels divisible by groups; got in_channels={w[0]}, "
                f"groups={groups}."
            )
        if x[0] != w[0]:
            raise ShapeError(
                f"{self.name}: expected in_channels={w[0]}, as w {w} has; got in_channels={x[0]}, "
                f"x {x}. Make the layer with in_channels={x[0]}."
            )
        return w[1] * groups

    def _sizes(self, attributes: Attributes, image: Shape, kernel: Shape) -> tuple[int, ...]:
        stride = sizes_attribute(self.name, attributes, "stride", self.rank)
        dilation = sizes_attribute(self.name, attributes, "dilation", self.rank)
        more = sizes_attribute(self.name, attributes, "output_padding", self.rank, 0)
        padding = padding_attribute(self.name, attributes, self.rank)
        found = []
        for k, axis in enumerate(_NAMES[self.rank]):
            if more[k] >= max(stride[k], dilation[k]):
                raise OptionError(
                    f"{self.name}: output_padding expected below the stride or the dilation along "
                    f"{axis}, {max(stride[k], dilation[k])}; got {more[k]}."
                )
            reach = dilation[k] * (kernel[k] - 1) + 1
            size = (image[k] - 1) * stride[k] - sum(padding[k]) + reach + more[k]
            if size < 1:
                raise ShapeError(
                    f"{self.name}: expected an output {axis} of at least 1; got ({image[k]} − 1)·"
                    f"{stride[k]} − {padding[k][0]} − {padding[k][1]} + {reach} + {more[k]} = "
                    f"{size}. Use less padding."
                )
            found.append(size)
        return tuple(found)

    def _channels(self, attributes: Attributes, shapes: Sequence[Shape]) -> tuple[int, int]:
        return shapes[1][1], shapes[1][0] // int(attributes["groups"])

    def _weight(self, out: Index, into: Index) -> tuple[Index, ...]:
        return into, _O

    def _window(
        self, attributes: Attributes, places: Sequence[Index], taps: Sequence[Index]
    ) -> tuple[Index, ...]:
        padding = padding_attribute(self.name, attributes, self.rank)
        stride, dilation = attributes["stride"], attributes["dilation"]
        return tuple(
            (place + before - tap * d) // s
            for place, tap, s, d, (before, _) in zip(
                places, taps, stride, dilation, padding, strict=True
            )
        )

    def cost(self, attributes: Attributes, shapes: Sequence[Shape]) -> Cost:
        """Each number of x with each weight of its channel; places between are not counted."""
        outputs = self.shape(attributes, shapes)
        products = math.prod(shapes[0]) * math.prod(shapes[1][1:])
        biased = math.prod(outputs) if len(shapes) == 3 else 0
        return Cost(products, 2 * products - math.prod(outputs) + biased)
