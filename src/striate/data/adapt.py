"""Data of other forms as data sources: pairs of arrays, and data sets of other libraries.

`MapSource` takes any object with `__len__` and `__getitem__` that gives (image, label), as
`torch.utils.data.Dataset` has them; torch is not needed for it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import as_dataset, scale_bytes
from striate.data.source import ArraySource, Images, Index, Source
from striate.errors import DataError


def as_source(data: Any, *, name: str = "data") -> Source:
    """Make a data source of what holds data; a source is returned as it is.

    Args:
        data: a `Source`; a pair (images, targets) of arrays, bytes or float; or an object with
            `__len__` and `__getitem__` that gives (image, label).
        name: what it is called in messages.
    Returns:
        The source. Arrays of float32 and of bytes are not copied.
    Raises:
        DataError: none of these.

    >>> as_source((np.zeros((4, 3, 8, 8), np.uint8), np.arange(4)), name="mine")
    ArraySource 'mine': 4 pictures 3×8×8 in 4 classes
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2:
        try:
            images, targets = np.asarray(data[0]), np.asarray(data[1])
        except ValueError as error:
            raise DataError(
                f"{name}: expected a pair of arrays (images, targets); got something else "
                f"({error}). Pass a list of two samples to striate.data.MapSource."
            ) from error
        return _of_arrays(images, targets, name)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return MapSource(data, name=name)
    raise DataError(
        f"{name}: expected a data source, a pair (images, targets), or an object with __len__ and "
        f"__getitem__; got {type(data).__name__}. Load one with striate.data.load."
    )


def _of_arrays(images: NDArray[Any], targets: NDArray[Any], name: str) -> Source:
    whole = np.issubdtype(targets.dtype, np.integer) and targets.ndim == 1
    if images.dtype != np.uint8 and whole:
        return as_dataset((images, targets), name=name)
    if images.ndim == 3:
        images = images[:, np.newaxis]  # (n, 1, h, w)
    if np.issubdtype(images.dtype, np.floating):
        images = images.astype(np.float32, copy=False)
    dtype = np.int64 if np.issubdtype(targets.dtype, np.integer) else np.float32
    classes = tuple(map(str, range(int(targets.max(initial=-1)) + 1))) if whole else ()
    return ArraySource(
        np.ascontiguousarray(images), np.ascontiguousarray(targets, dtype), classes, name
    )


class MapSource(Source):
    """A data set of another library: an object with `__len__` and `__getitem__`.

    An image is a PIL picture, or an array or tensor (c, h, w) or (h, w): bytes from 0 to 255, or
    floats as they are. Samples are asked for one at a time, by one thread at a time, since such
    data sets rarely allow more; what they draw at random themselves is outside `fit`'s seed.

    Args:
        dataset: the object; item i is (image, label).
        classes: the names of the classes; by default its attribute `classes`, else "0", "1", …
        name: what it is called in messages.
    Raises:
        DataError: it is empty, an item is no such pair, or its images differ in shape.

    >>> MapSource([(np.ones((1, 2, 2)), 1), (np.zeros((1, 2, 2)), 0)], name="list")
    MapSource 'list': 2 pictures 1×2×2 in 2 classes
    """

    def __init__(
        self, dataset: Any, *, classes: Sequence[str] | None = None, name: str = "data"
    ) -> None:
        self.name, self._dataset, self._lock = name, dataset, threading.Lock()
        try:
            self._count = len(dataset)
        except TypeError as error:
            raise DataError(
                f"{name}: expected a data set with a length; got {type(dataset).__name__} "
                f"({error}). Streams without one cannot be shuffled; make arrays of it."
            ) from None
        if not self._count:
            raise DataError(f"{name}: expected at least one sample; got none. Check the data set.")
        self._shape = self._image(0).shape
        self.labels = self._read_labels()
        found = getattr(dataset, "classes", None) if classes is None else classes
        if not isinstance(found, (list, tuple)):
            found = range(int(self.labels.max()) + 1)
        self.classes = tuple(map(str, found))
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise DataError(
                f"{name}: expected labels from 0 to {len(self.classes) - 1} "
                f"({len(self.classes)} classes); got {self.labels.min()} … {self.labels.max()}. "
                "Correct the labels."
            )

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def fill(self, indices: Index, out: Images) -> None:
        for place, item in enumerate(indices):
            out[place] = self._image(int(item))

    def _item(self, item: int) -> tuple[Any, Any]:
        with self._lock:
            found = self._dataset[item]
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise DataError(
                f"{self.name}: expected (image, label) as sample {item}; got "
                f"{type(found).__name__}. Let __getitem__ give such pairs."
            )
        return found[0], found[1]

    def _image(self, item: int) -> Images:
        image, where = self._item(item)[0], f"{self.name}: sample {item}"
        pixels = _pixels(where, image)
        if item and pixels.shape != self._shape:
            raise DataError(
                f"{where}: expected shape {self._shape}, as sample 0 has; got {pixels.shape}. "
                "Resize the images in the data set."
            )
        if not np.isfinite(pixels.sum()) and not np.isfinite(pixels).all():
            raise DataError(f"{where}: expected finite values; got NaN or infinite. Repair it.")
        return pixels

    def _read_labels(self) -> NDArray[np.int64]:
        """The labels, from a list that the data set keeps where nothing changes them, or asked."""
        kept = getattr(self._dataset, "targets", None)
        plain = getattr(self._dataset, "target_transform", None) is None
        if kept is None or not plain or len(kept) != self._count:
            kept = [self._item(item)[1] for item in range(self._count)]
        labels = np.asarray(kept)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{self.name}: expected a class number from 0 as each label; got labels of shape "
                f"{labels.shape}, dtype={labels.dtype}. Pass arrays (images, targets) for others."
            )
        return labels.astype(np.int64)


def _pixels(where: str, image: Any) -> Images:
    """One image as (c, h, w) float32."""
    array = np.asarray(image)
    if array.ndim == 3 and hasattr(image, "convert"):  # of PIL: channels are last
        array = array.transpose(2, 0, 1)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or not array.size:
        raise DataError(
            f"{where}: expected a picture, or an array (c, h, w) or (h, w); got "
            f"{type(image).__name__} of shape {array.shape}. Convert it in the data set."
        )
    if array.dtype == np.uint8:
        return scale_bytes(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{where}: expected bytes or floats; got dtype={array.dtype}. Convert it to float32."
        )
    return array.astype(np.float32, copy=False)
