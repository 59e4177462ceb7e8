"""Filters on plain images: rows in memory as the caller has them, neighbouring columns in lanes.

An image is a plane of rows; an item of work is a strip of some rows and columns of one plane. An
item first copies what it needs into the thread's memory, borders included, so nothing behind that
knows of borders: `rows` and `cols` are tables that say which source row and column each padded one
is (−1: the value `fill`). Numbers of one pixel may lie side by side (channels last): then the taps
of a row are `step` floats apart. Sizes are known at run time; only a kernel's own size is compiled
in, so images of all sizes share the code.

`direct` meets every tap with a register tile of several rows by several vectors; `separable` does
a sum of row-by-column passes, what lies between them in the cache. The third way, `image_fft`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel

ARGUMENTS = ("out", "source", "weight", "rows", "cols", "fill", "sizes", "scratch", "part:i64")
"""What each kernel here takes. `sizes` is a table of `SIZES`."""

SIZES = (
    "out_h",  # rows of the output
    "out_w",  # floats of an output row
    "source_w",  # floats of a source row
    "left",  # padded columns before the first of the source
    "middle",  # columns, from there on, that follow one another in the source
    "step",  # floats from one tap of a row to the next
    "bands",  # strips down a plane
    "chunks",  # strips across a plane
    "band",  # rows of a strip
    "chunk",  # columns of a strip, whole tiles
    "pitch",  # floats of a row of the padded strip
    "second",  # where the second buffer begins in the scratch memory, in floats
    "third",  # where the third one does
    "source_plane",  # floats of a source plane
    "out_plane",
    "terms",  # of a separable sum
)


@dataclass(frozen=True)
class Tile:
    """The outputs that are summed up in registers at once: rows × vectors."""

    rows: int
    vectors: int

    def columns(self, target: Target) -> int:
        return self.vectors * target.width


def tile(target: Target, kernel_rows: int) -> Tile:
    """The tile of a stencil with so many rows; `across` (one row) takes the vectors alone."""
    if target.registers >= 32:
        rows, vectors = 6, 4
    else:
        rows, vectors = (6, 2) if target.fma else (4, 2)
    if kernel_rows == 1:
        return Tile(2, 4 if target.fma else 2)
    return Tile(rows, vectors)


# ---- what an item is -----------------------------------------------------------------------------


class Item:
    """One item: its strip, its sizes as numbers of the running program, and its copies."""

    def __init__(self, b: Builder, arguments: Sequence[Value]) -> None:
        self.b = b
        self.out, self.source, self.weight, self.row_table, self.col_table = arguments[:5]
        self.fill, self.table, self.scratch, part = arguments[5:]
        self.size = {name: b.load_i64(self.table, k) for k, name in enumerate(SIZES)}
        s = self.size
        band_of, self.chunk_number = self._divided(part, s["chunks"])
        plane, self.band_number = self._divided(band_of, s["bands"])
        self.source = b.at(self.source, b.mul(plane, s["source_plane"]))
        self.out = b.at(self.out, b.mul(plane, s["out_plane"]))
        self.column = b.mul(self.chunk_number, s["chunk"])
        self.columns = b.minimum(s["chunk"], b.sub(s["out_w"], self.column))

    def _divided(self, a: Int, by: Int) -> tuple[Int, Int]:
        whole = self.b.let(f"udiv i64 {a}, {by}")
        return whole, self.b.sub(a, self.b.mul(whole, by))

    def at_most(self, a: Int, b: Int) -> Int:
        return self.b.minimum(a, b)

    def at_least(self, a: Int, b: Int) -> Int:
        self.b.declare("declare i64 @llvm.smax.i64(i64, i64)")
        return self.b.let(f"call i64 @llvm.smax.i64(i64 {a}, i64 {b})")

    def rounded(self, count: Int, step: int) -> Int:
        """`count` rounded up to a multiple of `step`."""
        return self.b.mul(self.b.divide(self.b.add(count, step - 1), step), step)

    def pick(self, condition: Value, a: Int, b: Int, kind: str = "i64") -> Value:
        return self.b.let(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def load_strip(self, strip: Value, first: Int, rows: Int, columns: Int) -> None:
        """Copy padded rows `first` … and `columns` columns from the item's first one on."""
        b, s = self.b, self.size
        ends = self._segments(columns)

        def row(r: Int, _: list[Value]) -> None:
            place = b.load_i64(self.row_table, b.add(first, r))
            line = b.at(strip, b.mul(r, s["pitch"]))
            inside = b.compare("sge", place, 0)
            b.when(inside, lambda: self._copy(line, b.at(self.source, self._row(place)), ends))
            b.when(b.compare("slt", place, 0), lambda: self._spread(line, columns))

        b.loop(0, rows, row)

    def _row(self, place: Value) -> Int:
        return self.b.mul(place, self.size["source_w"])

    def _segments(self, columns: Int) -> tuple[Int, Int, Int]:
        """Where in a strip's row the source's own columns begin and end, and where the row does."""
        b, s = self.b, self.size
        begin = self.at_most(self.at_least(b.sub(s["left"], self.column), 0), columns)
        end = b.sub(b.add(s["left"], s["middle"]), self.column)
        return begin, self.at_least(self.at_most(end, columns), begin), columns

    def _copy(self, line: Value, source: Value, ends: tuple[Int, Int, Int]) -> None:
        b, s = self.b, self.size
        begin, end, columns = ends
        inner = b.at(source, b.sub(self.column, s["left"]))

        def looked_up(c: Int, _: list[Value]) -> None:
            place = b.load_i64(self.col_table, b.add(self.column, c))
            outside = b.compare("slt", place, 0)
            at = self.pick(outside, self.fill, b.at(source, place), "ptr")
            b.store_float(b.load_float(at), line, c)

        b.loop(0, begin, looked_up)
        self.copy_row(line, inner, begin, end)
        b.loop(end, columns, looked_up)

    def copy_row(self, to: Value, source: Value, begin: Int, end: Int) -> None:
        """to[begin … end) = source[begin … end)."""
        b = self.b

        def piece(c: Int, count: int) -> None:
            if count == 1:
                b.store_float(b.load_float(source, c), to, c)
            else:
                b.store(b.load(source, c, 4), to, c, 4)

        b.tiled_range(begin, end, b.width, piece)

    def _spread(self, line: Value, columns: Int) -> None:
        b = self.b
        value = b.load_float(self.fill)
        b.loop(0, columns, lambda c, _: b.store_float(value, line, c))

    def store_strip(self, tile: Value, pitch: Int, first: Int, rows: Int) -> None:
        """Copy rows of the item's results to the output's rows `first` …"""
        b, s = self.b, self.size

        def row(r: Int, _: list[Value]) -> None:
            line = b.at(self.out, b.add(b.mul(b.add(first, r), s["out_w"]), self.column))
            self.copy_row(line, b.at(tile, b.mul(r, pitch)), 0, self.columns)

        b.loop(0, rows, row)


# ---- stencils ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """Rows of floats: where they begin, and the floats of one."""

    start: Value
    pitch: Int


class Stencil:
    """out[r, c] (+)= Σ source[r + p, c + q·step] · weight[p, q] for whole tiles."""

    def __init__(self, b: Builder, kernel: tuple[int, int], step: Int) -> None:
        self.b, self.kernel, self.step = b, kernel, step
        self.tile = tile(b.target, kernel[0])

    def run(
        self, source: Plane, weight: Value, out: Plane, size: tuple[Int, Int], add: bool = False
    ) -> None:
        """Rows and columns of `size`, rounded up to whole tiles."""
        b, rows, columns = self.b, *size

        def down(r: Int, _: list[Value]) -> None:
            def along(c: Int, _: list[Value]) -> None:
                x = b.at(source.start, b.add(b.mul(r, source.pitch), c))
                y = b.at(out.start, b.add(b.mul(r, out.pitch), c))
                self._tile(Plane(x, source.pitch), weight, Plane(y, out.pitch), add)

            b.loop(0, columns, along, step=self.tile.columns(b.target))

        b.loop(0, rows, down, step=self.tile.rows)

    def _tile(self, source: Plane, weight: Value, out: Plane, add: bool) -> None:
        b, count = self.b, self.tile.rows * self.tile.vectors
        places = [
            (r, b.at(out.start, b.add(b.mul(r, out.pitch), v * b.width)))
            for r in range(self.tile.rows)
            for v in range(self.tile.vectors)
        ]
        sums = [b.load(at, 0, 4) if add else b.zero for _, at in places]
        if self.kernel[0] == 1:
            sums = self._across(source, weight, sums)
        else:
            sums = self._down(source, weight, sums)
        for (_, at), value in zip(places, sums[:count], strict=True):
            b.store(value, at, 0, 4)

    def _across(self, source: Plane, weight: Value, sums: list[Value]) -> list[Value]:
        """One row of taps: every source vector meets one sum."""
        b, vectors = self.b, self.tile.vectors
        lines = [b.at(source.start, b.mul(r, source.pitch)) for r in range(self.tile.rows)]

        def tap(q: Int, sums: list[Value]) -> list[Value]:
            w, at = b.broadcast(weight, q), b.mul(q, self.step)
            for r, line in enumerate(lines):
                here = b.at(line, at)
                for v in range(vectors):
                    k = r * vectors + v
                    sums[k] = b.accumulate(sums[k], b.load(here, v * b.width, 4), w)
            return sums

        return b.loop(0, self.kernel[1], tap, sums)

    def _down(self, source: Plane, weight: Value, sums: list[Value]) -> list[Value]:
        """Every source vector meets the sums of all rows that it is under."""
        b, height, rows = self.b, self.kernel[0], self.tile.rows
        whole = range(rows - 1, height)  # source rows that all rows of the tile read
        for i in range(height + rows - 1):
            if i in whole and len(whole) > 1:
                if i == whole[0]:
                    body = functools.partial(self._row, source, weight, tuple(range(rows)))
                    sums = b.loop(i, whole[-1] + 1, body, sums)
                continue
            met = tuple(r for r in range(rows) if 0 <= i - r < height)
            sums = self._row(source, weight, met, i, sums)
        return sums

    def _row(
        self, source: Plane, weight: Value, met: tuple[int, ...], i: Int, sums: list[Value]
    ) -> list[Value]:
        """Source row i and the rows `met` of the tile: kernel row i − r for row r."""
        b, vectors, width = self.b, self.tile.vectors, self.kernel[1]
        line = b.at(source.start, b.mul(i, source.pitch))
        taps = [b.at(weight, b.mul(b.sub(i, r), width)) for r in met]

        def tap(q: Int, sums: list[Value]) -> list[Value]:
            here = b.at(line, b.mul(q, self.step))
            b.fence()
            values = [b.load(here, v * b.width, 4) for v in range(vectors)]
            for r, at in zip(met, taps, strict=True):
                w = b.broadcast(at, q)
                for v in range(vectors):
                    k = r * vectors + v
                    sums[k] = b.fma(values[v], w, sums[k])
            return sums

        return b.loop(0, width, tap, sums)


# ---- kernels -------------------------------------------------------------------------------------


def _finished(
    item: Item, tile: Tile, first: Int, rows: Int, work: Callable[[Plane, Int], None]
) -> None:
    """Run `work(output, rows)` with rows rounded up to tiles.

    Where the strip is whole tiles the output is the caller's memory, else the thread's, from
    which what counts is copied.
    """
    b, s = item.b, item.size
    up, across = item.rounded(rows, tile.rows), item.rounded(item.columns, tile.columns(b.target))
    missing = b.add(b.sub(up, rows), b.sub(across, item.columns))
    fits = b.compare("eq", missing, 0)
    own = b.at(item.scratch, s["second"])
    final = b.at(item.out, b.add(b.mul(first, s["out_w"]), item.column))
    start, pitch = item.pick(fits, final, own, "ptr"), item.pick(fits, s["out_w"], s["chunk"])
    work(Plane(start, pitch), up)
    b.when(b.compare("ne", missing, 0), lambda: item.store_strip(own, s["chunk"], first, rows))


@functools.lru_cache(maxsize=64)
def direct(target: Target, kernel: tuple[int, int]) -> Kernel:
    """out[r, c] = Σ_{p,q} padded[r + p, c + q·step] · weight[p, q], every tap.

    Scratch: band + kernel rows (rounded up to tiles) of `pitch` floats, then (`second`) rounded-up
    band rows of `chunk` floats.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        item = Item(b, arguments)
        s, (height, width) = item.size, kernel
        stencil = Stencil(b, kernel, s["step"])
        first = b.mul(item.band_number, s["band"])
        rows = b.minimum(s["band"], b.sub(s["out_h"], first))
        reach = b.mul(s["step"], width - 1)
        item.load_strip(item.scratch, first, b.add(rows, height - 1), b.add(item.columns, reach))
        strip = Plane(item.scratch, s["pitch"])
        _finished(
            *(item, stencil.tile, first, rows),
            lambda out, up: stencil.run(strip, item.weight, out, (up, item.columns)),
        )

    return make_kernel(target, "image_direct", ARGUMENTS, build)


@functools.lru_cache(maxsize=64)
def separable(target: Target, kernel: tuple[int, int]) -> Kernel:
    """out = Σ_t column_t · (row_t · padded): for each term a pass along rows, then one down.

    The weight holds for each term the row's taps and then the column's. Scratch: as `direct`, and
    from `third` on as many rows as the strip has, of `chunk` floats.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        item = Item(b, arguments)
        s, (height, width) = item.size, kernel
        across = Stencil(b, (1, width), s["step"])
        down = Stencil(b, (height, 1), s["step"])
        first = b.mul(item.band_number, s["band"])
        rows = b.minimum(s["band"], b.sub(s["out_h"], first))
        reach = b.mul(s["step"], width - 1)
        above = height - 1
        item.load_strip(item.scratch, first, b.add(rows, above), b.add(item.columns, reach))
        strip = Plane(item.scratch, s["pitch"])
        between = Plane(b.at(item.scratch, s["third"]), s["chunk"])

        def passes(out: Plane, up: Int) -> None:
            def term(t: Int, add: bool) -> None:
                taps = b.at(item.weight, b.mul(t, width + height))
                across.run(strip, taps, between, (b.add(up, above), item.columns))
                down.run(between, b.at(taps, width), out, (up, item.columns), add)

            term(0, False)
            b.loop(1, s["terms"], lambda t, _: term(t, True))

        _finished(item, down.tile, first, rows, passes)

    return make_kernel(target, "image_separable", ARGUMENTS, build)
