"""Occlusion: how much a score falls when a patch of the image is covered."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError
from striate.inspect.one_input import OneInput
from striate.interpret.batches import BATCH, baseline_of, positive, scores
from striate.interpret.target import Float32, Target, look_at
from striate.nn.module import Module

Windows = list[tuple[slice, ...]]


def occlusion(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    window: int | Sequence[int] = 8,
    stride: int | Sequence[int] | None = None,
    layer: str | None = None,
    baseline: ArrayLike = 0.0,
    batch: int = BATCH,
    backend: str | None = None,
) -> Float32:
    """How much a score falls when a window is covered: score(x) − score(x with b in the window).

    The window is moved over the image; a pixel gets the mean over the windows that it lies in. What
    of a window is outside the image is cut off.

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        target: which number: see `striate.interpret.target`; where it is the greatest, that is
            chosen on the whole image.
        window: pixels, one number or one for each axis of space.
        stride: pixels from one window to the next; by default half a window.
        layer: the layer that the target lies in; by default the scores, before a last softmax.
        baseline: b, what the window is filled with: a number, one for each channel, an image, or an
            image for each of x.
        batch: how many images go through the network at once, at most.
        backend: "native" or "reference".
    Returns:
        (n, 1, h, w).
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`; also a window that is larger than
            the image, or a stride that leaves pixels out.
    Source: M. D. Zeiler, R. Fergus: Visualizing and understanding convolutional networks. 2013,
        arXiv:1311.2901.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> net[1].weight.data[...] = [[3.0, -4.0]]
    >>> occlusion(net, np.array([[[[2.0, 1.0]]]]), window=1)
    array([[[[ 6., -4.]]]], dtype=float32)
    """
    where = "occlusion"
    batch = positive(where, "batch", batch)
    probe, images = look_at(where, net, x, backend)
    if images.ndim < 3:
        raise OptionError(
            f"{where}: expected samples with space (c, h, w); got shape {images.shape[1:]}."
        )
    windows = _windows(where, images.shape[2:], window, stride)
    cover = baseline_of(where, baseline, images)
    aim = Target(probe, target, count=len(images), layer=layer)
    places = aim.resolved(images)
    each = 1 + len(windows)  # the whole image first

    def image(k: int, made: Float32) -> None:
        which, window = divmod(k, each)
        made[...] = images[which]
        if window:
            here = windows[window - 1]
            made[here] = cover[which][here]

    owners = np.repeat(np.arange(len(images)), each)
    found = scores(probe, aim.layer, places, image, owners, batch).reshape(-1, each)
    return _spread(found[:, :1] - found[:, 1:], windows, images.shape[2:])


def _spread(falls: Any, windows: Windows, size: tuple[int, ...]) -> Float32:
    """The mean at each pixel over the windows that it lies in, (n, 1, h, w)."""
    total = np.zeros((len(falls), 1, *size))
    count = np.zeros((1, *size))
    for k, window in enumerate(windows):
        total[tuple([slice(None), *window])] += falls[:, k].reshape(-1, *(1,) * (total.ndim - 1))
        count[window] += 1
    return np.asarray(total / count, np.float32)


def _windows(
    where: str, size: tuple[int, ...], window: int | Sequence[int], stride: Any
) -> Windows:
    """Every place of the window in an image (c, h, w), in order."""
    sides = _each(where, "window", window, len(size))
    steps = (
        [max(side // 2, 1) for side in sides]
        if stride is None
        else _each(where, "stride", stride, len(size))
    )
    if any(side > whole for side, whole in zip(sides, size, strict=True)):
        raise OptionError(
            f"{where}: expected a window of at most the image's size {size}; got window={window}."
        )
    if any(step > side for step, side in zip(steps, sides, strict=True)):
        raise OptionError(
            f"{where}: expected a stride of at most the window, so that no pixel is left out; got "
            f"stride={stride}, window={window}."
        )
    places = [
        [slice(start, start + side) for start in _starts(whole, side, step)]
        for whole, side, step in zip(size, sides, steps, strict=True)
    ]
    return list(itertools.product([slice(None)], *places))


def _starts(size: int, side: int, step: int) -> range:
    """Where windows begin along an axis: as many as it takes to reach the end.

    >>> list(_starts(8, 4, 2)), list(_starts(8, 3, 2))
    ([0, 2, 4], [0, 2, 4, 6])
    """
    return range(0, step * (-(-(size - side) // step) + 1), step)


def _each(where: str, name: str, value: int | Sequence[int], axes: int) -> list[int]:
    """A number for each axis of space."""
    several = list(value) if isinstance(value, Sequence) else [value] * axes
    if len(several) != axes:
        raise OptionError(
            f"{where}: expected one {name} or {axes}, one for each axis of space; got "
            f"{name}={value!r}."
        )
    return [positive(where, name, one) for one in several]
