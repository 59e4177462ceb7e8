"""Plans for one sample or a few: channels in lanes, where a batch could not fill a vector.

Serves the straight networks that this layout pays for: convolutions without groups, pooling,
maps, flattening, fully connected layers. For any other graph `plan_channels` says None, and the
batch-in-lanes plan runs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from striate.codegen.targets import Target
from striate.formula.expression import from_json
from striate.graph.graph import Graph, Node
from striate.kernels import channels, elementwise
from striate.kernels.conv import Gather
from striate.kernels.kernel import Kernel
from striate.program.driver import channel_driver
from striate.program.fuse import Fused, Schedule, fuse, pool_of
from striate.program.lower import Call, Slot, conv_shape, pool_kernel, value
from striate.program.memory import plan
from striate.program.plan import InferencePlan, inference_layout, lives_of

_ARRAY, _BLOCKED, _FLAT = "array", "blocked", "flat"


class _Unserved(Exception):
    """The graph holds something that this layout does not serve."""


@dataclass
class _Lowering:
    """Lowers steps one by one, knowing in which layout each value is."""

    graph: Graph
    target: Target
    schedule: Schedule
    layout: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    packs: dict[str, Call] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def made(self, name: str, layout: str) -> None:
        """Note a value that a step writes."""
        shape, width = self.graph.nodes[name].shape, self.target.width
        self.layout[name] = layout
        if layout == _BLOCKED:
            self.sizes[name] = channels.blocks(shape[0], self.target) * math.prod(shape[1:]) * width
        else:
            self.sizes[name] = -(-math.prod(shape) // width) * width

    def source(self, name: str, *layouts: str) -> str:
        """The root of an input, if it is in one of the layouts."""
        root = self.schedule.root[name]
        if self.layout[root] not in layouts:
            raise _Unserved
        return root

    def emit(self, kernel: Kernel, slots: Sequence[Slot], step: Fused) -> None:
        self.calls.append(Call(kernel, tuple(slots), step))

    def pack(self, name: str, outputs: int, per_output: int, step: Fused) -> Slot:
        """A parameter rearranged for vectors of output channels, once a call of the program."""
        packed = f"packed:{name}"
        kernel = channels.pack_weights(self.target, outputs, per_output)
        slots = (value(packed), Slot("parameter", name))
        self.packs[packed] = Call(kernel, slots, step)
        self.sizes[packed] = channels.blocks(outputs, self.target) * per_output * self.target.width
        return value(packed)

    def rest(self, step: Fused) -> list[Slot]:
        """The tail's arguments; its extras must be in the layout of the output."""
        if step.tail is None:
            return []
        kept = [value(step.node.name)] if step.tail.keep else []
        layout = self.layout[step.output]
        for name in step.extras:
            self.source(name, layout)
        return kept + [value(self.schedule.root[e]) for e in step.extras]

    def note(self, step: Fused, layout: str) -> None:
        for name in step.writes:
            self.made(name, layout)

    # ---- one method an operation --------------------------------------------------------------

    def conv2d(self, step: Fused) -> None:
        x, w, *bias = step.node.inputs
        root = self.source(x, _ARRAY, _BLOCKED)
        s = conv_shape(step.node, self.graph.nodes[x].shape, self.graph.nodes[w].shape)
        if s.groups != 1:
            raise _Unserved
        self.note(step, _BLOCKED)
        width = self.target.width
        strides = channels.packed_strides(s.contracted, s.kernel, width)
        count = channels.blocks(s.outputs, self.target)
        problem = Gather(
            1,
            count,
            s.contracted,
            s.source,
            s.rows,
            s.cols,
            strides,
            bias=bool(bias),
        )
        plain = self.layout[root] == _ARRAY
        elements = math.prod(self.graph.nodes[root].shape)
        source = Slot("sample", "input:0", step=elements) if plain else value(root)
        weights = self.pack(w, s.outputs, s.contracted * s.kernel[0] * s.kernel[1], step)
        slots = [value(step.output), source, weights]
        slots += [self.pack(name, s.outputs, 1, step) for name in bias]
        kernel = channels.gather_channels(self.target, problem, plain, step.tail)
        self.emit(kernel, slots + self.rest(step), step)

    def linear(self, step: Fused) -> None:
        x, w, *bias = step.node.inputs
        root = self.source(x, _FLAT)
        outputs, inputs = self.graph.nodes[w].shape
        self.note(step, _FLAT)
        slots = [value(step.output), value(root), Slot("parameter", w)]
        slots += [self.pack(name, outputs, 1, step) for name in bias]
        kernel = channels.linear_one(self.target, outputs, inputs, bool(bias), step.tail)
        self.emit(kernel, slots + self.rest(step), step)

    def pool(self, step: Fused) -> None:
        (x,) = step.node.inputs
        root = self.source(x, _BLOCKED)
        self.note(step, _BLOCKED)
        shape = self.graph.nodes[x].shape
        problem = pool_of(step.node, (channels.blocks(shape[0], self.target), *shape[1:]))
        kernel = pool_kernel(step.node)(self.target, problem, step.tail)
        self.emit(kernel, [value(step.output), value(root), *self.rest(step)], step)

    max_pool2d = avg_pool2d = pool

    def map(self, step: Fused) -> None:
        first = self.schedule.root[step.node.inputs[0]]
        roots = [self.source(i, self.layout[first]) for i in step.node.inputs]
        if self.layout[first] == _ARRAY:
            raise _Unserved
        self.note(step, self.layout[first])
        names = tuple(step.node.attributes["inputs"])
        expr = from_json(step.node.attributes["expr"])
        vectors = self.sizes[step.output] // self.target.width
        kernel = elementwise.elementwise(self.target, expr, names, vectors)
        self.emit(kernel, [value(step.output), *map(value, roots)], step)

    def reshape(self, step: Fused) -> None:
        root = self.source(step.node.inputs[0], _BLOCKED, _ARRAY)
        shape = self.graph.nodes[root].shape
        if len(step.node.shape) != 1:
            raise _Unserved
        self.note(step, _FLAT)
        out = value(step.output)
        if self.layout[root] == _ARRAY:
            elements = math.prod(shape)
            kernel = channels.copy_floats(self.target, elements)
            self.emit(kernel, [out, Slot("sample", "input:0", step=elements)], step)
        else:
            kernel = channels.unblock(self.target, shape[0], math.prod(shape[1:]))
            self.emit(kernel, [out, value(root)], step)

    def deliver(self, name: str, number: int, step: Fused) -> None:
        """Bring an output into the caller's array."""
        root = self.schedule.root[name]
        shape = self.graph.nodes[root].shape
        elements = math.prod(shape)
        out = Slot("sample", f"output:{number}", step=elements)
        if self.layout[root] == _BLOCKED:
            kernel = channels.unblock(self.target, shape[0], math.prod(shape[1:]))
        elif self.layout[root] == _FLAT:
            kernel = channels.copy_floats(self.target, elements)
        else:
            raise _Unserved
        self.emit(kernel, [out, value(root)], step)


_SERVED = ("conv2d", "linear", "max_pool2d", "avg_pool2d", "map", "reshape")


def plan_channels(graph: Graph, target: Target, outputs: Sequence[str]) -> InferencePlan | None:
    """Plan a forward graph for single samples; None where this layout does not serve it."""
    graph = Graph(graph.nodes.values(), outputs).pruned()
    if len(graph.inputs) > 1 or not _pays(graph):
        return None
    (source,) = graph.inputs
    schedule = fuse(graph, ("dropout",))
    low = _Lowering(graph, target, schedule)
    low.layout[source.name] = _FLAT if len(source.shape) == 1 else _ARRAY
    try:
        _copy_flat_input(low, source)
        for step in schedule.steps:
            getattr(low, step.node.op)(step)
        for k, name in enumerate(outputs):
            low.deliver(name, k, Fused(graph.nodes[name], name))
    except _Unserved:
        return None
    packs = list(low.packs.values())
    lives = lives_of([*packs, *low.calls], {}, dict.fromkeys(low.packs, len(packs + low.calls)))
    arena = plan(lives, {name: low.sizes[name] for name in lives})
    layout = inference_layout(graph, outputs, arena)
    modules = channel_driver(target, layout, packs, low.calls)
    return InferencePlan(modules, layout, tuple(outputs), arena)


def _copy_flat_input(low: _Lowering, source: Node) -> None:
    """Flat inputs are copied into whole vectors first."""
    if low.layout[source.name] == _FLAT:
        low.made(source.name, _FLAT)
        elements = source.shape[0]
        kernel = channels.copy_floats(low.target, elements)
        slots = [value(source.name), Slot("sample", "input:0", step=elements)]
        low.emit(kernel, slots, Fused(source, source.name))


def _pays(graph: Graph) -> bool:
    """Whether all operations are served and packing the weights is cheap beside the products."""
    products = packed = 0
    for node in graph.steps:
        if node.op == "dropout":
            continue
        if node.op not in _SERVED:
            return False
        if node.op == "conv2d":
            weight = math.prod(graph.nodes[node.inputs[1]].shape)
            packed += weight
            products += weight * math.prod(node.shape[1:])
    return packed * 8 <= products or products == 0
