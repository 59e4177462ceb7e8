"""Losses as modules that compare descriptions with each other: on arrays, or in a network."""

from __future__ import annotations

from typing import Any

from striate.nn import functional_loss_pairs as F
from striate.nn.functional_loss import check_reduction, old_options
from striate.nn.module import Module


class CosineEmbeddingLoss(Module):
    """`1 − cos(x, y)` where t is 1, `max(0, cos(x, y) − margin)` where it is −1.

    Args:
        margin: from −1 to 1.
        reduction: "mean", "sum" or "none".
    Input: two arrays (n, features), and (n,) of 1 and −1.
    """

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        old_options("CosineEmbeddingLoss", size_average, reduce)
        self.margin = float(margin)
        self.reduction = check_reduction("CosineEmbeddingLoss", reduction)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.forward(*inputs, **keywords)

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        """The loss of two descriptions that should be alike (1) or not (−1)."""
        return F.cosine_embedding_loss(
            input1, input2, target, self.margin, reduction=self.reduction
        )


class TripletMarginLoss(Module):
    """`max(0, margin + d(anchor, positive) − d(anchor, negative))`, d being the p-norm.

    Args:
        margin: by how much the negative should be farther.
        p: of the norm.
        eps: added to the differences.
        swap: let the positive's distance to the negative count, where that is nearer.
        reduction: "mean", "sum" or "none".
    Input: three arrays (n, features).
    Source: Balntas et al. (BMVC 2016).
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-06,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        old_options("TripletMarginLoss", size_average, reduce)
        self.margin, self.p, self.eps, self.swap = float(margin), float(p), float(eps), bool(swap)
        self.reduction = check_reduction("TripletMarginLoss", reduction)

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.forward(*inputs, **keywords)

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        """The loss of a description, one that should be near, and one that should not."""
        return F.triplet_margin_loss(
            anchor,
            positive,
            negative,
            self.margin,
            self.p,
            self.eps,
            self.swap,
            reduction=self.reduction,
        )
