"""Dropout in `striate.nn.functional`: of single numbers, of channels, and for SELU networks.

In evaluation mode nothing is dropped. On arrays the numbers come from the library's generator
(`striate.manual_seed`); in a traced network that `fit` trains they depend on the seed, the step and
the element only.
"""

from __future__ import annotations

import math

from striate.errors import ShapeError
from striate.nn.apply import T, into, sample_shape
from striate.nn.arguments import probability
from striate.nn.execution import as_batch, drop
from striate.nn.functional_arithmetic import scalar
from striate.nn.random_numbers import uniform
from striate.nn.scalar import where
from striate.nn.trace import find_tracer

_SPACE = {1: "length", 2: "h, w", 3: "d, h, w"}
# What SELU saturates to, −λα (Klambauer et al. 2017).
_SATURATED = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717


def dropout(input: T, p: float = 0.5, training: bool = True, inplace: bool = False) -> T:
    """In training `x/(1 − p)` where a uniform number is ≥ p, else 0; otherwise x itself.

    Source: Srivastava et al., Dropout, Journal of Machine Learning Research 15 (2014).
    """
    p = probability(p, "dropout")
    if not training or p == 0:
        return input
    tracer = find_tracer(input)
    if tracer is not None:
        attributes = {"p": p, "site": tracer.dropout_site()}
        return into(input, tracer.apply("dropout", (input,), attributes, "dropout"), inplace)
    return into(input, drop(as_batch(input, "dropout"), p), inplace)


def dropout1d(input: T, p: float = 0.5, training: bool = True, inplace: bool = False) -> T:
    """Whole channels of (n, c, length) become 0 in training, the others are divided by 1 − p.

    Source: Tompson et al., Efficient object localization using convolutional networks (2015).
    """
    return _channels("dropout1d", 1, input, p, training, inplace)


def dropout2d(input: T, p: float = 0.5, training: bool = True, inplace: bool = False) -> T:
    """Whole channels of (n, c, h, w) become 0 in training, the others are divided by 1 − p.

    Source: Tompson et al., Efficient object localization using convolutional networks (2015).
    """
    return _channels("dropout2d", 2, input, p, training, inplace)


def dropout3d(input: T, p: float = 0.5, training: bool = True, inplace: bool = False) -> T:
    """Whole channels of (n, c, d, h, w) become 0 in training, the others are divided by 1 − p.

    Source: Tompson et al., Efficient object localization using convolutional networks (2015).
    """
    return _channels("dropout3d", 3, input, p, training, inplace)


def _channels(name: str, rank: int, input: T, p: float, training: bool, inplace: bool) -> T:
    shape: tuple[int, ...] = sample_shape(input, name)
    p = probability(p, name)
    if len(shape) != 1 + rank:
        raise ShapeError(
            f"{name}: expected (n, channels, {_SPACE[rank]}); got {len(shape)} axes besides the "
            f"batch, {shape}."
        )
    if not training or p == 0:
        return input
    scale = 1 / (1 - p)
    drawn = uniform(input, (shape[0], *(1 for _ in shape[1:])), name)
    result = scalar(lambda x, u: where(u >= p, scale * x, 0), input, drawn)
    return into(input, result, inplace)


def alpha_dropout(input: T, p: float = 0.5, training: bool = False, inplace: bool = False) -> T:
    """Dropout that keeps mean and variance of SELU's outputs: what is dropped becomes −λα.

    `a·(x where kept, else −λα) + b` with `a = ((1 − p)(1 + p·λ²α²))^(−1/2)`, `b = a·p·λα`.

    Source: Klambauer et al., Self-normalizing neural networks, arXiv:1706.02515.
    """
    shape: tuple[int, ...] = sample_shape(input, "alpha_dropout")
    return _alpha("alpha_dropout", input, shape, p, training, inplace)


def feature_alpha_dropout(
    input: T, p: float = 0.5, training: bool = False, inplace: bool = False
) -> T:
    """`alpha_dropout` of whole channels of (n, c, …).

    Source: Klambauer et al., Self-normalizing neural networks, arXiv:1706.02515.
    """
    name = "feature_alpha_dropout"
    shape: tuple[int, ...] = sample_shape(input, name)
    if len(shape) < 2:
        raise ShapeError(f"{name}: expected (n, channels, …); got {shape} besides the batch.")
    places = (shape[0], *(1 for _ in shape[1:]))
    return _alpha(name, input, places, p, training, inplace)


def _alpha(
    name: str, input: T, places: tuple[int, ...], p: float, training: bool, inplace: bool
) -> T:
    p = probability(p, name)
    if not training or p == 0:
        return input
    a = 1 / math.sqrt((1 - p) * (1 + p * _SATURATED**2))
    b = -a * p * _SATURATED
    drawn = uniform(input, places, name)
    result = scalar(lambda x, u: where(u >= p, a * x, a * _SATURATED) + b, input, drawn)
    return into(input, result, inplace)
