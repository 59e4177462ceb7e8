"""Networks that treat each channel by itself: a channel of a sample is a sample of its own.

Pooling, resizing, padding and functions of one number never mix channels. Their graph for images
of one channel, run on n·c of them, is the same computation: the vectors fill whatever the batch
is, and all values of a few planes stay in the nearest cache from the first operation to the last.
Parameters of channels become inputs with a number a plane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.formula.broadcast import BATCHED, broadcast_attributes
from striate.formula.channel_map import scalars
from striate.formula.expression import Var, from_json, substitute, variables
from striate.formula.formula import reads
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node, Shape

_MOST_PLACES = 1 << 14  # of a plane: beyond, a vector of planes overflows the second cache
_ELEMENTWISE = ("map", "broadcast_map")


@dataclass(frozen=True)
class PerChannel:
    """An input of the plane graph with a number a plane: a row of a parameter, or constants."""

    parameter: str = ""
    row: int | None = None
    constants: tuple[float, ...] = ()

    def numbers(self, parameters: Mapping[str, Any], channels: int) -> NDArray[np.float32]:
        """The number of each channel."""
        if not self.parameter:
            return np.resize(np.asarray(self.constants, np.float32), channels)
        values = np.asarray(parameters[self.parameter], np.float32)
        row = values if self.row is None else values[self.row]
        return np.broadcast_to(row, channels)


@dataclass(frozen=True)
class Planes:
    """The same network on single channels.

    Attributes:
        graph: of images with one channel; its nodes have the names of those they stand for.
        channels: how many planes a sample is.
        given: where the graph's further inputs come from.
    """

    graph: Graph
    channels: int
    given: Mapping[str, PerChannel]

    def stacked(self, array: NDArray[Any]) -> NDArray[Any]:
        """(n, c, …) as (n·c, 1, …)."""
        return np.ascontiguousarray(array, np.float32).reshape(-1, 1, *array.shape[2:])

    def apart(self, planes: NDArray[Any]) -> NDArray[Any]:
        """(n·c, 1, …) as (n, c, …)."""
        return planes.reshape(-1, self.channels, *planes.shape[2:])

    def numbers(
        self, name: str, parameters: Mapping[str, Any], samples: int
    ) -> NDArray[np.float32]:
        """What a further input holds for a batch."""
        row = self.given[name].numbers(parameters, self.channels)
        return np.tile(row, samples).reshape(-1, *self.graph.nodes[name].shape)


def plane_form(graph: Graph) -> Planes | None:
    """The graph on single channels; None where channels are mixed, or nothing is gained."""
    nodes = graph.nodes.values()
    batched = [n for n in nodes if n.batched]
    channels = {n.shape[0] if len(n.shape) > 1 else 0 for n in batched}
    if len(channels) != 1 or 0 in channels:
        return None
    if all(n.op in _ELEMENTWISE for n in graph.steps):  # needs no planes, and no copies
        return None
    if any(math.prod(n.shape[1:]) > _MOST_PLACES or 0 in n.shape for n in batched):
        return None
    made = _Made(channels.pop())
    for node in nodes:
        if node.op != "parameter" and not made.add(graph, node):
            return None
    made.graph.outputs = graph.outputs
    return Planes(made.graph, made.channels, made.given)


class _Made:
    """A plane graph as it grows."""

    def __init__(self, channels: int) -> None:
        self.graph, self.channels = Graph(), channels
        self.given: dict[str, PerChannel] = {}

    def add(self, graph: Graph, node: Node) -> bool:
        """Take a node over; False where that cannot be."""
        shape = (1, *node.shape[1:])
        if node.op == "input":
            self.graph.append(Node(node.name, "input", shape=shape))
            return True
        sources = [graph.nodes[i] for i in node.inputs]
        if node.op == "channel_map":
            return self._channel_map(node, sources)
        if not all(s.batched for s in sources) or not separable(node, sources):
            return False
        found = self.graph.apply(node.name, node.op, node.inputs, node.attributes)
        return found.shape == shape

    def _channel_map(self, node: Node, sources: Sequence[Node]) -> bool:
        """Its parameters' scalars become inputs of a broadcast map."""
        x, *weights = sources
        if not x.batched or any(w.op != "parameter" for w in weights):
            return False
        body = from_json(node.attributes["expr"])
        known = {
            f"k{k}": PerChannel("", None, tuple(values))
            for k, values in enumerate(node.attributes["constants"])
        }
        tensors = dict(zip((f"p{k}" for k in range(len(weights))), weights, strict=True))
        for name, tensor, row in scalars([s.shape for s in sources]):
            known[name] = PerChannel(tensors[tensor].name, row)
        used = [name for name in variables(body) if name != "x"]
        if len(used) >= len(BATCHED):
            return False
        letters = dict(zip(used, BATCHED[1:], strict=False))
        one: Shape = (1,) * len(x.shape)
        inputs = [x.name]
        for name in used:
            place = self.graph.unique(f"{node.name}@{name}")
            self.graph.append(Node(place, "input", shape=one))
            self.given[place] = known[name]
            inputs.append(place)
        expr = substitute(body, {name: Var(letter) for name, letter in letters.items()})
        attributes = broadcast_attributes(expr, ("x", *letters.values()))
        self.graph.apply(node.name, "broadcast_map", tuple(inputs), attributes)
        return True


def separable(node: Node, sources: Sequence[Node]) -> bool:
    """Whether a channel of the output reads that channel of every input, and no formula of c."""
    operation = find_operation(node.op)
    if node.gradient_of is not None or not operation.has_formula or operation.is_loss:
        return False
    shapes = operation.full_shapes(node.attributes, [s.shape for s in sources])
    formula = operation.formula(node.attributes, shapes)
    if len(formula.output) < 2 or any(i.axis is None for i in formula.output[:2]):
        return False
    batch, channel = (str(index.axis) for index in formula.output[:2])
    for read in reads(formula.body):
        places = read.index
        if read.tensor in formula.constants:
            ok = all(channel not in _axes(i) for i in places)
        else:
            ok = len(places) > 1 and (places[0].axis, places[1].axis) == (batch, channel)
            ok = ok and all(channel not in _axes(i) for i in places[2:])
        if not ok:
            return False
    return formula.sizes[channel] == node.shape[0]


def _axes(index: Any) -> set[str]:
    return {axis for axis, _ in index.terms}
