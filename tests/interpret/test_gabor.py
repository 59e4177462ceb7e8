"""Gabor fits: known parameters are found again, whatever hides them; noise is not explained."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from striate.errors import DataError, OptionError, ShapeError
from striate.filters import gabor
from striate.interpret.gabor import PARAMETERS, fit_gabor

pytest.importorskip("scipy")


def drawn(count: int, seed: int = 0) -> list[dict[str, float]]:
    random = np.random.default_rng(seed)
    spans = {
        "alpha": (0.5, 2.0),
        "beta_x": (0.03, 0.15),
        "beta_y": (0.03, 0.15),
        "f": (0.6, 2.4),
        "phi": (-3.0, 3.0),
        "x0": (-1.5, 1.5),
        "y0": (-1.5, 1.5),
        "tau": (0.0, 3.1),
    }
    return [{name: random.uniform(*span) for name, span in spans.items()} for _ in range(count)]


def apart(found: np.ndarray, wanted: np.ndarray, period: float) -> np.ndarray:
    """The distance on a circle."""
    return np.abs((found - wanted + period / 2) % period - period / 2)


def test_known_parameters_are_found_again():
    known = drawn(12)
    fit = fit_gabor(np.stack([gabor((11, 13), **p) for p in known]))
    np.testing.assert_allclose(fit.r2, 1, atol=1e-9)
    for name in PARAMETERS:
        wanted = np.array([p[name] for p in known])
        np.testing.assert_allclose(getattr(fit, name), wanted, atol=1e-4, err_msg=name)


def test_noise_moves_them_little():
    known, random = drawn(12, seed=1), np.random.default_rng(2)
    clean = np.stack([gabor(13, **p) for p in known])
    fit = fit_gabor(clean + 0.1 * clean.std() * random.normal(size=clean.shape))
    assert (fit.r2 > 0.9).all()
    assert np.median(np.abs(fit.f - [p["f"] for p in known])) < 0.02
    assert np.median(apart(fit.tau, np.array([p["tau"] for p in known]), np.pi)) < 0.02
    np.testing.assert_allclose(fit.filters - fit.fitted, fit.residual)


def test_noise_alone_is_not_explained():
    fit = fit_gabor(np.random.default_rng(3).normal(size=(8, 11, 11)))
    assert fit.r2.max() < 0.35


@pytest.mark.parametrize(
    "same",
    [
        {"alpha": -1.0, "phi": 0.4 + np.pi},
        {"f": -1.1, "phi": -0.4},
        {"tau": 0.7 + np.pi, "phi": -0.4},
        {"tau": 0.7 - 3 * np.pi, "phi": -0.4},
        {"phi": 0.4 - 2 * np.pi},
    ],
)
def test_of_parameters_that_mean_the_same_one_set_is_given(same):
    given = {"alpha": 1.0, "beta_x": 0.1, "beta_y": 0.06, "f": 1.1, "phi": 0.4, "tau": 0.7}
    np.testing.assert_allclose(gabor(11, **{**given, **same}), gabor(11, **given), atol=1e-12)
    fit = fit_gabor(gabor(11, **{**given, **same}))
    assert {name: round(float(getattr(fit, name)), 4) for name in given} == given


def test_leading_axes_are_kept_and_channels_are_fitted_alone():
    known = drawn(6, seed=4)
    filters = np.stack([gabor(9, **p) for p in known]).reshape(3, 2, 9, 9)
    fit = fit_gabor(filters)
    assert fit.f.shape == fit.r2.shape == (3, 2)
    assert fit.fitted.shape == filters.shape
    alone = fit_gabor(filters[1, 1])
    assert alone.f.shape == ()
    assert float(alone.f) == fit.f[1, 1]
    assert [row["f"] for row in fit.to_dict()] == fit.f.ravel().tolist()


def test_constant_filters_have_no_goodness_of_fit():
    fit = fit_gabor(np.stack([np.zeros((5, 5)), np.ones((5, 5))]))
    assert np.isnan(fit.r2).all()
    assert fit.alpha[0] == 0
    np.testing.assert_array_equal(fit.fitted[0], 0)
    assert fit.to_dict()[0]["r2"] is None


def test_a_blob_has_no_frequency():
    fit = fit_gabor(gabor(11, f=0.0, beta_x=0.1, beta_y=0.1))
    assert fit.r2 > 0.9999
    assert fit.f < 0.1
    assert fit_gabor(-gabor(11, f=0.0)).r2 > 0.9999


def test_no_filters_no_fits():
    assert fit_gabor(np.empty((0, 5, 5))).fitted.shape == (0, 5, 5)


@pytest.mark.parametrize(
    ("filters", "options", "error", "message"),
    [
        (np.zeros((2, 3, 3)), {}, ShapeError, r"at least 4×4.*got shape \(2, 3, 3\)"),
        (np.zeros(5), {}, ShapeError, r"got shape \(5,\)"),
        (np.full((5, 5), np.nan), {}, DataError, "expected finite filters"),
        (np.zeros((5, 5)), {"starts": 0}, OptionError, "at least 1; got 0"),
    ],
)
def test_what_cannot_be_fitted(filters, options, error, message):
    with pytest.raises(error, match=message):
        fit_gabor(filters, **options)


def test_without_scipy_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(OptionError, match=r"pip install striate\[scipy\]"):
        fit_gabor(np.zeros((5, 5)))
