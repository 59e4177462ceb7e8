"""A formula: one operation written down once, and everything that can be read off it.

    n, o, i, j, c, p, q = axes("n o i j c p q")
    x, w = Tensor("x"), Tensor("w")
    Formula.infer((n, o, i, j), Sum((c, p, q), x[n, c, i + p, j + q] * w[o, c, p, q]),
                  {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)})

Readings: the values in float64, the gradient, the region that a number reads, the terms behind
it, the matrix of a linear operation, the cost, the text. The arithmetic on whole arrays is in
`formula.numeric`, that of a single number in `formula.terms`. Meaning only: speed is the business
of `kernels`, which compute the same formulas natively.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError
from striate.formula import latex, numeric, terms
from striate.formula.expression import Call, Expr, Index, Read, Reduce, children

Shape = tuple[int, ...]
Array = NDArray[np.float64]
Sides = Sequence[tuple[int, int]]  # (before, after) for each axis of a tensor


@dataclass(frozen=True)
class Cost:
    """What one evaluation of a formula takes.

    `multiply_adds` counts the products that are summed up; `operations` counts every addition,
    multiplication, comparison and function once. Reads outside a tensor count like any other.
    """

    multiply_adds: int
    operations: int


@dataclass(frozen=True)
class Formula:
    """`result[output] = body` over named axes.

    Attributes:
        output: the index of the number that is defined. Mostly one axis a place; `g*4 + o` with 4
            values of `o` lays two axes out as one.
        body: the number's definition.
        sizes: how many values each axis takes.
        shapes: the shape of each tensor that the body reads.
        outside: what a tensor reads as outside its bounds (0 unless said).
        constants: tensors that belong to the formula itself and have no gradient.
        result: the output's name in texts.
    """

    output: tuple[Index, ...]
    body: Expr
    sizes: Mapping[str, int]
    shapes: Mapping[str, Shape]
    outside: Mapping[str, float] = field(default_factory=dict)
    constants: Mapping[str, Array] = field(default_factory=dict)
    result: str = "y"

    @classmethod
    def infer(
        cls,
        output: tuple[Index, ...],
        body: Expr,
        shapes: Mapping[str, Shape],
        padding: Mapping[str, Sides] | None = None,
        sizes: Mapping[str, int] | None = None,
        **more: Any,
    ) -> Formula:
        """The formula with the sizes of its axes worked out from the shapes of the tensors.

        An axis that is an index by itself takes that dimension's size. Any other takes as many
        values as keep every read inside the tensor and its allowed padding:
        `⌊(dimension + padding − reach of the other axes − 1)/step⌋ + 1`.

        Args:
            output, body, more: as for `Formula`.
            shapes: shape of each tensor.
            padding: how far outside a tensor may be read, (before, after) for each of its axes.
            sizes: sizes that the shapes do not tell.
        Raises:
            ShapeError: the shapes contradict each other, or leave an axis without a value.

        >>> from striate.formula.expression import Sum, Tensor, axes
        >>> i, p = axes("i p")
        >>> x, w = Tensor("x"), Tensor("w")
        >>> f = Formula.infer((i,), Sum((p,), x[i * 2 + p] * w[p]), {"x": (7,), "w": (3,)})
        >>> f.shape, f.reference(x=range(7), w=[1, 1, 1])
        ((3,), array([ 3.,  9., 15.]))
        """
        found = infer_sizes(body, shapes, padding or {}, sizes or {})
        return cls(output, body, found, dict(shapes), **more)

    def __post_init__(self) -> None:
        for read in reads(self.body):
            shape = self.shapes.get(read.tensor, np.shape(self.constants.get(read.tensor, ())))
            if len(shape) != len(read.index):
                raise ShapeError(
                    f"formula: {read} expected a tensor of {len(read.index)} axes; "
                    f"got {read.tensor} of shape {shape}."
                )
        for axis in (*self.free, *self.reduced):
            if axis not in self.sizes:
                raise ShapeError(f"formula: the size of axis {axis!r} in {self} is not known.")
        for index in self.output:
            _require_dense(index, self.sizes)

    # ---- what it is -----------------------------------------------------------------------

    @property
    def free(self) -> tuple[str, ...]:
        """The axes of the output, in its order."""
        return tuple(dict.fromkeys(axis for index in self.output for axis, _ in index.terms))

    @property
    def reduced(self) -> tuple[str, ...]:
        """The axes that sums and maxima run over, in order of appearance."""
        found = (axis for part in walk(self.body) if isinstance(part, Reduce) for axis in part.over)
        return tuple(dict.fromkeys(found))

    @property
    def shape(self) -> Shape:
        """The shape of the output."""
        return tuple(math.prod(self.sizes[a] for a, _ in index.terms) for index in self.output)

    def place(self, at: Sequence[int]) -> dict[str, int]:
        """The values of the free axes at one place of the output.

        Raises:
            OptionError: the place is not in the output.
        """
        if len(at) != len(self.shape) or not all(
            0 <= k < n for k, n in zip(at, self.shape, strict=True)
        ):
            raise OptionError(
                f"formula: expected a place in an output of shape {self.shape}; got {tuple(at)}."
            )
        return {
            axis: int(k) // step % self.sizes[axis]
            for index, k in zip(self.output, at, strict=True)
            for axis, step in index.terms
        }

    # ---- readings -------------------------------------------------------------------------

    def reference(self, **tensors: ArrayLike) -> Array:
        """The output in float64, of shape `self.shape`."""
        with np.errstate(all="ignore"):
            return numeric.Numeric(self, self._arrays(tensors)).output()

    def gradient(
        self, upstream: ArrayLike, *, wanted: Sequence[str] | None = None, **tensors: ArrayLike
    ) -> dict[str, Array]:
        """The gradient to each tensor, `Σ upstream · ∂output/∂tensor`.

        Args:
            upstream: gradient to the output, of shape `self.shape`.
            wanted: the tensors that need one; by default all that have shapes.
            tensors: the values at which it is taken.
        """
        up = np.asarray(upstream, np.float64)
        if up.shape != self.shape:
            raise ShapeError(
                f"formula: expected an upstream gradient of shape {self.shape}; got {up.shape}."
            )
        names = tuple(self.shapes) if wanted is None else tuple(wanted)
        with np.errstate(all="ignore"):
            return numeric.Numeric(self, self._arrays(tensors)).gradient(up, names)

    def explain(self, at: Sequence[int], **tensors: ArrayLike) -> terms.Step:
        """The exact arithmetic behind the number at `at`, as a tree of steps."""
        with np.errstate(all="ignore"):
            return terms.explain(self, self.place(at), self._arrays(tensors))

    def region(self, tensor: str, at: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Along each axis of `tensor`, the first and last index that the number at `at` reads.

        The region is not clipped: an index below 0 or past the end reads padding.
        """
        fixed = self.place(at)
        ends = {a: (fixed[a],) * 2 if a in fixed else (0, n - 1) for a, n in self.sizes.items()}
        spans = [
            [extent(index, ends) for index in read.index]
            for read in reads(self.body)
            if read.tensor == tensor
        ]
        if not spans:
            raise OptionError(f"formula: {self} does not read a tensor {tensor!r}.")
        return tuple(
            (min(lo for lo, _ in axis), max(hi for _, hi in axis))
            for axis in zip(*spans, strict=True)
        )

    def matrix(self, tensor: str, **others: ArrayLike) -> Array:
        """The matrix A with `output.ravel() = A @ tensor.ravel() + constant`, for small sizes.

        Args:
            tensor: a tensor that the formula is linear in.
            others: the values of the other tensors.
        Returns:
            (size of the output, size of the tensor), float64.
        """
        shape = self.shapes[tensor]
        size = math.prod(shape)
        zero = self.reference(**{**others, tensor: np.zeros(shape)}).ravel()
        columns = np.empty((zero.size, size))
        for k, unit in enumerate(np.eye(size)):
            columns[:, k] = self.reference(**{**others, tensor: unit.reshape(shape)}).ravel() - zero
        return columns

    def cost(self) -> Cost:
        """Multiply-adds and single operations of one evaluation."""
        points = math.prod(self.sizes[a] for a in self.free)
        return Cost(*(k * points for k in self._cost(self.body)))

    def _cost(self, e: Expr) -> tuple[int, int]:
        adds = sum(self._cost(child)[0] for child in children(e))
        operations = sum(self._cost(child)[1] for child in children(e))
        if isinstance(e, Call):
            return adds, operations + 1
        if isinstance(e, Reduce):
            count = math.prod(self.sizes[a] for a in e.over)
            product = e.how == "sum" and len(numeric.factors(e.body)[1]) > 1
            return count * (adds + product), count * operations + count - 1
        return 0, 0

    def __str__(self) -> str:
        body = str(self.body)
        if body.startswith("(") and isinstance(self.body, Call):
            body = body[1:-1]
        return f"{self.result}[{', '.join(map(str, self.output))}] = {body}"

    def latex(self) -> str:
        """The formula in LaTeX."""
        return latex.formula(self.result, self.output, self.body)

    def _arrays(self, tensors: Mapping[str, ArrayLike]) -> dict[str, Array]:
        if tensors.keys() != self.shapes.keys():
            raise OptionError(
                f"formula: expected tensors {sorted(self.shapes)}; got {sorted(tensors)}."
            )
        arrays = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
        for name, array in arrays.items():
            if array.shape != tuple(self.shapes[name]):
                raise ShapeError(
                    f"formula: {name} expected shape {tuple(self.shapes[name])}; got {array.shape}."
                )
        return {**arrays, **self.constants}


def walk(e: Expr) -> Iterator[Expr]:
    """`e` and all its parts, outermost first."""
    yield e
    for child in children(e):
        yield from walk(child)


def reads(e: Expr) -> list[Read]:
    """The reads of tensors in `e`, in order."""
    return [part for part in walk(e) if isinstance(part, Read)]


def extent(index: Index, ends: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """The smallest and largest value of an index whose axes run over `ends` (inclusive)."""
    lowest = index.const + sum(c * ends[a][c < 0] for a, c in index.terms)
    highest = index.const + sum(c * ends[a][c > 0] for a, c in index.terms)
    if index.mod and lowest // index.mod == highest // index.mod:
        lowest, highest = lowest % index.mod, highest % index.mod
    elif index.mod:
        lowest, highest = 0, index.mod - 1
    lowest, highest = -(-lowest // index.div), highest // index.div
    if not index.table:
        return lowest, highest
    found = [k for k in index.table[max(lowest, 0) : highest + 1] if k >= 0] or [-1]
    return min(found), max(found)


def infer_sizes(
    body: Expr,
    shapes: Mapping[str, Shape],
    padding: Mapping[str, Sides],
    known: Mapping[str, int],
) -> dict[str, int]:
    """The size of every axis in `body`; see `Formula.infer`."""
    dimensions = []
    for read in reads(body):
        if read.tensor not in shapes or len(shapes[read.tensor]) != len(read.index):
            raise ShapeError(
                f"formula: {read} expected a tensor of {len(read.index)} axes; "
                f"got shape {shapes.get(read.tensor, 'none')}."
            )
        sides = padding.get(read.tensor, [(0, 0)] * len(read.index))
        dimensions += list(zip([read] * 9, read.index, shapes[read.tensor], sides, strict=False))
    sizes = dict(known)
    for read, index, size, _ in dimensions:
        if index.axis is not None and sizes.setdefault(index.axis, size) != size:
            raise ShapeError(
                f"formula: expected axis {index.axis!r} to have {sizes[index.axis]} values, as "
                f"elsewhere; got {size} of {read}, shape {tuple(shapes[read.tensor])}."
            )
    while _infer_one(dimensions, sizes):
        pass
    return sizes


def _infer_one(
    dimensions: Sequence[tuple[Read, Index, int, tuple[int, int]]], sizes: dict[str, int]
) -> bool:
    """Add one size that follows from those known; False where none is left to be found."""
    found: dict[str, int] = {}
    for _, index, size, (_, after) in dimensions:
        unknown = [(a, c) for a, c in index.terms if a not in sizes]
        if not index.affine or len(unknown) != 1 or unknown[0][1] < 1:
            continue
        axis, step = unknown[0]
        ends = {a: (0, sizes[a] - 1) for a, _ in index.terms if a != axis}
        rest = extent(index - Index(((axis, step),)), ends)[1]
        count = (size - 1 + after - rest) // step + 1
        found[axis] = min(found.get(axis, count), count)
    for axis, count in found.items():
        if count < 1:
            raise ShapeError(f"formula: axis {axis!r} has no value that stays inside the tensors.")
    sizes.update(found)
    return bool(found)


def _require_dense(index: Index, sizes: Mapping[str, int]) -> None:
    """An output index must count every place once, its outermost axis first: `12a + 4b + c`."""
    step, dense = 1, bool(index.terms) and not index.const and index.affine
    for axis, coefficient in reversed(index.terms):
        dense = dense and (coefficient == step or sizes[axis] == 1)
        step *= sizes[axis]
    if not dense:
        raise OptionError(
            f"formula: expected an output index that counts every place once; got {index}."
        )
