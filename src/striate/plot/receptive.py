"""Receptive fields drawn on the image: what a unit may see, and how much each pixel moves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.inspect.effective import EffectiveField
from striate.inspect.receptive import ReceptiveField
from striate.inspect.regions import Region
from striate.plot.page import (
    BLUE,
    FAINT,
    INK,
    MARGIN,
    MUTED,
    ORANGE,
    POSITIVE,
    Page,
    as_pixels,
    plain,
    styled,
    text_width,
)

_SIDE, _HEAD, _GAP, _BELOW = 3.4, 0.68, 0.5, 0.45
_PROFILE, _TICKS = 1.2, 0.4


class _Frame:
    """A place on the page in which pixels of the image have coordinates, also outside it."""

    def __init__(
        self, page: Page, place: tuple[float, float], scale: float, origin: tuple[float, float]
    ) -> None:
        self.page, self.place, self.scale, self.origin = page, place, scale, origin

    def at(self, row: float, column: float) -> tuple[float, float]:
        """The page's place of a pixel's upper left corner."""
        x, y = self.place
        return (
            x + (column - self.origin[1]) * self.scale,
            y + (row - self.origin[0]) * self.scale,
        )

    def box(self, sides: Sequence[tuple[int, int]], colour: str, **more: object) -> None:
        """A rectangle around the pixels from first to last."""
        (top, bottom), (left, right) = sides
        size = ((right + 1 - left) * self.scale, (bottom + 1 - top) * self.scale)
        self.page.sheet.add_patch(
            Rectangle(
                self.at(top, left),
                *size,
                facecolor="none",
                edgecolor=colour,
                **more,  # type: ignore[arg-type]
            )
        )


@styled
def receptive_field(
    image: ArrayLike,
    region: Region,
    field: ReceptiveField | None = None,
    *,
    title: str = "Receptive field",
    under: str = "",
) -> Figure:
    """The input region behind a unit, on the image: pixels that count are clear, others faded.

    What reaches beyond the image is padding; it is drawn as an outline.

    Args:
        image: (c, h, w) in [0, 1], as the network sees it.
        region: what `inspect.input_region` gave for the unit.
        field: the layer's field, for the numbers below.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: the image has another shape than the region, or no two axes of space.
    """
    picture = np.asarray(image, np.float64)
    if picture.ndim != 3 or picture.shape[1:] != region.mask.shape[1:]:
        raise ShapeError(
            f"plot.receptive_field: expected an image (c, h, w) of the region's shape "
            f"{region.mask.shape}; got {picture.shape}."
        )
    sides = region.unclipped or region.clipped[1:] or ((0, 0), (0, 0))
    reach = [(min(0, a), max(n - 1, b)) for (a, b), n in zip(sides, picture.shape[1:], strict=True)]
    spans = [b - a + 1 for a, b in reach]
    scale = _SIDE / max(spans)
    height, width = (n * scale for n in spans)
    head = _HEAD if under else _HEAD - 0.24
    wide = max(width, _SIDE, text_width(under), text_width(title, 12, "bold"))
    page = Page(wide + 2 * MARGIN, head + height + _BELOW + 2 * MARGIN)
    page.title(plain(title), plain(under))
    frame = _Frame(page, (MARGIN, MARGIN + head), scale, (reach[0][0], reach[1][0]))
    _draw_faded(frame, picture, np.asarray(region.mask.any(axis=0)))
    if region.clipped:
        frame.box(region.clipped[1:], ORANGE, linewidth=1.4)
        if region.unclipped and region.unclipped != region.clipped[1:]:
            frame.box(region.unclipped, ORANGE, linewidth=0.9, linestyle=(0, (3, 2)))
    for k, line in enumerate(_words(region, field)):
        y = MARGIN + head + height + 0.24 + 0.18 * k
        page.text(MARGIN, y, line, size=8, color=INK if k == 0 else MUTED)
    return page.figure


def _draw_faded(frame: _Frame, image: NDArray[np.float64], seen: NDArray[np.bool_]) -> None:
    """The image, pale where the unit does not look."""
    pixels, how = as_pixels(image)
    h, w = seen.shape
    size = (w * frame.scale, h * frame.scale)
    frame.page.picture(frame.at(0, 0), size, pixels, **how)
    veil = np.ones((h, w, 4))
    veil[..., 3] = np.where(seen, 0.0, 0.72)
    frame.page.picture(frame.at(0, 0), size, veil)


def _words(region: Region, field: ReceptiveField | None) -> list[str]:
    if not region.clipped:
        return ["the unit reads nothing of the image"]
    (top, bottom), (left, right) = region.clipped[1:]
    pixels = int(region.mask.any(axis=0).sum())
    lines = [f"rows {top}–{bottom}, columns {left}–{right}: {pixels:,} pixels".replace("-", "−")]
    if field is not None:
        size = " × ".join(map(str, field.size))
        beyond = "" if region.unclipped == region.clipped[1:] else ", padding included"
        lines.append(f"field {size}{beyond}, stride {field.stride_text}")
    return lines


@styled
def effective_field(
    found: EffectiveField,
    image: ArrayLike | None = None,
    *,
    title: str = "Effective receptive field",
    under: str = "",
) -> Figure:
    """How much each pixel moves a unit: a map with the theoretical field, and its profiles.

    The rectangle is the theoretical field inside the image, the ellipse two standard deviations of
    the fitted Gaussian. The profiles are the sums over columns and over rows, with the Gaussian's.

    Args:
        found: what `inspect.effective_receptive_field` gave, over two axes of space.
        image: (c, h, w) in [0, 1] to put beside the map.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: the field has not two axes of space.
    """
    if found.gradient.ndim != 2:
        raise ShapeError(
            f"plot.effective_field: expected a field over two axes of space; got shape "
            f"{found.gradient.shape}."
        )
    h, w = found.gradient.shape
    scale = _SIDE / max(h, w)
    height, width = h * scale, w * scale
    beside = width + _GAP if image is not None else 0.0
    under = under or _sentence(found)
    body = beside + width + _TICKS + _PROFILE
    page = Page(
        2 * MARGIN + max(body, text_width(under)),
        2 * MARGIN + _HEAD + height + _GAP + _PROFILE + 0.25,
    )
    page.title(plain(title), plain(under))
    top = MARGIN + _HEAD
    if image is not None:
        pixels, how = as_pixels(np.asarray(image, np.float64))
        page.picture((MARGIN, top), (width, height), pixels, **how)
        _outline(_Frame(page, (MARGIN, top), scale, (0, 0)), found)
    left = MARGIN + beside
    shown = page.picture((left, top), (width, height), found.gradient, 0.0, None, POSITIVE)
    shown.set_clim(0.0, float(found.gradient.max()) or 1.0)
    _outline(_Frame(page, (left, top), scale, (0, 0)), found)
    _profiles(page, found, (left, top), (width, height))
    for k, line in enumerate(
        ("blue: the theoretical", "field; dashed: the", "Gaussian, 2σ around")
    ):
        y = top + height + 0.3 + 0.15 * k
        page.text(left + width + _TICKS, y, line, size=7, color=MUTED)
    scale_width = min(1.6, width * 0.5)
    page.scale(
        left + width - scale_width, top + height + _PROFILE + 0.42, scale_width, shown,
        "mean |gradient|",
    )  # fmt: skip
    return page.figure


def _sentence(found: EffectiveField) -> str:
    sigma = " × ".join(f"{s:.1f}" for s in found.sigma)
    return (
        f"{found.layer}: {found.size:.1f} pixels wide, {found.share:.0%} of the theoretical area; "
        f"Gaussian σ {sigma}, R² {found.r2:.2f}; {found.samples} images"
    )


def _outline(frame: _Frame, found: EffectiveField) -> None:
    """The theoretical field, and two standard deviations of the Gaussian."""
    if found.region.clipped:
        frame.box(found.region.clipped[1:], BLUE, linewidth=1.0)
    values, vectors = np.linalg.eigh(found.covariance)
    long = vectors[:, 1]
    row, column = found.centre
    frame.page.sheet.add_patch(
        Ellipse(
            frame.at(row + 0.5, column + 0.5),
            4 * float(np.sqrt(max(values[1], 0))) * frame.scale,
            4 * float(np.sqrt(max(values[0], 0))) * frame.scale,
            angle=float(np.degrees(np.arctan2(long[0], long[1]))),
            facecolor="none",
            edgecolor=INK,
            linewidth=1.0,
            linestyle=(0, (3, 2)),
            clip_on=True,
        )
    )


def _profiles(
    page: Page, found: EffectiveField, place: tuple[float, float], size: tuple[float, float]
) -> None:
    """Sums along each axis: below the map over its rows, to the right over its columns."""
    (left, top), (width, height) = place, size
    bell = found.gaussian()
    greatest = max(float(a.sum(axis=k).max()) for a in (found.gradient, bell) for k in (0, 1))
    limit = 1.08 * (greatest or 1.0)
    below = page.axes(left, top + height + 0.12, width, _PROFILE)
    beside = page.axes(left + width + _TICKS, top, _PROFILE, height)
    h, w = found.gradient.shape
    columns, rows = np.arange(w), np.arange(h)
    fill: dict[str, Any] = {"color": POSITIVE(0.45), "linewidth": 0}
    below.fill_between(columns, found.gradient.sum(axis=0), step="mid", **fill)
    below.plot(columns, bell.sum(axis=0), color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
    beside.fill_betweenx(rows, found.gradient.sum(axis=1), step="mid", **fill)
    beside.plot(bell.sum(axis=1), rows, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
    below.set(xlim=(-0.5, w - 0.5), ylim=(0, limit), yticks=[])
    beside.set(ylim=(h - 0.5, -0.5), xlim=(0, limit), xticks=[])
    for axes, side in ((below, "left"), (beside, "bottom")):
        axes.spines[side].set_visible(False)
    beside.spines["left"].set_color(FAINT)
    beside.tick_params(length=2)
    below.tick_params(length=2)
