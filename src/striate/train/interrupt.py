"""Ctrl-C as an event: a running epoch stops between two steps instead of anywhere.

Only Python's own handling is replaced, only in the main thread and only for the time of a
training; a handler of the user's own stays.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType


class InterruptGuard:
    """A context in which the first Ctrl-C sets `stop`, and further ones interrupt at once.

    `whole()` marks a part that no Ctrl-C may cut in two.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._active = False
        self._whole = False
        self._urgent = False

    def __enter__(self) -> InterruptGuard:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_signal)
            self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._active:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """A part that is done as a whole: an interruption is raised after it."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False
        if self._urgent:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt where Ctrl-C has been pressed."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.stop.is_set():
            self.stop.set()
        elif self._whole:
            self._urgent = True
        else:
            raise KeyboardInterrupt


class Pause(threading.Event):
    """A wish to stop between two steps: set by somebody, by Ctrl-C, or because it is time.

    Args:
        guard: whose Ctrl-C counts.
        is_time: asked again and again, but not the first time: some step is to be done.
    """

    def __init__(self, guard: InterruptGuard, is_time: Callable[[], bool]) -> None:
        super().__init__()
        self.guard, self.is_time = guard, is_time
        self._asked = False

    def is_set(self) -> bool:
        asked, self._asked = self._asked, True
        return super().is_set() or self.guard.stop.is_set() or (asked and self.is_time())
