"""EfficientNet-B0 … B7: inverted residual blocks with squeeze-and-excitation, scaled together.

Names and arguments are torchvision's, so its checkpoints load by name. The second version, with
its fused blocks, is not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.models.blocks import (
    Conv2dNormActivation,
    Layer,
    SqueezeExcitation,
    StochasticDepth,
    whole_eights,
)
from striate.models.starts import constructor, kaiming_fan_out
from striate.nn import functional as F
from striate.nn import init


@dataclass
class MBConvConfig:
    """One stage: a row of equal blocks; B1 … B7 multiply its widths and its length.

    Args:
        expand_ratio: how many times as many channels a block has inside.
        kernel: of the depthwise convolution, pixels.
        stride: of the first block.
        input_channels: before the multiplication.
        out_channels: before the multiplication.
        num_layers: blocks, before the multiplication.
        width_mult: factor of the channels; the results are multiples of 8.
        depth_mult: factor of the blocks, rounded up.
    """

    expand_ratio: float
    kernel: int
    stride: int
    input_channels: int
    out_channels: int
    num_layers: int
    width_mult: float = 1.0
    depth_mult: float = 1.0

    def __post_init__(self) -> None:
        self.input_channels = self.adjust_channels(self.input_channels, self.width_mult)
        self.out_channels = self.adjust_channels(self.out_channels, self.width_mult)
        self.num_layers = math.ceil(self.num_layers * self.depth_mult)

    @staticmethod
    def adjust_channels(channels: float, width_mult: float) -> int:
        """A number of channels, multiplied and a multiple of 8."""
        return whole_eights(channels * width_mult)


class MBConv(nn.Module):
    """1×1 to more channels, depthwise convolution, squeeze-and-excitation, 1×1 back to few.

    Args:
        inp: channels of x.
        oup: channels of the result.
        kernel: of the depthwise convolution, pixels.
        stride: of the depthwise convolution.
        expand_ratio: how many times as many channels it has as x.
        drop: the share of the samples that leave the block out in training.
        norm_layer: makes the normalisation of a number of channels.
    Input: (n, inp, h, w). Output: (n, oup, h/stride, w/stride); x is added where shapes agree.
    """

    def __init__(
        self,
        inp: int,
        oup: int,
        kernel: int,
        stride: int,
        expand_ratio: float,
        drop: float,
        norm_layer: Layer,
    ) -> None:
        super().__init__()
        wide = whole_eights(inp * expand_ratio)
        parts: dict[str, Any] = {"norm_layer": norm_layer, "activation_layer": nn.SiLU}
        layers: list[nn.Module] = []
        if wide != inp:
            layers.append(Conv2dNormActivation(inp, wide, 1, **parts))
        layers += [
            Conv2dNormActivation(wide, wide, kernel, stride, groups=wide, **parts),
            SqueezeExcitation(wide, max(1, inp // 4), activation=nn.SiLU),
            Conv2dNormActivation(wide, oup, 1, norm_layer=norm_layer, activation_layer=None),
        ]
        self.use_res_connect = stride == 1 and inp == oup
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)
        self.out_channels = oup

    def forward(self, x: Any) -> Any:
        """The block's output for x."""
        y = self.block(x)
        return self.stochastic_depth(y) + x if self.use_res_connect else y


class EfficientNet(nn.Module):
    """EfficientNet.

    Args:
        inverted_residual_setting: a `MBConvConfig` for each stage.
        dropout: the share that the last layer drops of its inputs.
        stochastic_depth_prob: the share of the samples that leave the last block out in training;
            for the blocks before it rises from 0 in equal steps.
        num_classes: outputs, one logit a class.
        norm_layer: makes the normalisation of a number of channels; batch norm by default.
        last_channel: channels of the last convolution; four times the last stage's by default.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w) of any size; (224, 224) is usual for B0. Output: logits
        (n, num_classes).
    Raises:
        OptionError: `inverted_residual_setting` is not of `MBConvConfig`s.
    Source: Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks,
        arXiv:1905.11946.
    """

    def __init__(
        self,
        inverted_residual_setting: Sequence[MBConvConfig],
        dropout: float,
        stochastic_depth_prob: float = 0.2,
        num_classes: int = 1000,
        norm_layer: Layer | None = None,
        last_channel: int | None = None,
        *,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        stages = list(inverted_residual_setting)
        if not stages or not all(isinstance(stage, MBConvConfig) for stage in stages):
            raise OptionError(
                "EfficientNet: expected inverted_residual_setting as a list of MBConvConfig; got "
                f"{inverted_residual_setting!r}."
            )
        norm = norm_layer or nn.BatchNorm2d
        parts: dict[str, Any] = {"norm_layer": norm, "activation_layer": nn.SiLU}
        width, last = stages[0].input_channels, stages[-1].out_channels
        wide = 4 * last if last_channel is None else last_channel
        self.features = nn.Sequential(
            Conv2dNormActivation(in_channels, width, 3, 2, **parts),
            *_rows(stages, stochastic_depth_prob, norm),
            Conv2dNormActivation(last, wide, 1, **parts),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(wide, num_classes))
        kaiming_fan_out(self)
        bound = 1 / math.sqrt(num_classes)
        init.uniform_(self.classifier[1].weight, -bound, bound)
        init.zeros_(self.classifier[1].bias)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.avgpool(self.features(x))
        return self.classifier(F.flatten(x, 1))


def _rows(stages: Sequence[MBConvConfig], drop: float, norm: Layer) -> list[nn.Module]:
    """The stages' blocks; the share of samples that leave one out rises from block to block."""
    total, place = sum(stage.num_layers for stage in stages), 0
    rows: list[nn.Module] = []
    for stage in stages:
        row: list[nn.Module] = []
        for k in range(stage.num_layers):
            inp, stride = (
                (stage.input_channels, stage.stride) if k == 0 else (stage.out_channels, 1)
            )
            shape = (inp, stage.out_channels, stage.kernel, stride, stage.expand_ratio)
            row.append(MBConv(*shape, drop * place / total, norm))
            place += 1
        rows.append(nn.Sequential(*row))
    return rows


# Expansion, kernel, stride, input and output channels and blocks of B0's stages.
STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
# Factors of width and depth, dropout, and the size of the images that it was trained on.
SCALES = {
    0: (1.0, 1.0, 0.2, 224),
    1: (1.0, 1.1, 0.2, 240),
    2: (1.1, 1.2, 0.3, 288),
    3: (1.2, 1.4, 0.3, 300),
    4: (1.4, 1.8, 0.4, 380),
    5: (1.6, 2.2, 0.4, 456),
    6: (1.8, 2.6, 0.5, 528),
    7: (2.0, 3.1, 0.5, 600),
}


def _efficientnet(scale: int) -> Any:
    width, depth, dropout, _ = SCALES[scale]

    def make(**options: Any) -> EfficientNet:
        stages = [MBConvConfig(*stage, width, depth) for stage in STAGES]
        usual: dict[str, Any] = {"dropout": dropout}
        if scale >= 5:  # trained elsewhere, with other settings of batch norm
            usual["norm_layer"] = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        return EfficientNet(stages, **{**usual, **options})

    return constructor(f"efficientnet_b{scale}", f"EfficientNet-B{scale}.", make)


(
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
) = map(_efficientnet, SCALES)
