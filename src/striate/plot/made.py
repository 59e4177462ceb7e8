"""Images that were made by optimisation: what drives units, and what layers still know."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.interpret.invert import Inverted
from striate.interpret.maximize import Maximized, Unit
from striate.plot.page import (
    BLUE,
    FAINT,
    MARGIN,
    MUTED,
    RULE,
    Page,
    as_pixels,
    number,
    plain,
    styled,
    text_width,
)

_WIDTH, _HEAD, _GAP, _LABEL, _LARGEST = 7.2, 0.68, 0.1, 0.34, 1.35
_COURSE = 1.3  # height of the panel with the scores' course


@styled
def maximized(
    found: Maximized,
    *,
    names: Sequence[str] = (),
    columns: int | None = None,
    course: bool = True,
    title: str = "Images that drive units",
    under: str = "",
) -> Figure:
    """Images that drive units, each with its score, and how the scores rose.

    Args:
        found: what `maximize` gave; grey images are drawn as ink, 1 being black.
        names: a name for each image; by default its unit.
        columns: images a row; by default as many as suit their number.
        course: also draw the scores against the steps.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: another number of names than of images.

    >>> from striate import nn
    >>> from striate.interpret import maximize
    >>> figure = maximized(maximize(nn.Conv2d(1, 4, 3), units=[0, 1], shape=(1, 8, 8), steps=3))
    """
    count, _, h, w = found.images.shape
    if len(names) not in (0, count):
        raise ShapeError(f"plot.maximized: expected {count} names; got {len(names)}.")
    across = columns or min(count, 5 if count <= 10 else 8)
    side = min(_LARGEST, (_WIDTH - _GAP * (across - 1)) / across)
    tile = (side, side * h / w)
    rows = math.ceil(count / across)
    top = MARGIN + _HEAD
    grid = rows * (tile[1] + _LABEL)
    page = Page(_WIDTH + 2 * MARGIN, top + grid + (_COURSE + 0.75 if course else 0.0) + MARGIN)
    page.title(title, under or f"layer {found.layer}; the score of each image below it")
    labels = list(names) or [unit_name(unit) for unit in found.units]
    shown = _as_shown(found.images)
    for k, (image, label) in enumerate(zip(shown, labels, strict=True)):
        row, column = divmod(k, across)
        place = MARGIN + column * (side + _GAP), top + row * (tile[1] + _LABEL)
        score = "no gradient" if found.stuck[k] else number(float(found.scores[k]))
        _draw(page, image, place, tile, label, score)
    if course:
        _draw_course(page, found, top + grid + 0.25)
    return page.figure


def unit_name(unit: Unit) -> str:
    """A unit as it is said below a picture.

    >>> unit_name(3), unit_name((3, 0, 2))
    ('3', '3, 0, 2')
    """
    return ", ".join(map(str, unit)) if isinstance(unit, tuple) else str(unit)


def _draw_course(page: Page, found: Maximized, top: float) -> None:
    page.text(MARGIN, top, "the scores while the images were made", size=9.5, weight="bold")
    axes = page.axes(MARGIN + 0.4, top + 0.12, _WIDTH - 0.4, _COURSE)
    steps = np.arange(1, found.course.shape[1] + 1)
    axes.plot(steps, found.course.T, color=BLUE, lw=0.9, alpha=max(0.25, 1 / len(found.units)))
    axes.axhline(0, color=FAINT, lw=0.6)
    axes.set(xlim=(1, max(len(steps), 2)), xlabel="step")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)


@styled
def inverted(
    images: ArrayLike,
    layers: Sequence[Inverted],
    *,
    title: str = "What layers still know of an image",
    under: str = "",
) -> Figure:
    """Images, and beside them those that layers cannot tell from them; one row an image.

    Args:
        images: what was inverted, (n, c, h, w) or (c, h, w), in [0, 1].
        layers: what `invert` gave for them, one for each layer.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: no layer, or one that was inverted for other images.
    """
    given = np.asarray(images, np.float32)
    given = given[np.newaxis] if given.ndim == 3 else given
    for found in layers:
        if found.images.shape != given.shape:
            raise ShapeError(
                f"plot.inverted: expected images {given.shape} for layer {found.layer!r}; got "
                f"{found.images.shape}."
            )
    if not layers or given.ndim != 4 or not given.size:
        raise ShapeError(
            f"plot.inverted: expected images (n, c, h, w) and at least one layer; got shape "
            f"{given.shape} and {len(layers)} layers."
        )
    across = min(1 + len(layers), 8)
    blocks = [layers[k : k + across - 1] for k in range(0, len(layers), across - 1)]
    side = min(_LARGEST, (_WIDTH - _GAP * (across - 1)) / across)
    tile = (side, side * given.shape[2] / given.shape[3])
    block = len(given) * (tile[1] + _LABEL) + 0.2
    top = MARGIN + _HEAD
    page = Page(_WIDTH + 2 * MARGIN, top + len(blocks) * block)
    page.title(title, under or "below each: how far its features are from the image's")
    for part in blocks:
        _draw_block(page, _as_shown(given), part, top, tile)
        top += block
    return page.figure


def _draw_block(
    page: Page,
    given: NDArray[np.float32],
    layers: Sequence[Inverted],
    top: float,
    tile: tuple[float, float],
) -> None:
    step = tile[0] + _GAP
    columns = [("image", given, [""] * len(given))]
    for found in layers:
        errors = [f"error {number(round(float(e), 4))}" for e in found.errors]
        columns.append((found.layer, _as_shown(found.images), errors))
    for column, (name, images, notes) in enumerate(columns):
        x = MARGIN + column * step
        page.text(x, top + 0.05, _fitted(name, tile[0]), size=8, weight="bold")
        for row, (image, note) in enumerate(zip(images, notes, strict=True)):
            place = x, top + 0.12 + row * (tile[1] + _LABEL)
            _draw(page, image, place, tile, "", note)


def _draw(
    page: Page,
    image: NDArray[np.float32],
    place: tuple[float, float],
    tile: tuple[float, float],
    label: str,
    note: str,
) -> None:
    pixels, how = as_pixels(image)
    page.picture(place, tile, pixels, **how)
    base = place[1] + tile[1] + 0.13
    if label:
        page.text(place[0], base, _fitted(label, tile[0]), size=7.5)
        base += 0.12
    page.text(place[0], base, plain(note), size=7, color=MUTED)


def _fitted(text: str, width: float) -> str:
    """A label, its beginning left out where it is wider than its picture."""
    while len(text) > 4 and text_width(text, 8) > width:
        text = "…" + text[2:]
    return plain(text)


def _as_shown(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images in 0…1; those that are not are stretched, all alike, so that mid grey stays 0."""
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high <= 1:
        return images
    return 0.5 + images / (2 * max(-low, high))
