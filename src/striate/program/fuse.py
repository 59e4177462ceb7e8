"""Which elementwise nodes ride in the tail of the kernel before them.

A map whose value comes straight out of a convolution, a fully connected layer or a pooling is
computed there, in registers. A reshape is no obstacle: with the batch in lanes it moves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from striate.formula.expression import Expr, Var, from_json, substitute
from striate.graph.graph import LEAVES, Graph, Node
from striate.kernels.kernel import Tail
from striate.kernels.pool import Pool
from striate.kernels.unpool import Switches, are_apart
from striate.kernels.window import taps

TAILED = frozenset(
    {"conv2d", "linear", "conv2d:dx", "linear:dx", "max_pool2d", "avg_pool2d", "dropout"}
)
"""Operations whose kernels with the batch in lanes carry tails."""


@dataclass(frozen=True)
class Fused:
    """A node with its tail: `output` is the value that the kernel stores last."""

    node: Node
    output: str
    tail: Tail | None = None
    extras: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.node.inputs, *self.extras)

    @property
    def writes(self) -> tuple[str, ...]:
        kept = (self.node.name,) if self.tail is not None and self.tail.keep else ()
        return (self.output, *kept)


@dataclass
class Schedule:
    """The steps of a graph in order, and for each value the one whose memory it shares."""

    steps: list[Fused] = field(default_factory=list)
    root: dict[str, str] = field(default_factory=dict)


def fuse(
    graph: Graph,
    aliases: Iterable[str] = ("reshape",),
    hosts: frozenset[str] = TAILED,
    late: Collection[str] = (),
) -> Schedule:
    """Schedule a graph's steps, maps fused into tails where that is possible.

    Args:
        graph: its outputs are stored whatever happens.
        aliases: operations that only rename their first input.
        hosts: operations whose kernels carry tails.
        late: inputs whose arrays come only when all steps before them in the graph are done.
    """
    return _Fuser(graph, set(aliases), hosts, late).run()


class _Fuser:
    def __init__(
        self, graph: Graph, aliases: set[str], hosts: frozenset[str], late: Collection[str]
    ) -> None:
        self.graph, self.hosts, self.late = graph, hosts, late
        self.schedule = Schedule()
        root = self.schedule.root
        for node in graph.nodes.values():
            root[node.name] = root[node.inputs[0]] if node.op in aliases else node.name
        self.stored = {root[o] for o in graph.outputs}
        self.readers: dict[str, int] = {}
        for node in graph.nodes.values():
            if node.op not in aliases:
                for source in {root[i] for i in node.inputs}:
                    self.readers[source] = self.readers.get(source, 0) + 1
        self.aliases = aliases

    def run(self) -> Schedule:
        made: dict[str, int] = {}  # value -> position of the step that makes it
        for node in self.graph.nodes.values():
            if node.name in self.late:
                made[node.name] = len(self.schedule.steps) - 1
            if node.op in (*LEAVES, *self.aliases):
                continue
            host = self._host(node, made) if node.op == "map" else None
            if host is None:
                made[node.name] = len(self.schedule.steps)
                self.schedule.steps.append(Fused(node, node.name))
            else:
                self.schedule.steps[host] = self._absorb(self.schedule.steps[host], node)
                made[node.name] = host
        return self.schedule

    def _host(self, node: Node, made: dict[str, int]) -> int | None:
        """The step whose tail can take this map, or None."""
        inputs = self._memory(node)
        for source in dict.fromkeys(inputs):
            position = made.get(source)
            if position is None or source in self.late:
                continue
            step = self.schedule.steps[position]
            if step.output != source or not self._can_carry(step.node):
                continue
            if step.tail is not None and self._wanted_elsewhere(source):
                continue
            others = [i for i in inputs if i != source]
            if all(made.get(i, -1) < position for i in others):
                return position
        return None

    def _can_carry(self, node: Node) -> bool:
        if node.op == "max_pool2d:dx":
            return pool_of(node, self.graph.nodes[node.inputs[1]].shape).partition
        return node.op in self.hosts

    def _memory(self, node: Node) -> list[str]:
        """The values whose memory a node's inputs are; the inputs themselves keep their shapes."""
        return [self.schedule.root[name] for name in node.inputs]

    def _wanted_elsewhere(self, source: str) -> bool:
        return source in self.stored or self.readers.get(source, 0) > 1

    def _absorb(self, step: Fused, node: Node) -> Fused:
        source = step.output
        inner: Expr = Var("v") if step.tail is None else step.tail.expr
        keep = self._wanted_elsewhere(source) if step.tail is None else step.tail.keep
        extras = list(step.extras)
        values: dict[str, Expr] = {}
        for name, given in zip(node.attributes["inputs"], self._memory(node), strict=True):
            if given == source:
                values[name] = inner
                continue
            if given not in extras:
                extras.append(given)
            values[name] = Var(f"e{extras.index(given)}")
        expr = substitute(from_json(node.attributes["expr"]), values)
        tail = Tail(expr, len(extras), keep)
        return Fused(step.node, node.name, tail, tuple(extras))


def pool_of(node: Node, source: tuple[int, ...]) -> Pool:
    """The windows of a pooling node (or its gradient) over a source of shape (c, h, w)."""
    a = node.attributes
    channels, height, width = source
    along = []
    for axis, size in enumerate((height, width)):
        k, s, d = a["kernel"][axis], a["stride"][axis], a.get("dilation", [1, 1])[axis]
        before, after = a["padding"][axis]
        out = (size + before + after - d * (k - 1) - 1) // s + 1
        along.append(taps(size, out, k, s, d, before))
    counted = a["kernel"][0] * a["kernel"][1] if a.get("count_include_pad", False) else None
    return Pool(channels, (height, width), along[0], along[1], counted)


def switches_of(
    node: Node, image: tuple[int, ...], pooled: tuple[int, ...], planes: int = 1
) -> Switches | None:
    """The windows of a node of switches, if they are of images, lie apart and need no padding.

    Args:
        node: gives switches, or puts numbers back, or is a gradient of that.
        image, pooled: (c, h, w) before and after the pooling.
        planes: how many a kernel works on.
    """
    a = node.attributes
    stride, kernel, dilation = (tuple(a[k]) for k in ("stride", "kernel", "dilation"))
    if len(kernel) != 2 or any(map(any, a["padding"])) or not are_apart(stride, kernel, dilation):
        return None
    return Switches(image[1:], pooled[1:], kernel, stride, dilation, planes)  # type: ignore[arg-type]
