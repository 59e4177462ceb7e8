"""Sliding windows as plain data: which input rows and columns each output row and column meets.

A *tap list* holds, for each position along one axis, the pairs (k, source): kernel element k
meets source position `source`. Positions outside the source are simply not listed, so kernels
need no padded copies. The reversed list (from source to output) is what gradients walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Taps = tuple[tuple[tuple[int, int], ...], ...]


def taps(size: int, out: int, kernel: int, stride: int, dilation: int, before: int) -> Taps:
    """For each output position: (k, position·stride + k·dilation − before) where inside."""
    return tuple(
        tuple(
            (k, i * stride + k * dilation - before)
            for k in range(kernel)
            if 0 <= i * stride + k * dilation - before < size
        )
        for i in range(out)
    )


def reversed_taps(forward: Taps, size: int) -> Taps:
    """For each source position: (k, output position) of the windows that meet it."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    for out, pairs in enumerate(forward):
        for k, source in pairs:
            found[source].append((k, out))
    return tuple(tuple(sorted(pairs)) for pairs in found)


@dataclass(frozen=True)
class Run:
    """Tiles along an axis with one pattern, met in a loop.

    Tile number t covers positions first + t·width …; its taps are `pattern` (for each position
    of the tile, pairs (k, source)) with sources counted from base + t·advance.
    """

    first: int
    width: int
    count: int
    base: int
    advance: int
    pattern: Taps


def runs(along: Taps, widths: Sequence[int]) -> list[Run]:
    """Cut an axis into tiles of the given widths; neighbours with one pattern become a loop."""
    found: list[Run] = []
    start = 0
    for width in widths:
        part = along[start : start + width]
        sources = [source for pairs in part for _, source in pairs]
        base = min(sources, default=0)
        pattern = tuple(tuple((k, source - base) for k, source in pairs) for pairs in part)
        last = found[-1] if found else None
        if last and last.pattern == pattern and _continues(last, base):
            advance = base - last.base if last.count == 1 else last.advance
            found[-1] = Run(last.first, width, last.count + 1, last.base, advance, pattern)
        else:
            found.append(Run(start, width, 1, base, 0, pattern))
        start += width
    return found


def _continues(last: Run, base: int) -> bool:
    return last.count == 1 or base == last.base + last.count * last.advance


def split(size: int, most: int, multiple: int = 1) -> list[int]:
    """`size` as tiles of at most `most`, as even as may be (or all multiples of `multiple`)."""
    if size == 0:
        return []
    if multiple > 1:
        width = max(most // multiple * multiple, multiple)
        return [min(width, size - start) for start in range(0, size, width)]
    count = -(-size // most)
    wide = size - count * (size // count)
    return [size // count + 1] * wide + [size // count] * (count - wide)


def narrow_ends(widths: Sequence[int]) -> list[int]:
    """The tiles of `split` with the narrower ones moved to both ends."""
    narrow = [w for w in widths if w < max(widths)]
    wide = [w for w in widths if w == max(widths)]
    half = (len(narrow) + 1) // 2
    return narrow[:half] + wide + narrow[half:]
