"""Layers of the convolution family: (how to make one, the input's shape, the output's sample)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate import nn

IMAGES, SEQUENCES, VOLUMES = (2, 4, 6, 5), (2, 3, 9), (2, 2, 4, 3, 5)
Layer = tuple[Callable[[], Any], tuple[int, ...], tuple[int, ...]]

_CONV: dict[str, Layer] = {
    "Conv2d-true": (
        lambda: nn.Conv2d(4, 6, (3, 2), 2, 1, groups=2, true_convolution=True),
        IMAGES,
        (6, 3, 3),
    ),
    "Conv1d-true": (lambda: nn.Conv1d(3, 4, 3, true_convolution=True), SEQUENCES, (4, 7)),
    "Conv3d-true": (lambda: nn.Conv3d(2, 3, 2, true_convolution=True), VOLUMES, (3, 3, 2, 4)),
    "Conv2d-full": (lambda: nn.Conv2d(4, 3, (2, 3), padding="full"), IMAGES, (3, 7, 7)),
    "Conv2d-same-strided": (lambda: nn.Conv2d(4, 3, 3, 2, "same"), IMAGES, (3, 3, 3)),
    "Conv2d-same-lower": (lambda: nn.Conv2d(4, 3, 2, padding="same_lower"), IMAGES, (3, 6, 5)),
    "Conv2d-uneven": (lambda: nn.Conv2d(4, 3, 3, padding=((0, 2), (1, 0))), IMAGES, (3, 6, 4)),
    "Conv2d-reflect": (
        lambda: nn.Conv2d(4, 3, 3, 2, 1, padding_mode="reflect"),
        IMAGES,
        (3, 3, 3),
    ),
    "Conv1d-circular": (
        lambda: nn.Conv1d(3, 4, 3, padding="same", padding_mode="circular"),
        SEQUENCES,
        (4, 9),
    ),
    "Conv3d-replicate": (
        lambda: nn.Conv3d(2, 3, 3, padding=1, padding_mode="replicate"),
        VOLUMES,
        (3, 4, 3, 5),
    ),
    "Conv2d-strict": (lambda: nn.Conv2d(4, 3, 2, (2, 1), strict=True), IMAGES, (3, 3, 4)),
    "Conv2d-last": (
        lambda: nn.Conv2d(5, 3, 3, padding=1, data_format="channels_last"),
        IMAGES,
        (4, 6, 3),
    ),
    "Conv2d-last-reflect": (
        lambda: nn.Conv2d(5, 3, 3, padding=1, padding_mode="reflect", data_format="channels_last"),
        IMAGES,
        (4, 6, 3),
    ),
    "Conv1d-last": (
        lambda: nn.Conv1d(9, 4, 2, data_format="channels_last"),
        SEQUENCES,
        (2, 4),
    ),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(3, 4, 3, 2, 1, output_padding=1),
        SEQUENCES,
        (4, 18),
    ),
    "ConvTranspose3d": (
        lambda: nn.ConvTranspose3d(2, 4, (2, 1, 3), (2, 1, 2), groups=2),
        VOLUMES,
        (4, 8, 3, 11),
    ),
    "ConvTranspose2d-last": (
        lambda: nn.ConvTranspose2d(5, 3, 2, 2, data_format="channels_last"),
        IMAGES,
        (8, 12, 3),
    ),
    "SeparableConv1d": (lambda: nn.SeparableConv1d(3, 5, 3, 2), SEQUENCES, (5, 4)),
    "SeparableConv2d": (
        lambda: nn.SeparableConv2d(4, 5, 3, padding="same", depth_multiplier=2),
        IMAGES,
        (5, 6, 5),
    ),
    "SeparableConv3d": (
        lambda: nn.SeparableConv3d(2, 5, 3, padding="same"),
        VOLUMES,
        (5, 4, 3, 5),
    ),
}
_LOCAL: dict[str, Layer] = {
    "LocallyConnected1d": (
        lambda: nn.LocallyConnected1d(3, 4, 9, 3, 2, "same"),
        SEQUENCES,
        (4, 5),
    ),
    "LocallyConnected2d": (
        lambda: nn.LocallyConnected2d(4, 6, (6, 5), 3, padding=1, groups=2),
        IMAGES,
        (6, 6, 5),
    ),
    "LocallyConnected2d-channel-bias": (
        lambda: nn.LocallyConnected2d(4, 3, (6, 5), (2, 3), (1, 2), bias="channel"),
        IMAGES,
        (3, 5, 2),
    ),
    "LocallyConnected2d-last": (
        lambda: nn.LocallyConnected2d(5, 3, (4, 6), 3, data_format="channels_last"),
        IMAGES,
        (2, 4, 3),
    ),
    "LocallyConnected2d-reflect": (
        lambda: nn.LocallyConnected2d(4, 3, (6, 5), 3, padding="same", padding_mode="reflect"),
        IMAGES,
        (3, 6, 5),
    ),
    "LocallyConnected3d": (
        lambda: nn.LocallyConnected3d(2, 3, (4, 3, 5), 2, dilation=(2, 1, 1), bias=False),
        VOLUMES,
        (3, 2, 2, 4),
    ),
    "LocallyConnectedTranspose1d": (
        lambda: nn.LocallyConnectedTranspose1d(3, 4, 9, 3, 2, 1),
        SEQUENCES,
        (4, 17),
    ),
    "LocallyConnectedTranspose2d": (
        lambda: nn.LocallyConnectedTranspose2d(4, 6, (6, 5), 3, 2, 1, 1, groups=2, bias="channel"),
        IMAGES,
        (6, 12, 10),
    ),
    "LocallyConnectedTranspose3d": (
        lambda: nn.LocallyConnectedTranspose3d(2, 3, (4, 3, 5), 2, bias=False),
        VOLUMES,
        (3, 5, 4, 6),
    ),
    "TiledConv1d": (lambda: nn.TiledConv1d(3, 4, 3, 2, padding=1), SEQUENCES, (4, 9)),
    "TiledConv2d": (lambda: nn.TiledConv2d(4, 6, 3, (2, 3), 1, 1, groups=2), IMAGES, (6, 6, 5)),
    "TiledConv3d": (lambda: nn.TiledConv3d(2, 3, 2, (1, 2, 2), bias=False), VOLUMES, (3, 3, 2, 4)),
}
_PAD: dict[str, Layer] = {
    "ZeroPad1d": (lambda: nn.ZeroPad1d((1, 0)), SEQUENCES, (3, 10)),
    "ZeroPad2d": (lambda: nn.ZeroPad2d((1, -1, 0, 2)), IMAGES, (4, 8, 5)),
    "ZeroPad3d": (lambda: nn.ZeroPad3d((1, 0, 0, 0, 1, 0)), VOLUMES, (2, 5, 3, 6)),
    "ConstantPad1d": (lambda: nn.ConstantPad1d(2, 1.5), SEQUENCES, (3, 13)),
    "ConstantPad2d": (lambda: nn.ConstantPad2d((0, 1, 2, 0), -2), IMAGES, (4, 8, 6)),
    "ConstantPad3d": (lambda: nn.ConstantPad3d(1, 0.5), VOLUMES, (2, 6, 5, 7)),
    "ReflectionPad1d": (lambda: nn.ReflectionPad1d((3, 1)), SEQUENCES, (3, 13)),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d(2), IMAGES, (4, 10, 9)),
    "ReflectionPad3d": (lambda: nn.ReflectionPad3d((1, 0, 2, 0, 0, 3)), VOLUMES, (2, 7, 5, 6)),
    "ReplicationPad1d": (lambda: nn.ReplicationPad1d(4), SEQUENCES, (3, 17)),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d((9, 0, 0, 1)), IMAGES, (4, 7, 14)),
    "ReplicationPad3d": (lambda: nn.ReplicationPad3d(1), VOLUMES, (2, 6, 5, 7)),
    "CircularPad1d": (lambda: nn.CircularPad1d((9, 1)), SEQUENCES, (3, 19)),
    "CircularPad2d": (lambda: nn.CircularPad2d((0, 2, 3, 0)), IMAGES, (4, 9, 7)),
    "CircularPad3d": (lambda: nn.CircularPad3d(2), VOLUMES, (2, 8, 7, 9)),
    "CenterCrop": (lambda: nn.CenterCrop((3, 2)), IMAGES, (4, 3, 2)),
    "CenterCrop-volume": (lambda: nn.CenterCrop(2), VOLUMES, (2, 2, 2, 2)),
    "Permute": (lambda: nn.Permute(0, 2, 3, 1), IMAGES, (6, 5, 4)),
    "Permute-sequence": (lambda: nn.Permute(0, 2, 1), SEQUENCES, (9, 3)),
}
LAYERS: dict[str, Layer] = {**_CONV, **_LOCAL, **_PAD}
