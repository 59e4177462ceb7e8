"""Max and average pooling with the batch in lanes, forward and gradient.

Rows and columns are cut into runs of tiles with one pattern of windows, so edges cost nothing
inside and every window's valid elements are known when the code is generated. The gradient of
max pooling finds the maximum anew (the first of equals, as everywhere); no switches are kept.
To these kernels a vector is a vector: a block of channels of one sample serves as a plane, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import maximum
from striate.kernels.kernel import Kernel, Tail, make_kernel, store_with_tail
from striate.kernels.window import Run, Taps, reversed_taps, runs, split

_TILE = 4
_FEW = 16  # elements of a window that are written out; larger ones are met in loops
_CHUNK = 8  # columns at once in rows longer than that


@dataclass(frozen=True)
class _Window:
    """One window: source rows and columns, counted from the tile's first."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.cols)

    def over(
        self,
        b: Builder,
        columns: int,
        body: Callable[[list[Int], list[Value]], list[Value]],
        carry: list[Value],
    ) -> list[Value]:
        """Run `body(offsets, carry)` on the elements in order, some at once, offsets in floats."""
        if self.count <= _FEW:
            places = [(r * columns + c) * b.width for r in self.rows for c in self.cols]
            return body([*places], carry)
        lines = b.table([(r * columns + self.cols[0]) * b.width for r in self.rows])
        step = (self.cols[1] - self.cols[0] if len(self.cols) > 1 else 1) * b.width
        chunk = len(self.cols) if len(self.cols) <= _FEW else _CHUNK
        whole = len(self.cols) // chunk * chunk

        def line(i: Int, carry: list[Value]) -> list[Value]:
            start = b.load_i64(lines, i)

            def some(c: Int, count: int, carry: list[Value]) -> list[Value]:
                first = b.add(start, b.mul(c, step))
                return body([b.add(first, k * step) for k in range(count)], carry)

            carry = b.loop(0, whole, lambda c, s: some(c, chunk, s), carry, step=chunk)
            rest = len(self.cols) - whole
            return some(whole, rest, carry) if rest else carry

        return b.loop(0, len(self.rows), line, carry)


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
    p: Pool,
    body: Callable[[Int, Int, list[_Window]], None],
    before: Callable[[Int, Int], None] | None = None,
) -> None:
    """Visit all tiles: body(source offset, output offset, windows), offsets in floats.

    `before(channel, output row)` is run before the tiles of a row.
    """
    row_runs = runs(p.rows, [1] * len(p.rows))
    col_runs = runs(p.cols, split(len(p.cols), _TILE))
    source_plane = p.source[0] * p.source[1]

    def tile(row: Run, col: Run, channel: Int, r: Int, c: Int) -> None:
        source_row = b.add(b.mul(r, row.advance), row.base)
        source_col = b.add(b.mul(c, col.advance), col.base)
        source = b.add(b.mul(source_row, p.source[1]), source_col)
        source = b.add(source, b.mul(channel, source_plane))
        out_row, out_col = b.add(r, row.first), b.add(b.mul(c, col.width), col.first)
        line = b.add(b.mul(channel, len(p.rows)), out_row)
        out = b.add(b.mul(line, len(p.cols)), out_col)
        rows = tuple(dr for _, dr in row.pattern[0])
        windows = [_Window(rows, tuple(dc for _, dc in pairs)) for pairs in col.pattern]
        body(b.mul(source, b.width), b.mul(out, b.width), windows)

    def line(row: Run, channel: Int, r: Int) -> None:
        if before:
            before(channel, b.add(r, row.first))
        for col in col_runs:
            b.loop(0, col.count, lambda c, _, col=col: tile(row, col, channel, r, c))  # type: ignore[misc]

    def plane_of(channel: Int, _: list[Value]) -> None:
        for row in row_runs:
            b.loop(0, row.count, lambda r, _, row=row: line(row, channel, r))  # type: ignore[misc]

    if p.rows and p.cols:
        b.loop(0, p.channels, plane_of)


@dataclass(frozen=True)
class _Reduction:
    """How a window becomes one number: `few` values at once, `both` of two results, and the end."""

    start: float
    few: Callable[[Builder, Iterator[Value]], Value]
    both: Callable[[Builder, Value, Value], Value]
    end: Callable[[Builder, Value, int], Value]


def _pooling(target: Target, name: str, p: Pool, tail: Tail | None, how: _Reduction) -> Kernel:
    """y = the reduction of the window's values; arguments y, x, then the tail's."""

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x, *rest = arguments

        def tile(source: Int, out: Int, windows: list[_Window]) -> None:
            base = b.at(x, source)
            for j, window in enumerate(windows):

                def some(offsets: list[Int], carry: list[Value]) -> list[Value]:
                    found = how.few(b, (b.load(base, at) for at in offsets))
                    return [how.both(b, found, carry[0]) if carry else found]

                carry = [b.const(how.start)] if window.count > _FEW else []
                (found,) = window.over(b, p.source[1], some, carry)
                found = how.end(b, found, window.count)
                store_with_tail(b, tail, found, y, b.add(out, j * b.width), rest)

        _walk(b, p, tile)

    return make_kernel(target, name, ["y", "x", *(tail.arguments if tail else ())], build)


@functools.lru_cache(maxsize=256)
def max_pool(target: Target, p: Pool, tail: Tail | None = None) -> Kernel:
    """y = max over the window; arguments y, x, then the tail's."""
    how = _Reduction(float("-inf"), _largest, maximum, lambda b, found, _: found)
    return _pooling(target, "max_pool", p, tail, how)


def _largest(b: Builder, values: Iterator[Value]) -> Value:
    """The largest, NaN if one is: NaNs are looked for two values at a time."""
    first = next(values, None)
    if first is None:
        return b.const(float("-inf"))
    found, lone, strange = first, first, ""
    for k, value in enumerate(values):
        found = b.select(b.fcmp("ogt", value, found), value, found)
        if k % 2:
            lone = value
        else:
            mask = b.fcmp("uno", lone, value)
            strange = b.bitwise("or", strange, mask) if strange else mask
            lone = ""
    if lone:
        mask = b.fcmp("uno", lone, lone)
        strange = b.bitwise("or", strange, mask) if strange else mask
    return b.select(strange, b.const(float("nan")), found)


@functools.lru_cache(maxsize=256)
def max_pool_gradient(target: Target, p: Pool, tail: Tail | None = None) -> Kernel:
    """dx: dy goes to the first maximum of each window; arguments dx, dy, x, then the tail's.

    A tail needs windows that are a partition of the source (`Pool.partition`).
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, dy, x, *rest = arguments
        give = _Giver(b, p, dx, tail, rest)

        def tile(source: Int, out: Int, windows: list[_Window]) -> None:
            base = b.at(x, source)
            for j, window in enumerate(windows):
                gradient = b.load(dy, b.add(out, j * b.width))
                if window.count <= _FEW:
                    _give_few(b, p, window, base, source, gradient, give)
                else:
                    _give_many(b, p, window, base, source, gradient, give)

        _walk(b, p, tile, give.before)
        give.rest()

    names = ["dx", "dy", "x", *(tail.arguments if tail else ())]
    return make_kernel(target, "max_pool_gradient", names, build)


class _Giver:
    """Adds to dx, which is cleared a row at a time, or stores it where windows are a partition."""

    def __init__(
        self, b: Builder, p: Pool, dx: Value, tail: Tail | None, rest: Sequence[Value]
    ) -> None:
        self.b, self.p, self.dx, self.tail, self.tail_rest = b, p, dx, tail, rest
        self.direct = p.partition
        ends = [0]  # source rows cleared before an output row
        for pairs in p.rows:
            ends.append(max([ends[-1], *(row + 1 for _, row in pairs)]))
        self.last = ends[-1] if p.rows and p.cols else 0
        self.ends = "" if self.direct else b.table(ends)

    def before(self, channel: Int, row: Int) -> None:
        """Clear the source rows that no earlier output row meets."""
        if not self.direct:
            b = self.b
            self._clear(channel, b.load_i64(self.ends, row), b.load_i64(self.ends, b.add(row, 1)))

    def rest(self) -> None:
        """Clear the source rows that no output row meets."""
        b, p = self.b, self.p
        if not self.direct:
            b.loop(0, p.channels, lambda c, _: self._clear(c, self.last, p.source[0]))

    def _clear(self, channel: Int, first: Int, stop: Int) -> None:
        b, (height, width) = self.b, self.p.source
        plane = b.mul(channel, height)
        start, end = (b.mul(b.add(plane, r), width) for r in (first, stop))
        b.loop(start, end, lambda i, _: b.store(b.zero, self.dx, b.mul(i, b.width)))

    def __call__(self, at: Int, part: Value) -> None:
        """Give a window's part to the source element at `at` floats."""
        b = self.b
        if self.direct:
            store_with_tail(b, self.tail, part, self.dx, at, self.tail_rest)
        else:
            b.store(b.fadd(b.load(self.dx, at), part), self.dx, at)

    def all(self, source: Int, part: Value) -> Callable[[list[Int], list[Value]], list[Value]]:
        """Give the same to every element: a body of `_Window.over`."""

        def some(offsets: list[Int], carry: list[Value]) -> list[Value]:
            for at in offsets:
                self(self.b.add(source, at), part)
            return carry

        return some


def _give_few(
    b: Builder, p: Pool, window: _Window, x: Value, source: Int, gradient: Value, give: _Giver
) -> None:
    def some(offsets: list[Int], carry: list[Value]) -> list[Value]:
        parts = _first_maximum(b, [b.load(x, at) for at in offsets], gradient)
        for at, part in zip(offsets, parts, strict=True):
            give(b.add(source, at), part)
        return carry

    window.over(b, p.source[1], some, [])


def _give_many(
    b: Builder, p: Pool, window: _Window, x: Value, source: Int, gradient: Value, give: _Giver
) -> None:
    """The same for a large window: its maximum's number first, then every element by number."""

    def find(offsets: list[Int], carry: list[Value]) -> list[Value]:
        found, place, number = carry
        for at in offsets:
            value = b.load(x, at)
            above = b.bitwise("or", b.fcmp("ogt", value, found), b.fcmp("uno", value, value))
            found, place = b.select(above, value, found), b.select(above, number, place)
            number = b.fadd(number, b.const(1.0))
        return [found, place, number]

    def store(offsets: list[Int], carry: list[Value]) -> list[Value]:
        (number,) = carry
        for at in offsets:
            here = b.fcmp("oeq", number, place)
            give(b.add(source, at), b.select(here, gradient, b.zero))
            number = b.fadd(number, b.const(1.0))
        return [number]

    start = [b.const(float("-inf")), b.zero, b.zero]
    _, place, _ = window.over(b, p.source[1], find, start)
    window.over(b, p.source[1], store, [b.zero])


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

    def total(b: Builder, values: Iterator[Value]) -> Value:
        sums: list[Value] = []  # side by side, to hide the latency
        for k, value in enumerate(values):
            if k < 4:
                sums.append(value)
            else:
                sums[k % 4] = b.fadd(sums[k % 4], value)
        return functools.reduce(b.fadd, sums) if sums else b.zero

    def end(b: Builder, found: Value, inside: int) -> Value:
        return b.fdiv(found, b.const(float(p.counted or max(inside, 1))))

    how = _Reduction(0.0, total, Builder.fadd, end)
    return _pooling(target, "average_pool", p, tail, how)


@functools.lru_cache(maxsize=256)
def average_pool_gradient(target: Target, p: Pool) -> Kernel:
    """dx = Σ dy / count over the windows that an element is in; arguments dx, dy."""

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, dy = arguments
        give = _Giver(b, p, dx, None, [])

        def tile(source: Int, out: Int, windows: list[_Window]) -> None:
            for j, window in enumerate(windows):
                count = float(p.counted or max(window.count, 1))
                part = b.fdiv(b.load(dy, b.add(out, j * b.width)), b.const(count))
                window.over(b, p.source[1], give.all(source, part), [])

        _walk(b, p, tile, give.before)
        give.rest()

    return make_kernel(target, "average_pool_gradient", ["dx", "dy"], build)
