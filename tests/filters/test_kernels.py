"""The classical kernels: printed values, sums, symmetries, SciPy's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from striate import filters
from striate.errors import OptionError


def test_kernels_as_they_are_printed() -> None:
    assert filters.sobel("x").tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert filters.prewitt("y").tolist() == [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]
    assert filters.scharr("x").tolist() == [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]
    assert filters.laplacian(8).tolist() == [[1, 1, 1], [1, -8, 1], [1, 1, 1]]
    assert filters.sharpen().tolist() == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    assert filters.sharpen(0.5, 8)[1, 1] == 5
    assert filters.edge_pair("y").tolist() == [[-1], [1]]
    assert (filters.binomial(3) * 16).tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


@pytest.mark.parametrize("name", filters.KERNELS)
def test_sums(name: str) -> None:
    kernel = filters.KERNELS[name]()
    assert kernel.dtype == np.float64 and kernel.ndim == 2
    if name == "gabor":
        return
    kind = name.split()[0]
    flat = kind in ("box", "binomial", "gaussian", "sharpen", "unsharp", "emboss")
    assert kernel.sum() == pytest.approx(1.0 if flat else 0.0, abs=1e-12)


def test_gaussian_is_a_product_of_its_rows() -> None:
    kernel = filters.gaussian(1.7)
    assert kernel.shape == (15, 15)
    assert np.allclose(kernel, np.outer(kernel.sum(1), kernel.sum(0)), atol=1e-17)
    assert filters.gaussian(1.0, 4).shape == (4, 4)


def test_laplacian_of_gaussian_is_the_laplacian_of_a_gaussian() -> None:
    sigma, h = 2.0, 0.01
    x = np.arange(-8, 9.0)[:, None], np.arange(-8, 9.0)

    def bell(dy: float, dx: float) -> np.ndarray:
        square = (x[0] + dy) ** 2 + (x[1] + dx) ** 2
        return np.exp(-square / (2 * sigma**2)) / (2 * math.pi * sigma**2)

    around = bell(h, 0) + bell(-h, 0) + bell(0, h) + bell(0, -h)
    expected = (around - 4 * bell(0, 0)) / h**2
    assert np.abs(filters.laplacian_of_gaussian(sigma, 17) - expected).max() < 1e-4


def test_gabor_is_its_formula() -> None:
    given = {"alpha": 2.0, "beta_x": 0.02, "beta_y": 0.07, "f": 0.8, "phi": 0.4}
    given |= {"x0": 1.5, "y0": -2.0, "tau": 0.6}
    kernel = filters.gabor((9, 13), **given)
    for (row, column), value in np.ndenumerate(kernel):
        x, y = column - 6.0 - 1.5, row - 4.0 + 2.0
        along = x * math.cos(0.6) + y * math.sin(0.6)
        across = y * math.cos(0.6) - x * math.sin(0.6)
        bell = 2.0 * math.exp(-0.02 * along**2 - 0.07 * across**2)
        assert value == pytest.approx(bell * math.cos(0.8 * along + 0.4), abs=1e-12)


def test_what_the_kernels_refuse() -> None:
    for call, said in (
        (lambda: filters.box(0), "box: size expected a whole number of at least 1; got 0"),
        (lambda: filters.gaussian(0.0), "gaussian: sigma expected a number above 0; got 0.0"),
        (lambda: filters.sobel("z"), "sobel: unknown axis 'z'"),
        (lambda: filters.laplacian(6), "laplacian: neighbours expected 4 or 8; got 6"),
        (lambda: filters.unsharp(1.0, size=4), "unsharp: size expected an odd number"),
        (lambda: filters.separate([1.0]), r"separate: expected a finite kernel .* shape=\(1,\)"),
    ):
        with pytest.raises(OptionError, match=said):
            call()


def test_separate() -> None:
    [(column, row)] = filters.separate(filters.scharr("y"))
    assert np.array_equal(np.outer(column, row), filters.scharr("y"))
    assert len(filters.separate(filters.gaussian(2.0))) == 1
    assert len(filters.separate(filters.laplacian(4))) == 2
    assert len(filters.separate(np.zeros((3, 4)))) == 1
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(7, 5))
    found = filters.separate(kernel)
    assert len(found) == 5
    assert np.allclose(sum(np.outer(c, r) for c, r in found), kernel, atol=1e-13)
    noisy = filters.gaussian(2.0) + 1e-9 * rng.normal(size=(17, 17))
    [(column, row)] = filters.separate(noisy)
    assert np.abs(np.outer(column, row) - noisy).max() < 1e-7
