"""One contract for every layer: shape rule, empty batch, results, text; and arguments refused.

Gradients, files, orders of axes and shapes that do not fit are in `test_layer_contract`.
"""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError
from tests.nn.cases import LAYERS, build, class_of, inputs_of, sample_shapes

# What is no layer: containers, and the bases of what users write.
NO_LAYERS = {"Module", "Sequential", "ModuleList", "ModuleDict", "GraphModule"}
NO_LAYERS |= {"CosineEmbeddingLoss", "TripletMarginLoss"}  # losses that may stand in a network


@pytest.fixture(params=LAYERS, name="case")
def _case(request):
    return build(request.param), inputs_of(request.param), LAYERS[request.param][2]


def layers_of_the_package():
    kinds = {name: getattr(nn, name) for name in nn.__all__}
    return {
        name
        for name, kind in kinds.items()
        if isinstance(kind, type)
        and issubclass(kind, nn.Module)
        and not issubclass(kind, nn.Loss)
        and name not in NO_LAYERS
    }


def test_every_layer_has_a_case():
    assert sorted(layers_of_the_package() - {class_of(name) for name in LAYERS}) == []
    for name in LAYERS:
        kinds = {type(module).__name__ for module in build(name).modules()}
        assert class_of(name) in kinds, f"{name} is none of {kinds}"


def test_shape_rule(case):
    layer, inputs, output = case
    graph = layer.to_graph(sample_shapes(inputs))
    assert graph.nodes[graph.outputs[0]].shape == output
    for batch in (0, 1, 2):
        assert layer(*(x[:batch] for x in inputs)).shape == (batch, *output)


def test_result_is_new_float32_and_finite(case):
    layer, inputs, _ = case
    before = [x.copy() for x in inputs]
    y = layer(*inputs)
    assert y.dtype == np.float32
    assert y.flags.c_contiguous
    assert np.isfinite(y).all()
    assert np.count_nonzero(y) > y.size // 4
    assert not any(np.shares_memory(x, y) for x in inputs)
    assert all(np.array_equal(x, k) for x, k in zip(inputs, before, strict=True))


def test_each_sample_is_computed_alone(case):
    layer, inputs, _ = case
    layer.eval()
    alone = layer(*(x[1:] for x in inputs))
    np.testing.assert_allclose(layer(*inputs)[1:], alone, rtol=1e-5, atol=1e-5)


def test_in_a_network_it_computes_the_same(case):
    layer, inputs, _ = case

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = layer

        def forward(self, *tensors):
            return self.part(*tensors)

    net = Net() if len(inputs) > 1 else nn.Sequential(layer)
    net.eval()
    path = "part" if len(inputs) > 1 else "0"
    np.testing.assert_array_equal(net(*inputs), layer(*inputs))
    names = [n.name for n in net.to_graph(sample_shapes(inputs)).steps]
    if layer.one_node:
        assert names in ([path], [])
    else:  # a layer made of several operations
        assert names and all(name.startswith(f"{path}.") for name in names)


def test_text_names_the_layer(case):
    layer, _, _ = case
    assert repr(layer).startswith(f"{type(layer).__name__}(")
    assert "\n" not in repr(layer) or any(layer.children())


def test_a_single_number_is_refused(case):
    layer, inputs, _ = case
    with pytest.raises(ShapeError, match=f"{type(layer).__name__}: expected a batch"):
        layer(*(np.float32(1) for _ in inputs))


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
