"""Tests of maps: randomised weights, deletion and insertion, and the measures they stand on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import striate as st
from striate import interpret, nn
from striate.data import load
from striate.errors import ModelError, OptionError, ShapeError
from striate.interpret.sanity import rank_correlation, ssim
from tests.interpret.own_net import SHAPE, Net, Own, images

X = images(2)


@pytest.fixture(scope="module")
def trained() -> Any:
    """A network that reads digits, and some that it has never seen."""
    st.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 10)),
    )
    train, test = load("digits")
    st.fit(net, train, epochs=2, batch_size=32, optimizer=st.optim.AdamW(lr=3e-3), progress=False)
    x, labels = test.batch(range(8))
    assert (net(x).argmax(1) == labels).all()
    return net, x


def test_guided_backprop_hardly_changes_with_the_weights_saliency_does(trained: Any) -> None:
    """What Adebayo et al. and Nie et al. (2018) found: it recovers the image."""
    net, x = trained
    before = {name: array.copy() for name, array in net.state_dict().items()}
    gradient = interpret.randomization_test(net, x, interpret.saliency, absolute=False)
    guided = interpret.randomization_test(net, x, interpret.guided_backprop)
    assert gradient.layers == guided.layers == ("7", "3", "0")
    assert np.abs(gradient.rank.mean(axis=1)).max() < 0.25
    assert guided.rank[0].mean() > 0.5 > 2 * np.abs(gradient.rank[0].mean())
    assert guided.ssim[0].mean() > 1.5 * gradient.ssim[0].mean()
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_map_that_looks_at_the_image_alone_is_found_out() -> None:
    def edges(net: Any, x: Any, target: Any) -> Any:
        return np.diff(x, axis=-1, append=0)

    found = interpret.randomization_test(Net(), X, edges)
    for similarity in (found.rank, found.rank_of_magnitudes, found.ssim):
        np.testing.assert_allclose(similarity, 1, rtol=1e-6)


def test_a_map_that_becomes_constant_has_no_rank() -> None:
    calls = []

    def fading(net: Any, x: Any, target: Any) -> Any:
        calls.append(target)
        return x if len(calls) == 1 else np.zeros_like(x)

    found = interpret.randomization_test(Net(), X, fading, 2)
    assert np.isnan(found.rank).all() and "nan" in found.text()
    assert calls[0] == [(2,), (2,)]


def test_cascading_and_independent() -> None:
    """Weights are drawn by layer and seed: the first layer's map is the same in both modes."""

    def weights(net: Any, x: Any, target: Any) -> Any:
        arrays = net.state_dict()
        return np.stack([[arrays[f"{n}.weight"].ravel()[:6]] for n in ("fc", "conv2", "conv1")])

    net = Net()
    cascading, alone = (
        interpret.randomization_test(net, images(3), weights, mode=mode).maps[:, :, 0]
        for mode in ("cascading", "independent")
    )
    changed = [(a != cascading[0]).any(axis=1).tolist() for a in cascading]
    assert changed == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]
    changed = [(a != alone[0]).any(axis=1).tolist() for a in alone]
    assert changed == [[False] * 3, *np.eye(3, dtype=bool).tolist()]
    np.testing.assert_array_equal(cascading[3], alone[[1, 2, 3], [0, 1, 2]])
    other = interpret.randomization_test(net, images(3), weights, seed=1).maps[:, :, 0]
    assert not np.array_equal(other[3], cascading[3])
    one = interpret.randomization_test(net, X, interpret.saliency, layers=["conv2"])
    assert one.layers == ("conv2",) and len(one.maps) == 2


def test_only_layers_that_the_target_depends_on() -> None:
    found = interpret.randomization_test(Net(), X, interpret.saliency, 1, layer="conv2")
    assert found.layers == ("conv2", "conv1")
    assert found.text().splitlines()[0].startswith("randomised  rank corr.")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "all"}, OptionError, r"unknown mode='all'. There is: cascading, independent"),
        ({"layers": ["conv9"]}, ModelError, r"randomization_test: unknown layer 'conv9'"),
        ({"layers": ["pool"]}, OptionError, r"layers with weights .* got 'pool'"),
        (
            {"method": "saliency"},
            OptionError,
            r"expected a method, as interpret\.saliency; got str",
        ),
        ({"seed": -1}, OptionError, r"seed: expected a whole number"),
    ],
)
def test_what_the_randomisation_test_refuses(
    options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        interpret.randomization_test(Net(), X, **{"method": interpret.saliency, **options})


def test_a_network_without_weights_cannot_be_randomised() -> None:
    with pytest.raises(OptionError, match=r"expected a network with weights; got none"):
        interpret.randomization_test(nn.AvgPool2d(2), X, interpret.saliency)


# ---- measures --------------------------------------------------------------------------------


def test_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(0)
    for a, b in [
        (random.normal(size=50), random.normal(size=50)),
        (random.integers(0, 5, 60), random.integers(0, 4, 60)),
    ]:
        assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    with pytest.raises(ShapeError, match=r"arrays of one size; got shapes \(2,\) and \(3,\)"):
        rank_correlation([1, 2], [1, 2, 3])


def test_ssim_is_its_formula() -> None:
    """At the middle of an 11×11 image the window covers all: one place, written out."""
    random = np.random.default_rng(1)
    a = random.uniform(size=(31, 31))
    b = np.clip(a + random.normal(0, 0.2, a.shape), 0, 1)
    row = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2
    total = 0.0
    padded = [np.pad(p, 5, mode="symmetric") for p in (a, b)]
    for i in range(31):
        for j in range(31):
            x, y = (p[i : i + 11, j : j + 11] for p in padded)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            total += ((2 * mx * my + 1e-4) * (2 * cov + 9e-4)) / (
                (mx * mx + my * my + 1e-4) * (vx + vy + 9e-4)
            )
    assert ssim(a, b) == pytest.approx(total / 31**2, rel=1e-4)
    assert ssim(a, b) < ssim(a, a) == pytest.approx(1)
    with pytest.raises(ShapeError, match=r"two planes .* got shapes \(2, 2\) and \(3, 3\)"):
        ssim(np.eye(2), np.eye(3))


# ---- deletion and insertion ------------------------------------------------------------------


def test_deletion_and_insertion_are_what_they_say() -> None:
    """Each step run by itself with the own arithmetic."""
    net, steps = Net(), 4
    map = np.random.default_rng(3).normal(size=X.shape)
    found = interpret.deletion_insertion(
        net, X, map, 1, steps=steps, baseline=0.5, start=-1.0, batch=3
    )
    np.testing.assert_allclose(found.share, np.arange(5) / 4)
    for n, x in enumerate(X):
        order = np.argsort(-map[n].ravel())
        for step in range(steps + 1):
            changed = np.isin(np.arange(64), order[: 16 * step]).reshape(SHAPE)
            for curve, image in (
                (found.deletion, np.where(changed, 0.5, x)),
                (found.insertion, np.where(changed, x, -1.0)),
            ):
                powers = np.exp(Own(net, image).scores)
                assert curve[n, step] == pytest.approx(powers[1] / powers.sum(), rel=1e-4)
    d = found.deletion
    area = (d[:, 0] / 2 + d[:, 1] + d[:, 2] + d[:, 3] + d[:, 4] / 2) / 4
    np.testing.assert_allclose(found.deletion_area, area)
    assert found.text().count("insertion") == 2


def test_the_score_and_the_shapes_of_maps() -> None:
    net = Net(softmax=True)
    found = interpret.deletion_insertion(net, X[0], np.ones(SHAPE[1:]), 2, steps=64, of="score")
    assert found.deletion[0, 0] == pytest.approx(Own(net, X[0]).scores[2], rel=1e-4)
    assert found.deletion[0, -1] == pytest.approx(Own(net, 0 * X[0]).scores[2], rel=1e-4)
    assert found.insertion[0, -1] == pytest.approx(found.deletion[0, 0], rel=1e-5)
    assert len(interpret.deletion_insertion(net, X, np.ones((2, 8, 8)), steps=3).share) == 4
    many = interpret.deletion_insertion(net, X[0], np.ones((1, 8, 8)), steps=1000)
    assert len(many.share) == 65  # no more than one step a pixel


def test_a_map_of_the_class_is_better_than_a_random_order(trained: Any) -> None:
    net, x = trained
    random = np.random.default_rng(0).normal(size=x.shape)
    good = interpret.deletion_insertion(net, x, interpret.occlusion(net, x, window=5, stride=1))
    bad = interpret.deletion_insertion(net, x, random)
    assert good.deletion_area.mean() < 0.7 * bad.deletion_area.mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": np.ones((2, 1, 8, 8))}, r"maps \(n, c, …\) .*; got shape \(2, 1, 8, 8\)"),
        ({"map": np.full((8, 8), np.nan)}, r"expected a map of finite numbers"),
        ({"of": "loss"}, r"unknown of='loss'\. There is: probability, score"),
        ({"steps": 0}, r"expected steps to be a whole number of at least 1"),
        ({"start": [1, 2]}, r"expected a baseline"),
    ],
)
def test_what_deletion_and_insertion_refuse(options: Any, message: str) -> None:
    given = {"map": np.ones((8, 8)), **options}
    with pytest.raises((OptionError, ShapeError), match=message):
        interpret.deletion_insertion(Net(), X[:1], **given)


def test_a_probability_needs_two_classes() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    with pytest.raises(OptionError, match=r"two classes or more .* Say of='score'"):
        interpret.deletion_insertion(net, X, np.ones((2, 8, 8)))


def test_the_copy_is_the_network_with_its_statistics() -> None:
    """Batch norm's running statistics are copied, and are not drawn anew."""
    st.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    net.append(nn.Linear(144, 3))
    for _ in range(3):
        net(images(8))  # moves the statistics
    seen: list[Any] = []

    def method(copy: Any, x: Any, target: Any) -> Any:
        seen.append({name: array.copy() for name, array in copy.state_dict().items()})
        return interpret.saliency(copy, x, target)

    found = interpret.randomization_test(net, X, method, 1)
    np.testing.assert_allclose(found.maps[0], interpret.saliency(net, X, 1), rtol=1e-5, atol=1e-7)
    before = net.state_dict()
    assert before["1.running_var"].std() > 0
    for name in ("1.running_mean", "1.running_var"):
        np.testing.assert_array_equal(seen[-1][name], before[name])
    assert not np.array_equal(seen[-1]["0.weight"], before["0.weight"])
