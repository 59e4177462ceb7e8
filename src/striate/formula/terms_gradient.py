"""What a formula's derivative is made of, number by number: the terms of a gradient.

From the root of a formula to each place where it reads a tensor leads a branch: the sums and
maxima on the way, and the product of the derivatives of the functions on the way (the same rules
as everywhere, `expression.diff`). A branch read forward says what one number of the output owes to
each number that it reads (`slopes`); read backward, which numbers of the output a number of the
tensor has part in, and so the terms of its gradient (`terms`):

    y[n, o, i, j] = Σ[c,p,q] x[n, c, i+p, j+q] · w[o, c, p, q]
    dw[o, c, p, q] = Σ[n,i,j] dy[n, o, i, j] · x[n, c, i+p, j+q]

Nothing about convolution or any other operation is written here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.formula.expression import (
    Call,
    Const,
    Expr,
    Index,
    Read,
    Reduce,
    Var,
    chain,
    children,
    diff,
    substitute,
)
from striate.formula.numeric import abstract
from striate.formula.terms import Reads, Terms, Values, direct_reads

if TYPE_CHECKING:
    from striate.formula.formula import Formula

Array = NDArray[np.float64]
UPSTREAM = "dy"
_CANCELLED = 1e-12


@dataclass(frozen=True)
class Branch:
    """The way from a formula's value down to one of its reads.

    Attributes:
        read: the read.
        over: the axes of the sums and maxima on the way.
        slope: the derivative along the way; it may have axes of `over`.
        maxima: the maxima on the way: only their first largest term counts.
        sizes: of axes that were renamed because an outer one has their name.
    """

    read: Read
    over: tuple[str, ...]
    slope: Expr
    maxima: tuple[Reduce, ...]
    sizes: Mapping[str, int]


def branches(formula: Formula, tensor: str | None = None) -> list[Branch]:
    """The ways to all reads of a tensor; by default of all tensors that are no constants."""
    found: list[Branch] = []
    start = _Way((), Const(1.0), (), {})
    _descend(formula, formula.body, start, tensor, found)
    return found


@dataclass(frozen=True)
class _Way:
    over: tuple[str, ...]
    slope: Expr
    maxima: tuple[Reduce, ...]
    sizes: dict[str, int]


def _descend(formula: Formula, e: Expr, way: _Way, tensor: str | None, found: list[Branch]) -> None:
    if isinstance(e, Read):
        if e.tensor == tensor or (tensor is None and e.tensor not in formula.constants):
            found.append(Branch(e, way.over, way.slope, way.maxima, way.sizes))
    elif isinstance(e, Reduce):
        inner = _renamed(formula, e, way)
        sizes = dict(way.sizes)
        for new, old in zip(inner.over, e.over, strict=True):
            if new != old:
                sizes[new] = _size(formula, way, old)
        maxima = (*way.maxima, inner) if inner.how == "max" else way.maxima
        _descend(
            formula,
            inner.body,
            _Way((*way.over, *inner.over), way.slope, maxima, sizes),
            tensor,
            found,
        )
    elif isinstance(e, Call):
        names: dict[Expr, Var] = {}
        scalar = abstract(e, names)
        leaves = {var.name: leaf for leaf, var in names.items()}
        for leaf, var in names.items():
            if _concerns(formula, leaf, tensor):
                partial = substitute(diff(scalar, var), leaves)
                if partial != Const(0.0):
                    slope = _times(way.slope, partial)
                    inner_way = _Way(way.over, slope, way.maxima, way.sizes)
                    _descend(formula, leaf, inner_way, tensor, found)


def _times(slope: Expr, partial: Expr) -> Expr:
    """The chain rule, without factors of 1."""
    if slope == Const(1.0):
        return partial
    return slope if partial == Const(1.0) else chain(slope, partial)


def _concerns(formula: Formula, e: Expr, tensor: str | None) -> bool:
    if isinstance(e, Read):
        return e.tensor == tensor if tensor else e.tensor not in formula.constants
    return any(_concerns(formula, child, tensor) for child in children(e))


def _size(formula: Formula, way: _Way, axis: str) -> int:
    return way.sizes[axis] if axis in way.sizes else formula.sizes[axis]


def _renamed(formula: Formula, e: Reduce, way: _Way) -> Reduce:
    """A reduction whose axes have names that nothing outside it has."""
    taken = {*formula.free, *way.over}
    names: dict[str, str] = {}
    for axis in e.over:
        name = axis
        while name in taken:
            name += "'"
        names[axis] = name
        taken.add(name)
    if all(new == old for old, new in names.items()):
        return e
    return Reduce(e.how, tuple(names.values()), _rename(e.body, names))


def _rename(e: Expr, names: Mapping[str, str]) -> Expr:
    if isinstance(e, Read):
        index = tuple(
            Index(tuple((names.get(a, a), c) for a, c in k.terms), k.const, k.mod, k.div, k.table)
            for k in e.index
        )
        return Read(e.tensor, index)
    if isinstance(e, Call):
        return Call(e.function, tuple(_rename(a, names) for a in e.arguments))
    if isinstance(e, Reduce):
        free = {old: new for old, new in names.items() if old not in e.over}
        return Reduce(e.how, e.over, _rename(e.body, free))
    return e


# ---- forward: what one number owes to those that it reads ----------------------------------------


def slopes(
    formula: Formula, place: Mapping[str, int], arrays: Mapping[str, NDArray[Any]]
) -> list[Reads]:
    """The derivative of the number at a place to every number that it reads.

    Args:
        formula: what is computed.
        place: the value of each free axis.
        arrays: the tensors and constants.
    Returns:
        For each branch its reads, with the derivatives in place of the values; what is read
        several times is listed several times.
    """
    found = []
    with np.errstate(all="ignore"):
        for branch in branches(formula):
            values = Values(formula, arrays, sizes=branch.sizes)
            at, rank, sizes = values.along(branch.over, place, 0)
            slope = _slope(values, branch, at, rank)
            read = values.reads(branch.read, at, sizes)
            spread = np.array(np.broadcast_to(slope, sizes), np.float64).ravel()
            found.append(Reads(read.tensor, read.index, spread, read.inside))
    return found


def _slope(values: Values, branch: Branch, at: Mapping[str, Any], rank: int) -> Any:
    """The derivative along a branch, 0 where a maximum on the way is another term."""
    slope = values.value(branch.slope, at, rank)
    for largest in branch.maxima:
        slope = np.where(_is_largest(values, largest, at, rank), slope, 0.0)
    return slope


def _is_largest(values: Values, e: Reduce, at: Mapping[str, Any], rank: int) -> Any:
    """Whether the place on the axes of a maximum is that of its first largest term."""
    hit: Any = True
    for axis, place in _switch(values, e, at, rank).items():
        hit = hit & (place == at[axis])
    return hit


def _switch(values: Values, e: Reduce, at: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Where on its axes the first largest term of a maximum is (of NaNs the first)."""
    outer = {axis: value for axis, value in at.items() if axis not in e.over}
    first = values.over(e, outer, rank).argmax(axis=-1)
    sizes = tuple(values.sizes[a] for a in e.over)
    return dict(zip(e.over, np.unravel_index(first, sizes), strict=True))


# ---- backward: the terms of a gradient -----------------------------------------------------------


@dataclass(frozen=True)
class GradientTerms:
    """The terms that one branch adds to the gradient of one number.

    Attributes:
        formula: the rule, as `dw[o, c, p, q] ← Σ[n,i,j] dy[n, o, i, j] · x[n, c, i+p, j+q]`.
        terms: upstream · slope for every number of the output that has part in it. The first read
            is the upstream gradient; the others are what the slope is a product of, or where
            a maximum was.
        product: whether the slope is the product of the terms' other reads.
        through: the maxima that the branch leads through, as text.
    """

    formula: str
    terms: Terms
    product: bool
    through: str = ""


def terms(
    formula: Formula,
    tensor: str,
    place: Sequence[int],
    arrays: Mapping[str, NDArray[Any]],
    upstream: NDArray[Any],
) -> list[GradientTerms]:
    """What the gradient of `Σ upstream · output` to the number `tensor[place]` is a sum of.

    Args:
        formula: what is computed.
        tensor: the tensor, and the place in it.
        place: see above.
        arrays: the tensors and constants.
        upstream: the gradient to the output.
    Returns:
        For each branch that reaches the number its terms, in the order of the formula's axes.
    """
    found = []
    with np.errstate(all="ignore"):
        for branch in branches(formula, tensor):
            made = _branch_terms(formula, branch, place, arrays, upstream)
            if made is not None:
                found.append(made)
    return _without_cancelled(found)


def _without_cancelled(found: list[GradientTerms]) -> list[GradientTerms]:
    """Without the ways through a maximum that add up to nothing.

    Softmax and its like take the largest x off above and below the line, so that exp cannot
    overflow; the result does not depend on it, and neither does the gradient.
    """
    kept = list(found)
    for through in dict.fromkeys(one.through for one in found if one.through):
        same = [one for one in found if one.through == through]
        rows = np.concatenate([one.terms.values for one in same])
        if len(same) > 1 and abs(rows.sum()) <= _CANCELLED * np.abs(rows).sum():
            kept = [one for one in kept if one.through != through]
    return kept


def _branch_terms(
    formula: Formula,
    branch: Branch,
    place: Sequence[int],
    arrays: Mapping[str, NDArray[Any]],
    upstream: NDArray[Any],
) -> GradientTerms | None:
    values = Values(formula, {**arrays, UPSTREAM: upstream}, sizes=branch.sizes)
    axes = list(dict.fromkeys((*formula.free, *branch.over)))
    layout = _Layout(axes, values.sizes, branch.read.index, place)
    if not layout.solved:
        return None
    at, rank, shape = layout.at, len(layout.shape), layout.shape
    seed = Read(UPSTREAM, formula.output)
    slope = np.array(np.broadcast_to(_slope(values, branch, at, rank), shape), np.float64).ravel()
    reads = [values.reads(seed, at, shape)]
    product = _is_product(branch.slope)
    if product:
        reads += [values.reads(read, at, shape) for read in direct_reads(branch.slope)]
    reads += [_switch_reads(values, e, at, rank, shape) for e in branch.maxima[:1]]
    moving = {a: np.broadcast_to(at[a], shape).ravel() for dim in layout.dims for a in dim}
    found = Terms(layout.dims, shape, moving, reads, reads[0].values * slope, slope)
    through = ", ".join(map(str, branch.maxima))
    return GradientTerms(_rule(formula, branch, layout), found, product, through)


def _is_product(slope: Expr) -> bool:
    """Whether a slope is a product of reads and constants."""
    if isinstance(slope, Call) and slope.function == "mul":
        return all(map(_is_product, slope.arguments))
    return isinstance(slope, (Const, Read))


def _switch_reads(
    values: Values, e: Reduce, at: Mapping[str, Any], rank: int, shape: Sequence[int]
) -> Reads:
    """Where the maximum of each term is, read at the first place that its body reads."""
    reads = direct_reads(e.body)
    return values.reads(reads[0], {**at, **_switch(values, e, at, rank)}, shape)


def _rule(formula: Formula, branch: Branch, layout: _Layout) -> str:
    """The gradient along a branch as text."""
    target = f"d{branch.read.tensor}[{', '.join(map(str, branch.read.index))}]"
    seed = str(Read(UPSTREAM, formula.output))
    over = ",".join(a for dim in layout.dims for a in dim)
    slope = "" if branch.slope == Const(1.0) else f" · {branch.slope}"
    total = f"Σ[{over}] " if over else ""
    where = "".join(f", where {e.body} is the largest over {','.join(e.over)}"
                    for e in branch.maxima)  # fmt: skip
    return f"{target} ← {total}{seed}{slope}{where}"


class _Layout:
    """All values of axes for which a read is at one place, each set of axes along a dimension.

    Axes that the read's place determines have one value; those that it leaves free have all.

    Attributes:
        solved: whether there are any.
        at: the value of each axis, a whole number or an array.
        dims: the axes that move along each dimension.
        shape: the number of values along each.
    """

    def __init__(
        self,
        axes: Sequence[str],
        sizes: Mapping[str, int],
        index: Sequence[Index],
        place: Sequence[int],
    ) -> None:
        self.solved = True
        fixed: dict[str, int] = {}
        joint: list[tuple[tuple[str, ...], NDArray[np.intp]]] = []  # axes, (values, axes)
        for group in _components(index, place, axes):
            names = tuple(a for a in axes if any(a == b for k, _ in group for b, _ in k.terms))
            found = _solutions(names, sizes, group)
            if not len(found):
                self.solved = False
            elif len(found) == 1:
                fixed.update(zip(names, map(int, found[0]), strict=True))
            else:
                joint.append((names, found))
        bound = {*fixed, *(a for names, _ in joint for a in names)}
        free = [((a,), np.arange(sizes[a])[:, None]) for a in axes if a not in bound]
        moving = sorted([*joint, *free], key=lambda dim: axes.index(dim[0][0]))
        self.dims = tuple(names for names, _ in moving)
        self.shape = tuple(len(found) for _, found in moving)
        self.at: dict[str, Any] = dict(fixed)
        for k, (names, found) in enumerate(moving):
            form = [-1 if k == j else 1 for j in range(len(moving))]
            self.at.update({a: found[:, m].reshape(form) for m, a in enumerate(names)})


def _components(
    index: Sequence[Index], place: Sequence[int], axes: Sequence[str]
) -> list[list[tuple[Index, int]]]:
    """The equations `index = place` in groups that have no axis in common."""
    groups: list[list[tuple[Index, int]]] = []
    for equation in zip(index, place, strict=True):
        names = {a for a, _ in equation[0].terms}
        touching = [g for g in groups if names & {a for k, _ in g for a, _ in k.terms}]
        groups = [g for g in groups if g not in touching]
        groups.append([*itertools.chain(*touching), equation])
    return groups


def _solutions(
    names: Sequence[str], sizes: Mapping[str, int], group: Sequence[tuple[Index, int]]
) -> NDArray[np.intp]:
    """The values of the axes that satisfy some equations, (solutions, axes)."""
    if len(names) == len(group) and all(k.axis is not None for k, _ in group):
        values = {k.axis: place for k, place in group}
        inside = all(0 <= values[a] < sizes[a] for a in names)
        return np.array([[values[a] for a in names]] if inside else [], np.intp).reshape(
            -1, len(names)
        )
    shape = [sizes[a] for a in names]
    grid = dict(zip(names, np.indices(shape).reshape(len(shape), math.prod(shape)), strict=True))
    hit = np.ones(math.prod(shape), bool)
    for k, place in group:
        hit = hit & (k.at(grid) == place)
    found = np.array([grid[a][hit] for a in names], np.intp)
    return np.asarray(found.reshape(len(names), int(hit.sum())).T)
