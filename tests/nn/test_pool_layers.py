"""Pooling layers in use: switches in networks, chance, learned regions, formats, messages."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import DataError, OptionError, ShapeError
from striate.nn import functional as F

FACTS = json.loads((Path(__file__).parents[1] / "data" / "facts.json").read_text("utf-8"))
POOLED = [f for f in FACTS if f["id"].startswith(("maxpool", "pool2x2"))]
BACKENDS = ["native", "reference"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(*shape, seed=0):
    """Different whole numbers, in random order."""
    size = int(np.prod(shape))
    return np.random.default_rng(seed).permutation(size).reshape(shape).astype(np.float32) - 3


@pytest.mark.parametrize("fact", POOLED, ids=lambda f: f["id"])
def test_facts_through_the_public_api(fact):
    x = np.array(fact["input"], np.float32)[None, None]
    kind = "max" if "max" in fact["id"] else fact["id"].removeprefix("pool2x2-")
    layer = {"max": nn.MaxPool2d, "average": nn.AvgPool2d, "sum": nn.SumPool2d}[kind]
    pool = layer(fact["kernel_size"], fact["stride"])
    assert pool(x)[0, 0].tolist() == fact["expected"]


# ---- switches ----------------------------------------------------------------------------------


class Switched(nn.Module):
    """Pool, scale, unpool: what a deconvolution network does."""

    def __init__(self, rank=2, kernel=2, stride=None, padding=0, **more):
        super().__init__()
        pool = getattr(nn, f"MaxPool{rank}d")
        self.pool = pool(kernel, stride, padding, return_indices=True, **more)
        self.unpool = getattr(nn, f"MaxUnpool{rank}d")(kernel, stride, padding)

    def forward(self, x):
        y, indices = self.pool(x)
        return self.unpool(2 * y, indices, x.shape[2:])


CASES = [
    (1, 3, 2, 0, (2, 3, 9)),
    (1, 1, 1, 0, (1, 1, 1)),
    (2, 2, None, 0, (2, 3, 6, 8)),
    (2, 3, 2, 1, (17, 2, 7, 6)),
    (2, (2, 3), (1, 2), (1, 1), (2, 2, 5, 6)),
    (2, 2, 3, 0, (2, 2, 8, 8)),
    (3, 2, None, 0, (2, 2, 4, 4, 6)),
    (3, (1, 2, 3), 1, 0, (1, 2, 2, 3, 4)),
]


@pytest.mark.parametrize(("rank", "kernel", "stride", "padding", "shape"), CASES)
def test_unpooling_keeps_the_maxima(rank, kernel, stride, padding, shape):
    x = whole(*shape)
    net = Switched(rank, kernel, stride, padding)
    y, indices = net.pool(x)
    assert y.dtype == np.float32 and indices.dtype == np.int64
    assert np.array_equal(y, getattr(nn, f"MaxPool{rank}d")(kernel, stride, padding)(x))
    flat = x.reshape(*shape[:2], -1)
    found = np.take_along_axis(flat, indices.reshape(*shape[:2], -1), 2)
    assert np.array_equal(found.reshape(y.shape), y)
    expected = np.zeros_like(flat)
    np.put_along_axis(expected, indices.reshape(*shape[:2], -1), found, 2)
    assert np.array_equal(net.unpool(y, indices, shape[2:]), expected.reshape(shape))
    assert np.array_equal(net(x), 2 * expected.reshape(shape))
    again = net.pool(net.unpool(np.abs(y), indices, shape[2:]))[0]
    assert padding or stride or np.array_equal(again, np.abs(y))


def test_ceil_mode_and_dilation_with_switches():
    x = whole(2, 2, 7, 5)
    y, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    back = F.max_unpool2d(y, indices, 2, output_size=(7, 5))
    assert np.array_equal(np.sort(back[back != 0]), np.sort(y[y != 0]))
    y, indices = F.max_pool2d(x, 2, 1, dilation=2, return_indices=True)
    back = F.max_unpool2d(y, indices, 2, 1, dilation=2)
    assert back.shape == x.shape and set(back[back != 0]) == set(y[y != 0])


def test_of_equal_maxima_and_nan_the_first():
    x = np.array([[[[1.0, 5, 5], [5, 5, 0], [2, np.nan, np.nan]]]], np.float32)
    y, indices = F.max_pool2d(x, 2, 1, return_indices=True)
    assert indices[0, 0].tolist() == [[1, 1], [7, 7]]
    assert np.isnan(y[0, 0, 1]).all() and y[0, 0, 0].tolist() == [5, 5]


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        self.back = nn.Conv2d(4, 1, 3, padding=1)
        self.fc = nn.Linear(64, 3)

    def forward(self, x):
        y, indices = self.pool(F.relu(self.conv(x)))
        return self.fc(self.back(self.unpool(y, indices)).flatten(1))


def trained(make, x, labels, backend):
    st.manual_seed(5)
    net = make()
    st.fit(net, (x, labels), epochs=2, batch_size=7, progress=False, backend=backend)
    return net


def check_same_training(make, x):
    """Native training gives what the reference gives, and both move the weights."""
    labels = np.arange(len(x)) % 3
    st.manual_seed(5)
    before = [p.data.copy() for p in make().parameters()]
    nets = [trained(make, x, labels, backend) for backend in BACKENDS]
    pairs = zip(*(net.parameters() for net in nets), before, strict=True)
    for native, reference, start in pairs:
        np.testing.assert_allclose(native.data, reference.data, rtol=2e-4, atol=2e-5)
        assert not np.array_equal(native.data, start)


def test_switches_are_trained_through():
    check_same_training(Autoencoder, normal(20, 1, 8, 8))


def test_files_keep_switches(tmp_path):
    net, x = Autoencoder().eval(), normal(3, 1, 8, 8)
    net(x)
    st.save(net, tmp_path / "net.safetensors")
    assert np.array_equal(st.load(tmp_path / "net.safetensors")(x), net(x))


def test_indices_of_other_windows_are_refused():
    x = normal(1, 1, 7, 7)
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    with pytest.raises(DataError, match=r"every index inside its own window of an image of \(6, 6"):
        F.max_unpool2d(y, indices, 2)
    assert F.max_unpool2d(y, indices, 2, output_size=(1, 1, 7, 7)).shape == x.shape
    with pytest.raises(OptionError, match=r"within less than a stride of \(6, 6\); got output_siz"):
        F.max_unpool2d(y, indices, 2, output_size=(9, 7))
    with pytest.raises(ShapeError, match="an index for each number; got input"):
        F.max_unpool2d(y, indices[:, :, 1:], 2)

    class Wrong(nn.Module):
        def forward(self, x):
            return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)

    with pytest.raises(ShapeError, match=r"expected output_size=\(7, 7\), the size of the image"):
        Wrong()(x)


def test_planes_too_large_to_number():
    from striate.formula.operations import find_operation

    settings = {"kernel": [2], "stride": [2], "padding": [[0, 0]], "dilation": [1]}
    with pytest.raises(ShapeError, match=r"at most 2\^24 = 16777216 places"):
        find_operation("max_pool_indices").shape(settings, [(1, 2**24 + 2)])


# ---- chance ------------------------------------------------------------------------------------


def test_stochastic_pooling_draws_in_proportion():
    x = np.array([1.0, 0, 3, -2], np.float32).reshape(1, 1, 2, 2).repeat(4000, 0)
    pool = nn.StochasticPool2d(2)
    st.manual_seed(1)
    y = pool(x).ravel()
    assert set(y) == {1.0, 3.0}
    assert 0.72 < np.mean(y == 3) < 0.78
    assert np.unique(pool(x)).size == 2 and not np.array_equal(pool(x).ravel(), y)
    st.manual_seed(1)
    assert np.array_equal(pool(x).ravel(), y)
    assert pool.eval()(x[:1]).item() == pytest.approx(10 / 4)
    assert F.stochastic_pool(-np.abs(x), 2).max() == 0


def test_stochastic_pooling_is_trained_through():
    def make():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.StochasticPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        )

    check_same_training(make, normal(20, 1, 8, 8))


def test_fractional_windows_are_drawn_once():
    x = whole(2, 3, 17, 13)
    st.manual_seed(3)
    pool = nn.FractionalMaxPool2d(3, output_ratio=0.6)
    assert pool(x).shape == (2, 3, 10, 7)
    assert np.array_equal(pool(x), pool(x))
    st.manual_seed(3)
    assert np.array_equal(nn.FractionalMaxPool2d(3, output_ratio=0.6)(x), pool(x))
    others = [nn.FractionalMaxPool2d(3, output_ratio=0.6)(x) for _ in range(8)]
    assert len({y.tobytes() for y in others}) > 1
    y, places = nn.FractionalMaxPool2d(2, (8, 7), return_indices=True)(x)
    assert np.array_equal(
        np.take_along_axis(x.reshape(2, 3, -1), places.reshape(2, 3, -1), 2), y.reshape(2, 3, -1)
    )
    before = pool(x)
    pool.samples = (0.9, 0.1)
    assert not np.array_equal(pool(x), before)


# ---- pyramids, channels ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (2, 3, 4, 4), (2, 3, 5)])
def test_pyramids_give_one_length(shape):
    x = normal(*shape)
    rank = len(shape) - 2
    pool = nn.SpatialPyramidPool((1, 2, 4), "avg")
    expected = [
        getattr(F, f"adaptive_avg_pool{rank}d")(x, k).reshape(len(x), -1) for k in (1, 2, 4)
    ]
    for y in (pool(x), nn.Sequential(pool)(x)):
        np.testing.assert_allclose(y, np.concatenate(expected, 1), rtol=1e-6, atol=1e-6)
    quadrants = F.spatial_pyramid_pool(x, (2,))
    assert quadrants.shape == (2, 3 * 2**rank)


def test_maxout_is_a_maximum_of_linear_units():
    st.manual_seed(0)
    unit = nn.Maxout(5, 3, 4)
    x = normal(6, 5)
    pieces = unit.linear(x).reshape(6, 3, 4)
    np.testing.assert_allclose(unit(x), pieces.max(2), rtol=1e-5)
    assert unit.linear.weight.shape == (12, 5)
    check_same_training(lambda: nn.Sequential(nn.Maxout(5, 4, 3), nn.Linear(4, 3)), normal(20, 5))


def test_norms_of_zeros_have_gradient_zero():
    def make():
        layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.LPPool2d(2, 2), nn.ChannelLPPool(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(18, 3))

    x = normal(20, 1, 8, 8)
    x[::2] = -1  # ReLU gives nothing in whole windows
    check_same_training(make, x)


# ---- learned regions ---------------------------------------------------------------------------


def test_regions_are_found_in_data():
    sklearn = pytest.importorskip("sklearn")
    assert sklearn
    rng = np.random.default_rng(0)
    active = np.zeros((6, 6))
    active[1:4, 2:5] = 1
    x = (rng.random((30, 2, 1, 1)) * active + 0.05 * rng.random((30, 2, 6, 6))).astype(np.float32)
    pool = nn.DynamicPool2d(2, 6)
    y = pool(x)
    pool.fit(x)
    assert np.array_equal(pool.labels, active)
    np.testing.assert_allclose(pool(x)[:, :, 1], x[:, :, 1:4, 2:5].mean((2, 3)), rtol=1e-5)
    assert not np.array_equal(pool(x), y)
    other = nn.DynamicPool2d(2, 6)
    assert not np.array_equal(other(x), pool(x))
    other.load_state_dict(pool.state_dict())
    assert np.array_equal(other(x), pool(x))
    assert np.array_equal(copy.deepcopy(pool)(x), pool(x))
    with pytest.raises(OptionError, match="tell 2 positions apart; got 1 different ones"):
        pool.fit(np.ones((1, 1, 6, 6)))
    with pytest.raises(ShapeError, match=r"expected features \(n, channels, 6, 6\); got shape=\(1"):
        pool.fit(np.ones((1, 1, 5, 6)))
    with pytest.raises(ShapeError, match="Fit the regions on this size"):
        pool(np.ones((1, 1, 5, 6)))


def test_learned_regions_begin_as_quadrants_and_move():
    x = normal(4, 3, 6, 8)
    pool = nn.LearnedPool2d((6, 8))
    np.testing.assert_allclose(pool(x), F.avg_pool2d(x, (3, 4)).reshape(4, 3, 4), atol=1e-6)

    def make():
        return nn.Sequential(nn.LearnedPool2d((6, 8), (2, 3)), nn.Flatten(), nn.Linear(18, 3))

    check_same_training(make, normal(20, 3, 6, 8))


# ---- formats, strictness, borders --------------------------------------------------------------

LAST = [
    lambda f: nn.MaxPool2d(2, data_format=f),
    lambda f: nn.AvgPool2d(3, 2, 1, ceil_mode=True, data_format=f),
    lambda f: nn.SumPool2d(2, data_format=f),
    lambda f: nn.LPPool2d(2, 2, data_format=f),
    lambda f: nn.GaussianPool2d(3, 1.0, data_format=f),
    lambda f: nn.StochasticPool2d(2, data_format=f).eval(),
    lambda f: nn.AdaptiveAvgPool2d((2, 3), data_format=f),
    lambda f: nn.AdaptiveMaxPool2d((2, None), data_format=f),
    lambda f: nn.GlobalMaxPool2d(data_format=f),
    lambda f: nn.Upsample(scale_factor=2, mode="bilinear", data_format=f),
]


@pytest.mark.parametrize("k", range(len(LAST)))
def test_channels_last(k):
    x = normal(2, 3, 6, 7)
    first, last = LAST[k]("channels_first"), LAST[k]("channels_last")
    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(last(turned), first(x).transpose(0, 2, 3, 1), rtol=1e-6, atol=1e-6)


def test_switches_with_channels_last():
    x = normal(2, 4, 6, 3)
    y, indices = nn.MaxPool2d(2, return_indices=True, data_format="channels_last")(x)
    expected = F.max_pool2d(x.transpose(0, 3, 1, 2), 2, return_indices=True)
    for found, wanted in zip((y, indices), expected, strict=True):
        assert np.array_equal(found, wanted.transpose(0, 2, 3, 1))


def test_strict_refuses_rows_that_are_not_read():
    x = normal(1, 1, 7, 6)
    assert nn.MaxPool2d(2)(x).shape == (1, 1, 3, 3)
    with pytest.raises(ShapeError, match="MaxPool2d: strict=True expected every one of the 7 rows"):
        nn.MaxPool2d(2, strict=True)(x)
    assert nn.MaxPool2d(2, strict=True, ceil_mode=True)(x).shape == (1, 1, 4, 3)


def test_filters_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = normal(1, 1, 9, 8)
    image = x[0, 0].astype(np.float64)
    box = ndimage.maximum_filter(image, 3, mode="constant", cval=-np.inf)
    np.testing.assert_allclose(F.max_pool2d(x, 3, 1, 1)[0, 0], box, rtol=1e-6)
    mean = ndimage.uniform_filter(image, 5, mode="constant")
    np.testing.assert_allclose(F.avg_pool2d(x, 5, 1, 2)[0, 0], mean, rtol=1e-5, atol=1e-6)
    smooth = ndimage.gaussian_filter(image, 0.8, mode="constant", truncate=2 / 0.8)
    found = F.gaussian_pool(x, 5, 0.8, 1, 2, count_include_pad=True)[0, 0]
    np.testing.assert_allclose(found, smooth, rtol=1e-5, atol=1e-6)


def test_constant_images_keep_their_value():
    x = np.full((1, 2, 7, 6), 3.0, np.float32)
    for y in (
        F.gaussian_pool(x, 3, 0.7, 2, 1),
        F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        F.interpolate(x, (11, 3), mode="bicubic", antialias=True),
        F.adaptive_avg_pool2d(x, (4, 5)),
    ):
        np.testing.assert_allclose(y, 3.0, rtol=1e-6)


def test_fold_is_the_transpose_of_unfold():
    x, y = whole(2, 3, 5, 6), whole(2, 27, 6, seed=1)
    columns = F.unfold(x, 3, padding=1, stride=2)
    assert columns.shape == (2, 27, 9)
    y = whole(2, 27, 9, seed=1)
    back = F.fold(y, (5, 6), 3, padding=1, stride=2)
    assert (columns.astype(float) * y).sum() == (x.astype(float) * back).sum()
    net = nn.Sequential(nn.Unfold(3, padding=1, stride=2), nn.Fold((5, 6), 3, padding=1, stride=2))
    counts = F.fold(F.unfold(np.ones_like(x), 3, padding=1, stride=2), (5, 6), 3, 1, 1, 2)
    assert np.array_equal(net(x), x * counts)


# ---- messages ----------------------------------------------------------------------------------

X = np.zeros((1, 4, 4, 4), np.float32)
BAD = [
    (lambda: nn.MaxPool1d((2, 2)), r"MaxPool1d: kernel_size: expected a whole number; got \(2, 2"),
    (lambda: nn.MaxPool2d(2)(X[0]), r"MaxPool2d: expected an input \(n, channels, height, width\)"),
    (lambda: nn.SumPool3d(2)(X), r"SumPool3d: expected an input \(n, channels, depth, height, wid"),
    (lambda: nn.AvgPool2d(2, divisor_override=1.5), "divisor_override to be a whole number other"),
    (lambda: nn.LPPool2d(0, 2), "LPPool2d: expected norm_type above 0, or −∞; got norm_type=0"),
    (lambda: nn.GaussianPool2d(3, -1.0), "GaussianPool2d: expected sigma above 0"),
    (lambda: nn.GaussianPool2d(3, (1.0, 1.0, 1.0)), "one number or 2; got sigma"),
    (lambda: nn.FractionalMaxPool2d(2), "either output_size or output_ratio; got output_size=None"),
    (lambda: nn.FractionalMaxPool2d(2, output_ratio=1.5), "output_ratio between 0 and 1"),
    (lambda: nn.FractionalMaxPool2d(3, 4)(X), "output_size \\+ kernel_size − 1 of at most the inp"),
    (lambda: nn.AdaptiveMaxPool1d((2, 3)), "AdaptiveMaxPool1d: expected output_size of one number"),
    (lambda: nn.SpatialPyramidPool((1, 0)), "expected levels to be a whole number from 1"),
    (lambda: nn.SpatialPyramidPool(mode="mean"), "expected mode to be 'max' or 'avg'; got"),
    (lambda: nn.ChannelMaxPool(3)(X), "groups of 3 channels, 3 apart, that take up all channels"),
    (lambda: nn.DynamicPool2d(17, 4), r"expected at most 4·4 regions, a position for each"),
    (lambda: nn.LearnedPool2d(4, 5), r"expected a grid that fits the image; got regions=\(5, 5\)"),
    (lambda: nn.LearnedPool2d(5)(X), r"LearnedPool2d: expected maps w .* input_size=\(4, 4\)"),
    (lambda: F.region_pool(X, [[0, 2], [0, 0]]), "every region from 0 to 2 to have a position"),
    (lambda: nn.Upsample(), "Upsample: expected either size or scale_factor; got size=None"),
    (lambda: nn.Upsample(2, mode="bilinea"), "unknown mode 'bilinea'. Did you mean 'bilinear'"),
    (lambda: F.interpolate(X, 2, mode="linear"), "expected a mode for 2 axes of space, one of"),
    (lambda: F.interpolate(X, 2, align_corners=True), "align_corners only with the linear and cub"),
    (lambda: F.interpolate(X, 2, antialias=True), "antialias only with mode 'bilinear' or 'bicub"),
    (lambda: F.interpolate(X, scale_factor=0.1), "an output of at least 1 along every axis"),
    (lambda: F.interpolate(X, 2, mode="lanczos"), "mode='lanczos' is not supported"),
    (lambda: F.pixel_shuffle(X[:, :3], 2), r"channels divisible by 2\^2 = 4; got 3"),
    (lambda: F.pixel_unshuffle(X, 3), "sizes divisible by 3; got .*Crop or pad the image first"),
    (lambda: F.channel_shuffle(X, 3), "channels divisible by groups; got channels=4, groups=3"),
    (lambda: F.fold(X[0], 4, 2), r"fold: expected an input \(n, channels·4, 9\), a column for ea"),
    (lambda: nn.MaxPool2d(2, data_format="NHWC"), "data_format 'channels_first' or 'channels_las"),
]


@pytest.mark.parametrize("k", range(len(BAD)))
def test_messages(k):
    call, text = BAD[k]
    with pytest.raises((OptionError, ShapeError), match=text):
        call()
