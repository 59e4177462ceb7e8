"""Which algorithm filters an image fastest: a model of a few constants, measured once a machine.

The constants are measured when they are first needed (within a second), and kept beside the code
cache; from then on a choice is a function of sizes and kernel alone: the same call gives the same
bits, on any number of threads. STRIATE_TUNED=0 does without measuring and takes built-in constants.
"""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.codegen.targets import Target, current_target, host_identity
from striate.filters import fourier
from striate.filters.separate import rank_one, separate
from striate.kernels.image_fft import best_length
from striate.program import image as native
from striate.settings import cache_folder, get_num_threads, set_num_threads

_FORMAT = "striate-filters-1"
# Nanoseconds for a number that passes through, and for a tap of it; of a CPU with 16 lanes.
BUILT_IN = {
    "direct": (0.25, 0.019),
    "separable": (0.1, 0.037),
    "column_fft": (0.2, 0.034),
    "fft": (2.5, 0.45),
    "overlap_add": (2.0, 0.6),
}
_CALL = 60e-6  # seconds of a call, whatever it does
Constants = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Choice:
    """What the model says.

    Attributes:
        algorithm: the fastest.
        seconds: expected on one thread, for each algorithm that could do it.
        terms: columns times rows that the kernel is a sum of; 1: it is separable.
    """

    algorithm: str
    seconds: Mapping[str, float]
    terms: int


def choose(size: Sequence[int], kernel: ArrayLike, *, planes: int = 1, step: int = 1) -> Choice:
    """What "auto" takes for one kernel over whole images.

    Args:
        size: rows and floats of a row of the output.
        kernel: (kh, kw).
        planes: how many planes.
        step: numbers of a pixel that lie side by side.

    >>> choose((512, 512), np.ones((3, 3))).terms
    1
    """
    weight = np.asarray(kernel, np.float64)
    terms = _terms(weight)
    known = constants()
    rows, floats = int(size[0]), int(size[1])
    seconds = {}
    for name, (numbers, taps) in _work(rows, floats, weight.shape, terms, step).items():
        a, b = known[name]
        seconds[name] = _CALL + planes * 1e-9 * (a * numbers + b * taps)
    best = min(seconds, key=lambda name: seconds[name])
    return Choice(best, seconds, terms)


def _terms(kernel: NDArray[np.float64]) -> int:
    """How many columns times rows the kernel is; large ones are separable, or taken not to be.

    The decomposition of a large kernel takes longer than most images.
    """
    if min(kernel.shape) <= _DECOMPOSED:
        return len(separate(kernel))
    return 1 if rank_one(kernel) else min(kernel.shape)


_DECOMPOSED = 64


def _work(
    rows: int, floats: int, kernel: Sequence[int], terms: int, step: int
) -> dict[str, tuple[float, float]]:
    """For each algorithm: numbers that pass through memory, and taps (or their like) of them."""
    (kh, kw), out = kernel, float(rows * floats)
    work = {
        "direct": (out, out * kh * kw),
        "separable": (out * terms, out * terms * (kh + 1.15 * kw)),
    }
    length = best_length(kh, kw)
    if length:
        blocks = -(-rows // (length - kh + 1)) * length / max(rows, 1)
        work["column_fft"] = (out * blocks, out * blocks * (2 * kw + 5 * math.log2(length)))
    padded = rows + kh - 1, floats // step + kw - 1
    work["fft"] = _transform(fourier.whole_size(padded), step)
    tile = fourier.tile_size((kh, kw))
    tiles = math.prod(-(-p // (t - k + 1)) for p, t, k in zip(padded, tile, kernel, strict=True))
    work["overlap_add"] = _transform(tile, tiles * step)
    return work


def _transform(size: tuple[int, int], count: int) -> tuple[float, float]:
    numbers = float(count * math.prod(size))
    return numbers, numbers * math.log2(math.prod(size))


def choose_channels(size: Sequence[int], weight: Sequence[int]) -> Choice:
    """What "auto" takes for a bank of kernels: `size` (n, padded rows, columns), weight's shape."""
    (n, ph, pw), (o, c, kh, kw) = size, weight
    known = constants()
    tap, number = known["direct"][1], known["fft"]
    direct = n * o * c * kh * kw * (ph - kh + 1) * (pw - kw + 1) * tap
    seconds = {"direct": _CALL + 1e-9 * direct}
    tile = fourier.tile_size((kh, kw))
    tiles = math.prod(
        -(-p // (t - k + 1)) for p, t, k in zip((ph, pw), tile, (kh, kw), strict=True)
    )
    for name, form, count in (
        ("fft", fourier.whole_size((ph, pw)), 1),
        ("overlap_add", tile, tiles),
    ):
        planes = count * n * (c + o) / 2 + (o * c / 2) * count
        numbers, logs = _transform(form, 1)
        products = 2 * count * n * o * c * numbers * _PRODUCT * tap
        spent = planes * (number[0] * numbers + number[1] * logs) + products
        seconds[name] = 2 * _CALL * count + 1e-9 * spent
    return Choice(min(seconds, key=lambda k: seconds[k]), seconds, 0)


_PRODUCT = 6.0  # taps that one complex product of a small matrix product in NumPy costs


# ---- constants -----------------------------------------------------------------------------------


def constants() -> Constants:
    """The machine's constants: from disk, or measured now and kept."""
    if os.environ.get("STRIATE_TUNED", "").strip() == "0":
        return BUILT_IN
    return _constants(current_target(), constants_file(current_target()))


def constants_file(target: Target) -> Path:
    """Where they are kept."""
    return cache_folder() / f"filters-{target.name}-{host_identity()}.json"


@functools.lru_cache(maxsize=8)
def _constants(target: Target, path: Path) -> Constants:
    found = _read(path)
    if found is None:
        found = measure()
        _keep(path, found)
    return found


def _read(path: Path) -> Constants | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            return None
        found = {name: tuple(map(float, data["constants"][name])) for name in BUILT_IN}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    right = all(len(v) == 2 and all(math.isfinite(k) and k >= 0 for k in v) for v in found.values())
    return found if right else None  # type: ignore[return-value]


def _keep(path: Path, found: Constants) -> None:
    from striate.errors import FileError
    from striate.files import make_folder, write_atomically

    data = {"format": _FORMAT, "constants": {name: list(v) for name, v in found.items()}}
    try:
        make_folder(path.parent)
        write_atomically(path, json.dumps(data, indent=1).encode())
    except FileError:
        pass  # a folder that cannot be written: this process knows, the next one measures again


def measure() -> Constants:
    """The built-in constants, each algorithm's scaled to what this machine needs for one problem.

    One thread; the algorithms take turns, so a busy neighbour meets all alike.
    """
    threads = get_num_threads()
    set_num_threads(1)
    try:
        calls = {name: _problem(name, *size) for name, size in _PROBLEMS.items()}
        spent: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(_TURNS + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if turn:
                    spent[name].append(time.perf_counter() - start)
    finally:
        set_num_threads(threads)
    return {name: _scaled(name, min(times)) for name, times in spent.items()}


_TURNS = 9
_PROBLEMS = {  # rows of the square output and of the kernel
    "direct": (512, 9),
    "separable": (512, 31),
    "column_fft": (512, 31),
    "fft": (512, 9),
    "overlap_add": (450, 31),
}


def _scaled(name: str, seconds: float) -> tuple[float, float]:
    """The built-in constants times the machine's seconds over theirs."""
    size, kernel = _PROBLEMS[name]
    numbers, taps = _work(size, size, (kernel, kernel), 1, 1)[name]
    a, b = BUILT_IN[name]
    scale = max(seconds - _CALL, 0.1 * seconds) / (1e-9 * (a * numbers + b * taps))
    return a * scale, b * scale


def _problem(name: str, size: int, kernel: int) -> Callable[[], NDArray[np.float32]]:
    """A call that gives size × size outputs."""
    side, rng = size + kernel - 1, np.random.default_rng(0)
    planes = rng.standard_normal((1, side, side), np.float32)
    weight = rng.standard_normal((kernel, kernel))
    places = np.arange(side, dtype=np.int64)
    image = native.Padded(planes, places, places)
    line = weight[0].astype(np.float32)
    return {
        "direct": lambda: native.direct(image, weight.astype(np.float32)),
        "separable": lambda: native.separable(image, [(line, line)]),
        "column_fft": lambda: native.column_fft(image, weight),
        "fft": lambda: fourier.fft(planes.copy(), weight),
        "overlap_add": lambda: fourier.overlap_add(planes.copy(), weight),
    }[name]
