"""Looking at data before training: its statistics, and what augmentation makes of some samples.

Numbers only; the pictures are drawn by `striate.plot.preview`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.augment_colour import moments
from striate.data.loader import Loader
from striate.data.source import Images, Source, as_indices


@dataclass(frozen=True)
class Statistics:
    """What a data source holds; printed, it is a short table.

    Attributes:
        samples: the number of pictures.
        shape: of one picture, (c, h, w).
        mean: of each channel, (c,).
        std: the standard deviation of each channel, (c,).
        counts: pictures of each class, by its name.
    """

    samples: int
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: dict[str, int]

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape))
        means = ", ".join(f"{m:.4f} ± {s:.4f}" for m, s in zip(self.mean, self.std, strict=True))
        lines = [f"{self.samples:,} pictures {shape}", f"mean ± deviation of a channel: {means}"]
        width = max(map(len, self.counts), default=0)
        for name, count in self.counts.items():
            share = 100 * count / self.samples
            lines.append(f"  {name:<{width}}  {count:>9,}  {share:5.1f} %")
        return "\n".join(lines)


def statistics(source: Source) -> Statistics:
    """Count the pictures of each class, and find mean and deviation of each channel.

    Args:
        source: the data; every picture is read once.
    Returns:
        The statistics.
    Raises:
        DataError: there are no pictures, or one cannot be decoded.

    >>> from striate.data import as_dataset
    >>> data = as_dataset((np.array([[[0.0, 1.0]], [[0.5, 0.5]]], "f4"), np.array([0, 1])))
    >>> print(statistics(data))
    2 pictures 1×1×2
    mean ± deviation of a channel: 0.5000 ± 0.3536
      0          1   50.0 %
      1          1   50.0 %
    """
    mean, std = moments(source)
    classes: dict[str, int] = {}
    if source.classes:
        found = np.bincount(source.labels, minlength=len(source.classes))
        classes = dict(zip(source.classes, found.tolist(), strict=True))
    return Statistics(
        len(source), tuple(source.shape), tuple(mean.tolist()), tuple(std.tolist()), classes
    )


def preview(
    source: Source,
    augment: Any,
    *,
    samples: ArrayLike = range(6),
    copies: int = 7,
    seed: int = 0,
) -> tuple[Images, list[NDArray[Any]]]:
    """Some samples as they are, and as the first epochs of a training would see them.

    Args:
        source: the data.
        augment: a text, a step, a list of steps or a `Compose`.
        samples: (n,), which samples.
        copies: how many epochs.
        seed: key of the random numbers.
    Returns:
        Pictures (n, 1 + copies, c, h, w), the plain one first; and their targets, 1 + copies
        arrays of (n, …).
    Raises:
        OptionError: a sample that the source lacks, or an augmentation that cannot be.

    >>> from striate.data import as_dataset
    >>> data = as_dataset((np.zeros((8, 5, 5), "f4"), np.arange(8)))
    >>> preview(data, "flip", samples=[1, 2], copies=3)[0].shape
    (2, 4, 1, 5, 5)
    """
    chosen = as_indices(samples, len(source), "preview")
    rest = np.setdiff1d(np.arange(len(source)), chosen)  # mixing draws from all samples
    columns = [source.batch(chosen)]
    for epoch in range(1, copies + 1):
        order = np.concatenate([chosen, rest])
        with Loader(
            source, order, len(chosen), augment=augment, seed=seed, epoch=epoch, ahead=1
        ) as loader:
            images, targets = next(loader)
            columns.append((images.copy(), targets))
    return np.stack([images for images, _ in columns], axis=1), [t for _, t in columns]
