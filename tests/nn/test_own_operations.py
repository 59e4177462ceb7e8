"""Layers and operations from outside the library: natively, trained, saved, and refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.formula.expression import Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import Operation, require_attributes, require_rank
from striate.formula.operations import OPERATIONS, find_operation, register

n, c, i, j, p, q = axes("n c i j p q")
x, w = Tensor("x"), Tensor("w")


def diagonal(channels: int = 2) -> nn.Formula:
    body = Sum((p,), x[n, c, i + p, j + p] * w[c, p])
    return nn.Formula((n, c, i, j), body, parameters={"w": (channels, 3)})


class Scaled(Operation):
    """`y[n,c,i,j] = factor · Σ_p x[n,c,i+p,j]·w[c,p]`."""

    name = "test_scaled_columns"
    arguments = ("x", "w")
    parameters = ("w",)
    attributes = ("factor",)

    def shape(self, attributes: Any, shapes: Any) -> tuple[int, ...]:
        require_attributes(self.name, attributes, self.attributes)
        require_rank(self.name, "x", shapes[0], "channels, height, width")
        return self.formula(attributes, self.full_shapes(attributes, shapes)).shape[1:]

    def formula(self, attributes: Any, shapes: Any) -> Formula:
        body = Sum((p,), x[n, c, i + p, j] * w[c, p]) * float(attributes["factor"])
        return Formula.infer((n, c, i, j), body, {"x": shapes[0], "w": shapes[1]})


@pytest.fixture
def scaled() -> Any:
    register(Scaled())
    yield
    del OPERATIONS[Scaled.name]
    find_operation.cache_clear()


def images(count: int = 5) -> Any:
    return np.random.default_rng(0).normal(size=(count, 2, 6, 7)).astype(np.float32)


def test_a_formula_is_a_layer() -> None:
    st.manual_seed(0)
    layer, pictures = diagonal(), images()
    weights = layer.w.data
    expected = sum(
        pictures[:, :, k : k + 4, k : k + 5] * weights[:, k, None, None] for k in range(3)
    )
    assert layer(pictures) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert layer(pictures[:0]).shape == (0, 2, 4, 5)
    assert list(layer.state_dict()) == ["w"]
    assert "Σ[p]" in repr(layer)
    assert np.abs(weights).max() <= 1 / np.sqrt(3)


def test_it_trains_and_travels(tmp_path: Any) -> None:
    st.manual_seed(1)
    net = nn.Sequential(diagonal(), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3))
    pictures = images(96)
    labels = pictures[:, 0, :3, :3].sum((1, 2)) > 0
    before = net[0].w.data.copy()
    run = st.fit(
        net,
        (pictures, labels.astype(np.int64)),
        epochs=20,
        optimizer=st.optim.Adam(lr=0.02),
        progress=False,
        seed=0,
    )
    assert run.history[-1]["loss"] < run.history[0]["loss"] / 2
    assert not np.array_equal(before, net[0].w.data)
    st.save(net, tmp_path / "own.safetensors")
    assert np.array_equal(st.load(tmp_path / "own.safetensors")(pictures), net(pictures))


def test_a_registered_operation(scaled: None, tmp_path: Any) -> None:
    layer = nn.Operation(Scaled.name, {"w": np.ones((2, 3))}, factor=2.0)
    pictures = images()
    expected = 2 * sum(pictures[:, :, k : k + 4] for k in range(3))
    assert layer(pictures) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    st.save(nn.Sequential(layer), tmp_path / "scaled.safetensors", input_shape=(2, 6, 7))
    assert st.load(tmp_path / "scaled.safetensors")(pictures) == pytest.approx(expected, rel=1e-5)


def test_files_with_unknown_operations(tmp_path: Any) -> None:
    register(Scaled())
    layer = nn.Sequential(nn.Operation(Scaled.name, {"w": np.ones((2, 3))}, factor=2.0))
    layer(images())
    st.save(layer, tmp_path / "scaled.safetensors")
    del OPERATIONS[Scaled.name]
    find_operation.cache_clear()
    with pytest.raises(ModelError, match="unknown operation 'test_scaled_columns'"):
        st.load(tmp_path / "scaled.safetensors")


def test_what_is_refused(scaled: None) -> None:
    with pytest.raises(OptionError, match="a name of its own"):
        register(type("Other", (Scaled,), {"name": "conv2d"})())
    with pytest.raises(OptionError, match="batch axis alone as the first index"):
        nn.Formula((n + i, j), x[n, i, j])
    with pytest.raises(OptionError, match="reads a tensor at the batch axis"):
        nn.Formula((n, c), w[c, 0])
    with pytest.raises(OptionError, match="expected parameters among x, w; got 'v'"):
        nn.Formula((n, c), x[n, c] * w[c], parameters={"v": (2,)})
    with pytest.raises(OptionError, match="expected an array or a shape for 'w'"):
        nn.Formula((n, c), x[n, c] * w[c], parameters={"w": "normal"})
    with pytest.raises(ShapeError, match=r"axis 'c' to have 2 values, as elsewhere"):
        diagonal(3)(images())
    with pytest.raises(ShapeError, match="expected inputs x, w"):
        nn.Formula((n, c), x[n, c] * w[c])(images()[:, :, 0, 0])
    with pytest.raises(ModelError, match="unknown operation 'blurr'"):
        nn.Operation("blurr")


@pytest.mark.parametrize(
    "damage",
    [
        {"body": ["read", "x"]},
        {"body": ["os.system", 1]},
        {"body": ["sum", "p", 1.0]},
        {"output": [[["n", 1], 0, 0, 1, []]]},
        {"output": [[[["n", 1.5]], 0, 0, 1, []]]},
        {"sizes": {"p": 0}},
        {"sizes": {"p": "many"}},
        {"padding": {"x": [[-1, 0]]}},
        {"outside": {"z": 1.0}},
    ],
)
def test_damaged_formulas(damage: dict[str, Any]) -> None:
    graph = nn.Sequential(diagonal()).to_graph((2, 6, 7)).to_json()
    for node in graph["nodes"]:
        if node["op"] == "formula":
            node["attributes"] |= damage
    with pytest.raises((ModelError, OptionError), match=r"expected|damaged"):
        st.Graph.from_json(graph)
