"""Images made for networks imported from ONNX, and their patches: as for the network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.interpret import invert, maximize, top_patches

pytest.importorskip("onnx", reason="onnx is not installed")


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, nn.Module]:
    st.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(36, 5), nn.Softmax(1)),
    )
    path: Path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    st.export_onnx(net, path, input_shape=(1, 8, 8))
    return net, st.import_onnx(path)


def layer(net: nn.Module, op: str) -> str:
    """The name that a network gives to its only node of a kind."""
    (name,) = (node.name for node in net.to_graph((1, 8, 8)).steps if node.op == op)
    return name


def test_maximised_scores(nets):
    own, imported = (maximize(net, units=[1, 3], shape=(1, 8, 8), steps=6) for net in nets)
    assert imported.layer == layer(nets[1], "linear")
    np.testing.assert_allclose(imported.images, own.images, atol=1e-4)
    assert maximize(nets[1], steps=1).images.shape == (1, 1, 8, 8)  # it knows its images' shape


def test_inverted_features(nets):
    x = np.random.default_rng(0).random((2, 1, 8, 8)).astype(np.float32)
    own, imported = (invert(net, x, layer(net, "conv2d"), steps=6) for net in nets)
    np.testing.assert_allclose(imported.images, own.images, atol=1e-4)


def test_top_patches(nets):
    x = np.random.default_rng(1).random((30, 1, 8, 8)).astype(np.float32)
    own, imported = (top_patches(net, x, layer(net, "map"), k=3, deconvolve=True) for net in nets)
    np.testing.assert_array_equal(imported.where, own.where)
    np.testing.assert_allclose(imported.patches, own.patches)
    np.testing.assert_allclose(imported.deconvolutions, own.deconvolutions, atol=1e-6)
