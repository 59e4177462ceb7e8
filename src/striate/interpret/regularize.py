"""What keeps images that are made by optimisation calm: penalties, each with its gradient.

    total variation     1/(h·w)   Σ (Δx² + Δy²)^(β/2)     neighbours alike
    alpha norm          1/(c·h·w) Σ |x − centre|^α        no value far out

They are means over the pixels, so that a weight serves images of any size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
_TINY = 1e-12  # under a root of differences: its slope at 0 stays finite


def total_variation(x: Float32, beta: float = 2.0) -> tuple[Float32, Float32]:
    """`Σ ((x[i, j+1] − x[i, j])² + (x[i+1, j] − x[i, j])²)^(β/2) / (h·w)` and its gradient.

    Differences past the last row or column count as 0.

    Args:
        x: images, (n, c, h, w).
        beta: 1 keeps edges, 2 spreads them.
    Returns:
        The values (n,), and the gradient of each to its image, (n, c, h, w).
    Source: Rudin, Osher, Fatemi, Nonlinear total variation based noise removal algorithms, 1992;
    with β: Mahendran, Vedaldi, Understanding deep image representations, arXiv:1412.0035.

    >>> value, gradient = total_variation(np.array([[[[0.0, 1.0], [0.0, 1.0]]]], np.float32))
    >>> value, gradient[0, 0].tolist()
    (array([0.5], dtype=float32), [[-0.5, 0.5], [-0.5, 0.5]])
    """
    down, right = np.zeros_like(x), np.zeros_like(x)
    np.subtract(x[:, :, 1:], x[:, :, :-1], out=down[:, :, :-1])
    np.subtract(x[..., 1:], x[..., :-1], out=right[..., :-1])
    pixels = x.shape[2] * x.shape[3]
    square = down * down + right * right
    if beta == 2:
        value, slope = square.sum(axis=(1, 2, 3)) / pixels, np.float32(2 / pixels)
    else:
        square += np.float32(_TINY)
        value = (square ** (beta / 2)).sum(axis=(1, 2, 3)) / pixels
        slope = beta / pixels * square ** (beta / 2 - 1)
    down *= slope
    right *= slope
    gradient = -(down + right)
    gradient[:, :, 1:] += down[:, :, :-1]
    gradient[..., 1:] += right[..., :-1]
    return value.astype(np.float32), gradient


def alpha_norm(
    x: Float32, alpha: float = 6.0, centre: Float32 | float = 0.0
) -> tuple[Float32, Float32]:
    """`Σ |x − centre|^α / (c·h·w)` and its gradient; α = 2 is the L2 penalty.

    Args:
        x: images, (n, c, h, w).
        alpha: at least 1; a large one leaves small values alone and holds large ones back.
        centre: the image without penalty, a number or (c, 1, 1).
    Returns:
        The values (n,), and the gradient of each to its image, (n, c, h, w).
    Source: Mahendran, Vedaldi, Understanding deep image representations, arXiv:1412.0035.

    >>> alpha_norm(np.full((1, 1, 2, 2), 3.0, np.float32), 2.0, 1.0)[0]
    array([4.], dtype=float32)
    """
    away = x - np.float32(centre) if np.ndim(centre) == 0 else x - np.asarray(centre, np.float32)
    count = x[0].size if len(x) else 1
    size = np.abs(away)
    power = size if alpha == 2 else size ** np.float32(alpha - 1)
    value = (power * size).sum(axis=(1, 2, 3)) / count
    gradient = np.sign(away) * power * np.float32(alpha / count)
    return value.astype(np.float32), gradient.astype(np.float32)
