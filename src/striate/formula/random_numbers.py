"""Random numbers as an operation, for layers that draw: random slopes, stochastic pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError
from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    require_attributes,
    whole_attribute,
)
from striate.random import Draw, dropout_uniform


class Uniform(Operation):
    """In training a uniform number from [0, 1) at each place; otherwise their mean, 0.5.

    `y[n, …] = u(seed, step, site, n, …)`: each number depends on the seed, the step, the site, the
    sample's position in the batch and the place in the sample only; see
    `striate.random.dropout_uniform`. `site` tells the random nodes of one network apart, the
    dropouts included.

    Input: x (n, …), of which only the number of samples counts. Output: (n, *shape).

    >>> Uniform().shape({"site": 0, "shape": [4, 2]}, [(3, 8, 8)])
    (4, 2)
    >>> Uniform().reference({"site": 0, "shape": [2]}, [np.zeros((1, 3))])
    array([[0.5, 0.5]])
    """

    name = "uniform"
    arguments = ("x",)
    attributes = ("site", "shape")
    has_formula = False
    draws = True

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        whole_attribute(self.name, attributes, "site", 0)
        sizes = attributes["shape"]
        if not isinstance(sizes, Sequence) or isinstance(sizes, str):
            raise OptionError(f"uniform: shape expected a list of whole numbers; got {sizes!r}.")
        return tuple(whole_attribute(self.name, {"shape": k}, "shape", 1) for k in sizes)

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        return np.full((np.shape(arrays[0])[0], *attributes["shape"]), 0.5)

    def training(self, attributes: Attributes, x: ArrayLike, draw: Draw) -> Array:
        """The numbers of a training step."""
        samples, shape = np.arange(np.shape(x)[0]), tuple(attributes["shape"])
        site, elements = int(attributes["site"]), math.prod(shape)
        u = dropout_uniform(draw.seed, draw.step, site, samples, elements)
        return u.reshape(len(samples), *shape)

    def differentiable(self, argument: str) -> bool:
        """x gives only the number of samples, so it has no gradient."""
        return False

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        return [None]
