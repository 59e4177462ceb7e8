"""Which samples, in which order: the shuffling of an epoch and the split for validation.

Everything is a function of the seed, the epoch and the number of samples, from the raw words of
NumPy's Philox generator, which do not change between versions of NumPy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import stratified
from striate.errors import OptionError

Index = NDArray[np.int64]


def epoch_order(seed: int, epoch: int, samples: int) -> Index:
    """The order of the samples in one epoch, a permutation of 0 … samples − 1.

    Args:
        seed: the training's seed, at least 0.
        epoch: the number of the epoch, from 1; 0 is the split's, which must not repeat it.
        samples: how many samples there are.
    Returns:
        The permutation, (samples,).
    Source:
        Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, 2011 (Philox).

    >>> sorted(epoch_order(seed=0, epoch=1, samples=4).tolist())
    [0, 1, 2, 3]
    """
    words = np.random.Philox(key=[seed, epoch]).random_raw(samples)
    return np.argsort(words, kind="stable").astype(np.int64)


def split(targets: NDArray[np.generic], fraction: float, seed: int) -> tuple[Index, Index]:
    """Split off a part for validation, with the same share of every class.

    The parts are those of `DataSet.split`, as indices, so that no image is copied.

    Args:
        targets: labels, (n,) integers, or anything else for a split without classes.
        fraction: the share that is split off, above 0 and below 1.
        seed: the training's seed.
    Returns:
        The indices that stay and those split off, both rising.
    Raises:
        OptionError: the fraction is none, or one of the parts would be empty.

    >>> stay, off = split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
    >>> len(stay), len(off)
    (6, 2)
    """
    if not 0.0 < fraction < 1.0:
        raise OptionError(
            f"validation: expected a fraction above 0 and below 1; got {fraction!r}. "
            "Use 0.1 for a tenth, or give a data set."
        )
    samples = len(targets)
    labelled = targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
    classes = targets if labelled else np.zeros(samples, np.int64)
    off = stratified(classes, fraction, seed)
    if off.all() or not off.any():
        raise OptionError(
            f"validation: expected two parts with samples; got validation={fraction:g} of "
            f"{samples} samples in {len(np.unique(classes))} classes. Use another fraction."
        )
    return np.flatnonzero(~off), np.flatnonzero(off)
