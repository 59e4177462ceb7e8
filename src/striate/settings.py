"""What holds for the whole process: threads, the random seed, the target and the cache folder.

Each setting has a function that reads it, a default found from the machine, and where it makes
sense an environment variable. This file starts no threads and knows no machine code: the thread
pool is in `program`, the list of targets in `codegen`.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from striate.errors import OptionError

MOST_THREADS = 1024
_DEFAULT_SEED = 0
_CGROUP_ROOT = Path("/sys/fs/cgroup")


class _Own(threading.local):
    """What `within` has set for the calling thread."""

    threads: int | None = None
    seed: int | None = None
    drawn = 0


_own = _Own()


@contextmanager
def within(*, threads: int | None = None, seed: int | None = None) -> Iterator[None]:
    """Settings of the calling thread alone, for a block: what other threads do stays as it is.

    Args:
        threads: as for `set_num_threads`; None leaves it.
        seed: as for `manual_seed`; None leaves it. The generators go on afterwards where they were.
    Raises:
        OptionError: not such a number.

    >>> with within(threads=3):
    ...     get_num_threads()
    3
    """
    before = _own.threads, _own.seed, _own.drawn
    if threads is not None:
        _own.threads = _thread_count(threads, "within")
    if seed is not None:
        _own.seed, _own.drawn = _checked_seed(seed, "within"), 0
    try:
        yield
    finally:
        _own.threads, _own.seed, _own.drawn = before


# ---- threads ---------------------------------------------------------------------------------


class _Threads:
    """The number of threads that the user chose, if any."""

    chosen: int | None = None


def set_num_threads(count: int) -> None:
    """Use `count` threads from the next call of a network on; results do not depend on it.

    Args:
        count: 1 … 1024; more than the process has cores is allowed and slow.
    Raises:
        OptionError: not such a whole number.

    >>> set_num_threads(2)
    >>> get_num_threads()
    2
    """
    _Threads.chosen = _thread_count(count, "set_num_threads")


def get_num_threads() -> int:
    """The threads that networks run on.

    Set by `set_num_threads`, else by the variable STRIATE_NUM_THREADS, else as many as the
    process may use cores (affinity mask and the container's CPU quota).
    """
    if _own.threads is not None:
        return _own.threads
    if _Threads.chosen is not None:
        return _Threads.chosen
    variable = os.environ.get("STRIATE_NUM_THREADS", "").strip()
    if variable:
        return _thread_count(variable, "STRIATE_NUM_THREADS")
    return available_cores()


def _thread_count(value: object, where: str) -> int:
    try:
        whole = int(value) if isinstance(value, str) else value.__index__()  # type: ignore[attr-defined]
    except (ValueError, AttributeError):
        whole = 0
    if isinstance(value, bool) or not 1 <= whole <= MOST_THREADS:
        raise OptionError(
            f"{where}: expected a number of threads from 1 to {MOST_THREADS}; got {value!r}."
        )
    return int(whole)


def available_cores() -> int:
    """The cores that this process may use: its affinity mask, cut by a container's CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cgroup_quota()
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def cgroup_quota(
    root: Path = _CGROUP_ROOT, membership: Path = Path("/proc/self/cgroup")
) -> float | None:
    """The CPU quota of the process's control group in cores, or None where there is none.

    Reads both versions of Linux control groups, and every group above the process's own.
    """
    quotas: list[float] = []
    for line in _read(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            quotas += [q for g in _with_parents(root, path) if (q := _quota_v2(g)) is not None]
        elif "cpu" in controllers.split(","):
            bases = [root / "cpu", root / "cpu,cpuacct"]
            groups = [g for base in bases for g in _with_parents(base, path)]
            quotas += [q for g in groups if (q := _quota_v1(g)) is not None]
    return min(quotas, default=None)


def _with_parents(base: Path, path: str) -> list[Path]:
    """`base/path` and every folder above it, down to `base`."""
    parts = [p for p in path.split("/") if p not in ("", "..")]
    return [base.joinpath(*parts[:k]) for k in range(len(parts), -1, -1)]


def _quota_v2(group: Path) -> float | None:
    words = _read(group / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max", -1 or nothing: no quota
    return cores if cores > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


# ---- randomness ------------------------------------------------------------------------------


class _Random:
    """The seed and how many generators were drawn from it."""

    lock = threading.Lock()
    seed = _DEFAULT_SEED
    drawn = 0


def manual_seed(seed: int) -> None:
    """Start the library's random numbers anew: the same seed gives the same fresh parameters.

    Args:
        seed: 0 … 2⁶⁴ − 1.
    Raises:
        OptionError: not such a whole number.

    >>> manual_seed(1)
    >>> first = next_generator().random()
    >>> manual_seed(1)
    >>> first == next_generator().random()
    True
    """
    checked = _checked_seed(seed, "manual_seed")
    with _Random.lock:
        _Random.seed, _Random.drawn = checked, 0


def _checked_seed(seed: int, where: str) -> int:
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= int(seed) < 2**64:
        raise OptionError(f"{where}: expected a whole number from 0 to 2^64 - 1; got {seed!r}.")
    return int(seed)


def next_generator() -> np.random.Generator:
    """A fresh generator; the k-th one since `manual_seed` is always the same.

    Each has its own key of NumPy's counter-based Philox generator, so what one draws never moves
    what the next one gives.
    """
    if _own.seed is not None:
        key = _own.seed + (_own.drawn << 64)
        _own.drawn += 1
        return np.random.Generator(np.random.Philox(key=key))
    with _Random.lock:
        key = _Random.seed + (_Random.drawn << 64)
        _Random.drawn += 1
    return np.random.Generator(np.random.Philox(key=key))


# ---- target and cache ------------------------------------------------------------------------


def target_name() -> str | None:
    """The instruction set asked for by the variable STRIATE_TARGET, or None for this machine's.

    `codegen` says which names there are.
    """
    return os.environ.get("STRIATE_TARGET", "").strip() or None


def cache_folder() -> Path:
    """The folder for what can be made again (machine code, downloads); it may not exist yet.

    The variable STRIATE_CACHE, else the user's cache folder as the system has it.
    """
    chosen = os.environ.get("STRIATE_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "striate"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "").strip()
        return (Path(local) if local else _home() / "AppData" / "Local") / "striate" / "Cache"
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    # The XDG specification: a relative path is to be ignored.
    return (Path(base) if base.startswith("/") else _home() / ".cache") / "striate"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise OptionError(
            "cache folder: expected a home directory; got none. Set STRIATE_CACHE to a folder."
        ) from None
