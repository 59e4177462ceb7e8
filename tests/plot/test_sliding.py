"""Sliding windows: the arithmetic of every frame, for every kind of window, and the files."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from striate import nn, plot
from striate.errors import ModelError, OptionError
from tests.plot.test_plot import _pixels

RANDOM = np.random.default_rng(4)
LAYERS = {
    "conv": (nn.Conv2d(2, 3, 3), (2, 6, 7)),
    "stride, dilation, padding": (nn.Conv2d(2, 3, 3, 2, 2, dilation=2), (2, 7, 7)),
    "groups": (nn.Conv2d(4, 4, 3, padding=1, groups=2), (4, 5, 5)),
    "circular": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 5, 5)),
    "transposed": (nn.ConvTranspose2d(2, 2, 3, stride=2), (2, 3, 3)),
    "locally connected": (nn.LocallyConnected2d(1, 2, (5, 5), 3), (1, 5, 5)),
    "tiled": (nn.TiledConv2d(1, 2, 2, tiles=2), (1, 5, 5)),
    "a line": (nn.Conv1d(2, 2, 4, padding=1), (2, 9)),
    "max pool": (nn.MaxPool2d(3, 2, padding=1), (2, 7, 7)),
    "average pool": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (2, 7, 7)),
    "adaptive pool": (nn.AdaptiveAvgPool2d(3), (2, 7, 7)),
}


def _sliding(name: str, **more) -> plot.Sliding:
    layer, shape = LAYERS[name]
    image = RANDOM.normal(size=shape)
    return plot.sliding(layer, image, _named(layer, shape), channel=1, channels=9, **more)


def _named(layer: nn.Module, shape: tuple[int, ...]) -> str:
    return layer.to_graph(shape).outputs[0]


# ---- the arithmetic ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_every_frame_is_the_arithmetic_of_its_output(name):
    found = _sliding(name).windows
    assert len(found.frames) == found.y.size, "every output has its frame"
    for frame in found.frames:
        row, column = frame.at[1:]
        np.testing.assert_allclose(frame.value, found.y[row, column], atol=2e-6)
        if found.how == "max":
            assert frame.total == np.nanmax(frame.window) == frame.value
            continue
        np.testing.assert_allclose(frame.terms.sum(), frame.total, atol=1e-12)
        if frame.kernel is not None:
            read = np.nan_to_num(frame.window)
            np.testing.assert_allclose(read * frame.kernel, frame.terms, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_the_cells_are_where_the_numbers_are(name):
    found = _sliding(name).windows
    for frame in found.frames:
        for plane, window, cells in zip(found.x, frame.window, frame.cells, strict=True):
            for value, (row, column) in zip(window.ravel(), cells.reshape(-1, 2), strict=True):
                inside = 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]
                assert np.isnan(value) != inside
                assert not inside or value == plane[row, column]


def test_windows_move_by_the_stride_and_begin_in_the_padding():
    found = _sliding("stride, dilation, padding").windows
    corners = [tuple(frame.cells[0, 0, 0]) for frame in found.frames[:2]]
    assert corners == [(-2, -2), (-2, 0)]
    assert [tuple(cell) for cell in found.frames[0].cells[0, 0]] == [(-2, -2), (-2, 0), (-2, 2)]
    assert found.margin == (2, 2, 2, 2)
    assert _sliding("max pool").windows.margin == (1, 1, 1, 1)
    assert _sliding("conv").windows.margin == (0, 0, 0, 0)


def test_groups_read_their_own_channels():
    layer, shape = LAYERS["groups"]
    first, last = (plot.sliding(layer, np.ones(shape), channel=c).windows.channels for c in (0, 3))
    assert (first, last) == ((0, 1), (2, 3))


def test_channels_that_are_not_shown_are_in_the_sum():
    layer = nn.Conv2d(5, 1, 3)
    image = RANDOM.normal(size=(5, 4, 4))
    found = plot.sliding(layer, image, channels=2).windows
    assert (found.channels, found.hidden) == ((0, 1), 3)
    for frame in found.frames:
        np.testing.assert_allclose(frame.terms.sum() + frame.others, frame.total, atol=1e-12)
    texts = [t.get_text() for t in plot.sliding(layer, image, channels=2).figure(0).texts]
    assert any("Σ of 18 products" in t and "+ 3 other channels" in t for t in texts)


def test_a_later_layer_reads_what_the_earlier_ones_make():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)).eval()
    image = RANDOM.normal(size=(1, 8, 8)).astype(np.float32)
    found = plot.sliding(net, image, "2", channel=1).windows
    before = np.maximum(net[0](image[np.newaxis]), 0)[0, 1]
    np.testing.assert_allclose(found.x[0], before, atol=1e-6)


def test_frames_are_sampled_where_there_are_too_many(monkeypatch):
    layer, image = nn.Conv2d(1, 1, 3), RANDOM.normal(size=(1, 20, 20))
    found = plot.sliding(layer, image, frames=7)
    assert len(found) == 7
    assert [found.windows.frames[k].at for k in (0, -1)] == [(0, 0, 0), (0, 17, 17)]
    module = importlib.import_module("striate.plot.sliding_frames")
    monkeypatch.setattr(module, "MOST_TERMS", 5 * 9)
    assert len(plot.sliding(layer, image)) == 5


# ---- frames and files --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["groups", "a line", "max pool", "stride, dilation, padding"])
def test_frames_are_drawn_whole(name):
    found = _sliding(name)
    first, last = (_pixels(found.figure(k)) for k in (0, -1))
    for pixels in (first, last):
        for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
            assert edge.min() > 250
    assert (first != last).mean() > 0.005


def test_numbers_that_are_none_are_drawn_as_such():
    image = np.ones((1, 5, 5))
    image[0, 2, 2], image[0, 0, 0] = np.nan, np.inf
    found = plot.sliding(nn.Conv2d(1, 1, 3), image)
    assert _pixels(found.figure(0)).min() < 250
    assert "null" in found.html()


def test_the_output_is_filled_in_up_to_the_frame():
    found = _sliding("conv")
    figure = found.figure(6)
    output = figure.axes[0].images[-1].get_array()
    assert np.isfinite(np.asarray(output, float)).sum() == 7
    with pytest.raises(OptionError, match="a frame from 0 to 19; got 20"):
        found.figure(20)


def test_gif_has_every_frame(tmp_path):
    path = _sliding("conv", frames=4).save(tmp_path / "a.gif", seconds=0.5, dpi=40)
    with Image.open(path) as picture:
        assert picture.n_frames == 4
        assert picture.info["duration"] == 500
        first = np.asarray(picture.convert("RGB"))
        picture.seek(3)
        assert (np.asarray(picture.convert("RGB")) != first).any()
        assert picture.info["duration"] == 2000, "the last frame stays a while"


def test_the_page_is_offline_and_has_the_numbers(tmp_path):
    found = plot.sliding(
        nn.Conv2d(1, 1, 2, bias=False), np.arange(9.0).reshape(1, 3, 3), title="<b> & co"
    )
    text = found.save(tmp_path / "a.html").read_text()
    assert "&lt;b&gt; &amp; co" in text and "<b>" not in text
    assert not re.search(r"(src|href)=|https?:|@import|url\(", text)
    assert "default-src 'none'" in text
    data = json.loads(re.search(r'application/json">(.*?)</script>', text, re.S)[1])
    assert data["x"] == [[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]
    assert [frame["at"] for frame in data["frames"]] == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert data["frames"][3]["window"] == [[[4, 5], [7, 8]]]
    sums = [np.sum(frame["products"]) for frame in data["frames"]]
    np.testing.assert_allclose(sums, np.ravel(data["y"]), rtol=2e-3, atol=2e-3)
    for key in ("ArrowLeft", "ArrowRight", "Home", "End", "aria-live", "aria-label"):
        assert key in text


def test_kernels_that_differ_from_place_to_place_are_in_every_frame():
    data = [json.loads(re.search(r'application/json">(.*?)</script>', _sliding(n).html(), re.S)[1])
            for n in ("locally connected", "conv", "max pool")]  # fmt: skip
    own, shared, none = data
    assert own["kernel"] is None and "kernel" in own["frames"][0]
    assert shared["kernel"] is not None and "kernel" not in shared["frames"][0]
    assert none["limits"]["kernel"] is None and "products" not in none["frames"][0]


def test_without_ffmpeg_a_film_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    real = importlib.import_module

    def absent(name: str, *rest):
        if name == "imageio_ffmpeg":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(OptionError, match=r"expected the program ffmpeg, to write a\.mp4"):
        _sliding("conv").save(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_film_is_written(tmp_path):
    path = _sliding("conv", frames=3).save(tmp_path / "a.mp4", dpi=40)
    assert path.read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: plot.sliding(nn.Conv2d(1, 1, 3), np.zeros((1, 5, 5)), "conv"), ModelError,
         "unknown layer 'conv'. Did you mean 'conv2d'"),
        (lambda: plot.sliding(nn.Sequential(nn.Conv2d(1, 1, 2), nn.MaxPool2d(2)),
                              np.zeros((1, 5, 5))), ModelError, "has 2 whose outputs .*: 0, 1"),
        (lambda: plot.sliding(nn.ReLU(), np.zeros((1, 5, 5))), ModelError, "window: none"),
        (lambda: plot.sliding(nn.ReLU(), np.zeros((1, 5, 5)), "relu"), OptionError,
         "whose outputs read a window"),
        (lambda: plot.sliding(nn.Softmax(1), np.zeros((2, 5, 5)), "softmax"), OptionError,
         "sums up, or takes the greatest of, a window"),
        (lambda: plot.sliding(nn.Conv2d(1, 2, 3), np.zeros((1, 5, 5)), channel=2), OptionError,
         "a channel from 0 to 1 of 'conv2d'.* got channel=2"),
        (lambda: plot.sliding(nn.Conv2d(1, 2, 3), np.zeros((3, 1, 5, 5))), OptionError,
         "one image"),
        (lambda: plot.sliding(nn.Conv2d(1, 1, 3), np.zeros((1, 5, 5)), frames=0), OptionError,
         "frames from 1; got frames=0"),
        (lambda: plot.sliding(nn.Conv2d(1, 1, 3), np.zeros((1, 600, 5))), OptionError,
         "at most 512 pixels a side; that of 'conv2d' is 600×5"),
        (lambda: plot.sliding(nn.Conv2d(1, 1, 17), np.zeros((1, 20, 20))), OptionError,
         "a window of at most 15 a side; that of 'conv2d' is 17×17"),
        (lambda: _sliding("conv").save("a.gfi"), OptionError, "'gfi'. Did you mean 'gif'"),
        (lambda: _sliding("conv").save("a.gif", seconds=0), OptionError, "got seconds=0"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_a_page_that_is_too_large_is_refused(monkeypatch):
    module = importlib.import_module("striate.plot.sliding_page")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(OptionError, match="Ask for fewer frames or a smaller image"):
        _sliding("conv").html()


def test_examples_in_docstrings():
    assert doctest.testmod(importlib.import_module("striate.plot.sliding")).failed == 0
