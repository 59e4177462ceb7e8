"""Exactly which inputs stand behind a unit, and which units an input reaches.

Each operation's formula says which numbers of its arguments an output reads. `reads_of` takes
that apart into pairs of places along as few axes at a time as possible, `input_region` follows
them from a unit to the input, `units_reached` from a pixel to a layer. Sets of places are arrays
of true and false; so branches are added up without a hull around them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, OptionError, suggest
from striate.formula.embedding import Embedding
from striate.formula.expression import Expr, Index, Read, Reduce, children
from striate.formula.formula import Formula
from striate.formula.numeric import factors
from striate.formula.operation import Operation
from striate.formula.operations import find_operation
from striate.formula.random_numbers import Uniform
from striate.graph.graph import Graph, Node, Shape

if TYPE_CHECKING:
    from striate.nn.module import Module

Mask = NDArray[np.bool_]
Places = NDArray[np.intp]
Sides = tuple[tuple[int, int], ...]
_AT_ONCE = 1 << 26  # bytes that one step of `_carry` may gather


# ---- what a formula reads ------------------------------------------------------------------------


@dataclass(frozen=True)
class Weighted:
    """A read of a tensor, and the constants that its value is multiplied with."""

    read: Read
    constants: tuple[Read, ...] = ()


def weighted_reads(formula: Formula, tensor: str) -> list[Weighted]:
    """Every read of a tensor, with constant factors: what is multiplied by 0 is not read."""

    def walk(e: Expr, constants: tuple[Read, ...]) -> Iterator[Weighted]:
        if isinstance(e, Read):
            if e.tensor == tensor:
                yield Weighted(e, constants)
            return
        if isinstance(e, Reduce):
            parts = factors(e.body)[1]
            fixed = [p for p in parts if isinstance(p, Read) and p.tensor in formula.constants]
            inner = (*constants, *fixed) if e.how == "sum" else constants
            for part in parts:
                yield from walk(part, inner)
            return
        for child in children(e):
            yield from walk(child, constants)

    return list(dict.fromkeys(walk(formula.body, ())))


def index_values(index: Index, at: Mapping[str, Any]) -> tuple[Any, Any]:
    """An index's values where the axes have the values `at`, and where there is one.

    Unlike `Index.at`, −1 is a place like any other: the padding just before the tensor.
    """
    value = np.asarray(index.const + sum(c * at[a] for a, c in index.terms))
    value = value % index.mod if index.mod else value
    valid = value % index.div == 0
    value = value // index.div
    if index.table:
        table = np.asarray(index.table)
        valid &= (value >= 0) & (value < len(table))
        value = table[np.where(valid, value, 0)]
        valid &= value >= 0
    return value, valid


def weights_nonzero(formula: Formula, constants: Sequence[Read], at: Mapping[str, Any]) -> Mask:
    """Where no constant factor is 0, as far as these axes tell."""
    found: Mask = np.ones((), bool)
    for read in constants:
        if all(axis in at for index in read.index for axis, _ in index.terms):
            places = tuple(index_values(index, at)[0] for index in read.index)
            found = found & (formula.constants[read.tensor][places] != 0)
    return found


@dataclass(frozen=True)
class Pairs:
    """Places along some axes of the output, and those of an argument that they read.

    Attributes:
        outputs: axes of the output, the batch being 0.
        inputs: axes of the argument.
        read: (pairs, 2): the flat place in those axes of the output, and in those of the argument.
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    read: Places


def reads_of(formula: Formula, tensor: str) -> list[tuple[Pairs, ...]]:
    """For each read of a tensor: groups of axes, each with its pairs; a read joins them all."""
    return [_grouped(formula, weighted) for weighted in weighted_reads(formula, tensor)]


def _grouped(formula: Formula, weighted: Weighted) -> tuple[Pairs, ...]:
    """The axes of one read in groups that share no named axis."""
    groups: list[tuple[set[str], list[int], list[int]]] = []  # named axes, outputs, inputs
    dims: list[tuple[Index, list[int], list[int]]]
    dims = [(index, [k], []) for k, index in enumerate(formula.output)]
    dims += [(index, [], [k]) for k, index in enumerate(weighted.read.index)]
    for index, outputs, inputs in dims:
        named = _named(formula, index)
        hit = [g for g in groups if g[0] & named]
        groups = [g for g in groups if not g[0] & named]
        for axes, outs, ins in hit:
            named, outputs, inputs = named | axes, outs + outputs, ins + inputs
        groups.append((named, outputs, inputs))
    return tuple(_pairs(formula, weighted, g[1], g[2]) for g in groups if g[2])


def _named(formula: Formula, index: Index) -> set[str]:
    return {axis for axis, _ in index.terms if formula.sizes[axis] > 1}


def _pairs(
    formula: Formula, weighted: Weighted, outputs: Sequence[int], inputs: Sequence[int]
) -> Pairs:
    """All pairs of one group, by running through its named axes."""
    shape = formula.shapes[weighted.read.tensor]
    indices = [formula.output[k] for k in outputs] + [weighted.read.index[k] for k in inputs]
    named = sorted(set().union(*(_named(formula, index) for index in indices)))
    grid = np.meshgrid(*(np.arange(formula.sizes[a]) for a in named), indexing="ij", sparse=True)
    full = tuple(formula.sizes[a] for a in named)
    at = {axis: 0 for axis in formula.sizes} | dict(zip(named, grid, strict=True))
    here = {a: v for a, v in at.items() if a in named or formula.sizes[a] == 1}
    to = np.zeros(full, np.intp)
    for k in outputs:
        to = to * formula.shape[k] + index_values(formula.output[k], at)[0]
    come, valid = np.zeros(full, np.intp), np.ones(full, bool)
    valid &= weights_nonzero(formula, weighted.constants, here)
    for k in inputs:
        value, given = index_values(weighted.read.index[k], at)
        valid &= given & (value >= 0) & (value < shape[k])
        come = come * shape[k] + value
    return Pairs(tuple(outputs), tuple(inputs), np.stack([to[valid], come[valid]], 1))


# ---- sets of places through one node -------------------------------------------------------------


def _carry(mask: Mask, shape: Shape, groups: Sequence[Pairs], back: bool) -> Mask:
    """A set of places of one side of a read as the set of the other side that belongs to it."""
    ends = [(g.outputs, g.inputs) if back else (g.inputs, g.outputs) for g in groups]
    used = sorted(k for old, _ in ends for k in old)
    mask = np.asarray(mask.any(axis=tuple(k for k in range(mask.ndim) if k not in used)))
    axes = [("old", k) for k in used]
    for group, (old, new) in zip(groups, ends, strict=True):
        mask = np.moveaxis(mask, [axes.index(("old", k)) for k in old], range(len(old)))
        sides = mask.shape[len(old) :]
        pairs = group.read if back else group.read[:, ::-1]
        rows = mask.reshape(-1, math.prod(sides))
        moved = _gather(rows, pairs, math.prod(shape[k] for k in new))
        mask = moved.reshape((*(shape[k] for k in new), *sides))
        axes = [("new", k) for k in new] + [a for a in axes if a not in [("old", k) for k in old]]
    places = [k for _, k in axes]
    mask = mask.transpose(np.argsort(places))
    mask = np.expand_dims(mask, [k for k in range(len(shape)) if k not in places])
    return np.broadcast_to(mask, shape)


def _gather(rows: Mask, pairs: Places, count: int) -> Mask:
    """`found[b] = any of rows[a]` over the pairs (a, b)."""
    found = np.zeros((count, rows.shape[1]), bool)
    if not len(pairs):
        return found
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    targets, starts = np.unique(pairs[:, 1], return_index=True)
    if len(targets) == len(pairs) and np.array_equal(pairs[:, 0], pairs[:, 1]):
        found[targets] = rows[targets]
        return found
    step = max(1, _AT_ONCE // len(pairs))
    for k in range(0, rows.shape[1], step):
        part = rows[:, k : k + step]
        found[targets, k : k + step] = np.logical_or.reduceat(part[pairs[:, 0]], starts, axis=0)
    return found


class _Step:
    """One node: which places of its inputs its outputs read."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.node, self.operation = node, find_operation(node.op)
        self.inputs = [graph.nodes[name] for name in node.inputs]
        self.shapes = [i.shape for i in self.inputs]
        self._reads: dict[int, list[tuple[Pairs, ...]]] = {}
        self.formula: Formula | None = None
        if self.operation.has_formula:
            full = self.operation.full_shapes(node.attributes, self.shapes)
            self.formula = self.operation.formula(node.attributes, full)
        self.names = self.operation.argument_names(node.attributes, len(self.inputs))

    def through(self, mask: Mask, number: int, back: bool) -> Mask:
        """A set of outputs as what they read of an input, or of an input as what reads it.

        Args:
            mask: (1, …), of the output's form, or of the input's.
            number: of the input.
            back: whether from the output to the input.
        """
        shape = (1, *(self.shapes[number] if back else self.node.shape))
        if self.formula is not None:
            if number not in self._reads:
                self._reads[number] = reads_of(self.formula, self.names[number])
            parts = [_carry(mask, shape, groups, back) for groups in self._reads[number]]
            return np.asarray(np.logical_or.reduce(parts)) if parts else np.zeros(shape, bool)
        if is_mover(self.operation):
            return self._moved(mask, number, back)
        return self._without_formula(mask, shape, number, back)

    def _moved(self, mask: Mask, number: int, back: bool) -> Mask:
        """What only moves numbers is run on the set itself."""
        zeros = [np.zeros((1, *shape)) for shape in self.shapes]
        if back:
            found = self.operation.gradient(self.node.attributes, mask.astype(float), zeros)
            moved = found[number]
        else:
            zeros[number] = mask.astype(float)
            moved = self.operation.reference(self.node.attributes, zeros)
        return np.asarray(moved) > 0

    def _without_formula(self, mask: Mask, shape: Shape, number: int, back: bool) -> Mask:
        """An index that is a value reads its own number; of anything else all is taken."""
        if isinstance(self.operation, Uniform):
            return np.zeros(shape, bool)
        if isinstance(self.operation, Embedding) and number == 0:
            return np.asarray(mask.any(-1)) if back else np.broadcast_to(mask[..., None], shape)
        return np.full(shape, mask.any())


def is_mover(operation: Operation) -> bool:
    """Whether the operation only moves numbers and can say where each comes from."""
    return type(operation).source is not Operation.source


# ---- through a network ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """A set of places of one tensor, and the box around it.

    Attributes:
        mask: the places, an array of true and false of the tensor's form (c, h, w).
        clipped: first and last place along each axis, inside the tensor; () where none is read.
        unclipped: the same along the axes of space as if the input went on beyond its edges (the
            padding that is read counts); () where it is not known or not asked for.
    """

    mask: Mask
    clipped: Sides
    unclipped: Sides = ()

    @property
    def count(self) -> int:
        """How many places there are."""
        return int(self.mask.sum())

    @property
    def shape(self) -> Shape:
        """The sizes of the box."""
        return tuple(last - first + 1 for first, last in self.clipped)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index: `image[region.slices]` cuts it out."""
        return tuple(slice(first, last + 1) for first, last in self.clipped)


def box(mask: Mask) -> Sides:
    """First and last true place along each axis; () where there is none.

    >>> box(np.array([[False, True], [False, True]]))
    ((0, 1), (1, 1))
    """
    spots = np.argwhere(mask)
    if not len(spots):
        return ()
    return tuple((int(a), int(b)) for a, b in zip(spots.min(0), spots.max(0), strict=True))


def graph_of(net: Module | Graph, input_shape: Sequence[Any] | None, where: str) -> Graph:
    """A network's graph in evaluation for inputs of a shape.

    Raises:
        OptionError: the shape is not known.
    """
    from striate.nn.mode import in_mode
    from striate.nn.module import Module
    from striate.nn.trace import sample_shapes_of

    if not isinstance(net, (Graph, Module)):
        raise OptionError(f"{where}: expected a network or a graph; got {type(net).__name__}.")
    if isinstance(net, Graph):
        return net if input_shape is None else net.with_input_shape(*sample_shapes_of(input_shape))
    shape = input_shape or net.known_input_shape
    if shape is None:
        raise OptionError(
            f"{where}: expected a network whose input shape is known; got a {type(net).__name__} "
            "that was never called. Give input_shape, as (1, 28, 28)."
        )
    with in_mode(net, training=False):
        return net.to_graph(shape)


def input_of(graph: Graph, name: str | None, where: str) -> Node:
    """The input that is asked about: that of the name, or the only one.

    Raises:
        OptionError: there is no such input, or there are several and none is named.
    """
    inputs = {node.name: node for node in graph.inputs}
    if name is None and len(inputs) == 1:
        return graph.inputs[0]
    if name is None:
        raise OptionError(
            f"{where}: expected the name of an input, as the network has {len(inputs)}; got none. "
            f"Give input, one of: {', '.join(inputs)}."
        )
    if name not in inputs:
        raise OptionError(
            f"{where}: expected input to be one of {', '.join(inputs)}; got {name!r}."
        )
    return inputs[name]


def require_layer(graph: Graph, layer: str, where: str) -> Node:
    """The node of that name; an unknown one lists those that there are."""
    names = [node.name for node in graph.steps]
    if layer not in names and layer not in [node.name for node in graph.inputs]:
        raise ModelError(f"{where}: unknown layer {layer!r}. {suggest(layer, names)}")
    return graph.nodes[layer]


def place_mask(shape: Shape, place: Sequence[int], where: str, of: str) -> Mask:
    """A place (c, i, j), or (i, j) of all channels, as a set (1, …).

    Raises:
        OptionError: it is outside; the error shows the shape.
    """
    at = tuple(int(k) for k in place)
    sizes = shape if len(at) == len(shape) else shape[1:]
    if len(at) != len(sizes) or any(not 0 <= k < n for k, n in zip(at, sizes, strict=True)):
        ranges = ", ".join(f"0…{n - 1}" for n in shape)
        raise OptionError(
            f"{where}: expected a place ({ranges}) in {of}, shape {shape}, or one without the "
            f"channel; got {at}."
        )
    mask = np.zeros((1, *shape), bool)
    index: tuple[Any, ...] = (..., *at)
    mask[index] = True
    return mask


def input_region(
    net: Module | Graph,
    input_shape: Sequence[Any] | None,
    layer: str,
    place: Sequence[int],
    *,
    input: str | None = None,
) -> Region:
    """The numbers of the input that a unit depends on.

    Every path from the input is followed, by the formulas: what a formula reads counts, whatever
    the weights are. Places without effect (a stride that steps over them, the gaps of a dilation)
    are not in the set.

    Args:
        net: a network or a graph.
        input_shape: of one sample, (c, h, w), of several inputs a tuple of such shapes; None for
            the one it last had.
        layer: the layer, as `summary` names it.
        place: the unit (c, i, j) in its output, or (i, j) for the units of all channels there.
        input: the name of the input that is asked about, where there are several.
    Returns:
        The set over the input, its box, and the box along the axes of space as if the input went
        on beyond its edges.
    Raises:
        ModelError: there is no such layer; those that there are are listed.
        OptionError: the place is outside; the error shows the shape.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2))
    >>> found = input_region(net, (1, 8, 8), "1", (0, 0, 3))
    >>> found.clipped, found.unclipped, found.count
    (((0, 0), (0, 2), (5, 7)), ((-1, 2), (5, 8)), 9)
    """
    from striate.inspect.receptive import fields

    graph = graph_of(net, input_shape, "input_region")
    node = require_layer(graph, layer, "input_region")
    source = input_of(graph, input, "input_region")
    mask = place_mask(node.shape, place, "input_region", f"the output of {layer!r}")
    graph = graph.pruned([layer])
    found = _backward(graph, layer, mask, source)[0]
    field = fields(graph, source)[layer]
    at = tuple(int(k) for k in place)
    if len(at) < len(node.shape):
        if any(law.dim == 1 for law in field.laws):  # the channels lie at different places
            return Region(found, box(found))
        at = (0, *at)
    return Region(found, box(found), field.at(at))


def _backward(graph: Graph, layer: str, mask: Mask, source: Node) -> Mask:
    masks = {layer: mask}
    for node in reversed(graph.steps):
        mine = masks.pop(node.name, None)
        if mine is None or not mine.any():
            continue
        step = _Step(graph, node)
        for number, come in enumerate(step.inputs):
            if come.batched and come.op != "parameter":
                found = step.through(mine, number, back=True)
                known = masks.get(come.name)
                masks[come.name] = found if known is None else known | found
    return np.asarray(masks.get(source.name, np.zeros((1, *source.shape), bool)))


def units_reached(
    net: Module | Graph,
    input_shape: Sequence[Any] | None,
    pixel: Sequence[int],
    layer: str,
    *,
    input: str | None = None,
) -> Region:
    """The units of a layer that depend on one number of the input.

    Args:
        net: a network or a graph.
        input_shape: of one sample, (c, h, w), of several inputs a tuple of such shapes; None for
            the one it last had.
        pixel: the place (c, i, j) in the input, or (i, j) for all its channels.
        layer: the layer, as `summary` names it.
        input: the name of the input that the pixel is of, where there are several.
    Returns:
        The set over the layer's output, and its box.
    Raises:
        ModelError: there is no such layer; those that there are are listed.
        OptionError: the pixel is outside; the error shows the shape.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2))
    >>> units_reached(net, (1, 9, 9), (4, 4), "0").clipped
    ((0, 3), (1, 2), (1, 2))
    """
    graph = graph_of(net, input_shape, "units_reached")
    source = input_of(graph, input, "units_reached")
    node = require_layer(graph, layer, "units_reached")
    masks = {source.name: place_mask(source.shape, pixel, "units_reached", "the input")}
    for step in map(lambda n: _Step(graph, n), graph.pruned([layer]).steps):
        parts = [
            step.through(masks[come.name], number, back=False)
            for number, come in enumerate(step.inputs)
            if come.name in masks
        ]
        if parts:
            masks[step.node.name] = np.logical_or.reduce(parts)
    found = masks.get(layer, np.zeros((1, *node.shape), bool))[0]
    return Region(np.asarray(found), box(found))
