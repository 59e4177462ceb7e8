"""What the kernels of fully connected layers share: register tiles, rows, copies into chunks.

Values are rows, one a sample, some step apart, with room for whole vectors. The products are in
matmul and matmul_gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Tail, make_kernel, store_with_tail
from striate.kernels.routine import Routine, whole_vectors

QUAD = 4  # rows of a register tile; a divisor of every vector width and of ROW_BLOCK


def tile_breadth(target: Target) -> int:
    """Vectors or samples beside the 4 rows of a register tile: as many as fit.

    Sums, the operands held and what LLVM wants beside them, as in `conv`.
    """
    spare = (1 if target.fma else 4) + (1 if target.registers == 32 else 0)
    return max(t for t in range(1, 9) if QUAD * t + min(QUAD, t) + spare <= target.registers)


# ---- pieces that several kernels are made of -----------------------------------------------------


def partial_load(b: Builder, pointer: Value, offset: Int, count: int, before: int) -> Value:
    """`count` floats from `offset` on, 0 in the lanes beyond; nothing behind them is read.

    `before` floats in front of them may be read as well.
    """
    if before + count >= b.width:
        back = b.width - count
        value = b.load(pointer, b.add(offset, -back), align=4)
        lanes = [back + k if k < count else b.width for k in range(b.width)]
        return b.shuffle(value, b.zero, lanes)
    value = b.zero
    for k in range(count):
        value = b.insert(value, b.load_float(pointer, b.add(offset, k)), k)
    return value


def prefetch(b: Builder, pointer: Value, offset: Int = 0, write: bool = False) -> None:
    """Ask for the cache line of an address, which need not be a valid one."""
    b.declare("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    place = b.at(pointer, offset)
    b.emit(f"call void @llvm.prefetch.p0(ptr {place}, i32 {int(write)}, i32 3, i32 1)")


def sample_tiles(b: Builder, samples: Int, most: int, body: Callable[[Int, int], None]) -> None:
    """Run body(first, count) over all samples: tiles of `most`, then of 2, then a single one.

    One sample over after tiles of an odd size makes two tiles of 2 instead.
    """
    whole = b.mul(b.divide(samples, most), most)
    if most % 2:
        alone = b.compare("eq", b.sub(samples, whole), 1)
        fewer = b.let(f"select i1 {alone}, i64 {most}, i64 0")
        less = b.sub(whole, fewer)
        some = b.compare("sgt", less, -1)
        whole = b.let(f"select i1 {some}, i64 {less}, i64 0")
    b.loop(0, whole, lambda n, _: body(n, most), step=most)
    if most > 2:
        pairs = b.add(whole, b.mul(b.divide(b.sub(samples, whole), 2), 2))
        b.loop(whole, pairs, lambda n, _: body(n, 2), step=2)
        whole = pairs
    if most > 1:
        b.loop(whole, samples, lambda n, _: body(n, 1))


def row_names(tail: Tail | None) -> list[str]:
    """The output's step, and the tail's arguments with theirs."""
    extras = list(tail.arguments) if tail else []
    return [*extras, "out_step:i64", *(f"{name}_step:i64" for name in extras)]


@dataclass
class Rows:
    """The output and the tail's values, all rows; `store` writes one vector of one row."""

    b: Builder
    tail: Tail | None
    out: Value
    out_step: Value
    rest: list[Value]
    steps: list[Value]

    def store(self, n: Int, column: Int, value: Value) -> None:
        b = self.b
        out = b.at(self.out, b.mul(n, self.out_step))
        pairs = zip(self.rest, self.steps, strict=True)
        rest = [b.at(pointer, b.mul(n, step)) for pointer, step in pairs]
        store_with_tail(b, self.tail, value, out, column, rest)


def take_rows(b: Builder, tail: Tail | None, out: Value, arguments: list[Value]) -> Rows:
    """Take what `row_names` names off the front of the arguments."""
    count = len(tail.arguments) if tail else 0
    rest = [arguments.pop(0) for _ in range(count)]
    step = arguments.pop(0)
    steps = [arguments.pop(0) for _ in range(count)]
    return Rows(b, tail, out, step, rest, steps)


def rank_one(
    b: Builder,
    row: Value,
    column: Value,
    places: Sequence[int],
    vectors: int,
    sums: list[Value],
    align: int | None = None,
) -> list[Value]:
    """sums[s, v] + column[places[s]] · row[v]: the row's vectors are held."""
    b.fence()
    sums = list(sums)
    values = [b.load(row, v * b.width, align) for v in range(vectors)]
    for s, place in enumerate(places):
        b.fence()
        factor = b.broadcast(column, place)
        for v, value in enumerate(values):
            sums[s * vectors + v] = b.accumulate(sums[s * vectors + v], factor, value)
    return sums


def even_chunk(floats: int, most: int, unit: int) -> int:
    """Chunks of equal size, whole units."""
    chunks = -(-floats // most)
    size = -(-floats // chunks)
    return -(-size // unit) * unit


# ---- copies into chunks and panels ---------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def row_chunks(
    target: Target, buffer: str, source: str, floats: int, chunk: int, group: int
) -> Routine:
    """buffer[c, n, k] = source[n, c·chunk + k]; zeros beyond `floats`.

    An item copies some chunks of `group` samples (0: of all), which lie next to each other.
    """
    many = max(1, 1024 // chunk)
    columns = Columns(floats, chunk, many)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, rows, step, samples, part = arguments

        def copy(n: Int, c: Int, length: int) -> None:
            start = b.mul(c, chunk)
            row = b.at(rows, b.add(b.mul(n, step), start))
            place = b.at(out, b.add(b.mul(start, samples), b.mul(n, chunk)))
            whole = length // b.width * b.width
            b.loop(0, whole, lambda k, _: b.store(b.load(row, k, align=4), place, k), step=b.width)
            if whole < length:
                before = floats - length + whole
                b.store(partial_load(b, row, whole, length - whole, before), place, whole)
            for k in range(whole_vectors(length, target), chunk, b.width):
                b.store(b.zero, place, k)

        each(b, samples, lambda n: columns.emit(b, part, lambda c, length: copy(n, c, length)))

    names = [buffer, source, f"{source}_step:i64", "samples:i64", "part:i64"]
    kernel = make_kernel(target, "row_chunks", names, build)
    return Routine(kernel, parts=columns.parts, samples=group)


@dataclass(frozen=True)
class Columns:
    """`count` columns in tiles of `size`, the last one maybe narrower, `many` tiles a part."""

    count: int
    size: int
    many: int

    @property
    def tiles(self) -> int:
        return -(-self.count // self.size)

    @property
    def parts(self) -> int:
        return -(-self.tiles // self.many)

    def emit(self, b: Builder, part: Int, body: Callable[[Int, int], None]) -> None:
        """Run body(tile, its columns) for the tiles of a part."""
        first = b.mul(part, self.many)
        stop = b.minimum(b.add(first, self.many), self.tiles)
        whole = b.minimum(stop, self.count // self.size)
        b.loop(first, whole, lambda t, _: body(t, self.size))
        if self.count % self.size:
            b.loop(whole, stop, lambda t, _: body(t, self.count % self.size))


def each(b: Builder, count: Int, body: Callable[[Int], None]) -> None:
    b.loop(0, count, lambda n, _: body(n))
