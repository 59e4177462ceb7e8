"""What torch's sources say to its compiler, so that they can be imported; all of it does nothing.

Networks are compiled when they are called; nothing has to be marked, and no source is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["Final", "export", "ignore", "is_scripting", "is_tracing", "script", "unused"]

Function = TypeVar("Function", bound=Callable[..., Any])


def _mark(fn: Any = None, **options: Any) -> Any:
    """A decorator with or without parentheses that gives the function back."""
    return fn if callable(fn) else (lambda function: function)


ignore = unused = export = script = _overload_method = _script_if_tracing = _mark


def is_scripting() -> bool:
    """False: sources take the way of plain Python."""
    return False


def is_tracing() -> bool:
    """False."""
    return False
