"""Resize and Upsample: each output of an axis is a weighted sum of a few of its places.

What places and weights is worked out here for every option of ONNX. Nearest interpolation looks
rows up; the rest is a product with a matrix of weights for each axis that changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.operators.einsum import product
from striate.formats.onnx.operators.structure import rows_of
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Array, Value
from striate.formula.expression import where
from striate.formula.resize import cubic

_LETTERS = "abcdefghijklm"
_KNOWN = {
    "mode": ("nearest", "linear", "cubic"),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "coordinate_transformation_mode": (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
    ),
}


@dataclass(frozen=True)
class Options:
    """How coordinates and weights are chosen."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    fill: float


@dataclass(frozen=True)
class Axis:
    """One axis: sizes before and after, the scale, and the part that is cropped."""

    size: int
    count: int
    scale: float
    start: float = 0.0
    end: float = 1.0

    @property
    def same(self) -> bool:
        """Whether nothing happens along it."""
        uncut = (self.start, self.end) == (0.0, 1.0)
        return self.size == self.count and self.scale == 1 and uncut

    def places(self, coordinates: str) -> Array:
        """Where each output lies in the input."""
        at = np.arange(self.count, dtype=np.float64)
        length, exact = self.count, self.size * self.scale
        if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and length > 1):
            return (at + 0.5) / self.scale - 0.5
        if coordinates == "half_pixel_symmetric":
            offset = self.size / 2 * (1 - length / exact)
            return offset + (at + 0.5) / self.scale - 0.5
        if coordinates == "asymmetric":
            return at / self.scale
        if coordinates == "align_corners":
            return at * ((self.size - 1) / (exact - 1) if length > 1 else 0.0)
        if coordinates == "tf_crop_and_resize":
            first, last = self.start * (self.size - 1), self.end * (self.size - 1)
            if length == 1:
                return np.array([0.5 * (first + last)])
            return first + at * (last - first) / (length - 1)
        return np.zeros(length)  # pytorch_half_pixel of one place


def matrix(axis: Axis, options: Options) -> Array:
    """(count, size): what each place weighs for each output."""
    at = axis.places(options.coordinates)
    reach = 2 if options.mode == "cubic" else 1
    shrink = min(axis.scale, 1.0) if options.antialias else 1.0
    wide = math.ceil(reach / shrink)
    first = np.floor(at).astype(int)
    around = first[:, None] + np.arange(1 - wide, wide + 1)
    distance = np.asarray((at[:, None] - around) * shrink, np.float64)
    if options.mode == "cubic":
        weights = cubic(distance, options.cubic)
    else:
        weights = np.maximum(1 - np.abs(distance), 0.0)
    if options.exclude_outside:
        weights = np.where((around >= 0) & (around < axis.size), weights, 0.0)
    if options.exclude_outside or options.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    found = np.zeros((axis.count, axis.size))
    rows = np.broadcast_to(np.arange(axis.count)[:, None], around.shape)
    np.add.at(found, (rows, np.clip(around, 0, axis.size - 1)), weights)
    return found


def nearest_rows(axis: Axis, options: Options) -> Array:
    """The place that each output takes."""
    at = axis.places(options.coordinates)
    rounded = {
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
        "floor": np.floor(at),
        "ceil": np.ceil(at),
    }[options.nearest]
    return np.clip(rounded.astype(np.int64), 0, axis.size - 1)


@operator("Resize", since=11)
def resize(c: Call) -> Value:
    x = c.value(0)
    options = _options(c)
    listed = c.attribute("axes")
    axes = [c.axis(int(k), x.rank) for k in (range(x.rank) if listed is None else listed)]
    found = _axes(c, x, axes)
    if _crops(options):
        roi = c.value(1).array.ravel()
        half = len(roi) // 2
        found = {
            k: replace(a, start=float(roi[p]), end=float(roi[p + half]))
            for p, (k, a) in enumerate(found.items())
        }
    return resized(c, x, found, options)


def _options(c: Call) -> Options:
    def chosen(name: str, default: str) -> str:
        value = str(c.attribute(name, default))
        if value not in _KNOWN[name]:
            c.refuse(f"{name} expected one of {', '.join(_KNOWN[name])}; got {value!r}")
        return value

    return Options(
        mode=chosen("mode", "nearest"),
        coordinates=chosen("coordinate_transformation_mode", "half_pixel"),
        nearest=chosen("nearest_mode", "round_prefer_floor"),
        cubic=float(c.attribute("cubic_coeff_a", -0.75)),
        exclude_outside=bool(c.attribute("exclude_outside", 0)),
        antialias=bool(c.attribute("antialias", 0)),
        fill=float(c.attribute("extrapolation_value", 0.0)),
    )


def _axes(c: Call, x: Value, axes: list[int]) -> dict[int, Axis]:
    """Sizes and scales, from the input `scales` or `sizes`."""
    scales, sizes, policy = (
        c.maybe(2),
        c.maybe(3),
        c.attribute("keep_aspect_ratio_policy", "stretch"),
    )
    found: dict[int, Axis] = {}
    if sizes is not None and sizes.array.size:
        wanted = [int(k) for k in sizes.array]
        ratios = [k / x.shape[a] for k, a in zip(wanted, axes, strict=True)]
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(axes)
            wanted = [math.floor(ratio * x.shape[a] + 0.5) for a in axes]
        for axis, count, ratio in zip(axes, wanted, ratios, strict=True):
            found[axis] = Axis(x.shape[axis], count, ratio)
    elif scales is not None and scales.array.size == len(axes):
        for axis, scale in zip(axes, scales.array, strict=True):
            size = x.shape[axis]
            found[axis] = Axis(size, math.floor(size * float(scale)), float(scale))
    else:
        c.refuse(f"expected a scale or a size for each of the axes {axes}")
    if any(a.scale <= 0 or a.count < 1 for a in found.values()):
        c.refuse(f"expected scales above 0 and sizes from 1; got {list(found.values())}")
    c.require_room([found[k].count if k in found else n for k, n in enumerate(x.shape)])
    return found


def resized(c: Call, x: Value, axes: dict[int, Axis], options: Options) -> Value:
    """`x` with its axes resampled: all at once where striate has an operation that does it."""
    axes = {k: a for k, a in axes.items() if not (k < 2 and a.same)}
    if not axes:
        return x
    settings = _as_operation(x, axes, options)
    if settings is not None:
        return c.apply("resize", [x], settings, whole=False)
    if options.mode == "nearest" and 3 <= x.rank <= 5 and min(axes) >= 2:
        found = _nearest(c, x, axes, options)
        return _filled(c, found, axes, options) if _crops(options) else found
    found, cropped = x, _crops(options)
    for k, axis in axes.items():
        if axis.same:
            continue
        if options.mode == "nearest":
            found = rows_of(c, found, nearest_rows(axis, options), k)
        else:
            found = _product(c, found, matrix(axis, options), k)
    return _filled(c, found, axes, options) if cropped else found


def _crops(options: Options) -> bool:
    return options.coordinates == "tf_crop_and_resize"


def _nearest(c: Call, x: Value, axes: dict[int, Axis], options: Options) -> Value:
    """All axes of space at once: windows of one place that begin where a table says."""
    starts = [
        nearest_rows(axes[k], options).tolist() if k in axes else list(range(n))
        for k, n in enumerate(x.shape)
    ][2:]
    settings = {"kernel": [1] * len(starts), "starts": starts}
    return c.apply("fractional_max_pool", [x], settings, whole=False)


def _as_operation(x: Value, axes: dict[int, Axis], options: Options) -> dict[str, Any] | None:
    """The attributes of striate's resize, where it has these conventions."""
    whole = [a for k, a in sorted(axes.items()) if k >= 2]
    if not 3 <= x.rank <= 5 or min(axes) < 2 or len(whole) != x.rank - 2:
        return None
    mode = {
        ("nearest", "asymmetric", "floor"): "nearest",
        ("nearest", "half_pixel", "round_prefer_ceil"): "nearest-exact",
    }.get((options.mode, options.coordinates, options.nearest))
    aligned = options.coordinates == "align_corners"
    if options.mode != "nearest" and (aligned or options.coordinates == "half_pixel"):
        exact = all(a.size * a.scale == a.count for a in whole) or not aligned
        plain = not options.antialias and not options.exclude_outside and options.cubic == -0.75
        mode = options.mode if exact and plain else None
    if mode is None:
        return None
    return {
        "output": [a.count for a in whole],
        "mode": mode,
        "steps": None if aligned else [1 / a.scale for a in whole],
        "align_corners": aligned and options.mode != "nearest",
        "antialias": False,
    }


def _product(c: Call, x: Value, weights: Array, axis: int) -> Value:
    letters = _LETTERS[: x.rank]
    output = letters.replace(letters[axis], "z")
    table = Value.of(weights.astype(x.dtype), constant=True)
    return product(c, f"{letters},z{letters[axis]}->{output}", [x, table])


def _filled(c: Call, x: Value, axes: dict[int, Axis], options: Options) -> Value:
    """Outputs that lie outside the input become the extrapolation value."""
    inside: Any = np.ones((), bool)
    for k in range(x.rank):
        here = np.ones(x.shape[k], bool)
        if k in axes:
            at = axes[k].places(options.coordinates)
            here = (at >= 0) & (at <= axes[k].size - 1)
        inside = np.logical_and.outer(inside, here)
    if inside.all():
        return x
    return c.map(lambda a, p: where(p, a, options.fill), x, Value.of(inside))


@operator("Upsample", since=7)
@operator("Resize", since=10)
def upsample(c: Call) -> Value:
    """As it was before Resize got its options."""
    x, mode = c.value(0), c.attribute("mode", "nearest")
    given = c.attribute("scales") if c.opset < 9 else [float(k) for k in c.value(1).array]
    if len(given) != x.rank or mode not in ("nearest", "linear", "bilinear"):
        c.refuse(f"expected {x.rank} scales and the mode nearest or linear; got {given}, {mode!r}")
    kind = "linear" if mode == "bilinear" else mode
    options = Options(kind, "asymmetric", "floor", -0.75, False, False, 0.0)
    axes = {
        k: Axis(n, math.floor(n * scale), float(scale))
        for k, (n, scale) in enumerate(zip(x.shape, given, strict=True))
    }
    c.require_room([a.count for a in axes.values()])
    return resized(c, x, axes, options)
