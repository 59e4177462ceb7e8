"""Gradients through the public interface: facts, the checker, faults.

Those of every layer are in `test_layer_contract`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.nn import functional as F

FACTS = json.loads((Path(__file__).parents[1] / "data" / "facts.json").read_text("utf-8"))
FACT = {fact["id"]: fact for fact in FACTS}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def small_net():
    st.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(75, 4),
    )


# ---- facts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_relu_fact(backend):
    fact = FACT["relu-vjp"]
    _, pullback = st.vjp(F.relu, np.array([fact["x"]]), backend=backend)
    assert pullback(np.array([fact["upstream"]])).tolist() == [fact["expected"]]


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_matmul_fact(backend):
    fact = FACT["matmul-vjp"]
    w = nn.Parameter(np.transpose(fact["w"]))
    y, pullback = st.vjp(
        lambda x, w: F.linear(x, w), (np.array(fact["x"]), w), to=["input", "w"], backend=backend
    )
    found = pullback(np.array(fact["upstream"]))
    assert y.tolist() == fact["y"]
    assert found["input"].tolist() == fact["dx"]
    assert found["w"].T.tolist() == fact["dw"]


def test_sigmoid_neuron_fact():
    fact = FACT["sigmoid-neuron"]
    net = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    net[0].weight.data, net[0].bias.data = [fact["w"][:2]], fact["w"][2:]
    x = np.array([fact["x"]])
    assert np.allclose(net(x), fact["y"])
    assert np.allclose(st.gradient(net, x, to="input"), [fact["dx"]])


# ---- vjp and gradient ------------------------------------------------------------------------


def test_to_parameters_inputs_and_nodes():
    net, x = small_net().eval(), numbers(3, 2, 5, 5)
    names = list(dict(net.named_parameters()))
    found = st.gradient(net, x)
    assert list(found) == names
    for name, parameter in net.named_parameters():
        assert found[name].shape == parameter.shape and found[name].dtype == np.float32
    y, pullback = st.vjp(net, x, to=["parameters", "2", "input"])
    assert np.allclose(y, net(x), atol=1e-6)
    up = numbers(3, 4, seed=1)
    some = pullback(up)
    assert list(some) == [*names, "2", "input"]
    assert some["2"].shape == (3, 3, 5, 5)
    assert np.allclose(some["2"].reshape(3, -1), up @ net[5].weight.data, atol=1e-5)
    assert np.array_equal(st.gradient(net, x, up, to="input"), some["input"])
    assert np.array_equal(st.gradient(net, x, up, to="5.bias"), some["5.bias"])
    exact = st.gradient(net, x, up, to="input", backend="reference")
    assert np.allclose(exact, some["input"], atol=1e-5)


def test_training_mode_uses_the_batch_and_drops():
    net, x = small_net(), numbers(3, 2, 5, 5)
    before = {name: a.copy() for name, a in net.state_dict().items()}
    one, again = (st.gradient(net, x, to="input", seed=4) for _ in range(2))
    other = st.gradient(net, x, to="input", seed=5)
    assert np.array_equal(one, again) and not np.allclose(one, other)
    assert not np.allclose(one, st.gradient(net.eval(), x, to="input"))
    after = net.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_of_a_loss(reduction):
    net, x, labels = small_net().eval(), numbers(3, 2, 5, 5), np.array([0, 3, 1])
    loss = nn.CrossEntropyLoss(reduction=reduction)
    found = st.gradient(net, x, loss=loss, targets=labels)
    logits = net(x).astype(np.float64)
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    share[np.arange(3), labels] -= 1
    factor = 3 if reduction == "mean" else 1
    assert np.allclose(found["5.bias"], share.sum(0) / factor, atol=1e-5)
    if reduction == "mean":
        named = st.gradient(net, x, loss="cross_entropy", targets=labels)
        assert all(np.array_equal(found[k], named[k]) for k in found)
    target = numbers(3, 4)
    slope = st.gradient(net, x, loss="mse", targets=target, to="5")
    assert np.allclose(slope, 2 * (logits - target) / 12, atol=1e-6)


def test_several_inputs():
    def product(a, b):
        return a * F.tanh(b)

    a, b = numbers(3, 4), numbers(3, 4, seed=1)
    da, db = st.gradient(product, (a, b), to="input")
    assert np.allclose(da, np.tanh(b), atol=1e-6)
    assert np.allclose(db, a / np.cosh(b) ** 2, atol=1e-6)
    assert np.array_equal(st.gradient(product, (a, b), to="input_1"), db)


def test_unused_parameters_have_zeros():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    found = st.gradient(Half(), np.ones((2, 3)))
    assert found["used.weight"].all() and not found["unused.weight"].any()


def test_an_empty_batch():
    net = small_net().eval()
    found = st.gradient(net, np.zeros((0, 2, 5, 5)), to=["input", "parameters"])
    assert found["input"].shape == (0, 2, 5, 5)
    assert all(not a.any() for a in found.values())


def test_weights_changed_in_place_are_noticed():
    net, x = nn.Linear(3, 2), np.ones((1, 3))
    first = st.gradient(net, x, to="input")
    net.weight.data += 1
    assert np.allclose(st.gradient(net, x, to="input"), first + 2)


def test_faults_are_told():
    net, x = small_net().eval(), numbers(3, 2, 5, 5)
    with pytest.raises(ModelError, match=r"no node '5.weights'. Did you mean '5.weight'"):
        st.gradient(net, x, to="5.weights")
    with pytest.raises(ModelError, match=r"'1.running_mean' expected a node .* running statistic"):
        st.gradient(net, x, to="1.running_mean")
    with pytest.raises(ShapeError, match=r"output's shape \(3, 4\); got \(3, 5\)"):
        st.vjp(net, x)[1](np.zeros((3, 5)))
    with pytest.raises(ShapeError, match=r"upstream of '5' expected shape \(3, 4\); got \(4,\)"):
        st.gradient(net, x, np.zeros(4))
    with pytest.raises(OptionError, match="upstream=None, loss=given, targets=None"):
        st.gradient(net, x, loss="mse")
    with pytest.raises(OptionError, match="unknown loss 'mean'"):
        st.gradient(net, x, loss="mean", targets=x)
    with pytest.raises(OptionError, match=r"loss expected a name or a loss of striate.nn; got int"):
        st.gradient(net, x, loss=3, targets=x)
    with pytest.raises(OptionError, match=r"cross_entropy expected labels, whole numbers; got fl"):
        st.gradient(net, x, loss="cross_entropy", targets=np.zeros(3))
    with pytest.raises(OptionError, match="expected a network or a function; got int"):
        st.vjp(3, x)
    with pytest.raises(OptionError, match="expected a batch, an array"):
        st.vjp(net, ())
    with pytest.raises(ShapeError, match=r"same number of samples; got shapes \(3, 4\), \(2, 4\)"):
        st.gradient(lambda a, b: a + b, (np.zeros((3, 4)), np.zeros((2, 4))), to="input")


# ---- Jacobians -------------------------------------------------------------------------------


def test_the_jacobian_of_a_product_of_matrices():
    net, x = nn.Linear(4, 3), numbers(5, 4)
    assert np.array_equal(st.jacobian(net, x), np.broadcast_to(net.weight.data, (5, 3, 4)))
    to_weight = st.jacobian(net, x, to="weight")
    assert to_weight.shape == (5, 3, 3, 4)
    for o in range(3):
        assert np.allclose(to_weight[:, o, o], x, atol=1e-6)
    assert np.count_nonzero(to_weight) == 5 * 3 * 4


def test_rows_of_the_jacobian_are_vjps(monkeypatch):
    net, x = small_net().eval(), numbers(3, 2, 5, 5)
    whole = st.jacobian(net, x, to=["input", "2"])
    assert whole["input"].shape == (3, 4, 2, 5, 5)
    up = numbers(3, 4, seed=2)
    for name, found in st.vjp(net, x, to=["input", "2"])[1](up).items():
        expected = np.einsum("no,no...->n...", up, whole[name])
        assert np.allclose(found, expected, atol=1e-5)
    monkeypatch.setattr("striate.nn.gradients._ROWS", 5)
    assert np.allclose(st.jacobian(net, x), whole["input"], atol=1e-6)


def test_jacobians_that_are_refused():
    net, x = small_net(), numbers(3, 2, 5, 5)
    with pytest.raises(OptionError, match=r"training mode with batch norm .* Call net.eval\(\)"):
        st.jacobian(net, x)
    large = np.zeros((10, 1500))
    with pytest.raises(OptionError, match=r"at most 10,000,000 numbers; got 22,500,000: 10 sampl"):
        st.jacobian(lambda x: x * x, large)


# ---- the checker -----------------------------------------------------------------------------


def test_a_network_and_a_function():
    net, x = small_net(), numbers(3, 2, 5, 5)
    report = st.check_gradient(net, x)
    assert report.ok and [r.name for r in report.rows][:2] == ["input", "0.weight"]
    assert all(r.native_error is not None and r.native_error < 1e-4 for r in report.rows)
    w = nn.Parameter(numbers(4, 3))
    assert st.check_gradient(lambda x, w: F.linear(x, w), (numbers(2, 3), w)).ok


def test_an_operation():
    settings = {"stride": [1, 1], "padding": [[1, 0], [0, 2]], "dilation": [1, 1], "groups": 1}
    arrays = (numbers(2, 2, 5, 5), numbers(3, 2, 3, 3), numbers(3))
    report = st.check_gradient("conv2d", arrays, attributes=settings)
    assert report.ok and len(report.rows) == 3
    logits, labels = numbers(3, 4), np.array([1, 0, 3])
    report = st.check_gradient("cross_entropy", (logits, labels))
    assert report.ok and [r.name for r in report.rows] == ["x"]


def test_a_wrong_gradient_is_found():
    def cube(x):
        return x**3

    report = st.check_gradient(cube, numbers(2, 3), gradient=lambda u, x: [3 * u * x * x])
    assert report.ok and "cube: ok" in str(report)
    wrong = st.check_gradient(cube, numbers(2, 3), gradient=lambda u, x: [3.001 * u * x * x])
    assert not wrong.ok and not wrong
    (row,) = wrong.rows
    assert row.verdict == "wrong" and row.error == pytest.approx(0.001 / 3.001, rel=0.01)
    assert "NOT ok" in str(wrong) and "wrong" in str(wrong)
    one = numbers(20, 30)

    def nearly(u, x):
        slope = 3 * u * x * x
        slope[7, 3] *= 1.5
        return [slope]

    assert not st.check_gradient(cube, one, gradient=nearly).ok


def test_a_gradient_that_is_not_finite():
    report = st.check_gradient(np.sqrt, np.ones((1, 2)), gradient=lambda u, x: [u * np.nan])
    assert [r.verdict for r in report.rows] == ["not finite"] and not report.ok
    with np.errstate(invalid="ignore"):
        report = st.check_gradient(np.log, -np.ones((1, 2)), gradient=lambda u, x: [u / x])
    assert [r.verdict for r in report.rows] == ["not finite"]


def test_nothing_to_check_is_not_ok():
    report = st.check_gradient(nn.Linear(3, 2), np.zeros((0, 3)))
    assert not report.ok and {r.verdict for r in report.rows} == {"nothing to check"}
    report = st.check_gradient(lambda x: x, np.zeros(0), gradient=lambda u, x: [u])
    assert not report.ok


def test_a_gradient_of_another_shape():
    report = st.check_gradient(np.sin, np.ones((1, 2)), gradient=lambda u, x: [u[0]])
    assert [r.verdict for r in report.rows] == ["has shape (2,)"]


def test_kinks_are_told():
    x = np.array([[-1.0, 0.0, 2.0]])
    report = st.check_gradient(F.relu, x)
    (row,) = report.rows
    assert report.ok and row.kinks == 1 and row.checked == 3
    report = st.check_gradient(F.relu, np.zeros((1, 3)))
    assert [r.verdict for r in report.rows] == ["kinks only"] and not report.ok


def test_a_wrong_native_kernel_is_found(monkeypatch):
    from striate.program import native_gradient

    right = native_gradient.NativeGradient.pulled

    def wrong(self, passage, upstream):
        found = right(self, passage, upstream)
        return {name: a * np.float32(1.01) for name, a in found.items()}

    monkeypatch.setattr(native_gradient.NativeGradient, "pulled", wrong)
    report = st.check_gradient(nn.Linear(3, 2), numbers(4, 3))
    assert {r.verdict for r in report.rows} == {"native is wrong"}
    assert st.check_gradient(nn.Linear(3, 2), numbers(4, 3), native=False).ok


def test_check_faults():
    with pytest.raises(OptionError, match=r"upstream gradient of the output's shape \(4, 2\)"):
        st.check_gradient(nn.Linear(3, 2), numbers(4, 3), upstream=np.ones(2))
    with pytest.raises(OptionError, match="return a list of 1 arrays"):
        st.check_gradient(np.sin, np.ones((1, 2)), gradient=lambda u, x: u)
