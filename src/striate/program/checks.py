"""What both backends demand of what they are given; one sentence where it is not so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, OptionError, ShapeError
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph, Node, Shape


def require_one_input(where: str, graph: Graph) -> None:
    """Training programs read one array of samples."""
    if len(graph.inputs) != 1 or not graph.outputs:
        raise ModelError(
            f"{where}: expected a graph of one input and an output; got "
            f"{len(graph.inputs)} inputs, {len(graph.outputs)} outputs."
        )


def require_inputs(where: str, graph: Graph) -> None:
    """A program maps its inputs to its outputs."""
    if not graph.inputs or not graph.outputs:
        raise ModelError(
            f"{where}: expected a graph with an input and an output; got "
            f"{len(graph.inputs)} inputs, {len(graph.outputs)} outputs."
        )


def input_arrays(where: str, inputs: Sequence[Node], given: Any) -> list[Any]:
    """The arrays of a graph's inputs, in order: one array, or a sequence, or a dict by name.

    Raises:
        ModelError: an input has no array, or there are too many.
        ShapeError: an array is not (n, *input shape), or the numbers of samples differ.
    """
    if len(inputs) == 1 and not isinstance(given, (tuple, Mapping)):
        require_images(where, given, inputs[0].shape)
        return [given]
    if isinstance(given, Mapping):
        names = [node.name for node in inputs]
        if set(given) != set(names):
            raise ModelError(f"{where}: expected arrays for {names}; got {list(given)}.")
        arrays = [given[name] for name in names]
    else:
        arrays = list(given) if isinstance(given, (tuple, list)) else [given]
        if len(arrays) != len(inputs):
            raise ModelError(
                f"{where}: expected {len(inputs)} arrays, one for each of "
                f"{[node.name for node in inputs]}; got {len(arrays)}."
            )
    for array, node in zip(arrays, inputs, strict=True):
        require_images(where, array, node.shape)
    if len({len(a) for a in arrays}) > 1:
        listed = ", ".join(str(np.shape(a)) for a in arrays)
        raise ShapeError(
            f"{where}: expected arrays with the same number of samples; got shapes {listed}."
        )
    return arrays


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
