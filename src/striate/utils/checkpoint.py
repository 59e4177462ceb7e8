"""`torch.utils.checkpoint`: memory is planned for the whole network, so it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["checkpoint"]


def checkpoint(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`function(*args)`."""
    return function(*args)
