"""Locally connected layers on images as they lie in memory: output columns in lanes.

Every output place has kernels of its own, so each weight meets a sample once: what can be shared
is a weight among samples and an image among output channels. One item is a row of the output (of
the source, for the gradient to it) for the whole batch, so each weight is read once. Samples are
taken in chunks; a chunk's rows and the weights of a tile are first copied to scratch memory, whole
vectors with zeros around them, and then the loops have no edges.

Rows and taps are those of `program.convolution.Windows`: volumes have more rows, sequences one.
The columns' stride is 1. Groups follow each other. Other forms are computed by their formula.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel
from striate.kernels.routine import Recipe, Routine, recipe
from striate.kernels.window import Taps, reversed_taps

_CHUNK = 72  # samples at once


@dataclass(frozen=True)
class Local:
    """The sizes of a locally connected layer.

    Attributes:
        outputs, contracted: channels of output and source, of all groups.
        kernel: (taps along the rows, taps along the columns).
        source: (rows, columns) of the source.
        rows: taps of each output row.
        columns: of the output.
        dilation, before: along the columns.
    """

    outputs: int
    contracted: int
    groups: int
    kernel: tuple[int, int]
    source: tuple[int, int]
    rows: Taps
    columns: int
    dilation: int = 1
    before: int = 0

    @property
    def in_group(self) -> tuple[int, int]:
        """Output and source channels of one group."""
        return self.outputs // self.groups, self.contracted // self.groups

    @property
    def places(self) -> int:
        return len(self.rows) * self.columns

    @property
    def plane(self) -> int:
        return self.source[0] * self.source[1]


@functools.lru_cache(maxsize=64)
def local(target: Target, p: Local, bias: str = "") -> Recipe:
    """y = Σ x·w: arguments out, source, weight, (bias), out_step, source_step, samples, part.

    Args:
        bias: "" for none, "channel" for one number a channel, "place" for one an output.
    """
    form = _Form(target, p)

    def build(b: Builder, a: dict[str, Value]) -> None:
        _Forward(b, form, a, bias).run()

    names = ["out", "source", "weight", *(["bias"] if bias else [])]
    sizes = ["out_step:i64", "source_step:i64", "samples:i64", "part:i64", "scratch"]
    kernel = _kernel(target, "local", [*names, *sizes], build)
    return recipe(Routine(kernel, len(p.rows), 0, form.forward_scratch))


@functools.lru_cache(maxsize=64)
def local_input_gradient(target: Target, p: Local) -> Recipe:
    """dx from dy and w: arguments out, dy, weight, out_step, dy_step, samples, part, scratch."""
    form = _Form(target, p)
    names = ["out", "dy", "weight", "out_step:i64", "dy_step:i64", "samples:i64", "part:i64"]
    kernel = _kernel(
        target, "local_dx", [*names, "scratch"], lambda b, a: _ToInput(b, form, a).run()
    )
    return recipe(Routine(kernel, p.source[0], 0, form.input_scratch))


@functools.lru_cache(maxsize=64)
def local_weight_gradient(target: Target, p: Local) -> Recipe:
    """dw over the batch: arguments dw, dy, x, dy_step, x_step, samples, part, scratch."""
    form = _Form(target, p)
    names = ["dw", "dy", "x", "dy_step:i64", "x_step:i64", "samples:i64", "part:i64", "scratch"]
    kernel = _kernel(target, "local_dw", names, lambda b, a: _ToWeight(b, form, a).run())
    return recipe(Routine(kernel, len(p.rows), 0, form.weight_scratch))


def _kernel(target: Target, name: str, arguments: Sequence[str], build: object) -> Kernel:
    def with_names(b: Builder, values: list[Value]) -> None:
        plain = (a.partition(":")[0] for a in arguments)
        build(b, dict(zip(plain, values, strict=True)))  # type: ignore[operator]

    return make_kernel(target, name, arguments, with_names)


class _Form:
    """Tiles and the sizes of scratch memory, in floats."""

    def __init__(self, target: Target, p: Local) -> None:
        self.p, width = p, target.width
        many = target.registers == 32
        self.outputs = 4 if many else 3  # channels of a tile, forward
        self.samples = 6 if many else 4
        self.vectors = -(-p.columns // width)
        self.width = width
        wide = (p.kernel[1] - 1) * p.dilation + self.vectors * width
        wide = max(wide, p.before + p.source[1])
        self.pitch = -(-wide // width) * width + width
        self.taps = p.kernel[0] * p.in_group[1]  # rows of the kernels, of all channels
        # the gradient to the source: columns of the kernel at once, channels, samples
        room = 24 if many else 9
        self.columns = min(p.kernel[1], 4 if many else 3)
        self.channels = 2 if self.columns * 2 * 2 <= room else 1
        self.back_samples = max(room // (self.columns * self.channels), 1)
        # the gradient to the weights: kernel rows at once
        self.weight_outputs = 4 if many else 2
        self.weight_rows = max((6 if many else 4) // self.columns, 1)

    @property
    def rows_of_x(self) -> int:
        return self.taps * _CHUNK * self.pitch

    @property
    def forward_scratch(self) -> int:
        return self.rows_of_x + self.taps * self.p.kernel[1] * self.outputs * self.width

    @property
    def back_taps(self) -> int:
        return self.p.kernel[0] * self.p.in_group[0]

    @property
    def input_scratch(self) -> int:
        rows = self.back_taps * _CHUNK * self.vectors * self.width
        weights = self.vectors * self.back_taps * self.channels * self.p.kernel[1] * self.width
        return rows + weights + self.channels * self.back_samples * self.pitch

    @property
    def weight_scratch(self) -> int:
        return self.rows_of_x + self.p.in_group[0] * _CHUNK * self.width


class _Pass:
    """What the three passes share."""

    def __init__(self, b: Builder, form: _Form, arguments: dict[str, Value]) -> None:
        self.b, self.form, self.p, self.a = b, form, form.p, arguments

    def chunks(self, body: object) -> None:
        """`body(first sample, samples)` for each chunk."""
        b, samples = self.b, self.a["samples"]
        count = b.divide(b.add(samples, _CHUNK - 1), _CHUNK)

        def chunk(k: Int, _: list[Value]) -> None:
            first = b.mul(k, _CHUNK)
            body(first, b.minimum(b.sub(samples, first), _CHUNK))  # type: ignore[operator]

        b.loop(0, count, chunk)

    def row(self, table: Value, tap: Int, row: Int) -> Value:
        """The row that a tap meets, or −1."""
        b = self.b
        return b.load_i64(table, b.add(b.mul(row, self.p.kernel[0]), tap))

    def vectors_of(self, v: int) -> int:
        """Columns of the output in vector v."""
        return min(self.form.width, self.p.columns - v * self.form.width)

    def pack_source(self, name: str, first: Int, count: Int, group: Int, to: Value) -> None:
        """A chunk's rows that an output row meets: [channel, tap][sample][pitch], zeros around."""
        b, p, form = self.b, self.p, self.form
        table = b.table([r for taps in p.rows for r in _by_tap(taps, p.kernel[0])])
        start = b.mul(group, p.in_group[1])

        def one(c: Int, t: Int) -> None:
            row = self.row(table, t, self.a["part"])
            inside = b.compare("sge", row, 0)
            place = b.mul(b.add(b.mul(c, p.kernel[0]), t), _CHUNK * form.pitch)
            offset = b.mul(b.add(start, c), p.plane)
            offset = b.add(offset, b.mul(row, p.source[1]))

            def sample(n: Int, _: list[Value]) -> None:
                out = b.at(to, b.add(place, b.mul(n, form.pitch)))
                for k in range(0, form.pitch, b.width):
                    b.store(b.zero, out, k)
                step = b.mul(b.add(first, n), self.a[f"{name}_step"])
                source = b.at(self.a[name], b.add(step, offset))
                b.when(inside, lambda: self._copy(source, b.at(out, p.before), p.source[1]))

            b.loop(0, count, sample)

        self._each(p.in_group[1], p.kernel[0], one)

    def _each(self, outer: int, inner: int, body: object) -> None:
        b = self.b
        b.loop(
            0,
            outer,
            lambda i, _: b.loop(0, inner, lambda k, _: body(i, k)) and None,  # type: ignore[operator]
        )

    def _copy(self, source: Value, to: Value, count: int) -> None:
        b = self.b
        for k in range(0, count, b.width):
            part = min(b.width, count - k)
            b.store_part(b.load_part(source, k, part), to, k, part)

    def weight_at(self, o: Int, tap: Int, column: Int) -> Int:
        """Floats from the weight's beginning to kernel place (o, tap, column), first position."""
        b, p = self.b, self.p
        rows = p.in_group[1] * p.kernel[0]
        at = b.add(b.mul(o, rows * p.kernel[1]), b.add(b.mul(tap, p.kernel[1]), column))
        return b.mul(at, p.places)


def _by_tap(taps: Sequence[tuple[int, int]], count: int) -> list[int]:
    """For each tap the row that it meets, or −1."""
    found = dict(taps)
    return [found.get(t, -1) for t in range(count)]


class _Forward(_Pass):
    def __init__(self, b: Builder, form: _Form, a: dict[str, Value], bias: str) -> None:
        super().__init__(b, form, a)
        self.bias = bias
        self.x = a["scratch"]
        self.w = b.at(a["scratch"], form.rows_of_x)

    def run(self) -> None:
        p, b = self.p, self.b

        def chunk(first: Int, count: Int) -> None:
            def group(g: Int, _: list[Value]) -> None:
                self.pack_source("source", first, count, g, self.x)
                base = b.mul(g, p.in_group[0])
                for v in range(self.form.vectors):
                    b.tiled(
                        p.in_group[0],
                        self.form.outputs,
                        lambda o, k, v=v: self._outputs(b.add(base, o), k, v, first, count),  # type: ignore[misc]
                    )

            b.loop(0, p.groups, group)

        self.chunks(chunk)

    def _outputs(self, o: Int, tile: int, v: int, first: Int, count: Int) -> None:
        """A tile of output channels: its weights, then all samples of the chunk."""
        b, p, form = self.b, self.p, self.form
        part, row = self.vectors_of(v), b.mul(self.a["part"], p.columns)

        def pack(k: Int, _: list[Value]) -> None:
            for j in range(tile):
                at = b.add(self.weight_at(b.add(o, j), 0, k), row)
                value = b.load_part(b.at(self.a["weight"], at), v * b.width, part)
                b.store(value, self.w, b.add(b.mul(k, tile * b.width), j * b.width))

        b.loop(0, form.taps * p.kernel[1], pack)
        b.loop(
            0,
            count,
            lambda n, _: self._samples(n, o, tile, v, first, count),
            step=form.samples,
        )

    def _samples(self, n: Int, o: Int, tile: int, v: int, first: Int, count: Int) -> None:
        b, p, form = self.b, self.p, self.form
        pairs = list(itertools.product(range(tile), range(form.samples)))

        def taps(t: Int, totals: list[Value]) -> list[Value]:
            x = b.at(self.x, b.mul(b.add(b.mul(t, _CHUNK), n), form.pitch))
            w = b.at(self.w, b.mul(t, p.kernel[1] * tile * b.width))

            def column(q: Int, totals: list[Value]) -> list[Value]:
                x_q = b.at(x, b.mul(q, p.dilation))
                w_q = b.at(w, b.mul(q, tile * b.width))
                weights = [b.load(w_q, j * b.width) for j in range(tile)]
                sources = [
                    b.load(x_q, k * form.pitch + v * b.width, align=4) for k in range(form.samples)
                ]
                return [
                    b.accumulate(total, weights[j], sources[k])
                    for total, (j, k) in zip(totals, pairs, strict=True)
                ]

            if p.kernel[1] <= 5:
                for q in range(p.kernel[1]):
                    totals = column(q, totals)
                return totals
            return b.loop(0, p.kernel[1], column, totals)

        totals = b.loop(0, form.taps, taps, [b.zero] * len(pairs))
        for total, (j, k) in zip(totals, pairs, strict=True):
            inside = b.compare("slt", b.add(n, k), count)
            b.when(
                inside,
                lambda total=total, j=j, k=k: self._store(  # type: ignore[misc]
                    total, b.add(o, j), b.add(first, b.add(n, k)), v
                ),
            )

    def _store(self, total: Value, o: Int, n: Int, v: int) -> None:
        b, p, part = self.b, self.p, self.vectors_of(v)
        place = b.add(b.mul(o, p.places), b.mul(self.a["part"], p.columns))
        if self.bias == "channel":
            total = b.fadd(total, b.broadcast(self.a["bias"], o))
        elif self.bias:
            bias = b.load_part(b.at(self.a["bias"], place), v * b.width, part)
            total = b.fadd(total, bias)
        out = b.at(self.a["out"], b.add(b.mul(n, self.a["out_step"]), place))
        b.store_part(total, out, v * b.width, part)


class _ToInput(_Pass):
    """A row of the source: products by kernel column, added up where the columns meet."""

    def __init__(self, b: Builder, form: _Form, a: dict[str, Value]) -> None:
        super().__init__(b, form, a)
        back = reversed_taps(self.p.rows, self.p.source[0])
        taps = [r for pairs in back for r in _by_tap(pairs, self.p.kernel[0])]
        self.table = b.table(taps)
        self.dy = a["scratch"]
        rows = form.back_taps * _CHUNK * form.vectors * form.width
        self.w = b.at(a["scratch"], rows)
        self.sum = b.at(
            self.w, form.input_scratch - rows - form.channels * form.back_samples * form.pitch
        )

    def run(self) -> None:
        b, p, form = self.b, self.p, self.form

        def chunk(first: Int, count: Int) -> None:
            def group(g: Int, _: list[Value]) -> None:
                self._pack_rows(first, count, g)
                b.tiled(
                    p.in_group[1],
                    form.channels,
                    lambda c, k: self._channels(g, c, k, first, count),
                )

            b.loop(0, p.groups, group)

        self.chunks(chunk)

    def _pack_rows(self, first: Int, count: Int, group: Int) -> None:
        """[output channel, tap][sample][vectors]: rows of dy that this row comes from."""
        b, p, form = self.b, self.p, self.form
        long = form.vectors * b.width

        def one(o: Int, t: Int) -> None:
            row = self.row(self.table, t, self.a["part"])
            inside = b.compare("sge", row, 0)
            place = b.mul(b.add(b.mul(o, p.kernel[0]), t), _CHUNK * long)
            offset = b.mul(b.add(b.mul(group, p.in_group[0]), o), p.places)
            offset = b.add(offset, b.mul(row, p.columns))

            def sample(n: Int, _: list[Value]) -> None:
                out = b.at(self.dy, b.add(place, b.mul(n, long)))
                for v in range(form.vectors):
                    b.store(b.zero, out, v * b.width)
                step = b.mul(b.add(first, n), self.a["dy_step"])
                source = b.at(self.a["dy"], b.add(step, offset))
                b.when(inside, lambda: self._copy(source, out, p.columns))

            b.loop(0, count, sample)

        self._each(p.in_group[0], p.kernel[0], one)

    def _channels(self, group: Int, c: Int, tile: int, first: Int, count: Int) -> None:
        b = self.b
        self._pack_weights(group, c, tile)
        b.loop(
            0,
            count,
            lambda n, _: self._samples(n, group, c, tile, first, count),
            step=self.form.back_samples,
        )

    def _pack_weights(self, group: Int, c: Int, tile: int) -> None:
        """[vector][output channel, tap][channel][kernel column]; zeros where there is no row."""
        b, p, form = self.b, self.p, self.form
        kw, start = p.kernel[1], b.mul(group, p.in_group[0])

        def one(o: Int, t: Int) -> None:
            row = self.row(self.table, t, self.a["part"])
            inside = b.compare("sge", row, 0)
            place = b.mul(b.add(b.mul(o, p.kernel[0]), t), tile * kw * b.width)

            def column(q: Int, _: list[Value]) -> None:
                for j in range(tile):
                    tap = b.add(b.mul(b.add(c, j), p.kernel[0]), t)
                    at = b.add(self.weight_at(b.add(start, o), tap, q), b.mul(row, p.columns))
                    for v in range(form.vectors):
                        to = v * form.back_taps * tile * kw * b.width + j * kw * b.width
                        out = b.at(self.w, b.add(b.add(place, to), b.mul(q, b.width)))
                        b.store(b.zero, out)
                        source, part = b.at(self.a["weight"], at), self.vectors_of(v)
                        b.when(
                            inside,
                            lambda source=source, out=out, v=v, part=part: b.store(  # type: ignore[misc]
                                b.load_part(source, v * b.width, part), out
                            ),
                        )

            b.loop(0, kw, column)

        self._each(p.in_group[0], p.kernel[0], one)

    def _samples(self, n: Int, group: Int, c: Int, tile: int, first: Int, count: Int) -> None:
        b, p, form = self.b, self.p, self.form
        sums = list(itertools.product(range(tile), range(form.back_samples)))
        for k in range(len(sums) * form.pitch // b.width):
            b.store(b.zero, self.sum, k * b.width)
        for v in range(form.vectors):
            for q in range(0, p.kernel[1], form.columns):
                self._products(n, tile, v, q, min(form.columns, p.kernel[1] - q))
        for at, (j, k) in enumerate(sums):
            channel = b.add(b.mul(group, p.in_group[1]), b.add(c, j))
            inside = b.compare("slt", b.add(n, k), count)
            sample = b.mul(b.add(first, b.add(n, k)), self.a["out_step"])
            place = b.add(b.mul(channel, p.plane), b.mul(self.a["part"], p.source[1]))
            out = b.at(self.a["out"], b.add(sample, place))
            row = b.at(self.sum, at * form.pitch + p.before)
            b.when(inside, lambda row=row, out=out: self._copy(row, out, p.source[1]))  # type: ignore[misc]

    def _products(self, n: Int, tile: int, v: int, q: int, columns: int) -> None:
        """Add the products of some kernel columns to the rows of sums."""
        b, p, form = self.b, self.p, self.form
        kw, long = p.kernel[1], form.vectors * b.width
        which = list(itertools.product(range(tile), range(columns), range(form.back_samples)))

        def taps(t: Int, totals: list[Value]) -> list[Value]:
            dy = b.at(self.dy, b.mul(b.add(b.mul(t, _CHUNK), n), long))
            rows = [b.load(dy, k * long + v * b.width) for k in range(form.back_samples)]
            start = b.mul(b.add(t, v * form.back_taps), tile * kw * b.width)
            w = b.at(self.w, start)
            weights = {
                (j, i): b.load(w, (j * kw + q + i) * b.width)
                for j in range(tile)
                for i in range(columns)
            }
            return [
                b.accumulate(total, weights[j, i], rows[k])
                for total, (j, i, k) in zip(totals, which, strict=True)
            ]

        totals = b.loop(0, form.back_taps, taps, [b.zero] * len(which))
        for total, (j, i, k) in zip(totals, which, strict=True):
            at = (j * form.back_samples + k) * form.pitch + (q + i) * p.dilation + v * b.width
            b.store(b.fadd(b.load(self.sum, at, align=4), total), self.sum, at, align=4)


class _ToWeight(_Pass):
    def __init__(self, b: Builder, form: _Form, a: dict[str, Value]) -> None:
        super().__init__(b, form, a)
        self.x = a["scratch"]
        self.dy = b.at(a["scratch"], form.rows_of_x)

    def run(self) -> None:
        b, p, form = self.b, self.p, self.form

        def chunk(first: Int, count: Int) -> None:
            def group(g: Int, _: list[Value]) -> None:
                self.pack_source("x", first, count, g, self.x)
                for v in range(form.vectors):
                    self._pack_rows(first, count, g, v)
                    b.tiled(
                        p.in_group[0],
                        form.weight_outputs,
                        lambda o, k, v=v: self._rows(g, o, k, v, first, count),  # type: ignore[misc]
                    )

            b.loop(0, p.groups, group)

        self.chunks(chunk)

    def _pack_rows(self, first: Int, count: Int, group: Int, v: int) -> None:
        """[output channel][sample]: one vector of this row of dy."""
        b, p = self.b, self.p
        start, part = b.mul(group, p.in_group[0]), self.vectors_of(v)

        def one(o: Int, _: list[Value]) -> None:
            offset = b.mul(b.add(start, o), p.places)
            offset = b.add(offset, b.mul(self.a["part"], p.columns))

            def sample(n: Int, _: list[Value]) -> None:
                step = b.mul(b.add(first, n), self.a["dy_step"])
                source = b.at(self.a["dy"], b.add(step, offset))
                at = b.mul(b.add(b.mul(o, _CHUNK), n), b.width)
                b.store(b.load_part(source, v * b.width, part), self.dy, at)

            b.loop(0, count, sample)

        b.loop(0, p.in_group[0], one)

    def _rows(self, group: Int, o: Int, tile: int, v: int, first: Int, count: Int) -> None:
        """A tile of output channels against all kernel rows."""
        form = self.form
        for q in range(0, self.p.kernel[1], form.columns):
            columns = min(form.columns, self.p.kernel[1] - q)
            self.b.tiled(
                form.taps,
                form.weight_rows,
                lambda t, k, q=q, columns=columns: self._tile(  # type: ignore[misc]
                    group, (o, tile), (t, k), (q, columns), v, first, count
                ),
            )

    def _tile(
        self,
        group: Int,
        outputs: tuple[Int, int],
        taps: tuple[Int, int],
        columns: tuple[int, int],
        v: int,
        first: Int,
        count: Int,
    ) -> None:
        b, p, form = self.b, self.p, self.form
        (o, many), (t, rows), (q, wide) = outputs, taps, columns
        which = list(itertools.product(range(many), range(rows), range(wide)))

        def sample(n: Int, totals: list[Value]) -> list[Value]:
            dy = b.at(self.dy, b.mul(b.add(b.mul(o, _CHUNK), n), b.width))
            ups = [b.load(dy, j * _CHUNK * b.width) for j in range(many)]
            x = b.at(self.x, b.mul(b.add(b.mul(t, _CHUNK), n), form.pitch))
            sources = {
                (r, i): b.load(
                    x, r * _CHUNK * form.pitch + (q + i) * p.dilation + v * b.width, align=4
                )
                for r in range(rows)
                for i in range(wide)
            }
            return [
                b.accumulate(total, ups[j], sources[r, i])
                for total, (j, r, i) in zip(totals, which, strict=True)
            ]

        totals = b.loop(0, count, sample, [b.zero] * len(which))
        fresh = b.compare("eq", first, 0)
        row, part = b.mul(self.a["part"], p.columns), self.vectors_of(v)
        whole = b.add(b.mul(group, p.in_group[0]), o)
        for total, (j, r, i) in zip(totals, which, strict=True):
            at = b.add(self.weight_at(b.add(whole, j), b.add(t, r), q + i), row)
            place = b.at(self.a["dw"], at)
            old = b.load_part(place, v * b.width, part)
            old = b.let(f"select i1 {fresh}, {b.vector} {b.zero}, {b.vector} {old}")
            b.store_part(b.fadd(old, total), place, v * b.width, part)
