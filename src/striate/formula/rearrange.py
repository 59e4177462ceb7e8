"""Numbers moved between channels and places: pixel and channel shuffles, patches as columns.

Of one to three axes of space each; nothing is computed but the sums of `fold`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.errors import ShapeError
from striate.formula.expression import Index, Sum, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    sizes_attribute,
    whole_attribute,
)
from striate.formula.pool import PLACES, SPACE, TAPS, C, N, Windows, look_up, sizes_of
from striate.shapes import require_output

_FINE = {1: axes("a"), 2: axes("a b"), 3: axes("d a b")}  # places inside a block of places


class _Shuffle(Operation):
    arguments = ("x",)
    attributes = ("factor",)

    def _checked(self, attributes: Attributes, shapes: Sequence[Shape]) -> tuple[Shape, int]:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        if not 2 <= len(x) <= 4:
            raise ShapeError(
                f"{self.name}: x expected channels and one to three axes of space besides the "
                f"batch; got shape {x}."
            )
        return x, whole_attribute(self.name, attributes, "factor", 1)


def _mixed(outer: Index, inner: Sequence[Index], factor: int) -> Index:
    """`outer·r² + a·r + b`: the channel that block place (a, b) of channel `outer` has."""
    index = outer
    for axis in inner:
        index = index * factor + axis
    return index


class PixelShuffle(_Shuffle):
    """r² channels of a place become its r×r finer places.

    `y[n, c, h·r + a, w·r + b] = x[n, c·r² + a·r + b, h, w]`

    Input: x (n, channels·r², h, w), or r and r³ with one and three axes of space.
    Output: (n, channels, h·r, w·r).

    Source: Shi et al., Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network, arXiv:1609.05158.

    >>> PixelShuffle().shape({"factor": 2}, [(8, 3, 3)])
    (2, 6, 6)
    """

    name = "pixel_shuffle"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        x, factor = self._checked(attributes, shapes)
        finer = factor ** (len(x) - 1)
        if x[0] % finer:
            raise ShapeError(
                f"{self.name}: expected channels divisible by {factor}^{len(x) - 1} = {finer}; "
                f"got {x[0]}, shape {x} besides the batch."
            )
        return (x[0] // finer, *(size * factor for size in x[1:]))

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, r = tuple(shapes[0]), int(attributes["factor"])
        rank = len(x) - 2
        places, fine = PLACES[rank], _FINE[rank]
        output = tuple(i * r + a for i, a in zip(places, fine, strict=True))
        sizes = {"n": x[0], "c": x[1] // r**rank, **sizes_of(places, x[2:])}
        sizes |= sizes_of(fine, [r] * rank)
        return Formula(
            (N, C, *output), look_up("x", N, _mixed(C, fine, r), *places), sizes, {"x": x}
        )


class PixelUnshuffle(_Shuffle):
    """The reverse of `pixel_shuffle`: blocks of r×r places become channels.

    `y[n, c·r² + a·r + b, h, w] = x[n, c, h·r + a, w·r + b]`

    Input: x (n, channels, h·r, w·r). Output: (n, channels·r², h, w).

    >>> PixelUnshuffle().shape({"factor": 2}, [(2, 6, 6)])
    (8, 3, 3)
    """

    name = "pixel_unshuffle"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        x, factor = self._checked(attributes, shapes)
        if any(size % factor for size in x[1:]):
            raise ShapeError(
                f"{self.name}: expected sizes divisible by {factor}; got {x[1:]}, shape {x} "
                f"besides the batch. Crop or pad the image first."
            )
        return (x[0] * factor ** (len(x) - 1), *(size // factor for size in x[1:]))

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, r = tuple(shapes[0]), int(attributes["factor"])
        rank = len(x) - 2
        places, fine = PLACES[rank], _FINE[rank]
        source = tuple(i * r + a for i, a in zip(places, fine, strict=True))
        sizes = {"n": x[0], "c": x[1], **sizes_of(places, [k // r for k in x[2:]])}
        sizes |= sizes_of(fine, [r] * rank)
        return Formula(
            (N, _mixed(C, fine, r), *places), look_up("x", N, C, *source), sizes, {"x": x}
        )


class ChannelShuffle(_Shuffle):
    """Channels dealt out anew, so that each group gets some of every other.

    `y[n, k·g + m, …] = x[n, m·(channels/g) + k, …]` with g groups.

    Input and output: (n, channels, …) with one to three axes of space.

    Source: Zhang et al., ShuffleNet, arXiv:1707.01083.
    """

    name = "channel_shuffle"
    attributes = ("groups",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        if not 1 <= len(x) <= 4:
            raise ShapeError(
                f"{self.name}: x expected channels and at most three axes of space besides the "
                f"batch; got shape {x}."
            )
        groups = whole_attribute(self.name, attributes, "groups", 1)
        if x[0] % groups:
            raise ShapeError(
                f"{self.name}: expected channels divisible by groups; got channels={x[0]}, "
                f"groups={groups}, shape {x} besides the batch."
            )
        return x

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, groups = tuple(shapes[0]), int(attributes["groups"])
        space = PLACES[len(x) - 2] if len(x) > 2 else ()
        each, m = axes("c m")
        sizes = {"n": x[0], "c": x[1] // groups, "m": groups, **sizes_of(space, x[2:])}
        source = look_up("x", N, m * (x[1] // groups) + each, *space)
        return Formula((N, each * groups + m, *space), source, sizes, {"x": x})


class Unfold(Windows):
    """Every window as a column of numbers (im2col).

    `y[n, (c·kh + p)·kw + q, i·ow + j] = x[n, c, i·s + p·d − P, j·s + q·d − P]`

    Input: x (n, channels, …) with one to three axes of space.
    Output: (n, channels·kh·kw, windows).
    """

    name = stem = "unfold"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        channels, *places = super().shape(attributes, shapes)
        return (channels * math.prod(attributes["kernel"]), math.prod(places))

    def _count(
        self, axis: str, size: int, kernel: int, stride: int, padding: tuple[int, int], step: int
    ) -> int:
        return places_along(self.name, axis, size, kernel, stride, padding, step)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, rank = tuple(shapes[0]), self._rank(attributes)
        self.shape(attributes, [x[1:]])
        kernel, *rest = self._windows(attributes)
        counts = [
            self._count(*along)
            for along in zip(SPACE[rank], x[2:], kernel, *rest, strict=True)
        ]  # fmt: skip
        rows, column = C, PLACES[rank][0]
        for tap, size in zip(TAPS[rank], kernel, strict=True):
            rows = rows * size + tap
        for place, size in zip(PLACES[rank][1:], counts[1:], strict=True):
            column = column * size + place
        sizes = {"n": x[0], "c": x[1], **sizes_of(PLACES[rank], counts)}
        sizes |= sizes_of(TAPS[rank], kernel)
        read = look_up("x", N, C, *self._spots(attributes))
        return Formula((N, rows, column), read, sizes, {"x": x})


class Fold(Windows):
    """Columns laid back as windows, overlaps added up: the transpose of `unfold`.

    `y[n,c,h,w] = Σ_{p,q} x[n, (c·kh + p)·kw + q, (h + P − p·d)/s, (w + P − q·d)/s]`, over whole
    quotients only.

    Input: x (n, channels·kh·kw, oh, ow), a column for each window.
    Output: (n, channels, *output).
    """

    name = stem = "fold"
    attributes = ("kernel", "stride", "padding", "dilation", "output")

    def _count(
        self, axis: str, size: int, kernel: int, stride: int, padding: tuple[int, int], step: int
    ) -> int:
        return places_along(self.name, axis, size, kernel, stride, padding, step)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, rank = tuple(shapes[0]), self._rank(attributes)
        output = sizes_attribute(self.name, attributes, "output", rank)
        kernel, *rest = self._windows(attributes)
        counts = tuple(
            self._count(*along) for along in zip(SPACE[rank], output, kernel, *rest, strict=True)
        )
        size = math.prod(kernel)
        if x[1:] != counts or x[0] % size:
            raise ShapeError(
                f"{self.name}: expected channels divisible by {size}, the numbers of a window, "
                f"and windows {counts} for an output of {output}; got shape {x} besides the batch."
            )
        return (x[0] // size, *output)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, rank = tuple(shapes[0]), self._rank(attributes)
        channels, *output = self.shape(attributes, [x[1:]])
        kernel, stride, padding, dilation = self._windows(attributes)
        rows = C
        for tap, size in zip(TAPS[rank], kernel, strict=True):
            rows = rows * size + tap
        along = zip(PLACES[rank], TAPS[rank], stride, padding, dilation, strict=True)
        spots = tuple((h - p * d + before) // s for h, p, s, (before, _), d in along)
        sizes = {"n": x[0], "c": channels, **sizes_of(PLACES[rank], output)}
        sizes |= sizes_of(TAPS[rank], kernel)
        body = Sum(TAPS[rank], look_up("x", N, rows, *spots))
        return Formula((N, C, *PLACES[rank]), body, sizes, {"x": x})


def places_along(
    where: str, axis: str, size: int, kernel: int, stride: int, padding: tuple[int, int], step: int
) -> int:
    """How many windows lie along an axis; there may be windows of padding only."""
    return require_output(where, axis, size, kernel, stride, padding, step)
