"""`striate show network`: the graph as a picture."""

from __future__ import annotations

import pytest

import striate as st


def test_a_network_by_name_file_and_pattern(cli, model, net, width):
    answer = cli("show", "network", "lenet5")
    assert answer.code == 0, answer.err
    assert "wrote network.svg" in answer.out
    for other, shape in ((model, "1,8,8"), (net, "1,8,8"), ("conv-relu-pool-softmax", "1,28,28")):
        answer = cli("show", "network", other, "--input", shape, "--out", "n.png", "--no-names")
        assert answer.code == 0, answer.err
    assert width("n.png") > 300


def test_an_onnx_file(cli, model, tmp_path):
    pytest.importorskip("onnx")
    st.export_onnx(st.load(model / "model.safetensors"), tmp_path / "net.onnx")
    answer = cli("show", "network", tmp_path / "net.onnx", "--no-fold", "--columns", 2)
    assert answer.code == 0, answer.err


def test_bad_input(cli, tmp_path):
    answer = cli("show", "network", "resnet19")
    assert answer.code == 2 and "Did you mean 'resnet18'" in answer.err
    answer = cli("show", "network", "lenet5", "--out", "net.bmp")
    assert answer.code == 2 and "bmp" in answer.err
    assert not (tmp_path / "net.bmp").exists()
