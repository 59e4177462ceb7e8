"""Activation maximisation: images that drive a unit, found by climbing its gradient.

    image* = argmax over x of  score(x) − tv·TV(x) − l2·mean((x − centre)²)

The score is a unit's number, or a channel's mean over its places. Without anything that holds it
back, the climb ends in high frequencies that no photograph has; what holds it back here are the
choice of the space (frequencies scaled by 1/f), shifts and blur between the steps, and penalties.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError
from striate.formula.activation import is_relu, map_expression
from striate.formula.expression import evaluate
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.batches import positive
from striate.interpret.descent import Descent, Penalties, Progress, require_number
from striate.interpret.image_space import ImageSpace, image_space
from striate.interpret.target import Target, scores_layer
from striate.nn.module import Module
from striate.random import key_of

Float32 = NDArray[np.float32]
Unit = int | tuple[int, ...]
_WHERE = "interpret.maximize"


@dataclass(frozen=True)
class Maximized:
    """Images that drive units.

    Attributes:
        layer: the node that the units are in.
        units: a channel, or a place, for each image.
        images: (n, c, h, w) float32.
        scores: what each image gives, without shift or blur, (n,).
        course: the score at each step, (n, steps).
        stuck: where no gradient ever reached the image, (n,): ReLUs before the layer are all off.
    """

    layer: str
    units: tuple[Unit, ...]
    images: Float32
    scores: Float32
    course: Float32
    stuck: NDArray[np.bool_]

    def __repr__(self) -> str:
        found = ", ".join(
            f"{unit}: {score:.4g}" for unit, score in zip(self.units, self.scores, strict=True)
        )
        return f"Maximized({self.layer!r}, {{{found}}})"


def maximize(
    net: Module | OneInput,
    layer: str | None = None,
    units: Any = 0,
    *,
    shape: Sequence[int] | None = None,
    steps: int = 256,
    lr: float = 0.05,
    limits: Any = (0.0, 1.0),
    centre: ArrayLike | None = None,
    fourier: bool = True,
    decay: float = 1.0,
    colours: ArrayLike | None = None,
    jitter: int | None = None,
    blur: float = 0.0,
    l2: float = 0.0,
    tv: float = 0.0,
    tv_beta: float = 2.0,
    radius: float | None = None,
    start: ArrayLike | None = None,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
    backend: str | None = None,
) -> Maximized:
    """Images that drive units of a network.

    `image = argmax score(x) − tv·TV(x) − l2·mean((x − centre)²)`, by Adam from weak noise, with
    rates that fall to 0. All units are climbed at once, one image each; an image does not depend
    on which others are made beside it.

    Args:
        net: the network; read as it is in evaluation.
        layer: the node that the units are in; by default the network's scores, before a softmax.
        units: a channel (its mean over all places) or class, a place (c, i, j) as a tuple, or a
            sequence of these. A unit named twice gets two images, from different noise.
        shape: of the images, (c, h, w); by default what the network last had or was saved for.
        steps: of the optimiser.
        lr: its rate: of the image's numbers, or of its frequencies.
        limits: the lowest and highest value, numbers or (c,) each; None for any. Frequencies are
            held by a logistic function between them, pixels are clipped.
        centre: the image without structure, a number or (c,); by default midway.
        fourier: write images by frequencies, else by pixels.
        decay: with `fourier`: waves are scaled by 1/f^decay; 0 treats all alike.
        colours: a matrix (c, c) of the colours of natural images, as `colour_root` gives it.
        jitter: most pixels of the random shift before each step; by default an eighth of the
            image.
        blur: standard deviation in pixels of a blur after every fourth step; it falls with lr.
        l2: weight of the mean square distance from the centre.
        tv, tv_beta: weight and exponent of the total variation.
        radius: longest distance ‖x − centre‖₂ (pixels only).
        start: images to start from, one or one for each unit, instead of noise.
        seed: of noise and shifts.
        batch_size: images that are optimised at once; what is found hardly depends on it.
        progress: called with the steps done and all steps.
        backend: "native" or "reference".
    Returns:
        The images and the course of the scores; see `Maximized`.
    Raises:
        ModelError: there is no such layer; the error lists those that there are.
        OptionError: a unit is outside the layer, or a setting cannot be.
    Source: Erhan, Bengio, Courville, Vincent, Visualizing higher-layer features of a deep network,
    2009; Simonyan, Vedaldi, Zisserman, Deep inside convolutional networks, arXiv:1312.6034 (scores
    before the softmax, L2); Yosinski et al., Understanding neural networks through deep
    visualization, arXiv:1506.06579 (blur); Mahendran, Vedaldi, arXiv:1512.02017 (jitter, total
    variation); Olah, Mordvintsev, Schubert, Feature visualization, Distill 2017 (frequencies).

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> found = maximize(net, "0", [0, 3], shape=(1, 12, 12), steps=8)
    >>> found.images.shape, found.course.shape
    ((2, 1, 12, 12), (2, 8))
    """
    probe = Probe(net, image_shape(net, shape, _WHERE), _WHERE, backend)
    size = probe.shape(probe.input)
    penalties = Penalties(
        tv=tv,
        beta=tv_beta,
        norm=l2,
        blur=blur,
        jitter=max(1, min(size[1:]) // 8) if jitter is None and len(size) == 3 else jitter or 0,
        radius=radius,
    )
    penalties.check(_WHERE)
    _check(steps, lr, decay, batch_size, radius, fourier)
    key_of(seed)
    space = image_space(
        size, _WHERE, limits=limits, centre=centre, colours=colours, fourier=fourier, decay=decay
    )
    climb = _Climb(probe, layer, units, space)
    given = None if start is None else climb.given(start)
    parts = []
    for first in range(0, len(climb.units), batch_size):
        part = range(first, min(first + batch_size, len(climb.units)))
        told = None if progress is None else _later(progress, first, batch_size, len(climb.units))
        descent = Descent(space, penalties, lr, steps, seed, told)
        z = descent.noise(part) if given is None else space.of(given[first : part.stop])
        parts.append(climb.run(descent, z, part))
    images, scores, course, stuck = (np.concatenate(found) for found in zip(*parts, strict=True))
    return Maximized(climb.layer, climb.units, images, scores, course, stuck)


class _Climb:
    """The scores of units, and the gradient to the images that they come from."""

    def __init__(self, probe: Probe, layer: str | None, units: Any, space: ImageSpace) -> None:
        self.probe, self.space = probe, space
        self.layer = scores_layer(probe.graph) if layer is None else layer
        self.units = _as_units(units)
        target = Target(probe, list(self.units), count=len(self.units), layer=self.layer)
        self.weights = np.zeros((len(self.units), *target.shape), np.float32)
        for row, unit in zip(self.weights, self.units, strict=True):
            row[unit] = 1 if isinstance(unit, tuple) else 1 / max(row[unit].size, 1)
        node = probe.graph.nodes[self.layer]
        self.relu = node.op == "map" and is_relu(node.attributes)
        self.node = node.inputs[0] if self.relu else self.layer

    def given(self, start: ArrayLike) -> Float32:
        """The images to start from, one for each unit."""
        images = self.probe.batch(start)
        if len(images) not in (1, len(self.units)):
            raise OptionError(
                f"{_WHERE}: expected start to be one image or one for each of {len(self.units)} "
                f"units; got {len(images)}."
            )
        return np.ascontiguousarray(np.broadcast_to(images, (len(self.units), *images.shape[1:])))

    def run(self, descent: Descent, z: Float32, part: range) -> tuple[Any, ...]:
        """Images, scores, course and whether they are stuck, of some units."""
        upstream = self.weights[part.start : part.stop]
        stuck = np.ones(len(part), bool)

        def loss(x: Float32) -> tuple[Float32, Float32]:
            passage = self.probe.start(x, self.node, [self.probe.input])
            scores, way = self._scored(passage.values[self.node], upstream)
            gradient = passage.pull({self.node: -way})[self.probe.input]
            stuck[gradient.reshape(len(part), -1).any(axis=1)] = False
            return scores, gradient

        images = self.space.image(descent.run(z, loss))
        last = self.probe.start(images, self.node, [self.probe.input]).values[self.node]
        return images, self._scored(last, upstream)[0], np.stack(descent.course, axis=1), stuck

    def _scored(self, values: Float32, weights: Float32) -> tuple[Float32, Float32]:
        """The units' scores, and the gradient of each to `node`.

        A unit whose ReLU is off everywhere has no gradient; it is climbed as if there were no ReLU
        until it is on somewhere.
        """
        way = weights
        if self.relu:
            names, body = map_expression(self.probe.graph.nodes[self.layer].attributes)
            rectified = np.asarray(evaluate(body, {names[0]: values}), np.float32)
            way = weights * ((values > 0) & (rectified == values))
            flat = way.reshape(len(way), -1)
            flat[~flat.any(axis=1)] = weights.reshape(len(way), -1)[~flat.any(axis=1)]
            values = rectified
        axes = tuple(range(1, values.ndim))
        return np.asarray((values * weights).sum(axis=axes), np.float32), way


def image_shape(net: Module | OneInput, shape: Sequence[int] | None, where: str) -> tuple[int, ...]:
    """The shape of one image: as given, as the network last had, or as it was saved with.

    Raises:
        OptionError: it is not given, and the network does not say it.
    """
    found: Any = shape or net.known_input_shape
    if found is None:
        raise OptionError(
            f"{where}: expected shape, as (3, 32, 32): a network that was never called does not "
            "know for what images it is."
        )
    return tuple(operator.index(k) for k in found)


def _as_units(units: Any) -> tuple[Unit, ...]:
    if isinstance(units, np.ndarray):
        units = units.tolist()
    if isinstance(units, (int, tuple, np.integer)):
        units = [units]
    if not isinstance(units, (list, range)) or not len(units):
        raise OptionError(
            f"{_WHERE}: expected units to be a channel, a place as a tuple (c, i, j), or a list of "
            f"these; got {units!r:.60}."
        )
    return tuple(tuple(u) if isinstance(u, (tuple, list)) else u for u in units)


def _check(
    steps: int, lr: float, decay: float, batch_size: int, radius: float | None, fourier: bool
) -> None:
    positive(_WHERE, "steps", steps)
    positive(_WHERE, "batch_size", batch_size)
    require_number(_WHERE, "lr", lr)
    require_number(_WHERE, "decay", decay)
    if radius is not None and fourier:
        raise OptionError(
            f"{_WHERE}: expected fourier=False with a radius; got radius={radius} in the space of "
            "frequencies."
        )


def _later(progress: Progress, first: int, batch_size: int, count: int) -> Progress:
    """Progress of one batch as that of all."""
    batches, before = -(-count // batch_size), first // batch_size
    return lambda done, steps: progress(before * steps + done, batches * steps)
