"""Losses as modules: what all share, and those of classes.

On arrays they give a number for a batch; `fit(loss=…)` trains with them. A loss is never part of a
network. Those that compare numbers one by one are in `loss_scalar`, those of images and sequences
in `loss_images`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import AbsentError, OptionError, ShapeError
from striate.graph.graph import Shape
from striate.graph.losses import TrainingLoss
from striate.nn import functional_loss as F
from striate.nn.functional_loss import REDUCTIONS, check_reduction, old_options, weight_list
from striate.nn.module import Module


class LossNumber(np.float32):
    """What a loss gives: a number, which says what to do instead of `.backward()`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in ("backward", "grad"):
            raise AbsentError(
                f"loss: expected no .{name}, since striate.fit(net, data, loss=...) does the loop; "
                "the gradient of any function is striate.gradient."
            )
        raise AttributeError(f"a loss has no attribute {name!r}")


class Loss(Module):
    """A loss of a prediction and a target: computes at once, is never part of a network.

    A subclass says in `for_training` which operation of a graph it is.
    """

    reductions: tuple[str, ...] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_reduction(type(self).__name__, reduction, self.reductions)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        found = self.forward(*inputs, **keywords)
        return LossNumber(found) if type(found) is np.float32 else found

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        """The loss as `fit` trains it.

        Args:
            prediction: the shape of the network's output, without the batch.
            targets: (n, …), as they were given.
        """
        raise OptionError(
            f"{type(self).__name__}: fit cannot train with it; "
            "write for_training(prediction, targets)."
        )

    def _reduced(self, op: str, attributes: dict[str, Any], places: int = 1) -> TrainingLoss:
        """The training loss; a sum counts each of the places that y[n] is the mean of."""
        if self.reduction == "none":
            raise OptionError(
                f"{type(self).__name__}: fit expected reduction='mean' or 'sum'; got "
                "reduction='none'."
            )
        return TrainingLoss(op, attributes, float(places) if self.reduction == "sum" else None)

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class OperationLoss(Loss):
    """A loss operation by its name, its settings as keywords: one's own too, once registered.

    Args:
        name: the operation's, as it was given to `striate.formula.operations.register`.
        settings: the operation's attributes.

    >>> float(OperationLoss("mse_loss")([[1.0, 2.0]], [[1.0, 4.0]]))
    2.0
    """

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__()
        self.name, self.settings = name, settings
        F.loss_operation(name)

    def forward(self, input: Any, target: Any) -> Any:
        """The mean over the batch, as training takes it."""
        F.no_symbols("OperationLoss", input, target)
        operation = F.loss_operation(self.name)
        x, t = np.asarray(input, np.float64), np.asarray(target)
        operation.shape(self.settings, [x.shape[1:], t.shape[1:]])
        losses = operation.reference(self.settings, [x, t])
        return F.reduced(self.name, losses, "mean", operation.shares(self.settings, x.shape[1:], t))

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        return self._reduced(self.name, self.settings)

    def extra_repr(self) -> str:
        return ", ".join([repr(self.name), *(f"{k}={v!r}" for k, v in self.settings.items())])


# ---- classes ---------------------------------------------------------------------------------


class _ClassLoss(Loss):
    """A loss with a weight for each class."""

    def __init__(
        self, weight: Any, reduction: str, size_average: Any = None, reduce: Any = None
    ) -> None:
        super().__init__(reduction)
        name = type(self).__name__
        old_options(name, size_average, reduce)
        self.weight = weight_list(weight, name)

    def _ignoring(self, ignore_index: Any) -> int:
        if isinstance(ignore_index, bool) or not hasattr(ignore_index, "__index__"):
            raise OptionError(
                f"{type(self).__name__}: expected ignore_index to be a whole number; got "
                f"ignore_index={ignore_index!r}."
            )
        return int(ignore_index)


class CrossEntropyLoss(_ClassLoss):
    """`−w[t]·ln softmax(x)[n, t[n]]`, by default its mean over the batch.

    Args:
        weight: (classes,), what each class counts; the mean divides by the labels' weights.
        ignore_index: the label of places that count for nothing.
        reduction: "mean", "sum" or "none".
        label_smoothing: the share of the target that is spread over all classes.
    Input: logits (n, classes, …) and whole numbers (n, …), or probabilities (n, classes, …).

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
        super().__init__(weight, reduction, size_average, reduce)
        self.ignore_index = self._ignoring(ignore_index)
        self.label_smoothing = float(label_smoothing)
        if not 0 <= self.label_smoothing <= 1:
            raise OptionError(
                "CrossEntropyLoss: expected label_smoothing from 0 to 1; got "
                f"label_smoothing={label_smoothing!r}."
            )

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logits (n, classes, …) for labels (n, …)."""
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        places = math.prod(prediction[1:])
        settings: dict[str, Any] = {"weight": self.weight, "label_smoothing": self.label_smoothing}
        if targets.dtype.kind == "f" and targets.ndim > 1:
            return self._reduced("soft_cross_entropy", settings, places)
        plain = self.weight is None and not self.label_smoothing and self.ignore_index == -100
        if plain and len(prediction) == 1 and not (targets < 0).any():
            return self._reduced("cross_entropy", {})
        settings["ignore_index"] = self.ignore_index
        return self._reduced("weighted_cross_entropy", settings, places)


class NLLLoss(_ClassLoss):
    """`−w[t]·x[n, t[n]]` of logarithms of probabilities x, by default its mean over the batch.

    Args:
        weight, ignore_index, reduction: as for `CrossEntropyLoss`.
    Input: (n, classes, …) and whole numbers (n, …).

    >>> import numpy as np
    >>> float(NLLLoss()(np.array([[-1.0, -2.0]]), np.array([1])))
    2.0
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction, size_average, reduce)
        self.ignore_index = self._ignoring(ignore_index)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logarithms of probabilities for labels."""
        return F.nll_loss(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        settings = {"weight": self.weight, "ignore_index": self.ignore_index}
        return self._reduced("nll_loss", settings, math.prod(prediction[1:]))


class FocalCrossEntropyLoss(_ClassLoss):
    """`−w[t]·(1 − p)^γ·ln p` with p = softmax(x)[n, t[n]], by default its mean over the batch.

    Args:
        weight: (classes,), the paper's α for each class.
        gamma: how much less sure predictions count; 0 is cross-entropy.
        ignore_index: the label of places that count for nothing.
        reduction: "mean", "sum" or "none".
    Input: logits (n, classes, …) and whole numbers (n, …).
    Source: Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.
    """

    def __init__(
        self,
        weight: Any = None,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction)
        self.gamma, self.ignore_index = float(gamma), self._ignoring(ignore_index)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logits for labels."""
        return F.focal_cross_entropy(
            input, target, self.weight, self.gamma, self.ignore_index, self.reduction
        )

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        settings = {
            "weight": self.weight,
            "ignore_index": self.ignore_index,
            "gamma": self.gamma,
        }
        return self._reduced("focal_cross_entropy", settings, math.prod(prediction[1:]))


class MultiMarginLoss(_ClassLoss):
    """`w[t]·Σ_{c≠t} max(0, margin − x[n,t] + x[n,c])^p / classes`: a multi-class SVM.

    Args:
        p: 1 or 2.
        margin: by how much the right class must be ahead.
        weight: (classes,), what each class counts.
        reduction: "mean", "sum" or "none".
    Input: scores (n, classes) and whole numbers (n,).
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction, size_average, reduce)
        if p not in (1, 2):
            raise OptionError(f"MultiMarginLoss: expected p to be 1 or 2; got p={p!r}.")
        self.p, self.margin = p, float(margin)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of scores (n, classes) for labels (n,)."""
        return F.multi_margin_loss(
            input, target, self.p, self.margin, self.weight, reduction=self.reduction
        )

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        if len(prediction) != 1:
            raise ShapeError(
                f"MultiMarginLoss: expected a network that gives (n, classes); got "
                f"{('n', *prediction)}."
            )
        settings = {"p": self.p, "margin": self.margin, "weight": self.weight}
        return self._reduced("multi_margin_loss", settings)


class DeepSupervisionLoss(Loss):
    """`Σ_h w[h]·cross_entropy(x[:, :, h], t)`: several heads learn the same labels.

    For a network that in training gives (n, classes, heads), or (n, classes) of each head in a
    tuple, and else those of its main head, as `models.WithHeads` does; by that it is judged.

    Args:
        weights: what each head counts for, the main one first.
        label_smoothing: the share of the target that is spread over all classes.
        reduction: "mean", "sum" or "none".
    Input: logits (n, classes, heads) or (n, classes), and whole numbers (n,).
    Source: Szegedy et al., Going Deeper with Convolutions, arXiv:1409.4842.

    >>> import numpy as np
    >>> round(float(DeepSupervisionLoss((1, 0.5))(np.zeros((4, 10, 2)), np.zeros(4, int))), 4)
    3.4539
    """

    def __init__(
        self,
        weights: Sequence[float] = (1.0, 0.3, 0.3),
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.weights = weight_list(list(weights), "DeepSupervisionLoss") or []
        if not self.weights:
            raise OptionError(
                f"DeepSupervisionLoss: expected a weight for each head; got weights={weights!r}."
            )
        self.label_smoothing = float(label_smoothing)
        if not 0 <= self.label_smoothing <= 1:
            raise OptionError(
                "DeepSupervisionLoss: expected label_smoothing from 0 to 1; got "
                f"label_smoothing={label_smoothing!r}."
            )

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logits (n, classes, heads) for labels (n,)."""
        return F.deep_supervision_loss(
            input, target, self.weights, self.label_smoothing, self.reduction
        )

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        settings = {"weights": self.weights, "label_smoothing": self.label_smoothing}
        return self._reduced("deep_supervision_loss", settings)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"weights={self.weights}", super().extra_repr()]))
