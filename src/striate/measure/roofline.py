"""The roofline of a network: each layer's speed beside what the machine allows at its intensity.

A layer that does I operations for each byte that it must move cannot be faster than
`min(peak, I · bandwidth)`. Peak and bandwidth are measured here and now.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node, Shape
from striate.measure.bench import graph_of, measure
from striate.measure.machine import memory_speed
from striate.nn.module import Module

_FLOAT = 4


@dataclass(frozen=True)
class Point:
    """One layer, with what is fused into it.

    Attributes:
        name: of its nodes: "conv1 + bn1 + relu".
        operation: the operation that most of it is.
        operations: additions, multiplications, comparisons and functions of a call.
        bytes: that it must read and write at least: what comes in, parameters, what goes out.
        share: of the call's time; None where the network runs as one piece of code.
        gflops: reached, 10⁹ operations a second; None likewise.
        bound: what the machine allows at this intensity, likewise 10⁹ a second.
    """

    name: str
    operation: str
    operations: int
    bytes: int
    share: float | None
    gflops: float | None
    bound: float

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations / self.bytes


@dataclass(frozen=True)
class Roofline:
    """What was measured.

    Attributes:
        input_shape: of one image.
        batch: images a call.
        threads: that it had.
        seconds: of a call.
        peak: multiply-adds alone, 10⁹ operations a second.
        bandwidth: of a copy in memory, 10⁹ bytes a second.
        cache_bandwidth: of a copy in a cache.
        points: the layers.
    """

    input_shape: Shape
    batch: int
    threads: int
    seconds: float
    peak: float
    bandwidth: float
    cache_bandwidth: float
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return asdict(self)

    def text(self) -> str:
        """A table for the terminal."""
        wide = max(5, *(len(p.name) for p in self.points))
        lines = [
            f"peak {self.peak:.0f} GFLOP/s, memory {self.bandwidth:.1f} GB/s, cache "
            f"{self.cache_bandwidth:.1f} GB/s, {self.threads} threads, batch {self.batch}: "
            f"{1e3 * self.seconds:.3g} ms",
            "",
            f"{'layer':<{wide}}  {'op/byte':>8}  {'GFLOP/s':>8}  {'allowed':>8}  {'share':>6}",
        ]
        for p in self.points:
            reached = "–" if p.gflops is None else f"{p.gflops:.1f}"
            share = "–" if p.share is None else f"{100 * p.share:.1f} %"
            lines.append(
                f"{p.name:<{wide}}  {p.intensity:>8.2f}  {reached:>8}  {p.bound:>8.1f}  {share:>6}"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def roofline(
    net: Module, input_shape: Sequence[int], *, batch: int = 1, seconds: float = 2.0
) -> Roofline:
    """Measure the roofline of a network's inference on this machine.

    Args:
        net: the network; read as it is in evaluation.
        input_shape: of one image, (c, h, w).
        batch: images a call.
        seconds: to measure for, about.
    Returns:
        The layers' intensities, reached and allowed speeds.
    Raises:
        ShapeError: the network does not take such images.
    Source: Williams, Waterman & Patterson, Roofline: an insightful visual performance model for
    multicore architectures, CACM 52 (2009).
    """
    shape = tuple(input_shape)
    found = measure(net, shape, batch, seconds=seconds)
    graph, _ = graph_of(net, shape)
    whole = found.contenders[0].seconds
    speeds = memory_speed(found.threads)
    points = []
    for name, share in _groups(graph, [(layer.name, layer.forward) for layer in found.layers]):
        members = [graph.nodes[part] for part in name.split(" + ")]
        operations = batch * sum(_operations(graph, node) for node in members)
        if not operations:
            continue  # it only moves numbers
        size = _bytes(graph, members, batch)
        points.append(
            Point(
                name,
                max(members, key=lambda node: _operations(graph, node)).operation,
                operations,
                size,
                share,
                None if not share else operations / (share * whole) / 1e9,
                min(found.peak_gflops, operations / size * speeds["copy"]),
            )
        )
    return Roofline(
        shape, batch, found.threads, whole, found.peak_gflops,
        speeds["copy"], speeds["cache copy"], tuple(points),
    )  # fmt: skip


def _groups(graph: Graph, timed: Sequence[tuple[str, float]]) -> Iterable[tuple[str, float | None]]:
    """The timed layers that are in the graph; every node by itself where none was timed."""
    known = [
        (name, share) for name, share in timed if all(n in graph.nodes for n in name.split(" + "))
    ]
    return known or [(node.name, None) for node in graph.steps]


def _operations(graph: Graph, node: Node) -> int:
    shapes = [graph.nodes[i].shape for i in node.inputs]
    return int(find_operation(node.op).cost(node.attributes, shapes).operations)


def _bytes(graph: Graph, members: Sequence[Node], batch: int) -> int:
    """What comes into a group and what is read of it elsewhere, each once."""
    names = {node.name for node in members}
    inside = [i for node in members for i in node.inputs if i not in names]
    leaving = [
        name
        for name in names
        if name in graph.outputs or any(n.name not in names for n in graph.consumers(name))
    ]
    moved = [graph.nodes[name] for name in dict.fromkeys([*inside, *leaving])]
    return _FLOAT * sum(math.prod(n.shape) * (batch if n.batched else 1) for n in moved)
