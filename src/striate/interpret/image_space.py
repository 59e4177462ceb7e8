"""How an image that is optimised is written: by its pixels, or by its frequencies.

In the space of frequencies a step of the optimiser moves waves, not single pixels, and each is
scaled by 1/f as the waves of natural images are: high frequencies, which a gradient is full of,
grow slowly. Either space can mix its channels by a matrix, so that what is optimised are colours
that vary independently in natural images.

Source: Olah, Mordvintsev, Schubert, Feature visualization, Distill 2017, on the choice of space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError

Float32 = NDArray[np.float32]
_EDGE = 1e-3  # how near to a limit a given image may lie: there the logistic function is flat
_SLOPING = 0.05  # how near the centre may: from there it must be possible to climb


class ImageSpace(ABC):
    """Numbers z (n, …) that stand for images x (n, c, h, w).

    Args:
        shape: of one image, (c, h, w).
        limits: the lowest and the highest value, (c, 1, 1) each, or None for any.
        centre: the image without structure, (c, 1, 1).
        colours: (c, c), what mixes the channels, or None.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        limits: tuple[Float32, Float32] | None,
        centre: Float32,
        colours: Float32 | None,
    ) -> None:
        self.shape, self.limits, self.centre, self.colours = shape, limits, centre, colours

    @abstractmethod
    def of(self, x: Float32) -> Float32:
        """The numbers that stand for images."""

    @abstractmethod
    def image(self, z: Float32) -> Float32:
        """The images that they stand for."""

    @abstractmethod
    def pull(self, x: Float32, gradient: Float32) -> Float32:
        """The gradient to the numbers that stand for x, from that to x."""

    def project(self, z: Float32) -> Float32:
        """The nearest numbers that stand for images within the limits."""
        return z

    def smoothed(self, z: Float32, sigma: float) -> Float32:
        """Those of the images blurred by a Gaussian of `sigma` pixels (around the borders)."""
        return self.of(blur(self.image(z), sigma))

    def mixed(self, x: Float32, matrix: Float32 | None) -> Float32:
        """`y[n, c] = Σ_k matrix[c, k]·x[n, k]` for images."""
        if matrix is None:
            return x
        made: Float32 = np.matmul(matrix, x.reshape(*x.shape[:2], -1))
        return made.reshape(x.shape)


class Pixels(ImageSpace):
    """`x = centre + colours·z`, held within the limits by clipping."""

    def of(self, x: Float32) -> Float32:
        unmix = None if self.colours is None else np.linalg.inv(self.colours)
        return self.mixed(x - self.centre, unmix)

    def image(self, z: Float32) -> Float32:
        return self.centre + self.mixed(z, self.colours)

    def pull(self, x: Float32, gradient: Float32) -> Float32:
        return self.mixed(gradient, None if self.colours is None else self.colours.T)

    def project(self, z: Float32) -> Float32:
        if self.limits is None:
            return z
        if self.colours is None:
            return np.clip(z, self.limits[0] - self.centre, self.limits[1] - self.centre)
        return self.of(np.clip(self.image(z), *self.limits))


class Fourier(ImageSpace):
    """`x = bounded(colours·irfft2(z / f^decay) + …)`; `bounded` is a logistic function.

    It runs between the limits; without limits there is none. z holds real and imaginary parts,
    (n, c, h, w//2 + 1, 2); z = 0 stands for the centre, or for what is near it where it is at a
    limit.
    """

    def __init__(self, *parts: Any, decay: float = 1.0) -> None:
        super().__init__(*parts)
        _, h, w = self.shape
        f = np.hypot(np.fft.fftfreq(h)[:, np.newaxis], np.fft.rfftfreq(w))
        self.offset = self._unbounded(self.centre, _SLOPING)
        self.scale = (0.25 / np.maximum(f, 1 / max(h, w)) ** decay).astype(np.float32)
        # A column of the half spectrum stands for two of the whole one, unless it is its own mirror
        self.twice = np.full(w // 2 + 1, 2, np.float32)
        self.twice[0] = 1
        if w % 2 == 0:
            self.twice[-1] = 1

    def _waves(self, z: Float32) -> Float32:
        """The images before `bounded`."""
        spectrum = z.view(np.complex64)[..., 0] * self.scale
        waves = np.fft.irfft2(spectrum, s=self.shape[1:], norm="ortho").astype(np.float32)
        return self.mixed(waves, self.colours)

    def image(self, z: Float32) -> Float32:
        waves = self._waves(z)
        if self.limits is None:
            return waves + self.centre
        low, high = self.limits
        return low + (high - low) * _logistic(waves + self.offset)

    def of(self, x: Float32) -> Float32:
        waves = self._unbounded(x) - self.offset
        if self.colours is not None:
            waves = self.mixed(waves, np.linalg.inv(self.colours))
        return self._parts(np.fft.rfft2(waves, norm="ortho") / self.scale)

    def pull(self, x: Float32, gradient: Float32) -> Float32:
        if self.limits is not None:
            low, high = self.limits
            gradient = gradient * (x - low) * (high - x) / (high - low)
        if self.colours is not None:
            gradient = self.mixed(gradient, self.colours.T)
        # The transpose of irfft2: the forward transform, columns that count twice taken twice
        return self._parts(np.fft.rfft2(gradient, norm="ortho") * (self.scale * self.twice))

    def _unbounded(self, x: Float32, edge: float = _EDGE) -> Float32:
        """What `bounded` takes to x; shares of the span nearer to a limit than `edge` are held."""
        if self.limits is None:
            return x - self.centre
        low, high = self.limits
        share = np.clip((x - low) / (high - low), edge, 1 - edge)
        return np.asarray(np.log(share / (1 - share)), np.float32)

    @staticmethod
    def _parts(spectrum: NDArray[Any]) -> Float32:
        return np.ascontiguousarray(spectrum, np.complex64)[..., np.newaxis].view(np.float32)


def _logistic(x: Float32) -> Float32:
    found: Float32 = 0.5 * (np.tanh(0.5 * x) + np.float32(1))
    return found


def blur(x: Float32, sigma: float) -> Float32:
    """Images convolved with a Gaussian, what leaves at one border coming in at the other.

    Args:
        x: (n, c, h, w).
        sigma: standard deviation in pixels.

    >>> float(blur(np.full((1, 1, 4, 4), 2.0, np.float32), 1.5)[0, 0, 1, 2])
    2.0
    """
    h, w = x.shape[-2:]
    square = np.fft.fftfreq(h)[:, np.newaxis] ** 2 + np.fft.rfftfreq(w) ** 2
    passed = np.exp(-2 * np.pi**2 * sigma**2 * square)
    return np.fft.irfft2(np.fft.rfft2(x) * passed, s=(h, w)).astype(np.float32)


def colour_root(images: ArrayLike) -> Float32:
    """A matrix that turns independent channels into the colours that images have.

    The symmetric root of the covariance of the channels over all pixels, divided by its longest
    column.

    Args:
        images: (n, c, h, w).
    Returns:
        (c, c).
    Source: Olah, Mordvintsev, Schubert, Feature visualization, Distill 2017.

    >>> colour_root(np.random.default_rng(0).normal(size=(9, 1, 8, 8)))
    array([[1.]], dtype=float32)
    """
    array = np.asarray(images, np.float64)
    if array.ndim != 4 or not array.size:
        raise ShapeError(f"colour_root: expected images (n, c, h, w); got shape {array.shape}.")
    channels = array.transpose(1, 0, 2, 3).reshape(array.shape[1], -1)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(channels, bias=True)))
    root = vectors * np.sqrt(np.maximum(values, 1e-10)) @ vectors.T
    return np.asarray(root / np.linalg.norm(root, axis=0).max(), np.float32)


def channel_limits(limits: Any, channels: int, where: str) -> tuple[Float32, Float32] | None:
    """The lowest and the highest value of each channel, (c, 1, 1) each.

    Args:
        limits: a pair, of numbers or of arrays (c,), or None.
        channels: c.
        where: who asks.
    Raises:
        OptionError: no such pair, or the lowest is not below the highest.
    """
    if limits is None:
        return None
    try:
        low, high = limits
        pair = tuple(
            np.broadcast_to(np.asarray(v, np.float32).reshape(-1, 1, 1), (channels, 1, 1))
            for v in (low, high)
        )
    except (TypeError, ValueError):
        raise OptionError(
            f"{where}: expected limits (lowest, highest), numbers or one for each of {channels} "
            f"channels; got {limits!r:.60}."
        ) from None
    if not (
        np.isfinite(pair[0]).all() and np.isfinite(pair[1]).all() and (pair[0] < pair[1]).all()
    ):
        raise OptionError(
            f"{where}: expected the lowest value below the highest; got limits={limits!r:.60}."
        )
    return pair[0], pair[1]


def image_space(
    shape: tuple[int, ...],
    where: str,
    *,
    limits: Any,
    centre: ArrayLike | None,
    colours: ArrayLike | None,
    fourier: bool,
    decay: float = 1.0,
) -> ImageSpace:
    """The space to optimise images of a shape in; the settings are as `maximize` takes them."""
    if len(shape) != 3:
        raise ShapeError(f"{where}: expected a network for images (c, h, w); got one for {shape}.")
    bounds = channel_limits(limits, shape[0], where)
    middle = 0.0 if bounds is None else (bounds[0] + bounds[1]) / 2
    try:
        wanted = np.asarray(middle if centre is None else centre, np.float32)
        around = np.broadcast_to(wanted.reshape(-1, 1, 1), (shape[0], 1, 1))
    except (TypeError, ValueError):
        raise OptionError(
            f"{where}: expected centre to be a number, or one for each of {shape[0]} channels; "
            f"got {centre!r:.60}."
        ) from None
    matrix = None if colours is None else np.asarray(colours, np.float32)
    if matrix is not None and matrix.shape != (shape[0], shape[0]):
        raise OptionError(
            f"{where}: expected colours to be a matrix ({shape[0]}, {shape[0]}), as "
            f"colour_root gives it; got shape {matrix.shape}."
        )
    if fourier:
        return Fourier(shape, bounds, around, matrix, decay=decay)
    return Pixels(shape, bounds, around, matrix)
