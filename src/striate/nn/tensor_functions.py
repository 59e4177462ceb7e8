"""Functions of one tensor that torch has at its top, beside those of `nn.functional`.

On NumPy arrays and parameters they compute at once; on a tensor being traced they add to the
graph. They are methods of a traced tensor too, and `striate.exp`, `striate.clamp` … .
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn import scalar as S
from striate.nn.symbol import SymbolicTensor
from striate.nn.untraceable import untraceable

# ---- element by element --------------------------------------------------------------------------


def _each(name: str, formula: Callable[..., Any], doc: str) -> Callable[[Any], Any]:
    def compute(input: Any) -> Any:
        return F.scalar(formula, input)

    compute.__name__ = compute.__qualname__ = name
    compute.__doc__ = f"`{doc}` of each element, of an array or a traced tensor."
    return compute


exp = _each("exp", lambda x: S.exp(x), "exp(x)")
expm1 = _each("expm1", lambda x: S.expm1(x), "exp(x) − 1")
log = _each("log", lambda x: S.log(x), "ln x")
log1p = _each("log1p", lambda x: S.log1p(x), "ln(1 + x)")
sqrt = _each("sqrt", lambda x: S.sqrt(x), "√x")
rsqrt = _each("rsqrt", lambda x: 1 / S.sqrt(x), "1/√x")
abs_ = _each("abs", lambda x: abs(x), "|x|")
neg = _each("neg", lambda x: -x, "−x")
square = _each("square", lambda x: x * x, "x²")
reciprocal = _each("reciprocal", lambda x: 1 / x, "1/x")
sin = _each("sin", lambda x: S.sin(x), "sin x")
cos = _each("cos", lambda x: S.cos(x), "cos x")
atan = _each("atan", lambda x: S.atan(x), "arctan x")
erf = _each("erf", lambda x: S.erf(x), "erf x")
floor = _each("floor", lambda x: S.floor(x), "⌊x⌋")
ceil = _each("ceil", lambda x: -S.floor(-x), "⌈x⌉")
sign = _each("sign", lambda x: S.sign(x), "sign x")


def pow_(input: Any, exponent: Any) -> Any:
    """`x ** exponent`, the exponent a number."""
    if isinstance(input, SymbolicTensor):
        return input**exponent
    return np.power(np.asarray(input, np.float32), np.float32(exponent))


def clamp(input: Any, min: float | None = None, max: float | None = None) -> Any:
    """`x`, but not below `min` nor above `max`.

    >>> clamp(np.array([-2.0, 0.5, 7.0]), 0, 1)
    array([0. , 0.5, 1. ], dtype=float32)
    """
    if min is None and max is None:
        raise OptionError("clamp: expected min, max or both; got neither.")
    found = input if min is None else F.maximum(input, float(min))
    return found if max is None else F.minimum(found, float(max))


# ---- shapes --------------------------------------------------------------------------------------


def reshape(input: Any, shape: Sequence[Any]) -> Any:
    """The same numbers in another shape; in a network the batch stays the first axis."""
    if isinstance(input, SymbolicTensor):
        return input.reshape(*shape)
    return np.reshape(input, tuple(shape))


def swapaxes(input: Any, axis0: int, axis1: int) -> Any:
    """Two axes exchanged: `transpose`."""
    return F.transpose(input, axis0, axis1)


def movedim(input: Any, source: int, destination: int) -> Any:
    """One axis put at another place."""
    ndim = input.ndim
    order = [k for k in range(ndim) if k != source % ndim]
    order.insert(destination % ndim, source % ndim)
    return F.permute(input, order)


def view_as(input: Any, other: Any) -> Any:
    """The same numbers in the shape of another tensor."""
    return reshape(input, other.shape)


def expand_as(input: Any, other: Any) -> Any:
    """Axes of size 1 repeated to the sizes of another tensor."""
    return F.expand(input, *other.shape)


def where(condition: Any, input: Any, other: Any) -> Any:
    """The elements of one array where the condition holds, else the other's; on arrays."""
    if any(isinstance(k, SymbolicTensor) for k in (condition, input, other)):
        raise untraceable(
            "torch.where needs a condition, and a traced tensor has no values to compare",
            "Write F.scalar(lambda x: scalar.where(x > 0, x, 0.1 * x), x).",
        )
    return np.where(condition, input, other)


def round_(input: Any) -> Any:
    """The nearest whole number of each element, `⌊x + ½⌋`; on arrays ties go to even numbers."""
    if isinstance(input, SymbolicTensor):
        return F.scalar(lambda x: S.floor(x + 0.5), input)
    return np.round(np.asarray(input, np.float32))
