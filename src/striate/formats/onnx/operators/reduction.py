"""Reductions: sums, means, extremes and norms over axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value
from striate.formula.expression import Expr, Var, floor, log, sqrt, where
from striate.formula.reduce import reduce_attributes

_X, _T = Var("x"), Var("t")
_SUMS: dict[str, tuple[str, Expr, Expr]] = {
    "ReduceSum": ("sum", _X, _T),
    "ReduceMax": ("max", _X, _T),
    "ReduceMin": ("max", -_X, -_T),
    "ReduceL1": ("sum", abs(_X), _T),
    "ReduceL2": ("sum", _X * _X, sqrt(_T)),
    "ReduceSumSquare": ("sum", _X * _X, _T),
    "ReduceLogSum": ("sum", _X, log(_T)),
}
_OF_NOTHING = {"ReduceProd": 1.0, "ReduceMax": -math.inf, "ReduceMin": math.inf}
_OF_NOTHING |= {"ReduceLogSum": -math.inf, "ReduceLogSumExp": -math.inf, "ReduceMean": math.nan}


def reduced(
    c: Call, x: Value, over: list[int], how: str, inner: Expr, outer: Expr, keep: bool = True
) -> Value:
    """`outer(Σ inner(x))` over axes counted from 0."""
    if x.rank == len(over) and not keep:  # a sample has at least one axis
        return c.reshape(reduced(c, x, over, how, inner, outer), ())
    whole, shift = c.form(x, over)
    settings = reduce_attributes(how, [k + shift for k in over], keep, inner, outer)
    return c.apply("reduce", [x], settings, whole=whole)


def mean(c: Call, x: Value, over: list[int], keep: bool = True, inner: Expr = _X) -> Value:
    """The mean over axes, which stay with size 1."""
    count = math.prod(x.shape[k] for k in over)
    return reduced(c, x, over, "sum", inner, _T / count, keep)


def log_sum_exp(c: Call, x: Value, over: list[int], keep: bool = True) -> Value:
    """`log Σ eˣ` over axes."""
    if x.rank == len(over) and not keep:
        return c.reshape(log_sum_exp(c, x, over), ())
    whole, shift = c.form(x, over)
    settings = {"axes": [k + shift for k in over], "keepdim": keep}
    return c.apply("logsumexp", [x], settings, whole=whole)


@operator(
    *_SUMS,
    "ReduceMean",
    "ReduceProd",
    "ReduceLogSumExp",
)
def reduction(c: Call) -> Value:
    x, keep = c.value(0), bool(c.attribute("keepdims", 1))
    listed = c.integers(1, "axes")
    nothing = c.attribute("noop_with_empty_axes", 0)
    if not listed and nothing:
        return _of_each(c, x)
    over = sorted({c.axis(k, x.rank) for k in listed or range(x.rank)})
    if any(not x.shape[k] for k in over):
        return _of_nothing(c, x, over, keep)
    if not over:
        return _of_each(c, x)
    return _reduce(c, x, over, keep)


def _reduce(c: Call, x: Value, over: list[int], keep: bool) -> Value:
    if c.op == "ReduceMean":
        return mean(c, x, over, keep)
    if c.op == "ReduceLogSumExp":
        return log_sum_exp(c, x, over, keep)
    if c.op != "ReduceProd":
        return reduced(c, x, over, *_SUMS[c.op], keep)
    # |x₁·x₂·…| = exp Σ log|x|, negative where an odd number of them is
    size = reduced(c, x, over, "sum", log(abs(_X)), _exp(_T), keep)
    sign = reduced(c, x, over, "sum", where(_X < 0, 1, 0), 1 - 2 * (_T - 2 * floor(_T / 2)), keep)
    return c.map(lambda a, b: a * b, size, sign)


def _exp(x: Expr) -> Expr:
    from striate.formula.expression import exp

    return exp(x)


def _of_each(c: Call, x: Value) -> Value:
    """Reduced over no axis: each number is a set of its own."""
    one = c.reshape(x, (*x.shape, 1))
    return c.reshape(_reduce(c, one, [x.rank], True), x.shape)


def _of_nothing(c: Call, x: Value, over: list[int], keep: bool) -> Value:
    """Over an axis of no numbers: what leaves every number as it is."""
    shape = [1 if k in over else n for k, n in enumerate(x.shape) if keep or k not in over]
    value: Any = _OF_NOTHING.get(c.op, 0.0)
    if x.dtype.kind == "b":
        value = value > 0
    elif x.dtype.kind in "iu" and math.isinf(value):
        limits = np.iinfo(x.dtype)
        value = limits.min if value < 0 else limits.max
    return c.given(np.full(shape, value), x.dtype)
