"""Activation layers for the contract test."""

from __future__ import annotations

from striate import nn
from striate.nn.scalar import exp

IMAGES = (2, 4, 6, 5)
_PLAIN = {
    "Mish": nn.Mish,
    "SELU": nn.SELU,
    "RReLU": nn.RReLU,
    "ELU": lambda: nn.ELU(0.7),
    "CELU": lambda: nn.CELU(0.7),
    "GELU-exact": nn.GELU,
    "Hardtanh": lambda: nn.Hardtanh(-0.5, 2.0),
    "Hardshrink": lambda: nn.Hardshrink(0.2),
    "Softshrink": lambda: nn.Softshrink(0.2),
    "Threshold": lambda: nn.Threshold(0.1, -3.0),
    "Softplus": lambda: nn.Softplus(2.0, 10.0),
    "LogSigmoid": nn.LogSigmoid,
    "Softsign": nn.Softsign,
    "Tanhshrink": nn.Tanhshrink,
    "BinaryStep": nn.BinaryStep,
    "SQNL": nn.SQNL,
    "Arctan": nn.Arctan,
    "Arsinh": nn.Arsinh,
    "ELiSH": nn.ELiSH,
    "BReLU": nn.BReLU,
    "ISRU": lambda: nn.ISRU(0.5),
    "ISRLU": lambda: nn.ISRLU(2.0),
    "PReLU": nn.PReLU,
    "PReLU-channels": lambda: nn.PReLU(4),
    "SReLU": nn.SReLU,
    "SReLU-channels": lambda: nn.SReLU(4),
    "APL": lambda: nn.APL(3),
    "APL-channels": lambda: nn.APL(2, 4),
    "Scalar-learned": lambda: nn.Scalar(
        lambda x, beta: x / (1 + exp(-beta * x)), "swish", {"beta": [1.0, 2.0, 0.5, 1.5]}
    ),
    "Softmax-channels": lambda: nn.Softmax(1),
    "Softmax-rows": lambda: nn.Softmax(-1),
    "LogSoftmax": lambda: nn.LogSoftmax(2),
    "Softmin": lambda: nn.Softmin(1),
    "Softmax2d": nn.Softmax2d,
}
LAYERS = {name: (make, IMAGES, IMAGES[1:]) for name, make in _PLAIN.items()} | {
    "GLU": (lambda: nn.GLU(1), IMAGES, (2, 6, 5)),
    "GLU-vectors": (nn.GLU, (2, 8), (4,)),
    "LogSoftmax-vectors": (lambda: nn.LogSoftmax(1), (2, 7), (7,)),
    "PReLU-vectors": (lambda: nn.PReLU(7), (2, 7), (7,)),
}
