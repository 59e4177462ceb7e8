"""Local response normalisation in blocked layout against its formula in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from harness import (
    Argument,
    check_close,
    compile_ahead,
    given,
    normal_numbers,
    run_kernel,
    wanted,
)

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS, Target
from striate.formula.expression import Var, maximum
from striate.kernels.kernel import Tail
from striate.kernels.response_norm import local_response_norm, local_response_norm_gradient
from striate.kernels.routine import Recipe, Routine

V, E = Var("v"), Var("e0")
# channels, positions, (size, alpha, beta, k)
CASES = [
    (1, 1, (5, 0.5, 0.75, 2.0)),
    (7, 3, (5, 0.5, 0.75, 2.0)),
    (8, 9, (3, 1.0, 0.5, 1.0)),
    (16, 5, (4, 0.7, 1.0, 1.0)),
    (9, 6, (1, 0.7, 2.5, 1.5)),
    (20, 4, (19, 2.0, 0.75, 1.0)),
    (37, 35, (8, 2.0, 0.6, 1.0)),
    (2, 1030, (2, 0.5, 0.75, 2.0)),
]
TAIL = Tail(maximum(V + E, 0), 1, keep=True)


def to_blocked(sample: Any, width: int) -> Any:
    """(c, p) to (blocks, p, width); the lanes that are no channel hold NaN."""
    c, p = sample.shape
    padded = np.full((-(-c // width) * width, p), np.nan, np.float32)
    padded[:c] = sample
    return np.ascontiguousarray(padded.reshape(-1, width, p).swapaxes(1, 2))


def from_blocked(values: Any, channels: int) -> Any:
    return values.swapaxes(1, 2).reshape(-1, values.shape[1])[:channels]


def _sums(values: Any, before: int, after: int) -> Any:
    """Σ over channels c − before … c + after."""
    c = len(values)
    return np.stack([values[max(i - before, 0) : min(i + after + 1, c)].sum(0) for i in range(c)])


def _mean_square(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    return k + alpha / size * _sums(x.astype(np.float64) ** 2, size // 2, (size - 1) // 2)


def _gradient(dy: Any, x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    d = _mean_square(x, size, alpha, beta, k)
    total = _sums(dy * x * d ** (-beta - 1), (size - 1) // 2, size // 2)
    return dy * d**-beta - 2 * alpha * beta / size * x * total


def _recipes(target: Target, channels: int, positions: int, options: Any) -> list[Recipe]:
    return [
        build(target, channels, positions, *options, TAIL)
        for build in (local_response_norm, local_response_norm_gradient)
    ]


@cache
def _prepare(target: Target) -> None:
    kernels = [r.steps[0].kernel for case in CASES for r in _recipes(target, *case)]
    compile_ahead(kernels, target)


def _run(routine: Routine, target: Target, *arguments: Argument) -> list[Any]:
    """The outputs after all parts, without the scratch memory; a place has one writer."""
    found: list[Any] = []
    for part in range(routine.parts):
        *results, _ = run_kernel(routine.kernel, target, *arguments, wanted(routine.scratch), part)
        found = found or [np.full_like(r, np.nan) for r in results]
        for whole, some in zip(found, results, strict=True):
            here = ~np.isnan(some)
            assert np.isnan(whole[here]).all(), "two parts write one place"
            whole[here] = some[here]
    return found


@pytest.mark.parametrize(("channels", "positions", "options"), CASES)
def test_forward(channels: int, positions: int, options: Any, target: Target) -> None:
    _prepare(target)
    x, extra = (normal_numbers(k, channels, positions) for k in (1, 2))
    blocked = to_blocked(x, target.width)
    step = _recipes(target, channels, positions, options)[0].steps[0]
    shape = wanted(*blocked.shape)
    there = given(to_blocked(extra, target.width))
    found, kept = _run(step, target, shape, given(blocked), shape, there)
    expected = x / _mean_square(x, *options) ** options[2]
    check_close(from_blocked(kept, channels), expected)
    check_close(from_blocked(found, channels), np.maximum(expected + extra, 0), dense=0.0)


@pytest.mark.parametrize(("channels", "positions", "options"), CASES)
def test_gradient(channels: int, positions: int, options: Any, target: Target) -> None:
    _prepare(target)
    dy, x, extra = (normal_numbers(k, channels, positions) for k in (1, 2, 3))
    blocked = [to_blocked(a, target.width) for a in (dy, x, extra)]
    step = _recipes(target, channels, positions, options)[1].steps[0]
    shape = wanted(*blocked[0].shape)
    found, kept = _run(
        step, target, shape, *(given(a) for a in blocked[:2]), shape, given(blocked[2])
    )
    expected = _gradient(dy, x, *options)
    check_close(from_blocked(kept, channels), expected, factor=2)
    check_close(from_blocked(found, channels), np.maximum(expected + extra, 0), dense=0.0, factor=2)


def test_the_gradient_is_the_slope_of_the_formula() -> None:
    options = (5, 0.5, 0.75, 2.0)
    dy, x = (normal_numbers(k, 9, 2).astype(np.float64) for k in (1, 2))
    found = _gradient(dy, x, *options)
    for c in range(9):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[c, 0] += sign * 1e-5
            ends.append((dy * moved / _mean_square(moved, *options) ** 0.75).sum())
        assert abs((ends[0] - ends[1]) / 2e-5 - found[c, 0]) < 1e-6


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
def test_other_targets_compile(name: str) -> None:
    target = TARGETS[name]
    for recipe in _recipes(target, 37, 35, (5, 0.5, 0.75, 2.0)):
        assert assembly(recipe.steps[0].kernel.module.text, target)
