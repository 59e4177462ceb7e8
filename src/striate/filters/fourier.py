"""Correlation by fast Fourier transforms of whole images and of tiles.

Through scipy.fft where SciPy is installed (float32, on all threads), else through numpy.fft.
Images have their borders written out; results are the places at which the kernel fits.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.settings import get_num_threads

Array = NDArray[Any]
Float32 = NDArray[np.float32]
_TILES = (64, 128, 256, 512, 1024)
_MOST = 2**25  # complex numbers held at once


@functools.cache
def _library() -> Any:
    """The module with rfft2, irfft2, rfft and fft."""
    try:
        from scipy import fft
    except ImportError:
        return np.fft
    return fft


def _threads() -> dict[str, int]:
    return {} if _library() is np.fft else {"workers": get_num_threads()}


def forward(x: Array, size: tuple[int, int]) -> Array:
    """The half spectrum of real planes, filled up with 0 to `size`."""
    return np.asarray(_library().rfft2(x, size, **_threads()))


def backward(x: Array, size: tuple[int, int]) -> Float32:
    return np.asarray(_library().irfft2(x, size, **_threads()), np.float32)


def forward_kernel(kernel: Array, size: tuple[int, int]) -> Array:
    """`forward` of a plane of few rows: those of 0 are not transformed along."""
    library, threads = _library(), _threads()
    rows = library.rfft(kernel.astype(np.float32), size[1], axis=1, **threads)
    return np.asarray(library.fft(rows, size[0], axis=0, **threads))


@functools.lru_cache(maxsize=256)
def good_size(least: int) -> int:
    """The smallest number from `least` on that is 2^a·3^b·5^c.

    >>> good_size(1054), good_size(7)
    (1080, 8)
    """
    size = least
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def whole_size(padded: tuple[int, int]) -> tuple[int, int]:
    """The transform for a padded image: what wraps round meets only places that are cut off."""
    return good_size(padded[0]), good_size(padded[1])


def fft(padded: Float32, kernel: Array) -> Float32:
    """(planes, ph, pw) to (planes, ph − kh + 1, pw − kw + 1): Y = X · conj(W)."""
    size = whole_size(padded.shape[1:])
    weight = np.conj(forward_kernel(kernel, size))
    rows, columns = (p - k + 1 for p, k in zip(padded.shape[1:], kernel.shape, strict=True))
    out = np.empty((len(padded), rows, columns), np.float32)
    for k, plane in enumerate(padded):  # plane by plane: the spectrum stays in the cache longer
        spectrum = forward(plane, size)
        spectrum *= weight
        out[k] = backward(spectrum, size)[:rows, :columns]
    return out


def tile_size(kernel: tuple[int, int]) -> tuple[int, int]:
    """The transform of a tile with the least work for each pixel that it gives."""
    sizes = []
    for k in kernel:
        fitting = [n for n in _TILES if n >= 2 * k] or [good_size(4 * k)]
        sizes.append(min(fitting, key=lambda n: n * math.log2(n) / (n - k + 1)))
    return sizes[0], sizes[1]


def overlap_add(padded: Float32, kernel: Array) -> Float32:
    """The same, by tiles: each is convolved in full, and what laps over is added up.

    Source: Helms, Fast Fourier transform method of computing difference equations and simulating
    filters, IEEE Trans. Audio Electroacoustics 15 (1967).
    """
    kh, kw = kernel.shape
    size = tile_size((kh, kw))
    step = size[0] - kh + 1, size[1] - kw + 1
    down, across = (-(-p // s) for p, s in zip(padded.shape[1:], step, strict=True))
    weight = forward_kernel(kernel[::-1, ::-1], size)
    full = np.zeros(
        (len(padded), (down - 1) * step[0] + size[0], (across - 1) * step[1] + size[1]), np.float32
    )
    for i in range(down):
        band = padded[:, i * step[0] : (i + 1) * step[0]]
        tiles = np.zeros((across, len(padded), *step), np.float32)
        for j in range(across):
            part = band[:, :, j * step[1] : (j + 1) * step[1]]
            tiles[j, :, : part.shape[1], : part.shape[2]] = part
        spectra = forward(tiles, size)
        spectra *= weight
        done = backward(spectra, size)
        rows = slice(i * step[0], i * step[0] + size[0])
        for j in range(across):
            full[:, rows, j * step[1] : j * step[1] + size[1]] += done[j]
    return np.ascontiguousarray(full[:, kh - 1 : padded.shape[1], kw - 1 : padded.shape[2]])


# ---- many channels -------------------------------------------------------------------------------


def channels_fft(padded: Float32, weight: Array) -> Float32:
    """(n, c, ph, pw) with (o, c, kh, kw) to (n, o, …): products over c at every frequency."""
    rows, columns = (p - k + 1 for p, k in zip(padded.shape[2:], weight.shape[2:], strict=True))
    size = whole_size(padded.shape[2:])
    out = np.empty((len(padded), len(weight), rows, columns), np.float32)
    channels, numbers = weight.shape[1], size[0] * (size[1] // 2 + 1)
    some = max(min(_MOST // max(channels * numbers, 1), len(weight)), 1)
    few = max(min(_MOST // max(channels * numbers, 1), len(padded)), 1)
    for first in range(0, len(weight), some):
        chosen = np.asarray(weight[first : first + some], np.float32)
        w = np.conj(_by_frequency(forward(chosen, size)))  # (frequencies, o, c)
        for start in range(0, len(padded), few):
            x = _by_frequency(forward(padded[start : start + few], size))  # (frequencies, n, c)
            y = np.matmul(x, w.transpose(0, 2, 1)).transpose(1, 2, 0)
            spectrum = np.ascontiguousarray(y).reshape(*y.shape[:2], size[0], -1)
            done = backward(spectrum, size)[..., :rows, :columns]
            out[start : start + few, first : first + some] = done
    return out


def channels_overlap_add(padded: Float32, weight: Array) -> Float32:
    """The same by tiles, which are samples of their own."""
    (n, c, ph, pw), (o, _, kh, kw) = padded.shape, weight.shape
    size = tile_size((kh, kw))
    step = size[0] - kh + 1, size[1] - kw + 1
    down, across = -(-ph // step[0]), -(-pw // step[1])
    filled = np.zeros(
        (n, c, down * step[0] + 2 * kh - 2, across * step[1] + 2 * kw - 2), np.float32
    )
    filled[:, :, kh - 1 : kh - 1 + ph, kw - 1 : kw - 1 + pw] = padded
    full = np.zeros((n, o, down * step[0] + kh - 1, across * step[1] + kw - 1), np.float32)
    zeros = np.zeros((n, c, step[0] + 2 * kh - 2, step[1] + 2 * kw - 2), np.float32)
    for i in range(down):
        for j in range(across):
            top, left = i * step[0], j * step[1]
            tile = zeros.copy()
            inner = filled[
                :, :, top + kh - 1 : top + kh - 1 + step[0], left + kw - 1 : left + kw - 1 + step[1]
            ]
            tile[:, :, kh - 1 : kh - 1 + step[0], kw - 1 : kw - 1 + step[1]] = inner
            done = channels_fft(tile, weight)
            full[:, :, top : top + size[0], left : left + size[1]] += done
    return np.ascontiguousarray(full[:, :, kh - 1 : ph, kw - 1 : pw])


def _by_frequency(spectrum: Array) -> Array:
    """(a, b, rows, columns) to (rows·columns, a, b)."""
    flat = spectrum.reshape(*spectrum.shape[:2], -1)
    return np.ascontiguousarray(flat.transpose(2, 0, 1))
