"""Kernels that only multiply and add, copy or read: what a CPU can do, not what a network needs."""

from __future__ import annotations

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel

UNROLL = 8


def accumulators(target: Target) -> int:
    """How many sums hide the latency of a multiply-add without leaving the registers."""
    return target.registers - 4 if target.registers <= 16 else 20


def fma_kernel(target: Target) -> Kernel:
    """Rounds of independent multiply-adds: arguments numbers (two vectors), out, rounds:i64."""
    count = accumulators(target)

    def build(b: Builder, arguments: list[Value]) -> None:
        numbers, out, rounds = arguments
        factor, term = b.load(numbers), b.load(numbers, b.width)

        def one(_: Int, sums: list[Value]) -> list[Value]:
            for _unrolled in range(UNROLL):
                sums = [b.fma(s, factor, term) for s in sums]
            return sums

        total = b.loop(0, rounds, one, [term] * count)
        result = total[0]
        for value in total[1:]:
            result = b.fadd(result, value)
        b.store(result, out)

    return make_kernel(target, "peak", ["numbers", "out", "rounds:i64"], build)


def copy_kernel(target: Target) -> Kernel:
    """Copies rounds × eight vectors, several times: arguments to, from, rounds:i64, times:i64."""

    def build(b: Builder, arguments: list[Value]) -> None:
        to, source, rounds, times = arguments
        step = UNROLL * b.width

        def some(k: Int, _: list[Value]) -> None:
            at = b.mul(k, step)
            for vector in range(UNROLL):
                here = b.add(at, vector * b.width)
                b.store(b.load(source, here), to, here)

        b.loop(0, times, lambda _, __: b.loop(0, rounds, some))

    return make_kernel(target, "copy", ["to", "from", "rounds:i64", "times:i64"], build)


def read_kernel(target: Target) -> Kernel:
    """Adds up rounds × eight vectors, several times: arguments out, from, rounds:i64, times:i64."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, rounds, times = arguments
        step = UNROLL * b.width

        def some(k: Int, sums: list[Value]) -> list[Value]:
            at = b.mul(k, step)
            places = [b.add(at, vector * b.width) for vector in range(UNROLL)]
            return [b.fadd(s, b.load(source, p)) for s, p in zip(sums, places, strict=True)]

        sums = b.loop(0, times, lambda _, s: b.loop(0, rounds, some, s), [b.zero] * UNROLL)
        for vector, total in enumerate(sums):
            b.store(total, out, vector * b.width)

    return make_kernel(target, "read", ["out", "from", "rounds:i64", "times:i64"], build)
