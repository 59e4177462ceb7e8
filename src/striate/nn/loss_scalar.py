"""Losses as modules that compare numbers one by one: regression, and two classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError
from striate.formula import loss_scalar as formulas
from striate.formula.expression import Expr, Operand
from striate.graph.graph import Shape
from striate.graph.losses import TrainingLoss
from striate.nn import functional_loss_scalar as F
from striate.nn.functional_loss import no_symbols, old_options
from striate.nn.loss import Loss
from striate.nn.parameter import as_float32


class _Elements(Loss):
    """A loss that is an expression of x and t, the mean or the sum over every element."""

    def __init__(self, reduction: str, size_average: Any = None, reduce: Any = None) -> None:
        super().__init__(reduction)
        old_options(type(self).__name__, size_average, reduce)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        """The loss of one element, and the arrays that it reads besides x and t."""
        raise TypeError(f"{type(self).__name__} has no expression.")

    def check(self, target: NDArray[Any]) -> None:
        """Refuse targets that the loss has no meaning for."""

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of a prediction (n, …) for a target of the same shape."""
        name = type(self).__name__
        expr, constants = self.expression()
        no_symbols(name, input, target)
        self.check(np.asarray(target))
        return F.scalar_value(name, expr, input, target, self.reduction, constants)

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        expr, constants = self.expression()
        self.check(targets)
        summed = self.reduction in ("sum", "batchmean")
        attributes = formulas.scalar_loss(expr, "sum" if summed else "mean", constants)
        return self._reduced("scalar_loss", attributes)


class ScalarLoss(_Elements):
    """Your own loss, a formula of a prediction x and a target t; its gradient follows from it.

    Args:
        function: of two scalars, written with + - * / ** abs and `striate.nn.scalar`; or an
            expression of x and t.
        reduction: "mean" and "sum" are over every element; "none" gives (n, …).
        name: shown in the loss's text.

    >>> from striate.nn import scalar
    >>> cauchy = ScalarLoss(lambda x, t: scalar.log(1 + (x - t) ** 2), name="cauchy")
    >>> round(float(cauchy([[1.0]], [[0.0]])), 4)
    0.6931
    """

    def __init__(
        self,
        function: Callable[..., Operand] | Expr,
        reduction: str = "mean",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction)
        self.body, self.name = F.loss_expression(function, "ScalarLoss"), name

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return self.body, {}

    def extra_repr(self) -> str:
        return self.name or str(self.body)


# ---- regression ------------------------------------------------------------------------------


class MSELoss(_Elements):
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
        super().__init__(reduction, size_average, reduce)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.squared_error(), {}

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        if self.reduction == "mean":
            return TrainingLoss("mse_loss")
        return super().for_training(prediction, targets)


class ContentLoss(MSELoss):
    """`(x − t)²` of features: the content loss of style transfer.

    Source: Gatys et al., Image Style Transfer Using Convolutional Neural Networks (2016), with the
    mean in place of half the sum.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)


class L1Loss(_Elements):
    """`|x − t|`, by default its mean over every element.

    Args:
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, …) of one shape.
    """

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, size_average, reduce)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.absolute_error(), {}


class SmoothL1Loss(_Elements):
    """`½(x − t)²/β` where |x − t| < β, else `|x − t| − β/2`.

    Args:
        reduction: "mean", "sum" or "none".
        beta: where the parabola ends; 0 is `L1Loss`.
    Input: two arrays (n, …) of one shape.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(reduction, size_average, reduce)
        self.beta = F.at_least("SmoothL1Loss", "beta", beta)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.smooth_l1(self.beta), {}


class HuberLoss(_Elements):
    """`½(x − t)²` where |x − t| ≤ δ, else `δ(|x − t| − δ/2)`.

    Args:
        reduction: "mean", "sum" or "none".
        delta: where the parabola ends.
    Input: two arrays (n, …) of one shape.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = F.at_least("HuberLoss", "delta", delta, strictly=True)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.huber(self.delta), {}


class PoissonNLLLoss(_Elements):
    """`e^x − t·x`, for counts t of which x is the logarithm of the rate.

    Args:
        log_input: whether x is the logarithm; else the loss is `x − t·ln(x + eps)`.
        full: add Stirling's `t·ln t − t + ½·ln(2πt)` where t > 1.
        eps: keeps the logarithm finite.
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, …) of one shape.
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-08,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, size_average, reduce)
        self.log_input, self.full, self.eps = bool(log_input), bool(full), float(eps)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.poisson_nll(self.log_input, self.full, self.eps), {}


class KLDivLoss(_Elements):
    """`t·(ln t − x)`: how far the distribution of logarithms x is from t.

    Args:
        reduction: "batchmean" (the sum divided by n, which is the divergence), "mean", "sum" or
            "none".
        log_target: whether t are logarithms too.
    Input: two arrays (n, …) of one shape.
    """

    reductions = F.KL_REDUCTIONS

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(reduction, size_average, reduce)
        self.log_target = bool(log_target)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.kl_divergence(self.log_target), {}

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logarithms of probabilities (n, …) for probabilities."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


# ---- two classes -----------------------------------------------------------------------------


class _Weighted(_Elements):
    """A loss with a weight for each element, of a shape that broadcasts."""

    def __init__(
        self, weight: Any, reduction: str, size_average: Any = None, reduce: Any = None
    ) -> None:
        super().__init__(reduction, size_average, reduce)
        self.weight = None if weight is None else as_float32(weight, type(self).__name__).copy()


class BCELoss(_Weighted):
    """`−(t·ln x + (1 − t)·ln(1 − x))` of probabilities x, logarithms not below −100.

    Where a logarithm is cut off, the gradient is 0.

    Args:
        weight: what each element counts, of a shape that broadcasts to a sample's.
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, …) of one shape, from 0 to 1.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction, size_average, reduce)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return F.weighted(formulas.binary_cross_entropy(), self.weight)

    def check(self, target: NDArray[Any]) -> None:
        F.require_probabilities("BCELoss", "targets", target)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of probabilities (n, …) for targets from 0 to 1."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Weighted):
    """`−(p·t·ln σ(x) + (1 − t)·ln(1 − σ(x)))`, exact for large x too.

    Args:
        weight: what each element counts, of a shape that broadcasts to a sample's.
        reduction: "mean", "sum" or "none".
        pos_weight: p, what a positive counts: one for each class.
    Input: logits (n, …), and targets of the same shape from 0 to 1.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ) -> None:
        super().__init__(weight, reduction, size_average, reduce)
        name = "BCEWithLogitsLoss"
        self.pos_weight = None if pos_weight is None else as_float32(pos_weight, name).copy()

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return F.logits_expression(self.weight, self.pos_weight)


class SigmoidFocalLoss(_Elements):
    """`−α_t·(1 − p_t)^γ·ln p_t`, p_t being the probability σ(x) gives to what is right.

    Args:
        alpha: what a positive counts, and 1 − alpha a negative; below 0 both count 1.
        gamma: how much less sure predictions count.
        reduction: "mean", "sum" or "none".
    Input: logits (n, …), and targets 0 or 1 of the same shape.
    Source: Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.alpha, self.gamma = float(alpha), F.at_least("SigmoidFocalLoss", "gamma", gamma)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.sigmoid_focal(self.alpha, self.gamma), {}


class SoftMarginLoss(_Elements):
    """`ln(1 + e^(−t·x))`, t being 1 or −1.

    Args:
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, …) of one shape.
    """

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, size_average, reduce)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.soft_margin(), {}


class MultiLabelSoftMarginLoss(_Weighted):
    """Binary cross-entropy of logits, its mean over the classes: several labels a sample.

    Args:
        weight: (classes,), what each class counts.
        reduction: "mean", "sum" (over the samples) or "none".
    Input: logits (n, …, classes), and targets 0 or 1 of the same shape.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction, size_average, reduce)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return F.weighted(formulas.binary_cross_entropy_with_logits(), self.weight)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of logits (n, …, classes) for targets 0 or 1."""
        return F.multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        expr, constants = self.expression()
        attributes = formulas.scalar_loss(expr, "mean", constants)
        return self._reduced("scalar_loss", attributes, math.prod(prediction[:-1]))


class _Signed(_Elements):
    """A loss of targets 1 and −1, with a margin."""

    def __init__(
        self, margin: float, reduction: str, size_average: Any = None, reduce: Any = None
    ) -> None:
        super().__init__(reduction, size_average, reduce)
        self.margin = float(margin)

    def check(self, target: NDArray[Any]) -> None:
        if target.dtype.kind not in "iuf":
            raise DataError(f"{type(self).__name__}: expected targets 1 or −1; got {target.dtype}.")
        F.require_signs(type(self).__name__, target)


class HingeEmbeddingLoss(_Signed):
    """`x` where t is 1, `max(0, margin − x)` where it is −1; x are distances.

    Args:
        margin: how far apart what differs should be.
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, …) of one shape.
    """

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, reduction, size_average, reduce)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.hinge_embedding(self.margin), {}


class HingeLoss(_Signed):
    """`max(0, margin − t·x)`, t being 1 or −1: a binary support vector machine.

    Args:
        margin: by how much the right side must be reached.
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, …) of one shape.
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(margin, reduction)

    def expression(self) -> tuple[Expr, dict[str, Any]]:
        return formulas.hinge(self.margin), {}
