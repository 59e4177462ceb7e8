"""Effective receptive fields: of linear chains, whose gradient is known, and what is refused."""

from __future__ import annotations

import doctest
import importlib
import json

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError
from striate.inspect import effective_receptive_field
from striate.inspect.effective import THRESHOLD, fit_gaussian


def boxes(depth: int) -> nn.Module:
    """Box filters one after the other: the gradient is the box convolved with itself."""
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(depth)))
    net.load_state_dict({name: np.full((1, 1, 3, 3), 1 / 9) for name in net.state_dict()})
    return net


def test_box_filters_tend_to_a_gaussian() -> None:
    """Each box has variance 2/3 along an axis; n of them have 2n/3, and all the weight is 1."""
    found = effective_receptive_field(boxes(6), (1, 41, 41), "5", samples=2)
    line = np.ones(1)
    for _ in range(6):
        line = np.convolve(line, np.ones(3) / 3)
    want = np.zeros((41, 41))
    want[14:27, 14:27] = np.outer(line, line)
    np.testing.assert_allclose(found.gradient, want, atol=1e-6)
    assert found.centre == pytest.approx((20, 20)) and found.field.size == (13, 13)
    np.testing.assert_allclose(found.sigma, [4**0.5] * 2, rtol=1e-4)
    assert found.r2 > 0.99
    np.testing.assert_allclose(found.gaussian(), want, atol=2e-3)
    count = int((want > THRESHOLD * want.max()).sum())
    assert found.size == pytest.approx(count**0.5)
    assert found.share == pytest.approx(count / 169)


def test_the_share_falls_with_depth() -> None:
    """Luo et al.: the effective field grows as √depth, the theoretical as depth."""
    found = [
        effective_receptive_field(boxes(n), (1, 63, 63), str(n - 1), samples=1) for n in (3, 12, 27)
    ]
    shares = [f.share for f in found]
    assert shares[0] > shares[1] > shares[2]
    assert found[2].size / found[0].size == pytest.approx(3, rel=0.15)


def test_images_units_and_channels() -> None:
    st.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))
    x = np.random.default_rng(0).normal(size=(3, 2, 7, 7))
    found = effective_receptive_field(net, x, "0", (2, 0, 1))
    weights = net.state_dict()["0.weight"][2]
    want = np.zeros((7, 7))
    want[0:3, 2:5] = np.abs(weights).sum(0)
    np.testing.assert_allclose(found.gradient, want, rtol=1e-5, atol=1e-6)
    assert (found.unit, found.channel, found.samples) == ((0, 1), 2, 3)
    assert found.region.clipped == ((0, 1), (0, 2), (2, 4))
    by_chance = effective_receptive_field(net, x, "1", (0, 1))
    assert by_chance.channel is None and by_chance.gradient[:, :2].max() == 0
    scores = effective_receptive_field(net, x, "3", (1,))
    assert scores.unit == () and scores.channel == 1 and scores.gradient.min() >= 0
    data = json.loads(json.dumps(scores.to_dict()))
    assert data["theoretical"]["clipped"] == [[0, 6], [0, 6]] and "R²" in str(scores)


def test_sequences_have_one_axis() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.Conv1d(2, 1, 5))
    found = effective_receptive_field(net, (1, 20), "1", samples=1)
    assert found.gradient.shape == (20,) and len(found.sigma) == 1


def test_a_dead_unit_has_no_field() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    net.load_state_dict({"0.weight": np.zeros((1, 1, 3, 3)), "0.bias": [-1.0]})
    found = effective_receptive_field(net, (1, 5, 5), "1", samples=2)
    assert found.share == 0 and found.r2 == 0 and found.sigma == (0, 0)


def test_fit_of_a_gaussian_that_lies_askew() -> None:
    grid = np.stack(np.meshgrid(np.arange(60), np.arange(50), indexing="ij"), -1) - (28.0, 23.0)
    want = np.array([[20.0, 9.0], [9.0, 12.0]])
    bell = np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", grid, np.linalg.inv(want), grid))
    centre, covariance, r2 = fit_gaussian(3 * bell)
    np.testing.assert_allclose(centre, (28, 23), atol=1e-3)
    np.testing.assert_allclose(covariance, want, rtol=1e-3)
    assert r2 > 0.9999
    corners = np.pad([[1.0]], 4)[::-1] + np.roll(np.pad([[9.0]], 4), (4, 4), (0, 1))
    assert fit_gaussian(corners)[2] < 0.5


def test_errors() -> None:
    net = boxes(2)
    with pytest.raises(ModelError, match="effective_receptive_field: unknown layer 'conv'"):
        effective_receptive_field(net, (1, 9, 9), "conv")
    with pytest.raises(OptionError, match=r"shape \(1, 9, 9\); got \(0, 9, 0\)"):
        effective_receptive_field(net, (1, 9, 9), "1", (9, 0))
    with pytest.raises(OptionError, match="samples of at least 1; got samples=0"):
        effective_receptive_field(net, (1, 9, 9), "1", samples=0)
    with pytest.raises(OptionError, match="Give at least one image"):
        effective_receptive_field(net, np.zeros((0, 1, 9, 9)), "1")


def test_examples_in_docstrings() -> None:
    module = importlib.import_module("striate.inspect.effective")
    assert doctest.testmod(module).failed == 0
