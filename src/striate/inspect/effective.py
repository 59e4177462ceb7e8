"""The effective receptive field: how much each pixel moves a unit, measured by gradients.

The theoretical field says which pixels a unit may see; most of its weight lies in the middle,
falling off like a Gaussian (Luo et al.). Here the mean size of the gradient of a unit to the input
is taken over images, and compared with the theoretical field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError
from striate.inspect.probe import Probe
from striate.inspect.receptive import ReceptiveField, fields
from striate.inspect.regions import Region, box, input_region
from striate.nn.module import Module

Array = NDArray[np.float64]
THRESHOLD = 1 - 0.9545  # of the greatest: what lies within two standard deviations counts
_BATCH = 8


@dataclass(frozen=True)
class EffectiveField:
    """How much each place of the input moves a unit, on the mean over images.

    Attributes:
        layer: the unit's layer.
        unit: its place along the layer's axes after the channels; () for a vector.
        channel: its channel; None where each image looked at one drawn by chance.
        samples: how many images.
        gradient: (h, w), the mean over images of Σ over input channels of |∂unit/∂pixel|.
        region: the theoretical field of that unit.
        field: what is known of the layer's theoretical field.
        centre: the mean place of the gradient.
        covariance: of the place, the gradient taken as a distribution; (axes, axes).
        r2: how well the Gaussian with that centre and covariance fits, 1 being perfectly.
    """

    layer: str
    unit: tuple[int, ...]
    channel: int | None
    samples: int
    gradient: Array
    region: Region
    field: ReceptiveField
    centre: tuple[float, ...]
    covariance: Array
    r2: float

    @property
    def sigma(self) -> tuple[float, ...]:
        """Standard deviation along each axis, in pixels."""
        return tuple(float(s) for s in np.sqrt(np.diag(self.covariance)))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The effective field: where the gradient exceeds 4.55 % of its greatest."""
        greatest = float(self.gradient.max())
        return np.asarray(self.gradient > THRESHOLD * greatest)

    @property
    def size(self) -> float:
        """The side of a square (cube, …) of as many places as the effective field has."""
        return float(self.mask.sum() ** (1 / self.gradient.ndim))

    @property
    def share(self) -> float:
        """The places of the effective field over those of the theoretical one inside the image."""
        inside = self.region.mask.any(axis=0) if self.region.mask.ndim > 1 else self.region.mask
        return float(self.mask.sum() / max(1, inside.sum()))

    def gaussian(self) -> Array:
        """The fitted Gaussian on the pixels, as high as fits the gradient best."""
        shape = _bell(self.gradient.shape, self.centre, self.covariance)
        height = float((shape * self.gradient).sum() / max(float((shape**2).sum()), 1e-300))
        return height * shape

    def to_dict(self) -> dict[str, Any]:
        """The numbers, without the arrays, as JSON data."""
        return {
            "layer": self.layer,
            "unit": list(self.unit),
            "channel": self.channel,
            "samples": self.samples,
            "size": self.size,
            "share": self.share,
            "box": [list(side) for side in box(self.mask)],
            "centre": list(self.centre),
            "sigma": list(self.sigma),
            "r2": self.r2,
            "theoretical": {
                **self.field.numbers(),
                "clipped": [list(side) for side in self.region.clipped[1:]],
                "unclipped": [list(side) for side in self.region.unclipped],
            },
        }

    def __str__(self) -> str:
        whole = " × ".join(map(str, self.field.size))
        sigma = " × ".join(f"{s:.1f}" for s in self.sigma)
        return (
            f"{self.layer}: effective field {self.size:.1f} pixels wide, {self.share:.0%} of the "
            f"area that it could see ({whole}, the image's edges cut off); Gaussian of σ {sigma} "
            f"pixels, R² {self.r2:.2f}"
        )


def effective_receptive_field(
    net: Module,
    x: ArrayLike | Sequence[int],
    layer: str,
    unit: Sequence[int] | None = None,
    *,
    samples: int = 32,
    seed: int = 0,
    backend: str | None = None,
) -> EffectiveField:
    """The effective receptive field of a unit: the mean of |∂unit/∂input| over images.

    Args:
        net: a network; it is run as in evaluation.
        x: images (n, c, h, w); or the shape (c, h, w), for `samples` images of standard normal
            noise.
        layer: the unit's layer, as `summary` names it.
        unit: (i, j), its place along the layer's axes of space, or (c, i, j) with the channel; by
            default the middle. Without a channel each image takes one drawn by chance.
        samples: how many images of noise.
        seed: of the noise and of the channels.
        backend: "native" or "reference".
    Raises:
        ModelError: there is no such layer.
        OptionError: the unit is outside, or there are no images.
    Source: Luo, Li, Urtasun & Zemel, Understanding the effective receptive field in deep
    convolutional neural networks, arXiv:1701.04128.

    >>> import striate as st
    >>> from striate import nn
    >>> st.manual_seed(0)
    >>> net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(8)))
    >>> found = effective_receptive_field(net, (1, 33, 33), "7", samples=1)
    >>> found.field.size, found.size < 17, found.gradient.shape
    ((17, 17), True, (33, 33))
    """
    where = "effective_receptive_field"
    rng = np.random.default_rng(seed)
    given, shape = _images(x, samples, rng, where)
    probe = Probe(net, shape, where, backend)
    images = probe.batch(given)
    rank = len(probe.layer(layer).shape)
    at = _unit(probe, layer, unit)
    own = len(at) == rank  # the unit has a channel of its own
    channels = rng.integers(probe.shape(layer)[0], size=len(images))
    channels = np.full(len(images), at[0]) if own else channels
    place = at[1:] if own else at
    gradient = _mean_size(probe, images, layer, channels, place)
    centre, covariance, r2 = fit_gaussian(gradient)
    graph = probe.graph
    return EffectiveField(
        layer,
        place,
        at[0] if own else None,
        len(images),
        gradient,
        input_region(graph, None, layer, at),
        fields(graph.pruned([layer]))[layer],
        centre,
        covariance,
        r2,
    )


def _mean_size(
    probe: Probe,
    images: NDArray[np.float32],
    layer: str,
    channels: NDArray[np.int64],
    place: tuple[int, ...],
) -> Array:
    """The mean over images of |∂unit/∂input|, summed over the input's channels."""
    shape = probe.graph.inputs[0].shape
    total = np.zeros(shape)
    for k in range(0, len(images), _BATCH):
        batch, chosen = images[k : k + _BATCH], channels[k : k + _BATCH]
        up = np.zeros((len(batch), *probe.shape(layer)), np.float32)
        index: tuple[Any, ...] = (np.arange(len(batch)), chosen, *place)
        up[index] = 1.0
        total += np.abs(probe.gradient(batch, layer, up)[1]).sum(axis=0)
    return (total.sum(axis=0) if total.ndim > 1 else total) / len(images)


def _images(
    x: ArrayLike | Sequence[int], samples: int, rng: np.random.Generator, where: str
) -> tuple[Array, tuple[int, ...]]:
    """Images and the shape of one; a tuple of whole numbers is a shape."""
    if isinstance(x, tuple) and all(isinstance(k, int) for k in x):
        if samples < 1:
            raise OptionError(f"{where}: expected samples of at least 1; got samples={samples}.")
        return rng.standard_normal((samples, *x)), x
    images = np.asarray(x, np.float64)
    if images.ndim < 2 or not len(images):
        raise OptionError(
            f"{where}: expected images (n, c, h, w) or a shape, as (3, 224, 224); got shape "
            f"{images.shape}. Give at least one image."
        )
    return images, images.shape[1:]


def _unit(probe: Probe, layer: str, unit: Sequence[int] | None) -> tuple[int, ...]:
    """The unit's place, checked: of all axes, or of those after the channels."""
    shape = probe.layer(layer).shape
    if unit is None:
        return tuple((n - 1) // 2 for n in shape[1:])
    at = tuple(int(k) for k in unit)
    if len(at) == len(shape) - 1:
        return probe.place(layer, (0, *at))[1:]
    return probe.place(layer, at)


def fit_gaussian(weights: ArrayLike) -> tuple[tuple[float, ...], Array, float]:
    """Centre and covariance of weights on a grid, and R² of the Gaussian that has them.

    `μ = Σ w·p / Σ w`, `Σ = Σ w·(p − μ)(p − μ)ᵀ / Σ w` over the places p; the height is that of the
    least squares. All weights 0 give the middle, no spread and R² 0.

    >>> centre, covariance, r2 = fit_gaussian([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    >>> centre, covariance.diagonal().tolist()
    ((1.0, 1.0), [0.5, 0.5])
    """
    w = np.asarray(weights, np.float64)
    total = float(w.sum())
    places = np.stack(np.meshgrid(*map(np.arange, w.shape), indexing="ij")).reshape(w.ndim, -1)
    if not total > 0:
        return tuple((n - 1) / 2 for n in w.shape), np.zeros((w.ndim, w.ndim)), 0.0
    share = w.ravel() / total
    centre = places @ share
    off = places - centre[:, None]
    covariance = (off * share) @ off.T
    mean = tuple(float(c) for c in centre)
    bell = _bell(w.shape, mean, covariance)
    height = float((bell * w).sum() / (bell**2).sum())
    rest, spread = float(((w - height * bell) ** 2).sum()), float(((w - w.mean()) ** 2).sum())
    return mean, covariance, 1 - rest / spread if spread else 0.0


def _bell(shape: Sequence[int], centre: Sequence[float], covariance: Array) -> Array:
    """`exp(−(p − μ)ᵀ Σ⁻¹ (p − μ) / 2)` at each place p of a grid."""
    off = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float64)
    off -= np.reshape(centre, (-1, *(1,) * len(shape)))
    inverse = np.linalg.inv(covariance + 1e-9 * np.eye(len(shape)))  # a single pixel has no spread
    found: Array = np.exp(-0.5 * np.einsum("i...,ij,j...->...", off, inverse, off))
    return found
