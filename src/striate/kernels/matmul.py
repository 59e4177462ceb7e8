"""Fully connected layers on rows, forward: y = x wᵀ + b.

Values are rows, one a sample, some step apart, with room for whole vectors; weights lie as torch
has them, (outputs, inputs), and are read exactly. The lanes run along the inputs, so that no
weight has to be rearranged: a register tile holds vectors of partial sums for 4 outputs × some
samples, whose lanes are added at the end of a chunk of inputs. For many samples the weights of a
chunk are copied next to each other: rows a power of two apart would push each other out of the
cache.

The gradients are in matmul_gradient; layers with the batch in lanes in linear and conv.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Tail, make_kernel
from striate.kernels.matmul_gradient import (
    linear_input_gradient,
    linear_weight_gradient,
    rows_bias_gradient,
)
from striate.kernels.routine import Buffer, Recipe, Routine
from striate.kernels.rows import (
    QUAD,
    each,
    even_chunk,
    partial_load,
    prefetch,
    row_chunks,
    row_names,
    sample_tiles,
    take_rows,
    tile_breadth,
)

__all__ = [
    "LinearOptions",
    "linear",
    "linear_input_gradient",
    "linear_weight_gradient",
    "rows_bias_gradient",
]


@dataclass(frozen=True)
class LinearOptions:
    """How the forward kernel is cut; 0: the default.

    Attributes:
        chunk: inputs whose products are summed in registers at once.
        rows: outputs whose weights of a chunk are kept next to each other.
        group: samples of an item, at most.
        few: from so many samples on the weights are copied.
        ahead: floats between a weight that is read and one that is asked for.
    """

    chunk: int = 512
    rows: int = 8
    group: int = 128
    few: int = 16
    ahead: int = 64


def linear(
    target: Target,
    outputs: int,
    inputs: int,
    bias: bool,
    tail: Tail | None = None,
    options: LinearOptions | None = None,
) -> Recipe:
    """y[n, o] = tail(b[o] + Σ x[n, k] · w[o, k]).

    Args:
        target: the CPU.
        outputs: features of y.
        inputs: features of x; no float beyond them is read.
        bias: whether there is one, padded to whole vectors.
        tail: fused into the store.
        options: how the work is cut.

    Returns:
        Recipe of out, source, weight (outputs, inputs), [bias], the tail's arguments.
    """
    o = options or LinearOptions()
    unit = max(2 * target.width, 16)
    chunk = even_chunk(inputs, o.chunk, unit)
    rows = max(o.rows, target.width)
    count = -(-inputs // chunk)
    first = row_chunks(target, "chunks", "source", inputs, chunk, o.group)
    part = rows * max(1, -(-65536 // (rows * inputs)))

    def build(b: Builder, arguments: list[Value]) -> None:
        _Linear(b, arguments, (outputs, inputs, chunk, rows, part), bias, tail, o).emit()

    names = ["out", "chunks", "weight", *(["bias"] if bias else []), *row_names(tail)]
    kernel = make_kernel(target, "linear", [*names, "samples:i64", "scratch", "part:i64"], build)
    scratch = o.group * rows + rows * chunk
    parts = -(-outputs // part)
    main = Routine(kernel, parts, o.group, scratch, samples_first=True)
    return Recipe((first, main), (Buffer("chunks", per_sample=count * chunk),))


class _Linear:
    """Blocks of outputs outside, chunks of inputs, samples, then quads of outputs."""

    def __init__(
        self,
        b: Builder,
        arguments: list[Value],
        sizes: tuple[int, int, int, int, int],
        bias: bool,
        tail: Tail | None,
        options: LinearOptions,
    ) -> None:
        out, self.chunks, self.weight, *rest = arguments
        self.b, self.options = b, options
        self.outputs, self.inputs, self.chunk, self.rows, self.part_rows = sizes
        self.bias = rest.pop(0) if bias else None
        self.target = take_rows(b, tail, out, rest)
        self.samples, scratch, self.part = rest
        self.sums = scratch  # (sample, output of the block)
        self.panel = b.at(scratch, options.group * self.rows)  # (output of the block, input)
        self.unit = max(2 * b.width, 16)
        self.breadth = tile_breadth(b.target)
        # Rows that follow one another, and end in whole units, need no copy.
        self.copies = bool(self.inputs % self.unit or self.outputs % QUAD)
        self.copies = self.copies or self.chunk != self.inputs
        self.stride = self.chunk if self.copies else self.inputs  # of rows of weights in use

    def emit(self) -> None:
        b = self.b
        first = b.mul(self.part, self.part_rows)
        stop = b.minimum(b.add(first, self.part_rows), self.outputs)
        single = b.compare("eq", self.samples, 1)
        few = b.compare("slt", self.samples, self.options.few)
        some = b.let(f"xor i1 {single}, {few}")
        many = b.compare("sge", self.samples, self.options.few)
        if self.options.few > 1:
            b.when(single, lambda: self._blocks(first, stop, self._single))
            b.when(some, lambda: self._blocks(first, stop, self._few))
        b.when(many, lambda: self._blocks(first, stop, self._many))

    def _blocks(self, first: Int, stop: Int, body: Callable[[Int, Int], None]) -> None:
        """body(first output, outputs in whole quads) between the sums' start and their store."""
        b = self.b

        def block(o: Int, _: list[Value]) -> None:
            count = b.minimum(self.rows, b.sub(stop, o))
            quads = b.mul(b.divide(b.add(count, QUAD - 1), QUAD), QUAD)
            vectors = b.mul(b.divide(b.add(count, b.width - 1), b.width), b.width)
            self._start(o, vectors)
            body(o, quads)
            self._finish(o, vectors)

        b.loop(first, stop, block, step=self.rows)

    def _start(self, o: Int, vectors: Int) -> None:
        b = self.b

        def column(c: Int, _: list[Value]) -> None:
            value = b.load(self.bias, b.add(o, c)) if self.bias else b.zero
            each(
                b, self.samples, lambda n: b.store(value, self.sums, b.add(b.mul(n, self.rows), c))
            )

        b.loop(0, vectors, column, step=b.width)

    def _finish(self, o: Int, vectors: Int) -> None:
        b = self.b

        def row(n: Int) -> None:
            def column(c: Int, _: list[Value]) -> None:
                value = b.load(self.sums, b.add(b.mul(n, self.rows), c))
                self.target.store(n, b.add(o, c), value)

            b.loop(0, vectors, column, step=b.width)

        each(b, self.samples, row)

    def _row(self, o: Int) -> Value:
        """A row of weights; the last one again for outputs beyond it."""
        b = self.b
        return b.at(self.weight, b.mul(b.minimum(o, self.outputs - 1), self.inputs))

    def _add(self, n: Int, quad: Int, sums: Sequence[Value]) -> None:
        """Add the lanes of one sample's four sums up, and to its place."""
        b, four = self.b, f"<{QUAD} x float>"
        total = b.sum_lanes(sums)
        if b.width > QUAD:
            lanes = ", ".join(f"i32 {k}" for k in range(QUAD))
            mask = f"<{QUAD} x i32> <{lanes}>"
            total = b.let(f"shufflevector {b.vector} {total}, {b.vector} poison, {mask}")
        place = b.at(self.sums, b.add(b.mul(n, self.rows), quad))
        old = b.let(f"load {four}, ptr {place}, align {4 * QUAD}")
        new = b.let(f"fadd {four} {old}, {total}")
        b.emit(f"store {four} {new}, ptr {place}, align {4 * QUAD}")

    # ---- weights read where they are ----------------------------------------------------------

    def _single(self, o: Int, quads: Int) -> None:
        """One sample: its chunks lie one after the other, so that they are one."""
        b = self.b

        def eight(q: Int, _: list[Value]) -> None:
            rows = [self._row(b.add(b.add(o, q), t)) for t in range(2 * QUAD)]
            self._products(rows, [self.chunks], 0, self.inputs, 0, q)

        b.loop(0, quads, eight, step=2 * QUAD)

    def _few(self, o: Int, quads: Int) -> None:
        b = self.b

        def quad(q: Int, _: list[Value]) -> None:
            rows = [self._row(b.add(b.add(o, q), t)) for t in range(QUAD)]

            def chunk(k: Int, _: list[Value]) -> None:
                stop = b.minimum(b.add(k, self.chunk), self.inputs)
                here = b.at(self.chunks, b.mul(k, self.samples))

                def tile(n: Int, count: int) -> None:
                    xs = [b.at(here, b.mul(b.add(n, s), self.chunk)) for s in range(count)]
                    self._products(rows, xs, k, stop, n, q)

                sample_tiles(b, self.samples, self.breadth, tile)

            b.loop(0, self.inputs, chunk, step=self.chunk)

        b.loop(0, quads, quad, step=QUAD)

    def _products(
        self, rows: list[Value], xs: list[Value], start: Int, stop: Int, n: Int, quad: Int
    ) -> None:
        """Some rows of weights times some samples, over inputs start … stop.

        What is left of a unit at the end of a row has code of its own: `xs` go on with zeros, the
        weights may not be read any further.
        """
        b = self.b
        rest = self.inputs % self.unit
        whole = b.add(start, b.mul(b.divide(b.sub(stop, start), self.unit), self.unit))

        def unit(k: Int, sums: list[Value]) -> list[Value]:
            ws = [b.at(row, k) for row in rows]
            for line in range(0, self.unit, 16):
                for w in ws:
                    prefetch(b, w, line + self.options.ahead)
            here = [b.at(x, b.sub(k, start)) for x in xs]
            for v in range(0, self.unit, b.width):
                loads = [functools.partial(b.load, w, v, 4) for w in ws]
                sums = self._step(loads, here, v, sums)
            return sums

        def end(k: Int, sums: list[Value]) -> list[Value]:
            here = [b.at(x, b.sub(k, start)) for x in xs]
            for v in range(0, rest, b.width):
                at = self.inputs - rest + v
                count = min(b.width, rest - v)
                loads = [functools.partial(partial_load, b, w, at, count, at) for w in rows]
                sums = self._step(loads, here, v, sums)
            return sums

        sums = b.loop(start, whole, unit, [b.zero] * (len(rows) * len(xs)), step=self.unit)
        if rest:
            sums = b.loop(whole, stop, end, sums, step=self.unit)
        for at in range(0, len(sums), QUAD):
            s, first = divmod(at, len(rows))
            self._add(b.add(n, s), b.add(quad, first), sums[at : at + QUAD])

    def _step(
        self, loads: Sequence[Callable[[], Value]], xs: list[Value], at: Int, sums: list[Value]
    ) -> list[Value]:
        """One vector of inputs: the samples' are held, the weights' come one by one."""
        b, sums = self.b, list(sums)
        values = [b.load(x, at) for x in xs]
        for t, load in enumerate(loads):
            b.fence()
            w = load()
            for s, x in enumerate(values):
                at = s * len(loads) + t
                sums[at] = b.accumulate(sums[at], w, x)
        return sums

    # ---- weights copied chunk by chunk ---------------------------------------------------------

    def _many(self, o: Int, quads: Int) -> None:
        b = self.b

        def chunk(k: Int, _: list[Value]) -> None:
            length = b.minimum(self.chunk, b.sub(self._padded, k))
            here = b.at(self.chunks, b.mul(k, self.samples))
            source = b.at(self.weight, b.add(b.mul(o, self.inputs), k))
            if self.copies:
                self._copy(o, quads, k)
                source = self.panel
            share = b.let(f"udiv i64 {self.chunk}, {self.samples}")
            ahead = self._next(o, k)

            def tile(n: Int, count: int) -> None:
                xs = b.at(here, b.mul(n, self.chunk))
                self._ask(b.at(ahead, b.mul(n, share)), b.mul(share, count))

                def quad(q: Int, _: list[Value]) -> None:
                    ws = b.at(source, b.mul(q, self.stride))
                    self._panel_products(ws, xs, length, n, q, count)

                b.loop(0, quads, quad, step=QUAD)

            sample_tiles(b, self.samples, self.breadth, tile)

        b.loop(0, self.inputs, chunk, step=self.chunk)

    def _next(self, o: Int, k: Int) -> Value:
        """Where the weights of the next chunk begin, which may be the next block's first."""
        b = self.b
        after = b.add(k, self.chunk)
        over = b.compare("sge", after, self.inputs)
        down = b.let(f"select i1 {over}, i64 {self.rows * self.inputs - self.inputs}, i64 0")
        return b.at(self.weight, b.add(b.add(b.mul(o, self.inputs), after), down))

    def _ask(self, weights: Value, floats: Int) -> None:
        """Ask for some floats of each of the block's rows."""
        b = self.b

        def line(at: Int, _: list[Value]) -> None:
            for r in range(self.rows):
                prefetch(b, weights, b.add(at, r * self.inputs))

        b.loop(0, floats, line, step=16)

    @property
    def _padded(self) -> int:
        return -(-self.inputs // self.unit) * self.unit

    def _copy(self, o: Int, quads: Int, k: Int) -> None:
        """The block's weights from input k on into the panel, zeros behind the last one."""
        b = self.b
        rest = self.inputs % self.unit
        stop = b.minimum(b.add(k, self.chunk), self.inputs - rest)

        def row(r: Int) -> None:
            source = self._row(b.add(o, r))
            place = b.at(self.panel, b.mul(r, self.chunk))

            def unit(i: Int, _: list[Value]) -> None:
                here, there = b.at(source, i), b.at(place, b.sub(i, k))
                for v in range(0, self.unit, b.width):
                    b.store(b.load(here, v, align=4), there, v)

            def end(i: Int, _: list[Value]) -> None:
                there = b.at(place, b.sub(i, k))
                for v in range(0, self.unit, b.width):
                    at, count = self.inputs - rest + v, min(b.width, max(rest - v, 0))
                    value = partial_load(b, source, at, count, at) if count else b.zero
                    b.store(value, there, v)

            b.loop(k, stop, unit, step=self.unit)
            if rest:
                over = b.minimum(b.add(k, self.chunk), self.inputs)
                b.loop(stop, over, end, step=self.unit)

        each(b, quads, row)

    def _panel_products(
        self, ws: Value, xs: Value, length: Int, n: Int, quad: Int, count: int
    ) -> None:
        b = self.b

        def unit(k: Int, sums: list[Value]) -> list[Value]:
            w, x = b.at(ws, k), b.at(xs, k)
            align = None if self.copies else 4
            here = [b.at(x, s * self.chunk) for s in range(count)]
            for v in range(0, self.unit, b.width):
                loads = [
                    functools.partial(b.load, w, t * self.stride + v, align) for t in range(QUAD)
                ]
                sums = self._step(loads, here, v, sums)
            return sums

        sums = b.loop(0, length, unit, [b.zero] * (QUAD * count), step=self.unit)
        for s in range(count):
            self._add(b.add(n, s), quad, sums[s * QUAD : (s + 1) * QUAD])
