"""Activations and normalisations against torch: values, gradients, names, texts."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate import nn
from striate.formula.operations import find_operation
from striate.nn import functional as F

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")

number = st.floats(-2, 2).map(lambda k: round(k, 2))
positive = st.floats(0.05, 3).map(lambda k: round(k, 2))
axis = st.sampled_from((1, 2, 3, -1, -2))
channels = st.sampled_from((1, 4))
flag = st.booleans()
PLAIN = (
    *("ReLU", "ReLU6", "SiLU", "Mish", "SELU", "Hardsigmoid", "Hardswish", "Tanh", "Sigmoid"),
    *("LogSigmoid", "Softsign", "Tanhshrink", "Softmax2d"),
)
NO_SETTINGS = ("Tanh", "Sigmoid", "LogSigmoid", "Softsign", "Tanhshrink", "Softmax2d")
SETTINGS = {
    **{name: st.just({}) for name in PLAIN},
    "LeakyReLU": st.fixed_dictionaries({"negative_slope": number}),
    "RReLU": st.fixed_dictionaries({"lower": st.just(0.05), "upper": positive}),
    "ELU": st.fixed_dictionaries({"alpha": number}),
    "CELU": st.fixed_dictionaries({"alpha": positive}),
    "GELU": st.fixed_dictionaries({"approximate": st.sampled_from(("none", "tanh"))}),
    "Hardtanh": st.fixed_dictionaries({"min_val": st.just(-0.3), "max_val": positive}),
    "Hardshrink": st.fixed_dictionaries({"lambd": positive}),
    "Softshrink": st.fixed_dictionaries({"lambd": positive}),
    "Threshold": st.fixed_dictionaries({"threshold": number, "value": number}),
    "Softplus": st.fixed_dictionaries({"beta": positive, "threshold": st.floats(1, 20)}),
    "PReLU": st.fixed_dictionaries({"num_parameters": channels, "init": number}),
    "Softmax": st.fixed_dictionaries({"dim": axis}),
    "LogSoftmax": st.fixed_dictionaries({"dim": axis}),
    "Softmin": st.fixed_dictionaries({"dim": axis}),
    "GLU": st.fixed_dictionaries({"dim": st.sampled_from((1, 3, -1))}),
    "LayerNorm": st.fixed_dictionaries(
        {
            "normalized_shape": st.sampled_from(((6,), (3, 6), (4, 3, 6))),
            "eps": positive,
            "elementwise_affine": flag,
            "bias": flag,
        }
    ),
    "RMSNorm": st.fixed_dictionaries(
        {
            "normalized_shape": st.sampled_from(((6,), (3, 6))),
            "eps": positive,
            "elementwise_affine": flag,
        }
    ),
    "GroupNorm": st.fixed_dictionaries(
        {
            "num_groups": st.sampled_from((1, 2, 4)),
            "num_channels": st.just(4),
            "eps": positive,
            "affine": flag,
            "bias": flag,
        }
    ),
    "InstanceNorm2d": st.fixed_dictionaries(
        {"num_features": st.just(4), "eps": positive, "affine": flag, "bias": flag}
    ),
    "BatchNorm2d": st.fixed_dictionaries(
        {
            "num_features": st.just(4),
            "eps": positive,
            "momentum": st.none() | st.just(0.3),
            "affine": flag,
            "bias": flag,
            "track_running_stats": flag,
        }
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _reference():
    """What an operation means is compared here; the native programs with that elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIATE_BACKEND", "reference")
        yield


def exact_gradients(layer, x, upstream):
    """The gradients to x and to the parameters by the operation's formula, in float64."""
    (node,) = layer.to_graph(x.shape[1:]).steps
    named = {name: array.astype(np.float64) for name, array in layer.arrays().items()}
    arrays = [x if name == "input" else named[name] for name in node.inputs]
    found = find_operation(node.op).gradient(node.attributes, upstream, arrays)
    return dict(zip(node.inputs, found, strict=True))


def compare(name, options, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1.5, (3, 4, 3, 6))
    ours = getattr(nn, name)(**options).eval()
    theirs = getattr(torch.nn, name)(**options).double().eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for parameter in theirs.parameters():
            moved = parameter.numpy() + rng.normal(0, 0.5, parameter.shape)
            parameter.copy_(torch.from_numpy(moved.astype(np.float32)))  # as ours are kept
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    tensor = torch.tensor(x, requires_grad=True)
    expected = theirs(tensor)
    np.testing.assert_allclose(ours(x), expected.detach().numpy(), rtol=2e-5, atol=4e-6)
    upstream = rng.normal(size=expected.shape)
    expected.backward(torch.from_numpy(upstream))
    found = exact_gradients(ours, x, upstream)
    # torch's backward of CELU has 1/alpha in float32, in float64 too.
    np.testing.assert_allclose(found["input"], tensor.grad.numpy(), rtol=5e-7, atol=1e-9)
    for key, parameter in theirs.named_parameters():
        np.testing.assert_allclose(found[key], parameter.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_layers_agree(name, data):
    compare(name, data.draw(SETTINGS[name]), data.draw(st.integers(0, 1000)))


TRAINED = {
    "plain": {},
    "not affine": {"affine": False},
    "no bias": {"bias": False},
    "no statistics": {"track_running_stats": False},
    "cumulative": {"momentum": None},
    "bare": {"affine": False, "track_running_stats": False},
}


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_batch_norm_in_both_modes(kind, rank):
    shape = (5, 3, *(4, 2, 3)[:rank])
    ours, theirs = (getattr(k, f"BatchNorm{rank}d")(3, **TRAINED[kind]) for k in (nn, torch.nn))
    rng = np.random.default_rng(0)
    for training in (True, True, True, False):
        ours.train(training)
        theirs.train(training)
        x = rng.normal(2, 3, shape).astype(np.float32)
        expected = theirs(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=2e-5)
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], tensor.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_instance_norm_with_running_statistics(rank):
    shape = (3, 2, *(5, 4, 2)[:rank])
    theirs = getattr(torch.nn, f"InstanceNorm{rank}d")(2, affine=True, track_running_stats=True)
    ours = getattr(nn, f"InstanceNorm{rank}d")(2, affine=True, track_running_stats=True)
    x = np.random.default_rng(0).normal(1, 2, shape).astype(np.float32)
    theirs(torch.from_numpy(x))
    mean, variance = np.zeros(2, np.float32), np.ones(2, np.float32)
    expected = torch.nn.functional.instance_norm(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(F.instance_norm(x, mean, variance), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, theirs.running_mean, rtol=1e-5)
    np.testing.assert_allclose(variance, theirs.running_var, rtol=1e-5)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    expected = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_the_eps_of_rms_norm():
    x = np.random.default_rng(0).normal(0, 1e-4, (3, 5)).astype(np.float32)
    expected = torch.nn.RMSNorm(5)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(nn.RMSNorm(5)(x), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_cross_map_norm_is_local_response_norm(size):
    """torch's own CrossMapLRN2d adds up one channel more than `size`; its other norm does not."""
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 4)).astype(np.float32)
    options = {"alpha": 0.5, "beta": 0.6, "k": 1.5}
    expected = torch.nn.LocalResponseNorm(size, **options)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(nn.CrossMapLRN2d(size, **options)(x), expected, rtol=1e-5)


WIDE = np.array([[0.0, -0.0, 1e-30, -1e-30, 1e3, -1e3, 90.0, -90.0, np.inf, -np.inf, np.nan]])
FUNCTIONS = {
    "elu": {}, "celu": {"alpha": 0.5}, "selu": {}, "silu": {}, "mish": {}, "gelu": {},
    "softplus": {}, "logsigmoid": {}, "softsign": {}, "tanhshrink": {}, "hardtanh": {},
    "hardsigmoid": {}, "hardswish": {}, "relu6": {}, "leaky_relu": {}, "hardshrink": {},
    "softshrink": {}, "relu": {}, "tanh": {}, "sigmoid": {},
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_and_small_numbers(name):
    """Where torch gives a number, so do we; infinities too."""
    ours = getattr(F, name)(WIDE, **FUNCTIONS[name])
    theirs = getattr(torch.nn.functional, name)(torch.from_numpy(WIDE), **FUNCTIONS[name]).numpy()
    known = ~np.isnan(theirs)
    np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-5, atol=1e-12)
    assert np.isnan(ours[0, -1]), "NaN stays"


LAYERS = (
    *(k for k in SETTINGS if k not in NO_SETTINGS),
    "CrossMapLRN2d",
    "InstanceNorm1d",
    "InstanceNorm3d",
    "BatchNorm1d",
)


@pytest.mark.parametrize("name", LAYERS)
def test_signatures_of_layers(name):
    theirs = dict(inspect.signature(getattr(torch.nn, name)).parameters)
    ours = inspect.signature(getattr(nn, name)).parameters
    assert list(ours) == list(theirs)
    for key, parameter in ours.items():
        assert parameter.default == theirs[key].default, key


@pytest.mark.parametrize(
    "name",
    [
        *("relu", "relu6", "leaky_relu", "rrelu", "elu", "selu", "celu", "silu", "mish", "glu"),
        *("hardsigmoid", "hardswish", "hardtanh", "softmax", "softmin", "log_softmax"),
        *("layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm"),
        "local_response_norm",
    ],
)
def test_signatures_of_functions(name):
    theirs = inspect.signature(getattr(torch.nn.functional, name)).parameters
    ours = inspect.signature(getattr(F, name)).parameters
    assert list(ours) == [key for key in theirs if key not in ("_stacklevel", "dtype")]
    for key, parameter in ours.items():
        assert parameter.default == theirs[key].default, key
