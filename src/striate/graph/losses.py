"""What a training minimises, as data: a loss operation, its settings, and how a batch is reduced.

`differentiate` puts it behind a network's first output; programs ask it for the targets' shape
and for what each sample counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, ShapeError, suggest
from striate.formula.loss import Loss
from striate.formula.operations import find_operation

LOSSES = {"cross_entropy": "cross_entropy", "mse": "mse_loss"}
"""The losses that have names in `fit`: name → operation."""

_OWN_KERNELS = ("cross_entropy", "mse_loss")


@dataclass(frozen=True)
class TrainingLoss:
    """`Σ_n y[n] / Σ_n share[n]` over a batch, y being what the operation gives.

    Attributes:
        op: the loss operation's name.
        attributes: its settings.
        times: where given, the batch's loss is `times·Σ_n y[n]`: a sum, not a mean.
    """

    op: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    times: float | None = None

    @property
    def operation(self) -> Loss:
        operation = find_operation(self.op)
        if not isinstance(operation, Loss):
            raise OptionError(f"loss: expected a loss operation; got {self.op!r}.")
        return operation

    @property
    def plain(self) -> bool:
        """Whether every sample counts 1 and the batch's loss is their mean."""
        same = type(self.operation).shares is Loss.shares
        return same and self.times is None

    @property
    def has_kernel(self) -> bool:
        """Whether loss and gradient are computed by a kernel of their own."""
        return self.op in _OWN_KERNELS

    def classifies(self, prediction: tuple[int, ...]) -> bool:
        """Whether a prediction of this shape names one class a sample, by its largest number."""
        return (
            self.operation.labels
            and len(prediction) == 1
            and self.operation.target_shape(self.attributes, prediction) == ()
        )

    def target_shape(self, prediction: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a target for predictions of this shape, both without the batch."""
        return self.operation.target_shape(self.attributes, prediction)

    def shares(self, prediction: tuple[int, ...], targets: NDArray[Any]) -> NDArray[np.float64]:
        """What each sample counts for, (n,)."""
        return self.operation.shares(self.attributes, prediction, targets)

    def scales(
        self,
        prediction: tuple[int, ...],
        targets: NDArray[Any],
        order: NDArray[np.int64],
        batch_size: int,
    ) -> NDArray[np.float32]:
        """For each step of a course what a sample's loss is multiplied by: `1 / Σ share`.

        0 where no sample of the batch counts, so that such a step changes nothing.
        """
        starts = np.arange(0, order.size, batch_size)
        if self.times is not None:
            return np.full(starts.size, self.times, np.float32)
        totals: NDArray[Any]
        if self.plain:
            totals = np.minimum(order.size - starts, batch_size).astype(np.float32)
        else:
            shares = self.shares(prediction, targets)[order]
            totals = np.add.reduceat(shares, starts).astype(np.float32) if starts.size else shares
        found = np.zeros(starts.size, np.float32)
        np.divide(np.float32(1), totals, out=found, where=totals > 0, dtype=np.float32)
        return found

    def settings(self) -> Any:
        """The loss as JSON data; a named one is its name."""
        for name, op in LOSSES.items():
            if op == self.op and self.plain:
                return name
        return {"op": self.op, "attributes": dict(self.attributes), "times": self.times}

    def __str__(self) -> str:
        found = self.settings()
        return found if isinstance(found, str) else f"{self.op} {json.dumps(found['attributes'])}"

    def check(self, prediction: tuple[int, ...], targets: NDArray[Any]) -> None:
        """Refuse targets of another shape, or that the loss has no meaning for.

        Raises:
            ShapeError, DataError: so it is.
        """
        expected = (len(targets), *self.target_shape(prediction))
        if targets.shape != expected:
            raise ShapeError(
                f"training: expected targets of shape {expected} for {self.op} of predictions "
                f"{(len(targets), *prediction)}; got {targets.shape}."
            )
        self.operation.check_targets(self.attributes, prediction, targets)


def as_loss(loss: str | TrainingLoss) -> TrainingLoss:
    """A loss by its name.

    Raises:
        OptionError: there is no loss of that name.

    >>> as_loss("mse").op
    'mse_loss'
    """
    if isinstance(loss, TrainingLoss):
        return loss
    if loss not in LOSSES:
        raise OptionError(f"loss: unknown loss {loss!r}. {suggest(loss, LOSSES)}")
    return TrainingLoss(LOSSES[loss])
