"""`striate explain`: gradients, back, pixels, figures, ONNX files, and what is refused."""

from __future__ import annotations

import pytest

import striate as st
from striate import nn


def test_back_and_pixels(cli, model, picture):
    base = cli("explain", model, picture, "--layer", "fc", "--json").json
    back = cli("explain", model, picture, "--layer", "fc", "--back", "0", "--json").json
    assert base["node"] == "fc" and back["node"] in ("flatten", "pool")
    twice = cli("explain", model, picture, "--layer", "fc", "--back", 0, "--back", 0)
    assert twice.code == 0 and "conv[" in twice.out
    tree = cli("explain", model, picture, "--layer", "fc", "--pixels", "2")
    assert "made of" in tree.out and "pixel input[0, " in tree.out
    data = cli("explain", model, picture, "--layer", "fc", "--pixels", "2", "--json").json
    assert data["node"] == "fc" and len(data["parts"]) <= 2
    text = cli("explain", model, picture, "--layer", "fc", "--at", "3").out
    assert "float32, in the order k" in text


class Difference(nn.Module):
    """Two pictures of different sizes, a layer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3, stride=2, padding=1)

    def forward(self, near, far):
        return self.near(near) - self.far(far)


def test_a_picture_for_each_input(cli, picture, tmp_path, width):
    path = tmp_path / "two.safetensors"
    st.save(Difference(), path, input_shape=[(1, 10, 10), (1, 16, 16)])
    both = (picture, picture)
    answer = cli("explain", path, *both, "--layer", "sub", "--pixels", 6, "--figure", "two.png")
    assert answer.code == 0, answer.err
    assert answer.out.count(": PNG, 16 × 16") == 2 and width("two.png") > 400
    assert "pixel input[0, " in answer.out and "pixel input_1[0, " in answer.out
    found = cli("explain", path, *both, "--gradient", "far.weight", "--json").json
    assert found["images"] == [str(picture)] * 2 and len(found["conversions"]) == 2
    answer = cli("explain", path, picture, "--layer", "sub")
    assert answer.code == 2 and "IMAGE: expected a picture for each input" in answer.err
    assert "input (1, 10, 10), input_1 (1, 16, 16); got 1." in answer.err


def test_gradients(cli, model, picture):
    answer = cli("explain", model, picture, "--gradient", "conv.weight", "--at", "0,0,1,1")
    assert answer.code == 0, answer.err
    assert "to conv.weight[0, 0, 1, 1]" in answer.out and "dw[o, c, p, q] ← Σ" in answer.out
    assert "agrees within float32 rounding" in answer.out
    found = cli("explain", model, picture, "--gradient", "fc.bias", "--target", "2", "--json").json
    assert found["of"] == "fc[2]" and found["at"] == [2] and found["value"] == 1.0
    loss = ("--loss", "cross_entropy", "--label", "3")
    found = cli("explain", model, picture, "--gradient", "fc.bias", *loss, "--at", 3, "--json").json
    assert -1 < found["value"] < 0 and found["of"] == "the loss cross_entropy of fc"
    squared = cli("explain", model, picture, "--gradient", "conv", "--loss", "mse", "--label", "3")
    assert "the loss mse_loss of fc" in squared.out
    back = cli("explain", model, picture, "--gradient", "conv.weight", *loss, "--back", "0")
    assert "to conv[" in back.out


def test_figures(cli, model, picture, width):
    for name, more in {
        "number.png": ["--layer", "conv"],
        "tree.png": ["--layer", "fc", "--pixels", "3"],
        "gradient.png": ["--gradient", "conv.weight"],
    }.items():
        answer = cli("explain", model, picture, *more, "--figure", name)
        assert answer.code == 0 and f"wrote {name}" in answer.out, answer.err
        assert width(name) > 500


def test_an_onnx_file(cli, model, picture):
    pytest.importorskip("onnx")
    net = st.load(model / "model.safetensors")
    st.export_onnx(net, "net.onnx")
    layer = next(n.name for n in st.import_onnx("net.onnx").graph.steps if n.op == "conv2d")
    at = ("--at", "1,2,3", "--background", "dark", "--json")
    found = cli("explain", "net.onnx", picture, "--layer", layer, *at).json
    own = cli("explain", model, picture, "--layer", "conv", *at).json
    assert found["value"] == pytest.approx(own["value"], rel=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layer", "zebra"], "--layer: unknown layer 'zebra'. There is: conv,"),
        (["--layer", "conv", "--target", "1"], "expected only with --gradient"),
        (["--layer", "conv", "--back", "99"], "expected a number that was read, from 0 to"),
        (["--layer", "conv", "--back", "0"], "which is the image: nothing is behind it"),
        (["--gradient", "conv.weigth"], "no node 'conv.weigth'. Did you mean 'conv.weight'?"),
        (["--gradient", "conv.bias", "--at", "4"], "(0…3) in 'conv.bias', shape (4,)"),
        (["--gradient", "conv.bias", "--loss", "mse"], "--loss, --label: expected both or none"),
        (["--gradient", "conv.bias", "--loss", "mse", "--label", "10"], "a class from 0 to 9"),
        (["--gradient", "conv.bias", "--pixels", "2"], "--pixels: expected for activations only"),
        (["--layer", "conv", "--figure", "a.bmp"], "unknown format 'bmp'"),
        (["--gradient", "conv.bias", "--target", "x"], "--target: expected whole numbers"),
    ],
)
def test_refusals(cli, model, picture, more, message):
    answer = cli("explain", model, picture, *more)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1
