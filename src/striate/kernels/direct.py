"""Direct convolution with channels in lanes: forward, gradient to input, transposed convolution.

A register tile holds the sums of `to` blocks of output channels × `tp` positions of a row; weights
are vectors of output channels, streamed from packed weights, source numbers are broadcast. What
meets what is said by tap lists (see window), so kernels of any stride, padding and dilation, in
one dimension or three, are the same code. How the loops are cut is said by `Options`, see
direct_options; nothing is measured here. Depthwise convolution and Winograd's are elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.conv import kernel_columns
from striate.kernels.direct_options import (
    Direct,
    Options,
    candidates,
    column_runs,
    default_options,
    flattened,
    identity,
    output_tiles,
    source_blocks,
    weights_before_samples,
)
from striate.kernels.kernel import Tail, make_kernel, store_with_tail
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.kernels.window import Run

__all__ = ["Direct", "Options", "candidates", "direct"]


@functools.lru_cache(maxsize=512)
def direct(
    target: Target, p: Direct, tail: Tail | None = None, options: Options | None = None
) -> Recipe:
    """A direct convolution.

    Args:
        target: the CPU.
        p: the convolution.
        tail: elementwise expression at the store.
        options: how to cut the loops; by default the first of `candidates`.

    Returns:
        Recipe of out (blocks of outputs, rows, cols, width), source, weight (packed), [bias
        (padded)], then the tail's, [scratch], [samples and the steps of those above], part.
    """
    p = flattened(p)
    chosen = options or default_options(target, p)
    emitter = _Emitter(target, p, tail, chosen)
    names = ["out", "source", "weight", *(["bias"] if p.bias else [])]
    names += tail.arguments if tail else ()
    names += ["scratch"] if emitter.scratch else []
    if chosen.samples > 1:
        several = ("out", "source", *(tail.arguments if tail else ()))
        names += ["samples:i64", *(f"{name}_step:i64" for name in several)]
    names.append("part:i64")
    kernel = make_kernel(target, "direct", names, emitter.build)
    return recipe(
        Routine(
            kernel,
            parts=emitter.parts,
            samples=chosen.samples,
            scratch=emitter.scratch,
            samples_first=weights_before_samples(target, p, chosen),
        )
    )


class _Emitter:
    """Emits a direct convolution: parts, tiles of outputs, chunks, rows, tiles of columns, taps."""

    b: Builder
    out: Value
    source: Value
    weight: Value
    bias: Value | None
    rest: Sequence[Value]
    sums: Value
    samples: Int = 1
    out_step: Int = 0
    source_step: Int = 0
    rest_steps: Sequence[Int] = ()

    def __init__(self, target: Target, p: Direct, tail: Tail | None, options: Options) -> None:
        self.p, self.tail, self.width, self.options = p, tail, target.width, options
        self.output_blocks = blocks(p.outputs // p.groups, target)
        self.source_blocks = source_blocks(target, p)
        self.channels = p.contracted // p.groups
        self.output_tiles = output_tiles(target, p, options.tile[0])
        self.runs = column_runs(p, options.tile[1])
        self.tiles_per_row = sum(run.count for run, _ in self.runs)
        self.unit = 1 if p.plain else target.width  # floats from a source column to the next
        self.plane = p.source[0] * p.source[1] * self.unit  # floats of a source block
        self.plane_out = len(p.rows) * len(p.cols) * target.width
        self.weight_step = self.channels * p.taps * target.width  # of one block of outputs
        self.one_row_tap = p.kernel == (1, 1) and p.rows == identity(p.source[0])
        self.rows = min(options.rows, len(p.rows))
        self.row_parts = -(-len(p.rows) // self.rows)
        self.tile_count = len(self.output_tiles) * p.groups
        self.tile_parts = -(-self.tile_count // options.tiles)
        self.parts = self.row_parts * self.tile_parts
        self.chunks = 1 if p.plain else -(-self.source_blocks // options.chunk)
        positions = self.rows * len(p.cols)
        self.scratch = 0 if self.chunks == 1 else options.tile[0] * positions * target.width
        self.scratch *= options.samples

    def build(self, b: Builder, arguments: list[Value]) -> None:
        self.b = b
        self.out, self.source, self.weight, *rest, part = arguments
        self.bias = rest.pop(0) if self.p.bias else None
        self.rest = rest[: len(self.tail.arguments) if self.tail else 0]
        more = rest[len(self.rest) :]
        self.sums = more.pop(0) if self.scratch else "null"
        if more:
            self.samples, self.out_step, self.source_step, *self.rest_steps = more
        self.row_at, self.rows_of = self._row_tables()
        across = self.row_parts if self.options.rows_next else self.tile_parts
        slow = b.divide(part, across)
        fast = b.sub(part, b.mul(slow, across))
        rows, tiles = (fast, slow) if self.options.rows_next else (slow, fast)
        first_row = b.mul(rows, self.rows)
        last_row = b.minimum(b.add(first_row, self.rows), len(self.p.rows))
        first = b.mul(tiles, self.options.tiles)
        last = b.minimum(b.add(first, self.options.tiles), self.tile_count)
        b.loop(first, last, lambda n, _: self._output_tile(n, first_row, last_row))

    def _row_tables(self) -> tuple[Value, Value]:
        """Where each row's entries begin; the entries: weight and source offsets in floats."""
        starts, entries = [0], []
        for pairs in self.p.rows:
            for k, row in pairs:
                entries += [k * self.p.kernel[1] * self.width, row * self.p.source[1] * self.unit]
            starts.append(len(entries) // 2)
        return self.b.table(starts), self.b.table(entries)

    def _output_tile(self, n: Int, first_row: Int, last_row: Int) -> None:
        """Tile number n of the output blocks, counted over all groups."""
        b, p, tiles = self.b, self.p, self.output_tiles
        group = 0 if p.groups == 1 else b.divide(n, len(tiles))
        within = b.sub(n, b.mul(group, len(tiles)))
        wide = tiles.count(tiles[0])

        def some(to: int, before: int, start: int) -> None:
            block = b.add(b.mul(b.sub(within, before), to), start)
            block = b.add(block, b.mul(group, self.output_blocks))
            _Tile(self, group, block, to, first_row, last_row).emit()

        if wide == len(tiles):
            some(tiles[0], 0, 0)
            return
        b.when(b.compare("slt", within, wide), lambda: some(tiles[0], 0, 0))
        b.when(b.compare("sge", within, wide), lambda: some(tiles[-1], wide, wide * tiles[0]))


class _Tile:
    """The rows first_row … last_row of `to` blocks of output channels, from `block` on."""

    sample: Int  # the sample at hand, and where its things are
    out: Value
    image: Value
    rest: Sequence[Value]
    sums: Value

    def __init__(
        self, e: _Emitter, group: Int, block: Int, to: int, first_row: Int, last_row: Int
    ) -> None:
        b = e.b
        self.e, self.b, self.p, self.to = e, b, e.p, to
        self.first_row, self.last_row = first_row, last_row
        per_group = e.channels if e.p.plain else e.source_blocks
        self.source = b.at(e.source, b.mul(group, per_group * e.plane))
        self.weight = b.at(e.weight, b.mul(block, e.weight_step))
        self.bias = None if e.bias is None else b.at(e.bias, b.mul(block, b.width))
        self.place = b.mul(block, e.plane_out)  # of this block in out
        self.scratch_plane = e.rows * len(e.p.cols) * b.width
        self.next_weights: Value = ""

    def _each_sample(self, body: Callable[[], None]) -> None:
        """Run `body` with the pointers of each of the item's samples."""
        b, e = self.b, self.e

        def one(n: Int, _: list[Value]) -> None:
            self.sample = n
            self.out = b.at(e.out, b.mul(n, e.out_step))
            self.image = b.at(self.source, b.mul(n, e.source_step))
            steps = e.rest_steps or [0] * len(e.rest)
            self.rest = [b.at(p, b.mul(n, s)) for p, s in zip(e.rest, steps, strict=True)]
            self.sums = b.at(e.sums, b.mul(n, self.to * self.scratch_plane))
            body()

        b.loop(0, e.samples, one)

    def emit(self) -> None:
        b, e = self.b, self.e
        if e.chunks == 1:
            whole = (0, e.source_blocks)
            self._each_sample(lambda: self._rows(whole, self._biases, self._finish))
            return
        vectors = b.mul(b.sub(self.last_row, self.first_row), len(self.p.cols))
        floats = b.mul(vectors, b.width)
        self._each_sample(lambda: self._fill(floats))

        def chunk(c: Int, _: list[Value]) -> None:
            after = b.add(c, e.options.chunk)
            self.next_weights = self._weights_after(after)
            part = (c, b.minimum(after, e.source_blocks))
            self._each_sample(lambda: self._rows(part, self._load_sums, self._store_sums))

        b.loop(0, e.source_blocks, chunk, step=e.options.chunk)
        self._each_sample(lambda: self._finish_all(floats))

    # ---- memory that is wanted soon -----------------------------------------------------------

    def _fetch_source(self, run: Run, x: Value) -> None:
        """The columns that the next tile meets and this one does not."""
        if self.p.kernel != (1, 1):
            return  # the processor does it by itself
        last = max(col for pairs in run.pattern for _, col in pairs)
        for at in range(0, (run.advance or run.width) * self.b.width, 16):
            _prefetch(self.b, x, (last + 1) * self.b.width + at, 3)

    def _weights_after(self, after: Int) -> Value:
        """Where the next chunk's weights are; behind the last, those of the next output tile."""
        b, e = self.b, self.e
        more = b.compare("slt", after, e.source_blocks)
        here, there = b.mul(after, b.width * self.p.taps * b.width), self.to * e.weight_step
        return b.at(self.weight, b.let(f"select i1 {more}, i64 {here}, i64 {there}"))

    def _fetch_weights(self, ordinal: Int) -> None:
        """A share of the next chunk's weights, for tile number `ordinal` of this one's."""
        b, e = self.b, self.e
        if not self.next_weights:
            return
        line = 16
        lines = -(-e.options.chunk * b.width * self.p.taps * b.width // line)
        share = -(-lines // (e.rows * e.tiles_per_row))
        start = b.at(self.next_weights, b.mul(ordinal, share * line))
        count: Int = share
        if self.sample != 0:  # the first sample's tiles have fetched all of it
            first = b.compare("eq", self.sample, 0)
            count = b.let(f"select i1 {first}, i64 {share}, i64 0")

        def one(k: Int, _: list[Value]) -> None:
            for o in range(self.to):
                _prefetch(b, start, b.add(b.mul(k, line), o * e.weight_step), 2)

        b.loop(0, count, one)

    # ---- where sums come from and go to ----------------------------------------------------------

    def _bias(self, o: int) -> Value:
        return self.b.zero if self.bias is None else self.b.load(self.bias, o * self.b.width)

    def _biases(self, run: Run, step: int, at: Int) -> list[Value]:
        return [bias for o in range(self.to) for bias in [self._bias(o)] * run.width]

    def _finish(self, run: Run, step: int, at: Int, sums: list[Value]) -> None:
        b, e = self.b, self.e
        here = b.add(self.place, at)
        for o in range(self.to):
            for j in range(run.width):
                offset = b.add(here, o * e.plane_out + j * step)
                store_with_tail(b, e.tail, sums[o * run.width + j], self.out, offset, self.rest)

    def _in_scratch(self, at: Int) -> Value:
        first = self.b.mul(self.first_row, len(self.p.cols) * self.b.width)
        return self.b.at(self.sums, self.b.sub(at, first))

    def _load_sums(self, run: Run, step: int, at: Int) -> list[Value]:
        here = self._in_scratch(at)
        return [
            self.b.load(here, o * self.scratch_plane + j * step)
            for o in range(self.to)
            for j in range(run.width)
        ]

    def _store_sums(self, run: Run, step: int, at: Int, sums: list[Value]) -> None:
        here = self._in_scratch(at)
        for o in range(self.to):
            for j in range(run.width):
                place = o * self.scratch_plane + j * step
                self.b.store(sums[o * run.width + j], here, place)

    def _fill(self, floats: Int) -> None:
        """All sums begin with the bias."""
        b = self.b
        for o in range(self.to):
            bias, here = self._bias(o), b.at(self.sums, o * self.scratch_plane)

            def one(j: Int, _: list[Value], bias: Value = bias, here: Value = here) -> None:
                b.store(bias, here, j)

            b.loop(0, floats, one, step=b.width)

    def _finish_all(self, floats: Int) -> None:
        b, e = self.b, self.e
        first = b.add(self.place, b.mul(self.first_row, len(self.p.cols) * b.width))
        for o in range(self.to):
            here, place = b.at(self.sums, o * self.scratch_plane), b.add(first, o * e.plane_out)

            def one(j: Int, _: list[Value], here: Value = here, place: Int = place) -> None:
                store_with_tail(b, e.tail, b.load(here, j), self.out, b.add(place, j), self.rest)

            b.loop(0, floats, one, step=b.width)

    # ---- the loops -------------------------------------------------------------------------------

    def _rows(
        self,
        chunk: tuple[Int, Int],
        begin: Callable[[Run, int, Int], list[Value]],
        end: Callable[[Run, int, Int, list[Value]], None],
    ) -> None:
        """All rows, of the source blocks in `chunk`; begin and end get where in a plane."""
        b, e, p = self.b, self.e, self.p
        step = p.period * b.width

        def row(r: Int, _: list[Value]) -> None:
            line = b.mul(r, len(p.cols) * b.width)
            if e.one_row_tap:
                entries: tuple[Int, Int] = (r, r)
            else:
                entries = b.load_i64(e.row_at, r), b.load_i64(e.row_at, b.add(r, 1))
            before = b.mul(b.sub(r, self.first_row), e.tiles_per_row)
            for run, residue in e.runs:

                def tile(
                    t: Int,
                    _: list[Value],
                    run: Run = run,
                    first: int = residue * b.width,
                    before: Int = before,
                ) -> None:
                    self._fetch_weights(b.add(before, t))
                    at = b.add(line, b.add(b.mul(t, run.width * step), run.first * step + first))
                    start = b.add(b.mul(t, run.advance * e.unit), run.base * e.unit)
                    sums = begin(run, step, at)
                    sums = self._channels(run, b.at(self.image, start), chunk, entries, sums)
                    end(run, step, at, sums)

                b.loop(0, run.count, tile)
                before = b.add(before, run.count)

        b.loop(self.first_row, self.last_row, row)

    def _channels(
        self,
        run: Run,
        source: Value,
        chunk: tuple[Int, Int],
        entries: tuple[Int, Int],
        sums: list[Value],
    ) -> list[Value]:
        """Sum over source channels and the kernel rows that meet the row."""
        b, e, p = self.b, self.e, self.p
        columns = len(kernel_columns(run))
        if not columns:
            return sums
        unroll = max(8 // columns, 1)
        if p.plain:
            return self._entries(
                source,
                self.weight,
                entries,
                lambda x, w, s: self._lanes(run, x, w, e.channels, unroll, s),
                sums,
            )

        def block(i: Int, sums: list[Value]) -> list[Value]:
            x = b.at(source, b.mul(i, e.plane))
            w = b.at(self.weight, b.mul(i, b.width * p.taps * b.width))
            count: Int = b.width
            if e.channels % b.width:
                count = b.minimum(b.width, b.sub(e.channels, b.mul(i, b.width)))

            def entry(x: Value, w: Value, sums: list[Value]) -> list[Value]:
                self._fetch_source(run, x)
                return self._lanes(run, x, w, count, unroll, sums)

            return self._entries(x, w, entries, entry, sums)

        return b.loop(chunk[0], chunk[1], block, sums)

    def _entries(
        self,
        source: Value,
        weight: Value,
        entries: tuple[Int, Int],
        body: Callable[[Value, Value, list[Value]], list[Value]],
        sums: list[Value],
    ) -> list[Value]:
        """`body(source, weight, sums)` for each kernel row that meets the output row."""
        b, e = self.b, self.e
        if e.one_row_tap:
            line = b.mul(entries[0], self.p.source[1] * e.unit)
            return body(b.at(source, line), weight, sums)

        def entry(k: Int, sums: list[Value]) -> list[Value]:
            pair = b.at(e.rows_of, b.mul(k, 2), 8)
            w, x = b.at(weight, b.load_i64(pair)), b.at(source, b.load_i64(pair, 1))
            return body(x, w, sums)

        return b.loop(entries[0], entries[1], entry, sums)

    def _lanes(
        self, run: Run, x: Value, w: Value, count: Int, unroll: int, sums: list[Value]
    ) -> list[Value]:
        """`count` channels: lanes of a block, or planes of a plain source; some at a time."""
        b, e = self.b, self.e
        x_step = e.plane if self.p.plain else 1
        w_step = self.p.taps * b.width
        sizes = e.channels if self.p.plain else b.width
        while sizes % unroll or (not self.p.plain and e.channels % b.width % unroll):
            unroll -= 1

        def some(u: Int, sums: list[Value]) -> list[Value]:
            here, weights = b.at(x, b.mul(u, x_step)), b.at(w, b.mul(u, w_step))
            for k in range(unroll):
                self._taps(run, here, k * x_step, weights, k * w_step, sums)
            return sums

        return b.loop(0, count, some, sums, step=unroll)

    def _taps(self, run: Run, x: Value, x_at: int, w: Value, w_at: int, sums: list[Value]) -> None:
        """One source channel and kernel row: every kernel column that meets the tile."""
        b, e, to = self.b, self.e, self.to
        for k, met in kernel_columns(run).items():
            b.fence()
            at = w_at + k * b.width
            if to <= len(met):
                ws = [b.load(w, at + o * e.weight_step) for o in range(to)]
                for j, col in met:
                    b.fence()
                    value = b.broadcast(x, x_at + col * e.unit)
                    for o in range(to):
                        self._add(sums, o * run.width + j, value, ws[o], single=to == 1)
            else:
                xs = [(j, b.broadcast(x, x_at + col * e.unit)) for j, col in met]
                for o in range(to):
                    b.fence()
                    weight = b.load(w, at + o * e.weight_step)
                    for j, value in xs:
                        self._add(sums, o * run.width + j, value, weight, run.width == 1)

    def _add(self, sums: list[Value], at: int, value: Value, weight: Value, single: bool) -> None:
        """sums[at] += value·weight; `single`: one of the factors is used this once."""
        if single:
            sums[at] = self.b.accumulate(sums[at], value, weight)
        else:
            sums[at] = self.b.fma(value, weight, sums[at])


def _prefetch(b: Builder, pointer: Value, at: Int, locality: int) -> None:
    """Bring the cache line at `at` floats near; it need not exist."""
    b.declare("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    place = b.at(pointer, at)
    b.emit(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 {locality}, i32 1)")
