"""The layers of this family under the contract of every layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate import nn
from striate.formula.expression import Sum, Tensor, axes

IMAGES = (2, 4, 6, 5)


def diagonal() -> nn.Formula:
    """A kernel along the diagonal of each channel."""
    n, c, i, j, p = axes("n c i j p")
    x, w = Tensor("x"), Tensor("w")
    body = Sum((p,), x[n, c, i + p, j + p] * w[c, p])
    kernel = np.random.default_rng(0).normal(size=(4, 3))
    return nn.Formula((n, c, i, j), body, parameters={"w": kernel})


def product() -> nn.Formula:
    """The product of two inputs, each read at its own place."""
    n, i, j = axes("n i j")
    return nn.Formula((n, i, j), Tensor("x")[n, i] * Tensor("z")[n, j])


def operation() -> nn.Operation:
    settings = {"stride": [1], "padding": [[2, 2]], "dilation": [1], "groups": 1}
    return nn.Operation("conv1d", {"w": (4, 3, 5)}, **settings)


LAYERS: dict[str, Any] = {
    "Linear-rows": (lambda: nn.Linear(5, 3), IMAGES, (4, 6, 3)),
    "Unflatten": (lambda: nn.Unflatten(1, (2, -1)), IMAGES, (2, 2, 6, 5)),
    "Dropout1d": (lambda: nn.Dropout1d(0.3), (2, 9, 5), (9, 5)),
    "Dropout2d": (lambda: nn.Dropout2d(0.3), (2, 9, 4, 3), (9, 4, 3)),
    "Dropout3d": (lambda: nn.Dropout3d(0.3), (2, 9, 2, 4, 3), (9, 2, 4, 3)),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.3), IMAGES, IMAGES[1:]),
    "FeatureAlphaDropout": (lambda: nn.FeatureAlphaDropout(0.3), IMAGES, IMAGES[1:]),
    "RBF": (lambda: nn.RBF(7, 3), (2, 7), (3,)),
    "RBF-fixed": (lambda: nn.RBF(2, 2, [[1, 1], [-1, 1]], fixed=True), (2, 2), (2,)),
    "Subsample": (lambda: nn.Subsample(4), IMAGES, (4, 3, 2)),
    "Subsample-uneven": (lambda: nn.Subsample(4, (1, 3)), IMAGES, (4, 6, 1)),
    "Capsules": (lambda: nn.Capsules(6, 3, 4, 5), (2, 6, 4), (3, 5)),
    "Capsules-once": (lambda: nn.Capsules(1, 1, 1, 2, iterations=1), (2, 1, 1), (1, 2)),
    "PrimaryCapsules": (lambda: nn.PrimaryCapsules(4, 2, 3, 3, 2), IMAGES, (8, 3)),
    "Maxout": (lambda: nn.Maxout(7, 3, 2), (2, 7), (3,)),
    "Maxout-no-bias": (lambda: nn.Maxout(7, 2, 3, bias=False), (2, 7), (2,)),
    "SpatialPyramidPool": (lambda: nn.SpatialPyramidPool((1, 2)), IMAGES, (20,)),
    "SpatialPyramidPool-avg": (lambda: nn.SpatialPyramidPool((2,), "avg"), (2, 4, 9), (8,)),
    "Fold": (lambda: nn.Fold((4, 5), (2, 3), stride=1), (2, 12, 9), (2, 4, 5)),
    "Formula": (diagonal, IMAGES, (4, 4, 3)),
    "Formula-product": (product, ((2, 3), (2, 4)), (3, 4)),
    "Operation": (operation, (2, 3, 7), (4, 7)),
    "GramMatrix": (nn.GramMatrix, IMAGES, (4, 4)),
    "TotalVariation": (nn.TotalVariation, IMAGES, ()),
    "TotalVariation-squared": (lambda: nn.TotalVariation(2), IMAGES, ()),
}
