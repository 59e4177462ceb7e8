"""Convolution and borders against SciPy."""

from __future__ import annotations

import numpy as np
import pytest

from striate.nn import functional as F

pytestmark = pytest.mark.peer
signal = pytest.importorskip("scipy.signal")
ndimage = pytest.importorskip("scipy.ndimage")

# scipy.ndimage's name of a border, and ours.
BORDERS = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "constant": "zeros",
}
SHAPES = [((7,), (3,)), ((9,), (4,)), ((6, 7), (3, 2)), ((5, 5), (5, 5)), ((4, 5, 6), (2, 3, 1))]


def image(shape, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize(("shape", "kernel"), SHAPES)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_signal(shape, kernel, mode):
    x, w, rank = image(shape), image(kernel, 1), len(shape)
    # SciPy's "same" is the middle of "full", which begins a row later where the kernel is even.
    padding = {"same": "same_lower"}.get(mode, mode)
    convolve = getattr(F, f"convolve{rank}d")(x[None, None], w[None, None], padding=padding)
    assert np.array_equal(convolve[0, 0], signal.convolve(x, w, mode, method="direct"))
    correlate = getattr(F, f"conv{rank}d")(x[None, None], w[None, None], padding=padding)
    assert np.array_equal(correlate[0, 0], signal.correlate(x, w, mode, method="direct"))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("shape", "kernel"), [s for s in SHAPES if s[1] != (5, 5)])
def test_ndimage(border, shape, kernel):
    x, w, rank = image(shape), image(kernel, 1), len(shape)
    settings = {"padding": "same_lower", "padding_mode": BORDERS[border]}
    got = getattr(F, f"conv{rank}d")(x[None, None], w[None, None], **settings)
    assert np.array_equal(got[0, 0], ndimage.correlate(x, w, mode=border))
    # ndimage's convolution of an even kernel has its middle on the other side.
    settings["padding"] = [[(k - 1) // 2, k - 1 - (k - 1) // 2] for k in kernel]
    got = getattr(F, f"convolve{rank}d")(x[None, None], w[None, None], **settings)
    assert np.array_equal(got[0, 0], ndimage.convolve(x, w, mode=border))


@pytest.mark.parametrize("border", BORDERS)
def test_borders_of_pad(border):
    x = image((5, 6))
    sides = [(2, 3), (1, 4)]
    known = BORDERS[border].replace("zeros", "constant")
    expected = np.pad(x, sides, {"replicate": "edge", "circular": "wrap"}.get(known, known))
    assert np.array_equal(F.pad(x[None], (1, 4, 2, 3), known)[0], expected)
