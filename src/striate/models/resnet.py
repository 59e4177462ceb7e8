"""Residual networks: ResNet-18 … 152, ResNeXt and wide ones for photographs, and for 32 × 32.

Names and arguments of the former are torchvision's, so its checkpoints load by name; as there, the
stride of a bottleneck sits on its 3×3 convolution. The CIFAR networks join stages by 1×1
projections, where the paper pads with zero channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from striate import nn
from striate.errors import OptionError
from striate.models.starts import constructor, kaiming_fan_out
from striate.nn import functional as F
from striate.nn import init

Norm = Callable[[int], nn.Module]


def conv3x3(
    in_planes: int, out_planes: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Conv2d:
    """A 3×3 convolution without bias that keeps the size at stride 1."""
    sizes = (in_planes, out_planes, 3, stride, dilation, dilation, groups)
    return nn.Conv2d(*sizes, bias=False)


class BasicBlock(nn.Module):
    """`relu(x + bn(conv3×3(relu(bn(conv3×3(x))))))`, x passed through `downsample` if given.

    Args:
        inplanes: channels of x.
        planes: channels of both convolutions and of the result.
        stride: of the first convolution.
        downsample: what makes x fit the result; None where it does.
        groups, base_width, dilation: 1, 64 and 1: only `Bottleneck` takes others.
        norm_layer: makes the normalisation of a number of channels; batch norm by default.
    Input: (n, inplanes, h, w). Output: (n, planes, h/stride, w/stride).
    """

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Norm | None = None,
    ) -> None:
        super().__init__()
        if (groups, base_width, dilation) != (1, 64, 1):
            raise OptionError(
                "BasicBlock: expected groups=1, base_width=64, dilation=1; got "
                f"groups={groups}, base_width={base_width}, dilation={dilation}. Use Bottleneck."
            )
        norm = norm_layer or nn.BatchNorm2d
        self.conv1 = conv3x3(inplanes, planes, stride)
        self.bn1 = norm(planes)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = norm(planes)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Any) -> Any:
        """The block's output for x."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A block of 1×1, 3×3 and 1×1 convolutions that ends in four times as many channels.

    Args:
        inplanes: channels of x.
        planes: a quarter of the result's channels.
        stride: of the 3×3 convolution.
        downsample: what makes x fit the result; None where it does.
        groups: of the 3×3 convolution, which has ⌊planes·base_width/64⌋·groups channels.
        base_width: see there.
        dilation: of the 3×3 convolution.
        norm_layer: makes the normalisation of a number of channels; batch norm by default.
    Input: (n, inplanes, h, w). Output: (n, 4·planes, h/stride, w/stride).
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Norm | None = None,
    ) -> None:
        super().__init__()
        norm = norm_layer or nn.BatchNorm2d
        width, wide = int(planes * base_width / 64) * groups, planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv3x3(width, width, stride, groups, dilation)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, wide, 1, bias=False)
        self.bn3 = norm(wide)
        self.relu = nn.ReLU()
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Any) -> Any:
        """The block's output for x."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


Block = type[BasicBlock] | type[Bottleneck]


class _Stages:
    """Makes the stages one after the other; each begins where the one before ended."""

    def __init__(
        self, block: Block, inplanes: int, norm: Norm, groups: int = 1, base_width: int = 64
    ) -> None:
        self.block, self.inplanes, self.norm = block, inplanes, norm
        self.groups, self.base_width, self.dilation = groups, base_width, 1

    def stage(self, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> Any:
        """A row of blocks, the first with the stride, or with wider taps in its place."""
        before, wide = self.dilation, planes * self.block.expansion
        if dilate:
            self.dilation, stride = self.dilation * stride, 1
        downsample = None
        if stride != 1 or self.inplanes != wide:
            conv = nn.Conv2d(self.inplanes, wide, 1, stride=stride, bias=False)
            downsample = nn.Sequential(conv, self.norm(wide))
        shared = (self.groups, self.base_width)
        first = self.block(self.inplanes, planes, stride, downsample, *shared, before, self.norm)
        self.inplanes = wide
        rest = (wide, planes, 1, None, *shared, self.dilation, self.norm)
        return nn.Sequential(first, *(self.block(*rest) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """A residual network for photographs: a 7×7 convolution, a pooling, four stages of blocks.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        layers: blocks of each of the four stages.
        num_classes: outputs, one logit a class.
        zero_init_residual: whether each block at first passes its input on.
        groups: of the 3×3 convolutions of bottlenecks (ResNeXt).
        width_per_group: their channels in the first stage, each group's.
        replace_stride_with_dilation: for each of the last three stages, whether its taps go
            apart in the place of a stride.
        norm_layer: makes the normalisation of a number of channels; batch norm by default.
        in_channels: channels of the images.
    Input: (n, in_channels, h, w) of any size; (224, 224) is usual. Output: logits
        (n, num_classes).
    Raises:
        OptionError: `replace_stride_with_dilation` has not three entries.
    Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, arXiv:1512.03385;
        ResNeXt: Xie et al., arXiv:1611.05431; wide: Zagoruyko & Komodakis, arXiv:1605.07146.
    """

    def __init__(
        self,
        block: Block,
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: Sequence[bool] | None = None,
        norm_layer: Norm | None = None,
        *,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        dilate = tuple(replace_stride_with_dilation or (False,) * 3)
        if len(dilate) != 3:
            raise OptionError(
                "ResNet: expected replace_stride_with_dilation as three of True and False; got "
                f"replace_stride_with_dilation={replace_stride_with_dilation!r}."
            )
        norm = norm_layer or nn.BatchNorm2d
        stages = _Stages(block, 64, norm, groups, width_per_group)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stages.stage(64, layers[0])  # (n, 64·expansion, 56, 56) of 224
        self.layer2 = stages.stage(128, layers[1], 2, dilate[0])
        self.layer3 = stages.stage(256, layers[2], 2, dilate[1])
        self.layer4 = stages.stage(512, layers[3], 2, dilate[2])  # (n, 512·expansion, 7, 7)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        kaiming_fan_out(self)
        if zero_init_residual:
            _pass_on(self)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.flatten(self.avgpool(x), 1))


def _pass_on(net: nn.Module) -> None:
    """Let each block be its shortcut at first: the last norm of its branch multiplies by 0."""
    for module in net.modules():
        last: Any = None
        if isinstance(module, BasicBlock):
            last = module.bn2
        elif isinstance(module, Bottleneck):
            last = module.bn3
        if getattr(last, "weight", None) is not None:
            init.zeros_(last.weight)


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
        stages = _Stages(BasicBlock, 16, nn.BatchNorm2d)
        self.conv1 = conv3x3(in_channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stages.stage(16, blocks)  # (n, 16, 32, 32)
        self.layer2 = stages.stage(32, blocks, 2)  # (n, 32, 16, 16)
        self.layer3 = stages.stage(64, blocks, 2)  # (n, 64, 8, 8)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, num_classes)
        kaiming_fan_out(self)

    def forward(self, x: Any) -> Any:
        """Logits (n, num_classes) of images x (n, in_channels, h, w)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.flatten(self.avgpool(x), 1))


def _resnet(name: str, text: str, block: Block, layers: Sequence[int], **usual: int) -> Any:
    def make(**options: Any) -> ResNet:
        return ResNet(block, layers, **{**usual, **options})

    return constructor(name, text, make)


resnet18 = _resnet("resnet18", "ResNet-18.", BasicBlock, (2, 2, 2, 2))
resnet34 = _resnet("resnet34", "ResNet-34.", BasicBlock, (3, 4, 6, 3))
resnet50 = _resnet("resnet50", "ResNet-50.", Bottleneck, (3, 4, 6, 3))
resnet101 = _resnet("resnet101", "ResNet-101.", Bottleneck, (3, 4, 23, 3))
resnet152 = _resnet("resnet152", "ResNet-152.", Bottleneck, (3, 8, 36, 3))
resnext50_32x4d = _resnet(
    "resnext50_32x4d",
    "ResNeXt-50: ResNet-50 with 3×3 convolutions in 32 groups.",
    Bottleneck,
    (3, 4, 6, 3),
    groups=32,
    width_per_group=4,
)
wide_resnet50_2 = _resnet(
    "wide_resnet50_2",
    "ResNet-50 with twice as many channels inside its bottlenecks.",
    Bottleneck,
    (3, 4, 6, 3),
    width_per_group=128,
)


def _cifar(layers: int) -> Any:
    make = partial(CifarResNet, (layers - 2) // 6)
    return constructor(f"resnet{layers}", f"ResNet-{layers} for images of 32 × 32.", make)


resnet20, resnet32, resnet56 = map(_cifar, (20, 32, 56))
