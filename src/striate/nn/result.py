"""What a network's `forward` returns: one tensor, or several in tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where in a result a tensor stands.

    Attributes:
        node: the graph's node that gives it.
    """

    node: str


def rebuilt(result: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same tuples, named tuples, lists and dicts, with something else in each place.

    >>> rebuilt({"scores": Place("fc"), "more": [Place("a"), None]}, lambda place: place.node)
    {'scores': 'fc', 'more': ['a', None]}
    """
    if result is None:
        return None
    kind: Any = type(result)
    if isinstance(result, Mapping):
        return kind((key, rebuilt(part, leaf)) for key, part in result.items())
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return kind(*(rebuilt(part, leaf) for part in result))
    if isinstance(result, (tuple, list)):
        return kind(rebuilt(part, leaf) for part in result)
    return leaf(result)


def nodes_of(result: Any) -> tuple[str, ...]:
    """The nodes that stand in a result, each once.

    >>> nodes_of((Place("fc"), {"again": Place("fc"), "aux": Place("aux.fc")}))
    ('fc', 'aux.fc')
    """
    found: dict[str, None] = {}
    rebuilt(result, lambda place: found.setdefault(place.node))
    return tuple(found)
