"""Depthwise convolution in blocked layout: one source channel an output channel, all in lanes.

`depthwise` serves the forward pass and, with reversed taps, the gradient to the input, whatever
stride and dilation; `depthwise_weight_gradient` sums over positions and batch. There is little
arithmetic to a number here, so what counts is that everything is read once from far away: a source
vector, once loaded, goes into every sum of the register tile that it meets. Channel multipliers
are not served; such layers are grouped convolutions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Tail, make_kernel, store_with_tail
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.kernels.spread import Spread
from striate.kernels.window import Run, Taps, narrow_ends, runs, split

_ITEM = 16384  # multiply-adds of vectors that an item should have at least
_MOST = 12  # columns of the widest tile


@dataclass(frozen=True)
class Depthwise:
    """out[c, r, q] = bias[c] + Σ source[c, row, col] · weight[c, kh, kw].

    `rows` and `cols` say which (kh, row) and (kw, col) meet output row r and column q.

    Attributes:
        channels: channels of source and out.
        source: rows and columns of the source.
        rows, cols: the windows along each axis; 3-D images flatten depth and rows.
        kernel: kernel rows and columns.
        bias: whether there is one.
        period: column tiles are multiples of this (the stride, going backward).
    """

    channels: int
    source: tuple[int, int]
    rows: Taps
    cols: Taps
    kernel: tuple[int, int]
    bias: bool = False
    period: int = 1


@dataclass(frozen=True)
class Tile:
    """How columns are tiled: at most `columns` at once; `held`: a kernel row stays in registers.

    Where the kernel's row is too wide for that, each weight is loaded once a tile and meets
    source vectors from memory.
    """

    columns: int
    held: bool


def choose_tile(target: Target, p: Depthwise) -> Tile:
    """The widest tile that fits the registers, in whole periods."""
    wide = max((len({k for pairs in p.cols for k, _ in pairs}), 1))
    free = target.registers - 2 - (0 if target.fma else 2)
    held = free - wide >= 4
    columns = min(free - (wide if held else 1), _MOST)
    return Tile(max(columns // p.period * p.period, p.period), held)


@functools.lru_cache(maxsize=256)
def depthwise(
    target: Target, p: Depthwise, tail: Tail | None = None, tile: Tile | None = None
) -> Recipe:
    """The convolution of `p` through the tail.

    Args:
        target: what the code is for.
        p: the problem; the gradient to the input has source and out exchanged, the taps reversed.
        tail: what is fused behind it.
        tile: how columns are tiled; None = as `choose_tile` says.

    Returns:
        Arguments out, source, weight (blocks, taps, width), [bias], the tail's, part.
    """
    work = len(p.cols) * p.kernel[0] * p.kernel[1]
    spread = Spread(blocks(p.channels, target), len(p.rows), -(-_ITEM // max(work, 1)))

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, weight, *rest, part = arguments
        bias = rest.pop(0) if p.bias else None
        emitter = _Forward(b, p, tile or choose_tile(target, p), tail, rest)

        def block(k: Int, first: Int, stop: Int) -> None:
            emitter.rows(k, (out, source, weight, bias), first, stop)

        spread.walk(b, part, block)

    names = ["out", "source", "weight", *(["bias"] if p.bias else [])]
    names += [*(tail.arguments if tail else ()), "part:i64"]
    return recipe(Routine(make_kernel(target, "depthwise", names, build), spread.parts))


class _Forward:
    """Emits the rows of a block: for each column tile, a loop over the kernel rows that meet it."""

    def __init__(
        self, b: Builder, p: Depthwise, tile: Tile, tail: Tail | None, rest: Sequence[Value]
    ) -> None:
        self.b, self.p, self.tile, self.tail, self.rest = b, p, tile, tail, rest
        widths = split(len(p.cols), tile.columns, p.period)
        self.runs = runs(p.cols, narrow_ends(widths) if p.period == 1 else widths)
        self.starts, self.entries = self._row_tables()

    def _row_tables(self) -> tuple[Value, Value]:
        """Where each row's entries begin; the entries: weight and source offsets in floats."""
        b, p = self.b, self.p
        starts, entries = [0], []
        for pairs in p.rows:
            for k, row in pairs:
                entries += [k * p.kernel[1] * b.width, row * p.source[1] * b.width]
            starts.append(len(entries) // 2)
        return b.table(starts), b.table(entries)

    def rows(
        self, block: Int, memory: tuple[Value, Value, Value, Value | None], first: Int, stop: Int
    ) -> None:
        b, p = self.b, self.p
        out, source, weight, bias = memory
        source = b.at(source, b.mul(block, math.prod(p.source) * b.width))
        weight = b.at(weight, b.mul(block, math.prod(p.kernel) * b.width))
        bias = None if bias is None else b.at(bias, b.mul(block, b.width))

        def row(r: Int, _: list[Value]) -> None:
            entries = b.load_i64(self.starts, r), b.load_i64(self.starts, b.add(r, 1))
            line = b.mul(b.add(b.mul(block, len(p.rows)), r), len(p.cols) * b.width)
            for run in self.runs:
                self._run(run, source, weight, bias, out, line, entries)

        b.loop(first, stop, row)

    def _run(
        self,
        run: Run,
        source: Value,
        weight: Value,
        bias: Value | None,
        out: Value,
        line: Int,
        entries: tuple[Int, Int],
    ) -> None:
        b = self.b

        def tile(t: Int, _: list[Value]) -> None:
            here = b.at(source, b.mul(b.add(b.mul(t, run.advance), run.base), b.width))

            def kernel_row(e: Int, sums: list[Value]) -> list[Value]:
                pair = b.at(self.entries, b.mul(e, 2), 8)
                w, x = b.at(weight, b.load_i64(pair)), b.at(here, b.load_i64(pair, 1))
                return (self._by_source if self.tile.held else self._by_weight)(run, x, w, sums)

            start = b.zero if bias is None else b.load(bias)
            sums = b.loop(entries[0], entries[1], kernel_row, [start] * run.width)
            at = b.add(line, b.mul(b.add(b.mul(t, run.width), run.first), b.width))
            for j, value in enumerate(sums):
                store_with_tail(b, self.tail, value, out, b.add(at, j * b.width), self.rest)

        b.loop(0, run.count, tile)

    def _by_source(self, run: Run, x: Value, w: Value, sums: list[Value]) -> list[Value]:
        """Each source vector, loaded once, meets the weights held."""
        b = self.b
        met: dict[int, list[tuple[int, int]]] = {}
        for j, pairs in enumerate(run.pattern):
            for k, col in pairs:
                met.setdefault(col, []).append((j, k))
        kernel_columns = sorted({k for pairs in met.values() for _, k in pairs})
        weights = {k: b.load(w, k * b.width) for k in kernel_columns}
        for col in sorted(met):
            b.fence()
            value = b.load(x, col * b.width)
            for j, k in met[col]:
                sums[j] = b.fma(value, weights[k], sums[j])
        return sums

    def _by_weight(self, run: Run, x: Value, w: Value, sums: list[Value]) -> list[Value]:
        """Each weight, loaded once, meets source vectors that are read where they are used."""
        b = self.b
        met: dict[int, list[tuple[int, int]]] = {}
        for j, pairs in enumerate(run.pattern):
            for k, col in pairs:
                met.setdefault(k, []).append((j, col))
        for k in sorted(met):
            b.fence()
            weight = b.load(w, k * b.width)
            for j, col in met[k]:
                sums[j] = b.accumulate(sums[j], b.load(x, col * b.width), weight)
        return sums


# ---- gradient to the weights ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Kernel elements that are summed at once: rows `ks` × columns `cs`, each in `sets` sums."""

    ks: tuple[int, ...]
    cs: tuple[int, ...]
    sets: int

    @property
    def sums(self) -> int:
        return len(self.ks) * len(self.cs) * self.sets


def _groups(target: Target, kernel: tuple[int, int]) -> list[_Group]:
    """Cut the kernel so that a group's sums leave room for a tile of dy."""
    room = target.registers - (6 if target.fma else 8)
    across = split(kernel[1], room)
    down = split(kernel[0], max(room // across[0], 1))
    sets = max(-(-8 // (across[0] * down[0])), 1)
    sets = min(sets, room // (across[0] * down[0]))
    found, k = [], 0
    for rows in down:
        c = 0
        for cols in across:
            found.append(_Group(tuple(range(k, k + rows)), tuple(range(c, c + cols)), sets))
            c += cols
        k += rows
    return found


@functools.lru_cache(maxsize=256)
def depthwise_weight_gradient(target: Target, p: Depthwise) -> Recipe:
    """dw[c, kh, kw] = Σ over samples, rows and columns: dy[c, r, q] · x[c, row, col].

    Args:
        target: what the code is for.
        p: the forward problem.

    Returns:
        Arguments dw (packed), x, dy, samples, x_step, dy_step, part (a block).
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        _WeightGradient(b, p, arguments).emit()

    names = ["dw", "x", "dy", "samples:i64", "x_step:i64", "dy_step:i64", "part:i64"]
    kernel = make_kernel(target, "depthwise_weight_gradient", names, build)
    return recipe(Routine(kernel, blocks(p.channels, target), samples=0))


class _WeightGradient:
    """For each sample: rows that meet the same kernel rows in a loop, a group's sums in registers.

    A sample's sums are added to dw in memory, which also keeps the sums short.
    """

    def __init__(self, b: Builder, p: Depthwise, arguments: list[Value]) -> None:
        self.b, self.p = b, p
        self.dw, self.x, self.dy, self.samples, self.x_step, self.dy_step, self.part = arguments

    def emit(self) -> None:
        b, p = self.b, self.p
        taps = math.prod(p.kernel)
        dw = b.at(self.dw, b.mul(self.part, taps * b.width))
        x = b.at(self.x, b.mul(self.part, math.prod(p.source) * b.width))
        dy = b.at(self.dy, b.mul(self.part, len(p.rows) * len(p.cols) * b.width))
        for k in range(taps):
            b.store(b.zero, dw, k * b.width)

        def sample(n: Int, _: list[Value]) -> None:
            here, slopes = b.at(x, b.mul(n, self.x_step)), b.at(dy, b.mul(n, self.dy_step))
            for group in _groups(b.target, p.kernel):
                self._group(group, dw, here, slopes)

        b.loop(0, self.samples, sample)

    def _group(self, group: _Group, dw: Value, x: Value, dy: Value) -> None:
        """Add one sample's sums of a group to dw."""
        b, p = self.b, self.p
        sums = [b.zero] * group.sums
        alike: dict[tuple[int, ...], list[int]] = {}
        for r, pairs in enumerate(p.rows):
            met = tuple(k for k, _ in pairs if k in group.ks)
            if met:
                alike.setdefault(met, []).append(r)
        for met, rows in alike.items():
            sums = self._rows(group, met, rows, x, dy, sums)
        for i, k in enumerate(group.ks):
            for j, c in enumerate(group.cs):
                first = (i * len(group.cs) + j) * group.sets
                total = functools.reduce(b.fadd, sums[first : first + group.sets])
                at = (k * p.kernel[1] + c) * b.width
                b.store(b.fadd(b.load(dw, at), total), dw, at)

    def _rows(
        self,
        group: _Group,
        met: tuple[int, ...],
        rows: list[int],
        x: Value,
        dy: Value,
        sums: list[Value],
    ) -> list[Value]:
        """Sum over rows that meet the kernel rows `met` (those of the group)."""
        b, p = self.b, self.p
        entries = []
        for r in rows:
            sources = dict(p.rows[r])
            entries += [r * len(p.cols) * b.width]
            entries += [sources[k] * p.source[1] * b.width for k in met]
        table, step = b.table(entries), len(met) + 1
        free = b.target.registers - group.sums - (2 if b.target.fma else 4)
        columns = runs(p.cols, split(len(p.cols), min(max(free, 1), 8)))

        def row(i: Int, sums: list[Value]) -> list[Value]:
            entry = b.at(table, b.mul(i, step), 8)
            slopes = b.at(dy, b.load_i64(entry))
            lines = [b.at(x, b.load_i64(entry, 1 + k)) for k in range(len(met))]
            for run in columns:
                sums = self._run(group, met, run, lines, slopes, sums)
            return sums

        return b.loop(0, len(rows), row, sums)

    def _run(
        self,
        group: _Group,
        met: tuple[int, ...],
        run: Run,
        lines: list[Value],
        slopes: Value,
        sums: list[Value],
    ) -> list[Value]:
        b = self.b
        places: dict[int, list[tuple[int, int]]] = {}
        for j, pairs in enumerate(run.pattern):
            for c, col in pairs:
                if c in group.cs:
                    places.setdefault(col, []).append((j, c - group.cs[0]))

        def tile(t: Int, sums: list[Value]) -> list[Value]:
            start = b.mul(b.add(b.mul(t, run.advance), run.base), b.width)
            first = b.mul(b.add(b.mul(t, run.width), run.first), b.width)
            held = [b.load(slopes, b.add(first, j * b.width)) for j in range(run.width)]
            for line, k in zip(lines, met, strict=True):
                for col in sorted(places):
                    b.fence()
                    value = b.load(line, b.add(start, col * b.width))
                    for j, c in places[col]:
                        row = group.ks.index(k) * len(group.cs)
                        at = (row + c) * group.sets + j % group.sets
                        sums[at] = b.accumulate(sums[at], value, held[j])
            return sums

        return b.loop(0, run.count, tile, sums)
