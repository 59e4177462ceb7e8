"""What a training minimises: from a name or a module to an operation of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, suggest
from striate.graph.losses import LOSSES, TrainingLoss, as_loss

Float64 = NDArray[np.float64]
_MOST_NUMBERS = 2_000_000  # worked out at once, so that images do not fill the memory


def training_loss(loss: Any, prediction: tuple[int, ...], targets: NDArray[Any]) -> TrainingLoss:
    """The loss to train with.

    Args:
        loss: a name, or a loss of `striate.nn`.
        prediction: the shape of the network's output, without the batch.
        targets: as they were given, (n, …).
    Raises:
        OptionError: it is no loss.
    """
    if isinstance(loss, TrainingLoss):
        return loss
    if isinstance(loss, str):
        if loss not in LOSSES:
            names = " or ".join(map(repr, LOSSES))
            raise OptionError(
                f"loss: expected {names}; got {loss!r}. {suggest(loss, LOSSES)} Or give a loss of "
                "striate.nn, as nn.L1Loss()."
            )
        return as_loss(loss)
    from striate.nn.loss import Loss

    if not isinstance(loss, Loss):
        raise OptionError(
            f"loss: expected a name or a loss of striate.nn, as nn.L1Loss(); got {loss!r}. Write "
            "nn.ScalarLoss(lambda x, t: …) for a formula of your own."
        )
    return loss.for_training(prediction, targets)


def sample_losses(
    outputs: NDArray[Any], targets: NDArray[Any], loss: str | TrainingLoss
) -> Float64:
    """The loss of each sample in float64, (n,)."""
    spec, losses = as_loss(loss), np.empty(len(outputs))
    few = max(_MOST_NUMBERS // max(outputs[:1].size, 1), 1)
    for start in range(0, len(outputs), few):
        rows = slice(start, start + few)
        values = [outputs[rows].astype(np.float64), targets[rows]]
        losses[rows] = spec.operation.reference(spec.attributes, values)
    return losses


def sample_shares(
    outputs: NDArray[Any], targets: NDArray[Any], loss: str | TrainingLoss
) -> Float64:
    """What each sample counts for in the mean, (n,)."""
    return as_loss(loss).shares(outputs.shape[1:], targets)
