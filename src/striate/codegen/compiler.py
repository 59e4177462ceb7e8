"""Modules of IR to running code: out of the cache, or compiled by worker processes in parallel.

LLVM itself is only ever loaded in the workers (see worker, image).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from striate.codegen import cache
from striate.codegen.image import Code, link
from striate.codegen.targets import Target
from striate.codegen.worker import read_frame, write_frame
from striate.errors import CompileError
from striate.settings import get_num_threads

_MOST_WORKERS = 8


@dataclass(frozen=True)
class Module:
    """One unit of compilation: the symbols that it gives and its IR."""

    symbol: str
    text: str


class _Worker:
    """A process that compiles; started when first needed, it ends by itself when idle."""

    def __init__(self) -> None:
        import subprocess  # late: most processes find all code in the cache

        if not sys.executable:
            raise CompileError("compiler: this Python does not know its own executable to start.")
        code = (
            f"import sys; sys.path[:] = {[p for p in sys.path if p]!r}; "
            "from striate.codegen.worker import main; main()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=os.name != "nt",  # Ctrl-C is the parent's to handle
        )

    def compile(self, text: str, target: Target, assembly: bool = False) -> bytes:
        sink, source = self._process.stdin, self._process.stdout
        if sink is None or source is None:
            raise CompileError("compiler: the compiling process has no pipes.")
        header = {"triple": target.triple, "cpu": target.cpu, "assembly": assembly}
        try:
            write_frame(sink, header, text.encode())
            frame = read_frame(source)
        except OSError:
            frame = None
        if frame is None:
            raise CompileError(
                f"compiler: the compiling process ended (status {self._process.wait()}); "
                "is llvmlite installed? Try `python -c 'import llvmlite.binding'`."
            )
        answer, payload = frame
        if not answer["ok"]:
            raise CompileError(f"compiler: LLVM refused a module: {payload.decode()}")
        return payload

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(Exception):  # still running after that: it ends when idle
            self._process.wait(timeout=5)


_idle: list[_Worker] = []
_foreign: list[_Worker] = []
_lock = threading.Lock()


def _borrow() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.alive():
                return worker
            worker.close()
    return _Worker()


def _give_back(worker: _Worker) -> None:
    with _lock:
        _idle.append(worker)


def _forget() -> None:
    """In a forked child: the workers are the parent's; neither use nor end them."""
    _foreign.extend(_idle)
    _idle.clear()


def close_workers() -> None:
    """End the compiling processes that wait for work."""
    with _lock:
        waiting = _idle[:]
        _idle.clear()
    for worker in waiting:
        worker.close()


atexit.register(close_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def compile_modules(modules: Sequence[Module], target: Target) -> list[bytes]:
    """The object of each module, from the cache or compiled in parallel.

    Raises:
        CompileError: LLVM refuses a module, or the compiling process cannot run.
    """
    keys = [cache.key(m.text, target) for m in modules]
    found = {k: cache.read(k) for k in dict.fromkeys(keys)}
    missing = {k: m.text for k, m in zip(keys, modules, strict=True) if found[k] is None}
    for name, payload in _compile_parallel(missing, target).items():
        cache.write(name, payload)
        found[name] = payload
    return [found[k] or b"" for k in keys]


def _compile_parallel(texts: dict[str, str], target: Target) -> dict[str, bytes]:
    tasks: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for name in sorted(texts, key=lambda k: -len(texts[k])):
        tasks.put((name, texts[name]))
    done: dict[str, bytes] = {}
    failures: list[CompileError] = []

    def work() -> None:
        worker = None
        try:
            worker = _borrow()
            while not failures:
                name, text = tasks.get_nowait()
                done[name] = worker.compile(text, target)
        except queue.Empty:
            pass
        except (CompileError, OSError) as error:
            failures.append(CompileError(str(error)))
        if worker is not None:
            _give_back(worker)

    count = min(get_num_threads(), len(texts), _MOST_WORKERS)
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return done


def load(modules: Sequence[Module], target: Target) -> Code:
    """Compile, link and load modules that call one another."""
    unique = {m.symbol: m for m in modules}
    image, symbols = link(compile_modules(list(unique.values()), target))
    return Code(image, symbols)


def assembly(text: str, target: Target) -> str:
    """The assembly of a module, for people and for tests that count spills."""
    worker = _borrow()
    try:
        return worker.compile(text, target, assembly=True).decode()
    finally:
        _give_back(worker)
