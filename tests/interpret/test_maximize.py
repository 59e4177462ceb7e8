"""Activation maximisation: optima known in closed form, limits, penalties, seeds, units."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.inspect.probe import Probe
from striate.interpret.image_space import Fourier, Pixels, blur, colour_root, image_space
from striate.interpret.maximize import maximize
from striate.interpret.regularize import alpha_norm, total_variation


def linear(seed: int = 0, units: int = 3, side: int = 6) -> nn.Module:
    st.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, units))


def small(seed: int = 0) -> nn.Module:
    st.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 5),
        nn.Softmax(1),
    )


# ---- optima that are known -------------------------------------------------------------------


def test_a_linear_unit_in_a_ball_gets_its_weights():
    """Over ‖x‖ ≤ r the sum Σ w·x is greatest at r·w/‖w‖ (Cauchy and Schwarz)."""
    net = linear()
    weight = net.state_dict()["1.weight"].reshape(3, 1, 6, 6)
    found = maximize(
        net,
        units=[0, 1, 2],
        shape=(1, 6, 6),
        limits=None,
        fourier=False,
        jitter=0,
        radius=2.5,
        steps=120,
    )
    length = np.linalg.norm(weight.reshape(3, -1), axis=1).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(found.images, 2.5 * weight / length, atol=0.01)
    best = 2.5 * length.ravel() + net.state_dict()["1.bias"]
    np.testing.assert_allclose(found.scores, best, rtol=1e-3)
    np.testing.assert_array_equal(found.scores > found.course[:, 0], True)


@pytest.mark.parametrize("fourier", [False, True])
def test_with_an_l2_penalty_the_optimum_is_a_multiple_of_the_weights(fourier):
    """Σ w·x − λ·mean (x − c)² is greatest at x = c + w·n/(2λ)."""
    net = linear(1)
    weight = net.state_dict()["1.weight"].reshape(3, 1, 6, 6)
    found = maximize(
        net,
        units=range(3),
        shape=(1, 6, 6),
        limits=None,
        centre=0.25,
        fourier=fourier,
        jitter=0,
        l2=3.0,
        steps=400,
    )
    np.testing.assert_allclose(found.images, 0.25 + weight * 36 / 6, atol=0.02)


@pytest.mark.parametrize("fourier", [False, True])
def test_limits_are_reached_and_kept(fourier):
    net = linear(2)
    weight = net.state_dict()["1.weight"][0].reshape(1, 6, 6)
    found = maximize(
        net, units=0, shape=(1, 6, 6), limits=(-1, 3), fourier=fourier, jitter=0, steps=300, lr=0.2
    )
    image = found.images[0]
    assert image.min() >= -1
    assert image.max() <= 3
    sure = np.abs(weight) > 0.05
    np.testing.assert_allclose(image[sure], np.where(weight > 0, 3, -1)[sure], atol=0.6)


# ---- what the settings do --------------------------------------------------------------------


def test_a_channel_is_the_mean_of_its_places_and_a_place_is_itself():
    net = small()
    found = maximize(net, "0", [2, (3, 1, 4)], shape=(2, 8, 8), steps=5)
    values = nn.functional.conv2d(
        found.images, net.state_dict()["0.weight"], net.state_dict()["0.bias"]
    )
    np.testing.assert_allclose(found.scores, [values[0, 2].mean(), values[1, 3, 1, 4]], rtol=1e-5)
    assert found.units == (2, (3, 1, 4))
    assert found.course.shape == (2, 5)


def test_by_default_the_scores_before_the_softmax():
    found = maximize(small(), units=4, shape=(2, 8, 8), steps=3)
    assert found.layer == "4"


def test_penalties_do_what_they_say():
    def made(**settings: float) -> np.ndarray:
        return maximize(
            linear(3), units=0, shape=(1, 6, 6), fourier=False, jitter=0, steps=60, **settings
        ).images

    plain = made()
    assert total_variation(made(tv=5.0))[0] < 0.5 * total_variation(plain)[0]
    assert alpha_norm(made(l2=5.0), 2, 0.5)[0] < 0.5 * alpha_norm(plain, 2, 0.5)[0]
    rough = total_variation(plain)[0] / plain.var()
    blurred = made(blur=1.0)
    assert total_variation(blurred)[0] / blurred.var() < 0.8 * rough
    assert blurred.var() > 0.1 * plain.var()  # at the end nothing is blurred away


def test_same_seed_same_bits_whatever_the_threads_and_the_company():
    net, options = small(1), {"shape": (2, 8, 8), "steps": 6, "jitter": 2}
    both = maximize(net, units=[1, 3], seed=5, **options)
    st.set_num_threads(1)
    one = maximize(net, units=[1, 3], seed=5, **options)
    np.testing.assert_array_equal(both.images, one.images)
    np.testing.assert_array_equal(both.course, one.course)
    alone = maximize(net, units=1, seed=5, **options)
    np.testing.assert_allclose(alone.images[0], both.images[0], atol=1e-4)
    apart = maximize(net, units=[1, 3], seed=5, batch_size=1, **options)
    np.testing.assert_allclose(apart.images, both.images, atol=1e-4)
    other = maximize(net, units=[1, 3], seed=6, **options)
    assert np.abs(other.images - both.images).max() > 1e-3


def test_one_unit_twice_gives_two_images():
    found = maximize(small(), units=[1, 1], shape=(2, 8, 8), steps=4)
    assert np.abs(found.images[0] - found.images[1]).max() > 1e-3


def test_it_starts_from_given_images():
    start = np.random.default_rng(0).uniform(0.1, 0.9, (2, 8, 8)).astype(np.float32)
    for fourier in (False, True):
        found = maximize(
            small(), units=[0, 1], shape=(2, 8, 8), steps=1, lr=0.0, start=start, fourier=fourier
        )
        np.testing.assert_allclose(found.images, np.stack([start, start]), atol=1e-5)


def test_a_unit_that_is_off_everywhere_is_told():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1, groups=2))
    net.state_dict()["0.bias"][:] = (-100, 1)
    found = maximize(net, "2", [0, 1], shape=(1, 6, 6), steps=3)
    assert found.stuck.tolist() == [True, False]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6])
def test_a_unit_whose_own_relu_is_off_is_climbed_until_it_is_on(activation):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), activation())
    net.state_dict()["0.weight"][:] = 1
    net.state_dict()["0.bias"][:] = (-6, -100)
    options = {"shape": (1, 6, 6), "steps": 60, "lr": 0.1}
    found = maximize(net, "1", [0, 1, (0, 1, 2)], **options)
    assert not found.stuck.any()
    np.testing.assert_array_equal(found.course[:, 0], 0)
    assert (found.scores[[0, 2]] > 0.5).all()
    assert found.scores[1] == 0  # −100 + 9 is as far as it goes
    values = net(found.images)
    np.testing.assert_allclose(found.scores[0], values[0, 0].mean(), rtol=1e-5)


def test_where_its_relu_is_on_the_gradient_is_the_true_one():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    x = np.random.default_rng(0).random((1, 6, 6)).astype(np.float32)
    found = maximize(net, "1", [0, 1, 2], shape=(1, 6, 6), start=x, steps=1, lr=0.01, jitter=0,
                     fourier=False, limits=None)  # fmt: skip
    values, gradient = Probe(net, (1, 6, 6)).gradient(
        np.stack([x] * 3), "1", np.eye(3)[:, :, None, None] * np.ones((1, 1, 4, 4))
    )
    on = values[np.arange(3), np.arange(3)].any(axis=(1, 2))
    assert on.any()
    moved = np.sign((found.images - x)[on]) * (np.abs(gradient[on]) > 1e-4)
    np.testing.assert_array_equal(moved, np.sign(gradient[on]) * (np.abs(gradient[on]) > 1e-4))


def test_the_network_is_left_as_it_was_and_a_loaded_one_knows_its_shape(tmp_path):
    net = small()
    before = {name: array.copy() for name, array in net.state_dict().items()}
    net.train()
    st.save(net, tmp_path / "net.safetensors", input_shape=(2, 8, 8))
    maximize(net, units=0, shape=(2, 8, 8), steps=2)
    assert net.training
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    loaded = maximize(st.load(tmp_path / "net.safetensors"), units=0, steps=2)
    assert loaded.images.shape == (1, 2, 8, 8)


def test_progress_counts_all_steps():
    told: list[tuple[int, int]] = []
    maximize(
        small(),
        units=[0, 1, 2],
        shape=(2, 8, 8),
        steps=2,
        batch_size=2,
        progress=lambda done, all_: told.append((done, all_)),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


# ---- the parts, each against its own definition ----------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
def test_total_variation_is_its_sum_and_its_gradient_a_difference(beta):
    x = np.random.default_rng(1).normal(size=(2, 2, 3, 4)).astype(np.float32)
    value, gradient = total_variation(x, beta)
    wanted = 0.0
    for c in range(2):
        for i in range(3):
            for j in range(4):
                right = x[0, c, i, j + 1] - x[0, c, i, j] if j < 3 else 0
                down = x[0, c, i + 1, j] - x[0, c, i, j] if i < 2 else 0
                wanted += (right**2 + down**2) ** (beta / 2) / 12
    np.testing.assert_allclose(value[0], wanted, rtol=1e-4)
    check_gradient(lambda z: total_variation(z, beta)[0], x, gradient)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 6.0])
def test_alpha_norm_is_its_mean_and_its_gradient_a_difference(alpha):
    x = np.random.default_rng(2).normal(size=(2, 3, 2, 2)).astype(np.float32)
    centre = np.array([0.1, 0.2, -0.3], np.float32).reshape(3, 1, 1)
    value, gradient = alpha_norm(x, alpha, centre)
    np.testing.assert_allclose(value, (np.abs(x - centre) ** alpha).mean(axis=(1, 2, 3)), rtol=1e-4)
    check_gradient(lambda z: alpha_norm(z, alpha, centre)[0], x, gradient)


def check_gradient(function, x, gradient, step=1e-2, atol=2e-3):
    """Central differences in a few random directions."""
    random = np.random.default_rng(9)
    for _ in range(3):
        way = random.normal(size=x.shape).astype(np.float32)
        way /= np.linalg.norm(way)
        slope = (function(x + step * way) - function(x - step * way)).sum(dtype=float) / (2 * step)
        assert slope == pytest.approx(float((gradient * way).sum()), rel=5e-3, abs=atol)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 8), (2, 4, 7)])
@pytest.mark.parametrize("kind", [Pixels, Fourier])
@pytest.mark.parametrize("bounded", [False, True])
def test_a_space_goes_there_and_back_and_its_pull_is_its_derivative(shape, kind, bounded):
    random = np.random.default_rng(3)
    colours = colour_root(
        random.normal(size=(4, *shape)) * np.arange(1, 1 + shape[0])[:, None, None]
    )
    space = image_space(
        shape,
        "test",
        limits=(0, 1) if bounded else None,
        centre=0.4,
        colours=colours,
        fourier=kind is Fourier,
    )
    assert type(space) is kind
    x = random.uniform(0.2, 0.8, (2, *shape)).astype(np.float32)
    z = space.of(x)
    np.testing.assert_allclose(space.image(z), x, atol=1e-5)
    np.testing.assert_allclose(space.image(np.zeros_like(z)), np.full_like(x, 0.4), atol=1e-6)
    up = random.normal(size=x.shape).astype(np.float32)
    check_gradient(
        lambda v: (space.image(v) * up).sum(axis=(1, 2, 3)), z, space.pull(space.image(z), up)
    )


def test_high_frequencies_are_scaled_down():
    space = image_space((1, 16, 16), "test", limits=None, centre=None, colours=None, fourier=True)
    z = np.ones((1, 1, 16, 9, 2), np.float32)
    spectrum = np.abs(np.fft.rfft2(space.image(z)[0, 0]))
    assert spectrum[0, 1] == pytest.approx(4 * spectrum[0, 4], rel=1e-4)
    flat = image_space(
        (1, 16, 16), "test", limits=None, centre=None, colours=None, fourier=True, decay=0.0
    )
    spectrum = np.abs(np.fft.rfft2(flat.image(z)[0, 0]))
    assert spectrum[0, 1] == pytest.approx(spectrum[0, 4], rel=1e-4)


def test_blur_is_a_gaussian_of_its_width():
    x = np.zeros((1, 1, 33, 33), np.float32)
    x[0, 0, 16, 16] = 1
    soft = blur(x, 2.0)[0, 0].astype(float)
    away = np.arange(33) - 16.0
    bell = np.exp(-(away**2) / 8)
    np.testing.assert_allclose(soft, np.outer(bell, bell) / bell.sum() ** 2, atol=1e-6)


def test_colours_are_those_of_the_images():
    random = np.random.default_rng(4)
    mix = np.array([[1, 0.5, 0], [0, 1, 0], [0.2, 0, 0.3]])
    images = np.einsum("ck,nkhw->nchw", mix, random.normal(size=(500, 3, 8, 8)))
    root = colour_root(images)
    covariance = root @ root.T
    wanted = mix @ mix.T
    np.testing.assert_allclose(
        covariance / np.trace(covariance), wanted / np.trace(wanted), atol=0.01
    )


# ---- what cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "9"}, ModelError, r"unknown layer '9'.*There is: '0'|unknown layer '9'"),
        ({"units": 7}, OptionError, r"shape \(5,\) \(0…4\); got 7"),
        ({"layer": "0", "units": [(0, 6, 0)]}, OptionError, r"got \(0, 6, 0\)"),
        ({"units": []}, OptionError, r"a list of these; got \[\]"),
        ({"units": "cat"}, OptionError, "got 'cat'"),
        ({"steps": 0}, OptionError, "steps to be a whole number of at least 1; got steps=0"),
        ({"lr": -1.0}, OptionError, "lr to be a number of at least 0"),
        ({"tv": np.nan}, OptionError, "tv to be a number"),
        ({"tv_beta": 0.5}, OptionError, "beta to be a number of at least 1"),
        ({"jitter": 1.5}, OptionError, "jitter to be a whole number"),
        ({"limits": (1, 0)}, OptionError, r"below the highest; got limits=\(1, 0\)"),
        ({"limits": 3}, OptionError, r"limits \(lowest, highest\)"),
        ({"limits": ((0, 0, 0), 1)}, OptionError, "one for each of 2 channels"),
        ({"centre": (1, 2, 3)}, OptionError, "centre to be a number, or one for each of 2"),
        ({"colours": np.eye(3)}, OptionError, r"matrix \(2, 2\)"),
        ({"radius": 1.0}, OptionError, "fourier=False with a radius"),
        ({"seed": -1}, OptionError, "seed"),
        ({"shape": None}, OptionError, r"expected shape, as \(3, 32, 32\)"),
        ({"start": np.zeros((3, 2, 8, 8))}, OptionError, "one for each of 1 units; got 3"),
        ({"start": np.zeros((2, 9, 9))}, ShapeError, r"images \(n, 2, 8, 8\)"),
    ],
)
def test_what_cannot_be_maximised(options, error, message):
    with pytest.raises(error, match=message):
        maximize(small(), **{"shape": (2, 8, 8), "steps": 2, **options})


def test_only_images_have_an_image_space():
    with pytest.raises(ShapeError, match=r"images \(c, h, w\); got one for \(4,\)"):
        maximize(nn.Sequential(nn.Linear(4, 2)), shape=(4,))
