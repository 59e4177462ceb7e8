"""Networks in torch.nn's vocabulary: modules, layers, losses, functions, initialisers.

Names, defaults and state-dict names are torch's; what is not supported raises an error that says
what to do. A module is traced into a graph and runs as one program; there is no eager autograd.
"""

from __future__ import annotations

from typing import NoReturn

from striate.errors import suggest
from striate.nn import functional, init, scalar
from striate.nn.activation import (
    GELU,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    ReLU,
    ReLU6,
    Scalar,
    ScaledTanh,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from striate.nn.container import ModuleDict, ModuleList, Sequential
from striate.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    SeparableConv1d,
    SeparableConv2d,
)
from striate.nn.graph_module import GraphModule
from striate.nn.layout import Permute
from striate.nn.linear import Linear
from striate.nn.local import (
    LocallyConnected1d,
    LocallyConnected2d,
    LocallyConnected3d,
    LocallyConnectedTranspose1d,
    LocallyConnectedTranspose2d,
    LocallyConnectedTranspose3d,
    TiledConv1d,
    TiledConv2d,
    TiledConv3d,
)
from striate.nn.loss import (
    CrossEntropyLoss,
    FocalCrossEntropyLoss,
    Loss,
    MultiMarginLoss,
    NLLLoss,
    OperationLoss,
)
from striate.nn.loss_images import (
    CTCLoss,
    DiceLoss,
    GramMatrix,
    JaccardLoss,
    StyleLoss,
    TotalVariation,
    TverskyLoss,
)
from striate.nn.loss_scalar import (
    BCELoss,
    BCEWithLogitsLoss,
    ContentLoss,
    HingeEmbeddingLoss,
    HingeLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    MultiLabelSoftMarginLoss,
    PoissonNLLLoss,
    ScalarLoss,
    SigmoidFocalLoss,
    SmoothL1Loss,
    SoftMarginLoss,
)
from striate.nn.module import Module
from striate.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, LocalResponseNorm
from striate.nn.padding import (
    CenterCrop,
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    ZeroPad1d,
    ZeroPad2d,
    ZeroPad3d,
)
from striate.nn.parameter import Parameter
from striate.nn.pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from striate.nn.structure import Dropout, Flatten, Identity

__all__ = [
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CTCLoss",
    "CenterCrop",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ContentLoss",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "DiceLoss",
    "Dropout",
    "Flatten",
    "FocalCrossEntropyLoss",
    "GramMatrix",
    "GraphModule",
    "Hardsigmoid",
    "Hardswish",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "Identity",
    "JaccardLoss",
    "KLDivLoss",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LocallyConnected1d",
    "LocallyConnected2d",
    "LocallyConnected3d",
    "LocallyConnectedTranspose1d",
    "LocallyConnectedTranspose2d",
    "LocallyConnectedTranspose3d",
    "Loss",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "OperationLoss",
    "Parameter",
    "Permute",
    "PoissonNLLLoss",
    "ReLU",
    "ReLU6",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Scalar",
    "ScalarLoss",
    "ScaledTanh",
    "SeparableConv1d",
    "SeparableConv2d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SigmoidFocalLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "StyleLoss",
    "Tanh",
    "TiledConv1d",
    "TiledConv2d",
    "TiledConv3d",
    "TotalVariation",
    "TverskyLoss",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
    "functional",
    "init",
    "scalar",
]


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"striate.nn has no {name!r}. {suggest(name, __all__)}")
