"""Where values live: offsets in a thread's workspace, from each value's first and last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_ALIGN = 16  # floats: one cache line


@dataclass
class Arena:
    """Offsets in floats, and the floats needed in all; `lower_bound` is what liveness allows."""

    offsets: dict[str, int] = field(default_factory=dict)
    size: int = 0
    lower_bound: int = 0


def aligned(size: int) -> int:
    """`size` floats rounded up to whole cache lines."""
    return -(-size // _ALIGN) * _ALIGN


def plan(lives: Mapping[str, tuple[int, int]], sizes: Mapping[str, int]) -> Arena:
    """Place values so that those alive at the same time never overlap.

    Args:
        lives: for each value its first and last step.
        sizes: for each value its floats.

    Returns:
        Offsets by first fit; of several orders to place values in, the one that needs least.
    """
    orders: list[Callable[[str], tuple[int, ...]]] = [
        lambda v: (-sizes[v], *lives[v]),
        lambda v: (*lives[v], -sizes[v]),
        lambda v: (lives[v][0] - lives[v][1], -sizes[v], lives[v][0]),
        lambda v: (-sizes[v] * (lives[v][1] - lives[v][0] + 1), lives[v][0]),
    ]
    bound = _peak(lives, sizes)
    best = Arena(size=-1)
    for order in orders:
        arena = _first_fit(sorted(lives, key=order), lives, sizes)
        if best.size < 0 or arena.size < best.size:
            best = arena
        if best.size == bound:
            break
    best.lower_bound = bound
    return best


def _first_fit(
    names: Sequence[str], lives: Mapping[str, tuple[int, int]], sizes: Mapping[str, int]
) -> Arena:
    arena = Arena()
    placed: list[tuple[int, int, int, int]] = []  # offset, size, first, last
    for name in names:
        first, last = lives[name]
        size = aligned(sizes[name])
        busy = sorted((o, s) for o, s, f, t in placed if f <= last and first <= t)
        offset = _first_gap(busy, size)
        placed.append((offset, size, first, last))
        arena.offsets[name] = offset
        arena.size = max(arena.size, offset + size)
    return arena


def _first_gap(busy: Sequence[tuple[int, int]], size: int) -> int:
    at = 0
    for offset, length in busy:
        if offset - at >= size:
            break
        at = max(at, offset + length)
    return at


def _peak(lives: Mapping[str, tuple[int, int]], sizes: Mapping[str, int]) -> int:
    changes: dict[int, int] = {}
    for name, (first, last) in lives.items():
        size = aligned(sizes[name])
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    total = peak = 0
    for step in sorted(changes):
        total += changes[step]
        peak = max(peak, total)
    return peak
