"""Normalisation: of channels by running or batch statistics, of groups, layers and neighbours."""

from __future__ import annotations

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.operators.reduction import log_sum_exp, mean, reduced
from striate.formats.onnx.operators.structure import turned
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import Value
from striate.formula.expression import Var, equal, exp, sqrt, where

_X, _T = Var("x"), Var("t")


@operator("Softmax", "LogSoftmax")
def softmax(c: Call) -> Value:
    x, axis = c.value(0), c.attribute("axis", -1 if c.opset >= 13 else 1)
    over = _softmax_axes(c, x, axis)
    if c.op == "LogSoftmax":
        return log_softmax(c, x, over)
    return c.map(lambda a, b: exp(a - b), x, log_sum_exp(c, x, over))


def log_softmax(c: Call, x: Value, over: list[int]) -> Value:
    """`x − log Σ eˣ` over axes."""
    return c.map(lambda a, b: a - b, x, log_sum_exp(c, x, over))


def _softmax_axes(c: Call, x: Value, axis: int) -> list[int]:
    """One axis; before version 13 that and all after it."""
    first = c.axis(axis, x.rank)
    return [first] if c.opset >= 13 else list(range(first, x.rank))


@operator("Hardmax")
def hardmax(c: Call) -> Value:
    x = c.value(0)
    over = _softmax_axes(c, x, c.attribute("axis", -1 if c.opset >= 13 else 1))
    if len(over) > 1:
        c.refuse("expected operator set 13 or newer, where it goes along one axis")
    top = reduced(c, x, over, "max", _X, _T)
    hits = c.map(lambda a, b: where(a < b, 0, 1), x, top)
    whole, shift = c.form(hits, over)
    count = c.apply("cumsum", [hits], {"axis": over[0] + shift}, whole=whole)
    return c.map(lambda a, b: a * equal(b, 1), hits, count)


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
    if not training:
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


@operator("InstanceNormalization")
def instance_norm(c: Call) -> Value:
    x, scale, bias = c.value(0), c.value(1), c.value(2)
    c.attribute("consumed_inputs")
    eps = float(c.attribute("epsilon", 1e-5))
    found, _, _ = standardized(c, x, list(range(2, x.rank)), eps)
    return _affine(c, found, scale, bias)


def _affine(c: Call, x: Value, scale: Value, bias: Value) -> Value:
    """A scale and a bias for each channel, axis 1."""
    shape = (scale.shape[0], *(1,) * (x.rank - 2))
    a, b = c.reshape(scale, shape), c.reshape(bias, shape)
    return c.map(lambda p, q, r: p * q + r, x, a, b)


@operator("GroupNormalization", since=18)
def group_norm(c: Call) -> Value:
    x, scale, bias = c.value(0), c.value(1), c.value(2)
    groups, eps = int(c.attribute("num_groups")), float(c.attribute("epsilon", 1e-5))
    c.attribute("stash_type", 1)
    n, channels = x.shape[:2]
    if channels % groups:
        c.refuse(f"expected channels divisible by num_groups={groups}; got {channels}")
    apart = c.reshape(x, (n, groups, channels // groups, *x.shape[2:]))
    found, _, _ = standardized(c, apart, list(range(2, apart.rank)), eps)
    if c.opset >= 21:
        return _affine(c, c.reshape(found, x.shape), scale, bias)
    shape = (groups, *(1,) * (apart.rank - 2))  # before version 21 one number a group
    a, b = c.reshape(scale, shape), c.reshape(bias, shape)
    return c.reshape(c.map(lambda p, q, r: p * q + r, found, a, b), x.shape)


@operator("LayerNormalization", since=17)
def layer_norm(c: Call) -> list[Value | None]:
    x, scale, bias = c.value(0), c.value(1), c.maybe(2)
    axis, eps = c.axis(c.attribute("axis", -1), x.rank), float(c.attribute("epsilon", 1e-5))
    c.attribute("stash_type", 1)
    found, centre, factor = standardized(c, x, list(range(axis, x.rank)), eps)
    if bias is None:
        return [c.map(lambda a, b: a * b, found, scale), centre, factor]
    return [c.map(lambda p, q, r: p * q + r, found, scale, bias), centre, factor]


@operator("RMSNormalization", since=23)
def rms_norm(c: Call) -> Value:
    x, scale = c.value(0), c.value(1)
    axis, eps = c.axis(c.attribute("axis", -1), x.rank), float(c.attribute("epsilon", 1e-5))
    c.attribute("stash_type", 1)
    over = list(range(axis, x.rank))
    root = c.map(lambda v: 1 / sqrt(v + eps), mean(c, x, over, inner=_X * _X))
    return c.map(lambda p, q, r: p * q * r, x, root, scale)


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
