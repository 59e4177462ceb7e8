"""Gradient of a convolution to its weights and bias, channels in lanes, the batch summed inside.

dw[ob, i, tap, lane] = Σ over samples, rows and columns of dy[ob, r, c, lane] · x[i, row, col].
A register tile holds output blocks × (source channels × kernel columns): vectors of gradients are
loaded, source elements broadcast. An image is walked in strips of rows that stay in the
cache while all tiles of some output blocks use them; between strips the sums lie in dw itself.
Layers of few channels on large images give items by cutting the rows into shares with partial
sums of their own, which a second step adds in a fixed order.

Not here: Winograd's way (winograd), one channel a group (depthwise), torch's layout (packing).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import make_kernel
from striate.kernels.routine import Buffer, Recipe, Routine, blocks, recipe
from striate.kernels.rows import prefetch
from striate.kernels.weight_tiles import (
    DirectWeight,
    WeightOptions,
    candidates,
    cut,
    default_options,
    flattened,
    jobs,
    pieces,
    source_blocks,
)
from striate.kernels.window import Run, Taps, runs, split

__all__ = [
    "DirectWeight",
    "WeightOptions",
    "bias_gradient",
    "candidates",
    "default_options",
    "weight_gradient",
]


_LINE = 64  # bytes of a cache line


@functools.lru_cache(maxsize=512)
def weight_gradient(
    target: Target, p: DirectWeight, options: WeightOptions | None = None
) -> Recipe:
    """The packed gradient to the weights, summed over the batch.

    dw[ob, i, tap, lane] = Σ dy[n, ob, r, c, lane] · x[n, i, row, col]

    Args:
        target: what to generate for.
        p: the sizes.
        options: how; by default what the cost model prefers.

    Returns:
        A routine: dw (output blocks, contracted / groups, taps, width), written, with anything
        in lanes beyond the last output; x, dy; samples, x_step, dy_step, part. With shares its
        first argument is the buffer "partial", and a second routine adds that up: dw, partial,
        part.
    """
    flat = flattened(p)
    chosen = options or default_options(target, p)
    shares = cut(len(flat.rows), chosen.shares)
    out = "dw" if len(shares) == 1 else "partial"
    names = [out, "x", "dy", "samples:i64", "x_step:i64", "dy_step:i64", "part:i64"]
    emitter = _WeightEmitter(target, flat, chosen, shares)
    kernel = make_kernel(target, "direct_weight", names, emitter.build)
    sums = Routine(kernel, -(-len(emitter.jobs) // emitter.jobs_each), 0)
    if len(shares) == 1:
        return recipe(sums)
    return Recipe(
        (sums, _shares_added(target, emitter.floats, len(shares))),
        (Buffer("partial", fixed=len(shares) * emitter.floats),),
    )


def _shares_added(target: Target, floats: int, shares: int) -> Routine:
    """dw[k] = Σ over shares of partial[share, k], in their order; parts are ranges of k."""
    parts = -(-floats * shares // (1 << 18))
    vectors = -(-floats // target.width // parts)

    def build(b: Builder, arguments: list[Value]) -> None:
        dw, partial, part = arguments
        start = b.mul(part, vectors * b.width)
        stop = b.minimum(b.add(start, vectors * b.width), floats)

        def some(at: Int, _: list[Value]) -> None:
            total = b.load(partial, at)
            for share in range(1, shares):
                total = b.fadd(total, b.load(partial, b.add(at, share * floats)))
            b.store(total, dw, at)

        b.loop(start, stop, some, step=b.width)

    kernel = make_kernel(target, "weight_shares", ["dw", "partial", "part:i64"], build)
    return Routine(kernel, parts, 0)


@dataclass(frozen=True)
class _Tile:
    """A register tile's part along the source: pairs (channel, kernel column) from a first lane."""

    lane: Int
    pairs: tuple[tuple[int, int], ...]

    @property
    def columns(self) -> set[int]:
        return {k for _, k in self.pairs}


class _WeightEmitter:
    """Emits the kernel: samples, strips, output tiles, source channels, kernel rows, positions."""

    def __init__(
        self,
        target: Target,
        p: DirectWeight,
        options: WeightOptions,
        shares: list[tuple[int, int]],
    ) -> None:
        width = target.width
        self.p, self.options = p, options
        self.jobs = jobs(target, p, options, len(shares))
        self.jobs_each = -(-len(self.jobs) // (3 * options.parts))  # several where they are tiny
        self.unit = 1 if p.plain else width  # floats from one source column to the next
        self.contracted = p.contracted // p.groups
        self.taps = p.kernel[0] * p.kernel[1]
        self.plane_x = p.source[0] * p.source[1]  # floats of one source channel
        self.plane_dy = len(p.rows) * len(p.cols) * width  # of one block of gradients
        self.per_group = -(-p.outputs // p.groups // width)  # output blocks
        self.floats = p.groups * self.per_group * self.contracted * self.taps * width  # of dw
        self.whole, self.rest = source_blocks(p, width)
        self.strips: list[tuple[int, int]] = []  # their rows
        self.strips_of: list[tuple[int, int]] = []  # of each share: first and last + 1
        for start, stop in shares:
            inside = pieces(stop - start, options.rows)
            self.strips_of.append((len(self.strips), len(self.strips) + len(inside)))
            self.strips += [(start + a, start + z) for a, z in inside]

    def build(self, b: Builder, arguments: list[Value]) -> None:
        """The body of the kernel."""
        self.b = b
        self.dw, self.x, self.dy, self.samples, self.x_step, self.dy_step, self.part = arguments
        self.starts, self.entries = self._row_tables()
        self._emit()

    def _row_tables(self) -> tuple[Value, Value]:
        """Where the entries of each (kernel row, strip) begin; entries: offsets in dy and x."""
        b, p = self.b, self.p
        starts, entries = [0], []
        for k in range(p.kernel[0]):
            for first, last in self.strips:
                for r in range(first, last):
                    for row in (row for kernel, row in p.rows[r] if kernel == k):
                        entries += [r * len(p.cols) * b.width, row * p.source[1] * self.unit]
                starts.append(len(entries) // 2)
        return b.table(starts), b.table(entries)

    # ---- the loops ----------------------------------------------------------------------------

    def _emit(self) -> None:
        b, count = self.b, len(self.jobs)
        group = self.contracted * self.plane_x
        fields = [
            [j.share * self.floats, *self.strips_of[j.share], j.group * group, *j.ranges]
            for j in self.jobs
        ]
        table = b.table([number for job in fields for number in job])
        # what is the same in all jobs is known now
        known = [
            numbers[0] if len({*numbers}) == 1 else None for numbers in zip(*fields, strict=True)
        ]

        def one(j: Int, _: list[Value]) -> None:
            here = b.at(table, b.mul(j, len(known)), 8)
            self._job([b.load_i64(here, k) if n is None else n for k, n in enumerate(known)])

        start = b.mul(self.part, self.jobs_each)
        stop = b.minimum(b.add(start, self.jobs_each), count)
        if self.jobs_each == 1:
            one(self.part, [])
        else:
            b.loop(start, stop, one)

    def _job(self, job: list[Int]) -> None:
        """All samples and strips of a job, given as the numbers of `_emit`."""
        b, most = self.b, self.options.samples
        first, last, outputs, rest = job[1], job[2], job[4:7], [job[0], job[3], *job[7:]]

        def some(n: Int, _: list[Value]) -> None:
            stop = n if most == 1 else b.minimum(b.add(n, most), self.samples)

            def strip(s: Int, _: list[Value]) -> None:
                again = b.minimum(b.add(n, b.sub(s, first)), 1)  # 0: nothing summed yet
                self._strip(outputs, rest, (n, stop), s, again)

            b.loop(first, last, strip)

        b.loop(0, self.samples, some, step=most)

    def _strip(
        self, blocks: list[Int], job: list[Int], samples: tuple[Int, Int], s: Int, again: Int
    ) -> None:
        """All output tiles of the job, for some samples of strip s."""
        b, (first, wide, narrow) = self.b, blocks
        widths = split(self.per_group, self.options.blocks)

        def tiles(start: Int, count: Int, outputs: int) -> None:
            def tile(t: Int, _: list[Value]) -> None:
                block = b.add(start, b.mul(t, outputs))
                self._sources(job, block, outputs, samples, s, again)

            b.loop(0, count, tile)

        tiles(first, wide, widths[0])
        if widths[-1] != widths[0]:
            tiles(b.add(first, b.mul(wide, widths[0])), narrow, widths[-1])

    def _sources(
        self, job: list[Int], block: Int, outputs: int, samples: tuple[Int, Int], s: Int, again: Int
    ) -> None:
        """Source blocks and kernel rows of the job for a tile of output blocks."""
        b, p = self.b, self.p
        share, offset, start, stop, tail, lane, last, k_start, k_stop = job
        x = b.at(self.x, offset)
        dy = b.at(self.dy, b.mul(block, self.plane_dy))
        dw = b.at(self.dw, b.add(share, b.mul(block, self.contracted * self.taps * b.width)))

        def source(c: Int, lanes: tuple[Int, Int], channels: int) -> None:
            here = b.at(x, b.mul(c, self.plane_x * b.width))
            there = b.at(dw, b.mul(c, b.width * self.taps * b.width))

            def kernel_row(k: Int, _: list[Value]) -> None:
                at = b.add(b.mul(k, len(self.strips)), s)
                rows = (b.load_i64(self.starts, at), b.load_i64(self.starts, b.add(at, 1)))
                out = b.at(there, b.mul(k, p.kernel[1] * b.width))

                def tile(tile: _Tile) -> None:
                    self._tile(tile, outputs, samples, rows, again, (out, here, dy))

                self._source_tiles(lanes, channels, tile)

            b.loop(k_start, k_stop, kernel_row)

        if self.whole:
            b.loop(start, stop, lambda c, _: source(c, (lane, last), b.width))
        if self.rest:
            b.loop(0, tail, lambda c, _: source(self.whole, (0, self.rest), self.rest))

    def _source_tiles(
        self, lanes: tuple[Int, Int], channels: int, body: Callable[[_Tile], None]
    ) -> None:
        """Run `body` for the tiles that source channels × kernel columns are cut into."""
        b, p, options = self.b, self.p, self.options
        if p.plain:
            pairs = [(i, k) for i in range(self.contracted) for k in range(p.kernel[1])]
            for a, z in pieces(len(pairs), options.channels * options.columns):
                body(_Tile(0, tuple(pairs[a:z])))
            return
        kernel_columns = pieces(p.kernel[1], options.columns)

        def some(lane: Int, count: int) -> None:
            for a, z in kernel_columns:
                body(_Tile(lane, tuple((i, k) for i in range(count) for k in range(a, z))))

        step = options.channels
        if channels == b.width:
            b.loop(lanes[0], lanes[1], lambda lane, _: some(lane, step), step=step)
        else:
            b.tiled(channels, step, some)

    # ---- a register tile ----------------------------------------------------------------------

    def _tile(
        self,
        tile: _Tile,
        outputs: int,
        samples: tuple[Int, Int],
        rows: tuple[Int, Int],
        again: Int,
        pointers: tuple[Value, Value, Value],
    ) -> None:
        """Add the strip's positions to the sums of a tile: outputs × pairs."""
        b = self.b
        dw, x, dy = pointers
        dw = b.at(dw, b.mul(tile.lane, self.taps * b.width))
        x = b.at(x, tile.lane)
        plane = self.contracted * self.taps * b.width
        places = [
            o * plane + (i * self.taps + k) * b.width for o in range(outputs) for i, k in tile.pairs
        ]

        def kept(_: Int, sums: list[Value]) -> list[Value]:
            return [b.load(dw, at) for at in places]

        sums = b.loop(0, again, kept, [b.zero] * len(places))

        def sample(n: Int, sums: list[Value]) -> list[Value]:
            x_n, dy_n = b.at(x, b.mul(n, self.x_step)), b.at(dy, b.mul(n, self.dy_step))

            def row(e: Int, sums: list[Value]) -> list[Value]:
                pair = b.at(self.entries, b.mul(e, 2), 8)
                line, out = b.at(x_n, b.load_i64(pair, 1)), b.at(dy_n, b.load_i64(pair))
                return self._columns(tile, outputs, line, out, sums)

            return b.loop(rows[0], rows[1], row, sums)

        n, last = samples
        sums = sample(n, sums) if self.options.samples == 1 else b.loop(n, last, sample, sums)
        for at, total in zip(places, sums, strict=True):
            b.store(total, dw, at)

    def _columns(
        self, tile: _Tile, outputs: int, line: Value, out: Value, sums: list[Value]
    ) -> list[Value]:
        """Add the positions of one row."""
        b = self.b
        for run in _column_runs(self.p.cols, frozenset(tile.columns), self.options.unroll):

            def some(t: Int, sums: list[Value], run: Run = run) -> list[Value]:
                x = b.at(line, b.mul(b.add(b.mul(t, run.advance), run.base), self.unit))
                dy = b.at(out, b.mul(b.add(b.mul(t, run.width), run.first), b.width))
                sums = list(sums)
                for j, met in enumerate(run.pattern):
                    self._prefetch(outputs, dy, j)
                    self._position(tile, outputs, x, dy, j, dict(met), sums)
                return sums

            if any(run.pattern):
                sums = b.loop(0, run.count, some, sums)
        return sums

    def _prefetch(self, outputs: int, dy: Value, j: int) -> None:
        """Once a cache line, ask for the gradients some positions on."""
        b, ahead = self.b, self.options.ahead
        if ahead and j * b.width * 4 % _LINE == 0:
            for o in range(outputs):
                prefetch(b, dy, o * self.plane_dy + (j + ahead) * b.width)

    def _position(
        self,
        tile: _Tile,
        outputs: int,
        x: Value,
        dy: Value,
        j: int,
        met: dict[int, int],
        sums: list[Value],
    ) -> None:
        """One position: its gradients times the source elements that it met."""
        b = self.b
        b.fence()
        gradients = [b.load(dy, o * self.plane_dy + j * b.width) for o in range(outputs)]
        step = self.plane_x if self.p.plain else 1
        for at, (i, k) in enumerate(tile.pairs):
            if k not in met:
                continue
            b.fence()
            value = b.broadcast(x, i * step + met[k] * self.unit)
            for o in range(outputs):
                place = o * len(tile.pairs) + at
                sums[place] = b.accumulate(sums[place], value, gradients[o])


@functools.lru_cache(maxsize=256)
def _column_runs(cols: Taps, columns: frozenset[int], unroll: int) -> list[Run]:
    """The columns of dy as far as some kernel columns meet them; alike neighbours in loops."""
    met = tuple(tuple((k, col) for k, col in pairs if k in columns) for pairs in cols)
    widths: list[int] = []
    start = 0
    while start < len(met):
        stop = start + 1
        while stop < len(met) and _alike(met[start], met[stop]):
            stop += 1
        even = [n for n in range(unroll, unroll // 2, -1) if (stop - start) % n == 0]
        widths += split(stop - start, even[0] if even else unroll)
        start = stop
    return runs(met, widths)


def _alike(a: tuple[tuple[int, int], ...], z: tuple[tuple[int, int], ...]) -> bool:
    """Whether two columns meet the same kernel columns."""
    return [k for k, _ in a] == [k for k, _ in z]


# Memory is read fastest at some places at once. What is left of an image fits into the sums.
_STREAMS, _CHAINS = 4, 2  # places; sums for each of them


@functools.lru_cache(maxsize=256)
def bias_gradient(target: Target, channels: int, positions: int) -> Recipe:
    """The gradient to a bias, summed over the batch.

    db[o] = Σ over samples and positions of dy[n, o, position]

    Args:
        target: what to generate for.
        channels: of dy.
        positions: rows · columns of dy.

    Returns:
        One routine: db (channels, up to whole vectors; anything beyond the last), dy; samples,
        dy_step, part (a block of channels).
    """
    stretch = positions // (_STREAMS * _CHAINS) * _CHAINS

    def build(b: Builder, arguments: list[Value]) -> None:
        db, dy, samples, dy_step, part = arguments
        block = b.at(dy, b.mul(part, positions * b.width))

        def sample(n: Int, total: list[Value]) -> list[Value]:
            here = b.at(block, b.mul(n, dy_step))

            def some(at: Int, sums: list[Value]) -> list[Value]:
                start = b.at(here, b.mul(at, b.width))
                places = [s * stretch + k for k in range(_CHAINS) for s in range(_STREAMS)]
                loads = [b.load(start, place * b.width) for place in places]
                return [b.fadd(a, z) for a, z in zip(sums, loads, strict=True)]

            sums = b.loop(0, stretch, some, [b.zero] * (_STREAMS * _CHAINS), step=_CHAINS)
            for k, place in enumerate(range(_STREAMS * stretch, positions)):
                sums[k] = b.fadd(sums[k], b.load(here, place * b.width))
            while len(sums) > 1:
                pairs = zip(sums[::2], sums[1::2], strict=True)
                sums = [b.fadd(a, z) for a, z in pairs]
            return [b.fadd(total[0], sums[0])]

        total = b.loop(0, samples, sample, [b.zero])
        b.store(total[0], db, b.mul(part, b.width))

    names = ["db", "dy", "samples:i64", "dy_step:i64", "part:i64"]
    kernel = make_kernel(target, "bias_gradient_blocks", names, build)
    return recipe(Routine(kernel, blocks(channels, target), 0))
