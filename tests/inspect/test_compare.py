"""Two networks side by side: alignment, sums, distances, text, and what is refused."""

from __future__ import annotations

import doctest
import importlib
import json

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError
from striate.inspect import compare
from striate.inspect.compare import Distance

SHAPE = (1, 12, 12)


def network(middle: int = 1, channels: int = 4, seed: int = 0) -> nn.Module:
    st.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3), nn.ReLU()]
    for _ in range(middle):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(25 * channels, 3))


X = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype("f4")


def test_a_network_and_itself() -> None:
    net = network()
    found = compare(net, net, images=X)
    assert found.same and found.agreement == 1 and found.images == 5
    assert all(pair.outputs == Distance(0.0, 1.0) for pair in found.pairs)
    weighted = [pair.a.name for pair in found.pairs if pair.weights is not None and pair.a]
    assert weighted == ["0", "2", "6"]
    assert "Both have the same layers" in found.text()


def test_layers_more_stand_alone() -> None:
    found = compare(network(1), network(3), SHAPE)
    assert "".join(pair.mark for pair in found.pairs).count(">") == 4
    assert [pair.a.name if pair.a else None for pair in found.pairs if pair.mark != ">"] == [
        "0", "1", "2", "3", "4", "5", "6",
    ]  # fmt: skip
    totals = found.totals()
    assert totals["layers"] == (7, 11)
    assert totals["parameters"][1] - totals["parameters"][0] == 2 * (4 * 4 * 9 + 4)
    assert totals["receptive_field"] == ("6 (stride 2)", "10 (stride 2)")
    back = compare(network(3), network(1), SHAPE)
    assert [pair.mark for pair in back.pairs].count("<") == 4


def test_wider_layers_are_of_one_kind() -> None:
    found = compare(network(channels=4), network(channels=6), SHAPE)
    assert [pair.mark for pair in found.pairs] == ["≠"] * 6 + ["="]
    assert found.pairs[0].weights is None and found.pairs[-1].weights is None
    assert "+20" in found.text() and "params" in found.text()


def test_distances_by_hand() -> None:
    """Twice the weights of the last layer: distance 1 and cosine 1, of its output too."""
    a = nn.Sequential(nn.Flatten(), nn.Linear(144, 3, bias=False))
    b = nn.Sequential(nn.Flatten(), nn.Linear(144, 3, bias=False))
    b.load_state_dict({"1.weight": 2 * a.state_dict()["1.weight"]})
    last = compare(a, b, images=X).pairs[-1]
    assert last.weights is not None and last.outputs is not None
    assert last.weights.relative == pytest.approx(1) and last.weights.cosine == pytest.approx(1)
    assert last.outputs.relative == pytest.approx(1, rel=1e-5)
    negative = {"1.weight": -a.state_dict()["1.weight"]}
    b.load_state_dict(negative)
    found = compare(a, b, images=X)
    outputs = found.pairs[-1].outputs
    assert outputs is not None and outputs.cosine == pytest.approx(-1)
    assert found.agreement == 0


def test_running_statistics_count_as_weights() -> None:
    a, b = (nn.Sequential(nn.BatchNorm2d(1)) for _ in range(2))
    b.load_state_dict({**b.state_dict(), "0.running_mean": np.ones(1, "f4")})
    [pair] = compare(a, b, SHAPE).pairs
    assert pair.weights is not None and pair.weights.relative == pytest.approx(1 / 2**0.5)


def test_resnets_of_different_depth() -> None:
    found = compare(st.models.build("resnet20"), st.models.build("resnet32"), (3, 32, 32))
    marks = [pair.mark for pair in found.pairs]
    assert marks.count("<") == 0 and marks.count("≠") == 0
    assert marks.count(">") == 12 * 3 + 6  # 12 convolutions, norms and ReLUs, and 6 additions


def test_text_and_json() -> None:
    found = compare(network(1), network(2, seed=1), images=X)
    for width in (80, 100, 140):
        assert max(map(len, found.text(width).splitlines())) <= width
    text = found.text(120)
    assert "Δ outputs" in text and "> only in the second" in text and "On 5 images" in text
    data = json.loads(json.dumps(found.to_dict()))
    assert data["totals"]["layers"] == [7, 9] and not data["same"]
    assert data["layers"][0]["outputs"]["relative"] > 0.1
    assert data["layers"][0]["a"]["receptive_field"]["size"] == [3, 3]


def test_different_inputs() -> None:
    a, b = nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Sequential(nn.Conv2d(3, 2, 3))
    found = compare(a, b, SHAPE, shape_b=(3, 12, 12))
    assert found.pairs[0].mark == "="
    with pytest.raises(OptionError, match=r"\(1, 12, 12\) and \(3, 12, 12\)"):
        compare(a, b, SHAPE, X, shape_b=(3, 12, 12))
    with pytest.raises(OptionError, match="compare: expected a network whose input shape"):
        compare(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    with pytest.raises(OptionError, match="at least one image"):
        compare(a, a, SHAPE, X[:0])


def test_examples_in_docstrings() -> None:
    module = importlib.import_module("striate.inspect.compare")
    assert doctest.testmod(module).failed == 0
