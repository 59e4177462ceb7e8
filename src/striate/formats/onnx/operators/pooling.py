"""Pooling: the largest, the mean or a norm of each window, or of the whole image; and unpooling."""

from __future__ import annotations

import math

import numpy as np

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.operators.convolution import Pairs, padding, sizes
from striate.formats.onnx.operators.reduction import mean, reduced
from striate.formats.onnx.operators.structure import padded
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import INT64, Array, Value
from striate.formula.expression import Var, equal
from striate.formula.pool import axis_counts
from striate.formula.reduce import p_norm

_X, _T = Var("x"), Var("t")


@operator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(c: Call) -> Value:
    x = c.value(0)
    over = list(range(2, x.rank))
    kind = {"GlobalAveragePool": "avg", "GlobalMaxPool": "max"}.get(c.op, "")
    if kind and len(over) in (1, 2, 3):
        op = f"adaptive_{kind}_pool{len(over)}d"
        return c.apply(op, [x], {"output": [1] * len(over)}, whole=False)
    if c.op == "GlobalAveragePool":
        return mean(c, x, over)
    if c.op == "GlobalMaxPool":
        return reduced(c, x, over, "max", _X, _T)
    return reduced(c, x, over, *p_norm(float(c.attribute("p", 2))))


class Window:
    """The windows of a pooling node: sizes along each axis of space."""

    def __init__(self, c: Call, x: Value) -> None:
        if not 3 <= x.rank <= 5:
            c.refuse(f"expected x (n, channels, …) with one to three axes of space; got {x.shape}")
        self.image, self.rank = x.shape[2:], x.rank - 2
        self.kernel = [int(k) for k in c.attribute("kernel_shape", [])]
        if len(self.kernel) != self.rank:
            c.refuse(f"kernel_shape expected {self.rank} sizes; got {self.kernel}")
        self.stride = sizes(c, "strides", self.rank)
        self.dilation = sizes(c, "dilations", self.rank)
        self.pads: Pairs = padding(c, self.image, self.kernel, self.stride, self.dilation)
        self.more = [0] * self.rank  # what ceil_mode adds at the end
        if c.attribute("ceil_mode", 0):
            self.more = [self._beyond(k) for k in range(self.rank)]

    def _reach(self, axis: int) -> int:
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def _beyond(self, axis: int) -> int:
        """How far the last window of ceil_mode reaches past the padding."""
        s, (before, after), size = self.stride[axis], self.pads[axis], self.image[axis]
        reach = self._reach(axis)
        count = -(-(size + before + after - reach) // s) + 1
        if (count - 1) * s >= size + before:  # a window must begin inside
            count -= 1
        return max((count - 1) * s + reach - (size + before + after), 0)

    @property
    def sides(self) -> Pairs:
        """(before, after) with what ceil_mode adds."""
        return [(b, a + m) for (b, a), m in zip(self.pads, self.more, strict=True)]

    @property
    def fits(self) -> bool:
        """Whether striate's poolings take this padding: at most half of a window."""
        return all(max(side) <= self._reach(k) // 2 for k, side in enumerate(self.sides))

    def settings(self, sides: Pairs) -> dict[str, object]:
        """The attributes that all poolings have."""
        return {
            "kernel": self.kernel,
            "stride": self.stride,
            "padding": [list(side) for side in sides],
            "dilation": self.dilation,
        }

    def none(self) -> Pairs:
        return [(0, 0)] * self.rank

    def counts(self, counted: Pairs) -> Array:
        """How many of each window's places count."""
        found = np.ones(())
        for k, size in enumerate(self.image):
            along = (self.kernel[k], self.stride[k], self.sides[k], self.dilation[k])
            windows = (size + sum(self.sides[k]) - self._reach(k)) // self.stride[k] + 1
            found = np.multiply.outer(found, axis_counts(size, windows, along, counted[k]))
        return found


@operator("MaxPool")
def max_pool(c: Call) -> Value | list[Value]:
    x = c.value(0)
    window, column_major = Window(c, x), c.attribute("storage_order", 0)
    sides = window.sides
    if not window.fits:
        # Copies of the edge do not change a maximum: a window that reaches out holds the edge.
        if max(window.dilation) > 1 or c.wants(1):
            c.refuse("padding of more than half a window is supported with dilation 1 only")
        x = padded(c, x, [(0, 0), (0, 0), *sides], "replicate")
        sides = window.none()
    settings = window.settings(sides)
    found = c.apply(f"max_pool{window.rank}d", [x], settings, whole=False)
    if not c.wants(1):
        return found
    places = c.apply("max_pool_indices", [x], settings, whole=False)
    return [found, _flat_indices(c, places, x.shape, bool(column_major))]


def _flat_indices(c: Call, places: Value, shape: tuple[int, ...], column_major: bool) -> Value:
    """Places in a plane as places in the whole tensor, row or column first."""
    found = places.array.astype(np.int64)
    if column_major:
        spots = np.unravel_index(found, shape[2:])
        found = np.ravel_multi_index(spots[::-1], shape[2:][::-1])
    return c.given(found + _plane_starts(shape), INT64)


def _plane_starts(shape: tuple[int, ...]) -> Array:
    planes = np.arange(shape[0] * shape[1]) * math.prod(shape[2:])
    return planes.reshape(shape[0], shape[1], *(1,) * (len(shape) - 2))


@operator("MaxUnpool")
def max_unpool(c: Call) -> Value:
    x, indices, wanted = c.value(0), c.value(1), c.integers(2)
    window = Window(c, x)
    output = [
        (n - 1) * s + k - before - after
        for n, s, k, (before, after) in zip(
            x.shape[2:], window.stride, window.kernel, window.pads, strict=True
        )
    ]
    starts = _plane_starts((*x.shape[:2], *output))
    places = Value.of((indices.array - starts).astype(np.float32))
    settings = {**window.settings(window.pads), "output": output}
    found = c.apply("max_unpool", [x, places], settings, whole=False)
    if wanted is None:
        return found
    if len(wanted) != x.rank:
        c.refuse(f"output_shape expected {x.rank} sizes; got {wanted}")
    c.require_room(wanted)
    sides = [(0, int(k) - n) for n, k in zip(found.shape, wanted, strict=True)]
    return padded(c, found, sides)


@operator("AveragePool")
def average_pool(c: Call) -> Value:
    x = c.value(0)
    window = Window(c, x)
    counted = window.pads if c.attribute("count_include_pad", 0) else window.none()
    if window.fits and not any(window.more) and max(window.dilation) == 1:
        settings = window.settings(window.pads)
        del settings["dilation"]
        settings["count_include_pad"] = counted == window.pads
        return c.apply(f"avg_pool{window.rank}d", [x], settings, whole=False)
    if window.fits:
        settings = {**window.settings(window.sides), "counted": [list(k) for k in counted]}
        return c.apply("mean_pool", [x], settings, whole=False)
    wide = padded(c, x, [(0, 0), (0, 0), *window.sides])
    total = c.apply(
        "sum_pool", [wide], {**window.settings(window.none()), "divisor": 1.0}, whole=False
    )
    if c.lowering.symbolic:
        return c.map(lambda a, b: a / b, total, _counts(c, x, window, counted))
    shares = Value.of(np.asarray(1 / window.counts(counted), x.dtype), constant=True)
    return c.map(lambda a, b: a * b, total, shares)


def _counts(c: Call, x: Value, window: Window, counted: Pairs) -> Value:
    """How many places of each window count, as the sum of a one for each."""
    ones = padded(c, c.map(lambda a: equal(a, a), x), [(0, 0), (0, 0), *counted], fill=1.0)
    rest = [
        (before - b, after - a)
        for (before, after), (b, a) in zip(window.sides, counted, strict=True)
    ]
    settings = {**window.settings(window.none()), "divisor": 1.0}
    return c.apply("sum_pool", [padded(c, ones, [(0, 0), (0, 0), *rest])], settings, whole=False)


@operator("LpPool")
def lp_pool(c: Call) -> Value:
    x = c.value(0)
    window, norm = Window(c, x), float(c.attribute("p", 2))
    sides = window.sides
    if not window.fits:
        x, sides = padded(c, x, [(0, 0), (0, 0), *sides]), window.none()
    settings = {
        **window.settings(sides),
        "norm": norm,
        "absolute": True,
        "counted": None,
    }
    return c.apply("lp_pool", [x], settings, whole=False)
