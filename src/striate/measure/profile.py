"""Where a network's time goes: the whole of a call, and the share of each layer.

The layers' shares come from the program itself, which adds up the processor's cycles stage by
stage; the seconds of the whole are taken without that.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.codegen.targets import current_target
from striate.formula.operations import find_operation
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph, Node
from striate.program import build_inference, build_training
from striate.program.choose import batch_magnitude, blocked_pays

if TYPE_CHECKING:
    from striate.program.blocked_native import Machine
    from striate.program.stage import Stage

Weights = Mapping[str, NDArray[np.float32]]
Call = Callable[[], object]
_FLOAT = 4
_TURNS = 7  # calls whose cycles are added up


@dataclass(frozen=True)
class LayerTime:
    """A layer, with what is fused into it.

    Attributes:
        name: of its nodes: "conv1 + bn1 + relu".
        forward: its share of the time of a call.
        backward: likewise, in training.
        multiply_adds: of one sample's forward pass.
    """

    name: str
    forward: float
    backward: float = 0.0
    multiply_adds: int = 0


@dataclass(frozen=True)
class Runnable:
    """A built program with its data.

    Attributes:
        call: one inference of the batch, or one step of training.
        seconds: that building took, compilation included.
        layers: the layers' shares; None where the program is one piece of code.
        memory: bytes by what they are for.
        operations: additions and multiplications of a call.
    """

    call: Call
    seconds: float
    layers: Callable[[], list[LayerTime]] | None
    memory: dict[str, int]
    operations: float


def inference(graph: Graph, weights: Weights, images: NDArray[np.float32]) -> Runnable:
    """A forward graph made ready to run on a batch of images (n, c, h, w).

    The weights are arranged once; they must not be changed while it is used.
    """
    start = time.perf_counter()
    arrays = MappingProxyType({n.name: weights[n.name] for n in graph.parameters})
    batch, target = len(images), current_target()
    operations = 2.0 * batch * sum(multiply_adds(graph, n) for n in graph.steps)
    memory = _parameter_bytes(graph)
    if not blocked_pays(graph, target):
        program = build_inference(graph, "native")
        program.run(images, arrays)
        seconds = time.perf_counter() - start
        return Runnable(
            lambda: program.run(images, arrays, True), seconds, None, memory, operations
        )
    from striate.program.blocked_native import BlockedProgram

    blocked = BlockedProgram(graph, target, graph.outputs, batch_magnitude(batch))
    blocked.run(images, batch, arrays)
    seconds = time.perf_counter() - start

    def call() -> object:
        return blocked.run(images, batch, arrays, True)

    def layers() -> list[LayerTime]:
        return _layer_times(graph, blocked.plan.stages, blocked.machine, call, ())

    memory |= _arena_bytes(blocked.machine, batch)
    return Runnable(call, seconds, layers, memory, operations)


def training(
    graph: Graph,
    weights: Weights,
    images: NDArray[np.float32],
    targets: NDArray[Any],
    loss: str,
    rule: UpdateRule,
) -> Runnable:
    """Steps of training on one batch, made ready; the rate is 0, so that the weights stay.

    Args:
        graph: of the network in training mode.
        weights: the parameters' values.
        images: the batch (n, c, h, w).
        targets: labels (n,), or floats of the output's shape.
        loss: "cross_entropy" or "mse".
        rule: the optimiser's.
    """
    start = time.perf_counter()
    program = build_training(graph, loss=loss, rule=rule, backend="native")
    for name, array in program.parameters.items():
        array[...] = weights[name]
    order, batch = np.arange(len(images)), len(images)
    hyper = np.zeros((1, len(rule.hyper)), np.float32)

    def call() -> object:
        return program.run(images, targets, order, batch_size=batch, hyper=hyper)

    call()
    seconds = time.perf_counter() - start
    given = graph.inputs[0].name
    # Three times the forward pass; nobody asks for the gradient to the images.
    operations = (
        2.0
        * batch
        * sum((2 if given in n.inputs else 3) * multiply_adds(graph, n) for n in graph.steps)
    )
    memory = _parameter_bytes(graph)
    memory["gradients and optimiser"] = memory["parameters"] * (1 + len(rule.state))
    machine: Machine | None = getattr(program, "machine", None)
    if machine is None:
        return Runnable(call, seconds, None, memory, operations)
    stages: list[Stage] = getattr(program, "plan").stages  # noqa: B009 (of blocked programs)

    def layers() -> list[LayerTime]:
        return _layer_times(graph, stages, machine, call, ("target",))

    memory |= _arena_bytes(machine, batch)
    return Runnable(call, seconds, layers, memory, operations)


def multiply_adds(graph: Graph, node: Node) -> int:
    """Of one sample."""
    shapes = [graph.nodes[i].shape for i in node.inputs]
    return int(find_operation(node.op).cost(node.attributes, shapes).multiply_adds)


def _parameter_bytes(graph: Graph) -> dict[str, int]:
    return {"parameters": _FLOAT * sum(math.prod(n.shape) for n in graph.parameters)}


def _arena_bytes(machine: Machine, batch: int) -> dict[str, int]:
    return {
        "weights arranged": _FLOAT * machine.memory.fixed.size,
        "values": _FLOAT * machine.memory.values.size * batch,
    }


# ---- shares ----------------------------------------------------------------------------------


def _layer_times(
    graph: Graph, stages: list[Stage], machine: Machine, call: Call, inputs: Iterable[str]
) -> list[LayerTime]:
    """The cycles of each stage as shares of all, gathered by layer."""
    # A thinned copy of an input is made for the layer that it is named after.
    names = [stage.name.partition(":thinned")[0] for stage in stages]
    samples = []
    for _ in range(_TURNS):
        times = np.zeros(len(stages), np.int64)
        machine.time_stages(times)
        call()
        machine.time_stages(None)
        samples.append(times)
    spent = [statistics.median(column) for column in np.stack(samples).T.tolist()]
    known = {*graph.nodes, *inputs}
    turn = next((k for k, name in enumerate(names) if name not in known), len(names))
    whole = {stage.name for stage in stages[:turn]}
    groups = _groups(graph, whole.intersection(names))
    shares: dict[str, list[float]] = {}
    total = max(sum(spent), 1.0)
    for k, (name, cycles) in enumerate(zip(names, spent, strict=True)):
        group = groups.get(name.partition(":")[0], name if name in known else "loss")
        pair = shares.setdefault(group, [0.0, 0.0])
        pair[int(k >= turn)] += cycles / total
    members: dict[str, list[Node]] = {}
    for node in graph.steps:
        members.setdefault(groups[node.name], []).append(node)
    return [
        LayerTime(
            " + ".join(n.name for n in members.get(group, ())) or group,
            forward,
            backward,
            sum(multiply_adds(graph, n) for n in members.get(group, ())),
        )
        for group, (forward, backward) in shares.items()
    ]


def _groups(graph: Graph, timed: set[str]) -> dict[str, str]:
    """For each node and parameter the timed node that it is part of.

    A node without a stage of its own is fused into one that reads it, or is only a view.
    """
    groups: dict[str, str] = {}
    for node in reversed(graph.steps):
        if node.name in timed:
            groups[node.name] = node.name
            continue
        after = [groups[n.name] for n in graph.consumers(node.name) if n.name in groups]
        before = [i for i in node.inputs if i in timed]
        groups[node.name] = after[0] if after else before[0] if before else node.name
    for parameter in graph.parameters:
        readers = [n.name for n in graph.consumers(parameter.name)]
        if readers:
            groups[parameter.name] = groups[readers[0]]
    return groups
