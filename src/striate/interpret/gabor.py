"""Filters as Gabor functions: the eight numbers that describe each best, and how well they do.

    w(x, y) = α·exp(−βx·x′² − βy·y′²)·cos(f·x′ + φ)
    x′ = (x−x0)·cos τ + (y−y0)·sin τ,   y′ = (y−y0)·cos τ − (x−x0)·sin τ

For given x0, y0, βx, βy, f, τ the best α·cos φ and α·sin φ follow by linear least squares. So a
dictionary of waves is tried on all filters at once by one product of matrices, and the best few of
each filter are the starts of a search for all eight numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import DataError, OptionError, ShapeError

Float64 = NDArray[np.float64]
PARAMETERS = ("alpha", "beta_x", "beta_y", "f", "phi", "x0", "y0", "tau")
_WHERE = "interpret.fit_gabor"
_SMALLEST = 4  # rows and columns: sixteen numbers for eight parameters
_DIRECTIONS, _FREQUENCIES, _CENTRES, _WIDTHS = 12, 8, 3, (0.15, 0.3, 0.6)
_HIGHEST = 10.0  # a bell's height: of slow odd waves only the product f·α would be determined
_APART = 0.98  # waves of a filter's starts that correlate more than this are the same start


@dataclass(frozen=True)
class GaborFit:
    """Gabor functions fitted to filters; every array has the filters' leading axes, (…,).

    Attributes:
        alpha: height of the bell, at least 0 and at most ten times the filter's greatest number.
        beta_x, beta_y: how fast it falls along the wave and across it (1/pixel²).
        f: frequency in radians a pixel, from 0 to π.
        phi: phase, above −π and up to π.
        x0, y0: the bell's centre; (0, 0) is the filter's middle, y grows downwards.
        tau: the direction in which the wave runs, from 0 to below π; bars stand across it.
        r2: `1 − Σ(w − fitted)²/Σ(w − mean w)²`, the share that is explained; NaN for a constant
            filter.
        fitted: the functions, (…, h, w).
        filters: what they were fitted to, (…, h, w).
    """

    alpha: Float64
    beta_x: Float64
    beta_y: Float64
    f: Float64
    phi: Float64
    x0: Float64
    y0: Float64
    tau: Float64
    r2: Float64
    fitted: Float64
    filters: Float64

    @property
    def wavelength(self) -> Float64:
        """2π/f in pixels; infinite where f is 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(2 * np.pi / self.f)

    @property
    def residual(self) -> Float64:
        """`filters − fitted`."""
        return self.filters - self.fitted

    def flat(self) -> GaborFit:
        """The same with one leading axis."""
        shape = self.filters.shape[-2:]
        parts = {k.name: getattr(self, k.name) for k in fields(self)}
        return GaborFit(
            **{
                name: array.reshape(-1, *shape) if name in ("fitted", "filters") else array.ravel()
                for name, array in parts.items()
            }
        )

    def to_dict(self) -> list[dict[str, float | None]]:
        """The parameters and R² of each filter, for JSON; None where a filter has no R²."""
        flat = self.flat()
        names = (*PARAMETERS, "r2")
        return [
            {name: None if np.isnan(v := float(getattr(flat, name)[k])) else v for name in names}
            for k in range(len(flat.r2))
        ]

    def __repr__(self) -> str:
        count, known = self.r2.size, self.r2[~np.isnan(self.r2)]
        median = f"{np.median(known):.2f}" if known.size else "unknown"
        return f"GaborFit({count} filter{'s' if count != 1 else ''}, median R² {median})"


def fit_gabor(filters: ArrayLike, *, starts: int = 4) -> GaborFit:
    """Fit a Gabor function to each filter by least squares.

    Of parameters that mean the same function those are given with α ≥ 0, f ≥ 0, τ in [0, π) and φ
    in (−π, π].

    Args:
        filters: (n, h, w), or (n, c, h, w), each channel by itself; or one (h, w). For colour
            filters, their mean over the channels tells the luminance.
        starts: how many starts are searched from, for each filter.
    Returns:
        The parameters, R² and the functions, with the filters' leading axes; see `GaborFit`.
    Raises:
        ShapeError: no filters, or smaller ones than 4×4: a Gabor function has eight parameters.
        DataError: a value is not finite.
        OptionError: SciPy is not installed, or `starts` is no number of starts.
    Source: Jones, Palmer, An evaluation of the two-dimensional Gabor filter model of simple
    receptive fields in cat striate cortex, J. Neurophysiol. 58 (1987).

    >>> from striate.filters import gabor
    >>> fit = fit_gabor(gabor(11, f=1.2, tau=0.5, beta_x=0.08, beta_y=0.05, x0=0.4))
    >>> round(float(fit.f), 4), round(float(fit.tau), 4), round(float(fit.r2), 6)
    (1.2, 0.5, 1.0)
    """
    array = _checked(filters, starts)
    h, w = array.shape[-2:]
    flat = array.reshape(-1, h, w)
    y, x = (np.arange(k) - (k - 1) / 2 for k in (h, w))
    places = np.stack([g.ravel() for g in np.meshgrid(x, y)])  # (2, h·w): x and y
    found = np.zeros((len(flat), len(PARAMETERS)))
    if len(flat):
        size = np.abs(flat).max(axis=(1, 2))
        scale = np.where(size > 0, size, 1.0)
        scaled = flat.reshape(len(flat), -1) / scale[:, np.newaxis]
        for k, given in enumerate(_starts(scaled, places, (h, w), starts)):
            if size[k] > 0:
                found[k] = _search(scaled[k], places, given, (h, w))
        found[:, 0] *= scale
    found = _normalised(found)
    fitted = np.stack([_function(p, places) for p in found]) if len(found) else flat[..., 0]
    return _result(array, found, fitted.reshape(array.shape))


def _checked(filters: ArrayLike, starts: int) -> Float64:
    array = np.asarray(filters, np.float64)
    if array.ndim < 2 or min(array.shape[-2:]) < _SMALLEST:
        raise ShapeError(
            f"{_WHERE}: expected filters (n, h, w), at least {_SMALLEST}×{_SMALLEST}: a Gabor "
            f"function has eight parameters; got shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise DataError(f"{_WHERE}: expected finite filters; got NaN or infinity.")
    if isinstance(starts, bool) or not hasattr(starts, "__index__") or starts < 1:
        raise OptionError(
            f"{_WHERE}: expected starts to be a whole number of at least 1; got {starts!r}."
        )
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise OptionError(
            f"{_WHERE}: expected SciPy, which is not installed. Run `pip install striate[scipy]`."
        ) from None
    return array


# ---- the function ----------------------------------------------------------------------------


def _turned(p: Float64, places: Float64) -> tuple[Float64, Float64]:
    """x′ and y′ of all places, (…, h·w), for parameters (…, 8)."""
    x = places[0] - p[..., 5, np.newaxis]
    y = places[1] - p[..., 6, np.newaxis]
    cosine, sine = np.cos(p[..., 7, np.newaxis]), np.sin(p[..., 7, np.newaxis])
    return x * cosine + y * sine, y * cosine - x * sine


def _function(p: Float64, places: Float64) -> Float64:
    along, across = _turned(p, places)
    alpha, beta_x, beta_y, f, phi = (p[..., k, np.newaxis] for k in range(5))
    bell = alpha * np.exp(-beta_x * along**2 - beta_y * across**2)
    return np.asarray(bell * np.cos(f * along + phi))


def _slopes(p: Float64, places: Float64) -> Float64:
    """The derivatives of the function to its parameters, (h·w, 8)."""
    along, across = _turned(p, places)
    alpha, beta_x, beta_y, f, phi, _, _, tau = p
    bell = np.exp(-beta_x * along**2 - beta_y * across**2)
    wave, quarter = bell * np.cos(f * along + phi), bell * np.sin(f * along + phi)
    to_along = alpha * (-2 * beta_x * along * wave - f * quarter)
    to_across = alpha * (-2 * beta_y * across * wave)
    return np.stack(
        [
            wave,
            -alpha * along**2 * wave,
            -alpha * across**2 * wave,
            -alpha * along * quarter,
            -alpha * quarter,
            -np.cos(tau) * to_along + np.sin(tau) * to_across,
            -np.sin(tau) * to_along - np.cos(tau) * to_across,
            across * to_along - along * to_across,
        ],
        axis=1,
    )


# ---- the search ------------------------------------------------------------------------------


def _candidates(shape: tuple[int, int]) -> Float64:
    """Parameters (m, 8) of the waves that are tried, with α = 1 and φ = 0."""
    h, w = shape
    centres = np.linspace(-0.25, 0.25, _CENTRES)
    frequencies = np.linspace(0, np.pi, _FREQUENCIES + 1)[1:] * 0.9
    directions = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    betas = [0.5 / (share * min(h, w)) ** 2 for share in _WIDTHS]
    grids = np.meshgrid(
        betas, betas, frequencies, w * centres, h * centres, directions, indexing="ij"
    )
    beta_x, beta_y, f, x0, y0, tau = (g.ravel() for g in grids)
    return np.stack([np.ones_like(f), beta_x, beta_y, f, np.zeros_like(f), x0, y0, tau], axis=1)


def _starts(flat: Float64, places: Float64, shape: tuple[int, int], count: int) -> list[Float64]:
    """For each filter (n, h·w) its best waves, each with its best α and φ: (≤ count, 8)."""
    waves = _candidates(shape)
    even = _function(waves, places)
    waves[:, 4] = -np.pi / 2
    odd = _function(waves, places)  # the sine of the same wave
    a, b, c = (even * even).sum(1), (even * odd).sum(1), (odd * odd).sum(1)
    determinant = np.maximum(a * c - b * b, 1e-9 * a * np.maximum(c, 1e-9))
    to_even, to_odd = flat @ even.T, flat @ odd.T  # (n, m)
    u, v = (c * to_even - b * to_odd) / determinant, (a * to_odd - b * to_even) / determinant
    gain = u * to_even + v * to_odd  # what of a filter's energy the wave explains
    found = []
    for k, order in enumerate(np.argsort(-gain, axis=1)[:, : 16 * count]):
        chosen = waves[order].copy()
        # u·cos + v·sin = α·cos(· + φ) with α·cos φ = u and α·sin φ = −v
        chosen[:, 0] = np.hypot(u[k, order], v[k, order])
        chosen[:, 4] = np.arctan2(-v[k, order], u[k, order])
        found.append(_different(chosen, places, count))
    return found


def _different(chosen: Float64, places: Float64, count: int) -> Float64:
    """The first few of some waves that are not nearly the same as one before."""
    drawn = _function(chosen, places)
    drawn /= np.maximum(np.linalg.norm(drawn, axis=1, keepdims=True), 1e-30)
    kept: list[int] = []
    for k in range(len(drawn)):
        if len(kept) < count and all(drawn[k] @ drawn[other] < _APART for other in kept):
            kept.append(k)
    return chosen[kept]


def _search(target: Float64, places: Float64, starts: Float64, shape: tuple[int, int]) -> Float64:
    """The best of the searches from all starts."""
    from scipy.optimize import least_squares

    h, w = shape
    sharpest = 2.0  # a bell narrower than a pixel is no bell
    low = np.array([-_HIGHEST, 0, 0, 0, -np.inf, -w / 2, -h / 2, -np.inf])
    high = np.array([_HIGHEST, sharpest, sharpest, np.pi, np.inf, w / 2, h / 2, np.inf])
    size = np.array([1, 0.1, 0.1, 1, 1, w / 4, h / 4, 1])
    best, cost = starts[0], np.inf
    for start in starts:
        found = least_squares(
            lambda p: _function(p, places) - target,
            np.clip(start, low + 1e-6, high - 1e-6),
            jac=lambda p: _slopes(p, places),
            bounds=(low, high),
            x_scale=size,
            max_nfev=200,
        )
        if found.cost < cost:
            best, cost = found.x, found.cost
        if cost < 1e-12 * (target @ target):
            break
    return np.asarray(best)


def _normalised(found: Float64) -> Float64:
    """The same functions with α ≥ 0, τ in [0, π) and φ in (−π, π]."""
    p: Float64 = found.copy()
    still = p[:, 3] < 1e-9  # no wave: the phase is a factor
    p[still, 0] *= np.cos(p[still, 4])
    p[still, 3:5] = 0
    p[:, 4] += np.where(p[:, 0] < 0, np.pi, 0)
    p[:, 0] = np.abs(p[:, 0])
    turns = np.floor(p[:, 7] / np.pi)
    p[:, 7] -= turns * np.pi
    wrapped = p[:, 7] >= np.pi  # rounding of a tiny negative angle
    p[wrapped, 7] = 0.0
    odd = (turns + wrapped) % 2 == 1
    p[odd, 4] *= -1  # half a turn: the wave runs the other way
    p[:, 4] = np.pi - np.mod(np.pi - p[:, 4], 2 * np.pi)
    return p


def _result(array: Float64, found: Float64, fitted: Float64) -> GaborFit:
    lead = array.shape[:-2]
    axes = (-2, -1)
    rest = np.square(array - fitted).sum(axis=axes)
    all_of_it = np.square(array - array.mean(axis=axes, keepdims=True)).sum(axis=axes)
    flat = all_of_it <= 1e-20 * np.square(array).sum(axis=axes)
    r2 = np.where(flat, np.nan, 1 - rest / np.where(flat, 1.0, all_of_it))
    values: dict[str, Any] = {name: found[:, k].reshape(lead) for k, name in enumerate(PARAMETERS)}
    return GaborFit(**values, r2=r2, fitted=fitted, filters=array)
