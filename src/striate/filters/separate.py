"""A kernel as a sum of columns times rows, so that it can be applied by passes along one axis."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError

Array = NDArray[np.float64]
TOLERANCE = 1e-6  # of the largest singular value, below which one counts as 0


def separate(kernel: ArrayLike, tolerance: float = TOLERANCE) -> list[tuple[Array, Array]]:
    """Columns and rows with `kernel = Σ column ⊗ row`, as few as may be.

    Args:
        kernel: (kh, kw).
        tolerance: the share of the largest singular value below which the rest is left out.
    Returns:
        Pairs (column (kh,), row (kw,)), by falling weight; one pair: the kernel is separable.
    Source: Eckart & Young, The approximation of one matrix by another of lower rank (1936).

    >>> [(column, row)] = separate([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    >>> column, row
    (array([-1., -2., -1.]), array([ 1.,  0., -1.]))
    """
    matrix = np.asarray(kernel, np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise OptionError(
            f"separate: expected a finite kernel (rows, columns); got shape={matrix.shape}."
        )
    return list(_separated(matrix.shape, matrix.tobytes(), float(tolerance)))


@functools.lru_cache(maxsize=64)
def _separated(
    shape: tuple[int, int], data: bytes, tolerance: float
) -> tuple[tuple[Array, Array], ...]:
    matrix = np.frombuffer(data).reshape(shape)
    if rank_one(matrix, tolerance):
        return (_crossed(matrix),)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    rank = max(int(np.count_nonzero(s > tolerance * s[0])), 1)
    scale = np.sqrt(s[:rank])
    return tuple((u[:, k] * scale[k], v[k] * scale[k]) for k in range(rank))


def rank_one(kernel: Array, tolerance: float = TOLERANCE) -> bool:
    """Whether one column times one row is the kernel, near enough."""
    largest = np.abs(kernel).max()
    return bool(np.abs(np.outer(*_crossed(kernel)) - kernel).max() <= tolerance * largest)


def _crossed(matrix: Array) -> tuple[Array, Array]:
    """A column and a row of the matrix itself: small whole numbers stay what they are."""
    i, j = np.unravel_index(np.abs(matrix).argmax(), matrix.shape)
    middle = matrix[i, j]
    return matrix[:, j] + 0.0, matrix[i] / (middle if middle else 1.0) + 0.0
