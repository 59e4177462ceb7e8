"""Fully connected layers: of one axis of features, of the last of several, and bilinear."""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import ShapeError
from striate.formula.expression import Index, Sum, Tensor, axes
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


class Dense(Operation):
    """`y[n,…,o] = b[o] + Σ_k x[n,…,k] · w[o,k]`: a linear layer on the last of several axes.

    Inputs: x (n, …, in_features); w (out_features, in_features); b (out_features,) or none.
    Output: (n, …, out_features). One axis of features besides the batch is the operation `linear`.

    >>> Dense().shape({}, [(7, 3), (5, 3), (5,)])
    (7, 5)
    """

    name = "dense"
    arguments = ("x", "w", "b")
    optional = 1
    parameters = ("w", "b")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, w = tuple(shapes[0]), tuple(shapes[1])
        require_rank(self.name, "w", w, "out_features, in_features")
        if not x or x[-1] != w[1]:
            raise ShapeError(
                f"dense: expected in_features={w[1]} along the last axis of x, as w {w} has; got "
                f"shape {x} besides the batch."
            )
        _require_bias(self.name, w[0], shapes[2:])
        return (*x[:-1], w[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        before, (o, k) = _leading(len(shapes[0])), axes("o k")
        row = (*before, k)
        body = Sum((k,), Tensor("x")[row] * Tensor("w")[o, k])
        if len(names) == 3:
            body = Tensor("b")[o] + body
        return Formula.infer((*before, o), body, dict(zip(names, shapes, strict=True)))


class Bilinear(Operation):
    """`z[n,…,o] = b[o] + Σ_{k,l} x[n,…,k] · w[o,k,l] · y[n,…,l]`.

    Inputs: x (n, …, in1_features); y (n, …, in2_features); w (out_features, in1_features,
    in2_features); b (out_features,) or none.
    Output: (n, …, out_features).

    >>> Bilinear().shape({}, [(3,), (4,), (5, 3, 4)])
    (5,)
    """

    name = "bilinear"
    arguments = ("x", "y", "w", "b")
    optional = 1
    parameters = ("w", "b")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, y, w = (tuple(shape) for shape in shapes[:3])
        require_rank(self.name, "w", w, "out_features, in1_features, in2_features")
        if not x or not y or x[:-1] != y[:-1] or (x[-1], y[-1]) != w[1:]:
            raise ShapeError(
                f"bilinear: expected x and y equal but for their last axes, of {w[1]} and {w[2]} "
                f"features as w {w} has; got {x} and {y} besides the batch."
            )
        _require_bias(self.name, w[0], shapes[3:])
        return (*x[:-1], w[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        before, (o, k, m) = _leading(len(shapes[0])), axes("o k l")
        left, right = (*before, k), (*before, m)
        body = Sum((k, m), Tensor("x")[left] * Tensor("w")[o, k, m] * Tensor("y")[right])
        if len(names) == 4:
            body = Tensor("b")[o] + body
        return Formula.infer((*before, o), body, dict(zip(names, shapes, strict=True)))


def _leading(rank: int) -> tuple[Index, ...]:
    """The batch and the axes before the features."""
    return axes(" ".join(["n", *(f"k{k}" for k in range(1, rank - 1))]))


def _require_bias(name: str, features: int, shapes: Sequence[Shape]) -> None:
    if shapes and tuple(shapes[0]) != (features,):
        raise ShapeError(
            f"{name}: b expected shape ({features},), one number a feature; got {tuple(shapes[0])}."
        )
