"""The threads that run native programs: started once, asleep between calls.

A program's entry is called by every thread with (thread number, context); the threads meet inside
native code. Python sleeps in between, so a Ctrl-C is answered and progress can be shown.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from typing import cast

Entry = Callable[[int, int], None]
_TICK = 0.05  # seconds between looks at the progress

_Job = tuple[Entry, int, int, "threading.Semaphore"]


class _Worker:
    """A thread with a queue of its own, and the cores that it may use."""

    def __init__(self, number: int) -> None:
        self.inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._cores: tuple[int, ...] = ()
        name = f"striate-{number}"
        self._thread = threading.Thread(target=_serve, args=(self.inbox,), name=name, daemon=True)
        self._thread.start()

    def keep_to(self, cores: tuple[int, ...]) -> None:
        """Let the system run this thread on these cores only."""
        number = self._thread.native_id
        if cores != self._cores and number is not None:
            with contextlib.suppress(OSError):  # a core may have been taken away meanwhile
                os.sched_setaffinity(number, cores)
            self._cores = cores


class _Pool:
    """Worker threads, each with a queue of its own."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def post(self, jobs: Sequence[_Job], helping: bool) -> None:
        """Give one job to each of the first workers, all at once.

        Programs meet at barriers, so two of them must come in the same order to every worker.
        With `helping` the caller computes too.
        """
        with self._lock:
            while len(self._workers) < len(jobs):
                self._workers.append(_Worker(len(self._workers) + 1))
            shares = core_shares(len(jobs), helping)
            for worker, job, cores in zip(self._workers, jobs, shares, strict=False):
                worker.keep_to(cores)
                worker.inbox.put(job)


def core_shares(workers: int, helping: bool) -> list[tuple[int, ...]]:
    """The cores that each of some workers shall keep to.

    Left alone, Linux likes to wake a thread on its caller's core and leaves both there for
    milliseconds (measured: a job of 3.5 ms for two threads took 7.3 ms, with shares 4.2 ms).
    So workers get different cores, and not the caller's where the caller computes too. Where
    there are more threads than cores, or the system cannot say, they may use all.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [()] * workers
    cores = sorted(os.sched_getaffinity(0))
    free = [core for core in cores if not helping or core != _current_core()]
    if len(free) < workers:
        return [tuple(cores)] * workers
    return [tuple(free[k::workers]) for k in range(workers)]


@functools.cache
def _core_function() -> Callable[[], int]:
    try:
        return cast("Callable[[], int]", ctypes.CDLL(None).sched_getcpu)
    except AttributeError:
        return lambda: -1


def _current_core() -> int:
    """The core that this thread runs on; -1 where the system does not say."""
    return _core_function()()


def _serve(inbox: queue.SimpleQueue[_Job]) -> None:
    while True:
        entry, thread, context, done = inbox.get()
        entry(thread, context)
        done.release()


_pool = _Pool()


def _renew() -> None:
    """In a forked child the parent's threads do not exist: start over."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def run(entry: Entry, context: int, threads: int) -> None:
    """Run a program on `threads` threads, this one among them."""
    done = threading.Semaphore(0)
    _pool.post([(entry, k, context, done) for k in range(1, threads)], helping=True)
    entry(0, context)
    for _ in range(1, threads):
        done.acquire()


def run_watched(
    entry: Entry, context: int, threads: int, tick: Callable[[], None], halt: Callable[[], None]
) -> None:
    """Run a long program on worker threads while this one calls `tick` now and then.

    An exception here (KeyboardInterrupt above all) calls `halt`, waits for the program to end at
    its next safe place, and goes on upwards.
    """
    done = threading.Semaphore(0)
    _pool.post([(entry, k, context, done) for k in range(threads)], helping=False)
    left = threads
    try:
        while left:
            if done.acquire(timeout=_TICK):
                left -= 1
            else:
                tick()
    except BaseException:
        halt()
        while left:
            with contextlib.suppress(KeyboardInterrupt):
                done.acquire()
                left -= 1
        raise


@functools.cache
def sleep_address() -> int:
    """The address of the system's function that sleeps for so many microseconds."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread  # the nearest; takes no notice of the time
    else:
        function = ctypes.CDLL(None).usleep
    return ctypes.cast(function, ctypes.c_void_p).value or 0
