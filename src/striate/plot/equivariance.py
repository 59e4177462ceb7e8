"""How a network's layers follow a transform, and how little they change: two tables in colour."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.interpret.equivariance import Equivariance, LayerEquivariance
from striate.interpret.equivariance_moves import move
from striate.plot.page import (
    INK,
    MARGIN,
    MUTED,
    SHARE,
    Page,
    as_pixels,
    number,
    plain,
    spread,
    styled,
    text_width,
)

_CELL, _ROW, _SPACE, _HEAD, _LABELS, _SCALE = 0.5, 0.2, 0.35, 0.62, 0.5, 0.5
_SYMBOLS = {"shift": " px", "rotate": "°", "scale": "×", "brighten": ""}
_PANELS = (
    ("error", "does it follow?", "equivariance error"),
    ("distance", "does it change?", "relative distance"),
)


@styled
def equivariance(
    found: Equivariance, image: ArrayLike | None = None, *, title: str = "", under: str = ""
) -> Figure:
    """The measures of `interpret.equivariance`: a row for each layer, a column for each amount.

    On the left the equivariance error (0: the response follows exactly), on the right the change
    (0: invariant); 1 is what unrelated images give. White is 0, dark blue 1 or more.

    Args:
        found: what `interpret.equivariance` gave.
        image: (c, h, w); if given, its transforms stand above the columns.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: the image is no (c, h, w).
    """
    names = [_short(layer.name) for layer in found.layers]
    shapes = ["×".join(map(str, layer.shape)) for layer in found.layers]
    left = max(text_width(n, 8) for n in names) + max(text_width(s, 7.5) for s in shapes) + 0.4
    panel = max(_CELL * len(found.amounts), 1.35)
    pictures = 0.0 if image is None else _CELL
    top = MARGIN + _HEAD + _LABELS + pictures
    width = max(left + 2 * panel + _SPACE, 4.6)
    page = Page(width + 2 * MARGIN, top + _ROW * len(names) + _SCALE + MARGIN)
    said = f"{found.transform} · {found.images} image{'s' if found.images != 1 else ''}"
    said += "" if found.borders else " · without borders"
    page.title(title or "Equivariance and invariance", under or f"{said} · 1: {found.unrelated}")
    for row, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        y = top + (row + 0.5) * _ROW
        page.text(MARGIN, y, plain(name), size=8, va="center")
        page.text(MARGIN + left - 0.15, y, shape, size=7.5, color=MUTED, ha="right", va="center")
    for k, (measure, name, what) in enumerate(_PANELS):
        x = MARGIN + left + k * (panel + _SPACE)
        page.text(x, MARGIN + _HEAD + 0.1, name, size=9, weight="bold")
        page.text(x, MARGIN + _HEAD + 0.26, what, size=7.5, color=MUTED)
        _draw_columns(page, found, image, (x, top))
        _draw_cells(page, found.layers, measure, (x, top))
    _draw_scale(page, (MARGIN + left, top + _ROW * len(names) + 0.16))
    return page.figure


def _short(name: str) -> str:
    return name if len(name) <= 34 else "…" + name[-33:]


def _draw_columns(
    page: Page, found: Equivariance, image: ArrayLike | None, corner: tuple[float, float]
) -> None:
    """The amounts, and what they make of the image."""
    x, top = corner
    pictures = None if image is None else _moved(found, np.asarray(image, np.float32))
    for k, amount in enumerate(found.amounts):
        middle = x + (k + 0.5) * _CELL
        text = number(amount) + _SYMBOLS.get(found.transform, "")
        above = top - 0.06 - (0 if pictures is None else _CELL)
        page.text(middle, above, text, size=7.5, color=MUTED, ha="center")
        if pictures is not None:
            pixels, how = as_pixels(pictures[k])
            h, w = pixels.shape[:2]
            side = _CELL - 0.08
            size = (side, side * h / w) if w >= h else (side * w / h, side)
            page.picture((middle - size[0] / 2, top - 0.04 - size[1]), size, pixels, **how)


def _moved(found: Equivariance, image: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    if image.ndim != 3:
        raise ShapeError(
            f"plot.equivariance: expected an image (c, h, w); got shape {image.shape}."
        )
    shape, shown = image.shape, spread(image).astype(np.float32)
    moves = [move(found.transform, a, shape, found.direction, found.outside) for a in found.amounts]
    return [
        np.clip(each.image(shown[np.newaxis])[0], 0.0, 1.0).astype(np.float64) for each in moves
    ]


def _draw_cells(
    page: Page, layers: tuple[LayerEquivariance, ...], measure: str, corner: tuple[float, float]
) -> None:
    for row, layer in enumerate(layers):
        for column, value in enumerate(getattr(layer, measure)):
            x, y = corner[0] + column * _CELL, corner[1] + row * _ROW
            share = 0.0 if value is None else min(value, 1.0)
            page.bar((x, y), (_CELL, _ROW), to_hex(SHARE(share)), edgecolor="white", linewidth=1.0)
            text = "–" if value is None else "0" if value < 5e-4 else f"{value:.2f}"
            colour = MUTED if value is None else "white" if share > 0.55 else INK
            page.text(x + _CELL / 2, y + _ROW / 2, text, size=7, color=colour, ha="center",
                      va="center")  # fmt: skip


def _draw_scale(page: Page, corner: tuple[float, float]) -> None:
    x, y = corner
    ramp = page.picture((x, y), (1.2, 0.09), np.linspace(0, 1, 64)[np.newaxis], 0.0, 1.0, SHARE)
    ramp.set_interpolation("bilinear")
    page.text(x, y + 0.24, "0", size=7, color=MUTED)
    page.text(x + 1.2, y + 0.24, "1 and more", size=7, color=MUTED, ha="center")
