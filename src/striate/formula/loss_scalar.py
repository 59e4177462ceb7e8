"""Losses that are a scalar expression of a prediction x and a target t, number by number.

One operation, `scalar_loss`, takes any expression; the well-known ones are written here as
functions that give one. Value, gradient and machine code follow from the expression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError, ShapeError
from striate.formula.expression import (
    Expr,
    Index,
    Read,
    Sum,
    Tensor,
    Var,
    axes,
    exp,
    from_json,
    log,
    maximum,
    power,
    sigmoid,
    softplus,
    substitute,
    to_json,
    variables,
    where,
)
from striate.formula.formula import Formula
from striate.formula.loss import Loss
from striate.formula.operation import Array, Attributes, Shape, require_attributes

X, T, W = Var("x"), Var("t"), Var("w")


class ScalarLoss(Loss):
    """`y[n] = Σ_k f(x[n,k], t[n,k], …) / K`, the mean (or the sum) over a sample's K numbers.

    Attributes: `expr`, f as JSON; `reduction`, "mean" or "sum"; `constants`, further variables of
    f: for each an array (as nested lists) of the sample's shape, or one that broadcasts to it.
    `t` may be left out of f; the target is then not read.

    Inputs: x and t (n, …) of one shape. Output: (n,).

    >>> settings = scalar_loss(abs(X - T))
    >>> ScalarLoss().reference(settings, [[[1.0, 2.0]], [[0.0, 4.0]]])
    array([1.5])
    """

    name = "scalar_loss"
    attributes = ("expr", "reduction", "constants")

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        if attributes["reduction"] not in ("mean", "sum"):
            raise OptionError(
                f"{self.name}: reduction expected 'mean' or 'sum'; got {attributes['reduction']!r}."
            )
        known = ("x", "t", *attributes["constants"])
        body = from_json(attributes["expr"])
        unknown = [name for name in variables(body) if name not in known]
        if unknown or {"x", "t"} & set(attributes["constants"]):
            raise OptionError(
                f"{self.name}: expected an expression of {', '.join(dict.fromkeys(known))}; got "
                f"{body}."
            )
        for name, array in _constants(attributes).items():
            if array.ndim > len(x) or any(
                size not in (1, k)
                for size, k in zip(reversed(array.shape), reversed(x), strict=False)
            ):
                raise ShapeError(
                    f"{self.name}: {name} expected a shape that broadcasts to that of a sample, "
                    f"{tuple(x)}; got {array.shape}."
                )
        return x

    def target(self, place: tuple[Index, ...]) -> Expr:
        """The target at a place."""
        return Tensor("t")[place]

    def by_place(self, attributes: Attributes, x: Shape) -> tuple[Attributes, bool] | None:
        fewer: dict[str, Any] = {}
        for name, array in _constants(attributes).items():
            if array.ndim == len(x) and array.size == len(array):
                fewer[name] = array.reshape(-1, 1).tolist()  # one for each class
            elif array.size == 1:
                fewer[name] = float(array.reshape(-1)[0])
            else:
                return None
        return {**attributes, "constants": fewer}, attributes["reduction"] == "mean"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        shape = tuple(shapes[0])
        place = axes(" ".join(["n", *(f"k{k}" for k in range(1, len(shape)))]))
        constants = _constants(attributes)
        values: dict[str, Expr] = {"x": Tensor("x")[place], "t": self.target(place)}
        values |= {name: _broadcast(name, a.shape, place) for name, a in constants.items()}
        body = self.weighed(substitute(from_json(attributes["expr"]), values), place)
        body = Sum(place[1:], body) if len(shape) > 1 else body
        if attributes["reduction"] == "mean":
            body = body / max(math.prod(shape[1:]), 1)
        sizes = {str(axis): size for axis, size in zip(place, shape, strict=True)}
        tensors = {"x": shape, "t": tuple(shapes[1])}
        return Formula(place[:1], body, sizes, tensors, constants=constants)

    def weighed(self, loss: Expr, place: tuple[Index, ...]) -> Expr:
        """What a number's loss counts for at a place."""
        return loss


class WeightedScalarLoss(ScalarLoss):
    """`y[n] = Σ_k w[n,k]·f(x[n,k], t[n,k], …) / K`: a scalar loss with a weight for each number.

    The weights are data: they come with the targets, so every sample has its own, and where one
    is 0 the target is not known. Attributes as of `scalar_loss`.

    Inputs: x (n, …); t (n, 2, …), the targets t[n,0] and the weights t[n,1]. Output: (n,).

    >>> settings = scalar_loss(abs(X - T))
    >>> WeightedScalarLoss().reference(settings, [[[1.0, 2.0]], [[[0.0, 4.0], [1.0, 0.5]]]])
    array([1.])
    """

    name = "weighted_scalar_loss"

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        return (2, *super().target_shape(attributes, x))

    def by_place(self, attributes: Attributes, x: Shape) -> tuple[Attributes, bool] | None:
        return None  # the weights of a place lie apart from its target

    def target(self, place: tuple[Index, ...]) -> Expr:
        return _half(place, 0)

    def weighed(self, loss: Expr, place: tuple[Index, ...]) -> Expr:
        return _half(place, 1) * loss


def _half(place: tuple[Index, ...], which: int) -> Read:
    """The target or the weight of a place."""
    at = (place[0], Index(const=which), *place[1:])
    return Tensor("t")[at]


def _constants(attributes: Attributes) -> dict[str, Array]:
    given: Mapping[str, Any] = attributes["constants"]
    return {name: np.asarray(array, np.float64) for name, array in given.items()}


def _broadcast(name: str, shape: Shape, place: tuple[Index, ...]) -> Read:
    """The read of a constant, aligned from the right; axes of size 1 stay at 0."""
    own = place[len(place) - len(shape) :]
    return Read(
        name,
        tuple(Index() if size == 1 else axis for size, axis in zip(shape, own, strict=True)),
    )


def scalar_loss(
    expr: Expr, reduction: str = "mean", constants: Mapping[str, ArrayLike] | None = None
) -> dict[str, Any]:
    """The attributes of a `scalar_loss`."""
    given = {} if constants is None else constants
    return {
        "expr": to_json(expr),
        "reduction": reduction,
        "constants": {name: np.asarray(array).tolist() for name, array in given.items()},
    }


# ---- of numbers ------------------------------------------------------------------------------


def squared_error() -> Expr:
    """`(x − t)²`."""
    return power(X - T, 2)


def absolute_error() -> Expr:
    """`|x − t|`."""
    return abs(X - T)


def smooth_l1(beta: float) -> Expr:
    """`½(x − t)²/β` where |x − t| < β, else `|x − t| − β/2`."""
    error = abs(X - T)
    if not beta:
        return error
    return where(error < beta, power(X - T, 2) * (0.5 / beta), error - 0.5 * beta)


def huber(delta: float) -> Expr:
    """`½(x − t)²` where |x − t| ≤ δ, else `δ(|x − t| − δ/2)`."""
    error = abs(X - T)
    return where(error <= delta, power(X - T, 2) * 0.5, delta * (error - 0.5 * delta))


def poisson_nll(log_input: bool, full: bool, eps: float) -> Expr:
    """`e^x − t·x`, or `x − t·log(x + eps)`; with `full` and t > 1 also Stirling's part."""
    value = exp(X) - T * X if log_input else X - T * log(X + eps)
    if not full:
        return value
    stirling = T * log(T) - T + 0.5 * log(2 * math.pi * T)
    return value + where(T > 1, stirling, 0)


def kl_divergence(log_target: bool) -> Expr:
    """`t·(log t − x)`, 0 at t = 0; with `log_target` `e^t·(t − x)`."""
    if log_target:
        return exp(T) * (T - X)
    return where(T > 0, T * log(T), 0) - T * X


# ---- of two classes --------------------------------------------------------------------------


def binary_cross_entropy() -> Expr:
    """`−(t·log x + (1 − t)·log(1 − x))`, logarithms not below −100."""
    return -(T * maximum(log(X), -100) + (1 - T) * maximum(log(1 - X), -100))


def binary_cross_entropy_with_logits(positive: bool = False) -> Expr:
    """`−(p·t·log σ(x) + (1 − t)·log(1 − σ(x)))`, p being `pos_weight`."""
    right = T * Var("pos_weight") if positive else T
    return right * softplus(-X) + (1 - T) * softplus(X)


def sigmoid_focal(alpha: float, gamma: float) -> Expr:
    """`−α_t·(1 − p_t)^γ·log p_t` with p_t = σ(x) where t is 1, and 1 − σ(x) where it is 0.

    α_t is α for t = 1 and 1 − α for t = 0, or 1 for every t where α is negative.
    """
    value = binary_cross_entropy_with_logits()
    unsure = sigmoid(-X) * T + sigmoid(X) * (1 - T)
    if gamma:
        value = power(unsure, gamma) * value
    return value if alpha < 0 else (alpha * T + (1 - alpha) * (1 - T)) * value


def soft_margin() -> Expr:
    """`log(1 + e^(−t·x))`, t being 1 or −1."""
    return softplus(-(T * X))


def hinge_embedding(margin: float) -> Expr:
    """`x` where t is 1, `max(0, margin − x)` where it is −1."""
    return where(T > 0, X, maximum(margin - X, 0))


def hinge(margin: float) -> Expr:
    """`max(0, margin − t·x)`, t being 1 or −1: a binary support vector machine."""
    return maximum(margin - T * X, 0)
