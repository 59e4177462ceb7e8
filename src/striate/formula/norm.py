"""Normalisation: of each channel by its mean and variance, and of each number by its neighbours.

Batch norm is two operations. `batch_norm` reads running statistics and is what a network computes
once it is trained; `batch_norm_training` reads the statistics of the batch. Keeping the running
statistics is no part of a formula: `running_statistics` says how.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Sum, Tensor, axes, power, sqrt
from striate.formula.formula import Formula
from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    number_attribute,
    require_attributes,
    whole_attribute,
)

_N, _C = axes("n c")
_SPACE = {0: "", 1: "i", 2: "i j", 3: "k i j"}
_WHOLE_SPACE = {0: "", 1: "p", 2: "p q", 3: "r p q"}


def _require_image(name: str, x: Shape, least: int = 1) -> None:
    """Refuse an input that has no channels, or more than three axes of space."""
    if not least <= len(x) <= 4:
        raise ShapeError(
            f"{name}: x expected channels and {'at most' if least == 1 else 'one to'} three axes "
            f"of space besides the batch; got shape {tuple(x)}."
        )


class BatchNorm(Operation):
    """`y[n,c,i,j] = (x[n,c,i,j] − mean[c])/√(var[c] + eps) · w[c] + b[c]`.

    Inputs: x (n, channels, …) with none to three axes of space; w, b, mean and var (channels,).
    Output: as x. `momentum` tells how training keeps the running statistics mean and var; None is
    their mean over all batches. An attribute `fixed` lists those of w and b that are constants.

    Source: Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167.

    >>> BatchNorm().shape({"eps": 1e-5, "momentum": 0.1}, [(6, 8, 8), (6,), (6,), (6,), (6,)])
    (6, 8, 8)
    """

    name = "batch_norm"
    arguments = ("x", "w", "b", "mean", "var")
    parameters = ("w", "b", "mean", "var")
    attributes = ("eps", "momentum")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        more = ("fixed",) if "fixed" in attributes else ()
        require_attributes(self.name, attributes, (*self.attributes, *more))
        names = self.argument_names(attributes, len(shapes))
        eps = number_attribute(self.name, attributes, "eps")
        given = attributes["momentum"] is not None
        momentum = number_attribute(self.name, attributes, "momentum") if given else 0.0
        if eps < 0:
            raise OptionError(f"{self.name}: eps expected a number of at least 0; got {eps!r}.")
        if not 0 <= momentum <= 1:
            raise OptionError(f"{self.name}: momentum expected from 0 to 1; got {momentum!r}.")
        x = tuple(shapes[0])
        _require_image(self.name, x)
        for name, shape in zip(names[1:], shapes[1:], strict=True):
            if tuple(shape) != (x[0],):
                raise ShapeError(
                    f"{self.name}: {name} expected shape ({x[0]},), one number a channel of x {x}; "
                    f"got {tuple(shape)}. Make the layer with num_features={x[0]}."
                )
        return x

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        names = self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        place = (_N, _C, *axes(_SPACE[len(x) - 2]))
        sizes = {str(axis): size for axis, size in zip(place, x, strict=True)}
        mean, variance = self._statistics(x, sizes)
        centred = Tensor("x")[place] - mean
        scaled = centred / sqrt(variance + float(attributes["eps"]))
        body = scaled * Tensor("w")[_C] + Tensor("b")[_C]
        tensors = {name: tuple(s) for name, s in zip(names, shapes, strict=True)}
        return Formula(place, body, sizes, tensors)

    def _statistics(self, x: Shape, sizes: dict[str, int]) -> tuple[Expr, Expr]:
        """Mean and variance of a channel; the sizes of new axes are added."""
        return Tensor("mean")[_C], Tensor("var")[_C]


class BatchNormTraining(BatchNorm):
    """Batch norm with the batch's own statistics.

    `y[n,c,i,j] = (x[n,c,i,j] − μ[c])/√(σ²[c] + eps) · w[c] + b[c]` with
    `μ[c] = Σ_{m,p,q} x[m,c,p,q]/N`, `σ²[c] = Σ_{m,p,q} (x[m,c,p,q] − μ[c])²/N` and N numbers a
    channel in the batch. mean and var are not read; see `running_statistics`.

    Inputs and output: as for `BatchNorm`.

    Source: Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167.
    """

    name = "batch_norm_training"

    def _statistics(self, x: Shape, sizes: dict[str, int]) -> tuple[Expr, Expr]:
        over = axes(f"m {_WHOLE_SPACE[len(x) - 2]}")
        lengths = (x[0], *x[2:])
        sizes.update({str(axis): size for axis, size in zip(over, lengths, strict=True)})
        count = max(math.prod(lengths), 1)
        place = (over[0], _C, *over[1:])
        read = Tensor("x")[place]
        mean = Sum(over, read) / count
        return mean, Sum(over, (read - mean) * (read - mean)) / count

    def differentiable(self, argument: str) -> bool:
        """The running statistics are not read, so they have no gradient."""
        return argument not in ("mean", "var")

    def running_statistics(
        self,
        attributes: Attributes,
        x: ArrayLike,
        mean: ArrayLike,
        var: ArrayLike,
        *,
        batches: int = 0,
    ) -> tuple[Array, Array]:
        """The running mean and variance after a batch.

        `(1 − momentum)·old + momentum·new`, where the new variance is the unbiased one, with
        N − 1 below the line (or 1, where the batch has one number a channel).

        Args:
            attributes: `momentum` counts; None stands for 1/(batches + 1).
            x: (n, channels, …).
            mean, var: (channels,), the old ones.
            batches: how many there were before.
        Returns:
            (mean, var), float64.
        """
        values, momentum = np.asarray(x, np.float64), attributes["momentum"]
        momentum = 1 / (batches + 1) if momentum is None else float(momentum)
        over = (0, *range(2, values.ndim))
        count = max(values.size // max(values.shape[1], 1), 1)
        unbiased = values.var(axis=over) * (count / max(count - 1, 1))
        found = []
        for old, new in ((mean, values.mean(axis=over)), (var, unbiased)):
            found.append((1 - momentum) * np.asarray(old, np.float64) + momentum * new)
        return found[0], found[1]


class LocalResponseNorm(Operation):
    """`y[n,c,i,j] = x[n,c,i,j] / (k + alpha/size · Σ_a x[n, c + a − ⌊size/2⌋, i, j]²)^beta`.

    a runs over `size` channels around c; x is 0 beyond the first and the last channel.

    Input: x (n, channels, …) with one to three axes of space. Output: as x.

    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
    Networks, NeurIPS 2012, section 3.3 (which has alpha in place of alpha/size).

    >>> settings = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}
    >>> LocalResponseNorm().shape(settings, [(96, 55, 55)])
    (96, 55, 55)
    """

    name = "local_response_norm"
    arguments = ("x",)
    attributes = ("size", "alpha", "beta", "k")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        whole_attribute(self.name, attributes, "size", 1)
        for key in ("alpha", "beta", "k"):
            number_attribute(self.name, attributes, key)
        _require_image(self.name, tuple(shapes[0]), least=2)
        return tuple(shapes[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, size = tuple(shapes[0]), int(attributes["size"])
        space = axes(_SPACE[len(x) - 2])
        (a,) = axes("a")
        window = (_N, _C + a - size // 2, *space)
        near = Tensor("x")[window]
        share = float(attributes["alpha"]) / size
        base = float(attributes["k"]) + share * Sum((a,), near * near)
        place = (_N, _C, *space)
        sizes = {str(axis): k for axis, k in zip(place, x, strict=True)} | {"a": size}
        body = Tensor("x")[place] / power(base, float(attributes["beta"]))
        return Formula(place, body, sizes, {"x": x})
