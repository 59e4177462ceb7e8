"""Where the boxes of a network's drawing stand: a layered layout, worked out here.

After Sugiyama, Tagawa & Toda (1981): every box gets a row below those that it reads; a line over
several rows passes each of them in a lane of its own, which keeps lines from crossing boxes; lanes
and boxes of a row are put in an order with few crossings; then they are moved sideways, chains
straight and nothing overlapping. Rows may be cut into columns where a single box joins all.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = Any
Numbers = NDArray[np.float64]
_SWEEPS = 12
_BYPASS = 1e-4  # how strongly a line past other boxes pulls at its ends, against 1
_CHAIN = 8.0  # how strongly two boxes that have only each other stay under one another
_LANE = 4.0  # how strongly a lane keeps straight
_JOIN = (2.0, 1e3)  # how a box where branches meet stays under where they part: at first, last
_LIGHT = 1e-3  # the weight of a lane past other boxes where it pushes these aside


@dataclass
class Layout:
    """Places of boxes and lines, in the unit of the sizes, y downwards.

    Attributes:
        width, height: of all of it.
        boxes: (x, y) of each box's centre.
        lines: for each line (from, to) its points; between two points of different x it may bend,
            at equal x it is straight.
    """

    width: float = 0.0
    height: float = 0.0
    boxes: dict[Key, tuple[float, float]] = field(default_factory=dict)
    lines: dict[tuple[Key, Key], list[tuple[float, float]]] = field(default_factory=dict)


def layout(
    sizes: Mapping[Key, tuple[float, float]],
    lines: Sequence[tuple[Key, Key]],
    *,
    across: float = 0.25,
    down: float = 0.3,
    stub: float = 0.0,
    lane: float = 0.14,
) -> Layout:
    """Lay out boxes and lines.

    Args:
        sizes: (width, height) of each box, in an order in which each comes after those it reads.
        lines: (from, to), each from an earlier box to a later one.
        across: room between boxes of a row.
        down: room between rows.
        stub: how far a line goes straight down before it may bend.
        lane: room that a passing line takes.
    """
    found = _Layered(sizes, list(dict.fromkeys(lines)), across, lane)
    return found.placed(down, stub)


class _Layered:
    def __init__(
        self,
        sizes: Mapping[Key, tuple[float, float]],
        lines: list[tuple[Key, Key]],
        across: float,
        lane: float,
    ) -> None:
        self.sizes, self.lines, self.across, self.lane = sizes, lines, across, lane
        self.rank = ranks(sizes, lines)
        self.chains: dict[tuple[Key, Key], list[Key]] = {}  # each line's lanes, from row to row
        self.weights: dict[tuple[Key, Key], float] = {}  # of pieces from one row to the next
        rows: list[list[Key]] = [[] for _ in range(max(self.rank.values(), default=-1) + 1)]
        for key in sizes:
            rows[self.rank[key]].append(key)
        bypassing = _bypassing(sizes, lines)
        self.light: set[Key] = set()  # lanes of lines that only pass by
        leave, come = (Counter(line[k] for line in lines) for k in (0, 1))
        for a, b in lines:
            lanes: list[Key] = [("lane", a, b, r) for r in range(self.rank[a] + 1, self.rank[b])]
            for r, key in enumerate(lanes, self.rank[a] + 1):
                rows[r].append(key)
            if (a, b) in bypassing:
                self.light.update(lanes)
            chain = [a, *lanes, b]
            self.chains[a, b] = chain
            for piece in itertools.pairwise(chain):
                inner = piece[0] in lanes and piece[1] in lanes
                alone = leave[a] == come[b] == 1 and not lanes
                ends = _BYPASS if (a, b) in bypassing else _CHAIN if alone else 1.0
                self.weights[piece] = _LANE if inner else ends
        self.up: dict[Key, list[Key]] = {key: [] for row in rows for key in row}
        self.below: dict[Key, list[Key]] = {key: [] for row in rows for key in row}
        for a, b in self.weights:
            self.up[b].append(a)
            self.below[a].append(b)
        self.rows = self._ordered(rows)
        self.near_up = {key: list(near) for key, near in self.up.items()}
        self.near_below = {key: list(near) for key, near in self.below.items()}
        self.forks = _forks(sizes, lines)
        for join, fork in self.forks.items():
            self.near_up[join].append(fork)
            self.near_below[fork].append(join)

    def width(self, key: Key) -> float:
        return self.sizes[key][0] if key in self.sizes else self.lane

    # ---- order in a row --------------------------------------------------------------------

    def _ordered(self, rows: list[list[Key]]) -> list[list[Key]]:
        """The rows in an order with few crossings: sorted by their neighbours, again and again."""
        rows = self._sorted(rows, range(len(rows)), self.up)
        best, fewest = rows, self._crossings(rows)
        for turn in range(_SWEEPS):
            if fewest == 0:
                break
            ups = turn % 2 == 0
            order = range(len(rows) - 1, -1, -1) if ups else range(len(rows))
            rows = self._sorted(rows, order, self.below if ups else self.up)
            count = self._crossings(rows)
            if count < fewest:
                best, fewest = rows, count
        return best

    def _sorted(
        self, rows: list[list[Key]], order: Sequence[int], near: Mapping[Key, list[Key]]
    ) -> list[list[Key]]:
        rows = [list(row) for row in rows]
        at: dict[Key, float] = {key: k for row in rows for k, key in enumerate(row)}
        for r in order:
            means = {
                key: float(np.mean([at[n] for n in near[key]])) if near[key] else at[key]
                for key in rows[r]
            }
            rows[r].sort(key=lambda key: means[key])
            at.update({key: k for k, key in enumerate(rows[r])})
        return rows

    def _crossings(self, rows: list[list[Key]]) -> int:
        at = {key: k for row in rows for k, key in enumerate(row)}
        count = 0
        for row in rows:
            ends = [(at[a], at[b]) for a in row for b in self.below[a]]
            pairs = np.array(ends).reshape(-1, 2)
            left = pairs[:, None, 0] < pairs[None, :, 0]
            count += int((left & (pairs[:, None, 1] > pairs[None, :, 1])).sum())
        return count

    # ---- places ----------------------------------------------------------------------------

    def placed(self, down: float, stub: float) -> Layout:
        """Everything in its place, the upper left corner at (0, 0)."""
        x = self._across()
        low = min((x[key] - self.width(key) / 2 for key in x), default=0.0)
        high = max((x[key] + self.width(key) / 2 for key in x), default=0.0)
        x = {key: place - low for key, place in x.items()}
        heights = [max(self.sizes[k][1] for k in row if k in self.sizes) for row in self.rows]
        tops = np.cumsum([0.0, *(height + down for height in heights)]).tolist()
        spans = [(top, top + height) for top, height in zip(tops, heights, strict=False)]
        found = Layout(width=high - low, height=max(0.0, tops[-1] - down))
        for key in self.sizes:
            found.boxes[key] = (x[key], sum(spans[self.rank[key]]) / 2)
        for (a, b), chain in self.chains.items():
            rows = [spans[r] for r in range(self.rank[a], self.rank[b] + 1)]
            (xa, ya), (xb, yb) = found.boxes[a], found.boxes[b]
            points = [(xa, ya + self.sizes[a][1] / 2), (xa, rows[0][1] + stub)]
            for key, (top, bottom) in zip(chain[1:-1], rows[1:-1], strict=True):
                points += [(x[key], top), (x[key], bottom + stub)]
            points += [(xb, rows[-1][0]), (xb, yb - self.sizes[b][1] / 2)]
            found.lines[a, b] = points
        return found

    def _across(self) -> dict[Key, float]:
        """x of every box and lane: rows down and up, each as near to its neighbours as it can."""
        x: dict[Key, float] = {key: 0.0 for row in self.rows for key in row}
        both = {key: [*self.near_up[key], *self.near_below[key]] for key in x}
        down, up = range(len(self.rows)), range(len(self.rows) - 1, -1, -1)
        for turn in range(2 * _SWEEPS):
            hold = _JOIN[turn >= _SWEEPS]  # first loosely, so that both move as they will
            self.weights.update({(fork, join): hold for join, fork in self.forks.items()})
            for order, near in ((down, self.near_up), (up, self.near_below), (down, both)):
                for r in order:
                    self._move(self.rows[r], x, near)
        self._straighten(x)
        return x

    def _straighten(self, x: dict[Key, float]) -> None:
        """Lanes that run right of all boxes, each as one straight line as far in as it can."""
        before: dict[Key, Key] = {}  # what stands left of each key
        outer: set[Key] = set()
        for row in self.rows:
            before.update({b: a for a, b in itertools.pairwise(row)})
            last = max((k for k, key in enumerate(row) if key in self.sizes), default=-1)
            outer.update(row[last + 1 :])
        chains = [c[1:-1] for c in self.chains.values() if c[1:-1] and outer.issuperset(c[1:-1])]
        for _ in chains:  # a lane may stand right of another, that one of a third …
            for chain in chains:
                left = [before[key] for key in chain if key in before]
                rooms = [x[a] + self._room(a, b) for a, b in zip(left, chain, strict=False)]
                place = max(rooms, default=x[chain[0]])
                x.update(dict.fromkeys(chain, place))

    def _room(self, a: Key, b: Key) -> float:
        """How far the middles of neighbours are apart at least."""
        room = self.across if a in self.sizes and b in self.sizes else self.across / 2
        return (self.width(a) + self.width(b)) / 2 + room

    def _move(self, row: list[Key], x: dict[Key, float], near: Mapping[Key, list[Key]]) -> None:
        wanted, weights, gaps = [], [], [0.0]
        for key in row:
            pulls = [self._weight(key, n) for n in near[key]]
            total = sum(pulls)
            spots = [p * x[n] for p, n in zip(pulls, near[key], strict=True)]
            wanted.append(sum(spots) / total if total else x[key])
            weights.append((total or 1e-3) * (_LIGHT if key in self.light else 1.0))
        for a, b in itertools.pairwise(row):
            gaps.append(gaps[-1] + self._room(a, b))
        offsets = np.array(gaps)
        found = increasing(np.array(wanted) - offsets, np.array(weights)) + offsets
        x.update(zip(row, found.tolist(), strict=True))

    def _weight(self, a: Key, b: Key) -> float:
        return self.weights.get((a, b), self.weights.get((b, a), 0.0))


def increasing(wanted: Numbers, weights: Numbers) -> Numbers:
    """The sequence that never falls and is nearest to `wanted`, by weighted least squares.

    Neighbours that would fall are pooled to their mean until none does.

    >>> increasing(np.array([3.0, 1.0, 5.0]), np.array([1.0, 1.0, 1.0])).tolist()
    [2.0, 2.0, 5.0]
    """
    pools: list[list[float]] = []  # mean, weight, count
    for value, weight in zip(wanted, weights, strict=True):
        pools.append([float(value), float(weight), 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, total, count = pools.pop()
            other = pools[-1]
            other[0] = (other[0] * other[1] + mean * total) / (other[1] + total)
            other[1], other[2] = other[1] + total, other[2] + count
    return np.repeat([p[0] for p in pools], [int(p[2]) for p in pools])


def ranks(sizes: Mapping[Key, object], lines: Sequence[tuple[Key, Key]]) -> dict[Key, int]:
    """Each box's row: one below the lowest that it reads."""
    reads: dict[Key, list[Key]] = {key: [] for key in sizes}
    for a, b in lines:
        reads[b].append(a)
    rank: dict[Key, int] = {}
    for key in sizes:
        rank[key] = max((rank[a] + 1 for a in reads[key]), default=0)
    return rank


def _bypassing(
    sizes: Mapping[Key, object], lines: Sequence[tuple[Key, Key]]
) -> set[tuple[Key, Key]]:
    """The lines beside which another way leads from the one end to the other."""
    order = {key: k for k, key in enumerate(sizes)}
    below: dict[Key, list[Key]] = {key: [] for key in sizes}
    for a, b in lines:
        below[a].append(b)
    found = set()
    for a, b in lines:
        if len(below[a]) < 2:
            continue
        reached = {key for key in below[a] if key != b}
        stack = list(reached)
        while stack:
            for key in below[stack.pop()]:
                if key not in reached and order[key] <= order[b]:
                    reached.add(key)
                    stack.append(key)
        if b in reached:
            found.add((a, b))
    return found


def _forks(sizes: Mapping[Key, object], lines: Sequence[tuple[Key, Key]]) -> dict[Key, Key]:
    """For each box that reads several, the last one that every way to it goes through."""
    reads: dict[Key, list[Key]] = {key: [] for key in sizes}
    for a, b in lines:
        reads[b].append(a)
    depth: dict[Key, int] = {}
    through: dict[Key, Key] = {}  # the last box that every way to a box goes through
    for key in sizes:
        found = reads[key][0] if reads[key] else None
        for other in reads[key][1:]:
            while found is not None and found != other:
                deeper, shallow = (found, other) if depth[found] > depth[other] else (other, found)
                found, other = through.get(deeper), shallow
        depth[key] = 0 if found is None else depth[found] + 1
        if found is not None:
            through[key] = found
    return {key: through[key] for key in sizes if len(reads[key]) > 1 and key in through}


# ---- columns -------------------------------------------------------------------------------------


def cuts(sizes: Mapping[Key, object], lines: Sequence[tuple[Key, Key]]) -> list[Key]:
    """The boxes that every way from top to bottom goes through: where a drawing may be cut below.

    >>> cuts(dict.fromkeys("abcd"), [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    ['a']
    """
    order = list(sizes)
    at = {key: k for k, key in enumerate(order)}
    farthest, found = 0, []
    reach = [0] * len(order)
    for a, b in lines:
        reach[at[a]] = max(reach[at[a]], at[b])
    for k, key in enumerate(order[:-1]):
        if farthest <= k and reach[k] > k:
            found.append(key)
        farthest = max(farthest, reach[k])
    return found


def split(
    sizes: Mapping[Key, tuple[float, float]],
    lines: Sequence[tuple[Key, Key]],
    columns: int,
) -> list[list[Key]]:
    """The boxes in as many columns of about the same height, cut where one box joins all."""
    rank = ranks(sizes, lines)
    possible = {rank[key] + 1: key for key in cuts(sizes, lines)}
    ends = [*sorted(possible), max(rank.values(), default=0) + 1]
    best = {end: (end, [end]) for end in ends}  # tallest column, and where the columns end
    for _ in range(min(columns, len(ends)) - 1):
        best = {
            end: min(
                (max(best[cut][0], end - cut), [*best[cut][1], end]) for cut in ends if cut < end
            )
            if end != ends[0]
            else best[end]
            for end in ends
        }
    last = {possible[end] for end in best[ends[-1]][1] if end in possible}
    parts: list[list[Key]] = [[]]
    for key in sizes:
        parts[-1].append(key)
        if key in last:
            parts.append([])
    return [part for part in parts if part]
