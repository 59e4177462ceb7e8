"""Augmentation: pictures changed at random while training, as a list of steps over whole batches.

    Compose([Flip(), PadCrop(4), Cutout(8)])  # or in text: augmentation("flip,crop4,cutout8")

The steps themselves are in `augment_geometry`, `augment_colour` and `augment_mix`; what is common
to them, their order and their text form is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.draw import Draw
from striate.data.source import Images, Index, Source
from striate.errors import OptionError, ShapeError

Targets = NDArray[Any]


class Augmentation(ABC):
    """One step: changes each picture of a batch, by random numbers of the picture's own.

    Attributes:
        random: False for a step that does the same to every picture, also when a network is
            judged, as `Normalize`.
    """

    random = True

    @abstractmethod
    def apply(self, images: Images, draw: Draw) -> Images:
        """Change pictures (n, c, h, w); the shape stays, the array may be written to."""

    def settings(self) -> dict[str, Any]:
        """The step as numbers and texts, for a training's record."""
        plain = (bool, int, float, str, tuple, list, type(None))
        fields = {k: v if isinstance(v, plain) else repr(v) for k, v in vars(self).items()}
        return {"step": type(self).__name__, **fields}


class Warp(Augmentation):
    """A step that moves pixels; several of them in a row read the picture only once."""

    @abstractmethod
    def trace(
        self, rows: NDArray[np.float32], columns: NDArray[np.float32], draw: Draw
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where the values at some places come from.

        Args:
            rows: places, (n, h, w), in pixels from the top.
            columns: the same from the left.
            draw: the random numbers.
        Returns:
            The places in the picture before this step.
        """

    def apply(self, images: Images, draw: Draw) -> Images:
        return resample(images, [(self, draw)])


class Mixing(Augmentation):
    """A step that mixes each picture, and its target, with another one of the epoch."""

    @abstractmethod
    def mix(self, images: Images, others: Images, draw: Draw) -> NDArray[np.float64]:
        """Write the mixtures into `images`; returns the share of each that stayed, (n,)."""

    def apply(self, images: Images, draw: Draw) -> Images:
        raise OptionError(
            f"{type(self).__name__}: expected a Loader to find the pictures to mix with; got a "
            "batch alone. Pass the augmentation to Loader or fit."
        )


class Compose:
    """Steps, one after the other.

    Neighbouring steps that move pixels (`Affine` and its kind, `Elastic`) become one resampling,
    so that a picture is blurred once. At most one step may mix pictures.

    Args:
        steps: the steps, or further lists of steps.
    Raises:
        OptionError: something that is no step, or two that mix.

    >>> from striate.data import Cutout, Flip, PadCrop
    >>> chain = Compose([Flip(), PadCrop(2), Cutout(3)])
    >>> chain(np.ones((2, 1, 8, 8), np.float32), seed=1).shape
    (2, 1, 8, 8)
    """

    def __init__(self, steps: Iterable[Augmentation | Compose]) -> None:
        self.steps: tuple[Augmentation, ...] = tuple(_flat(steps))
        mixing = [k for k, step in enumerate(self.steps) if isinstance(step, Mixing)]
        if len(mixing) > 1:
            names = ", ".join(type(self.steps[k]).__name__ for k in mixing)
            raise OptionError(f"Compose: expected at most one step that mixes; got {names}.")
        self._mixing = mixing[0] if mixing else None

    @property
    def soft(self) -> bool:
        """Whether targets become shares of the classes, (n, classes)."""
        return self._mixing is not None

    def evaluation(self) -> Compose | None:
        """The steps that are also done when a network is judged; None where there is none."""
        fixed = [step for step in self.steps if not step.random]
        return Compose(fixed) if fixed else None

    def settings(self) -> list[dict[str, Any]]:
        """The steps as numbers and texts, for a training's record."""
        return [step.settings() for step in self.steps]

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.steps))}])"

    def __call__(
        self, images: ArrayLike, *, seed: int = 0, epoch: int = 0, samples: ArrayLike | None = None
    ) -> Images:
        """Augment a batch.

        Args:
            images: (n, c, h, w), float32 from 0 to 1; it is not changed.
            seed: key of the random numbers.
            epoch: gives others with the same seed.
            samples: (n,), the pictures' numbers in their source; by default 0 … n − 1.
        Returns:
            The pictures, (n, c, h, w) float32.
        Raises:
            ShapeError: `images` is no batch.
            OptionError: a step that mixes pictures needs a `Loader`.
        """
        batch = np.array(images, np.float32, order="C")
        if batch.ndim != 4:
            raise ShapeError(f"augment: expected images (n, c, h, w); got shape {batch.shape}.")
        numbers = np.arange(len(batch)) if samples is None else np.asarray(samples)
        return self._run(0, len(self.steps), batch, seed, epoch, numbers)

    def batch(
        self, source: Source, indices: Index, pool: Index, seed: int, epoch: int, out: Images
    ) -> Targets:
        """Write augmented samples of a source into `out`, and return their targets.

        Args:
            source: where they come from.
            indices: (m,), which.
            pool: the samples that may be mixed in, sorted.
            seed: key of the random numbers.
            epoch: the number of the epoch.
            out: (m, c, h, w) float32.
        """
        _, targets = source.batch(indices, out)
        if self._mixing is None:
            _into(out, self._run(0, len(self.steps), out, seed, epoch, indices))
            return targets
        at, step = self._mixing, self.steps[self._mixing]
        draw = Draw(seed, epoch, indices, at)
        others = pool[draw.below(len(pool))[:, 0]]
        partners, partner_targets = source.batch(others)
        _into(out, self._run(0, at, out, seed, epoch, indices))
        partners = self._run(0, at, partners, seed, epoch, others)
        share = step.mix(out, partners, draw)[:, np.newaxis]  # type: ignore[attr-defined]
        _into(out, self._run(at + 1, len(self.steps), out, seed, epoch, indices))
        count = len(source.classes)
        own, other = one_hot(targets, count), one_hot(partner_targets, count)
        return np.asarray(share * own + (1 - share) * other, np.float32)

    def _run(
        self, first: int, last: int, images: Images, seed: int, epoch: int, samples: NDArray[Any]
    ) -> Images:
        """The steps from `first` to before `last`, warps gathered."""
        warps: list[tuple[Warp, Draw]] = []
        for k in range(first, last):
            step, draw = self.steps[k], Draw(seed, epoch, samples, k)
            if isinstance(step, Warp):
                warps.append((step, draw))
                continue
            images, warps = resample(images, warps), []
            images = step.apply(images, draw)
        return resample(images, warps)


def _flat(steps: Iterable[Any]) -> Iterable[Augmentation]:
    for step in steps:
        if isinstance(step, Augmentation):
            yield step
        elif isinstance(step, (Compose, list, tuple)):
            yield from _flat(step.steps if isinstance(step, Compose) else step)
        else:
            raise OptionError(
                f"Compose: expected steps as striate.data.Flip(); got {step!r}. Make a class of "
                "your own from striate.data.Augmentation."
            )


def _into(out: Images, images: Images) -> None:
    if images is not out:
        out[...] = images


def one_hot(labels: Targets, count: int) -> NDArray[np.float32]:
    """Labels (n,) as shares of the classes, (n, count); shares stay as they are."""
    if labels.ndim == 2 and labels.shape[1] == (count or labels.shape[1]):
        return labels.astype(np.float32, copy=False)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not count:
        raise OptionError(
            f"augment: expected class labels (n,) to mix; got targets {labels.shape}, "
            f"dtype={labels.dtype}, {count} classes. Leave the step out that mixes."
        )
    return np.eye(count, dtype=np.float32)[labels]


# ---- resampling ------------------------------------------------------------------------------

_TOGETHER = 1 << 15  # values of a channel that are gathered at once, so that they stay in the cache


def resample(images: Images, warps: Sequence[tuple[Warp, Draw]]) -> Images:
    """Read pictures where the warps say, by bilinear interpolation; black outside.

    Args:
        images: (n, c, h, w).
        warps: in the order in which they are done; the last one is asked first.
    Returns:
        (n, c, h, w): out[r, s] = Σ over the four pixels around (r', s') of weight · pixel, where
        (r', s') is the place that (r, s) comes from.
    """
    if not warps:
        return images
    n, c, h, w = images.shape
    grid = np.indices((h, w), np.float32)  # (2, h, w)
    rows, columns = np.broadcast_to(grid[:, np.newaxis], (2, n, h, w))
    for warp, draw in reversed(warps):
        rows, columns = warp.trace(rows, columns, draw)
    padded = np.zeros((n, c, h + 2, w + 2), np.float32)
    padded[:, :, 1:-1, 1:-1] = images
    out = np.empty_like(images)
    step = max(1, _TOGETHER // (h * w))
    for k in range(0, n, step):
        part = slice(k, k + step)
        _bilinear(padded[part], rows[part], columns[part], out[part])
    return out


def _bilinear(
    padded: Images, rows: NDArray[np.float32], columns: NDArray[np.float32], out: Images
) -> None:
    """As `resample`, with one pixel of black around the pictures."""
    n, c, height, width = padded.shape
    rows = np.clip(rows, -1, height - 2) + np.float32(1)  # (n, h, w)
    columns = np.clip(columns, -1, width - 2) + np.float32(1)
    top = np.minimum(rows.astype(np.int32), height - 2)
    left = np.minimum(columns.astype(np.int32), width - 2)
    down, right = rows - top, columns - left
    first = np.arange(n, dtype=np.intp)[:, np.newaxis, np.newaxis] * (c * height * width)
    corner = first + (top * width + left)  # (n, h, w)
    flat = padded.reshape(-1)
    weights = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
    for channel in range(c):
        places = corner + channel * height * width
        value = weights[0] * flat[places]
        for weight, offset in zip(weights[1:], (1, width, width + 1), strict=True):
            value += weight * flat[places + offset]
        out[:, channel] = value


def as_augmentation(value: Any, source: Source | None = None) -> Compose | None:
    """A text, a step, a list of steps or a `Compose` as a `Compose`; None stays None."""
    from striate.data.augment_text import augmentation

    if value is None or isinstance(value, Compose):
        return value
    if isinstance(value, str):
        return augmentation(value, source)
    return Compose([value] if isinstance(value, Augmentation) else value)
