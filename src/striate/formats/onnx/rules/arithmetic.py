"""Export of scalar functions, sums along axes and running sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from striate.formats.onnx.scalars import expression
from striate.formats.onnx.site import Site, exports
from striate.formula.activation import (
    ACTIVATIONS,
    Activation,
    celu,
    elu,
    hardshrink,
    leaky_relu,
    softshrink,
    threshold,
)
from striate.formula.broadcast import BATCHED
from striate.formula.channel_map import prelu
from striate.formula.expression import Call, Const, Expr, Var, from_json, to_json, variables
from striate.formula.reduce import p_norm, reduce_attributes

# an activation's name -> its operator, its attributes, and the version that it is there since
_OPERATORS: dict[str, tuple[str, Mapping[str, Any], int]] = {
    "identity": ("Identity", {}, 1),
    "relu": ("Relu", {}, 13),
    "tanh": ("Tanh", {}, 13),
    "sigmoid": ("Sigmoid", {}, 13),
    "softplus": ("Softplus", {}, 1),
    "softsign": ("Softsign", {}, 1),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}, 6),
    "elu": ("Elu", {"alpha": 1.0}, 6),
    "selu": ("Selu", {}, 6),
    "celu": ("Celu", {"alpha": 1.0}, 12),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, 6),
    "hard_swish": ("HardSwish", {}, 14),
    "mish": ("Mish", {}, 18),
    "gelu": ("Gelu", {}, 20),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}, 20),
    "silu": ("Swish", {}, 24),
    "arctan": ("Atan", {}, 7),
    "arsinh": ("Asinh", {}, 9),
}
# an operator, the activation that it is for a setting, and its attributes then
_SETTINGS: tuple[tuple[str, Callable[[float], Activation], Callable[[float], Any]], ...] = (
    ("LeakyRelu", leaky_relu, lambda k: {"alpha": k}),
    ("Elu", elu, lambda k: {"alpha": k}),
    ("Celu", celu, lambda k: {"alpha": k}),
    ("ThresholdedRelu", lambda k: threshold(k, 0.0), lambda k: {"alpha": k}),
    ("Shrink", softshrink, lambda k: {"lambd": k, "bias": k}),
    ("Shrink", hardshrink, lambda k: {"lambd": k, "bias": 0.0}),
)
_FEW = 2  # functions of scalars that are written in place


@cache
def _names() -> dict[Expr, str]:
    """The activations by their expressions, as these come back from JSON."""
    return {from_json(to_json(a.expr)): name for name, a in ACTIVATIONS.items()}


def activation_name(e: Expr) -> str | None:
    """The name of a well-known activation.

    >>> from striate.formula.expression import maximum
    >>> activation_name(maximum(Var("x"), 0))
    'relu'
    """
    return _names().get(e)


def _numbers(e: Expr) -> list[float]:
    if isinstance(e, Const):
        return [e.value]
    return [k for a in e.arguments for k in _numbers(a)] if isinstance(e, Call) else []


def _with_setting(e: Expr) -> tuple[str, dict[str, Any]] | None:
    """An activation with a setting, which is one of its numbers: operator and attributes."""
    for k in dict.fromkeys(_numbers(e)):
        for kind, function, attributes in _SETTINGS:
            if k and from_json(to_json(function(k).expr)) == e:
                return kind, attributes(k)
    return None


def _bounds(e: Expr) -> tuple[float, float] | None:
    """low and high of `min(max(x, low), high)`."""
    if isinstance(e, Call) and e.function == "minimum" and isinstance(e.arguments[1], Const):
        inner, high = e.arguments
        if isinstance(inner, Call) and inner.function == "maximum":
            x, low = inner.arguments
            if isinstance(x, Var) and isinstance(low, Const) and isinstance(high, Const):
                return low.value, high.value
    return None


def _size(e: Expr) -> int:
    return 1 + sum(map(_size, e.arguments)) if isinstance(e, Call) else 0


@exports("map")
def elementwise(s: Site) -> str | None:
    names = [str(k) for k in s.attributes["inputs"]]
    e = from_json(s.attributes["expr"])
    if not variables(e):
        return None  # the same number everywhere: the formula says how often
    if len(names) == 1:
        found = _of_one(s, e)
        if found is not None or _size(e) > _FEW:
            return found
    return expression(s.b, e, dict(zip(names, s.inputs, strict=True)))


def _of_one(s: Site, e: Expr) -> str | None:
    """An operator for an activation, where this version of ONNX has one."""
    kind, attributes, since = _OPERATORS.get(activation_name(e) or "", ("", {}, 99))
    if since <= s.b.opset:
        return s.b.op(kind, s.x, **attributes)
    setting = _with_setting(e)
    if setting is not None:
        return s.b.op(setting[0], s.x, **setting[1])
    bounds = _bounds(e)
    if bounds is not None:
        return s.b.op("Clip", s.x, *map(s.b.number, bounds))
    return None


@exports("broadcast_map")
def broadcast(s: Site) -> str | None:
    names = [str(k) for k in s.attributes["inputs"]]
    e = from_json(s.attributes["expr"])
    read = {*variables(e)} & {*BATCHED}
    if not any(k in read and shape == s.shape for k, shape in zip(names, s.shapes, strict=True)):
        return None  # the result is larger than each: the formula says how
    return expression(s.b, e, dict(zip(names, s.inputs, strict=True)))


@exports("channel_map")
def channel_map(s: Site) -> str | None:
    if dict(s.attributes) != prelu():
        return None
    space = range(1, len(s.shapes[0]))
    return s.b.op("PRelu", s.x, s.b.unsqueeze(s.inputs[1], list(space)))


@exports("reduce")
def reduce(s: Site) -> str | None:
    a = dict(s.attributes)
    axes, keep = [int(k) for k in a["axes"]], bool(a["keepdim"])
    count = 1
    for k in axes:
        count *= s.shapes[0][k - 1]
    x, t = Var("x"), Var("t")
    known = {
        "ReduceSum": ("sum", x, t),
        "ReduceMax": ("max", x, t),
        "ReduceMin": ("max", -x, -t),
        "ReduceMean": ("sum", x, t / count),
        "ReduceL1": p_norm(1),
        "ReduceL2": p_norm(2),
        "ReduceSumSquare": ("sum", x * x, t),
    }
    for kind, (how, inner, outer) in known.items():
        if reduce_attributes(how, axes, keep, inner, outer) == a:
            return s.b.reduce(kind, s.x, axes, keep)
    return None


@exports("logsumexp")
def log_sum_exp(s: Site) -> str:
    axes = [int(k) for k in s.attributes["axes"]]
    return s.b.reduce("ReduceLogSumExp", s.x, axes, bool(s.attributes["keepdim"]))


@exports("cumsum")
def running_sum(s: Site) -> str:
    return s.b.op("CumSum", s.x, s.b.integers([int(s.attributes["axis"])]))
