"""Layers as sparse matrices, and fully connected layers as convolutions and back."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

import striate as st
from striate import inspect, nn
from striate.errors import OptionError, ShapeError
from striate.graph.graph import Graph

pytest.importorskip("scipy.sparse", reason="scipy is not installed")

LAYERS = {
    "conv": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2), (3, 9, 8)),
    "conv of groups": (lambda: nn.Conv2d(4, 6, (2, 3), groups=2, bias=False), (4, 6, 7)),
    "conv of sequences": (lambda: nn.Conv1d(2, 3, 4), (2, 11)),
    "conv of volumes": (lambda: nn.Conv3d(1, 2, 2, padding=1), (1, 3, 4, 5)),
    "transposed": (
        lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
        (3, 4, 5),
    ),
    "average": (lambda: nn.AvgPool2d(2, padding=1, count_include_pad=False), (2, 5, 5)),
    "adaptive average": (lambda: nn.AdaptiveAvgPool2d(3), (2, 7, 8)),
    "sum": (lambda: nn.SumPool2d(3, stride=2, padding=1), (2, 6, 5)),
    "weighted average": (lambda: nn.GaussianPool2d(3, 1.0, stride=1), (2, 5, 6)),
    "conv with reflected borders": (
        lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"),
        (2, 5, 6),
    ),
    "conv of channels last": (
        lambda: nn.Conv2d(2, 3, 3, padding="same", data_format="channels_last"),
        (5, 6, 2),
    ),
    "local": (lambda: nn.LocallyConnected2d(2, 3, (5, 6), 3, padding=1), (2, 5, 6)),
    "tiled": (lambda: nn.TiledConv2d(2, 3, 3, 2), (2, 6, 7)),
    "padding": (lambda: nn.CircularPad2d((1, 2, 0, 3)), (2, 4, 5)),
    "upsampling": (lambda: nn.Upsample(scale_factor=1.5, mode="bilinear"), (2, 4, 6)),
    "nearest": (lambda: nn.Upsample(size=(7, 5), mode="nearest"), (2, 4, 6)),
    "permute": (lambda: nn.Permute(0, 3, 1, 2), (2, 3, 4)),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (8, 3, 2)),
    "unfold": (lambda: nn.Unfold(2, stride=2, padding=1), (2, 5, 4)),
    "linear": (lambda: nn.Linear(7, 3), (7,)),
    "flatten": (nn.Flatten, (2, 3, 4)),
    "batch norm": (lambda: nn.BatchNorm2d(3), (3, 4, 4)),
    "network": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 4)
        ),
        (1, 8, 8),
    ),
}


def layer_and_shape(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    st.manual_seed(3)
    make, shape = LAYERS[name]
    layer = make().eval()
    rng = np.random.default_rng(0)
    for key, array in layer.state_dict().items():
        if "running" in key:
            array[...] = rng.uniform(0.5, 2.0, array.shape)
    return layer, shape


@pytest.mark.parametrize("name", LAYERS)
def test_matrix_times_vector_is_the_layer(name: str) -> None:
    layer, shape = layer_and_shape(name)
    found, offset = inspect.matrix(layer, shape)
    assert found.format == "csr" and found.dtype == np.float64
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    for sample, y in zip(x, layer(x), strict=True):
        assert np.allclose(found @ sample.ravel() + offset, y.ravel(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_as_linear(name: str) -> None:
    layer, shape = layer_and_shape(name)
    linear = inspect.as_linear(layer, shape)
    x = np.random.default_rng(2).normal(size=(2, *shape)).astype(np.float32)
    y = layer(x)
    assert isinstance(linear, nn.Linear) and not linear.training
    assert np.allclose(linear(x.reshape(2, -1)), y.reshape(2, -1), rtol=1e-4, atol=1e-5)


def test_a_sequence_gives_a_toeplitz_matrix() -> None:
    conv = nn.Conv1d(1, 1, 3, bias=False)
    conv.weight.data[...] = [[[1, 2, 3]]]
    found, _ = inspect.matrix(conv, (1, 5))
    assert found.toarray().tolist() == [[1, 2, 3, 0, 0], [0, 1, 2, 3, 0], [0, 0, 1, 2, 3]]


def test_an_image_gives_blocks_of_toeplitz_matrices() -> None:
    conv = nn.Conv2d(1, 1, 2, bias=False)
    conv.weight.data[...] = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    found = inspect.matrix(conv, (1, 4, 5))[0].toarray().reshape(3, 4, 4, 5)
    for i in range(3):
        for row in range(4):
            block = found[i, :, row]
            assert np.array_equal(block, found[0, :, row - i]) if row >= i else not block.any()
            assert all(np.array_equal(block[j + 1, 1:], block[j, :-1]) for j in range(3))


def test_the_transpose_is_the_transposed_convolution() -> None:
    conv, back = nn.Conv2d(2, 3, 3, stride=2, bias=False), None
    back = nn.ConvTranspose2d(3, 2, 3, stride=2, bias=False)
    back.weight.data[...] = conv.weight.data
    there, _ = inspect.matrix(conv, (2, 7, 9))
    again, _ = inspect.matrix(back, (3, 3, 4))
    assert np.array_equal(there.toarray().T, again.toarray())


def test_one_step_of_a_network() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    found, offset = inspect.matrix(net, (1, 4, 4), node="0")
    assert found.shape == (8, 16) and np.allclose(offset[:4], net[0].bias.data[0])
    with pytest.raises(OptionError, match=r"\(map\) is not linear: it takes maximum"):
        inspect.matrix(net, (1, 4, 4))
    with pytest.raises(OptionError, match=r"expected a step of the graph, .*; got 'conv9'"):
        inspect.matrix(net, (1, 4, 4), node="conv9")


def test_branches_are_added_up() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)

        def forward(self, x):  # type: ignore[no-untyped-def]
            return nn.functional.cat([self.a(x) + 2 * x, self.b(self.a(x))], 1)

    net = Both().eval()
    found, offset = inspect.matrix(net, (4,))
    x = np.random.default_rng(4).normal(size=(1, 4)).astype(np.float32)
    assert np.allclose(found @ x[0] + offset, net(x)[0], atol=1e-5)

    class Square(Both):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return self.a(x) * self.b(x)

    with pytest.raises(OptionError, match="is not linear: it takes mul of its input"):
        inspect.matrix(Square(), (4,))


def test_graphs_with_values_of_their_parameters() -> None:
    layer = nn.Linear(3, 2)
    graph = layer.to_graph((3,))
    with pytest.raises(OptionError, match=r"expected a value of the parameter '(bias|weight)'"):
        inspect.matrix(graph)
    found, offset = inspect.matrix(graph, parameters=layer.state_dict())
    assert np.allclose(found.toarray(), layer.weight.data)
    assert np.allclose(offset, layer.bias.data)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.ReLU(), "it takes maximum of its input"),
        (nn.MaxPool2d(2), "it takes a maximum of its input"),
        (nn.Sigmoid(), "it takes sigmoid of its input"),
        (nn.LocalResponseNorm(3), "it takes mul of its input"),
    ],
)
def test_what_is_not_linear(layer: nn.Module, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        inspect.matrix(layer, (4, 4, 4))


def test_what_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="a Linear that was never called"):
        inspect.matrix(nn.Linear(2, 2))
    with pytest.raises(OptionError, match="expected a graph with one input; got 0"):
        inspect.matrix(Graph())
    convert, module = (import_module(f"striate.inspect.{n}") for n in ("convert", "matrix"))
    monkeypatch.setattr(module, "MOST_TERMS", 100)
    with pytest.raises(OptionError, match=r"expected at most 100 entries; .* Take a smaller input"):
        inspect.matrix(nn.Linear(20, 20), (20,))
    monkeypatch.undo()
    monkeypatch.setattr(convert, "_MOST", 100)
    with pytest.raises(OptionError, match=r"as_linear: expected at most 100 weights; got 20 × 20"):
        inspect.as_linear(nn.Linear(20, 20), (20,))


# ---- fully connected layers as convolutions ------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 6), (2, 4, 5), (2, 3, 2, 2)], ids=str)
def test_as_conv(shape: tuple[int, ...]) -> None:
    linear = nn.Linear(int(np.prod(shape)), 4)
    conv = inspect.as_conv(linear, shape)
    x = np.random.default_rng(5).normal(size=(2, *shape)).astype(np.float32)
    found = conv(x)
    assert found.shape == (2, 4, *[1] * (len(shape) - 1))
    assert np.allclose(found.reshape(2, 4), linear(x.reshape(2, -1)), atol=1e-5)


def test_the_converted_layer_slides() -> None:
    linear = nn.Linear(2 * 3 * 3, 4, bias=False)
    conv = inspect.as_conv(linear, (2, 3, 3))
    assert conv.bias is None
    x = np.random.default_rng(6).normal(size=(1, 2, 5, 7)).astype(np.float32)
    found = conv(x)
    assert found.shape == (1, 4, 3, 5)
    for i in range(3):
        for j in range(5):
            window = x[:, :, i : i + 3, j : j + 3].reshape(1, -1)
            assert np.allclose(found[:, :, i, j], linear(window), atol=1e-5)


def test_there_and_back() -> None:
    linear = nn.Linear(2 * 4 * 5, 3)
    conv = inspect.as_conv(linear, (2, 4, 5))
    again = inspect.as_linear(conv, (2, 4, 5))
    assert np.array_equal(again.weight.data, linear.weight.data)
    assert np.array_equal(again.bias.data, linear.bias.data)


def test_what_as_conv_refuses() -> None:
    with pytest.raises(OptionError, match=r"as_conv: expected an nn.Linear; got a ReLU"):
        inspect.as_conv(nn.ReLU(), (1, 2, 2))
    for shape in ((5, 2, 2), (16,), (1, 1, 2, 2, 4)):
        with pytest.raises(ShapeError, match=r"as_conv: expected an input shape .* of 16 numbers"):
            inspect.as_conv(nn.Linear(16, 3), shape)
