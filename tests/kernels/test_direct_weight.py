"""Direct gradients to weights and biases in blocked layout against the formula; exact numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from conv_case import ConvCase
from harness import (
    check_equal,
    compile_ahead,
    given,
    run_kernel,
    wanted,
    whole_numbers,
)

from striate.codegen.targets import TARGETS, Target
from striate.kernels.direct_weight import (
    DirectWeight,
    WeightOptions,
    bias_gradient,
    candidates,
    default_options,
    weight_gradient,
)
from striate.kernels.routine import Recipe, Routine
from striate.kernels.window import taps

SAMPLES = 3
ONE = ((1, 1), (1, 1))

CASES = [
    ConvCase(16, 16, (8, 9), padding=ONE),
    ConvCase(24, 40, (14, 5), padding=ONE),
    ConvCase(16, 24, (9, 10), (3, 3), (2, 2), ONE),
    ConvCase(16, 24, (9, 10), (1, 1), (2, 2)),
    # 1×1: rows cut anew, or prime and left
    ConvCase(20, 24, (6, 6), (1, 1)),
    ConvCase(8, 9, (17, 17), (1, 1)),
    ConvCase(33, 17, (1, 1), (1, 1)),
    # many rows: several strips
    ConvCase(9, 17, (70, 40), padding=ONE),
    # images of one row, column, pixel; kernels larger than the image
    ConvCase(2, 3, (1, 1), (3, 3), padding=ONE),
    ConvCase(1, 2, (2, 1), (5, 7), padding=((3, 2), (3, 3))),
    ConvCase(17, 16, (1, 9), (1, 3)),
    ConvCase(17, 16, (9, 1), (3, 1)),
    ConvCase(2, 2, (1, 1), (3, 3), (2, 2), ((2, 2), (2, 2))),
    # strides, above the kernel too; dilation; uneven padding; kernels that meet nothing
    ConvCase(5, 9, (9, 11), (2, 2), (3, 4)),
    ConvCase(5, 9, (7, 8), (1, 1), (2, 3)),
    ConvCase(5, 9, (8, 9), (3, 2), (1, 2), ((0, 0), (0, 0)), (2, 3)),
    ConvCase(5, 9, (6, 7), (3, 3), (2, 3), ((2, 0), (0, 1)), (2, 1)),
    ConvCase(5, 9, (5, 6), (2, 3), padding=((3, 0), (0, 4))),
    ConvCase(1, 1, (4, 4), (3, 3), (5, 5), ((4, 4), (4, 4))),
    # large kernels
    ConvCase(16, 8, (12, 20), (5, 5), padding=((2, 2), (2, 2))),
    ConvCase(8, 8, (9, 23), (2, 11), padding=((0, 0), (5, 5))),
    # groups of whole blocks
    ConvCase(16, 16, (5, 6), groups=3, padding=ONE),
    ConvCase(16, 48, (6, 6), (1, 1), groups=2),
]
PLAIN = [
    ConvCase(1, 6, (28, 28), (5, 5), padding=((2, 2), (2, 2))),
    ConvCase(3, 20, (33, 31), (7, 7), (2, 2), ((3, 3), (3, 3))),
    ConvCase(3, 64, (12, 13), padding=ONE),
    ConvCase(3, 17, (12, 13), (1, 1)),
    ConvCase(4, 16, (16, 16), (4, 4), (4, 4)),
    ConvCase(2, 3, (1, 1), (3, 3), padding=ONE),
]


def problem(case: ConvCase, plain: bool = False) -> DirectWeight:
    return DirectWeight(
        case.outputs * case.groups,
        case.channels * case.groups,
        case.groups,
        case.kernel,
        case.size,
        case.along(0),
        case.along(1),
        plain,
    )


def gradient(
    case: ConvCase, target: Target, plain: bool = False, options: WeightOptions | None = None
) -> Recipe:
    return weight_gradient(target, problem(case, plain), options)


def to_blocks(a: Any, width: int, beyond: float = np.nan) -> Any:
    """(samples, c, h, w) to (samples, blocks, h, w, width)."""
    n, c, *size = a.shape
    full = np.full((n, -(-c // width) * width, *size), beyond, np.float32)
    full[:, :c] = a
    parts = full.reshape(n, -1, width, *size)
    return np.ascontiguousarray(np.moveaxis(parts, 2, -1))


def packed(w: Any, width: int) -> Any:
    """(o, i, kh, kw) to (blocks, i, taps, width), NaN beyond the last output."""
    o, i, kh, kw = w.shape
    full = np.full((-(-o // width) * width, i, kh * kw), np.nan)
    full[:o] = w.reshape(o, i, kh * kw)
    return np.moveaxis(full.reshape(-1, width, i, kh * kw), 1, -1)


def run(steps: Recipe, target: Target, shape: tuple[int, ...], x: Any, dy: Any) -> Any:
    """The gradient that a recipe's routines give."""
    sums, *more = steps.steps
    sizes = (int(x[0].size), int(dy[0].size))
    arguments: list[Any] = [given(x), given(dy), len(x), *sizes]
    if not more:
        return run_parts(sums, target, shape, arguments)
    (adding,), (buffer,) = more, steps.buffers
    assert buffer.per_sample == 0
    partial = run_parts(sums, target, (buffer.fixed,), arguments)
    return run_parts(adding, target, shape, [given(partial)])


def run_parts(step: Routine, target: Target, shape: tuple[int, ...], arguments: list[Any]) -> Any:
    """What all parts write together; every part writes something, and no two the same."""
    found = np.full(shape, np.nan)
    for part in range(step.parts):
        (some,) = run_kernel(step.kernel, target, wanted(*shape), *arguments, part)
        written = ~np.isnan(some)
        assert written.any(), "a part without work"
        assert np.isnan(found[written]).all(), "two parts write one number"
        found[written] = some[written]
    return found


def check(
    case: ConvCase, target: Target, plain: bool = False, options: WeightOptions | None = None
) -> None:
    x, dy = case.x(SAMPLES), case.dy(SAMPLES)
    expected = packed(case._gradients(x, dy)[1], target.width)
    source = x if plain else to_blocks(x, target.width)
    steps = gradient(case, target, plain, options)
    found = run(steps, target, expected.shape, source, to_blocks(dy, target.width))
    real = ~np.isnan(expected)
    check_equal(found[real], expected[real], dense=case.dense)


@cache
def _prepare(target: Target) -> None:
    """Compile all kernels of this file for a target."""
    recipes = [gradient(case, target) for case in CASES]
    recipes += [gradient(case, target, plain=True) for case in PLAIN]
    recipes += [gradient(*args) for args in _option_cases(target)]
    recipes += [bias_gradient(target, c, n) for c, n in BIAS]
    compile_ahead([step.kernel for r in recipes for step in r.steps], target)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weight_gradient(case: ConvCase, target: Target) -> None:
    _prepare(target)
    check(case, target)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_weight_gradient_of_a_plain_source(case: ConvCase, target: Target) -> None:
    _prepare(target)
    check(case, target, plain=True)


def _option_cases(target: Target) -> list[tuple[ConvCase, Target, bool, WeightOptions]]:
    """Other tiles, strips and parts than the default ones."""
    v = target.width
    blocked, plain = ConvCase(2 * v + 1, 3 * v + 1, (9, 7), padding=ONE), PLAIN[2]
    small, many = ConvCase(2 * v, 3 * v, (4, 4), (1, 1)), ConvCase(v, v, (3, 3), groups=5)
    found = []
    for case, flag in ((blocked, False), (small, False), (many, False), (plain, True)):
        default = default_options(target, problem(case, flag))
        found += [
            (case, target, flag, replace(default, parts=1)),
            (case, target, flag, replace(default, parts=1000, rows=2, samples=1)),
            (case, target, flag, replace(default, blocks=2, channels=1, columns=2, unroll=3)),
            (case, target, flag, replace(default, blocks=1, channels=4, columns=1, samples=2)),
            (case, target, flag, replace(default, parts=20, rows=2, shares=3, ahead=8)),
        ]
    return found


def test_any_options_give_the_same_numbers(target: Target) -> None:
    _prepare(target)
    for case, _, plain, options in _option_cases(target):
        check(case, target, plain, options)


def test_candidates_begin_with_the_default(target: Target) -> None:
    for case, plain in ((CASES[0], False), (CASES[4], False), (PLAIN[1], True)):
        p = problem(case, plain)
        found = candidates(target, p)
        assert found[0] == default_options(target, p)
        assert len(set(found)) == len(found) > 1


def test_large_layers_give_many_parts() -> None:
    target = TARGETS["x86-64-v3"]
    for case in (
        ConvCase(64, 64, (56, 56), padding=ONE),
        ConvCase(512, 512, (7, 7), padding=ONE),
        ConvCase(1024, 256, (14, 14), (1, 1)),
    ):
        (step,) = gradient(case, target).steps
        assert 32 <= step.parts <= 128
    first, adding = gradient(ConvCase(3, 64, (112, 112), padding=ONE), target, plain=True).steps
    assert 8 <= first.parts <= 128
    assert adding.kernel.arguments == ("dw", "partial", "part:i64")


def test_three_dimensions_as_rows_of_rows(target: Target) -> None:
    """A row is (depth, row), a kernel row (kd, kh)."""
    depth, rows, cols = (taps(n, n, 3, 1, 1, 1) for n in (4, 5, 6))
    both = tuple(
        tuple((kd * 3 + kh, d * 5 + h) for kd, d in ds for kh, h in hs)
        for ds in depth
        for hs in rows
    )
    width = target.width
    p = DirectWeight(9, 10, 1, (9, 3), (20, 6), both, cols)
    steps = weight_gradient(target, p)
    x, dy = whole_numbers(0, 2, 10, 4, 5, 6), whole_numbers(1, 2, 9, 4, 5, 6)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1)])
    expected = np.zeros((9, 10, 3, 3, 3))
    for kd, kh, kw in np.ndindex(3, 3, 3):
        met = padded[:, :, kd : kd + 4, kh : kh + 5, kw : kw + 6]
        expected[:, :, kd, kh, kw] = np.einsum("nodhw,nidhw->oi", dy, met)
    blocked = [to_blocks(a.reshape(2, -1, 20, 6), width) for a in (x, dy)]
    wide = packed(expected.reshape(9, 10, 9, 3), width)
    found = run(steps, target, wide.shape, *blocked)
    real = ~np.isnan(wide)
    check_equal(found[real], wide[real])


BIAS = [(1, 1), (8, 7), (17, 8), (16, 9), (33, 35), (5, 47)]


@pytest.mark.parametrize(("channels", "positions"), BIAS)
def test_bias_gradient(channels: int, positions: int, target: Target) -> None:
    _prepare(target)
    (step,) = bias_gradient(target, channels, positions).steps
    dy = whole_numbers(0, SAMPLES, channels, 1, positions)
    blocked = to_blocks(dy, target.width)
    found = np.full(step.parts * target.width, np.nan)
    for part in range(step.parts):
        out = wanted(len(found))
        size = int(blocked[0].size)
        (some,) = run_kernel(step.kernel, target, out, given(blocked), SAMPLES, size, part)
        written = slice(part * target.width, (part + 1) * target.width)
        found[written] = some[written]
        some[written] = np.nan
        assert np.isnan(some).all()
    check_equal(found[:channels], dy.sum((0, 2, 3)))
