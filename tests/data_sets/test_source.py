"""Data sources: batches by number, parts without copies, and data of other forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.data import ArraySource, DataSet, MapSource, Source, as_source
from striate.errors import DataError, OptionError, ShapeError

BYTES = np.arange(5 * 3 * 4 * 2, dtype=np.uint8).reshape(5, 3, 4, 2)
LABELS = np.array([0, 1, 2, 1, 0])


def test_bytes_are_scaled_batch_by_batch_as_all_at_once() -> None:
    source = as_source((BYTES, LABELS))
    assert isinstance(source, ArraySource) and source.images is not None
    assert source.images.dtype == np.uint8 and source.arrays() is None
    whole = source.in_memory()
    np.testing.assert_array_equal(whole.images, BYTES / np.float32(255))
    out = np.full((2, 3, 4, 2), np.nan, np.float32)
    images, targets = source.batch([4, 1], out)
    assert images is out and targets.tolist() == [0, 1]
    np.testing.assert_array_equal(out, whole.images[[4, 1]])


def test_float_arrays_are_not_copied() -> None:
    images = np.zeros((5, 1, 2, 2), np.float32)
    arrays = as_source((images, LABELS)).arrays()
    assert arrays is not None and arrays[0] is images
    targets = np.zeros((5, 3), np.float32)
    source = as_source((images, targets))
    assert source.classes == () and source.arrays() == (images, targets)
    assert source.batch([0, 2])[1].shape == (2, 3)


def test_parts_are_those_of_a_data_set() -> None:
    labels = np.arange(40) % 4
    images = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    source = ArraySource(images.astype(np.uint8), labels, tuple("abcd"))
    whole = DataSet(images, labels, tuple("abcd"))
    for view, part in zip(source.split(0.25, seed=3), whole.split(0.25, seed=3), strict=True):
        np.testing.assert_array_equal(view.labels, part.labels)
        np.testing.assert_array_equal(np.rint(view.in_memory().images * 255), part.images)
    view = source.subset([7, 3, 3]).subset([2, 0])
    assert view.labels.tolist() == [3, 3]
    assert np.rint(255 * view.batch([1])[0]).item() == 7


def test_fingerprint_sees_pictures_and_targets() -> None:
    changed, other = BYTES.copy(), LABELS.copy()
    changed[3, 0, 0, 0] += 1
    other[0] = 1
    codes = {
        as_source(pair).fingerprint()
        for pair in ((BYTES, LABELS), (changed, LABELS), (BYTES, other), (BYTES.copy(), LABELS))
    }
    assert len(codes) == 3


def test_wrong_batches() -> None:
    source = as_source((BYTES, LABELS))
    with pytest.raises(OptionError, match=r"batch: expected indices from 0 to 4; got .*=5"):
        source.batch([0, 5])
    with pytest.raises(OptionError, match="expected a list of integers"):
        source.batch([0.5])
    with pytest.raises(ShapeError, match=r"expected out \(1, 3, 4, 2\), float32"):
        source.batch([0], np.empty((2, 3, 4, 2), np.float32))
    with pytest.raises(OptionError, match="fraction between 0 and 1"):
        source.split(1.5)
    with pytest.raises(OptionError, match="two parts with samples"):
        source.split(0.01)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (7, "expected a data source, a pair"),
        ((BYTES, LABELS[:3]), "expected one target a picture"),
        ((BYTES.astype(np.int32), LABELS), "expected images of a float dtype or uint8"),
        ((BYTES.astype(np.int32), LABELS.astype(float)), "of uint8 or float32"),
        ([], "at least one sample"),
        ([1, 2, 3], r"expected \(image, label\) as sample 0; got int"),
        ([(BYTES[0], 0.5)], "a class number from 0"),
        ([(BYTES[0], -1)], "labels from 0 to"),
        ([(BYTES[0].astype(int), 0)], "expected bytes or floats"),
        ([(np.zeros(3), 0)], r"an array \(c, h, w\)"),
        ([(np.full((1, 2, 2), np.nan), 0)], "expected finite values"),
    ],
)
def test_data_that_is_none(data: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        as_source(data)


class Listed:
    """As torchvision's data sets: PIL pictures, classes, targets."""

    classes = ("dark", "bright")
    targets = (1, 0, 1)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, item: int) -> tuple[Any, int]:
        array = np.full((2, 5, 3), 10 * item, np.uint8)
        array[..., 2] = 255
        return Image.fromarray(array), self.targets[item]


def test_a_data_set_of_another_library() -> None:
    source = as_source(Listed(), name="listed")
    assert isinstance(source, MapSource) and isinstance(source, Source)
    assert (source.shape, source.classes) == ((3, 2, 5), ("dark", "bright"))
    assert source.labels.tolist() == [1, 0, 1]
    images, _ = source.batch([2])
    assert images[0, 0].max() == np.float32(20) / np.float32(255) and images[0, 2].min() == 1


def test_a_target_transform_is_heeded() -> None:
    data = Listed()
    data.target_transform = lambda label: label  # type: ignore[attr-defined]
    data.targets = (0, 0, 0)  # what __getitem__ gives from now on, too
    assert as_source(data).labels.tolist() == [0, 0, 0]
    plain = [(np.zeros((4, 4), np.uint8), k) for k in (3, 0, 1)]
    assert as_source(plain).classes == ("0", "1", "2", "3")


def test_samples_that_differ_in_shape_are_named() -> None:
    pair = [(np.zeros((1, 2, 2)), 0), (np.zeros((1, 3, 2)), 0)]
    with pytest.raises(DataError, match=r"expected a pair of arrays .*MapSource"):
        as_source(pair)
    source = MapSource(pair)
    with pytest.raises(DataError, match=r"sample 1: expected shape \(1, 2, 2\)"):
        source.batch([0, 1])


@pytest.mark.peer
def test_a_data_set_of_torch() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(
        torch.arange(24.0).reshape(2, 3, 2, 2), torch.tensor([1, 0])
    )
    source = as_source(torch.utils.data.Subset(data, [1]))
    assert source.labels.tolist() == [0]
    np.testing.assert_array_equal(source.batch([0])[0], data.tensors[0][1:].numpy())
