"""A formula as loop nests: what kernels compute, forward or for the gradient to one tensor.

A nest fills one buffer: for each place of its outer axes, a scalar body with sums and maxima
inside. Sums that do not depend on all the axes around them (a mean, a softmax's denominator) get
a buffer of their own, filled by a nest before; so nothing is computed twice.

The gradient follows the formula downwards as `formula.numeric` does. Where a read's index can be
solved for one of its axes, the gradient is gathered: each place of the tensor sums up what comes
back to it. `dx[h] = Σ_p dy[(h + P − p)/s]·w[p]` for `y[i] = Σ_p x[i·s + p − P]·w[p]`. Elsewhere
(remainders, tables) it is scattered: added to the places that were read.

Not here: the code of a nest (`kernels.nest`) and its order of loops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from striate.errors import CompileError
from striate.formula.expression import (
    Call,
    Const,
    Expr,
    Index,
    Read,
    Reduce,
    Var,
    call,
    chain,
    children,
    diff,
    where,
)
from striate.formula.formula import Array, Formula, Shape, reads

OUT = "@out"
UPSTREAM = "upstream"


@dataclass(frozen=True)
class Place(Expr):
    """The value of an index as a number."""

    index: Index

    def __str__(self) -> str:
        return f"#{self.index}"


@dataclass(frozen=True)
class Nest:
    """`out[place] = body`, or `+=`, for every place of the outer axes.

    Attributes:
        out: the buffer: OUT or a temporary.
        place: the index of the number; where some is out of bounds, nothing is done.
        loops: the outer axes.
        body: the number.
        adds: whether it is added to what is there.
        bound: axes that follow from others, (axis, its value); where the value leaves a rest or
            is none that the axis takes, the sum around has no such term.
    """

    out: str
    place: tuple[Index, ...]
    loops: tuple[str, ...]
    body: Expr
    adds: bool = False
    bound: tuple[tuple[str, Index], ...] = ()


@dataclass
class Plan:
    """Nests in order, and what they read and write.

    Attributes:
        batch: the name of the batch axis; no loop runs over it.
        shapes: of each tensor, without the batch axis.
        batched: the tensors with a batch axis; temporaries all have one.
        zeroed: buffers that have to be filled with zeros first.
    """

    batch: str
    sizes: dict[str, int]
    shapes: dict[str, Shape]
    batched: frozenset[str]
    outside: Mapping[str, float]
    constants: Mapping[str, Array]
    out_shape: Shape
    nests: list[Nest] = field(default_factory=list)
    temporaries: dict[str, Shape] = field(default_factory=dict)
    zeroed: list[str] = field(default_factory=list)

    @property
    def tensors(self) -> list[str]:
        """The tensors that some nest reads, constants and temporaries left out."""
        found = {r.tensor for nest in self.nests for r in reads(nest.body)}
        return [name for name in self.shapes if name in found]

    def add(self, nest: Nest) -> None:
        self.nests.append(nest)

    def drop_unread(self) -> None:
        """Leave out temporaries that nobody reads, and what only they read."""
        while True:
            found = {r.tensor for nest in self.nests for r in reads(nest.body)}
            unread = [name for name in self.temporaries if name not in found]
            if not unread:
                return
            for name in unread:
                del self.temporaries[name]
            self.nests = [nest for nest in self.nests if nest.out not in unread]

    def temporary(self, axes: Sequence[str], body: Expr) -> Read:
        """A read of a new buffer over these axes that holds the body's values."""
        name = f"@{len(self.temporaries)}"
        self.temporaries[name] = tuple(self.sizes[a] for a in axes)
        place = tuple(Index(((a, 1),)) for a in axes)
        self.add(Nest(name, place, tuple(axes), body))
        return Read(name, place)


def leaves(e: Expr) -> list[Expr]:
    """The reads, reductions and places that a scalar expression is made of."""
    if isinstance(e, (Read, Reduce, Place)):
        return [e]
    return [leaf for child in children(e) for leaf in leaves(child)]


def axes_of(e: Expr) -> frozenset[str]:
    """The axes that the value of `e` depends on."""
    if isinstance(e, Read):
        return frozenset(axis for index in e.index for axis, _ in index.terms)
    if isinstance(e, Place):
        return frozenset(axis for axis, _ in e.index.terms)
    inner: frozenset[str] = frozenset().union(*map(axes_of, children(e)))
    return inner - frozenset(e.over) if isinstance(e, Reduce) else inner


def rebuilt(e: Expr, new: Mapping[Expr, Expr]) -> Expr:
    """`e` with leaves replaced."""
    if e in new:
        return new[e]
    if isinstance(e, Call):
        return call(e.function, *(rebuilt(a, new) for a in e.arguments))
    return e


def forward(formula: Formula) -> Plan:
    """The nests that compute a formula's output.

    Raises:
        CompileError: the formula mixes the samples of a batch.
    """
    plan = _plan(formula, formula.shape[1:])
    maker = _Forward(plan)
    body = maker.inlined(_without_batch(formula.body, plan.batch), _free(formula, plan.batch))
    place = formula.output[1:]
    plan.add(Nest(OUT, place, _free(formula, plan.batch), body))
    return plan


def gradient(formula: Formula, tensor: str) -> Plan:
    """The nests that compute the gradient to one tensor; they read "upstream" too.

    Raises:
        CompileError: the formula mixes the samples of a batch.
    """
    batch = formula.output[0].axis or ""
    shape = formula.shapes[tensor]
    plan = _plan(formula, shape)
    if tensor in plan.batched:
        plan.out_shape = shape[1:]
    plan.shapes[UPSTREAM] = formula.shape[1:]
    plan.batched |= {UPSTREAM}
    up = Read(UPSTREAM, formula.output[1:])
    down = _Backward(plan, tensor)
    down.send(_without_batch(formula.body, batch), up, _free(formula, batch))
    down.finish()
    return plan


def _plan(formula: Formula, out_shape: Shape) -> Plan:
    batch = formula.output[0].axis if formula.output else None
    if batch is None:
        raise CompileError(f"formula: expected the batch as the first axis of {formula.output}.")
    batched = {r.tensor for r in reads(formula.body) if r.index and r.index[0].axis == batch}
    for read in reads(formula.body):
        inner = read.index[read.tensor in batched :]
        alone = read.tensor not in batched or read.index[0].axis == batch
        if not alone or any(axis == batch for index in inner for axis, _ in index.terms):
            raise CompileError(f"formula: {read} mixes the samples of a batch.")
    if batch in formula.reduced:
        raise CompileError(f"formula: a sum over the batch axis {batch!r} has no kernel.")
    shapes = {
        name: tuple(shape[1:]) if name in batched else tuple(shape)
        for name, shape in formula.shapes.items()
    }
    sizes = {a: n for a, n in formula.sizes.items() if a != batch}
    return Plan(
        batch, sizes, shapes, frozenset(batched), formula.outside, formula.constants, out_shape
    )


def _free(formula: Formula, batch: str) -> tuple[str, ...]:
    return tuple(a for a in formula.free if a != batch)


def _without_batch(e: Expr, batch: str) -> Expr:
    if isinstance(e, Read):
        return Read(e.tensor, e.index[1:] if e.index and e.index[0].axis == batch else e.index)
    if isinstance(e, Reduce):
        return Reduce(e.how, e.over, _without_batch(e.body, batch))
    if isinstance(e, Call):
        return Call(e.function, tuple(_without_batch(a, batch) for a in e.arguments))
    return e


def _ordered(axes: frozenset[str] | set[str], order: Sequence[str]) -> tuple[str, ...]:
    return tuple(a for a in order if a in axes)


class _Forward:
    """Rewrites an expression so that only sums over the axes around them stay inside."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.known: dict[Expr, Expr] = {}

    def inlined(self, e: Expr, domain: Sequence[str], stored: bool = False) -> Expr:
        """`e` with its reductions as reads of temporaries where they have fewer axes.

        With `stored`, all of them are.
        """
        if isinstance(e, Call):
            return call(e.function, *(self.inlined(a, domain, stored) for a in e.arguments))
        if not isinstance(e, Reduce):
            return e
        axes = axes_of(e)
        if stored or axes != frozenset(domain):
            return self.stored(e)
        return Reduce(e.how, e.over, self.inlined(e.body, (*domain, *e.over)))

    def stored(self, e: Reduce) -> Expr:
        """A read of the temporary that holds a reduction."""
        if e not in self.known:
            axes = _ordered(axes_of(e), tuple(self.plan.sizes))
            body = Reduce(e.how, e.over, self.inlined(e.body, (*axes, *e.over)))
            self.known[e] = self.plan.temporary(axes, body)
        return self.known[e]


class _Backward:
    """Sends a gradient down an expression, to the reads of one tensor."""

    def __init__(self, plan: Plan, tensor: str) -> None:
        self.plan, self.tensor = plan, tensor
        self.values = _Forward(plan)
        self.found: list[Nest] = []

    def send(self, e: Expr, up: Expr, domain: Sequence[str]) -> None:
        """`up` is the gradient to `e`, an expression over the axes in `domain`."""
        if not self._concerned(e):
            return
        if isinstance(e, Reduce):
            self._reduce(e, up, domain)
        elif isinstance(e, Read):
            self.found.append(self._arrive(e, up, domain))
        elif isinstance(e, Call):
            self._scalar(e, up, domain)

    def _concerned(self, e: Expr) -> bool:
        return any(r.tensor == self.tensor for r in reads(e))

    def _reduce(self, e: Reduce, up: Expr, domain: Sequence[str]) -> None:
        axes = _ordered(axes_of(e), tuple(self.plan.sizes))
        rest = tuple(a for a in domain if a not in axes)
        if rest:
            up = self.plan.temporary(axes, Reduce("sum", rest, up))
        elif isinstance(up, Call) and not _is_selection(up):
            up = self.plan.temporary(axes, up)
        inner = (*axes, *e.over)
        if e.how == "max":
            first = self.plan.temporary(axes, self._first(e, axes))
            here = flat(e.over, self.plan.sizes)
            up = where(call("le", call("abs", Place(here) - first), 0.5), up, 0)
        self.send(e.body, up, inner)

    def _first(self, e: Reduce, axes: Sequence[str]) -> Expr:
        body = self.values.inlined(e.body, (*axes, *e.over), stored=True)
        return Reduce("first", e.over, body)

    def _scalar(self, e: Call, up: Expr, domain: Sequence[str]) -> None:
        names: dict[Expr, Var] = {}
        scalar = abstract(e, names)
        back: dict[Expr, Expr]
        back = {var: self.values.inlined(leaf, domain, stored=True) for leaf, var in names.items()}
        for leaf, var in names.items():
            partial = diff(scalar, var) if self._concerned(leaf) else Const(0.0)
            if partial != Const(0.0):
                slope = rebuilt(chain(partial, Var("#up")), {**back, Var("#up"): up})
                self.send(leaf, slope, domain)

    # ---- arriving at the tensor ---------------------------------------------------------------

    def _arrive(self, read: Read, up: Expr, domain: Sequence[str]) -> Nest:
        """The nest that brings `up` to the places that `read` reads."""
        found = self._gathered(read, up, domain)
        return found or Nest(OUT, read.index, tuple(domain), up, adds=True)

    def _gathered(self, read: Read, up: Expr, domain: Sequence[str]) -> Nest | None:
        """For each place of the tensor, the sum of what comes back to it; None if not solved."""
        used: set[str] = set()
        loops: list[str] = []
        bound: list[tuple[str, Index]] = []
        changed: dict[Index, Index] = {}
        for position, index in enumerate(read.index):
            size = self._out_shape()[position]
            if index.axis is not None and index.axis not in used:
                loops.append(index.axis)
                used.add(index.axis)
                continue
            axis = self._solvable(index, used, read.index[:position] + read.index[position + 1 :])
            if axis is None and index.terms:
                return None
            name = f"@h{len(self.found)}_{position}"
            self.plan.sizes[name] = size
            place = Index(((name, 1),))
            loops.append(name)
            if axis is None:  # a fixed place: only there is anything
                return None
            used.add(axis)
            bound.append((axis, _solved(index, axis, place)))
            changed[index] = place
        rest = tuple(a for a in domain if a not in used)
        body = _with_indices(up, changed)
        if rest or bound:
            body = Reduce("sum", rest, body)
        places = tuple(Index(((a, 1),)) for a in loops)
        return Nest(OUT, places, tuple(loops), body, True, tuple(bound))

    def _out_shape(self) -> Shape:
        return self.plan.out_shape

    def _solvable(self, index: Index, used: set[str], others: Sequence[Index]) -> str | None:
        """The axis that an index is solved for: the one with the most values."""
        if index.mod or index.table:
            return None
        elsewhere = {a for other in others for a, _ in other.terms}
        free = [
            a
            for a, c in index.terms
            if a not in used and a not in elsewhere and self.plan.sizes[a] > 1
        ]
        free = free or [a for a, _ in index.terms if a not in used and a not in elsewhere]
        return max(free, key=lambda a: self.plan.sizes[a], default=None)

    def finish(self) -> None:
        """Append what was found; the first nest sets the output if it fills it."""
        plan = self.plan
        if self.tensor not in plan.batched and not all(map(_gathers, self.found)):
            self._add_by_lanes()
        elif self.found and self._fills(self.found[0]):
            self.found[0] = replace(self.found[0], adds=False)
        else:
            plan.zeroed.append(OUT)
        for nest in self.found:
            plan.add(nest)
        plan.drop_unread()

    def _fills(self, nest: Nest) -> bool:
        """Whether the nest comes to each place of the tensor exactly once."""
        shape = self._out_shape()
        whole = all(
            index.axis is not None and self.plan.sizes[index.axis] == size
            for index, size in zip(nest.place, shape, strict=True)
        )
        return whole and _gathers(nest)

    def _add_by_lanes(self) -> None:
        """Scatter to a buffer of vectors; their lanes are summed up once, at the end."""
        plan, shape = self.plan, self._out_shape()
        buffer = f"@{len(plan.temporaries)}"
        plan.temporaries[buffer] = shape
        plan.zeroed.append(buffer)
        self.found = [replace(nest, out=buffer, adds=True) for nest in self.found]
        loops = tuple(f"@w{k}" for k in range(len(shape)))
        plan.sizes.update(zip(loops, shape, strict=True))
        place = tuple(Index(((a, 1),)) for a in loops)
        self.found.append(Nest(OUT, place, loops, Read(buffer, place)))


def _gathers(nest: Nest) -> bool:
    """Whether each place is come to once: its index is the outer axes themselves."""
    return sorted(str(i.axis) for i in nest.place) == sorted(nest.loops)


def _solved(index: Index, axis: str, place: Index) -> Index:
    """The axis, where the index is worth `place`: `(place·div − const − the rest)/coefficient`."""
    coefficient = dict(index.terms)[axis]
    rest = Index(tuple((a, c) for a, c in index.terms if a != axis), index.const)
    sign = 1 if coefficient > 0 else -1
    return ((place * index.div - rest) * sign) // abs(coefficient)


def _with_indices(e: Expr, changed: Mapping[Index, Index]) -> Expr:
    """`e` with whole indices of its reads replaced."""
    if isinstance(e, Read):
        return Read(e.tensor, tuple(changed.get(index, index) for index in e.index))
    if isinstance(e, Reduce):
        return Reduce(e.how, e.over, _with_indices(e.body, changed))
    if isinstance(e, Call):
        return Call(e.function, tuple(_with_indices(a, changed) for a in e.arguments))
    return e


def flat(over: Sequence[str], sizes: Mapping[str, int]) -> Index:
    """The number of a place within a window, row by row."""
    terms, step = [], 1
    for axis in reversed(over):
        terms.append((axis, step))
        step *= sizes[axis]
    return Index(tuple(reversed(terms)))


def _is_selection(e: Expr) -> bool:
    """Whether `e` only chooses between a few reads (cheap enough to be computed again)."""
    return isinstance(e, Call) and e.function == "where" and _size(e) <= 12


def _size(e: Expr) -> int:
    return 1 + sum(map(_size, children(e)))


def abstract(e: Expr, names: dict[Expr, Var]) -> Expr:
    """`e` as a function of scalars, which stand for its leaves; `names` says for which."""
    if isinstance(e, (Read, Reduce, Place)):
        return names.setdefault(e, Var(f"#{len(names)}"))
    if isinstance(e, Call):
        return Call(e.function, tuple(abstract(a, names) for a in e.arguments))
    return e
