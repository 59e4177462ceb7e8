"""Counter-based random numbers: Philox4x32-10, so that a number depends on its place only.

The numbers of dropout are a pure function of (seed, step, site, sample, element); neither threads
nor order nor resuming change them. This is the meaning, in NumPy; the native program computes the
same words.

Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Draw:
    """Which random numbers a training step uses: the run's seed and the step's global number."""

    seed: int
    step: int


def philox4x32(counter: ArrayLike, key: tuple[int, int]) -> NDArray[np.uint32]:
    """Four random words for every counter.

    Args:
        counter: (…, 4) whole numbers below 2³².
        key: two whole numbers below 2³².
    Returns:
        (…, 4) uint32.

    >>> [hex(word) for word in philox4x32([0, 0, 0, 0], (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    a, b, c, d = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    low, high = (int(k) & _WORD for k in key)
    word, half = np.uint64(_WORD), np.uint64(32)
    for _ in range(ROUNDS):
        left, right = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b = (right >> half) ^ b ^ np.uint64(low), right & word
        c, d = (left >> half) ^ d ^ np.uint64(high), left & word
        low, high = (low + KEY_STEPS[0]) & _WORD, (high + KEY_STEPS[1]) & _WORD
    return np.stack([a, b, c, d], axis=-1).astype(np.uint32)


def key_of(seed: int) -> tuple[int, int]:
    """The Philox key of a seed: its low and its high 32 bits.

    Raises:
        OptionError: the seed is no whole number from 0 to 2⁶⁴ − 1.
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed < 2**64:
        raise OptionError(f"seed: expected a whole number from 0 to 2**64 - 1; got {seed!r}.")
    return int(seed) & _WORD, int(seed) >> 32


def dropout_uniform(
    seed: int, step: int, site: int, samples: ArrayLike, elements: int
) -> NDArray[np.float64]:
    """The uniform numbers in [0, 1) that decide which elements a dropout keeps.

    Element e of sample n uses word e % 4 of `philox4x32((e // 4, n, step, site), key_of(seed))`,
    as `(word >> 8) · 2⁻²⁴`.

    Args:
        seed: the run's seed.
        step: global number of the training step.
        site: number of the dropout in its network.
        samples: (n,) positions in the batch.
        elements: numbers a sample.
    Returns:
        (n, elements) float64, exact in float32.

    >>> dropout_uniform(0, 0, 0, [0, 1], 6).shape
    (2, 6)
    """
    positions = np.asarray(samples, np.uint64)
    blocks = np.arange((elements + 3) // 4, dtype=np.uint64)
    counter = np.empty((positions.size, blocks.size, 4), np.uint64)
    counter[..., 0] = blocks
    counter[..., 1] = positions[:, None]
    counter[..., 2] = step & _WORD
    counter[..., 3] = site & _WORD
    words = philox4x32(counter, key_of(seed)).reshape(positions.size, -1)[:, :elements]
    return np.asarray(words >> np.uint32(8), np.float64) * 2.0**-24
