"""Costs: textbook numbers, algorithms, sparse against dense."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path

import pytest

import striate as st
from striate import inspect, nn
from striate.errors import OptionError

FACTS = json.loads((Path(__file__).parents[1] / "data" / "facts.json").read_text(encoding="utf-8"))
BY_ID = {fact["id"]: fact for fact in FACTS}


def test_the_edge_detector() -> None:
    fact = BY_ID["edge-cost"]
    edge = nn.Conv2d(1, 1, (1, 2), bias=False)
    found = inspect.sparse_versus_dense(edge, (1, 280, 320))
    assert found.shape == (1, *reversed(fact["outputs"]))
    assert found.operations == fact["operations"] == inspect.cost(edge, (1, 280, 320)).operations
    assert found.dense_entries == fact["dense_entries"]
    assert found.dense_operations == pytest.approx(fact["dense_operations_about"], rel=1e-3)
    assert found.entries == 2 * 280 * 319 and found.weights == 2
    assert "267,960 operations with 2 weights" in str(found)


def test_a_dense_layer() -> None:
    pixels = nn.Conv2d(1, 1, 1, bias=False)
    found = inspect.sparse_versus_dense(pixels, (1, 512, 512))
    assert found.dense_entries == BY_ID["dense-512"]["expected"]


@pytest.mark.parametrize(("kernel", "name"), [(5, "params-10x5x5x3"), (3, "params-10x3x3x3")])
def test_parameters(kernel: int, name: str) -> None:
    assert inspect.cost(nn.Conv2d(3, 10, kernel), (3, 32, 32)).parameters == BY_ID[name]["expected"]


def test_a_network() -> None:
    found = inspect.cost(st.models.build("lenet5"), (1, 28, 28))
    assert (found.parameters, found.multiply_adds) == (61_706, 416_520)
    assert found.shape == (10,) and found.multiplications == {}
    assert found.bytes_moved > 4 * (found.parameters + found.activations)
    assert found.intensity == found.operations / found.bytes_moved


def test_bytes_moved() -> None:
    found = inspect.cost(nn.Conv2d(2, 3, 3), (2, 6, 7))
    assert found.bytes_moved == 4 * (2 * 6 * 7 + 3 * 2 * 9 + 3 + 3 * 4 * 5)
    assert inspect.cost(nn.Flatten(), (2, 3, 4)).bytes_moved == 0
    summary = st.summary(nn.Conv2d(2, 3, 3), (2, 6, 7))
    assert summary.bytes_moved == summary.rows[0].bytes_moved == found.bytes_moved
    assert summary.to_dict()["bytes_moved"] == found.bytes_moved
    assert "bytes moved" in summary.text()


def test_multiplications_by_algorithm() -> None:
    found = inspect.cost(nn.Conv2d(8, 16, 3, padding=1), (8, 32, 32)).multiplications
    assert found["direct"] == 8 * 16 * 9 * 32 * 32
    assert found["direct"] / found["winograd2"] == pytest.approx(9 * 4 / 16)
    assert found["direct"] / found["winograd4"] == pytest.approx(9 * 16 / 36)
    large = inspect.cost(nn.Conv2d(8, 16, 31, padding=15), (8, 128, 128)).multiplications
    assert set(large) == {"direct", "fft"} and large["fft"] < large["direct"] / 10
    assert set(inspect.cost(nn.Conv1d(2, 2, 3), (2, 9)).multiplications) == {"direct", "fft"}
    strided = inspect.cost(nn.Conv2d(2, 2, 3, stride=2), (2, 9, 9)).multiplications
    assert set(strided) == {"direct"}
    assert inspect.cost(nn.ReLU(), (2, 9, 9)).multiplications == {}


def test_graphs_and_what_is_refused() -> None:
    graph = nn.Conv2d(1, 2, 3).to_graph((1, 8, 8))
    assert inspect.cost(graph).shape == (2, 6, 6)
    assert inspect.cost(graph, (1, 10, 10)).shape == (2, 8, 8)
    with pytest.raises(OptionError, match="sparse_versus_dense: expected one layer; got 2 steps"):
        inspect.sparse_versus_dense(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    with pytest.raises(OptionError, match="expected a network whose input shape is known"):
        inspect.cost(nn.Conv2d(1, 2, 3))


@pytest.mark.parametrize("name", ["matrix", "convert", "cost"])
def test_examples(name: str) -> None:
    pytest.importorskip("scipy.sparse", reason="scipy is not installed")
    assert doctest.testmod(importlib.import_module(f"striate.inspect.{name}")).failed == 0
