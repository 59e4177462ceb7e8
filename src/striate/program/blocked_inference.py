"""Plans of inference for large images: batch norm folded in, weights arranged once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from striate.codegen.targets import Target
from striate.graph.graph import Graph, Node
from striate.kernels.fingerprint import fingerprint
from striate.program.blocked import Decision
from striate.program.blocked_forward import ForwardLowering
from striate.program.blocked_plan import Memory, place
from striate.program.choose import Choices
from striate.program.fuse import fuse
from striate.program.stage import Argument, Number, Places, Ref, Stage, Work

PRINTS = "prints"
PRINT_FLOATS = 32  # of one checksum
_CHECK_FLOATS = 2**16  # that one checksum covers
_FOLDABLE = ("conv1d", "conv2d", "conv3d", "true_conv1d", "true_conv2d", "true_conv3d")


@dataclass(frozen=True)
class InferencePlan:
    """Stages of an inference program and where everything lies."""

    prepare: list[Stage]
    stages: list[Stage]
    check: list[Stage]  # checksums of the parameters that `prepare` reads
    places: Places
    memory: Memory
    decisions: dict[str, Decision]


def fold_batch_norms(graph: Graph) -> tuple[Graph, dict[str, Node]]:
    """Merge each batch norm into the convolution before it, where nobody else reads that.

    Returns:
        The graph, in which such a convolution has the batch norm's name; and for these names the
        batch norm nodes.
    """
    readers: dict[str, int] = {}
    for node in graph.nodes.values():
        for name in set(node.inputs):
            readers[name] = readers.get(name, 0) + 1
    merged: dict[str, Node] = {}
    gone: set[str] = set()
    for node in graph.nodes.values():
        if node.op != "batch_norm":
            continue
        conv = graph.nodes[node.inputs[0]]
        alone = readers[conv.name] == 1 and conv.name not in graph.outputs
        if conv.op in _FOLDABLE and alone:
            merged[node.name] = node
            gone.add(conv.name)
    result = Graph(outputs=graph.outputs)
    for node in graph.nodes.values():
        if node.name in merged:
            conv = graph.nodes[node.inputs[0]]
            result.append(replace(conv, name=node.name))
        elif node.name not in gone:
            result.append(node)
    return result, merged


def thin_strided_points(graph: Graph) -> Graph:
    """Let 1×1 convolutions with a stride read a thinned copy of their input.

    The copy is small and dense; read in place, every other pixel drags its neighbour through the
    caches, and whole planes fall into the same cache sets (measured: 71 against 95 GFLOP/s).
    """
    result = Graph(outputs=graph.outputs)
    for node in graph.nodes.values():
        at = int(node.gradient_of == "w")  # where the input stands
        if not _is_strided_point(graph, node, at):
            result.append(node)
            continue
        source = node.inputs[at]
        thin = _thinned(result, node, source, graph.nodes[node.inputs[0]].shape[1:] if at else ())
        inputs = (*node.inputs[:at], thin, *node.inputs[at + 1 :])
        dense = {**node.attributes, "stride": [1, 1]}
        result.append(replace(node, inputs=inputs, attributes=dense))
    return result


def _thinned(graph: Graph, node: Node, source: str, out: tuple[int, ...]) -> str:
    """The name of `source` with only the pixels that a 1×1 convolution's stride meets."""
    window = {"kernel": [1, 1], "stride": list(node.attributes["stride"])}
    attributes = {**window, "padding": [[0, 0], [0, 0]], "dilation": [1, 1]}
    shape = (graph.nodes[source].shape[0], *(out or node.shape[1:]))
    name = graph.unique(f"{node.name}:thinned")
    return graph.append(Node(name, "max_pool2d", (source,), attributes, shape)).name


def _is_strided_point(graph: Graph, node: Node, at: int) -> bool:
    if node.op not in ("conv2d", "conv2d:dw") or graph.nodes[node.inputs[at]].op == "input":
        return False
    kernel, a = graph.nodes[node.inputs[at + 1]].shape[2:], node.attributes
    bare = kernel == (1, 1) and not any(map(any, a["padding"]))
    return bare and tuple(a["stride"]) != (1, 1)


def plan_blocked(
    graph: Graph, target: Target, outputs: Sequence[str], choices: Choices
) -> InferencePlan:
    """Plan a forward graph; dropout is the identity."""
    graph = Graph(graph.nodes.values(), outputs).pruned()
    merged, folds = fold_batch_norms(graph)
    merged = thin_strided_points(merged)
    schedule = fuse(merged, ("dropout",), FUSABLE)
    low = ForwardLowering(merged, schedule, target)
    low.folds, low.choices = folds, choices
    for source in graph.inputs:
        low.arrays[source.name] = 4 * math.prod(source.shape)
    low.note_wanted(outputs)
    for step in schedule.steps:
        low.lower(step)
    for k, name in enumerate(outputs):
        low.deliver(name, k)
    check = _checksums(low, graph)
    memory = place(low.places, [*check, *low.prepare], low.stages, low.shared, {})
    return InferencePlan(low.prepare, low.stages, check, low.places, memory, low.decisions)


def _checksums(low: ForwardLowering, graph: Graph) -> list[Stage]:
    """Stages that write checksums of what `prepare` reads into the buffer "prints"."""
    refs = (ref for stage in low.prepare for ref in stage.refs())
    read = dict.fromkeys(ref.name for ref in refs if ref.kind == "parameter")
    kernel, stages, at = fingerprint(low.target), [], 0
    for name in read:
        size = math.prod(graph.nodes[name].shape)
        parts = max(-(-size // _CHECK_FLOATS), 1)
        known: dict[str, Argument] = {
            "out": Ref("fixed", PRINTS, offset=at, part=PRINT_FLOATS),
            "data": Ref("parameter", name, part=_CHECK_FLOATS),
            "count": Number(size, part=-_CHECK_FLOATS, limit=_CHECK_FLOATS),
        }
        arguments = tuple(known[a.partition(":")[0]] for a in kernel.arguments)
        stages.append(Stage(name, (Work(kernel, arguments),), parts, 0))
        at += parts * PRINT_FLOATS
    low.fixed(PRINTS, max(at, 1), lasting=True)
    return stages


FUSABLE = frozenset(
    {
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"),
        *("conv1d:dx", "conv2d:dx", "conv3d:dx", "conv_transpose2d:dx", "conv_transpose1d:dx"),
        *("conv_transpose3d", "conv_transpose3d:dx", "true_conv1d", "true_conv2d", "true_conv3d"),
        *("true_conv1d:dx", "true_conv2d:dx", "true_conv3d:dx"),
        *("linear", "linear:dx", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"),
        *("batch_norm", "batch_norm_training", "batch_norm_training:dx"),
        *("local_response_norm", "local_response_norm:dx", "max_pool2d:dx"),
    }
)
"""Operations whose kernels for blocked values carry tails."""
