"""The VGG networks with 11, 13, 16 and 19 layers, with and without batch norm; and a small one.

Names and sizes are torchvision's, so its checkpoints load. `cifar_vgg` is the same idea for
images of 32 × 32 and is no published network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.models.starts import kaiming_fan_out, normal_linear
from striate.nn import functional as F

POOL = 0
# Output channels of each 3×3 convolution, and POOL where a 2×2 maximum halves the image.
STAGES: dict[int, tuple[int, ...]] = {
    11: (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    13: (64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    16: (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL, *(512,) * 3, POOL, *(512,) * 3, POOL),
    19: (64, 64, POOL, 128, 128, POOL, *(256,) * 4, POOL, *(512,) * 4, POOL, *(512,) * 4, POOL),
}


def features(stages: Sequence[int], in_channels: int, batch_norm: bool) -> nn.Sequential:
    """3×3 convolutions with ReLU, and maxima of 2×2, numbered as torchvision numbers them.

    Args:
        stages: output channels of each convolution; `POOL` for a pooling.
        in_channels: channels of the images.
        batch_norm: whether each convolution is normalised.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for width in stages:
        if width == POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU())
        channels = width
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """A VGG network: 3×3 convolutions, pooled five times, then three fully connected layers.

    Args:
        layers: 11, 13, 16 or 19, those with weights.
        num_classes: outputs, one logit a class.
        in_channels: channels of the images.
        batch_norm: whether each convolution is followed by batch norm.
        dropout: the share that the first two fully connected layers drop of their outputs.
    Input: (n, in_channels, h, w), h and w from 32; (224, 224) is usual. Output: logits
        (n, num_classes).
    Raises:
        OptionError: there is no VGG with that many layers.
    Source: Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image
        Recognition, arXiv:1409.1556.
    """

    def __init__(
        self,
        layers: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if layers not in STAGES:
            raise OptionError(f"VGG: expected layers 11, 13, 16 or 19; got layers={layers!r}.")
        self.features = features(STAGES[layers], in_channels, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        kaiming_fan_out(self)
        normal_linear(self, 0.01)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.avgpool(self.features(x))
        return self.classifier(F.flatten(x, 1))


class CifarVGG(nn.Module):
    """A small VGG for images of 32 × 32: six 3×3 convolutions, one fully connected layer.

    Convolutions of 32, 32, 64, 64, 128, 128 channels with a 2×2 maximum after each pair.

    Args:
        num_classes: outputs, one logit a class.
        in_channels: channels of the images.
    Input: (n, in_channels, 32, 32). Output: logits (n, num_classes).
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        stages = (32, 32, POOL, 64, 64, POOL, 128, 128, POOL)
        self.features = features(stages, in_channels, batch_norm=False)
        self.classifier = nn.Linear(128 * 4 * 4, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, 32, 32)."""
        return self.classifier(F.flatten(self.features(x), 1))


vgg11 = partial(VGG, 11)
vgg13 = partial(VGG, 13)
vgg16 = partial(VGG, 16)
vgg19 = partial(VGG, 19)
vgg11_bn = partial(VGG, 11, batch_norm=True)
vgg13_bn = partial(VGG, 13, batch_norm=True)
vgg16_bn = partial(VGG, 16, batch_norm=True)
vgg19_bn = partial(VGG, 19, batch_norm=True)
cifar_vgg = CifarVGG
