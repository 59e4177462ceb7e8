"""Gradients of images, and convolution of many channels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from striate import filters
from striate.errors import OptionError, ShapeError


@pytest.mark.parametrize("operator", ["sobel", "prewitt", "scharr"])
def test_a_ramp(operator: str) -> None:
    y, x = np.mgrid[0:20, 0:30]
    ramp = 3.0 * x - 4.0 * y
    gx, gy = filters.gradient(ramp, operator)
    assert np.allclose(gx[2:-2, 2:-2], 3, atol=1e-4) and np.allclose(gy[2:-2, 2:-2], -4, atol=1e-4)
    strength = filters.gradient_magnitude(ramp, operator)
    assert np.allclose(strength[2:-2, 2:-2], 5, atol=1e-4)
    direction = filters.gradient_orientation(ramp, operator)
    assert np.allclose(direction[2:-2, 2:-2], math.atan2(-4, 3), atol=1e-5)


def test_an_unknown_operator() -> None:
    with pytest.raises(OptionError, match=r"unknown operator 'sobol'.* Did you mean 'sobel'"):
        filters.gradient(np.ones((3, 3)), "sobol")


def exact(x: np.ndarray, w: np.ndarray, around: list[tuple[int, int]]) -> np.ndarray:
    padded = np.pad(x, [(0, 0), (0, 0), *around])
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], (2, 3))
    return np.einsum("nchwpq,ocpq->nohw", windows, w)


@pytest.mark.parametrize("kernel", [(3, 3), (7, 4), (20, 20)], ids=str)
@pytest.mark.parametrize("padding", ["valid", "same", "full"])
@pytest.mark.parametrize("algorithm", ["auto", "direct", "fft", "overlap_add", "winograd"])
def test_many_channels(algorithm: str, padding: str, kernel: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3, 37, 26)), rng.normal(size=(5, 3, *kernel))
    if algorithm == "winograd" and kernel != (3, 3):
        with pytest.raises(OptionError, match="winograd expected 3×3 kernels"):
            filters.convolve(x, w, padding=padding, algorithm=algorithm)
        return
    for mode in ("correlate", "convolve"):
        before = [k // 2 if mode == "convolve" else (k - 1) // 2 for k in kernel]
        around = {
            "valid": [(0, 0), (0, 0)],
            "same": [(b, k - 1 - b) for b, k in zip(before, kernel, strict=True)],
            "full": [(k - 1, k - 1) for k in kernel],
        }[padding]
        turned = w[:, :, ::-1, ::-1] if mode == "convolve" else w
        expected = exact(x, turned, around)
        found = filters.convolve(x, w, mode, padding, algorithm)
        assert found.shape == expected.shape and found.dtype == np.float32
        most = 2e-5 if algorithm == "winograd" else 3e-6
        assert np.abs(found - expected).max() <= most * np.abs(expected).max()


def test_what_convolve_refuses() -> None:
    x, w = np.ones((1, 2, 8, 8)), np.ones((3, 2, 3, 3))
    for change, error, said in (
        ({"images": x[0]}, ShapeError, r"expected images \(n, c, h, w\) .* got \(2, 8, 8\)"),
        ({"weight": w[:, :1]}, ShapeError, "expected images of 1 channels"),
        ({"images": x[..., :2]}, ShapeError, r"at least the kernel's size \(3, 3\); got \(8, 2\)"),
        ({"algorithm": "separable"}, OptionError, "unknown algorithm 'separable'"),
        ({"padding": "reflect"}, OptionError, "unknown padding 'reflect'"),
        ({"mode": ""}, OptionError, "unknown mode ''"),
    ):
        with pytest.raises(error, match=said):
            filters.convolve(**{"images": x, "weight": w, **change})


def test_blocks_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of spectra is bounded: the same numbers, a few channels and samples at a time."""
    from striate.filters import fourier

    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(3, 4, 12, 13)), rng.normal(size=(5, 4, 5, 5))
    whole = filters.convolve(x, w, algorithm="fft")
    monkeypatch.setattr(fourier, "_MOST", 4 * 12 * 9 * 2)
    assert np.allclose(filters.convolve(x, w, algorithm="fft"), whole, atol=1e-5)
