"""Feature inversion: what a layer keeps is found again, what it throws away is not."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError
from striate.interpret.invert import invert
from striate.interpret.regularize import total_variation


def mixing() -> nn.Module:
    """Two channels turned and then shifted: nothing is lost."""
    conv = nn.Conv2d(2, 2, 1)
    angle = 0.6
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    conv.state_dict()["weight"][:] = turn.reshape(2, 2, 1, 1)
    return nn.Sequential(conv, nn.Sigmoid())


def images(count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, (count, 2, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("fourier", [False, True])
def test_an_invertible_layer_is_inverted(fourier):
    x = images()
    colours = [[0.9, 0.3], [0.2, 0.7]] if fourier else None
    found = invert(mixing(), x, "1", steps=250, lr=0.1, fourier=fourier, colours=colours)
    assert np.abs(found.images - x).mean() < (0.02 if fourier else 1e-4)
    assert found.errors.max() < 1e-2
    assert found.course.shape == (2, 250)
    np.testing.assert_array_equal(found.course[:, 0] > 10 * found.errors, True)


def test_errors_are_what_the_network_says():
    net, x = mixing(), images()
    found = invert(net, x, "1", steps=3)
    wanted, given = net(x), net(found.images)
    errors = [np.linalg.norm(g - w) / np.linalg.norm(w) for g, w in zip(given, wanted, strict=True)]
    np.testing.assert_allclose(found.errors, errors, rtol=1e-4)


def test_what_a_layer_throws_away_does_not_come_back():
    """The mean of 2×2 pixels keeps the mean, and says nothing of what made it."""
    x = images()
    found = invert(nn.Sequential(nn.AvgPool2d(2)), x, "0", steps=300)

    def pooled(z: np.ndarray) -> np.ndarray:
        return z.reshape(2, 2, 3, 2, 3, 2).mean(axis=(3, 5))

    np.testing.assert_allclose(pooled(found.images), pooled(x), atol=1e-3)
    assert np.abs(found.images - x).max() > 0.2


def test_total_variation_fills_in_what_is_not_known():
    x = images(seed=1)
    net = nn.Sequential(nn.MaxPool2d(2))
    plain = invert(net, x, "0", steps=200, jitter=1)
    calm = invert(net, x, "0", steps=200, jitter=1, tv=0.5)
    assert (total_variation(calm.images)[0] < 0.6 * total_variation(plain.images)[0]).all()
    np.testing.assert_array_equal(calm.errors < 0.5, True)


def test_one_image_and_same_bits_on_any_number_of_threads():
    net, x = mixing(), images(1)[0]
    first = invert(net, x, "0", steps=5, seed=3)
    st.set_num_threads(1)
    second = invert(net, x, "0", steps=5, seed=3)
    assert first.images.shape == (1, 2, 6, 6)
    np.testing.assert_array_equal(first.images, second.images)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "conv"}, ModelError, "unknown layer 'conv'"),
        ({"steps": 0}, OptionError, "got steps=0"),
        ({"alpha": 0.5}, OptionError, "alpha to be a number of at least 1"),
        ({"norm": -1}, OptionError, "norm to be a number of at least 0"),
    ],
)
def test_what_cannot_be_inverted(options, error, message):
    with pytest.raises(error, match=message):
        invert(mixing(), images(), **{"layer": "0", "steps": 2, **options})


def test_features_that_are_all_zero_are_refused():
    net = nn.Sequential(nn.Conv2d(2, 1, 1), nn.ReLU())
    net.state_dict()["0.bias"][:] = -100
    with pytest.raises(
        OptionError, match=r"all of '1' are 0 for image 0\. Choose an earlier layer"
    ):
        invert(net, images(), "1", steps=2)
