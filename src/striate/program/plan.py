"""From a graph to a native program's modules and layout: what is fused, deferred, placed where.

Not here: the code itself (driver, kernels) and the arrays (native).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from striate.codegen.compiler import Module
from striate.codegen.targets import Target
from striate.errors import CompileError
from striate.formula.update import GRADIENT_NORM, UpdateRule
from striate.graph.gradient import differentiate
from striate.graph.graph import Graph, Node
from striate.graph.losses import TrainingLoss
from striate.kernels import conv, elementwise
from striate.kernels.gradient_norm import root_of_sum, square_sum
from striate.kernels.layout import scatter_samples
from striate.kernels.linear import batch_weight_gradient
from striate.kernels.update import sum_pieces, update
from striate.program.driver import (
    PIECES,
    Items,
    Layout,
    TrainingPlan,
    Work,
    inference_driver,
    training_driver,
    workspace_floats,
)
from striate.program.fuse import Fused, Schedule, fuse
from striate.program.lower import (
    Call,
    Context,
    Slot,
    calls_of,
    conv_shape,
    weight_problem,
)
from striate.program.memory import Arena, aligned, plan

_ALIASES = ("reshape",)
_DEFER_FROM = 4096  # weights; smaller gradients are summed by piece
_CHUNK = 1024  # floats of an update item
_ROWS = "@rows"


def _rows(name: str) -> str:
    """The name of a value kept sample by sample for all groups."""
    return name + _ROWS


@dataclass(frozen=True)
class InferencePlan:
    """A program that maps inputs to one or more outputs."""

    modules: list[Module]
    layout: Layout
    outputs: tuple[str, ...]
    arena: Arena


def plan_inference(graph: Graph, target: Target, outputs: Sequence[str]) -> InferencePlan:
    """Plan a forward graph; dropout is the identity."""
    graph = Graph(graph.nodes.values(), outputs).pruned()
    schedule = fuse(graph, (*_ALIASES, "dropout"))
    context = Context(graph, target)
    calls = _resolve([c for s in schedule.steps for c in calls_of(context, s)], schedule)
    roots = [schedule.root[name] for name in outputs]
    calls, used = _needed(calls, roots)
    sources = {k: node for k, node in enumerate(graph.inputs) if node.name in used}
    first = dict.fromkeys((source.name for source in sources.values()), -1)
    lives = lives_of(calls, first, dict.fromkeys(roots, len(calls)))
    arena = plan(lives, _sizes(graph, calls, lives, target))
    layout = inference_layout(graph, outputs, arena)
    made = [(root, math.prod(graph.nodes[o].shape)) for root, o in zip(roots, outputs, strict=True)]
    read = [(k, source.name, math.prod(source.shape)) for k, source in sources.items()]
    modules = inference_driver(target, layout, calls, read, made)
    return InferencePlan(modules, layout, tuple(outputs), arena)


def _needed(calls: Sequence[Call], roots: Iterable[str]) -> tuple[list[Call], set[str]]:
    """The calls that outputs come from, and the values that take part.

    A gradient lists all inputs of its operation, but its kernel may not read them all.
    """
    used, kept = set(roots), []
    for call in reversed(calls):
        names = [slot.name for slot in call.slots if slot.kind == "value"]
        written = names[:1] if call.step.tail is None or not call.step.tail.keep else names
        if used.intersection(written):
            used.update(names)
            kept.append(call)
    return kept[::-1], used


def inference_layout(graph: Graph, outputs: Sequence[str], arena: Arena) -> Layout:
    """The context and workspace of an inference program."""
    fields = ["workspaces", "shared", "samples"]
    fields += [f"input:{k}" for k in range(len(graph.inputs))]
    fields += [f"output:{k}" for k in range(len(outputs))]
    fields += [f"parameter:{p.name}" for p in graph.parameters]
    return Layout(fields, local=arena.offsets, workspace=workspace_floats(arena.size))


def _resolve(calls: Iterable[Call], schedule: Schedule) -> list[Call]:
    """Values by the name of the memory that they share."""
    root = schedule.root

    def resolved(slot: Slot) -> Slot:
        if slot.kind == "rows":
            return Slot("value", _rows(root[slot.name]))
        return replace(slot, name=root[slot.name]) if slot.kind in ("value", "whole") else slot

    return [replace(c, slots=tuple(resolved(s) for s in c.slots)) for c in calls]


def lives_of(
    calls: Sequence[Call], first: Mapping[str, int], last: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """For each value in a workspace: its first and last call."""
    lives = {name: (at, at) for name, at in first.items()}
    for position, call in enumerate(calls):
        for slot in call.slots:
            if slot.kind in ("value", "scratch"):
                start, _ = lives.get(slot.name, (position, position))
                lives[slot.name] = (start, position)
    for name, at in last.items():
        lives[name] = (lives[name][0], at)
    return lives


def _sizes(
    graph: Graph, calls: Iterable[Call], names: Iterable[str], target: Target
) -> dict[str, int]:
    """Floats of each value in a workspace."""
    sizes = {s.name: s.number for c in calls for s in c.slots if s.kind == "scratch"}
    for name in names:
        if name not in sizes:
            sizes[name] = math.prod(graph.nodes[name].shape) * target.width
    return sizes


# ---- training ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParameterPlace:
    """A parameter's place in the arenas of parameters, gradients and states, in floats."""

    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TrainingProgram:
    """A program that trains a graph."""

    modules: list[Module]
    layout: Layout
    places: dict[str, ParameterPlace]
    arena_floats: int
    target_shape: tuple[int, ...] | None  # of float targets; None: labels
    arena: Arena
    flags: int  # pieces of work in a step
    squares: int = 0  # stretches of gradients whose squares are summed


class TrainingPlanner:
    """Plans the training of one forward graph."""

    def __init__(
        self, graph: Graph, loss: str | TrainingLoss, rule: UpdateRule, target: Target
    ) -> None:
        self.target, self.rule = target, rule
        names = [p.name for p in graph.parameters]
        whole, found = differentiate(graph, loss, names)
        self.loss = whole.nodes[whole.outputs[-1]]
        self.source, self.wanted = graph.inputs[0], whole.nodes[self.loss.inputs[1]]
        self.parts = {p: gradient_parts(whole, node) for p, node in found.items()}
        ends = [node for nodes in self.parts.values() for node in nodes]
        self.graph = whole.pruned(ends or [f"{self.loss.name}:dx"])
        self.deferred = {nodes[0]: p for p, nodes in self.parts.items() if self._is_deferred(nodes)}
        self.places = self._place_parameters({p.name: p.shape for p in graph.parameters})
        self.squares = 0

    def _is_deferred(self, nodes: list[str]) -> bool:
        """Whether a weight's gradient is summed over the whole batch at once, by channels."""
        node = self.graph.nodes[nodes[0]]
        if len(nodes) > 1 or node.op not in ("conv2d:dw", "linear:dw"):
            return False
        groups = int(node.attributes.get("groups", 1))
        return groups == 1 and math.prod(node.shape) >= _DEFER_FROM

    def _place_parameters(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, ParameterPlace]:
        """Those with gradients by piece first, then the deferred, then those without any."""
        late = set(self.deferred.values())
        by_piece = [n for n in shapes if n in self.parts and n not in late]
        places, at = {}, 0
        self.piece_floats = 0
        for name in [*by_piece, *(n for n in shapes if n in late)]:
            places[name] = ParameterPlace(at, shapes[name])
            at += aligned(math.prod(shapes[name]))
            if name in by_piece:
                self.piece_floats = at
        for name in shapes:
            if name not in places:
                places[name] = ParameterPlace(at, shapes[name])
                at += aligned(math.prod(shapes[name]))
        self.arena_floats = at
        return {name: places[name] for name in shapes}

    def plan(self) -> TrainingProgram:
        schedule = fuse(self.graph, _ALIASES)
        gradients = tuple((node, p) for p, nodes in self.parts.items() for node in nodes)
        context = Context(self.graph, self.target, gradients, training=True)
        steps = [s for s in schedule.steps if s.node.batched or ":d" in s.node.op]
        now = [s for s in steps if s.node.name not in self.deferred]
        late = [s.node for s in steps if s.node.name in self.deferred]
        made = [c for s in now for c in calls_of(context, s)]
        calls = _resolve([*made, *self._rows_calls(late)], schedule)
        layout, arena = self._layout(calls, late, schedule)
        items = [self._late_item(node, schedule, layout) for node in late] + self._piece_items()
        phases = [items, *self._norm_phases()] if self.rule.needs_norm else [items]
        floats = None if self.loss.op == "cross_entropy" else self.wanted.shape
        work = TrainingPlan(
            calls,
            phases,
            (self.source.name, math.prod(self.source.shape)),
            None if floats is None else (self.wanted.name, math.prod(floats)),
            elementwise.clear(self.target, self.piece_floats // self.target.width),
        )
        modules = training_driver(self.target, layout, work)
        flags = PIECES + sum(work.count for phase in phases for work in phase)
        return TrainingProgram(
            modules, layout, self.places, self.arena_floats, floats, arena, flags, self.squares
        )

    def _layout(
        self, calls: Sequence[Call], late: Sequence[Node], schedule: Schedule
    ) -> tuple[Layout, Arena]:
        root, width = schedule.root, self.target.width
        whole: dict[str, tuple[int, int]] = {}
        before = 0
        for node in late:
            dy, x = (root[i] for i in node.inputs[:2])
            for name in (dy, _rows(x) if node.operation == "linear" else x):
                floats = aligned(
                    math.prod(self.graph.nodes[name.partition(_ROWS)[0]].shape) * width
                )
                if name not in whole:
                    whole[name] = (floats, before)
                    before += floats
        first = {self.source.name: -1}
        if self.loss.op != "cross_entropy":
            first[self.wanted.name] = -1
        lives = lives_of(calls, first, {})
        lives = {name: life for name, life in lives.items() if name not in whole}
        arena = plan(lives, _sizes(self.graph, calls, lives, self.target))
        fields = ["workspaces", "shared", "threads", "sleep", "samples", "steps", "batch"]
        fields += ["flags", "stamp"]
        fields += ["images", "targets", "order", "losses", "correct", "hyper", "hypers", "scales"]
        fields += ["seed", "first_step", "capacity", "whole", "pieces", "squares", "p", "g"]
        fields += [f"state:{s}" for s in self.rule.state]
        fields += [f"parameter:{p}" for p in self.places]
        layout = Layout(
            fields,
            arena.offsets,
            whole,
            workspace_floats(arena.size),
            {p: self.places[p].offset for p in self.places},
            self.piece_floats,
        )
        return layout, arena

    def _rows_calls(self, late: Sequence[Node]) -> list[Call]:
        """The inputs of deferred fully connected layers, kept sample by sample."""
        calls = []
        for x in dict.fromkeys(n.inputs[1] for n in late if n.operation == "linear"):
            kernel = scatter_samples(self.target, math.prod(self.graph.nodes[x].shape))
            step = Fused(self.graph.nodes[x], x)
            calls.append(Call(kernel, (Slot("rows", x), Slot("value", x)), step))
        return calls

    def _update(self, start: int, step: int, total: int) -> Work:
        """The update of parameters start + k·step …, `total` floats in all."""
        arenas = ["p", "g", *(f"state:{s}" for s in self.rule.state)]
        slots = [Slot("arena", name, start, step) for name in arenas]
        vectors = Slot("rest", number=total // self.target.width, step=step // self.target.width)
        return update(self.target, self.rule), (*slots, Slot("hyper"), vectors)

    def _late_item(self, node: Node, schedule: Schedule, layout: Layout) -> Items:
        """The gradient of a large weight by blocks of output channels, each updated at once."""
        place = self.places[self.deferred[node.name]]
        dy, x, w, *_ = node.inputs
        s = conv_shape(node, self.graph.nodes[x].shape, self.graph.nodes[w].shape)
        per = math.prod(place.shape[1:])
        gradient = Slot("arena", "g", place.offset)
        span = (Slot("index", number=0), Slot("index", number=1), Slot("size", "groups"))
        x, dy = schedule.root[x], schedule.root[dy]
        if node.operation == "linear":
            kernel = batch_weight_gradient(self.target, s.outputs, s.contracted)
            x = _rows(x)
        else:
            kernel = conv.weight_gradient(self.target, weight_problem(s, accumulate=False))
        steps = (Slot("number", number=layout.whole[r][0]) for r in (x, dy))
        slots = (gradient, Slot("whole", x), Slot("whole", dy), *span, *steps)
        step, total = conv.ROW_BLOCK * per, aligned(math.prod(place.shape))
        blocks = -(-place.shape[0] // conv.ROW_BLOCK)
        if self.rule.needs_norm:
            return Items(blocks, ((kernel, slots),))
        return Items(blocks, ((kernel, slots), self._update(place.offset, step, total)))

    def _piece_items(self) -> list[Items]:
        """Small gradients: summed over the pieces, then the update, in chunks."""
        total = self.piece_floats
        if not total:
            return []
        slots = (
            Slot("arena", "g", 0, _CHUNK),
            Slot("arena", "pieces", 0, _CHUNK),
            Slot("number", number=total),
            Slot("size", "pieces"),
            Slot("rest", number=total // self.target.width, step=_CHUNK // self.target.width),
        )
        work: tuple[Work, ...] = ((sum_pieces(self.target), slots),)
        if not self.rule.needs_norm:
            work += (self._update(0, _CHUNK, total),)
        return [Items(-(-total // _CHUNK), work)]

    def _norm_phases(self) -> list[list[Items]]:
        """The squares of all gradients, the root of their sum, then the updates."""
        squares: list[Items] = []
        self.squares, end = 0, 0
        width = self.target.width
        for name in self.parts:
            place = self.places[name]
            whole, rest = divmod(math.prod(place.shape), _CHUNK)
            end = max(end, place.offset + aligned(math.prod(place.shape)))
            for count, floats in ((whole, _CHUNK), (int(rest > 0), rest)):
                if count:
                    start = place.offset + (whole * _CHUNK if floats == rest else 0)
                    slots = (
                        Slot("arena", "squares", self.squares, 1),
                        Slot("arena", "g", start, _CHUNK),
                        Slot("number", number=floats // width),
                    )
                    work = (square_sum(self.target, floats % width), slots)
                    squares.append(Items(count, (work,)))
                    self.squares += count
        norm = Slot("hyper", number=self.rule.hyper.index(GRADIENT_NORM))
        root = (root_of_sum(self.target, self.squares), (norm, Slot("arena", "squares")))
        updates = Items(-(-end // _CHUNK), (self._update(0, _CHUNK, end),))
        return [squares, [Items(1, (root,))], [updates]]


def gradient_parts(graph: Graph, name: str) -> list[str]:
    """The gradient nodes whose sum a parameter's gradient is (several, where it is shared)."""
    node = graph.nodes[name]
    if node.op == "map" and not node.batched:
        return [part for i in node.inputs for part in gradient_parts(graph, i)]
    if ":d" not in node.op:
        raise CompileError(f"program: no native gradient for the parameter behind {name!r}.")
    return [name]
