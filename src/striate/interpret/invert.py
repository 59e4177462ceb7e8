"""Feature inversion: an image whose features at a layer are those of a given one.

    image* = argmin over x of  ‖Φ(x) − Φ(x₀)‖² / ‖Φ(x₀)‖² + tv·TV(x) + norm·mean |x − centre|^α

What the image has lost against x₀ is what the layer no longer knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.interpret.batches import positive
from striate.interpret.descent import Descent, Penalties, Progress, require_number
from striate.interpret.image_space import image_space
from striate.nn.module import Module
from striate.random import key_of

Float32 = NDArray[np.float32]
_WHERE = "interpret.invert"


@dataclass(frozen=True)
class Inverted:
    """Images with the features of others.

    Attributes:
        layer: the node whose output is the features.
        images: (n, c, h, w) float32.
        errors: `‖Φ(x) − Φ(x₀)‖ / ‖Φ(x₀)‖` of each, (n,).
        course: the same at each step, (n, steps).
    """

    layer: str
    images: Float32
    errors: Float32
    course: Float32

    def __repr__(self) -> str:
        return f"Inverted({self.layer!r}, errors {', '.join(f'{e:.3g}' for e in self.errors)})"


def invert(
    net: Module | OneInput,
    x: ArrayLike,
    layer: str,
    *,
    steps: int = 400,
    lr: float = 0.05,
    limits: Any = (0.0, 1.0),
    centre: ArrayLike | None = None,
    tv: float = 0.0,
    tv_beta: float = 2.0,
    norm: float = 0.0,
    alpha: float = 6.0,
    fourier: bool = False,
    colours: ArrayLike | None = None,
    jitter: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
    backend: str | None = None,
) -> Inverted:
    """Images whose features at a layer are those of the given ones.

    `image = argmin ‖Φ(x) − Φ(x₀)‖²/‖Φ(x₀)‖² + tv·TV(x) + norm·mean |x − centre|^alpha`, by Adam
    from weak noise, with rates that fall to 0.

    Args:
        net: the network; read as it is in evaluation.
        x: images x₀, (n, c, h, w), or one (c, h, w).
        layer: the node whose output is the features Φ.
        steps, lr: of the optimiser.
        limits: the lowest and highest value, numbers or (c,) each; None for any.
        centre: the image without structure, a number or (c,); by default midway.
        tv, tv_beta: weight and exponent of the total variation.
        norm, alpha: weight and exponent of the distance from the centre.
        fourier: write images by frequencies, as `maximize` does.
        colours: a matrix (c, c) of the colours of natural images, as `colour_root` gives it.
        jitter: most pixels of a random shift of both images before each step.
        seed: of noise and shifts.
        progress: called with the steps done and all steps.
        backend: "native" or "reference".
    Returns:
        The images and how near their features are; see `Inverted`.
    Raises:
        ModelError: there is no such layer; the error lists those that there are.
        OptionError: a setting cannot be, or all features of an image are 0.
    Source: Mahendran, Vedaldi, Understanding deep image representations by inverting them,
    arXiv:1412.0035.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> found = invert(net, np.random.default_rng(0).random((1, 10, 10)), "0", steps=40)
    >>> found.images.shape, bool(found.errors[0] < found.course[0, 0])
    ((1, 1, 10, 10), True)
    """
    array = np.asarray(x, np.float32)
    probe = Probe(net, array.shape[-3:], _WHERE, backend)
    batch = probe.batch(array)
    positive(_WHERE, "steps", steps)
    require_number(_WHERE, "lr", lr)
    penalties = Penalties(tv=tv, beta=tv_beta, norm=norm, alpha=alpha, jitter=jitter)
    penalties.check(_WHERE)
    key_of(seed)
    space = image_space(
        batch.shape[1:], _WHERE, limits=limits, centre=centre, colours=colours, fourier=fourier
    )
    features = _Features(probe, layer, batch)
    descent = Descent(space, penalties, lr, steps, seed, progress)
    images = space.image(descent.run(descent.noise(range(len(batch))), features.loss))
    errors = features.errors(images)
    return Inverted(layer, images, errors, np.stack(descent.course, axis=1))


class _Features:
    """The distance to the features of given images, and its gradient."""

    def __init__(self, probe: Probe, layer: str, x: Float32) -> None:
        self.probe, self.layer = probe, layer
        if not probe.layer(layer).batched:
            raise OptionError(
                f"{_WHERE}: expected a layer that depends on the image; got {layer!r}, which is "
                "computed from parameters alone."
            )
        self.wanted = self._passage(x).values[layer]
        self.axes = tuple(range(1, self.wanted.ndim))
        self.square = np.square(self.wanted).sum(axis=self.axes, keepdims=True)
        for k in np.flatnonzero(self.square == 0):
            raise OptionError(
                f"{_WHERE}: expected features to go by; all of {layer!r} are 0 for image {k}. "
                "Choose an earlier layer."
            )

    def _passage(self, x: Float32) -> Any:
        return self.probe.start(x, self.layer, [self.probe.input])

    def loss(self, x: Float32) -> tuple[Float32, Float32]:
        """The relative errors (n,), and the gradient of their squares."""
        passage = self._passage(x)
        away = passage.values[self.layer] - self.wanted
        gradient = passage.pull({self.layer: away * (2 / self.square)})[self.probe.input]
        return self._relative(away), gradient

    def errors(self, x: Float32) -> Float32:
        """The relative errors of images, (n,)."""
        return self._relative(self._passage(x).values[self.layer] - self.wanted)

    def _relative(self, away: Float32) -> Float32:
        square = np.square(away).sum(axis=self.axes)
        return np.asarray(np.sqrt(square / self.square.reshape(-1)), np.float32)
