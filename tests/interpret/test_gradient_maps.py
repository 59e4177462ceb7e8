"""Maps from gradients against the same arithmetic written out in NumPy, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import interpret, nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.inspect.probe import Probe
from striate.interpret import batches
from tests.interpret.own_net import METHODS, SHAPE, Net, Own, images

X = images(3)
TARGETS = [2, 0, 3]
RULES = {
    "saliency": (interpret.saliency, "gradient"),
    "guided_backprop": (interpret.guided_backprop, "guided"),
    "deconvolution": (interpret.deconvolution, "deconvolution"),
}


def close(found: Any, expected: Any) -> None:
    assert found.dtype == np.float32 and np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", RULES)
def test_maps_are_those_of_the_arithmetic(name: str, backend: str) -> None:
    """One ReLU module is called twice: each call has its own rule and its own input."""
    method, rule = RULES[name]
    net = Net().train()
    own = [Own(net, x).map(t, rule) for x, t in zip(X, TARGETS, strict=True)]
    options = {"absolute": False} if name == "saliency" else {}
    close(method(net, X, TARGETS, backend=backend, **options), np.stack(own))
    assert net.training


def test_the_gradient_is_that_of_finite_differences() -> None:
    net, step = Net(), 1e-6
    found = interpret.saliency(net, X[0], 1, absolute=False)[0]
    for at in [(0, 0, 0), (0, 3, 4), (0, 7, 7), (0, 5, 2)]:
        change = np.zeros(SHAPE)
        change[at] = step
        ends = [Own(net, X[0] + sign * change).scores[1] for sign in (1, -1)]
        assert found[at] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-5)


def test_the_target_is_each_images_greatest_score() -> None:
    net = Net(softmax=True)
    best = [int(Own(net, x).scores.argmax()) for x in X]
    assert len(set(best)) > 1 or best[0] != 0
    np.testing.assert_array_equal(interpret.saliency(net, X), interpret.saliency(net, X, best))


def test_scores_are_taken_before_the_softmax() -> None:
    close(
        interpret.saliency(Net(softmax=True), X, 1, absolute=False),
        interpret.saliency(Net(), X, 1, absolute=False),
    )


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_relu6_is_a_relu(backend: str) -> None:
    """Units at 1, −1, 9 and 2: one passes, one is off, one is cut off, one weighs negative."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 4, False), nn.ReLU6(), nn.Linear(4, 1, False))
    net[1].weight.data[...] = [[1], [-1], [9], [2]]
    net[3].weight.data[...] = [[2, 3, 4, -5]]
    x = np.ones((1, 1, 1, 1))
    assert interpret.saliency(net, x, absolute=False, backend=backend).item() == 2 - 5 * 2
    assert interpret.guided_backprop(net, x, backend=backend).item() == 2
    assert interpret.deconvolution(net, x, backend=backend).item() == 2 - 3 + 4 * 9


def test_channels_and_magnitudes() -> None:
    st.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    x = np.random.default_rng(1).normal(size=(2, 3, 5, 5))
    signed = interpret.saliency(net, x, 0, absolute=False)
    assert signed.min() < 0
    np.testing.assert_array_equal(interpret.saliency(net, x, 0), np.abs(signed))
    one = interpret.saliency(net, x, 0, channels="largest")
    assert one.shape == (2, 1, 5, 5)
    np.testing.assert_array_equal(one[:, 0], np.abs(signed).max(axis=1))
    kept = interpret.saliency(net, x, 0, channels="largest", absolute=False)
    np.testing.assert_array_equal(np.abs(kept), one)
    with pytest.raises(OptionError, match=r"unknown channels='each'\. There is: all, largest"):
        interpret.saliency(net, x, channels="each")


def test_input_x_gradient() -> None:
    close(
        interpret.input_x_gradient(Net(), X, 1),
        X * interpret.saliency(Net(), X, 1, absolute=False),
    )


def test_a_unit_of_an_inner_layer() -> None:
    """Deconvolution of the place where channel 1 of the second convolution is greatest."""
    net = Net()
    own = Own(net, X[0])
    place = np.unravel_index(own.h2[1].argmax(), own.h2[1].shape)
    seed = np.zeros(own.h2.shape)
    seed[1][place] = 1
    close(
        interpret.deconvolution(net, X[0], 1, layer="relu_1")[0],
        own.back(seed, "deconvolution"),
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_same_call(method: Any, tmp_path: Path) -> None:
    """One image or several, a saved network, the network's mode; and no image at all."""
    net = Net().train()
    whole = method(net, X, TARGETS)
    assert whole.dtype == np.float32 and len(whole) == 3 and whole.shape[2:] == SHAPE[1:]
    assert np.ptp(whole) > 0
    single = method(net, X[1], TARGETS[1])
    np.testing.assert_allclose(single, whole[1:2], rtol=1e-4, atol=1e-6)
    assert method(net, X[:0]).shape == (0, *whole.shape[1:])
    st.save(net.eval(), tmp_path / "net.safetensors", input_shape=SHAPE)
    loaded = method(st.load(tmp_path / "net.safetensors"), X, TARGETS)
    np.testing.assert_allclose(loaded, whole, rtol=1e-4, atol=1e-6)


def test_networks_on_sequences() -> None:
    st.manual_seed(2)
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    x = np.random.default_rng(3).normal(size=(4, 2, 8))
    assert interpret.saliency(net, x).shape == (4, 2, 8)
    assert interpret.grad_cam(net, x).shape == (4, 1, 8)
    assert interpret.occlusion(net, x, window=3, stride=1).shape == (4, 1, 8)


# ---- SmoothGrad ------------------------------------------------------------------------------


def test_smoothgrad_is_the_mean_gradient_of_noisy_images() -> None:
    net = Net()
    found = interpret.smoothgrad(net, X, TARGETS, samples=3, noise=0.2, seed=5)
    expected = np.zeros(X.shape)
    for k in range(3):
        noise = np.random.default_rng((5, k)).standard_normal(SHAPE, np.float32)
        for i, x in enumerate(X):
            noisy = x + np.float32(0.2 * np.ptp(x)) * noise
            expected[i] += Own(net, noisy).map(TARGETS[i]) / 3
    close(found, expected)


def test_smoothgrad_without_noise_is_the_gradient() -> None:
    gradient = interpret.saliency(Net(), X, 1, absolute=False)
    close(interpret.smoothgrad(Net(), X, 1, samples=2, noise=0), gradient)
    close(interpret.smoothgrad(Net(), X, 1, samples=2, noise=0, squared=True), gradient**2)


def test_smoothgrad_depends_on_the_seed_alone() -> None:
    net = Net()
    whole = interpret.smoothgrad(net, X, 1, samples=5, seed=1)
    np.testing.assert_allclose(
        whole, interpret.smoothgrad(net, X, 1, samples=5, seed=1, batch=2), rtol=1e-5, atol=1e-7
    )
    assert not np.allclose(whole, interpret.smoothgrad(net, X, 1, samples=5, seed=2))


# ---- integrated gradients --------------------------------------------------------------------


def test_integrated_gradients_are_the_integral() -> None:
    """Against a sum over very many places of the arithmetic's own gradient."""
    net, base = Net(), np.full(SHAPE, 0.25, np.float32)
    found = interpret.integrated_gradients(
        net, X[0], 2, baseline=base, steps=400, rule="trapezoid"
    )[0]
    at = (np.arange(2000) + 0.5) / 2000
    mean = np.mean([Own(net, base + a * (X[0] - base)).map(2) for a in at], axis=0)
    np.testing.assert_allclose(found, (X[0] - base) * mean, rtol=0.01, atol=2e-3)


@pytest.mark.parametrize("rule", ["gauss-legendre", "trapezoid"])
def test_integrated_gradients_are_complete(rule: str) -> None:
    net = Net()
    maps, error = interpret.integrated_gradients(
        net, X, TARGETS, steps=200, rule=rule, return_error=True
    )
    zero = Own(net, np.zeros(SHAPE)).scores
    change = [Own(net, x).scores[t] - zero[t] for x, t in zip(X, TARGETS, strict=True)]
    sums = maps.reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(error, sums - change, atol=1e-5)
    assert np.abs(error).max() < 0.01 * np.abs(change).max()
    errors = interpret.convergence(net, X, TARGETS, steps=[3, 200], rule=rule)
    assert errors.shape == (2, 3) and np.abs(errors[1]).max() < np.abs(errors[0]).max()


def test_gauss_legendre_is_exact_on_a_smooth_score() -> None:
    """score = (w·x)³: the way's integral is a polynomial of degree 2, two places are enough."""

    class Cube(nn.Module):
        def forward(self, x: Any) -> Any:
            total = x.flatten(1).sum(1, keepdim=True)
            return total * total * total

    x = np.random.default_rng(0).normal(size=(1, 1, 2, 2))
    maps = interpret.integrated_gradients(Cube(), x, steps=2)
    np.testing.assert_allclose(maps, x * x.sum() ** 2, rtol=1e-5)


def test_a_batch_is_as_large_as_the_values_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    net, sizes, gradient = Net(), [], Probe.gradient

    def counted(self: Any, x: Any, *more: Any, **options: Any) -> Any:
        sizes.append(len(x))
        return gradient(self, x, *more, **options)

    monkeypatch.setattr(Probe, "gradient", counted)
    whole = interpret.integrated_gradients(net, X, 1, steps=8, batch=16)
    values = sum(int(np.prod(node.shape)) for node in Probe(net, SHAPE).graph.steps)
    monkeypatch.setattr(batches, "_MOST_FLOATS", 5 * values)
    found = interpret.integrated_gradients(net, X, 1, steps=8, batch=16)
    assert sizes[:2] == [12, 12] and sum(sizes[2:]) == 24 and max(sizes[2:]) == 5
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-7)


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lists_the_layers(method: Any) -> None:
    with pytest.raises(ModelError, match=rf"{method.__name__}: unknown layer 'conv9'"):
        method(Net(), X, layer="conv9")
    with pytest.raises(OptionError, match=rf"{method.__name__}: expected target .* got 4"):
        method(Net(), X, 4)
    with pytest.raises(ShapeError, match=rf"{method.__name__}: expected images that fit"):
        method(Net(), np.zeros((2, 3, 8, 8)))


@pytest.mark.parametrize("method", [interpret.guided_backprop, interpret.deconvolution])
def test_without_a_relu_a_rule_for_relus_does_not_apply(method: Any) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(OptionError, match=rf"{method.__name__}: .* with a ReLU.* Use saliency"):
        method(net, X)
    first = method(Net(), X, (1, 2, 3), layer="conv1")  # before the first one it is the gradient
    gradient = interpret.saliency(Net(), X, (1, 2, 3), layer="conv1", absolute=False)
    np.testing.assert_array_equal(first, gradient)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, r"smoothgrad: expected samples to be .* got samples=0"),
        ({"batch": 1.5}, r"expected batch to be a whole number of at least 1; got batch=1\.5"),
        ({"noise": -1}, r"expected noise to be a share of the image's range.*got noise=-1"),
        ({"noise": np.nan}, r"got noise=nan"),
        ({"seed": -1}, r"seed: expected a whole number"),
    ],
)
def test_options_of_smoothgrad(options: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        interpret.smoothgrad(Net(), X, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"integrated_gradients: expected steps .* at least 1; got steps=0"),
        ({"steps": 1, "rule": "trapezoid"}, r"at least 2; got steps=1"),
        ({"rule": "simpson"}, r"unknown rule='simpson'"),
        ({"baseline": np.zeros((5, 5))}, r"expected a baseline .* got shape \(5, 5\)"),
    ],
)
def test_options_of_integrated_gradients(options: Any, message: str) -> None:
    with pytest.raises((OptionError, ShapeError), match=message):
        interpret.integrated_gradients(Net(), X, **options)
