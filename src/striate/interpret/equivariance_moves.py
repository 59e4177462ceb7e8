"""Transforms of images, and what they do to a feature map on its own grid.

A place of a feature map lies over a place of the image (`Grid`); a transform moves places of the
image, so it says for each place of the map where on the map its value comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, suggest
from striate.graph.graph import Graph
from striate.inspect.receptive import ReceptiveField, fields

Float32 = NDArray[np.float32]
Array = NDArray[np.float64]
OUTSIDE = ("edge", "wrap", "zero", "reflect")
_EVEN = 6  # decimals of a place: a quarter turn must meet pixels, not their neighbours


@dataclass(frozen=True)
class Grid:
    """Where the places of a map lie on the image: place i at `start + i·step`, in pixels.

    Attributes:
        start: of the first, (row, column).
        step: from one to the next.
        field: how many places each looks at.
        size: of the image.
    """

    start: tuple[float, float]
    step: tuple[float, float]
    field: tuple[int, int] = (1, 1)
    size: tuple[int, int] = (1, 1)

    def sees_inside(self, axis: int, places: Array) -> NDArray[np.bool_]:
        """Whether places, or both neighbours of one between them, look at nothing but the image."""
        reach = (self.field[axis] - 1) / 2
        first = self.start[axis] + self.step[axis] * np.floor(places) - reach
        last = self.start[axis] + self.step[axis] * np.ceil(places) + reach
        return (first >= -0.25) & (last <= self.size[axis] - 0.75)

    @classmethod
    def of(cls, field: ReceptiveField) -> Grid | None:
        """The grid of a layer's output; None where it has no space, or none that is known."""
        if len(field.shape) != 3 or field.shape[1:] == (1, 1) or not field.reads:
            return None
        both = [_along(field, axis) for axis in (0, 1)]
        if both[0] is None or both[1] is None:
            return None
        shape = field.input_shape
        return cls(
            (both[0][0], both[1][0]),
            (both[0][1], both[1][1]),
            (field.size[0], field.size[1]),
            (shape[1], shape[2]),
        )


def _along(field: ReceptiveField, axis: int) -> tuple[float, float] | None:
    """Where the first place along an axis lies, and the step to the next.

    Behind a gate that looks at the whole image (squeeze and excitation), a unit's field does not
    move with the unit; the map is then taken to lie in the middle of the image, and a size that
    divides the image's to be its stride.
    """
    size, count, step = field.input_shape[1 + axis], field.shape[1 + axis], field.stride[axis]
    if field.laws[axis].dim not in (None, 2 + axis):
        return None
    if step and count > 1:
        middle = [0, *(n // 2 for n in field.shape[1:])]
        before = list(middle)
        before[1 + axis] -= 1
        (low, high), (first, last) = field.at(middle)[axis], field.at(before)[axis]
        if abs(low - first - step) < 1 and abs(high - last - step) < 1:
            return (low + high) / 2 - step * middle[1 + axis], float(step)
    if not step and (count == 1 or size % count):
        return None
    step = step or size / count
    return (size - 1) / 2 - step * (count - 1) / 2, float(step)


def grids(graph: Graph) -> dict[str, Grid | None]:
    """The grid of every layer, as if all padding were zeros.

    Where padding repeats the image itself, a unit at the border looks at both ends of it.
    """
    plain = Graph(outputs=graph.outputs)
    for node in graph.nodes.values():
        if node.op == "pad":
            node = replace(node, attributes={**node.attributes, "mode": "constant"})
        plain.append(node)
    return {name: Grid.of(field) for name, field in fields(plain).items()}


Places = Callable[[Array, Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Move:
    """One transform by one amount.

    Attributes:
        factor: what every value is multiplied by.
        places: for rows and columns of the image, where their values come from; None moves none.
        rolls: whether nothing leaves the image: it comes in again on the other side.
        outside: what lies outside the image.
    """

    factor: float = 1.0
    places: Places | None = None
    rolls: bool = False
    outside: str = "edge"

    def image(self, images: Float32) -> Float32:
        """The images (n, c, h, w) transformed."""
        if self.places is None:
            return np.asarray(images * np.float32(self.factor), np.float32)
        rows, columns = np.indices(images.shape[2:], float)
        return resample(images, *self.places(rows, columns), self.outside)

    def map(
        self, values: Float32, grid: Grid | None, borders: bool = True
    ) -> tuple[Float32, NDArray[np.bool_]] | None:
        """A layer's output transformed, and where it is known, (h, w); None: no such transform.

        Without borders, only where nothing but the image is looked at, before and after.
        """
        if self.places is None:
            return np.asarray(values * np.float32(self.factor), np.float32), np.ones(1, bool)
        if grid is None:
            return None
        h, w = values.shape[2:]
        rows, columns = np.indices((h, w), float)
        moved = self.places(
            grid.start[0] + grid.step[0] * rows, grid.start[1] + grid.step[1] * columns
        )
        down = np.round((moved[0] - grid.start[0]) / grid.step[0], _EVEN)
        right = np.round((moved[1] - grid.start[1]) / grid.step[1], _EVEN)
        inside = np.ones((h, w), bool)
        if not self.rolls:
            inside = (down >= 0) & (down <= h - 1) & (right >= 0) & (right <= w - 1)
        if not borders:
            for axis, before, after in ((0, rows, down), (1, columns, right)):
                inside &= grid.sees_inside(axis, before) & grid.sees_inside(axis, after)
        return resample(values, down, right, "wrap" if self.rolls else "edge"), inside


def resample(images: Float32, rows: Array, columns: Array, outside: str) -> Float32:
    """Values at places of images, by bilinear interpolation.

    Args:
        images: (n, c, h, w).
        rows: places, (oh, ow).
        columns: likewise.
        outside: "edge", "wrap", "zero" or "reflect".
    Returns:
        (n, c, oh, ow).
    """
    rows, columns = np.round(rows, _EVEN), np.round(columns, _EVEN)
    top, left = np.floor(rows), np.floor(columns)
    out = np.zeros((*images.shape[:2], *rows.shape), np.float32)
    for i, down in ((0, 1 - (rows - top)), (1, rows - top)):
        for j, right in ((0, 1 - (columns - left)), (1, columns - left)):
            weight = (down * right).astype(np.float32)
            if not weight.any():
                continue
            y, there = _inside(top.astype(int) + i, images.shape[2], outside)
            x, here = _inside(left.astype(int) + j, images.shape[3], outside)
            out += images[:, :, y, x] * (weight * (there & here))
    return out


def _inside(
    index: NDArray[np.int_], size: int, outside: str
) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
    """Indices brought inside, and whether their values count."""
    if outside == "wrap":
        return index % size, np.ones(index.shape, bool)
    if outside == "reflect" and size > 1:
        folded = index % (2 * size - 2)
        return np.where(folded < size, folded, 2 * size - 2 - folded), np.ones(index.shape, bool)
    counts = np.ones(index.shape, np.bool_)
    if outside == "zero":
        counts &= (index >= 0) & (index < size)
    return np.clip(index, 0, size - 1), counts


# ---- the transforms by name ----------------------------------------------------------------------


def move(
    transform: str,
    amount: float,
    shape: tuple[int, ...],
    direction: tuple[float, float],
    outside: str,
) -> Move:
    """A transform of images (c, h, w) by an amount; see `interpret.equivariance`."""
    if transform not in TRANSFORMS:
        raise OptionError(
            f"equivariance: unknown transform {transform!r}. {suggest(transform, TRANSFORMS)}"
        )
    if outside not in OUTSIDE:
        raise OptionError(f"equivariance: unknown outside={outside!r}. {suggest(outside, OUTSIDE)}")
    if not math.isfinite(amount):
        raise OptionError(f"equivariance: expected finite amounts; got {amount}.")
    if transform == "brighten":
        return Move(factor=1 + amount)
    if transform == "shift":
        down, right = amount * direction[0], amount * direction[1]
        return Move(
            places=lambda rows, columns: (rows - down, columns - right),
            rolls=outside == "wrap",
            outside=outside,
        )
    return Move(places=_about_centre(transform, amount, shape), outside=outside)


def _about_centre(transform: str, amount: float, shape: tuple[int, ...]) -> Places:
    """Rotation counter-clockwise by degrees, or scaling by a factor, about the image's middle."""
    if transform == "scale" and amount <= 0:
        raise OptionError(f"equivariance: expected factors above 0 to scale by; got {amount}.")
    angle = math.radians(amount) if transform == "rotate" else 0.0
    factor = amount if transform == "scale" else 1.0
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    middle = (shape[1] - 1) / 2, (shape[2] - 1) / 2

    def places(rows: Array, columns: Array) -> tuple[Array, Array]:
        down, right = rows - middle[0], columns - middle[1]
        # rows grow downward: turning back is clockwise, (r, c) → (r·cos + c·sin, c·cos − r·sin)
        return (
            middle[0] + cos * down + sin * right,
            middle[1] + cos * right - sin * down,
        )

    return places


TRANSFORMS = {
    "shift": "pixels",
    "rotate": "degrees, counter-clockwise",
    "scale": "factor",
    "brighten": "share, times 1 + amount",
}
"""The transforms, and what their amounts are."""


def scrambled(images: Float32) -> Float32:
    """Images with the same spectra and random phases: as unlike as another picture of the kind."""
    noise = np.random.Generator(np.random.Philox(0)).normal(size=images.shape[2:])
    turn = np.exp(1j * np.angle(np.fft.rfft2(noise)))
    turn[0, 0] = 1.0  # the mean stays
    spectrum = np.fft.rfft2(images) * turn
    return np.asarray(np.fft.irfft2(spectrum, s=images.shape[2:]), np.float32)
