"""Activations in `striate.nn.functional`: one function of scalars on every element.

Those with parameters, and those along an axis, are in `functional_activation_learned`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from striate.errors import OptionError
from striate.formula import activation as formulas
from striate.formula.activation import Activation, map_attributes
from striate.nn.apply import T, apply, into
from striate.nn.elementwise import finite
from striate.nn.random_numbers import uniform


def relu(input: T, inplace: bool = False) -> T:
    """`max(x, 0)`; with `inplace` the argument itself takes the result, as in torch.

    >>> relu(np.array([[-1.0, 2.0]]))
    array([[0., 2.]], dtype=float32)
    """
    return _named(input, "relu", inplace)


def relu6(input: T, inplace: bool = False) -> T:
    """`min(max(x, 0), 6)`.

    >>> relu6(np.array([[-1.0, 2.0, 7.0]]))
    array([[0., 2., 6.]], dtype=float32)
    """
    return _named(input, "relu6", inplace)


def leaky_relu(input: T, negative_slope: float = 0.01, inplace: bool = False) -> T:
    """`x` where x > 0, else `negative_slope·x`.

    >>> leaky_relu(np.array([[-1.0, 2.0]]), 0.5)
    array([[-0.5,  2. ]], dtype=float32)
    """
    slope = finite(negative_slope, "leaky_relu", "negative_slope")
    return _mapped(input, formulas.leaky_relu(slope), "leaky_relu", inplace)


def rrelu(
    input: T,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> T:
    """`x` where x ≥ 0, else `a·x`: in training a is drawn for each number, else the mean.

    Args:
        input: (n, …).
        lower, upper: in training a is uniform between them, else (lower + upper)/2.
        training: whether to draw.
        inplace: whether the argument itself takes the result.
    Source: Xu et al., Empirical Evaluation of Rectified Activations, arXiv:1505.00853.

    >>> rrelu(np.array([[-2.0, 2.0]]), 0.25, 0.75)
    array([[-1.,  2.]], dtype=float32)
    """
    low, high = slopes(lower, upper, "rrelu")
    if not training:
        return _mapped(input, formulas.leaky_relu((low + high) / 2), "rrelu", inplace)
    drawn = uniform(input, tuple(input.shape)[1:], "rrelu")
    attributes = map_attributes(formulas.rrelu(low, high), ("x", "u"))
    return into(input, apply("map", (input, drawn), attributes, "rrelu"), inplace)


def slopes(lower: float, upper: float, where: str) -> tuple[float, float]:
    """The slopes' bounds, checked and in order."""
    low, high = finite(lower, where, "lower"), finite(upper, where, "upper")
    if low > high:
        raise OptionError(f"{where}: expected lower <= upper; got lower={lower}, upper={upper}.")
    return low, high


def elu(input: T, alpha: float = 1.0, inplace: bool = False) -> T:
    """`x` where x > 0, else `alpha·(eˣ − 1)`.

    Source: Clevert et al., Exponential Linear Units, arXiv:1511.07289.

    >>> elu(np.array([[-np.log(2), 2.0]]))
    array([[-0.5,  2. ]], dtype=float32)
    """
    return _mapped(input, formulas.elu(finite(alpha, "elu", "alpha")), "elu", inplace)


def selu(input: T, inplace: bool = False) -> T:
    """`1.0507·x` where x > 0, else `1.0507·1.6733·(eˣ − 1)`: mean 0 and variance 1 are kept.

    Source: Klambauer et al., Self-Normalizing Neural Networks, arXiv:1706.02515.

    >>> selu(np.array([[-1.0, 1.0]])).round(4)
    array([[-1.1113,  1.0507]], dtype=float32)
    """
    return _named(input, "selu", inplace)


def celu(input: T, alpha: float = 1.0, inplace: bool = False) -> T:
    """`x` where x > 0, else `alpha·(e^(x/alpha) − 1)`: its slope is continuous.

    Source: Barron, Continuously Differentiable Exponential Linear Units, arXiv:1704.07483.

    >>> celu(np.array([[-2 * np.log(2), 2.0]]), alpha=2.0)
    array([[-1.,  2.]], dtype=float32)
    """
    width = nonzero(alpha, "celu", "alpha")
    return _mapped(input, formulas.celu(width), "celu", inplace)


def nonzero(value: Any, where: str, name: str) -> float:
    """A finite number other than 0."""
    number = finite(value, where, name)
    if number == 0:
        raise OptionError(f"{where}: expected {name} other than 0, which divides; got 0.")
    return number


def silu(input: T, inplace: bool = False) -> T:
    """`x/(1 + exp(−x))`, also called swish.

    >>> silu(np.array([[0.0, 100.0]]))
    array([[  0., 100.]], dtype=float32)
    """
    return _named(input, "silu", inplace)


def mish(input: T, inplace: bool = False) -> T:
    """`x·tanh(ln(1 + eˣ))`.

    Source: Misra, Mish, arXiv:1908.08681.

    >>> mish(np.array([[0.0, 1.0, 100.0]])).round(4)
    array([[  0.    ,   0.8651, 100.    ]], dtype=float32)
    """
    return _named(input, "mish", inplace)


def elish(input: T) -> T:
    """`x·σ(x)` where x ≥ 0, else `(eˣ − 1)·σ(x)`.

    Source: Basirat & Roth, The Quest for the Golden Activation Function, arXiv:1808.00783.

    >>> elish(np.array([[-100.0, 0.0, 100.0]]))
    array([[ -0.,   0., 100.]], dtype=float32)
    """
    return _named(input, "elish")


def gelu(input: T, approximate: str = "none") -> T:
    """`x·Φ(x)`, Φ the normal distribution: `x/2·(1 + erf(x/√2))`.

    Args:
        input: (n, …).
        approximate: "none", or "tanh" for `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.

    >>> gelu(np.array([[0.0, 1.0, 10.0]])).round(4)
    array([[ 0.    ,  0.8413, 10.    ]], dtype=float32)
    """
    return _named(input, gelu_form(approximate, "gelu"))


def gelu_form(approximate: str, where: str) -> str:
    """Which of the two forms is meant."""
    if approximate not in ("none", "tanh"):
        raise OptionError(
            f"{where}: expected approximate='none' or 'tanh'; got approximate={approximate!r}."
        )
    return "gelu" if approximate == "none" else "gelu_tanh"


def hardsigmoid(input: T, inplace: bool = False) -> T:
    """`min(max(x + 3, 0), 6)/6`.

    >>> hardsigmoid(np.array([[-4.0, 0.0, 4.0]]))
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    return _named(input, "hard_sigmoid", inplace)


def hardswish(input: T, inplace: bool = False) -> T:
    """`x·min(max(x + 3, 0), 6)/6`.

    Source: Howard et al., Searching for MobileNetV3, arXiv:1905.02244.

    >>> hardswish(np.array([[-4.0, 1.5, 4.0]]))
    array([[-0.   ,  1.125,  4.   ]], dtype=float32)
    """
    return _named(input, "hard_swish", inplace)


def hardtanh(input: T, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> T:
    """`min(max(x, min_val), max_val)`.

    >>> hardtanh(np.array([[-4.0, 0.5, 4.0]]))
    array([[-1. ,  0.5,  1. ]], dtype=float32)
    """
    low, high = bounds(min_val, max_val, "hardtanh")
    return _mapped(input, formulas.hardtanh(low, high), "hardtanh", inplace)


def bounds(min_val: float, max_val: float, where: str) -> tuple[float, float]:
    """The two bounds, checked and in order."""
    low, high = finite(min_val, where, "min_val"), finite(max_val, where, "max_val")
    if low > high:
        raise OptionError(
            f"{where}: expected min_val <= max_val; got min_val={min_val}, max_val={max_val}."
        )
    return low, high


def hardshrink(input: T, lambd: float = 0.5) -> T:
    """`x` where |x| > lambd, else 0.

    >>> hardshrink(np.array([[-1.0, 0.25, 1.0]]))
    array([[-1.,  0.,  1.]], dtype=float32)
    """
    width = finite(lambd, "hardshrink", "lambd")
    return _mapped(input, formulas.hardshrink(width), "hardshrink")


def softshrink(input: T, lambd: float = 0.5) -> T:
    """`x − lambd` where x > lambd, `x + lambd` where x < −lambd, else 0.

    >>> softshrink(np.array([[-1.0, 0.25, 2.0]]))
    array([[-0.5,  0. ,  1.5]], dtype=float32)
    """
    return _mapped(input, formulas.softshrink(shrinkage(lambd, "softshrink")), "softshrink")


def shrinkage(lambd: float, where: str) -> float:
    """How much is taken off: at least 0."""
    width = finite(lambd, where, "lambd")
    if width < 0:
        raise OptionError(f"{where}: expected lambd of at least 0; got lambd={lambd}.")
    return width


def tanhshrink(input: T) -> T:
    """`x − tanh(x)`.

    >>> tanhshrink(np.array([[0.0, 20.0]]))
    array([[ 0., 19.]], dtype=float32)
    """
    return _named(input, "tanhshrink")


def threshold(input: T, threshold: float, value: float, inplace: bool = False) -> T:
    """`x` where x > threshold, else `value`.

    >>> threshold(np.array([[0.5, 2.0]]), 1.0, -3.0)
    array([[-3.,  2.]], dtype=float32)
    """
    bound = finite(threshold, "threshold", "threshold")
    other = finite(value, "threshold", "value")
    return _mapped(input, formulas.threshold(bound, other), "threshold", inplace)


def softplus(input: T, beta: float = 1.0, threshold: float = 20.0) -> T:
    """`ln(1 + e^(beta·x))/beta`; x itself where beta·x > threshold.

    >>> softplus(np.array([[-100.0, 0.0, 100.0]])).round(4)
    array([[  0.    ,   0.6931, 100.    ]], dtype=float32)
    """
    scale, bound = nonzero(beta, "softplus", "beta"), finite(threshold, "softplus", "threshold")
    return _mapped(input, formulas.scaled_softplus(scale, bound), "softplus")


def logsigmoid(input: T) -> T:
    """`ln σ(x) = −ln(1 + e^(−x))`.

    >>> logsigmoid(np.array([[-100.0, 0.0]])).round(4)
    array([[-100.    ,   -0.6931]], dtype=float32)
    """
    return _named(input, "log_sigmoid")


def softsign(input: T) -> T:
    """`x/(1 + |x|)`, also called ElliotSig.

    Source: Elliott, A Better Activation Function for Artificial Neural Networks, 1993.

    >>> softsign(np.array([[-1.0, 3.0]]))
    array([[-0.5 ,  0.75]], dtype=float32)
    """
    return _named(input, "softsign")


def tanh(input: T) -> T:
    """`tanh(x)`."""
    return _named(input, "tanh")


def sigmoid(input: T) -> T:
    """`1/(1 + exp(−x))`."""
    return _named(input, "sigmoid")


# ---- what torch has not ----------------------------------------------------------------------


def scaled_tanh(input: T) -> T:
    """LeNet-5's activation `1.7159·tanh(2x/3)`: f(1) = 1, f(−1) = −1.

    Source: LeCun et al., Gradient-based learning applied to document recognition, 1998, app. A.

    >>> scaled_tanh(np.array([[1.0]])).round(4)
    array([[1.]], dtype=float32)
    """
    return _named(input, "scaled_tanh")


def binary_step(input: T) -> T:
    """1 where x ≥ 0, else 0; its derivative counts as 0.

    >>> binary_step(np.array([[-1.0, 0.0, 2.0]]))
    array([[0., 1., 1.]], dtype=float32)
    """
    return _named(input, "binary_step")


def sqnl(input: T) -> T:
    """`x − x²/4` from 0 to 2, `x + x²/4` from −2 to 0, ±1 beyond; the derivative `1 − |x|/2`.

    Source: Wuraola & Patel, SQNL: A New Computationally Efficient Activation Function, IJCNN 2018.

    >>> sqnl(np.array([[-3.0, -1.0, 0.0, 1.0, 3.0]]))
    array([[-1.  , -0.75,  0.  ,  0.75,  1.  ]], dtype=float32)
    """
    return _named(input, "sqnl")


def arctan(input: T) -> T:
    """`arctan(x)`, between −π/2 and π/2; the derivative `1/(1 + x²)`.

    >>> arctan(np.array([[0.0, 1.0]])).round(4)
    array([[0.    , 0.7854]], dtype=float32)
    """
    return _named(input, "arctan")


def arsinh(input: T) -> T:
    """`arsinh(x) = ln(x + √(x² + 1))`; the derivative `1/√(1 + x²)`.

    >>> arsinh(np.array([[0.0, np.sinh(2.0)]])).round(4)
    array([[0., 2.]], dtype=float32)
    """
    return _named(input, "arsinh")


def isru(input: T, alpha: float = 1.0) -> T:
    """`x/√(1 + alpha·x²)`, between ±1/√alpha; the derivative `(1 + alpha·x²)^(−3/2)`.

    Source: Carlile et al., Improving Deep Learning by Inverse Square Root Linear Units,
        arXiv:1710.09967.

    >>> isru(np.array([[0.0, 0.75, 1e30]]))
    array([[0. , 0.6, 1. ]], dtype=float32)
    """
    return _mapped(input, formulas.isru(steepness(alpha, "isru")), "isru")


def isrlu(input: T, alpha: float = 1.0) -> T:
    """`x` where x ≥ 0, else `x/√(1 + alpha·x²)`; the derivative is 1, else (1 + alpha·x²)^(−3/2).

    Source: Carlile et al., Improving Deep Learning by Inverse Square Root Linear Units,
        arXiv:1710.09967.

    >>> isrlu(np.array([[-0.75, 2.0]]))
    array([[-0.6,  2. ]], dtype=float32)
    """
    return _mapped(input, formulas.isrlu(steepness(alpha, "isrlu")), "isrlu")


def steepness(alpha: float, where: str) -> float:
    """The alpha of inverse square root units: at least 0."""
    number = finite(alpha, where, "alpha")
    if number < 0:
        raise OptionError(
            f"{where}: expected alpha of at least 0, so that 1 + alpha·x² has a root; "
            f"got alpha={alpha}."
        )
    return number


@cache
def _attributes(name: str) -> dict[str, Any]:
    return map_attributes(name)


def _named(input: T, name: str, inplace: bool = False) -> T:
    stem = {"hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish", "gelu_tanh": "gelu"}
    result = apply("map", (input,), _attributes(name), stem.get(name, name))
    return into(input, result, inplace)


def _mapped(input: T, function: Activation, stem: str, inplace: bool = False) -> T:
    return into(input, apply("map", (input,), map_attributes(function), stem), inplace)
