"""A data set in memory: pictures, their labels, and the names of the classes.

`DataSet` checks what it is given once, so that nothing behind it meets a NaN or a label that no
class has. It deliberately does not normalise: what a network expects of its input belongs to the
network and must travel with it. Reading files is in `idx`, `named` and `pictures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from striate.data.source import Images, Index, Source, as_indices, stratified, take
from striate.errors import DataError

__all__ = ["DataSet", "as_dataset", "scale_bytes", "stratified"]

Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class DataSet(Source):
    """Pictures with one label each.

    Args:
        images: (n, c, h, w), float32, C order; the named sets have grey values from 0 to 1.
        labels: (n,), int64: the class of each picture, from 0.
        classes: the name of each class; labels are below its length.
        name: what the set is called in messages.
    Raises:
        DataError: wrong shape or dtype, counts differ, NaN or infinite values, labels out of range.

    >>> data = DataSet(np.zeros((4, 1, 8, 8), "f4"), np.array([0, 1, 1, 0]), ("a", "b"), "toy")
    >>> len(data), data
    (4, DataSet 'toy': 4 pictures 1×8×8 in 2 classes)
    """

    images: Images
    labels: Labels
    classes: tuple[str, ...]
    name: str = "data"

    def __post_init__(self) -> None:
        where = f"data set {self.name!r}"
        _check_images(where, self.images)
        _check_labels(where, self.labels, len(self.images), len(self.classes))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def subset(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> DataSet:
        """The samples at `indices`, in that order.

        Args:
            indices: (m,), integers from 0 to n − 1; a sample may be named more than once.
        Returns:
            A data set of m samples, with copies of the arrays.
        Raises:
            OptionError: an index that is no integer or out of range.

        >>> data = as_dataset((np.zeros((3, 2, 2), "f4"), np.array([0, 1, 2])))
        >>> data.subset([2, 0]).labels.tolist()
        [2, 0]
        """
        chosen = as_indices(indices, len(self), "subset")
        return DataSet(self.images[chosen], self.labels[chosen], self.classes, self.name)

    def split(self, fraction: float, seed: int = 0) -> tuple[DataSet, DataSet]:
        """As `Source.split`: both parts are data sets, with copies of the arrays.

        >>> data = as_dataset((np.zeros((10, 2, 2), "f4"), np.arange(10) % 2))
        >>> rest, part = data.split(0.2, seed=1)
        >>> len(rest), sorted(part.labels.tolist())
        (8, [0, 1])
        """
        rest, part = super().split(fraction, seed)
        return cast("DataSet", rest), cast("DataSet", part)

    def fill(self, indices: Index, out: Images) -> None:
        take(self.images, indices, out)

    def arrays(self) -> tuple[Images, Labels]:
        return self.images, self.labels

    def in_memory(self) -> DataSet:
        return self


def as_dataset(data: Any, *, classes: Sequence[str] | None = None, name: str = "data") -> DataSet:
    """Make a data set of a pair of arrays; a data set is returned as it is.

    Args:
        data: a `DataSet`, or (images, labels): images (n, c, h, w) or, grey, (n, h, w), of any
            float dtype (kept as they are) or uint8 (divided by 255); labels (n,), integers.
        classes: names of the classes; left out, "0", "1", … up to the largest label.
        name: what the set is called in messages.
    Returns:
        The data set, with arrays float32 and int64 in C order.
    Raises:
        DataError: something that is no such pair, or as `DataSet`.

    >>> as_dataset((np.full((2, 4, 4), 255, np.uint8), [0, 1]))
    DataSet 'data': 2 pictures 1×4×4 in 2 classes
    """
    if isinstance(data, DataSet):
        return data
    where = f"data set {name!r}"
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        length = f" of {len(data)}" if isinstance(data, (tuple, list)) else ""
        raise DataError(
            f"{where}: expected a DataSet or a pair (images, labels); "
            f"got {type(data).__name__}{length}. Load one with striate.data.load."
        )
    images = _to_images(where, np.asarray(data[0]))
    labels = _to_labels(where, np.asarray(data[1]))
    if classes is None:
        classes = [str(label) for label in range(int(labels.max(initial=-1)) + 1)]
    return DataSet(images, labels, tuple(classes), name)


def scale_bytes(images: NDArray[np.uint8]) -> Images:
    """Grey values 0 … 255 as float32 from 0 to 1: images / 255, rounded once."""
    scaled: Images = np.divide(images, np.float32(255), dtype=np.float32)
    return scaled


def _to_images(where: str, images: NDArray[Any]) -> Images:
    if images.ndim == 3:
        images = images[:, np.newaxis]  # (n, 1, h, w)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(scale_bytes(images))
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"{where}: expected images of a float dtype or uint8; got dtype={images.dtype}, "
            f"shape {images.shape}. Convert them, e.g. with images.astype('float32')."
        )
    with np.errstate(over="ignore"):  # beyond float32: becomes infinite, and is then reported
        return images.astype(np.float32, order="C", copy=False)


def _to_labels(where: str, labels: NDArray[Any]) -> Labels:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        hint = "Pass labels.argmax(axis=1)." if labels.ndim == 2 else "Pass class numbers from 0."
        raise DataError(
            f"{where}: expected labels (n,) of an integer dtype; got shape {labels.shape}, "
            f"dtype={labels.dtype}. {hint}"
        )
    return np.ascontiguousarray(labels, dtype=np.int64)


def _check_images(where: str, images: Images) -> None:
    if images.dtype != np.float32 or images.ndim != 4 or not images.flags.c_contiguous:
        raise DataError(
            f"{where}: expected images (n, c, h, w) of float32 in C order; got shape "
            f"{images.shape}, dtype={images.dtype}. Convert them with striate.data.as_dataset."
        )
    if 0 in images.shape[1:]:
        raise DataError(
            f"{where}: expected pictures of at least one pixel; got images {images.shape}. "
            "Check how they were read."
        )
    with np.errstate(all="ignore"):
        # One pass without a temporary: a sum is finite unless a value is not (or it overflows).
        if np.isfinite(images.sum()):
            return
    for sample, image in enumerate(images):
        if not np.isfinite(image).all():
            raise DataError(
                f"{where}: expected finite values; got NaN or infinite in the data, first in "
                f"sample {sample} of {len(images)}. Repair it or leave the sample out."
            )


def _check_labels(where: str, labels: Labels, samples: int, classes: int) -> None:
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(
            f"{where}: expected labels (n,) of int64; got shape {labels.shape}, "
            f"dtype={labels.dtype}. Convert them with striate.data.as_dataset."
        )
    if len(labels) != samples:
        raise DataError(
            f"{where}: expected one label a picture; got {samples:,} images and "
            f"{len(labels):,} labels. Check that the two belong together."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"{where}: expected labels from 0 to {classes - 1} ({classes} classes); got "
            f"label {labels[wrong[0]]} at sample {wrong[0]} of {samples}. Correct the labels."
        )
