"""Bounds of the indices of loop nests: where they may leave a tensor, and where they cannot.

An axis whose places near the border read beyond a tensor is taken apart: the border is written
out place by place, and in the interior nothing has to be asked. Where an index is divided (the
gradient of a window with a stride), the interior goes in steps of the divisor, so that it is known
which terms leave a rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from striate.formula.expression import Index
from striate.formula.formula import extent as formula_extent
from striate.formula.nests import Nest, Plan

_BODIES = 40  # times that what is inside a border is written out


@dataclass(frozen=True)
class Guard:
    """An index that has to be worth at least 0 and less than `size`."""

    index: Index
    size: int


def extent(index: Index, sizes: Mapping[str, int]) -> tuple[int, int]:
    """The smallest and largest value; −1 stands for places that a table or rest leaves out."""
    ends = {a: (0, max(sizes[a] - 1, 0)) for a, _ in index.terms}
    low, high = formula_extent(Index(index.terms, index.const, index.mod), ends)
    if index.div != 1:
        low, high = min(-1, -(-low // index.div)), high // index.div
    if not index.table:
        return low, high
    part = index.table[max(low, 0) : high + 1]
    beyond = low < 0 or high >= len(index.table)
    found = (*part, *((-1,) if beyond or not part else ()))
    return min(found), max(found)


@dataclass(frozen=True)
class Interior:
    """The values of an outer axis for which some guards hold whatever is inside.

    From `low` to before `high`, a multiple of `period` of them: as many as indices are divided by.
    """

    axis: str
    low: int
    high: int
    period: int
    guards: tuple[Guard, ...]


def interiors(
    nest: Nest, plan: Plan, guards: Sequence[Guard], tiled: str | None
) -> dict[str, Interior]:
    """The outer axes that are worth taking apart into border and interior, the last ones first."""
    found: dict[str, Interior] = {}
    bodies = 1
    for axis in reversed(nest.loops):
        inner = None if axis == tiled else _interior(nest, plan, guards, axis)
        if inner is None:
            continue
        bodies *= plan.sizes[axis] - (inner.high - inner.low) + inner.period
        if bodies > _BODIES:
            break
        found[axis] = inner
    return found


def _interior(nest: Nest, plan: Plan, guards: Sequence[Guard], axis: str) -> Interior | None:
    """The interior of an axis; None where there is no border, or hardly more than one."""
    size = plan.sizes[axis]
    low, high, period = 0, size, 1
    held: list[Guard] = []
    solved = {name for name, _ in nest.bound}
    asked = [g for g in guards if not solved & {a for a, _ in g.index.terms}]
    for guard in (*asked, *(Guard(index, plan.sizes[name]) for name, index in nest.bound)):
        found = _held(guard, axis, nest.loops, plan.sizes)
        if found is None:
            continue
        low, high = max(low, found[0]), min(high, found[1])
        period = math.lcm(period, guard.index.div)
        held.append(guard)
    for name, index in nest.bound:  # undivided, the axis itself is inside too
        if index.div == 1 and Guard(index, plan.sizes[name]) in held:
            held.append(Guard(Index(((name, 1),)), plan.sizes[name]))
    high -= max(high - low, 0) % period
    borders = low > 0 or high < size or period > 1
    return (
        Interior(axis, low, high, period, tuple(held))
        if held and borders and high - low >= 2 * period
        else None
    )


def _held(
    guard: Guard, axis: str, loops: Sequence[str], sizes: Mapping[str, int]
) -> tuple[int, int] | None:
    """From where to before where the axis may be for the guard to hold; None if others decide too.

    Of a quotient only the values that leave no rest count.
    """
    index = guard.index
    step = dict(index.terms).get(axis, 0)
    rest = Index(tuple(t for t in index.terms if t[0] != axis), index.const)
    if step <= 0 or index.mod or index.table or (step > 1 and index.div > 1):
        return None
    if any(a in loops for a, _ in rest.terms):
        return None
    least, most = extent(rest, sizes)
    return -((least + index.div - 1) // step), (guard.size * index.div - 1 - most) // step + 1
