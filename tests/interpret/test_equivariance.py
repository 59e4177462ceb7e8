"""The equivariance meter: exact where theory says so, not where it says otherwise."""

from __future__ import annotations

import doctest
import importlib
import json

import numpy as np
import pytest
from scipy import ndimage

import striate as st
from striate import interpret, nn
from striate.errors import ModelError, OptionError, ShapeError
from striate.interpret.equivariance_moves import Grid, grids, move, resample, scrambled

meter = importlib.import_module("striate.interpret.equivariance")
RANDOM = np.random.default_rng(5)
EXACT = 2e-6  # float32's rounding, against the responses' own size


def _images(count: int = 4, channels: int = 1, side: int = 16) -> np.ndarray:
    noise = RANDOM.normal(size=(count, channels, side, side))
    return ndimage.gaussian_filter(noise, (0, 0, 1, 1), mode="wrap").astype(np.float32)


def _circular(*more: nn.Module, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(1, 4, 3, padding=1, stride=stride, padding_mode="circular")
    return nn.Sequential(conv, nn.ReLU(), *more)


# ---- the measures ------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (2, -1)])
def test_a_circular_network_of_stride_1_follows_every_shift(direction):
    found = interpret.equivariance(
        _circular(), _images(), amounts=[0, 1, 3, 5], direction=direction, outside="wrap"
    )
    assert max(found["1"].error) < EXACT
    assert found["1"].error[0] == 0 and found["1"].distance[0] == 0
    assert min(found["1"].distance[1:]) > 0.2, "the response moves, so it changes"


def test_a_layer_without_shared_weights_does_not_follow():
    net = nn.LocallyConnected2d(1, 4, (16, 16), 3, padding=1)
    found = interpret.equivariance(net, _images(), amounts=[1, 4], outside="wrap")
    assert min(found.layers[0].error) > 0.3


def test_stride_2_follows_even_shifts_only():
    found = interpret.equivariance(
        _circular(stride=2), _images(), amounts=[1, 2, 3, 4], outside="wrap", layers=["1"]
    )
    one, two, three, four = found["1"].error
    assert max(two, four) < EXACT
    assert min(one, three) > 0.05
    assert found["1"].stride == (2, 2)


def test_blur_pool_follows_odd_shifts_better_than_max_pool():
    """Zhang 2019: the maximum at every place, blurred, then every other one."""
    st.manual_seed(0)
    blur = nn.Conv2d(4, 4, 4, stride=2, padding="valid", groups=4, bias=False)
    line = np.array([1.0, 3.0, 3.0, 1.0]) / 8
    blur.weight.data[...] = line[:, np.newaxis] * line
    dense = nn.MaxPool2d(2, stride=1)
    front = _circular()
    pooled = interpret.equivariance(
        nn.Sequential(front, nn.MaxPool2d(2)), _images(8, side=24), amounts=[1]
    )
    blurred = interpret.equivariance(
        nn.Sequential(front, dense, blur), _images(8, side=24), amounts=[1]
    )
    assert blurred.layers[-1].error[0] < 0.7 * pooled.layers[-1].error[0]


def test_what_is_pooled_globally_is_invariant_to_shifts():
    net = _circular(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    found = interpret.equivariance(net, _images(), amounts=[1, 2, 5], outside="wrap")
    for name in ("2", "3", "4"):
        assert max(found[name].distance) < 20 * EXACT
        assert found[name].error == (None,) * 3, "there is no space to follow in"
        assert min(found[name].cosine) > 1 - EXACT


def test_kernels_of_rotation_symmetry_follow_quarter_turns():
    conv = nn.Conv2d(1, 3, 3, padding=1)
    turned = interpret.equivariance(conv, _images(), transform="rotate", amounts=[90])
    assert turned.layers[0].error[0] > 0.1
    kernel = conv.weight.data
    conv.weight.data[...] = sum(np.rot90(kernel.copy(), k, (2, 3)) for k in range(4))
    net = nn.Sequential(conv, nn.ReLU(), nn.AvgPool2d(2))
    turned = interpret.equivariance(net, _images(), transform="rotate", amounts=[90, 180, 270, 45])
    for layer in turned.layers:
        assert max(layer.error[:3]) < EXACT
        assert 0 < layer.error[3] < 0.5, "between pixels it is interpolated"


def test_a_linear_layer_follows_brightness_and_a_biased_one_does_not():
    images = _images()
    linear = interpret.equivariance(
        nn.Conv2d(1, 4, 3, bias=False), images, transform="brighten", amounts=[-0.5, 0, 1]
    )
    biased = nn.Conv2d(1, 4, 3)
    biased.bias.data[...] = 1.0
    shifted = interpret.equivariance(biased, images, transform="brighten", amounts=[-0.5, 0, 1])
    assert max(linear.layers[0].error) < EXACT
    assert min(shifted.layers[0].error[::2]) > 0.1
    assert linear.layers[0].distance[0] > 0.1


def test_the_measures_are_those_of_the_formulas():
    """An identity layer, written out by slices: a shift by 2 to the right, edges repeated."""
    layer = nn.Conv2d(1, 1, 1, bias=False)
    layer.weight.data[...] = 1.0
    images = _images(3, side=9)
    [found] = interpret.equivariance(layer, images, amounts=[2]).layers
    moved = np.concatenate([images[..., :1], images[..., :1], images[..., :-2]], axis=-1)
    others = np.roll(images, -1, axis=0)
    distance = np.sqrt(np.square(moved - images).sum() / np.square(moved - others).sum())
    assert found.error[0] < EXACT
    np.testing.assert_allclose(found.distance[0], distance, rtol=1e-5)
    cosines = [
        (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        for a, b in zip(moved, images, strict=True)
    ]
    np.testing.assert_allclose(found.cosine[0], np.mean(cosines), rtol=1e-5)


def test_unrelated_responses_measure_1():
    """Weights that differ from place to place have nothing in common with their neighbours."""
    net = nn.LocallyConnected2d(1, 40, (12, 12), 3, padding=1, bias=False)
    [found] = interpret.equivariance(net, _images(12, side=12), amounts=[5], outside="wrap").layers
    assert 0.9 < found.error[0] < 1.1
    assert 0.9 < found.distance[0] < 1.1


def test_a_shift_out_of_the_map_has_no_error_and_dead_layers_no_measure():
    dead = nn.Conv2d(1, 2, 3, bias=False)
    dead.weight.data[...] = 0.0
    found = interpret.equivariance(nn.Sequential(nn.AvgPool2d(4), dead), _images(), amounts=[20])
    assert found.layers[0].error == (None,)
    assert found.layers[1].distance == (0.0,)
    assert found.layers[1].cosine == (None,)


def test_only_padded_borders_break_a_convolution():
    """What stays inside of a shifted image is the same; zeros around it are not."""
    valid, padded = (
        interpret.equivariance(nn.Conv2d(1, 3, 3, padding=p), _images() + 1, amounts=[1, 4])
        for p in (0, 1)
    )
    assert max(valid.layers[0].error) < EXACT
    assert min(padded.layers[0].error) > 0.05


def test_without_borders_only_strides_and_interpolation_are_left():
    images = _images(side=24) + 1
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(2),
        nn.Conv2d(3, 3, 3, padding=1), nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 2, 9, padding=4),
    )  # fmt: skip
    amounts = [1, 2, 4, -6]
    with_them = interpret.equivariance(net, images, amounts=amounts)
    without = interpret.equivariance(net, images, amounts=amounts, borders=False)
    for layer in without.layers[:5]:
        assert max(layer.error[1:]) < EXACT
    assert min(with_them["3"].error) > 0.01
    assert without["0"].error[0] < EXACT < without["2"].error[0], "the stride's own"
    assert without["5"].error == (None,) * 4, "every place looks beyond the image"
    assert without["5"].distance == with_them["5"].distance


def test_both_backends_measure_the_same():
    net, images = _circular(nn.MaxPool2d(2)), _images(2)
    native, reference = (
        interpret.equivariance(net, images, amounts=[1], backend=backend)
        for backend in ("native", "reference")
    )
    for one, two in zip(native.layers, reference.layers, strict=True):
        np.testing.assert_allclose(one.distance, two.distance, rtol=1e-4)


def test_images_in_parts_measure_as_all_at_once(monkeypatch):
    net, images = _circular(), _images(5)
    whole = interpret.equivariance(net, images, amounts=[1])
    monkeypatch.setattr(meter, "_TOGETHER", 2)
    parts = interpret.equivariance(net, images, amounts=[1])
    np.testing.assert_allclose(whole["1"].error, parts["1"].error, rtol=1e-5)


# ---- moves and grids ---------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_quarter_turns_are_exact(turn):
    images = _images(1, 2, 7)
    turned = move("rotate", 90.0 * turn, images.shape[1:], (0, 1), "edge").image(images)
    np.testing.assert_array_equal(turned, np.rot90(images, turn, (2, 3)))


@pytest.mark.parametrize(
    ("outside", "mode"),
    [("edge", "nearest"), ("wrap", "grid-wrap"), ("zero", "grid-constant"), ("reflect", "mirror")],
)
def test_resampling_is_that_of_scipy(outside, mode):
    image = _images(1, 1, 9)
    rows, columns = RANDOM.uniform(-6, 14, size=(2, 5, 6))
    expected = ndimage.map_coordinates(image[0, 0], [rows, columns], order=1, mode=mode)
    found = resample(image, rows, columns, outside)[0, 0]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_scaling_by_2_takes_each_place_from_half_as_far():
    image = np.arange(9.0, dtype=np.float32).reshape(1, 1, 1, 9).repeat(9, axis=2)
    doubled = move("scale", 2.0, (1, 9, 9), (0, 1), "edge").image(image)
    np.testing.assert_allclose(doubled[0, 0, 3], 4 + (np.arange(9) - 4) / 2)


def test_grids_lie_where_the_layers_look():
    net = nn.Sequential(nn.Conv2d(1, 2, 5), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1))
    known = grids(net.eval().to_graph((1, 28, 28)))
    assert [known[name].step for name in ("0", "1", "2")] == [(1, 1), (2, 2), (2, 2)]
    assert [known[name].start for name in ("0", "1", "2")] == [(2, 2), (2.5, 2.5), (2.5, 2.5)]


def test_grids_of_padding_that_repeats_the_image_and_behind_gates():
    known = grids(_circular(stride=2).eval().to_graph((1, 16, 16)))
    assert known["0.pad"] == Grid((-1, -1), (1, 1), (1, 1), (16, 16))
    assert known["1"] == Grid((0, 0), (2, 2), (3, 3), (16, 16))

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            return x * self.pool(x)

    net = nn.Sequential(nn.AvgPool2d(2), Gated())
    known = grids(net.eval().to_graph((1, 16, 16)))
    assert known["1.pool"] is None
    for name in ("0", "1.mul"):
        assert (known[name].start, known[name].step) == ((0.5, 0.5), (2, 2))
    assert known["1.mul"].field == (16, 16), "it sees the whole image"


def test_scrambled_images_keep_their_spectra():
    image = _images(2, 3, 12) + 1
    other = scrambled(image)
    np.testing.assert_allclose(
        np.abs(np.fft.rfft2(other))[..., 1:-1], np.abs(np.fft.rfft2(image))[..., 1:-1], rtol=1e-3,
        atol=1e-3,
    )  # fmt: skip
    np.testing.assert_allclose(other.mean((2, 3)), image.mean((2, 3)), rtol=1e-4)
    assert np.corrcoef(other[0, 0].ravel(), image[0, 0].ravel())[0, 1] < 0.7


# ---- what is said ------------------------------------------------------------------------------


def test_one_image_is_measured_against_its_phases_scrambled():
    found = interpret.equivariance(_circular(), _images(1)[0], amounts=[1])
    assert found.images == 1 and "random phases" in found.unrelated
    given = interpret.equivariance(_circular(), _images(1), amounts=[1], others=_images(2))
    assert given.unrelated == "the images given as others"


def test_text_and_json_have_every_layer_and_amount():
    found = interpret.equivariance(_circular(nn.Flatten()), _images(), amounts=[0, 2.5])
    text = str(found)
    assert "shift by 0, 2.5 (pixels); 4 images; 1 = different images" in text
    assert text.count("4×16×16") == 4 and " – " in text.replace("–\n", "– ")
    data = json.loads(json.dumps(found.to_dict()))
    assert data["amounts"] == [0, 2.5]
    assert data["layers"][-1]["error"] == [None, None]


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"transform": "shfit"}, OptionError, r"'shfit'\. Did you mean 'shift'"),
        ({"amounts": []}, OptionError, "at least one amount; got none"),
        ({"amounts": [np.nan]}, OptionError, "finite amounts; got nan"),
        ({"transform": "scale", "amounts": [0]}, OptionError, "above 0 to scale by; got 0"),
        ({"outside": "warp"}, OptionError, r"outside='warp'\. Did you mean 'wrap'"),
        ({"layers": ["7"]}, ModelError, "unknown layer '7'"),
        ({"others": np.zeros((1, 1, 9, 9))}, ShapeError, r"expected images \(n, 1, 16, 16\)"),
    ],
)
def test_what_cannot_be_measured(more, kind, message):
    with pytest.raises(kind, match=message):
        interpret.equivariance(_circular(), _images(), **more)


def test_vectors_are_no_images():
    with pytest.raises(ShapeError, match=r"expected images \(n, c, h, w\)"):
        interpret.equivariance(nn.Linear(4, 2), np.zeros(4, np.float32))


def test_examples_in_docstrings():
    assert doctest.testmod(meter).failed == 0
