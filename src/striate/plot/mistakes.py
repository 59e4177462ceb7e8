"""Where a classifier goes wrong: the confusion matrix and the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.errors import DataError, ShapeError
from striate.plot.page import (
    FAINT,
    GREEN,
    INK,
    MARGIN,
    MUTED,
    ORANGE,
    SHARE,
    Page,
    as_pixels,
    plain,
    styled,
    text_width,
)

# ---- confusion matrix ------------------------------------------------------------------------


@styled
def confusion(
    counts: ArrayLike, classes: Sequence[str] | None = None, *, title: str = "Confusion matrix"
) -> Figure:
    """How often each true class (row) was predicted as each class (column).

    Cells show counts; the shading is the share of the row, so that rare classes read like common
    ones. Recall stands at the right, precision above where there is room.

    Args:
        counts: (classes, classes) whole numbers, `counts[true, predicted]`.
        classes: the classes' names; numbers where left out.
        title: the headline.
    Returns:
        The figure.
    Raises:
        ShapeError: the matrix is not square, or there is another number of names.
        DataError: the counts are negative or not whole.
    """
    matrix = _counts(np.asarray(counts))
    names = _names(classes, len(matrix))
    cell = (
        0.46 if len(matrix) <= 12 else 0.34 if len(matrix) <= 24 else max(0.06, 7.0 / len(matrix))
    )
    left = max(0.42 + max(text_width(name, 8) for name in names), 0.62)
    slanted = max(text_width(name, 8) for name in names) > 0.9 * cell
    below = 0.38 + (0.72 * max(text_width(n, 8) for n in names) if slanted else 0.08)
    side = cell * len(matrix)
    page = Page(max(left + side + 0.75, 4.6) + 2 * MARGIN, 0.85 + side + below + 2 * MARGIN)
    right = int(np.trace(matrix))
    total = int(matrix.sum())
    under = f"{right:,} of {total:,} right ({_percent(right, total)}); shading: share of the row"
    page.title(title, under)
    axes = page.axes(MARGIN + left, MARGIN + 0.85, side, side)
    _draw_cells(axes, matrix, cell)
    _draw_class_names(axes, names, slanted, cell)
    if cell >= 0.3:
        _draw_margins(axes, matrix, precision=cell >= 0.4)
    return page.figure


def _counts(matrix: NDArray[Any]) -> NDArray[np.int64]:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ShapeError(
            f"plot.confusion: expected counts (classes, classes); got shape {matrix.shape}."
        )
    whole = matrix.astype(np.int64)
    if (whole != matrix).any() or (whole < 0).any():
        raise DataError("plot.confusion: expected whole numbers from 0 up; got other values.")
    return whole


def _names(classes: Sequence[str] | None, count: int) -> list[str]:
    names = [str(k) for k in range(count)] if classes is None else [str(n) for n in classes]
    if len(names) != count:
        raise ShapeError(f"plot: expected {count} names of classes; got {len(names)}.")
    return [plain(name) for name in names]


def _percent(part: float, whole: float) -> str:
    if not whole:
        return "–"
    text = f"{100 * part / whole:.1f} %"
    return ">99.9 %" if part < whole and text == "100.0 %" else text


def _draw_cells(axes: Axes, matrix: NDArray[np.int64], cell: float) -> None:
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    count = len(matrix)
    # the square root lets a few mistakes in a hundred be seen at all
    axes.imshow(np.sqrt(share), cmap=SHARE, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    if cell >= 0.3:
        for k in range(count + 1):
            axes.axhline(k - 0.5, color="white", linewidth=1.4)
            axes.axvline(k - 0.5, color="white", linewidth=1.4)
        for (row, column), value in np.ndenumerate(matrix):
            if not value:
                axes.text(column, row, "·", size=7, color=FAINT, ha="center", va="center")
                continue
            colour = "white" if share[row, column] > 0.3 else INK
            weight = "bold" if row == column else "normal"
            size = 8.5 if value < 1000 else 7.5
            axes.text(
                column,
                row,
                str(value),
                size=size,
                color=colour,
                weight=weight,
                ha="center",
                va="center",
            )
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_class_names(axes: Axes, names: list[str], slanted: bool, cell: float) -> None:
    step = max(1, math.ceil(0.14 / cell))
    ticks = range(0, len(names), step)
    how: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, names[::step], **(how if slanted else {}))
    axes.set_yticks(ticks, names[::step])
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xlabel("predicted", labelpad=6)
    axes.set_ylabel("true", labelpad=6)


def _draw_margins(axes: Axes, matrix: NDArray[np.int64], precision: bool) -> None:
    count = len(matrix)
    how: dict[str, Any] = {"size": 7, "color": MUTED, "va": "center", "clip_on": False}
    if precision:
        axes.text(-0.62, -0.85, "precision", ha="right", **how)
        for k in range(count):
            share = _percent(matrix[k, k], matrix[:, k].sum())
            axes.text(k, -0.85, share, ha="center", **{**how, "size": 6.5})
    axes.text(count - 0.35, -0.85, "recall", ha="left", **how)
    for k in range(count):
        recall = _percent(matrix[k, k], matrix[k].sum())
        axes.text(count - 0.35, k, recall, ha="left", **how)


# ---- the worst mistakes ----------------------------------------------------------------------

_TILE_W, _PICTURE, _NAMES, _BELOW = 1.78, 1.42, 0.74, 0.7
_BARS = 3


@styled
def mistakes(
    images: ArrayLike,
    labels: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str] | None = None,
    *,
    most: int = 12,
    of: tuple[int, int] | None = None,
    title: str = "The worst mistakes",
) -> Figure:
    """The wrongly classified images whose true class got the least probability, worst first.

    Args:
        images: (n, c, h, w) in [0, 1].
        labels: the true classes, (n,).
        probabilities: (n, classes), each row summing to 1.
        classes: the classes' names; numbers where left out.
        most: how many are shown.
        of: (mistakes, images) of the whole set, where the arrays are only a part of it.
        title: the headline.
    Returns:
        The figure; it says so where there is no mistake.
    Raises:
        ShapeError: the arrays do not fit each other.
    """
    pictures, truth, chance = np.asarray(images), np.asarray(labels), np.asarray(probabilities)
    if chance.ndim != 2 or truth.shape != chance.shape[:1] or len(pictures) != len(truth):
        raise ShapeError(
            "plot.mistakes: expected images (n, c, h, w), labels (n,), probabilities (n, classes); "
            f"got {pictures.shape}, {truth.shape}, {chance.shape}."
        )
    names = _names(classes, chance.shape[1])
    wrong = np.flatnonzero(chance.argmax(axis=1) != truth)
    order = wrong[np.argsort(chance[wrong, truth[wrong]], kind="stable")][:most]
    columns = min(4, max(1, len(order)))
    rows = max(1, math.ceil(len(order) / columns))
    tile = _BELOW + _size(*pictures.shape[-2:])[1]
    page = Page(
        max(columns * _TILE_W + _PICTURE - _TILE_W, 4.6) + 2 * MARGIN,
        0.55 + rows * tile + 2 * MARGIN,
    )
    bad, all_images = (len(wrong), len(truth)) if of is None else of
    share = _percent(bad, all_images)
    page.title(title, f"{bad:,} of {all_images:,} images are wrong ({share})")
    if not len(order):
        page.text(page.width / 2, 1.9, "no mistakes", size=12, color=MUTED, ha="center")
    for place, k in enumerate(order):
        row, column = divmod(place, columns)
        x, y = MARGIN + column * _TILE_W, MARGIN + 0.66 + row * tile
        _draw_mistake(page, x, y, pictures[k], int(truth[k]), chance[k], names)
    return page.figure


def _size(h: int, w: int) -> tuple[float, float]:
    """The size of a picture of h rows and w columns, (width, height) in inches."""
    return (_PICTURE, _PICTURE * h / w) if w >= h else (_PICTURE * w / h, _PICTURE)


def _draw_mistake(
    page: Page, x: float, y: float, image: NDArray[Any], true: int,
    chance: NDArray[Any], names: list[str],
) -> None:  # fmt: skip
    pixels, how = as_pixels(image)
    h, w = pixels.shape[:2]
    size = _size(h, w)
    page.picture((x, y), size, pixels, **how)
    best = [int(k) for k in np.argsort(-chance, kind="stable")[:_BARS]]
    shown = best if true in best else [*best[: _BARS - 1], true]
    widest = max(text_width(names[k], 7.5, "bold") for k in shown)
    left = x + min(_NAMES, widest) + 0.07
    for line, k in enumerate(shown):
        base = y + size[1] + 0.09 + 0.17 * line
        colour = GREEN if k == true else ORANGE if k == best[0] else FAINT
        weight = "bold" if k in (true, best[0]) else "normal"
        style: dict[str, Any] = {"size": 7.5, "va": "center", "weight": weight}
        page.text(left - 0.06, base + 0.065, _short(names[k]), ha="right", color=INK, **style)
        _draw_bar(page, left, base, x + _PICTURE - 0.34 - left, float(chance[k]), colour)


def _short(name: str) -> str:
    """A name cut to what fits beside a bar."""
    while text_width(name, 7.5, "bold") > _NAMES:
        name = name.rstrip("…")[:-1] + "…"
    return name


def _draw_bar(page: Page, x: float, y: float, width: float, share: float, colour: str) -> None:
    page.bar((x, y + 0.025), (width * max(share, 0.012), 0.08), colour)
    text = "<1 %" if share < 0.01 else ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"
    page.text(
        x + width * max(share, 0.012) + 0.04, y + 0.065, text, size=7, color=MUTED, va="center"
    )
