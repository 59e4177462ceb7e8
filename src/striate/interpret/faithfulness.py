"""Does a map point at what the score depends on? Pixels are taken away and brought in its order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError, suggest
from striate.filters import apply, gaussian
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.batches import BATCH, Float64, baseline_of, positive, scores
from striate.interpret.target import Float32, Target, look_at
from striate.nn.module import Module

SCORES = ("probability", "score")
_SIGMA, _LEAST_SIGMA = 5.0, 3.0  # of the blur: pixels of a 224² image, and of a small one


@dataclass(frozen=True, eq=False)
class DeletionInsertion:
    """What becomes of a class while pixels are taken away, or brought in, in a map's order.

    Attributes:
        share: of the pixels that were changed, from 0 to 1, (steps + 1,).
        deletion: the class's probability (or score) with the most important pixels taken away,
            (n, steps + 1).
        insertion: the same with the most important pixels brought into a blurred image.
        deletion_area: the area under each curve of deletion, (n,); small for a good map.
        insertion_area: the area under each curve of insertion, (n,); great for a good map.
    """

    share: Float64
    deletion: Float64
    insertion: Float64

    @property
    def deletion_area(self) -> Float64:
        return self._area(self.deletion)

    @property
    def insertion_area(self) -> Float64:
        return self._area(self.insertion)

    def _area(self, curve: Float64) -> Float64:
        """By the trapezoid rule."""
        middle = (curve[:, 1:] + curve[:, :-1]) / 2
        return np.asarray(middle @ np.diff(self.share), np.float64)

    def text(self) -> str:
        """One line for each image."""
        pairs = zip(self.deletion_area, self.insertion_area, strict=True)
        return "\n".join(f"deletion {d:.4f}, insertion {i:.4f}" for d, i in pairs)


def deletion_insertion(
    net: Module | OneInput,
    x: ArrayLike,
    map: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    steps: int = 50,
    baseline: ArrayLike = 0.0,
    start: ArrayLike | None = None,
    of: str = "probability",
    batch: int = BATCH,
    backend: str | None = None,
) -> DeletionInsertion:
    """Take pixels away, and bring them in, in the order of a map, the greatest first.

    Deletion replaces pixels of the image by `baseline`; insertion begins with the image `start` and
    puts pixels of x into it. A map of several channels is summed over them. The result says what
    the network does on images that it has never seen the like of: compare it with that of a
    random order.

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        map: (n, c, h, w) or (n, 1, h, w), of one image also (c, h, w) or (h, w).
        target: which number, chosen on the whole image: see `striate.interpret.target`.
        layer: the layer that it lies in; by default the scores, before a last softmax.
        steps: in how many steps all pixels are changed, at most one for each pixel.
        baseline: what deleted pixels become: a number, one for each channel, or images.
        start: where insertion begins, as `baseline`; by default the image blurred by a Gaussian,
            σ = 5 pixels for an image of 224 rows and in proportion for others, but at least 3
            (zeros for samples that are no images).
        of: "probability" (softmax over the layer's channels) or "score".
        batch: how many images go through the network at once, at most.
        backend: "native" or "reference".
    Returns:
        Curves, and the areas under them.
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`; also a map of another shape.
    Source: V. Petsiuk, A. Das, K. Saenko: RISE: randomized input sampling for explanation of
        black-box models. 2018, arXiv:1806.07421.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> net[1].weight.data[...] = [[3.0, 1.0]]
    >>> x, map = np.ones((1, 1, 1, 2)), np.array([[[[3.0, 1.0]]]])
    >>> found = deletion_insertion(net, x, map, start=0.0, of="score")
    >>> found.deletion.tolist(), found.insertion.tolist()
    ([[4.0, 1.0, 0.0]], [[0.0, 3.0, 4.0]])
    """
    where = "deletion_insertion"
    batch, steps = positive(where, "batch", batch), positive(where, "steps", steps)
    probe, images = look_at(where, net, x, backend)
    orders = _orders(where, map, images)
    aim = Target(probe, target, count=len(images), layer=layer)
    share = _share_of(probe, aim.layer, of)
    places = aim.resolved(images)
    edges = np.unique(np.linspace(0, orders.shape[1], steps + 1).round().astype(np.intp))

    def curve(begin: Float32, end: Float32) -> Float64:
        def image(k: int, made: Float32) -> None:
            which, step = divmod(k, len(edges))
            made[...] = begin[which]
            changed = orders[which, : edges[step]]
            flat = made.reshape(len(made), -1)
            flat[:, changed] = end[which].reshape(len(made), -1)[:, changed]

        owners = np.repeat(np.arange(len(images)), len(edges))
        found = scores(probe, aim.layer, places, image, owners, batch, share)
        return found.reshape(-1, len(edges))

    cover = baseline_of(where, baseline, images)
    first = _blurred(images) if start is None else baseline_of(where, start, images)
    return DeletionInsertion(edges / edges[-1], curve(images, cover), curve(first, images))


def _orders(where: str, map: ArrayLike, images: Float32) -> NDArray[np.intp]:
    """The pixels of each image from the greatest of its map to the smallest, (n, h·w)."""
    array = np.asarray(map, np.float64)
    given, count, size = array.shape, len(images), images.shape[2:]
    if array.ndim == len(size):
        array = array[np.newaxis]
    if array.ndim == len(size) + 1:
        array = array[:, np.newaxis] if count > 1 else array[np.newaxis]
    if array.ndim != images.ndim or len(array) != count or array.shape[2:] != size or not size:
        raise ShapeError(
            f"{where}: expected maps (n, c, …) of the images {images.shape}; got shape {given}."
        )
    if not np.isfinite(array).all():
        raise OptionError(f"{where}: expected a map of finite numbers; got nan or inf.")
    flat = array.sum(axis=1).reshape(count, int(np.prod(size)))
    return np.argsort(-flat, axis=1, kind="stable")


def _share_of(probe: Probe, layer: str, of: str) -> Any:
    """What is made of a layer's values: their softmax over the channels, or nothing."""
    if of not in SCORES:
        raise OptionError(f"{probe.where}: unknown of={of!r}. {suggest(str(of), SCORES)}")
    if of == "score":
        return None
    shape = probe.graph.nodes[layer].shape
    if not shape or shape[0] < 2:
        raise OptionError(
            f"{probe.where}: expected two classes or more for a probability; got {layer!r} with "
            f"shape {shape}. Say of='score'."
        )
    return softmax


def softmax(values: Float64) -> Float64:
    """`exp z[n, k] / Σ_j exp z[n, j]` over axis 1.

    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Float64 = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _blurred(images: Float32) -> Float32:
    """Images under a Gaussian, as wide in proportion as σ = 5 at 224 rows."""
    if images.ndim != 4 or not images.size:
        return np.zeros_like(images)
    sigma = max(_SIGMA * images.shape[2] / 224, _LEAST_SIGMA)
    return apply(images, gaussian(sigma), data_format="channels_first")
