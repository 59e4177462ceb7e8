"""Losses as modules: overlap of regions, style of features, sequences without alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, ShapeError
from striate.graph.graph import Shape
from striate.graph.losses import TrainingLoss
from striate.nn import functional_loss_images as F
from striate.nn.arguments import whole
from striate.nn.loss import Loss
from striate.nn.module import Module


class TverskyLoss(Loss):
    """`1 − (TP + smooth)/(TP + alpha·FP + beta·FN + smooth)`: how little two regions overlap.

    Args:
        alpha: what a false positive counts.
        beta: what a false negative counts.
        smooth: keeps empty regions from dividing by 0.
        per_class: sum over the places of each class, then take the classes' mean; else sum over
            everything.
        activation: what makes the network's output a probability: "none", "sigmoid", or "softmax"
            over the classes.
        reduction: "mean", "sum" or "none", over the samples.
    Input: (n, classes, …), and targets from 0 to 1 of the same shape or class numbers (n, …).
    Source: Salehi et al., arXiv:1706.05721.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        smooth: float = 1.0,
        per_class: bool = True,
        activation: str = "none",
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.attributes = F.tversky(alpha, beta, smooth, per_class, activation)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of a prediction (n, classes, …)."""
        name = type(self).__name__
        return F.overlap_value(name, input, target, self.attributes, self.reduction)

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        attributes = F.overlap_attributes(self.attributes, prediction, targets)
        return self._reduced("overlap_loss", attributes)


class DiceLoss(TverskyLoss):
    """`1 − (2·Σ p·t + smooth)/(Σ p + Σ t + smooth)`: `TverskyLoss` with alpha = beta = ½.

    The arguments are those of `TverskyLoss`.

    Source: Milletari et al., V-Net, arXiv:1606.04797.

    >>> import numpy as np
    >>> float(DiceLoss()(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2))))
    0.0
    """

    def __init__(
        self,
        smooth: float = 1.0,
        per_class: bool = True,
        activation: str = "none",
        reduction: str = "mean",
    ) -> None:
        super().__init__(0.5, 0.5, smooth / 2, per_class, activation, reduction)


class JaccardLoss(TverskyLoss):
    """`1 − (Σ p·t + smooth)/(Σ p + Σ t − Σ p·t + smooth)`, intersection over union.

    The arguments are those of `TverskyLoss`, with alpha = beta = 1.
    """

    def __init__(
        self,
        smooth: float = 1.0,
        per_class: bool = True,
        activation: str = "none",
        reduction: str = "mean",
    ) -> None:
        super().__init__(1.0, 1.0, smooth, per_class, activation, reduction)


class StyleLoss(Loss):
    """The mean of `(G[a,b] − t[a,b])²`, G being the Gram matrix of features.

    Args:
        reduction: "mean", "sum" or "none", over the samples.
    Input: features (n, C, H, W) and Gram matrices (n, C, C), or features that have them.
    Source: Gatys et al., Image Style Transfer Using Convolutional Neural Networks (2016).
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        """The loss of features (n, C, H, W)."""
        return F.style_loss(input, target, self.reduction)

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        return self._reduced("style_loss", {})


class TotalVariation(Module):
    """`Σ |x[i+1,j] − x[i,j]|^p + Σ |x[i,j+1] − x[i,j]|^p` of each image, (n,).

    Args:
        power: p, 1 or 2.
    """

    one_node = True

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self.power = power

    def forward(self, input: Any) -> Any:
        """The roughness of images (n, channels, h, w)."""
        return F.total_variation(input, self.power)

    def extra_repr(self) -> str:
        return f"power={self.power}"


class GramMatrix(Module):
    """`y[n,a,b] = Σ_{i,j} x[n,a,i,j]·x[n,b,i,j] / (C·H·W)`: which channels are active together."""

    one_node = True

    def forward(self, input: Any) -> Any:
        """The Gram matrices (n, C, C) of features (n, C, H, W)."""
        return F.gram_matrix(input)


class CTCLoss(Loss):
    """`−ln Σ_paths Π_t p[t, path_t]` over the paths that spell the target: no alignment needed.

    In training the network gives logarithms of probabilities (n, time, classes), and the targets
    are whole numbers (n, length) filled up with −1; every time step counts.

    Args:
        blank: the class that stands for none.
        reduction: "mean" divides each loss by its target's length first; "sum"; "none".
        zero_infinity: whether a target that no path can spell has the loss 0.
    Input: as for `functional.ctc_loss`: log_probs (time, n, classes), targets, and the lengths.
    Source: Graves et al., Connectionist Temporal Classification (ICML 2006).
    """

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction)
        self.blank, self.zero_infinity = whole(blank, "CTCLoss", "blank", 0), bool(zero_infinity)

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
        """The loss of log_probs (time, n, classes)."""
        return F.ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )

    def for_training(self, prediction: Shape, targets: NDArray[Any]) -> TrainingLoss:
        if targets.ndim != 2 or targets.dtype.kind not in "iu":
            raise DataError(
                "CTCLoss: expected targets (n, length) of whole numbers, filled up with −1; got "
                f"{targets.dtype} {targets.shape}."
            )
        if len(prediction) != 2:
            raise ShapeError(
                "CTCLoss: expected a network that gives (n, time, classes); got "
                f"{('n', *prediction)}."
            )
        attributes = {
            "blank": self.blank,
            "zero_infinity": self.zero_infinity,
            "mean": self.reduction == "mean",
            "length": int(np.shape(targets)[1]),
        }
        return self._reduced("ctc_loss", attributes)
