"""What a data set refuses, and how it is split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from striate.data import DataSet, as_dataset
from striate.errors import DataError, OptionError


def make(n: int = 20, classes: int = 4) -> DataSet:
    images = np.arange(n * 6, dtype=np.float32).reshape(n, 1, 2, 3)
    return DataSet(images, np.arange(n) % classes, tuple("abcdefgh"[:classes]), "toy")


def test_repr_and_length() -> None:
    assert len(make()) == 20
    assert repr(make()) == "DataSet 'toy': 20 pictures 1×2×3 in 4 classes"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_names_the_first_sample(value: float) -> None:
    images = np.zeros((9, 1, 2, 2), np.float32)
    images[5, 0, 1, 1] = value
    images[7] = value
    with pytest.raises(DataError, match=r"NaN or infinite in the data, first in sample 5 of 9"):
        DataSet(images, np.zeros(9, np.int64), ("a",))


def test_large_values_are_no_nan() -> None:
    images = np.full((9, 1, 2, 2), 3e38, np.float32)
    assert len(DataSet(images, np.zeros(9, np.int64), ("a",))) == 9


@pytest.mark.parametrize("label", [-1, 4, 10])
def test_labels_out_of_range(label: int) -> None:
    labels = np.arange(20) % 4
    labels[13] = label
    message = rf"labels from 0 to 3 \(4 classes\); got label {label} at sample 13 of 20"
    with pytest.raises(DataError, match=message):
        DataSet(make().images, labels, tuple("abcd"))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 1, 2, 2)), np.zeros(3, int), "float32 in C order; got shape .*float64"),
        (np.zeros((3, 2, 2), "f4"), np.zeros(3, int), r"got shape \(3, 2, 2\)"),
        (np.zeros((2, 2, 1, 3), "f4").T, np.zeros(3, int), "in C order"),
        (np.zeros((3, 1, 0, 2), "f4"), np.zeros(3, int), "at least one pixel"),
        (np.zeros((3, 1, 2, 2), "f4"), np.zeros(2, int), "got 3 images and 2 labels"),
        (np.zeros((3, 1, 2, 2), "f4"), np.zeros(3, "u1"), "labels .* of int64; got .*uint8"),
        (np.zeros((3, 1, 2, 2), "f4"), np.zeros((3, 1), int), r"got shape \(3, 1\)"),
    ],
)
def test_wrong_arrays(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSet(images, labels, ("a",))


def test_as_dataset_scales_bytes_exactly() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    data = as_dataset((values, np.array([0, 1, 2, 2], np.uint8)))
    assert data.images.shape == (4, 1, 8, 8) and data.images.flags.c_contiguous
    np.testing.assert_array_equal(data.images[:, 0], values.astype("f4") / np.float32(255))
    assert data.labels.dtype == np.int64 and data.classes == ("0", "1", "2")
    assert as_dataset(data) is data


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_as_dataset_keeps_floats(dtype: str) -> None:
    values = np.arange(36, dtype=dtype).reshape(3, 4, 3, 1).transpose(0, 3, 1, 2) - 7
    data = as_dataset([values, [1, 0, 1]], classes=("no", "yes"), name="mine")
    np.testing.assert_array_equal(data.images, values)
    assert data.images.dtype == np.float32 and data.images.flags.c_contiguous
    assert (data.classes, data.name) == (("no", "yes"), "mine")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 2, 2)), "pair .*; got ndarray"),
        ((np.zeros((3, 2, 2)),), "pair .*; got tuple of 1"),
        ((np.zeros((3, 2, 2), int), [0, 0, 0]), "float dtype or uint8; got dtype=int64"),
        ((np.full((3, 2, 2), 1e60), [0, 0, 0]), "first in sample 0 of 3"),
        ((np.zeros((3, 2, 2)), np.eye(3)), r"Pass labels\.argmax"),
        ((np.zeros((3, 2, 2)), [0.0, 1.0, 2.0]), "integer dtype; got .*float64"),
        ((np.zeros((3, 4)), [0, 1, 2]), r"got shape \(3, 4\)"),
    ],
)
def test_as_dataset_refuses(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_dataset(data)


def test_split_is_stratified_disjoint_and_repeatable() -> None:
    data = make(200)
    rest, part = data.split(0.1, seed=3)
    assert (len(rest), len(part)) == (180, 20)
    assert np.bincount(part.labels).tolist() == [5, 5, 5, 5]
    firsts = np.concatenate([rest.images[:, 0, 0, 0], part.images[:, 0, 0, 0]])
    assert sorted(firsts.tolist()) == data.images[:, 0, 0, 0].tolist()
    assert (np.diff(part.images[:, 0, 0, 0]) > 0).all()
    np.testing.assert_array_equal(data.split(0.1, seed=3)[1].images, part.images)
    assert not np.array_equal(data.split(0.1, seed=4)[1].images, part.images)


def test_split_never_changes() -> None:
    """The choice is part of a run's reproducibility: the same for ever, on every machine."""
    part = make(20).split(0.25, seed=0)[1]
    assert (part.images[:, 0, 0, 0] / 6).astype(int).tolist() == [0, 2, 11, 17]


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan"), 0.01])
def test_split_refuses(fraction: float) -> None:
    with pytest.raises(OptionError, match=rf"split: .*got fraction={fraction}"):
        make().split(fraction)


def test_subset() -> None:
    data = make().subset([3, 3, 1])
    assert data.labels.tolist() == [3, 3, 1] and data.classes == make().classes
    assert len(make().subset([])) == 0
    with pytest.raises(OptionError, match=r"indices from 0 to 19; got indices\[1\]=20"):
        make().subset([0, 20])
    with pytest.raises(OptionError, match=r"list of integers; got .*bool"):
        make().subset(make().labels == 1)
