"""MobileNet-v2: inverted residual blocks with depthwise convolutions; 3,504,872 parameters.

Names and arguments are torchvision's, so its checkpoints load by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.models.blocks import Conv2dNormActivation, Layer, whole_eights
from striate.models.starts import constructor, kaiming_fan_out, normal_linear
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


class InvertedResidual(nn.Module):
    """1×1 to more channels, depthwise 3×3, 1×1 back to few; x is added where shapes agree.

    Args:
        inp: channels of x.
        oup: channels of the result.
        stride: of the depthwise convolution, 1 or 2.
        expand_ratio: how many times as many channels the depthwise convolution has as x.
        norm_layer: makes the normalisation of a number of channels; batch norm by default.
    Input: (n, inp, h, w). Output: (n, oup, h/stride, w/stride).
    """

    def __init__(
        self, inp: int, oup: int, stride: int, expand_ratio: int, norm_layer: Layer | None = None
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise OptionError(f"InvertedResidual: expected stride 1 or 2; got stride={stride!r}.")
        norm, wide = norm_layer or nn.BatchNorm2d, round(inp * expand_ratio)
        parts: dict[str, Any] = {"norm_layer": norm, "activation_layer": nn.ReLU6}
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(Conv2dNormActivation(inp, wide, 1, **parts))
        layers += [
            Conv2dNormActivation(wide, wide, 3, stride, groups=wide, **parts),
            nn.Conv2d(wide, oup, 1, bias=False),
            norm(oup),
        ]
        self.stride = stride
        self.use_res_connect = stride == 1 and inp == oup
        self.conv = nn.Sequential(*layers)
        self.out_channels = oup

    def forward(self, x: Any) -> Any:
        """The block's output for x."""
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNet-v2.

    Args:
        num_classes: outputs, one logit a class.
        width_mult: factor of every number of channels; the results are multiples of 8.
        inverted_residual_setting: expansion, channels, blocks and stride of each stage.
        round_nearest: what the numbers of channels are multiples of.
        block: what is made in the place of `InvertedResidual`.
        norm_layer: makes the normalisation of a number of channels; batch norm by default.
        dropout: the share that the last layer drops of its inputs.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w) of any size; (224, 224) is usual. Output: logits
        (n, num_classes).
    Raises:
        OptionError: `inverted_residual_setting` is not of rows of four.
    Source: Sandler, Howard, Zhu, Zhmoginov, Chen, MobileNetV2: Inverted Residuals and Linear
        Bottlenecks, arXiv:1801.04381.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[int]] | None = None,
        round_nearest: int = 8,
        block: Layer | None = None,
        norm_layer: Layer | None = None,
        dropout: float = 0.2,
        *,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        stages = STAGES if inverted_residual_setting is None else inverted_residual_setting
        if not stages or any(len(stage) != 4 for stage in stages):
            raise OptionError(
                "MobileNetV2: expected inverted_residual_setting as rows of expansion, channels, "
                f"blocks, stride; got {inverted_residual_setting!r}."
            )
        block, norm = block or InvertedResidual, norm_layer or nn.BatchNorm2d
        parts: dict[str, Any] = {"norm_layer": norm, "activation_layer": nn.ReLU6}
        channels = whole_eights(32 * width_mult, round_nearest)
        last = whole_eights(1280 * max(1.0, width_mult), round_nearest)
        layers: list[nn.Module] = [Conv2dNormActivation(in_channels, channels, stride=2, **parts)]
        for expansion, width, blocks, first in stages:
            out_channels = whole_eights(width * width_mult, round_nearest)
            for place in range(blocks):
                stride = first if place == 0 else 1
                layers.append(block(channels, out_channels, stride, expansion, norm_layer=norm))
                channels = out_channels
        layers.append(Conv2dNormActivation(channels, last, 1, **parts))
        self.last_channel = last
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        kaiming_fan_out(self)
        normal_linear(self, 0.01)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.avgpool(self.features(x))
        return self.classifier(F.flatten(x, 1))


mobilenet_v2 = constructor("mobilenet_v2", "MobileNet-v2.", MobileNetV2)
