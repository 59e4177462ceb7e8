"""Batch normalisation in blocked layout against its formulas in float64."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import pytest
from harness import (
    Argument,
    changed,
    check_close,
    check_equal,
    code,
    compile_ahead,
    given,
    normal_numbers,
    run_kernel,
    wanted,
    whole_numbers,
)

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS, Target
from striate.formula.expression import Var, maximum
from striate.kernels import norm
from striate.kernels.kernel import Tail
from striate.kernels.routine import Recipe, Routine, blocks
from striate.kernels.spread import Spread

EPS, MOMENTUM = 1e-5, 0.1
V, E = Var("v"), Var("e0")
ADD_RELU = Tail(maximum(V + E, 0), 1)
# channels, positions: odd counts of lanes, single positions, several chunks and strips
CASES = [(1, 1), (3, 5), (8, 49), (15, 64), (16, 65), (17, 130), (20, 4099)]


def to_blocked(samples: Any, width: int) -> Any:
    """(n, c, p) to (n, blocks, p, width); the lanes that are no channel hold NaN."""
    n, c, p = samples.shape
    count = -(-c // width)
    padded = np.full((n, count * width, p), np.nan, np.float32)
    padded[:, :c] = samples
    return np.ascontiguousarray(padded.reshape(n, count, width, p).swapaxes(2, 3))


def from_blocked(values: Any, channels: int) -> Any:
    n, count, p, width = values.shape
    return values.swapaxes(2, 3).reshape(n, count * width, p)[:, :channels]


def vectors(values: Any, width: int) -> Any:
    """(c,) padded to whole vectors with NaN."""
    padded = np.full(-(-len(values) // width) * width, np.nan, np.float32)
    padded[: len(values)] = values
    return padded


def padded(channels: int, target: Target) -> int:
    return blocks(channels, target) * target.width


def run_parts(routine: Routine, target: Target, *arguments: Argument) -> list[Any]:
    """The outputs after every part has run, each written by one part (or left as it was)."""
    results: list[Any] = []
    for part in range(routine.parts):
        found = run_kernel(routine.kernel, target, *arguments, part)
        if not results:
            results = found
            continue
        for old, new in zip(results, found, strict=True):
            here = ~np.isnan(new)
            old[here] = new[here]
    return results


def _recipes(target: Target, channels: int, positions: int) -> list[Recipe]:
    return [
        norm.batch_statistics(target, channels, positions, EPS, MOMENTUM),
        norm.batch_norm(target, channels, positions, ADD_RELU),
        norm.batch_norm_sums(target, channels, positions),
        norm.batch_norm_gradient(target, channels, positions, Tail(V + E, 1, keep=True)),
        norm.affine(target, channels, positions, ADD_RELU),
        norm.fold(target, channels, EPS, bias=True),
        norm.fold(target, channels, EPS, bias=False),
    ]


@cache
def _prepare(target: Target) -> None:
    compile_ahead(
        [r.steps[0].kernel for case in CASES for r in _recipes(target, *case)],
        target,
    )


def _statistics(x: Any, target: Target, old_mean: Any, old_var: Any) -> list[Any]:
    """mean, inverse, running mean and variance, (c,) each, with x of (n, c, p)."""
    n, c, p = x.shape
    w = target.width
    step = norm.batch_statistics(target, c, p, EPS, MOMENTUM).steps[0]
    assert (step.parts, step.samples) == (blocks(c, target), 0)
    blocked = to_blocked(x, w)
    found: list[Any] = [np.empty(padded(c, target), np.float32) for _ in range(4)]
    for part in range(step.parts):
        lanes = slice(part * w, (part + 1) * w)
        out = run_kernel(
            step.kernel,
            target,
            wanted(padded(c, target)),
            wanted(padded(c, target)),
            changed(vectors(old_mean, w)),
            changed(vectors(old_var, w)),
            given(blocked),
            n,
            blocked[0].size,
            part,
        )
        for whole, some in zip(found, out, strict=True):
            whole[lanes] = some[lanes]
    assert not found[0][c:].any() and not found[1][c:].any()
    return [f[:c] for f in found]


@pytest.mark.parametrize(("channels", "positions"), CASES)
@pytest.mark.parametrize("samples", [1, 3])
def test_statistics(channels: int, positions: int, samples: int, target: Target) -> None:
    _prepare(target)
    x = normal_numbers(1, samples, channels, positions) + 2
    old = normal_numbers(2, 2, channels)
    mean, inverse, running_mean, running_var = _statistics(x, target, old[0], old[1])
    double = x.astype(np.float64)
    count = samples * positions
    variance = double.var(axis=(0, 2))
    check_close(mean, double.mean(axis=(0, 2)))
    check_close(inverse, 1 / np.sqrt(variance + EPS))
    check_close(running_mean, 0.9 * old[0] + 0.1 * double.mean(axis=(0, 2)))
    unbiased = variance * count / max(count - 1, 1)
    check_close(running_var, 0.9 * old[1] + 0.1 * unbiased)


@pytest.mark.parametrize("order", ["mixed", "sorted", "first apart"])
def test_statistics_of_a_mean_far_from_zero(order: str, target: Target) -> None:
    _prepare(target)
    x = normal_numbers(5, 4, 20, 4099) + 100
    if order == "sorted":
        x = np.sort(x.transpose(1, 0, 2).reshape(20, -1)).reshape(20, 4, -1).swapaxes(0, 1)
    elif order == "first apart":
        x[0, :, 0] = 0
    mean, inverse, _, running_var = _statistics(x, target, np.zeros(20), np.zeros(20))
    double = x.astype(np.float64)
    variance = double.var(axis=(0, 2))
    unbiased = 0.1 * double.var(axis=(0, 2), ddof=1)
    for found, expected in (
        (mean, double.mean(axis=(0, 2))),
        (inverse, 1 / np.sqrt(variance + EPS)),
        (running_var, unbiased),
    ):
        assert np.abs(found / expected - 1).max() < 2e-6


def test_statistics_of_equal_numbers(target: Target) -> None:
    _prepare(target)
    x = np.full((3, 8, 49), 3.7, np.float32)
    mean, inverse, _, running_var = _statistics(x, target, np.zeros(8), np.zeros(8))
    check_equal(mean, x[0, :, 0])
    check_close(inverse, np.full(8, EPS**-0.5))
    assert not running_var.any()


@pytest.mark.parametrize(("channels", "positions"), CASES)
def test_application(channels: int, positions: int, target: Target) -> None:
    _prepare(target)
    w = target.width
    x, extra = (whole_numbers(k, 1, channels, positions, most=9) for k in (1, 2))
    mean, inverse, weight, bias = (whole_numbers(k, channels) for k in (3, 4, 5, 6))
    blocked = to_blocked(x, w)
    lanes = [given(vectors(v, w)) for v in (mean, inverse, weight, bias)]
    step = norm.batch_norm(target, channels, positions, ADD_RELU).steps[0]
    out = wanted(*blocked.shape)
    (found,) = run_parts(step, target, out, given(blocked), *lanes, given(to_blocked(extra, w)))
    column = [v[:, None] for v in (mean, inverse, weight, bias)]
    normal = (x - column[0]) * column[1] * column[2] + column[3]
    check_equal(from_blocked(found, channels), np.maximum(normal + extra, 0), dense=0.0)
    step = norm.affine(target, channels, positions, ADD_RELU).steps[0]
    (found,) = run_parts(step, target, out, given(blocked), *lanes[2:], given(to_blocked(extra, w)))
    expected = np.maximum(x * column[2] + column[3] + extra, 0)
    check_equal(from_blocked(found, channels), expected, dense=0.0)


@pytest.mark.parametrize(("channels", "positions"), CASES)
@pytest.mark.parametrize("samples", [1, 3])
def test_sums(channels: int, positions: int, samples: int, target: Target) -> None:
    _prepare(target)
    w = target.width
    x, dy = (whole_numbers(k, samples, channels, positions) for k in (1, 2))
    mean, inverse = whole_numbers(3, channels), whole_numbers(4, channels)
    step = norm.batch_norm_sums(target, channels, positions).steps[0]
    blocked = to_blocked(x, w)
    size = blocked[0].size
    arguments = [given(a) for a in (to_blocked(dy, w), blocked, vectors(mean, w))]
    arguments += [given(vectors(inverse, w))]
    out = wanted(padded(channels, target))
    dw, db = run_parts(step, target, out, out, *arguments, samples, size, size)
    check_equal(db[:channels], dy.sum(axis=(0, 2)), dense=0.0)
    weighted = (dy * (x - mean[:, None])).sum(axis=(0, 2)) * inverse
    check_equal(dw[:channels], weighted, dense=0.0)
    assert not dw[channels:].any() and not db[channels:].any()


@pytest.mark.parametrize(("channels", "positions"), CASES)
def test_gradient(channels: int, positions: int, target: Target) -> None:
    _prepare(target)
    w, batch = target.width, 3
    x, dy, extra = (normal_numbers(k, batch, channels, positions) for k in (1, 2, 3))
    weight = normal_numbers(4, channels)
    double = x.astype(np.float64)
    mean, inverse = double.mean(axis=(0, 2)), 1 / np.sqrt(double.var(axis=(0, 2)) + EPS)
    normal = (double - mean[:, None]) * inverse[:, None]
    dw, db = (dy * normal).sum(axis=(0, 2)), dy.sum(axis=(0, 2), dtype=np.float64)
    count = batch * positions
    dx = dy - db[:, None] / count - normal * dw[:, None] / count
    dx = dx * (weight * inverse)[:, None]
    step = norm.batch_norm_gradient(target, channels, positions, Tail(V + E, 1, keep=True)).steps[0]
    lanes = [given(vectors(v, w)) for v in (mean, inverse, weight, dw, db)]
    for n in range(batch):
        one = slice(n, n + 1)
        values = [given(to_blocked(a[one], w)) for a in (dy, x)]
        shape = wanted(*to_blocked(x[one], w).shape)
        rest = [shape, given(to_blocked(extra[one], w)), batch]
        found, kept = run_parts(step, target, shape, *values, *lanes, *rest)
        check_close(from_blocked(kept, channels), dx[one], factor=3)
        check_close(from_blocked(found, channels), dx[one] + extra[one], factor=3)


@pytest.mark.parametrize("channels", [1, 7, 8, 17])
@pytest.mark.parametrize("bias", [True, False])
def test_folding(channels: int, bias: bool, target: Target) -> None:
    weight, term, mean, before = (normal_numbers(k, channels) for k in range(4))
    var = normal_numbers(5, channels) ** 2
    step = norm.fold(target, channels, EPS, bias).steps[0]
    arrays = [weight, term, mean, var, *([before] if bias else [])]
    out = wanted(padded(channels, target))
    scale, shift = run_kernel(step.kernel, target, out, out, *(given(a) for a in arrays), 0)
    factor = weight / np.sqrt(var.astype(np.float64) + EPS)
    check_close(scale[:channels], factor)
    check_close(shift[:channels], term + (before * bias - mean) * factor)
    assert not scale[channels:].any() and not shift[channels:].any()


def test_a_tail_may_read_what_it_overwrites(target: Target) -> None:
    """A residual that is added in place."""
    channels, positions = 20, 4099
    w = target.width
    x, extra = (to_blocked(whole_numbers(k, 1, channels, positions), w) for k in (1, 2))
    scale, shift = (vectors(whole_numbers(k, channels), w) for k in (3, 4))
    step = norm.affine(target, channels, positions, ADD_RELU).steps[0]
    place = extra.copy()
    function = code(step.kernel, target).function(step.kernel.symbol, *_kinds(step))
    place = _aligned(place)
    arrays = [_aligned(a) for a in (x, scale, shift)]
    for part in range(step.parts):
        function(place.ctypes.data, *(a.ctypes.data for a in arrays), place.ctypes.data, part)
    column = [v[:channels, None] for v in (scale, shift)]
    expected = from_blocked(x, channels) * column[0] + column[1] + from_blocked(extra, channels)
    check_equal(from_blocked(place, channels), np.maximum(expected, 0), dense=0.2)


def _kinds(step: Routine) -> list[Any]:
    return [ctypes.c_int64 if ":" in a else ctypes.c_void_p for a in step.kernel.arguments]


def _aligned(values: Any) -> Any:
    raw = np.empty(values.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    found = raw[start : start + values.nbytes].view(np.float32).reshape(values.shape)
    found[...] = values
    return found


@pytest.mark.parametrize("channels", [20, 64])
@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
def test_other_targets_compile(name: str, channels: int) -> None:
    target = TARGETS[name]
    for found in _recipes(target, channels, 196):
        assert assembly(found.steps[0].kernel.module.text, target)


def test_parts_cover_all_and_are_not_small() -> None:
    for count, positions in ((1, 1), (3, 49), (256, 49), (8, 12544), (1, 4099), (2, 2049)):
        spread = Spread(count, positions, 2048, 4)
        assert spread.parts >= 1
        assert count * positions / spread.parts >= min(count * positions, 1000)
