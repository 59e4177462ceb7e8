"""Figures: their sizes and content, no global state, whole files, bad arrays.

How they look was judged by eye; these tests keep them from being empty, clipped or different from
one call to the next.
"""

from __future__ import annotations

import doctest
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from striate import plot
from striate.errors import DataError, FileError, OptionError, ShapeError
from striate.plot import page, weights

RANDOM = np.random.default_rng(3)
NAMES = ("T-shirt/top", "Trouser", "Pullover", "cost in $ and $", "Ankle boot of the longest kind")


def _confusion(count: int) -> np.ndarray[Any, Any]:
    return np.diag(np.arange(1, count + 1) * 10) + (RANDOM.random((count, count)) < 0.2)


def _mistakes(shape: tuple[int, ...], count: int, **more: Any) -> Figure:
    images = RANDOM.random((30, *shape))
    labels = RANDOM.integers(0, count, 30)
    return plot.mistakes(images, labels, RANDOM.dirichlet(np.ones(count), 30), **more)


def _maps(**layers: np.ndarray[Any, Any]) -> Figure:
    return plot.feature_maps(RANDOM.random((1, 28, 28)), layers)


def _filters(*shape: int) -> Figure:
    return plot.filters({"conv.weight": RANDOM.normal(size=shape)})


FIGURES: dict[str, Callable[[], Figure]] = {
    "filters of one channel": lambda: _filters(6, 1, 5, 5),
    "many filters": lambda: _filters(64, 3, 11, 11),
    "many filters of one channel": lambda: _filters(40, 1, 3, 3),
    "tall filters": lambda: _filters(4, 2, 7, 3),
    "two layers": lambda: plot.filters({"a": np.ones((2, 1, 3, 3)), "$b$": np.zeros((2, 2, 1, 1))}),
    "signed maps": lambda: _maps(conv=RANDOM.normal(size=(6, 24, 24))),
    "maps from 0 up": lambda: _maps(relu=RANDOM.random((100, 5, 9)), fc=RANDOM.random(300)),
    "maps that end in classes": lambda: _maps(conv=np.zeros((1, 3, 3)), fc=RANDOM.normal(size=10)),
    "maps with NaN": lambda: _maps(conv=np.full((2, 3, 3), np.nan), fc=np.array([np.inf, 1.0])),
    "confusion of 10": lambda: plot.confusion(_confusion(10)),
    "confusion with long names": lambda: plot.confusion(_confusion(5), NAMES),
    "confusion of 2": lambda: plot.confusion([[10000, 0], [1, 123456]], ("no", "yes")),
    "confusion of 60": lambda: plot.confusion(_confusion(60)),
    "mistakes": lambda: _mistakes((1, 28, 28), 10),
    "mistakes in colour": lambda: _mistakes((3, 20, 32), 5, classes=NAMES),
    "one mistake": lambda: _mistakes((1, 8, 8), 3, most=1, of=(30, 60000)),
    "no mistakes": lambda: plot.mistakes(np.zeros((2, 1, 4, 4)), [0, 1], np.eye(2)),
    "curves": lambda: plot.curves(
        {"training": [0.9, 0.2, 0.1], "validation": [0.8, 0.2, 0.11]},
        {"training": [0.7, 0.9, 1.0], "validation": [0.8, 0.9, 0.99]},
    ),
    "curve of one epoch": lambda: plot.curves({"training": [0.5]}, under="one epoch"),
    "curve with NaN": lambda: plot.curves({"training": [0.5, np.nan, np.inf]}),
}


def _pixels(figure: Figure, dpi: int = 60) -> np.ndarray[Any, Any]:
    file = io.BytesIO()
    with page.style():
        figure.savefig(file, format="png", dpi=dpi)
    with Image.open(file) as image:
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize("name", FIGURES)
def test_something_is_drawn_and_nothing_touches_the_edge(name):
    pixels = _pixels(FIGURES[name]())
    assert (pixels < 250).mean() > 0.005
    edge = np.concatenate([pixels[:4].ravel(), pixels[-4:].ravel(), pixels[:, :4].ravel()])
    assert edge.min() > 250, "cut off at the top, bottom or left"
    assert pixels[:, -4:].min() > 250, "cut off at the right"


@pytest.mark.parametrize("name", ["two layers", "confusion with long names", "mistakes in colour"])
def test_texts_do_not_cover_each_other(name):
    figure = FIGURES[name]()
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    texts = [t for t in figure.texts if t.get_text().strip()]
    texts += [t for axes in figure.axes for t in axes.texts if t.get_text().strip()]
    boxes = [t.get_window_extent(renderer) for t in texts]
    for k, first in enumerate(boxes):
        for j in range(k + 1, len(boxes)):
            both = first.intersection(first, boxes[j])
            covered = 0.0 if both is None else both.width * both.height
            assert covered < 0.2 * min(
                first.width * first.height, boxes[j].width * boxes[j].height
            ), f"{texts[k].get_text()!r} and {texts[j].get_text()!r}"


def test_filters_share_a_scale_that_is_symmetric_about_0():
    kernels = np.array([[[[0.5, -2.0]]], [[[1.0, 0.0]]]])
    images = plot.filters({"w": kernels}).axes[0].images
    assert len(images) == 2
    for image, kernel in zip(images, kernels, strict=True):
        assert image.get_clim() == (-2.0, 2.0)
        np.testing.assert_array_equal(image.get_array(), kernel[0])


def test_maps_are_symmetric_about_0_only_where_they_are_signed():
    figure = _maps(signed=np.array([[[1.0, -3.0]]]), positive=np.array([[[1.0, 4.0]]]))
    _, signed, positive = figure.axes[0].images
    assert (signed.get_clim(), signed.get_cmap()) == ((-3.0, 3.0), page.SIGNED)
    assert (positive.get_clim(), positive.get_cmap()) == ((0.0, 4.0), page.POSITIVE)
    assert any("−3 … 1" in text.get_text() for text in figure.texts)


def test_the_middle_of_the_signed_colours_is_white():
    assert min(page.SIGNED(0.5)[:3]) > 0.95
    assert min(page.POSITIVE(0.0)[:3]) > 0.95


def test_confusion_shows_counts_and_recall():
    figure = plot.confusion([[3, 1], [0, 4]], ("cat", "dog"))
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert {"3", "1", "4", "75.0 %", "100.0 %", "·"} <= set(texts)
    assert any("7 of 8 right (87.5 %)" in t.get_text() for t in figure.texts)


def test_confusion_shows_precision_where_there_is_room():
    texts = [t.get_text() for t in plot.confusion([[3, 1], [0, 3]]).axes[0].texts]
    assert texts.count("75.0 %") == 2 and "precision" in texts
    wide = plot.confusion(_confusion(20)).axes[0].texts
    assert "recall" in [t.get_text() for t in wide]
    assert "precision" not in [t.get_text() for t in wide]


def test_only_all_are_100_percent():
    figure = plot.confusion([[99999, 1], [0, 5]])
    assert any("(>99.9 %)" in t.get_text() for t in figure.texts)


def test_the_worst_mistake_comes_first():
    images = np.zeros((4, 1, 2, 2))
    images[2, 0, 0, 0] = 1.0
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.8, 0.2]])
    figure = plot.mistakes(images, [0, 1, 1, 1], chances, most=2)
    first = figure.axes[0].images[0]
    assert np.asarray(first.get_array())[0, 0] == 1.0
    assert len(figure.axes[0].images) == 2
    assert any("3 of 4 images are wrong (75.0 %)" in t.get_text() for t in figure.texts)


def test_no_setting_outlives_a_figure_and_none_of_the_users_enters_it():
    plain = _pixels(plot.confusion(np.eye(3, dtype=int)))
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "text.color": "red"}):
        before = mpl.rcParams.copy()
        figure = plot.confusion(np.eye(3, dtype=int))
        np.testing.assert_array_equal(_pixels(figure), plain)
        assert mpl.rcParams.copy() == before


def test_pyplot_stays_out():
    code = (
        "import io, sys; from striate import plot; "
        "plot.curves({'loss': [2.0, 1.0]}).savefig(io.BytesIO()); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_saving_twice_gives_the_same_bytes(tmp_path, ending):
    files = [
        plot.save(plot.curves({"loss": [2.0, 1.0]}), tmp_path / f"{k}.{ending}") for k in (1, 2)
    ]
    contents = [path.read_bytes() for path in files]
    assert contents[0] == contents[1]
    assert len(contents[0]) > 1000


def test_saving_is_whole_or_nothing(tmp_path, monkeypatch):
    figure = plot.curves({"loss": [2.0, 1.0]})
    path = tmp_path / "figure.png"
    path.write_bytes(b"the old one")
    with pytest.raises(OptionError, match=r"unknown format 'pgn'\. Did you mean 'png'"):
        plot.save(figure, tmp_path / "figure.pgn")
    with pytest.raises(FileError, match="its folder does not exist"):
        plot.save(figure, tmp_path / "none" / "figure.png")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("striate.files.os.fsync", full)
    with pytest.raises(FileError, match="the disk is full"):
        plot.save(figure, path)
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: plot.filters({}), ShapeError, "at least one layer"),
        (lambda: plot.filters({"fc": np.ones((3, 4))}), ShapeError, r"'fc'; got shape \(3, 4\)"),
        (lambda: _maps(), ShapeError, "at least one layer"),
        (lambda: _maps(x=np.ones((3, 4))), ShapeError, r"'x'; got shape \(3, 4\)"),
        (lambda: plot.feature_maps(np.ones(3), {"a": np.ones(2)}), DataError, r"image \(c, h, w\)"),
        (lambda: plot.confusion(np.ones((2, 3))), ShapeError, r"got shape \(2, 3\)"),
        (lambda: plot.confusion([[1, -1], [0, 2]]), DataError, "whole numbers from 0"),
        (lambda: plot.confusion([[0.5, 1], [0, 2]]), DataError, "whole numbers from 0"),
        (
            lambda: plot.confusion(np.eye(3), ("a",)),
            ShapeError,
            "expected 3 names of classes; got 1",
        ),
        (lambda: plot.mistakes(np.ones((2, 1, 4, 4)), [0], np.eye(2)), ShapeError, "labels"),
        (lambda: plot.curves({}), ShapeError, "at least one line"),
        (lambda: plot.curves({"loss": [[1.0]]}), ShapeError, r"'loss'; got shape \(1, 1\)"),
    ],
)
def test_arrays_that_cannot_be_drawn(draw, kind, message):
    with pytest.raises(kind, match=message):
        draw()


def test_examples_in_docstrings():
    assert doctest.testmod(weights).failed == 0


def test_numbers_have_a_real_minus_sign():
    assert page.number(-0.12345) == "−0.123"
    assert page.number(0.0) == "0"


def test_files_are_large_enough_to_print(tmp_path: Path):
    with Image.open(plot.save(_filters(6, 1, 5, 5), tmp_path / "filters.png")) as image:
        assert image.width > 1500
