"""A page to draw on: one style for all figures, places in inches from the top left, saving.

Every figure is laid out by hand, in inches, so that pixels of small images stay square and no
label is cut off. Only the object interface of matplotlib is used, with the Agg canvas: no window,
no pyplot, no settings that outlive the call.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from striate.errors import DataError, OptionError, suggest
from striate.files import write_atomically

INK, MUTED, FAINT, RULE = "#1f2328", "#656d76", "#afb8c1", "#d8dee4"
BLUE, ORANGE, GREEN = "#2166ac", "#c4501b", "#2f7d4f"

SIGNED: Colormap = LinearSegmentedColormap.from_list(
    "striate-signed", ["#123a6b", "#2f78b8", "#9fcbe3", "#f9f9f7", "#f6b795", "#cf5246", "#7a0a24"]
)
"""Diverging: blue below 0, white at 0, red above. Always used with limits symmetric about 0."""

POSITIVE: Colormap = LinearSegmentedColormap.from_list(
    "striate-positive", ["#fbfaf8", "#f6c9ae", "#dd6f57", "#a32036", "#4a0720"]
)
"""Sequential, the upper half of `SIGNED`: white at 0, dark red at the greatest."""

SHARE: Colormap = LinearSegmentedColormap.from_list(
    "striate-share", ["#ffffff", "#d3e4f1", "#86b6d9", "#3a7fba", "#173f72"]
)
"""Sequential blues for shares between 0 and 1."""

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "striate",
    "pdf.fonttype": 42,
}
_WIDE = 0.38  # inches of a label that sticks out beyond a colour bar's end
DPI = 200
MARGIN = 0.35
_FORMATS = ("pdf", "png", "svg")

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def style() -> Iterator[None]:
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc must not change the layout
        for name, value in STYLE.items():
            mpl.rcParams[name] = value  # type: ignore[index,unused-ignore]  # known in stubs only
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under the style, whatever the user's settings are."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return draw(*args, **kwargs)

    return wrapper


class Page:
    """A figure of a size in inches, on which things are placed from the top left."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI)
        FigureCanvasAgg(self.figure)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose upper left corner is `x` to the right and `y` down."""
        rectangle = (
            x / self.width,
            1 - (y + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(rectangle)

    def text(self, x: float, y: float, text: str, **more: Any) -> Text:
        """Text at a place; `y` is its base line unless `va` says otherwise."""
        return self.figure.text(x / self.width, 1 - y / self.height, text, **more)

    def title(self, text: str, under: str = "") -> None:
        """The headline, and a muted line under it."""
        self.text(MARGIN, MARGIN + 0.13, text, size=12, weight="bold")
        if under:
            self.text(MARGIN, MARGIN + 0.36, under, size=8.5, color=MUTED)

    @functools.cached_property
    def sheet(self) -> Axes:
        """Axes over the whole page, in inches from the top left, for images and bars.

        One such sheet draws a hundred small images many times faster than axes for each.
        """
        sheet = self.axes(0, 0, self.width, self.height)
        sheet.set(xlim=(0, self.width), ylim=(self.height, 0))
        sheet.set_autoscale_on(False)
        sheet.axis("off")
        return sheet

    def picture(
        self,
        place: tuple[float, float],
        size: tuple[float, float],
        values: NDArray[Any],
        vmin: float | None = None,
        vmax: float | None = None,
        cmap: Colormap | str | None = None,
        alpha: NDArray[Any] | None = None,
    ) -> AxesImage:
        """An image in a thin frame, each of its pixels a patch of one colour.

        `alpha` (h, w) says how opaque each pixel is: 1 hides what lies below it.
        """
        (x, y), (width, height) = place, size
        image = AxesImage(
            self.sheet,
            cmap=cmap,
            interpolation="nearest",
            extent=(x, x + width, y + height, y),
        )
        image.set_data(values)
        image.set_alpha(alpha)
        image.set_clim(vmin, vmax)
        self.sheet.add_image(image)
        self.bar(place, size, "none", edgecolor=RULE, linewidth=0.5)
        return image

    def bar(
        self, place: tuple[float, float], size: tuple[float, float], colour: str, **more: Any
    ) -> None:
        """A filled rectangle."""
        self.sheet.add_patch(Rectangle(place, *size, facecolor=colour, **more))

    def scale(self, x: float, y: float, width: float, image: AxesImage, label: str = "") -> None:
        """A thin horizontal colour bar with its limits, and 0 where it lies inside."""
        axes = self.axes(x, y, width, 0.09)
        low, high = image.get_clim()
        ramp = np.linspace(0.0, 1.0, 256)[np.newaxis]
        axes.imshow(ramp, cmap=image.get_cmap(), aspect="auto", extent=(low, high, 0, 1))
        axes.set_yticks([])
        ticks = [low, 0.0, high] if low < 0 < high else [low, high]
        texts = [number(t) for t in ticks]
        wide = max(text_width(text, 7) for text in texts) > _WIDE
        if wide and low == -high:
            ticks, texts = [low, 0.0, high], ["", f"±{number(high)}", ""]
        axes.set_xticks(ticks, texts)
        axes.tick_params(length=2, pad=1.5, labelsize=7)
        if wide:  # nothing beyond the bar's ends: another one may be beside it
            axes.get_xticklabels()[0].set_horizontalalignment("left")
            axes.get_xticklabels()[-1].set_horizontalalignment("right")
        for spine in axes.spines.values():
            spine.set_visible(False)
        if label:
            self.text(x - 0.12, y + 0.045, label, size=7.5, color=MUTED, ha="right", va="center")


@functools.lru_cache(maxsize=1024)
def text_width(text: str, size: float = 8.5, weight: str = "normal") -> float:
    """The width of a line of text in inches."""
    font = FontProperties(family=["DejaVu Sans"], weight=weight, size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def plain(text: str) -> str:
    """Text that matplotlib will not take for mathematics."""
    return text.replace("$", r"\$")


def number(value: float) -> str:
    """A number with three figures and a real minus sign."""
    text = "0" if value == 0 else f"{value:.3g}"
    return text.replace("-", "−")


def as_pixels(image: NDArray[Any]) -> tuple[NDArray[Any], dict[str, Any]]:
    """An image (c, h, w) or (h, w) in [0, 1] as pixels, and how `imshow` must draw them.

    Grey ones are drawn as ink on paper: 1 is black.
    """
    image = np.asarray(image, np.float64)
    image = image[np.newaxis] if image.ndim == 2 else image
    if image.ndim != 3 or not image.size:
        raise DataError(f"plot: expected an image (c, h, w); got shape {image.shape}.")
    if image.shape[0] == 3:
        return np.clip(image.transpose(1, 2, 0), 0.0, 1.0), {}
    low, high = min(0.0, float(image[0].min())), max(1.0, float(image[0].max()))
    return image[0], {"cmap": "gray_r", "vmin": low, "vmax": high}


def spread(images: NDArray[Any]) -> NDArray[np.float64]:
    """Pictures in [0, 1]; normalised ones, with values outside, are spread over it."""
    images = np.asarray(images, np.float64)
    low, high = float(images.min()), float(images.max())
    if low >= -1e-6 and high <= 1 + 1e-6:
        return images
    return np.asarray((images - low) / ((high - low) or 1.0))


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a file's ending names: pdf, png or svg.

    Raises:
        OptionError: it names none of them.
    """
    kind = Path(path).suffix.lstrip(".").lower()
    if kind not in _FORMATS:
        raise OptionError(f"plot.save: unknown format {kind!r}. {suggest(kind, _FORMATS)}")
    return kind


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = DPI) -> Path:
    """Write a figure as PNG, PDF or SVG; the file is whole or absent.

    Args:
        figure: what one of the functions of `striate.plot` gave.
        path: the file; its ending says the format.
        dpi: dots per inch of a PNG.
    Returns:
        The path.
    Raises:
        OptionError: the ending names no format.
        FileError: the file cannot be written.
    """
    target, kind = Path(path), format_of(path)
    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None},
        "svg": {"Date": None},
    }
    with style():
        write_atomically(
            target,
            lambda file: figure.savefig(file, format=kind, dpi=dpi, metadata=metadata[kind]),
        )
    return target
