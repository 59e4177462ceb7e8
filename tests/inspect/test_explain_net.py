"""`st.explain`: any number of any network, in its stated order, and back to the pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.inspect import Explanation
from striate.inspect.explain_rounding import ulps


class Residual(nn.Module):
    """A bit of everything that is linear but for ReLUs and maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(24, 3)

    def forward(self, x: Any) -> Any:
        y = self.relu(self.norm(self.conv1(x)))
        y = self.relu(self.conv2(y) + y)
        y = nn.functional.cat([self.pool(y), self.pool(y)[:, :2]], 1)
        return self.fc(y[:, 2:].flatten(1))


class LastState(nn.Module):
    """What an LSTM gives at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.lstm(x)[0][:, 1]


def network() -> Residual:
    st.manual_seed(1)
    net = Residual()
    rng = np.random.default_rng(0)
    net.norm.running_mean[...], net.norm.running_var[...] = rng.normal(size=4), rng.random(4) + 0.5
    return net


X = np.random.default_rng(2).random((2, 2, 5, 7)).astype("f4")
LAYERS = ["conv1", "norm", "relu", "conv2", "pool", "fc"]


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_number_of_every_layer(backend: str) -> None:
    net = network()
    for layer in [node.name for node in net.to_graph((2, 5, 7)).steps]:
        found = st.explain(net, X, layer, sample=1, backend=backend)
        assert found.agrees and found.node == layer and found.sample == 1, found.text()
    assert all(module.training for module in net.modules()), "the network is left as it was"
    exact = st.explain(net, X, "fc", 2, sample=1, backend="reference")
    assert exact.native == pytest.approx(exact.value, rel=1e-6)
    assert exact.value == pytest.approx(float(net.eval()(X)[1, 2]), rel=1e-5)


def test_the_place_by_default_is_where_the_output_is_greatest() -> None:
    net = network().eval()
    values = net.program((2, 5, 7)).values(X, net.state_dict(), ["conv1"])["conv1"]
    found = st.explain(net, X[0], "conv1")
    assert found.at == np.unravel_index(values[0].argmax(), values[0].shape)
    of_channel = st.explain(net, X, "conv1", 3, sample=1)
    assert of_channel.at[0] == 3 and of_channel.stages[0].native == values[1, 3].max()
    assert st.explain(net, X[0], "fc", 1).at == st.explain(net, X[0], "fc", (1,)).at == (1,)


def test_loaded_and_imported_networks(tmp_path: Path) -> None:
    net = network().eval()
    net(X)
    expected = st.explain(net, X[0], "conv2", (1, 2, 3))
    st.save(net, tmp_path / "net.safetensors")
    again = st.explain(st.load(tmp_path / "net.safetensors"), X[0], "conv2", (1, 2, 3))
    assert again.products is not None
    np.testing.assert_array_equal(again.products, expected.products)
    pytest.importorskip("onnx")
    st.export_onnx(net, tmp_path / "net.onnx")
    imported = st.import_onnx(tmp_path / "net.onnx")
    name = next(n.name for n in imported.graph.steps if n.op == "linear")
    found = st.explain(imported, X[0], name, 0)
    assert found.agrees
    assert found.value == pytest.approx(st.explain(net, X[0], "fc", 0).value, rel=1e-5)


# ---- the order of summation ----------------------------------------------------------------------


def test_the_sum_in_its_stated_order() -> None:
    """Written out: c outermost, q fastest, every product and every sum rounded; then the bias."""
    net = network().eval()
    found = st.explain(net, X[0], "conv1", (2, 1, 3)).stages[0]
    x = np.pad(X[0], ((0, 0), (1, 1), (1, 1)))[:, 1:4, 3:6]
    w, b = net.conv1.weight.data[2], net.conv1.bias.data[2]
    total, fused = np.float32(0), np.float32(0)
    for place in np.ndindex(2, 3, 3):
        total = np.float32(total + np.float32(x[place] * w[place]))
        fused = np.float32(float(fused) + float(x[place]) * float(w[place]))
    assert found.ordered.axes == ("c", "p", "q")
    assert found.ordered.value == np.float32(b + total)
    assert found.ordered.fused == np.float32(b + fused)
    assert found.value == pytest.approx(float(b) + (x.astype("f8") * w).sum(), rel=1e-15)
    text = st.explain(net, X[0], "conv1", (2, 1, 3)).text()
    assert "float32, in the order c, p, q" in text and "with fused multiply-adds" in text


def test_large_and_small_numbers_in_another_order() -> None:
    """2²⁴ + 1 − 2²⁴: exact 1, in float32 0; the text says how far the program is from both."""
    net = nn.Linear(3, 1, bias=False)
    net.weight.data[...] = [[2.0**24, 1.0, -(2.0**24)]]
    found = st.explain(net, np.ones((1, 3), "f4"), "linear", 0, backend="reference")
    assert found.value == 1.0 and found.stages[0].ordered.value == 0.0
    assert found.native == 1.0
    assert "1,065,353,216 ulps off (1.0e+00)" in found.text()
    data = found.to_dict()["stages"][0]["in_order"]
    assert data["axes"] == ["k"] and data["value"] == 0.0 and data["ulps"] == 0x3F800000


def test_ulps() -> None:
    one, tiny = np.float32(1), np.float32(2.0**-149)
    assert ulps(1.0, float(np.nextafter(one, np.float32(2)))) == 1
    assert ulps(float(-tiny), float(tiny)) == 2
    assert ulps(-1.0, -1.0) == 0 and ulps(1.0, np.nan) is None and ulps(np.nan, np.nan) == 0


# ---- back ----------------------------------------------------------------------------------------


def test_back_to_the_numbers_that_were_read() -> None:
    net = network().eval()
    found = st.explain(net, X[0], "fc", 1)
    first = found.contributions()[0]
    terms = found.stages[0].step.find("sum")
    assert terms is not None
    assert abs(first.amount) == pytest.approx(float(np.abs(terms.terms.values).max()))
    before = found.back()
    assert (before.node, before.at) == (first.node, first.at)
    assert before.value == pytest.approx(first.value, rel=1e-5)
    by_term = found.back(terms.terms[int(terms.terms.largest(1)[0])])
    assert (by_term.node, by_term.at) == (before.node, before.at)
    further = found
    while further.stages[0].node != "conv1":
        further = further.back()
    with pytest.raises(OptionError, match="got one of 'input', which is the image: nothing"):
        further.back()
    with pytest.raises(OptionError, match="from 0 to 23; got 99"):
        found.back(99)
    with pytest.raises(OptionError, match=r"got x\[0, 0, -1, -1\], w\[0, 0, 0, 0\], which is of"):
        corner = st.explain(net, X[0], "conv1", (0, 0, 0))
        corner.back(corner.stages[0].step.find("sum").terms[0])  # type: ignore[union-attr]
    assert found.behind("relu", (0, 1, 2)).node == "relu"
    with pytest.raises(OptionError, match=r"'fc\.weight', which is a parameter"):
        found.behind("fc.weight", (0, 0))


def test_all_pixels_and_all_biases_add_up() -> None:
    """With every number followed the parts are the gradient times the image, and constants."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2)
    )
    x = np.random.default_rng(0).random((1, 3, 3)).astype("f4")
    found = st.explain(net, x, "4", 0).to_pixels(most=1000)
    by_pixel = np.zeros((1, 3, 3))
    for pixel in found.pixels:
        by_pixel[pixel.at] += pixel.amount
    gradient = st.gradient(net, x[np.newaxis], np.array([[1.0, 0.0]], "f4"), to="input")[0]
    np.testing.assert_allclose(by_pixel, gradient * x, rtol=1e-5, atol=1e-7)
    assert by_pixel.sum() + _constants(found) == pytest.approx(found.value, rel=1e-6)


def _constants(trace: Any) -> float:
    return trace.constant + sum(_constants(part) for part in trace.parts)


def test_the_largest_are_followed_and_the_rest_summed_up() -> None:
    net = network().eval()
    found = st.explain(net, X[0], "fc", 1).to_pixels(most=2)
    level = [found]
    while level:
        for one in level:
            if one.parts:
                parts = sum(part.amount for part in one.parts) + one.rest + one.constant
                assert parts == pytest.approx(one.amount, rel=1e-5, abs=1e-9)
        level = [part for one in level for part in one.parts]
        assert len(level) <= 2
    assert found.pixels and found.depth >= 8
    shallow = st.explain(net, X[0], "fc", 1).to_pixels(most=3, depth=1)
    assert len(shallow.parts) == 3 and shallow.others == len(_owed(net)) - 3
    text = found.text()
    assert "pixel input[" in text and "more" in text and "%" in text
    assert max(map(len, text.splitlines())) <= 80
    assert json.loads(json.dumps(found.to_dict()))["parts"][0]["node"] == found.parts[0].node
    with pytest.raises(OptionError, match="got most=0, depth=None"):
        st.explain(net, X[0], "fc", 1).to_pixels(most=0)


def _owed(net: nn.Module) -> list[Any]:
    return st.explain(net, X[0], "fc", 1).contributions()


# ---- what it looks like --------------------------------------------------------------------------


def test_every_text_fits_a_terminal() -> None:
    net = nn.Sequential(network(), nn.Softmax(1)).eval()
    for layer in [node.name for node in net.to_graph((2, 5, 7)).steps]:
        for full in (False, True):
            text = st.explain(net, X[0], layer).text(full=full)
            assert max(map(len, text.splitlines())) <= 80, text
            assert not any(line != line.rstrip() for line in text.splitlines())


def test_the_switch_of_a_pooling_is_named() -> None:
    net = network().eval()
    found: Explanation = st.explain(net, X[0], "pool", (1, 0, 2))
    step = found.stages[0].step
    place = step.terms.reads[0].place(int(step.terms.values.argmax()))
    assert place.value == found.value
    assert f"the first at x[0, {place.index[1]}, {place.index[2]}, " in found.text()


def test_gates_show_their_functions() -> None:
    st.manual_seed(0)
    net = LastState()
    x = np.random.default_rng(0).normal(size=(1, 2, 3)).astype("f4")
    graph = net.to_graph((2, 3))
    state = next(node.name for node in graph.steps if node.op == "lstm_state")
    text = st.explain(net, x, state, 1).text()
    assert "sigmoid(" in text and "tanh(" in text and "c[0, 1]" in text and "agrees" in text


def test_faults_are_told() -> None:
    net = network()
    with pytest.raises(ModelError, match=r"unknown layer 'conv9'\. Did you mean 'conv"):
        st.explain(net, X[0], "conv9")
    with pytest.raises(
        ModelError, match=r"unknown layer 'zebra'\. There is: conv1, norm, relu, conv2, add"
    ):
        st.explain(net, X[0], "zebra")
    with pytest.raises(OptionError, match=r"\(0…3, 0…4, 0…6\) in the output of 'conv1', shape"):
        st.explain(net, X[0], "conv1", (0, 5, 0))
    with pytest.raises(OptionError, match=r"\(0…3, 0…4, 0…6\).* got \(4, 0, 0\)"):
        st.explain(net, X[0], "conv1", 4)
    with pytest.raises(OptionError, match="a sample from 0 to 1; got 5"):
        st.explain(net, X, "conv1", sample=5)
    with pytest.raises(ShapeError, match="in_channels=3"):
        st.explain(net, np.zeros((3, 5, 7)), "conv1")
    with pytest.raises(OptionError, match="expected a network; got int"):
        st.explain(3, X[0], "conv1")  # type: ignore[arg-type]
