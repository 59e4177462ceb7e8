"""How a window moves: the law by which a unit's place gives its span along an axis of the input.

A law is repetitive: unit i + period reads what unit i reads, moved on by `step`. A convolution's
has period 1 and its stride as step; a transposed convolution of stride 2 has period 2 and step 1;
a table of windows repeats with its length. So laws hold beyond the edges of a tensor too, where
padding stands, and they can be put one behind the other without loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.formula.expression import Index
from striate.formula.formula import Formula
from striate.inspect.regions import Weighted, index_values, weights_nonzero

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Law:
    """First and last place of the input for each place along one axis of a tensor.

    `first(i) = low[i mod period] + step·⌊i/period⌋`, likewise the last with `high`.

    Attributes:
        dim: the axis of the tensor that i counts, the batch being 0; None where all units have one
            span.
        low: (period,); +∞ where nothing is read.
        high: (period,); −∞ where nothing is read.
        step: how far the span moves on in a period.
        aligned: whether all paths to here move by the same stride around the same centre.
        pooled: whether one of the paths looks at one span from everywhere, as global pooling does.
    """

    dim: int | None
    low: Numbers
    high: Numbers
    step: int
    aligned: bool = True
    pooled: bool = False

    @property
    def period(self) -> int:
        return len(self.low)

    @property
    def stride(self) -> Fraction:
        """How far the span moves from one unit to the next, in the mean."""
        return Fraction(self.step, self.period)

    @property
    def monotone(self) -> bool:
        """Whether no unit's span begins before that of the unit before it."""
        ends = np.append(self.low, self.low[0] + self.step)
        with np.errstate(invalid="ignore"):  # ∞ − ∞ where two units read nothing
            steps = np.diff(ends)
        steps = steps[np.isfinite(steps)]
        return bool((steps >= 0).all() if self.step >= 0 else (steps <= 0).all())

    def spans(self, places: Any) -> tuple[Numbers, Numbers]:
        """First and last place of the input for units, inside the tensor or beyond its edges."""
        around, within = np.divmod(places, self.period)
        return self.low[within] + self.step * around, self.high[within] + self.step * around


def identity(dim: int) -> Law:
    """The law of the input itself."""
    return Law(dim, np.zeros(1), np.zeros(1), 1)


def reduced(law: Law) -> Law:
    """The same law with the smallest period."""
    p = law.period
    for q in (q for q in range(1, p) if p % q == 0 and law.step * q % p == 0):
        places = np.arange(p)
        around, within = np.divmod(places, q)
        moved = law.step * q // p * around
        if np.array_equal(law.low, law.low[within] + moved) and np.array_equal(
            law.high, law.high[within] + moved
        ):
            step = law.step * q // p
            return replace(law, low=law.low[:q], high=law.high[:q], step=step)
    return law


def constant(law: Law, places: Any) -> Law:
    """The span of all these units together, the same for everyone who reads them."""
    low, high = law.spans(np.asarray(places))
    return Law(
        None,
        np.array([low.min(initial=np.inf)]),
        np.array([high.max(initial=-np.inf)]),
        0,
        law.aligned,
    )


def composed(law: Law, dim: int, places: Places, valid: Any, step: int, size: int) -> Law:
    """The law of units that read places of a tensor, from the tensor's own law.

    Args:
        law: of the tensor that is read, along the axis that the places count.
        dim: the axis of the output that the units lie along.
        places: (period, k): what each unit of one period reads.
        valid: (period, k): which of them are read at all.
        step: how far the places move on in a period.
        size: how many units there are.
    """
    if law.dim is None:
        return law
    period = len(places)
    times = law.period // math.gcd(law.period, step) if step else 1
    if period * times > max(4 * size, 1 << 16):
        times = max(1, -(-size // period))  # laws that hardly ever repeat: exact inside only
    i = np.arange(period * times)
    spots = places[i % period] + step * (i // period)[:, None]
    low, high = law.spans(spots)
    shown = np.broadcast_to(np.asarray(valid), places.shape)[i % period]
    low = np.where(shown, low, np.inf).min(axis=1)
    high = np.where(shown, high, -np.inf).max(axis=1)
    moved = round(law.stride * step * times)
    return reduced(Law(dim, low, high, moved, law.aligned, law.pooled))


def joined(laws: Sequence[Law], shape: Sequence[int], paths: bool = True) -> Law:
    """The hull of several laws of one tensor.

    Args:
        laws: of the paths by which the input reaches the tensor.
        shape: of the tensor, the batch included.
        paths: whether they are paths of a network, which may be out of line, or reads of one
            window.
    """
    aligned = all(law.aligned for law in laws)
    moving = [(law.dim, law) for law in laws if law.dim is not None]
    if not moving:
        low, high = min(law.low[0] for law in laws), max(law.high[0] for law in laws)
        return Law(None, np.array([low]), np.array([high]), 0, aligned)
    dim, main = max(moving, key=lambda pair: abs(pair[1].stride))
    along = [law for own, law in moving if own == dim]
    rest = [law for law in laws if law.dim is None]
    rest += [constant(law, np.arange(shape[own])) for own, law in moving if own != dim]
    period = math.lcm(*(law.period for law in along))
    same = all(law.stride == main.stride for law in along)
    if rest or not same:  # no law of its own: right inside the tensor, extended by the main stride
        period = main.period * max(1, -(-shape[dim] // main.period))
    spans = [law.spans(np.arange(period)) for law in [*along, *rest]]
    low, high = np.min([low for low, _ in spans], axis=0), np.max([h for _, h in spans], axis=0)
    if paths:
        aligned &= len(along) == len(moving) and same and _centred(spans[: len(along)])
    pooled = any(law.pooled or law.dim is None for law in laws)
    return reduced(Law(dim, low, high, round(main.stride * period), aligned, pooled))


def _centred(spans: Sequence[tuple[Numbers, Numbers]]) -> bool:
    """Whether all spans have one centre; +∞ − ∞ where nothing is read counts as any."""
    with np.errstate(invalid="ignore"):
        centres = np.array([low + high for low, high in spans])
    known = np.where(np.isnan(centres), np.nanmax(centres, axis=0, initial=-np.inf), centres)
    return bool((known == known[0]).all())


# ---- from formulas -------------------------------------------------------------------------------


def read_law(law: Law, formula: Formula, weighted: Weighted) -> Law:
    """The law of a formula's output by one of its reads, from the law of the tensor read."""
    if law.dim is None:
        return law
    index = weighted.read.index[law.dim]
    dim = _main(formula, index)
    size = formula.shapes[weighted.read.tensor][law.dim]
    if dim is None:
        values, valid = _run(formula, weighted, law.dim, {})
        return constant(law, values[valid])
    outer, unit = _outermost(formula, dim)
    coefficient = dict(index.terms).get(outer, 0)
    count = formula.shape[dim]
    if count == 1 and (index.table or coefficient == size > 1):  # one window over everything
        values, valid = _run(formula, weighted, law.dim, dict.fromkeys([outer], 0))
        return constant(law, values[valid])
    if index.mod or index.table:  # repeats with the tensors
        period, step = count, size
    else:
        times = index.div // math.gcd(index.div, coefficient) if coefficient else 1
        period, step = unit * times, coefficient * times // index.div
    i = np.arange(period)
    at = {a: i // s % formula.sizes[a] for a, s in formula.output[dim].terms}
    at[outer] = i // unit
    values, valid = _run(formula, weighted, law.dim, at)
    return composed(law, dim, values, valid, step, count)


def _main(formula: Formula, index: Index) -> int | None:
    """The axis of the output that moves an index the furthest."""
    reach: dict[int, tuple[int, int]] = {}
    for dim, output in enumerate(formula.output):
        own = [abs(dict(index.terms).get(a, 0)) for a, _ in output.terms]
        spans = [c * (formula.sizes[a] - 1) for c, (a, _) in zip(own, output.terms, strict=True)]
        if any(own):
            reach[dim] = (sum(spans), max(own))
    return max(reach, key=lambda dim: reach[dim]) if reach else None


def _outermost(formula: Formula, dim: int) -> tuple[str, int]:
    """The named axis that counts on where an axis of the output goes on, and its step there."""
    terms = formula.output[dim].terms
    return next((term for term in terms if formula.sizes[term[0]] > 1), terms[0])


def _run(
    formula: Formula, weighted: Weighted, dim: int, at: dict[str, Any]
) -> tuple[Places, NDArray[np.bool_]]:
    """The values of one index of a read, (places, runs of its other axes), and which are read."""
    index = weighted.read.index[dim]
    others = [a for a, _ in index.terms if a not in at]
    grid = np.meshgrid(*(np.arange(formula.sizes[a]) for a in others), indexing="ij")
    run = {a: g.reshape(1, -1) for a, g in zip(others, grid, strict=True)}
    spots = {a: np.reshape(v, (-1, 1)) for a, v in at.items()} | run
    values, valid = index_values(index, spots)
    form = np.broadcast_shapes(*(np.shape(v) for v in spots.values()), (1, 1))
    inside = {a: v for a, v in spots.items() if np.max(v) < formula.sizes[a]}
    weighing = weights_nonzero(formula, weighted.constants, inside)
    return np.broadcast_to(values, form), np.broadcast_to(valid & weighing, form)
