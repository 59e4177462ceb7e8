"""Steps that hide parts of a picture or mix two: cutout, mixup, cutmix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.augment import Augmentation, Mixing
from striate.data.augment_geometry import require
from striate.data.draw import Draw
from striate.data.source import Images

_MOST_ALPHA = 4.0  # above it the mixtures are all near one half, and take long to draw


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Fill a square at a random place with one value; part of it may lie outside the picture.

    Args:
        size: the square's side, pixels.
        value: what it is filled with.
    Source: DeVries, Taylor: Improved regularization of convolutional neural networks with cutout,
        2017.
    """

    size: int = 8
    value: float = 0.0

    def __post_init__(self) -> None:
        require("Cutout", "size", self.size, 0, 1 << 15, whole=True)

    def apply(self, images: Images, draw: Draw) -> Images:
        h, w = images.shape[2:]
        half = self.size // 2
        box = _box(draw, h, w, half, half, self.size, self.size)
        np.copyto(images, np.float32(self.value), where=box[:, np.newaxis])
        return images


@dataclass(frozen=True)
class Mixup(Mixing):
    """Blend each picture with another one: λ·x + (1 − λ)·x', and the targets likewise.

    λ is drawn from Beta(α, α) for each picture, the other picture from the whole epoch.

    Args:
        alpha: α, above 0; small ones leave most pictures nearly as they are.
    Source: Zhang, Cissé, Dauphin, Lopez-Paz: mixup: beyond empirical risk minimization, ICLR 2018.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        require("Mixup", "alpha", self.alpha, 0.01, _MOST_ALPHA)

    def mix(self, images: Images, others: Images, draw: Draw) -> NDArray[np.float64]:
        share = draw.beta(self.alpha)
        stays = share.astype(np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
        images *= stays
        others *= np.float32(1) - stays
        images += others
        return share


@dataclass(frozen=True)
class CutMix(Mixing):
    """Paste a rectangle of another picture; the targets are mixed by its area.

    The rectangle has the picture's proportions and, before it is cut off at the border, the area
    1 − λ, with λ from Beta(α, α); its centre is anywhere.

    Args:
        alpha: α, above 0; 1 makes every area equally frequent.
    Source: Yun et al.: CutMix: regularization strategy to train strong classifiers with
        localizable features, ICCV 2019.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        require("CutMix", "alpha", self.alpha, 0.01, _MOST_ALPHA)

    def mix(self, images: Images, others: Images, draw: Draw) -> NDArray[np.float64]:
        h, w = images.shape[2:]
        side = np.sqrt(1 - draw.beta(self.alpha))[:, np.newaxis]
        height, width = np.rint(h * side).astype(int), np.rint(w * side).astype(int)
        box = _box(draw, h, w, height // 2, width // 2, height, width)
        np.copyto(images, others, where=box[:, np.newaxis])
        return np.asarray(1 - box.mean(axis=(1, 2)))


def _box(
    draw: Draw,
    h: int,
    w: int,
    above: int | NDArray[np.int64],
    before: int | NDArray[np.int64],
    height: int | NDArray[np.int64],
    width: int | NDArray[np.int64],
) -> NDArray[np.bool_]:
    """A rectangle for each sample about a centre anywhere in h × w: (n, h, w), True within."""
    centre = draw.uniform(2)
    top = (centre[:, :1] * h).astype(np.int64) - above
    left = (centre[:, 1:] * w).astype(np.int64) - before
    row, column = np.arange(h), np.arange(w)
    rows, columns = (row >= top) & (row < top + height), (column >= left) & (column < left + width)
    return rows[:, :, np.newaxis] & columns[:, np.newaxis]
