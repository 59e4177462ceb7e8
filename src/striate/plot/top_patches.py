"""What drives units most: for each a grid of patches, and beside it what in them did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.plot.page import (
    MARGIN,
    MUTED,
    SIGNED,
    Page,
    as_pixels,
    number,
    plain,
    spread,
    styled,
)

if TYPE_CHECKING:
    from striate.interpret.patches import TopPatches

Array = NDArray[np.float64]
_WIDTH, _HEAD, _NAME, _UNDER, _GAP, _BETWEEN, _BLOCK_GAP = 7.4, 0.62, 0.22, 0.22, 0.03, 0.12, 0.3
_TILES = {True: (0.3, 0.62), False: (0.34, 0.8)}  # least and greatest side, with deconvolutions


@styled
def top_patches(
    patches: ArrayLike | TopPatches,
    scores: ArrayLike | None = None,
    deconvolutions: ArrayLike | None = None,
    *,
    names: Sequence[str] = (),
    title: str = "What drives these units most",
    under: str = "",
) -> Figure:
    """A block for each unit: its patches, strongest first, with their deconvolutions at the left.

    All deconvolutions of a unit have one scale, symmetric about 0, whose limit stands below: of
    three channels as colours (grey is 0), else blue below 0 and red above.

    Args:
        patches: (units, k, c, h, w), c is 1 or 3; or what `interpret.top_patches` gave.
        scores: (units, k), the units' responses.
        deconvolutions: of the patches' shape.
        names: a name for each unit; numbers by default.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: arrays of other shapes, or another number of names.

    >>> figure = top_patches(np.zeros((2, 9, 1, 7, 7)), np.ones((2, 9)))
    """
    if scores is None and hasattr(patches, "scores"):
        found: Any = patches
        patches, scores, deconvolutions = found.patches, found.scores, found.deconvolutions
        names = names or [f"{found.layer}, {unit}" for unit in found.units]
    tiles = _checked(np.asarray(patches, np.float64), scores, deconvolutions, names)
    maps = None if deconvolutions is None else np.asarray(deconvolutions, np.float64)
    values = np.asarray(scores, np.float64)
    units, k, _, h, w = tiles.shape
    grid = math.ceil(math.sqrt(k))
    lines = math.ceil(k / grid)
    side, beside = _sizes(units, grid, maps is not None)
    tile = (side, side * h / w) if w >= h else (side * w / h, side)
    panel = (grid * (tile[0] + _GAP) - _GAP, lines * (tile[1] + _GAP) - _GAP)
    wide = panel[0] * (1 if maps is None else 2) + (0.0 if maps is None else _BETWEEN)
    block = (wide + _BLOCK_GAP, _NAME + panel[1] + _UNDER + 0.12)
    rows = math.ceil(units / beside)
    width = min(units, beside) * block[0] - _BLOCK_GAP
    page = Page(max(width, 4.6) + 2 * MARGIN, _HEAD + rows * block[1] + 2 * MARGIN)
    beyond = "left: deconvolutions; right: patches" if maps is not None else ""
    page.title(title, under or beyond)
    shown = spread(np.nan_to_num(tiles))
    for unit in range(units):
        row, column = divmod(unit, beside)
        x, y = MARGIN + column * block[0], MARGIN + _HEAD + row * block[1]
        page.text(x, y + 0.12, plain(names[unit] if names else f"unit {unit}"), size=8.5,
                  weight="bold")  # fmt: skip
        top, note = y + _NAME, f"{number(values[unit].min())} … {number(values[unit].max())}"
        at = x
        if maps is not None:
            limit = float(np.abs(np.nan_to_num(maps[unit])).max()) or 1.0
            _draw(page, maps[unit], (at, top), tile, grid, limit)
            page.text(x, top + panel[1] + 0.14, f"±{number(limit)}", size=7, color=MUTED)
            at += panel[0] + _BETWEEN
        _draw(page, shown[unit], (at, top), tile, grid, None)
        page.text(at, top + panel[1] + 0.14, note, size=7, color=MUTED)
    return page.figure


def _checked(
    patches: Array, scores: Any, deconvolutions: ArrayLike | None, names: Sequence[str]
) -> Array:
    if patches.ndim != 5 or patches.shape[2] not in (1, 3) or not patches.size:
        raise ShapeError(
            "plot.top_patches: expected patches (units, k, c, h, w) of 1 or 3 channels; got shape "
            f"{patches.shape}."
        )
    if np.shape(scores) != patches.shape[:2]:
        raise ShapeError(
            f"plot.top_patches: expected scores {patches.shape[:2]}, (units, k); got shape "
            f"{np.shape(scores)}."
        )
    if deconvolutions is not None and np.shape(deconvolutions) != patches.shape:
        raise ShapeError(
            f"plot.top_patches: expected deconvolutions of the patches' shape {patches.shape}; got "
            f"{np.shape(deconvolutions)}."
        )
    if len(names) not in (0, len(patches)):
        raise ShapeError(
            f"plot.top_patches: expected {len(patches)} names of units; got {len(names)}."
        )
    return patches


def _sizes(units: int, grid: int, double: bool) -> tuple[float, int]:
    """The side of a tile, and how many blocks stand beside each other."""
    least, greatest = _TILES[double]
    panels = 2 if double else 1

    def width(side: float) -> float:
        return panels * grid * (side + _GAP) + (_BETWEEN if double else 0) + _BLOCK_GAP

    beside = max(1, min(units, int((_WIDTH + _BLOCK_GAP) / width(max(least, 1.2 / grid)))))
    room = (_WIDTH + _BLOCK_GAP) / beside - _BLOCK_GAP - (_BETWEEN if double else 0)
    return max(min(room / (panels * grid) - _GAP, greatest), 0.12), beside


def _draw(
    page: Page,
    tiles: Array,
    corner: tuple[float, float],
    tile: tuple[float, float],
    grid: int,
    limit: float | None,
) -> None:
    """A grid of tiles; with a limit they are signed maps, else pictures."""
    for k, values in enumerate(tiles):
        row, column = divmod(k, grid)
        place = corner[0] + column * (tile[0] + _GAP), corner[1] + row * (tile[1] + _GAP)
        if limit is None:
            pixels, how = as_pixels(values)
        elif len(values) == 3:
            pixels = np.clip(0.5 + values.transpose(1, 2, 0) / (2 * limit), 0.0, 1.0)
            how = {}
        else:
            pixels, how = values[0], {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
        page.picture(place, tile, pixels, **how)
