"""Formulas that users write, as operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.formula.expression import Max, Sum, Tensor, axes, exp
from striate.formula.own import formula_attributes

n, c, i, j, k, p, q = axes("n c i j k p q")
x, y, w = Tensor("x"), Tensor("y"), Tensor("w")
CROSS = formula_attributes(
    (n, c, i, j),
    (Sum((p,), x[n, c, i + 1, j + p]) + Sum((p,), x[n, c, i + p, j + 1])) / 6,
    sizes={"p": 3},
)
DIAGONAL = formula_attributes(
    (n, c, i, j),
    Sum((p,), x[n, c, i + p, j + p] * w[c, p]),
    padding={"x": [(0, 0), (0, 0), (1, 1), (1, 1)]},
)
BETWEEN = formula_attributes(  # each place of x against every place of y
    (n, i, k), Sum((c,), x[n, c, i] * y[n, c, k])
)
SMOOTH = formula_attributes((n, i), Max((p,), x[n, i * 2 + p]) + exp(x[n, i]), sizes={"p": 3})


def _normal(*shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(sum(map(sum, shapes)))
    return [rng.normal(size=shape) for shape in shapes]


CASES = {
    "own cross-shaped mean": ("formula", CROSS, _normal((2, 3, 6, 5))),
    "own diagonals": ("formula", DIAGONAL, _normal((2, 3, 4, 5), (3, 3))),
    "own correlation of two": ("formula", BETWEEN, _normal((2, 3, 4), (2, 3, 5))),
    "own maximum": ("formula", SMOOTH, _normal((3, 9))),
}
