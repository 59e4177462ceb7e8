"""Any linear layer as a sparse matrix, read off its formula.

A layer `y = A·x + b` on flattened arrays: for every output and every term of its sums, the formula
says which number of x is read and what it is multiplied by; those are A's entries. Nothing is run
and no unit vectors are tried, so a layer costs as much as its multiply-adds. Networks of linear
layers are products of such matrices. `Formula.matrix`, which does try unit vectors, is the check.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula.expression import NUMPY, Call, Const, Expr, Read, Reduce
from striate.formula.formula import Formula
from striate.formula.operation import Operation
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node, Shape

if TYPE_CHECKING:
    from striate.nn.module import Module

Array = NDArray[np.float64]
MOST_TERMS = 2**28
"""Products of a matrix's entries that are held at once; beyond it a layer is refused."""


def matrix(
    layer: Module | Graph,
    input_shape: Sequence[int] | None = None,
    *,
    node: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[Any, Array]:
    """The matrix and the offset of a linear layer or network: `y.ravel() = A @ x.ravel() + b`.

    Convolutions of any form, transposed ones, pooling by averages and sums, fully connected
    layers, padding, resizing, permuting, normalisation with running statistics …

    Args:
        layer: a layer, a network in evaluation mode, or a graph.
        input_shape: of one sample, (c, h, w); by default the one that a network last had.
        node: one step of the graph, from its (only) input; by default all of it.
        parameters: the values of a graph's parameters.
    Returns:
        A, a scipy.sparse.csr_array (outputs, inputs) in float64, and b (outputs,).
    Raises:
        OptionError: it is not linear, or SciPy is not installed.

    >>> from striate import nn
    >>> pool = nn.AvgPool2d(2)
    >>> A, b = matrix(pool, (1, 2, 4))
    >>> A.toarray()
    array([[0.25, 0.25, 0.  , 0.  , 0.25, 0.25, 0.  , 0.  ],
           [0.  , 0.  , 0.25, 0.25, 0.  , 0.  , 0.25, 0.25]])
    """
    graph, values = _graph_of(layer, input_shape, parameters)
    if node is not None:
        graph = _one_step(graph, node)
    return _composed(graph, values)


def _graph_of(
    layer: Module | Graph, input_shape: Sequence[int] | None, parameters: Mapping[str, Any] | None
) -> tuple[Graph, dict[str, Array]]:
    """The graph, and its parameters in float64."""
    if isinstance(layer, Graph):
        graph = layer if input_shape is None else layer.with_input_shape(tuple(input_shape))
        given = dict(parameters or {})
    else:
        shape = input_shape or layer.last_input_shape
        if shape is None:
            raise OptionError(
                f"matrix: expected the shape of a sample, as in matrix(layer, (1, 28, 28)); got a "
                f"{type(layer).__name__} that was never called."
            )
        graph, given = layer.to_graph(tuple(shape)), dict(layer.state_dict())
    for leaf in graph.parameters:
        if leaf.name not in given:
            raise OptionError(
                f"matrix: expected a value of the parameter {leaf.name!r}; got "
                f"{sorted(given)}. Write matrix(graph, parameters={{…}})."
            )
    return graph, {n.name: np.asarray(given[n.name], np.float64) for n in graph.parameters}


def _one_step(graph: Graph, name: str) -> Graph:
    """The graph of one step, whose batched input is the graph's."""
    if name not in graph.nodes or graph.nodes[name] not in graph.steps:
        raise OptionError(
            f"matrix: expected a step of the graph, {[n.name for n in graph.steps]}; got {name!r}."
        )
    step = graph.nodes[name]
    sources = {i for i in step.inputs if graph.nodes[i].batched}
    if len(sources) != 1:
        raise OptionError(
            f"matrix: expected a step with one input; {name!r} has {sorted(sources)}."
        )
    single = Graph(outputs=(name,))
    for i in dict.fromkeys(step.inputs):
        leaf = graph.nodes[i]
        single.append(Node(i, "input", (), {}, leaf.shape) if i in sources else leaf)
    single.append(step)
    return single


# ---- a network -----------------------------------------------------------------------------------


def _composed(graph: Graph, values: Mapping[str, Array]) -> tuple[Any, Array]:
    """Step after step, each value as a matrix of the graph's input."""
    sparse = _sparse()
    if len(graph.inputs) != 1:
        raise OptionError(f"matrix: expected a graph with one input; got {len(graph.inputs)}.")
    start = graph.inputs[0]
    size = math.prod(start.shape)
    known: dict[str, tuple[Any, Array]] = {}
    each = np.arange(size)
    known[start.name] = sparse.csr_array((np.ones(size), (each, each))), np.zeros(size)
    for node in graph.pruned().steps:
        operation = find_operation(node.op)
        moving = [k for k, i in enumerate(node.inputs) if graph.nodes[i].batched]
        shapes = [graph.nodes[i].shape for i in node.inputs]
        blocks, offset = _step(node, operation, shapes, moving, values)
        total = sparse.csr_array((math.prod(node.shape), size))
        for k in moving:
            inner, constant = known[node.inputs[k]]
            total = total + blocks[k] @ inner
            offset = offset + blocks[k] @ constant
        known[node.name] = total.tocsr(), offset
    return known[graph.only_output("matrix").name]


def _sparse() -> Any:
    try:
        from scipy import sparse
    except ImportError:
        raise OptionError(
            "matrix: expected SciPy for sparse matrices; it is not installed. "
            "Run `pip install striate[scipy]`."
        ) from None
    return sparse


def _step(
    node: Node,
    operation: Operation,
    shapes: Sequence[Shape],
    moving: Sequence[int],
    values: Mapping[str, Array],
) -> tuple[dict[int, Any], Array]:
    """A step's matrices to each of its batched inputs (by position), and its offset."""
    if operation.is_loss:
        raise OptionError(f"matrix: {node.name!r} ({node.op}) is a loss, not a linear layer.")
    if not operation.has_formula:
        return _moved(node, operation, shapes, moving)
    full = operation.full_shapes(node.attributes, shapes)
    names = operation.argument_names(node.attributes, len(shapes))
    formula = operation.formula(node.attributes, full)
    fixed = {names[k]: values[i] for k, i in enumerate(node.inputs) if k not in moving}
    reader = _Reader(formula, fixed, f"{node.name!r} ({node.op})")
    found = reader.terms()
    rows = math.prod(formula.shape)
    blocks = {k: found.block(names[k], rows, math.prod(full[k])) for k in moving}
    return blocks, found.offset(rows)


def _moved(
    node: Node, operation: Operation, shapes: Sequence[Shape], moving: Sequence[int]
) -> tuple[dict[int, Any], Array]:
    """An operation that moves numbers: run it on numbers that say where they are from."""
    sizes = [math.prod(shape) for shape in shapes]
    starts = [0, *itertools.accumulate(sizes)]
    places = [
        np.arange(1 + first, 1 + first + size, dtype=np.float64).reshape(1, *shape)
        for first, size, shape in zip(starts, sizes, shapes, strict=False)
    ]
    if any(k not in moving for k in range(len(shapes))):
        raise OptionError(f"matrix: {node.name!r} ({node.op}) has parameters but no formula.")
    found = operation.reference(node.attributes, places).ravel()
    rounded = np.rint(found).astype(np.int64)
    known = found.size == 0 or 0 <= found.min() <= found.max() <= starts[-1]
    if not known or not np.array_equal(rounded, found):
        raise _not_linear(f"{node.name!r} ({node.op})", "it computes its numbers")
    rows = np.arange(found.size)
    blocks = {}
    for k in moving:
        mine = (rounded > starts[k]) & (rounded <= starts[k + 1])
        entries = np.ones(int(mine.sum()))
        place = (rows[mine], rounded[mine] - 1 - starts[k])
        blocks[k] = _sparse().csr_array((entries, place), shape=(found.size, sizes[k]))
    return blocks, np.zeros(found.size)


def _not_linear(where: str, why: str) -> OptionError:
    return OptionError(
        f"matrix: expected a linear layer; {where} is not linear: {why}. "
        "Take the matrix of the layers around it."
    )


# ---- a formula -----------------------------------------------------------------------------------


@dataclass
class _Grid:
    """Numbers over named axes: dimension k runs over axis k; size 1 where they do not depend."""

    axes: tuple[str, ...]
    array: NDArray[Any]

    def over(self, axes: Sequence[str]) -> NDArray[Any]:
        """The array with a dimension for each of `axes`, its own among them."""
        order = [self.axes.index(a) for a in axes if a in self.axes]
        shape = [self.array.shape[self.axes.index(a)] if a in self.axes else 1 for a in axes]
        found: NDArray[Any] = self.array.transpose(order).reshape(shape)
        return found


@dataclass
class _Term:
    """coefficient · tensor.ravel()[place], summed over the axes that the output does not have."""

    tensor: str
    place: _Grid
    coefficient: _Grid


@dataclass
class _Affine:
    """A constant and terms."""

    constant: _Grid
    terms: list[_Term]


class _Reader:
    """Walks a formula's body: every part becomes a constant and terms over named axes."""

    def __init__(self, formula: Formula, fixed: Mapping[str, Array], where: str) -> None:
        self.formula, self.where = formula, where
        self.fixed = {**fixed, **formula.constants}
        self.sizes = dict(formula.sizes)
        self._fresh = itertools.count()

    def terms(self) -> _Entries:
        """The entries of the whole formula."""
        whole = self._part(self.formula.body)
        return _Entries(self.formula, self.sizes, whole)

    def _part(self, e: Expr) -> _Affine:
        if isinstance(e, Const):
            return _Affine(_Grid((), np.array(e.value)), [])
        if isinstance(e, Read):
            return self._read(e)
        if isinstance(e, Call):
            return self._call(e)
        if isinstance(e, Reduce):
            return self._reduced(e)
        raise OptionError(f"matrix: {self.where} has a free scalar {e}.")

    # ---- reads

    def _read(self, e: Read) -> _Affine:
        axes = tuple(dict.fromkeys(a for index in e.index for a, _ in index.terms))
        self._bounded(axes)
        grid = {a: self._along(a, k, len(axes)) for k, a in enumerate(axes)}
        shape = self.formula.shapes.get(e.tensor, np.shape(self.fixed.get(e.tensor, ())))
        flat: Any = np.zeros((1,) * len(axes), np.int64)
        inside: Any = np.ones((1,) * len(axes), bool)
        for index, size in zip(e.index, shape, strict=True):
            at = np.zeros((1,) * len(axes), np.int64) + index.at(grid)
            inside = inside & (at >= 0) & (at < size)
            flat = flat * size + np.clip(at, 0, max(size - 1, 0))
        fill = self.formula.outside.get(e.tensor, 0.0)
        if e.tensor in self.fixed:
            array = np.asarray(self.fixed[e.tensor], np.float64).ravel()
            found = np.where(inside, array[flat] if array.size else fill, fill)
            return _Affine(_Grid(axes, found), [])
        if not inside.all() and not math.isfinite(fill):
            raise _not_linear(self.where, f"it reads {fill} outside {e.tensor}")
        term = _Term(e.tensor, _Grid(axes, flat), _Grid(axes, inside.astype(np.float64)))
        return _Affine(_Grid(axes, np.where(inside, 0.0, fill)), [term])

    def _along(self, axis: str, k: int, count: int) -> NDArray[np.int64]:
        shape = [1] * count
        shape[k] = -1
        return np.arange(self.sizes[axis], dtype=np.int64).reshape(shape)

    def _bounded(self, axes: Sequence[str]) -> None:
        count = math.prod(self.sizes[a] for a in axes)
        if count > MOST_TERMS:
            raise OptionError(
                f"matrix: expected at most {MOST_TERMS:,} entries; {self.where} has {count:,}. "
                "Take a smaller input."
            )

    # ---- functions

    def _call(self, e: Call) -> _Affine:
        parts = [self._part(a) for a in e.arguments]
        if not any(part.terms for part in parts):
            constants = _together([p.constant for p in parts])
            with np.errstate(all="ignore"):
                value = np.asarray(NUMPY[e.function](*(a for a in constants[1])))
            return _Affine(_Grid(constants[0], value), [])
        if e.function in ("add", "sub"):
            second = parts[1] if e.function == "add" else self._scaled(parts[1], _NEGATIVE)
            return _added(parts[0], second)
        if e.function == "neg":
            return self._scaled(parts[0], _NEGATIVE)
        if e.function == "mul" and not (parts[0].terms and parts[1].terms):
            variable, factor = parts if parts[0].terms else parts[::-1]
            return self._scaled(variable, factor.constant)
        if e.function == "div" and not parts[1].terms:
            inverse = _Grid(parts[1].constant.axes, 1.0 / parts[1].constant.array)
            return self._scaled(parts[0], inverse)
        if e.function == "where" and not parts[0].terms:
            return self._chosen(*parts)
        raise _not_linear(self.where, f"it takes {e.function} of its input")

    def _chosen(self, condition: _Affine, one: _Affine, other: _Affine) -> _Affine:
        """One or the other, place by place; what is not chosen may be infinite."""
        holds = _Grid(condition.constant.axes, (condition.constant.array != 0).astype(float))
        fails = _Grid(holds.axes, 1.0 - holds.array)
        axes, (c, x, y) = _together([holds, one.constant, other.constant])
        terms = [_Term(t.tensor, t.place, _times(t.coefficient, holds)) for t in one.terms]
        terms += [_Term(t.tensor, t.place, _times(t.coefficient, fails)) for t in other.terms]
        return _Affine(_Grid(axes, np.where(c != 0, x, y)), terms)

    def _scaled(self, part: _Affine, factor: _Grid) -> _Affine:
        terms = [_Term(t.tensor, t.place, _times(t.coefficient, factor)) for t in part.terms]
        return _Affine(_times(part.constant, factor), terms)

    # ---- sums

    def _reduced(self, e: Reduce) -> _Affine:
        inner = self._part(e.body)
        if e.how != "sum" and inner.terms and math.prod(self.sizes[a] for a in e.over) > 1:
            raise _not_linear(self.where, "it takes a maximum of its input")
        if e.how != "sum" and not inner.terms:
            axes = tuple(k for k, a in enumerate(inner.constant.axes) if a in e.over)
            left = tuple(a for a in inner.constant.axes if a not in e.over)
            return _Affine(_Grid(left, inner.constant.array.max(axis=axes)), [])
        constant = self._summed(inner.constant, e.over)
        return _Affine(constant, [self._closed(t, e.over) for t in inner.terms])

    def _summed(self, grid: _Grid, over: Sequence[str]) -> _Grid:
        """A constant summed up: axes that it does not depend on count as often as they run."""
        shape = [
            self.sizes[a] if a in over else grid.array.shape[k] for k, a in enumerate(grid.axes)
        ]
        array = np.broadcast_to(grid.array, shape)
        within = tuple(k for k, a in enumerate(grid.axes) if a in over)
        times = math.prod(self.sizes[a] for a in over if a not in grid.axes)
        left = tuple(a for a in grid.axes if a not in over)
        return _Grid(left, array.sum(axis=within) * times)

    def _closed(self, term: _Term, over: Sequence[str]) -> _Term:
        """Give a sum's axes new names: another part may use the same ones for something else."""
        names, used = {}, set(term.place.axes) | set(term.coefficient.axes)
        times = math.prod(self.sizes[a] for a in over if a not in used)
        for a in over:
            if a in used:
                names[a] = f"{a}#{next(self._fresh)}"
                self.sizes[names[a]] = self.sizes[a]
        place = _Grid(tuple(names.get(a, a) for a in term.place.axes), term.place.array)
        axes = tuple(names.get(a, a) for a in term.coefficient.axes)
        coefficient = _Grid(axes, term.coefficient.array * times)
        return _Term(term.tensor, place, coefficient)


_NEGATIVE = _Grid((), np.array(-1.0))


def _together(grids: Sequence[_Grid]) -> tuple[tuple[str, ...], list[NDArray[Any]]]:
    """All over the same axes."""
    axes = tuple(dict.fromkeys(a for grid in grids for a in grid.axes))
    return axes, [grid.over(axes) for grid in grids]


def _times(a: _Grid, b: _Grid) -> _Grid:
    axes, (x, y) = _together([a, b])
    return _Grid(axes, x * y)


def _added(a: _Affine, b: _Affine) -> _Affine:
    axes, (x, y) = _together([a.constant, b.constant])
    return _Affine(_Grid(axes, x + y), [*a.terms, *b.terms])


class _Entries:
    """What a formula's terms are as entries of a matrix."""

    def __init__(self, formula: Formula, sizes: Mapping[str, int], whole: _Affine) -> None:
        self.formula, self.sizes, self.whole = formula, sizes, whole
        self.free = formula.free

    def _row(self, axes: Sequence[str]) -> NDArray[np.int64]:
        """The flat place in the output, over `axes` (the free ones among them)."""
        grid = {
            a: np.arange(self.sizes[a]).reshape([-1 if b == a else 1 for b in axes])
            for a in self.free
        }
        flat: Any = np.zeros((1,) * len(axes), np.int64)
        for index, size in zip(self.formula.output, self.formula.shape, strict=True):
            flat = flat * size + index.at(grid)
        return np.asarray(flat)

    def block(self, tensor: str, rows: int, columns: int) -> Any:
        """The matrix to one tensor; entries at one place are added up."""
        sparse = _sparse()
        total = sparse.csr_array((rows, columns))
        for term in self.whole.terms:
            if term.tensor != tensor:
                continue
            inner = dict.fromkeys((*term.place.axes, *term.coefficient.axes))
            axes = (*self.free, *(a for a in inner if a not in self.free))
            shape = [self.sizes[a] for a in axes]
            if math.prod(shape) > MOST_TERMS:
                raise OptionError(
                    f"matrix: expected at most {MOST_TERMS:,} entries; got {math.prod(shape):,}. "
                    "Take a smaller input."
                )
            entries = np.broadcast_to(term.coefficient.over(axes), shape).ravel()
            kept = np.flatnonzero(entries)
            row = np.broadcast_to(self._row(axes), shape).ravel()[kept]
            column = np.broadcast_to(term.place.over(axes), shape).ravel()[kept]
            total = total + sparse.csr_array((entries[kept], (row, column)), shape=(rows, columns))
        return total

    def offset(self, rows: int) -> Array:
        shape = [self.sizes[a] for a in self.free]
        spread = np.broadcast_to(self.whole.constant.over(self.free), shape)
        found = np.zeros(rows)
        found[np.broadcast_to(self._row(self.free), shape).ravel()] = spread.ravel()
        return found
