"""The data of a training: checked arrays, or a source whose images are fetched batch by batch.

Here every fault of the data is found before the first step: wrong types, shapes that do not fit,
NaN, labels that the network has no output for. Nothing is copied where the types are right. Images
of a source are seen only when their turn comes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.augment import Compose
from striate.data.dataset import scale_bytes
from striate.data.source import ArraySource, Source
from striate.errors import DataError, ShapeError
from striate.graph.losses import TrainingLoss
from striate.train.order import Index

_DIGEST_ROWS = 512
_NO_LISTS = (str, bytes, dict, np.ndarray)  # of samples, though they have lengths and items


@dataclass(frozen=True)
class Samples:
    """Images and targets, and the rows of them that are meant.

    Args:
        images: (N, *shape) float32, C order.
        targets: (N,) int64 labels, or (N, *out) float32.
        index: the rows that are meant, (n,).
    """

    images: NDArray[np.float32]
    targets: NDArray[Any]
    index: Index

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, start: int, size: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """The images and targets of `size` samples from the `start`-th on."""
        rows = self.index[start : start + size]
        return self.images[rows], self.targets[rows]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self.images.shape[1:]

    def only(self, index: Index) -> Samples:
        """The same arrays, with other rows meant."""
        return replace(self, index=index)

    def fingerprint(self) -> str:
        """A checksum of the targets and of some of the images, spread over all."""
        rows = self.index[:: max(1, len(self) // _DIGEST_ROWS)]
        code = zlib.crc32(np.ascontiguousarray(self.targets[self.index]).data)
        return f"{zlib.crc32(self.images[rows].data, code):08x}"

    def source(self, classes: tuple[str, ...] = ()) -> Source:
        """The arrays as a source, whose samples have the numbers of the rows."""
        return ArraySource(self.images, self.targets, classes)


@dataclass(frozen=True)
class Streamed:
    """Samples of a source, of which only batches are ever in memory.

    Args:
        origin: where the images come from.
        targets: (N,) int64 labels, or (N, *out) float32, of all samples of the source.
        index: the samples that are meant, (n,).
        fixed: what is done with every image, at random with none.
    """

    origin: Source
    targets: NDArray[Any]
    index: Index
    fixed: Compose | None = None

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, start: int, size: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """The images and targets of `size` samples from the `start`-th on."""
        rows = self.index[start : start + size]
        images, _ = self.origin.batch(rows)
        return images if self.fixed is None else self.fixed(images), self.targets[rows]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return tuple(self.origin.shape)

    def only(self, index: Index) -> Streamed:
        """The same source, with other samples meant."""
        return replace(self, index=index)

    def fingerprint(self) -> str:
        """A checksum of the targets and of some of the images, spread over all."""
        return self.origin.subset(self.index).fingerprint()

    def source(self, classes: tuple[str, ...] = ()) -> Source:
        """The source itself."""
        return self.origin


AnySamples = Samples | Streamed


def as_samples(data: Any, where: str) -> AnySamples:
    """The arrays of a data set or of a pair, with their types and lengths checked.

    Args:
        data: an object with `.images` and `.labels`, a pair of arrays, or a source.
        where: what the data is called in an error.
    Raises:
        DataError: it is no data, it is empty, the lengths differ, or a type cannot be used.
    """
    if not isinstance(data, (tuple, list, Source)) and not hasattr(data, "images"):
        data = _as_source(data, where)
    if isinstance(data, Source) and data.arrays() is None:
        if not len(data):
            raise DataError(f"{where}: expected at least one image; got an empty source.")
        targets = _targets(np.asarray(data.labels), where)
        return Streamed(data, targets, np.arange(len(data), dtype=np.int64))
    images, targets = _pair(data, where)
    images = _pictures(images, where)
    if targets.ndim < 1 or len(images) != len(targets):
        raise DataError(
            f"{where}: expected one target for each image; got images {images.shape} and "
            f"targets {targets.shape}."
        )
    targets = _targets(targets, where)
    return Samples(images, targets, np.arange(len(images), dtype=np.int64))


def _as_source(data: Any, where: str) -> Any:
    """Data sets of other libraries as a source; anything else as it is."""
    from striate.data.adapt import as_source

    listed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return as_source(data, name=where) if listed and not isinstance(data, _NO_LISTS) else data


def _targets(targets: NDArray[Any], where: str) -> NDArray[Any]:
    if np.issubdtype(targets.dtype, np.integer):
        return np.ascontiguousarray(targets, np.int64)
    return _real(targets, where, "targets")


def _pair(data: Any, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    arrays = data.arrays() if isinstance(data, Source) else None
    if arrays is not None:
        return arrays
    if hasattr(data, "images") and hasattr(data, "labels"):
        return np.asarray(data.images), np.asarray(data.labels)
    if isinstance(data, (tuple, list)) and len(data) == 2:
        try:
            return np.asarray(data[0]), np.asarray(data[1])
        except ValueError as error:
            raise DataError(f"{where}: expected two arrays; got no arrays: {error}.") from None
    raise DataError(
        f"{where}: expected a data set, a source or a pair (images, targets); got "
        f"{type(data).__name__}."
    )


def _pictures(images: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Images as finite float32; bytes are scaled, as everywhere, and grey ones get a channel."""
    if images.ndim < 2 or not images.size:
        raise DataError(
            f"{where}: expected at least one image (n, channels, height, width); got shape "
            f"{images.shape}."
        )
    if images.ndim == 3:
        images = images[:, np.newaxis]  # (n, 1, h, w)
    if images.dtype == np.uint8:
        images = scale_bytes(images)
    return _real(images, where, "images")


def _real(array: NDArray[Any], where: str, what: str) -> NDArray[np.float32]:
    """`array` as finite float32."""
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{where}: expected {what} of float32; got {array.dtype}. "
            "Convert them by `.astype('float32')`."
        )
    with np.errstate(all="ignore"):
        array = np.ascontiguousarray(array, np.float32)
        # One pass without a temporary: a sum is finite unless a value is not (or it overflows).
        if np.isfinite(array.sum()):
            return array
    for sample, values in enumerate(array):
        finite = np.isfinite(values)
        if not finite.all():
            value = values[~finite].flat[0]
            raise DataError(
                f"{where}: expected finite {what}; got {value} in sample {sample} of "
                f"{len(array)}. Repair it or leave the sample out."
            )
    return array


def fit_to_output(
    samples: AnySamples, output: tuple[int, ...], loss: TrainingLoss, where: str
) -> AnySamples:
    """The samples with targets as the loss needs them for a network of this output.

    Args:
        samples: the checked arrays.
        output: the network's output shape, without the batch.
        loss: what the training minimises.
        where: what the data is called in an error.
    Raises:
        ShapeError: the targets or the output have a shape that the loss cannot use.
        DataError: a label for which there is no output, or targets of the wrong type.
    """
    targets = samples.targets
    if loss.op == "cross_entropy":
        _check_labels(targets, output, where)
        return samples
    shape = loss.target_shape(output)
    if loss.operation.labels:
        if not np.issubdtype(targets.dtype, np.integer):
            raise DataError(
                f"{where}: expected integer labels for {loss.op}; got {targets.dtype} "
                f"{targets.shape}."
            )
    else:
        targets = targets.astype(np.float32, copy=False)
        if targets.shape[1:] == () and shape == (1,):
            targets = targets[:, np.newaxis]
    if targets.shape[1:] != shape:
        what = f"as {loss.op} needs for outputs {('n', *output)}"
        what = "the shape of the network's output" if shape == output else what
        raise ShapeError(
            f"{where}: expected targets ({', '.join(map(str, ('n', *shape)))}), {what}; got "
            f"{samples.targets.shape}."
        )
    loss.operation.check_targets(loss.attributes, output, targets[samples.index])
    return replace(samples, targets=targets)


def _check_labels(labels: NDArray[Any], output: tuple[int, ...], where: str) -> None:
    if len(output) != 1:
        raise ShapeError(
            f"{where}: expected a network with one row of class scores for cross_entropy; got the "
            f"output shape {output}. End the network with nn.Flatten() and nn.Linear(…, classes)."
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise DataError(
            f"{where}: expected integer labels (n,) for cross_entropy; got {labels.dtype} "
            f"{labels.shape}. Use loss='mse' for numbers."
        )
    wrong = (labels < 0) | (labels >= output[0])
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"{where}: expected labels 0 … {output[0] - 1}, as the network has {output[0]} "
            f"outputs; got label {int(labels[at])} at index {at}. "
            "Give the network more outputs, or correct the label."
        )
