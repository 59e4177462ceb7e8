"""Functions of scalars: errors in units in the last place over all of float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import given, run_kernel, wanted

from striate.codegen.targets import Target
from striate.formula.expression import (
    Expr,
    Var,
    asinh,
    atan,
    cos,
    equal,
    erf,
    exp,
    expm1,
    floor,
    log,
    log1p,
    sigmoid,
    sign,
    sin,
    softplus,
    tanh,
    unequal,
)
from striate.formula.functions import NUMPY
from striate.kernels.elementwise import elementwise

X = Var("x")
STEP = 4099  # of the bit patterns: a prime, so that all low bits are met; about a million numbers


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


# The function, its reference in float64, and the largest error with and without multiply-adds.
FUNCTIONS: dict[str, tuple[Expr, Callable[[Any], Any], float, float]] = {
    "exp": (exp(X), np.exp, 0.9, 1.2),
    "log": (log(X), np.log, 0.85, 0.85),
    "sigmoid": (sigmoid(X), _sigmoid, 2.2, 2.2),
    "tanh": (tanh(X), np.tanh, 2.5, 2.5),
    "expm1": (expm1(X), np.expm1, 1.5, 1.5),
    "log1p": (log1p(X), np.log1p, 2.4, 2.4),
    "softplus": (softplus(X), NUMPY["softplus"], 2.5, 2.5),
    "erf": (erf(X), NUMPY["erf"], 1.2, 1.2),
    "atan": (atan(X), np.arctan, 1.5, 1.5),
    "asinh": (asinh(X), np.arcsinh, 2.7, 2.7),
    "floor": (floor(X), np.floor, 0, 0),
    "sign": (sign(X), np.sign, 0, 0),
}


def sample() -> Any:
    """Numbers of every sign, exponent and class, and those near where functions turn."""
    patterns = np.arange(0, 2**32, STEP, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = np.linspace(-110, 110, 200_000, dtype=np.float32)
    around_one = 1 + np.linspace(-0.5, 1, 100_000, dtype=np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38], "f4")
    every = np.concatenate([patterns, near, around_one, special])
    return np.resize(every, -(-every.size // 16) * 16)


def computed(expr: Expr, x: Any, target: Target) -> Any:
    rows = x.reshape(-1, target.width)
    kernel = elementwise(target, expr, ("x",), len(rows))
    (found,) = run_kernel(kernel, target, wanted(*rows.shape), given(rows))
    return found.ravel()


def ulp_error(found: Any, exact: Any) -> Any:
    """Distance to the exact value in units in the last place of float32 there."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    error = np.where(same, 0.0, np.inf)
    unit = np.spacing(np.abs(rounded[finite])).astype(np.float64)
    error[finite] = np.abs(found[finite].astype(np.float64) - exact[finite]) / unit
    return error


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name: str, target: Target) -> None:
    expr, reference, with_fma, without = FUNCTIONS[name]
    x = sample()
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.float64))
        error = ulp_error(computed(expr, x, target), exact)
    worst = int(np.argmax(error))
    limit = with_fma if target.fma else without
    assert error[worst] <= limit, f"{error[worst]:.3f} ulp at {x[worst]!r}"


def test_special_values(target: Target) -> None:
    x = np.resize(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1.0, 200.0], "f4"), 16)
    nan = np.nan
    expected = {
        "exp": [1, 1, np.inf, 0, nan, np.exp(-1), np.e, np.inf],
        "log": [-np.inf, -np.inf, np.inf, nan, nan, nan, 0, np.log(200)],
        "sigmoid": [0.5, 0.5, 1, 0, nan, _sigmoid(-1.0), _sigmoid(1.0), 1],
        "tanh": [0, -0.0, 1, -1, nan, np.tanh(-1), np.tanh(1), 1],
        "log1p": [0, -0.0, np.inf, nan, nan, -np.inf, np.log(2), np.log(201)],
    }
    for name, (expr, reference, _, _) in FUNCTIONS.items():
        found = computed(expr, x, target)[:8]
        with np.errstate(all="ignore"):
            wanted_values = expected.get(name, reference(x[:8].astype(np.float64)))
            wanted_values = np.asarray(wanted_values).astype(np.float32)
        np.testing.assert_allclose(found, wanted_values, rtol=3e-7, err_msg=name)
    for function in (tanh, expm1, log1p, erf, atan, asinh, sin, floor, sign):
        zeros = computed(function(X), x, target)[:2]
        assert list(np.signbit(zeros)) == [False, True], function.__name__


@pytest.mark.parametrize("function", [sin, cos], ids=["sin", "cos"])
def test_sine_and_cosine(function: Callable[[Expr], Expr], target: Target) -> None:
    x = sample()
    reference = NUMPY[function.__name__]
    found = computed(function(X), x, target)
    moderate = np.abs(x) <= 1e6
    exact = reference(x[moderate].astype(np.float64))
    error = ulp_error(found[moderate], exact)
    worst = int(np.argmax(error))
    assert error[worst] <= 1.6, f"{error[worst]:.3f} ulp at {x[moderate][worst]!r}"
    rest = found[~moderate]
    assert np.isnan(rest[~np.isfinite(x[~moderate])]).all()
    assert (np.abs(rest[np.isfinite(x[~moderate])]) <= 1).all()


def test_equal_and_unequal(target: Target) -> None:
    x = np.resize(np.array([3.0, 3.5, np.nan, -3.0], "f4"), 16)
    assert list(computed(equal(X, 3), x, target)[:4]) == [1, 0, 0, 0]
    assert list(computed(unequal(X, 3), x, target)[:4]) == [0, 1, 1, 1]


def test_monotone_and_bounded(target: Target) -> None:
    x = np.sort(sample()[np.isfinite(sample())])
    x = x[: x.size // 16 * 16]
    for expr, low, high in ((sigmoid(X), 0, 1), (tanh(X), -1, 1), (erf(X), -1, 1)):
        found = computed(expr, x, target)
        assert found.min() >= low and found.max() <= high
    assert (computed(exp(X), x, target) >= 0).all()


def test_the_measure_sees_errors() -> None:
    exact = np.array([1.0, 2.0, np.inf, np.nan])
    found = np.array([1.0, 2.0 + 2**-20, np.inf, np.nan], np.float32)
    assert list(ulp_error(found, exact)) == [0, 4, 0, 0]
    assert np.isinf(ulp_error(np.array([1.0], "f4"), np.array([np.inf]))[0])
    assert not ulp_error(np.array([np.nan], "f4"), np.array([1.0]))[0] <= 1
