"""Figures of Gabor fits, of images that drive units, of inversions: what is drawn, and what not."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from striate import nn, plot
from striate.errors import ShapeError
from striate.filters import gabor
from striate.interpret import Inverted, Maximized, fit_gabor, maximize
from striate.plot.made import _fitted

pytest.importorskip("scipy")


def texts(figure) -> list[str]:
    return [t.get_text() for t in figure.texts]


def test_filters_fits_and_rests_are_drawn_on_one_scale():
    filters = np.stack([gabor(7, f=1.0, tau=t, beta_x=0.1, beta_y=0.1) for t in (0.3, 2.0)])
    fit = fit_gabor(filters + 0.05 * np.random.default_rng(0).normal(size=filters.shape))
    figure = plot.gabor_fit(fit)
    images = [image.get_array() for image in figure.axes[0].images]
    assert len(images) == 6
    best = int(np.argmax(fit.r2))
    np.testing.assert_allclose(images[0], fit.filters[best])
    np.testing.assert_allclose(images[1], fit.fitted[best])
    np.testing.assert_allclose(images[2], fit.residual[best])
    limits = {image.get_clim() for image in figure.axes[0].images[:3]}
    assert limits == {(-np.abs(fit.filters[best]).max(), np.abs(fit.filters[best]).max())}


def test_lines_lie_where_the_waves_run_and_stand_across_them():
    fit = fit_gabor(gabor(9, f=1.5, tau=np.pi / 4, beta_x=0.08, beta_y=0.08))
    figure = plot.gabor_fit(fit)
    (lines,) = (c for a in figure.axes for c in a.collections if isinstance(c, LineCollection))
    (ends,) = lines.get_segments()
    middle, along = ends.mean(axis=0), ends[1] - ends[0]
    assert middle[0] == pytest.approx(-middle[1])  # right and down is left and up
    assert middle @ along == pytest.approx(0, abs=1e-9)


def test_only_the_best_are_drawn_and_constant_ones_are_told():
    fit = fit_gabor(np.stack([np.zeros((5, 5)), *(gabor(5, f=f) for f in (0.8, 1.2, 1.6))]))
    figure = plot.gabor_fit(fit, most=2)
    assert len(figure.axes[0].images) == 6
    assert any("the best 2 of 4" in text for text in texts(figure))
    assert any("constant" in text for text in texts(plot.gabor_fit(fit)))
    with pytest.raises(ShapeError, match="at least one filter"):
        plot.gabor_fit(fit_gabor(np.empty((0, 5, 5))))


def made(count: int = 3, low: float = 0.0) -> Maximized:
    random = np.random.default_rng(0)
    return Maximized(
        "conv",
        tuple(range(count)),
        random.uniform(low, 1, (count, 3, 8, 6)).astype(np.float32),
        np.arange(count, dtype=np.float32),
        random.random((count, 5)).astype(np.float32),
        np.arange(count) == 1,
    )


def test_images_that_drive_units_with_their_names_and_scores():
    found = made()
    figure = plot.maximized(found, names=["cat", "dog", "$"])
    images = figure.axes[0].images
    np.testing.assert_allclose(images[0].get_array(), found.images[0].transpose(1, 2, 0))
    assert {"cat", "dog", r"\$", "no gradient", "2"} <= set(texts(figure))
    course = figure.axes[1].lines
    np.testing.assert_allclose(course[2].get_ydata(), found.course[2])
    assert len(plot.maximized(found, course=False).axes) == 1
    with pytest.raises(ShapeError, match="expected 3 names; got 1"):
        plot.maximized(found, names=["cat"])


def test_values_below_0_are_drawn_about_mid_grey():
    found = made(low=-4.0)
    drawn = plot.maximized(found).axes[0].images[0].get_array()
    assert 0 <= drawn.min() < drawn.max() <= 1
    zero = found.images[0].transpose(1, 2, 0) > 0
    np.testing.assert_array_equal(drawn > 0.5, zero)


def test_one_step_and_one_unit_can_be_drawn():
    found = maximize(nn.Conv2d(1, 1, 3), units=0, shape=(1, 6, 6), steps=1)
    assert len(plot.maximized(found).axes) == 2


def inversion(layer: str, images: np.ndarray) -> Inverted:
    errors = np.full(len(images), 0.12345, np.float32)
    return Inverted(layer, 1 - images, errors, errors[:, np.newaxis])


def test_inversions_stand_beside_their_images_and_wrap():
    images = np.random.default_rng(1).random((2, 1, 8, 8)).astype(np.float32)
    layers = [inversion(f"layer{k}", images) for k in range(9)]
    figure = plot.inverted(images, layers)
    drawn = figure.axes[0].images
    assert len(drawn) == 2 * (9 + 2)  # the images again in the second block
    np.testing.assert_allclose(drawn[0].get_array(), images[0, 0])
    np.testing.assert_allclose(drawn[2].get_array(), 1 - images[0, 0])
    assert {"image", "layer0", "layer8", "error 0.123"} <= set(texts(figure))
    with pytest.raises(ShapeError, match=r"images \(1, 1, 8, 8\) for layer 'layer0'; got \(2, 1"):
        plot.inverted(images[:1], layers)
    with pytest.raises(ShapeError, match="at least one layer"):
        plot.inverted(images, [])


@pytest.mark.parametrize("name", ["gabor", "made"])
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(f"striate.plot.{name}")).failed == 0


def test_long_names_lose_their_beginning():
    assert _fitted("layer4.1.downsample.conv", 0.5).startswith("…")
    assert _fitted("conv", 1.0) == "conv"
