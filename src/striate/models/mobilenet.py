"""MobileNet-v2: inverted residual blocks with depthwise convolutions; 3,504,872 parameters.

Names and sizes are torchvision's, so its checkpoints load.
"""

from __future__ import annotations

from typing import Any

from striate import nn
from striate.models.starts import kaiming_fan_out, normal_linear
from striate.nn import functional as F

# Expansion, output channels, blocks and stride of the first block of each stage.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def whole_eights(channels: float) -> int:
    """The multiple of 8 nearest to a number of channels, not less than 0.9 of it.

    >>> whole_eights(24.0), whole_eights(18.0), whole_eights(3.0)
    (24, 24, 8)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class ConvNormActivation(nn.Sequential):
    """A convolution without bias that keeps the size at stride 1, batch norm, ReLU6.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result.
        kernel_size: pixels, odd.
        stride: pixels.
        groups: independent groups of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        padding = (kernel_size - 1) // 2
        super().__init__(
            nn.Conv2d(
                in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """1×1 to more channels, depthwise 3×3, 1×1 back to few; x is added where shapes agree.

    Args:
        in_channels: channels of x.
        out_channels: channels of the result.
        stride: of the depthwise convolution.
        expansion: how many times as many channels the depthwise convolution has as x.
    Input: (n, in_channels, h, w). Output: (n, out_channels, h/stride, w/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNormActivation(in_channels, wide, 1))
        layers += [
            ConvNormActivation(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Any:
        """The block's output for x."""
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNet-v2.

    Args:
        num_classes: outputs, one logit a class.
        in_channels: channels of the images.
        width_mult: factor of every number of channels; the results are multiples of 8.
        dropout: the share that the last layer drops of its inputs.
    Input: (n, in_channels, h, w) of any size; (224, 224) is usual. Output: logits
        (n, num_classes).
    Source: Sandler, Howard, Zhu, Zhmoginov, Chen, MobileNetV2: Inverted Residuals and Linear
        Bottlenecks, arXiv:1801.04381.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width_mult: float = 1.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels = whole_eights(32 * width_mult)
        layers: list[nn.Module] = [ConvNormActivation(in_channels, channels, stride=2)]
        for expansion, width, blocks, first in STAGES:
            out_channels = whole_eights(width * width_mult)
            for block in range(blocks):
                stride = first if block == 0 else 1
                layers.append(InvertedResidual(channels, out_channels, stride, expansion))
                channels = out_channels
        last = whole_eights(1280 * max(1.0, width_mult))
        layers.append(ConvNormActivation(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        kaiming_fan_out(self)
        normal_linear(self, 0.01)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.avgpool(self.features(x))
        return self.classifier(F.flatten(x, 1))


mobilenet_v2 = MobileNetV2
