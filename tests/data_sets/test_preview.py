"""Figures of samples: a row a sample, a column an epoch; faults in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import loading
from striate import plot
from striate.data import ArraySource
from striate.errors import OptionError, ShapeError

RNG = np.random.Generator(np.random.Philox(key=9))
DATA = ArraySource(
    RNG.integers(0, 256, (20, 3, 10, 14)).astype(np.uint8), np.arange(20) % 2, ("cat $1", "dog")
)


@pytest.mark.parametrize("augment", ["flip,crop2", "mixup", "colour,normalize", None])
def test_a_preview_shows_every_picture(augment: str | None, tmp_path: Path) -> None:
    if augment and "normalize" in augment:
        from striate.data import augmentation

        figure = plot.preview(DATA, augmentation(augment, DATA), samples=[3, 4], copies=3)
    else:
        figure = plot.preview(DATA, augment, samples=[3, 4], copies=3)
    images = figure.axes[0].get_images()
    assert len(images) == 2 * 4
    np.testing.assert_allclose(images[4].get_array().shape, (10, 14, 3))
    texts = [text.get_text() for text in figure.texts]
    assert {r"dog", r"cat \$1", "as it is", "epoch 3"} <= set(texts)
    path = plot.save(figure, tmp_path / "p.png", dpi=60)
    with Image.open(path) as image:
        assert len(image.getcolors(1 << 20) or ()) > 50


def test_the_benchmark_of_loading_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert loading.main(["--count", "128", "--rounds", "1", "--no-training"]) == 0
    printed = capsys.readouterr().out
    assert "decoding to 32x32, 2 threads" in printed and "flip,crop4,cutout8" in printed


def test_by_default_six_samples_spread_over_all() -> None:
    assert len(plot.preview(DATA, "flip").axes[0].get_images()) == 6 * 8
    few = DATA.subset([1, 2])
    assert len(plot.preview(few, "flip", copies=1).axes[0].get_images()) == 2 * 2


def test_grids_that_are_wrong() -> None:
    with pytest.raises(ShapeError, match=r"expected images \(rows, columns, c, h, w\)"):
        plot.pictures(np.zeros((2, 3, 8, 8)))
    with pytest.raises(ShapeError, match="expected 2 rows; got 1 names"):
        plot.pictures(np.zeros((2, 3, 1, 8, 8)), ["a"])
    with pytest.raises(OptionError, match="indices from 0 to 19"):
        plot.preview(DATA, "flip", samples=[20])
