"""Losses, one number a sample, and softmax. A training loss is their mean over the batch.

Here are what all losses share and the two that have kernels of their own; those of classes,
of scalar expressions and of images are in `loss_classes`, `loss_scalar` and `loss_images`.
"""

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


class Loss(Operation):
    """A loss: how far each sample's prediction x is from what it should be, t.

    The output is one number a sample. The loss of a batch is `Σ_n y[n] / Σ_n share[n]`, where a
    sample's share is 1 unless samples weigh more or less, or are left out.
    """

    arguments: tuple[str, ...] = ("x", "t")
    is_loss = True
    labels = False
    """Whether t are class numbers."""

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, t = tuple(shapes[0]), tuple(shapes[1])
        wanted = self.target_shape(attributes, x)
        if t != wanted:
            raise ShapeError(
                f"{self.name}: expected targets {_with_batch(wanted)} for predictions "
                f"{_with_batch(x)}; got {_with_batch(t)}."
            )
        return ()

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        """The shape of t for predictions of shape x, both without the batch."""
        return x

    def shares(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> Array:
        """What each sample counts for in a mean over a batch, (n,).

        Args:
            x: the shape of a prediction, without the batch.
            targets: (n, *target shape).
        """
        return np.ones(len(targets))

    def check_targets(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> None:
        """Refuse targets that the loss has no meaning for.

        Raises:
            DataError: a target is out of range.
        """

    def by_place(self, attributes: Attributes, x: Shape) -> tuple[Attributes, bool] | None:
        """Whether each place of x (classes, …) gives a number alone, and y[n] is made of these.

        Returns:
            The attributes for x (classes, fewer places), and whether y[n] is the mean of the
            places' numbers (else it is their sum); None where places depend on each other.
        """
        return None

    def differentiable(self, argument: str) -> bool:
        return argument == "x" or not self.labels

    def bind(
        self, attributes: Attributes, arrays: Sequence[ArrayLike]
    ) -> tuple[Formula, dict[str, Array]]:
        x = np.shape(arrays[0])[1:]
        self.check_targets(attributes, x, np.asarray(arrays[1]))
        return super().bind(attributes, arrays)


def _with_batch(shape: Shape) -> str:
    return "(" + ", ".join(map(str, ("n", *shape))) + ("," if not shape else "") + ")"


class CrossEntropy(Loss):
    """`y[n] = log Σ_c exp(x[n,c]) − x[n,t[n]]`: minus the log-probability of the right class.

    Inputs: x (n, classes), logits; t (n,), whole numbers from 0 to classes − 1.
    Output: (n,). The formula reads the labels as `t[n,c]`, 1 for the right class and 0 elsewhere.
    """

    name = "cross_entropy"
    labels = True

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        return ()

    def check_targets(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> None:
        require_labels(self.name, targets, x[0])

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

    def bind(
        self, attributes: Attributes, arrays: Sequence[ArrayLike]
    ) -> tuple[Formula, dict[str, Array]]:
        x = np.asarray(arrays[0], np.float64)
        hot = one_hot(np.asarray(arrays[1]), x.shape[1])
        return self.formula(attributes, [x.shape, hot.shape]), {"x": x, "t": hot}


class MseLoss(Loss):
    """`y[n] = Σ_k (x[n,k] − t[n,k])² / K`, the mean over a sample's K numbers.

    Inputs: x and t (n, …) of one shape. Output: (n,).
    """

    name = "mse_loss"

    def by_place(self, attributes: Attributes, x: Shape) -> tuple[Attributes, bool] | None:
        return attributes, True

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
    require_labels("cross_entropy", labels, classes)
    return np.asarray(labels[:, None] == np.arange(classes), np.float64)


def require_labels(
    name: str, labels: NDArray[Any], classes: int, ignored: int | None = None
) -> None:
    """Refuse labels that are not whole numbers from 0 to classes − 1, or the one that is ignored.

    Raises:
        DataError: there is such a label.
    """
    wrong = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    if ignored is not None:
        wrong &= labels != ignored
    places = np.argwhere(wrong)
    if len(places):
        raise DataError(
            f"{name}: expected labels from 0 to {classes - 1}"
            f"{'' if ignored is None else f', or {ignored} for those that are ignored'}; got "
            f"{labels[tuple(places[0])]:g} for sample {places[0][0]} ({len(places)} such labels)."
        )
