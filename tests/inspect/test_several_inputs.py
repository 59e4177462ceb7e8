"""Networks with several inputs: explained, summed up, their fields, drawn; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import interpret, nn, plot
from striate.errors import OptionError, ShapeError
from striate.inspect import compare, input_region, receptive_field, units_reached
from striate.nn import functional as F

SHAPES = ((1, 8, 8), (2, 9, 9))


class Two(nn.Module):
    """Two pictures of different forms, one convolution each, then joined."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3)
        self.b = nn.Conv2d(2, 4, 5, stride=2, padding=2)
        self.fc = nn.Linear(4, 3)

    def forward(self, left, right):
        y, z = F.relu(self.a(left)), F.relu(self.b(right))
        y, z = F.adaptive_avg_pool2d(y, 1).flatten(1), F.adaptive_avg_pool2d(z, 1).flatten(1)
        return self.fc(y * z + y)


class Siamese(nn.Module):
    """One convolution for two pictures of the same form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, left, right):
        return self.conv(left) - self.conv(right)


@pytest.fixture(scope="module")
def two():
    st.manual_seed(3)
    return Two()


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(3)
    return tuple(rng.normal(size=(2, *shape)).astype(np.float32) for shape in SHAPES)


def test_a_number_is_explained(two, pair):
    want = np.maximum(two.b(pair[1]), 0)
    found = st.explain(two, pair, "b", (1, 0, 2), sample=1)
    assert found.agrees and found.products.shape == (2, 5, 5)
    assert found.value == pytest.approx(float(want[1, 1, 0, 2]), abs=1e-6)
    whole = two(*pair)
    for layer in ("a", "mul", "fc"):
        assert st.explain(two, pair, layer).agrees
    assert st.explain(two, pair, "fc", (2,)).value == pytest.approx(float(whole[0, 2]), abs=1e-5)


def test_one_of_each_is_a_batch_of_one(two, pair):
    one = st.explain(two, tuple(x[1] for x in pair), "fc", (0,))
    assert one.value == st.explain(two, pair, "fc", (0,), sample=1).value


def test_pixels_of_both_inputs_are_reached(two, pair):
    found = st.explain(two, pair, "fc", (0,)).to_pixels(8)
    assert {pixel.node for pixel in found.pixels} == {"input", "input_1"}
    for pixel in found.pixels:
        image = pair[["input", "input_1"].index(pixel.node)]
        assert pixel.value == image[(0, *pixel.at)]
    figure = plot.trace(found, dict(zip(("input", "input_1"), pair, strict=True)))
    said = [text.get_text() for text in figure.texts]
    counts = [sum(p.node == name for p in found.pixels) for name in ("input", "input_1")]
    assert f"input: {counts[0]} pixel" in " ".join(said)
    assert f"input_1: {counts[1]} pixel" in " ".join(said)


@pytest.mark.parametrize("wrt", ["a.weight", "b.weight", "input", "input_1", "mul", "fc.bias"])
def test_a_gradient_is_explained(two, pair, wrt):
    found = st.explain_gradient(two, pair, wrt, target=1)
    assert found.agrees and found.value != 0
    if wrt.startswith("input"):
        upstream = np.zeros((2, 3), np.float32)
        upstream[0, 1] = 1
        both = st.vjp(two, pair)[1](upstream)
        own = both[["input", "input_1"].index(wrt)]
        assert found.value == pytest.approx(float(own[(0, *found.at)]), abs=1e-6)
    loss = st.explain_gradient(two, pair, wrt, loss="cross_entropy", targets=[0, 2])
    assert loss.agrees


def test_one_layer_for_both_inputs():
    net, rng = Siamese(), np.random.default_rng(0)
    pair = (rng.normal(size=(1, 6, 6)), rng.normal(size=(1, 6, 6)))
    found = st.explain(net, pair, "sub", (1, 2, 3))
    assert found.agrees
    weight = st.explain_gradient(net, pair, "conv.weight", (0, 0, 1, 1), layer="sub")
    assert len(weight.parts) == 2 and weight.agrees


def test_summary_and_comparison(two, pair):
    found = st.summary(two, SHAPES)
    assert found.input_shape == SHAPES
    assert found.receptive_fields is None
    assert found.to_dict()["input_shape"] == [[1, 8, 8], [2, 9, 9]]
    lines = found.text(100).splitlines()
    assert lines[2].split() == ["input", "1×8×8"] and lines[3].split() == ["input_1", "2×9×9"]
    assert st.summary(found.graph, ((1, 6, 6), (2, 9, 9))).multiply_adds < found.multiply_adds
    with pytest.raises(ShapeError, match=r"expected a shape for each of 2 inputs; got 1"):
        st.summary(found.graph, (1, 6, 6))
    same = compare(two, two, images=pair)
    assert same.images == 2 and same.agreement == 1
    assert all(pair.outputs.relative == 0 for pair in same.pairs)


def test_receptive_fields_are_of_one_input(two):
    left = receptive_field(two, SHAPES, input="input")
    right = receptive_field(two, SHAPES, input="input_1")
    assert left["a"].size == (3, 3) and not left["b"].reads
    assert right["b"].size == (5, 5) and right["b"].stride == (2, 2) and not right["a"].reads
    assert left.input_shape == (1, 8, 8) and right.input_shape == (2, 9, 9)
    assert left["fc"].whole == right["fc"].whole == (True, True)
    assert "does not depend" not in left.text() and "–" in left.text()
    with pytest.raises(OptionError, match=r"network has 2; got none.*one of: input, input_1"):
        receptive_field(two, SHAPES)
    with pytest.raises(OptionError, match=r"expected input to be one of input, input_1; got 'x'"):
        receptive_field(two, SHAPES, "fc", input="x")


def test_regions_are_of_one_input(two):
    found = input_region(two, SHAPES, "b", (0, 1, 1), input="input_1")
    assert found.clipped == ((0, 1), (0, 4), (0, 4)) and found.mask.shape == (2, 9, 9)
    assert input_region(two, SHAPES, "b", (0, 1, 1), input="input").count == 0
    reached = units_reached(two, SHAPES, (0, 0), "b", input="input_1")
    assert reached.clipped == ((0, 3), (0, 1), (0, 1))
    assert units_reached(two, SHAPES, (0, 0), "b", input="input").count == 0
    assert units_reached(two, SHAPES, (0, 0), "fc", input="input").count == 3


def test_it_is_drawn(two):
    figure = plot.network(two, SHAPES)
    said = [text.get_text() for text in figure.texts]
    assert "input" in said and "input_1" in said


def test_what_is_refused(two, pair):
    with pytest.raises(OptionError, match=r"for each argument of forward\(left, right\); got 1"):
        st.explain(two, pair[0], "a")
    with pytest.raises(ShapeError, match=r"expected as many samples of each input; got 2, 1"):
        st.explain(two, (pair[0], pair[1][:1]), "a")
    with pytest.raises(OptionError, match=r"saliency: expected a network with one input; got Two"):
        interpret.saliency(two, pair)
    probe = st.inspect.probe.Probe(two, SHAPES)
    with pytest.raises(ShapeError, match=r"tuple with an array for each .* got shape \(2, 1, 8"):
        probe.values(pair[0], ["a"])
    with pytest.raises(ShapeError, match=r"\(n, 2, 9, 9\) for 'input_1'; got shape \(2, 1, 8, 8\)"):
        probe.values((pair[0], pair[0]), ["a"])
    with pytest.raises(OptionError, match=r"with one input; got 2: input, input_1"):
        probe.batch(pair[0])
