"""What both backends demand of what they are given; one sentence where it is not so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, OptionError, ShapeError
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph, Shape


def require_one_input(where: str, graph: Graph) -> None:
    """A program maps one input to its outputs."""
    if len(graph.inputs) != 1 or not graph.outputs:
        raise ModelError(
            f"{where}: expected a graph of one input and an output; got "
            f"{len(graph.inputs)} inputs, {len(graph.outputs)} outputs."
        )


def require_images(where: str, images: Any, shape: Shape) -> None:
    """Images are (n, *shape)."""
    found = np.shape(images)
    if found[1:] != shape or len(found) != len(shape) + 1:
        axes = ", ".join(map(str, ("n", *shape)))
        raise ShapeError(f"{where}: expected images of shape ({axes}); got {found}.")


def require_targets(targets: Any, count: int, shape: Shape) -> None:
    """There is a target of the right shape for each image."""
    expected = (count, *shape)
    if np.shape(targets) != expected:
        raise ShapeError(
            f"training: expected targets of shape {expected}; got {np.shape(targets)}."
        )


def require_labels(labels: NDArray[Any], classes: int) -> None:
    """Labels count the classes from 0."""
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ShapeError(
            f"training: expected labels from 0 to {classes - 1}; got "
            f"{labels.min()} to {labels.max()}."
        )


def require_course(
    order: NDArray[np.int64], count: int, batch_size: int, hyper: Shape, rule: UpdateRule
) -> int:
    """The order of samples, the batch size and the hyper numbers fit; returns the steps."""
    if batch_size < 1:
        raise OptionError(f"training: batch_size expected at least 1; got {batch_size}.")
    if order.ndim != 1 or (order.size and not 0 <= order.min() <= order.max() < count):
        raise ShapeError(
            f"training: order expected positions from 0 to {count - 1}; got an array of shape "
            f"{order.shape}."
        )
    steps = -(-order.size // batch_size)
    if hyper != (steps, len(rule.hyper)):
        raise ShapeError(
            f"training: hyper expected shape {(steps, len(rule.hyper))}, a row a step of "
            f"{', '.join(rule.hyper)}; got {hyper}."
        )
    return steps


def parameter_of(parameters: Mapping[str, Any], name: str, shape: Shape) -> Any:
    """A graph's parameter, of the right shape."""
    if name not in parameters:
        raise ModelError(
            f"parameters: expected {name!r}; got {sorted(parameters)}. "
            "Load weights that belong to this network."
        )
    found = parameters[name]
    if np.shape(found) != shape:
        raise ShapeError(f"parameters: {name} expected shape {shape}; got {np.shape(found)}.")
    return found
