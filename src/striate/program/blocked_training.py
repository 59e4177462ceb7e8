"""Plans of training steps for large images: forward, loss, backward and updates as stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from striate.codegen.targets import Target
from striate.formula.update import UpdateRule
from striate.graph.gradient import differentiate
from striate.graph.graph import Graph, Node
from striate.graph.losses import TrainingLoss
from striate.kernels.samples import load_sample
from striate.program.blocked import PLAIN, Decision
from striate.program.blocked_backward import TrainingLowering
from striate.program.blocked_inference import FUSABLE, thin_strided_points
from striate.program.blocked_plan import Memory, place
from striate.program.choose import Choices
from striate.program.fuse import Fused, fuse
from striate.program.memory import aligned
from striate.program.plan import ParameterPlace, gradient_parts
from striate.program.stage import Number, Places, Ref, Stage, Work


@dataclass(frozen=True)
class TrainingPlan:
    """Stages of a training step, where everything lies, and the parameters' places."""

    stages: list[Stage]
    places: Places
    memory: Memory
    parameters: dict[str, ParameterPlace]
    arena_floats: int
    target_shape: tuple[int, ...] | None  # of float targets; None: labels
    wanted: str | None  # the value that holds float targets
    decisions: dict[str, Decision]


def plan_training(
    graph: Graph, loss: str | TrainingLoss, rule: UpdateRule, target: Target, choices: Choices
) -> TrainingPlan:
    """Plan the training of a forward graph."""
    graph = thin_strided_points(graph)
    whole, found = differentiate(graph, loss, [p.name for p in graph.parameters])
    last = whole.nodes[whole.outputs[-1]]
    parts = {p: gradient_parts(whole, node) for p, node in found.items()}
    ends = [node for nodes in parts.values() for node in nodes]
    backward = whole.pruned(ends or [f"{last.name}:dx"])
    schedule = fuse(backward, (), FUSABLE)
    low = TrainingLowering(backward, schedule, target, parts, rule)
    low.choices = choices
    wanted = None if last.op == "cross_entropy" else last.inputs[1]
    _load(low, graph.inputs[0].name)
    if wanted is not None:
        _load(low, wanted)
    low.labels = wanted is None
    for step in weights_first([s for s in schedule.steps if _wanted(s.node)]):
        low.lower(step)
    low.update_rest()
    memory = place(low.places, [], low.stages, low.shared, {})
    parameters, size = _place_parameters({p.name: p.shape for p in graph.parameters})
    floats = None if wanted is None else whole.nodes[wanted].shape
    return TrainingPlan(
        low.stages, low.places, memory, parameters, size, floats, wanted, low.decisions
    )


def _wanted(node: Node) -> bool:
    """Sums of a parameter's gradients are made elsewhere."""
    return node.batched or ":d" in node.op


def _load(low: TrainingLowering, name: str) -> None:
    """A stage that fetches the batch's samples from the caller's array."""
    elements = math.prod(low.shape(name))
    key = low.make(name, PLAIN)
    known: dict[str, Ref | Number] = {"out": Ref("value", key), "array": Ref("array", name)}
    known |= {"order": Ref("array", "order"), "sample": Number(group=1)}
    kernel = load_sample(low.target, elements)
    arguments = tuple(known[a.partition(":")[0]] for a in kernel.arguments)
    low.stages.append(Stage(name, (Work(kernel, arguments),), 1))


def weights_first(steps: Sequence[Fused]) -> list[Fused]:
    """Put a convolution's gradients to weight and bias before that to its input.

    After them its input's memory is free, before the gradient needs as much.
    """
    result: list[Fused] = []
    waiting: list[Fused] = []
    for step in steps:
        same = waiting and step.node.inputs[1:] == waiting[0].node.inputs[1:]
        if waiting and not (same and step.node.gradient_of in ("w", "b")):
            result += waiting
            waiting = []
        if step.node.gradient_of == "x" and step.node.operation != "linear":
            result += waiting
            waiting = [step]
        else:
            result.append(step)
    return result + waiting


def _place_parameters(
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, ParameterPlace], int]:
    places, at = {}, 0
    for name, shape in shapes.items():
        places[name] = ParameterPlace(at, shape)
        at += aligned(math.prod(shape))
    return places, at
