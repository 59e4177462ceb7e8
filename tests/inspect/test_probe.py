"""A network laid open: values, gradients, modes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.inspect.probe import Probe


def network() -> nn.Sequential:
    st.manual_seed(3)
    layers = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4 * 9, 3))


X = np.random.default_rng(0).normal(size=(3, 2, 5, 5)).astype("f4")


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_values_are_those_of_evaluation(backend: str) -> None:
    net = network()
    probe = Probe(net, (2, 5, 5), backend=backend)
    found = probe.values(X, [probe.input, "2", probe.output])
    assert all(module.training for module in net.modules())
    net.eval()
    np.testing.assert_allclose(found[probe.output], net(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[probe.input], X)
    assert found["2"].shape == (3, 4, 3, 3) and found["2"].min() == 0


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_gradients_between_nodes(backend: str) -> None:
    """The chain rule: to the input through an inner layer, in two pieces and at once."""
    net = network().eval()
    probe = Probe(net, (2, 5, 5), backend=backend)
    up = np.random.default_rng(1).normal(size=(3, 3))
    value, whole = probe.gradient(X, probe.output, up)
    np.testing.assert_allclose(value, net(X), rtol=1e-5, atol=1e-6)
    inner = probe.gradient(X, probe.output, up, to="2")[1]
    pieces = probe.gradient(X, "2", inner)[1]
    np.testing.assert_allclose(whole, pieces, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole, st.gradient(net, X, up, to="input"), rtol=1e-4, atol=1e-6)
    by_function = probe.gradient(X, probe.output, lambda y: np.sign(y), to="2")[1]
    np.testing.assert_array_equal(
        by_function, probe.gradient(X, probe.output, np.sign(value), to="2")[1]
    )


def test_an_imported_network_is_a_network(tmp_path: Path) -> None:
    net = network().eval()
    net(X)
    st.save(net, tmp_path / "net.safetensors")
    again = st.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(
        Probe(again, (2, 5, 5)).values(X, ["2"])["2"], Probe(net, (2, 5, 5)).values(X, ["2"])["2"]
    )


def test_one_image_and_no_image() -> None:
    probe = Probe(network(), (2, 5, 5))
    assert probe.batch(X[0]).shape == (1, 2, 5, 5)
    assert probe.values(X[:0], ["2"])["2"].shape == (0, 4, 3, 3)
    assert probe.gradient(X[:0], probe.output, np.zeros((0, 3)))[1].shape == (0, 2, 5, 5)


def test_what_is_refused() -> None:
    probe = Probe(network(), (2, 5, 5), where="saliency")
    with pytest.raises(
        ModelError, match=r"saliency: unknown layer 'conv1'\. There is: 0, 1, 2, 4, 5"
    ):
        probe.values(X, ["conv1"])
    with pytest.raises(ModelError, match=r"saliency: unknown layer 'nine'"):
        probe.gradient(X, "nine", X)
    with pytest.raises(OptionError, match=r"place \(0…3, 0…2, 0…2\) in the output of '2'.*\(4, 0"):
        probe.place("2", (4, 0, 0))
    with pytest.raises(ShapeError, match=r"expected images \(n, 2, 5, 5\); got shape \(1, 6, 6\)"):
        probe.batch(np.zeros((1, 6, 6)))
    with pytest.raises(OptionError, match=r"expected a network; got function"):
        Probe(lambda x: x, (3,))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"expected a network with one input; got 2"):
        _ = Probe(Sum(), [(2,), (2,)]).input


class Sum(nn.Module):
    def forward(self, a: Any, b: Any) -> Any:
        return a + b
