"""Receptive fields: where a layer's units look on the input, derived from the formulas.

There is no table of layer kinds here. Each operation's formula says at which indices it reads its
arguments; along every axis of space these make a law (`receptive_laws`), and the laws of a network
are put one behind the other, branches joined in a hull.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from striate.errors import suggest
from striate.formula.embedding import Embedding
from striate.formula.operations import find_operation
from striate.formula.random_numbers import Uniform
from striate.formula.structure import Concat, Dropout, Slice
from striate.graph.graph import Graph, Node, Shape
from striate.inspect.receptive_laws import (
    Law,
    Numbers,
    Places,
    composed,
    constant,
    identity,
    joined,
    read_law,
    reduced,
)
from striate.inspect.regions import (
    Sides,
    graph_of,
    input_of,
    is_mover,
    require_layer,
    weighted_reads,
)

if TYPE_CHECKING:
    from striate.nn.module import Module

Stride = int | float | None
Laws = dict[int, Law]  # for each axis of space of the input, the batch being 0


@dataclass(frozen=True)
class ReceptiveField:
    """Where the units of one layer look: the hull over all paths from the input.

    Along an axis of space, unit i looks at the `size` places from `start + i·stride` on. Sizes are
    those of an input without edges: padding that is read counts.

    Attributes:
        name: the layer's.
        shape: of its output, (c, h, w).
        input_shape: of the network's input.
        size: along each axis of space of the input; where units differ, the largest.
        stride: how far the field moves from unit to unit; a fraction after upsampling; 0 where all
            units have one field; None where units do not lie in a row along that axis (flattened).
        start: the first place that unit 0 looks at; below 0 it is padding. None where it looks at
            nothing.
        centre: of unit 0's field, 0 being the first pixel's middle.
        whole: whether every unit looks at the whole axis.
        aligned: whether all paths from the input to the layer have the same stride and centre.
    """

    name: str
    shape: Shape
    input_shape: Shape
    size: tuple[int, ...]
    stride: tuple[Stride, ...]
    start: tuple[int | None, ...]
    centre: tuple[float | None, ...]
    whole: tuple[bool, ...]
    aligned: bool
    laws: tuple[Law, ...] = field(repr=False, compare=False)

    @property
    def padding(self) -> tuple[int | None, ...]:
        """How far unit 0 looks beyond the input's first edge."""
        return tuple(None if k is None else -k for k in self.start)

    @property
    def reads(self) -> bool:
        """Whether the layer depends on the input at all."""
        return any(self.size)

    def at(self, place: Sequence[int]) -> Sides:
        """First and last place along each axis of space behind a unit; () where it reads nothing.

        Args:
            place: (c, i, j) in the layer's output.
        """
        found = []
        for law in self.laws:
            low, high = law.spans(0 if law.dim is None else place[law.dim - 1])
            if not np.isfinite(low):
                return ()
            found.append((int(low), int(high)))
        return tuple(found)

    @property
    def everywhere(self) -> tuple[bool, ...]:
        """Whether all units look at the whole axis by a path of their own (global pooling)."""
        both = zip(self.whole, self.laws, strict=True)
        return tuple(whole and (law.dim is None or law.pooled) for whole, law in both)

    @property
    def text(self) -> str:
        """The size, as it is said: "11", "3×5", "all".

        >>> from striate import nn
        >>> receptive_field(nn.Conv2d(1, 1, (3, 5)), (1, 9, 9), "conv2d").text
        '3×5'
        """
        if not self.reads:
            return "–"
        both = zip(self.everywhere, self.size, strict=True)
        return _together(["all" if everywhere else str(size) for everywhere, size in both])

    @property
    def stride_text(self) -> str:
        """The stride, as it is said: "2", "1/2", "4×2"; "–" where there is none."""
        if not self.reads:
            return "–"
        both = zip(self.stride, self.laws, strict=True)
        return _together([str(law.stride) if stride else "–" for stride, law in both])

    def numbers(self) -> dict[str, Any]:
        """Size, stride, start, centre, whole and aligned as JSON data."""
        keys = ("size", "stride", "start", "centre", "whole")
        return {key: list(getattr(self, key)) for key in keys} | {"aligned": self.aligned}

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return {"name": self.name, "shape": list(self.shape), **self.numbers()}


def _together(parts: Sequence[str]) -> str:
    return parts[0] if len(set(parts)) == 1 else "×".join(parts)


@dataclass(frozen=True)
class ReceptiveFields(Mapping[str, ReceptiveField]):
    """The receptive fields of a network's layers, by name, in order of computation."""

    input_shape: Shape
    layers: Mapping[str, ReceptiveField]

    def __getitem__(self, name: str) -> ReceptiveField:
        if name not in self.layers:
            raise KeyError(f"receptive_field: unknown layer {name!r}. {suggest(name, self.layers)}")
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return {
            "input_shape": list(self.input_shape),
            "layers": [field.to_dict() for field in self.layers.values()],
        }

    def text(self, width: int = 100) -> str:
        """A table of at most `width` columns."""
        from striate.inspect.receptive_text import table

        return table(self, width)

    def __str__(self) -> str:
        return self.text()


@overload
def receptive_field(
    net: Module | Graph,
    input_shape: Sequence[Any] | None = None,
    layer: None = None,
    *,
    input: str | None = None,
) -> ReceptiveFields: ...


@overload
def receptive_field(
    net: Module | Graph,
    input_shape: Sequence[Any] | None,
    layer: str,
    *,
    input: str | None = None,
) -> ReceptiveField: ...


def receptive_field(
    net: Module | Graph,
    input_shape: Sequence[Any] | None = None,
    layer: str | None = None,
    *,
    input: str | None = None,
) -> ReceptiveFields | ReceptiveField:
    """The receptive fields of a network's layers, or of one.

    For a chain of windows of size k, stride s and dilation d, size and stride follow
    `R ← R + (k − 1)·d·S`, `S ← S·s` from R = S = 1; here they are derived from the formulas, so
    that they hold for branches, transposed convolutions, resizing and any operation.

    Args:
        net: a network or a graph.
        input_shape: of one sample, (c, h, w), of several inputs a tuple of such shapes; None for
            the one it last had. Channels come first; the axes after them are those of space.
        layer: the layer to look at; None for all.
        input: the name of the input that is looked at, where there are several.
    Returns:
        `ReceptiveFields`, by name; the layer's `ReceptiveField` where one is asked for.
    Raises:
        ModelError: there is no such layer; those that there are are listed.
        OptionError: the shape is not known, or of several inputs none is named.
    Source: Araujo, Norris & Sim, Computing receptive fields of convolutional neural networks,
    Distill (2019), doi:10.23915/distill.00021.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5))
    >>> found = receptive_field(net, (1, 32, 32), "2")
    >>> found.size, found.stride, found.centre
    ((14, 14), (2, 2), (6.5, 6.5))
    """
    graph = graph_of(net, input_shape, "receptive_field")
    source = input_of(graph, input, "receptive_field")
    if layer is None:
        return fields(graph, source)
    require_layer(graph, layer, "receptive_field")
    return fields(graph.pruned([layer]), source)[layer]


def fields(graph: Graph, source: Node | None = None) -> ReceptiveFields:
    """The receptive fields of a graph in one of its inputs, by default the first."""
    source = source or graph.inputs[0]
    space = range(2, len(source.shape) + 1) if len(source.shape) > 1 else range(1, 2)
    known: dict[str, Laws] = {source.name: {axis: identity(axis) for axis in space}}
    found = {source.name: _field(source, source.shape, known[source.name])}
    for node in graph.steps:
        known[node.name] = _laws(graph, node, known, source.shape)
        found[node.name] = _field(node, source.shape, known[node.name])
    return ReceptiveFields(source.shape, found)


def _laws(graph: Graph, node: Node, known: Mapping[str, Laws], image: Shape) -> Laws:
    """The laws of a node's output, from those of its inputs."""
    paths: dict[int, list[Law]] = {}
    follow = _Follow(graph, node, image)
    for number, name in enumerate(node.inputs):
        for axis, law in follow.through(number, known.get(name, {})).items():
            paths.setdefault(axis, []).append(law)
    return {axis: joined(laws, (1, *node.shape)) for axis, laws in paths.items()}


class _Follow:
    """One node, and how the laws of its inputs go on through it."""

    def __init__(self, graph: Graph, node: Node, image: Shape) -> None:
        self.node, self.image = node, image
        self.operation = find_operation(node.op)
        self.shapes = [graph.nodes[name].shape for name in node.inputs]
        self.names = self.operation.argument_names(node.attributes, len(self.shapes))
        self.formula = None
        if self.operation.has_formula:
            full = self.operation.full_shapes(node.attributes, self.shapes)
            self.formula = self.operation.formula(node.attributes, full)

    def through(self, number: int, laws: Laws) -> Laws:
        """The output's laws by the paths through one input."""
        if not laws or isinstance(self.operation, Uniform):
            return {}
        if self.formula is not None:
            reads = weighted_reads(self.formula, self.names[number])
            shape, formula = (1, *self.node.shape), self.formula
            return {
                axis: joined([read_law(law, formula, read) for read in reads], shape, paths=False)
                for axis, law in laws.items()
                if reads
            }
        if is_mover(self.operation):
            axis = self._only_axis()
            rest = {k: law for k, law in laws.items() if axis is None or law.dim == axis}
            return laws | (self._moved(number, rest) if rest else {})
        if isinstance(self.operation, Embedding):  # each row for its own number
            return laws
        sizes = (1, *self.shapes[number])
        return {
            axis: law if law.dim is None else constant(law, np.arange(sizes[law.dim]))
            for axis, law in laws.items()
        }

    def _only_axis(self) -> int | None:
        """The one axis along which an operation moves numbers; −1 for none, None if not known."""
        if isinstance(self.operation, Dropout):
            return -1
        known = isinstance(self.operation, (Concat, Slice))
        return int(self.node.attributes["axis"]) if known else None

    def _moved(self, number: int, laws: Laws) -> Laws:
        """Through an operation that only moves numbers: it is run on the numbers of places."""
        counts = [math.prod(shape) for shape in self.shapes]
        starts = [sum(counts[:k]) for k in range(len(counts))]
        arrays = [
            np.arange(start, start + count, dtype=np.float64).reshape(1, *shape)
            for start, count, shape in zip(starts, counts, self.shapes, strict=True)
        ]
        moved = self.operation.reference(self.node.attributes, arrays).astype(np.intp)
        come = moved - starts[number]
        mine = (come >= 0) & (come < counts[number])
        shape = (1, *self.shapes[number])
        spots = np.unravel_index(np.where(mine, come, 0), shape)
        return {
            axis: law if law.dim is None else moved_law(law, spots[law.dim], mine, shape[law.dim])
            for axis, law in laws.items()
        }


def moved_law(law: Law, spots: Places, mine: Any, size: int) -> Law:
    """The law of a tensor whose numbers come from other places.

    Args:
        law: of the tensor that they come from.
        spots: (1, …), of the output's form: the place along the law's axis that each comes from.
        mine: of that form, whether it comes from that tensor at all.
        size: of that tensor along the law's axis.
    """
    low, high = law.spans(spots)
    low, high = np.where(mine, low, np.inf), np.where(mine, high, -np.inf)
    dim = _carrier(low, high, law)
    if dim is None:
        return constant(law, spots[mine])
    rows = np.moveaxis(spots, dim, 0).reshape(spots.shape[dim], -1)
    steps = np.unique(rows[1:] - rows[:-1])
    if np.all(mine) and len(steps) <= 1:  # moved as a whole: goes on so beyond the edges
        step = int(steps[0]) if len(steps) else 1
        found = composed(law, dim, np.unique(rows[:1], axis=1), True, step, len(rows))
        return _straight(found, len(rows))
    others = tuple(k for k in range(spots.ndim) if k != dim)
    first, last = low.min(axis=others), high.max(axis=others)
    probe = replace(law, dim=dim, low=first, high=last, step=round(law.stride * size))
    return reduced(probe if probe.monotone else replace(probe, step=0))


def _straight(law: Law, count: int) -> Law:
    """A row of units cut in lines: along a line the spans go on as they begin."""
    if law.dim is None or law.monotone or count < 2:
        return law
    spans = np.stack(law.spans(np.arange(count)))
    steps = np.unique(np.diff(spans))
    if len(steps) != 1 or not np.isfinite(steps[0]):
        return law
    return replace(law, low=spans[0, :1], high=spans[1, :1], step=int(steps[0]))


def _carrier(low: Numbers, high: Numbers, law: Law) -> int | None:
    """The axis along which the spans move most; the law's own where none moves."""
    reach = []
    for dim in range(low.ndim):
        others = tuple(k for k in range(low.ndim) if k != dim)
        first = low.min(axis=others)
        first = first[np.isfinite(first)]
        reach.append(float(np.ptp(first)) if len(first) else 0.0)
    if max(reach) > 0:
        return int(np.argmax(reach))
    same = law.dim is not None and law.dim < low.ndim and low.shape[law.dim] == 1
    return law.dim if same else None


# ---- what is said of a layer ---------------------------------------------------------------------


def _field(node: Node, image: Shape, laws: Laws) -> ReceptiveField:
    space = range(2, len(image) + 1) if len(image) > 1 else range(1, 2)
    nothing = Law(None, np.array([np.inf]), np.array([-np.inf]), 0)
    listed = [laws.get(axis, nothing) for axis in space]
    dims = [law.dim for law in listed]
    size, stride, start, centre, whole = [], [], [], [], []
    for axis, law in zip(space, listed, strict=True):
        count = 1 if law.dim is None else (1, *node.shape)[law.dim]
        low, high = law.spans(np.arange(count))
        read = np.isfinite(low)
        size.append(int((high[read] - low[read]).max(initial=-1)) + 1)
        start.append(int(low[0]) if read[0] else None)
        centre.append(float(low[0] + high[0]) / 2 if read[0] else None)
        whole.append(bool((low <= 0).all() and (high >= image[axis - 1] - 1).all()))
        stride.append(_stride(law, dims))
    return ReceptiveField(
        node.name,
        node.shape,
        image,
        tuple(size),
        tuple(stride),
        tuple(start),
        tuple(centre),
        tuple(whole),
        all(law.aligned for law in listed),
        tuple(listed),
    )


def _stride(law: Law, dims: Sequence[int | None]) -> Stride:
    if law.dim is None:
        return 0
    if dims.count(law.dim) > 1 or not law.monotone:
        return None
    return int(law.stride) if law.stride.denominator == 1 else float(law.stride)
