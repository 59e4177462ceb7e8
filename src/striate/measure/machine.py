"""How fast this CPU multiplies and adds, and moves memory, measured by loops of nothing else.

The loops are generated like every kernel of the package. The one that multiplies and adds has as
many independent accumulators as hide the latency, and no memory. With n threads, n loops run at
once and their speeds add up.
"""

from __future__ import annotations

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor

from striate.codegen.compiler import load
from striate.codegen.targets import current_target
from striate.kernels.probe import UNROLL, accumulators, copy_kernel, fma_kernel, read_kernel
from striate.program.arrays import address_of, aligned_zeros


class Peak:
    """Runs the loop on some threads; `run()` gives GFLOP/s (a multiply-add counts two)."""

    def __init__(self, threads: int, milliseconds: float = 10.0) -> None:
        target = current_target()
        kernel = fma_kernel(target)
        self._code = load([kernel.module], target)
        self._function = self._code.function(
            kernel.symbol, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
        )
        self._flops = 2 * target.width * accumulators(target) * UNROLL
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._memory = [aligned_zeros(4 * target.width) for _ in range(threads)]
        for memory in self._memory:
            memory[: target.width] = 0.5  # x ← x/2 + 1 stays near 2: no overflow, no denormals
            memory[target.width : 2 * target.width] = 1.0
        self._out = 2 * 4 * target.width
        self._rounds = 1000
        speed = max(self._one(0) for _ in range(3))
        self._rounds = max(1000, int(milliseconds * 1e-3 * speed * 1e9 / self._flops))

    def _one(self, thread: int) -> float:
        at = address_of(self._memory[thread])
        start = time.perf_counter()
        self._function(at, at + self._out, self._rounds)
        return self._flops * self._rounds / (time.perf_counter() - start) / 1e9

    def run(self) -> float:
        """The sum of the threads' speeds, each over the same short while."""
        return sum(self._pool.map(self._one, range(self._threads)))


class Copy:
    """Copies memory on some threads; `run()` gives 10⁹ bytes read and written a second.

    Args:
        threads: how many, each with its share of the memory.
        size: bytes that are read and written in all; in a cache if they fit there.
        reading: only read, and add up.
    """

    _LEAST = 2**13  # bytes a thread

    def __init__(self, threads: int, size: int, reading: bool = False) -> None:
        target = current_target()
        kernel = (read_kernel if reading else copy_kernel)(target)
        self._code = load([kernel.module], target)
        self._function = self._code.function(
            kernel.symbol, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
        )
        block = 4 * target.width * UNROLL
        share = max(size // threads, self._LEAST)
        self._rounds = max(1, share // block // (1 if reading else 2))
        self._bytes = self._rounds * block * (1 if reading else 2)
        floats = self._rounds * block // 4
        self._from = [aligned_zeros(floats) for _ in range(threads)]
        self._to = [aligned_zeros(block // 4 if reading else floats) for _ in range(threads)]
        self._threads, self._pool = threads, ThreadPoolExecutor(threads)
        self._repeats = max(1, 2**25 // self._bytes)

    def _one(self, thread: int) -> float:
        to, source = address_of(self._to[thread]), address_of(self._from[thread])
        self._function(to, source, self._rounds, 1)
        start = time.perf_counter()
        self._function(to, source, self._rounds, self._repeats)
        return self._bytes * self._repeats / (time.perf_counter() - start) / 1e9

    def run(self) -> float:
        """The sum of the threads' speeds."""
        return sum(self._pool.map(self._one, range(self._threads)))


def memory_speed(threads: int, megabytes: float = 256) -> dict[str, float]:
    """10⁹ bytes a second: read and copied far beyond the caches, copied in a cache; the best."""
    far, near = int(megabytes * 10**6), 2**18
    cases = {"read": (far, True), "copy": (far, False), "cache copy": (near, False)}
    return {
        name: max(Copy(threads, size, reading).run() for _ in range(3))
        for name, (size, reading) in cases.items()
    }
