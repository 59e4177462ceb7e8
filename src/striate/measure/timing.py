"""Timing side by side: every contender in turn, many short rounds, medians.

A round gives each contender one turn: a short pause (the threads of the one before it stop
spinning), a call that is not timed (caches and threads warm up; left out where a call is long),
then the timed calls. So a busy neighbour or a changing clock meets all contenders alike. The order
turns by one each round.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_PAUSE = 0.01
_LONG = 0.3  # seconds of a call that needs none before it to warm up


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
    seconds: float = math.inf,
    least: int = 5,
) -> tuple[dict[str, Timed], float]:
    """Time contenders side by side.

    Args:
        contenders: for each name, what a turn calls and how many units that does.
        rounds: turns of each, at most.
        peak: measures the machine's speed of multiply-adds once a round.
        seconds: after which no further round is begun, but for the first `least`.
        least: see there.
    Returns:
        The times a unit, and the median peak in GFLOP/s (0 without).
    """
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    peaks: list[float] = []
    end = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            if turn >= least and time.perf_counter() > end:
                break
            for k in range(len(names)):
                name = names[(k + turn) % len(names)]
                call, units = contenders[name]
                samples[name].append(_turn(call, samples[name][-1:], units) / units)
            if peak is not None:
                time.sleep(_PAUSE)
                peaks.append(peak())
    finally:
        gc.enable()
    timed = {n: Timed(statistics.median(s), min(s), len(s)) for n, s in samples.items()}
    return timed, statistics.median(peaks) if peaks else 0.0


def _turn(call: Callable[[], object], before: list[float], units: int) -> float:
    """Seconds of the calls of one turn; `before`: seconds a unit of the turn before."""
    time.sleep(_PAUSE)
    if not before or before[0] * units < _LONG:
        call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


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
