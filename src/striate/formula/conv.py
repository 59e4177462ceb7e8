"""Convolution with a bank of filters: as networks mean it (the kernel is not flipped), as
mathematics means it (it is), and transposed.

Of sequences, images and volumes: one rule for all. The formula and the shape rule; native kernels
are in `kernels`. Kernels that change from place to place are in `local` and `tiled`.
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

Indices = tuple[Index, ...]
SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_PLACES = {1: "i", 2: "i j", 3: "k i j"}  # axes of the output
_TAPS = {1: "p", 2: "p q", 3: "r p q"}  # axes of the kernel
_N, _G, _O, _C = axes("n g o c")


class Convolution(Operation):
    """What convolutions share; `bank` and `_weight` say where in w the kernels are."""

    arguments: tuple[str, ...] = ("x", "w", "b")
    optional = 1
    parameters = ("w", "b")
    attributes: tuple[str, ...] = ("stride", "padding", "dilation", "groups")
    rank = 2
    flipped = False
    weight_axes = "out_channels, in_channels/groups"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, w = tuple(shapes[0]), tuple(shapes[1])
        require_rank(self.name, "x", x, f"channels, {', '.join(SPACE[self.rank])}")
        require_rank(self.name, "w", w, self._axes_of_weight())
        if 0 in x or 0 in w:
            raise ShapeError(
                f"{self.name}: expected channels, images and kernels of at least 1; got x {x}, "
                f"w {w}. Nothing can be convolved with nothing."
            )
        groups = whole_attribute(self.name, attributes, "groups", 1)
        bank = self.bank(w)
        outputs = self._outputs(groups, x, bank)
        sizes = self._sizes(attributes, x[1:], bank[2:])
        self._require_places(x, w, sizes)
        if len(shapes) == 3:
            self._require_bias(tuple(shapes[2]), (outputs, *sizes))
        return (outputs, *sizes)

    def _axes_of_weight(self) -> str:
        return f"{self.weight_axes}, {', '.join(SPACE[self.rank])}"

    def bank(self, w: Shape) -> Shape:
        """The shape of one bank of kernels in a weight: its channels, then the kernel's sizes."""
        return tuple(w)

    def _require_places(self, x: Shape, w: Shape, output: tuple[int, ...]) -> None:
        """Refuse a weight whose positions are not those of the image."""

    def _require_bias(self, b: Shape, output: Shape) -> None:
        if b != output[:1]:
            raise ShapeError(
                f"{self.name}: b expected shape ({output[0]},), one number an output channel; "
                f"got {b}."
            )

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
        names = SPACE[self.rank]
        return tuple(
            require_output(self.name, axis, *sizes)
            for axis, *sizes in zip(names, image, kernel, stride, padding, dilation, strict=True)
        )

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        bank = self.bank(tuple(shapes[1]))
        groups, channels = int(attributes["groups"]), self._channels(attributes, bank)
        taps, places = axes(_TAPS[self.rank]), axes(_PLACES[self.rank])
        out, into = (_O, _C) if groups == 1 else (_G * channels[0] + _O, _G * channels[1] + _C)
        window = self._window(attributes, places, taps)
        read = (_N, into, *window)
        in_weight = self._taps(taps, bank[2:])
        weight = self._weight(tuple(shapes[1]), out, into, in_weight, places, window)
        body: Expr = Sum((_C, *taps), Tensor("x")[read] * Tensor("w")[weight])
        if len(names) == 3:
            at_each = len(shapes[2]) > 1
            body = Tensor("b")[(out, *places) if at_each else (out,)] + body
        sizes = {"n": shapes[0][0], "g": groups, "o": channels[0], "c": channels[1]}
        output = self._sizes(attributes, tuple(shapes[0][2:]), bank[2:])
        for axis, size in zip((*places, *taps), (*output, *bank[2:]), strict=True):
            sizes[str(axis)] = size
        tensors = {name: tuple(s) for name, s in zip(names, shapes, strict=True)}
        return Formula((_N, out, *places), body, sizes, tensors)

    def _taps(self, taps: Indices, kernel: Shape) -> Indices:
        """Where in its kernel a tap is: the other way round where the kernel is flipped."""
        if not self.flipped:
            return taps
        return tuple(tap * -1 + (size - 1) for tap, size in zip(taps, kernel, strict=True))

    def _channels(self, attributes: Attributes, bank: Shape) -> tuple[int, int]:
        """Output and input channels of one group."""
        return bank[0] // int(attributes["groups"]), bank[1]

    def _weight(
        self, w: Shape, out: Index, into: Index, taps: Indices, places: Indices, window: Indices
    ) -> Indices:
        """Where the weight is read.

        Args:
            w: its shape.
            out, into: the output and the input channel.
            taps: places in the kernel.
            places: those of the output.
            window: those of the input.
        """
        return out, _C, *taps

    def _window(self, attributes: Attributes, places: Indices, taps: Indices) -> Indices:
        """The places of x that the output's `places` read."""
        padding = padding_attribute(self.name, attributes, self.rank)
        stride, dilation = attributes["stride"], attributes["dilation"]
        return tuple(
            place * s + tap * d - before
            for place, tap, s, d, (before, _) in zip(
                places, taps, stride, dilation, padding, strict=True
            )
        )


class Conv2d(Convolution):
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


class Conv1d(Convolution):
    """`y[n,o,i] = b[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · w[o,c,p]`: `Conv2d` of sequences.

    Its attributes are lists of one: `{"stride": [1], "padding": [[0, 0]], …}`.

    Inputs: x (n, in_channels, length); w (out_channels, in_channels/groups, k); b or none.
    Output: (n, out_channels, length).
    """

    name, rank = "conv1d", 1


class Conv3d(Convolution):
    """`y[n,o,k,i,j] = b[o] + Σ_{c,r,p,q} x[n, c, k·s + r·d − P, …] · w[o,c,r,p,q]`: of volumes.

    Its attributes are lists of three, for depth, height and width.

    Inputs: x (n, in_channels, id, ih, iw); w (out_channels, in_channels/groups, kd, kh, kw); b or
    none. Output: (n, out_channels, od, oh, ow).
    """

    name, rank = "conv3d", 3


class TrueConv2d(Convolution):
    """`Conv2d` with its kernels flipped: the convolution of mathematics.

    `y[n,o,i,j] = b[o] + Σ_{c,p,q} x[n, c, i·s + p·d − P, j·s + q·d − P] · w[o, c, kh−1−p, kw−1−q]`

    Inputs, attributes and output are those of `Conv2d`.

    >>> settings = {"stride": [1], "padding": [[2, 2]], "dilation": [1], "groups": 1}
    >>> TrueConv1d().reference(settings, [[[[1.0, 2, 3]]], [[[0.0, 1, 10]]]])
    array([[[ 0.,  1., 12., 23., 30.]]])
    """

    name, flipped = "true_conv2d", True


class TrueConv1d(Convolution):
    """`y[n,o,i] = b[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · w[o, c, k−1−p]`: of sequences."""

    name, rank, flipped = "true_conv1d", 1, True


class TrueConv3d(Convolution):
    """`Conv3d` with its kernels flipped."""

    name, rank, flipped = "true_conv3d", 3, True


class TransposedConvolution(Convolution):
    """What the transposes share."""

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
        for k, axis in enumerate(SPACE[self.rank]):
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

    def _channels(self, attributes: Attributes, bank: Shape) -> tuple[int, int]:
        return bank[1], bank[0] // int(attributes["groups"])

    def _weight(
        self, w: Shape, out: Index, into: Index, taps: Indices, places: Indices, window: Indices
    ) -> Indices:
        return into, _O, *taps

    def _window(self, attributes: Attributes, places: Indices, taps: Indices) -> Indices:
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
        products = math.prod(shapes[0]) * math.prod(self.bank(tuple(shapes[1]))[1:])
        biased = math.prod(outputs) if len(shapes) == 3 else 0
        return Cost(products, 2 * products - math.prod(outputs) + biased)


class ConvTranspose2d(TransposedConvolution):
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


class ConvTranspose1d(TransposedConvolution):
    """`y[n,o,i] = b[o] + Σ_{c,p} x[n, c, (i + P − p·d)/s] · w[c,o,p]`: that of `Conv1d`.

    Its attributes are lists of one.

    Inputs: x (n, in_channels, length); w (in_channels, out_channels/groups, k); b or none.
    Output: (n, out_channels, length).
    """

    name, rank = "conv_transpose1d", 1


class ConvTranspose3d(TransposedConvolution):
    """`y[n,o,k,i,j] = b[o] + Σ_{c,r,p,q} x[n, c, (k + P − r·d)/s, …] · w[c,o,r,p,q]`: of `Conv3d`.

    Its attributes are lists of three, for depth, height and width.

    Inputs: x (n, in_channels, id, ih, iw); w (in_channels, out_channels/groups, kd, kh, kw); b or
    none. Output: (n, out_channels, od, oh, ow).
    """

    name, rank = "conv_transpose3d", 3
