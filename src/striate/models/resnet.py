"""Residual networks: ResNet-18 … 152 for photographs, ResNet-20, 32 and 56 for 32 × 32 images.

Names and sizes of the former are torchvision's, so its checkpoints load; as there, the stride of a
bottleneck sits on its 3×3 convolution. The CIFAR networks join stages by 1×1 projections, where
the paper pads with zero channels; checkpoints of that form load by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from striate import nn
from striate.models.starts import kaiming_fan_out
from striate.nn import functional as F


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """What makes the input fit the block's output; None where it fits already."""
    if stride == 1 and in_channels == out_channels:
        return None
    conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """`relu(x + bn(conv3×3(relu(bn(conv3×3(x))))))`, x projected where its shape changes.

    Args:
        in_channels: channels of x.
        channels: channels of both convolutions and of the result.
        stride: of the first convolution.
    Input: (n, in_channels, h, w). Output: (n, channels, h/stride, w/stride).
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Any) -> Any:
        """The block's output for x."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A block of 1×1, 3×3 and 1×1 convolutions that ends in four times as many channels.

    Args:
        in_channels: channels of x.
        channels: channels of the first two convolutions; the result has four times as many.
        stride: of the 3×3 convolution.
    Input: (n, in_channels, h, w). Output: (n, 4·channels, h/stride, w/stride).
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        wide = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU()
        self.downsample = _projection(in_channels, wide, stride)

    def forward(self, x: Any) -> Any:
        """The block's output for x."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


Block = type[BasicBlock] | type[Bottleneck]


def _stage(
    block: Block, in_channels: int, channels: int, blocks: int, stride: int
) -> nn.Sequential:
    wide = channels * block.expansion
    first = block(in_channels, channels, stride)
    return nn.Sequential(first, *(block(wide, channels) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """A residual network for photographs: a 7×7 convolution, a pooling, four stages of blocks.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        blocks: blocks of each of the four stages.
        num_classes: outputs, one logit a class.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w) of any size; (224, 224) is usual. Output: logits
        (n, num_classes).
    Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, arXiv:1512.03385.
    """

    def __init__(
        self,
        block: Block,
        blocks: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        wide = block.expansion
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, 64, 64, blocks[0], 1)  # (n, 64·wide, 56, 56) of 224
        self.layer2 = _stage(block, 64 * wide, 128, blocks[1], 2)
        self.layer3 = _stage(block, 128 * wide, 256, blocks[2], 2)
        self.layer4 = _stage(block, 256 * wide, 512, blocks[3], 2)  # (n, 512·wide, 7, 7)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * wide, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.flatten(self.avgpool(x), 1))


class CifarResNet(nn.Module):
    """A residual network for images of 32 × 32: three stages of 16, 32 and 64 channels.

    Args:
        blocks: blocks a stage; the network has 6·blocks + 2 layers.
        num_classes: outputs, one logit a class.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w) of any size; (32, 32) is usual. Output: logits (n, num_classes).
    Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, arXiv:1512.03385,
        section 4.2; the stages are joined by projections (its option B).
    """

    def __init__(self, blocks: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(BasicBlock, 16, 16, blocks, 1)  # (n, 16, 32, 32)
        self.layer2 = _stage(BasicBlock, 16, 32, blocks, 2)  # (n, 32, 16, 16)
        self.layer3 = _stage(BasicBlock, 32, 64, blocks, 2)  # (n, 64, 8, 8)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.flatten(self.avgpool(x), 1))


resnet18 = partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, Bottleneck, (3, 4, 23, 3))
resnet152 = partial(ResNet, Bottleneck, (3, 8, 36, 3))
resnet20 = partial(CifarResNet, 3)
resnet32 = partial(CifarResNet, 5)
resnet56 = partial(CifarResNet, 9)
