"""Scalar functions applied to every number: a table of named ones, and the operation `map`.

Any expression of `formula.expression` can be mapped; the named ones are only well known. Reference,
gradient and native kernel follow from the expression; where a shorter derivative than that of
`diff` is known, it stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from striate.errors import OptionError, ShapeError, suggest
from striate.formula.expression import (
    Call,
    Const,
    Expr,
    Tensor,
    Var,
    asinh,
    atan,
    axes,
    erf,
    exp,
    expm1,
    from_json,
    maximum,
    minimum,
    power,
    sigmoid,
    softplus,
    sqrt,
    substitute,
    tanh,
    to_json,
    variables,
    where,
)
from striate.formula.expression import Index as AxisIndex
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    require_same,
)

_X, _Y, _U = Var("x"), Var("y"), Var("u")
_FAR = 1e18  # beyond it x² is no float32


@dataclass(frozen=True)
class Activation:
    """A named scalar function of `x`; if it has a short one, its derivative, of `x` and `y`."""

    expr: Expr
    gradient_y: Expr | None = field(default=None)


# ---- with settings ---------------------------------------------------------------------------


def leaky_relu(slope: float) -> Activation:
    """`x` where x > 0, else `slope·x`."""
    by_output = where(_Y > 0, 1, slope) if slope >= 0 else None
    return Activation(where(_X > 0, _X, slope * _X), by_output)


def elu(alpha: float) -> Activation:
    """`x` where x > 0, else `alpha·(eˣ − 1)`."""
    return Activation(where(_X > 0, _X, alpha * expm1(_X)))


def celu(alpha: float) -> Activation:
    """`x` where x > 0, else `alpha·(e^(x/alpha) − 1)`."""
    return Activation(where(_X > 0, _X, alpha * expm1(_X / alpha)))


def scaled_softplus(beta: float, threshold: float) -> Activation:
    """`ln(1 + e^(beta·x))/beta`, and x where beta·x > threshold."""
    smooth = softplus(beta * _X) / beta
    return Activation(where(beta * _X > threshold, _X, smooth))


def isru(alpha: float) -> Activation:
    """`x/√(1 + alpha·x²)`; its derivative is `(1 + alpha·x²)^(−3/2)`."""
    near = minimum(maximum(_X, -_FAR), _FAR)
    root = 1 / sqrt(1 + alpha * (near * near))
    return Activation(near * root, root * root * root)


def isrlu(alpha: float) -> Activation:
    """`x` where x ≥ 0, else `x/√(1 + alpha·x²)`; the derivative: 1, else (1 + alpha·x²)^(−3/2)."""
    low = maximum(minimum(_X, 0), -_FAR)
    root = 1 / sqrt(1 + alpha * (low * low))
    return Activation(where(_X < 0, low * root, _X), root * root * root)


def hardtanh(low: float, high: float) -> Activation:
    """`min(max(x, low), high)`."""
    inside = where(_Y > low, where(_Y < high, 1, 0), 0)
    return Activation(minimum(maximum(_X, low), high), inside)


def hardshrink(bound: float) -> Activation:
    """`x` where |x| > bound, else 0."""
    return Activation(where(abs(_X) <= bound, 0, _X))


def softshrink(bound: float) -> Activation:
    """`x − bound` where x > bound, `x + bound` where x < −bound, else 0."""
    return Activation(maximum(_X - bound, 0) + minimum(_X + bound, 0))


def threshold(bound: float, value: float) -> Activation:
    """`x` where x > bound, else `value`."""
    return Activation(where(_X <= bound, value, _X))


def rrelu(lower: float, upper: float) -> Expr:
    """Of x and a uniform u: `x` where x ≥ 0, else `(lower + (upper − lower)·u)·x`."""
    return where(_X >= 0, _X, (lower + (upper - lower) * _U) * _X)


# ---- without ---------------------------------------------------------------------------------


def _gelu_tanh() -> Expr:
    """`x·Φ(x)` with `Φ(x) ≈ (1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`."""
    inner = math.sqrt(2 / math.pi) * (_X + 0.044715 * (_X * _X * _X))
    return 0.5 * _X * (1 + tanh(inner))


def _mish() -> Expr:
    """`x·tanh(ln(1 + eˣ))`: with n = eˣ·(eˣ + 2) the hyperbolic tangent is n/(n + 2)."""
    e = exp(minimum(_X, 20))  # from 20 on n/(n + 2) is 1
    n = e * (e + 2)
    return _X * (n / (n + 2))


def _sqnl() -> Activation:
    """`x − x·|x|/4` between −2 and 2, ±1 beyond."""
    inside = minimum(maximum(_X, -2), 2)
    return Activation(inside - inside * abs(inside) * 0.25, maximum(1 - 0.5 * abs(_X), 0))


# Klambauer et al., Self-Normalizing Neural Networks, arXiv:1706.02515
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(_X),
    "binary_step": Activation(_X >= 0),
    "relu": Activation(maximum(_X, 0), where(_Y > 0, 1, 0)),
    "tanh": Activation(tanh(_X), 1 - _Y * _Y),
    "sigmoid": Activation(sigmoid(_X), _Y * (1 - _Y)),
    # LeCun et al. 1998, appendix A: f(±1) = ±1, largest curvature near ±1
    "scaled_tanh": Activation(
        1.7159 * tanh(_X * (2 / 3)), (1.7159 * 2 / 3) * (1 - (_Y * (1 / 1.7159)) ** 2)
    ),
    "sqnl": _sqnl(),
    "arctan": Activation(atan(_X)),
    "arsinh": Activation(asinh(_X)),
    "softsign": Activation(_X / (1 + abs(_X)), power(1 / (1 + abs(_X)), 2)),
    "softplus": Activation(softplus(_X)),
    "log_sigmoid": Activation(-softplus(-_X)),
    "silu": Activation(_X * sigmoid(_X)),
    "mish": Activation(_mish()),
    "square": Activation(_X * _X),
    "relu6": Activation(minimum(maximum(_X, 0), 6), where(_Y > 0, where(_Y < 6, 1, 0), 0)),
    "leaky_relu": leaky_relu(0.01),
    "selu": Activation(
        _SELU_SCALE * where(_X > 0, _X, _SELU_ALPHA * expm1(_X)),
    ),
    "elish": Activation(where(_X < 0, expm1(_X), _X) * sigmoid(_X)),
    "hard_sigmoid": Activation(
        minimum(maximum(_X + 3, 0), 6) / 6, where(_Y > 0, where(_Y < 1, 1 / 6, 0), 0)
    ),
    "hard_swish": Activation(_X * (minimum(maximum(_X + 3, 0), 6) / 6)),
    "tanhshrink": Activation(_X - tanh(_X), power(tanh(_X), 2)),
    # Hendrycks & Gimpel, Gaussian Error Linear Units, arXiv:1606.08415: exact, and its tanh form
    "gelu": Activation(0.5 * _X * (1 + erf(_X * math.sqrt(0.5)))),
    "gelu_tanh": Activation(_gelu_tanh()),
    "elu": elu(1.0),
    "celu": celu(1.0),
    "isru": isru(1.0),
    "isrlu": isrlu(1.0),
    "hardtanh": hardtanh(-1.0, 1.0),
    "hardshrink": hardshrink(0.5),
    "softshrink": softshrink(0.5),
}


def map_attributes(
    function: str | Expr | Activation, inputs: Sequence[str] = ("x",)
) -> dict[str, Any]:
    """The attributes of a `map` node.

    Args:
        function: a name in `ACTIVATIONS`, an activation, or an expression.
        inputs: the names that the expression gives to the node's inputs, in order.
    Raises:
        OptionError: the name is unknown, or the expression reads something else.

    >>> map_attributes("relu")["expr"]
    ['maximum', 'x', 0.0]
    """
    if isinstance(function, str):
        known = ACTIVATIONS.get(function)
    else:
        known = function if isinstance(function, Activation) else Activation(function)
    if known is None:
        raise OptionError(
            f"activation: unknown function {function!r}. {suggest(str(function), ACTIVATIONS)}"
        )
    attributes: dict[str, Any] = {"inputs": list(inputs), "expr": to_json(known.expr)}
    if known.gradient_y is not None and list(inputs) == ["x"]:
        attributes["gradient_y"] = {"x": to_json(known.gradient_y)}
    map_expression(attributes)
    return attributes


def map_expression(attributes: Attributes) -> tuple[tuple[str, ...], Expr]:
    """The input names and the expression of a `map` node.

    Raises:
        OptionError: an attribute is missing or damaged, or the expression reads an unknown name.
    """
    known = ("inputs", "expr", *(("gradient_y",) if "gradient_y" in attributes else ()))
    require_attributes("map", attributes, known)
    names = tuple(str(name) for name in attributes["inputs"])
    if not names or len(set(names)) != len(names):
        raise OptionError(f"map: inputs expected different names, one an input; got {list(names)}.")
    body = from_json(attributes["expr"])
    unknown = [v for v in variables(body) if v not in names]
    if unknown:
        raise OptionError(
            f"map: expected an expression of {', '.join(names)}; got {unknown[0]!r} in {body}."
        )
    by_output: Mapping[str, Any] = attributes.get("gradient_y", {})
    for name, data in by_output.items():
        if name not in names or any(v not in (*names, "y") for v in variables(from_json(data))):
            raise OptionError(
                f"map: gradient_y expected derivatives to {', '.join(names)}, in terms of y and "
                f"these; got {dict(by_output)}."
            )
    return names, body


def is_relu(attributes: Attributes) -> bool:
    """Whether a `map` node computes `max(x, 0)`, also cut off above as ReLU6 is.

    >>> [is_relu(map_attributes(name)) for name in ("relu", "relu6", "silu")]
    [True, True, False]
    """
    names, body = map_expression(attributes)
    if len(names) != 1:
        return False
    x = Var(names[0])
    if isinstance(body, Call) and body.function == "minimum":
        inner, limit = body.arguments
        body = inner if isinstance(limit, Const) and limit.value > 0 else body
    return body in (maximum(x, 0), maximum(0, x), where(x > 0, x, 0))


class Map(Operation):
    """`y[…] = f(x[…], …)` for inputs of one shape.

    >>> Map().shape(map_attributes("relu"), [(6, 28, 28)])
    (6, 28, 28)
    """

    name = "map"
    attributes = ("inputs", "expr", "gradient_y")

    def argument_names(self, attributes: Attributes, count: int) -> tuple[str, ...]:
        names, _ = map_expression(attributes)
        if len(names) != count:
            raise ShapeError(f"map: expected inputs {', '.join(names)}; got {count} of them.")
        return names

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        return require_same(self.name, self.argument_names(attributes, len(shapes)), shapes)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names, body = map_expression(attributes)
        place = _place(len(shapes[0]))
        reads = {name: Tensor(name)[place] for name in names}
        sizes = {str(k): size for k, size in zip(place, shapes[0], strict=True)}
        tensors = {name: tuple(shape) for name, shape in zip(names, shapes, strict=True)}
        return Formula(place, substitute(body, reads), sizes, tensors)


def _place(rank: int) -> tuple[AxisIndex, ...]:
    names = {1: "n", 2: "n k", 3: "n c i", 4: "n c i j"}
    return axes(names.get(rank, "n " + " ".join(f"k{k}" for k in range(1, rank))))
