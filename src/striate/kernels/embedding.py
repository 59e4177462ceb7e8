"""A table looked up with the batch in lanes: each lane reads, and adds to, rows of its own.

Rows are read whole, one for each lane, and turned by transposing blocks of width × width.
"""

from __future__ import annotations

import functools

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel


@functools.lru_cache(maxsize=64)
def embedding(target: Target, numbers: int, rows: int, dim: int) -> Kernel:
    """y[k, d, lane] = w[x[k, lane], d]; NaN where the number counts no row.

    Args:
        target: the CPU.
        numbers: looked up in each sample.
        rows, dim: of the table.

    Returns:
        Kernel of y (numbers, dim, width), x (numbers, width) and w (rows, dim).
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x, w = arguments

        def one(k: Int, _: list[Value]) -> None:
            known, row = _row_of(b, b.load(x, b.mul(k, b.width)), rows)
            lanes = [b.at(w, b.mul(_lane(b, row, lane), dim)) for lane in range(b.width)]
            out = b.at(y, b.mul(k, dim * b.width))

            def block(d: Int, count: int) -> None:
                columns = b.transpose([b.load_part(lane, d, count) for lane in lanes])
                for c in range(count):
                    found = b.select(known, columns[c], b.const(float("nan")))
                    b.store(found, out, b.mul(b.add(d, c), b.width))

            b.tiled(dim, b.width, block)

        b.loop(0, numbers, one)

    return make_kernel(target, "embedding", ["y", "x", "w"], build)


@functools.lru_cache(maxsize=64)
def embedding_gradient(target: Target, numbers: int, rows: int, dim: int, padding: int) -> Kernel:
    """dw[x[k, lane], d] += dy[k, d, lane], lane after lane; the row `padding` (−1: none) is left.

    Args:
        target: the CPU.
        numbers: looked up in each sample.
        rows, dim: of the table.
        padding: the row that has no gradient.

    Returns:
        Kernel of dw (rows, dim), changed in place; dy (numbers, dim, width) and x (numbers, width).
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        dw, dy, x = arguments

        def one(k: Int, _: list[Value]) -> None:
            found = b.load(x, b.mul(k, b.width))
            known, row = _row_of(b, found, rows)
            if padding >= 0:
                known = b.bitwise("and", known, b.fcmp("one", found, b.const(padding)))
            lanes = [b.at(dw, b.mul(_lane(b, row, lane), dim)) for lane in range(b.width)]
            slope = b.at(dy, b.mul(k, dim * b.width))

            def block(d: Int, count: int) -> None:
                columns = [b.load(slope, b.mul(b.add(d, c), b.width)) for c in range(count)]
                kept = [b.select(known, column, b.zero) for column in columns]
                parts = b.transpose(kept + [b.zero] * (b.width - count))
                for lane, part in zip(lanes, parts, strict=True):
                    # Lanes may name one row, so each is read after the one before is stored.
                    b.store_part(b.fadd(b.load_part(lane, d, count), part), lane, d, count)

            b.tiled(dim, b.width, block)

        b.loop(0, numbers, one)

    return make_kernel(target, "embedding_gradient", ["dw", "dy", "x"], build)


def _row_of(b: Builder, x: Value, rows: int) -> tuple[Value, Value]:
    """In which lanes the number counts a row, and the row (0 in the others)."""
    inside = b.bitwise("and", b.fcmp("oge", x, b.zero), b.fcmp("olt", x, b.const(rows)))
    safe = b.select(inside, x, b.zero)
    row = b.let(f"fptosi {b.vector} {safe} to {b.integers}")
    whole = b.fcmp("oeq", b.let(f"sitofp {b.integers} {row} to {b.vector}"), x)
    return b.bitwise("and", inside, whole), row


def _lane(b: Builder, row: Value, lane: int) -> Value:
    word = b.let(f"extractelement {b.integers} {row}, i32 {lane}")
    return b.let(f"zext i32 {word} to i64")


@functools.lru_cache(maxsize=64)
def embedding_rows_gradient(
    target: Target, numbers: int, rows: int, dim: int, padding: int
) -> Kernel:
    """dw[x[n, k], d] = Σ dy[n, k, d] over a whole batch of rows, sample after sample.

    Args:
        target: the CPU.
        numbers: looked up in each sample.
        rows, dim: of the table.
        padding: the row that has no gradient.

    Returns:
        Kernel of out (rows, dim), all of it written; upstream and x, the first sample's, the
        floats from a sample to the next of both, and samples.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        out, upstream, x, upstream_step, x_step, samples = arguments
        b.loop(0, rows * dim, lambda k, _: b.store_float("0.0", out, k))

        def sample(n: Int, _: list[Value]) -> None:
            slope, found = b.at(upstream, b.mul(n, upstream_step)), b.at(x, b.mul(n, x_step))

            def one(k: Int, _: list[Value]) -> None:
                add_row(b.at(slope, b.mul(k, dim)), b.broadcast(found, k))

            b.loop(0, numbers, one)

        def add_row(slope: Value, number: Value) -> None:
            known, row = _row_of(b, number, rows)
            if padding >= 0:
                known = b.bitwise("and", known, b.fcmp("one", number, b.const(padding)))
            there = b.at(out, b.mul(_lane(b, row, 0), dim))

            def add(d: Int, count: int) -> None:
                part = b.select(known, b.load_part(slope, d, count), b.zero)
                b.store_part(b.fadd(b.load_part(there, d, count), part), there, d, count)

            b.tiled(dim, b.width, add)

        b.loop(0, samples, sample)

    names = ["out", "upstream", "x", "upstream_step:i64", "x_step:i64", "samples:i64"]
    return make_kernel(target, "embedding_rows_gradient", names, build)
