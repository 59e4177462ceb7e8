"""Losses as modules, on arrays: one number for a batch. `fit` takes them by name (`loss=`)."""

from __future__ import annotations

from typing import Any

from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn.arguments import plain_cross_entropy, plain_loss
from striate.nn.module import Module


class _Loss(Module):
    """A loss of a prediction and a target; computes at once, is never part of a network."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise OptionError(
                f"{type(self).__name__}: expected reduction 'mean', 'sum' or 'none'; "
                f"got reduction={reduction!r}."
            )
        self.reduction = reduction

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.forward(*inputs, **keywords)


class CrossEntropyLoss(_Loss):
    """`−ln softmax(x)[n, t[n]]`, by default its mean over the batch.

    Args:
        reduction: "mean", "sum" or "none".
    Input: logits (n, classes) and whole numbers (n,).

    >>> import numpy as np
    >>> round(float(CrossEntropyLoss()(np.zeros((2, 10)), np.array([3, 4]))), 4)
    2.3026
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        plain_loss("CrossEntropyLoss", "class", weight, size_average, reduce)
        plain_cross_entropy("CrossEntropyLoss", ignore_index, label_smoothing)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logits (n, classes) for labels (n,)."""
        return F.cross_entropy(input, target, reduction=self.reduction)


class MSELoss(_Loss):
    """`(x − t)²`, by default its mean over every element.

    Args:
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, …) of one shape.

    >>> import numpy as np
    >>> float(MSELoss()(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])))
    2.0
    """

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        plain_loss("MSELoss", "element", None, size_average, reduce)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of a prediction (n, …) for a target of the same shape."""
        return F.mse_loss(input, target, reduction=self.reduction)
