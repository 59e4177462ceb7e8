"""Functions of scalars, to write one's own activations with: `nn.Scalar(lambda x: …)`.

    from striate.nn.scalar import where, sqrt
    isrlu = nn.Scalar(lambda x: where(x > 0, x, x / sqrt(1 + x * x)))

These build expressions (`striate.formula.expression`), from which value, gradient and machine
code come; they do not compute on arrays.
"""

from __future__ import annotations

from striate.formula.expression import (
    asinh,
    atan,
    cos,
    equal,
    erf,
    exp,
    expm1,
    floor,
    log,
    log1p,
    maximum,
    minimum,
    power,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    tanh,
    unequal,
    where,
)

__all__ = [
    "asinh",
    "atan",
    "cos",
    "equal",
    "erf",
    "exp",
    "expm1",
    "floor",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "power",
    "sigmoid",
    "sign",
    "sin",
    "softplus",
    "sqrt",
    "tanh",
    "unequal",
    "where",
]
