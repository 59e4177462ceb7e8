"""What the program of filters works out for itself: strips, and runs of columns."""

from __future__ import annotations

import numpy as np
import pytest

from striate.program import image


@pytest.mark.parametrize(
    ("cols", "run"),
    [
        ([-1, -1, 0, 1, 2, 3, -1], (2, 4)),
        ([1, 0, 0, 1, 2, 3, 3, 2], (2, 4)),
        ([2, 3, 0, 1, 2, 3, 0, 1], (2, 4)),
        ([0, 1, 2], (0, 3)),
        ([0], (0, 1)),
        ([-1, 0], (1, 1)),
        ([3, 2, 1], (0, 0)),
    ],
)
def test_the_columns_that_are_copied_at_once(cols: list[int], run: tuple[int, int]) -> None:
    assert image._contiguous(np.array(cols)) == run


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (1000, 30), (30, 5000)], ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 31), (101, 5)], ids=str)
def test_strips_cover_the_image(size: tuple[int, int], kernel: tuple[int, int]) -> None:
    places = [np.arange(n + k - 1) for n, k in zip(size, kernel, strict=True)]
    padded = image.Padded(np.zeros((1, *map(len, places)), np.float32), *places)
    for tiles in ((6, 64), (4, 8)):
        found = image._strips(padded, kernel, tiles, buffers=2)
        assert found["band"] % tiles[0] == 0 and found["chunk"] % tiles[1] == 0
        assert found["band"] * found["bands"] >= size[0] > found["band"] * (found["bands"] - 1)
        assert found["chunk"] * found["chunks"] >= size[1] > found["chunk"] * (found["chunks"] - 1)
        assert found["pitch"] >= found["chunk"] + kernel[1] - 1 and found["pitch"] // 16 % 2


def test_the_height_of_kernels_for_blocks() -> None:
    assert image.has_column_fft(256) and not image.has_column_fft(257)
