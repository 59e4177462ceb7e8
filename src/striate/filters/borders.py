"""How an image goes on beyond its borders, as tables: which row each padded row is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from striate.program.image import Padded, Places

Float32 = NDArray[np.float32]


def _reflect(i: Places, n: int) -> Places:
    inside = i % (2 * n)
    return np.where(inside < n, inside, 2 * n - 1 - inside)


def _mirror(i: Places, n: int) -> Places:
    period = max(2 * n - 2, 1)
    inside = i % period
    return np.where(inside < n, inside, period - inside)


BORDERS: dict[str, Callable[[Places, int], Places]] = {
    "reflect": _reflect,
    "nearest": lambda i, n: np.clip(i, 0, n - 1),
    "mirror": _mirror,
    "wrap": lambda i, n: i % n,
    "constant": lambda i, n: np.where((i >= 0) & (i < n), i, -1),
}
"""Rules by name, those of scipy.ndimage: what stands beyond the row a b c d.

reflect d c b a | a b c d | d c b a, nearest a a a | a b c d | d d d,
mirror d c b | a b c d | c b a, wrap b c d | a b c d | a b c, constant k k k | a b c d | k k k.
"""


def continued(size: int, sides: tuple[int, int], border: str) -> Places:
    """For each row of an axis padded by `sides` the row it is, −1 for the constant.

    >>> continued(3, (2, 2), "mirror").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    places = np.arange(-sides[0], size + sides[1], dtype=np.int64)
    return np.ascontiguousarray(BORDERS[border](places, size), np.int64)


def sides(size: int, padding: str, convolve: bool) -> tuple[int, int]:
    """Rows of padding before and after, for a kernel of `size` rows.

    With "same" the kernel's middle is its element (size − 1)//2, flipped or not.
    """
    if padding == "full":
        return size - 1, size - 1
    if padding == "valid":
        return 0, 0
    before = size // 2 if convolve else (size - 1) // 2
    return before, size - 1 - before


def spread(cols: Places, step: int) -> Places:
    """The table of columns for pixels of `step` numbers side by side."""
    if step == 1:
        return cols
    each = cols[:, None] * step + np.arange(step)
    return np.ascontiguousarray(np.where(cols[:, None] < 0, -1, each).ravel())


def padded_array(image: Padded) -> Float32:
    """The planes with their borders written out: (planes, padded rows, padded floats)."""
    x, rows, cols = image.planes, image.rows, image.cols
    out = np.empty((len(x), rows.size, cols.size), np.float32)
    for at, size in _runs(rows):
        for across, width in _runs(cols):
            r, c = int(rows[at]), int(cols[across])
            whole = x[:, r : r + size, c : c + width]
            out[:, at : at + size, across : across + width] = (
                whole if min(r, c) >= 0 else image.fill
            )
    return out


def _runs(places: Places) -> list[tuple[int, int]]:
    """Where runs of rows that follow one another begin, and how long they are."""
    if not places.size:
        return []
    together = (np.diff(places) == 1) & (places[:-1] >= 0)
    starts = np.flatnonzero(np.concatenate([[True], ~together]))
    ends = np.concatenate([starts[1:], [places.size]])
    return list(zip(starts.tolist(), (ends - starts).tolist(), strict=True))
