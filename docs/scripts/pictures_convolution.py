"""Pictures of `docs/operations/convolution.md`: padding, what strides read, shared kernels.

Every number in them is computed by the library. Run: python docs/scripts/pictures_convolution.py
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image

from striate.nn import functional as F
from striate.plot.page import INK, MARGIN, MUTED, ORANGE, SHARE, Page, styled

IMAGES = Path(__file__).parents[1] / "images"
GAP = 0.4


def save(page: Page, name: str) -> None:
    """The page as a small PNG."""
    buffer = io.BytesIO()
    page.figure.savefig(buffer, format="png", dpi=130)
    with Image.open(buffer) as picture:
        small = picture.convert("RGB").quantize(64, method=Image.Quantize.MAXCOVERAGE)
        small.save(IMAGES / name, optimize=True)


def cells(page: Page, x: float, y: float, side: float, colours: Any, texts: Any) -> None:
    """A grid of squares with a text in each; dark squares have white texts."""
    for i, row in enumerate(colours):
        for j, colour in enumerate(row):
            at = (x + j * side, y + i * side)
            page.bar(at, (side, side), colour, edgecolor="white", linewidth=0.8)
            light = np.dot(mpl.colors.to_rgb(colour), (0.3, 0.6, 0.1)) > 0.55
            page.text(
                at[0] + side / 2,
                at[1] + side / 2,
                str(texts[i][j]),
                size=side * 34,
                ha="center",
                va="center",
                color=INK if light else "white",
            )


def frame(page: Page, x: float, y: float, width: float, height: float) -> None:
    edge = Rectangle((x, y), width, height, fill=False, edgecolor=ORANGE, linewidth=1.6, zorder=5)
    page.sheet.add_patch(edge)


def name(page: Page, x: float, y: float, title: str, under: str) -> None:
    page.text(x, y, title, size=8.5, weight="bold", color=INK)
    page.text(x, y + 0.16, under, size=7.5, color=MUTED)


@styled
def padding() -> None:
    """A small image, padded in each mode."""
    image, p, side = np.arange(1, 13.0).reshape(1, 1, 3, 4), 2, 0.2
    modes = {
        "constant": "zeros, or any number",
        "reflect": "mirrored, the edge once",
        "symmetric": "mirrored, the edge twice",
        "replicate": "the edge again and again",
        "circular": "the other end",
    }
    rows, columns = 3 + 2 * p, 4 + 2 * p
    width = columns * side + GAP
    page = Page(2 * MARGIN + len(modes) * width - GAP + 0.1, 2 * MARGIN + 0.95 + rows * side)
    page.title("Five ways to go on beyond an image", "a 3×4 image (framed), 2 on each side")
    for k, (mode, under) in enumerate(modes.items()):
        x, y = MARGIN + k * width, MARGIN + 1.0
        values = F.pad(image, (p,) * 4, mode)[0, 0].astype(int)
        name(page, x, y - 0.25, mode, under)
        cells(page, x, y, side, [[SHARE(0.05 + v / 16) for v in row] for row in values], values)
        frame(page, x + p * side, y + p * side, 4 * side, 3 * side)
    save(page, "conv_padding.png")


def coverage(size: int, kernel: int, **settings: Any) -> np.ndarray:
    """How many windows read each pixel: the transpose of a convolution with ones, on ones."""
    x, w = np.ones((1, 1, size, size)), np.ones((1, 1, kernel, kernel))
    y = F.conv2d(x, w, **settings)
    rest = (size + 2 * settings.get("padding", 0)) - settings.get("dilation", 1) * (kernel - 1) - 1
    more = rest % settings.get("stride", 1)
    back = F.conv_transpose2d(np.ones_like(y), w, output_padding=more, **settings)
    return back[0, 0].astype(int)


@styled
def strides() -> None:
    """How often pixels are read, and written by a transposed convolution."""
    transposed = [
        F.conv_transpose2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, k, k)), stride=2)[0, 0, :9, :9]
        for k in (3, 2)
    ]
    panels = {
        "kernel 3": ("every window", coverage(9, 3)),
        "kernel 3, padding 1": ("the edge is read more often", coverage(9, 3, padding=1)),
        "kernel 3, stride 2": ("windows overlap by one", coverage(9, 3, stride=2)),
        "kernel 2, stride 3": ("0: never read, strict refuses", coverage(9, 2, stride=3)),
        "kernel 3, dilation 2": ("taps two apart", coverage(9, 3, dilation=2)),
        "kernel 3, dil. 2, stride 2": ("odd rows never read", coverage(9, 3, dilation=2, stride=2)),
        "transposed 3, stride 2": ("uneven: a checkerboard", transposed[0].astype(int)),
        "transposed 2, stride 2": ("kernel = stride: even", transposed[1].astype(int)),
    }
    side, width = 0.17, 9 * 0.17 + GAP + 0.25
    page = Page(2 * MARGIN + 4 * width - GAP, 2 * MARGIN + 0.55 + 2 * (9 * side + 0.6))
    page.title(
        "How often each pixel is read", "and, on the lower right, how often a pixel is written"
    )
    for k, (title, (under, counts)) in enumerate(panels.items()):
        x, y = MARGIN + k % 4 * width, MARGIN + 0.95 + k // 4 * (9 * side + 0.6)
        name(page, x, y - 0.23, title, under)
        colours = [["#f4d6c8" if v == 0 else SHARE(v / 11) for v in row] for row in counts]
        cells(page, x, y, side, colours, counts)
    save(page, "conv_strides.png")


@styled
def sharing() -> None:
    """Which kernel each output position has."""
    size, side = 6, 0.24
    i, j = np.mgrid[:size, :size]
    panels = {
        "Conv2d": ("one kernel everywhere", 0 * i),
        "TiledConv2d, tiles=2": ("4 kernels take turns", i % 2 * 2 + j % 2),
        "TiledConv2d, tiles=3": ("9 kernels take turns", i % 3 * 3 + j % 3),
        "LocallyConnected2d": ("36 kernels, none shared", i * size + j),
    }
    width = size * side + GAP + 0.3
    page = Page(2 * MARGIN + 4 * width - GAP, 2 * MARGIN + 0.95 + size * side)
    page.title("Shared, tiled, local", "the number of the kernel at each of 6×6 output positions")
    for k, (title, (under, numbers)) in enumerate(panels.items()):
        x, y = MARGIN + k * width, MARGIN + 1.0
        name(page, x, y - 0.25, title, under)
        most = max(int(numbers.max()), 1)
        colours = [[SHARE(0.15 + 0.75 * v / most) for v in row] for row in numbers]
        cells(page, x, y, side, colours, numbers + 1)
    save(page, "conv_sharing.png")


if __name__ == "__main__":
    padding()
    strides()
    sharing()
