"""Cases of filters: one kernel over whole images, ours ("auto") and OpenCV's and SciPy's in turn.

Peers run as their documentation says for speed: OpenCV's filter2D and, where the kernel is
separable, sepFilter2D with its two rows of taps; SciPy's fftconvolve and oaconvolve on as many
workers. OpenCV correlates, SciPy convolves: it gets the flipped kernel. Borders of 0 for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import striate as st
from benchmarks.inside import error
from benchmarks.problems import Problem
from benchmarks.result import Result, Row
from striate import filters
from striate.measure import timing
from striate.measure.machine import Peak

TOLERANCE = 1e-5
SECONDS = 4.0  # of a case, about
Call = Callable[[], Any]
Array = np.ndarray


def kernel(problem: Problem) -> Array:
    """The case's kernel, float32."""
    k = int(problem.settings["k"])
    if problem.settings["what"] == "gaussian":
        return filters.gaussian(k / 6, k).astype(np.float32)
    return np.random.default_rng(1).standard_normal((k, k), np.float32) / k


def image(problem: Problem) -> Array:
    """One channel of noise."""
    side = int(problem.settings["h"])
    return np.random.default_rng(0).standard_normal((side, side), np.float32)


def exact(x: Array, w: Array) -> Array:
    """The correlation with a border of 0 in float64, by a Fourier transform."""
    size = [n + k - 1 for n, k in zip(x.shape, w.shape, strict=True)]
    spectrum = np.fft.rfft2(x.astype(float), size) * np.fft.rfft2(w[::-1, ::-1].astype(float), size)
    whole = np.fft.irfft2(spectrum, size)
    top, left = (k // 2 for k in w.shape)
    return whole[top : top + x.shape[0], left : left + x.shape[1]]


def run(problem: Problem, rounds: int) -> Result:
    """Measure one case."""
    st.set_num_threads(problem.threads)
    x, w = image(problem), kernel(problem)
    separable = len(filters.separate(w)) == 1
    calls: dict[str, Call] = {"striate": lambda: filters.apply(x, w, border="constant")}
    absent = []
    for name, peers in (("opencv", _opencv), ("scipy", _scipy)):
        try:
            calls |= dict(peers(x, w, problem.threads, separable))
        except ImportError:
            absent.append(name)
    expected = exact(x, w)
    errors = {name: error(np.asarray(call()), expected) for name, call in calls.items()}
    contenders = {}
    for name, call in calls.items():
        if errors[name] <= (problem.number("tolerance") or TOLERANCE):
            count = timing.repeated(call)
            contenders[name] = (timing.times(call, count), count)
    taps = sum(w.shape) if separable else w.size
    return _timed(problem, contenders, errors, absent, rounds, 2.0 * taps * x.size)


def _opencv(x: Array, w: Array, threads: int, separable: bool) -> Iterator[tuple[str, Call]]:
    import cv2

    cv2.setNumThreads(threads)
    zero = cv2.BORDER_CONSTANT
    yield "opencv filter2D", lambda: cv2.filter2D(x, -1, w, borderType=zero)
    if separable:
        [(column, row)] = filters.separate(w)
        taps = row.astype(np.float32), column.astype(np.float32)
        yield "opencv sepFilter2D", lambda: cv2.sepFilter2D(x, -1, *taps, borderType=zero)


def _scipy(x: Array, w: Array, threads: int, separable: bool) -> Iterator[tuple[str, Call]]:
    from scipy import fft, signal

    flipped = np.ascontiguousarray(w[::-1, ::-1])

    def with_workers(function: Callable[..., Any]) -> Call:
        def call() -> Any:
            with fft.set_workers(threads):
                return function(x, flipped, mode="same")

        return call

    yield "scipy fftconvolve", with_workers(signal.fftconvolve)
    yield "scipy oaconvolve", with_workers(signal.oaconvolve)


def _timed(
    problem: Problem,
    contenders: dict[str, tuple[Call, int]],
    errors: dict[str, float],
    absent: list[str],
    rounds: int,
    flops: float,
) -> Result:
    timed, peak = timing.interleave(contenders, rounds, Peak(problem.threads).run, SECONDS)
    rows = []
    for name, wrong in errors.items():
        if name not in timed:
            rows.append(Row(name, error=wrong, note="wrong, not timed"))
            continue
        seconds = timed[name].median
        speed = flops / seconds / 1e9
        rows.append(
            Row(
                name,
                seconds=seconds,
                fastest=timed[name].fastest,
                rounds=timed[name].rounds,
                error=wrong,
                gflops=speed,
                percent_of_peak=100 * speed / peak,
            )
        )
    return Result(problem, rows, absent, {"peak_gflops": peak, "gflop": flops / 1e9})
