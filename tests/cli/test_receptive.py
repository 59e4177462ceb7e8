"""`striate receptive`: tables, regions, units reached, effective fields, files, bad input."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import inspect, nn


def test_the_fields_of_all_layers(cli):
    answer = cli("receptive", "lenet5")
    assert answer.code == 0, answer.err
    lines = {line.split()[0]: line.split() for line in answer.out.splitlines() if line.strip()}
    assert lines["pool2"] == ["pool2", "16×5×5", "16", "4", "−2", "5.5"]
    found = cli("receptive", "lenet5", "--json").json
    want = inspect.receptive_field(st.models.build("lenet5"), (1, 28, 28)).to_dict()
    assert found == want
    answer = cli("receptive", "lenet5", "--layer", "pool2")
    assert "size     16 × 16" in answer.out and "stride   4" in answer.out


def test_what_a_unit_looks_at(cli, model, picture, width):
    answer = cli(
        "receptive", model, "--layer", "pool", "--at", "0,1", "--image", picture,
        "--out", "field.png", "--npy", "field.npy",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "unit (0, 1) looks at 16 numbers of the input, within (0…0, 0…3, 2…5)" in answer.out
    assert width("field.png") > 400
    mask = np.load("field.npy")
    assert mask.shape == (1, 8, 8) and mask.sum() == 16 and mask[0, :4, 2:6].all()
    found = cli("receptive", model, "--layer", "pool", "--at", "2,0,1", "--json").json
    assert found["clipped"] == [[0, 0], [0, 3], [2, 5]] and found["size"] == [4, 4]


def test_what_a_pixel_reaches(cli, model):
    answer = cli("receptive", model, "--layer", "conv", "--pixel", "0,1", "--npy", "units.npy")
    assert "pixel (0, 1) reaches 8 numbers of 'conv', within (0…3, 0…0, 0…1)" in answer.out
    assert np.load("units.npy").sum() == 8


def test_effective_fields(cli, model, picture, width):
    answer = cli(
        "receptive", model, "--layer", "pool", "--effective", "--samples", 4, "--out", "e.png"
    )
    assert answer.code == 0, answer.err
    assert "pool: effective field" in answer.out and width("e.png") > 400
    found = cli(
        "receptive", model, "--layer", "pool", "--effective", "--image", picture, "--at", "1,1",
        "--json", "--npy", "e.npy",
    ).json  # fmt: skip
    assert found["unit"] == [1, 1] and found["samples"] == 1
    assert found["theoretical"]["clipped"] == [[2, 5], [2, 5]]
    assert np.load("e.npy").shape == (8, 8)


def test_onnx_files(cli, model, tmp_path):
    pytest.importorskip("onnx")
    st.export_onnx(st.load(model / "model.safetensors"), tmp_path / "net.onnx")
    found = cli("receptive", tmp_path / "net.onnx", "--json").json
    assert [4, 4] in [layer["size"] for layer in found["layers"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", "1,1"], "--layer: expected the name of a layer"),
        (["--layer", "pool1", "--at", "a"], "--at: expected whole numbers, as 0,14,14; got 'a'"),
        (["--layer", "pool1", "--at", "14,0"], "shape (6, 14, 14), or one without"),
        (["--layer", "pool1", "--at", "1,1", "--pixel", "2,2"], "--pixel: expected alone"),
        (["--layer", "pool1", "--pixel", "2,2", "--out", "a.png"], "got --pixel"),
        (["--out", "a.png"], "A table is not drawn"),
        (["--layer", "pool9"], "unknown layer 'pool9'. Did you mean"),
        (["--input", "3,28,28", "--layer", "conv1", "--at", "40,0"], "shape (6, 28, 28)"),
    ],
)
def test_bad_input(cli, options, message):
    answer = cli("receptive", "lenet5", *options)
    assert answer.code == 2 and message in answer.err, answer.err


class Stereo(nn.Module):
    """Two pictures of one form, a layer for each."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 5)

    def forward(self, left, right):
        return self.left(left[:, :, 1:-1, 1:-1]) + self.right(right)


def test_of_several_inputs_one_is_named(cli, tmp_path):
    path = tmp_path / "stereo.safetensors"
    st.save(Stereo(), path, input_shape=[(1, 8, 8), (1, 8, 8)])
    answer = cli("receptive", path)
    assert answer.code == 2
    assert "expected the name of an input, as the network has 2; got none" in answer.err
    answer = cli("receptive", path, "--input-name", "input_1", "--layer", "right", "--at", "0,0")
    assert "looks at 25 numbers of input_1, within (0…0, 0…4, 0…4)" in answer.out
    found = cli("receptive", path, "--input-name", "input", "--layer", "add", "--json").json
    assert found["size"] == [3, 3] and found["start"] == [1, 1]
    answer = cli("receptive", path, "--input-name", "input", "--layer", "add", "--pixel", "1,1")
    assert "pixel (1, 1) reaches 2 numbers of 'add'" in answer.out
    assert "one of input, input_1; got 'x'" in cli("receptive", path, "--input-name", "x").err
    answer = cli("bench", path)
    assert answer.code == 2 and "bench: expected a network with one input; got 2" in answer.err
