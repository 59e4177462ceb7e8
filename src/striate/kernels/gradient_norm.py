"""The norm of all gradients of a step: sums of squares of stretches, and the root of their sum.

Each stretch is summed in one order, and the stretches in theirs, so that the norm does not depend
on the number of threads.
"""

from __future__ import annotations

import functools

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel


@functools.lru_cache(maxsize=64)
def square_sum(target: Target, rest: int = 0) -> Kernel:
    """out[0] = Σ source² over so many vectors and `rest` more floats; out, source, vectors."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, count = arguments

        def one(i: Int, carry: list[Value]) -> list[Value]:
            value = b.load(source, b.mul(i, b.width))
            return [b.fma(value, value, carry[0])]

        (total,) = b.loop(0, count, one, [b.zero])
        if rest:
            value = b.load_part(source, b.mul(count, b.width), rest)
            total = b.fma(value, value, total)
        b.store_float(_over_lanes(b, total), out)

    return make_kernel(target, "square_sum", ["out", "source", "count:i64"], build)


@functools.lru_cache(maxsize=64)
def root_of_sum(target: Target, count: int) -> Kernel:
    """out[0] = √Σ source over `count` floats; arguments out, source."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source = arguments
        whole = count // b.width

        def one(i: Int, carry: list[Value]) -> list[Value]:
            return [b.fadd(carry[0], b.load(source, b.mul(i, b.width)))]

        (total,) = b.loop(0, whole, one, [b.zero])
        if count % b.width:
            total = b.fadd(total, b.load_part(source, whole * b.width, count % b.width))
        b.declare("declare float @llvm.sqrt.f32(float)")
        root = b.let(f"call float @llvm.sqrt.f32(float {_over_lanes(b, total)})")
        b.store_float(root, out)

    return make_kernel(target, "root_of_sum", ["out", "source"], build)


def _over_lanes(b: Builder, vector: Value) -> Value:
    total = b.extract(vector, 0)
    for lane in range(1, b.width):
        total = b.let(f"fadd float {total}, {b.extract(vector, lane)}")
    return total
