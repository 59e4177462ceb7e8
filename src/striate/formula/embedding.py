"""A table looked up by number: the one operation here whose index is a value, not an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.formula.operation import (
    Array,
    Attributes,
    Operation,
    Shape,
    require_attributes,
    require_rank,
    whole_attribute,
)


class Embedding(Operation):
    """`y[n,…,d] = w[x[n,…], d]`: the row of a table for each number.

    A row `padding` (−1 for none) gets no gradient. A number that counts no row (not whole, below 0,
    past the end) gives NaN, and no gradient.

    Inputs: x (n, …), whole numbers as floats; w (num_embeddings, embedding_dim).
    Output: (n, …, embedding_dim).

    >>> Embedding().shape({"padding": -1}, [(5,), (100, 8)])
    (5, 8)
    """

    name = "embedding"
    arguments = ("x", "w")
    parameters = ("w",)
    attributes = ("padding",)
    has_formula = False

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        whole_attribute(self.name, attributes, "padding", -1)
        require_rank(self.name, "w", shapes[1], "num_embeddings, embedding_dim")
        return (*shapes[0], shapes[1][1])

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        x, w = (np.asarray(a, np.float64) for a in arrays)
        rows, known = _rows(x, len(w))
        return np.where(known[..., None], w[rows], np.nan)

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        x, w = (np.asarray(a, np.float64) for a in arrays)
        rows, known = _rows(x, len(w))
        known &= rows != int(attributes["padding"])
        slope = np.zeros(w.shape)
        np.add.at(slope, rows[known], np.asarray(upstream, np.float64)[known])
        return [None, slope]

    def differentiable(self, argument: str) -> bool:
        """The numbers that count rows have no slope."""
        return argument == "w"


def _rows(x: Array, count: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The row of each number, and whether there is one."""
    with np.errstate(invalid="ignore"):
        known = (x >= 0) & (x < count) & (x == np.floor(x))
    return np.where(known, x, 0).astype(np.intp), known
