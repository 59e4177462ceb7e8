"""Initialisers: bounds, moments, repeatability."""

from __future__ import annotations

import math

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError
from striate.nn import init

SHAPE = (64, 32, 5, 5)  # fan_in 800, fan_out 1600


@pytest.mark.parametrize(
    ("layer", "bound"),
    [
        (lambda: nn.Conv2d(8, 64, (3, 5), groups=2), 1 / math.sqrt(4 * 15)),
        (lambda: nn.Linear(400, 120), 1 / math.sqrt(400)),
    ],
)
def test_default_is_torchs(layer, bound):
    made = layer()
    for parameter in made.parameters():
        values = parameter.data
        assert np.abs(values).max() <= np.float32(bound)
        assert np.abs(values).max() > 0.9 * bound
        assert abs(values.mean()) < 4 * bound / math.sqrt(3 * values.size)


def test_the_kth_parameter_does_not_depend_on_the_others_shapes():
    st.manual_seed(7)
    nn.Linear(2, 2)
    after_small = nn.Linear(3, 3).weight.data
    st.manual_seed(7)
    nn.Conv2d(20, 30, 5)
    assert np.array_equal(nn.Linear(3, 3).weight.data, after_small)
    assert not np.array_equal(nn.Linear(3, 3).weight.data, after_small)
    st.manual_seed(8)
    nn.Linear(2, 2)
    assert not np.array_equal(nn.Linear(3, 3).weight.data, after_small)


@pytest.mark.parametrize(
    ("fill", "bound"),
    [
        (lambda t: init.uniform_(t, -2, 2), 2),
        (lambda t: init.kaiming_uniform_(t), math.sqrt(2 / (1 + 0)) * math.sqrt(3 / 800)),
        (
            lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"),
            math.sqrt(2) * math.sqrt(3 / 1600),
        ),
        (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)), 1 / math.sqrt(800)),
        (lambda t: init.xavier_uniform_(t, gain=2), 2 * math.sqrt(6 / 2400)),
    ],
)
def test_uniform_ones(fill, bound):
    tensor = np.empty(SHAPE, np.float32)
    assert fill(tensor) is tensor
    assert 0.99 * bound < np.abs(tensor).max() <= bound * (1 + 1e-6)
    assert abs(tensor.std() / (bound / math.sqrt(3)) - 1) < 0.02


@pytest.mark.parametrize(
    ("fill", "std"),
    [
        (lambda t: init.normal_(t, 0, 3), 3),
        (lambda t: init.kaiming_normal_(t, nonlinearity="relu"), math.sqrt(2 / 800)),
        (lambda t: init.xavier_normal_(t), math.sqrt(2 / 2400)),
    ],
)
def test_normal_ones(fill, std):
    tensor = nn.Parameter(np.empty(SHAPE))
    assert fill(tensor) is tensor
    assert abs(tensor.data.std() / std - 1) < 0.02
    assert abs(tensor.data.mean()) < 0.02 * std


def test_constants_and_a_generator_of_ones_own():
    parameter = nn.Parameter(np.empty((2, 2)))
    assert init.ones_(parameter).data.sum() == 4
    assert init.zeros_(parameter).data.sum() == 0
    assert init.constant_(parameter, 2.5).data.sum() == 10
    first = init.uniform_(np.empty(3), generator=np.random.default_rng(1))
    assert np.array_equal(first, init.uniform_(np.empty(3), generator=np.random.default_rng(1)))


def test_gains():
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("leaky_relu", 1) == 1


def test_messages():
    with pytest.raises(ShapeError, match=r"a weight of two axes or more .* got shape=\(3,\)"):
        init.kaiming_uniform_(np.empty(3))
    with pytest.raises(OptionError, match="expected mode 'fan_in' or 'fan_out'; got mode='in'"):
        init.kaiming_normal_(np.empty((2, 2)), mode="in")
    with pytest.raises(OptionError, match=r"unknown nonlinearity 'rellu'. Did you mean 'relu'\?"):
        init.calculate_gain("rellu")
    with pytest.raises(OptionError, match="expected a <= b; got a=1, b=0"):
        init.uniform_(np.empty(1), 1, 0)
    with pytest.raises(OptionError, match="expected std >= 0"):
        init.normal_(np.empty(1), 0, -1)
    with pytest.raises(OptionError, match="a Parameter or a NumPy array; got list"):
        init.zeros_([1.0])
