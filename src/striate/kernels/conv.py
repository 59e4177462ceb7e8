"""Convolution with the batch in lanes: forward, gradient to input, gradient to weights and bias.

`gather` serves every product in which an output element is a sum of source elements times
weights: the forward pass, the gradient to the input of any stride, padding and dilation, and
fully connected layers (a 1×1 image). `weight_gradient` serves the sums over positions.
A register tile holds `to` output channels × `tp` positions; weights are broadcast, in place, from
torch's layout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, Tail, make_kernel, store_with_tail
from striate.kernels.window import Run, Taps, narrow_ends, runs, split


@dataclass(frozen=True)
class Gather:
    """out[g, o, r, c] = bias[g, o] + Σ source[g, i, row, col] · weight[g, o, i, kh, kw].

    `rows` and `cols` say which (kh, row) and (kw, col) meet output row r and column c; `strides`
    are the weight's, in floats, along (g, o, i, kh, kw), whatever its layout.
    """

    groups: int
    outputs: int
    contracted: int
    source: tuple[int, int]
    rows: Taps
    cols: Taps
    strides: tuple[int, int, int, int, int]
    bias: bool = False
    period: int = 1  # column tiles are multiples of this (the stride, going backward)


def _fits(target: Target, to: int, tp: int, edges: bool) -> bool:
    """Whether a tile's sums, the operands held and what LLVM wants beside them fit.

    Measured by counting spills: of 32 registers one must be left over; without multiply-add
    instructions the products need room; a single position makes LLVM hold more weights; tiles
    at an edge, where a kernel column meets only some positions, want one more.
    """
    spare = (1 if target.fma else 4) + (1 if target.registers == 32 else 0)
    spare += int(edges and not target.fma)
    if tp == 1:
        spare += 1 if target.fma else 3
    return to * tp + min(to, tp) + spare <= target.registers


def choose_tile(
    target: Target, outputs: int, positions: int, period: int = 1, edges: bool = False
) -> tuple[int, int]:
    """The register tile (output channels, positions) with the least estimated cycles a tap."""
    best, least = (1, period), float("inf")
    for to in range(1, min(outputs, 16) + 1):
        for tp in range(period, min(positions + period - 1, 28) + 1, period):
            if not _fits(target, to, tp, edges):
                continue
            cost = sum(
                _cycles(a, b) for a in split(outputs, to) for b in split(positions, tp, period)
            )
            if cost < least - 1e-9:
                best, least = (to, tp), cost
    return best


def _cycles(to: int, tp: int) -> float:
    """Cycles of one rank-1 step: two multiply-adds a cycle, two loads, four cycles of latency."""
    return max(to * tp / 2, (to + tp) / 2, 4.0) + 0.05 * (to + tp)


@functools.lru_cache(maxsize=512)
def gather(target: Target, p: Gather, tail: Tail | None = None) -> Kernel:
    """The kernel of a `Gather`: arguments out, source, weight, [bias], then the tail's."""
    names = ["out", "source", "weight", *(["bias"] if p.bias else [])]
    names += tail.arguments if tail else ()

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, weight, *rest = arguments
        bias = rest.pop(0) if p.bias else None
        GatherEmitter(b, p, tail, out, source, weight, bias, rest).emit()

    return make_kernel(target, "gather", names, build)


class GatherEmitter:
    """Emits one gather kernel: loops over groups, channel blocks, rows, column runs, taps.

    With the batch in lanes a source element is a vector and a weight a scalar, broadcast;
    `channels.ChannelGather` turns that round.
    """

    def __init__(
        self,
        b: Builder,
        p: Gather,
        tail: Tail | None,
        out: Value,
        source: Value,
        weight: Value,
        bias: Value | None,
        rest: Sequence[Value],
    ) -> None:
        self.b, self.p, self.tail = b, p, tail
        self.out, self.source, self.weight, self.bias, self.rest = out, source, weight, bias, rest
        self.unit = self.source_unit()  # floats from one source column to the next
        edges = len({len(pairs) for pairs in p.cols}) > 1
        self.to, self.tp = choose_tile(b.target, p.outputs, len(p.cols), p.period, edges)
        widths = split(len(p.cols), self.tp, p.period)
        # Edge tiles have more cases to hold in registers: make them the narrow ones.
        self.runs = runs(p.cols, narrow_ends(widths) if p.period == 1 else widths)
        self.plane = p.source[0] * p.source[1] * self.unit  # floats of one source channel
        self.row_at, self.rows_of = self._row_tables()

    # ---- what depends on the layout -----------------------------------------------------------

    def source_unit(self) -> int:
        return self.b.width

    def load_source(self, pointer: Value, at: int) -> Value:
        return self.b.load(pointer, at)

    def load_weight(self, pointer: Value, at: int) -> Value:
        return self.b.broadcast(pointer, at)

    def bias_at(self, channel: Int) -> Value:
        return self.b.at(self.bias or "null", channel)

    def load_bias(self, bias: Value, channel: Int) -> Value:
        return self.b.broadcast(bias, channel)

    def over_channels(
        self, run: Run, to: int, source: Value, weight: Value, sums: list[Value]
    ) -> list[Value]:
        """Sum over the source channels; one-column kernels are unrolled to amortise the loop."""
        b, p = self.b, self.p
        unroll = max(1, min(4 // max(len(kernel_columns(run)), 1), p.contracted))

        def some(count: int, i: Int, sums: list[Value]) -> list[Value]:
            x, w = b.at(source, b.mul(i, self.plane)), b.at(weight, b.mul(i, p.strides[2]))
            for u in range(count):
                self.taps(run, to, x, u * self.plane, w, u * p.strides[2], sums)
            return sums

        whole = p.contracted // unroll * unroll
        sums = b.loop(0, whole, lambda i, s: some(unroll, i, s), sums, step=unroll)
        return b.loop(whole, p.contracted, lambda i, s: some(1, i, s), sums)

    # ---- the loops ----------------------------------------------------------------------------

    def _row_tables(self) -> tuple[Value, Value]:
        """Where each row's entries begin; the entries: weight and source offsets in floats."""
        starts, entries = [0], []
        for pairs in self.p.rows:
            for k, row in pairs:
                entries += [k * self.p.strides[3], row * self.p.source[1] * self.unit]
            starts.append(len(entries) // 2)
        return self.b.table(starts), self.b.table(entries)

    def emit(self) -> None:
        b, p = self.b, self.p
        blocks = split(p.outputs, self.to)
        wide = blocks.count(blocks[0])

        def some(g: Int, first: int, count: int, width: int) -> None:
            b.loop(0, count, lambda k, _: self._rows(g, b.add(b.mul(k, width), first), width))

        def group(g: Int, _: list[Value]) -> None:
            some(g, 0, wide, blocks[0])
            some(g, wide * blocks[0], len(blocks) - wide, blocks[-1])

        b.loop(0, p.groups, group)

    def _rows(self, g: Int, o: Int, to: int) -> None:
        """All rows of `to` output channels from channel o of group g."""
        b, p = self.b, self.p
        weight = b.at(self.weight, b.add(b.mul(g, p.strides[0]), b.mul(o, p.strides[1])))
        source = b.at(self.source, b.mul(g, p.contracted * self.plane))
        channel = b.add(b.mul(g, p.outputs), o)
        bias = None if self.bias is None else self.bias_at(channel)

        def row(r: Int, _: list[Value]) -> None:
            start, stop = b.load_i64(self.row_at, r), b.load_i64(self.row_at, b.add(r, 1))
            line = b.mul(b.add(b.mul(channel, len(p.rows)), r), len(p.cols) * b.width)
            for run in self.runs:
                self._run(run, to, source, weight, bias, line, (start, stop))

        b.loop(0, len(p.rows), row)

    def _run(
        self,
        run: Run,
        to: int,
        source: Value,
        weight: Value,
        bias: Value | None,
        line: Int,
        entries: tuple[Int, Int],
    ) -> None:
        b, p = self.b, self.p
        plane_out = len(p.rows) * len(p.cols) * b.width

        def tile(t: Int, _: list[Value]) -> None:
            start = b.add(b.mul(t, run.advance * self.unit), run.base * self.unit)
            first = [b.zero if bias is None else self.load_bias(bias, k) for k in range(to)]
            carry = [first[k] for k in range(to) for _ in range(run.width)]
            sums = self._entries(run, to, b.at(source, start), weight, carry, entries)
            column = b.add(b.mul(t, run.width * b.width), run.first * b.width)
            for k in range(to):
                for j in range(run.width):
                    offset = b.add(b.add(line, column), k * plane_out + j * b.width)
                    value = sums[k * run.width + j]
                    store_with_tail(b, self.tail, value, self.out, offset, self.rest)

        b.loop(0, run.count, tile)

    def _entries(
        self,
        run: Run,
        to: int,
        source: Value,
        weight: Value,
        carry: list[Value],
        entries: tuple[Int, Int],
    ) -> list[Value]:
        """Sum over the kernel's rows that meet this output row, and over source channels."""
        b, p = self.b, self.p

        def entry(e: Int, sums: list[Value]) -> list[Value]:
            pair = b.at(self.rows_of, b.mul(e, 2), 8)
            w, x = b.at(weight, b.load_i64(pair)), b.at(source, b.load_i64(pair, 1))
            return self.over_channels(run, to, x, w, sums)

        if p.rows == (((0, 0),),):
            return self.over_channels(run, to, source, weight, carry)
        return b.loop(entries[0], entries[1], entry, carry)

    def taps(
        self, run: Run, to: int, x: Value, x_at: int, w: Value, w_at: int, sums: list[Value]
    ) -> None:
        """One source channel and kernel row: every kernel column that meets the tile."""
        b, stride = self.b, self.p.strides
        for k, met in kernel_columns(run).items():
            b.fence()
            at = w_at + k * stride[4]
            if to <= len(met):
                ws = [self.load_weight(w, at + o * stride[1]) for o in range(to)]
                for j, col in met:
                    b.fence()
                    value = self.load_source(x, x_at + col * self.unit)
                    for o in range(to):
                        self._add_product(sums, o * run.width + j, value, ws[o], single=to == 1)
            else:
                xs = [(j, self.load_source(x, x_at + col * self.unit)) for j, col in met]
                for o in range(to):
                    b.fence()
                    weight = self.load_weight(w, at + o * stride[1])
                    for j, value in xs:
                        single = run.width == 1
                        self._add_product(sums, o * run.width + j, value, weight, single)

    def _add_product(
        self, sums: list[Value], at: int, value: Value, weight: Value, single: bool
    ) -> None:
        """sums[at] += value·weight; `single`: one of the factors is used this once."""
        if single:
            sums[at] = self.b.accumulate(sums[at], value, weight)
        else:
            sums[at] = self.b.fma(value, weight, sums[at])


def kernel_columns(run: Run) -> dict[int, list[tuple[int, int]]]:
    """For each kernel column that meets the tile: the (position in the tile, source column)."""
    met: dict[int, list[tuple[int, int]]] = {}
    for j, pairs in enumerate(run.pattern):
        for k, col in pairs:
            met.setdefault(k, []).append((j, col))
    return dict(sorted(met.items()))


@dataclass(frozen=True)
class WeightGradient:
    """dw[g, o, i, kh, kw] = Σ over samples, rows, columns: dy[g, o, r, c] · x[g, i, row, col].

    Kernel row kh meets output row r in source row r·stride + kh·dilation − before, which
    `row_map` = (stride, dilation, before) says. With `accumulate` the sum is added to what dw
    holds.
    """

    groups: int
    outputs: int
    contracted: int
    kernel: tuple[int, int]
    source: tuple[int, int]
    rows: Taps
    cols: Taps
    row_map: tuple[int, int, int]
    accumulate: bool = True


@functools.lru_cache(maxsize=512)
def weight_gradient(target: Target, p: WeightGradient) -> Kernel:
    """Arguments dw, x, dy, then i64: first and last block of output channels (see `ROW_BLOCK`),
    number of sample groups, and the floats from one group to the next in x and in dy.
    """
    names = ["dw", "x", "dy", "first:i64", "last:i64", "samples:i64", "x_step:i64", "dy_step:i64"]

    def build(b: Builder, arguments: list[Value]) -> None:
        _WeightGradientEmitter(b, p, arguments).emit()

    return make_kernel(target, "weight_gradient", names, build)


ROW_BLOCK = 16
"""Output channels of one block of a weight gradient; blocks start at whole vectors of weights."""


class _WeightGradientEmitter:
    """Accumulators are `to` output channels × (kernel columns, or source channels for 1-wide)."""

    def __init__(self, b: Builder, p: WeightGradient, arguments: list[Value]) -> None:
        self.b, self.p = b, p
        self.dw, self.x, self.dy, self.first, self.last = arguments[:5]
        self.samples, self.x_step, self.dy_step = arguments[5:]
        self.plane_x = p.source[0] * p.source[1] * b.width
        self.plane_dy = len(p.rows) * len(p.cols) * b.width
        self.budget = b.target.registers - (2 if b.target.fma else 4)
        self.to, self.ti = self._tile()

    def _tile(self) -> tuple[int, int]:
        """Output channels and source channels (for one-column kernels) of a register tile."""
        b, p = self.b, self.p
        if p.kernel[1] > 1:
            width = split(p.kernel[1], min(b.width, self.budget - 1))[0]
            return min(max((self.budget - 1) // (width + 1), 1), p.outputs, 4), 1
        ti = min(b.width, p.contracted)
        return min(max(self.budget // (ti + 1), 1), p.outputs, 4), ti

    def emit(self) -> None:
        b, p = self.b, self.p
        blocks = -(-p.outputs // ROW_BLOCK)

        def part(k: Int, _: list[Value]) -> None:
            """One block of output channels, counted through all groups."""
            g, inside = b.divide(k, blocks), k
            if p.groups > 1:
                inside = b.sub(k, b.mul(g, blocks))
            start = b.mul(inside, ROW_BLOCK)
            stop = b.minimum(b.add(start, ROW_BLOCK), p.outputs)
            self._block(0 if p.groups == 1 else g, start, stop)

        b.loop(self.first, self.last, part)

    def _block(self, g: Int, start: Int, stop: Int) -> None:
        """Output channels start … stop of group g, `to` at a time, what is left one by one.

        With wide kernels a gradient plane stays in the cache while the source channels go by; a
        one-column kernel (a fully connected layer) keeps a tile of sources and walks the outputs.
        """
        b, p = self.b, self.p

        def outputs(body: Callable[[Int, int], None]) -> None:
            b.tiled_range(start, stop, self.to, body)

        def sources(body: Callable[[Int, int], None]) -> None:
            b.tiled(p.contracted, self.ti, body)

        if p.kernel[1] > 1:
            outputs(lambda o, to: sources(lambda i, ti: self._kernel_rows(g, o, to, i, ti)))
        else:
            sources(lambda i, ti: outputs(lambda o, to: self._kernel_rows(g, o, to, i, ti)))

    def _kernel_rows(self, g: Int, o: Int, to: int, i: Int, ti: int) -> None:
        b, p = self.b, self.p
        kh, kw = p.kernel
        dy = b.at(self.dy, b.mul(b.add(b.mul(g, p.outputs), o), self.plane_dy))
        x = b.at(self.x, b.mul(b.add(b.mul(g, p.contracted), i), self.plane_x))
        channel = b.add(b.mul(g, p.outputs), o)
        dw = b.at(self.dw, b.mul(b.add(b.mul(channel, p.contracted), i), kh * kw))
        table = self._row_table()

        def kernel_row(k: Int, _: list[Value]) -> None:
            bounds = b.at(table, b.mul(k, 2), 8)
            rows = (b.load_i64(bounds), b.load_i64(bounds, 1))
            if kh == 1 and p.rows == (((0, 0),),):
                rows = (0, 1)  # type: ignore[assignment]
            for chunk in self._chunks():
                sums = self._positions(rows, k, chunk, to, ti, x, dy)
                self._add(sums, b.at(dw, b.mul(k, kw)), chunk, to, ti)

        b.loop(0, kh, kernel_row)

    def _chunks(self) -> list[range]:
        """The kernel's columns, in parts that fit a vector's lanes and the registers."""
        b, start, chunks = self.b, 0, []
        for width in split(self.p.kernel[1], min(b.width, self.budget - 1)):
            chunks.append(range(start, start + width))
            start += width
        return chunks

    def _row_table(self) -> Value:
        """For each kernel row: the first and last+1 output row that it meets anything in."""
        bounds: list[int] = []
        for k in range(self.p.kernel[0]):
            met = [r for r, pairs in enumerate(self.p.rows) if any(a == k for a, _ in pairs)]
            bounds += [min(met, default=0), max(met, default=-1) + 1]
        return self.b.table(bounds)

    def _source_row(self, r: Int, k: Int) -> Int:
        """The source row that kernel row k meets at output row r."""
        b, (stride, dilation, before) = self.b, self.p.row_map
        return b.add(b.add(b.mul(r, stride), b.mul(k, dilation)), -before)

    def _positions(
        self,
        rows: tuple[Int, Int],
        k: Int,
        chunk: range,
        to: int,
        ti: int,
        x: Value,
        dy: Value,
    ) -> list[Value]:
        """Accumulate over sample groups, output rows and columns."""
        b, p = self.b, self.p
        per = len(chunk) * ti

        def sample(n: Int, sums: list[Value]) -> list[Value]:
            x_n, dy_n = b.at(x, b.mul(n, self.x_step)), b.at(dy, b.mul(n, self.dy_step))

            def row(r: Int, sums: list[Value]) -> list[Value]:
                line = b.at(x_n, b.mul(self._source_row(r, k), p.source[1] * b.width))
                out = b.at(dy_n, b.mul(r, len(p.cols) * b.width))
                return self._columns(line, out, chunk, to, ti, sums)

            return b.loop(rows[0], rows[1], row, sums)

        return b.loop(0, self.samples, sample, [b.zero] * (to * per))

    def _columns(
        self, line: Value, out: Value, chunk: range, to: int, ti: int, sums: list[Value]
    ) -> list[Value]:
        b, cols = self.b, self.p.cols
        most = max(1, 160 // (to * len(chunk) * ti))
        for run in runs(cols, split(len(cols), most)):

            def tile(t: Int, sums: list[Value], run: Run = run) -> list[Value]:
                x = b.at(line, b.mul(b.add(b.mul(t, run.advance), run.base), b.width))
                dy = b.at(out, b.mul(b.add(b.mul(t, run.width), run.first), b.width))
                for j, pairs in enumerate(run.pattern):
                    met = [(kw - chunk.start, col) for kw, col in pairs if kw in chunk]
                    self._step(x, dy, j, met, to, ti, len(chunk), sums)
                return sums

            sums = b.loop(0, run.count, tile, sums)
        return sums

    def _step(
        self,
        x: Value,
        dy: Value,
        j: int,
        met: list[tuple[int, int]],
        to: int,
        ti: int,
        columns: int,
        sums: list[Value],
    ) -> None:
        """One output position: `to` gradients times the source values that it met."""
        b = self.b
        b.fence()
        ds = [b.load(dy, o * self.plane_dy + j * b.width) for o in range(to)]
        for i in range(ti):
            for kw, col in met:
                value = b.load(x, i * self.plane_x + col * b.width)
                for o in range(to):
                    at = (o * ti + i) * columns + kw
                    sums[at] = b.fma(value, ds[o], sums[at])

    def _add(self, sums: list[Value], dw: Value, chunk: range, to: int, ti: int) -> None:
        """Sum the lanes into dw; contiguous weights are written as one vector."""
        b, p = self.b, self.p
        per = len(chunk) * ti
        channel = p.contracted * p.kernel[0] * p.kernel[1]
        for o in range(to):
            total = b.sum_lanes(sums[o * per : (o + 1) * per])
            at = o * channel + chunk.start
            if ti == 1 or p.kernel == (1, 1):
                _put_lanes(b, total, dw, at, per, p.accumulate)
            else:  # one kernel column, several source channels: a stride of kh·kw between them
                for i in range(ti):
                    place = at + i * p.kernel[0] * p.kernel[1]
                    _put_float(b, b.extract(total, i), dw, place, p.accumulate)


def _put_lanes(
    b: Builder, total: Value, pointer: Value, at: int, count: int, accumulate: bool
) -> None:
    """pointer[at : at+count] = or += the first lanes of `total`, touching nothing behind them."""
    if count == b.width:
        if accumulate:
            total = b.fadd(b.load(pointer, at, align=4), total)
        b.store(total, pointer, at, align=4)
        return
    for lane in range(count):
        _put_float(b, b.extract(total, lane), pointer, at + lane, accumulate)


def _put_float(b: Builder, value: Value, pointer: Value, at: int, accumulate: bool) -> None:
    if accumulate:
        value = b.let(f"fadd float {b.load_float(pointer, at)}, {value}")
    b.store_float(value, pointer, at)


@functools.lru_cache(maxsize=512)
def bias_gradient(target: Target, channels: int, positions: int, accumulate: bool = True) -> Kernel:
    """db[o] (+)= Σ over groups and positions of dy[o]; arguments db, dy, samples, dy_step."""

    def build(b: Builder, arguments: list[Value]) -> None:
        db, dy, samples, dy_step = arguments

        def some(first: Int, count: int) -> None:
            def sample(n: Int, sums: list[Value]) -> list[Value]:
                base = b.at(dy, b.add(b.mul(n, dy_step), b.mul(first, positions * b.width)))

                def position(j: Int, sums: list[Value]) -> list[Value]:
                    here = b.at(base, b.mul(j, b.width))
                    loads = [b.load(here, k * positions * b.width) for k in range(count)]
                    return [b.fadd(s, v) for s, v in zip(sums, loads, strict=True)]

                return b.loop(0, positions, position, sums)

            sums = b.loop(0, samples, sample, [b.zero] * count)
            _put_lanes(b, b.sum_lanes(sums), b.at(db, first), 0, count, accumulate)

        b.tiled(channels, min(b.width, 8), some)

    names = ["db", "dy", "samples:i64", "dy_step:i64"]
    return make_kernel(target, "bias_gradient", names, build)
