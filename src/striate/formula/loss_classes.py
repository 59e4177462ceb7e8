"""Losses of class scores against class numbers: weighted cross-entropy, focal, SVM, several heads.

Scores x are (n, classes, …) and labels t (n, …): one label a sample, or one for each place of a
sequence or an image. A formula reads a label by comparing it with every class number, so that
nothing is gathered by a computed index: `Σ_c [t = c]·x[c]` is x of the right class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, ShapeError
from striate.formula.expression import (
    Const,
    Expr,
    Index,
    Max,
    Sum,
    Tensor,
    axes,
    equal,
    exp,
    log,
    maximum,
    power,
    where,
)
from striate.formula.formula import Formula, reads
from striate.formula.loss import Loss, require_labels
from striate.formula.operation import Array, Attributes, Shape, number_attribute, whole_attribute

_N, _C, _K, _M, _H = axes("n c k m h")


def places_of(shape: Shape) -> tuple[Index, ...]:
    """The axes of the places that labels lie at: those after the classes."""
    return axes(" ".join(f"d{k}" for k in range(len(shape) - 1)))


def spot(*parts: Index) -> tuple[Index, ...]:
    """An index of several axes, for where some of them come in a tuple."""
    return parts


def log_normaliser(x: Tensor, at: tuple[Index, ...]) -> Expr:
    """`log Σ_k e^x[n,k,…]`, with the largest taken off first."""
    top = Max((_M,), x[spot(_N, _M, *at)])
    return log(Sum((_K,), exp(x[spot(_N, _K, *at)] - top))) + top


def is_class(at: tuple[Index, ...], axis: Index) -> Expr:
    """Whether the label at a place is the class that `axis` stands at."""
    return equal(Tensor("t")[spot(_N, *at)], Tensor("class")[axis])


class _Labelled(Loss):
    """A loss of scores (n, classes, …) and labels (n, …), with a weight for each class.

    Attributes of all: `weight`, a list of one number a class or None; `ignore_index`, the label of
    places that count for nothing.
    """

    labels = True
    attributes: tuple[str, ...] = ("weight", "ignore_index")
    weighted_mean = True
    """Whether a mean divides by the weights of the labels, and not by their number."""

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        if not x:
            raise ShapeError(
                f"{self.name}: x expected classes besides the batch, (n, classes, …); got shape "
                "(n,)."
            )
        self._weights(attributes, x[0])
        whole = attributes["ignore_index"]
        if isinstance(whole, bool) or not hasattr(whole, "__index__"):
            raise OptionError(f"{self.name}: ignore_index expected a whole number; got {whole!r}.")
        return x[1:]

    def _weights(self, attributes: Attributes, classes: int) -> Array:
        """What each class weighs; the ignored one, if it is a class, weighs nothing."""
        given = attributes["weight"]
        weights = np.ones(classes) if given is None else np.asarray(given, np.float64)
        if weights.shape != (classes,):
            raise ShapeError(
                f"{self.name}: weight expected shape ({classes},), one number a class of x; got "
                f"{weights.shape}."
            )
        return weights

    def _counted(self, attributes: Attributes, classes: int) -> Array:
        """1 for each class, but 0 for the ignored one."""
        return np.asarray(np.arange(classes) != attributes["ignore_index"], np.float64)

    def check_targets(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> None:
        require_labels(self.name, targets, x[0], int(attributes["ignore_index"]))

    def shares(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> Array:
        weights = self._counted(attributes, x[0])
        if self.weighted_mean:
            weights = weights * self._weights(attributes, x[0])
        inside = (targets >= 0) & (targets < x[0])
        found = np.where(inside, weights[np.where(inside, targets, 0).astype(np.int64)], 0.0)
        return np.asarray(found.mean(axis=tuple(range(1, found.ndim))))

    def by_place(self, attributes: Attributes, x: Shape) -> tuple[Attributes, bool] | None:
        return attributes, True

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        at = places_of(x[1:])
        constants = {"class": np.arange(float(x[1])), **self.tables(attributes, x[1])}
        body = self.place(attributes, x[1], at)
        read = {part.tensor for part in reads(body)}
        return Formula(
            (_N,),
            (Sum(at, body) if at else body) / math.prod(x[2:]),
            _sizes(x, at),
            {"x": x, "t": tuple(shapes[1])},
            constants={name: array for name, array in constants.items() if name in read},
        )

    def tables(self, attributes: Attributes, classes: int) -> Mapping[str, Array]:
        """The constants of the formula: a number for each class."""
        weights, counted = self._weights(attributes, classes), self._counted(attributes, classes)
        return {"w": weights * counted, "all": weights, "counted": counted}

    def place(self, attributes: Attributes, classes: int, at: tuple[Index, ...]) -> Expr:
        """The loss of one place."""
        raise TypeError(f"{type(self).__name__} does not say what a place's loss is.")


def _sizes(x: Shape, at: tuple[Index, ...]) -> dict[str, int]:
    sizes = dict.fromkeys(("c", "k", "m"), x[1]) | {"n": x[0]}
    return sizes | {str(axis): size for axis, size in zip(at, x[2:], strict=True)}


class NllLoss(_Labelled):
    """`y[n] = −Σ_d w[t[n,d]]·x[n,t[n,d],d] / D`: x are logarithms of probabilities.

    Inputs: x (n, classes, …) and t (n, …), with D places. Output: (n,); a sample's share is the
    mean of `w[t[n,d]]`.
    """

    name = "nll_loss"

    def place(self, attributes: Attributes, classes: int, at: tuple[Index, ...]) -> Expr:
        value = Tensor("w")[_C] * Tensor("x")[spot(_N, _C, *at)]
        return -Sum((_C,), where(is_class(at, _C), value, 0))


class WeightedCrossEntropy(_Labelled):
    """Cross-entropy with class weights, an ignored label and smoothed labels, at every place.

    With `z[c] = log Σ_k e^x[k] − x[c]` at a place, its loss is
    `(1 − s)·w[t]·z[t] + s/C·Σ_c w[c]·z[c]`, and 0 where t is ignored; y[n] is the mean over the
    places, and a sample's share the mean of `w[t]`.

    Inputs: x (n, classes, …), logits; t (n, …). Output: (n,).

    Source: label smoothing, Szegedy et al., Rethinking the Inception Architecture,
    arXiv:1512.00567.
    """

    name = "weighted_cross_entropy"
    attributes = ("weight", "ignore_index", "label_smoothing")

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        smoothing(self.name, attributes)
        return super().target_shape(attributes, x)

    def place(self, attributes: Attributes, classes: int, at: tuple[Index, ...]) -> Expr:
        x, hit, share = Tensor("x"), is_class(at, _C), smoothing(self.name, attributes)
        weight, value = Tensor("w")[_C], x[spot(_N, _C, *at)]
        normaliser = log_normaliser(x, at)
        right = normaliser * Sum((_C,), where(hit, weight, 0)) - Sum(
            (_C,), where(hit, weight * value, 0)
        )
        if not share:
            return right
        weights = float(self._weights(attributes, classes).sum())
        every = normaliser * weights - Sum((_C,), Tensor("all")[_C] * value)
        if 0 <= int(attributes["ignore_index"]) < classes:
            counts = Sum((_C,), where(hit, Tensor("counted")[_C], 0))
        else:
            # every label that is a class counts; any other is the ignored one
            counts = where(Tensor("t")[spot(_N, *at)] > -0.5, 1, 0)
            if int(attributes["ignore_index"]) >= 0:
                counts = where(Tensor("t")[spot(_N, *at)] < classes - 0.5, 1, 0)
        return (1 - share) * right + (share / classes) * counts * every


class SoftCrossEntropy(Loss):
    """Cross-entropy against probabilities of classes.

    `y[n] = Σ_{d,c} w[c]·((1 − s)·t[n,c,d] + s/C)·(log Σ_k e^x[n,k,d] − x[n,c,d]) / D`.

    Inputs: x (n, classes, …), logits; t, of the same shape. Output: (n,).
    """

    name = "soft_cross_entropy"
    attributes = ("weight", "label_smoothing")

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        smoothing(self.name, attributes)
        given = attributes["weight"]
        if not x or (given is not None and len(given) != x[0]):
            raise ShapeError(
                f"{self.name}: expected x (n, classes, …) and a weight of one number a class; got "
                f"x {('n', *x)} and {'no' if given is None else len(given)} weights."
            )
        return x

    def by_place(self, attributes: Attributes, x: Shape) -> tuple[Attributes, bool] | None:
        return attributes, True

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        shape, x = tuple(shapes[0]), Tensor("x")
        at, share = places_of(shape[1:]), smoothing(self.name, attributes)
        wanted = Tensor("t")[spot(_N, _C, *at)] * (1 - share) + share / shape[1]
        constants = {}
        if attributes["weight"] is not None:
            constants["w"] = np.asarray(attributes["weight"], np.float64)
            wanted = Tensor("w")[_C] * wanted
        normaliser = log_normaliser(x, at)
        body = normaliser * Sum((_C,), wanted) - Sum((_C,), wanted * x[spot(_N, _C, *at)])
        body = (Sum(at, body) if at else body) / math.prod(shape[2:])
        tensors = {"x": shape, "t": shape}
        return Formula((_N,), body, _sizes(shape, at), tensors, constants=constants)


class FocalCrossEntropy(_Labelled):
    """Focal loss of softmax scores: sure predictions count for less.

    With `p = e^x[t] / Σ_k e^x[k]` the loss of a place is `−w[t]·(1 − p)^gamma·log p`; y[n] is the
    mean over the places, and a sample's share that of the places that are not ignored.

    Inputs: x (n, classes, …), logits; t (n, …). Output: (n,).

    Source: Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.
    """

    name = "focal_cross_entropy"
    attributes = ("weight", "ignore_index", "gamma")
    weighted_mean = False

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        if number_attribute(self.name, attributes, "gamma") < 0:
            raise OptionError(
                f"{self.name}: gamma expected a number of at least 0; got {attributes['gamma']!r}."
            )
        return super().target_shape(attributes, x)

    def place(self, attributes: Attributes, classes: int, at: tuple[Index, ...]) -> Expr:
        x, hit = Tensor("x"), is_class(at, _C)
        weight = Sum((_C,), where(hit, Tensor("w")[_C], 0))
        right = Sum((_C,), where(hit, x[spot(_N, _C, *at)], 0))
        value = log_normaliser(x, at) - right
        gamma = float(attributes["gamma"])
        # 1 − p is 0 up to rounding where the prediction is sure; a root of that has no slope
        unsure = power(maximum(1 - exp(-value), 1e-7), gamma) if gamma else Const(1.0)
        return weight * unsure * value


class MultiMarginLoss(Loss):
    """The loss of a multi-class support vector machine.

    `y[n] = w[t]·Σ_{c≠t} max(0, margin − x[n,t] + x[n,c])^p / C` with t = t[n].

    Inputs: x (n, classes), scores; t (n,). Output: (n,).

    Source: Weston & Watkins, Support Vector Machines for Multi-Class Pattern Recognition (1999).
    """

    name = "multi_margin_loss"
    attributes = ("p", "margin", "weight")
    labels = True

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        if len(x) != 1:
            raise ShapeError(f"{self.name}: x expected (n, classes); got {('n', *x)}.")
        if whole_attribute(self.name, attributes, "p", 1) > 2:
            raise OptionError(f"{self.name}: p expected 1 or 2; got {attributes['p']!r}.")
        number_attribute(self.name, attributes, "margin")
        given = attributes["weight"]
        if given is not None and len(given) != x[0]:
            raise ShapeError(
                f"{self.name}: weight expected shape ({x[0]},), one number a class of x; got "
                f"({len(given)},)."
            )
        return ()

    def check_targets(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> None:
        require_labels(self.name, targets, x[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, shape = Tensor("x"), tuple(shapes[0])
        right = Sum((_K,), where(is_class((), _K), x[_N, _K], 0))
        over = maximum(float(attributes["margin"]) - right + x[_N, _C], 0)
        body = Sum((_C,), where(is_class((), _C), 0, power(over, int(attributes["p"]))))
        constants = {"class": np.arange(float(shape[1]))}
        if attributes["weight"] is not None:
            constants["w"] = np.asarray(attributes["weight"], np.float64)
            body = Sum((_M,), where(is_class((), _M), Tensor("w")[_M], 0)) * body
        sizes = {"n": shape[0]} | dict.fromkeys(("c", "k", "m"), shape[1])
        tensors = {"x": shape, "t": tuple(shapes[1])}
        return Formula((_N,), body / shape[1], sizes, tensors, constants=constants)


class DeepSupervisionLoss(Loss):
    """The cross-entropies of several heads for the same labels, each with a weight.

    `y[n] = Σ_h w[h]·(log Σ_k e^x[n,k,h] − (1 − s)·x[n,t[n],h] − s/C·Σ_c x[n,c,h])`, s being the
    label smoothing. Scores without heads are those of the first.

    Inputs: x (n, classes, heads) or (n, classes), logits; t (n,). Output: (n,).

    Source: the auxiliary classifiers of Szegedy et al., Going Deeper with Convolutions,
    arXiv:1409.4842; Lee et al., Deeply-Supervised Nets, arXiv:1409.5185.
    """

    name = "deep_supervision_loss"
    attributes = ("weights", "label_smoothing")
    labels = True

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        smoothing(self.name, attributes)
        weights = np.asarray(attributes["weights"], np.float64)
        if weights.ndim != 1 or not len(weights) or not np.isfinite(weights).all():
            raise OptionError(
                f"{self.name}: weights expected numbers, one a head; got {attributes['weights']!r}."
            )
        if len(x) not in (1, 2) or (len(x) == 2 and x[1] != len(weights)):
            raise ShapeError(
                f"{self.name}: x expected (n, classes, {len(weights)}), a column for each of "
                f"{len(weights)} weights, or (n, classes); got {('n', *x)}."
            )
        return ()

    def check_targets(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> None:
        require_labels(self.name, targets, x[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        shape, x, share = tuple(shapes[0]), Tensor("x"), smoothing(self.name, attributes)
        at = (_H,) if len(shape) == 3 else ()
        weights = np.asarray(attributes["weights"], np.float64)
        value = x[spot(_N, _C, *at)]
        body = log_normaliser(x, at) - (1 - share) * Sum((_C,), where(is_class((), _C), value, 0))
        if share:
            body = body - (share / shape[1]) * Sum((_C,), value)
        body = Sum(at, Tensor("w")[_H] * body) if at else float(weights[0]) * body
        sizes = {"n": shape[0]} | dict.fromkeys(("c", "k", "m"), shape[1])
        constants = {"class": np.arange(float(shape[1]))}
        if at:
            sizes["h"], constants["w"] = shape[2], weights
        tensors = {"x": shape, "t": tuple(shapes[1])}
        return Formula((_N,), body, sizes, tensors, constants=constants)


def smoothing(name: str, attributes: Attributes) -> float:
    """The label smoothing, from 0 to 1."""
    value = number_attribute(name, attributes, "label_smoothing")
    if not 0 <= value <= 1:
        raise OptionError(f"{name}: label_smoothing expected from 0 to 1; got {value!r}.")
    return value
