"""Figures of explanations: what is read, the products, the tree down to the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.plot.explanation import _short

X = np.random.default_rng(0).random((2, 8, 8)).astype("f4")


def network() -> nn.Sequential:
    st.manual_seed(0)
    layers = (nn.Conv2d(2, 9, 3, padding=1), nn.BatchNorm2d(9), nn.ReLU(), nn.MaxPool2d(2))
    rest = (nn.Conv2d(9, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 40), nn.Softmax(1))
    return nn.Sequential(*layers, *rest).eval()


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def images(figure: Any) -> list[Any]:
    return [image for axes in figure.axes for image in axes.get_images()]


def test_patch_kernel_and_products() -> None:
    found = st.explain(network(), X, "0", (3, 0, 0), backend="reference")
    figure = st.plot.explanation(found)
    shown = [np.asarray(image.get_array()) for image in images(figure)]
    assert found.patch is not None and found.kernel is not None and found.products is not None
    assert len(shown) == 6, "x, w and the products of both channels"
    np.testing.assert_array_equal(shown[1], found.kernel[0])
    np.testing.assert_array_equal(shown[5], found.products[1])
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown[0])).sum() == 5, "padding has no colour"
    assert texts(figure).count("pad") == 10
    for image in images(figure):
        low, high = image.get_clim()
        assert low == -high
    assert any(text.startswith("sum of 18 terms") for text in texts(figure))
    assert any("agrees within float32 rounding" in text for text in texts(figure))


def test_many_channels_are_wrapped_and_the_rest_summed_up() -> None:
    found = st.explain(network(), X, "4", backend="reference")
    figure = st.plot.explanation(found)
    assert found.products is not None
    parts = found.products.sum(axis=(1, 2))
    largest = sorted(np.argsort(-np.abs(parts))[:6])
    heads = [text for text in texts(figure) if text.startswith("c = ")]
    assert [int(head.split()[2].rstrip(":")) for head in heads] == largest
    rest = parts.sum() - parts[largest].sum()
    (line,) = [text for text in texts(figure) if text.startswith("… 3 more of c")]
    assert f"{abs(rest):.3g}" in line


def test_sums_without_space_are_bars() -> None:
    figure = st.plot.explanation(st.explain(network(), X, "7", backend="reference"))
    assert not images(figure)
    assert any(text.startswith("x[0, ") and " · w[" in text for text in texts(figure))
    assert any("more terms" in text for text in texts(figure))


@pytest.mark.parametrize("wrt", ["0.weight", "1.weight", "3", "2", "4.bias", "input", "7"])
def test_gradients(wrt: str, tmp_path: Path) -> None:
    found = st.explain_gradient(network(), X, wrt, backend="reference")
    figure = st.plot.explanation(found)
    assert any(text.startswith("Why the gradient to") for text in texts(figure))
    width = figure.get_size_inches()[0]
    figure.canvas.draw()
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width * figure.dpi, f"cut off: {text.get_text()}"


def test_the_tree_to_the_pixels(tmp_path: Path) -> None:
    found = st.explain(network(), X, "4", backend="reference").to_pixels(3)
    figure = st.plot.trace(found, X)
    assert len(images(figure)) == 1
    assert any("reached" in text for text in texts(figure))
    assert any(text.startswith("…") for text in texts(figure))
    figure.canvas.draw()
    width = figure.get_size_inches()[0] * figure.dpi
    assert all(text.get_window_extent().x1 <= width for text in figure.texts)
    st.plot.save(figure, tmp_path / "tree.svg")
    assert not images(st.plot.trace(found))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.0, 3, "0"), (0.1234, 3, ".123"), (-1.254, 3, "−1.25"), (12.0, 2, "12"), (1e-4, 3, "≈0")],
)
def test_numbers_in_cells(value: float, digits: int, text: str) -> None:
    assert _short(value, digits) == text
