"""The classical kernels, as float64 arrays.

Derivative kernels are written for correlation (the default of `apply`): their result is positive
where the image grows brighter to the right ("x") or downwards ("y").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, suggest

Kernel = NDArray[np.float64]
_AXES = ("x", "y")


def box(size: int = 3) -> Kernel:
    """The mean of a square: every tap 1/size².

    Args:
        size: rows and columns.
    Returns:
        (size, size), sum 1.

    >>> box(2)
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    count = _size(size, "box")
    return np.full((count, count), 1 / count**2)


def binomial(size: int = 3) -> Kernel:
    """The outer product of a row of Pascal's triangle with itself: nearly Gaussian.

    `w[p, q] = C(size−1, p)·C(size−1, q) / 4^(size−1)`

    Returns:
        (size, size), sum 1.

    >>> binomial(3) * 16
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    count = _size(size, "binomial")
    row = np.array([math.comb(count - 1, k) for k in range(count)]) / 2.0 ** (count - 1)
    return np.outer(row, row)


def gaussian(sigma: float = 1.0, size: int | None = None) -> Kernel:
    """`w[p, q] ∝ exp(−(x² + y²)/(2σ²))`, scaled to sum 1.

    Args:
        sigma: standard deviation in pixels.
        size: rows and columns; by default 2·⌈4σ⌉ + 1, which leaves out less than 10⁻⁴.
    Returns:
        (size, size).

    >>> gaussian(1.0).shape, round(float(gaussian(2.0, 5).sum()), 6)
    ((9, 9), 1.0)
    """
    x = _places(_reach(size, sigma, "gaussian"))
    row = np.exp(-(x**2) / (2 * sigma**2))
    row /= row.sum()
    return np.outer(row, row)


def prewitt(axis: str = "x") -> Kernel:
    """The derivative along an axis, over the sum of three lines.

    Source: Prewitt, Object enhancement and extraction (1970).

    >>> prewitt("x")
    array([[-1.,  0.,  1.],
           [-1.,  0.,  1.],
           [-1.,  0.,  1.]])
    """
    return _derivative((1, 1, 1), axis, "prewitt")


def sobel(axis: str = "x") -> Kernel:
    """The derivative along an axis, smoothed across it by 1 2 1.

    Source: Sobel & Feldman, A 3×3 isotropic gradient operator for image processing (1968).

    >>> sobel("y")
    array([[-1., -2., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  2.,  1.]])
    """
    return _derivative((1, 2, 1), axis, "sobel")


def scharr(axis: str = "x") -> Kernel:
    """The derivative along an axis, smoothed across it by 3 10 3: directions are truer.

    Source: Scharr, Optimale Operatoren in der digitalen Bildverarbeitung (2000).

    >>> scharr("x")[0]
    array([-3.,  0.,  3.])
    """
    return _derivative((3, 10, 3), axis, "scharr")


def laplacian(neighbours: int = 4) -> Kernel:
    """The sum of a pixel's 4 or 8 neighbours minus so many times the pixel.

    >>> laplacian(4)
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """
    if neighbours not in (4, 8):
        raise OptionError(f"laplacian: neighbours expected 4 or 8; got {neighbours!r}.")
    kernel = np.ones((3, 3))
    if neighbours == 4:
        kernel[::2, ::2] = 0
    kernel[1, 1] = -neighbours
    return kernel


def laplacian_of_gaussian(sigma: float = 1.0, size: int | None = None) -> Kernel:
    """`w ∝ ((x² + y²)/σ⁴ − 2/σ²)·exp(−(x² + y²)/(2σ²))`, shifted to sum exactly 0.

    Args:
        sigma: standard deviation of the Gaussian in pixels.
        size: rows and columns; by default 2·⌈4σ⌉ + 1.
    Source: Marr & Hildreth, Theory of edge detection, Proc. R. Soc. B 207 (1980).

    >>> bool(abs(laplacian_of_gaussian(1.5).sum()) < 1e-12)
    True
    """
    x = _places(_reach(size, sigma, "laplacian_of_gaussian"))
    square = x[:, None] ** 2 + x**2
    bell = np.exp(-square / (2 * sigma**2))
    kernel: Kernel = (square / sigma**4 - 2 / sigma**2) * bell / bell.sum()
    kernel -= kernel.mean()
    return kernel


def sharpen(amount: float = 1.0, neighbours: int = 4) -> Kernel:
    """The pixel minus `amount` times the Laplacian; flat places stay as they are.

    >>> sharpen()
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]])
    """
    kernel: Kernel = -float(amount) * laplacian(neighbours)
    kernel[1, 1] += 1
    return kernel + 0.0


def unsharp(sigma: float = 1.0, amount: float = 1.0, size: int | None = None) -> Kernel:
    """Unsharp masking: `(1 + amount)·pixel − amount·Gaussian blur`, as one kernel.

    >>> round(float(unsharp(2.0, 0.5).sum()), 6)
    1.0
    """
    blur = gaussian(sigma, _odd(_reach(size, sigma, "unsharp"), "unsharp"))
    kernel: Kernel = -float(amount) * blur
    kernel[len(blur) // 2, len(blur) // 2] += 1 + amount
    return kernel


def emboss() -> Kernel:
    """A relief lit from the upper left; flat places keep their brightness.

    >>> emboss()
    array([[-2., -1.,  0.],
           [-1.,  1.,  1.],
           [ 0.,  1.,  2.]])
    """
    return np.array([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])


def edge_pair(axis: str = "x") -> Kernel:
    """[−1 1]: the difference of two neighbours, the smallest edge detector.

    Returns:
        (1, 2) for "x", (2, 1) for "y".

    >>> edge_pair()
    array([[-1.,  1.]])
    """
    pair = np.array([[-1.0, 1.0]])
    return pair if _axis(axis, "edge_pair") == "x" else pair.T.copy()


def gabor(
    size: int | tuple[int, int] = 15,
    *,
    alpha: float = 1.0,
    beta_x: float = 0.05,
    beta_y: float = 0.05,
    f: float = 1.0,
    phi: float = 0.0,
    x0: float = 0.0,
    y0: float = 0.0,
    tau: float = 0.0,
) -> Kernel:
    """A wave under a bell, as simple cells of the visual cortex see.

    `w(x, y) = α·exp(−βx·x′² − βy·y′²)·cos(f·x′ + φ)`,
    `x′ = (x−x0)·cos τ + (y−y0)·sin τ`, `y′ = (y−y0)·cos τ − (x−x0)·sin τ`

    Args:
        size: rows and columns; (0, 0) is in the middle, x grows to the right, y downwards.
        alpha: height of the bell.
        beta_x, beta_y: how fast it falls along the wave and across it (1/pixel²).
        f: frequency of the wave in radians a pixel.
        phi: its phase.
        x0, y0: the bell's centre.
        tau: the direction in which the wave runs, in radians.
    Returns:
        (rows, columns).
    Source: Daugman, Uncertainty relation for resolution in space, spatial frequency, and
    orientation …, J. Opt. Soc. Am. A 2 (1985).

    >>> gabor(5)[2, 2], gabor((3, 7)).shape
    (np.float64(1.0), (3, 7))
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    y = _places(_size(rows, "gabor"))[:, None] - y0
    x = _places(_size(columns, "gabor")) - x0
    along = x * math.cos(tau) + y * math.sin(tau)
    across = y * math.cos(tau) - x * math.sin(tau)
    bell = alpha * np.exp(-beta_x * along**2 - beta_y * across**2)
    kernel: Kernel = bell * np.cos(f * along + phi)
    return kernel


def _gabor_example(**given: Any) -> Kernel:
    return gabor(21, **{"beta_x": 0.03, "beta_y": 0.03, "f": 0.9, "tau": math.pi / 4, **given})


KERNELS: dict[str, Callable[[], Kernel]] = {
    "box": lambda: box(5),
    "binomial": lambda: binomial(5),
    "gaussian": lambda: gaussian(2.0),
    "prewitt x": lambda: prewitt("x"),
    "sobel x": lambda: sobel("x"),
    "sobel y": lambda: sobel("y"),
    "scharr x": lambda: scharr("x"),
    "laplacian 4": lambda: laplacian(4),
    "laplacian 8": lambda: laplacian(8),
    "laplacian of gaussian": lambda: laplacian_of_gaussian(2.0),
    "sharpen": lambda: sharpen(),
    "unsharp": lambda: unsharp(2.0, 2.0),
    "emboss": lambda: emboss(),
    "edge pair x": lambda: edge_pair("x"),
    "gabor": _gabor_example,
}
"""One example of each kind by name, for galleries and tests."""


# ---- checks --------------------------------------------------------------------------------------


def _size(size: int, where: str) -> int:
    if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
        raise OptionError(f"{where}: size expected a whole number of at least 1; got {size!r}.")
    return int(size)


def _odd(size: int, where: str) -> int:
    if size % 2 == 0:
        raise OptionError(
            f"{where}: size expected an odd number, for there to be a middle; got {size}."
        )
    return size


def _reach(size: int | None, sigma: float, where: str) -> int:
    """The size, by default four standard deviations to each side."""
    if not math.isfinite(sigma) or sigma <= 0:
        raise OptionError(f"{where}: sigma expected a number above 0; got {sigma!r}.")
    return 2 * math.ceil(4 * sigma) + 1 if size is None else _size(size, where)


def _places(size: int) -> Kernel:
    """Coordinates with 0 in the middle."""
    return np.arange(size, dtype=np.float64) - (size - 1) / 2


def _axis(axis: str, where: str) -> str:
    if axis not in _AXES:
        raise OptionError(f"{where}: unknown axis {axis!r}. {suggest(str(axis), _AXES)}")
    return axis


def _derivative(smooth: tuple[int, int, int], axis: str, where: str) -> Kernel:
    kernel = np.outer(smooth, (-1.0, 0.0, 1.0))
    return kernel if _axis(axis, where) == "x" else kernel.T.copy()
