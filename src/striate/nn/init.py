"""Initialisers in torch's names: they fill a parameter (or a NumPy array) in place.

Random ones draw from `generator`, or from the library's own (`striate.manual_seed`). The numbers
are not torch's for the same seed; the distributions are.
"""

from __future__ import annotations

import math
from typing import TypeAlias, TypeVar

import numpy as np

from striate.errors import OptionError, ShapeError, suggest
from striate.nn.parameter import Array, Parameter
from striate.settings import next_generator

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

T = TypeVar("T", Parameter, Array)
Generator: TypeAlias = "np.random.Generator"  # text: numpy.random is slow to import

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def _fill(tensor: T, values: Array | float) -> T:
    array = tensor.data if isinstance(tensor, Parameter) else tensor
    if not isinstance(array, np.ndarray):
        raise OptionError(
            f"init: expected a Parameter or a NumPy array; got {type(tensor).__name__}."
        )
    array[...] = values
    return tensor


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with `U(a, b)`.

    >>> weight = uniform_(np.empty((2, 3), np.float32), -1, 1)
    >>> bool(abs(weight).max() <= 1)
    True
    """
    if not a <= b:
        raise OptionError(f"uniform_: expected a <= b; got a={a}, b={b}.")
    return _fill(tensor, (generator or next_generator()).uniform(a, b, tensor.shape))


def normal_(
    tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> T:
    """Fill with `N(mean, std²)`."""
    if not std >= 0:
        raise OptionError(f"normal_: expected std >= 0; got std={std}.")
    return _fill(tensor, (generator or next_generator()).normal(mean, std, tensor.shape))


def constant_(tensor: T, val: float) -> T:
    """Fill with one number."""
    return _fill(tensor, val)


def zeros_(tensor: T) -> T:
    """Fill with 0."""
    return _fill(tensor, 0.0)


def ones_(tensor: T) -> T:
    """Fill with 1."""
    return _fill(tensor, 1.0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through an activation, as torch has it.

    `√2` for relu, `√(2/(1 + param²))` for leaky_relu (param: its slope, 0.01), 5/3 for tanh.

    >>> calculate_gain("leaky_relu", math.sqrt(5))
    0.5773502691896257
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope**2))
    if nonlinearity not in _GAINS:
        known = [*_GAINS, "leaky_relu"]
        raise OptionError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}. {suggest(nonlinearity, known)}"
        )
    return _GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """`(fan_in, fan_out)` of a weight (out, in, *kernel): inputs read and outputs fed by one unit.

    >>> fans((16, 6, 5, 5))
    (150, 400)
    """
    if len(shape) < 2:
        raise ShapeError(
            f"init: expected a weight of two axes or more (out, in, *kernel); got shape={shape}. "
            "Use uniform_ or zeros_ for a bias."
        )
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _fan(shape: tuple[int, ...], mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(f"init: expected mode 'fan_in' or 'fan_out'; got mode={mode!r}.")
    return max(1, fans(shape)[mode == "fan_out"])


def kaiming_uniform_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Fill with `U(−r, r)`, `r = gain·√(3/fan)`.

    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    fan = _fan(tensor.shape, mode)
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / fan)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Fill with `N(0, gain²/fan)`.

    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    fan = _fan(tensor.shape, mode)
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(fan), generator)


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with `U(−r, r)`, `r = gain·√(6/(fan_in + fan_out))`.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward networks.
    """
    bound = gain * math.sqrt(6.0 / max(1, sum(fans(tensor.shape))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with `N(0, 2·gain²/(fan_in + fan_out))`.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward networks.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(1, sum(fans(tensor.shape)))), generator)
