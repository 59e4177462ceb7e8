"""Explanations: the arithmetic shown is the arithmetic done."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError
from striate.formula.activation import map_attributes
from striate.formula.expression import Var, exp, where
from striate.graph.graph import Graph, Node
from striate.inspect.explain import explain_node, needed_values
from striate.program import build_inference
from striate.program.reference import ReferenceInference

CONV = {"stride": [1, 1], "padding": [[1, 0], [1, 1]], "dilation": [1, 1], "groups": 1}
POOL = {"kernel": [2, 2], "stride": [2, 2], "padding": [[0, 0], [0, 0]], "dilation": [1, 1]}


def network() -> tuple[Graph, dict[str, Any], dict[str, Any]]:
    graph = Graph([Node("x", "input", shape=(2, 7, 6))])
    shapes = {"0.weight": (3, 2, 3, 3), "0.bias": (3,), "5.weight": (4, 18), "5.bias": (4,)}
    for name, shape in shapes.items():
        graph.append(Node(name, "parameter", shape=shape, batched=False))
    graph.apply("0", "conv2d", ("x", "0.weight", "0.bias"), CONV)
    elu = where(Var("x") > 0, Var("x"), exp(Var("x")) - 1)
    graph.apply("1", "map", ("0",), map_attributes(elu))
    graph.apply("2", "max_pool2d", ("1",), POOL)
    graph.apply("double", "map", ("2", "2"), map_attributes(Var("p") + Var("q"), ("p", "q")))
    graph.apply("join", "concat", ("2", "double"), {"axis": 1})
    graph.apply("half", "slice", ("join",), {"axis": 1, "start": 2, "stop": 4})
    graph.apply("3", "reshape", ("half",), {"shape": [-1]})
    graph.apply("5", "linear", ("3", "5.weight", "5.bias"))
    graph.outputs = ("5",)
    rng = np.random.default_rng(0)
    parameters = {n.name: rng.normal(size=n.shape).astype("f4") for n in graph.parameters}
    x = rng.normal(size=(2, 2, 7, 6)).astype("f4")
    names = ["x", *(n.name for n in graph.steps)]
    return graph, parameters, ReferenceInference(graph).values(x, parameters, names)


def test_every_number_of_every_node() -> None:
    graph, parameters, values = network()
    for node in graph.steps:
        for at in np.ndindex(*node.shape):
            found = explain_node(graph, parameters, values, node.name, at, sample=1)
            assert found.agrees, (node.name, at, found.text())
            last = found.stages[-1]
            expected = values[last.node][(1, *last.at)]
            assert found.native == expected
            assert found.value == pytest.approx(float(expected), rel=1e-6, abs=1e-6)


def test_a_convolution_and_its_activation() -> None:
    graph, parameters, values = network()
    found = explain_node(graph, parameters, values, "0", (2, 0, 5))
    assert [stage.node for stage in found.stages] == ["0", "1"]
    x, w = values["x"][0].astype("f8"), parameters["0.weight"].astype("f8")
    patch = np.pad(x, ((0, 0), (1, 0), (1, 1)))[:, 0:3, 5:8]
    assert found.patch is not None and np.array_equal(found.patch, patch)
    assert found.kernel is not None and np.array_equal(found.kernel, w[2])
    assert found.products is not None and np.array_equal(found.products, patch * w[2])
    assert found.sum == pytest.approx((patch * w[2]).sum(), rel=1e-14)
    assert found.bias == float(parameters["0.bias"][2])
    before = found.sum + found.bias
    assert found.stages[0].value == before
    assert found.value == pytest.approx(before if before > 0 else np.expm1(before), rel=1e-12)
    assert explain_node(graph, parameters, values, "1", (2, 0, 5)).stages == found.stages


def test_text_shows_patch_kernel_products_and_padding() -> None:
    graph, parameters, values = network()
    found = explain_node(graph, parameters, values, "0", (2, 0, 5))
    text = found.text(width=100)
    assert "0[2, 0, 5]: conv2d of x, w = 0.weight, b = 0.bias" in text
    assert "y[n, o, i, j] = b[o] + Σ[c,p,q] (x[n, c, i+p-1, j+q-1] · w[o, c, p, q])" in text
    assert "x[0, 1, -1…1, 4…6]" in text and "w[2, 1, 0…2, 0…2]" in text and "products" in text
    assert "pad" in text and "sum of 18 terms" in text and "bias" in text
    assert "where(" in text and "agrees within float32 rounding" in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(found.text(width=48).splitlines()) > len(text.splitlines())


def test_long_sums_are_abbreviated_unless_full() -> None:
    graph, parameters, values = network()
    found = explain_node(graph, parameters, values, "5", (1,))
    assert "more terms, part of the sum" in found.text()
    full = found.text(full=True)
    assert (
        "more terms" not in full
        and full.count("w[1, ") == found.stages[0].step.parts[1].terms[-1].at["k"] + 1
    )


def test_moved_numbers_are_followed() -> None:
    graph, parameters, values = network()
    found = explain_node(graph, parameters, values, "3", (4,))
    assert found.stages[-1].node == "3" and found.stages[-2].node == "half"
    assert found.stages[-3].node == "join"
    assert found.value == found.stages[-4].value
    assert "half[" in found.text()


def test_a_wrong_number_is_noticed() -> None:
    graph, parameters, values = network()
    values["1"] = values["1"].copy()
    values["1"][0, 2, 0, 5] += 1e-3
    found = explain_node(graph, parameters, values, "0", (2, 0, 5))
    assert not found.agrees and "DOES NOT AGREE" in found.text()
    assert found.stages[1].difference == pytest.approx(1e-3, rel=1e-2)
    values["1"][0, 2, 0, 5] = np.nan
    assert not explain_node(graph, parameters, values, "0", (2, 0, 5)).agrees


def test_only_what_is_needed_need_be_given() -> None:
    graph, parameters, values = network()
    for node in graph.steps:
        given = {name: values[name] for name in needed_values(graph, node.name)}
        at = (0,) * len(node.shape)
        assert explain_node(graph, parameters, given, node.name, at).agrees
    assert set(needed_values(graph, "0")) == {"0", "x", "1"}
    assert set(needed_values(graph, "2")) == {"1", "2"}


def test_json() -> None:
    graph, parameters, values = network()
    found = explain_node(graph, parameters, values, "0", (0, 0, 0)).to_dict()
    data = json.loads(json.dumps(found, allow_nan=False))
    assert data["node"] == "0" and data["at"] == [0, 0, 0] and data["agrees"] is True
    total = data["stages"][0]["step"]["parts"][1]
    assert total["kind"] == "sum" and len(total["terms"]) == 18
    assert total["terms"][0]["places"][0] == {
        "tensor": "x",
        "index": [0, 0, -1, -1],
        "value": 0.0,
        "padding": True,
    }


def test_normalised_and_transposed_numbers() -> None:
    st.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.LocalResponseNorm(3, alpha=0.5),
        nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1),
        nn.AdaptiveAvgPool2d((2, 3)),
    ).eval()
    rng = np.random.default_rng(0)
    net[1].running_mean[...], net[1].running_var[...] = rng.normal(size=4), rng.random(4) + 0.5
    graph, parameters = net.to_graph((2, 5, 6)), net.state_dict()
    x = rng.normal(size=(1, 2, 5, 6)).astype("f4")
    names = ["input", *(n.name for n in graph.steps)]
    values = ReferenceInference(graph).values(x, parameters, names)
    for node in graph.steps:
        for at in ((0, 0, 0), (1, 1, 2)):
            found = explain_node(graph, parameters, values, node.name, at)
            assert found.agrees, (node.name, at, found.text())
            assert found.text() and found.to_dict()["agrees"]
    assert (
        "(x[n, c, i, j] − mean[c])"
        in explain_node(graph, parameters, values, "1", (0, 0, 0)).text()
    )


def test_winograd_beside_black_pixels() -> None:
    """A sum of zeros gets the rounding of its tile's other numbers, and that is said to agree."""
    st.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False)).eval()
    x = np.zeros((1, 16, 32, 32), "f4")
    x[..., 3:] = np.random.default_rng(0).normal(size=(1, 16, 32, 29))
    graph, parameters = net.to_graph((16, 32, 32)), net.state_dict()
    names = ["input", *(n.name for n in graph.steps)]
    values = build_inference(graph).values(x, parameters, names)
    for column in range(4):
        found = explain_node(graph, parameters, values, "0", (5, 9, column))
        assert found.agrees, found.text()
    values["0"] = values["0"] + np.float32(1e-3)
    assert not explain_node(graph, parameters, values, "0", (5, 9, 0)).agrees


def test_faults_are_told() -> None:
    graph, parameters, values = network()
    with pytest.raises(ModelError, match=r"unknown layer 'jon'\. Did you mean 'join'"):
        explain_node(graph, parameters, values, "jon", (0,))
    with pytest.raises(
        OptionError, match=r"a place \(0…2, 0…5, 0…5\) in the output of '0', .*\(3, 0, 0\)"
    ):
        explain_node(graph, parameters, values, "0", (3, 0, 0))
    with pytest.raises(OptionError, match="a sample from 0 to 1; got 2"):
        explain_node(graph, parameters, values, "0", (0, 0, 0), sample=2)
    with pytest.raises(ModelError, match="expected the values of 'x'"):
        explain_node(graph, parameters, {}, "0", (0, 0, 0))
