"""A layer at work: its window slides over the input, and the output is filled in.

    st.plot.sliding(net, image, layer="conv1", channel=2).save("conv1.gif")

The numbers come from `plot.sliding_frames`, the page for a browser from `plot.sliding_page`; here
is one frame as a figure, and the writing of GIF and MP4.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from striate.errors import OptionError, suggest
from striate.files import write_atomically
from striate.nn.module import Module
from striate.plot.page import (
    FAINT,
    INK,
    MARGIN,
    MUTED,
    ORANGE,
    POSITIVE,
    SIGNED,
    Page,
    number,
    plain,
    save,
    style,
    styled,
)
from striate.plot.sliding_frames import Frame, Windows, windows

Array = NDArray[np.float64]
PADDING = "#e4e9ee"
_FORMATS = ("gif", "mp4", "html", "png", "pdf", "svg")
_INPUT = {1: 1.75, 2: 1.4, 3: 1.25}  # the side of the input's pictures by how many there are
_GRID, _OUTPUT, _SIGN, _GAP, _SUM, _HEAD, _FOOT = 1.12, 1.75, 0.28, 0.2, 0.86, 0.98, 0.36
_READABLE = 0.26  # the least cell that a number fits in
_COLOURS = 256  # of a GIF


@dataclass(frozen=True)
class Sliding:
    """A layer at work on one image, ready to be looked at or written.

    Attributes:
        windows: the frames, with all their numbers.
        title: the headline.
    """

    windows: Windows = field(repr=False)
    title: str = ""

    def __len__(self) -> int:
        return len(self.windows.frames)

    @styled
    def figure(self, frame: int = -1) -> Figure:
        """One frame, by default the last.

        Args:
            frame: which, from 0; from the end if below 0.
        """
        return self._stage(frame).page.figure

    def _stage(self, frame: int) -> _Stage:
        if not -len(self) <= frame < len(self):
            raise OptionError(
                f"plot.sliding: expected a frame from 0 to {len(self) - 1}; got {frame}."
            )
        stage = _Stage(self.windows, self.title)
        stage.show(frame % len(self))
        return stage

    def html(self) -> str:
        """A page for a browser: offline, with buttons and keys to play and to step."""
        from striate.plot.sliding_page import page_of

        lines = [arithmetic(self.windows, frame) for frame in self.windows.frames]
        return page_of(self.windows, self.title, lines)

    def save(self, path: str | os.PathLike[str], *, seconds: float = 0.2, dpi: int = 100) -> Path:
        """Write a .gif, .mp4 or .html; as .png, .pdf or .svg its last frame.

        Args:
            path: the file; its ending says the format. MP4 needs the program ffmpeg.
            seconds: how long a frame is seen, in GIF and MP4.
            dpi: dots per inch, in GIF, MP4 and PNG.
        Returns:
            The path.
        Raises:
            OptionError: the ending names no format, or there is no ffmpeg.
            FileError: the file cannot be written.
        """
        target = Path(path)
        kind = target.suffix.lstrip(".").lower()
        if kind not in _FORMATS:
            raise OptionError(f"plot.sliding: unknown format {kind!r}. {suggest(kind, _FORMATS)}")
        if not 0.02 <= seconds <= 60:
            raise OptionError(
                f"plot.sliding: expected seconds from 0.02 to 60; got seconds={seconds!r}."
            )
        if kind == "html":
            write_atomically(target, lambda file: file.write(self.html().encode()))
        elif kind == "gif":
            _write_gif(self, target, seconds, dpi)
        elif kind == "mp4":
            _write_mp4(self, target, seconds, dpi)
        else:
            save(self.figure(), target, dpi)
        return target

    @styled
    def _pictures(self, dpi: int) -> list[NDArray[np.uint8]]:
        """Each frame as pixels (h, w, 3)."""
        return list(_rendered(self._stage(0), len(self), dpi))


def sliding(
    net: Module,
    image: ArrayLike,
    layer: str | None = None,
    *,
    channel: int = 0,
    channels: int = 3,
    frames: int = 120,
    title: str = "",
    backend: str | None = None,
) -> Sliding:
    """A layer's window sliding over its input: window, kernel, products, sum, output.

    The arithmetic is that of the layer's formula (stride, dilation, padding, groups, transposed
    and locally connected layers, pooling by any of its windows); the output's picture has the
    numbers that the network's program computed.

    Args:
        net: a network or a single layer.
        image: (c, h, w), as the network takes it; for a later layer it goes through the earlier.
        layer: a layer's name; may be left out where only one slides a window.
        channel: the output's channel that is filled in.
        channels: how many of the input's channels are shown at most; the others are in the sum.
        frames: how many outputs are shown at most; evenly spread where there are more.
        title: the headline; by default the layer's name and its operation.
        backend: what computes the values.
    Returns:
        A `Sliding`: `.save(path)` for GIF, MP4 and HTML, `.figure(k)` for one frame.
    Raises:
        ModelError: there is no such layer, or several where none is named.
        OptionError: the layer has no window, or it or the image is too large to be drawn.

    >>> from striate import nn
    >>> found = sliding(nn.Conv2d(1, 2, 3), np.zeros((1, 6, 6)))
    >>> len(found), found.windows.frames[4].at
    (16, (0, 1, 0))
    """
    found = windows(net, image, layer, channel, channels, frames, backend)
    return Sliding(found, title or f"{_name(found)}, output channel {channel}")


def _name(found: Windows) -> str:
    return found.op if found.layer == found.op else f"{found.layer}: {found.op}"


# ---- one frame ---------------------------------------------------------------------------------


class _Stage:
    """A page whose pictures and numbers are exchanged from frame to frame."""

    def __init__(self, found: Windows, title: str) -> None:
        self.found = found
        rows, kernel = len(found.x), found.frames[0].kernel is not None
        self.side = _INPUT.get(rows, _INPUT[3])
        self.step = max(self.side, _GRID) + 0.16
        self.drop = max(0.0, self.side - _GRID) / 2  # centres the window beside the input
        self.middle = MARGIN + _HEAD + rows * self.step / 2 - 0.08
        grids = 3 if kernel else 1
        signs = 2 * _SIGN if kernel else 0.0
        width = self.side + _GAP + grids * _GRID + signs + _SUM + _OUTPUT
        height = _HEAD + max(rows * self.step, _OUTPUT + 0.1) + _FOOT
        self.page = Page(max(width, 5.2) + 2 * MARGIN, height + 2 * MARGIN)
        self.foot = MARGIN + height - 0.05
        self.page.title(title, plain(found.formula if len(found.formula) < 90 else found.op))
        self._place_input()
        self._place_grids(MARGIN + self.side + _GAP, kernel)
        self._place_output(MARGIN + width - _OUTPUT)
        self.line = self.page.text(MARGIN, self.foot, "", size=9, color=INK)

    def show(self, k: int) -> None:
        """Turn to a frame."""
        frame = self.found.frames[k]
        rows = zip(self.windows, self.sums, strict=True)
        for channel, (window, total) in enumerate(rows):
            window.set_path(_outline(frame.cells[channel], self.input_cell, self.corners[channel]))
            total.set_text(self._sum_text(frame.terms[channel]))
        _fill(self.patches, frame.window)
        if frame.kernel is not None:
            _fill(self.kernels, frame.kernel)
            _fill(self.products, frame.terms)
        if self.found.how == "max":
            self._mark_greatest(frame)
        done = np.full(self.found.y.shape, np.nan)
        _, row, column = frame.at
        reached = row * len(done[0]) + column + 1
        done.ravel()[:reached] = self.found.y.ravel()[:reached]
        self.output.set_data(done)
        cell = np.array([[[row, column]]])
        self.current.set_path(_outline(cell, self.output_cell, self.output_corner))
        self.line.set_text(plain(arithmetic(self.found, frame)))

    def _mark_greatest(self, frame: Frame) -> None:
        """Outline the greatest number of the window."""
        for marker, grid, terms in zip(self.greatest, self.patches, frame.terms, strict=True):
            place = np.unravel_index(int(terms.argmax()), terms.shape)
            marker.set_path(_outline(np.array(place), grid.cell, grid.corner))

    def _sum_text(self, terms: Array) -> str:
        return f"Σ {number(float(terms.sum()))}" if self.found.how == "sum" else ""

    def _place_input(self) -> None:
        found, page = self.found, self.page
        above, below, left, right = found.margin
        h, w = found.x.shape[1] + above + below, found.x.shape[2] + left + right
        cell = self.side / max(h, w)
        self.input_cell, self.corners, self.windows = cell, [], []
        colours = _colours(found.x)
        for k, values in enumerate(found.x):
            y = MARGIN + _HEAD + k * self.step
            page.bar((MARGIN, y), (w * cell, h * cell), PADDING, zorder=-1)
            corner = (MARGIN + left * cell, y + above * cell)
            size = (values.shape[1] * cell, values.shape[0] * cell)
            image = page.picture(corner, size, values, **colours)
            self.corners.append(corner)
            self.windows.append(self._marker())
            page.text(MARGIN - 0.06, y + h * cell / 2, str(found.channels[k]), size=7, color=MUTED,
                      ha="right", va="center")  # fmt: skip
        name = f"input {'×'.join(map(str, found.x.shape[1:]))}"
        self._head(MARGIN, name, image)

    def _marker(self) -> PathPatch:
        patch = PathPatch(Outline(np.zeros((1, 2))), facecolor="none", edgecolor=ORANGE, lw=1.6)
        patch.set_zorder(5)
        self.page.sheet.add_patch(patch)
        return patch

    def _head(self, x: float, name: str, image: AxesImage | None, width: float = 0.92) -> None:
        self.page.text(x, MARGIN + _HEAD - 0.34, name, size=8.5, weight="bold")
        if image is not None:
            self.page.scale(x + 0.08, MARGIN + _HEAD - 0.27, width, image)

    def _place_grids(self, x: float, kernel: bool) -> None:
        found = self.found
        self.patches = self._grid_column(x, "window", _colours(found.x))
        self.kernels: list[_Grid] = []
        self.products: list[_Grid] = []
        self.greatest = [self._marker() for _ in self.patches]
        if kernel:
            frames = found.frames
            weights = np.stack([f.kernel for f in frames if f.kernel is not None])
            x += _GRID + _SIGN
            self._signs(x, "×")
            self.kernels = self._grid_column(x, "kernel", _signed(weights))
            x += _GRID + _SIGN
            self._signs(x, "=")
            products = np.stack([f.terms for f in frames])
            self.products = self._grid_column(x, "products", _signed(products))
        self.sums: list[Text] = []
        for k in range(len(found.x)):
            y = MARGIN + _HEAD + k * self.step + self.drop + _GRID / 2
            self.sums.append(
                self.page.text(x + _GRID + 0.08, y, "", size=8, weight="bold", va="center")
            )

    def _signs(self, x: float, sign: str) -> None:
        for k in range(len(self.found.x)):
            y = MARGIN + _HEAD + k * self.step + self.drop + _GRID / 2
            self.page.text(x - _SIGN / 2, y, sign, size=11, color=MUTED, ha="center", va="center")

    def _grid_column(self, x: float, name: str, colours: dict[str, Any]) -> list[_Grid]:
        size = self.found.frames[0].terms.shape[1:]
        colours = {**colours, "cmap": colours["cmap"].with_extremes(bad=PADDING)}
        made = [
            _Grid(self.page, (x, MARGIN + _HEAD + k * self.step + self.drop), size, colours)
            for k in range(len(self.found.x))
        ]
        self._head(x, name, made[0].image)
        return made

    def _place_output(self, x: float) -> None:
        y = self.found.y
        cell = _OUTPUT / max(y.shape)
        size = (y.shape[1] * cell, y.shape[0] * cell)
        corner = (x, max(self.middle - size[1] / 2, MARGIN + _HEAD))
        colours = _colours(y)
        colours["cmap"] = colours["cmap"].with_extremes(bad="white")
        self.output = self.page.picture(corner, size, np.full(y.shape, np.nan), **colours)
        self.output_cell, self.output_corner = cell, corner
        self.current = self._marker()
        self._head(x, f"output {'×'.join(map(str, y.shape))}", self.output)


class _Grid:
    """A small picture whose cells have numbers where they are large enough."""

    def __init__(
        self, page: Page, place: tuple[float, float], size: Sequence[int], colours: dict[str, Any]
    ) -> None:
        rows, columns = size
        cell = _GRID / max(size)
        drawn = (columns * cell, rows * cell)
        corner = (place[0] + (_GRID - drawn[0]) / 2, place[1] + (_GRID - drawn[1]) / 2)
        self.cell, self.corner = cell, corner
        self.image = page.picture(corner, drawn, np.zeros((rows, columns)), **colours)
        self.limit = float(colours["vmax"])
        self.texts: list[Text] = []
        if cell >= _READABLE:
            self.texts = [
                page.text(corner[0] + (j + 0.5) * cell, corner[1] + (i + 0.5) * cell, "",
                          size=6.5, ha="center", va="center")
                for i in range(rows) for j in range(columns)
            ]  # fmt: skip


def _fill(grids: Sequence[_Grid], values: Array) -> None:
    for grid, plane in zip(grids, values, strict=True):
        grid.image.set_data(plane)
        for text, value in zip(grid.texts, plane.ravel(), strict=False):
            dark = abs(value) > 0.62 * grid.limit
            text.set_text("pad" if np.isnan(value) else short(value))
            text.set_color(FAINT if np.isnan(value) else "white" if dark else INK)


def _outline(cells: NDArray[np.int64], cell: float, corner: tuple[float, float]) -> Outline:
    """The border of cells on the page; one rectangle where they fill one."""
    places = cells.reshape(-1, 2)
    places = np.unique(
        places[places[:, 0] > -(10**5)], axis=0
    )  # fillers of cells that read nothing
    if not len(places):
        return Outline(np.zeros((1, 2)))
    low, high = places.min(axis=0), places.max(axis=0) + 1
    boxes = [(low, high)]
    if np.prod(high - low) != len(places):
        boxes = [(place, place + 1) for place in places]
    outlines = []
    for (top, left), (bottom, right) in boxes:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        outlines.append(Outline(np.array(corners) * cell + corner, closed=True))
    return Outline.make_compound_path(*outlines)


def _signed(values: Array) -> dict[str, Any]:
    finite = np.abs(values[np.isfinite(values)])
    limit = float(finite.max(initial=0.0)) or 1.0
    return {"cmap": SIGNED, "vmin": -limit, "vmax": limit}


def _colours(values: Array) -> dict[str, Any]:
    """Symmetric about 0 where a value is negative, else from 0."""
    signed = _signed(values)
    if (values < 0).any():
        return signed
    return {"cmap": POSITIVE, "vmin": 0.0, "vmax": signed["vmax"]}


def short(value: float) -> str:
    """A number for a small cell: two figures after the point, three where it is small."""
    size = abs(value)
    text = f"{value:.3f}" if size < 0.095 else f"{value:.2f}" if size < 10 else f"{value:.3g}"
    return "0" if float(text) == 0 else text.replace("-", "−").replace("0.", ".", 1)


def arithmetic(found: Windows, frame: Frame) -> str:
    """The frame's sum in one line."""
    place = ", ".join(map(str, frame.at if not found.line else (frame.at[0], frame.at[2])))
    if found.how == "max":
        middle = f"greatest of {frame.terms[0].size} = {number(frame.total)}"
    else:
        what = "products" if frame.kernel is not None else "numbers"
        middle = f"Σ of {frame.terms.size} {what}"
        if found.hidden:
            middle += f" {number(frame.total - frame.others)}"
            middle += f" + {found.hidden} other channels {number(frame.others)}"
        middle += f" = {number(frame.total)}"
    end = f"  {frame.text} = {number(frame.value)}" if frame.text else ""
    return f"y[{place}]:  {middle}{end}"


# ---- files -------------------------------------------------------------------------------------


def _rendered(stage: _Stage, count: int, dpi: int) -> Iterator[NDArray[np.uint8]]:
    figure = stage.page.figure
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    for k in range(count):
        stage.show(k)
        canvas.draw()  # type: ignore[no-untyped-call,unused-ignore]
        pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call,unused-ignore]
        yield np.asarray(pixels)[..., :3].copy()


def _write_gif(shown: Sliding, target: Path, seconds: float, dpi: int) -> None:
    """All frames in the colours of the last, so that only what changed is stored."""
    pictures = [Image.fromarray(pixels) for pixels in shown._pictures(dpi)]
    palette = pictures[-1].quantize(_COLOURS, dither=Image.Dither.NONE)
    frames = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    times = [int(1000 * seconds)] * (len(frames) - 1) + [max(2000, int(1000 * seconds))]
    write_atomically(
        target,
        lambda file: frames[0].save(
            file, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0,
            optimize=True,
        ),
    )  # fmt: skip


def _write_mp4(shown: Sliding, target: Path, seconds: float, dpi: int) -> None:
    from tempfile import TemporaryDirectory

    from matplotlib.animation import FFMpegWriter

    program = _ffmpeg(target)
    stage = shown._stage(0)
    with style(), mpl.rc_context({"animation.ffmpeg_path": program}), TemporaryDirectory() as temp:
        made = Path(temp) / "sliding.mp4"
        writer = FFMpegWriter(fps=1 / seconds)  # type: ignore[arg-type,unused-ignore]
        with writer.saving(stage.page.figure, str(made), dpi):
            for k in range(len(shown)):
                stage.show(k)
                writer.grab_frame()
        content = made.read_bytes()
    write_atomically(target, lambda file: file.write(content))


def _ffmpeg(target: Path) -> str:
    """The program that writes MP4: on the path, or that of the package imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found is None:
        try:
            package = importlib.import_module("imageio_ffmpeg")
        except ImportError:
            raise OptionError(
                f"plot.sliding: expected the program ffmpeg, to write {target.name}; there is "
                "none. Run `pip install imageio-ffmpeg`, or write a .gif or .html."
            ) from None
        found = str(package.get_ffmpeg_exe())
    return found
