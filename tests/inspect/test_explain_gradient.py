"""`st.explain_gradient`: the terms that are shown are those that the gradient is a sum of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from tests.inspect.test_explain_net import X, network


def place_of(shape: tuple[int, ...], seed: int) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    return tuple(int(rng.integers(n)) for n in shape)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_gradients_to_everything(backend: str) -> None:
    """Parameters, layers and the input, of a net with a residual, a concatenation and slices."""
    net = network().eval()
    graph = net.to_graph((2, 5, 7))
    up = np.zeros((2, 3), "f4")
    up[1, 2] = 1
    nodes = [n for n in graph.nodes if "running" not in n]
    expected = st.gradient(net, X, up, to=nodes, backend="reference")
    for seed, name in enumerate(nodes):
        at = place_of(graph.nodes[name].shape, seed)
        found = st.explain_gradient(net, X, name, at, target=2, sample=1, backend=backend)
        index = (1, *at) if graph.nodes[name].batched else at
        assert found.value == pytest.approx(float(expected[name][index]), rel=1e-4, abs=1e-6)
        assert found.agrees, found.text()
        assert found.text() and max(map(len, found.text().splitlines())) <= 80
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["agrees"] is True


def test_the_terms_of_a_weight_of_a_convolution() -> None:
    """dL/dw[o,c,p,q] = Σ upstream[n,o,i,j] · x[n, c, i+p−1, j+q−1], written out."""
    net = network().eval()
    found = st.explain_gradient(
        net, X, "conv1.weight", (1, 0, 2, 0), loss="mse", targets=np.ones((2, 3))
    )
    (part,) = found.parts
    upstream = found.source.gradients(["conv1"])["conv1"].astype("f8")
    padded = np.pad(X.astype("f8"), ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = upstream[:, 1] * padded[:, 0, 2:7, 0:7]
    assert part.step.terms.shape == (2, 5, 7)
    np.testing.assert_allclose(part.step.terms.values.reshape(2, 5, 7), expected, rtol=1e-12)
    assert "dw[o, c, p, q] ← Σ[n,i,j] dy[n, o, i, j] · x[n, c, i+p-1, j+q-1]" in part.formula
    whole = st.gradient(net, X, to="conv1.weight", loss="mse", targets=np.ones((2, 3), "f4"))
    assert found.value == pytest.approx(float(whole[1, 0, 2, 0]), rel=1e-4)
    assert found.ordered.axes == ("n", "i", "j")


def test_a_number_that_two_layers_read_has_two_parts() -> None:
    net = network().eval()
    found = st.explain_gradient(net, X[0], "relu", (1, 2, 3))
    assert [part.op for part in found.parts] == ["conv2d", "broadcast_map"] or len(found.parts) == 2
    assert found.value == pytest.approx(sum(part.value for part in found.parts))
    assert "through conv2" in found.text()


def test_batch_statistics_have_a_part_each() -> None:
    """x counts itself, in the mean and in the variance."""
    from striate.formula.operations import find_operation
    from striate.inspect.explain_parts import parts_of

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((3, 2, 2, 2), (2,), (2,), (2,), (2,))]
    operation, settings = find_operation("batch_norm_training"), {"eps": 1e-5, "momentum": 0.1}
    up = rng.normal(size=(3, 2, 2, 2))
    parts = parts_of(operation, settings, arrays, 0, (1, 1, 0, 1), up, ("norm", {}))
    assert len(parts) > 2 and sorted(len(part.step.terms) for part in parts)[0] == 1
    expected = operation.gradient(settings, up, arrays, [0])[0]
    assert expected is not None
    assert sum(p.value for p in parts) == pytest.approx(expected[1, 1, 0, 1], rel=1e-9)


def test_a_loss_is_where_going_back_ends() -> None:
    """Cross-entropy: dL/dscore = softmax − 1 for the right class."""
    net = network().eval()
    given = {"loss": "cross_entropy", "targets": np.array([2, 0])}
    y = net(X).astype("f8")
    share = np.exp(y[1] - y[1].max()) / np.exp(y[1] - y[1].max()).sum()
    found = st.explain_gradient(net, X, "fc", 0, sample=1, **given)
    assert found.value == pytest.approx((share[0] - 1) / 2, rel=1e-5) and found.agrees
    assert "through loss: cross_entropy of x = fc, t = targets" in found.text()
    assert len(found.parts) == 2, "the largest score, which is taken off, has no part in it"
    with pytest.raises(OptionError, match="where going back starts"):
        found.back()
    weight = st.explain_gradient(net, X, "fc.weight", (0, 3), **given)
    assert weight.back().node == "fc" and weight.back().of == weight.of
    by_module = st.explain_gradient(
        net, X, "fc", 0, sample=1, loss=nn.CrossEntropyLoss(), targets=given["targets"]
    )
    assert by_module.value == pytest.approx(found.value, rel=1e-6)


def test_going_back_reaches_what_is_differentiated() -> None:
    net = network().eval()
    found = st.explain_gradient(net, X[0], "conv1.weight", target=1)
    names = []
    while found.node != "fc":
        found = found.back()
        names.append(found.node)
    assert names[0] == "conv1" and found.value == 1.0 and found.at == (1,)
    assert "as it was given" in found.text()
    forward = st.explain_gradient(net, X[0], "conv2.weight").behind("relu", (0, 1, 1))
    assert forward.node == "relu" and forward.agrees


def test_an_upstream_gradient_and_a_layer() -> None:
    net = network().eval()
    up = np.random.default_rng(0).normal(size=(4, 5, 7)).astype("f4")
    found = st.explain_gradient(net, X[0], "conv1.bias", 2, layer="conv1", upstream=up)
    assert found.value == pytest.approx(float(up[2].astype("f8").sum()), rel=1e-6)
    greatest = st.explain_gradient(net, X[0], "conv1.weight", layer="conv1", target=3)
    assert greatest.of.startswith("conv1[3, ") and greatest.at[0] == 3
    after = nn.Sequential(net, nn.Softmax(1))
    assert st.explain_gradient(after, X[0], "0.fc.bias", 0, target=0).value == 1.0


def test_the_switch_decides_where_a_gradient_goes() -> None:
    net = nn.Sequential(nn.MaxPool2d(2, stride=1))
    x = np.array([[[1.0, 5.0, 2.0], [0.0, 3.0, 4.0]]], "f4")
    up = np.array([[[10.0, 100.0]]], "f4")
    found = st.explain_gradient(net, x, "input", (0, 0, 1), layer="0", upstream=up)
    assert [term.value for term in found.parts[0].step.terms] == [10.0, 100.0]
    loser = st.explain_gradient(net, x, "input", (0, 1, 1), layer="0", upstream=up)
    assert [term.slope for term in loser.parts[0].step.terms] == [0.0, 0.0] and loser.value == 0
    assert "(largest x[0, 0, 0, 1] 5)" in loser.text()


def test_a_wrong_number_is_noticed() -> None:
    net = network().eval()
    found = st.explain_gradient(net, X[0], "conv2.weight", (0, 1, 1, 1))
    known = found.source.gradients(["conv2.weight"])["conv2.weight"]
    known[...] += 1e-2
    again = found.source.explained("conv2.weight", (0, 1, 1, 1))
    assert found.agrees and not again.agrees and "DOES NOT AGREE" in again.text()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("conv9",), {}, ModelError, "no node 'conv9'. Did you mean 'conv"),
        (("norm.running_mean",), {}, ModelError, "a running statistic, which has no gradient"),
        (("fc", 0), {"layer": "conv1"}, ModelError, "a node that 'conv1' depends on; got 'fc'"),
        (("conv1.bias", 4), {}, OptionError, r"\(0…3\) in 'conv1.bias', shape \(4,\); got \(4,\)"),
        (("fc",), {"target": 3}, OptionError, r"\(0…2\) in the output of 'fc'"),
        (("fc",), {"target": 0, "loss": "mse"}, OptionError, "got target, loss"),
        (("fc",), {"loss": "mse"}, OptionError, "or a loss with targets; got loss"),
        (("fc",), {"upstream": np.ones(4)}, ShapeError, r"upstream gradient \(1, 3\)"),
    ],
)
def test_faults_are_told(arguments: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        st.explain_gradient(network(), X[0], *arguments, **options)
