"""Learned filters as pictures: one band a layer, one column a filter, one row an input channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.plot.page import MARGIN, MUTED, SIGNED, Page, number, plain, styled, text_width

_WIDTH = 7.2  # of the drawing area, in inches
_HEAD, _BAND_HEAD, _GAP, _BAND_GAP = 0.6, 0.34, 0.07, 0.26
_LARGEST, _SMALLEST = 0.95, 0.2


@dataclass(frozen=True)
class _Band:
    """A layer's kernels (filters shown, rows shown, kh, kw), and how large they are drawn.

    In colour there is one row, and the channels are the last axis, with 0.5 for 0.
    """

    name: str
    kernels: NDArray[np.float64]
    limit: float
    note: str
    columns: int
    rows: int
    tile: tuple[float, float]

    @property
    def height(self) -> float:
        return _BAND_HEAD + self.rows * (self.tile[1] + _GAP) + (0.12 if self.numbered else 0.0)

    @property
    def wrapped(self) -> bool:
        """Whether the rows go on with further filters; else they are input channels."""
        return bool(self.kernels.shape[1] == 1)

    @property
    def numbered(self) -> bool:
        """Whether the filters' numbers stand below their columns."""
        return self.tile[0] >= 0.26 and (self.rows == 1 or not self.wrapped)


@styled
def filters(
    layers: Mapping[str, ArrayLike],
    *,
    title: str = "Learned filters",
    most_filters: int = 24,
    most_channels: int = 8,
    colour: bool = False,
) -> Figure:
    """The kernels of convolution layers, red above 0, blue below, white at 0.

    All kernels of a layer share one scale, symmetric about 0. In colour, kernels of three input
    channels are one picture each: what they like is its colour, grey is 0.

    Args:
        layers: for each layer's name its weights, (filters, channels, kh, kw).
        title: the headline.
        most_filters: the most filters (columns) of a layer that are shown.
        most_channels: the most input channels (rows) of a layer that are shown.
        colour: whether kernels of three input channels are drawn as red, green and blue.
    Returns:
        The figure.
    Raises:
        ShapeError: weights that are no kernels, or no layer at all.

    >>> import numpy as np
    >>> figure = filters({"0.weight": np.zeros((6, 1, 5, 5))})
    """
    if not layers:
        raise ShapeError("plot.filters: expected at least one layer's weights; got none.")
    bands = [
        _band(n, np.asarray(w), most_filters, most_channels, colour) for n, w in layers.items()
    ]
    height = _HEAD + sum(b.height for b in bands) + _BAND_GAP * (len(bands) - 1) + 2 * MARGIN
    page = Page(_WIDTH + 2 * MARGIN, height)
    scale = "each layer on its own scale, symmetric about 0"
    plain_colours = all(band.kernels.ndim == 4 for band in bands)
    page.title(title, scale + ("; red is positive, blue negative" if plain_colours else ""))
    y = MARGIN + _HEAD
    for band in bands:
        _draw(page, band, y)
        y += band.height + _BAND_GAP
    return page.figure


def _band(
    name: str, weights: NDArray[Any], most_filters: int, most_channels: int, colour: bool
) -> _Band:
    if weights.ndim != 4 or not weights.size:
        raise ShapeError(
            f"plot.filters: expected weights (filters, channels, kh, kw) for {name!r}; "
            f"got shape {weights.shape}."
        )
    _, channels, kh, kw = weights.shape
    most_columns = int((_WIDTH + _GAP) / (_SMALLEST + _GAP))
    colour = colour and channels == 3
    single = channels == 1 or colour
    most = most_filters if single else min(most_filters, most_columns)
    shown = weights[:most, : 3 if colour else most_channels].astype(np.float64)
    finite = np.abs(weights[np.isfinite(weights)])
    limit = float(finite.max()) if finite.size else 1.0
    note = _note(weights.shape, shown.shape, colour)
    if colour:
        shown = np.clip(0.5 + shown.transpose(0, 2, 3, 1)[:, np.newaxis] / (2 * limit or 1), 0, 1)
    columns, rows = shown.shape[0], shown.shape[1]
    if single and columns > 8:  # wrapped into a block: one kernel has no rows to show
        columns = min(16, math.ceil(columns / math.ceil(columns / 16)))
        rows = math.ceil(shown.shape[0] / columns)
    side = min(_LARGEST, max(_SMALLEST, (_WIDTH - _GAP * (columns - 1)) / columns))
    side = min(side, 2.6 / rows) if rows > 2 else side
    tile = (side, side * kh / kw) if kw >= kh else (side * kw / kh, side)
    return _Band(name, shown, limit or 1.0, note, columns, rows, tile)


def _note(full: tuple[int, ...], shown: tuple[int, ...], colour: bool) -> str:
    count, channels, kh, kw = full
    if colour:
        more = f"; shown: {shown[0]}" if shown[0] != count else ""
        return f"{count} filters {kh}×{kw}, 3 input channels as red, green, blue{more}"
    inputs = "1 input channel" if channels == 1 else f"{channels} input channels (rows)"
    note = f"{count} filters {kh}×{kw}, {inputs}"
    if shown[:2] != full[:2]:
        note += f"; shown: {shown[0]} filters, {shown[1]} channels"
    return note


def _draw(page: Page, band: _Band, y: float) -> None:
    page.text(MARGIN, y + 0.12, plain(band.name), size=9.5, weight="bold")
    beside = MARGIN + text_width(band.name, 9.5, "bold") + 0.18
    page.text(beside, y + 0.12, band.note, size=8.5, color=MUTED)
    top = y + _BAND_HEAD
    image = None
    for f, kernel in enumerate(band.kernels):
        for c, values in enumerate(kernel):
            row, column = (f // band.columns, f % band.columns) if band.wrapped else (c, f)
            place = MARGIN + column * (band.tile[0] + _GAP), top + row * (band.tile[1] + _GAP)
            limits: dict[str, Any] = {"vmin": -band.limit, "vmax": band.limit}
            image = page.picture(place, band.tile, values, cmap=SIGNED, **limits)
    if band.kernels.ndim == 5:
        span = f"black −{number(band.limit)}, grey 0, white {number(band.limit)}"
        page.text(MARGIN + _WIDTH, y + 0.12, span, size=7.5, color=MUTED, ha="right")
    elif image is not None:
        page.scale(MARGIN + _WIDTH - 1.2, y + 0.02, 1.08, image)
    if band.numbered:
        base = top + band.rows * (band.tile[1] + _GAP) + 0.07
        for f in range(min(band.columns, len(band.kernels))):
            x = MARGIN + f * (band.tile[0] + _GAP) + band.tile[0] / 2
            page.text(x, base, str(f), size=7, color=MUTED, ha="center")
