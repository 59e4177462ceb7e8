"""Maps of what a network looks at: the image, a map of it for each method, and both overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError, suggest
from striate.plot.page import (
    MARGIN,
    MUTED,
    POSITIVE,
    SIGNED,
    Page,
    as_pixels,
    number,
    plain,
    spread,
    styled,
    text_width,
)

Array = NDArray[np.float64]
_HEAD, _NAMES, _GAP, _BELOW, _BAND_GAP = 0.52, 0.24, 0.12, 0.44, 0.14
_WIDTH, _LARGEST, _SMALLEST = 7.4, 1.75, 1.0
_LINE = 0.15  # of a name
_CHANNELS = ("sum", "largest", "colour")
_FAINT = 0.45  # how much paler the image is under a map


@dataclass(frozen=True)
class _Map:
    """A map as it is drawn: its values, what the colours end at, and its whole range."""

    values: Array  # (h, w), or (h, w, 3) in [0, 1]
    limit: float
    low: float
    high: float

    @property
    def signed(self) -> bool:
        return self.low < 0

    @property
    def colours(self) -> dict[str, Any]:
        if self.values.ndim == 3:
            return {}
        if self.signed:
            return {"cmap": SIGNED, "vmin": -self.limit, "vmax": self.limit}
        return {"cmap": POSITIVE, "vmin": 0.0, "vmax": self.limit}


@styled
def attribution(
    image: ArrayLike,
    maps: ArrayLike | Mapping[str, ArrayLike],
    *,
    names: Sequence[str] = (),
    channels: str | Mapping[str, str] = "sum",
    clip: float = 0.01,
    overlay: bool = True,
    title: str = "What the network looks at",
    under: str = "",
) -> Figure:
    """Images, their maps by one or several methods, and the maps over the paled images.

    Each map has its own scale, that of the colour bar below it: from −limit to limit where a value
    is negative (blue below 0, red above), else from 0 (white) to limit (dark red). Its whole range
    stands there too. Over the image a map is the more opaque, the greater its magnitude.

    Args:
        image: (c, h, w) or (n, c, h, w); c is 1 or 3. Values outside [0, 1] are spread over it.
        maps: one map or a map for each method's name: (c, h, w), (1, h, w), (h, w) for one image,
            with n in front for several. A map smaller than its image is drawn over all of it.
        names: a name for each image.
        channels: how a map of several channels becomes one number a pixel: "sum" (of
            attributions: the pixel's share of the score), "largest" (the channel of the greatest
            magnitude) or "colour" (three channels as colours, grey is 0). One for all methods, or
            one for each method's name.
        clip: the share of a map's pixels that may be beyond the limit, so that a few great ones do
            not make all others pale.
        overlay: whether the overlaid images are drawn too.
        title: the headline.
        under: a muted line under it.
    Returns:
        The figure.
    Raises:
        ShapeError: arrays of other shapes, or no map at all.
        OptionError: another `channels`, or a `clip` that is no share.

    >>> image = np.zeros((3, 8, 8))
    >>> figure = attribution(image, {"saliency": np.ones((1, 8, 8)), "gradient": -image})
    """
    if not 0 <= clip < 1:
        raise OptionError(f"plot.attribution: expected clip from 0 to below 1; got clip={clip!r}.")
    pictures = _images(np.asarray(image, np.float64))
    columns = _columns(maps, pictures.shape, channels, clip)
    if len(names) not in (0, len(pictures)):
        raise ShapeError(
            f"plot.attribution: expected {len(pictures)} names of images; got {len(names)}."
        )
    layout = _Layout(pictures.shape, len(columns), overlay, max([0.0, *map(_name_width, names)]))
    heads = [_folded(name, layout.tile[0] + _GAP) for name in ("image", *columns)]
    layout.lower(_LINE * max(head.count("\n") for head in heads))
    page = Page(max(layout.width, 4.2) + 2 * MARGIN, layout.height + 2 * MARGIN)
    page.title(title, under)
    for k, head in enumerate(heads):
        place = layout.left(k) + layout.tile[0] / 2
        weight = "normal" if k == 0 else "bold"
        page.text(place, layout.top - 0.09, plain(head), size=8.5, weight=weight, ha="center")
    for row, picture in enumerate(pictures):
        y = layout.top + row * layout.band
        if names:
            page.text(MARGIN, y + layout.tile[1] / 2, plain(names[row]), size=8.5, va="center")
        _draw_row(page, layout, y, spread(picture), [each[row] for each in columns.values()])
    return page.figure


def _folded(name: str, width: float) -> str:
    """A method's name on lines that are no wider than its column, where its words allow it."""
    lines: list[str] = []
    for word in name.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, 8.5, "bold") > width:
            lines.append(word)
        else:
            lines[-1:] = [longer]
    return "\n".join(lines)


def _name_width(name: str) -> float:
    return max([text_width(line, 8.5) for line in name.splitlines()] or [0.0]) + 0.15


def _images(image: Array) -> Array:
    """As (n, c, h, w)."""
    pictures = image[np.newaxis] if image.ndim == 3 else image
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or not pictures.size:
        raise ShapeError(
            "plot.attribution: expected an image (c, h, w) or images (n, c, h, w) of 1 or 3 "
            f"channels; got shape {image.shape}."
        )
    return pictures


def _columns(
    maps: ArrayLike | Mapping[str, ArrayLike],
    shape: tuple[int, ...],
    channels: str | Mapping[str, str],
    clip: float,
) -> dict[str, list[_Map]]:
    """For each method its maps, one for each image."""
    named = maps if isinstance(maps, Mapping) else {"map": maps}
    if not named:
        raise ShapeError("plot.attribution: expected at least one map; got none.")
    found = {}
    for name, values in named.items():
        how = channels if isinstance(channels, str) else channels.get(name, "sum")
        if how not in _CHANNELS:
            raise OptionError(
                f"plot.attribution: unknown channels={how!r}. {suggest(how, _CHANNELS)}"
            )
        found[name] = [
            _flat(m, how, clip) for m in _for_images(name, np.asarray(values, np.float64), shape)
        ]
    return found


def _for_images(name: str, values: Array, shape: tuple[int, ...]) -> Array:
    """A method's maps as (n, c, h, w)."""
    count, given = shape[0], values.shape
    if values.ndim == 2 or (values.ndim == 3 and count > 1):
        values = values[..., np.newaxis, :, :]
    values = values[np.newaxis] if values.ndim == 3 else values
    if values.ndim != 4 or len(values) != count or not values.size:
        raise ShapeError(
            f"plot.attribution: expected for {name!r} a map (c, h, w) of each of the {count} "
            f"images {shape[1:]}; got shape {given}."
        )
    return values


def _flat(values: Array, how: str, clip: float) -> _Map:
    """A map (c, h, w) as it is drawn."""
    values = np.where(np.isfinite(values), values, 0.0)
    if how == "colour" and len(values) == 3:
        limit = _limit(values, clip)
        colours = np.clip(0.5 + values.transpose(1, 2, 0) / (2 * limit), 0.0, 1.0)
        return _Map(colours, limit, float(values.min()), float(values.max()))
    if how == "largest":
        most = np.abs(values).argmax(axis=0)[np.newaxis]
        flat = np.take_along_axis(values, most, axis=0)[0]
    else:
        flat = values.sum(axis=0)
    return _Map(flat, _limit(flat, clip), float(flat.min()), float(flat.max()))


def _limit(values: Array, clip: float) -> float:
    """The magnitude that at most a share `clip` of the values is beyond; 1 where all are 0."""
    sizes = np.abs(values)
    limit = float(np.quantile(sizes, 1 - clip, method="higher"))
    return limit or float(sizes.max()) or 1.0


class _Layout:
    """Where the pictures lie, in inches: a band for each image, a column for each method."""

    def __init__(self, shape: tuple[int, ...], methods: int, overlay: bool, names: float) -> None:
        _, _, h, w = shape
        columns = methods + 1
        side = min(_LARGEST, (_WIDTH - names - _GAP * methods) / columns)
        side = max(side, _SMALLEST)
        self.tile = (side, side * h / w) if w >= h else (side * w / h, side)
        self.overlay, self.names = overlay, names
        self.top = MARGIN + _HEAD + _NAMES
        rows = 2 if overlay else 1
        self.band = rows * self.tile[1] + (rows - 1) * _GAP + _BELOW + _BAND_GAP
        self.width = names + columns * (self.tile[0] + _GAP) - _GAP
        self.height = _HEAD + _NAMES + shape[0] * self.band - _BAND_GAP

    def lower(self, more: float) -> None:
        """Make room above the pictures, for names of several lines."""
        self.top += more
        self.height += more

    def left(self, column: int) -> float:
        return MARGIN + self.names + column * (self.tile[0] + _GAP)


def _draw_row(page: Page, layout: _Layout, y: float, image: Array, maps: list[_Map]) -> None:
    pixels, how = as_pixels(image)
    page.picture((layout.left(0), y), layout.tile, pixels, **how)
    for k, each in enumerate(maps):
        x = layout.left(k + 1)
        drawn = page.picture((x, y), layout.tile, each.values, **each.colours)
        below = y + layout.tile[1]
        if layout.overlay:
            below += _GAP + layout.tile[1]
            _draw_over(page, (x, y + layout.tile[1] + _GAP), layout.tile, image, each)
        if each.colours:
            page.scale(x + 0.12, below + 0.06, layout.tile[0] - 0.24, drawn)
        text = f"{number(each.low)} … {number(each.high)}"
        centre = x + layout.tile[0] / 2
        page.text(centre, below + 0.4, text, size=6.5, color=MUTED, ha="center")


def _draw_over(
    page: Page, place: tuple[float, float], tile: tuple[float, float], image: Array, over: _Map
) -> None:
    """A map on its image, grey and paled; the greater a value, the less is seen of the image."""
    grey = image.mean(axis=0)
    if len(image) == 1:
        grey = 1 - grey  # as `as_pixels` has it: ink on paper
    page.picture(place, tile, 1 - _FAINT * (1 - grey), cmap="gray", vmin=0.0, vmax=1.0)
    size = np.abs(over.values - 0.5).max(axis=-1) * 2 if over.values.ndim == 3 else None
    share = np.abs(over.values) / over.limit if size is None else size
    page.picture(place, tile, over.values, **over.colours, alpha=0.9 * np.minimum(share, 1.0))
