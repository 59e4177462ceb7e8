"""A number followed back to the pixels, drawn: layer by layer, and the pixels in the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from striate.inspect.explain_text import percent
from striate.inspect.explain_trace import Trace
from striate.plot.page import (
    BLUE,
    FAINT,
    INK,
    MARGIN,
    MUTED,
    Page,
    as_pixels,
    number,
    plain,
    spread,
    styled,
    text_width,
)

_RED = "#b2403f"
_WIDTH, _HEAD, _ROW, _STEP, _IMAGE, _SPACE, _UNDER = 7.4, 0.66, 0.34, 0.2, 1.9, 0.3, 0.5
_LETTERS = 7.5


@styled
def trace(
    found: Trace,
    image: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    title: str = "",
) -> Figure:
    """What adds the most to a number, layer by layer to pixels: a tree, and the image beside it.

    A line of the tree is as thick as what it adds to the number at the top is large; red adds,
    blue takes away. The pixels that were reached are framed in the image.

    Args:
        found: what `Explanation.to_pixels` gave.
        image: the image (c, h, w), or a batch of one; of several inputs images by the inputs'
            names.
        title: the headline.
    Returns:
        The figure.

    >>> import striate as st
    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    >>> x = np.ones((1, 5, 5))
    >>> figure = trace(st.explain(net, x, "0", (1, 0, 2)).to_pixels(2), x)
    """
    rows = _rows(found, 0)
    place = ", ".join(map(str, found.at))
    images = _images(found, image)
    height = max(_ROW * len(rows), sum(one.size[1] + _UNDER for one in images))
    page = Page(_WIDTH + 2 * MARGIN, _HEAD + height + 2 * MARGIN)
    page.title(
        plain(title or f"What {found.node}[{place}] = {number(found.value)} is made of"),
        "what each number adds, its share; red adds, blue takes away; … what was not followed",
    )
    room = _WIDTH - (_IMAGE + _SPACE if images else 0.0)
    _draw_tree(page, rows, abs(found.value), room)
    top = MARGIN + _HEAD
    for one in images:
        _draw_image(page, one, top)
        top += one.size[1] + _UNDER
    return page.figure


class _Row:
    """A line of the tree: how deep it is, what it says, what it adds, where its parent is."""

    def __init__(self, depth: int, text: str, note: str, amount: float, parent: int) -> None:
        self.depth, self.text, self.note = depth, text, note
        self.amount, self.parent = amount, parent


def _rows(found: Trace, depth: int, rows: list[_Row] | None = None, parent: int = -1) -> list[_Row]:
    """The tree from the top down; a chain of single numbers is one row."""
    rows = [] if rows is None else rows
    chain = [_place(found)]
    last = found
    while len(last.parts) == 1 and not last.others and not last.constant:
        last = last.parts[0]
        chain.append(_place(last))
    if len(chain) > 3:
        chain = [chain[0], "…", chain[-1]]
    share = "" if depth == 0 or math.isnan(found.share) else f" ({percent(found.share)})"
    note = f"{number(found.amount)}{share}"
    rows.append(_Row(depth, " ← ".join(chain), note, found.amount, parent))
    own = len(rows) - 1
    for part in last.parts:
        _rows(part, depth + 1, rows, own)
    if last.parts and last.others:
        text = f"… {last.others:,} more"
        rows.append(_Row(depth + 1, text, number(last.rest), last.rest, own))
    if last.parts and abs(last.constant) > 1e-6 * abs(last.amount):
        rows.append(_Row(depth + 1, "bias, constants", number(last.constant), last.constant, own))
    return rows


def _place(found: Trace) -> str:
    return f"{found.node}[{', '.join(map(str, found.at))}]"


def _draw_tree(page: Page, rows: list[_Row], top: float, room: float) -> None:
    deepest = max(row.depth for row in rows)
    step = min(_STEP, 0.4 * room / max(deepest, 1))
    for k, row in enumerate(rows):
        x, y = MARGIN + row.depth * step, MARGIN + _HEAD + (k + 0.5) * _ROW
        colour = _colour(row.amount)
        if row.parent >= 0:
            above = MARGIN + _HEAD + (row.parent + 0.5) * _ROW + 0.09
            _line(page, (x - 0.5 * step, above), (x - 0.5 * step, y), FAINT, 0.6)
            _line(page, (x - 0.5 * step, y), (x - 0.04, y), FAINT, 0.6)
        size = min(1.0, abs(row.amount) / top) if top else 0.0
        page.bar((x, y - 0.075), (0.03 + 0.4 * size, 0.15), colour, alpha=0.85)
        start = x + 0.1 + 0.4 * size
        faint = row.text.startswith(("…", "bias"))
        text = _cut(row.text, room - (start - MARGIN) - text_width(row.note, _LETTERS) - 0.15)
        page.text(start, y, plain(text), size=_LETTERS, va="center", color=MUTED if faint else INK)
        page.text(
            start + text_width(text, _LETTERS) + 0.1, y, row.note,
            size=_LETTERS, va="center", color=colour,
        )  # fmt: skip


def _line(
    page: Page, start: tuple[float, float], end: tuple[float, float], colour: str, width: float
) -> None:
    x, y = zip(start, end, strict=True)
    page.sheet.add_line(Line2D(x, y, color=colour, linewidth=width))


def _colour(amount: float) -> str:
    return _RED if amount >= 0 else BLUE


def _cut(text: str, room: float) -> str:
    while text_width(text, _LETTERS) > room and len(text) > 6:
        text = text[:-4] + "…"
    return text


@dataclass(frozen=True)
class _Image:
    """An image, the pixels of it that were reached, and what it is called where there are more."""

    picture: NDArray[np.float64]
    pixels: tuple[Trace, ...]
    name: str

    @property
    def size(self) -> tuple[float, float]:
        h, w = self.picture.shape[1:]
        return (_IMAGE, _IMAGE * h / w) if w >= h else (_IMAGE * w / h, _IMAGE)


def _images(found: Trace, image: ArrayLike | Mapping[str, ArrayLike] | None) -> list[_Image]:
    """What is drawn beside the tree: whatever is an image."""
    if image is None:
        return []
    images = []
    for name, given in image.items() if isinstance(image, Mapping) else [("", image)]:
        array = np.asarray(given, np.float64)
        picture = array[0] if array.ndim == 4 else array
        if picture.ndim == 3:
            own = tuple(pixel for pixel in found.pixels if name in ("", pixel.node))
            images.append(_Image(picture, own, name))
    return images


def _draw_image(page: Page, image: _Image, y: float) -> None:
    """The image with the pixels that were reached."""
    picture, size = image.picture, image.size
    pixels, colours = as_pixels(spread(picture[:1] if picture.shape[0] not in (1, 3) else picture))
    h, w = picture.shape[1:]
    x = MARGIN + _WIDTH - _IMAGE
    page.picture((x, y), size, pixels, **colours)
    cell = (size[0] / w, size[1] / h)
    for pixel in image.pixels:
        _, i, j = pixel.at
        side = max(*cell, 0.05)
        middle = (x + (j + 0.5) * cell[0], y + (i + 0.5) * cell[1])
        corner = (middle[0] - side / 2, middle[1] - side / 2)
        page.bar(corner, (side, side), "none", edgecolor=_colour(pixel.amount), linewidth=1.1)
    count = len(image.pixels)
    text = f"{count} {'pixel' if count == 1 else 'pixels'} reached" if count else "no pixel reached"
    text = f"{image.name}: {text}" if image.name else text
    page.text(x, y + size[1] + 0.16, plain(text), size=_LETTERS, color=MUTED)
