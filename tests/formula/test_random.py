"""Philox4x32-10 against known answers and against NumPy's own Philox."""

from __future__ import annotations

import numpy as np
import pytest

from striate.errors import OptionError
from striate.random import dropout_uniform, key_of, philox4x32

ONES = 2**32 - 1
KNOWN_ANSWERS = [  # Random123's known-answer vectors
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ONES,) * 4, (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: str) -> None:
    assert " ".join(f"{w:08x}" for w in philox4x32(counter, key)) == words


def philox_in_plain_python(
    counter: list[int], key: list[int], bits: int, multipliers: list[int], steps: list[int]
) -> list[int]:
    """The rounds as the paper draws them, for any word size."""
    full = 2**bits - 1
    for _ in range(10):
        first, second = multipliers[0] * counter[0], multipliers[1] * counter[2]
        counter = [
            (second >> bits) ^ counter[1] ^ key[0],
            second & full,
            (first >> bits) ^ counter[3] ^ key[1],
            first & full,
        ]
        key = [(k + step) & full for k, step in zip(key, steps, strict=True)]
    return counter


def test_rounds_are_those_of_numpys_philox() -> None:
    wide = philox_in_plain_python(
        [6, 0, 0, 0],
        [7, 8],
        64,
        [0xD2E7470EE14C6C93, 0xCA5A826395121157],
        [0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B],
    )
    stream = np.random.Philox(counter=5, key=np.array([7, 8], np.uint64))
    assert wide == [int(w) for w in stream.random_raw(4)]
    narrow = philox_in_plain_python(
        [1, 2, 3, 4], [5, 6], 32, [0xD2511F53, 0xCD9E8D57], [0x9E3779B9, 0xBB67AE85]
    )
    assert narrow == [int(w) for w in philox4x32([1, 2, 3, 4], (5, 6))]


def test_dropout_numbers_depend_on_their_place_only() -> None:
    whole = dropout_uniform(2**40 + 3, step=5, site=1, samples=range(6), elements=11)
    assert whole.shape == (6, 11)
    some = dropout_uniform(2**40 + 3, step=5, site=1, samples=[4, 2], elements=7)
    assert np.array_equal(some, whole[[4, 2], :7])
    word = philox4x32([2, 4, 5, 1], (3, 2**8))[1]  # sample 4, element 9 = block 2, word 1
    assert whole[4, 9] == (int(word) >> 8) / 2**24
    assert np.array_equal(whole, whole.astype(np.float32))
    for other in ((3, 5, 1), (2**40 + 3, 6, 1), (2**40 + 3, 5, 2)):
        assert not np.array_equal(dropout_uniform(*other, range(6), 11), whole)


def test_dropout_numbers_are_uniform() -> None:
    u = dropout_uniform(0, 0, 0, range(100), 1000)
    assert 0 <= u.min() and u.max() < 1
    counts = np.bincount((u.ravel() * 16).astype(int), minlength=16)
    assert np.abs(counts - u.size / 16).max() < 5 * np.sqrt(u.size / 16)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(OptionError, match="seed: expected a whole number from 0"):
        key_of(seed)
