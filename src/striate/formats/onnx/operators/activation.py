"""Activations: scalar functions, and softmax and its kin along an axis."""

from __future__ import annotations

import math
from typing import Any

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value
from striate.formula.expression import (
    erf,
    exp,
    expm1,
    maximum,
    minimum,
    sigmoid,
    softplus,
    tanh,
    where,
)

_PLAIN: dict[str, Any] = {
    "Relu": lambda x: maximum(x, 0),
    "Sigmoid": sigmoid,
    "Tanh": tanh,
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + abs(x)),
    "HardSwish": lambda x: x * maximum(0, minimum(1, x / 6 + 0.5)),
    "Mish": lambda x: x * tanh(softplus(x)),
}


@operator(*_PLAIN)
def plain(c: Call) -> Value:
    c.attribute("consumed_inputs")  # of operator set 1; without a meaning
    return c.map(_PLAIN[c.op], c.value(0))


@operator("LeakyRelu")
def leaky_relu(c: Call) -> Value:
    alpha = c.attribute("alpha", 0.01)
    return c.map(lambda x: where(x < 0, alpha * x, x), c.value(0))


@operator("ThresholdedRelu")
def thresholded_relu(c: Call) -> Value:
    alpha = c.attribute("alpha", 1.0)
    return c.map(lambda x: where(x > alpha, x, 0), c.value(0))


@operator("Elu")
def elu(c: Call) -> Value:
    alpha = c.attribute("alpha", 1.0)
    return c.map(lambda x: where(x < 0, alpha * expm1(minimum(x, 0)), x), c.value(0))


@operator("Celu")
def celu(c: Call) -> Value:
    alpha = c.attribute("alpha", 1.0)
    return c.map(
        lambda x: maximum(0, x) + minimum(0, alpha * expm1(minimum(x, 0) / alpha)), c.value(0)
    )


@operator("Selu")
def selu(c: Call) -> Value:
    newer = c.opset >= 6  # the constants got more digits
    alpha = c.attribute("alpha", 1.67326319217681884765625 if newer else 1.6732)
    gamma = c.attribute("gamma", 1.05070102214813232421875 if newer else 1.0507)
    return c.map(lambda x: gamma * where(x > 0, x, alpha * expm1(minimum(x, 0))), c.value(0))


@operator("HardSigmoid")
def hard_sigmoid(c: Call) -> Value:
    alpha, beta = c.attribute("alpha", 0.2), c.attribute("beta", 0.5)
    return c.map(lambda x: maximum(0, minimum(1, alpha * x + beta)), c.value(0))


@operator("Shrink")
def shrink(c: Call) -> Value:
    bias, lambd = c.attribute("bias", 0.0), c.attribute("lambd", 0.5)
    return c.map(lambda x: where(x < -lambd, x + bias, where(x > lambd, x - bias, 0)), c.value(0))


@operator("Swish")
def swish(c: Call) -> Value:
    alpha = c.attribute("alpha", 1.0)
    return c.map(lambda x: x * sigmoid(alpha * x), c.value(0))


@operator("Gelu")
def gelu(c: Call) -> Value:
    if c.attribute("approximate", "none") == "tanh":
        scale = math.sqrt(2 / math.pi)
        return c.map(lambda x: 0.5 * x * (1 + tanh(scale * (x + 0.044715 * x * x * x))), c.value(0))
    return c.map(lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), c.value(0))


@operator("PRelu")
def prelu(c: Call) -> Value:
    x, slope = c.value(0), c.value(1)
    if c.opset < 9 and slope.rank == 1 and x.rank > 1 and slope.shape[0] > 1:
        slope = c.reshape(
            slope,
            (-1, *(1,) * (x.rank - 2))
            if -1 in slope.shape
            else (slope.shape[0], *(1,) * (x.rank - 2)),
        )
    return c.map(lambda a, b: where(a < 0, a * b, a), x, slope)


@operator("Clip", since=6)
def clip(c: Call) -> Value:
    x = c.value(0)
    if c.opset < 11:
        low, high = c.attribute("min"), c.attribute("max")
        parts = [Value.of(_like(k, x)) for k in (low, high) if k is not None]
        low_value, high_value = (
            (parts[0] if low is not None else None),
            (parts[-1] if high is not None else None),
        )
    else:
        low_value, high_value = c.maybe(1), c.maybe(2)
    if low_value is not None:
        x = c.map(maximum, x, low_value)
    return x if high_value is None else c.map(minimum, x, high_value)


def _like(number: float, x: Value) -> Any:
    return x.dtype.type(number)


@operator("Exp")
def exponential(c: Call) -> Value:
    return c.map(exp, c.value(0))
