"""Pooling that sums a window up in other ways: sums, weighted means, norms, chance.

One operation serves sequences, images and volumes: the attribute `kernel` has a size for each
axis of space. Where a window reaches outside the image, x is 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Index, Read, Sum, Tensor, call, maximum, power, sqrt
from striate.formula.expression import where as select
from striate.formula.formula import Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Shape,
    number_attribute,
)
from striate.formula.pool import TAPS, C, N, Windows, axis_counts, look_up, separable
from striate.shapes import pair


class SumPool(Windows):
    """`y[n,c,i,j] = Σ_{p,q} x[n, c, i·s + p·d − P, j·s + q·d − P] / divisor`.

    Input: x (n, channels, …) with one to three axes of space. Output: as many axes.

    >>> settings = {"kernel": [2], "stride": [2], "padding": [[0, 0]], "dilation": [1],
    ...             "divisor": 1.0}
    >>> SumPool().reference(settings, [[[[1.0, 2.0, 3.0, 4.0]]]])
    array([[[3., 7.]]])
    """

    name = stem = "sum_pool"
    attributes = ("kernel", "stride", "padding", "dilation", "divisor")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        found = super().shape(attributes, shapes)
        if number_attribute(self.name, attributes, "divisor") == 0:
            raise OptionError(f"{self.name}: divisor expected a number that is not 0; got 0.")
        return found

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        total = Sum(self._over(attributes), look_up("x", N, C, *self._spots(attributes)))
        body = total / float(attributes["divisor"])
        return Formula(self._output(attributes), body, self._sizes(attributes, x), {"x": x})


class MeanPool(Windows):
    """`y[n,c,i,j] = Σ_{p,q} x[n, c, i·s + p·d − P, …] / count[i,j]`, however the places count.

    count[i,j] is the number of the window's places that lie in the image or in that part of the
    padding which the attribute `counted` names, (before, after) for each axis of space. `avg_pool`
    counts all or only the image.

    Input: x (n, channels, …) with one to three axes of space. Output: as many axes.
    """

    name = stem = "mean_pool"
    attributes: tuple[str, ...] = ("kernel", "stride", "padding", "dilation", "counted")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        found = super().shape(attributes, shapes)
        counted_attribute(self.name, attributes, len(found) - 1)
        return found

    def _weights(self, attributes: Attributes) -> list[Array]:
        """What each place of a window weighs, for each axis of space."""
        return [np.ones(k) for k in attributes["kernel"]]

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        sizes, output = self._sizes(attributes, x), self._output(attributes)
        over, weights = self._over(attributes), self._weights(attributes)
        body: Expr = look_up("x", N, C, *self._spots(attributes))
        constants: dict[str, Array] = {}
        if any((w != 1).any() for w in weights):
            weight, constants = separable("weight", weights, over)
            body = body * weight
        counts = counts_of(
            x[2:], [sizes[str(k)] for k in output[2:]], self._windows(attributes),
            counted_attribute(self.name, attributes, len(over)), weights,
        )  # fmt: skip
        count, more = separable("count", [1 / k for k in counts], output[2:])
        constants = {**constants, **more}
        return Formula(output, Sum(over, body) * count, sizes, {"x": x}, constants=constants)


class GaussianPool(MeanPool):
    """A mean in which near places weigh more: `Σ_{p,q} x[…]·w[p]·w[q] / Σ_{p,q} w[p]·w[q]`.

    `w[p] = exp(−(p·d − (k − 1)·d/2)²/2σ²)`: the distance is from the middle of the window, in
    places of the image, and σ is the attribute `sigma`, one an axis. The divisor runs over the
    places in the image and in the padding that `counted` names.

    Input: x (n, channels, …) with one to three axes of space. Output: as many axes.
    """

    name = stem = "gaussian_pool"
    attributes = ("kernel", "stride", "padding", "dilation", "counted", "sigma")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        found = super().shape(attributes, shapes)
        sigma, count = attributes["sigma"], len(found) - 1
        if not isinstance(sigma, Sequence) or len(sigma) != count or not all(map(_above_0, sigma)):
            raise OptionError(
                f"{self.name}: sigma expected {count} numbers above 0, one an axis of space; "
                f"got {sigma!r}."
            )
        return found

    def _weights(self, attributes: Attributes) -> list[Array]:
        found = []
        for k, step, sigma in zip(
            attributes["kernel"], attributes["dilation"], attributes["sigma"], strict=True
        ):
            distance = step * (np.arange(k) - (k - 1) / 2)
            found.append(np.exp(-((distance / sigma) ** 2) / 2))
        return found


class LpPool(Windows):
    """The p-norm of each window: `(Σ_{p,q} |x[n, c, i·s + p·d − P, …]|^norm)^(1/norm)`.

    With `absolute` false `x^norm` is taken without the bars, as PyTorch does: the same for even
    norms; for others a negative sum gives NaN. Where the sum is 0 the gradient is 0. `counted` is
    null, or what PyTorch does to windows that ceil_mode adds: the sum is then scaled up by the
    window's size over its number of places in the image and that part of the padding.

    Input: x (n, channels, …) with one to three axes of space. Output: as many axes.
    """

    name = stem = "lp_pool"
    attributes = ("kernel", "stride", "padding", "dilation", "norm", "absolute", "counted")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        found = super().shape(attributes, shapes)
        norm_attributes(self.name, attributes)
        if attributes["counted"] is not None:
            counted_attribute(self.name, attributes, len(found) - 1)
        return found

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        sizes, output = self._sizes(attributes, x), self._output(attributes)
        norm, absolute = norm_attributes(self.name, attributes)
        powers = to_power(look_up("x", N, C, *self._spots(attributes)), norm, absolute)
        total: Expr = Sum(self._over(attributes), powers)
        constants: dict[str, Array] = {}
        if attributes["counted"] is not None:
            windows = self._windows(attributes)
            counted = counted_attribute(self.name, attributes, len(windows[0]))
            counts = counts_of(x[2:], [sizes[str(k)] for k in output[2:]], windows, counted)
            if any((k != size).any() for k, size in zip(counts, windows[0], strict=True)):
                shares = [size / k for k, size in zip(counts, windows[0], strict=True)]
                share, constants = separable("share", shares, output[2:])
                total = total * share
        body = root(total, norm, absolute)
        return Formula(output, body, sizes, {"x": x}, constants=constants)


class StochasticPool(Windows):
    """One number of each window, drawn with a chance in proportion to it.

    With the activations `a = max(x, 0)` of a window, taken row by row, and a uniform number u from
    0 to below 1, y is the first x at which the running sum of a exceeds `u·Σ a`; 0 where all
    activations are 0. The gradient goes to the number that was drawn.

    Inputs: x (n, channels, …) with one to three axes of space; u as the output.
    Output: as many axes as x.

    Source: Zeiler & Fergus, Stochastic pooling for regularization of deep convolutional neural
    networks, arXiv:1301.3557.
    """

    name = stem = "stochastic_pool"
    arguments = ("x", "u")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        found = super().shape(attributes, shapes)
        if shapes[1] and tuple(shapes[1]) != found:
            raise ShapeError(
                f"{self.name}: u expected shape {found}, a number for each window, besides the "
                f"batch; got {tuple(shapes[1])}."
            )
        return found

    def differentiable(self, argument: str) -> bool:
        return argument == "x"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        output, kernel = self._output(attributes), attributes["kernel"]
        reads = list(self._reads(attributes, kernel))
        running: list[Expr] = []
        for read in reads:
            activation = maximum(read, 0)
            running.append(running[-1] + activation if running else activation)
        threshold = Tensor("u")[output] * running[-1]
        body: Expr = select(running[-1] > threshold, reads[-1], 0)
        for read, total in zip(reads[-2::-1], running[-2::-1], strict=True):
            body = select(total > threshold, read, body)
        sizes = self._sizes(attributes, x)
        return Formula(output, body, sizes, {"x": x, "u": tuple(shapes[1])})

    def _reads(self, attributes: Attributes, kernel: Sequence[int]) -> Any:
        """The window's places one by one: they are compared in order, so they are written out."""
        for place in itertools.product(*map(range, kernel)):
            yield look_up("x", N, C, *(_fixed(k, place) for k in self._spots(attributes)))


class ExpectedPool(Windows):
    """What stochastic pooling gives on average: `Σ a·x / Σ a` of each window, with a = max(x, 0).

    0 where all activations are 0. It is what a trained network computes.

    Input: x (n, channels, …) with one to three axes of space. Output: as many axes.

    Source: Zeiler & Fergus, arXiv:1301.3557, section 3.2.
    """

    name = stem = "expected_pool"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, over = tuple(shapes[0]), self._over(attributes)
        activation = maximum(look_up("x", N, C, *self._spots(attributes)), 0)
        total, squares = Sum(over, activation), Sum(over, activation * activation)
        body = select(total > 0, squares / select(total > 0, total, 1), total)
        return Formula(self._output(attributes), body, self._sizes(attributes, x), {"x": x})


# ---- parts -------------------------------------------------------------------------------------


def _fixed(index: Index, place: Sequence[int]) -> Index:
    """An index of a window with the window's own axes held at a place."""
    held = dict(zip((str(a) for a in TAPS[len(place)]), place, strict=True))
    more = sum(c * held.get(axis, 0) for axis, c in index.terms)
    return Index(tuple(t for t in index.terms if t[0] not in held), index.const + more)


def to_power(read: Read, norm: float, absolute: bool) -> Expr:
    """`|x|^norm`, or `x^norm`."""
    if norm == 2:
        return read * read
    return power(abs(read) if absolute else read, norm)


def root(total: Expr, norm: float, absolute: bool) -> Expr:
    """`total^(1/norm)`, whose slope is taken as 1 at 0 so that no 0·∞ comes up."""
    if norm == 1:
        return total
    found = sqrt(total) if norm == 2 else power(total, 1 / norm)
    rest = total if absolute else select(call("lt", total, 0), found, total)
    return select(total > 0, found, rest)


def norm_attributes(name: str, attributes: Attributes) -> tuple[float, bool]:
    """The attributes norm, a number above 0, and absolute."""
    norm, absolute = number_attribute(name, attributes, "norm"), attributes["absolute"]
    if norm <= 0:
        raise OptionError(f"{name}: norm expected a number above 0; got {norm:g}.")
    if not isinstance(absolute, bool):
        raise OptionError(f"{name}: absolute expected true or false; got {absolute!r}.")
    return norm, absolute


def counted_attribute(name: str, attributes: Attributes, count: int) -> tuple[tuple[int, int], ...]:
    """The padding that counts, (before, after) for each axis of space."""
    counted = attributes["counted"]
    if not isinstance(counted, Sequence) or len(counted) != count:
        raise OptionError(
            f"{name}: counted expected {count} pairs [before, after]; got {counted!r}."
        )
    return tuple(pair(side, f"{name}: counted") for side in counted)


def counts_of(
    image: Sequence[int],
    places: Sequence[int],
    windows: tuple[Any, ...],
    counted: Sequence[tuple[int, int]],
    weights: Sequence[Array | None] | None = None,
) -> list[Array]:
    """`axis_counts` for each axis of space; `windows`: kernels, strides, paddings, dilations."""
    weights = weights or [None] * len(image)
    along = zip(image, places, zip(*windows, strict=True), counted, weights, strict=True)
    return [axis_counts(*axis) for axis in along]


def _above_0(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
