"""The functions of scalars: their names, how many arguments they take, their values in NumPy.

Their derivatives are in `formula.expression`, their machine code in `codegen.vmath`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(np.asarray(x) < 0, e, 1.0) / (1.0 + e)


_erf_of_each = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Any) -> Any:
    values = np.asarray(x)
    kind = values.dtype if values.dtype.kind == "f" else np.float64
    return np.asarray(_erf_of_each(values), kind)


def _one_or_zero(compare: Callable[..., Any]) -> Callable[..., Any]:
    """A comparison whose results can be added up: 1 where it holds, else 0."""
    return lambda a, b: np.asarray(compare(a, b)).astype(np.float32)


NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "pow": np.power,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "erf": _erf,
    "sin": np.sin,
    "cos": np.cos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "floor": np.floor,
    "sign": np.sign,
    "softplus": lambda x: np.logaddexp(0, x),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": np.where,
    "gt": _one_or_zero(np.greater),
    "ge": _one_or_zero(np.greater_equal),
    "lt": _one_or_zero(np.less),
    "le": _one_or_zero(np.less_equal),
    "eq": _one_or_zero(np.equal),
    "ne": _one_or_zero(np.not_equal),
}

ARITY = {name: 2 for name in NUMPY} | {"where": 3}
ARITY |= dict.fromkeys(("neg", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "expm1"), 1)
ARITY |= dict.fromkeys(("log1p", "erf", "sin", "cos", "atan", "asinh", "floor", "sign"), 1)
ARITY["softplus"] = 1
