"""Verified numbers: textbook examples whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.errors import ShapeError
from striate.formula.activation import map_attributes
from striate.formula.conv import Conv2d
from striate.formula.expression import Sum, Tensor, Var, axes, sigmoid
from striate.formula.formula import Formula
from striate.formula.operations import find_operation
from striate.shapes import conv_output_size, require_reached, unreached

FACTS = json.loads((Path(__file__).parents[1] / "data" / "facts.json").read_text("utf-8"))
BY_ID = {fact["id"]: fact for fact in FACTS}


def facts(*starts: str) -> list[Any]:
    found = [f for f in FACTS if f["id"].startswith(starts)]
    return [pytest.param(f, id=f["id"]) for f in found]


def image(rows: Any) -> np.ndarray:
    return np.array(rows, float)[None, None]


@pytest.mark.parametrize("fact", facts("xcorr", "stride-2", "true-convolution", "convolution-"))
def test_convolutions(fact: dict[str, Any]) -> None:
    kernel = np.array(fact["kernel"], float)
    if fact.get("flip"):
        kernel = kernel[::-1, ::-1]
    k = len(kernel)
    side = {"valid": 0, "same": k // 2, "full": k - 1}[fact["padding"]]
    settings = {
        "stride": [fact.get("stride", 1)] * 2,
        "padding": [[side, side]] * 2,
        "dilation": [1, 1],
        "groups": 1,
    }
    value = Conv2d().reference(settings, [image(fact["input"]), kernel[None, None]])
    assert value[0, 0].tolist() == fact["expected"]


@pytest.mark.parametrize("fact", facts("maxpool", "pool2x2"))
def test_pooling(fact: dict[str, Any]) -> None:
    k = fact.get("kernel_size", 2)
    settings = {"kernel": [k, k], "stride": [fact.get("stride", 2)] * 2, "padding": [[0, 0]] * 2}
    if "max" in fact["id"]:
        value = find_operation("max_pool2d").reference(
            {**settings, "dilation": [1, 1]}, [image(fact["input"])]
        )
    else:
        value = find_operation("avg_pool2d").reference(
            {**settings, "count_include_pad": True}, [image(fact["input"])]
        )
        value = value * 4 if "sum" in fact["id"] else value
    assert value[0, 0].tolist() == fact["expected"]


def test_relu() -> None:
    fact, back = BY_ID["relu-grid"], BY_ID["relu-vjp"]
    relu, attributes = find_operation("map"), map_attributes("relu")
    assert relu.reference(attributes, [fact["input"]]).tolist() == fact["expected"]
    assert relu.gradient(attributes, back["upstream"], [back["x"]])[0].tolist() == back["expected"]


def test_matrix_product() -> None:
    fact = BY_ID["matmul-vjp"]
    linear, w = find_operation("linear"), np.array(fact["w"]).T
    assert linear.reference({}, [fact["x"], w]).tolist() == fact["y"]
    dx, dw = linear.gradient({}, fact["upstream"], [fact["x"], w])
    assert dx is not None and dx.tolist() == fact["dx"]
    assert dw is not None and dw.T.tolist() == fact["dw"]


def test_sigmoid_neuron() -> None:
    fact = BY_ID["sigmoid-neuron"]
    (k,) = axes("k")
    (n,) = axes("n")
    total = Sum((k,), Tensor("x")[n, k] * Tensor("w")[k]) + fact["w"][2]
    neuron = Formula.infer((n,), sigmoid(total), {"x": (1, 2), "w": (2,)})
    tensors = {"x": [fact["x"]], "w": fact["w"][:2]}
    assert neuron.reference(**tensors)[0] == pytest.approx(fact["y"], rel=1e-15)
    assert neuron.gradient([1.0], **tensors)["x"][0] == pytest.approx(fact["dx"], rel=1e-14)


@pytest.mark.parametrize("fact", facts("size-7", "size-3", "size-2", "size-1"))
def test_sizes(fact: dict[str, Any]) -> None:
    assert conv_output_size(fact["n"], fact["k"], fact["s"], 2 * fact["p"]) == fact["expected"]


def test_misfit() -> None:
    fact = BY_ID["size-misfit"]
    n, k, s, p = (fact[key] for key in "nksp")
    assert conv_output_size(n, k, s, 2 * p) == fact["floor"] and unreached(n, k, s, p) == (6,)
    with pytest.raises(ShapeError, match=r"4/3 is not whole"):
        require_reached("conv2d", "width", n, k, s, p)


@pytest.mark.parametrize(("fact", "size"), [("params-10x5x5x3", 5), ("params-10x3x3x3", 3)])
def test_parameter_counts(fact: str, size: int) -> None:
    shapes = [(3, 32, 32), (10, 3, size, size), (10,)]
    settings = {"stride": [1, 1], "padding": [[0, 0]] * 2, "dilation": [1, 1], "groups": 1}
    formula = Conv2d().formula(settings, Conv2d().full_shapes(settings, shapes))
    count = sum(int(np.prod(formula.shapes[name])) for name in ("w", "b"))
    assert count == BY_ID[fact]["expected"]


def test_edge_detector_cost() -> None:
    fact = BY_ID["edge-cost"]
    i, j, p = axes("i j p")
    edge = Formula.infer(
        (i, j), Sum((p,), Tensor("x")[i + p, j] * Tensor("w")[p]), {"x": (320, 280), "w": (2,)}
    )
    assert list(edge.shape) == fact["outputs"]
    assert edge.cost().operations == fact["operations"]
    entries = 320 * 280 * edge.shape[0] * edge.shape[1]
    assert entries == fact["dense_entries"]
    assert 2 * entries == pytest.approx(fact["dense_operations_about"], rel=1e-3)


def test_dense_layer_of_images() -> None:
    a, b, c, d = axes("a b c d")
    size = 512
    dense = Formula.infer(
        (a, b),
        Sum((c, d), Tensor("x")[c, d] * Tensor("w")[a, b, c, d]),
        {"x": (size,) * 2, "w": (size,) * 4},
    )
    assert dense.cost().multiply_adds == BY_ID["dense-512"]["expected"]


def test_map_expression_names() -> None:
    assert map_attributes(2 * Var("x"))["expr"] == ["mul", 2.0, "x"]
