"""Runs kernels where a stray read or write is a fault, and compares what they give.

Every buffer lies between two pages that may not be touched: in one run it ends right at the upper
one, in a second it begins right at the lower one. Outputs hold NaN before the call, inputs are
compared afterwards, and both runs must give the same bits.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.codegen.compiler import compile_modules, load
from striate.codegen.image import Code
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel

Array = NDArray[Any]

# (relative, of the largest number) error allowed for sums that are not exact.
TOLERANCE = {np.dtype(np.float32): (4e-6, 1e-6), np.dtype(np.float64): (1e-12, 1e-13)}
_PAGE = mmap.PAGESIZE
_NO_ACCESS, _READ_ONLY, _READ_WRITE = 0, 1, 3


# ---- guarded memory ----------------------------------------------------------------------------


def _protect(address: int, size: int, access: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), access):
        raise OSError(ctypes.get_errno(), "mprotect")


class Guarded:
    """An array with forbidden pages before and behind; `high`: flush with the one behind."""

    def __init__(self, shape: Sequence[int], dtype: Any, high: bool) -> None:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._inner = max(-(-size // _PAGE), 1) * _PAGE
        self._map = mmap.mmap(-1, self._inner + 2 * _PAGE)
        raw = np.frombuffer(self._map, np.uint8)
        self._start = int(raw.ctypes.data) + _PAGE
        offset = _PAGE + (self._inner - size if high else 0)
        self.array: Array = raw[offset : offset + size].view(dtype).reshape(shape)
        self.address = self._start - _PAGE + offset
        _protect(self._start - _PAGE, _PAGE, _NO_ACCESS)
        _protect(self._start + self._inner, _PAGE, _NO_ACCESS)

    def seal(self) -> None:
        """Forbid writing."""
        _protect(self._start, self._inner, _READ_ONLY)

    def release(self) -> None:
        """Allow everything again, so that the memory can be given back."""
        _protect(self._start - _PAGE, self._inner + 2 * _PAGE, _READ_WRITE)


@dataclass(frozen=True)
class Given:
    """An input; writing to it is a fault."""

    array: Array


@dataclass(frozen=True)
class Changed:
    """An argument that is read and written."""

    array: Array


@dataclass(frozen=True)
class Wanted:
    """An output of this shape: NaN before the call."""

    shape: tuple[int, ...]


Argument = Given | Changed | Wanted | int


def given(array: ArrayLike, dtype: Any = np.float32) -> Given:
    return Given(np.ascontiguousarray(array, dtype))


def changed(array: ArrayLike) -> Changed:
    return Changed(np.ascontiguousarray(array, np.float32))


def wanted(*shape: int) -> Wanted:
    return Wanted(shape)


def run_kernel(kernel: Kernel, target: Target, *arguments: Argument) -> list[Array]:
    """The outputs (and changed arguments), in order, after a run against each guard page."""
    results = [_run_once(kernel, target, arguments, high) for high in (True, False)]
    for high, low in zip(*results, strict=True):
        assert high.tobytes() == low.tobytes(), "the result depends on where the buffers lie"
    return results[0]


def _run_once(
    kernel: Kernel, target: Target, arguments: Sequence[Argument], high: bool
) -> list[Array]:
    kinds = [ctypes.c_int64 if ":" in name else ctypes.c_void_p for name in kernel.arguments]
    assert len(kinds) == len(arguments), f"{kernel.symbol} takes {kernel.arguments}"
    values: list[int] = []
    guarded: list[tuple[Argument, Guarded]] = []
    for argument in arguments:
        if isinstance(argument, int):
            values.append(argument)
            continue
        buffer = _buffer(argument, high)
        guarded.append((argument, buffer))
        values.append(buffer.address)
    code(kernel, target).function(kernel.symbol, *kinds)(*values)
    results = []
    for argument, buffer in guarded:
        if isinstance(argument, Given):
            assert buffer.array.tobytes() == argument.array.tobytes(), "an input was changed"
        else:
            results.append(buffer.array.copy())
        buffer.release()
    return results


def _buffer(argument: Given | Changed | Wanted, high: bool) -> Guarded:
    if isinstance(argument, Wanted):
        buffer = Guarded(argument.shape, np.float32, high)
        buffer.array[...] = np.nan
        return buffer
    buffer = Guarded(argument.array.shape, argument.array.dtype, high)
    buffer.array[...] = argument.array
    if isinstance(argument, Given):
        buffer.seal()
    return buffer


@functools.lru_cache(maxsize=64)
def code(kernel: Kernel, target: Target) -> Code:
    """The kernel's loaded code."""
    return load([kernel.module], target)


def compile_ahead(kernels: Iterable[Kernel], target: Target) -> None:
    """Compile many kernels at once, on all cores; runs then find them in the cache."""
    compile_modules([kernel.module for kernel in kernels], target)


# ---- arrays ------------------------------------------------------------------------------------


def whole_numbers(seed: int, *shape: int, most: int = 4) -> NDArray[np.float32]:
    """Whole numbers from −most to most without 0, so that sums of products are exact."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, most + 1, shape) * rng.choice([-1, 1], shape)
    return values.astype(np.float32)


def normal_numbers(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def to_lanes(samples: ArrayLike) -> Array:
    """(width, …) samples to (…, width): each element a vector of the samples' values."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(samples), 0, -1))


def from_lanes(values: ArrayLike) -> Array:
    """(…, width) to (width, …)."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(values), -1, 0))


# ---- comparing ---------------------------------------------------------------------------------


def check_equal(found: ArrayLike, expected: ArrayLike, *, dense: float = 0.5) -> None:
    """Every number is the expected one; at least the share `dense` of them must not be 0."""
    f, e = _comparable(found, expected, dense)
    same = (f == e) | (np.isnan(f) & np.isnan(e))
    assert same.all(), f"{(~same).sum()} of {same.size} differ, {_worst(f, e, ~same)}"


def check_close(
    found: ArrayLike, expected: ArrayLike, *, dense: float = 0.5, factor: float = 1.0
) -> None:
    """Every number is within the tolerance of its type; `factor` widens it for long sums."""
    f, e = _comparable(found, expected, dense)
    kind = np.asarray(found).dtype
    relative, absolute = TOLERANCE[kind]
    finite = np.isfinite(e)
    same = (f == e) | (np.isnan(f) & np.isnan(e))
    largest = np.abs(e[finite]).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        near = np.abs(f - e) <= factor * (relative * np.abs(e) + absolute * largest)
    good = same | (finite & near)
    assert good.all(), f"{(~good).sum()} of {good.size} differ, {_worst(f, e, ~good)}"


def _comparable(found: ArrayLike, expected: ArrayLike, dense: float) -> tuple[Array, Array]:
    f, e = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert f.shape == e.shape, f"shape {f.shape}, expected {e.shape}"
    assert f.size, "there is nothing to compare"
    share = np.count_nonzero(e) / e.size
    assert share >= dense, f"only {share:.0%} of the expected numbers are not 0: a weak test"
    return f, e


def _worst(found: Array, expected: Array, wrong: Array) -> str:
    at = tuple(int(k) for k in np.argwhere(wrong)[0])
    return f"first at {at}: {found[at]!r}, expected {expected[at]!r}"
