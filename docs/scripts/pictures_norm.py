"""Which numbers each normalisation averages over: `docs/images/normalisation.png`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from striate.plot.page import BLUE, MARGIN, MUTED, ORANGE, Page, styled

IMAGES = Path(__file__).parents[1] / "images"
SAMPLES, CHANNELS, ROWS, COLUMNS = 3, 4, 2, 3
HERE = (1, 1, 0, 1)  # the number that is normalised: sample, channel, row, column
PALE = "#e9eef3"
SIDE, CELL_GAP, PANEL_GAP, HEAD = 0.115, 0.07, 0.42, 0.42
Place = tuple[int, int, int, int]


def batch(p: Place) -> bool:
    return p[1] == HERE[1]


def layer(p: Place) -> bool:
    return p[0] == HERE[0]


def row(p: Place) -> bool:
    return p[:3] == HERE[:3]


def group(p: Place) -> bool:
    return p[0] == HERE[0] and p[1] // 2 == HERE[1] // 2


def instance(p: Place) -> bool:
    return p[:2] == HERE[:2]


def response(p: Place) -> bool:
    return p[0] == HERE[0] and abs(p[1] - HERE[1]) <= 1 and p[2:] == HERE[2:]


PANELS = {
    "BatchNorm2d(4)": batch,
    "LayerNorm((4, 2, 3))": layer,
    "LayerNorm(3), RMSNorm(3)": row,
    "GroupNorm(2, 4)": group,
    "InstanceNorm2d(4), adain": instance,
    "LocalResponseNorm(3)": response,
}


@styled
def main() -> None:
    width = CHANNELS * (COLUMNS * SIDE + CELL_GAP) - CELL_GAP
    height = SAMPLES * (ROWS * SIDE + CELL_GAP) - CELL_GAP
    page = Page(3 * (width + PANEL_GAP) - PANEL_GAP + 2 * MARGIN + 0.15, 2 * (height + HEAD) + 1.0)
    page.title(
        "What each norm averages over",
        "samples downwards, channels to the right, in each a 2×3 image; orange: a number",
    )
    for k, (name, used) in enumerate(PANELS.items()):
        x = MARGIN + (k % 3) * (width + PANEL_GAP)
        y = MARGIN + 0.75 + (k // 3) * (height + HEAD)
        page.text(x, y - 0.08, name, size=8.5, weight="bold", color=MUTED)
        draw(page, x, y, used)
    buffer = io.BytesIO()
    page.figure.savefig(buffer, format="png", dpi=130)
    with Image.open(buffer) as picture:
        small = picture.convert("RGB").quantize(64, method=Image.Quantize.MAXCOVERAGE)
        small.save(IMAGES / "normalisation.png", optimize=True)


def draw(page: Page, x: float, y: float, used: Callable[[Place], bool]) -> None:
    for n in range(SAMPLES):
        for c in range(CHANNELS):
            for i in range(ROWS):
                for j in range(COLUMNS):
                    place = (n, c, i, j)
                    at = (
                        x + c * (COLUMNS * SIDE + CELL_GAP) + j * SIDE,
                        y + n * (ROWS * SIDE + CELL_GAP) + i * SIDE,
                    )
                    colour = ORANGE if place == HERE else BLUE if used(place) else PALE
                    page.bar(at, (SIDE, SIDE), colour, edgecolor="white", linewidth=0.8)


if __name__ == "__main__":
    main()
