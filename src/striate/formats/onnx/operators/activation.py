"""Activations: scalar functions, and softmax and its kin along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value
from striate.formula.activation import Activation, softshrink, threshold
from striate.formula.activation import celu as celu_of
from striate.formula.activation import elu as elu_of
from striate.formula.activation import leaky_relu as leaky_relu_of
from striate.formula.channel_map import prelu as prelu_attributes
from striate.formula.expression import exp, expm1, maximum, minimum, sigmoid, where

_PLAIN = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Atan": "arctan",
    "Asinh": "arsinh",
}
# name of the operator -> its function, from the attribute alpha; and alpha's default
_WITH_ALPHA: dict[str, tuple[Callable[[float], Activation], float]] = {
    "LeakyRelu": (leaky_relu_of, 0.01),
    "ThresholdedRelu": (lambda alpha: threshold(alpha, 0.0), 1.0),
    "Elu": (elu_of, 1.0),
    "Celu": (celu_of, 1.0),
}


@operator(*_PLAIN)
def plain(c: Call) -> Value:
    c.attribute("consumed_inputs")  # of operator set 1; without a meaning
    return c.activation(_PLAIN[c.op], c.value(0))


@operator(*_WITH_ALPHA)
def with_alpha(c: Call) -> Value:
    function, default = _WITH_ALPHA[c.op]
    c.attribute("consumed_inputs")
    return c.activation(function(float(c.attribute("alpha", default))), c.value(0))


@operator("Selu")
def selu(c: Call) -> Value:
    newer = c.opset >= 6  # the constants got more digits
    alpha = c.attribute("alpha", 1.67326319217681884765625 if newer else 1.6732)
    gamma = c.attribute("gamma", 1.05070102214813232421875 if newer else 1.0507)
    c.attribute("consumed_inputs")
    return c.map(lambda x: gamma * where(x > 0, x, alpha * expm1(minimum(x, 0))), c.value(0))


@operator("HardSigmoid")
def hard_sigmoid(c: Call) -> Value:
    alpha, beta = c.attribute("alpha", 0.2), c.attribute("beta", 0.5)
    c.attribute("consumed_inputs")
    return c.map(lambda x: maximum(0, minimum(1, alpha * x + beta)), c.value(0))


@operator("Shrink")
def shrink(c: Call) -> Value:
    bias, bound = c.attribute("bias", 0.0), c.attribute("lambd", 0.5)
    if bias == bound:
        return c.activation(softshrink(bound), c.value(0))
    return c.map(lambda x: where(x < -bound, x + bias, where(x > bound, x - bias, 0)), c.value(0))


@operator("Swish")
def swish(c: Call) -> Value:
    alpha = c.attribute("alpha", 1.0)
    if alpha == 1:
        return c.activation("silu", c.value(0))
    return c.map(lambda x: x * sigmoid(alpha * x), c.value(0))


@operator("SwiGLU")
def gated_swish(c: Call) -> Value:
    alpha = c.attribute("alpha", 1.0)
    return c.map(lambda a, b: a * sigmoid(alpha * a) * b, c.value(0), c.value(1))


@operator("Gelu")
def gelu(c: Call) -> Value:
    how = c.attribute("approximate", "none")
    if how not in ("none", "tanh"):
        c.refuse(f"approximate expected none or tanh; got {how!r}")
    return c.activation("gelu_tanh" if how == "tanh" else "gelu", c.value(0))


@operator("PRelu")
def prelu(c: Call) -> Value:
    x, slope = c.value(0), c.value(1)
    c.attribute("consumed_inputs")
    if c.opset < 9 and slope.rank == 1 and x.rank > 1:
        slope = c.reshape(slope, (slope.shape[0], *(1,) * (x.rank - 2)))
    count = math.prod(slope.shape)
    by_channel = x.rank > 1 and slope.shape == (x.shape[1], *(1,) * (x.rank - 2))
    if x.rank > 1 and (count == 1 or by_channel):
        weight = c.reshape(slope, (count,))
        return c.apply("channel_map", [x, weight], prelu_attributes(), whole=False)
    return c.map(lambda a, b: where(a < 0, a * b, a), x, slope)


@operator("Clip", since=6)
def clip(c: Call) -> Value:
    x = c.value(0)
    low, high = c.maybe(1), c.maybe(2)
    if c.opset < 11:
        low, high = (
            None if bound is None else Value.of(np.asarray(bound, x.dtype), constant=True)
            for bound in (c.attribute("min"), c.attribute("max"))
        )
    if low is not None:
        x = c.map(maximum, x, low)
    return x if high is None else c.map(minimum, x, high)


@operator("Exp")
def exponential(c: Call) -> Value:
    return c.map(exp, c.value(0))
