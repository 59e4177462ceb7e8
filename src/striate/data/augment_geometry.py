"""Steps that move pixels: flips, crops, rotation, scale, shift, shear, elastic distortion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from striate.data.augment import Augmentation, Warp
from striate.data.draw import Draw
from striate.data.source import Images
from striate.errors import OptionError

_PADDINGS = {"zero": "constant", "edge": "edge", "reflect": "reflect"}


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror a picture left to right, or top to bottom.

    Args:
        probability: how often, from 0 to 1.
        vertical: top to bottom instead.

    >>> Flip(1.0).apply(np.arange(3, dtype="f4").reshape(1, 1, 1, 3), Draw(0, 0, [0], 0)).tolist()
    [[[[2.0, 1.0, 0.0]]]]
    """

    probability: float = 0.5
    vertical: bool = False

    def __post_init__(self) -> None:
        require("Flip", "probability", self.probability, 0, 1)

    def apply(self, images: Images, draw: Draw) -> Images:
        which = np.flatnonzero(draw.uniform(1)[:, 0] < self.probability)
        chosen = images[which]
        images[which] = chosen[:, :, ::-1] if self.vertical else chosen[..., ::-1]
        return images


@dataclass(frozen=True)
class PadCrop(Augmentation):
    """Move a picture by whole pixels: pad all sides, and cut the old size out of it at random.

    Args:
        pixels: that are padded on each side, and the most that a picture moves.
        padding: "zero", "edge" (the outermost pixels repeated) or "reflect".
    """

    pixels: int = 4
    padding: str = "zero"

    def __post_init__(self) -> None:
        require("PadCrop", "pixels", self.pixels, 0, 1 << 15, whole=True)
        if self.padding not in _PADDINGS:
            raise OptionError(
                f"PadCrop: expected padding as one of {', '.join(_PADDINGS)}; got "
                f"padding={self.padding!r}."
            )

    def apply(self, images: Images, draw: Draw) -> Images:
        p, (n, c, h, w) = self.pixels, images.shape
        if self.padding == "zero":
            padded = np.zeros((n, c, h + 2 * p, w + 2 * p), np.float32)
            padded[:, :, p : p + h, p : p + w] = images
        else:
            mode: Any = _PADDINGS[self.padding]
            padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), mode)
        windows = sliding_window_view(padded, (h, w), axis=(2, 3))
        top, left = draw.below(2 * p + 1, 2).T
        cut: Images = windows[np.arange(n), :, top, left]  # (n, c, h, w)
        return cut


@dataclass(frozen=True)
class Affine(Warp):
    """Rotate, scale, shear and shift a picture about its centre, in one resampling.

    Each amount is drawn evenly: the angle from −degrees to degrees, the factor from 1 − scale to
    1 + scale, the shear's angle from −shear to shear, the two shifts from −shift to shift.

    Args:
        degrees: the most it turns, either way.
        scale: the most it grows or shrinks, below 1.
        shear: the most it slants, degrees below 90.
        shift: the most it moves down and across, pixels.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        require("Affine", "degrees", self.degrees, 0, 360)
        require("Affine", "scale", self.scale, 0, 0.99)
        require("Affine", "shear", self.shear, 0, 89)
        require("Affine", "shift", self.shift, 0, 1 << 15)

    def matrices(self, draw: Draw) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What each picture's places are multiplied by, (n, 2, 2), after a shift, (n, 2).

        A place (row, column), relative to the centre, comes from `A⁻¹ (place − shift)`, where A
        turns counter-clockwise, slants and scales.
        """
        turn, grow, slant, down, right = (2 * draw.uniform(5) - 1).T
        angle, factor = np.radians(self.degrees) * turn, 1 + self.scale * grow
        lean = np.tan(np.radians(self.shear) * slant)
        cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones_like(angle), np.zeros_like(turn)
        # (row, column) grows downward, so that counter-clockwise has the sines the other way round
        turning = np.array([[cos, -sin], [sin, cos]])
        slanting = np.array([[one, zero], [lean, one]])
        forward = np.moveaxis(turning, -1, 0) @ np.moveaxis(slanting, -1, 0)
        return (
            np.linalg.inv(forward * factor[:, np.newaxis, np.newaxis]),
            self.shift * np.stack([down, right], axis=-1),
        )

    def trace(
        self, rows: NDArray[np.float32], columns: NDArray[np.float32], draw: Draw
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        matrix, shift = self.matrices(draw)
        _, h, w = rows.shape
        middle = np.array([(h - 1) / 2, (w - 1) / 2])
        # middle + M (place − middle − shift) = M place + offset
        offset = middle - np.squeeze(matrix @ (middle + shift)[..., np.newaxis], -1)
        m, o = matrix.astype(np.float32), offset.astype(np.float32)
        down, right = (
            m[:, k, 0, np.newaxis, np.newaxis] * rows
            + m[:, k, 1, np.newaxis, np.newaxis] * columns
            + o[:, k, np.newaxis, np.newaxis]
            for k in (0, 1)
        )
        return down, right


@dataclass(frozen=True)
class Elastic(Warp):
    """Bend a picture as if drawn on rubber: each pixel moves by a smooth random field.

    The two fields are even noise in [−1, 1], smoothed by a Gaussian of standard deviation σ, times
    α pixels. Their size is about `α / (6 σ)`: 1.4 pixels for the paper's values, those here.

    Args:
        alpha: the strength, pixels.
        sigma: how smooth, pixels.
    Source: Simard, Steinkraus, Platt: Best practices for convolutional neural networks applied to
        visual document analysis, ICDAR 2003.
    """

    alpha: float = 34.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        require("Elastic", "alpha", self.alpha, 0, 1e6)
        require("Elastic", "sigma", self.sigma, 0.1, 1e4)

    def trace(
        self, rows: NDArray[np.float32], columns: NDArray[np.float32], draw: Draw
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        n, h, w = rows.shape
        noise = (2 * draw.uniform(2 * h * w) - 1).astype(np.float32).reshape(n, 2, h, w)
        field = np.float32(self.alpha) * (_blur(h, self.sigma) @ noise @ _blur(w, self.sigma))
        return rows + field[:, 0], columns + field[:, 1]


def _blur(size: int, sigma: float) -> NDArray[np.float32]:
    """The symmetric matrix that smooths `size` values by a Gaussian; nothing lies outside."""
    place = np.arange(size)
    away = (place[:, np.newaxis] - place) / sigma
    whole = np.exp(-0.5 * (np.arange(-4 * size, 4 * size + 1) / sigma) ** 2).sum()
    return np.asarray(np.exp(-0.5 * away**2) / whole, np.float32)


def require(
    step: str, name: str, value: Any, low: float, high: float, *, whole: bool = False
) -> None:
    """Raises OptionError where an amount is no number from `low` to `high`."""
    number = hasattr(value, "__index__") if whole else hasattr(value, "__float__")
    if isinstance(value, bool) or not number or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise OptionError(
            f"{step}: expected {kind} from {low:g} to {high:g}; got {name}={value!r}."
        )
