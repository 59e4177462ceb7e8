"""`striate bench`: what it says of a network, its layers and other libraries, and bad input.

No speeds are checked.
"""

from __future__ import annotations

import pytest

from striate.measure import peers

CONV = """\
from striate import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(24)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        x = self.pool(self.relu(self.bn(self.conv(x))))
        return self.fc(x.flatten(1))
"""
SHORT = ("--seconds", 0, "--threads", 1)


@pytest.fixture
def conv(tmp_path):
    path = tmp_path / "conv.py"
    path.write_text(CONV, encoding="utf-8")
    return path


def test_a_network_layer_by_layer(cli, conv):
    answer = cli("bench", f"{conv}:Net", "--input", "3,20,24", "--batch", 2, *SHORT)
    assert answer.code == 0, answer.err
    assert "inference, images of 3×20×24, batch 2, 1 thread" in answer.out
    assert "conv + bn + relu" in answer.out
    assert "311,040" in answer.out
    assert "memory: parameters" in answer.out


def test_as_json(cli, conv):
    found = cli("bench", conv, "--input", "3,20,24", *SHORT, "--json").json
    assert [row["name"] for row in found["contenders"]] == ["striate"]
    assert sum(layer["forward"] for layer in found["layers"]) == pytest.approx(1.0)
    assert found["operations"] == 2 * (20 * 24 * 24 * 27 + 24 * 5)
    assert found["memory"]["parameters"] == 4 * (24 * 27 + 4 * 24 + 24 * 5 + 5)
    assert found["peak_gflops"] > 0 and found["build_seconds"] > 0


def test_training(cli, conv):
    answer = cli("bench", conv, "--input", "3,12,12", "--batch", 3, "--training", *SHORT)
    assert answer.code == 0, answer.err
    assert "training step" in answer.out
    assert "backward" in answer.out
    found = cli("bench", conv, "--input", "3,12,12", "--batch", 3, "--training", *SHORT, "--json")
    rows = {row["name"]: row for row in found.json["layers"]}
    assert rows["conv"]["backward"] > 0 and rows["conv"]["forward"] > 0
    assert sum(r["forward"] + r["backward"] for r in rows.values()) == pytest.approx(1.0)
    assert found.json["memory"]["gradients and optimiser"] == 2 * found.json["memory"]["parameters"]


def test_the_whole_of_a_small_network(cli, model):
    answer = cli("bench", model, *SHORT)
    assert answer.code == 0, answer.err
    assert "images of 1×8×8" in answer.out
    assert "not timed apart" in answer.out
    assert cli("bench", "lenet5", "--training", "--batch", 8, *SHORT).code == 0


def test_peers_that_are_not_there(cli, conv, monkeypatch):
    monkeypatch.setattr(peers, "versions", dict)
    answer = cli("bench", conv, "--input", "3,12,12", "--peers", *SHORT)
    assert answer.code == 0, answer.err
    for name in ("torch", "onnxruntime", "openvino"):
        assert f"{name}: not installed" in answer.out


@pytest.mark.peer
def test_peers(cli, conv):
    for name in ("torch", "onnxruntime", "openvino"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    found = cli("bench", conv, "--input", "3,12,12", "--peers", *SHORT, "--json").json
    others = {row["name"]: row["difference"] for row in found["contenders"][1:]}
    assert set(others) == {"torch", "torch channels_last", "onnxruntime", "openvino"}
    assert max(others.values()) < 1e-5
    found = cli("bench", conv, "--input", "3,12,12", "--peers", "--training", *SHORT, "--json").json
    assert len(found["contenders"]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet19",), "resnet19"),
        (("lenet5", "--batch", 0), "--batch"),
        (("lenet5", "--input", "1,5"), "conv1"),
        (("lenet5", "--input", "1,32,32"), "fc1"),
        (("unet", "--input", "1,16,16", "--training"), "expected a classifier"),
        (("lenet5", "--input", "one"), "--input: expected the shape of one image"),
    ],
)
def test_bad_input(cli, arguments, said):
    answer = cli("bench", *arguments, *SHORT)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_help(cli):
    answer = cli("bench", "--help")
    assert answer.code == 0
    assert "--peers" in answer.out and "Examples:" in answer.out
