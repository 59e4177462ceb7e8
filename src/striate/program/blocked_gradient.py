"""Plans of gradient programs: forward stages, then backward stages that a later call may run.

No optimiser and no loss: upstream gradients are arrays of the caller's, and so is what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from striate.codegen.targets import Target
from striate.formula.expression import from_json
from striate.graph.gradient import pull_back
from striate.graph.graph import Graph, Node
from striate.kernels.elementwise import elementwise
from striate.kernels.norm import affine, batch_norm_sums, fold
from striate.kernels.packing import Packing, pack
from striate.kernels.routine import blocks
from striate.program.blocked import BLOCKED, PLAIN, Operand, positions
from striate.program.blocked_backward import TrainingLowering
from striate.program.blocked_inference import FUSABLE, thin_strided_points
from striate.program.blocked_plan import Memory, place
from striate.program.blocked_training import weights_first
from striate.program.choose import Choices
from striate.program.fuse import Fused, fuse
from striate.program.plan import gradient_parts
from striate.program.stage import Places, Ref, Stage, Work

ONES, ZEROS = "ones", "zeros"


@dataclass(frozen=True)
class GradientPlan:
    """Stages of a gradient program and where everything lies.

    Attributes:
        prepare: stages that look at parameters only; they run before the forward ones.
        forward: stages up to the outputs.
        backward: stages from the upstream gradients on.
        inputs, upstream: inputs of the graph that are read, the latter by the output's name.
        values: names of the values delivered in "output:k", k counting on through `batched`.
        batched: those wanted whose gradients are values of the batch.
        parameters: parameters whose gradients are wanted and not zero everywhere.
        statistics: parameters that the program writes to: running statistics.
    """

    prepare: list[Stage]
    forward: list[Stage]
    backward: list[Stage]
    places: Places
    memory: Memory
    inputs: list[Node]
    upstream: dict[str, str]
    values: list[str]
    batched: list[str]
    parameters: list[str]
    statistics: list[str] = field(default_factory=list)


class GradientLowering(TrainingLowering):
    """Forward and backward steps on the caller's own parameters."""

    def vector(self, name: str) -> Ref:
        """A parameter of one number a channel, copied to where there is room for whole vectors."""
        key = f"vector:{name}"
        if key not in self.places.fixed:
            packing = Packing(math.prod(self.shape(name)), 1)
            out = self.fixed(key, packing.floats(self.target), lasting=True)
            operands = {"packed": out, "weight": Ref("parameter", name)}
            self.run(name, pack(self.target, packing), operands, prepare=True)
        return Ref("fixed", key)

    def constant(self, kind: str, channels: int) -> Ref:
        """A lasting buffer of ones or zeros; the program fills it."""
        floats = blocks(channels, self.target) * self.target.width
        known = self.places.fixed.get(kind, 0)
        return self.fixed(kind, max(known, floats), lasting=True)

    # ---- elementwise, in the caller's arrays --------------------------------------------------

    def op_map(self, step: Fused) -> None:
        """As elsewhere; but plain values are read and written where they are."""
        elements = math.prod(step.node.shape)
        roots = [self.schedule.root[i] for i in step.node.inputs]
        plain = all(
            not self.has(r, BLOCKED) and (r in self.arrays or self.has(r, PLAIN)) for r in roots
        )
        if not plain or elements % self.target.width or not elements:
            super().op_map(step)
            return
        names = tuple(step.node.attributes["inputs"])
        count = elements // self.target.width
        parts = self._even_parts(count)
        expr = from_json(step.node.attributes["expr"])
        kernel = elementwise(self.target, expr, names, count // parts, aligned=False)
        chunk = elements // parts
        operands = [self.rows(r) for r in roots]
        out = self.caller_place(step.output) or self.make(step.output, PLAIN)
        refs = tuple(
            replace(o, part=chunk) if isinstance(o, Ref) else Ref("value", o, part=chunk)
            for o in (out, *operands)
        )
        self.stages.append(Stage(step.output, (Work(kernel, refs),), parts))

    # ---- batch norm ---------------------------------------------------------------------------

    def op_batch_norm_training(self, step: Fused) -> None:
        # The running statistics are copies that nobody reads: any momentum will do.
        attributes = {**step.node.attributes, "momentum": 0.0}
        super().op_batch_norm_training(
            replace(step, node=replace(step.node, attributes=attributes))
        )

    def op_batch_norm_dx(self, step: Fused) -> None:
        node = step.node
        dy, *arguments = node.inputs
        scale, _ = self.folded_norm(replace(node, op="batch_norm", inputs=tuple(arguments)))
        shape = step.node.shape
        operands: dict[str, Operand] = {"x": self.value(dy, BLOCKED), "scale": scale}
        operands |= {"shift": self.constant(ZEROS, shape[0]), **self.tail(step, BLOCKED)}
        operands["out"] = self.make(step.output, BLOCKED)
        made = affine(self.target, shape[0], positions(shape), step.tail)
        self.run(step.output, made, operands)

    def op_batch_norm_dw(self, step: Fused) -> None:
        self._running_sum(step.node, "dw")

    def op_batch_norm_db(self, step: Fused) -> None:
        self._running_sum(step.node, "db")

    def _running_sum(self, node: Node, part: str) -> None:
        """Σ dy·(x − mean)/√(var + eps) or Σ dy."""
        dy, x, _, _, mean, _ = node.inputs
        channels, places = self.shape(x)[0], positions(self.shape(x))
        floats = blocks(channels, self.target) * self.target.width
        _, where = self.gradient(node.name)
        other = {"dw": "db", "db": "dw"}[part]
        operands: dict[str, Operand] = {
            part: where,
            other: self.fixed(f"{other}:{node.name}", floats),
            "mean": self.vector(mean),
            "inverse": self._inverse(node, floats),
            "dy": self.value(dy, BLOCKED),
            "x": self.value(x, BLOCKED),
        }
        self.run(node.name, batch_norm_sums(self.target, channels, places), operands)
        self.written(node.name, where)

    def _inverse(self, node: Node, floats: int) -> Ref:
        """1/√(var + eps): the factor of a batch norm whose weights are 1."""
        mean, variance = node.inputs[4:]
        key = f"inverse:{variance}:{node.attributes['eps']}"
        channels = self.shape(variance)[0]
        if key not in self.places.fixed:
            ones, zeros = (self.constant(kind, channels) for kind in (ONES, ZEROS))
            operands: dict[str, Operand] = {
                "scale": self.fixed(key, floats, lasting=True),
                "shift": self.fixed(f"{key}:shift", floats, lasting=True),
                "weight": ones,
                "b": zeros,
                "mean": Ref("parameter", mean),
                "var": Ref("parameter", variance),
            }
            made = fold(self.target, channels, float(node.attributes["eps"]), False)
            self.run(node.name, made, operands, prepare=True)
        return Ref("fixed", key)


def plan_gradient(
    graph: Graph,
    outputs: Sequence[str],
    wanted: Sequence[str],
    target: Target,
    choices: Choices,
    draws: bool,
    relu: str = "gradient",
) -> GradientPlan:
    """Plan the outputs of a forward graph, and the gradients to some of its nodes.

    Args:
        graph: the forward graph.
        outputs: its outputs, each with an upstream gradient.
        wanted: inputs, inner nodes and parameters.
        target: what code is generated for.
        choices: of algorithms.
        draws: whether random numbers are drawn; else dropout is the identity.
        relu: what goes back through ReLUs.
    """
    forward = thin_strided_points(graph.pruned([*outputs, *wanted]))
    found = pull_back(forward, outputs, wanted, relu)
    nodes = forward.nodes
    batched = [name for name in found.gradients if nodes[name].batched]
    parts = {
        name: gradient_parts(found.graph, node)
        for name, node in found.gradients.items()
        if not nodes[name].batched
    }
    ends = [node for several in parts.values() for node in several]
    slopes = [found.gradients[name] for name in batched]
    whole = found.graph.pruned([*outputs, *slopes, *ends])
    late = set(found.upstream.values())
    schedule = fuse(whole, () if draws else ("dropout",), FUSABLE, late)
    low = GradientLowering(whole, schedule, target, parts, None)
    low.choices, low.draws = choices, draws
    middle = _lower(low, forward, outputs, slopes)
    return GradientPlan(
        low.prepare,
        low.stages[:middle],
        low.stages[middle:],
        low.places,
        place(low.places, low.prepare, low.stages, low.shared, {}),
        forward.inputs,
        dict(found.upstream),
        list(outputs),
        batched,
        list(parts),
        _statistics(whole),
    )


def _lower(
    low: GradientLowering, forward: Graph, outputs: Sequence[str], slopes: Sequence[str]
) -> int:
    """Append all stages; returns how many the forward pass has."""
    for source in low.graph.inputs:
        low.arrays[source.name] = 4 * math.prod(source.shape)
    low.note_wanted([*outputs, *slopes])
    steps = [s for s in low.schedule.steps if s.node.batched or ":d" in s.node.op]
    first = [s for s in steps if s.node.name in forward.nodes]
    for step in first:
        low.lower(step)
    for k, name in enumerate(outputs):
        low.deliver(name, k)
    middle = len(low.stages)
    for step in weights_first(steps[len(first) :]):
        low.lower(step)
    for k, name in enumerate(slopes, start=len(outputs)):
        low.deliver(name, k)
    return middle


def _statistics(graph: Graph) -> list[str]:
    """The parameters that batch norms in training write to."""
    norms = [n for n in graph.steps if n.op == "batch_norm_training"]
    return list(dict.fromkeys(name for n in norms for name in n.inputs[3:5]))
