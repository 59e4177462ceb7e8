"""What training and judging take samples from: anything that gives batches of pictures by number.

A source need not hold its pictures in memory. It must answer `batch` from several threads at once
and give a sample the same bits every time it is asked; shuffling and augmentation are the
`Loader`'s business, so that a source stays a plain list of samples.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import DataError, OptionError, ShapeError

if TYPE_CHECKING:
    from striate.data.dataset import DataSet

Images = NDArray[np.float32]
Index = NDArray[np.int64]
_DIGEST_ROWS = 512


class Source(ABC):
    """A list of samples, each a picture (c, h, w) with a target, given out in batches.

    Attributes:
        name: what the data is called in messages.
        classes: the names of the classes; () where the targets are no classes.
        labels: the targets, (n,) int64 for classes.
        costly: whether giving out a batch is real work, as decoding is, that several threads
            should share.

    A class of one's own sets these three, and defines `__len__`, `shape` and `fill`.
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[Any]
    costly = False

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples, n."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one picture, (c, h, w)."""

    @abstractmethod
    def fill(self, indices: Index, out: Images) -> None:
        """Write the pictures of these samples into `out`; called from several threads at once.

        Args:
            indices: (m,), from 0 to n − 1.
            out: (m, c, h, w) float32, C order.
        """

    def batch(self, indices: ArrayLike, out: Images | None = None) -> tuple[Images, NDArray[Any]]:
        """The samples at `indices`, in that order.

        Args:
            indices: (m,), whole numbers from 0 to n − 1.
            out: where to write the pictures, (m, c, h, w) float32; by default a new array.
        Returns:
            The pictures (m, c, h, w) float32, and their targets (m, …).
        Raises:
            OptionError: an index that is no whole number or out of range.
            ShapeError: `out` is not such an array.
            DataError: a picture that cannot be decoded.
        """
        chosen = as_indices(indices, len(self), "batch")
        wanted = (len(chosen), *self.shape)
        if out is None:
            out = np.empty(wanted, np.float32)
        elif out.shape != wanted or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ShapeError(
                f"batch: expected out {wanted}, float32, in C order; got {out.shape}, "
                f"dtype={out.dtype}. Make it with numpy.empty."
            )
        self.fill(chosen, out)
        return out, self.labels[chosen]

    def arrays(self) -> tuple[Images, NDArray[Any]] | None:
        """All pictures and targets without a copy, where they lie in memory as float32."""
        return None

    def in_memory(self) -> DataSet:
        """All samples as a `DataSet`: 4 · n · c · h · w bytes."""
        from striate.data.dataset import DataSet

        images, labels = self.batch(np.arange(len(self)))
        return DataSet(images, labels, self.classes, self.name)

    def subset(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Source:
        """The samples at `indices`, in that order, without copying pictures.

        Args:
            indices: (m,), integers from 0 to n − 1; a sample may be named more than once.
        Returns:
            A source of m samples.
        Raises:
            OptionError: an index that is no integer or out of range.
        """
        return View(self, as_indices(indices, len(self), "subset"))

    def split(self, fraction: float, seed: int = 0) -> tuple[Source, Source]:
        """Take a part of every class away, for validation.

        Which samples go depends on `seed` and on the order of the samples alone. Each class gives
        its share, rounded; both parts keep the order of the whole.

        Args:
            fraction: the part to take away, between 0 and 1.
            seed: key of the counter-based generator.
        Returns:
            (rest, part): about (1 − fraction)·n and fraction·n samples.
        Raises:
            OptionError: a fraction not between 0 and 1, or one that leaves a part empty.
        Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011), for Philox.
        """
        if not 0 < fraction < 1:
            raise OptionError(
                f"split: expected a fraction between 0 and 1; got fraction={fraction}. "
                "Pass e.g. 0.1 for a tenth."
            )
        labelled = self.labels.ndim == 1 and np.issubdtype(self.labels.dtype, np.integer)
        classes = self.labels if labelled else np.zeros(len(self), np.int64)
        taken = stratified(classes, fraction, seed)
        if taken.all() or not taken.any():
            raise OptionError(
                f"split: expected two parts with samples; got fraction={fraction} of {len(self)} "
                f"samples in {len(self.classes)} classes. Choose another fraction."
            )
        return self.subset(np.flatnonzero(~taken)), self.subset(np.flatnonzero(taken))

    def fingerprint(self) -> str:
        """A checksum of the targets and of some pictures, spread over all."""
        rows = np.arange(0, len(self), max(1, len(self) // _DIGEST_ROWS))
        images, _ = self.batch(rows)
        code = zlib.crc32(np.ascontiguousarray(self.labels).data)
        return f"{zlib.crc32(images.data, code):08x}"

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.shape))
        kind = type(self).__name__
        return (
            f"{kind} {self.name!r}: {len(self):,} pictures {shape} in {len(self.classes)} classes"
        )


class View(Source):
    """Some samples of another source, in an order of their own; made by `Source.subset`."""

    def __init__(self, whole: Source, indices: Index) -> None:
        self.whole, self.indices = whole, indices
        self.name, self.classes = whole.name, whole.classes
        self.labels, self.costly = whole.labels[indices], whole.costly

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole.shape

    def fill(self, indices: Index, out: Images) -> None:
        self.whole.fill(self.indices[indices], out)


class ArraySource(Source):
    """Pictures in one array, of bytes or float32; bytes are scaled to 0 … 1 batch by batch.

    Args:
        images: (n, c, h, w), uint8 or float32, C order.
        targets: (n, …), one for each picture.
        classes: the names of the classes; () where the targets are no classes.
        name: what the data is called in messages.
    Raises:
        DataError: arrays of another kind, or of different lengths.

    >>> source = ArraySource(np.full((2, 1, 2, 2), 255, np.uint8), np.array([0.5, 1.5]))
    >>> source.batch([1])[0].max(), source.batch([1])[1]
    (np.float32(1.0), array([1.5]))
    """

    def __init__(
        self,
        images: NDArray[Any],
        targets: NDArray[Any],
        classes: Sequence[str] = (),
        name: str = "data",
    ) -> None:
        if images.ndim < 2 or images.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"data set {name!r}: expected images (n, c, h, w) of uint8 or float32; got shape "
                f"{images.shape}, dtype={images.dtype}. Convert them with .astype('float32')."
            )
        if targets.shape[:1] != images.shape[:1]:
            raise DataError(
                f"data set {name!r}: expected one target a picture; got images {images.shape} and "
                f"targets {targets.shape}. Check that the two belong together."
            )
        self.images, self.labels = images, targets
        self.classes, self.name = tuple(classes), name

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def fill(self, indices: Index, out: Images) -> None:
        take(self.images, indices, out)

    def arrays(self) -> tuple[Images, NDArray[Any]] | None:
        return (self.images, self.labels) if self.images.dtype == np.float32 else None


def take(images: NDArray[Any], indices: Index, out: Images) -> None:
    """Write some pictures of an array into `out`; bytes as byte / 255, rounded once."""
    if images.dtype == np.uint8:
        np.divide(images[indices], np.float32(255), out=out, dtype=np.float32)
    else:
        np.take(images, indices, axis=0, out=out, mode="clip")  # "raise" would make a copy


def as_indices(indices: ArrayLike, count: int, where: str) -> Index:
    """`indices` as (m,) int64, each checked to be from 0 to `count` − 1.

    Raises:
        OptionError: they are no whole numbers, or one is out of range.
    """
    chosen = np.asarray(indices)
    if not chosen.size:
        chosen = chosen.astype(np.int64)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise OptionError(
            f"{where}: expected a list of integers; got an array of shape {chosen.shape}, "
            f"dtype={chosen.dtype}. Pass sample numbers, e.g. numpy.flatnonzero(mask)."
        )
    wrong = np.flatnonzero((chosen < 0) | (chosen >= count))
    if wrong.size:
        raise OptionError(
            f"{where}: expected indices from 0 to {count - 1}; got "
            f"indices[{wrong[0]}]={chosen[wrong[0]]}. Leave it out."
        )
    return chosen.astype(np.int64, copy=False)


def stratified(labels: NDArray[Any], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which samples a split takes away: of each class its share, rounded.

    Args:
        labels: (n,), whole numbers.
        fraction: the share to take.
        seed: key of NumPy's Philox, whose raw words order the samples of a class.
    Returns:
        (n,), True where a sample is taken.
    """
    words = np.random.Philox(key=seed % 2**128).random_raw(len(labels))
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        shuffled = members[np.argsort(words[members], kind="stable")]
        taken[shuffled[: round(fraction * len(members))]] = True
    return taken
