"""Steps that change colours: jitter of brightness, contrast, saturation and hue; normalising."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from striate.data.augment import Augmentation
from striate.data.augment_geometry import require
from striate.data.draw import Draw
from striate.data.source import Images, Source
from striate.errors import DataError, OptionError, ShapeError

if TYPE_CHECKING:
    from striate.nn.module import Module

_LUMA = np.array([0.299, 0.587, 0.114])
# RGB to luma and two differences of colour (NTSC's Y, I, Q)
_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_ROWS = 512  # samples that are looked at together


@dataclass(frozen=True)
class ColourJitter(Augmentation):
    """Change brightness, contrast, saturation and hue, in this order.

    Brightness: x ← b·x; contrast: x ← c·x + (1 − c)·(mean luma of the picture); saturation:
    x ← s·x + (1 − s)·(luma of the pixel); with b, c, s drawn evenly from 1 − amount to 1 + amount.
    Hue: the two differences of colour (NTSC's I and Q) are turned by an angle drawn evenly from
    −hue to hue full turns, which keeps the luma. Values are cut off at 0 and 1 at the end. Grey
    pictures change in brightness and contrast only.

    Args:
        brightness: from 0 to 1, and so are
        contrast: this
        saturation: and this.
        hue: from 0 to 0.5.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            require("ColourJitter", name, getattr(self, name), 0, 1)
        require("ColourJitter", "hue", self.hue, 0, 0.5)

    def apply(self, images: Images, draw: Draw) -> Images:
        n, c, h, w = images.shape
        if c not in (1, 3):
            raise ShapeError(
                f"ColourJitter: expected pictures of 1 or 3 channels; got {images.shape}. "
                "Leave it out."
            )
        amounts = np.array([self.brightness, self.contrast, self.saturation, 2 * np.pi * self.hue])
        drawn = amounts * (2 * draw.uniform(4) - 1)
        bright, contrast = 1 + drawn[:, 0], 1 + drawn[:, 1]
        luma = _LUMA if c == 3 else np.ones(1)
        mean = images.mean(axis=(2, 3), dtype=np.float64) @ luma  # (n,)
        offset = ((1 - contrast) * bright * mean).astype(np.float32)
        matrix = np.ones((n, 1, 1)) if c == 1 else _colours(1 + drawn[:, 2], drawn[:, 3])
        matrix = (matrix * (bright * contrast)[:, np.newaxis, np.newaxis]).astype(np.float32)
        changed: Images = np.matmul(matrix, images.reshape(n, c, h * w), dtype=np.float32)
        changed += offset[:, np.newaxis, np.newaxis]
        np.clip(changed, 0, 1, out=changed)
        return changed.reshape(n, c, h, w)


def _colours(saturation: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """What an RGB pixel of each picture is multiplied by, (n, 3, 3); grey stays grey."""
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    return np.asarray(np.linalg.inv(_YIQ) @ turn @ _YIQ)


@dataclass(frozen=True)
class Normalize(Augmentation):
    """Subtract a mean from each channel and divide by a deviation: x ← (x − mean) / std.

    It is done to all pictures, also when a network is judged. Put it last. A network that shall
    take plain pictures begins with `normalize.layer()` instead.

    Args:
        mean: of each channel, (c,).
        std: of each channel, (c,), above 0.

    >>> from striate.data import as_dataset
    >>> data = as_dataset((np.array([[[0.0, 1.0]], [[0.5, 0.5]]], "f4"), np.array([0, 1])))
    >>> Normalize.of(data)
    Normalize(mean=(0.5,), std=(0.353553,))
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    random = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise OptionError(
                "Normalize: expected a mean and a deviation above 0 for each channel; got "
                f"mean={self.mean!r}, std={self.std!r}."
            )

    @classmethod
    def of(cls, source: Source) -> Normalize:
        """With the mean and the deviation of all pixels of a data source.

        A channel that never changes gets the deviation 1. The numbers are rounded to six places,
        so that they can be read and typed.
        """
        mean, std = moments(source)
        std[std < 1e-6] = 1.0
        return cls(tuple(np.round(mean, 6).tolist()), tuple(np.round(std, 6).tolist()))

    def apply(self, images: Images, draw: Draw) -> Images:
        if images.shape[1] != len(self.mean):
            raise ShapeError(
                f"Normalize: expected pictures of {len(self.mean)} channels, as it has means; got "
                f"{images.shape}."
            )
        mean, std = (
            np.array(v, np.float32)[:, np.newaxis, np.newaxis] for v in (self.mean, self.std)
        )
        images -= mean
        images /= std
        return images

    def layer(self) -> Module:
        """The same as a layer without anything to train, which travels with a network."""
        from striate.data.normalize_layer import NormalizeLayer

        return NormalizeLayer(self.mean, self.std)


def moments(source: Source) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over all pixels of all pictures, (c,) each.

    Raises:
        DataError: there are no pictures.
    """
    if not len(source):
        raise DataError(f"data set {source.name!r}: expected at least one picture; got none.")
    total, squares = np.zeros(source.shape[0]), np.zeros(source.shape[0])
    middle = source.batch([0])[0].mean(axis=(2, 3), dtype=np.float64)[0]
    for start in range(0, len(source), _ROWS):
        images, _ = source.batch(np.arange(start, min(start + _ROWS, len(source))))
        away = images - middle[:, np.newaxis, np.newaxis]  # squares about it lose fewer digits
        total += away.sum(axis=(0, 2, 3))
        squares += np.einsum("nchw,nchw->c", away, away)
    count = len(source) * int(np.prod(source.shape[1:]))
    mean = total / count
    return mean + middle, np.sqrt(np.maximum(squares / count - mean**2, 0))
