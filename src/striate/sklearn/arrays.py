"""Samples for a training: in an order of their own, equal ones merged, brought to scale.

What scikit-learn asks of weights, that a sample of weight 2 is two samples and one of weight 0 is
none, holds exactly because equal samples are merged before the training, and because the order in
which samples are given is forgotten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, ShapeError

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Shape = tuple[int, ...]

_ROWS = 2048  # worked on at once, so that float64 copies stay small
_DIGEST = 16


def flat(X: Any) -> tuple[Any, Shape | None]:
    """Images (n, h, w) or (n, c, h, w) as rows, and their shape; any other X as it is, and None."""
    if getattr(X, "ndim", 0) not in (3, 4):
        return X, None
    images = np.asarray(X)
    shape = images.shape[1:] if images.ndim == 4 else (1, *images.shape[1:])
    return images.reshape(len(images), int(np.prod(shape))), shape


def image_shape(given: Any, found: Shape | None, features: int, where: str) -> Shape:
    """The shape of a sample: `input_shape` where given, else the images' own, else (features,).

    Raises:
        OptionError: `input_shape` is no shape.
        ShapeError: the data has another shape.
    """
    if given is None:
        return (features,) if found is None else found
    sizes = tuple(given) if isinstance(given, (tuple, list)) else ()
    whole = all(hasattr(k, "__index__") and int(k) >= 1 for k in sizes)
    if len(sizes) not in (1, 3) or not whole:
        raise OptionError(
            f"{where}: expected input_shape=(channels, height, width) or None; got {given!r}."
        )
    shape = tuple(int(k) for k in sizes)
    if int(np.prod(shape)) != features or found not in (None, shape):
        has = f"{features} features" if found is None else f"images {found}"
        raise ShapeError(
            f"{where}: expected samples that fit input_shape={shape}; got {has}. "
            "Correct input_shape, or leave it out for arrays of images."
        )
    return shape


@dataclass(frozen=True)
class Chosen:
    """Which rows of the data are trained on, and how much each counts.

    Args:
        rows: (m,), one of each kind of sample.
        weights: (m,) with mean 1, or None where all count the same.
    """

    rows: NDArray[np.int64]
    weights: Float64 | None


def choose(X: Array, y: Array, weights: Float64 | None) -> Chosen:
    """Merge equal samples and forget the order of the rest.

    Args:
        X: (n, features).
        y: (n,) or (n, k), numbers.
        weights: (n,) or None; not all 0.
    """
    given = np.ones(len(X)) if weights is None else weights
    kept = np.flatnonzero(given > 0)
    keys = _digests(X, y, kept)
    order = np.lexsort((given[kept], keys[:, 1], keys[:, 0]))
    keys, kept = keys[order], kept[order]
    first = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    total = np.add.reduceat(given[kept], first)
    same = bool((total == total[0]).all())
    return Chosen(kept[first], None if same else total / total.mean())


def _digests(X: Array, y: Array, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A fingerprint of each sample, the same for equal numbers of any type, (n, 2)."""
    joined = bytearray()
    for part in _parts(rows):
        samples, targets = (np.ascontiguousarray(a[part], np.float64) + 0.0 for a in (X, y))
        for row, target in zip(samples, targets, strict=True):
            digest = hashlib.blake2b(row.data, digest_size=_DIGEST)  # + 0.0: −0 is 0
            digest.update(target.tobytes())
            joined += digest.digest()
    return np.frombuffer(bytes(joined), np.uint64).reshape(-1, 2)


def _parts(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


# ---- scale -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """`(x − mean)·factor`, a pair of numbers for each feature, or for each channel of images.

    Args:
        mean, factor: shapes that broadcast to a sample.
    """

    mean: Float64
    factor: Float64

    def apply(self, X: Array, shape: Shape, rows: NDArray[np.int64] | None = None) -> Float32:
        """Samples (n, *shape) in float32, on a common scale.

        Args:
            X: (n, features).
            shape: of one sample.
            rows: those that are wanted; None for all, in order.
        Raises:
            OptionError: a number is too large for float32.
        """
        wanted = np.arange(len(X), dtype=np.int64) if rows is None else rows
        out = np.empty((len(wanted), *shape), np.float32)
        start = 0
        with np.errstate(over="ignore"):
            for part in _parts(wanted):
                block = np.asarray(X[part], np.float64).reshape(len(part), *shape)
                out[start : start + len(part)] = (block - self.mean) * self.factor
                start += len(part)
        if not np.isfinite(out).all():
            raise OptionError(
                "X: expected numbers that float32 can hold beside those of the training; got "
                "larger ones. Correct the data."
            )
        return out

    def undo(self, values: Float32) -> Float64:
        """What `apply` was given, for one or many."""
        return np.asarray(values, np.float64) / self.factor + self.mean


def find_scale(X: Array, shape: Shape, chosen: Chosen) -> Scale:
    """The scale on which the weighted samples have mean 0 and variance 1.

    Features and channels that are constant are only shifted.
    """
    axes = tuple(k + 1 for k in range(1, len(shape)))
    weights = np.ones(len(chosen.rows)) if chosen.weights is None else chosen.weights
    sizes = (shape[0], *(1 for _ in shape[1:]))
    mean = _mean(X, shape, chosen.rows, weights, axes, np.zeros(sizes), 1)
    variance = _mean(X, shape, chosen.rows, weights, axes, mean, 2)
    # Rounding leaves something of a constant column; that is no variance.
    tiny = (np.finfo(np.float64).eps * 16 * np.maximum(np.abs(mean), 1e-280)) ** 2
    varies = variance > tiny
    return Scale(mean, 1 / np.sqrt(np.where(varies, variance, 1.0)))


def _mean(
    X: Array,
    shape: Shape,
    rows: NDArray[np.int64],
    weights: Float64,
    axes: tuple[int, ...],
    around: Float64,
    power: int,
) -> Float64:
    """The weighted mean of `(x − around)^power` over samples and places."""
    total = np.zeros(around.shape)
    for part, share in zip(_parts(rows), _parts(weights), strict=True):  # type: ignore[arg-type]
        block = (np.asarray(X[part], np.float64).reshape(len(part), *shape) - around) ** power
        sums = block.sum(axis=axes, keepdims=True)  # (n, c, 1, 1)
        total += np.tensordot(share, sums, axes=(0, 0))
    places = float(np.prod(shape[1:]))
    return np.asarray(total / (weights.sum() * places))


def unscaled(shape: Shape) -> Scale:
    """The scale that leaves samples as they are."""
    sizes = (shape[0], *(1 for _ in shape[1:]))
    return Scale(np.zeros(sizes), np.ones(sizes))
