"""Grids of pictures, and what augmentation makes of the samples of a data source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.data import look
from striate.data.source import Source, as_indices
from striate.errors import ShapeError
from striate.plot.page import MARGIN, MUTED, Page, as_pixels, plain, spread, styled, text_width

_HEAD, _COLUMN_HEAD, _GAP, _WIDTH, _LARGEST = 0.68, 0.22, 0.06, 7.2, 0.92


@styled
def pictures(
    images: ArrayLike,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    title: str = "Pictures",
    under: str = "",
) -> Figure:
    """A grid of pictures with names of its rows and columns.

    Args:
        images: (rows, columns, c, h, w), in [0, 1]; c is 1 or 3.
        rows: a name for each row; none where left out.
        columns: a name for each column; none where left out.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: no such array, or another number of names.

    >>> figure = pictures(np.zeros((2, 3, 1, 8, 8)), rows=["flip", "crop"])
    """
    grid = np.asarray(images)
    if grid.ndim != 5 or not grid.size:
        raise ShapeError(
            f"plot.pictures: expected images (rows, columns, c, h, w); got shape {grid.shape}."
        )
    for what, names, count in (("rows", rows, grid.shape[0]), ("columns", columns, grid.shape[1])):
        if len(names) not in (0, count):
            raise ShapeError(f"plot.pictures: expected {count} {what}; got {len(names)} names.")
    left = max((text_width(name, 8) for name in rows), default=-0.15) + 0.15
    height, width = grid.shape[-2:]
    side = min(_LARGEST, (_WIDTH - left) / grid.shape[1] - _GAP)
    tile = (side, side * height / width)
    top = MARGIN + _HEAD + (_COLUMN_HEAD if columns else 0.0)
    page = Page(
        max(left + grid.shape[1] * (side + _GAP), 4.6) + 2 * MARGIN,
        top + grid.shape[0] * (tile[1] + _GAP) + MARGIN,
    )
    page.title(title, under)
    _draw(page, grid, (MARGIN + left, top), tile)
    for k, name in enumerate(rows):
        y = top + k * (tile[1] + _GAP) + tile[1] / 2
        page.text(MARGIN, y, plain(name), size=8, va="center")
    for k, name in enumerate(columns):
        x = MARGIN + left + k * (side + _GAP) + side / 2
        page.text(x, top - 0.08, plain(name), size=8, color=MUTED, ha="center")
    return page.figure


def _draw(
    page: Page, grid: NDArray[Any], corner: tuple[float, float], tile: tuple[float, float]
) -> None:
    for row, images in enumerate(grid):
        for column, image in enumerate(images):
            pixels, how = as_pixels(image)
            x = corner[0] + column * (tile[0] + _GAP)
            page.picture((x, corner[1] + row * (tile[1] + _GAP)), tile, pixels, **how)


def preview(
    source: Source,
    augment: Any,
    *,
    samples: ArrayLike | None = None,
    copies: int = 7,
    seed: int = 0,
    title: str = "What augmentation makes of it",
) -> Figure:
    """Samples as they are, and as the first epochs of a training see them; one row a sample.

    Args:
        source: the data.
        augment: a text as "flip,crop4", a step, a list of steps or a `Compose`.
        samples: (n,), which samples; by default six, spread over all.
        copies: how many epochs.
        seed: key of the random numbers, as of `fit`.
        title: the headline.
    Returns:
        The figure.
    Raises:
        OptionError: a sample that the source lacks, or an augmentation that cannot be.

    >>> from striate.data import load
    >>> figure = preview(load("digits")[0], "rotate15,shift2", samples=[0, 1])
    """
    if samples is None:
        samples = np.linspace(0, len(source) - 1, min(6, len(source))).astype(np.int64)
    chosen = as_indices(samples, len(source), "plot.preview")
    images, _ = look.preview(source, augment, samples=chosen, copies=copies, seed=seed)
    labels = source.labels[chosen]
    names = [source.classes[k] for k in labels] if source.classes else [str(k) for k in chosen]
    heads = ["as it is", *(f"epoch {k}" for k in range(1, copies + 1))]
    under = f"{source.name}: {augment}" if isinstance(augment, str) else source.name
    return pictures(spread(images), names, heads, title=title, under=under)
