"""Gabor fits: filters beside the functions fitted to them, and where they lie."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from striate.errors import ShapeError
from striate.interpret.gabor import GaborFit
from striate.plot.page import (
    BLUE,
    FAINT,
    INK,
    MARGIN,
    MUTED,
    RULE,
    SHARE,
    SIGNED,
    Page,
    number,
    plain,
    styled,
)

_WIDTH, _HEAD, _GAP, _CARD_GAP, _LABEL = 7.2, 0.68, 0.03, 0.2, 0.2
_CARDS = 4  # a row, at most
_DISC = 2.05  # its radius in inches
_BELOW = 0.5 + _DISC + 0.4


@styled
def gabor_fit(
    fit: GaborFit, *, most: int = 24, title: str = "Filters as Gabor functions", under: str = ""
) -> Figure:
    """Filters, the Gabor functions fitted to them and what is left, and all fits in one half disc.

    The best `most` filters are drawn. In the half disc each filter is a short line that stands as
    its bars do; its distance from the middle is the frequency f, its direction that in which the
    wave runs, its colour R².

    Args:
        fit: what `fit_gabor` gave.
        most: the most filters that are drawn.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: there are no filters.

    >>> from striate.filters import gabor
    >>> from striate.interpret import fit_gabor
    >>> figure = gabor_fit(fit_gabor(gabor(9, f=1.2)))
    """
    flat = fit.flat()
    if not flat.r2.size:
        raise ShapeError("plot.gabor_fit: expected at least one filter; got none.")
    order = np.argsort(-np.nan_to_num(flat.r2, nan=-1.0), kind="stable")[:most]
    columns = min(_CARDS, len(order))
    card = min((_WIDTH - _CARD_GAP * (columns - 1)) / columns, 2.4)
    side = (card - 2 * _GAP) / 3
    h, w = flat.filters.shape[-2:]
    tile = (side, side * h / w)
    rows = math.ceil(len(order) / columns)
    top = MARGIN + _HEAD + 0.18
    grid = rows * (tile[1] + _LABEL)
    page = Page(_WIDTH + 2 * MARGIN, top + grid + _BELOW + MARGIN)
    named = flat.r2.size > len(order) and f"; the best {len(order)} of {flat.r2.size}"
    page.title(
        title, under or f"filter, Gabor function, what is left: each on one scale{named or ''}"
    )
    for column in range(columns):
        x = MARGIN + column * (card + _CARD_GAP)
        for k, head in enumerate(("filter", "fit", "rest")):
            centre = x + k * (side + _GAP) + side / 2
            page.text(centre, top - 0.06, head, size=7, color=MUTED, ha="center")
    for k, n in enumerate(order):
        row, column = divmod(k, columns)
        corner = MARGIN + column * (card + _CARD_GAP), top + row * (tile[1] + _LABEL)
        _draw_card(page, flat, int(n), corner, tile)
    _half_disc(page, flat, top + grid + 0.5)
    _shares(page, flat, top + grid + 0.5)
    return page.figure


def _draw_card(
    page: Page, fit: GaborFit, n: int, corner: tuple[float, float], tile: tuple[float, float]
) -> None:
    limit = float(np.abs(fit.filters[n]).max()) or 1.0
    for k, values in enumerate((fit.filters[n], fit.fitted[n], fit.residual[n])):
        place = corner[0] + k * (tile[0] + _GAP), corner[1]
        page.picture(place, tile, values, cmap=SIGNED, vmin=-limit, vmax=limit)
    share = "constant" if np.isnan(fit.r2[n]) else f"R² {fit.r2[n]:.2f}"
    label = f"{n}: {share}, f {number(float(fit.f[n]))}, {math.degrees(fit.tau[n]):.0f}°"
    page.text(corner[0], corner[1] + tile[1] + 0.11, plain(label), size=6.5, color=MUTED)


def _half_disc(page: Page, fit: GaborFit, top: float) -> None:
    page.text(MARGIN, top - 0.16, "where the waves run, and how fast", size=9.5, weight="bold")
    note = "each line stands as its filter's bars do; the darker, the nearer R² is to 1"
    page.text(MARGIN, top + 0.02, note, size=7, color=MUTED)
    top += 0.12
    axes = page.axes(MARGIN + 0.1, top, 2 * _DISC, _DISC * 1.06)
    axes.set(xlim=(-1.0, 1.0), ylim=(-0.03, 1.03))
    axes.axis("off")
    known = ~np.isnan(fit.r2)
    reach = float(fit.f[known].max(initial=0.5)) * 1.08
    for ring in _rings(reach):
        angles = np.linspace(0, np.pi, 121)
        radius = ring / reach * 0.9
        axes.plot(radius * np.cos(angles), radius * np.sin(angles), color=RULE, lw=0.6, zorder=1)
        axes.text(radius, -0.02, number(ring), size=6.5, color=MUTED, ha="center", va="top")
    axes.plot([-0.95, 0.95], [0, 0], color=FAINT, lw=0.7, zorder=1)
    for degrees in (0, 45, 90, 135, 180):
        _direction(axes, degrees)
    axes.text(-0.5, -0.02, "f, radians a pixel", size=6.5, color=MUTED, ha="center", va="top")
    # Rows of a filter run downwards: a wave along τ runs, seen on the page, along π − τ
    angle = np.pi - fit.tau[known]
    radius = fit.f[known] / reach * 0.9
    middle = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    along = 0.035 * np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    lines = LineCollection(
        list(np.stack([middle - along, middle + along], axis=1)),
        cmap=SHARE,
        linewidths=2.2,
        capstyle="round",
        zorder=3,
    )
    lines.set_array(np.clip(fit.r2[known], 0, 1))
    lines.set_clim(-0.25, 1.0)  # the palest blue would not be seen
    axes.add_collection(lines)


def _rings(reach: float) -> NDArray[np.float64]:
    """Round frequencies up to a little below `reach`."""
    step = next(s for s in (0.1, 0.2, 0.5, 1.0) if reach <= 4 * s or s == 1.0)
    return np.arange(step, reach, step)


def _direction(axes: Axes, degrees: int) -> None:
    angle = math.radians(180 - degrees)
    x, y = 0.97 * math.cos(angle), 0.97 * math.sin(angle)
    if degrees in (0, 180):
        y += 0.05
    axes.text(x, y, f"τ {degrees}°", size=6.5, color=MUTED, ha="center", va="center")


def _shares(page: Page, fit: GaborFit, top: float) -> None:
    """All R², from the best on."""
    x = MARGIN + 2 * _DISC + 0.75
    page.text(x - 0.35, top - 0.16, "share explained, R²", size=9.5, weight="bold")
    axes = page.axes(x, top + 0.05, _WIDTH + MARGIN - x, _DISC - 0.1)
    known = np.sort(fit.r2[~np.isnan(fit.r2)])[::-1]
    axes.plot(np.arange(1, len(known) + 1), known, color=BLUE, lw=1.2, marker=".", ms=4)
    low = min(0.0, float(known.min(initial=0.0)))
    axes.set(ylim=(low, 1.02), xlim=(0.5, max(len(known), 2) + 0.5))
    axes.set_xlabel("filters, the best first")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    if known.size:
        median = float(np.median(known))
        axes.axhline(median, color=INK, lw=0.6, ls=(0, (4, 3)))
        axes.text(
            len(known) + 0.4, median + 0.02, f"median {median:.2f}", size=7, ha="right", va="bottom"
        )
