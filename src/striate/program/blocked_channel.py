"""Rules of blocked programs for scalar functions with parameters of each channel.

They work on images as they lie in memory; the gradients to all parameters of a node are made
together. What these kernels do not serve is computed by its formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from striate.formula.channel_map import scalars
from striate.formula.expression import Const, Expr, Var, chain, diff, from_json
from striate.graph.graph import Node
from striate.kernels.channel_map import ChannelFunction, Scalar, channel_map, channel_sums
from striate.program.blocked import PLAIN, Operand, positions
from striate.program.fuse import Fused
from striate.program.stage import Ref

if TYPE_CHECKING:
    from striate.program.blocked_backward import TrainingLowering
    from striate.program.blocked_forward import ForwardLowering

_FEW = 8  # places of a channel, below which its vectors would be empty


def forward(low: ForwardLowering, step: Fused) -> None:
    """The rule of `channel_map`."""
    _map(low, step, step.node.inputs, ("x",), from_json(step.node.attributes["expr"]))


def to_input(low: ForwardLowering, step: Fused) -> None:
    """The rule of `channel_map:dx`."""
    slope = _slope(step.node, "x")
    _map(low, step, step.node.inputs[1:], ("upstream", "x"), slope)


def _map(
    low: ForwardLowering, step: Fused, inputs: Sequence[str], images: tuple[str, ...], e: Expr
) -> None:
    if not _served(low, inputs[0]):
        low.other(step)
        return
    function = _function(low, step.node, inputs, images)
    operands: dict[str, Operand] = {"x": low.rows(inputs[0])}
    if "upstream" in images:
        operands["upstream"] = low.rows(step.node.inputs[0])
    operands |= _tensors(function, inputs)
    operands["out"] = low.caller_place(step.output) or low.make(step.output, PLAIN)
    low.run(step.output, channel_map(low.target, function, e), operands)


def to_parameters(low: TrainingLowering, step: Fused) -> None:
    """The rule of `channel_map:dp0` and so on: all gradients of a node with the first of them."""
    node = step.node
    inputs = node.inputs[1:]
    function = _function(low, node, inputs, ("upstream", "x"))
    if not _served(low, inputs[0]) or not all(s.own for _, s in function.scalars):
        low.other(step)
        return
    made = low.channel_sums.setdefault(node.inputs, {})
    if not made:
        made |= _sums(low, node, function)
    low.written(node.name, made[node.name])


def _sums(low: TrainingLowering, node: Node, function: ChannelFunction) -> dict[str, Ref]:
    """Run one pass for all gradients of a channel map; says where each is."""
    places: dict[str, Ref] = {}
    operands = _tensors(function, node.inputs[1:])
    sums: list[tuple[str, Expr]] = []
    for other in low.graph.nodes.values():
        to = other.gradient_of or ""
        same = other.operation == node.operation and other.inputs == node.inputs
        if same and to != "x" and other.name in low.owner:
            _, places[other.name] = low.gradient(other.name)
            operands[f"d{to}"] = places[other.name]
            sums += [(name, _slope(node, name)) for name, s in function.scalars if s.tensor == to]
    operands |= {"x": low.rows(node.inputs[1]), "upstream": low.rows(node.inputs[0])}
    low.run(node.name, channel_sums(low.target, function, tuple(sums)), operands)
    return places


def _slope(node: Node, to: str) -> Expr:
    """upstream · ∂f/∂to."""
    partial = diff(from_json(node.attributes["expr"]), Var(to))
    return Const(0.0) if partial == Const(0.0) else chain(partial, Var("upstream"))


def _served(low: ForwardLowering, x: str) -> bool:
    return len(low.shape(x)) > 1 and positions(low.shape(x)) >= _FEW


def _tensors(function: ChannelFunction, inputs: Sequence[str]) -> dict[str, Operand]:
    return {name: Ref("parameter", inputs[1 + int(name[1:])]) for name in function.tensors}


def _function(
    low: ForwardLowering, node: Node, inputs: Sequence[str], images: tuple[str, ...]
) -> ChannelFunction:
    shapes = [low.shape(name) for name in inputs]
    found: list[tuple[str, Scalar]] = []
    for name, tensor, row in scalars(shapes):
        wide = shapes[1 + int(tensor[1:])][-1]
        own = wide > 1 or shapes[0][0] == 1
        found.append((name, Scalar(tensor, (row or 0) * wide, own)))
    attributes: Mapping[str, Any] = node.attributes
    constants = tuple(
        (f"k{k}", tuple(map(float, row))) for k, row in enumerate(attributes["constants"])
    )
    return ChannelFunction(shapes[0][0], positions(shapes[0]), tuple(found), constants, images)
