"""SmoothGrad: the gradient averaged over noisy copies of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import OptionError
from striate.inspect.one_input import OneInput
from striate.interpret.batches import BATCH, positive, summed_gradients
from striate.interpret.target import Float32, Target, look_at
from striate.nn.module import Module
from striate.random import key_of


def smoothgrad(
    net: Module | OneInput,
    x: ArrayLike,
    target: Any = None,
    *,
    layer: str | None = None,
    samples: int = 50,
    noise: float = 0.15,
    squared: bool = False,
    seed: int = 0,
    batch: int = BATCH,
    backend: str | None = None,
) -> Float32:
    """The mean gradient around an image: `1/K Σ_k ∂ score(x + ε_k)/∂ x`, ε normal noise.

    The same noise is added to every image, so a map does not depend on its neighbours in the
    batch. The target is chosen on the image without noise.

    Args:
        net: the network, in any mode.
        x: images (n, c, h, w), or one (c, h, w).
        target: which number: see `striate.interpret.target`.
        layer: the layer that it lies in; by default the scores, before a last softmax.
        samples: K, noisy copies of each image.
        noise: standard deviation of ε, as a share of an image's range, max x − min x.
        squared: average the squares of the gradients instead.
        seed: of the noise.
        batch: how many copies go through the network at once, at most.
        backend: "native" or "reference".
    Returns:
        (n, c, h, w), signed; its magnitude is what is mostly drawn.
    Raises:
        ModelError, OptionError, ShapeError: as for `saliency`; also a number that cannot be.
    Source: D. Smilkov, N. Thorat, B. Kim, F. Viégas, M. Wattenberg: SmoothGrad: removing noise by
        adding noise. 2017, arXiv:1706.03825.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False))
    >>> net[1].weight.data[...] = [[3.0, -4.0]]
    >>> smoothgrad(net, np.ones((1, 1, 1, 2)), samples=4)
    array([[[[ 3., -4.]]]], dtype=float32)
    """
    where = "smoothgrad"
    samples, batch = positive(where, "samples", samples), positive(where, "batch", batch)
    if not 0 <= noise < np.inf:
        raise OptionError(
            f"{where}: expected noise to be a share of the image's range, at least 0; got "
            f"noise={noise!r}."
        )
    key_of(seed)
    probe, images = look_at(where, net, x, backend)
    aim = Target(probe, target, count=len(images), layer=layer)
    spreads = noise * np.ptp(images, axis=tuple(range(1, images.ndim)))

    def point(image: int, sample: int) -> Float32:
        drawn = np.random.default_rng((seed, sample)).standard_normal(images.shape[1:], np.float32)
        noisy: Float32 = images[image] + np.float32(spreads[image]) * drawn
        return noisy

    weights = np.full(samples, 1 / samples)
    power = 2 if squared else 1
    places = aim.resolved(images)
    return summed_gradients(probe, aim.layer, places, point, weights, batch, power).astype("f4")
