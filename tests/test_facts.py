"""Every verified number of `data/facts.json`, through the public interface and native code.

The same facts are asked of single floors of the house in `formula`, `filters`, `inspect` and `nn`;
here none can be left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ShapeError
from striate.nn import functional as F

FACTS = json.loads((Path(__file__).parent / "data" / "facts.json").read_text(encoding="utf-8"))
Fact = dict[str, Any]


def image(rows: Any) -> np.ndarray[Any, Any]:
    return np.array(rows, np.float32)[None, None]


def convolution(fact: Fact) -> None:
    function = F.convolve2d if fact.get("flip") else F.conv2d
    settings = {"stride": fact.get("stride", 1), "padding": fact["padding"]}
    found = function(image(fact["input"]), image(fact["kernel"]), **settings)
    assert found[0, 0].tolist() == fact["expected"]
    if fact["padding"] == "full" or fact.get("flip"):
        return
    layer = nn.Conv2d(1, 1, len(fact["kernel"]), **settings, bias=False)
    layer.weight.data = image(fact["kernel"])
    assert layer(image(fact["input"]))[0, 0].tolist() == fact["expected"]


def image_filter(fact: Fact) -> None:
    settings = {"padding": fact["padding"], "algorithm": "direct"}
    found = st.filters.apply(np.array(fact["input"]), np.array(fact["kernel"]), **settings)
    assert found.tolist() == fact["expected"]
    convolution(fact)


def pooling(fact: Fact) -> None:
    kinds = {"max": nn.MaxPool2d, "average": nn.AvgPool2d, "sum": nn.SumPool2d}
    name = "max" if fact["id"].startswith("maxpool") else fact["id"].removeprefix("pool2x2-")
    layer = kinds[name](fact["kernel_size"], fact["stride"])
    assert layer(image(fact["input"]))[0, 0].tolist() == fact["expected"]


def relu(fact: Fact) -> None:
    x = np.array(fact["input"])
    assert nn.ReLU()(x).tolist() == F.relu(x).tolist() == fact["expected"]


def relu_gradient(fact: Fact) -> None:
    found = st.gradient(nn.ReLU(), np.array([fact["x"]]), [fact["upstream"]], to="input")
    assert found.tolist() == [fact["expected"]]


def matrix_product(fact: Fact) -> None:
    layer, x = nn.Linear(3, 4, bias=False), np.array(fact["x"])
    layer.weight.data = np.transpose(fact["w"])
    found = st.gradient(layer, x, np.array(fact["upstream"]), to=["input", "weight"])
    assert layer(x).tolist() == fact["y"]
    assert found["input"].tolist() == fact["dx"] and found["weight"].T.tolist() == fact["dw"]


def sigmoid_neuron(fact: Fact) -> None:
    net = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    net[0].weight.data, net[0].bias.data = [fact["w"][:2]], fact["w"][2:]
    x = np.array([fact["x"]])
    assert net(x)[0, 0] == pytest.approx(fact["y"], rel=1e-6)
    assert st.gradient(net, x, to="input")[0] == pytest.approx(fact["dx"], rel=1e-6)


def output_size(fact: Fact) -> None:
    x = np.ones((1, 1, fact["n"], fact["n"]))
    layer = nn.Conv2d(1, 1, fact["k"], fact["s"], fact["p"])
    assert layer(x).shape == (1, 1, fact["expected"], fact["expected"])


def misfit(fact: Fact) -> None:
    x, settings = np.ones((1, 1, fact["n"])), (1, 1, fact["k"], fact["s"], fact["p"])
    assert nn.Conv1d(*settings)(x).shape == (1, 1, fact["floor"])
    with pytest.raises(ShapeError, match=r"Conv1d: strict=True expected .* 4/3 is not whole"):
        nn.Conv1d(*settings, strict=True)(x)


def parameters(fact: Fact) -> None:
    size = int(fact["id"].split("-")[1].split("x")[1])
    layer = nn.Conv2d(3, 10, size)
    assert sum(p.data.size for p in layer.parameters()) == fact["expected"]
    assert st.summary(layer, (3, 32, 32)).parameters == fact["expected"]


def edge_cost(fact: Fact) -> None:
    edge = nn.Conv2d(1, 1, (1, 2), bias=False)
    found = st.inspect.sparse_versus_dense(edge, (1, 280, 320))
    assert found.shape == (1, *reversed(fact["outputs"]))
    assert found.operations == fact["operations"] and found.dense_entries == fact["dense_entries"]
    assert found.dense_operations == pytest.approx(fact["dense_operations_about"], rel=1e-3)


def dense_layer(fact: Fact) -> None:
    pixels = nn.Conv2d(1, 1, 1, bias=False)
    found = st.inspect.sparse_versus_dense(pixels, (1, 512, 512))
    assert found.dense_entries == fact["expected"]


# The first beginning of a fact's name that fits says what checks it.
CHECKS: dict[str, Callable[[Fact], None]] = {
    "xcorr-": convolution,
    "stride-": convolution,
    "true-convolution": convolution,
    "convolution-animation": convolution,
    "edge-cost": edge_cost,
    "edge-": image_filter,
    "binomial-blur": image_filter,
    "maxpool-": pooling,
    "pool2x2-": pooling,
    "relu-grid": relu,
    "relu-vjp": relu_gradient,
    "matmul-vjp": matrix_product,
    "sigmoid-neuron": sigmoid_neuron,
    "size-misfit": misfit,
    "size-": output_size,
    "params-": parameters,
    "dense-": dense_layer,
}


@pytest.mark.parametrize("fact", [pytest.param(fact, id=fact["id"]) for fact in FACTS])
def test_fact(fact: Fact) -> None:
    check = next((k for start, k in CHECKS.items() if fact["id"].startswith(start)), None)
    assert check is not None, f"nothing checks {fact['id']}"
    check(fact)


def test_every_fact_is_there() -> None:
    assert len(FACTS) == len({fact["id"] for fact in FACTS}) == 33
    for start in CHECKS:
        assert any(fact["id"].startswith(start) for fact in FACTS), f"{start} checks nothing"
