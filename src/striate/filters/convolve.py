"""Convolution of many channels, as layers do it, by the algorithm that suits large kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError, suggest
from striate.filters import fourier
from striate.filters.borders import sides
from striate.filters.cost import choose_channels
from striate.filters.winograd import channels_winograd

Float32 = NDArray[np.float32]
CHANNEL_ALGORITHMS = ("auto", "direct", "fft", "overlap_add", "winograd")


def convolve(
    images: ArrayLike,
    weight: ArrayLike,
    mode: str = "correlate",
    padding: str = "valid",
    algorithm: str = "auto",
) -> Float32:
    """Convolve images of many channels with a bank of kernels; 0 outside.

    `y[n, o, i, j] = Σ_{c,p,q} x[n, c, i + p − P, j + q − Q] · w[o, c, p, q]`

    Args:
        images: (n, c, h, w).
        weight: (o, c, kh, kw).
        mode: "correlate", as layers do, or "convolve", the kernels flipped.
        padding: "valid", "same" or "full".
        algorithm: "direct" is the program of a `Conv2d` (which has Winograd inside where that
            pays), "fft" transforms whole images, "overlap_add" tiles of them, "winograd" (3×3) is
            written in NumPy; "auto" goes by the measured cost model.
    Returns:
        (n, o, h − kh + 1, w − kw + 1), (n, o, h, w) or (n, o, h + kh − 1, w + kw − 1), float32.
    Raises:
        ShapeError: channels disagree, or the kernel does not fit.
        OptionError: an unknown name; "winograd" for another size than 3×3.

    >>> x, w = np.ones((1, 2, 8, 8)), np.ones((3, 2, 5, 5))
    >>> convolve(x, w, algorithm="fft")[0, :, 0, 0].round(4)
    array([50., 50., 50.], dtype=float32)
    """
    x, w = np.asarray(images, np.float32), np.asarray(weight, np.float64)
    _require(x.shape, w.shape)
    for name, value, known in (
        ("mode", mode, ("correlate", "convolve")),
        ("padding", padding, ("valid", "same", "full")),
        ("algorithm", algorithm, CHANNEL_ALGORITHMS),
    ):
        if value not in known:
            raise OptionError(
                f"filters.convolve: unknown {name} {value!r}. {suggest(str(value), known)}"
            )
    if algorithm == "winograd" and w.shape[2:] != (3, 3):
        raise OptionError(
            f"filters.convolve: winograd expected 3×3 kernels; got {w.shape[2:]}. "
            'Use algorithm="auto".'
        )
    flipped = mode == "convolve"
    if flipped:
        w = w[:, :, ::-1, ::-1]
    around = [sides(k, padding, flipped) for k in w.shape[2:]]
    sizes = [n + sum(side) for n, side in zip(x.shape[2:], around, strict=True)]
    if any(n < k for n, k in zip(sizes, w.shape[2:], strict=True)):
        raise ShapeError(
            f"filters.convolve: expected images of at least the kernel's size {w.shape[2:]}; "
            f'got {x.shape[2:]}. Use padding="same" or "full".'
        )
    if algorithm == "auto":
        algorithm = choose_channels((len(x), *sizes), w.shape).algorithm
    if algorithm == "direct":
        return _direct(x, w, around)
    padded = np.pad(x, [(0, 0), (0, 0), *around])
    return _ALGORITHMS[algorithm](padded, w)


def _direct(x: Float32, w: NDArray[np.float64], around: list[tuple[int, int]]) -> Float32:
    from striate.nn.execution import compute

    attributes = {"stride": [1, 1], "dilation": [1, 1], "groups": 1}
    settings = {**attributes, "padding": [list(side) for side in around]}
    arrays = [np.ascontiguousarray(x), np.ascontiguousarray(w, np.float32)]
    return np.asarray(compute("conv2d", arrays, settings, [True, False]))


_ALGORITHMS = {
    "fft": fourier.channels_fft,
    "overlap_add": fourier.channels_overlap_add,
    "winograd": channels_winograd,
}


def _require(x: tuple[int, ...], w: tuple[int, ...]) -> None:
    if len(x) != 4 or len(w) != 4 or 0 in w:
        raise ShapeError(
            f"filters.convolve: expected images (n, c, h, w) and a weight (o, c, kh, kw); "
            f"got {x} and {w}."
        )
    if x[1] != w[1]:
        raise ShapeError(
            f"filters.convolve: expected images of {w[1]} channels, as weight {w} has; "
            f"got {x[1]}, images {x}."
        )
