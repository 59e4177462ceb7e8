"""Rules for layer, group and instance norm in blocked programs; values are plain there."""

from __future__ import annotations

import math

from striate.graph.graph import Node
from striate.kernels.sample_norm import (
    Runs,
    sample_norm,
    sample_norm_gradient,
    sample_norm_weight,
)
from striate.program.blocked import PLAIN, Lowering, Operand
from striate.program.fuse import Fused
from striate.program.stage import Ref


def runs_of(low: Lowering, node: Node) -> Runs:
    """The runs of a norm or of a gradient of one."""
    shape = low.shape(node.inputs[1] if node.gradient_of else node.inputs[0])
    eps = float(node.attributes["eps"])
    if node.operation == "group_norm":
        groups = int(node.attributes["groups"])
        return Runs(groups, shape[0] // groups, math.prod(shape[1:]), eps, each=False)
    outer = len(shape) - int(node.attributes["axes"])
    return Runs(math.prod(shape[:outer]), 1, math.prod(shape[outer:]), eps, each=True)


def lower_norm(low: Lowering, step: Fused) -> None:
    """The norm itself."""
    x, *parameters = step.node.inputs
    operands: dict[str, Operand] = {"x": low.value(x, PLAIN)}
    operands |= {n: Ref("parameter", p) for n, p in zip("wb", parameters, strict=False)}
    operands["out"] = low.make(step.output, PLAIN)
    made = sample_norm(
        low.target, runs_of(low, step.node), len(parameters) > 0, len(parameters) > 1
    )
    low.run(step.output, made, operands)


def lower_norm_to_input(low: Lowering, step: Fused) -> None:
    """The gradient to x."""
    g, x, *parameters = step.node.inputs
    operands: dict[str, Operand] = {"g": low.value(g, PLAIN), "x": low.value(x, PLAIN)}
    operands |= {n: Ref("parameter", p) for n, p in zip("w", parameters, strict=False)}
    operands["out"] = low.make(step.output, PLAIN)
    made = sample_norm_gradient(low.target, runs_of(low, step.node), len(parameters) > 0)
    low.run(step.output, made, operands)


def lower_norm_to_parameter(low: Lowering, node: Node, where: Ref) -> None:
    """The gradient to w or b."""
    operands: dict[str, Operand] = {"g": low.value(node.inputs[0], PLAIN), "out": where}
    operands["x"] = low.value(node.inputs[1], PLAIN)
    made = sample_norm_weight(low.target, runs_of(low, node), node.gradient_of == "b")
    low.run(node.name, made, operands)
