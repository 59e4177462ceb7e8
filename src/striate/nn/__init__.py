"""Networks in torch.nn's vocabulary: modules, layers, losses, functions, initialisers.

Names, defaults and state-dict names are torch's; what is not supported raises an error that says
what to do. A module is traced into a graph and runs as one program; there is no eager autograd.
"""

from __future__ import annotations

from typing import NoReturn

from striate.errors import suggest
from striate.nn import functional, init, scalar
from striate.nn.activation import ReLU, Scalar, ScaledTanh, Sigmoid, Softmax, Tanh
from striate.nn.container import ModuleDict, ModuleList, Sequential
from striate.nn.conv import Conv2d
from striate.nn.graph_module import GraphModule
from striate.nn.linear import Linear
from striate.nn.loss import CrossEntropyLoss, MSELoss
from striate.nn.module import Module
from striate.nn.parameter import Parameter
from striate.nn.pool import AvgPool2d, MaxPool2d
from striate.nn.structure import Dropout, Flatten, Identity

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GraphModule",
    "Identity",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Scalar",
    "ScaledTanh",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "functional",
    "init",
    "scalar",
]


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"striate.nn has no {name!r}. {suggest(name, __all__)}")
