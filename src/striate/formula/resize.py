"""Resizing by interpolation: each output reads a few places of each axis, with fixed weights.

An axis has its own table: where output i of it reads (1 place for nearest, 2 for linear, 4 for
cubic interpolation, more where `antialias` shrinks) and what each place weighs. The weights of a
place of an image are products of its axes'. Conventions are those of `torch.nn.functional`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, suggest
from striate.formula.expression import Expr, Sum, Tensor
from striate.formula.formula import Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    require_attributes,
    require_rank,
    sizes_attribute,
)
from striate.formula.pool import PLACES, SPACE, TAPS, C, N, look_up, sizes_of

MODES = ("nearest", "nearest-exact", "linear", "cubic")
Places = NDArray[np.intp]
Taps = tuple[Places, Array]  # places and weights, each (output, taps); place −1 reads nothing


class Resize(Operation):
    """`y[n,c,i,j] = Σ_{p,q} x[n, c, rows[i,p], columns[j,q]] · wr[i,p] · wc[j,q]`.

    Attributes:
        output: the sizes along the axes of space.
        mode: "nearest" and "nearest-exact" (one place), "linear" (two), "cubic" (four).
        steps: how far apart the outputs lie in the input, one number an axis; null for input
            size over output size.
        align_corners: whether the first and last places of both sides coincide; else their edges.
        antialias: whether the weights widen where the image shrinks.

    Input: x (n, channels, …) with one to three axes of space. Output: (n, channels, *output).

    Source: Keys, Cubic convolution interpolation for digital image processing, 1981.

    >>> settings = {"output": [4], "mode": "linear", "steps": None, "align_corners": True,
    ...             "antialias": False}
    >>> Resize().reference(settings, [[[[0.0, 3.0]]]])
    array([[[0., 1., 2., 3.]]])
    """

    name = "resize"
    arguments = ("x",)
    attributes = ("output", "mode", "steps", "align_corners", "antialias")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        rank = self._rank(attributes)
        require_rank(self.name, "x", x, f"channels, {', '.join(SPACE[rank])}")
        self._check(attributes, rank)
        return (x[0], *sizes_attribute(self.name, attributes, "output", rank))

    def _rank(self, attributes: Attributes) -> int:
        output = attributes["output"]
        if not isinstance(output, Sequence) or len(output) not in SPACE:
            raise OptionError(
                f"{self.name}: output expected one to three sizes, one an axis of space; "
                f"got {output!r}."
            )
        return len(output)

    def _check(self, attributes: Attributes, rank: int) -> None:
        mode, steps = attributes["mode"], attributes["steps"]
        if mode not in MODES:
            raise OptionError(f"{self.name}: unknown mode {mode!r}. {suggest(str(mode), MODES)}")
        if steps is not None and (len(steps) != rank or not all(map(_above_0, steps))):
            raise OptionError(
                f"{self.name}: steps expected null or {rank} numbers above 0; got {steps!r}."
            )
        for key in ("align_corners", "antialias"):
            if not isinstance(attributes[key], bool):
                raise OptionError(
                    f"{self.name}: {key} expected true or false; got {attributes[key]!r}."
                )
        if mode.startswith("nearest") and (attributes["align_corners"] or attributes["antialias"]):
            raise OptionError(
                f"{self.name}: expected align_corners and antialias only with mode 'linear' or "
                f"'cubic'; got mode={mode!r}."
            )

    def _taps(self, attributes: Attributes, image: Shape) -> list[Taps]:
        """The places and weights of each axis."""
        steps = attributes["steps"] or [None] * len(image)
        return [
            axis_taps(size, count, step, attributes)
            for size, count, step in zip(image, attributes["output"], steps, strict=True)
        ]

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, rank = tuple(shapes[0]), self._rank(attributes)
        taps = self._taps(attributes, x[2:])
        counts = [places.shape[1] for places, _ in taps]
        spots = tuple(
            i.through(places[:, 0].tolist())
            if k == 1
            else (i * k + p).through(places.ravel().tolist())
            for i, p, k, (places, _) in zip(PLACES[rank], TAPS[rank], counts, taps, strict=True)
        )
        body: Expr = look_up("x", N, C, *spots)
        constants: dict[str, Array] = {}
        over = [p for p, k in zip(TAPS[rank], counts, strict=True) if k > 1]
        for axis, i, p, (_, weights) in zip(
            SPACE[rank], PLACES[rank], TAPS[rank], taps, strict=True
        ):
            if p in over:
                constants[axis] = weights
                body = body * Tensor(axis)[i, p]
        if over:
            body = Sum(tuple(over), body)
        sizes = {"n": x[0], "c": x[1], **sizes_of(PLACES[rank], attributes["output"])}
        sizes |= {str(p): k for p, k in zip(TAPS[rank], counts, strict=True) if k > 1}
        return Formula((N, C, *PLACES[rank]), body, sizes, {"x": x}, constants=constants)


def axis_taps(size: int, count: int, step: float | None, attributes: Attributes) -> Taps:
    """Where the outputs of one axis read, and what each place weighs.

    Args:
        size: of the input.
        count: of the outputs.
        step: how far apart they lie in the input; None for size/count.
        attributes: of the resize.
    """
    mode, align = attributes["mode"], attributes["align_corners"]
    if mode.startswith("nearest"):
        places = _nearest(size, count, step, exact=mode == "nearest-exact")
        return places[:, None], np.ones((count, 1))
    copied = mode == "linear" or attributes["antialias"]  # PyTorch then ignores the step
    if size == count and (align or step in (None, 1.0) or copied):
        return np.arange(size)[:, None], np.ones((size, 1))
    if align:
        step = (size - 1) / (count - 1) if count > 1 else 0.0
    elif step is None:
        step = size / count
    if attributes["antialias"]:
        return _wide(size, count, step, mode)
    whole = np.arange(count, dtype=np.float64)
    at = whole * step if align else (whole + 0.5) * step - 0.5
    return _linear(size, at) if mode == "linear" else _cubic(size, at)


def _nearest(size: int, count: int, step: float | None, exact: bool) -> Places:
    """The place that each output takes, in float32 arithmetic as PyTorch has it."""
    scale = np.float32(size / np.float32(count) if step is None else step)
    if not exact and count == size and step is None:
        return np.arange(size)
    if not exact and count == 2 * size and step is None:
        return np.arange(count) // 2
    at = np.arange(count, dtype=np.float32)
    spots = np.floor((at + np.float32(0.5)) * scale if exact else at * scale)
    found: Places = np.minimum(spots.astype(np.intp), size - 1)
    return found


def _linear(size: int, at: Array) -> Taps:
    """The two neighbours; beyond the edges the outermost place."""
    at = np.maximum(at, 0.0)
    first = np.minimum(np.floor(at).astype(np.intp), size - 1)
    second = np.minimum(first + 1, size - 1)
    share = np.clip(at - first, 0.0, 1.0)
    return np.stack([first, second], 1), np.stack([1 - share, share], 1)


def _cubic(size: int, at: Array) -> Taps:
    """Four neighbours, weighed by Keys' cubic with a = −3/4; beyond the edges the outermost."""
    first = np.floor(at)
    around = np.arange(-1, 3)
    weights = cubic(at[:, None] - first[:, None] - around, -0.75)
    places = np.clip(first[:, None].astype(np.intp) + around, 0, size - 1)
    return places, weights


def cubic(distance: Array, a: float) -> Array:
    """Keys' cubic: 1 at 0, 0 at the other whole numbers and beyond 2."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * a - 4 * a
    found: Array = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
    return found


def _triangle(distance: Array) -> Array:
    found: Array = np.maximum(1 - np.abs(distance), 0.0)
    return found


def _wide(size: int, count: int, step: float, mode: str) -> Taps:
    """Weights whose reach grows with the step where that is above 1, each row summing up to 1."""
    filters: dict[str, tuple[float, Callable[[Array], Array]]] = {
        "linear": (1.0, _triangle),
        "cubic": (2.0, lambda d: cubic(d, -0.5)),
    }
    reach, weigh = filters[mode]
    scale = max(step, 1.0)
    reach *= scale
    centre = step * (np.arange(count) + 0.5)  # whether corners are aligned or not, as PyTorch
    first = np.maximum((centre - reach + 0.5).astype(np.intp), 0)
    stop = np.minimum((centre + reach + 0.5).astype(np.intp), size)
    taps = int((stop - first).max())
    places = first[:, None] + np.arange(taps)
    inside = places < stop[:, None]
    weights = np.where(inside, weigh((places - centre[:, None] + 0.5) / scale), 0.0)
    weights /= weights.sum(1, keepdims=True)
    return np.where(inside, places, -1), weights


def _above_0(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
