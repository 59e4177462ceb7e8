"""Every operation's case as a sparse matrix: it must agree where the operation is linear in its
first input, and be refused where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from striate.errors import OptionError
from striate.formula.operations import find_operation
from striate.graph.graph import Node
from striate.inspect.matrix import _step

pytest.importorskip("scipy.sparse", reason="scipy is not installed")

MAXIMA = ("max_unpool",)  # written as a maximum, though places that do not meet are linear


def _batched(operation: Any, attributes: Any, arrays: Any) -> list[bool]:
    """Which inputs have a batch axis."""
    if operation.name == "formula":  # a matter of its attributes
        shapes = operation.full_shapes(attributes, [a.shape[1:] for a in arrays])
        return [len(s) == a.ndim for s, a in zip(shapes, arrays, strict=True)]
    names = operation.argument_names(attributes, len(arrays))
    return [name not in operation.parameters for name in names]


def _is_linear(run: Any, x: np.ndarray) -> bool:
    """Whether f(2x − y) = 2f(x) − f(y) for two y of different kinds, and not the same for all."""
    rng = np.random.default_rng(0)
    first = run(x)
    if np.array_equal(first, run(2 * x + 1)):
        return False
    for y in (rng.normal(size=x.shape), np.abs(rng.normal(size=x.shape)) + 3):
        other, both = run(y), run(2 * x - y)
        if not np.isfinite(first).all() or not np.isfinite(other).all():
            return False
        if np.abs(both - 2 * first + other).max(initial=0.0) > 1e-8 * (
            1 + np.abs(first).max(initial=0.0)
        ):
            return False
    return True


def test_the_matrix_of_a_case(case: Any) -> None:
    op, attributes, arrays = case
    operation = find_operation(op)
    names = operation.argument_names(attributes, len(arrays))
    batched = _batched(operation, attributes, arrays)
    given = [a[:1] if b else a for a, b in zip(arrays, batched, strict=True)]
    shapes = [a.shape[1:] if b else a.shape for a, b in zip(given, batched, strict=True)]
    if given[0].dtype.kind != "f" or operation.is_loss or not batched[0]:
        return
    node = Node("it", op, tuple(names), attributes)
    values = dict(zip(names, given, strict=True))

    def run(x: np.ndarray) -> np.ndarray:
        return operation.reference(attributes, [x, *given[1:]])

    if len(names) > 1 and not operation.has_formula:
        return  # it moves numbers of several inputs: tests/inspect/test_matrix.py
    if op in MAXIMA or not _is_linear(run, given[0]):
        with pytest.raises(OptionError, match=r"matrix: expected a linear layer|has a free scalar"):
            _step(node, operation, shapes, [0], values)
        return
    blocks, offset = _step(node, operation, shapes, [0], values)
    found = blocks[0] @ given[0].ravel() + offset
    expected = run(given[0]).ravel()
    assert np.abs(found - expected).max(initial=0.0) <= 1e-10 * (
        1 + np.abs(expected).max(initial=0.0)
    )
