"""Top-activating patches: the pieces of a data set that a unit answers to most.

Every image goes forward once, batch by batch; of each unit the greatest numbers are kept with
their places. A place is then cut out by the exact receptive field of the unit, and may be sent
back to the pixels as a deconvolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.adapt import as_source
from striate.data.source import ArraySource, Source
from striate.errors import DataError, ModelError, OptionError
from striate.inspect.probe import Probe
from striate.inspect.receptive import ReceptiveField, receptive_field
from striate.interpret.batches import positive
from striate.interpret.saliency import input_gradient
from striate.interpret.target import Target
from striate.nn.module import Module

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Prepare = Callable[[Float32], Float32]
_WHERE = "interpret.top_patches"
_MOST_BYTES = 1 << 26  # of a layer's output for one batch
_MOST_IMAGES = 256
_MOST_RESULT = 1 << 31
_AT_ONCE = 32  # images that are cut or sent back together


@dataclass(frozen=True)
class TopPatches:
    """The patches that drive units most, strongest first.

    Attributes:
        layer: the node that the units are in.
        units: its channels, one for each row.
        scores: (units, k) float32.
        where: (units, k, 3): sample, row and column in the layer's output; only the sample where
            the layer has no space.
        boxes: (units, k, 4): first row, first column, end row and end column of the patch in the
            image; below 0 or past its end where the unit looks at padding.
        patches: (units, k, c, h, w), as the data has them.
        labels: (units, k), what the data says of each sample; None where it says nothing.
        deconvolutions: (units, k, c, h, w), or None where they were not asked for.
        classes: the names of the classes; () where there are none.
    """

    layer: str
    units: tuple[int, ...]
    scores: Float32
    where: Int64
    boxes: Int64
    patches: Float32
    labels: NDArray[Any] | None = None
    deconvolutions: Float32 | None = None
    classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Scores and places as JSON data, without the patches."""
        return {
            "layer": self.layer,
            "units": [
                {
                    "unit": unit,
                    "patches": [
                        {
                            "score": float(self.scores[row, k]),
                            "sample": int(self.where[row, k, 0]),
                            "at": self.where[row, k, 1:].tolist(),
                            "box": self.boxes[row, k].tolist(),
                        }
                        for k in range(self.scores.shape[1])
                    ],
                }
                for row, unit in enumerate(self.units)
            ],
        }

    def __repr__(self) -> str:
        u, k, c, h, w = self.patches.shape
        return f"TopPatches({self.layer!r}, {u} units, {k} patches {c}×{h}×{w} each)"


def top_patches(
    net: Module,
    data: Any,
    layer: str,
    units: Sequence[int] | int | None = None,
    *,
    k: int = 9,
    one_per_image: bool = True,
    deconvolve: bool = False,
    prepare: Prepare | None = None,
    outside: float = 0.0,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    backend: str | None = None,
) -> TopPatches:
    """The k patches of a data set for which each unit of a layer is greatest.

    `score[u, 1…k] = the k greatest of layer(x_n)[u, i, j] over n, i, j`; the patch is what the unit
    looks at from (i, j), by its receptive field.

    Args:
        net: the network; read as it is in evaluation.
        data: a data source, a pair (images, targets), a data set with `__getitem__`, or an array of
            images (n, c, h, w).
        layer: the node that the units are in.
        units: its channels; one, some, or by default all.
        k: how many patches of each; fewer where the data has fewer.
        one_per_image: at most one patch of an image, its greatest.
        deconvolve: also send each unit back to the pixels, as Zeiler and Fergus do.
        prepare: what is done with a batch before the network sees it, as scaling; patches are
            shown as the data has them.
        outside: what a patch shows where a unit looks past the image's edge.
        batch_size: images that run at once; by default as many as fit 64 MB of the layer's output.
        progress: called with the images done and all images.
        backend: "native" or "reference".
    Returns:
        Patches, scores and places, strongest first; equal scores by sample, row and column. See
        `TopPatches`.
    Raises:
        ModelError: there is no such layer, or its output is not finite.
        OptionError: a unit that the layer lacks, or a layer that does not depend on the image.
        DataError: no images.
    Source: Zeiler, Fergus, Visualizing and understanding convolutional networks, arXiv:1311.2901.

    >>> from striate import nn
    >>> images = np.random.default_rng(0).random((20, 1, 8, 8))
    >>> found = top_patches(nn.Sequential(nn.Conv2d(1, 4, 3)), images, "0", [0, 2], k=5)
    >>> found.patches.shape, found.where.shape
    ((2, 5, 1, 3, 3), (2, 5, 3))
    """
    source = _source(data)
    probe = Probe(net, source.shape, _WHERE, backend)
    search = _Search(probe, source, layer, units, positive(_WHERE, "k", k), one_per_image)
    search.prepare = prepare
    search.run(_batch_size(search.shape, batch_size), progress)
    return search.found(np.float32(outside), deconvolve)


def _source(data: Any) -> Source:
    """Anything with images as a source; a bare array of images has no targets."""
    if isinstance(data, np.ndarray):
        kind = np.uint8 if data.dtype == np.uint8 else np.float32
        source: Source = ArraySource(
            np.ascontiguousarray(data, kind), np.zeros(len(data), np.int64), (), "images"
        )
    else:
        source = as_source(data)
    if not len(source) or len(source.shape) != 3:
        raise DataError(
            f"{_WHERE}: expected images (n, c, h, w); got {len(source)} of shape {source.shape}."
        )
    return source


def _batch_size(shape: tuple[int, ...], wanted: int | None) -> int:
    if wanted is not None:
        return positive(_WHERE, "batch_size", wanted)
    size = 4 * int(np.prod(shape, dtype=np.int64))
    return max(1, min(_MOST_IMAGES, _MOST_BYTES // max(size, 1)))


@dataclass
class _Search:
    """The greatest numbers of each unit so far, while the data goes by."""

    probe: Probe
    source: Source
    layer: str
    wanted: Sequence[int] | int | None
    most: int
    one_per_image: bool
    prepare: Prepare | None = None
    units: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = Target(self.probe, 0, count=0, layer=self.layer).shape
        self.units = _as_units(self.probe, self.layer, self.shape, self.wanted)
        self.places = int(np.prod(self.shape[1:], dtype=np.int64))
        per_image = 1 if self.one_per_image else self.places
        self.most = min(self.most, len(self.source) * per_image)
        self.field: ReceptiveField = receptive_field(
            self.probe.graph, self.source.shape, self.layer
        )
        if not self.field.reads:
            raise OptionError(
                f"{_WHERE}: expected a layer that depends on the image; got {self.layer!r}."
            )
        rows = len(self.units), self.most
        self.scores = np.full(rows, -np.inf, np.float32)
        self.samples, self.spots = np.full(rows, -1, np.int64), np.zeros(rows, np.int64)

    # ---- the data goes by ---------------------------------------------------------------------

    def run(self, batch_size: int, progress: Callable[[int, int], None] | None) -> None:
        from striate.program import build_inference

        # Only what the layer needs is computed.
        program = build_inference(self.probe.graph.pruned([self.layer]), self.probe.backend)
        count = len(self.source)
        for first in range(0, count, batch_size):
            numbers = np.arange(first, min(first + batch_size, count))
            images = self.images(numbers)
            found = program.run(images, self.probe.parameters, frozen=first > 0)
            maps = found.reshape(len(images), self.shape[0], self.places)
            maps = maps if len(self.units) == self.shape[0] else maps[:, self.units]
            self._take(maps, first)
            if progress is not None:
                progress(int(numbers[-1]) + 1, count)

    def images(self, numbers: Int64) -> Float32:
        """Samples as the network takes them."""
        images = self.source.batch(numbers)[0]
        if self.prepare is None:
            return images
        made = np.ascontiguousarray(self.prepare(images), np.float32)
        if made.shape != images.shape:
            raise DataError(
                f"{_WHERE}: expected prepare to keep the shape {images.shape}; got {made.shape}."
            )
        return made

    def _take(self, maps: Float32, first: int) -> None:
        """Keep what is greater than the least that is kept; equal numbers stay in order."""
        greatest = maps.max(axis=2)  # (b, units)
        if not np.isfinite(greatest).all():
            image, row = np.argwhere(~np.isfinite(greatest))[0]
            raise ModelError(
                f"{_WHERE}: expected finite numbers in {self.layer!r}; got {greatest[image, row]} "
                f"in channel {self.units[row]} for sample {first + image}. The weights or the data "
                "are damaged."
            )
        for row in np.flatnonzero((greatest > self.scores[:, -1]).any(axis=0)):
            image, spot = self._best(maps[:, row], greatest[:, row])
            scores = np.concatenate([self.scores[row], maps[image, row, spot]])
            order = np.argsort(-scores, kind="stable")[: self.most]
            self.scores[row] = scores[order]
            self.samples[row] = np.concatenate([self.samples[row], first + image])[order]
            self.spots[row] = np.concatenate([self.spots[row], spot])[order]

    def _best(self, maps: Float32, greatest: Float32) -> tuple[Int64, Int64]:
        """The images and places of one unit's greatest numbers in a batch, strongest first."""
        numbers = greatest if self.one_per_image else maps.ravel()
        if len(numbers) > self.most:
            least = np.partition(numbers, -self.most)[-self.most]
            chosen = np.flatnonzero(numbers >= least)
        else:
            chosen = np.arange(len(numbers))
        chosen = chosen[np.argsort(-numbers[chosen], kind="stable")][: self.most]
        if not self.one_per_image:
            return chosen // self.places, chosen % self.places
        return chosen, maps[chosen].argmax(axis=1)

    # ---- what was found -----------------------------------------------------------------------

    def found(self, outside: np.float32, deconvolve: bool) -> TopPatches:
        """The patches, cut out."""
        boxes = np.empty((*self.scores.shape, 4), np.int64)
        for at in np.ndindex(self.scores.shape):
            boxes[at] = self._box(at)
        where = self.samples[..., np.newaxis]
        if len(self.shape) > 1:
            space = np.stack(np.unravel_index(self.spots, self.shape[1:]), axis=-1)
            where = np.concatenate([where, space], axis=-1)
        patches = self._cut(boxes, outside, lambda flat: self.source.batch(self._flat[flat])[0])
        sent_back = self._cut(boxes, np.float32(0), self._deconvolved) if deconvolve else None
        labels = None
        if self.source.classes or not isinstance(self.source, ArraySource):
            labels = self.source.labels[self.samples]
        return TopPatches(
            self.layer,
            tuple(self.units),
            self.scores,
            where,
            boxes,
            patches,
            labels,
            sent_back,
            tuple(self.source.classes),
        )

    def _place(self, at: tuple[int, ...]) -> tuple[int, ...]:
        spot = np.unravel_index(self.spots[at], self.shape[1:]) if len(self.shape) > 1 else ()
        return (self.units[at[0]], *(int(k) for k in spot))

    def _box(self, at: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Where the patch lies: all patches of a layer have one size, at most the image's."""
        sides = self.field.at(self._place(at))
        box = []
        for axis, size in enumerate(self.source.shape[1:]):
            length = min(self.field.size[axis], size)
            if not sides or length == size:
                box.append((0, size))
                continue
            low, high = sides[axis]
            start = low - (length - (high - low + 1)) // 2  # a unit at an edge may look at less
            box.append((start, start + length))
        (top, bottom), (left, right) = box
        return top, left, bottom, right

    @property
    def _flat(self) -> Int64:
        return self.samples.ravel()

    def _cut(
        self, boxes: Int64, outside: np.float32, images: Callable[[slice], Float32]
    ) -> Float32:
        """The boxes cut out of images that are made some at a time."""
        channels, h, w = self.source.shape
        corners = boxes.reshape(-1, 4)
        top, left, bottom, right = corners[0].tolist()
        shape = (len(corners), channels, bottom - top, right - left)
        if 4 * int(np.prod(shape, dtype=np.int64)) > _MOST_RESULT:
            raise OptionError(
                f"{_WHERE}: expected patches of at most {_MOST_RESULT >> 30} GB together; got "
                f"{len(self.units)} units × {self.most} patches of shape {shape[1:]}. Name fewer "
                "units."
            )
        patches = np.full(shape, outside, np.float32)
        for first in range(0, len(corners), _AT_ONCE):
            chosen = slice(first, min(first + _AT_ONCE, len(corners)))
            made = images(chosen)
            for patch, image, box in zip(patches[chosen], made, corners[chosen], strict=True):
                top, left, bottom, right = box
                rows = slice(max(top, 0), min(bottom, h))
                columns = slice(max(left, 0), min(right, w))
                inside = image[:, rows, columns]
                i, j = rows.start - top, columns.start - left
                patch[:, i : i + inside.shape[1], j : j + inside.shape[2]] = inside
        return patches.reshape(*boxes.shape[:2], *shape[1:])

    def _deconvolved(self, chosen: slice) -> Float32:
        """Some of the kept units sent back to their whole images."""
        images = self.images(self._flat[chosen])
        places = [self._place(at) for at in np.ndindex(self.scores.shape)][chosen]
        target = Target(self.probe, places, count=len(images), layer=self.layer)
        return input_gradient(self.probe, images, target, "deconvolution")


def _as_units(
    probe: Probe, layer: str, shape: tuple[int, ...], units: Sequence[int] | int | None
) -> list[int]:
    """The channels that are meant, checked."""
    if not shape:
        raise OptionError(
            f"{_WHERE}: expected a layer with channels; got {layer!r}, a single number."
        )
    if units is None:
        return list(range(shape[0]))
    listed = np.atleast_1d(np.asarray(units))
    if listed.ndim != 1 or not listed.size or not np.issubdtype(listed.dtype, np.integer):
        raise OptionError(
            f"{_WHERE}: expected units to be channels of {layer!r}, whole numbers; got "
            f"{units!r:.60}."
        )
    for unit in listed:
        if not 0 <= unit < shape[0]:
            raise OptionError(
                f"{_WHERE}: expected units from 0 to {shape[0] - 1} in {layer!r}, shape {shape}; "
                f"got {unit}."
            )
    return [int(unit) for unit in listed]
