"""The classic networks, by name; networks from one line of text; classifiers that slide.

Each file holds one family and its source. `build` makes a network by its name, `from_pattern` one
from a line of text, `convolutionalize` lets a classifier slide over larger images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.errors import OptionError, suggest
from striate.models.alexnet import AlexNet, AlexNet2012, alexnet, alexnet_2012
from striate.models.efficientnet import (
    SCALES,
    EfficientNet,
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
)
from striate.models.fcn import FCN, fcn8s, fcn16s, fcn32s
from striate.models.googlenet import GoogLeNet, WithHeads, googlenet
from striate.models.lenet import LeNet5, lenet5
from striate.models.lenet_1998 import LeNet1998, lenet5_1998
from striate.models.mobilenet import MobileNetV2, mobilenet_v2
from striate.models.pattern import PatternNet, from_pattern, small_stack
from striate.models.resnet import (
    CifarResNet,
    ResNet,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet50,
    resnet56,
    resnet101,
    resnet152,
    resnext50_32x4d,
    wide_resnet50_2,
)
from striate.models.sliding import SlidingClassifier, convolutionalize
from striate.models.squeezenet import SqueezeNet, squeezenet1_0, squeezenet1_1
from striate.models.unet import UNet, unet
from striate.models.vgg import (
    VGG,
    CifarVGG,
    cifar_vgg,
    vgg11,
    vgg11_bn,
    vgg13,
    vgg13_bn,
    vgg16,
    vgg16_bn,
    vgg19,
    vgg19_bn,
)
from striate.nn.module import Module

__all__ = [
    "FCN",
    "MODELS",
    "VGG",
    "AlexNet",
    "AlexNet2012",
    "CifarResNet",
    "CifarVGG",
    "EfficientNet",
    "GoogLeNet",
    "LeNet5",
    "LeNet1998",
    "MobileNetV2",
    "PatternNet",
    "ResNet",
    "SlidingClassifier",
    "SqueezeNet",
    "UNet",
    "WithHeads",
    "alexnet",
    "alexnet_2012",
    "build",
    "cifar_vgg",
    "convolutionalize",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "from_pattern",
    "googlenet",
    "lenet5",
    "lenet5_1998",
    "mobilenet_v2",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "small_stack",
    "squeezenet1_0",
    "squeezenet1_1",
    "unet",
    "usual_input",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "wide_resnet50_2",
]

Constructor = Callable[..., Module]
_PHOTOGRAPHS: dict[str, Constructor] = {
    "alexnet": alexnet,
    "vgg11": vgg11,
    "vgg13": vgg13,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "vgg11_bn": vgg11_bn,
    "vgg13_bn": vgg13_bn,
    "vgg16_bn": vgg16_bn,
    "vgg19_bn": vgg19_bn,
    "googlenet": googlenet,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "resnext50_32x4d": resnext50_32x4d,
    "wide_resnet50_2": wide_resnet50_2,
    "squeezenet1_0": squeezenet1_0,
    "squeezenet1_1": squeezenet1_1,
    "mobilenet_v2": mobilenet_v2,
}
_EFFICIENT: dict[str, Constructor] = {
    "efficientnet_b0": efficientnet_b0,
    "efficientnet_b1": efficientnet_b1,
    "efficientnet_b2": efficientnet_b2,
    "efficientnet_b3": efficientnet_b3,
    "efficientnet_b4": efficientnet_b4,
    "efficientnet_b5": efficientnet_b5,
    "efficientnet_b6": efficientnet_b6,
    "efficientnet_b7": efficientnet_b7,
}
_SMALL: dict[str, Constructor] = {
    "cifar_vgg": cifar_vgg,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
}
_DENSE: dict[str, Constructor] = {"fcn32s": fcn32s, "fcn16s": fcn16s, "fcn8s": fcn8s}
MODELS: dict[str, Constructor] = {
    "lenet5": lenet5,
    "lenet5_1998": lenet5_1998,
    "small_stack": small_stack,
    "alexnet_2012": alexnet_2012,
    **_PHOTOGRAPHS,
    **_EFFICIENT,
    **_SMALL,
    "unet": unet,
    **_DENSE,
}
_USUAL: dict[str, tuple[int, int, int]] = {
    "lenet5": (1, 28, 28),
    "lenet5_1998": (1, 28, 28),
    "small_stack": (3, 39, 39),
    "alexnet_2012": (3, 227, 227),
    **dict.fromkeys(_PHOTOGRAPHS, (3, 224, 224)),
    **{name: (3, SCALES[k][3], SCALES[k][3]) for k, name in enumerate(_EFFICIENT)},
    **dict.fromkeys(_SMALL, (3, 32, 32)),
    "unet": (1, 256, 256),
    **dict.fromkeys(_DENSE, (3, 500, 500)),
}


def build(name: str, **options: Any) -> Module:
    """The network with a name, freshly initialised.

    Args:
        name: a key of `MODELS`.
        options: what that network takes (`num_classes=10`, `weights="file.safetensors"` …).
    Raises:
        OptionError: there is no such network; the nearest name is suggested.

    >>> sum(p.numel() for p in build("lenet5").parameters())
    61706
    """
    return MODELS[_known(name)](**options)


def usual_input(name: str) -> tuple[int, int, int]:
    """The shape (channels, height, width) of the images that a network is mostly used on.

    Args:
        name: a key of `MODELS`.
    Raises:
        OptionError: there is no such network; the nearest name is suggested.

    >>> usual_input("resnet50")
    (3, 224, 224)
    """
    return _USUAL[_known(name)]


def _known(name: str) -> str:
    if name not in MODELS:
        raise OptionError(f"model: unknown network {name!r}. {suggest(name, MODELS)}")
    return name
