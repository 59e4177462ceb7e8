"""Softmax along any axis, its logarithm, and the gated linear unit.

The `softmax` of rows of classes, which has a kernel of its own, is in `loss`.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import ShapeError
from striate.formula.expression import (
    Expr,
    Index,
    Max,
    Sum,
    Tensor,
    axes,
    exp,
    log,
    sigmoid,
)
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    whole_attribute,
)


class _AlongAxis(Operation):
    """An operation along `axis`, which counts the batch axis, so it is ≥ 1."""

    arguments = ("x",)
    attributes = ("axis",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        axis = whole_attribute(self.name, attributes, "axis", 1)
        if axis > len(x):
            raise ShapeError(
                f"{self.name}: expected an axis from 1 to {len(x)} (the batch is axis 0); got "
                f"axis={axis} for shape {x} besides the batch."
            )
        return x


class SoftmaxAlong(_AlongAxis):
    """`y[n,…,k,…] = exp(x[n,…,k,…]) / Σ_t exp(x[n,…,t,…])`, the largest x taken off first.

    Input: x (n, …). Output: as x; along `axis` it sums to 1.

    >>> SoftmaxAlong().shape({"axis": 1}, [(4, 8, 8)])
    (4, 8, 8)
    """

    name = "softmax_along"
    sign = 1

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        place = axes("n " + " ".join(f"a{k}" for k in range(1, len(x))))
        axis, (t, u) = int(attributes["axis"]), axes("t u")
        top = Max((u,), self.sign * _at(place, axis, u))
        total = Sum((t,), exp(self.sign * _at(place, axis, t) - top))
        sizes = {str(k): size for k, size in zip(place, x, strict=True)}
        sizes |= {"t": x[axis], "u": x[axis]}
        body = self._body(self.sign * Tensor("x")[place] - top, total)
        return Formula(place, body, sizes, {"x": x})

    def _body(self, above: Expr, total: Expr) -> Expr:
        """The result from x less the maximum, and the sum of exponentials of such."""
        return exp(above) / total


class Softmin(SoftmaxAlong):
    """Softmax of −x along `axis`: the smallest number gets the largest share.

    Input: x (n, …). Output: as x.
    """

    name = "softmin"
    sign = -1


class LogSoftmax(SoftmaxAlong):
    """`y[n,…,k,…] = x[n,…,k,…] − ln Σ_t exp(x[n,…,t,…])`, the largest x taken off first.

    Input: x (n, …). Output: as x.
    """

    name = "log_softmax"

    def _body(self, above: Expr, total: Expr) -> Expr:
        return above - log(total)


class Glu(_AlongAxis):
    """`y[n,…,k,…] = x[n,…,k,…]·σ(x[n,…,k + h,…])` for the h = size/2 entries along `axis`.

    Input: x (n, …), even along `axis`. Output: half as long there.

    Source: Dauphin et al., Language Modeling with Gated Convolutional Networks, arXiv:1612.08083.

    >>> Glu().shape({"axis": 1}, [(4, 8, 8)])
    (2, 8, 8)
    """

    name = "glu"

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        x = super().shape(attributes, shapes)
        axis = int(attributes["axis"]) - 1
        if x[axis] % 2:
            raise ShapeError(
                f"glu: expected an even size along axis {axis + 1}, which is halved; got {x[axis]} "
                f"for shape {x} besides the batch."
            )
        return (*x[:axis], x[axis] // 2, *x[axis + 1 :])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, axis = tuple(shapes[0]), int(attributes["axis"])
        place = axes("n " + " ".join(f"a{k}" for k in range(1, len(x))))
        half = x[axis] // 2
        gate = sigmoid(_at(place, axis, place[axis] + half))
        sizes = {str(k): size for k, size in zip(place, x, strict=True)} | {str(place[axis]): half}
        return Formula(place, Tensor("x")[place] * gate, sizes, {"x": x})


def _at(place: tuple[Index, ...], axis: int, index: Index) -> Expr:
    """x there, with another index along one axis."""
    there = (*place[:axis], index, *place[axis + 1 :])
    return Tensor("x")[there]
