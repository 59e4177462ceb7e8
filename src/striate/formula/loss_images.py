"""Losses of images: overlap of regions (Dice, Jaccard, Tversky), smoothness, style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, ShapeError
from striate.formula.expression import (
    Expr,
    Index,
    Max,
    Sum,
    Tensor,
    axes,
    exp,
    power,
    sigmoid,
    where,
)
from striate.formula.formula import Formula
from striate.formula.loss import Loss, require_labels
from striate.formula.loss_classes import is_class, places_of, spot
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    number_attribute,
    require_attributes,
)

_N, _C, _K, _M = axes("n c k m")
ACTIVATIONS = ("none", "sigmoid", "softmax")


class OverlapLoss(Loss):
    """How little a predicted region overlaps with the true one: soft Dice, Jaccard and Tversky.

    With p the predicted probabilities and t the true ones, at every place of an image,
    `TP = Σ p·t`, `FP = Σ p·(1 − t)`, `FN = Σ (1 − p)·t`, the loss is
    `1 − (TP + smooth)/(TP + alpha·FP + beta·FN + smooth)`. Dice is alpha = beta = ½, Jaccard
    alpha = beta = 1. With `per_class` the sums run over the places and y[n] is the mean over the
    classes; else over everything.

    Attributes: alpha, beta, smooth, per_class; `activation`, what makes p of x: "none", "sigmoid"
    or "softmax" (over the classes); `labels`, whether t are class numbers.
    Inputs: x (n, classes, …); t the same shape, or (n, …) class numbers. Output: (n,).

    Source: Milletari et al., V-Net, arXiv:1606.04797; Salehi et al., Tversky loss,
    arXiv:1706.05721.
    """

    name = "overlap_loss"
    attributes = ("alpha", "beta", "smooth", "per_class", "activation", "labels")

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        for key in ("alpha", "beta", "smooth"):
            if number_attribute(self.name, attributes, key) < 0:
                raise OptionError(
                    f"{self.name}: {key} expected a number of at least 0; got {attributes[key]!r}."
                )
        if attributes["activation"] not in ACTIVATIONS:
            raise OptionError(
                f"{self.name}: activation expected {', '.join(map(repr, ACTIVATIONS))}; got "
                f"{attributes['activation']!r}."
            )
        if not x:
            raise ShapeError(f"{self.name}: x expected (n, classes, …); got {('n', *x)}.")
        return x[1:] if attributes["labels"] else x

    def check_targets(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> None:
        if attributes["labels"]:
            require_labels(self.name, targets, x[0])

    def differentiable(self, argument: str) -> bool:
        return argument == "x"

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        at = places_of(x[1:])
        p = self._probability(attributes["activation"], at)
        t: Expr = Tensor("t")[spot(_N, _C, *at)]
        constants = {}
        if attributes["labels"]:
            t = where(is_class(at, _C), 1, 0)
            constants["class"] = np.arange(float(x[1]))
        smooth = float(attributes["smooth"])
        over = at if attributes["per_class"] else (_C, *at)

        def total(body: Expr) -> Expr:
            return Sum(over, body) if over else body

        both, predicted, true = total(p * t), total(p), total(t)
        alpha, beta = float(attributes["alpha"]), float(attributes["beta"])
        # TP + α·FP + β·FN = (1 − α − β)·TP + α·Σp + β·Σt
        below = (1 - alpha - beta) * both + alpha * predicted + beta * true
        body = 1 - (both + smooth) / (below + smooth)
        if attributes["per_class"]:
            body = Sum((_C,), body) / x[1]
        sizes = {"n": x[0]} | dict.fromkeys(("c", "k", "m"), x[1])
        sizes |= {str(axis): size for axis, size in zip(at, x[2:], strict=True)}
        tensors = {"x": x, "t": tuple(shapes[1])}
        return Formula((_N,), body, sizes, tensors, constants=constants)

    def _probability(self, activation: str, at: tuple[Index, ...]) -> Expr:
        x = Tensor("x")
        value = x[spot(_N, _C, *at)]
        if activation == "none":
            return value
        if activation == "sigmoid":
            return sigmoid(value)
        top = Max((_M,), x[spot(_N, _M, *at)])
        return exp(value - top) / Sum((_K,), exp(x[spot(_N, _K, *at)] - top))


class TotalVariation(Operation):
    """How much an image changes from pixel to pixel, down and across.

    `y[n] = Σ_{c,i,j} |x[n,c,i+1,j] − x[n,c,i,j]|^p + Σ_{c,i,j} |x[n,c,i,j+1] − x[n,c,i,j]|^p`
    with p = `power`, 1 or 2.

    Input: x (n, channels, h, w). Output: (n,).

    Source: Rudin, Osher & Fatemi, Nonlinear total variation (1992), in its anisotropic form.
    """

    name = "total_variation"
    arguments = ("x",)
    attributes = ("power",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        if attributes["power"] not in (1, 2):
            raise OptionError(f"{self.name}: power expected 1 or 2; got {attributes['power']!r}.")
        if len(shapes[0]) != 3:
            raise ShapeError(
                f"{self.name}: x expected (n, channels, h, w); got {('n', *shapes[0])}."
            )
        return ()

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        n, c, h, w = shapes[0]
        i, j, p, q = axes("i j p q")
        x, over = Tensor("x"), int(attributes["power"])

        def size(difference: Expr) -> Expr:
            return abs(difference) if over == 1 else power(difference, 2)

        down = Sum((_C, i, j), size(x[_N, _C, i + 1, j] - x[_N, _C, i, j]))
        across = Sum((_C, p, q), size(x[_N, _C, p, q + 1] - x[_N, _C, p, q]))
        sizes = {"n": n, "c": c, "i": h - 1, "j": w, "p": h, "q": w - 1}
        parts = [e for e, steps in ((down, h - 1), (across, w - 1)) if steps]
        body = sum(parts[1:], parts[0]) if parts else 0 * Sum((_C,), x[_N, _C, 0, 0])
        return Formula((_N,), body, sizes, {"x": tuple(shapes[0])})


class GramMatrix(Operation):
    """Which channels are active together: `y[n,a,b] = Σ_{i,j} x[n,a,i,j]·x[n,b,i,j] / (C·H·W)`.

    Input: x (n, C, H, W), or any number of axes after the channels. Output: (n, C, C).

    Source: Gatys et al., Image Style Transfer Using Convolutional Neural Networks (2016).
    """

    name = "gram_matrix"
    arguments = ("x",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        if len(shapes[0]) < 2:
            raise ShapeError(f"{self.name}: x expected (n, channels, …); got {('n', *shapes[0])}.")
        return (shapes[0][0], shapes[0][0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        shape, (a, b) = tuple(shapes[0]), axes("a b")
        sizes = {"n": shape[0], "a": shape[1], "b": shape[1]}
        return Formula((_N, a, b), gram(shape, (a, b), sizes), sizes, {"x": shape})


class StyleLoss(Loss):
    """The mean squared difference between the Gram matrix of features and a given one.

    `y[n] = Σ_{a,b} (G[n,a,b] − t[n,a,b])² / C²` with G as in `gram_matrix`.

    Inputs: x (n, C, …), features; t (n, C, C). Output: (n,).

    Source: Gatys et al., Image Style Transfer Using Convolutional Neural Networks (2016).
    """

    name = "style_loss"

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        return GramMatrix().shape({}, [x])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        shape, (a, b) = tuple(shapes[0]), axes("a b")
        sizes = {"n": shape[0], "a": shape[1], "b": shape[1]}
        error = gram(shape, (a, b), sizes) - Tensor("t")[_N, a, b]
        body = Sum((a, b), power(error, 2)) / shape[1] ** 2
        return Formula((_N,), body, sizes, {"x": shape, "t": tuple(shapes[1])})


def gram(shape: Shape, channels: tuple[Index, Index], sizes: dict[str, int]) -> Expr:
    """One number of the Gram matrix of x (n, C, …); the sizes of new axes are added."""
    at = places_of(shape[1:])
    sizes.update({str(axis): size for axis, size in zip(at, shape[2:], strict=True)})
    left, right = (Tensor("x")[spot(_N, axis, *at)] for axis in channels)
    return Sum(at, left * right) / math.prod(shape[1:])
