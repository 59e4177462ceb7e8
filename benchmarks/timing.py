"""Timing side by side: every contender in turn, many short rounds, medians.

A round gives each contender one turn: a short pause (the threads of the one before it stop
spinning), a call that is not timed (caches and threads warm up), then the timed calls. So a busy
neighbour or a changing clock meets all contenders alike. The order turns by one each round.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_PAUSE = 0.01


@dataclass(frozen=True)
class Timed:
    """Seconds a unit (a step, a batch) of one contender: median, fastest, number of rounds."""

    median: float
    fastest: float
    rounds: int


def interleave(
    contenders: Mapping[str, tuple[Callable[[], object], int]],
    rounds: int,
    peak: Callable[[], float] | None = None,
) -> tuple[dict[str, Timed], float]:
    """Time contenders side by side.

    Args:
        contenders: for each name, what a turn calls and how many units that does.
        rounds: turns of each.
        peak: measures the machine's speed of multiply-adds once a round.
    Returns:
        The times a unit, and the median peak in GFLOP/s (0 without).
    """
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    peaks: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            for k in range(len(names)):
                name = names[(k + turn) % len(names)]
                call, units = contenders[name]
                time.sleep(_PAUSE)
                call()
                start = time.perf_counter()
                call()
                samples[name].append((time.perf_counter() - start) / units)
            if peak is not None:
                time.sleep(_PAUSE)
                peaks.append(peak())
    finally:
        gc.enable()
    timed = {n: Timed(statistics.median(s), min(s), rounds) for n, s in samples.items()}
    return timed, statistics.median(peaks) if peaks else 0.0


def repeated(call: Callable[[], object], target: float = 0.01, most: int = 200) -> int:
    """How many calls fill about `target` seconds."""
    call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    return max(1, min(most, round(target / max(once, 1e-7))))


def times(call: Callable[[], object], count: int) -> Callable[[], None]:
    """A function that calls `count` times."""

    def run() -> None:
        for _ in range(count):
            call()

    return run
