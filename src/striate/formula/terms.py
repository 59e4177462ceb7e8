"""The exact arithmetic behind one number of a formula, as a tree of steps.

A step is a part of the formula with its value at one place. A sum or a maximum carries its terms:
which places of which tensors were read, what stood there, and what came out. This file computes
number by number in Python's float64 and knows nothing of screens (see `inspect.explain`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula.expression import NUMPY, Call, Const, Expr, Read, Reduce, children
from striate.formula.numeric import axes_of

if TYPE_CHECKING:
    from striate.formula.formula import Formula

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """A number that was read: `tensor[index] = value`; padding where it is not `inside`."""

    tensor: str
    index: tuple[int, ...]
    value: float
    inside: bool


@dataclass(frozen=True)
class Term:
    """One term of a sum or maximum: its place on the axes that it runs over, reads and value."""

    at: Mapping[str, int]
    places: tuple[Place, ...]
    value: float


@dataclass(frozen=True)
class Step:
    """A part of the formula and its value.

    Attributes:
        kind: "sum", "max", "read", "const", or the name of a function.
        text: the part as the formula writes it.
        value: its value in float64.
        parts: the steps that it is computed from (of a function).
        terms: the terms of a sum or maximum.
        places: what a read reads.
    """

    kind: str
    text: str
    value: float
    parts: tuple[Step, ...] = ()
    terms: tuple[Term, ...] = ()
    places: tuple[Place, ...] = ()

    def find(self, kind: str) -> Step | None:
        """The first step of that kind, outermost first."""
        if self.kind == kind:
            return self
        return next((hit for part in self.parts if (hit := part.find(kind))), None)


def explain(formula: Formula, place: Mapping[str, int], arrays: Mapping[str, Array]) -> Step:
    """The steps behind the number where the free axes have the values in `place`."""
    return _Walk(formula, arrays).step(formula.body, dict(place))


class _Walk:
    def __init__(self, formula: Formula, arrays: Mapping[str, Array]) -> None:
        self.formula = formula
        self.arrays = arrays
        self._known: dict[tuple[Any, ...], float] = {}

    def step(self, e: Expr, at: dict[str, int]) -> Step:
        if isinstance(e, Reduce):
            found = tuple(self._term(e, at, values) for values in self._runs(e))
            value = _total(e.how, [term.value for term in found])
            return Step(e.how, str(e), value, terms=found)
        if isinstance(e, Read):
            place = self._place(e, at)
            return Step("read", str(e), place.value, places=(place,))
        if isinstance(e, Call):
            parts = tuple(self.step(a, at) for a in e.arguments)
            value = float(NUMPY[e.function](*(np.float64(part.value) for part in parts)))
            return Step(e.function, str(e), value, parts)
        return Step("const", str(e), self._value(e, at))

    def _runs(self, e: Reduce) -> itertools.product[tuple[int, ...]]:
        return itertools.product(*(range(self.formula.sizes[a]) for a in e.over))

    def _term(self, e: Reduce, at: dict[str, int], values: tuple[int, ...]) -> Term:
        run = dict(zip(e.over, values, strict=True))
        inner = {**at, **run}
        places = tuple(self._place(read, inner) for read in _direct_reads(e.body))
        return Term(run, places, self._value(e.body, inner))

    def _place(self, read: Read, at: Mapping[str, int]) -> Place:
        array = self.arrays[read.tensor]
        index = tuple(int(k.at(at)) for k in read.index)
        inside = all(0 <= k < n for k, n in zip(index, array.shape, strict=True))
        value = array[index] if inside else self.formula.outside.get(read.tensor, 0.0)
        return Place(read.tensor, index, float(value), inside)

    def _value(self, e: Expr, at: dict[str, int]) -> float:
        if isinstance(e, Const):
            return e.value
        key = (e, *(at[a] for a in sorted(axes_of(e)) if a in at))
        if key not in self._known:
            self._known[key] = self._fresh(e, at)
        return self._known[key]

    def _fresh(self, e: Expr, at: dict[str, int]) -> float:
        if isinstance(e, Read):
            return self._place(e, at).value
        if isinstance(e, Reduce):
            runs = ({**at, **dict(zip(e.over, v, strict=True))} for v in self._runs(e))
            return _total(e.how, [self._value(e.body, inner) for inner in runs])
        if isinstance(e, Call):
            return float(NUMPY[e.function](*(np.float64(self._value(a, at)) for a in e.arguments)))
        raise OptionError(f"formula: expected no free scalar; got {e}. Give it a value first.")


def _direct_reads(e: Expr) -> list[Read]:
    """The reads of a term itself, not those of sums inside it."""
    if isinstance(e, Read):
        return [e]
    return (
        [] if isinstance(e, Reduce) else [r for child in children(e) for r in _direct_reads(child)]
    )


def _total(how: str, values: list[float]) -> float:
    if how == "sum":
        return float(sum(values))
    return math.nan if any(map(math.isnan, values)) else max(values)
