"""One contract for every layer: shape rule, state, modes, copies, bad input, text."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError

IMAGES = (2, 4, 6, 5)
LAYERS = {
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), IMAGES, (6, 3, 3)),
    "Conv2d-same": (lambda: nn.Conv2d(4, 3, (2, 3), padding="same"), IMAGES, (3, 6, 5)),
    "Linear": (lambda: nn.Linear(7, 3), (2, 7), (3,)),
    "Linear-no-bias": (lambda: nn.Linear(7, 3, bias=False), (2, 7), (3,)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGES, (4, 3, 2)),
    "MaxPool2d-dilated": (lambda: nn.MaxPool2d((2, 1), 1, dilation=2), IMAGES, (4, 4, 5)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGES, (4, 3, 3)),
    "MaxPool2d-ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), IMAGES, (4, 3, 3)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((4, None)), IMAGES, (4, 4, 5)),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3, 2, padding=1), (2, 3, 9), (4, 5)),
    "Conv3d": (lambda: nn.Conv3d(2, 3, (1, 2, 3), groups=1), (2, 2, 3, 4, 5), (3, 3, 3, 3)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2),
        IMAGES,
        (6, 12, 10),
    ),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3, alpha=0.5), IMAGES, IMAGES[1:]),
    "ReLU6": (lambda: nn.ReLU6(), IMAGES, IMAGES[1:]),
    "SiLU": (lambda: nn.SiLU(), IMAGES, IMAGES[1:]),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), IMAGES, IMAGES[1:]),
    "Hardsigmoid": (lambda: nn.Hardsigmoid(), IMAGES, IMAGES[1:]),
    "Hardswish": (lambda: nn.Hardswish(), IMAGES, IMAGES[1:]),
    "GELU": (lambda: nn.GELU("tanh"), IMAGES, IMAGES[1:]),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGES, IMAGES[1:]),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(7), (2, 7), (7,)),
    "BatchNorm1d-sequence": (lambda: nn.BatchNorm1d(3), (2, 3, 5), (3, 5)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(3), (2, 3, 2, 4, 3), (3, 2, 4, 3)),
    "ReLU": (lambda: nn.ReLU(), IMAGES, IMAGES[1:]),
    "Tanh": (lambda: nn.Tanh(), IMAGES, IMAGES[1:]),
    "Sigmoid": (lambda: nn.Sigmoid(), IMAGES, IMAGES[1:]),
    "ScaledTanh": (lambda: nn.ScaledTanh(), IMAGES, IMAGES[1:]),
    "Scalar": (lambda: nn.Scalar(lambda x: x / (1 + abs(x)), name="softsign"), IMAGES, IMAGES[1:]),
    "Softmax": (lambda: nn.Softmax(dim=1), (2, 7), (7,)),
    "Flatten": (lambda: nn.Flatten(), IMAGES, (120,)),
    "Flatten-part": (lambda: nn.Flatten(2), IMAGES, (4, 30)),
    "Dropout": (lambda: nn.Dropout(0.4), IMAGES, IMAGES[1:]),
    "Identity": (lambda: nn.Identity(3, any="thing"), IMAGES, IMAGES[1:]),
}
for _path in sorted(Path(__file__).parent.glob("layers_*.py")):
    LAYERS |= import_module(f"tests.nn.{_path.stem}").LAYERS  # the layers of one family, as above


@pytest.fixture(params=LAYERS, name="case")
def _case(request):
    make, shape, output = LAYERS[request.param]
    st.manual_seed(3)
    return make(), np.random.default_rng(1).normal(size=shape).astype(np.float32), output


def test_shape_rule(case):
    layer, x, output = case
    graph = layer.to_graph(x.shape[1:])
    assert graph.nodes[graph.outputs[0]].shape == output
    for batch in (0, 1, 2):
        assert layer(x[:batch]).shape == (batch, *output)


def test_result_is_new_float32_and_finite(case):
    layer, x, _ = case
    before = x.copy()
    y = layer(x)
    assert y.dtype == np.float32
    assert y.flags.c_contiguous
    assert np.isfinite(y).all()
    assert np.count_nonzero(y) > y.size // 4
    assert not np.shares_memory(x, y)
    assert np.array_equal(x, before)


def test_each_sample_is_computed_alone(case):
    layer, x, _ = case
    layer.eval()
    np.testing.assert_allclose(layer(x)[1:], layer(x[1:]), rtol=1e-5, atol=1e-5)


def test_state_goes_round(case):
    layer, x, _ = case
    layer.eval()
    other = copy.deepcopy(layer)
    for parameter in other.parameters():
        parameter.data[:] = 7
    other.load_state_dict(layer.state_dict())
    assert np.array_equal(other(x), layer(x))


def test_in_a_network_it_computes_the_same(case):
    layer, x, _ = case
    net = nn.Sequential(layer).eval()
    assert np.array_equal(net(x), layer(x))
    names = [n.name for n in net.to_graph(x.shape[1:]).steps]
    if layer.one_node:
        assert names in (["0"], [])
    else:  # a layer made of several operations
        assert names and all(name.startswith("0.") for name in names)


def test_text_names_the_layer(case):
    layer, _, _ = case
    assert repr(layer).startswith(f"{type(layer).__name__}(")
    assert "\n" not in repr(layer) or any(layer.children())


def test_a_single_number_is_refused(case):
    layer, _, _ = case
    with pytest.raises(ShapeError, match=f"{type(layer).__name__}: expected a batch"):
        layer(np.float32(1))


BAD = [
    (lambda: nn.Conv2d(0, 1, 3), "Conv2d: expected in_channels to be a whole number from 1; got"),
    (lambda: nn.Conv2d(1, 2.5, 3), "Conv2d: expected out_channels to be a whole number"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), "groups to divide out_channels; got groups=4, out_cha"),
    (lambda: nn.Conv2d(3, 6, 3, groups=2), "groups to divide in_channels; got groups=2, in_chann"),
    (lambda: nn.Conv2d(1, 1, 3, padding_mode="edge"), "'symmetric'; got padding_mode='edge'"),
    (lambda: nn.Conv2d(1, 1, 3, padding="sme"), "'same_lower' or 'full'; got padding='sme'"),
    (lambda: nn.Conv2d(1, 1, (3, 3, 3)), "Conv2d: kernel_size: expected"),
    (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding: expected at least 0"),
    (lambda: nn.Conv2d(1, 1, 3, device="cuda"), "Conv2d: device='cuda' is not supported"),
    (lambda: nn.Linear(1, 1, dtype=np.float64), "Linear: dtype=.* is not supported"),
    (lambda: nn.Linear(True, 1), "Linear: expected in_features to be a whole number"),
    (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size: expected at least 1"),
    (lambda: nn.MaxPool2d(2, padding="sme"), "MaxPool2d: expected padding to be numbers, pairs"),
    (lambda: nn.AvgPool2d(2, divisor_override=0), "AvgPool2d: expected divisor_override to be a w"),
    (
        lambda: nn.Conv1d(1, 1, (3, 3)),
        r"Conv1d: kernel_size: expected a whole number; got \(3, 3\)",
    ),
    (lambda: nn.Conv3d(1, 1, (3, 3)), "Conv3d: kernel_size: expected a whole number or 3 of them"),
    (lambda: nn.Conv1d(3, 4, 3, groups=2), "Conv1d: expected groups to divide in_channels"),
    (
        lambda: nn.ConvTranspose2d(3, 4, 3, groups=3),
        "ConvTranspose2d: expected groups to divide out",
    ),
    (lambda: nn.ConvTranspose2d(1, 1, 3, 2, output_padding=2), "expected output_padding below the"),
    (lambda: nn.LocalResponseNorm(0), "LocalResponseNorm: expected size to be a whole number"),
    (
        lambda: nn.GELU("fast"),
        "GELU: expected approximate='none' or 'tanh'; got approximate='fast'",
    ),
    (lambda: nn.LeakyReLU("0.1"), "LeakyReLU: expected negative_slope to be a finite number"),
    (lambda: nn.BatchNorm2d(0), "BatchNorm2d: expected num_features to be a whole number from 1"),
    (
        lambda: nn.BatchNorm1d(3, momentum=1.5),
        "BatchNorm1d: expected momentum from 0 to 1; got mom",
    ),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "AdaptiveAvgPool2d: expected output_size of one or"),
    (lambda: nn.AdaptiveAvgPool2d(0), "AdaptiveAvgPool2d: expected output_size to be a whole num"),
    (lambda: nn.Dropout(1.5), "Dropout: expected a probability from 0 to below 1; got p=1.5"),
    (lambda: nn.Scalar(lambda x: x if x > 0 else 0), "no truth value"),
]


@pytest.mark.parametrize("k", range(len(BAD)))
def test_bad_arguments(k):
    make, text = BAD[k]
    with pytest.raises(OptionError, match=text):
        make()


def test_dropout_drops_in_training_only():
    x = np.ones((200, 50))
    layer = nn.Dropout(0.25)
    st.manual_seed(5)
    y = layer(x)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert 0.23 < np.mean(y == 0) < 0.27
    assert not np.array_equal(layer(x), y)
    st.manual_seed(5)
    assert np.array_equal(layer(x), y)
    assert np.array_equal(layer.eval()(x), x)
    assert np.array_equal(nn.Dropout(0)(x), x)


def test_dropout_inside_a_network():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 100), nn.Dropout(0.5))
    x = np.ones((8, 3))
    drops = [n for n in net.to_graph((3,)).steps if n.op == "dropout"]
    assert [n.attributes for n in drops] == [{"p": 0.5, "site": 0}, {"p": 0.5, "site": 1}]
    zeros = np.mean(net(x) == 0)
    assert 0.35 < zeros < 0.65
    net.eval()
    assert not any(n.op == "dropout" for n in net.to_graph((3,)).steps)
    plain = nn.Sequential(net[0], net[2])
    assert np.array_equal(net(x), plain(x))
