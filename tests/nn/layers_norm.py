"""Normalisation layers for the contract test."""

from __future__ import annotations

from striate import nn

IMAGES = (2, 4, 6, 5)
LAYERS = {
    "BatchNorm2d-plain": (lambda: nn.BatchNorm2d(4, affine=False), IMAGES, IMAGES[1:]),
    "BatchNorm2d-no-bias": (lambda: nn.BatchNorm2d(4, bias=False), IMAGES, IMAGES[1:]),
    "BatchNorm2d-cumulative": (lambda: nn.BatchNorm2d(4, momentum=None), IMAGES, IMAGES[1:]),
    "LayerNorm": (lambda: nn.LayerNorm((6, 5)), IMAGES, IMAGES[1:]),
    "LayerNorm-vectors": (lambda: nn.LayerNorm(7, bias=False), (2, 7), (7,)),
    "LayerNorm-plain": (lambda: nn.LayerNorm(5, elementwise_affine=False), IMAGES, IMAGES[1:]),
    "RMSNorm": (lambda: nn.RMSNorm(5), IMAGES, IMAGES[1:]),
    "RMSNorm-plain": (lambda: nn.RMSNorm((4, 6, 5), 1e-3, False), IMAGES, IMAGES[1:]),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGES, IMAGES[1:]),
    "GroupNorm-no-bias": (lambda: nn.GroupNorm(4, 4, bias=False), IMAGES, IMAGES[1:]),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(3), (2, 3, 7), (3, 7)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGES, IMAGES[1:]),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(2), (2, 2, 3, 4, 5), (2, 3, 4, 5)),
    "CrossMapLRN2d": (lambda: nn.CrossMapLRN2d(3, alpha=0.5), IMAGES, IMAGES[1:]),
}
