"""Rules for functions with parameters of each channel in blocked programs."""

from __future__ import annotations

from striate.formula.expression import from_json
from striate.graph.graph import Node
from striate.kernels.channel_map import (
    ChannelFunction,
    Numbers,
    channel_map,
    channel_map_gradient,
    channel_map_sums,
    parameter_gradient,
)
from striate.kernels.routine import blocks
from striate.program.blocked import BLOCKED, Lowering, Operand, positions
from striate.program.fuse import Fused
from striate.program.stage import Ref


def function_of(low: Lowering, node: Node) -> ChannelFunction | None:
    """The function of a node or of a gradient of one; None where its constants are not served."""
    x, *parameters = node.inputs[1:] if node.gradient_of else node.inputs
    shape, rows = low.shape(x), node.attributes["constants"]
    if any(low.target.width % len(row) for row in rows):
        return None
    numbers = []
    for k, name in enumerate(parameters):
        size = low.shape(name)
        count = 1 if len(size) == 1 else size[0]
        scalars = [f"p{k}"] if len(size) == 1 else [f"p{k}_{row}" for row in range(count)]
        numbers.append(Numbers(tuple(scalars), size[-1] == 1))
    constants = tuple((f"k{k}", tuple(map(float, row))) for k, row in enumerate(rows))
    expr = from_json(node.attributes["expr"])
    return ChannelFunction(expr, shape[0], positions(shape), tuple(numbers), constants)


def _parameters(names: tuple[str, ...]) -> dict[str, Operand]:
    return {f"p{k}": Ref("parameter", name) for k, name in enumerate(names)}


def lower_forward(low: Lowering, step: Fused, f: ChannelFunction) -> None:
    """The function itself."""
    x, *parameters = step.node.inputs
    operands: dict[str, Operand] = {"x": low.value(x, BLOCKED), **_parameters((*parameters,))}
    operands["out"] = low.make(step.output, BLOCKED)
    low.may_replace(str(operands["out"]), [str(operands["x"])])
    low.run(step.output, channel_map(low.target, f), operands)


def lower_to_input(low: Lowering, step: Fused, f: ChannelFunction) -> None:
    """The gradient to x."""
    g, x, *parameters = step.node.inputs
    operands: dict[str, Operand] = {"g": low.value(g, BLOCKED), "x": low.value(x, BLOCKED)}
    operands |= _parameters((*parameters,))
    operands["out"] = low.make(step.output, BLOCKED)
    low.may_replace(str(operands["out"]), [str(operands["g"])])
    low.run(step.output, channel_map_gradient(low.target, f), operands)


def lower_to_parameter(low: Lowering, node: Node, f: ChannelFunction, where: Ref) -> None:
    """The gradient to a parameter; the sums for all of them are made once."""
    g, x, *parameters = node.inputs
    key = f"sums:{','.join(node.inputs)}"
    if key not in low.places.fixed:
        floats = len(f.scalars) * blocks(f.channels, low.target) * low.target.width
        operands: dict[str, Operand] = {"sums": low.fixed(key, floats)}
        operands |= {"g": low.value(g, BLOCKED), "x": low.value(x, BLOCKED)}
        operands |= _parameters((*parameters,))
        low.run(node.name, channel_map_sums(low.target, f), operands)
    which = int((node.gradient_of or "p0")[1:])
    made = parameter_gradient(low.target, f, which)
    low.run(node.name, made, {"out": where, "sums": Ref("fixed", key)})
