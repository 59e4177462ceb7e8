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


# ---- the rest of torch's, and LSUV -----------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 3, 3, 3), (30, 2, 3), (5, 5)])
def test_orthogonal(shape):
    matrix = init.orthogonal_(np.empty(shape), gain=2).reshape(shape[0], -1)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_trunc_normal():
    st.manual_seed(0)
    values = init.trunc_normal_(np.empty((300, 300)), mean=1, std=2, a=-1, b=2)
    assert -1 <= values.min() < -0.99
    assert 1.99 < values.max() <= 2
    wide = init.trunc_normal_(np.empty((300, 300)), std=0.5)
    assert abs(wide.std() - 0.5) < 0.01
    with pytest.raises(OptionError, match=r"trunc_normal_: expected std >= 0 and a < b"):
        init.trunc_normal_(values, a=2, b=1)
    with pytest.raises(OptionError, match="Hardly a number would be inside"):
        init.trunc_normal_(values, mean=50)


def test_sparse():
    st.manual_seed(0)
    values = init.sparse_(np.empty((40, 60)), 0.3, std=2)
    assert np.array_equal((values == 0).sum(0), np.full(60, 12))
    assert 1.8 < values[values != 0].std() < 2.2
    with pytest.raises(ShapeError, match="sparse_: expected a matrix"):
        init.sparse_(np.empty(3), 0.5)
    with pytest.raises(OptionError, match="sparsity from 0 to 1; got sparsity=2"):
        init.sparse_(np.empty((3, 3)), 2)


def test_eye_and_dirac():
    layer = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 5)).astype(np.float32)
    init.dirac_(layer.weight)
    np.testing.assert_allclose(layer(x), x, rtol=1e-6)
    with pytest.raises(ShapeError, match="eye_: expected a matrix"):
        init.eye_(np.empty(3))
    with pytest.raises(ShapeError, match=r"dirac_: expected a weight .* of 3 to 5 axes"):
        init.dirac_(np.empty((3, 3)))
    with pytest.raises(OptionError, match="groups to divide the 4 output channels; got 3"):
        init.dirac_(layer.weight, groups=3)
    with pytest.raises(ShapeError, match="orthogonal_: expected two axes"):
        init.orthogonal_(np.empty(3))


def test_seeds_repeat():
    fills = (
        init.trunc_normal_,
        init.orthogonal_,
        init.kaiming_normal_,
        init.xavier_uniform_,
        lambda t: init.sparse_(t, 0.5),
    )
    for fill in fills:
        drawn = []
        for seed in (1, 1, 2):
            st.manual_seed(seed)
            drawn.append(fill(np.empty((7, 9))))
        assert np.array_equal(drawn[0], drawn[1])
        assert not np.array_equal(drawn[0], drawn[2])
        own = [fill(np.empty((7, 9))) for _ in range(2)]
        assert not np.array_equal(*own)


def test_lsuv_gives_unit_variance_layer_by_layer():
    st.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 20),
        nn.Tanh(),
        nn.Linear(20, 10),
    )
    x = np.random.default_rng(0).normal(3, 5, size=(300, 1, 10, 10)).astype(np.float32)
    assert init.lsuv_(net, x) is net
    for end in (1, 4, 7, 9):
        assert abs(net[:end](x).var() - 1) <= 0.05
    with pytest.raises(OptionError, match="one number for all samples"):
        init.lsuv_(nn.Sequential(nn.Linear(3, 4, bias=False)), np.zeros((5, 3)))


def test_lsuv_of_a_shared_layer_and_two_inputs():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = nn.Linear(6, 5)
            self.last = nn.Linear(10, 3)

        def forward(self, x, y):
            return self.last(nn.functional.cat([self.both(x).tanh(), self.both(y).tanh()], 1))

    st.manual_seed(0)
    net, rng = Twins(), np.random.default_rng(0)
    pair = (rng.normal(size=(200, 6)), rng.normal(size=(200, 6)))
    init.lsuv_(net, pair)
    assert abs(net(*pair).var() - 1) <= 0.05
    assert abs(net.both(pair[0]).var() - 1) <= 0.05


@pytest.mark.peer
def test_torch_s_gains_fans_and_shapes():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.init
    for name in ("linear", "conv_transpose2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(theirs.calculate_gain(name))
    for shape in ((3, 4), (6, 3, 5), (2, 3, 4, 5), (4, 2, 3, 2, 2)):
        expected = theirs._calculate_fan_in_and_fan_out(torch.empty(shape))
        assert init.fans(shape) == expected
    for shape, groups in (((4, 3, 3), 1), ((6, 2, 3, 4), 2), ((2, 5, 3, 3, 3), 1)):
        expected = theirs.dirac_(torch.empty(shape), groups).numpy()
        assert np.array_equal(init.dirac_(np.empty(shape), groups), expected)
    assert np.array_equal(init.eye_(np.empty((3, 5))), theirs.eye_(torch.empty(3, 5)).numpy())
    layers = (
        ("Conv1d", (4, 6, 3)),
        ("Conv3d", (4, 6, 2)),
        ("ConvTranspose2d", (4, 6, 3)),
        ("Linear", (40, 6)),
        ("Bilinear", (40, 3, 6)),
    )
    for name, arguments in layers:
        pairs = zip(
            getattr(nn, name)(*arguments).state_dict().values(),
            getattr(torch.nn, name)(*arguments).state_dict().values(),
            strict=True,
        )
        for ours, other in pairs:
            assert ours.shape == tuple(other.shape)
            if ours.size > 60:
                bound = float(other.abs().max())
                assert np.abs(ours).max() == pytest.approx(bound, rel=0.08), name
