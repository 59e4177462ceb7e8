"""Graphs to programs: native machine code, or the reference in NumPy float64.

`backend` is "native" (the default) or "reference"; the variable STRIATE_BACKEND sets another
default. Both have the same classes and methods.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from striate.errors import OptionError, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from striate.formula.update import UpdateRule
    from striate.graph.graph import Graph
    from striate.graph.losses import TrainingLoss
    from striate.program.gradient_program import GradientProgram
    from striate.program.native import NativeInference
    from striate.program.reference import ReferenceInference, ReferenceTraining
    from striate.program.training import TrainingProgram

    Inference: TypeAlias = NativeInference | ReferenceInference
    Training: TypeAlias = TrainingProgram | ReferenceTraining

BACKENDS = ("native", "reference")


def backend_name(backend: str | None = None) -> str:
    """The backend in force.

    Raises:
        OptionError: there is no such backend.
    """
    name = backend or os.environ.get("STRIATE_BACKEND", "").strip() or "native"
    if name not in BACKENDS:
        raise OptionError(f"backend: unknown backend {name!r}. {suggest(name, BACKENDS)}")
    return name


def build_inference(graph: Graph, backend: str | None = None) -> Inference:
    """The program that computes a forward graph.

    One that normalises by the statistics of the batch also in evaluation is computed by the
    reference, which has the whole batch at once.
    """
    by_batch = any(node.op == "batch_norm_training" for node in graph.steps)
    if backend_name(backend) == "reference" or by_batch:
        from striate.program.reference import ReferenceInference

        return ReferenceInference(graph)
    from striate.program.native import NativeInference

    return NativeInference(graph)


def build_gradient(
    graph: Graph,
    outputs: Sequence[str] | None = None,
    wanted: Sequence[str] = (),
    *,
    draws: bool = False,
    relu: str = "gradient",
    backend: str | None = None,
) -> GradientProgram:
    """The program that gives outputs of a forward graph and the gradients to any of its nodes.

    Args:
        graph: the network; its batch norms are computed as they stand.
        outputs: what is computed and takes upstream gradients; by default the graph's outputs.
        wanted: inputs, inner nodes and parameters.
        draws: whether random numbers are drawn, as in training; else dropout is the identity.
        relu: what goes back through ReLUs, one of `graph.gradient.RELU_RULES`.
        backend: "native" or "reference".
    """
    if backend_name(backend) == "reference":
        from striate.program.gradient_program import ReferenceGradient

        return ReferenceGradient(graph, outputs, wanted, draws, relu=relu)
    from striate.program.planes import plane_form

    planes = plane_form(graph)
    if planes is not None:
        from striate.program.plane_program import PlaneGradient

        return PlaneGradient(planes, graph, outputs, wanted, relu=relu)
    from striate.program.native_gradient import NativeGradient

    return NativeGradient(graph, outputs, wanted, draws, relu=relu)


def build_training(
    graph: Graph,
    *,
    loss: str | TrainingLoss,
    rule: UpdateRule,
    backend: str | None = None,
    batch_size: int = 32,
) -> Training:
    """The program that trains a forward graph: loss, gradient and update of every step.

    It takes any batch size; `batch_size` is the one that the choice of algorithms goes by.
    """
    if backend_name(backend) == "reference":
        from striate.program.reference import ReferenceTraining

        return ReferenceTraining(graph, loss, rule)
    from striate.codegen.targets import current_target
    from striate.program.choose import batch_magnitude, blocked_pays

    if blocked_pays(graph, current_target()):
        from striate.program.blocked_train import BlockedTraining

        return BlockedTraining(graph, loss, rule, batch=batch_magnitude(batch_size))
    from striate.program.native import NativeTraining

    return NativeTraining(graph, loss, rule)
