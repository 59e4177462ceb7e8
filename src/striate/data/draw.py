"""The random numbers of augmentation: a function of seed, epoch, sample and step alone.

They come from counters (Philox4x32-10, `striate.random`), so that a sample is changed in the same
way whatever batch it is in, whichever thread prepares it, and after a training was resumed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.random import key_of, philox4x32

_APART = 1 << 31  # added to the step's number: the counters of dropout have small ones there
_WORD = 0xFFFFFFFF
_TOGETHER = 1 << 14  # counters at once, which keeps what is computed of them in the cache


class Draw:
    """Random numbers for one step of an augmentation, on some samples.

    The k-th word of a sample is word k mod 4 of
    `philox4x32((⌊k/4⌋, sample, epoch, 2³¹ + step), key_of(seed))`. Each call goes on where the
    last one ended, at a multiple of 4.

    Args:
        seed: of the training, 0 … 2⁶⁴ − 1.
        epoch: its number.
        samples: (n,), the samples' numbers in their source.
        step: the place of the step in its list.

    >>> both, second = Draw(1, 0, [3, 8], 0), Draw(1, 0, [8], 0)
    >>> both.uniform(5)[1].tolist() == second.uniform(5)[0].tolist()
    True
    """

    def __init__(self, seed: int, epoch: int, samples: ArrayLike, step: int) -> None:
        self._key = key_of(seed)
        self._samples = np.asarray(samples, np.uint64) & np.uint64(_WORD)
        self._epoch, self._site, self._used = epoch & _WORD, _APART + step, 0
        self._betas = 0

    def __len__(self) -> int:
        return len(self._samples)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` numbers for each sample, (n, count), in [0, 1), multiples of 2⁻²⁴."""
        blocks = -(-count // 4)
        numbers = np.empty((len(self), count))
        step = max(1, _TOGETHER // max(1, blocks))
        for start in range(0, len(self), step):
            samples = self._samples[start : start + step]
            counter = np.empty((len(samples), blocks, 4), np.uint64)
            counter[..., 0] = np.arange(self._used, self._used + blocks, dtype=np.uint64)
            counter[..., 1] = samples[:, np.newaxis]
            counter[..., 2], counter[..., 3] = self._epoch, self._site
            words = philox4x32(counter, self._key).reshape(len(samples), -1)[:, :count]
            np.multiply(words >> np.uint32(8), 2.0**-24, out=numbers[start : start + step])
        self._used += blocks
        return numbers

    def between(self, low: float, high: float, count: int = 1) -> NDArray[np.float64]:
        """Numbers from `low` to below `high`, (n, count)."""
        return low + (high - low) * self.uniform(count)

    def below(self, bound: int, count: int = 1) -> NDArray[np.int64]:
        """Whole numbers from 0 to `bound` − 1, (n, count)."""
        return (self.uniform(count) * bound).astype(np.int64)

    def beta(self, alpha: float) -> NDArray[np.float64]:
        """Numbers of the distribution Beta(α, α), (n,).

        Of pairs u, v the first with s = u^(1/α) + v^(1/α) ≤ 1 is taken, and gives u^(1/α) / s.
        Source: Jöhnk, Erzeugung von betaverteilten und gammaverteilten Zufallszahlen, 1964.
        """
        # How many pairs are tried depends on the whole batch: they have counters far away, so that
        # what is drawn next does not.
        self._betas += 1
        used, self._used = self._used, self._betas << 24
        found = np.full(len(self), -1.0)
        while (open_ := found < 0).any():
            left, right = (self.uniform(2).T + 2.0**-25) ** (1 / alpha)
            total = left + right
            accepted = open_ & (total <= 1) & (total > 0)
            found[accepted] = left[accepted] / total[accepted]
        self._used = used
        return found
