"""What torch's sources say to its symbolic tracer, so that they can be imported."""

from __future__ import annotations

from typing import Any

__all__ = ["wrap"]


def wrap(fn_or_name: Any) -> Any:
    """The function itself: every function is traced through."""
    return fn_or_name
