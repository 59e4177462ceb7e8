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

Entry = Callable[[int, int], None]
_TICK = 0.05  # seconds between looks at the progress

_Job = tuple[Entry, int, int, "threading.Semaphore"]


class _Pool:
    """Worker threads, each with a queue of its own."""

    def __init__(self) -> None:
        self._queues: list[queue.SimpleQueue[_Job]] = []
        self._lock = threading.Lock()

    def post(self, jobs: Sequence[_Job]) -> None:
        """Give one job to each of the first workers, all at once.

        Programs meet at barriers, so two of them must come in the same order to every worker.
        """
        with self._lock:
            while len(self._queues) < len(jobs):
                inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
                self._queues.append(inbox)
                name = f"striate-{len(self._queues)}"
                threading.Thread(target=_serve, args=(inbox,), name=name, daemon=True).start()
            for inbox, job in zip(self._queues, jobs, strict=False):
                inbox.put(job)


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
    _pool.post([(entry, k, context, done) for k in range(1, threads)])
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
    _pool.post([(entry, k, context, done) for k in range(threads)])
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
