"""How far two or three descriptions are from each other: cosine embedding and triplet margin.

Not losses of a prediction and a target: they compare what networks give, so they may stand in a
network, and a gradient goes to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Sum, Tensor, axes, maximum, minimum, power, sqrt, where
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    number_attribute,
    require_attributes,
    require_rank,
    require_same,
)

_N, _K = axes("n k")


class CosineEmbedding(Operation):
    """`y[n] = 1 − cos(x, y)` where t is 1, `max(0, cos(x, y) − margin)` where it is −1.

    Inputs: x and y (n, features); t (n,), 1 or −1. Output: (n,).
    """

    name = "cosine_embedding"
    arguments = ("x", "y", "t")
    attributes = ("margin",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        if not -1 <= number_attribute(self.name, attributes, "margin") <= 1:
            raise OptionError(
                f"{self.name}: margin expected from −1 to 1; got {attributes['margin']!r}."
            )
        require_rank(self.name, "x", shapes[0], "features")
        require_same(self.name, ("x", "y"), shapes[:2])
        if tuple(shapes[2]) != ():
            raise ShapeError(
                f"{self.name}: t expected one number a sample; got {('n', *shapes[2])}."
            )
        return ()

    def differentiable(self, argument: str) -> bool:
        return argument != "t"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, y = Tensor("x")[_N, _K], Tensor("y")[_N, _K]
        eps = 1e-12  # as torch keeps empty vectors from dividing by 0
        lengths = [Sum((_K,), power(v, 2)) + eps for v in (x, y)]
        cosine = Sum((_K,), x * y) / sqrt(lengths[0] * lengths[1])
        apart = maximum(cosine - float(attributes["margin"]), 0)
        body = where(Tensor("t")[_N] > 0, 1 - cosine, apart)
        shape = tuple(shapes[0])
        tensors = {"x": shape, "y": shape, "t": tuple(shapes[2])}
        return Formula((_N,), body, {"n": shape[0], "k": shape[1]}, tensors)


class TripletMargin(Operation):
    """`y[n] = max(0, margin + d(a, p) − d(a, q))`: p should be nearer to a than q is.

    `d(a, b) = (Σ_k |a[k] − b[k] + eps|^p)^(1/p)`; with `swap` the nearer of d(a, q) and d(p, q)
    counts.

    Inputs: anchor, positive and negative (n, features). Output: (n,).

    Source: Balntas et al., Learning shallow convolutional feature descriptors with triplet losses
    (BMVC 2016).
    """

    name = "triplet_margin"
    arguments = ("anchor", "positive", "negative")
    attributes = ("margin", "p", "eps", "swap")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        names = self.argument_names(attributes, len(shapes))
        for key in ("margin", "p"):
            if number_attribute(self.name, attributes, key) <= 0:
                raise OptionError(
                    f"{self.name}: {key} expected a number above 0; got {attributes[key]!r}."
                )
        number_attribute(self.name, attributes, "eps")
        if len(shapes[0]) != 1:
            raise ShapeError(
                f"{self.name}: anchor expected (n, features); got {('n', *shapes[0])}."
            )
        require_same(self.name, names, shapes)
        return ()

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        near, far = (self._distance(attributes, "anchor", b) for b in ("positive", "negative"))
        if attributes["swap"]:
            far = minimum(far, self._distance(attributes, "positive", "negative"))
        body = maximum(float(attributes["margin"]) + near - far, 0)
        shape = tuple(shapes[0])
        sizes = {"n": shape[0], "k": shape[1]}
        return Formula((_N,), body, sizes, dict.fromkeys(self.arguments, shape))

    def _distance(self, attributes: Attributes, a: str, b: str) -> Expr:
        p, eps = float(attributes["p"]), float(attributes["eps"])
        difference = Tensor(a)[_N, _K] - Tensor(b)[_N, _K] + eps
        if p == 2:
            return sqrt(Sum((_K,), power(difference, 2)))
        return power(Sum((_K,), power(abs(difference), p)), 1 / p)
