"""Arithmetic on numbers, comparisons and logic, broadcast to a common shape as NumPy does."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from striate.formats.onnx.batch_axis import batch_axis
from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import BOOL, Value
from striate.formula import expression as e
from striate.formula.broadcast import BATCHED
from striate.formula.expression import Expr, where

_NAN, _INFINITE = math.nan, math.inf


def _sinh(x: Expr) -> Expr:
    """`(eˣ − e⁻ˣ)/2` with u = eˣ − 1, so that small x keep their digits."""
    u = e.expm1(abs(x))
    return e.sign(x) * 0.5 * (u + u / (u + 1))


def _round(x: Expr) -> Expr:
    """To the nearest whole number, halves to the even one."""
    low = e.floor(x)
    half = e.equal(x - low, 0.5)
    even = e.equal(low - 2 * e.floor(low / 2), 0)
    return where(half, where(even, low, low + 1), e.floor(x + 0.5))


_UNARY: dict[str, Any] = {
    "Abs": abs,
    "Neg": lambda x: -x,
    "Reciprocal": lambda x: 1 / x,
    "Sqrt": e.sqrt,
    "Log": e.log,
    "Floor": e.floor,
    "Ceil": lambda x: -e.floor(-x),
    "Round": _round,
    "Sign": e.sign,
    "Erf": e.erf,
    "Sin": e.sin,
    "Cos": e.cos,
    "Tan": lambda x: e.sin(x) / e.cos(x),
    "Asin": lambda x: e.atan(x / e.sqrt((1 - x) * (1 + x))),
    "Acos": lambda x: 2 * e.atan(e.sqrt((1 - x) / (1 + x))),
    "Sinh": _sinh,
    "Cosh": lambda x: 0.5 * (e.exp(x) + e.exp(-x)),
    "Acosh": lambda x: e.log(x + e.sqrt((x - 1) * (x + 1))),
    "Atanh": lambda x: 0.5 * (e.log1p(x) - e.log1p(-x)),
}
_BINARY: dict[str, Any] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
}
_COMPARISONS: dict[str, Any] = {
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Equal": e.equal,
    "And": lambda a, b: a * b,
    "Or": e.maximum,
    "Xor": e.unequal,
}
_FOLDS: dict[str, Any] = {
    "Sum": lambda a, b: a + b,
    "Mean": lambda a, b: a + b,
    "Max": e.maximum,
    "Min": e.minimum,
}


@operator(*_UNARY)
def unary(c: Call) -> Value:
    c.attribute("consumed_inputs")
    return c.map(_UNARY[c.op], c.value(0))


@operator(*_BINARY, *_COMPARISONS)
def binary(c: Call) -> Value:
    a, b = _operands(c)
    if c.op == "Add" and c.lowering.symbolic:
        found = _with_bias(a, b) or _with_bias(b, a)
        if found is not None:
            return found
    if c.op in _COMPARISONS:
        if "U" in (a.dtype.kind, b.dtype.kind) or "O" in (a.dtype.kind, b.dtype.kind):
            c.refuse("expected numbers; strings are not supported")
        return c.map(_COMPARISONS[c.op], a, b, dtype=BOOL)
    return c.map(_BINARY[c.op], a, b)


def _with_bias(x: Value, bias: Value) -> Value | None:
    """A fully connected layer without a bias, of an imported network, that is given one."""
    if x.place is None or x.is_known or not bias.label or bias.shape != x.shape[-1:]:
        return None
    if batch_axis(x) == x.rank - 1:
        return None
    recorder = x.place.recorder
    node = recorder.graph.nodes[x.place.node]
    if node.op not in ("linear", "dense") or len(node.inputs) != 2:
        return None
    made = recorder.apply(node.op, [*node.inputs, bias.parameter(recorder)], {})
    return Value(x.shape, x.dtype, place=replace(x.place, node=made.name))


def _operands(c: Call) -> tuple[Value, Value]:
    """Both inputs; before version 7 the second is laid along `axis` of the first, if it says so."""
    a, b = c.value(0), c.value(1)
    axis, may = c.attribute("axis"), c.attribute("broadcast", 0)
    c.attribute("consumed_inputs")
    if c.opset < 7 and may and axis is not None and b.rank:
        rest = a.rank - c.axis(axis, a.rank) - b.rank
        b = c.reshape(b, (*b.shape, *(1,) * rest))
    return a, b


@operator("Not")
def negation(c: Call) -> Value:
    return c.map(lambda x: 1 - x, c.value(0))


@operator(*_FOLDS)
def fold(c: Call) -> Value:
    c.attribute("consumed_inputs")
    parts = c.present()
    if not parts:
        c.refuse("expected at least one input; got none")
    if len(parts) == 1:
        return parts[0]
    function = _FOLDS[c.op]
    count, most = len(parts), len(BATCHED)

    def together(*numbers: Expr) -> Expr:
        return reduce(function, numbers)

    while len(parts) > 1:  # an operation takes so many inputs
        parts = [c.map(together, *parts[:most]), *parts[most:]]
    return c.map(lambda x: x / count, parts[0]) if c.op == "Mean" else parts[0]


@operator("Where", since=9)
def choice(c: Call) -> Value:
    condition, a, b = c.value(0), c.value(1), c.value(2)
    return c.map(lambda p, q, r: where(p, q, r), condition, a, b, dtype=a.dtype)


@operator("Pow")
def power(c: Call) -> Value:
    a, b = _operands(c)
    if a.dtype.kind in "iu":  # through logarithms, so what comes out is rounded
        found = c.map(_power, a, b, dtype=np.float64)
        return c.map(lambda x: e.floor(x + 0.5), found, dtype=a.dtype)
    if b.constant and b.array.size == 1:
        exponent = float(b.array.ravel()[0])
        found = c.map(lambda x: e.power(x, exponent), a)
        return c.expand(found, (*(1,) * (b.rank - a.rank), *a.shape))
    return c.map(_power, a, b)


def _power(a: Expr, b: Expr) -> Expr:
    """`aᵇ` of two expressions: `exp(b·log|a|)`, negative where a is and b is odd."""
    size = e.exp(b * e.log(abs(a)))
    is_whole = e.equal(e.floor(b), b)
    is_odd = e.equal(b - 2 * e.floor(b * 0.5), 1)
    negative = where(is_whole, where(is_odd, -size, size), _NAN)
    zero = where(b > 0, 0, _INFINITE)
    return where(e.equal(b, 0), 1, where(a > 0, size, where(a < 0, negative, zero)))


@operator("Mod")
def remainder(c: Call) -> Value:
    a, b = c.value(0), c.value(1)
    if c.attribute("fmod", 0):
        return c.map(lambda x, y: x - y * _toward_zero(x / y), a, b)
    return c.map(_modulo, a, b)


def _modulo(x: Expr, y: Expr) -> Expr:
    """The remainder with the sign of y; of an infinite y it is x, or y where the signs differ."""
    found = x - y * e.floor(x / y)
    of_infinity = where(x * y < 0, y, x)
    return where(e.equal(abs(y), _INFINITE), where(abs(x) < _INFINITE, of_infinity, found), found)


def _toward_zero(x: Expr) -> Expr:
    return e.sign(x) * e.floor(abs(x))


@operator("IsNaN")
def is_nan(c: Call) -> Value:
    return c.map(lambda x: e.unequal(x, x), c.value(0), dtype=BOOL)


@operator("IsInf")
def is_infinite(c: Call) -> Value:
    above, below = c.attribute("detect_positive", 1), c.attribute("detect_negative", 1)

    def test(x: Expr) -> Expr:
        found: Any = e.Const(0.0) * x
        if above:
            found = e.equal(x, _INFINITE)
        if below:
            negative = e.equal(x, -_INFINITE)
            found = negative if not above else found + negative
        return e.expr(found)

    x = c.value(0)
    if not above and not below:
        return c.given([False] * math.prod(x.shape), BOOL)
    return c.map(test, x, dtype=BOOL)
