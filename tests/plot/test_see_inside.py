"""Figures of what a network does: maps, matrices, rooflines, equivariance, top patches."""

from __future__ import annotations

import doctest
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from striate import interpret, nn, plot
from striate.errors import OptionError, ShapeError
from striate.formula.activation import ACTIVATIONS
from striate.measure.roofline import Point, Roofline
from striate.plot.page import POSITIVE, SIGNED
from tests.plot.test_plot import _pixels

RANDOM = np.random.default_rng(8)


def _attribution(**more) -> Figure:
    image = RANDOM.random((2, 3, 12, 16))
    maps = {"signed": RANDOM.normal(size=(2, 3, 12, 16)), "coarse": RANDOM.random((2, 1, 3, 4))}
    return plot.attribution(image, maps, **more)


def _roofline(timed: bool) -> Roofline:
    points = [
        Point(f"conv{k}", "conv2d", 10**k, 10**5, 0.3 if timed else None, 10.0 if timed else None,
              20.0) for k in range(4, 8)
    ]  # fmt: skip
    points.append(Point("fc", "linear", 10**5, 10**5, 0.1 if timed else None, None, 3.0))
    return Roofline((3, 32, 32), 1, 2, 0.01, 80.0, 10.0, 100.0, tuple(points))


def _equivariance(**more) -> Figure:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    images = RANDOM.random((3, 1, 8, 10)).astype(np.float32)
    found = interpret.equivariance(net, images, amounts=[0, 1, 20])
    return plot.equivariance(found, images[0], **more)


FIGURES = {
    "maps of colour images": lambda: _attribution(names=["cat", "a $ dog"]),
    "maps without overlay": lambda: _attribution(overlay=False, under="class 3"),
    "a map as colours": lambda: plot.attribution(
        RANDOM.normal(size=(3, 9, 9)), RANDOM.normal(size=(3, 9, 9)), channels="colour"
    ),
    "a grey image": lambda: plot.attribution(RANDOM.random((1, 20, 9)), np.zeros((20, 9))),
    "a matrix": lambda: plot.matrix(nn.Conv2d(2, 3, 3, padding=1), (2, 5, 6)),
    "a large matrix": lambda: plot.matrix(nn.Conv2d(1, 4, 3, stride=2), (1, 64, 48)),
    "matrices": lambda: plot.matrix(
        {"$ a": (nn.Conv1d(1, 1, 3), (1, 9)), "pool": (nn.AvgPool2d(2), (1, 6, 6))}
    ),
    "a roofline": lambda: plot.roofline(_roofline(True)),
    "a roofline without times": lambda: plot.roofline(_roofline(False)),
    "equivariance": _equivariance,
    "top patches": lambda: plot.top_patches(
        RANDOM.random((5, 9, 3, 7, 7)), RANDOM.random((5, 9)), RANDOM.normal(size=(5, 9, 3, 7, 7))
    ),
    "top patches alone": lambda: plot.top_patches(
        RANDOM.random((2, 5, 1, 9, 4)), RANDOM.random((2, 5)), names=["edges", "$ corners"]
    ),
    "filters in colour": lambda: plot.filters(
        {"a": RANDOM.normal(size=(30, 3, 5, 5)), "b": np.zeros((2, 1, 3, 3))}, colour=True
    ),
    "activations": lambda: plot.activations(["relu", "gelu", "selu"]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_something_is_drawn_and_nothing_touches_the_edge(name):
    pixels = _pixels(FIGURES[name]())
    assert (pixels < 250).mean() > 0.005
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert edge.min() > 250


# ---- attribution -------------------------------------------------------------------------------


def test_signed_maps_are_symmetric_about_0_and_positive_ones_start_there():
    signed = np.array([[[1.0, -3.0]]])
    figure = plot.attribution(
        np.zeros((1, 1, 2)), {"a": signed, "b": np.abs(signed)}, clip=0, overlay=False
    )
    _, a, b = figure.axes[0].images
    assert (a.get_clim(), a.get_cmap()) == ((-3.0, 3.0), SIGNED)
    assert (b.get_clim(), b.get_cmap()) == ((0.0, 3.0), POSITIVE)
    texts = [t.get_text() for t in figure.texts]
    assert {"−3 … 1", "1 … 3"} <= set(texts)


def test_a_share_of_the_pixels_may_be_beyond_the_colours():
    values = np.ones((1, 10, 10))
    values[0, 0, 0] = 100.0
    limits = [
        plot.attribution(np.zeros((1, 10, 10)), values, clip=c).axes[0].images[1].get_clim()[1]
        for c in (0.0, 0.02)
    ]
    assert limits == [100.0, 1.0]


@pytest.mark.parametrize(("channels", "expected"), [("sum", [-2.0, 3.0]), ("largest", [-3.0, 2.0])])
def test_channels_become_one_number_a_pixel(channels, expected):
    values = np.array([[[1.0, 1.0]], [[-3.0, 2.0]], [[0.0, 0.0]]])  # (3, 1, 2)
    figure = plot.attribution(np.zeros((3, 1, 2)), values, channels=channels, overlay=False)
    np.testing.assert_array_equal(figure.axes[0].images[1].get_array(), [expected])


def test_over_the_image_a_map_is_opaque_where_it_is_great():
    values = np.array([[[0.0, -2.0, 4.0]]])
    figure = plot.attribution(np.ones((1, 1, 3)), values, clip=0)
    over = figure.axes[0].images[-1]
    np.testing.assert_allclose(over.get_alpha(), [[0.0, 0.45, 0.9]])


# ---- matrix ------------------------------------------------------------------------------------


def test_the_matrix_drawn_is_the_layers():
    conv = nn.Conv1d(1, 1, 3, bias=False)
    conv.weight.data[...] = [[[1, -2, 3]]]
    figure = plot.matrix(conv, (1, 6))
    image = figure.axes[0].images[0]
    expected = np.zeros((4, 6))
    for k in range(4):
        expected[k, k : k + 3] = [1, -2, 3]
    np.testing.assert_array_equal(image.get_array(), expected)
    assert image.get_clim() == (-3.0, 3.0)
    assert any("12 of 24 entries (50 %)" in t.get_text() for t in figure.texts)


def test_of_a_large_matrix_the_greatest_entries_stay(monkeypatch):
    module = importlib.import_module("striate.plot.matrix")
    monkeypatch.setattr(module, "_MOST_PIXELS", 3)
    conv = nn.Conv1d(1, 1, 1, bias=False)
    conv.weight.data[...] = -7.0
    drawn = np.asarray(plot.matrix(conv, (1, 6)).axes[0].images[0].get_array())
    np.testing.assert_array_equal(drawn, -7 * np.eye(3))


def test_a_step_of_a_network_as_a_matrix():
    net = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))
    figure = plot.matrix(net, (1, 4, 4), node="1")
    assert np.asarray(figure.axes[0].images[0].get_array()).shape == (4, 16)


# ---- the others --------------------------------------------------------------------------------


def test_kernels_of_three_channels_are_colours_with_grey_for_0():
    kernels = np.zeros((2, 3, 1, 2))
    kernels[0, 0, 0, 0], kernels[1, 2, 0, 1] = 4.0, -2.0
    first, second = plot.filters({"w": kernels}, colour=True).axes[0].images
    np.testing.assert_allclose(first.get_array()[0], [[1.0, 0.5, 0.5], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(second.get_array()[0, 1], [0.5, 0.5, 0.25])


def test_every_named_activation_has_a_panel():
    figure = plot.activations()
    titles = {t.get_text() for t in figure.texts}
    assert set(ACTIVATIONS) <= titles


def test_equivariance_shows_numbers_and_what_is_not_known():
    figure = _equivariance()
    texts = [t.get_text() for t in figure.texts]
    assert texts.count("0 px") == 2 and "–" in texts
    assert "does it follow?" in texts and "does it change?" in texts


def test_a_result_of_the_search_is_drawn_like_its_arrays():
    patches, scores = RANDOM.random((2, 4, 1, 3, 3)), RANDOM.random((2, 4))
    found = SimpleNamespace(
        patches=patches, scores=scores, deconvolutions=None, layer="conv1", units=(3, 5)
    )
    drawn, same = plot.top_patches(found), plot.top_patches(patches, scores)
    assert len(drawn.axes[0].images) == len(same.axes[0].images) == 8
    assert any(t.get_text() == "conv1, 5" for t in drawn.texts)


def test_deconvolutions_of_a_unit_share_a_scale():
    maps = RANDOM.normal(size=(1, 4, 1, 3, 3))
    figure = plot.top_patches(np.zeros((1, 4, 1, 3, 3)), np.zeros((1, 4)), maps)
    limits = {image.get_clim() for image in figure.axes[0].images[:4]}
    greatest = np.abs(maps).max()
    assert limits == {(-greatest, greatest)}


def test_a_network_is_measured_for_its_roofline():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    found = importlib.import_module("striate.measure.roofline").roofline(
        net, (1, 8, 8), seconds=0.0
    )
    names = [point.name for point in found.points]
    assert names == ["0", "2"], "flattening computes nothing"
    conv, linear = found.points
    # 36 outputs of two channels: 9 products each and as many additions, the bias' one included
    assert conv.operations == 72 * 18
    assert conv.bytes == 4 * (64 + 18 + 2 + 72)
    assert linear.bytes == 4 * (72 + 216 + 3 + 3)
    assert conv.bound == min(found.peak, conv.intensity * found.bandwidth)
    assert found.to_dict()["points"][0]["name"] == "0"
    assert "op/byte" in str(found)


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: plot.attribution(np.zeros((2, 4, 4)), np.zeros((4, 4))), ShapeError, "1 or 3 cha"),
        (lambda: plot.attribution(np.zeros((1, 4, 4)), {}), ShapeError, "at least one map"),
        (lambda: plot.attribution(np.zeros((2, 1, 4, 4)), np.zeros((3, 1, 4, 4))), ShapeError,
         r"each of the 2 images \(1, 4, 4\); got shape \(3, 1, 4, 4\)"),
        (lambda: _attribution(names=["a"]), ShapeError, "expected 2 names of images; got 1"),
        (lambda: _attribution(clip=1), OptionError, "from 0 to below 1; got clip=1"),
        (lambda: _attribution(channels="color"), OptionError, "'color'. Did you mean 'colour'"),
        (lambda: plot.matrix({}), OptionError, "at least one layer"),
        (lambda: plot.matrix(nn.ReLU(), (1, 4)), OptionError, "expected a linear layer"),
        (lambda: plot.roofline(nn.ReLU()), OptionError, "shape of an image with a network"),
        (lambda: plot.activations(["rleu"]), OptionError, "'rleu'. Did you mean 'relu'"),
        (lambda: plot.top_patches(np.zeros((2, 3, 2, 4, 4)), np.zeros((2, 3))), ShapeError,
         "patches .units, k, c, h, w. of 1 or 3"),
        (lambda: plot.top_patches(np.zeros((2, 3, 1, 4, 4)), np.zeros((2, 4))), ShapeError,
         r"scores \(2, 3\), \(units, k\); got shape \(2, 4\)"),
        (lambda: plot.top_patches(np.zeros((1, 3, 1, 4, 4)), np.zeros((1, 3)), np.zeros((1, 3))),
         ShapeError, "deconvolutions of the patches' shape"),
        (lambda: plot.top_patches(np.zeros((1, 3, 1, 4, 4)), np.zeros((1, 3)), names="ab"),
         ShapeError, "expected 1 names of units; got 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()


@pytest.mark.parametrize("name", ["attribution", "matrix", "scalars", "top_patches", "samples"])
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(f"striate.plot.{name}")).failed == 0
