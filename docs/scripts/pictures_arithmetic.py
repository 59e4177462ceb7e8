"""The picture of `docs/operations/arithmetic.md`: a small tensor, and what functions make of it.

Every number in it is computed by the library. Run: python docs/scripts/pictures_arithmetic.py
"""

from __future__ import annotations

import numpy as np
from pictures_convolution import GAP, cells, name, save

from striate.nn import functional as F
from striate.plot.page import MARGIN, SHARE, Page, styled

SIDE = 0.24


@styled
def places() -> None:
    """A 3×4 tensor after functions that broadcast, sum, and move numbers."""
    x = np.arange(1, 13.0).reshape(1, 3, 4)
    row, column = np.array([[[0.0, 10, 20, 30]]]), np.array([[[1.0], [2], [3]]])
    panels = {
        "x": ("3×4", x),
        "x + row": ("a row of 0, 10, 20, 30", x + row),
        "x * column": ("a column of 1, 2, 3", x * column),
        "F.sum(x, 2)": ("over an axis", F.sum(x, 2, keepdim=True)),
        "F.cumsum(x, 2)": ("sums so far", F.cumsum(x, 2)),
        "F.flip(x, 2)": ("turned round", F.flip(x, 2)),
        "F.roll(x, 1, 2)": ("out at one end, in at the other", F.roll(x, 1, 2)),
        "F.transpose(x, 1, 2)": ("4×3", F.transpose(x, 1, 2)),
    }
    width, height = 4 * SIDE + GAP + 0.7, 4 * SIDE + 0.6
    page = Page(2 * MARGIN + 4 * width - GAP, 2 * MARGIN + 0.55 + 2 * height)
    page.title("Broadcast, sum, move", "what becomes of the numbers 1 to 12")
    for k, (title, (under, values)) in enumerate(panels.items()):
        x0, y0 = MARGIN + k % 4 * width, MARGIN + 1.0 + k // 4 * height
        name(page, x0, y0 - 0.25, title, under)
        numbers = np.asarray(values)[0].astype(int)
        most = max(int(numbers.max()), 16)
        colours = [[SHARE(0.05 + 0.8 * v / most) for v in line] for line in numbers]
        cells(page, x0, y0, SIDE, colours, numbers)
    save(page, "arithmetic.png")


if __name__ == "__main__":
    places()
