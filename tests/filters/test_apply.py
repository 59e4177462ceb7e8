"""Whole images through every algorithm, border and layout, against float64 and SciPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import striate as st
from striate import filters
from striate.errors import OptionError, ShapeError
from striate.filters import fourier

FACTS = json.loads((Path(__file__).parents[1] / "data" / "facts.json").read_text(encoding="utf-8"))
PRINTED = [f for f in FACTS if f["part"] == "A8"]
# Of the largest result; winograd's transforms round more, see docs/operations/algorithms.md.
TOLERANCE = {name: 2e-6 for name in filters.ALGORITHMS} | {"winograd": 2e-5}
BORDERS = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}


def exact(x: np.ndarray, kernel: np.ndarray, border: str = "reflect", fill: float = 0.0) -> Any:
    """Correlation with "same" padding in float64, by np.pad and a sum over taps."""
    kh, kw = kernel.shape
    around = [(0, 0)] * (x.ndim - 2) + [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in (kh, kw)]
    if border == "constant":
        padded = np.pad(x.astype(float), around, constant_values=fill)
    else:
        padded = np.pad(x.astype(float), around, mode=BORDERS[border])
    h, w = x.shape[-2:]
    total = np.zeros(x.shape)
    for (p, q), tap in np.ndenumerate(kernel):
        total += tap * padded[..., p : p + h, q : q + w]
    return total


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-6) -> None:
    assert found.dtype == np.float32 and found.shape == expected.shape
    largest = np.abs(expected).max()
    assert largest > 0
    assert np.abs(found - expected).max() <= tolerance * largest


@pytest.mark.parametrize("algorithm", filters.ALGORITHMS)
@pytest.mark.parametrize("fact", PRINTED, ids=[f["id"] for f in PRINTED])
def test_printed_examples(fact: dict[str, Any], algorithm: str) -> None:
    found = filters.apply(
        fact["input"], fact["kernel"], padding=fact["padding"], algorithm=algorithm
    )
    expected = np.array(fact["expected"])
    if algorithm == "direct":
        assert np.array_equal(found, expected)
    close(found, expected, TOLERANCE[algorithm])


def test_there_are_printed_examples() -> None:
    assert {f["id"] for f in PRINTED} >= {"edge-bright-to-dark", "binomial-blur"}
    [blur] = [f for f in PRINTED if f["id"] == "binomial-blur"]
    assert np.array_equal(blur["kernel"], filters.binomial(3))
    [edge] = [f for f in PRINTED if f["id"] == "edge-bright-to-dark"]
    assert np.array_equal(edge["kernel"], -filters.prewitt("x"))


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (4, 2), (1, 9), (15, 9), (31, 31)], ids=str)
@pytest.mark.parametrize("algorithm", filters.ALGORITHMS)
def test_algorithms_agree(algorithm: str, kernel: tuple[int, int]) -> None:
    if algorithm == "winograd" and kernel != (3, 3):
        with pytest.raises(OptionError, match="winograd expected a 3×3 kernel"):
            filters.apply(np.ones((9, 9)), np.ones(kernel), algorithm=algorithm)
        return
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(2, 53, 81)), rng.normal(size=kernel)
    close(filters.apply(x, weight, algorithm=algorithm), exact(x, weight), TOLERANCE[algorithm])


@pytest.mark.parametrize("border", filters.BORDERS)
@pytest.mark.parametrize("algorithm", ["direct", "separable", "column_fft", "fft", "overlap_add"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 40), (90, 7)], ids=str)
def test_borders(shape: tuple[int, int], algorithm: str, border: str) -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=shape) + 2, rng.uniform(0.1, 1, (6, 9))
    found = filters.apply(x, weight, border=border, fill=-1.5, algorithm=algorithm)
    close(found, exact(x, weight, border, -1.5))


@pytest.mark.parametrize("algorithm", [a for a in filters.ALGORITHMS if a != "auto"])
def test_layouts(algorithm: str) -> None:
    rng = np.random.default_rng(3)
    x, weight = rng.normal(size=(2, 3, 17, 21)), rng.normal(size=(3, 3))
    expected = exact(x, weight)
    tolerance = TOLERANCE[algorithm]
    close(filters.apply(x, weight, algorithm=algorithm), expected, tolerance)
    photos = np.moveaxis(x, 1, -1)
    found = filters.apply(photos, weight, algorithm=algorithm)
    close(found, np.moveaxis(expected, 1, -1), tolerance)
    close(filters.apply(photos[0], weight, algorithm=algorithm), found[0], 1e-12)
    close(filters.apply(x[0, 0], weight, algorithm=algorithm), expected[0, 0], tolerance)
    many = np.moveaxis(rng.normal(size=(12, 8, 9)), 0, -1)
    found = filters.apply(many, weight, algorithm=algorithm, data_format="channels_last")
    close(found, np.moveaxis(exact(np.moveaxis(many, -1, 0), weight), 0, -1), tolerance)
    first = filters.apply(photos, weight, algorithm=algorithm, data_format="channels_first")
    close(first, exact(photos, weight), tolerance)


def test_kinds_of_numbers() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    found = filters.apply(x, filters.sobel("x"), algorithm="direct")
    expected = np.moveaxis(exact(np.moveaxis(x, -1, 0), filters.sobel("x")), 0, -1)
    assert np.array_equal(found, expected)
    for kind in (np.int64, np.float16, np.float64, bool):
        assert filters.apply(np.eye(4, dtype=kind), np.ones((1, 1)))[2, 2] == 1


def test_results_do_not_depend_on_threads() -> None:
    rng = np.random.default_rng(5)
    x, weight = rng.normal(size=(300, 200)), rng.normal(size=(9, 9))
    for algorithm in ("auto", "direct", "separable", "column_fft"):
        st.set_num_threads(1)
        one = filters.apply(x, weight, algorithm=algorithm)
        st.set_num_threads(3)
        assert filters.apply(x, weight, algorithm=algorithm).tobytes() == one.tobytes()


def test_empty_batches() -> None:
    assert filters.apply(np.ones((0, 3, 8, 9)), np.ones((3, 3))).shape == (0, 3, 8, 9)
    assert filters.apply(np.ones((0, 8, 9)), np.ones((3, 3)), padding="full").shape == (0, 10, 11)


def test_the_reference_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    rng = np.random.default_rng(6)
    x, weight = rng.normal(size=(9, 8, 3)), rng.normal(size=(3, 4))
    expected = np.moveaxis(exact(np.moveaxis(x, -1, 0), weight), 0, -1)
    close(filters.apply(x, weight), expected, 1e-7)


def test_transforms_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fourier, "_library", lambda: np.fft)
    rng = np.random.default_rng(7)
    x, weight = rng.normal(size=(40, 50)), rng.normal(size=(11, 5))
    for algorithm in ("fft", "overlap_add"):
        close(filters.apply(x, weight, algorithm=algorithm), exact(x, weight))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"mode": "flip"}, OptionError, "unknown mode 'flip'"),
        ({"border": "reflekt"}, OptionError, "unknown border 'reflekt'. Did you mean 'reflect'"),
        ({"padding": 1}, OptionError, "unknown padding 1"),
        ({"algorithm": "dft"}, OptionError, "unknown algorithm 'dft'"),
        ({"data_format": "nchw"}, OptionError, "unknown data_format 'nchw'"),
        ({"data_format": "channels_last"}, ShapeError, r"channels_last expected .*\(8, 8\)"),
        ({"kernel": [1, 2]}, ShapeError, r"expected a kernel \(rows, columns\); got shape=\(2,\)"),
        ({"kernel": [[np.nan]]}, OptionError, "expected a kernel of finite numbers"),
        ({"image": np.ones(3)}, ShapeError, r"expected an image .* shape=\(3,\)"),
        ({"image": np.ones((3, 0))}, ShapeError, r"expected an image .* shape=\(3, 0\)"),
        ({"image": np.array([["a"]])}, OptionError, "expected an image of numbers; got dtype=<U1"),
        ({"image": np.ones((2, 9)), "padding": "valid"}, ShapeError, r"kernel's size \(3, 3\)"),
    ],
    ids=str,
)
def test_what_is_refused(change: dict[str, Any], error: type[Exception], said: str) -> None:
    given = {"image": np.ones((8, 8)), "kernel": np.ones((3, 3)), **change}
    with pytest.raises(error, match=said):
        filters.apply(**given)


# ---- SciPy and OpenCV ----------------------------------------------------------------------------


@pytest.mark.peer
@settings(max_examples=30, deadline=None)
@given(
    size=some.tuples(some.integers(1, 40), some.integers(1, 40)),
    kernel=some.tuples(some.integers(1, 12), some.integers(1, 12)),
    mode=some.sampled_from(["correlate", "convolve"]),
    padding=some.sampled_from(["same", "valid", "full"]),
    algorithm=some.sampled_from(["auto", "direct", "separable", "column_fft", "fft"]),
)
def test_scipy_signal(size, kernel, mode, padding, algorithm) -> None:  # type: ignore[no-untyped-def]
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(8)
    x, weight = rng.normal(size=size), rng.normal(size=kernel)
    if padding == "valid" and (size[0] < kernel[0] or size[1] < kernel[1]):
        return
    flipped = weight if mode == "convolve" else weight[::-1, ::-1]
    full = signal.convolve2d(x, flipped)
    if padding == "full":
        expected = full
    elif padding == "valid":
        expected = signal.convolve2d(x, flipped, mode="valid")
    else:  # SciPy's "same" keeps the size of the larger: cut it out of the full one
        top, left = ((k - 1) // 2 if mode == "convolve" else k // 2 for k in kernel)
        expected = full[top : top + size[0], left : left + size[1]]
        if mode == "convolve" and size[0] >= kernel[0] and size[1] >= kernel[1]:
            assert np.allclose(expected, signal.convolve2d(x, flipped, mode="same"))
    found = filters.apply(x, weight, mode, "constant", padding, algorithm)
    close(found, expected, 5e-6)


@pytest.mark.peer
@settings(max_examples=30, deadline=None)
@given(
    size=some.tuples(some.integers(1, 30), some.integers(1, 30)),
    kernel=some.tuples(some.sampled_from([1, 3, 5, 9]), some.sampled_from([1, 3, 7])),
    mode=some.sampled_from(["correlate", "convolve"]),
    border=some.sampled_from(filters.BORDERS),
    algorithm=some.sampled_from(["direct", "separable", "column_fft", "overlap_add"]),
)
def test_scipy_ndimage(size, kernel, mode, border, algorithm) -> None:  # type: ignore[no-untyped-def]
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(9)
    x, weight = rng.normal(size=size), rng.normal(size=kernel)
    expected = getattr(ndimage, mode)(x, weight, mode=border, cval=0.7)
    found = filters.apply(x, weight, mode, border, algorithm=algorithm, fill=0.7)
    close(found, expected, 5e-6)


@pytest.mark.peer
def test_scipys_ready_made_filters() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = np.random.default_rng(10).normal(size=(33, 47))
    for name, kernel in (("sobel", filters.sobel), ("prewitt", filters.prewitt)):
        for axis, letter in ((1, "x"), (0, "y")):
            close(filters.apply(x, kernel(letter)), getattr(ndimage, name)(x, axis))
    close(filters.apply(x, filters.laplacian()), ndimage.laplace(x))
    close(filters.apply(x, filters.box(5)), ndimage.uniform_filter(x, 5))
    close(filters.apply(x, filters.gaussian(2.0)), ndimage.gaussian_filter(x, 2.0))
    close(
        filters.gradient_magnitude(x),
        ndimage.generic_gradient_magnitude(x, ndimage.sobel) / 8,
    )


@pytest.mark.peer
def test_opencvs_borders() -> None:
    cv2 = pytest.importorskip("cv2")
    x = np.random.default_rng(11).normal(size=(20, 31, 3)).astype(np.float32)
    weight = np.random.default_rng(12).normal(size=(5, 7))
    names = {"reflect": "REFLECT", "mirror": "REFLECT_101", "nearest": "REPLICATE"}
    for border, name in {**names, "constant": "CONSTANT"}.items():
        kind = getattr(cv2, f"BORDER_{name}")
        expected = cv2.filter2D(x, -1, weight, borderType=kind)
        close(filters.apply(x, weight, border=border), expected, 3e-6)
