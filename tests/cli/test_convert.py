"""`striate convert`: what it writes and says, and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import striate as st


@pytest.fixture
def weights(cli) -> str:
    """A .pth file of the weights of a CIFAR ResNet with seven classes."""
    st.manual_seed(0)
    st.save_torch(st.models.build("resnet20", num_classes=7), "resnet20.pth")
    return "resnet20.pth"


def test_weights(cli, weights):
    answer = cli("convert", weights, "w.safetensors")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("w.safetensors: weights by name, ")
    assert answer.err == ""
    tensors, _ = st.formats.safetensors_file.load_tensors("w.safetensors")
    assert np.array_equal(tensors["conv1.weight"], st.load_torch(weights)["conv1.weight"])


def test_a_network_finds_its_number_of_classes(cli, weights):
    options = ("--model", "resnet20", "--input", "3,32,32", "--json")
    found = cli("convert", weights, "net.safetensors", *options).json
    assert found["kind"] == "network" and found["file"] == "net.safetensors"
    assert found["bytes"] == Path("net.safetensors").stat().st_size
    assert st.load("net.safetensors")(np.zeros((1, 3, 32, 32))).shape == (1, 7)
    again = cli("convert", "net.safetensors", "again.pth")
    assert again.code == 0 and "weights by name" in again.out


def test_onnx(cli, weights):
    pytest.importorskip("onnx")
    options = ("--model", "resnet20", "--input", "3,32,32")
    answer = cli("convert", weights, "net.onnx", *options)
    assert answer.code == 0, answer.err
    assert "net.onnx: a network" in answer.out


def test_large_files_say_that_they_are_read(cli, weights, monkeypatch):
    monkeypatch.setattr("striate.cli.convert._LARGE", 1)
    answer = cli("convert", weights, "w.npz")
    assert answer.err.startswith("reading resnet20.pth: ")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert cli("convert", weights, "w.npz").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.pth", "a.npz"), "error: none.pth: expected a file; there is none."),
        (("resnet20.pth", "a.h5"), "expected a name that ends in"),
        (("resnet20.pth", "a.onnx"), "--model resnet18"),
        (("resnet20.pth", "a.npz", "--key", "ema"), "expected an entry 'ema'"),
        (("resnet20.pth", "a.npz", "--model", "lenet5"), "load_state_dict: expected the"),
        (("resnet20.pth", "a.npz", "--input", "3,x"), "--input: expected the shape"),
    ],
)
def test_failures(cli, weights, arguments, message):
    answer = cli("convert", *arguments)
    assert answer.code == 2 and message in answer.err and answer.err.count("\n") == 1
    assert not Path(arguments[1]).exists()
