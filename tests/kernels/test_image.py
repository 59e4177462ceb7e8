"""Filters on plain images between guard pages, against sums in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from harness import (
    Changed,
    check_close,
    check_equal,
    given,
    normal_numbers,
    run_kernel,
    wanted,
    whole_numbers,
)
from numpy.typing import NDArray
from spills import spills_in_loops

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS, Target
from striate.kernels import image, image_fft

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Strips:
    """One plane of out_h × out_w outputs in strips of `band` × `chunk`."""

    out: tuple[int, int]
    kernel: tuple[int, int]
    band: int
    chunk: int
    step: int = 1
    left: int = 1

    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int]]:
        """Rows and columns: two of `fill`, the image, its last one once more."""
        rows = self.out[0] + self.kernel[0] - 1
        columns = self.out[1] // self.step + self.kernel[1] - 1
        r, c = _continued(rows, 2), _continued(columns, self.left)
        cols = np.where(c[:, None] < 0, -1, c[:, None] * self.step + np.arange(self.step))
        return r, cols.ravel(), (int(r.max()) + 1, (int(c.max()) + 1) * self.step)


def _continued(count: int, before: int) -> NDArray[np.int64]:
    before = min(before, count - 1)
    places = np.arange(count) - before
    places[places < 0] = -1
    if count - before > 2:
        places[-1] = places[-2]
    return places.astype(np.int64)


def _padded(x: Array, rows: NDArray[np.int64], cols: NDArray[np.int64], fill: float) -> Array:
    """What the tables say, as an array."""
    found = x[np.maximum(rows, 0)][:, np.maximum(cols, 0)]
    return np.where((rows[:, None] < 0) | (cols < 0), np.float32(fill), found)


def _expected(padded: Array, weight: NDArray[np.float64], s: Strips) -> NDArray[np.float64]:
    total = np.zeros(s.out)
    for (p, q), w in np.ndenumerate(weight):
        total += w * padded[p : p + s.out[0], q * s.step : q * s.step + s.out[1]]
    return total


def _run(
    kernel: image.Kernel,
    target: Target,
    s: Strips,
    weight: Array,
    more: dict[str, int],
    floats: int,
) -> tuple[Array, Array]:
    """Every part of the plane, one call each; also the padded image."""
    rows, cols, shape = s.tables()
    x = whole_numbers(1, *shape)
    bands, chunks = -(-s.out[0] // s.band), -(-s.out[1] // s.chunk)
    if "pairs" in more:
        bands = -(-bands // 2)
    numbers = {"out_h": s.out[0], "out_w": s.out[1], "source_w": shape[1], "step": s.step}
    start = int(np.argmax(cols == 0))
    numbers |= {"left": start, "middle": int(cols.max()) + 1, "bands": bands, "chunks": chunks}
    numbers |= {"band": s.band, "chunk": s.chunk, **more}
    sizes = np.array([numbers.get(name, 0) for name in image.SIZES])
    below = np.full(2 * s.band * bands + 512, -1)
    arguments = (x, weight, np.concatenate([rows, below]), cols, np.array([7.0]), sizes)
    kinds = (np.float32, np.float32, np.int64, np.int64, np.float32, np.int64)
    inputs = [given(a, kind) for a, kind in zip(arguments, kinds, strict=True)]
    out = np.full(s.out, np.nan, np.float32)
    for part in range(bands * chunks):
        out, _ = run_kernel(kernel, target, Changed(out), *inputs, wanted(floats), part)
    return out, _padded(x, rows, cols, 7.0)


CASES = [
    Strips((1, 1), (1, 1), 6, 64),
    Strips((7, 17), (3, 3), 6, 64, left=0),
    Strips((13, 70), (2, 5), 12, 64),
    Strips((12, 64), (7, 4), 12, 64),
    Strips((9, 66), (9, 9), 6, 64, step=3, left=2),
    Strips((5, 130), (1, 6), 4, 128),
    Strips((20, 3), (8, 1), 12, 64),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_direct(case: Strips, target: Target) -> None:
    weight = whole_numbers(2, *case.kernel)
    tile = image.tile(target, case.kernel[0])
    rows = -(-case.band // tile.rows) * tile.rows
    pitch = case.chunk + (case.kernel[1] - 1) * case.step + tile.columns(target)
    more = {"pitch": pitch, "second": (rows + case.kernel[0]) * pitch}
    floats = more["second"] + rows * case.chunk
    kernel = image.direct(target, case.kernel)
    found, padded = _run(kernel, target, case, weight, more, floats)
    check_equal(found, _expected(padded, weight.astype(float), case))


@pytest.mark.parametrize("terms", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_separable(case: Strips, terms: int, target: Target) -> None:
    (kh, kw), parts = case.kernel, []
    for t in range(terms):
        parts.append((whole_numbers(3 + t, kw), whole_numbers(9 + t, kh)))
    weight = sum(np.outer(column, row).astype(float) for row, column in parts)
    tile, across = image.tile(target, kh), image.tile(target, 1)
    rows = -(-case.band // tile.rows) * tile.rows
    high = rows + kh + across.rows
    pitch = case.chunk + (kw - 1) * case.step + tile.columns(target)
    more = {"pitch": pitch, "second": high * pitch, "terms": terms}
    more["third"] = more["second"] + rows * case.chunk
    floats = more["third"] + high * case.chunk
    packed = np.concatenate([np.concatenate(pair) for pair in parts])
    kernel = image.separable(target, case.kernel)
    found, padded = _run(kernel, target, case, packed, more, floats)
    check_equal(found, _expected(padded, np.asarray(weight), case), dense=0.3)


@pytest.mark.parametrize("length", [32, 64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_column_fft(case: Strips, length: int, target: Target) -> None:
    weight = normal_numbers(4, *case.kernel).astype(float)
    band = length - case.kernel[0] + 1
    tile = image_fft.tile_columns(target)
    case = Strips(case.out, case.kernel, band, -(-case.chunk // tile) * tile, case.step, case.left)
    pitch = case.chunk + (case.kernel[1] - 1) * case.step + target.width
    more = {"pitch": pitch, "second": length * pitch, "pairs": 1}
    kernel = image_fft.column_fft(target, case.kernel[1], length)
    packed = image_fft.packed_weight(weight, length)
    found, padded = _run(kernel, target, case, packed, more, 2 * length * pitch)
    expected = _expected(padded, weight, case)
    assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max()


def test_the_order_of_frequencies() -> None:
    assert image_fft.order(8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    for length in image_fft.LENGTHS:
        assert sorted(image_fft.order(length).tolist()) == list(range(length))


def test_the_length_of_blocks() -> None:
    assert image_fft.best_length(3, 3) in image_fft.LENGTHS
    assert image_fft.best_length(256, 1) == 512
    assert image_fft.best_length(257, 1) == 0


@pytest.mark.parametrize("level", ["v2", "v3", "v4"])
@pytest.mark.parametrize("kernel", [(3, 3), (31, 31), (1, 9), (9, 1)], ids=str)
def test_stencils_spill_nothing(level: str, kernel: tuple[int, int]) -> None:
    target = TARGETS[f"x86-64-{level}"]
    for made in (image.direct(target, kernel), image.separable(target, kernel)):
        assert spills_in_loops(assembly(made.module.text, target)) <= (2 if level == "v2" else 0)


@pytest.mark.parametrize("level", ["v3", "v4"])
def test_transforms_spill_nothing(level: str) -> None:
    target = TARGETS[f"x86-64-{level}"]
    text = assembly(image_fft.column_fft(target, 31, 128).module.text, target)
    assert spills_in_loops(text) <= (0 if level == "v4" else 40)


def test_a_large_image_of_noise(target: Target) -> None:
    case = Strips((40, 100), (15, 15), 24, 128)
    weight = normal_numbers(5, *case.kernel)
    tile = image.tile(target, 15)
    pitch = 128 + 14 + tile.columns(target)
    rows = -(-case.band // tile.rows) * tile.rows
    more = {"pitch": pitch, "second": (rows + 15) * pitch}
    kernel = image.direct(target, case.kernel)
    floats = more["second"] + rows * 128
    found, padded = _run(kernel, target, case, weight, more, floats)
    check_close(found, _expected(padded, weight.astype(float), case), factor=20)
