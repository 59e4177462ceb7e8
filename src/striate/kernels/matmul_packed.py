"""Fully connected layers on rows, for inference: y = x wᵀ + b with weights packed once.

The weights lie as `packing.Packing(outputs, inputs)` packs them, so that lanes are outputs: a
register tile holds 2 blocks of outputs × some samples, reads two vectors of weights an input and
broadcasts the samples' numbers; no lanes are added up. Many samples go by a panel of weights that
stays in the cache; few of them are bound by reading the weights, which are then streamed.

Layers whose weights change from step to step, and all gradients, are in matmul.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Tail, make_kernel
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.kernels.rows import each, even_chunk, prefetch, row_names, take_rows

_BLOCKS = 2  # of outputs in a register tile
_UNROLL = 4  # inputs of one trip of the inner loop


@dataclass(frozen=True)
class PackedOptions:
    """How the kernel is cut; 0: by the sizes.

    Attributes:
        chunk: inputs of a panel of weights.
        pairs: pairs of blocks of outputs of a part.
        group: samples of an item, at most.
        ahead: floats between a weight that is read and one that is asked for.
    """

    chunk: int = 256
    pairs: int = 0
    group: int = 192
    ahead: int = 512


def linear_packed(
    target: Target,
    outputs: int,
    inputs: int,
    bias: bool,
    tail: Tail | None = None,
    batch: int = 64,
    options: PackedOptions | None = None,
) -> Recipe:
    """y[n, o] = tail(b[o] + Σ x[n, k] · w[o, k]).

    Args:
        target: the CPU.
        outputs: features of y.
        inputs: features of x; no float beyond them is read.
        bias: whether there is one, padded to whole vectors.
        tail: fused into the store.
        batch: samples that are expected; any number of them is right.
        options: how the work is cut.

    Returns:
        Recipe of out, source, weight (packed), [bias], the tail's arguments.
    """
    o = options or PackedOptions()
    chunk = even_chunk(inputs, o.chunk, 16)
    pairs = o.pairs or _pairs_of_part(target, outputs, inputs, min(batch, o.group))
    sizes = _Sizes(outputs, inputs, chunk, pairs)

    def build(b: Builder, arguments: list[Value]) -> None:
        _Packed(b, arguments, sizes, bias, tail, o).emit()

    names = ["out", "source", "weight", *(["bias"] if bias else []), *row_names(tail)]
    names += ["source_step:i64", "samples:i64", "scratch", "part:i64"]
    kernel = make_kernel(target, "linear_packed", names, build)
    columns = pairs * _BLOCKS * target.width
    parts = -(-blocks(outputs, target) // (pairs * _BLOCKS))
    main = Routine(kernel, parts, o.group, (o.group + 1) * columns, samples_first=True)
    return recipe(main)


def _pairs_of_part(target: Target, outputs: int, inputs: int, batch: int) -> int:
    """Enough work for a part, and not more parts than 64 threads need."""
    all_pairs = -(-blocks(outputs, target) // _BLOCKS)
    work = _BLOCKS * target.width * inputs * max(batch, 12)  # few samples wait for their weights
    return min(max(-(-all_pairs // 64), -(-(1 << 20) // work)), all_pairs)


def _breadth(target: Target) -> int:
    """Samples of a register tile: what is left beside its weights, and a factor (and product)."""
    spare = _BLOCKS + (1 if target.fma else 4)
    return (target.registers - spare) // _BLOCKS


@dataclass(frozen=True)
class _Sizes:
    outputs: int
    inputs: int
    chunk: int
    pairs: int


class _Packed:
    """Chunks of inputs outside, then pairs of blocks of outputs, tiles of samples, inputs."""

    def __init__(
        self,
        b: Builder,
        arguments: list[Value],
        sizes: _Sizes,
        bias: bool,
        tail: Tail | None,
        options: PackedOptions,
    ) -> None:
        out, self.source, self.weight, *rest = arguments
        self.b, self.sizes, self.options = b, sizes, options
        self.bias = rest.pop(0) if bias else None
        self.target = take_rows(b, tail, out, rest)
        self.row, self.samples, self.zeros, part = rest
        self.columns = sizes.pairs * _BLOCKS * b.width  # of a sample's sums
        self.sums = b.at(self.zeros, self.columns)
        self.panel_row = sizes.inputs * b.width  # floats of a block's weights
        self.first = b.mul(part, sizes.pairs * _BLOCKS)  # block
        all_blocks = blocks(sizes.outputs, b.target)
        self.count = b.minimum(sizes.pairs * _BLOCKS, b.sub(all_blocks, self.first))
        self.odd = all_blocks % _BLOCKS == 1
        breadth = _breadth(b.target)
        few = tuple(range(min(breadth, 6), 0, -1)) if breadth <= 6 else (8, 4, 2, 1)
        self.tiles = tuple(dict.fromkeys((breadth, *few)))

    def emit(self) -> None:
        b, s = self.b, self.sizes
        vectors = b.mul(self.count, b.width)
        start = self.zeros
        if self.bias is None:
            b.loop(0, vectors, lambda c, _: b.store(b.zero, self.zeros, c), step=b.width)
        else:
            start = b.at(self.bias, b.mul(self.first, b.width))
        few = b.compare("sle", self.samples, self.tiles[0])  # no weight is read twice
        most = b.let(f"select i1 {few}, i64 {s.inputs}, i64 {s.chunk}")

        def chunk(k: Int, _: list[Value]) -> None:
            length = b.minimum(most, b.sub(s.inputs, k))
            first = b.compare("eq", k, 0)
            place = b.let(f"select i1 {first}, ptr {start}, ptr {self.sums}")
            step = b.let(f"select i1 {first}, i64 0, i64 {self.columns}")
            self._chunk(k, length, place, step)

        stop = b.let(f"select i1 {few}, i64 1, i64 {s.inputs}")
        b.loop(0, stop, chunk, step=s.chunk)
        self._finish(vectors)

    def _finish(self, vectors: Int) -> None:
        b = self.b
        first = b.mul(self.first, b.width)

        def row(n: Int) -> None:
            here = b.at(self.sums, b.mul(n, self.columns))

            def column(c: Int, _: list[Value]) -> None:
                self.target.store(n, b.add(first, c), b.load(here, c))

            b.loop(0, vectors, column, step=b.width)

        each(b, self.samples, row)

    def _chunk(self, k: Int, length: Int, start: Value, step: Value) -> None:
        """Sums of all pairs over inputs k … k + length; they begin at `start`, `step` a sample."""
        b = self.b
        source = b.at(self.source, k)
        weights = b.at(self.weight, b.add(b.mul(self.first, self.panel_row), b.mul(k, b.width)))

        def some(at: Int, count: int) -> None:
            panel = b.at(weights, b.mul(at, self.panel_row))
            column = b.mul(at, b.width)

            def tile(n: Int, samples: int) -> None:
                rows = b.at(source, b.mul(n, self.row))
                first = b.at(start, b.add(b.mul(n, step), column))
                sums = b.at(self.sums, b.add(b.mul(n, self.columns), column))
                values = [
                    b.load(first, b.add(b.mul(s, step), v * b.width))
                    for s in range(samples)
                    for v in range(count)
                ]
                values = self._products(panel, rows, length, values, samples, count)
                for number, value in enumerate(values):
                    s, v = divmod(number, count)
                    b.store(value, sums, s * self.columns + v * b.width)

            self._each_tile(tile)

        pairs = b.mul(b.divide(self.count, _BLOCKS), _BLOCKS)
        b.loop(0, pairs, lambda at, _: some(at, _BLOCKS), step=_BLOCKS)
        if self.odd:
            b.loop(pairs, self.count, lambda at, _: some(at, 1))

    def _each_tile(self, body: Callable[[Int, int], None]) -> None:
        b = self.b
        done: Int = 0
        for size in self.tiles:

            def tile(n: Int, _: list[Value], size: int = size) -> None:
                body(n, size)

            stop = b.add(done, b.mul(b.divide(b.sub(self.samples, done), size), size))
            b.loop(done, stop, tile, step=size)
            done = stop

    def _products(
        self,
        panel: Value,
        rows: Value,
        length: Int,
        sums: list[Value],
        samples: int,
        count: int,
    ) -> list[Value]:
        """sums[s, v] + Σ rows[s, k] · panel[v, k]: narrow tiles have several sums for each."""
        b = self.b
        widest = _BLOCKS * self.tiles[0]
        phases = max(p for p in (1, 2, 4) if p == 1 or p * len(sums) <= widest)
        pointers = [b.at(rows, b.mul(s, self.row)) for s in range(samples)]

        def step(k: Int, sums: list[Value]) -> list[Value]:
            b.fence()
            weights = b.at(panel, b.mul(k, b.width))
            values = [b.load(weights, v * self.panel_row) for v in range(count)]
            new: list[Value] = []
            for s, pointer in enumerate(pointers):
                b.fence()
                factor = b.broadcast(pointer, k)
                here = sums[s * count : (s + 1) * count]
                pairs = zip(here, values, strict=True)
                new += [b.accumulate(total, factor, w) for total, w in pairs]
            return new

        def some(k: Int, sums: list[Value]) -> list[Value]:
            for v in range(count):
                place = b.at(panel, b.add(b.mul(k, b.width), v * self.panel_row))
                for line in range(0, _UNROLL * b.width, 16):
                    prefetch(b, place, line + self.options.ahead)
            size = len(sums) // phases
            for u in range(_UNROLL):
                at = u % phases * size
                sums[at : at + size] = step(b.add(k, u), sums[at : at + size])
            return sums

        size = len(sums)
        sums = [*sums, *[b.zero] * (size * (phases - 1))]
        whole = b.mul(b.divide(length, _UNROLL), _UNROLL)
        sums = b.loop(0, whole, some, sums, step=_UNROLL)
        total = sums[:size]
        for at in range(size, len(sums), size):
            total = [b.fadd(x, y) for x, y in zip(total, sums[at : at + size], strict=True)]
        if self.sizes.inputs % _UNROLL:
            total = b.loop(whole, length, step, total)
        return total
