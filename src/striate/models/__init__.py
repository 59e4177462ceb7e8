"""The classic networks, by name. Each file holds one family and its source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.errors import OptionError, suggest
from striate.models.lenet import LeNet5, lenet5
from striate.nn.module import Module

__all__ = ["MODELS", "LeNet5", "build", "lenet5"]

MODELS: dict[str, Callable[..., Module]] = {"lenet5": lenet5}


def build(name: str, **options: Any) -> Module:
    """The network with a name, freshly initialised.

    Args:
        name: a key of `MODELS`.
        options: what that network takes (`num_classes=10`).
    Raises:
        OptionError: there is no such network; the nearest name is suggested.

    >>> sum(p.numel() for p in build("lenet5").parameters())
    61706
    """
    if name not in MODELS:
        raise OptionError(f"model: unknown network {name!r}. {suggest(name, MODELS)}")
    return MODELS[name](**options)
