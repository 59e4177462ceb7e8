"""GridSample: images read at places that are values, as sums over all places of an axis.

`y[n,c,o] = Σ_{h,w} x[n,c,h,w]·a[n,o,h]·b[n,o,w]`, where a and b are formulas of a coordinate and
a place: 0 for all but the few places that the interpolation reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.operators.einsum import product
from striate.formats.onnx.operators.structure import cut
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value
from striate.formula import expression as e
from striate.formula.expression import Expr, where

Weigh = Callable[[Expr], Expr]
_CUBIC = -0.75
_SPACE = "dhw"


def _hat(distance: Expr) -> Expr:
    return e.maximum(1 - abs(distance), 0)


def _keys(distance: Expr) -> Expr:
    """Keys' cubic with a = −3/4."""
    d, a = abs(distance), _CUBIC
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * a - 4 * a
    return where(d <= 1, near, where(d < 2, far, 0))


_TAPS: dict[str, tuple[Sequence[int], Weigh]] = {
    "linear": ((0, 1), _hat),
    "cubic": ((-1, 0, 1, 2), _keys),
}


@operator("GridSample", since=16)
def grid_sample(c: Call) -> Value:
    x, grid = c.value(0), c.value(1)
    mode, border = c.attribute("mode", "linear"), c.attribute("padding_mode", "zeros")
    align = bool(c.attribute("align_corners", 0))
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    rank = x.rank - 2
    if rank not in (1, 2, 3) or grid.rank != x.rank or grid.shape[-1] != rank:
        c.refuse(f"expected x (n, c, …) and grid (n, …, {rank}); got {x.shape}, {grid.shape}")
    if mode not in ("linear", "cubic", "nearest") or border not in (
        "zeros",
        "border",
        "reflection",
    ):
        c.refuse(f"mode {mode!r} with padding_mode {border!r} is not supported")
    n, outputs = x.shape[0], math.prod(grid.shape[1:-1])
    flat = c.reshape(grid, (n, outputs, rank))
    found = x
    for k in range(rank):  # the last coordinate belongs to the first axis of space
        at = cut(c, flat, 2, rank - 1 - k, rank - k)
        weights = _weights(c, at, x.shape[2 + k], mode, border, align)
        found = _along(c, found, weights, k, rank)
    return c.reshape(found, (n, x.shape[1], *grid.shape[1:-1]))


def _along(c: Call, x: Value, weights: Value, done: int, rank: int) -> Value:
    """Sum out an axis of space; the axis of the outputs comes in with the first."""
    here, rest = _SPACE[done], _SPACE[done + 1 : rank]
    outputs = "o" if done else ""
    return product(c, f"nc{outputs}{here}{rest},no{here}->nco{rest}", [x, weights])


def _weights(c: Call, at: Value, size: int, mode: str, border: str, align: bool) -> Value:
    """(n, outputs, size): what each place of an axis weighs for each output."""
    places = Value.of(np.arange(size, dtype=np.float32).reshape(1, 1, size), constant=True)

    def weigh(g: Expr, place: Expr) -> Expr:
        spot = (g + 1) / 2 * (size - 1) if align else ((g + 1) * size - 1) / 2
        if mode == "nearest":
            return e.equal(
                _inside(_even_round(_folded(spot, size, border, align)), size, border, align), place
            )
        spot = spot if mode == "cubic" else _folded(spot, size, border, align)
        taps, kernel = _TAPS[mode]
        low = e.floor(spot)
        total: Any = 0
        for tap in taps:
            seen = _inside(low + tap, size, border, align)
            total = total + kernel(spot - low - tap) * e.equal(seen, place)
        return e.expr(total)

    return c.map(weigh, at, places)


def _even_round(x: Expr) -> Expr:
    low = e.floor(x)
    even = e.equal(low - 2 * e.floor(low / 2), 0)
    return where(e.equal(x - low, 0.5), where(even, low, low + 1), e.floor(x + 0.5))


def _folded(spot: Expr, size: int, border: str, align: bool) -> Expr:
    """A coordinate brought inside before it is rounded, as border and reflection say."""
    return spot if border == "zeros" else _inside(spot, size, border, align)


def _inside(spot: Expr, size: int, border: str, align: bool) -> Expr:
    """A place outside is the nearest one, or its mirror image; or nothing."""
    if border == "zeros":
        return spot
    if border == "border":
        return e.minimum(e.maximum(spot, 0), size - 1)
    low, span = (0.0, size - 1.0) if align else (-0.5, float(size))
    if span <= 0:
        return spot * 0
    away = abs(spot - low)
    turns = e.floor(away / span)
    rest = away - turns * span
    odd = e.equal(turns - 2 * e.floor(turns / 2), 1)
    mirrored = where(odd, span - rest, rest) + low
    return e.minimum(e.maximum(mirrored, 0), size - 1)
