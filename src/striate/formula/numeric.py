"""The values of a formula on whole arrays, and its gradient, in NumPy float64.

Every intermediate value is an array with one dimension for each axis of the formula (size 1 where
it does not depend on that axis), so that plain broadcasting does the rest. A read with affine
indices is a strided view of the (padded) tensor, not a copy; a sum of products becomes a matrix
product; the gradient to such a read is added back by one strided addition for each kernel place.
Reads with `%` or `/` are gathered and scattered. Nothing here is fast on purpose beyond that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula.expression import (
    NUMPY,
    Call,
    Const,
    Expr,
    Read,
    Reduce,
    Var,
    children,
    diff,
    evaluate,
)

if TYPE_CHECKING:
    from striate.formula.formula import Formula

Array = NDArray[np.float64]


def factors(e: Expr) -> tuple[float, list[Expr]]:
    """A product as its constant and its other factors."""
    if isinstance(e, Call) and e.function == "mul":
        (a, left), (b, right) = factors(e.arguments[0]), factors(e.arguments[1])
        return a * b, left + right
    return (e.value, []) if isinstance(e, Const) else (1.0, [e])


def axes_of(e: Expr) -> frozenset[str]:
    """The axes that the value of `e` depends on."""
    if isinstance(e, Read):
        return frozenset(axis for index in e.index for axis, _ in index.terms)
    inner: frozenset[str] = frozenset().union(*map(axes_of, children(e)))
    return inner - frozenset(e.over) if isinstance(e, Reduce) else inner


class Numeric:
    """One evaluation of a formula: the arrays that it reads, and the values found so far."""

    def __init__(self, formula: Formula, arrays: Mapping[str, Array]) -> None:
        self.formula = formula
        self.arrays = arrays
        self.axes = (*formula.free, *(a for a in formula.reduced if a not in formula.free))
        self.gradients: dict[str, Array] = {}
        self._values: dict[Expr, Array] = {}

    # ---- values ---------------------------------------------------------------------------

    def output(self) -> Array:
        """The output, one fresh array."""
        value = np.broadcast_to(self.value(self.formula.body), self._shape(self.formula.free))
        return np.array(value).reshape(self.formula.shape)

    def value(self, e: Expr) -> Array:
        """The value of a part of the formula, one dimension for each axis."""
        if e not in self._values:
            self._values[e] = self._value(e)
        return self._values[e]

    def _value(self, e: Expr) -> Array:
        if isinstance(e, Const):
            return np.full((1,) * len(self.axes), e.value)
        if isinstance(e, Read):
            return self._view(e) if _affine(e) else self._gather(e)
        if isinstance(e, Call):
            return np.asarray(NUMPY[e.function](*(self.value(a) for a in e.arguments)))
        if isinstance(e, Reduce):
            return self._sum(e) if e.how == "sum" else self._largest(e)
        raise OptionError(f"formula: expected no free scalar; got {e}. Give it a value first.")

    def _sum(self, e: Reduce) -> Array:
        scale, parts = factors(e.body)
        domain = axes_of(e.body) | set(e.over)
        values = [self.value(part) for part in parts]
        return scale * self._contract(values, domain - set(e.over), domain)

    def _largest(self, e: Reduce) -> Array:
        body = self._spread(self.value(e.body), e.over)
        return np.asarray(body.max(axis=self._positions(e.over), keepdims=True))

    def _contract(
        self, values: Sequence[Array], keep: frozenset[str], domain: frozenset[str]
    ) -> Array:
        """`Σ` of the product of `values` over the axes of `domain` that are not to be kept."""
        scale = math.prod(
            self.formula.sizes[a]
            for a, k in zip(self.axes, range(len(self.axes)), strict=True)
            if a in domain - keep and all(v.shape[k] == 1 for v in values)
        )
        kept = frozenset(self._positions(keep))
        if len(values) == 2:
            return scale * _product(values[0], values[1], kept)
        operands: list[Any] = []
        for value in values:
            real = [k for k in range(value.ndim) if value.shape[k] != 1]
            operands += [value.reshape([value.shape[k] for k in real]), real]
        have = sorted({k for v in values for k in range(v.ndim) if v.shape[k] != 1} & kept)
        if not values:
            return np.full((1,) * len(self.axes), float(scale))
        total = np.einsum(*operands, have, optimize=len(values) > 2)
        shape = [1] * len(self.axes)
        for k, size in zip(have, np.shape(total), strict=True):
            shape[k] = size
        return np.asarray(scale * total).reshape(shape)

    # ---- reads ----------------------------------------------------------------------------

    def _view(self, read: Read) -> Array:
        """The read as a strided view of its tensor, padded where it reaches outside."""
        array, before = self._padded(read)
        return self._strided(array, read, before, axes_of(read), {})

    def _padded(self, read: Read) -> tuple[Array, list[int]]:
        array, pads = self.arrays[read.tensor], self._pads(read)
        before = [lo for lo, _ in pads]
        if any(lo or hi for lo, hi in pads):
            fill = self.formula.outside.get(read.tensor, 0.0)
            array = np.pad(array, pads, constant_values=fill)
        return array, before

    def _pads(self, read: Read) -> list[tuple[int, int]]:
        """How far the read reaches outside its tensor, (before, after) along each axis."""
        pads = []
        for index, size in zip(read.index, self.arrays[read.tensor].shape, strict=True):
            ends = [(c * (self.formula.sizes[a] - 1)) for a, c in index.terms]
            lowest = index.const + sum(min(0, e) for e in ends)
            highest = index.const + sum(max(0, e) for e in ends)
            pads.append((max(0, -lowest), max(0, highest - size + 1)))
        return pads

    def _strided(
        self,
        array: Array,
        read: Read,
        before: Sequence[int],
        spread: frozenset[str],
        fixed: Mapping[str, int],
    ) -> Array:
        """A view of `array` with the axes in `spread`, the read's other axes held at `fixed`."""
        strides = dict.fromkeys(self.axes, 0)
        first = []
        for index, step, offset in zip(read.index, array.strides, before, strict=True):
            first.append(index.const + offset + sum(c * fixed.get(a, 0) for a, c in index.terms))
            for axis, coefficient in index.terms:
                strides[axis] += coefficient * step if axis in spread else 0
        shape = self._shape(spread)
        if math.prod(shape) == 0:
            return np.zeros(shape)
        part: tuple[Any, ...] = (*(slice(k, None) for k in first), ...)  # `...`: also of () a view
        corner = array[part]
        return as_strided(corner, shape, [strides[a] for a in self.axes])

    def _gather(self, read: Read) -> Array:
        places, inside = self._places(read)
        array = self.arrays[read.tensor]
        fill = self.formula.outside.get(read.tensor, 0.0)
        if array.size == 0:
            return np.full(np.shape(inside), fill)
        clipped = tuple(np.clip(k, 0, n - 1) for k, n in zip(places, array.shape, strict=True))
        return np.where(inside, array[clipped], fill)

    def _places(self, read: Read) -> tuple[list[Any], Any]:
        """The index arrays of a read, and where they are inside the tensor."""
        grid = {
            a: np.arange(self.formula.sizes[a]).reshape([-1 if b == a else 1 for b in self.axes])
            for a in self.axes
        }
        plain = np.zeros((1,) * len(self.axes), np.intp)
        places = [plain + index.at(grid) for index in read.index]
        inside: Any = np.ones((1,) * len(self.axes), bool)
        for k, n in zip(places, self.arrays[read.tensor].shape, strict=True):
            inside = inside & (k >= 0) & (k < n)
        return places, inside

    # ---- gradient -------------------------------------------------------------------------

    def gradient(self, upstream: Array, wanted: Sequence[str]) -> dict[str, Array]:
        """`upstream · ∂output/∂tensor` for each wanted tensor."""
        self.gradients = {name: np.zeros(self.arrays[name].shape) for name in wanted}
        up = upstream.reshape(self._shape(self.formula.free))
        self._down(self.formula.body, up, frozenset(self.formula.free))
        return self.gradients

    def _down(self, e: Expr, upstream: Array, domain: frozenset[str]) -> None:
        """Send a gradient, given on the axes in `domain`, down to the tensors that `e` reads."""
        if not self._concerned(e):
            return
        if isinstance(e, Reduce) and axes_of(e) != domain:
            # Its own axes alone: one of the rest may have the name of an axis that it runs over.
            upstream, domain = self._contract([upstream], axes_of(e), domain), axes_of(e)
        if isinstance(e, Read):
            self._scatter(e, self._contract([upstream], axes_of(e), domain))
        elif isinstance(e, Reduce) and e.how == "sum":
            self._down_sum(e, upstream, domain)
        elif isinstance(e, Reduce):
            inside = self._spread(self.value(e.body), e.over)
            hit = inside == self.value(e) if not np.isnan(inside).any() else np.isnan(inside)
            chosen = _first(hit, self._positions(e.over))
            self._down(e.body, np.where(chosen, upstream, 0.0), domain | set(e.over))
        elif isinstance(e, Call):
            self._down_scalar(e, upstream, domain)

    def _down_scalar(self, e: Call, upstream: Array, domain: frozenset[str]) -> None:
        """Through scalar functions, by the rules of `diff`, to the reads and reductions below."""
        names: dict[Expr, Var] = {}
        scalar = abstract(e, names)
        values = {var.name: self.value(leaf) for leaf, var in names.items()}
        for leaf, var in names.items():
            partial = diff(scalar, var)
            if partial != Const(0.0) and self._concerned(leaf):
                slope = upstream if partial == Const(1.0) else upstream * evaluate(partial, values)
                self._down(leaf, slope, domain)

    def _down_sum(self, e: Reduce, upstream: Array, domain: frozenset[str]) -> None:
        scale, parts = factors(e.body)
        whole = domain | set(e.over)
        for k, part in enumerate(parts):
            if self._concerned(part):
                others = [self.value(other) for j, other in enumerate(parts) if j != k]
                keep = axes_of(part)
                slope = scale * self._contract([upstream, *others], keep, whole)
                self._down(part, self._spread(slope, keep), keep)

    def _concerned(self, e: Expr) -> bool:
        if isinstance(e, Read):
            return e.tensor in self.gradients
        return any(map(self._concerned, children(e)))

    def _scatter(self, read: Read, slope: Array) -> None:
        """Add the gradient of a read to the places that it came from."""
        names = axes_of(read)
        slope = self._spread(slope, names)
        target = self.gradients[read.tensor]
        if not _affine(read):
            places, inside = self._places(read)
            slope, inside, *spread = np.broadcast_arrays(slope, inside, *places)
            np.add.at(target, tuple(k[inside] for k in spread), slope[inside])
            return
        pads = self._pads(read)
        shape = [n + lo + hi for n, (lo, hi) in zip(target.shape, pads, strict=True)]
        padded = np.zeros(shape)
        kept = self._injective(read)
        loops = [a for a in self.axes if a in names - kept]
        for values in itertools.product(*(range(self.formula.sizes[a]) for a in loops)):
            fixed = dict(zip(loops, values, strict=True))
            part = slope[
                tuple(
                    slice(fixed[a], fixed[a] + 1) if a in fixed else slice(None) for a in self.axes
                )
            ]
            view = self._strided(padded, read, [lo for lo, _ in pads], kept, fixed)
            view += part
        inner = tuple(slice(lo, lo + n) for n, (lo, _) in zip(target.shape, pads, strict=True))
        target += padded[inner]

    def _injective(self, read: Read) -> frozenset[str]:
        """Axes (the longest of each dimension) along which no place is read twice."""
        kept: set[str] = set()
        seen: set[str] = set()
        for index in read.index:
            fresh = [a for a, _ in index.terms if a not in seen]
            if fresh:
                kept.add(max(fresh, key=lambda a: self.formula.sizes[a]))
            seen.update(a for a, _ in index.terms)
        return frozenset(kept)

    # ---- axes -----------------------------------------------------------------------------

    def _positions(self, names: frozenset[str] | Sequence[str]) -> tuple[int, ...]:
        return tuple(k for k, axis in enumerate(self.axes) if axis in names)

    def _shape(self, names: frozenset[str] | Sequence[str]) -> list[int]:
        return [self.formula.sizes[a] if a in names else 1 for a in self.axes]

    def _spread(self, value: Array, names: frozenset[str] | Sequence[str]) -> Array:
        """`value` repeated along the axes in `names` that it does not depend on."""
        return np.broadcast_to(value, np.broadcast_shapes(value.shape, tuple(self._shape(names))))


def _affine(read: Read) -> bool:
    return all(index.affine for index in read.index)


def abstract(e: Expr, names: dict[Expr, Var]) -> Expr:
    """`e` with each read and reduction replaced by a scalar, noted in `names`."""
    if isinstance(e, (Read, Reduce)):
        return names.setdefault(e, Var(f"#{len(names)}"))
    if isinstance(e, Call):
        return Call(e.function, tuple(abstract(a, names) for a in e.arguments))
    return e


def _first(hit: NDArray[np.bool_], over: tuple[int, ...]) -> NDArray[np.bool_]:
    """True only at the first place of each window where `hit` is."""
    rest = tuple(k for k in range(hit.ndim) if k not in over)
    rows = hit.transpose(*rest, *over)
    flat = rows.reshape(*rows.shape[: len(rest)], math.prod(rows.shape[len(rest) :]))
    chosen = np.zeros(flat.shape, bool)
    np.put_along_axis(chosen, flat.argmax(-1)[..., None], True, -1)
    placed: NDArray[np.bool_] = chosen.reshape(rows.shape).transpose(_inverse((*rest, *over)))
    return placed


def _product(a: Array, b: Array, keep: frozenset[int]) -> Array:
    """`Σ a·b` over the dimensions not to be kept, as one (batched) matrix product."""
    a = _reduce_own(a, b, keep)
    b = _reduce_own(b, a, keep)
    dims = range(a.ndim)
    both = [k for k in dims if a.shape[k] != 1 and b.shape[k] != 1]
    batch = [k for k in both if k in keep]
    inner = [k for k in both if k not in keep]
    left = [k for k in dims if k not in both and a.shape[k] != 1]
    right = [k for k in dims if k not in both and k not in left]
    size = {k: b.shape[k] if a.shape[k] == 1 else a.shape[k] for k in dims}
    rows, columns, depth = (math.prod(size[k] for k in part) for part in (left, right, inner))
    many = [size[k] for k in batch]
    first = a.transpose(*batch, *left, *inner, *right).reshape(*many, rows, depth)
    second = b.transpose(*batch, *inner, *right, *left).reshape(*many, depth, columns)
    order = [*batch, *left, *right, *inner]
    shape = [1 if k in inner else size[k] for k in order]
    total: Array = np.matmul(first, second).reshape(shape).transpose(_inverse(order))
    return total


def _reduce_own(a: Array, b: Array, keep: frozenset[int]) -> Array:
    """`a` summed over the dimensions that it alone has and that are not kept."""
    own = tuple(k for k in range(a.ndim) if k not in keep and a.shape[k] != 1 and b.shape[k] == 1)
    return a.sum(axis=own, keepdims=True) if own else a


def _inverse(order: Sequence[int]) -> list[int]:
    """Where each dimension has gone after a transposition by `order`."""
    return sorted(range(len(order)), key=order.__getitem__)
