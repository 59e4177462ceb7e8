"""Filters on plain images as native programs: strips of planes, claimed by threads.

A program is one kernel of `kernels.image`. Its table for the `runner` has one stage; what an image
needs besides (padded rows and columns, the sizes of strips) is worked out here for each call.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.codegen import spmd
from striate.codegen.compiler import load
from striate.codegen.targets import Target, current_target
from striate.kernels import image as stencils
from striate.kernels import image_fft
from striate.kernels.kernel import Kernel
from striate.program import threads
from striate.program.arrays import Float32, address_of, aligned_zeros
from striate.program.runner import (
    ARGUMENT_WORDS,
    BASE_WORDS,
    CALL_WORDS,
    FIELDS,
    NO_LIMIT,
    STAGE_WORDS,
    runner,
)
from striate.settings import get_num_threads

Places = NDArray[np.int64]
_CACHE = 2**18  # bytes of a strip with all that belongs to it, about
_LOW = 16  # rows of a kernel
_LEAST_ITEMS = 4  # a thread, where the image is large enough
_SMALL = 200_000  # multiply-adds that are not worth a second thread


@dataclass(frozen=True)
class Padded:
    """Planes and how they are continued at their borders.

    Attributes:
        planes: (planes, rows, floats of a row), float32 and contiguous.
        rows: for each padded row the row it is, −1 for `fill`.
        cols: for each float of a padded row the float that it is, −1 for `fill`.
        fill: the value outside.
        step: floats from one tap of a row to the next: the pixels' numbers side by side.
    """

    planes: Float32
    rows: Places
    cols: Places
    fill: float = 0.0
    step: int = 1


def direct(image: Padded, kernel: Float32) -> Float32:
    """(planes, rows, floats): the correlation with `kernel`, every tap."""
    target = current_target()
    tile = stencils.tile(target, kernel.shape[0])
    tiles = (tile.rows, tile.columns(target))
    weight = np.ascontiguousarray(kernel, np.float32)
    made = stencils.direct(target, kernel.shape)
    sizes = _strips(image, kernel.shape, tiles, buffers=1)
    rows = _up(sizes["band"], tiles[0])
    sizes["second"] = (rows + kernel.shape[0]) * sizes["pitch"]
    floats = sizes["second"] + rows * sizes["chunk"]
    return _program(made, target).run(image, weight, sizes, floats, kernel.shape, kernel.size)


def separable(image: Padded, terms: Sequence[tuple[Float32, Float32]]) -> Float32:
    """The correlation with Σ column·rowᵀ over `terms` of (column, row)."""
    target = current_target()
    shape = len(terms[0][0]), len(terms[0][1])
    tile, across = stencils.tile(target, shape[0]), stencils.tile(target, 1)
    columns = max(tile.columns(target), across.columns(target))
    weight = np.concatenate([np.concatenate([row, column]) for column, row in terms])
    made = stencils.separable(target, shape)
    sizes = _strips(image, shape, (tile.rows, columns), buffers=2)
    rows = _up(sizes["band"], tile.rows)
    strip = (rows + shape[0] + across.rows) * sizes["pitch"]
    sizes["second"] = strip
    sizes["third"] = strip + rows * sizes["chunk"]
    floats = sizes["third"] + (rows + shape[0] + across.rows) * sizes["chunk"]
    sizes["terms"] = len(terms)
    weight = np.ascontiguousarray(weight, np.float32)
    work = len(terms) * sum(shape)
    return _program(made, target).run(image, weight, sizes, floats, shape, work)


def column_fft(image: Padded, kernel: NDArray[np.float64]) -> Float32:
    """The correlation with `kernel` by transforms down the columns."""
    target = current_target()
    height, width = kernel.shape
    length = image_fft.best_length(height, width)
    weight = image_fft.packed_weight(kernel, length)
    made = image_fft.column_fft(target, width, length)
    band = length - height + 1
    reach = (width - 1) * image.step
    out = image.cols.size - reach
    tile = image_fft.tile_columns(target)
    room = max(_CACHE // (8 * length) - reach, 1)
    chunk = min(max(room // tile, 1) * tile, _up(out, tile))
    pitch = _odd_lines(chunk + reach + target.width)
    out_rows = image.rows.size - height + 1
    sizes = {"band": band, "chunk": chunk, "pitch": pitch, "second": length * pitch}
    sizes |= {"bands": -(-out_rows // (2 * band)), "chunks": -(-out // chunk)}
    below = np.full(max(sizes["bands"] * 2 * band + length - image.rows.size, 0), -1, np.int64)
    longer = Padded(
        image.planes, np.concatenate([image.rows, below]), image.cols, image.fill, image.step
    )
    work = 4 * width + 40
    program = _program(made, target)
    return program.run(longer, weight, sizes, 2 * length * pitch, (height, width), work, out_rows)


def has_column_fft(kernel_rows: int) -> bool:
    """Whether there is a block long enough for a kernel of so many rows."""
    return image_fft.best_length(kernel_rows, 1) > 0


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def _odd_lines(floats: int) -> int:
    """So many floats or a few more: an odd number of cache lines, so that rows spread over sets."""
    lines = -(-floats // 16)
    return 16 * (lines + 1 - lines % 2)


def _strips(
    image: Padded, kernel: Sequence[int], tiles: tuple[int, int], buffers: int
) -> dict[str, int]:
    """Strips of whole tiles that fit the cache, and are enough for all threads."""
    height, width = kernel
    reach = (width - 1) * image.step
    rows, columns = image.rows.size - height + 1, image.cols.size - reach
    chunk = min(_up(columns, tiles[1]), max(_up(4 * reach, tiles[1]), 4 * tiles[1]))
    pitch = _odd_lines(chunk + reach + tiles[1])
    room = _CACHE if height <= _LOW else 2 * _CACHE  # high kernels overlap much from strip to strip
    floats = room // 4 // (pitch + (buffers - 1) * chunk)
    band = min(max(floats - height, 2 * height, 4 * tiles[0]), rows)
    chunks = -(-columns // chunk)
    wanted = _LEAST_ITEMS * get_num_threads() / (chunks * max(len(image.planes), 1))
    if wanted > 1:
        band = min(band, max(int(rows / wanted), 2 * height, 4 * tiles[0]))
    band = min(_up(-(-rows // max(-(-rows // band), 1)), tiles[0]), _up(rows, tiles[0]))
    bands = -(-rows // band)
    return {"band": band, "chunk": chunk, "pitch": pitch, "bands": bands, "chunks": chunks}


# ---- running -------------------------------------------------------------------------------------

_POINTERS = ("out", "source", "weight", "rows", "cols", "fill", "sizes")
_SCRATCH_BASE = 1 + len(_POINTERS)
_PART = "part:i64"


class _Program:
    """A kernel, its code, and memory for the threads."""

    def __init__(self, kernel: Kernel, target: Target) -> None:
        self._code = load([runner(target), kernel.module], target)
        self._entry = self._code.function("run_table", ctypes.c_int64, ctypes.c_void_p)
        self._table = _table(kernel, self._code.address(kernel.symbol))
        self._bases = np.zeros((_SCRATCH_BASE + 1, BASE_WORDS), np.int64)
        self._block = np.zeros(len(FIELDS), np.int64)
        self._shared = np.zeros(spmd.SHARED_BYTES + 64, np.uint8)
        self._scratch = aligned_zeros(0)
        self._lock = threading.Lock()
        shared = -(-address_of(self._shared) // 64) * 64
        self._words = self._shared[shared - address_of(self._shared) :]
        numbers = {"shared": shared, "sleep": threads.sleep_address(), "steps": 1, "samples": 1}
        numbers |= {"batch": 1, "stages": 1, "base_count": len(self._bases)}
        numbers |= {"table": address_of(self._table), "bases": address_of(self._bases)}
        for name, number in numbers.items():
            self._set(name, number)

    def _set(self, name: str, number: int) -> None:
        self._block[FIELDS.index(name)] = number

    def run(
        self,
        image: Padded,
        weight: Float32,
        strips: Mapping[str, int],
        scratch: int,
        kernel: Sequence[int],
        work: int,
        out_rows: int | None = None,
    ) -> Float32:
        """Filter all planes; `work`: multiply-adds of an output, about."""
        planes, source_h, source_w = image.planes.shape
        out_h = image.rows.size - kernel[0] + 1 if out_rows is None else out_rows
        out_w = image.cols.size - (kernel[1] - 1) * image.step
        out = np.empty((planes, out_h, out_w), np.float32)
        left, middle = _contiguous(image.cols)
        numbers = {"out_h": out_h, "out_w": out_w, "source_w": source_w, "left": left}
        numbers |= {"middle": middle, "step": image.step, "source_plane": source_h * source_w}
        numbers |= {"out_plane": out_h * out_w, **strips}
        sizes = np.array([numbers.get(name, 0) for name in stencils.SIZES], np.int64)
        fill = np.array([image.fill], np.float32)
        arrays = (out, image.planes, weight, image.rows, image.cols, fill, sizes)
        parts = planes * strips["bands"] * strips["chunks"]
        if parts and out.size:
            small = out.size * work < _SMALL
            self._launch(arrays, parts, scratch, 1 if small else min(get_num_threads(), parts))
        return out

    def _launch(
        self, arrays: Sequence[NDArray[np.generic]], parts: int, scratch: int, count: int
    ) -> None:
        with self._lock:
            each = _up(scratch, 16)
            if self._scratch.size < each * count:
                self._scratch = aligned_zeros(each * count)
            for k, array in enumerate(arrays):
                self._bases[1 + k, 0] = address_of(array)
            self._bases[_SCRATCH_BASE] = (address_of(self._scratch), 4 * each, 0)
            self._table[0] = parts
            self._set("threads", count)
            for offset in (spmd.CLAIMS, spmd.ARRIVED, spmd.STOP, spmd.HALTED, spmd.PROGRESS):
                self._words[offset : offset + 8] = 0
            address = address_of(self._block)
            if count == 1:
                self._entry(0, address)
            else:
                threads.run(self._entry, address, count)


@functools.lru_cache(maxsize=64)
def _program(kernel: Kernel, target: Target) -> _Program:
    return _Program(kernel, target)


def _table(kernel: Kernel, address: int) -> Places:
    """One stage (its parts are set at each call) with one call."""
    call = STAGE_WORDS
    first = call + CALL_WORDS
    words = [0, 1, 0, call, 1, address, first, len(kernel.arguments)]
    for name in kernel.arguments:
        base = 0 if name == _PART else (*_POINTERS, "scratch").index(name) + 1
        words += [base, 0, 0, 0, int(name == _PART), NO_LIMIT]
    assert_words = ARGUMENT_WORDS * len(kernel.arguments) + first
    if len(words) != assert_words:
        raise TypeError("the runner's table has another form.")
    return np.array(words, np.int64)


def _contiguous(cols: Places) -> tuple[int, int]:
    """A run of columns that follow one another from source column 0 on: its start and length.

    Borders that repeat the image have several; the longest is the image itself.
    """
    breaks = np.flatnonzero((np.diff(cols) != 1) | (cols[:-1] < 0)) + 1
    starts = np.concatenate([[0], breaks])
    lengths = np.diff(np.concatenate([starts, [cols.size]]))
    lengths[cols[starts] != 0] = 0
    best = int(lengths.argmax())
    return int(starts[best]), int(lengths[best])
