"""What must be equal in the family of convolutions, through the functions and layers of nn."""

from __future__ import annotations

import doctest
import importlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from striate import nn
from striate.formula.operations import find_operation
from striate.nn import functional as F
from striate.nn.arguments import conv_padding
from striate.shapes import conv_output_size

FACTS = {
    fact["id"]: fact
    for fact in json.loads(
        (Path(__file__).parents[1] / "data" / "facts.json").read_text(encoding="utf-8")
    )
}
RANKS = (1, 2, 3)


def whole(*shape: int, seed: int = 0) -> np.ndarray:
    """Small whole numbers: sums of products of them are exact in float32."""
    return np.random.default_rng((seed, *shape)).integers(-3, 4, shape).astype(np.float32)


def function(name: str, rank: int):
    return getattr(F, f"{name}{rank}d")


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"padding": "same"}])
def test_tiled_of_one_tile_is_convolution(rank, settings):
    x, w, b = whole(2, 4, *[6] * rank), whole(6, 2, *[3] * rank), whole(6)
    expected = function("conv", rank)(x, w, b, groups=2, **settings)
    tiled = function("tiled_conv", rank)(x, w[(None,) * rank], b, groups=2, **settings)
    assert np.array_equal(tiled, expected)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"padding": "same"}])
def test_tiled_of_all_positions_is_locally_connected(rank, settings):
    x, bank = whole(2, 4, *[5] * rank), (6, 2, *[3] * rank)
    places = function("conv", rank)(x, np.zeros(bank), groups=2, **settings).shape[2:]
    w = whole(*places, *bank)
    last = np.moveaxis(w, range(rank), range(-rank, 0))
    expected = function("local", rank)(x, last, groups=2, **settings)
    assert np.array_equal(function("tiled_conv", rank)(x, w, groups=2, **settings), expected)


@pytest.mark.parametrize("rank", RANKS)
def test_local_with_equal_kernels_is_convolution(rank):
    x, w, b = whole(2, 3, *[5] * rank), whole(4, 3, *[2] * rank), whole(4)
    expected = function("conv", rank)(x, w, b, stride=2, padding=1)
    places = expected.shape[2:]
    repeated = np.broadcast_to(w[(..., *[None] * rank)], (*w.shape, *places))
    local = function("local", rank)
    assert np.array_equal(local(x, repeated, b, stride=2, padding=1), expected)
    each = np.broadcast_to(b[(..., *[None] * rank)], (4, *places))
    assert np.array_equal(local(x, repeated, each, stride=2, padding=1), expected)


@pytest.mark.parametrize("name", ["conv", "convolve", "local", "tiled_conv"])
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups_are_convolutions_side_by_side(name, groups):
    x, forward = whole(2, 6, 5, 4), function(name, 2)
    shape = {"local": (6, 6 // groups, 2, 2, 4, 3), "tiled_conv": (2, 1, 6, 6 // groups, 2, 2)}
    w = whole(*shape.get(name, (6, 6 // groups, 2, 2)))
    axis = 2 if name == "tiled_conv" else 0
    parts = zip(np.split(x, groups, 1), np.split(w, groups, axis), strict=True)
    expected = np.concatenate([forward(part, kernels) for part, kernels in parts], 1)
    assert np.array_equal(forward(x, w, groups=groups), expected)


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("name", ["conv_transpose", "local_transpose"])
def test_groups_of_transposes_are_side_by_side(name, groups):
    x, forward = whole(2, 6, 3, 4), function(name, 2)
    w = whole(6, 2, 2, 3, *((3, 4) if name == "local_transpose" else ()))
    parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    expected = np.concatenate([forward(part, kernels, stride=2) for part, kernels in parts], 1)
    assert np.array_equal(forward(x, w, stride=2, groups=groups), expected)


@pytest.mark.parametrize("rank", RANKS)
def test_1x1_is_a_matrix_product(rank):
    x, w = whole(2, 3, *[4] * rank), whole(5, 3, *[1] * rank)
    expected = np.einsum("nc...,oc->no...", x, w.reshape(5, 3))
    for name in ("conv", "convolve"):
        assert np.array_equal(function(name, rank)(x, w), expected)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("name", ["conv", "convolve", "tiled_conv"])
def test_dilation_is_a_kernel_with_zeros(rank, name):
    x, w = whole(2, 2, *[7] * rank), whole(3, 2, *[2] * rank)
    spread = np.zeros((3, 2, *[4] * rank), np.float32)
    spread[(..., *[slice(None, None, 3)] * rank)] = w
    if name == "tiled_conv":
        w, spread = w[(None,) * rank], spread[(None,) * rank]
    forward = function(name, rank)
    assert np.array_equal(forward(x, w, dilation=3, padding=1), forward(x, spread, padding=1))


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("local", [False, True])
def test_transposed_is_the_adjoint(rank, local):
    """⟨A x, v⟩ = ⟨x, Aᵀ v⟩, with the forward layer's own weight."""
    name = "local" if local else "conv"
    x, w = whole(2, 4, *[6] * rank), whole(6, 2, *[3] * rank)
    settings = {"stride": 2, "padding": 1, "groups": 2, "dilation": 1}
    shape = function("conv", rank)(x, w, **settings).shape
    if local:
        w = whole(*w.shape, *shape[2:])
    y, v = function(name, rank)(x, w, **settings), whole(*shape, seed=1)
    back = function(f"{name}_transpose", rank)(v, w, output_padding=1, **settings)
    assert back.shape == x.shape
    assert np.vdot(y, v) == np.vdot(x, back)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": "full"}, {"dilation": 2}])
def test_convolution_is_cross_correlation_with_a_flipped_kernel(rank, settings):
    x, w, b = whole(2, 4, *[6] * rank), whole(6, 2, *[3] * rank), whole(6)
    expected = function("conv", rank)(x, np.flip(w, range(2, 2 + rank)), b, groups=2, **settings)
    got = function("convolve", rank)(x, w, b, groups=2, **settings)
    assert np.array_equal(got, expected)


def test_convolution_commutes_and_cross_correlation_does_not():
    x, w = whole(1, 1, 4, 5), whole(1, 1, 3, 2)
    assert np.array_equal(F.convolve2d(x, w, padding="full"), F.convolve2d(w, x, padding="full"))
    assert not np.array_equal(F.conv2d(x, w, padding="full"), F.conv2d(w, x, padding="full"))


def test_polynomials_multiply():
    assert np.array_equal(
        F.convolve1d(
            np.array([[[1.0, 2, 3]]]), np.array([[[4.0, 5, 6, 7]]]), padding="full"
        ).ravel(),
        np.polymul([1, 2, 3], [4, 5, 6, 7]),
    )


# ---- padding ---------------------------------------------------------------------------------


def test_same_gives_the_size_over_the_stride():
    """At any size, with the odd zero at the end or at the start."""
    for size, k, s, d in itertools.product(range(1, 9), (1, 2, 3), (1, 2, 3), (1, 2)):
        ((before, after),) = conv_padding("same", "conv1d", (k,), (s,), (d,), (size,))
        assert conv_output_size(size, k, s, before + after, d) == -(-size // s)
        assert 0 <= after - before <= 1
        lower = conv_padding("same_lower", "conv1d", (k,), (s,), (d,), (size,))
        assert lower == [[after, before]]


def test_an_odd_pixel_of_same_goes_to_the_end():
    x, w = np.array([[[1.0, 2, 3, 4]]]), np.array([[[1.0, 10.0]]])
    assert F.conv1d(x, w, padding="same").ravel().tolist() == [21, 32, 43, 4]
    assert F.conv1d(x, w, padding="same_lower").ravel().tolist() == [10, 21, 32, 43]


@pytest.mark.parametrize("rank", RANKS)
def test_full_pads_all_but_one(rank):
    x, w = whole(1, 2, *[4] * rank), whole(3, 2, *[3] * rank)
    expected = function("conv", rank)(x, w, padding=4, dilation=2)
    assert np.array_equal(function("conv", rank)(x, w, padding="full", dilation=2), expected)


@pytest.mark.parametrize("name", [n for n in FACTS if FACTS[n].get("padding") == "full"])
def test_facts_of_full_padding(name):
    fact = FACTS[name]
    forward = F.convolve2d if fact.get("flip") else F.conv2d
    x, w = np.array(fact["input"], float), np.array(fact["kernel"], float)
    y = forward(x[None, None], w[None, None], padding="full")
    assert y[0, 0].tolist() == fact["expected"]


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "symmetric"])
@pytest.mark.parametrize("rank", RANKS)
def test_padding_modes_pad_first(mode, rank):
    x, w = whole(2, 2, *[4] * rank), whole(3, 2, *[3] * rank)
    padded = F.pad(x, [2, 1] * rank, mode)
    expected = function("conv", rank)(padded, w, stride=2)
    got = function("conv", rank)(x, w, stride=2, padding=[[2, 1]] * rank, padding_mode=mode)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular", "symmetric"])
def test_pad_is_numpys(mode):
    x = whole(2, 3, 4, 5)
    known = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    expected = np.pad(x, [(0, 0), (0, 0), (3, 0), (2, 4)], known)
    assert np.array_equal(F.pad(x, (2, 4, 3, 0), mode), expected)


def test_pad_and_crop_undo_each_other():
    x = whole(2, 3, 4, 5)
    assert np.array_equal(F.pad(F.pad(x, (1, 2, 3, 2), "reflect"), (-1, -2, -3, -2)), x)
    assert np.array_equal(F.crop(F.pad(x, (1, 2, 3, 4)), (3, 1), (4, 5)), x)
    assert np.array_equal(F.center_crop(F.pad(x, (2, 2, 1, 2)), (4, 5)), x)


# ---- data formats ----------------------------------------------------------------------------

LAST = {
    "Conv1d": lambda **k: nn.Conv1d(3, 4, 3, 2, 1, **k),
    "Conv2d": lambda **k: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", **k),
    "Conv3d": lambda **k: nn.Conv3d(3, 4, 2, **k),
    "ConvTranspose1d": lambda **k: nn.ConvTranspose1d(3, 4, 3, 2, **k),
    "ConvTranspose2d": lambda **k: nn.ConvTranspose2d(3, 4, 3, 2, **k),
    "ConvTranspose3d": lambda **k: nn.ConvTranspose3d(3, 4, 2, **k),
    "SeparableConv2d": lambda **k: nn.SeparableConv2d(3, 4, 3, **k),
    "LocallyConnected2d": lambda **k: nn.LocallyConnected2d(3, 4, 5, 3, **k),
    "LocallyConnectedTranspose1d": lambda **k: nn.LocallyConnectedTranspose1d(3, 4, 5, 3, **k),
    "TiledConv2d": lambda **k: nn.TiledConv2d(3, 4, 3, 2, **k),
}


@pytest.mark.parametrize("name", LAST)
def test_channels_last_is_the_same_moved(name):
    first, last = LAST[name](), LAST[name](data_format="channels_last")
    last.load_state_dict(first.state_dict())
    rank = int(name[-2])
    x = np.random.default_rng(0).normal(size=(2, 3, *[5] * rank)).astype(np.float32)
    expected = np.moveaxis(first(x), 1, -1)
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(last(moved), expected, rtol=1e-5, atol=1e-6)
    assert last(moved).flags.c_contiguous
    assert last.to_graph(moved.shape[1:]).nodes  # it can be traced as well
    net = nn.Sequential(last)
    np.testing.assert_allclose(net(moved), expected, rtol=1e-5, atol=1e-6)


def test_permute_and_transpose():
    class Net(nn.Module):
        def __init__(self, move):
            super().__init__()
            self.move = move

        def forward(self, x):
            return self.move(x)

    x = whole(2, 3, 4, 5)
    assert np.array_equal(Net(lambda x: x.permute(0, 2, 3, 1))(x), x.transpose(0, 2, 3, 1))
    assert np.array_equal(Net(lambda x: x.permute((0, -1, 1, 2)))(x), x.transpose(0, 3, 1, 2))
    assert np.array_equal(Net(lambda x: x.transpose(1, -1))(x), x.swapaxes(1, 3))
    assert np.array_equal(F.permute(x, (3, 0, 1, 2)), x.transpose(3, 0, 1, 2))
    assert np.array_equal(F.transpose(x, 0, 2), x.swapaxes(0, 2))
    same = Net(lambda x: F.permute(x, (0, 1, 2, 3)) * 1)
    assert np.array_equal(same(x), x)
    assert len(same.to_graph((3, 4, 5)).steps) == 1


# ---- layers made of parts ----------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_separable_is_depthwise_then_pointwise(rank):
    layer = getattr(nn, f"SeparableConv{rank}d")(3, 5, 3, 2, 1, depth_multiplier=2)
    x = np.random.default_rng(0).normal(size=(2, 3, *[6] * rank)).astype(np.float32)
    state = layer.state_dict()
    assert list(state) == ["depthwise.weight", "pointwise.weight", "pointwise.bias"]
    conv = function("conv", rank)
    inner = conv(x, state["depthwise.weight"], None, 2, 1, groups=3)
    expected = conv(inner, state["pointwise.weight"], state["pointwise.bias"])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_a_locally_connected_network_trains():
    import striate as st

    st.manual_seed(0)
    net = nn.Sequential(
        nn.LocallyConnected2d(1, 4, 28, 5, stride=4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(144, 10),
    )
    train, test = st.data.load("digits")
    result = st.fit(net, train, epochs=2, batch_size=64, progress=False)
    assert result is not None
    assert (net(test.images).argmax(1) == test.labels).mean() > 0.5


def test_bias_of_each_position_and_of_each_channel():
    each = nn.LocallyConnected2d(3, 4, (5, 6), 3)
    channel = nn.LocallyConnected2d(3, 4, (5, 6), 3, bias="channel")
    assert each.weight.shape == (4, 3, 3, 3, 3, 4)
    assert (each.bias.shape, channel.bias.shape) == ((4, 3, 4), (4,))
    assert nn.LocallyConnected2d(3, 4, (5, 6), 3, bias=False).bias is None


def test_fresh_weights_are_spread_as_those_of_convolutions():
    bound = 1 / np.sqrt(3 * 9)
    for layer in (
        nn.LocallyConnected2d(3, 4, 12, 3),
        nn.TiledConv2d(3, 16, 3, 2),
        nn.Conv2d(3, 64, 3),
    ):
        assert 0.95 * bound < np.abs(layer.weight.data).max() <= np.float32(bound)


def test_every_operation_of_the_family_has_its_function_and_layer():
    named = {
        "conv": "Conv",
        "conv_transpose": "ConvTranspose",
        "local": "LocallyConnected",
        "local_transpose": "LocallyConnectedTranspose",
        "tiled_conv": "TiledConv",
    }
    for (stem, layer), rank in itertools.product(named.items(), RANKS):
        assert find_operation(f"{stem}{rank}d").name == f"{stem}{rank}d"
        assert callable(function(stem, rank)) and hasattr(nn, f"{layer}{rank}d")


FUNCTIONS = ("functional_conv", "functional_local", "functional_pad", "data_format", "arguments")


@pytest.mark.parametrize("name", [*FUNCTIONS, "conv", "local", "padding", "layout"])
def test_examples(name):
    found = doctest.testmod(importlib.import_module(f"striate.nn.{name}"))
    assert found.failed == 0 and found.attempted > 0
