"""Activations: known values, limits, shape of the curves, derivatives, learning, messages."""

from __future__ import annotations

import math

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError
from striate.formula.activation import ACTIVATIONS
from striate.formula.expression import Var, diff, evaluate
from striate.nn import functional as F
from striate.nn.scalar import erf, sin

X = Var("x")
KINKS = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 6.0)
KNOWN = {  # by the formulas, worked out by hand
    "sqnl": {-3: -1, -2: -1, -1: -0.75, 0: 0, 1: 0.75, 1.5: 1.5 - 1.5**2 / 4, 2: 1, 5: 1},
    "isru": {0.75: 0.6, -0.75: -0.6, 0: 0, 1e20: 1, -np.inf: -1},
    "isrlu": {-0.75: -0.6, 3: 3, 0: 0, np.inf: np.inf, -1e25: -1},
    "arctan": {1: math.pi / 4, -np.inf: -math.pi / 2},
    "arsinh": {math.sinh(1.5): 1.5, -math.sinh(3): -3},
    "softsign": {3: 0.75, -1: -0.5},
    "elish": {0: 0, 1: 1 / (1 + math.exp(-1)), -1: math.expm1(-1) / (1 + math.e)},
    "binary_step": {-0.1: 0, 0: 1, 4: 1},
    "tanhshrink": {0: 0, 1: 1 - math.tanh(1)},
    "scaled_tanh": {1.5: 1.7159 * math.tanh(1)},
    "log_sigmoid": {0: -math.log(2), -200: -200, 200: 0},
    "mish": {0: 0, 1: math.tanh(math.log(1 + math.e)), 60: 60, -200: 0},
    "gelu": {0: 0, 1: 0.5 * (1 + math.erf(math.sqrt(0.5))), -20: 0},
    "softplus": {0: math.log(2), 100: 100, -100: math.exp(-100)},
}
LAYER = {"log_sigmoid": "logsigmoid"}


@pytest.mark.parametrize("name", KNOWN)
def test_known_values(name):
    x, y = np.array(list(KNOWN[name])), np.array(list(KNOWN[name].values()), float)
    np.testing.assert_allclose(
        evaluate(ACTIVATIONS[name].expr, {"x": x}), y, rtol=1e-13, atol=1e-16
    )
    found = getattr(F, LAYER.get(name, name))(x[None])[0]
    np.testing.assert_allclose(found, y, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_derivative_is_the_slope(name):
    """Central differences in float64, away from kinks; also of the short form."""
    x = np.linspace(-7, 7, 1401)
    x = x[np.abs(x[:, None] - KINKS).min(1) > 1e-3]
    activation, step = ACTIVATIONS[name], 1e-6
    ends = [
        np.broadcast_to(evaluate(activation.expr, {"x": x + s * step}), x.shape) for s in (1, -1)
    ]
    slope = np.broadcast_to(evaluate(diff(activation.expr, X), {"x": x}), x.shape)
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)
    if activation.gradient_y is not None:
        values = {"x": x, "y": evaluate(activation.expr, {"x": x})}
        short = evaluate(activation.gradient_y, values)
        np.testing.assert_allclose(np.broadcast_to(short, x.shape), slope, rtol=1e-9, atol=1e-12)


def test_slopes_at_the_kinks_are_those_of_torch():
    slopes = {
        "relu": 0,
        "isrlu": 1,
        "softsign": 1,
        "sqnl": 1,
        "elu": 1,
        "softplus": 0.5,
        "gelu": 0.5,
    }
    for name, slope in slopes.items():
        assert evaluate(diff(ACTIVATIONS[name].expr, X), {"x": np.zeros(1)}) == slope, name
    assert evaluate(diff(ACTIVATIONS["relu6"].expr, X), {"x": np.array([6.0])}) == 0


RISING = (
    *("sigmoid", "tanh", "scaled_tanh", "sqnl", "arctan", "arsinh"),
    *("softsign", "isru", "isrlu", "relu", "relu6", "leaky_relu", "elu"),
    *("celu", "selu", "softplus", "hardtanh", "hard_sigmoid"),
    *("softshrink", "tanhshrink", "log_sigmoid", "binary_step"),
)


@pytest.mark.parametrize("name", RISING)
def test_monotone(name):
    x = np.linspace(-12, 12, 4001)
    exact = evaluate(ACTIVATIONS[name].expr, {"x": x})
    assert (np.diff(exact) >= 0).all()
    assert exact[-1] > exact[0]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sqnl", -1, 1),
        ("isru", -1, 1),
        ("arctan", -math.pi / 2, math.pi / 2),
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("hardtanh", -1, 1),
        ("hardsigmoid", 0, 1),
        ("scaled_tanh", -1.7159, 1.7159),
    ],
)
def test_limits(name, low, high):
    x = np.array([[-np.inf, np.inf, -3e38, 3e38]])
    found = getattr(F, name)(x)
    np.testing.assert_allclose(found, [[low, high, low, high]], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["sqnl", "isru", "isrlu", "arctan", "arsinh", "elish", "softsign"])
def test_nan_stays(name):
    assert np.isnan(getattr(F, name)(np.array([[np.nan, 1.0]]))[0, 0])


@pytest.mark.parametrize("alpha", [0.25, 4.0])
def test_alpha_of_inverse_square_roots(alpha):
    x = np.random.default_rng(0).normal(size=(2, 9))
    exact = x / np.sqrt(1 + alpha * x * x)
    np.testing.assert_allclose(F.isru(x, alpha), exact, rtol=1e-6)
    np.testing.assert_allclose(F.isrlu(x, alpha), np.where(x < 0, exact, x), rtol=1e-6)
    assert F.isru(np.array([[1e9]]), alpha) == pytest.approx(1 / math.sqrt(alpha))


# ---- of each channel -------------------------------------------------------------------------


def numbers(*shape):
    return np.random.default_rng(4).normal(0, 1.5, shape).astype(np.float32)


def test_bipolar_relu():
    x = numbers(2, 5, 3)
    y = F.brelu(x)
    assert np.array_equal(y[:, ::2], np.maximum(x[:, ::2], 0))
    assert np.array_equal(y[:, 1::2], -np.maximum(-x[:, 1::2], 0))


def test_srelu_by_its_formula():
    x, layer = numbers(2, 3, 4, 2), nn.SReLU(3)
    rng = np.random.default_rng(0)
    left, right = np.array([-1.0, -0.5, 0.0]), np.array([0.25, 0.5, 1.0])
    slopes = rng.normal(size=(2, 3))
    for name, value in zip(
        ("t_left", "a_left", "t_right", "a_right"), (left, slopes[0], right, slopes[1]), strict=True
    ):
        getattr(layer, name).data[...] = value
    t_l, a_l, t_r, a_r = (k[:, None, None] for k in (left, slopes[0], right, slopes[1]))
    y = np.where(x <= t_l, t_l + a_l * (x - t_l), np.where(x >= t_r, t_r + a_r * (x - t_r), x))
    np.testing.assert_allclose(layer(x), y, rtol=1e-5, atol=1e-6)


def test_srelu_begins_as_leaky_relu():
    x = numbers(2, 3, 5)
    np.testing.assert_allclose(nn.SReLU(3)(x), F.leaky_relu(x, 0.2), rtol=1e-6, atol=1e-7)


def test_apl_by_its_formula():
    x, a, b = numbers(2, 4, 3), numbers(3, 4), numbers(3, 4)
    y = np.maximum(x, 0)
    for s in range(3):
        y = y + a[s][:, None] * np.maximum(-x + b[s][:, None], 0)
    np.testing.assert_allclose(F.apl(x, a, b), y, rtol=1e-5, atol=1e-6)
    assert nn.APL(1).b.data.tolist() == [[0]]
    assert nn.APL(3, 2).b.data[:, 0].tolist() == [-1, 0, 1]


LEARNED = {
    "prelu": lambda: nn.PReLU(4),
    "srelu": lambda: nn.SReLU(4),
    "apl": lambda: nn.APL(2, 4),
    "scalar": lambda: nn.Scalar(lambda x, a, b: a * x + b * sin(x), parameters={"a": 1, "b": 0.5}),
}


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("size", [6, 40])
def test_they_learn_the_same_natively(name, size):
    """After three epochs every parameter is the reference's, in programs of both kinds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 1, size, size)).astype(np.float32)
    labels = np.arange(24) % 3
    found = []
    for backend in ("native", "reference"):
        st.manual_seed(1)
        last = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
        net = nn.Sequential(nn.Conv2d(1, 4, 3), LEARNED[name](), *last)
        before = {k: v.copy() for k, v in net.state_dict().items()}
        st.fit(net, (x, labels), epochs=2, batch_size=8, progress=False, backend=backend)
        found.append(net.state_dict())
    for key, array in found[0].items():
        np.testing.assert_allclose(array, found[1][key], rtol=2e-3, atol=2e-5, err_msg=key)
        assert not np.array_equal(array, before[key]), key


def test_formulas_with_parameters():
    layer = nn.Scalar(
        erf(Var("x") * Var("w")) + Var("b"), "bent", {"w": [1.0, 2.0, 3.0], "b": 0.25}
    )
    assert list(layer.state_dict()) == ["w", "b"] and layer.b.shape == (1,)
    x = numbers(2, 3, 2)
    w = np.array([1, 2, 3])[:, None]
    expected = np.vectorize(math.erf)(x * w) + 0.25
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert repr(layer) == "Scalar(bent: (erf((x · w)) + b))"


# ---- random slopes ---------------------------------------------------------------------------


def test_rrelu_draws_in_training_only():
    x = np.full((50, 40), -1.0)
    st.manual_seed(3)
    layer = nn.RReLU(0.2, 0.6)
    y = -layer(x)
    assert 0.2 <= y.min() and y.max() < 0.6 and abs(y.mean() - 0.4) < 0.02
    assert not np.array_equal(-layer(x), y)
    st.manual_seed(3)
    assert np.array_equal(-layer(x), y)
    np.testing.assert_allclose(layer.eval()(x), -0.4, rtol=1e-6)
    st.manual_seed(3)
    assert np.array_equal(F.rrelu(x, 0.2, 0.6, training=True), -y)
    assert np.array_equal(layer(-x), -x)


@pytest.mark.parametrize("size", [5, 40])
def test_rrelu_trains_by_the_same_numbers_everywhere(size):
    x = np.random.default_rng(0).normal(size=(12, 1, size, size)).astype(np.float32)
    found = []
    for backend in ("native", "reference"):
        st.manual_seed(1)
        last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.RReLU(), nn.Dropout(0.3), *last)
        options = {"epochs": 2, "batch_size": 5, "progress": False}
        st.fit(net, (x, np.arange(12) % 2), backend=backend, **options)
        found.append(net.state_dict())
    for key, array in found[0].items():
        np.testing.assert_allclose(array, found[1][key], rtol=1e-3, atol=1e-5, err_msg=key)


def test_each_random_layer_has_a_site_of_its_own(tmp_path):
    net = nn.Sequential(nn.RReLU(), nn.Dropout(0.5), nn.RReLU())
    sites = [n.attributes["site"] for n in net.to_graph((4,)).steps if "site" in n.attributes]
    assert sites == [0, 1, 2]
    x = numbers(3, 4)
    net.eval()(x)
    st.save(net.train(), tmp_path / "net.safetensors")
    loaded = st.load(tmp_path / "net.safetensors").train()
    ops = [(n.op, n.attributes.get("site")) for n in loaded.to_graph((4,)).steps]
    assert [k for k in ops if k[1] is not None] == [("uniform", 0), ("dropout", 1), ("uniform", 2)]
    assert np.array_equal(loaded.eval()(x), net.eval()(x))


# ---- along an axis, messages -----------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3, -1])
def test_softmax_sums_to_one(dim):
    x = 300 * numbers(2, 4, 3, 5)
    y = F.softmax(x, dim)
    np.testing.assert_allclose(y.sum(dim), 1, rtol=1e-5)
    np.testing.assert_allclose(F.softmin(-x, dim), y, rtol=1e-5, atol=1e-30)
    kept = y > 1e-30
    np.testing.assert_allclose(F.log_softmax(x, dim)[kept], np.log(y[kept]), rtol=1e-4, atol=1e-5)


def test_in_a_forward_of_ones_own():
    class Net(nn.Module):
        def forward(self, x):
            return F.glu(F.log_softmax(F.mish(x), 2), 1) + x.softmax(2)[:, :2]

    x = numbers(2, 4, 3)
    expected = F.glu(F.log_softmax(F.mish(x), 2), 1) + F.softmax(x, 2)[:, :2]
    np.testing.assert_allclose(Net()(x), expected, rtol=1e-5, atol=1e-6)


BAD = [
    (lambda: nn.CELU(0), "CELU: expected alpha other than 0"),
    (lambda: nn.ELU("1"), "ELU: expected alpha to be a finite number; got alpha='1'"),
    (lambda: nn.RReLU(0.5, 0.1), "RReLU: expected lower <= upper; got lower=0.5, upper=0.1"),
    (lambda: nn.Hardtanh(1, 0), "Hardtanh: expected min_val <= max_val; got min_val=1, max_val=0"),
    (lambda: nn.Softshrink(-1), "Softshrink: expected lambd of at least 0; got lambd=-1"),
    (lambda: nn.Softplus(0), "Softplus: expected beta other than 0"),
    (lambda: nn.ISRU(-1), "ISRU: expected alpha of at least 0, so that .* got alpha=-1"),
    (lambda: nn.Threshold(np.inf, 1), "Threshold: expected threshold to be a finite number"),
    (lambda: nn.GELU("fast"), "GELU: expected approximate='none' or 'tanh'"),
    (lambda: nn.PReLU(0), "PReLU: expected num_parameters to be a whole number from 1"),
    (lambda: nn.APL(0), "APL: expected hinges to be a whole number from 1"),
    (
        lambda: nn.Scalar(lambda x, a: a * x, parameters={"a": [[1.0]]}),
        "Scalar: expected a number or",
    ),
    (lambda: nn.Scalar(X * Var("q"), parameters={"a": 1.0}), "expression of x, a; got 'q'"),
    (
        lambda: nn.Scalar(lambda *k: k[0], parameters=dict.fromkeys("abcdefghi", 0)),
        "at most 8 param",
    ),
]


@pytest.mark.parametrize("k", range(len(BAD)))
def test_settings_that_cannot_be(k):
    make, message = BAD[k]
    with pytest.raises(OptionError, match=message):
        make()


SHAPES = [
    (
        lambda: nn.PReLU(3)(numbers(2, 4, 5)),
        r"p0 expected shape \(4,\) or \(1,\).*num_parameters=4",
    ),
    (lambda: nn.Softmax2d()(numbers(2, 4, 5)), r"Softmax2d: expected images \(n, channels, h, w\)"),
    (lambda: nn.GLU(1)(numbers(2, 3)), "GLU: expected an even size along axis 1.*got 3"),
    (lambda: F.glu(numbers(2, 4), 0), r"an axis from 1 to 1 \(axis 0 is the batch\); got dim=0"),
    (lambda: F.log_softmax(numbers(2, 4), 2), "log_softmax: expected an axis from 1 to 1"),
    (lambda: F.apl(numbers(2, 4), numbers(2, 4), numbers(4)), r"one shape \(S, channels\) or"),
    (lambda: nn.Softmax(0)(numbers(2, 4)), "Softmax: expected an axis from 1 to 1"),
]


@pytest.mark.parametrize("k", range(len(SHAPES)))
def test_shapes_that_do_not_fit(k):
    call, message = SHAPES[k]
    with pytest.raises(ShapeError, match=message):
        call()
