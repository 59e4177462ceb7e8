"""The gradients of fully connected layers on rows.

Gradient to the input and to the weights are products of the same kind: the lanes run along the
layer's inputs, a register tile holds 4 samples (or outputs) × some vectors of them, and the other
operand is broadcast. Both operands are copied into panels of whole tiles first, but for weights
whose rows do not push each other out of the cache. Weights and their gradients lie as torch has
them, (outputs, inputs), and are read and written exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.conv import ROW_BLOCK
from striate.kernels.kernel import Tail, make_kernel
from striate.kernels.matmul_few import few_input_gradient
from striate.kernels.routine import Buffer, Recipe, Routine, blocks, recipe, whole_vectors
from striate.kernels.rows import (
    QUAD,
    Columns,
    each,
    even_chunk,
    partial_load,
    prefetch,
    rank_one,
    row_chunks,
    row_names,
    sample_tiles,
    take_rows,
    tile_breadth,
)

# ---- gradient to the input -------------------------------------------------------------------


@dataclass(frozen=True)
class InputGradientOptions:
    """How the gradient to the input is cut.

    Attributes:
        chunk: outputs whose products are summed in registers at once.
        columns: inputs of a part, about.
        group: samples of an item, at most.
        few: from so many samples on the weights are copied.
        ahead: rows of weights between one that is read and one that is asked for.
        streams: where fewer samples are expected whole rows of weights are read, see matmul_few.
        short: inputs up to which weights may be read where they are.
    """

    chunk: int = 64
    columns: int = 256
    group: int = 64
    few: int = 16
    ahead: int = 8
    streams: int = 4
    short: int = 1024


def linear_input_gradient(
    target: Target,
    outputs: int,
    inputs: int,
    tail: Tail | None = None,
    options: InputGradientOptions | None = None,
    batch: int = 32,
) -> Recipe:
    """dx[n, i] = tail(Σ dy[n, o] · w[o, i]).

    Args:
        target: the CPU.
        outputs: features of dy.
        inputs: features of dx.
        tail: fused into the store.
        options: how the work is cut.
        batch: samples that are expected; any number of them is right.

    Returns:
        Recipe of out, dy, weight (outputs, inputs), the tail's arguments.
    """
    o = options or InputGradientOptions()
    if batch < o.streams:
        return few_input_gradient(target, outputs, inputs, tail)
    chunk = even_chunk(outputs, o.chunk, 16)
    size = tile_breadth(target) * target.width
    tiles = -(-inputs // size)
    columns = Columns(inputs, size, even_chunk(tiles, max(1, o.columns // size), 1))
    first = row_chunks(target, "chunks", "dy", outputs, chunk, o.group)

    def build(b: Builder, arguments: list[Value]) -> None:
        _InputGradient(b, arguments, (outputs, inputs, chunk), columns, tail, o).emit()

    names = ["out", "chunks", "weight", *row_names(tail), "samples:i64", "scratch", "part:i64"]
    kernel = make_kernel(target, "linear_input_gradient", names, build)
    scratch = columns.many * size * (o.group + chunk)
    main = Routine(kernel, columns.parts, o.group, scratch, samples_first=True)
    return Recipe((first, main), (Buffer("chunks", per_sample=-(-outputs // chunk) * chunk),))


class _InputGradient:
    """Chunks of outputs outside; their weights go into panels of one tile's columns each."""

    def __init__(
        self,
        b: Builder,
        arguments: list[Value],
        sizes: tuple[int, int, int],
        columns: Columns,
        tail: Tail | None,
        options: InputGradientOptions,
    ) -> None:
        out, self.chunks, self.weight, *rest = arguments
        self.b, self.columns, self.options = b, columns, options
        self.outputs, self.inputs, self.chunk = sizes
        self.target = take_rows(b, tail, out, rest)
        self.samples, self.sums, self.part = rest
        self.stride = columns.many * columns.size  # floats of a sample's sums
        # (tile, output of the chunk, column)
        self.panels = b.at(self.sums, options.group * self.stride)
        self.first = b.mul(self.part, columns.many)
        # Short rows of whole vectors, not some power of two apart, need no copy.
        lines, over = divmod(self.inputs, max(b.width, 16))
        self.copies = bool(over or lines % 8 == 0 or self.inputs > options.short)

    def emit(self) -> None:
        b = self.b
        few = b.compare("slt", self.samples, self.options.few)
        many = b.compare("sge", self.samples, self.options.few)
        room = b.sub(whole_vectors(self.inputs, b.target), b.mul(self.first, self.columns.size))
        stop = b.minimum(room, self.stride)

        def rows(body: Callable[[Int, Int, Int], None]) -> None:
            each(b, self.samples, lambda n: body(n, 0, stop))

        b.when(few, lambda: rows(self._clear))

        def chunk(o: Int, _: list[Value]) -> None:
            count = b.minimum(self.chunk, b.sub(self.outputs, o))
            dy = b.at(self.chunks, b.mul(o, self.samples))
            b.when(few, lambda: self._few(o, count, dy))
            b.when(many, lambda: self._many(o, count, dy))

        b.loop(0, self.outputs, chunk, step=self.chunk)
        b.when(few, lambda: rows(self._finish))

    def _clear(self, n: Int, start: Int, stop: Int) -> None:
        """A sample's sums of some of the part's columns start at 0."""
        b = self.b
        row = b.at(self.sums, b.mul(n, self.stride))
        b.loop(start, stop, lambda c, _: b.store(b.zero, row, c), step=b.width)

    def _finish(self, n: Int, start: Int, stop: Int) -> None:
        """They are complete."""
        b = self.b
        row, first = b.at(self.sums, b.mul(n, self.stride)), b.mul(self.first, self.columns.size)

        def vector(c: Int, _: list[Value]) -> None:
            self.target.store(n, b.add(first, c), b.load(row, c))

        b.loop(start, stop, vector, step=b.width)

    # ---- weights read where they are ----------------------------------------------------------

    def _few(self, o: Int, count: Int, dy: Value) -> None:
        """Rows of weights in order: 8 at a time for one sample, else 4 for pairs of samples."""
        b = self.b
        single = b.compare("eq", self.samples, 1)
        more = b.compare("sgt", self.samples, 1)
        b.when(single, lambda: self._groups(o, count, dy, QUAD, 1))
        b.when(more, lambda: self._groups(o, count, dy, QUAD, 2))

    def _groups(self, o: Int, count: Int, dy: Value, size: int, most: int) -> None:
        """Groups of `size` rows of weights; at the end of all maybe fewer."""
        b = self.b

        def group(r: Int, rows: int) -> None:
            row, factors = b.at(self.weight, b.mul(b.add(o, r), self.inputs)), b.at(dy, r)

            def tile(n: Int, samples: int) -> None:
                self._rows(row, rows, b.at(factors, b.mul(n, self.chunk)), n, samples)

            sample_tiles(b, self.samples, most, tile)

        whole = b.mul(b.divide(count, size), size)
        b.loop(0, whole, lambda r, _: group(r, size), step=size)
        if self.outputs % size:
            b.loop(whole, count, lambda r, _: group(r, self.outputs % size), step=size)

    def _rows(self, row: Value, rows: int, dy: Value, n: Int, samples: int) -> None:
        """The sums of some samples + their gradients · some rows of weights."""
        b = self.b
        factors = [
            [b.broadcast(dy, s * self.chunk + r) for r in range(rows)] for s in range(samples)
        ]

        def vector(source: Value, place: Value, at: int, load: Callable[[int], Value]) -> None:
            sums = [b.load(place, s * self.stride + at) for s in range(samples)]
            for r in range(rows):
                w = load(r * self.inputs + at)
                sums = [b.fma(w, f[r], s) for f, s in zip(factors, sums, strict=True)]
            for s, total in enumerate(sums):
                b.store(total, place, s * self.stride + at)

        def tile(t: Int, count: int) -> None:
            source = b.at(row, b.mul(t, self.columns.size))
            column = b.mul(b.sub(t, self.first), self.columns.size)
            place = b.at(self.sums, b.add(b.mul(n, self.stride), column))
            for at in range(0, count, 16):
                for r in range(rows if self.options.ahead else 0):
                    prefetch(b, source, at + (r + self.options.ahead) * self.inputs)
            for at in range(0, count, b.width):
                over = count - at
                if over >= b.width:
                    vector(source, place, at, lambda k: b.load(source, k, align=4))
                else:
                    before = self.inputs - over
                    vector(
                        source,
                        place,
                        at,
                        lambda k, over=over, before=before: partial_load(  # type: ignore[misc]
                            b, source, k, over, before
                        ),
                    )

        self.columns.emit(b, self.part, tile)

    # ---- weights used chunk by chunk ---------------------------------------------------------

    def _many(self, o: Int, count: Int, dy: Value) -> None:
        b = self.b
        if self.copies:
            each(b, count, lambda r: self._copy(b.add(o, r), r))
        share = b.let(f"udiv i64 {self.chunk}, {self.samples}")
        first = b.compare("eq", o, 0)
        last = b.compare("sge", b.add(o, self.chunk), self.outputs)

        def tile(t: Int, size: int) -> None:
            weights = self._panel(t) if self.copies else self._source(t, o)
            start = b.mul(b.sub(t, self.first), self.columns.size)
            stop = b.add(start, whole_vectors(size, b.target))

            def rows(n: Int, samples: int, body: Callable[[Int, Int, Int], None]) -> None:
                each(b, samples, lambda s: body(b.add(n, s), start, stop))

            def some(n: Int, samples: int) -> None:
                if self.copies and self.options.ahead:
                    self._ask(t, size, o, b.mul(n, share), b.mul(share, samples))
                b.when(first, lambda: rows(n, samples, self._clear))
                self._tile(t, size, n, samples, weights, dy, count)
                b.when(last, lambda: rows(n, samples, self._finish))

            sample_tiles(b, self.samples, QUAD, some)

        self.columns.emit(b, self.part, tile)

    def _source(self, tile: Int, o: Int) -> Value:
        """A tile's columns of one row of weights."""
        b = self.b
        return b.at(self.weight, b.add(b.mul(o, self.inputs), b.mul(tile, self.columns.size)))

    def _panel(self, tile: Int) -> Value:
        b = self.b
        return b.at(self.panels, b.mul(b.sub(tile, self.first), self.columns.size * self.chunk))

    def _copy(self, o: Int, r: Int) -> None:
        """The part's columns of one row of weights, into the panels' row r."""
        b, size = self.b, self.columns.size

        def tile(t: Int, count: int) -> None:
            source, place = self._source(t, o), b.at(self._panel(t), b.mul(r, size))
            for v in range(0, count, b.width):
                if v + b.width <= count:
                    b.store(b.load(source, v, align=4), place, v)
                else:
                    before = self.inputs - count + v
                    b.store(partial_load(b, source, v, count - v, before), place, v)

        self.columns.emit(b, self.part, tile)

    def _tile(
        self, t: Int, size: int, n: Int, samples: int, weights: Value, dy: Value, outputs: Int
    ) -> None:
        """The sums of some samples + their gradients · a tile's weights."""
        b, vectors = self.b, blocks(size, self.b.target)
        column = b.mul(b.sub(t, self.first), self.columns.size)
        rows = b.at(dy, b.mul(n, self.chunk))
        sums = b.at(self.sums, b.add(b.mul(n, self.stride), column))
        spots = [s * self.stride + v * b.width for s in range(samples) for v in range(vectors)]
        places = [s * self.chunk for s in range(samples)]
        step, align = (self.columns.size, None) if self.copies else (self.inputs, 4)

        def output(o: Int, totals: list[Value]) -> list[Value]:
            w, d = b.at(weights, b.mul(o, step)), b.at(rows, o)
            return rank_one(b, w, d, places, vectors, totals, align)

        totals = b.loop(0, outputs, output, [b.load(sums, at) for at in spots])
        for at, total in zip(spots, totals, strict=True):
            b.store(total, sums, at)

    def _ask(self, t: Int, size: int, o: Int, first: Int, count: Int) -> None:
        """Ask for a tile's columns of some rows of the next chunk."""
        b = self.b

        def row(r: Int) -> None:
            place = self._source(t, b.add(b.add(o, self.chunk), b.add(first, r)))
            for at in range(0, size, 16):
                prefetch(b, place, at)

        each(b, count, row)


_FEW = 8  # samples whose weight gradient is written row by row


# ---- gradient to the weights -----------------------------------------------------------------


def linear_weight_gradient(target: Target, outputs: int, inputs: int) -> Recipe:
    """dw[o, i] = Σ dy[n, o] · x[n, i], summed over the batch in order.

    Args:
        target: the CPU.
        outputs: features of dy.
        inputs: features of x; no float beyond them is read.

    Returns:
        Recipe of dw (outputs, inputs), dy, x; a part of its last step is a block of
        `conv.ROW_BLOCK` outputs.
    """
    size = tile_breadth(target) * target.width
    columns = Columns(inputs, size, -(-inputs // size))

    def build(b: Builder, arguments: list[Value]) -> None:
        _WeightGradient(b, arguments, (outputs, inputs), columns).emit()

    names = ["dw", "dy_panels", "x_panels", "samples:i64", "part:i64"]
    kernel = make_kernel(target, "linear_weight_gradient", names, build)
    parts = -(-outputs // ROW_BLOCK)
    steps = (
        row_chunks(target, "dy_panels", "dy", outputs, ROW_BLOCK, 0),
        row_chunks(target, "x_panels", "x", inputs, size, 0),
        Routine(kernel, parts, samples=0),
    )
    panels = Buffer("dy_panels", parts * ROW_BLOCK), Buffer("x_panels", columns.tiles * size)
    return Recipe(steps, panels)


class _WeightGradient:
    """Tiles of inputs outside: a tile of all samples stays in the cache for the part's outputs.

    For few samples four rows of weights outside: writing them is all that takes time.
    """

    def __init__(
        self, b: Builder, arguments: list[Value], sizes: tuple[int, int], columns: Columns
    ) -> None:
        self.dw, dy, self.x, self.samples, part = arguments
        self.b, self.columns = b, columns
        self.outputs, self.inputs = sizes
        self.first = b.mul(part, ROW_BLOCK)
        self.dy = b.at(dy, b.mul(self.first, self.samples))  # (sample, output of the part)

    def emit(self) -> None:
        b = self.b
        count = b.minimum(ROW_BLOCK, b.sub(self.outputs, self.first))

        def quads(t: Int, size: int) -> None:
            b.loop(0, count, lambda q, _: self._quad(t, size, q), step=QUAD)

        def row_by_row() -> None:
            b.loop(0, count, lambda q, _: tiles(q), step=QUAD)

        def tiles(q: Int) -> None:
            self.columns.emit(b, 0, lambda t, size: self._quad(t, size, q))

        few = b.compare("slt", self.samples, _FEW)
        many = b.compare("sge", self.samples, _FEW)
        b.when(few, row_by_row)
        b.when(many, lambda: self.columns.emit(b, 0, quads))

    def _quad(self, t: Int, size: int, quad: Int) -> None:
        """4 outputs × a tile of inputs."""
        b, vectors = self.b, blocks(size, self.b.target)
        x = b.at(self.x, b.mul(b.mul(t, self.columns.size), self.samples))
        dy = b.at(self.dy, quad)

        def sample(n: Int, sums: list[Value]) -> list[Value]:
            row, d = b.at(x, b.mul(n, self.columns.size)), b.at(dy, b.mul(n, ROW_BLOCK))
            return rank_one(b, row, d, range(QUAD), vectors, sums)

        rows = [self._row(t, b.add(self.first, b.add(quad, r))) for r in range(QUAD)]
        for row in rows:
            for at in range(0, size, 16):
                prefetch(b, row, at, write=True)
        sums = b.loop(0, self.samples, sample, [b.zero] * (QUAD * vectors))
        # Outputs beyond the last are written to its row, before its own numbers.
        for r in reversed(range(QUAD)):
            for v in range(vectors):
                self._store(sums[r * vectors + v], rows[r], v * b.width, size)

    def _row(self, t: Int, o: Int) -> Value:
        b = self.b
        row = b.mul(b.minimum(o, self.outputs - 1), self.inputs)
        return b.at(self.dw, b.add(row, b.mul(t, self.columns.size)))

    def _store(self, value: Value, row: Value, at: int, size: int) -> None:
        """A vector of weights, or what of it the row has."""
        b = self.b
        if at + b.width <= size:
            b.store(value, row, at, align=4)
            return
        for lane in range(size - at):
            b.store_float(b.extract(value, lane), row, at + lane)


@functools.lru_cache(maxsize=64)
def rows_bias_gradient(target: Target, outputs: int) -> Recipe:
    """db[o] = Σ dy[n, o], summed over the batch in order.

    Args:
        target: the CPU.
        outputs: features of dy.

    Returns:
        Recipe of db (outputs,), written exactly, and dy.
    """
    size = QUAD * target.width
    columns = Columns(outputs, size, 512 // size)

    def build(b: Builder, arguments: list[Value]) -> None:
        db, dy, samples, step, part = arguments

        def tile(t: Int, count: int) -> None:
            start, vectors = b.mul(t, size), blocks(count, target)

            def sample(n: Int, sums: list[Value]) -> list[Value]:
                row = b.at(dy, b.add(b.mul(n, step), start))
                return [b.fadd(s, b.load(row, v * b.width)) for v, s in enumerate(sums)]

            sums = b.loop(0, samples, sample, [b.zero] * vectors)
            out = b.at(db, start)
            for v, total in enumerate(sums):
                for lane in range(min(b.width, count - v * b.width)):
                    if count - v * b.width >= b.width:
                        b.store(total, out, v * b.width, align=4)
                        break
                    b.store_float(b.extract(total, lane), out, v * b.width + lane)

        columns.emit(b, part, tile)

    names = ["db", "dy", "samples:i64", "dy_step:i64", "part:i64"]
    kernel = make_kernel(target, "rows_bias_gradient", names, build)
    return recipe(Routine(kernel, columns.parts, samples=0))
