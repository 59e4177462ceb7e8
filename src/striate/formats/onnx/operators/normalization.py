"""Normalisation: of channels by running or batch statistics, of groups, layers and neighbours."""

from __future__ import annotations

import math

import numpy as np

from striate.formats.onnx import batch_axis
from striate.formats.onnx.batch_axis import moved
from striate.formats.onnx.lowering import Call
from striate.formats.onnx.operators.reduction import mean, reduced
from striate.formats.onnx.operators.structure import turned
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value
from striate.formula.expression import Expr, Var, equal, sqrt, where

_X, _T = Var("x"), Var("t")


@operator("Softmax", "LogSoftmax")
def softmax(c: Call) -> Value:
    x, axis = c.value(0), c.axis(c.attribute("axis", -1 if c.opset >= 13 else 1), c.value(0).rank)
    op = "softmax_along" if c.op == "Softmax" else "log_softmax"
    if c.opset >= 13 or axis == x.rank - 1:
        return along(c, op, x, axis)
    # before version 13 that axis and all after it count as one
    rows = c.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return c.reshape(along(c, op, rows, 1), x.shape)


def along(c: Call, op: str, x: Value, axis: int) -> Value:
    """An operation along one axis."""
    if not x.rank:
        return c.reshape(along(c, op, c.reshape(x, (1,)), 0), ())
    if moved(x):
        return batch_axis.along(x, axis, lambda v, k: along(c, op, v, k))
    whole, shift = c.form(x, [axis])
    if op == "softmax_along" and x.rank == 2 and not whole:
        return c.apply("softmax", [x], whole=False)
    return c.apply(op, [x], {"axis": axis + shift}, whole=whole)


@operator("Hardmax")
def hardmax(c: Call) -> Value:
    x, axis = c.value(0), c.attribute("axis", -1 if c.opset >= 13 else 1)
    at = c.axis(axis, x.rank)
    if c.opset < 13 and at != x.rank - 1:
        c.refuse("expected operator set 13 or newer, where it goes along one axis")
    return first_largest(c, x, at)


def first_largest(c: Call, x: Value, axis: int) -> Value:
    """1 at the first of the largest numbers along an axis, else 0."""
    hits, count = _hits(c, x, axis)
    return c.map(lambda a, b: a * equal(b, 1), hits, count)


def _hits(c: Call, x: Value, axis: int) -> tuple[Value, Value]:
    """1 at the largest numbers along an axis, and how many there were up to each place."""
    top = reduced(c, x, [axis], "max", _X, _T)
    hits = c.map(lambda a, b: where(a < b, 0, 1), x, top)
    whole, shift = c.form(hits, [axis])
    return hits, c.apply("cumsum", [hits], {"axis": axis + shift}, whole=whole)


@operator("ArgMax", "ArgMin")
def place_of_extreme(c: Call) -> Value:
    x, keep = c.value(0), bool(c.attribute("keepdims", 1))
    axis, last = c.axis(c.attribute("axis", 0), x.rank), c.attribute("select_last_index", 0)
    size = x.shape[axis]
    if c.op == "ArgMin":
        x = c.map(lambda a: -a, x)
    given = turned(c, x, axis) if last else x
    # a place is how many places lie before the first of the largest numbers
    before = c.map(lambda a: equal(a, 0), _hits(c, given, axis)[1])
    end: Expr = size - 1 - _T if last else _T
    total = reduced(c, before, [axis], "sum", _X, end, keep=keep)
    if c.lowering.symbolic:
        return Value(total.shape, np.int64, place=total.place)
    return c.given(total.array, np.int64)


@operator("CumSum", since=11)
def running_sum(c: Call) -> Value:
    x, axis = c.value(0), c.axis(c.integers(1)[0], c.value(0).rank)
    backward, exclusive = c.attribute("reverse", 0), c.attribute("exclusive", 0)
    given = turned(c, x, axis) if backward else x
    whole, shift = c.form(given, [axis])
    found = c.apply("cumsum", [given], {"axis": axis + shift}, whole=whole)
    if exclusive:
        found = c.map(lambda a, b: a - b, found, given)
    return turned(c, found, axis) if backward else found


@operator("BatchNormalization")
def batch_norm(c: Call) -> Value | list[Value | None]:
    x, scale, bias, old_mean, old_var = (c.value(k) for k in range(5))
    eps, momentum = float(c.attribute("epsilon", 1e-5)), float(c.attribute("momentum", 0.9))
    training = bool(c.attribute("training_mode", 0))
    c.attribute("is_test", 1)
    if not c.attribute("spatial", 1):
        c.refuse("spatial=0, statistics of each place, is not supported; supported is spatial=1")
    settings = {"eps": eps, "momentum": 1 - momentum}
    inputs = [x, scale, bias, old_mean, old_var]
    if c.lowering.symbolic:  # buffers of their own, that training may move
        inputs[3:] = [v.derived("running", lambda a: a.copy()) for v in (old_mean, old_var)]
    if not training or c.lowering.symbolic:
        return c.apply("batch_norm", inputs, settings, whole=False)
    found = c.apply("batch_norm_training", inputs, settings, whole=False)
    over = [0, *range(2, x.rank)]
    centre = mean(c, x, over)
    spread = mean(c, c.map(lambda a, b: a - b, x, centre), over, inner=_X * _X)
    means, variances = (c.reshape(v, (x.shape[1],)) for v in (centre, spread))
    moved = [
        c.map(lambda a, b: momentum * a + (1 - momentum) * b, old, new)
        for old, new in ((old_mean, means), (old_var, variances))
    ]
    return [found, *moved]


def standardized(c: Call, x: Value, over: list[int], eps: float) -> tuple[Value, Value, Value]:
    """(x − mean)/√(variance + eps) over axes; the mean; and what is multiplied by."""
    centre = mean(c, x, over)
    apart = c.map(lambda a, b: a - b, x, centre)
    spread = mean(c, apart, over, inner=_X * _X)
    factor = c.map(lambda v: 1 / sqrt(v + eps), spread)
    return c.map(lambda a, b: a * b, apart, factor), centre, factor


def _weights(c: Call, scale: Value, bias: Value | None) -> list[Value]:
    """Scale and bias; of an imported network without those that change nothing."""

    def idle(value: Value | None, number: float) -> bool:
        own = value is not None and value.constant and value.label not in c.lowering.weights
        return value is None or (own and bool((value.array == number).all()))

    if c.lowering.symbolic and idle(bias, 0):
        return [] if idle(scale, 1) else [scale]
    return [scale] if bias is None else [scale, bias]


@operator("InstanceNormalization")
def instance_norm(c: Call) -> Value:
    x, scale, bias = c.value(0), c.value(1), c.value(2)
    c.attribute("consumed_inputs")
    settings = {"eps": float(c.attribute("epsilon", 1e-5)), "groups": x.shape[1]}
    return c.apply("group_norm", [x, *_weights(c, scale, bias)], settings, whole=False)


@operator("GroupNormalization", since=18)
def group_norm(c: Call) -> Value:
    x, scale, bias = c.value(0), c.value(1), c.value(2)
    groups = int(c.attribute("num_groups"))
    c.attribute("stash_type", 1)
    settings = {"eps": float(c.attribute("epsilon", 1e-5)), "groups": groups}
    if c.opset < 21:  # one number a group, where it is one a channel from then on
        each = x.shape[1] // groups
        scale, bias = (v.derived("each", lambda a: np.repeat(a, each)) for v in (scale, bias))
    return c.apply("group_norm", [x, *_weights(c, scale, bias)], settings, whole=False)


@operator("LayerNormalization", since=17)
def layer_norm(c: Call) -> list[Value | None]:
    x, scale, bias = c.value(0), c.value(1), c.maybe(2)
    axis, eps = c.axis(c.attribute("axis", -1), x.rank), float(c.attribute("epsilon", 1e-5))
    c.attribute("stash_type", 1)
    weights = _weights(c, scale, bias)
    found: Value | None = None
    if all(v.shape == x.shape[axis:] for v in weights):
        whole, _ = c.form(x, [axis])
        settings = {"eps": eps, "axes": x.rank - axis}
        found = c.apply("layer_norm", [x, *weights], settings, whole=whole)
    if found is not None and not c.wants(1) and not c.wants(2):
        return [found]
    plain, centre, factor = standardized(c, x, list(range(axis, x.rank)), eps)
    if found is None:
        found = c.map(lambda a, b: a * b, plain, scale)
        found = found if bias is None else c.map(lambda a, b: a + b, found, bias)
    return [found, centre, factor]


@operator("RMSNormalization", since=23)
def rms_norm(c: Call) -> Value:
    x, scale = c.value(0), c.value(1)
    axis, eps = c.axis(c.attribute("axis", -1), x.rank), float(c.attribute("epsilon", 1e-5))
    c.attribute("stash_type", 1)
    whole, _ = c.form(x, [axis])
    settings = {"eps": eps, "axes": x.rank - axis}
    if scale.shape == x.shape[axis:]:
        return c.apply("rms_norm", [x, scale], settings, whole=whole)
    plain = c.apply("rms_norm", [x], settings, whole=whole)
    return c.map(lambda a, b: a * b, plain, scale)


@operator("MeanVarianceNormalization")
def mean_variance_norm(c: Call) -> Value:
    x = c.value(0)
    over = sorted(c.axis(k, x.rank) for k in c.attribute("axes", [0, 2, 3]))
    centre = mean(c, x, over)
    apart = c.map(lambda a, b: a - b, x, centre)
    spread = mean(c, apart, over, inner=_X * _X)
    return c.map(lambda a, b: a / (sqrt(b) + 1e-9), apart, spread)


@operator("LRN")
def local_response_norm(c: Call) -> Value:
    x, size = c.value(0), int(c.attribute("size"))
    settings = {
        "size": size,
        "alpha": float(c.attribute("alpha", 1e-4)),
        "beta": float(c.attribute("beta", 0.75)),
        "k": float(c.attribute("bias", 1.0)),
    }
    # an even window has its odd neighbour after the channel here, before it in striate
    even = size % 2 == 0
    given = turned(c, x, 1) if even else x
    found = c.apply("local_response_norm", [given], settings, whole=False)
    return turned(c, found, 1) if even else found


@operator("LpNormalization")
def lp_normalization(c: Call) -> Value:
    x = c.value(0)
    axis, p = c.axis(c.attribute("axis", -1), x.rank), int(c.attribute("p", 2))
    if p not in (1, 2):
        c.refuse(f"p expected 1 or 2; got {p}")
    inner, outer = (abs(_X), _T) if p == 1 else (_X * _X, sqrt(_T))
    length = reduced(c, x, [axis], "sum", inner, outer)
    return c.map(lambda a, b: where(b > 0, a / where(b > 0, b, 1), 0), x, length)
