"""Max and average pooling with the batch in lanes, forward and gradient.

Rows and columns are cut into runs of tiles with one pattern of windows, so edges cost nothing
inside and every window's valid elements are known when the code is generated. The gradient of
max pooling finds the maximum anew (the first of equals, as everywhere); no switches are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import maximum
from striate.kernels.kernel import Kernel, Tail, make_kernel, store_with_tail
from striate.kernels.window import Run, Taps, reversed_taps, runs, split

_TILE = 4
# For each position of a tile: the (source row, source column) offsets in its window.
_Windows = list[list[tuple[int, int]]]


@dataclass(frozen=True)
class Pool:
    """Windows over `channels` planes; `counted`: the divisor of an average, None = those inside."""

    channels: int
    source: tuple[int, int]
    rows: Taps
    cols: Taps
    counted: int | None = None

    @property
    def out(self) -> tuple[int, int]:
        return len(self.rows), len(self.cols)

    @property
    def partition(self) -> bool:
        """Whether every source element is in exactly one window."""
        return all(
            all(len(pairs) == 1 for pairs in reversed_taps(along, size))
            for along, size in zip((self.rows, self.cols), self.source, strict=True)
        )


def _walk(
    b: Builder,
    channels: int,
    rows: Taps,
    cols: Taps,
    source_cols: int,
    source_plane: int,
    body: Callable[[Int, Int, _Windows], None],
) -> None:
    """Visit all tiles: body(source offset, output offset, windows), offsets in floats."""
    plane = len(rows) * len(cols)
    row_runs = runs(rows, [1] * len(rows))
    col_runs = runs(cols, split(len(cols), _TILE))

    def tile(row: Run, col: Run, channel: Int, r: Int, c: Int) -> None:
        source_row = b.add(b.mul(r, row.advance), row.base)
        source_col = b.add(b.mul(c, col.advance), col.base)
        source = b.add(b.mul(source_row, source_cols), source_col)
        source = b.add(source, b.mul(channel, source_plane))
        out_row, out_col = b.add(r, row.first), b.add(b.mul(c, col.width), col.first)
        out = b.add(b.mul(b.add(b.mul(channel, len(rows)), out_row), len(cols)), out_col)
        windows = [
            [(dr, dc) for _, dr in row.pattern[0] for _, dc in pairs] for pairs in col.pattern
        ]
        body(b.mul(source, b.width), b.mul(out, b.width), windows)

    def line(row: Run, channel: Int, r: Int) -> None:
        for col in col_runs:
            b.loop(0, col.count, lambda c, _, col=col: tile(row, col, channel, r, c))  # type: ignore[misc]

    def plane_of(channel: Int, _: list[Value]) -> None:
        for row in row_runs:
            b.loop(0, row.count, lambda r, _, row=row: line(row, channel, r))  # type: ignore[misc]

    if plane:
        b.loop(0, channels, plane_of)


# The values of a window, loaded as they are asked for, and their count, to its one number.
_Reduce = Callable[[Builder, Iterator[Value], int], Value]


def _pooling(target: Target, name: str, p: Pool, tail: Tail | None, reduce: _Reduce) -> Kernel:
    """y = reduce(the window's values); arguments y, x, then the tail's."""

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x, *rest = arguments
        columns = p.source[1]

        def tile(source: Int, out: Int, windows: _Windows) -> None:
            base = b.at(x, source)
            for j, window in enumerate(windows):
                values = (b.load(base, (r * columns + c) * b.width) for r, c in window)
                found = reduce(b, values, len(window))
                store_with_tail(b, tail, found, y, b.add(out, j * b.width), rest)

        _walk(b, p.channels, p.rows, p.cols, columns, p.source[0] * columns, tile)

    return make_kernel(target, name, ["y", "x", *(tail.arguments if tail else ())], build)


@functools.lru_cache(maxsize=256)
def max_pool(target: Target, p: Pool, tail: Tail | None = None) -> Kernel:
    """y = max over the window; arguments y, x, then the tail's."""

    def largest(b: Builder, values: Iterator[Value], _: int) -> Value:
        found = next(values, b.const(float("-inf")))
        for value in values:
            found = maximum(b, value, found)
        return found

    return _pooling(target, "max_pool", p, tail, largest)


@functools.lru_cache(maxsize=256)
def max_pool_gradient(target: Target, p: Pool, tail: Tail | None = None) -> Kernel:
    """dx: dy goes to the first maximum of each window; arguments dx, dy, x, then the tail's.

    A tail needs windows that are a partition of the source (`Pool.partition`).
    """
    direct = p.partition

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, dy, x, *rest = arguments
        columns = p.source[1]
        if not direct:
            _clear(b, dx, p.channels * p.source[0] * columns)

        def tile(source: Int, out: Int, windows: _Windows) -> None:
            for j, window in enumerate(windows):
                places = [b.add(source, (r * columns + c) * b.width) for r, c in window]
                gradient = b.load(dy, b.add(out, j * b.width))
                parts = _first_maximum(b, [b.load(x, at) for at in places], gradient)
                for at, part in zip(places, parts, strict=True):
                    if direct:
                        store_with_tail(b, tail, part, dx, at, rest)
                    else:
                        b.store(b.fadd(b.load(dx, at), part), dx, at)

        _walk(b, p.channels, p.rows, p.cols, columns, p.source[0] * columns, tile)

    names = ["dx", "dy", "x", *(tail.arguments if tail else ())]
    return make_kernel(target, "max_pool_gradient", names, build)


def _first_maximum(b: Builder, values: list[Value], gradient: Value) -> list[Value]:
    """The gradient where a value is the first maximum (or the last NaN) of its window, else 0."""
    rises: list[Value] = []
    found = values[0] if values else b.zero
    for value in values[1:]:
        above = b.bitwise("or", b.fcmp("ogt", value, found), b.fcmp("uno", value, value))
        found = b.select(above, value, found)
        rises.append(above)
    parts: list[Value] = []
    for above in reversed(rises):
        parts.append(b.select(above, gradient, b.zero))
        gradient = b.select(above, b.zero, gradient)
    return [gradient, *reversed(parts)] if values else []


@functools.lru_cache(maxsize=256)
def average_pool(target: Target, p: Pool, tail: Tail | None = None) -> Kernel:
    """y = sum over the window / count; arguments y, x, then the tail's."""

    def mean(b: Builder, values: Iterator[Value], inside: int) -> Value:
        total = functools.reduce(b.fadd, values, b.zero)
        return b.fdiv(total, b.const(float(p.counted or max(inside, 1))))

    return _pooling(target, "average_pool", p, tail, mean)


@functools.lru_cache(maxsize=256)
def average_pool_gradient(target: Target, p: Pool) -> Kernel:
    """dx += dy / count over each window; arguments dx, dy."""

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, dy = arguments
        columns = p.source[1]
        _clear(b, dx, p.channels * p.source[0] * columns)

        def tile(source: Int, out: Int, windows: _Windows) -> None:
            for j, window in enumerate(windows):
                count = float(p.counted or max(len(window), 1))
                part = b.fdiv(b.load(dy, b.add(out, j * b.width)), b.const(count))
                for r, c in window:
                    at = b.add(source, (r * columns + c) * b.width)
                    b.store(b.fadd(b.load(dx, at), part), dx, at)

        _walk(b, p.channels, p.rows, p.cols, columns, p.source[0] * columns, tile)

    return make_kernel(target, "average_pool_gradient", ["dx", "dy"], build)


def _clear(b: Builder, pointer: Value, vectors: int) -> None:
    b.loop(0, vectors, lambda i, _: b.store(b.zero, pointer, b.mul(i, b.width)))
