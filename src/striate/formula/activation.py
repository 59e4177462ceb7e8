"""Scalar functions applied to every number: the operation `map`, and a table of named ones.

Any expression of `formula.expression` can be mapped; the names below are only a short list of
well-known ones. Reference, gradient and native kernel follow from the expression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from striate.errors import OptionError, ShapeError, suggest
from striate.formula.expression import (
    Expr,
    Tensor,
    Var,
    axes,
    exp,
    from_json,
    log,
    maximum,
    minimum,
    sigmoid,
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

_X, _Y = Var("x"), Var("y")


@dataclass(frozen=True)
class Activation:
    """A named scalar function of `x`; if it has one, its derivative in terms of the output `y`."""

    expr: Expr
    gradient_y: Expr | None = field(default=None)


def _softplus() -> Expr:
    """`log(1 + eˣ)`, written so that eˣ cannot overflow."""
    return where(_X > 0, _X + log(1 + exp(-_X)), log(1 + exp(_X)))


def leaky_relu(slope: float) -> Activation:
    """`x` where x > 0, else `slope·x`."""
    by_output = where(_Y > 0, 1, slope) if slope >= 0 else None
    return Activation(where(_X > 0, _X, slope * _X), by_output)


def _gelu_tanh() -> Expr:
    """`x·Φ(x)` with `Φ(x) ≈ (1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`."""
    inner = math.sqrt(2 / math.pi) * (_X + 0.044715 * (_X * _X * _X))
    return 0.5 * _X * (1 + tanh(inner))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(_X),
    "relu": Activation(maximum(_X, 0), where(_Y > 0, 1, 0)),
    "tanh": Activation(tanh(_X), 1 - _Y * _Y),
    "sigmoid": Activation(sigmoid(_X), _Y * (1 - _Y)),
    # LeCun et al. 1998, appendix A: f(±1) = ±1, largest curvature near ±1
    "scaled_tanh": Activation(
        1.7159 * tanh(_X * (2 / 3)), (1.7159 * 2 / 3) * (1 - (_Y * (1 / 1.7159)) ** 2)
    ),
    "softplus": Activation(_softplus()),
    "silu": Activation(_X * sigmoid(_X)),
    "square": Activation(_X * _X),
    "relu6": Activation(minimum(maximum(_X, 0), 6), where(_Y > 0, where(_Y < 6, 1, 0), 0)),
    "leaky_relu": leaky_relu(0.01),
    "hard_sigmoid": Activation(
        minimum(maximum(_X + 3, 0), 6) / 6, where(_Y > 0, where(_Y < 1, 1 / 6, 0), 0)
    ),
    "hard_swish": Activation(_X * (minimum(maximum(_X + 3, 0), 6) / 6)),
    # Hendrycks & Gimpel, Gaussian Error Linear Units, arXiv:1606.08415: its tanh form
    "gelu_tanh": Activation(_gelu_tanh()),
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
