"""Feature maps: what each layer makes of one image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.plot.page import (
    BLUE,
    FAINT,
    INK,
    MARGIN,
    MUTED,
    POSITIVE,
    RULE,
    SIGNED,
    Page,
    as_pixels,
    number,
    plain,
    styled,
)

_WIDTH, _INPUT, _SPACE = 7.6, 1.45, 0.35
_MAPS = _WIDTH - _INPUT - _SPACE  # the width that the maps have
_HEAD, _BAND_HEAD, _BAND_GAP, _GAP = 0.68, 0.24, 0.22, 0.06
_LARGEST = 0.92
_MOST_MAPS, _MOST_BARS = 64, 20


@dataclass(frozen=True)
class _Band:
    name: str
    values: NDArray[np.float64]  # (c, h, w), or (k,)
    left_out: int = 0

    @property
    def columns(self) -> int:
        count = len(self.values)
        return count if count <= 8 else math.ceil(count / math.ceil(count / 16))

    @property
    def tile(self) -> tuple[float, float]:
        _, h, w = self.values.shape
        side = min(_LARGEST, (_MAPS - _GAP * (self.columns - 1)) / self.columns)
        return (side, side * h / w) if w >= h else (side * w / h, side)

    @property
    def height(self) -> float:
        if self.values.ndim == 1:
            return _BAND_HEAD + (0.95 if len(self.values) <= _MOST_BARS else 0.2)
        rows = math.ceil(len(self.values) / self.columns)
        return _BAND_HEAD + rows * self.tile[1] + (rows - 1) * _GAP


@styled
def feature_maps(
    image: ArrayLike,
    layers: Mapping[str, ArrayLike],
    *,
    classes: Sequence[str] | None = None,
    title: str = "Feature maps of one image",
    under: str = "",
) -> Figure:
    """The outputs of layers for one image, each layer on its own scale, with its range.

    Signed values are blue below 0 and red above, symmetric about 0; values that are never negative
    go from white to dark red. A vector of at most 20 numbers is drawn as bars.

    Args:
        image: the input, (c, h, w) in [0, 1].
        layers: for each layer's name its output for that image, (channels, h, w) or (k,).
        classes: names for the entries of a last vector of that length.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: an output of another kind, or none at all.
    """
    if not layers:
        raise ShapeError("plot.feature_maps: expected at least one layer's output; got none.")
    bands = [_band(name, np.asarray(values, np.float64)) for name, values in layers.items()]
    body = sum(b.height for b in bands) + _BAND_GAP * (len(bands) - 1)
    body += 0.2 if bands[-1].values.ndim == 1 else 0.0
    page = Page(_WIDTH + 2 * MARGIN, _HEAD + max(body, _INPUT + 0.4) + 2 * MARGIN)
    page.title(title, under or "each layer on its own scale; red is positive, blue negative")
    top = MARGIN + _HEAD
    _draw_input(page, np.asarray(image), top)
    for band in bands:
        _draw_head(page, band, top)
        _draw_band(page, band, top + _BAND_HEAD, classes)
        top += band.height + _BAND_GAP
    return page.figure


def _band(name: str, values: NDArray[np.float64]) -> _Band:
    if values.ndim not in (1, 3) or not values.size:
        raise ShapeError(
            f"plot.feature_maps: expected (channels, h, w) or (k,) for {name!r}; "
            f"got shape {values.shape}."
        )
    if values.ndim == 1:
        return _Band(name, values)
    return _Band(name, values[:_MOST_MAPS], max(0, len(values) - _MOST_MAPS))


def _draw_input(page: Page, image: NDArray[Any], top: float) -> None:
    pixels, how = as_pixels(image)
    h, w = pixels.shape[:2]
    page.text(MARGIN, top + 0.1, "input", size=9.5, weight="bold")
    size = (_INPUT, _INPUT * h / w) if w >= h else (_INPUT * w / h, _INPUT)
    page.picture((MARGIN, top + _BAND_HEAD), size, pixels, **how)
    below = top + _BAND_HEAD + size[1] + 0.16
    page.text(MARGIN, below, f"{h}×{w}", size=7.5, color=MUTED)


def _draw_head(page: Page, band: _Band, y: float) -> None:
    x = MARGIN + _INPUT + _SPACE
    page.text(x, y + 0.1, plain(band.name), size=9.5, weight="bold")
    shape = "×".join(map(str, (len(band.values) + band.left_out, *band.values.shape[1:])))
    finite = band.values[np.isfinite(band.values)]
    span = f"{number(finite.min())} … {number(finite.max())}" if finite.size else "not finite"
    more = f", first {len(band.values)} shown" if band.left_out else ""
    note = f"{shape}{more}   ·   {span}"
    page.text(x + _MAPS, y + 0.1, note, size=7.5, color=MUTED, ha="right")


def _draw_band(page: Page, band: _Band, y: float, classes: Sequence[str] | None) -> None:
    x = MARGIN + _INPUT + _SPACE
    if band.values.ndim == 3:
        tile = band.tile
        for k, values in enumerate(band.values):
            row, column = divmod(k, band.columns)
            place = x + column * (tile[0] + _GAP), y + row * (tile[1] + _GAP)
            page.picture(place, tile, values, **_colours(band.values))
    elif len(band.values) <= _MOST_BARS:
        _draw_bars(page, band.values, y, classes)
    else:
        page.picture((x, y), (_MAPS, 0.2), band.values[np.newaxis], **_colours(band.values))


def _colours(values: NDArray[np.float64]) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    greatest = float(np.abs(finite).max()) if finite.size else 0.0
    limit = greatest or 1.0
    if finite.size and finite.min() < 0:
        return {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    return {"cmap": POSITIVE, "vmin": 0.0, "vmax": limit}


def _draw_bars(
    page: Page, values: NDArray[np.float64], y: float, classes: Sequence[str] | None
) -> None:
    axes = page.axes(MARGIN + _INPUT + _SPACE, y + 0.08, _MAPS, 0.75)
    values = np.where(np.isfinite(values), values, 0.0)
    best = int(values.argmax())
    colours = [BLUE if k == best else FAINT for k in range(len(values))]
    axes.bar(range(len(values)), values, width=0.72, color=colours)
    axes.axhline(0, color=INK, linewidth=0.6)
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    room = 0.22 * ((high - low) or 1.0)
    axes.set(xlim=(-0.6, len(values) - 0.4), ylim=(low - room, high + room), yticks=[])
    for k, value in enumerate(values):
        place: dict[str, Any] = {"ha": "center", "va": "bottom" if value >= 0 else "top"}
        shift = (0, 1.5 if value >= 0 else -1.5)
        axes.annotate(
            number(round(float(value), 2)),
            (k, value),
            shift,
            textcoords="offset points",
            size=6.5,
            color=INK if k == best else MUTED,
            **place,
        )
    names = classes if classes is not None and len(classes) == len(values) else None
    labels = [plain(n) for n in names] if names else [str(k) for k in range(len(values))]
    axes.set_xticks(range(len(values)), labels, size=7.5 if max(map(len, labels)) < 6 else 6)
    axes.tick_params(length=0, pad=2)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
