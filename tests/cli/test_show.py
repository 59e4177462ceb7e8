"""`striate show …` and `striate interpret equivariance`: what they write and say, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import sparse

import striate as st
from striate import inspect


@pytest.fixture
def onnx(model, tmp_path):
    """The model as an ONNX file."""
    pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    st.export_onnx(st.load(model / "model.safetensors"), path)
    return path


def test_filters_of_the_first_convolution(cli, model, net, onnx, width):
    answer = cli("show", "filters", model, "--npy", "kernels.npy")
    assert answer.code == 0, answer.err
    assert "wrote filters.png" in answer.out and "conv: 4 filters 3×3 of 1 channel\n" in answer.out
    assert width("filters.png") > 500
    weights = st.load(model / "model.safetensors").state_dict()["conv.weight"]
    np.testing.assert_array_equal(np.load("kernels.npy"), weights)
    for other in (net, onnx, "squeezenet1_1"):
        assert cli("show", "filters", other, "--input", "1,8,8" if other != "squeezenet1_1" else
                   "3,224,224", "--out", "f.svg").code == 0  # fmt: skip
    answer = cli("show", "filters", model, "--layer", "fc")
    assert answer.code == 2 and "unknown convolution 'fc'" in answer.err


def test_maps_of_some_layers(cli, model, onnx, picture, width):
    answer = cli("show", "maps", model, picture)
    assert answer.code == 0, answer.err
    assert "relu: 4×6×6, 0 … " in answer.out and "fc: 10, " in answer.out
    assert "conv: " not in answer.out, "an activation follows it"
    assert width("maps.png") > 500
    found = cli("show", "maps", onnx, picture, "--layer", "pool", "--npy", "m.npy", "--json").json
    assert found["layers"][0]["shape"] == [4, 3, 3]
    assert np.load("m.npy").max() == pytest.approx(found["layers"][0]["greatest"])
    answer = cli("show", "maps", model, picture, "--npy", "m.npy")
    assert answer.code == 2 and "--npy: expected one layer; got 3" in answer.err


def test_a_window_slides(cli, model, picture):
    answer = cli("show", "slide", model, picture, "--layer", "conv", "--frames", 3)
    assert answer.code == 0, answer.err
    assert "wrote slide.gif: 3 of 36 outputs" in answer.out
    with Image.open("slide.gif") as shown:
        assert shown.n_frames == 3
    assert cli("show", "slide", model, picture, "--layer", "pool", "--out", "a.html").code == 0
    answer = cli("show", "slide", model, picture, "--layer", "relu")
    assert answer.code == 2 and "whose outputs read a window" in answer.err


def test_a_layer_is_a_matrix(cli, model, width):
    answer = cli("show", "matrix", model, "--layer", "conv", "--npz", "conv.npz")
    assert answer.code == 0, answer.err
    assert "wrote conv.npz: 144×64, 1,296 entries" in answer.out and width("matrix.png") > 500
    net = st.load(model / "model.safetensors")
    expected, _ = inspect.matrix(net, (1, 8, 8), node="conv")
    np.testing.assert_array_equal(sparse.load_npz("conv.npz").toarray(), expected.toarray())
    answer = cli("show", "matrix", model)
    assert answer.code == 2 and "'relu' (map) is not linear" in answer.err
    answer = cli("show", "matrix", model, "--layer", "conv", "--npz", "conv.npy")
    assert answer.code == 2 and "ends in .npz" in answer.err


def test_activations(cli, width):
    assert cli("show", "activations", "relu", "gelu").code == 0
    assert width("activations.png") > 500
    answer = cli("show", "activations", "rleu")
    assert answer.code == 2 and "Did you mean 'relu'" in answer.err


def test_a_roofline(cli, net, width):
    answer = cli("show", "roofline", net, "--input", "1,8,8", "--seconds", 0)
    assert answer.code == 0, answer.err
    assert "GFLOP/s" in answer.out and "conv" in answer.out and width("roofline.png") > 500
    found = cli("show", "roofline", net, "--input", "1,8,8", "--seconds", 0, "--json").json
    assert found["input_shape"] == [1, 8, 8] and found["peak"] > 0


def test_equivariance(cli, model, onnx, picture, width):
    answer = cli("interpret", "equivariance", model, picture)
    assert answer.code == 0, answer.err
    assert "shift by 0, 1, 2, 4 (pixels); 1 image" in answer.out
    assert width("equivariance.png") > 500
    arguments = ("--transform", "rotate", "--amounts", "0,90", "--layer", "conv", "--json")
    found = cli("interpret", "equivariance", onnx, picture, picture, *arguments).json
    assert [layer["name"] for layer in found["layers"]] == ["conv"]
    assert found["layers"][0]["error"][0] == 0 and found["amounts"] == [0, 90]
    for option, value, said in (
        ("--amounts", "1;2", "expected numbers, as 0,1,2.5; got '1;2'"),
        ("--direction", "1", "expected two numbers, as 0,1; got '1'"),
        ("--transform", "shfit", "Did you mean 'shift'"),
        ("--layer", "cnov", "Did you mean 'conv'"),
    ):
        answer = cli("interpret", "equivariance", model, picture, option, value)
        assert answer.code == 2 and said in answer.err


@pytest.mark.parametrize(
    "command",
    ["show filters", "show maps", "show slide", "show matrix", "show activations", "show roofline",
     "interpret equivariance"],
)  # fmt: skip
def test_each_command_has_examples(cli, command):
    answer = cli(*command.split(), "--help")
    assert answer.code == 0 and f"striate {command} " in answer.out.split("Examples:")[1]
