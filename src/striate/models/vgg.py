"""The VGG networks with 11, 13, 16 and 19 layers, with and without batch norm; and a small one.

Names and arguments are torchvision's, so its checkpoints load by name. `cifar_vgg` is the same
idea for images of 32 × 32 and is no published network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.models.starts import constructor, kaiming_fan_out, normal_linear
from striate.nn import functional as F

POOL = "M"
# Output channels of each 3×3 convolution, and POOL where a 2×2 maximum halves the image.
STAGES: dict[int, tuple[int | str, ...]] = {
    11: (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    13: (64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    16: (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL, *(512,) * 3, POOL, *(512,) * 3, POOL),
    19: (64, 64, POOL, 128, 128, POOL, *(256,) * 4, POOL, *(512,) * 4, POOL, *(512,) * 4, POOL),
}


def make_layers(
    cfg: Sequence[int | str], batch_norm: bool = False, *, in_channels: int = 3
) -> nn.Sequential:
    """3×3 convolutions with ReLU, and maxima of 2×2, numbered as torchvision numbers them.

    Args:
        cfg: output channels of each convolution; "M" for a pooling.
        batch_norm: whether each convolution is normalised.
        in_channels: channels of the images.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for width in cfg:
        if isinstance(width, str):
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
        features: what makes 512 channels of images, as `make_layers` gives it.
        num_classes: outputs, one logit a class.
        init_weights: whether weights are drawn as for ReLU networks, not as layers draw them.
        dropout: the share that the first two fully connected layers drop of their outputs.
    Input: (n, 3, h, w), h and w from 32; (224, 224) is usual. Output: logits (n, num_classes).
    Source: Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image
        Recognition, arXiv:1409.1556.
    """

    def __init__(
        self,
        features: nn.Module,
        num_classes: int = 1000,
        init_weights: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not isinstance(features, nn.Module):
            raise OptionError(
                f"VGG: expected features as a module; got {features!r}. Write "
                "VGG(make_layers(STAGES[16])), or vgg16()."
            )
        self.features = features
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
        if init_weights:
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
        self.features = make_layers(stages, in_channels=in_channels)
        self.classifier = nn.Linear(128 * 4 * 4, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, 32, 32)."""
        return self.classifier(F.flatten(self.features(x), 1))


def _vgg(layers: int, batch_norm: bool = False) -> Any:
    def make(in_channels: int = 3, **options: Any) -> VGG:
        features = make_layers(STAGES[layers], batch_norm, in_channels=in_channels)
        return VGG(features, **options)

    name = f"vgg{layers}{'_bn' * batch_norm}"
    text = f"VGG with {layers} layers{', batch norm after each convolution' * batch_norm}."
    return constructor(name, text, make)


vgg11, vgg13, vgg16, vgg19 = map(_vgg, (11, 13, 16, 19))
vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn = (_vgg(layers, True) for layers in (11, 13, 16, 19))
cifar_vgg = constructor("cifar_vgg", "A small VGG for images of 32 × 32.", CifarVGG)
