"""How fast this CPU multiplies and adds, measured by a loop of nothing else.

The loop is generated like every kernel of the package: as many independent accumulators as hide
the latency, no memory. With n threads, n such loops run at once and their speeds add up.
"""

from __future__ import annotations

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.compiler import load
from striate.codegen.targets import Target, current_target
from striate.kernels.kernel import Kernel, make_kernel

_UNROLL = 8


def _accumulators(target: Target) -> int:
    return target.registers - 4 if target.registers <= 16 else 20


def fma_kernel(target: Target) -> Kernel:
    """Rounds of independent multiply-adds: arguments numbers (two vectors), out, rounds:i64."""
    count = _accumulators(target)

    def build(b: Builder, arguments: list[Value]) -> None:
        numbers, out, rounds = arguments
        factor, term = b.load(numbers), b.load(numbers, b.width)

        def one(_: Int, sums: list[Value]) -> list[Value]:
            for _unrolled in range(_UNROLL):
                sums = [b.fma(s, factor, term) for s in sums]
            return sums

        total = b.loop(0, rounds, one, [term] * count)
        result = total[0]
        for value in total[1:]:
            result = b.fadd(result, value)
        b.store(result, out)

    return make_kernel(target, "peak", ["numbers", "out", "rounds:i64"], build)


class Peak:
    """Runs the loop on some threads; `run()` gives GFLOP/s (a multiply-add counts two)."""

    def __init__(self, threads: int, milliseconds: float = 10.0) -> None:
        target = current_target()
        kernel = fma_kernel(target)
        self._code = load([kernel.module], target)
        self._function = self._code.function(
            kernel.symbol, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
        )
        self._flops = 2 * target.width * _accumulators(target) * _UNROLL
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._memory = [_aligned(4 * target.width) for _ in range(threads)]
        for memory in self._memory:
            memory[: target.width] = 0.5  # x ← x/2 + 1 stays near 2: no overflow, no denormals
            memory[target.width : 2 * target.width] = 1.0
        self._out = 2 * 4 * target.width
        self._rounds = 1000
        speed = max(self._one(0) for _ in range(3))
        self._rounds = max(1000, int(milliseconds * 1e-3 * speed * 1e9 / self._flops))

    def _one(self, thread: int) -> float:
        at = self._memory[thread].ctypes.data
        start = time.perf_counter()
        self._function(at, at + self._out, self._rounds)
        return self._flops * self._rounds / (time.perf_counter() - start) / 1e9

    def run(self) -> float:
        """The sum of the threads' speeds, each over the same short while."""
        return sum(self._pool.map(self._one, range(self._threads)))


def _aligned(floats: int) -> np.ndarray:
    raw = np.zeros(4 * floats + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * floats].view(np.float32)
