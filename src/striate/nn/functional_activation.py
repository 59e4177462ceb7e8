"""Activations in `striate.nn.functional`: one function of scalars on every element."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from striate.errors import OptionError
from striate.formula.activation import leaky_relu as leaky_relu_of
from striate.formula.activation import map_attributes
from striate.nn.apply import T, apply, into
from striate.nn.elementwise import (
    GELU,
    HARD_SIGMOID,
    HARD_SWISH,
    RELU,
    RELU6,
    SCALED_TANH,
    SIGMOID,
    SILU,
    TANH,
)


def relu(input: T, inplace: bool = False) -> T:
    """`max(x, 0)`; with `inplace` the argument itself takes the result, as in torch.

    >>> relu(np.array([[-1.0, 2.0]]))
    array([[0., 2.]], dtype=float32)
    """
    return into(input, _map(input, RELU, "relu"), inplace)


def relu6(input: T, inplace: bool = False) -> T:
    """`min(max(x, 0), 6)`.

    >>> relu6(np.array([[-1.0, 2.0, 7.0]]))
    array([[0., 2., 6.]], dtype=float32)
    """
    return into(input, _map(input, RELU6, "relu6"), inplace)


def leaky_relu(input: T, negative_slope: float = 0.01, inplace: bool = False) -> T:
    """`x` where x > 0, else `negative_slope·x`.

    >>> leaky_relu(np.array([[-1.0, 2.0]]), 0.5)
    array([[-0.5,  2. ]], dtype=float32)
    """
    slope = slope_of(negative_slope, "leaky_relu")
    attributes = map_attributes(leaky_relu_of(slope))
    return into(input, _map(input, attributes, "leaky_relu"), inplace)


def slope_of(value: Any, where: str) -> float:
    """A slope, checked: a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise OptionError(
            f"{where}: expected negative_slope to be a finite number; got negative_slope={value!r}."
        )
    return float(value)


def silu(input: T, inplace: bool = False) -> T:
    """`x/(1 + exp(−x))`, also called swish.

    >>> silu(np.array([[0.0, 100.0]]))
    array([[  0., 100.]], dtype=float32)
    """
    return into(input, _map(input, SILU, "silu"), inplace)


def hardsigmoid(input: T, inplace: bool = False) -> T:
    """`min(max(x + 3, 0), 6)/6`.

    >>> hardsigmoid(np.array([[-4.0, 0.0, 4.0]]))
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    return into(input, _map(input, HARD_SIGMOID, "hardsigmoid"), inplace)


def hardswish(input: T, inplace: bool = False) -> T:
    """`x·min(max(x + 3, 0), 6)/6`.

    Source: Howard et al., Searching for MobileNetV3, arXiv:1905.02244.

    >>> hardswish(np.array([[-4.0, 1.5, 4.0]]))
    array([[-0.   ,  1.125,  4.   ]], dtype=float32)
    """
    return into(input, _map(input, HARD_SWISH, "hardswish"), inplace)


def gelu(input: T, approximate: str = "none") -> T:
    """`x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.

    Args:
        input: (n, …).
        approximate: has to be "tanh"; torch's default, the exact form, is not supported.
    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.

    >>> gelu(np.array([[0.0, 10.0]]), approximate="tanh")
    array([[ 0., 10.]], dtype=float32)
    """
    require_tanh(approximate, "gelu")
    return cast(T, _map(input, GELU, "gelu"))


def require_tanh(approximate: str, where: str) -> None:
    """Refuse the exact GELU, which needs the error function."""
    if approximate != "tanh":
        raise OptionError(
            f"{where}: expected approximate='tanh'; got approximate={approximate!r}. The exact "
            "form is not supported; the two differ by less than 0.001."
        )


def tanh(input: T) -> T:
    """`tanh(x)`."""
    return cast(T, _map(input, TANH, "tanh"))


def sigmoid(input: T) -> T:
    """`1/(1 + exp(−x))`."""
    return cast(T, _map(input, SIGMOID, "sigmoid"))


def scaled_tanh(input: T) -> T:
    """LeNet-5's activation `1.7159·tanh(2x/3)`: f(1) = 1, f(−1) = −1.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, app. A.

    >>> scaled_tanh(np.array([[1.0]])).round(4)
    array([[1.]], dtype=float32)
    """
    return cast(T, _map(input, SCALED_TANH, "scaled_tanh"))


def _map(input: Any, attributes: dict[str, Any], stem: str) -> Any:
    return apply("map", (input,), attributes, stem)
