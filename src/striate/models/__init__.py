"""The classic networks, by name. Each file holds one family and its source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from striate.errors import OptionError, suggest
from striate.models.alexnet import AlexNet, alexnet
from striate.models.googlenet import GoogLeNet, googlenet
from striate.models.lenet import LeNet5, lenet5
from striate.models.mobilenet import MobileNetV2, mobilenet_v2
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
)
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
    "MODELS",
    "VGG",
    "AlexNet",
    "CifarResNet",
    "CifarVGG",
    "GoogLeNet",
    "LeNet5",
    "MobileNetV2",
    "ResNet",
    "SqueezeNet",
    "UNet",
    "alexnet",
    "build",
    "cifar_vgg",
    "googlenet",
    "lenet5",
    "mobilenet_v2",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet152",
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
]

_PHOTOGRAPHS: dict[str, Callable[..., Module]] = {
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
    "squeezenet1_0": squeezenet1_0,
    "squeezenet1_1": squeezenet1_1,
    "mobilenet_v2": mobilenet_v2,
}
_SMALL: dict[str, Callable[..., Module]] = {
    "cifar_vgg": cifar_vgg,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
}
MODELS: dict[str, Callable[..., Module]] = {
    "lenet5": lenet5,
    **_PHOTOGRAPHS,
    **_SMALL,
    "unet": unet,
}
_USUAL: dict[str, tuple[int, int, int]] = {
    "lenet5": (1, 28, 28),
    **dict.fromkeys(_PHOTOGRAPHS, (3, 224, 224)),
    **dict.fromkeys(_SMALL, (3, 32, 32)),
    "unet": (1, 256, 256),
}


def build(name: str, **options: Any) -> Module:
    """The network with a name, freshly initialised.

    Args:
        name: a key of `MODELS`.
        options: what that network takes (`num_classes=10`).
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
