"""The fully connected layer: its formula and shape rule."""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import ShapeError
from striate.formula.expression import Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    require_rank,
)


class Linear(Operation):
    """`y[n,o] = b[o] + Σ_k x[n,k] · w[o,k]`.

    Inputs: x (n, in_features); w (out_features, in_features); b (out_features,) or none.
    Output: (n, out_features).

    >>> Linear().shape({}, [(400,), (120, 400), (120,)])
    (120,)
    """

    name = "linear"
    arguments = ("x", "w", "b")
    optional = 1
    parameters = ("w", "b")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, w = tuple(shapes[0]), tuple(shapes[1])
        require_rank(self.name, "w", w, "out_features, in_features")
        if len(x) != 1:
            raise ShapeError(
                f"linear: expected one axis of {w[1]} features besides the batch; got shape {x}. "
                f"Put a Flatten before the layer."
            )
        if x[0] != w[1]:
            raise ShapeError(
                f"linear: expected in_features={w[1]}, as w {w} has; got {x[0]} features. "
                f"Make the layer with in_features={x[0]}, or change the size of its input."
            )
        if len(shapes) == 3 and tuple(shapes[2]) != (w[0],):
            raise ShapeError(
                f"linear: b expected shape ({w[0]},), one number a feature; got {tuple(shapes[2])}."
            )
        return (w[0],)

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        n, o, k = axes("n o k")
        x, w, b = Tensor("x"), Tensor("w"), Tensor("b")
        body = Sum((k,), x[n, k] * w[o, k])
        if len(names) == 3:
            body = b[o] + body
        return Formula.infer((n, o), body, dict(zip(names, shapes, strict=True)))
