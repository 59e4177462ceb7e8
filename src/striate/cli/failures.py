"""The one place where a failure of a command becomes a sentence and an exit code.

    2     an error that striate raises on purpose, wrong usage, no memory, a system error
    130   Ctrl-C
    141   the reader of a pipe went away (`striate … | head`)

With --debug errors keep their traceback.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import typer

from striate.errors import StriateError

ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


class Interruption(Exception):
    """Ctrl-C, with a word on what is kept and how to go on."""


def say_error(message: str) -> None:
    """Print `error: …` to stderr, whatever state stdout is in."""
    with contextlib.suppress(OSError):
        print(f"error: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Run a command; an error becomes its sentence on stderr and an exit code.

    Args:
        debug: let errors through as they are.
    Raises:
        typer.Exit: with the exit code of a failure.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        raise typer.Exit(BROKEN_PIPE) from None
    except Interruption as stop:
        with contextlib.suppress(OSError):
            print(f"\n{stop}", file=sys.stderr, flush=True)
        raise typer.Exit(INTERRUPTED) from None
    except KeyboardInterrupt as stop:
        if debug:
            raise
        _clear_handler()
        with contextlib.suppress(OSError):
            print(f"\n{str(stop) or 'interrupted.'}", file=sys.stderr, flush=True)
        raise typer.Exit(INTERRUPTED) from None
    except (StriateError, MemoryError, OSError) as error:
        if debug:
            raise
        say_error(_sentence(error))
        if isinstance(error, OSError):
            _silence_stdout()
        raise typer.Exit(ERROR) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        why = f" ({error})" if str(error) else ""
        return (
            f"not enough memory{why}. Use a smaller --batch-size, a smaller network or less data."
        )
    if isinstance(error, OSError) and not isinstance(error, StriateError):
        where = f"{error.filename}: " if error.filename else "output: "
        return f"{where}{error.strerror or error}."
    lines = str(error).split("\n")
    marked = lines[-1].strip() == "^"  # a mark under a place stays under it
    return ("\n" if marked else " ").join(lines)


def _silence_stdout() -> None:
    """Send what is still buffered nowhere, so that Python does not complain about it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _clear_handler() -> None:
    """A further Ctrl-C while the message is printed must not bring a traceback."""
    import signal

    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
