"""The exact arithmetic behind one number of a formula, as a tree of steps.

A step is a part of the formula with its value at one place. A sum or a maximum carries its terms:
which places of which tensors were read, what stood there, and what came out. The terms of a sum
are computed together as arrays, since there may be tens of thousands; of the tensors only what is
read is touched. This file knows nothing of screens (see `inspect.explain`). What the terms of a
gradient are is in `formula.terms_gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula.expression import NUMPY, Call, Const, Expr, Read, Reduce, children

if TYPE_CHECKING:
    from striate.formula.formula import Formula

Array = NDArray[np.float64]
Ints = NDArray[np.intp]
Where = Mapping[str, Any]  # the value of each axis: a whole number, or an array of them


@dataclass(frozen=True)
class Place:
    """A number that was read: `tensor[index] = value`; padding where it is not `inside`."""

    tensor: str
    index: tuple[int, ...]
    value: float
    inside: bool


@dataclass(frozen=True)
class Term:
    """One term of a sum or maximum: its place on the axes that it runs over, reads and value.

    `slope` is what a gradient's term multiplies the upstream gradient by; else None.
    """

    at: Mapping[str, int]
    places: tuple[Place, ...]
    value: float
    slope: float | None = None


@dataclass(frozen=True, eq=False)
class Reads:
    """What all terms of a sum read of one tensor: arrays with an entry for each term."""

    tensor: str
    index: tuple[Ints, ...]
    values: Array
    inside: NDArray[np.bool_]

    def take(self, which: Ints) -> Reads:
        """Those of some terms."""
        index = tuple(k[which] for k in self.index)
        return Reads(self.tensor, index, self.values[which], self.inside[which])

    def place(self, number: int) -> Place:
        """What one term reads."""
        index = tuple(int(k[number]) for k in self.index)
        return Place(self.tensor, index, float(self.values[number]), bool(self.inside[number]))


class Terms(Sequence[Term]):
    """The terms of a sum or maximum in the formula's order, the last axis fastest.

    Attributes:
        dims: the axes that the terms are laid out along; a dimension that several axes move
            along together names them all.
        shape: how many terms along each.
        at: for each axis its value in each term.
        reads: what the terms read, an entry for each tensor read.
        values: the terms.
        slopes: of a gradient's terms what the upstream gradient is multiplied by.
    """

    def __init__(
        self,
        dims: Sequence[tuple[str, ...]] = (),
        shape: Sequence[int] = (0,),
        at: Mapping[str, Ints] | None = None,
        reads: Sequence[Reads] = (),
        values: Array | None = None,
        slopes: Array | None = None,
    ) -> None:
        self.dims, self.shape = tuple(dims), tuple(shape)
        self.at, self.reads = dict(at or {}), tuple(reads)
        self.values = np.zeros(0) if values is None else values
        self.slopes = slopes

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, key: int) -> Term: ...
    @overload
    def __getitem__(self, key: slice) -> Terms: ...
    def __getitem__(self, key: int | slice) -> Term | Terms:
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key])
        number = range(len(self))[key]  # the IndexError of a sequence
        at = {axis: int(values[number]) for axis, values in self.at.items()}
        slope = None if self.slopes is None else float(self.slopes[number])
        places = tuple(read.place(number) for read in self.reads)
        return Term(at, places, float(self.values[number]), slope)

    def __iter__(self) -> Iterator[Term]:
        return (self[k] for k in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Terms) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, which: Ints) -> Terms:
        """Some of the terms, in a row."""
        return Terms(
            [tuple(self.at)],
            (len(which),),
            {axis: values[which] for axis, values in self.at.items()},
            [read.take(which) for read in self.reads],
            self.values[which],
            None if self.slopes is None else self.slopes[which],
        )

    def largest(self, count: int) -> Ints:
        """The numbers of the terms with the largest absolute values, the largest first."""
        size = np.abs(np.where(np.isnan(self.values), np.inf, self.values))
        return np.asarray(np.argsort(-size, kind="stable")[:count])

    def total(self) -> float:
        """Their sum, rounded once."""
        return exact_sum(self.values)


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
    terms: Terms = field(default_factory=Terms)
    places: tuple[Place, ...] = ()

    def find(self, kind: str) -> Step | None:
        """The first step of that kind, outermost first."""
        if self.kind == kind:
            return self
        return next((hit for part in self.parts if (hit := part.find(kind))), None)


def explain(formula: Formula, place: Mapping[str, int], arrays: Mapping[str, NDArray[Any]]) -> Step:
    """The steps behind the number where the free axes have the values in `place`.

    Args:
        formula: what is computed.
        place: the value of each free axis.
        arrays: the tensors and constants, of any kind of number.
    """
    return _Walk(formula, arrays, place).step(formula.body)


def exact_sum(values: Array) -> float:
    """A sum that is rounded once; NaN and infinities as usual.

    >>> exact_sum(np.array([1e100, 1.0, -1e100]))
    1.0
    """
    if not np.isfinite(values).all():
        return float(np.sum(values))
    try:
        return math.fsum(values.tolist())
    except OverflowError:
        return float(np.sum(values))


class _Walk:
    """The steps at one place."""

    def __init__(
        self, formula: Formula, arrays: Mapping[str, NDArray[Any]], place: Mapping[str, int]
    ) -> None:
        self.values, self.at = Values(formula, arrays), place
        self._known: dict[Expr, Step] = {}

    def step(self, e: Expr) -> Step:
        if e not in self._known:
            self._known[e] = self._step(e)
        return self._known[e]

    def _step(self, e: Expr) -> Step:
        if isinstance(e, Reduce):
            terms = self.values.terms(e, self.at)
            total = terms.total() if e.how == "sum" else float(np.max(terms.values))
            return Step(e.how, str(e), total, terms=terms)
        if isinstance(e, Read):
            place = self.values.place(e, self.at)
            return Step("read", str(e), place.value, places=(place,))
        if isinstance(e, Call):
            parts = tuple(self.step(a) for a in e.arguments)
            value = float(NUMPY[e.function](*(np.float64(part.value) for part in parts)))
            return Step(e.function, str(e), value, parts)
        return Step("const", str(e), float(self.values.value(e, self.at, 0)))


class Values:
    """Values of parts of a formula at one place, or at many places at once.

    Where an axis has an array of values, the arrays of all axes broadcast against each other, and
    `rank` says how many dimensions they have. An array spans only the axes that it depends on.

    Args:
        formula: of which the parts are.
        arrays: the tensors and constants.
        kind: float64; or a smaller kind of float to which every operation is rounded.
        sizes: of axes that the formula does not have.
        known: values of parts that are not to be computed.
    """

    def __init__(
        self,
        formula: Formula,
        arrays: Mapping[str, NDArray[Any]],
        kind: Any = np.float64,
        sizes: Mapping[str, int] | None = None,
        known: Mapping[Expr, Any] | None = None,
    ) -> None:
        self.arrays, self.outside, self.kind = arrays, formula.outside, kind
        self.sizes = {**formula.sizes, **(sizes or {})}
        self.known = known or {}

    def value(self, e: Expr, at: Where, rank: int) -> Any:
        """The value of a part where the axes have the values in `at`."""
        if self.known and e in self.known:
            return self.known[e]
        if isinstance(e, Const):
            return self.kind(e.value)
        if isinstance(e, Read):
            return self.read(e, at)[1]
        if isinstance(e, Call):
            found = NUMPY[e.function](*(self.value(a, at, rank) for a in e.arguments))
            return found if self.kind is np.float64 else np.asarray(found, self.kind)[()]
        if isinstance(e, Reduce):
            body = self.over(e, at, rank)
            if e.how == "max":
                return body.max(axis=-1)
            if self.kind is np.float64:
                return exact_sum(body) if body.ndim == 1 else body.sum(axis=-1)
            return np.add.accumulate(body, axis=-1)[..., -1]
        raise OptionError(f"formula: expected no free scalar; got {e}. Give it a value first.")

    def over(self, e: Reduce, at: Where, rank: int) -> NDArray[Any]:
        """The terms of a sum or maximum in a row, as the last dimension."""
        inner, count, sizes = self.along(e.over, at, rank)
        body = np.asarray(self.value(e.body, inner, rank + count))
        body = body.reshape((1,) * (rank + count - body.ndim) + body.shape)
        lead = body.shape[:rank]
        return np.broadcast_to(body, (*lead, *sizes)).reshape(*lead, math.prod(sizes))

    def along(
        self, axes: Sequence[str], at: Where, rank: int
    ) -> tuple[dict[str, Any], int, tuple[int, ...]]:
        """`at` with new axes laid out along dimensions of their own, after those there are."""
        count, sizes = len(axes), tuple(self.sizes[a] for a in axes)
        inner = {
            a: v.reshape(v.shape + (1,) * count) if isinstance(v, np.ndarray) else v
            for a, v in at.items()
        }
        for k, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
            inner[axis] = np.arange(size).reshape(
                (1,) * (rank + k) + (size,) + (1,) * (count - 1 - k)
            )
        return inner, count, sizes

    def read(self, read: Read, at: Where) -> tuple[tuple[Any, ...], Any, Any]:
        """The index of a read, what stands there, and whether it is inside the tensor."""
        array = self.arrays[read.tensor]
        index = tuple(k.at(at) for k in read.index)
        inside: Any = True
        for k, n in zip(index, array.shape, strict=True):
            inside = inside & ((k >= 0) & (k < n))
        fill = self.kind(self.outside.get(read.tensor, 0.0))
        if np.all(inside):
            return index, np.asarray(array[index], self.kind)[()], inside
        if not array.size:
            return index, np.full(np.shape(inside), fill)[()], inside
        clipped = tuple(np.clip(k, 0, n - 1) for k, n in zip(index, array.shape, strict=True))
        return index, np.where(inside, np.asarray(array[clipped], self.kind), fill)[()], inside

    def place(self, read: Read, at: Mapping[str, int]) -> Place:
        """What a read reads at one place."""
        index, value, inside = self.read(read, at)
        return Place(read.tensor, tuple(int(k) for k in index), float(value), bool(inside))

    def terms(self, e: Reduce, at: Mapping[str, int]) -> Terms:
        """The terms of a sum or maximum at one place."""
        inner, _, sizes = self.along(e.over, at, 0)
        values = np.array(self.over(e, at, 0), np.float64)
        reads = [self.reads(read, inner, sizes) for read in direct_reads(e.body)]
        places = {a: np.broadcast_to(inner[a], sizes).ravel() for a in e.over}
        return Terms([(a,) for a in e.over], sizes, places, reads, values)

    def reads(self, read: Read, at: Where, shape: Sequence[int]) -> Reads:
        """What a read reads at many places, in a row."""
        index, values, inside = self.read(read, at)
        spread = [np.broadcast_to(np.asarray(k), shape).ravel() for k in (*index, values, inside)]
        *places, found, within = spread
        return Reads(read.tensor, tuple(places), np.asarray(found, np.float64), within)


def direct_reads(e: Expr) -> list[Read]:
    """The reads of a term itself, not those of sums inside it."""
    if isinstance(e, Read):
        return [e]
    if isinstance(e, Reduce):
        return []
    return [read for child in children(e) for read in direct_reads(child)]
