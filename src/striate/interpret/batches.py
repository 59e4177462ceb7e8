"""Many images through a network in batches: scores at places, and sums of gradients."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError
from striate.inspect.probe import Probe
from striate.interpret.target import Float32, Places, at_places, one_hot

Float64 = NDArray[np.float64]
BATCH = 32
_MOST_FLOATS = 2**28  # of values that are kept for the way back: 1 GiB


def positive(where: str, name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        OptionError: it is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise OptionError(
            f"{where}: expected {name} to be a whole number of at least {least}; got "
            f"{name}={value!r}."
        )
    return number


def pieces(count: int, most: int) -> Iterator[range]:
    """0 … count − 1 in as few ranges of at most `most` as can be, of even sizes.

    Even, because a program is built for each magnitude of a batch.

    >>> [len(piece) for piece in pieces(10, 4)]
    [3, 3, 4]
    """
    number = -(-count // most)
    for k in range(number):
        yield range(k * count // number, (k + 1) * count // number)


def scores(
    probe: Probe,
    layer: str,
    places: Places,
    image: Callable[[int, Float32], None],
    owners: Sequence[int] | NDArray[np.intp],
    batch: int,
    of: Callable[[Float64], Float64] | None = None,
) -> Float64:
    """A layer's number for each of many images that are made one by one.

    Args:
        probe: the network.
        layer: where the number lies.
        places: for each of the original images the number's place.
        image: writes image k into the array that it is given.
        owners: for each image to be made which of the original ones it comes from.
        batch: how many go through the network at once, at most.
        of: what is made of the layer's values before the number is taken.
    Returns:
        (images,).
    """
    shape = probe.graph.nodes[probe.input].shape
    found = np.empty(len(owners), np.float64)
    for piece in pieces(len(owners), batch):
        made = np.empty((len(piece), *shape), np.float32)
        for row, k in enumerate(piece):
            image(k, made[row])
        rows = np.asarray(owners[piece.start : piece.stop], np.intp)
        values = probe.values(made, [layer], rows)[layer].astype(np.float64)
        values = values if of is None else of(values)
        found[piece.start : piece.stop] = at_places(values, places[rows])
    return found


def summed_gradients(
    probe: Probe,
    layer: str,
    places: Places,
    point: Callable[[int, int], ArrayLike],
    weights: Sequence[float] | Float64,
    batch: int,
    power: int = 1,
) -> Float64:
    """`Σ_k weights[k] · (∂ number/∂x at point k of image i)^power`, in float64, for each image i.

    Args:
        probe: the network.
        layer: where the number lies.
        places: its place for each image.
        point: gives point k of image i, as point(i, k).
        weights: of the points.
        batch: how many points go through the network at once, at most.
        power: what each gradient is raised to.
    Returns:
        (n, …), as the images.
    """
    count, steps = len(places), len(weights)
    shape = probe.graph.nodes[probe.input].shape
    total = np.zeros((count, *shape), np.float64)
    for piece in pieces(count * steps, min(batch, _fitting(probe, layer))):
        pairs = [divmod(k, steps) for k in piece]
        images = np.stack([np.asarray(point(i, k), np.float32) for i, k in pairs])
        rows = np.array([i for i, _ in pairs], np.intp)
        up = one_hot(places[rows], probe.graph.nodes[layer].shape)
        gradients = probe.gradient(images, layer, up, rows=rows)[1]
        for (i, k), gradient in zip(pairs, gradients, strict=True):
            total[i] += weights[k] * gradient.astype(np.float64) ** power
    return total


def _fitting(probe: Probe, layer: str) -> int:
    """How many samples' values a program holds at once on the way back; of more, it would have to
    compute some twice."""
    steps = probe.graph.pruned([layer]).steps
    values = sum(int(np.prod(node.shape, dtype=np.int64)) for node in steps)
    return max(_MOST_FLOATS // max(values, 1), 1)


def baseline_of(where: str, baseline: ArrayLike, x: Float32) -> Float32:
    """A baseline as images of the shape of `x`.

    Args:
        where: who asks, for errors.
        baseline: one number, one for each channel, an image, or an image for each of x.
        x: (n, c, …).
    Raises:
        ShapeError: it has another shape.

    >>> baseline_of("occlusion", [0.5, 1.0], np.zeros((1, 2, 1, 2), "f4"))[0].tolist()
    [[[0.5, 0.5]], [[1.0, 1.0]]]
    """
    array = np.asarray(baseline, np.float32)
    if array.ndim == 1 and x.ndim > 2 and len(array) == x.shape[1]:
        array = array.reshape(-1, *(1,) * (x.ndim - 2))
    if array.shape not in ((), x.shape[1:], x.shape, (x.shape[1], *(1,) * (x.ndim - 2))):
        raise ShapeError(
            f"{where}: expected a baseline that is a number, {x.shape[1]} numbers (one a channel) "
            f"or images {x.shape[1:]}; got shape {array.shape}."
        )
    return np.broadcast_to(array, x.shape)
