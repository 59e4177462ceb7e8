"""The gradient of an image's brightness: its two parts, its strength, its direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, suggest
from striate.filters.apply import apply
from striate.filters.kernels import prewitt, scharr, sobel

Float32 = NDArray[np.float32]
_OPERATORS: dict[str, Callable[[str], NDArray[np.float64]]] = {
    "sobel": sobel,
    "prewitt": prewitt,
    "scharr": scharr,
}


def gradient(
    image: ArrayLike, operator: str = "sobel", border: str = "reflect", **more: Any
) -> tuple[Float32, Float32]:
    """The change of brightness a pixel, to the right and downwards.

    Args:
        image: as for `apply`.
        operator: "sobel", "prewitt" or "scharr", each scaled so that a ramp of slope 1 gives 1.
        border, more: as for `apply`.
    Returns:
        (gx, gy), each with the image's shape.

    >>> gx, gy = gradient(np.arange(12.0).reshape(3, 4))
    >>> gx[1, 1:3], gy[1, 1:3]
    (array([1., 1.], dtype=float32), array([4., 4.], dtype=float32))
    """
    if operator not in _OPERATORS:
        raise OptionError(
            f"filters.gradient: unknown operator {operator!r}. {suggest(operator, _OPERATORS)}"
        )
    kernel = _OPERATORS[operator]
    scale = np.abs(kernel("x")).sum()
    parts = [apply(image, kernel(axis) / scale, border=border, **more) for axis in ("x", "y")]
    return parts[0], parts[1]


def gradient_magnitude(
    image: ArrayLike, operator: str = "sobel", border: str = "reflect", **more: Any
) -> Float32:
    """`√(gx² + gy²)`: how strong the edges are; arguments as for `gradient`.

    >>> float(gradient_magnitude(3 * np.arange(5.0)[:, None] + np.zeros(5))[2, 2])
    3.0
    """
    gx, gy = gradient(image, operator, border, **more)
    return np.hypot(gx, gy)


def gradient_orientation(
    image: ArrayLike, operator: str = "sobel", border: str = "reflect", **more: Any
) -> Float32:
    """`atan2(gy, gx)` in radians: 0 where it grows brighter to the right, π/2 downwards.

    >>> round(float(gradient_orientation(np.arange(5.0)[:, None] + np.zeros(5))[2, 2]), 4)
    1.5708
    """
    gx, gy = gradient(image, operator, border, **more)
    return np.arctan2(gy, gx)
