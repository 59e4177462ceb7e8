"""The layers of this family under the contract of every layer."""

from __future__ import annotations

from striate import nn

IMAGES = (2, 4, 6, 5)
LAYERS = {
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
}
