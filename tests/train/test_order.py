"""Shuffling and splitting."""

from __future__ import annotations

import numpy as np
import pytest

from striate.data.dataset import DataSet
from striate.errors import OptionError
from striate.train.order import epoch_order, split


def test_an_order_is_a_permutation_and_depends_on_seed_and_epoch() -> None:
    orders = [epoch_order(seed, epoch, 100) for seed in (0, 1) for epoch in (1, 2)]
    for order in orders:
        assert order.dtype == np.int64
        assert sorted(order.tolist()) == list(range(100))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert np.array_equal(orders[0], epoch_order(0, 1, 100))


def test_an_order_never_changes() -> None:
    # Recorded: a training that is resumed years later must see the same order.
    assert epoch_order(7, 3, 8).tolist() == [2, 5, 7, 3, 0, 6, 4, 1]


def test_every_place_is_equally_likely() -> None:
    places = np.array([np.flatnonzero(epoch_order(9, epoch, 4) == 0)[0] for epoch in range(2000)])
    counts = np.bincount(places, minlength=4)
    assert abs(counts - 500).max() < 100, counts


def test_a_split_keeps_every_class_and_the_order() -> None:
    targets = np.repeat(np.arange(3), (10, 20, 40))
    stay, off = split(targets, 0.1, seed=4)
    assert np.bincount(targets[off]).tolist() == [1, 2, 4]
    assert sorted([*stay, *off]) == list(range(70))
    assert np.all(np.diff(stay) > 0)
    assert np.all(np.diff(off) > 0)


def test_a_split_is_the_data_sets_own() -> None:
    labels = np.arange(40, dtype=np.int64) % 3
    data = DataSet(np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1), labels, ("a", "b", "c"))
    rest, part = data.split(0.25, seed=11)
    stay, off = split(labels, 0.25, seed=11)
    assert np.array_equal(rest.images.ravel(), stay)
    assert np.array_equal(part.images.ravel(), off)


def test_a_split_without_classes() -> None:
    stay, off = split(np.zeros((10, 2), np.float32), 0.3, seed=0)
    assert (len(stay), len(off)) == (7, 3)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_no_fraction(fraction: float) -> None:
    with pytest.raises(OptionError, match="expected a fraction above 0 and below 1; got"):
        split(np.zeros(10, np.int64), fraction, seed=0)


def test_an_empty_part() -> None:
    with pytest.raises(OptionError, match=r"got validation=0\.1 of 3 samples in 3 classes"):
        split(np.arange(3), 0.1, seed=0)
