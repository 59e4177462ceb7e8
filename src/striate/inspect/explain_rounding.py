"""How float32 rounds a number that is known exactly: what it may do, and what it did.

A sum of float32 numbers depends on the order in which it is added up. Here are the bound for any
order, the result of the order that the formula states, and distances in units in the last place.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.formula.expression import DERIVATIVES, Const, Expr, Read, Reduce
from striate.formula.formula import Formula, walk
from striate.formula.numeric import factors
from striate.formula.terms import Step, Terms, Values

EPS = 2.0**-23  # twice the rounding error of one float32 operation
TINY = 2.0**-126  # results below this may be flushed to 0
WINOGRAD = 1e-5  # of the largest number; measured 4e-6


@dataclass(frozen=True)
class Ordered:
    """A number in float32, summed up in a stated order.

    Attributes:
        axes: those of its sum, the last fastest; () where there is none.
        value: with every product and every sum rounded.
        fused: with fused multiply-adds, which round a product and its sum together; None where
            the terms are no products.
    """

    axes: tuple[str, ...]
    value: float
    fused: float | None = None


def in_order(
    formula: Formula,
    place: Mapping[str, int],
    arrays: Mapping[str, NDArray[Any]],
    step: Step,
) -> Ordered:
    """The number at a place in float32, its sums added up term by term as the formula has them.

    Args:
        formula, place, arrays: as for `formula.terms.explain`.
        step: what that gave.
    """
    sums = [e for e in walk(formula.body) if isinstance(e, Reduce) and e.how == "sum"]
    with np.errstate(all="ignore"):
        value = float(Values(formula, arrays, np.float32).value(formula.body, place, 0))
        if len(sums) != 1 or not _is_product(sums[0].body):
            return Ordered(sums[0].over if sums else (), value)
        known: dict[Expr, Any] = {sums[0]: np.float32(_fused(step.find("sum")))}
        values = Values(formula, arrays, np.float32, known=known)
        return Ordered(sums[0].over, value, float(values.value(formula.body, place, 0)))


def _is_product(e: Expr) -> bool:
    scale, parts = factors(e)
    return scale == 1 and len(parts) == 2 and all(isinstance(part, Read) for part in parts)


def _fused(step: Step | None) -> float:
    """Σ of exact products, rounded after each addition only."""
    total = array("f", [0.0])  # storing in it rounds, several times faster than np.float32
    for product in step.terms.values.tolist() if step is not None else ():
        total[0] = total[0] + product
    return total[0]


def sum_in_order(parts: Sequence[Terms]) -> Ordered:
    """A gradient's terms, upstream times slope, added up one after the other in float32."""
    products = [
        part.reads[0].values.astype(np.float32) * np.asarray(part.slopes, np.float32)
        for part in parts
    ]
    row = np.concatenate(products) if products else np.zeros(1, np.float32)
    with np.errstate(all="ignore"):
        total = np.add.accumulate(row)[-1] if len(row) else np.float32(0)
    dims = parts[0].dims if len(parts) == 1 else ()
    return Ordered(tuple(axis for dim in dims for axis in dim), float(total))


def ulps(a: float, b: float) -> int | None:
    """How many float32 numbers lie from `a` to `b`; None where one is no number.

    >>> ulps(1.0, 1.0 + 2**-23), ulps(0.0, -0.0), ulps(1.0, float("nan"))
    (1, 0, None)
    """
    if math.isnan(a) or math.isnan(b):
        return 0 if math.isnan(a) and math.isnan(b) else None
    with np.errstate(over="ignore"):
        first, second = (int(np.float32(k).view(np.int32)) for k in (a, b))
    first, second = (k if k >= 0 else -(k & 0x7FFFFFFF) for k in (first, second))
    return abs(first - second)


def rounding(step: Step, read: float = 0.0) -> float:
    """How far float32 arithmetic, in any order of summation, may be from `step.value`.

    A sum of m terms: `(√m + 4)·ε·Σ|term|`, since roundings go either way.
    A function: `Σ |∂f/∂part|·(error of the part) + 4ε·|value|`. A read: `read`.
    """
    if step.kind == "read":
        return read
    if step.kind == "sum":
        return of_sum(step.terms.values)
    if step.kind not in DERIVATIVES:
        plain = step.kind == "max" and len(step.terms.reads) == 1
        return 0.0 if plain else 4 * EPS * abs(step.value)
    errors = [rounding(part, read) for part in step.parts]
    if step.kind in ("maximum", "minimum"):
        return max(errors)
    if step.kind == "where":
        return _of_choice(step, errors, read)
    with np.errstate(all="ignore"):
        arguments: tuple[Expr, ...] = tuple(Const(part.value) for part in step.parts)
        partials = DERIVATIVES[step.kind](arguments, Const(step.value))
        carried = sum(
            abs(_constant(partial)) * error
            for partial, error in zip(partials, errors, strict=True)
            if error
        )
    return carried + 4 * EPS * abs(step.value)


def of_sum(values: NDArray[Any], more: int = 4) -> float:
    """`(√m + more)·ε·Σ|term|`."""
    return float((math.sqrt(len(values)) + more) * EPS * np.abs(values).sum())


def of_winograd(values: NDArray[Any] | None) -> float:
    """What Winograd may add: it rounds sums of a whole tile, so an error does not shrink where the
    terms of one number happen to be small.

    Args:
        values: all that the layer computed.
    """
    if values is None or not values.size:
        return 0.0
    largest = max(float(values.max()), -float(values.min()))
    if not math.isfinite(largest):
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max(initial=0.0))
    return WINOGRAD * largest


def _of_choice(step: Step, errors: list[float], read: float) -> float:
    """The error of the branch taken; of either, where rounding may have turned the comparison."""
    condition, yes, no = step.parts
    sides = [part.value for part in condition.parts]
    margin = sum(rounding(part, read) for part in condition.parts)
    if len(sides) == 2 and abs(sides[0] - sides[1]) > margin:
        return errors[1] if condition.value else errors[2]
    return max(errors[1:]) + abs(yes.value - no.value)


def _constant(e: Expr) -> float:
    return e.value if isinstance(e, Const) else math.inf
