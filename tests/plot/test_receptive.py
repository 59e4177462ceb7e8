"""Figures of receptive fields: what is drawn where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Ellipse, Rectangle

import striate as st
from striate import nn, plot
from striate.errors import ShapeError
from striate.inspect import effective_receptive_field, input_region, receptive_field

NET = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, dilation=2))
SHAPE = (3, 20, 24)
IMAGE = np.random.default_rng(0).uniform(size=SHAPE)


def images(figure: Figure) -> list[np.ndarray]:
    """The pictures on the page's sheet, in the order in which they were put there."""
    return [np.asarray(i.get_array()) for a in figure.axes for i in a.images]


def outlines(figure: Figure) -> list[Rectangle]:
    patches = [p for a in figure.axes for p in a.patches if isinstance(p, Rectangle)]
    return [p for p in patches if p.get_linewidth() >= 0.9]


def test_a_region_on_an_image() -> None:
    """Pixels that count are clear, the others under a veil; the boxes have the right sizes."""
    region = input_region(NET, SHAPE, "2", (0, 0, 3))
    field = receptive_field(NET, SHAPE, "2")
    figure = plot.receptive_field(IMAGE, region, field, under="layer 2, unit (0, 0, 3)")
    picture, veil = images(figure)
    np.testing.assert_allclose(picture, IMAGE.transpose(1, 2, 0))
    np.testing.assert_array_equal(veil[..., 3] == 0, region.mask.any(axis=0))
    inner, outer = outlines(figure)
    (top, bottom), (left, right) = region.clipped[1:]
    assert inner.get_width() / inner.get_height() == pytest.approx(
        (right - left + 1) / (bottom - top + 1)
    )
    assert outer.get_width() == pytest.approx(outer.get_height())
    words = [t.get_text() for t in figure.texts]
    assert "layer 2, unit (0, 0, 3)" in words
    assert f"field {field.size[0]} × {field.size[1]}, padding included, stride 2" in words


def test_a_unit_that_reads_nothing() -> None:
    net = nn.ConvTranspose2d(1, 1, 1, stride=2)
    region = input_region(net, (1, 4, 4), "conv_transpose2d", (0, 1, 1))
    figure = plot.receptive_field(IMAGE[:1, :4, :4], region)
    assert "the unit reads nothing of the image" in [t.get_text() for t in figure.texts]


def test_an_effective_field(tmp_path: Path) -> None:
    st.manual_seed(0)
    found = effective_receptive_field(NET, IMAGE[None], "2", (2, 3))
    figure = plot.effective_field(found, IMAGE)
    picture, shown = (
        i for i in images(figure) if i.shape[0] > 1 and i.ndim >= 2 and i.shape[1] == 24
    )
    assert picture.shape == (20, 24, 3)
    np.testing.assert_array_equal(shown, found.gradient)
    ellipses = [p for a in figure.axes for p in a.patches if isinstance(p, Ellipse)]
    assert len(ellipses) == 2
    ratio = ellipses[0].get_width() / ellipses[0].get_height()
    values = np.linalg.eigvalsh(found.covariance)
    assert ratio == pytest.approx((values[1] / values[0]) ** 0.5)
    image = next(
        i
        for a in figure.axes
        for i in a.images
        if isinstance(i, AxesImage) and i.get_cmap().name == "striate-positive"
    )
    assert image.get_clim() == (0, found.gradient.max())
    plot.save(figure, tmp_path / "field.png", dpi=50)
    assert (tmp_path / "field.png").stat().st_size > 2000


def test_what_cannot_be_drawn() -> None:
    region = input_region(NET, SHAPE, "2", (0, 0, 3))
    with pytest.raises(ShapeError, match=r"region's shape \(3, 20, 24\); got \(3, 8, 8\)"):
        plot.receptive_field(IMAGE[:, :8, :8], region)
    line = effective_receptive_field(nn.Sequential(nn.Conv1d(1, 1, 3)), (1, 9), "0", samples=1)
    with pytest.raises(ShapeError, match=r"two axes of space; got shape \(9,\)"):
        plot.effective_field(line)
