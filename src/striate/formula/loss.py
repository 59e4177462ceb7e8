"""Losses, one number a sample, and softmax. A training loss is their mean over the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import DataError, ShapeError
from striate.formula.expression import Max, Sum, Tensor, axes, exp, log
from striate.formula.formula import Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    require_attributes,
    require_rank,
    require_same,
)

_N, _O, _C, _K = axes("n o c k")


class Softmax(Operation):
    """`y[n,o] = exp(x[n,o]) / Σ_c exp(x[n,c])`, with the largest x taken off first.

    Input: x (n, classes). Output: the same shape; each row sums to 1.
    """

    name = "softmax"
    arguments = ("x",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        require_rank(self.name, "x", shapes[0], "classes")
        return tuple(shapes[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = Tensor("x")
        top = Max((_K,), x[_N, _K])
        body = exp(x[_N, _O] - top) / Sum((_C,), exp(x[_N, _C] - top))
        return Formula.infer((_N, _O), body, {"x": tuple(shapes[0])})


class CrossEntropy(Operation):
    """`y[n] = log Σ_c exp(x[n,c]) − x[n,t[n]]`: minus the log-probability of the right class.

    Inputs: x (n, classes), logits; t (n,), whole numbers from 0 to classes − 1.
    Output: (n,). The formula reads the labels as `t[n,c]`, 1 for the right class and 0 elsewhere.
    """

    name = "cross_entropy"
    arguments = ("x", "t")
    is_loss = True

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        require_rank(self.name, "x", shapes[0], "classes")
        if tuple(shapes[1]) != ():
            raise ShapeError(
                f"cross_entropy: t expected one label a sample, shape () besides the batch; got "
                f"{tuple(shapes[1])}."
            )
        return ()

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, t = Tensor("x"), Tensor("t")
        top = Max((_K,), x[_N, _K])
        body = log(Sum((_C,), exp(x[_N, _C] - top))) + top - Sum((_C,), x[_N, _C] * t[_N, _C])
        shape = tuple(shapes[0])
        return Formula.infer((_N,), body, {"x": shape, "t": shape})

    def differentiable(self, argument: str) -> bool:
        return argument == "x"

    def bind(
        self, attributes: Attributes, arrays: Sequence[ArrayLike]
    ) -> tuple[Formula, dict[str, Array]]:
        x = np.asarray(arrays[0], np.float64)
        hot = one_hot(np.asarray(arrays[1]), x.shape[1])
        return self.formula(attributes, [x.shape, hot.shape]), {"x": x, "t": hot}


class MseLoss(Operation):
    """`y[n] = Σ_k (x[n,k] − t[n,k])² / K`, the mean over a sample's K numbers.

    Inputs: x and t (n, …) of one shape. Output: (n,).
    """

    name = "mse_loss"
    arguments = ("x", "t")
    is_loss = True

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        names = self.argument_names(attributes, len(shapes))
        require_same(self.name, names, shapes)
        return ()

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        shape = tuple(shapes[0])
        over = axes(" ".join(f"k{k}" for k in range(1, len(shape))))
        place = (_N, *over)
        difference = Tensor("x")[place] - Tensor("t")[place]
        body = Sum(over, difference**2) / math.prod(shape[1:])
        return Formula.infer((_N,), body, {"x": shape, "t": shape})


def one_hot(labels: NDArray[Any], classes: int) -> Array:
    """(n, classes) float64, 1 where the label is.

    Raises:
        DataError: a label is no whole number from 0 to classes − 1.

    >>> one_hot(np.array([1, 0]), 2)
    array([[0., 1.],
           [1., 0.]])
    """
    hot = labels[:, None] == np.arange(classes)
    wrong = np.flatnonzero(~hot.any(axis=1))
    if wrong.size:
        raise DataError(
            f"cross_entropy: expected labels from 0 to {classes - 1}; got {labels[wrong[0]]:g} for "
            f"sample {wrong[0]} ({wrong.size} such labels)."
        )
    return np.asarray(hot, np.float64)
