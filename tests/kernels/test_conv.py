"""Convolution kernels against the formula: forward, to input, to weight, to bias; exact numbers."""

from __future__ import annotations

from functools import cache

import pytest
from conv_case import ConvCase, check_tail
from harness import changed, check_equal, compile_ahead, given, run_kernel, to_lanes, wanted
from hypothesis import HealthCheck, assume, settings
from hypothesis import given as examples
from hypothesis import strategies as st

from striate.codegen.targets import Target
from striate.errors import ShapeError
from striate.formula.expression import Var, maximum, tanh
from striate.kernels import conv
from striate.kernels.kernel import Kernel, Tail

CASES = [
    # LeNet-5's own
    ConvCase(1, 6, (28, 28), (5, 5), padding=((2, 2), (2, 2))),
    ConvCase(6, 16, (14, 14), (5, 5)),
    # images of one row, column, pixel; kernels larger than the image
    ConvCase(2, 3, (1, 1), (1, 1)),
    ConvCase(2, 3, (1, 1), (3, 3), padding=((1, 1), (1, 1))),
    ConvCase(1, 2, (2, 1), (5, 7), padding=((3, 2), (3, 3))),
    ConvCase(3, 2, (1, 9), (1, 3)),
    ConvCase(3, 2, (9, 1), (3, 1)),
    ConvCase(2, 2, (1, 1), (3, 3), (2, 2), ((2, 2), (2, 2))),
    ConvCase(2, 2, (1, 3), (1, 1), (2, 1), ((1, 0), (0, 0))),
    # strides, above the kernel too; dilation; uneven padding
    ConvCase(2, 3, (9, 10), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ConvCase(2, 3, (9, 11), (2, 2), (3, 4)),
    ConvCase(2, 3, (7, 8), (1, 1), (2, 3)),
    ConvCase(2, 3, (8, 9), (3, 2), (1, 2), ((0, 0), (0, 0)), (2, 3)),
    ConvCase(2, 3, (6, 7), (3, 3), (2, 3), ((2, 0), (0, 1)), (2, 1)),
    ConvCase(2, 3, (5, 6), (2, 3), padding=((3, 0), (0, 4))),
    ConvCase(1, 1, (4, 4), (3, 3), (5, 5), ((4, 4), (4, 4))),
    # groups: odd, depthwise, depthwise with a multiplier
    ConvCase(2, 3, (5, 6), groups=3),
    ConvCase(1, 1, (5, 6), groups=5, padding=((1, 1), (1, 1))),
    ConvCase(1, 2, (6, 5), groups=4, stride=(2, 2), bias=False),
    ConvCase(1, 17, (3, 4), (2, 2), groups=2),
    # channels
    ConvCase(1, 1, (4, 5), bias=False),
    ConvCase(17, 33, (3, 3), (2, 2)),
    ConvCase(5, 40, (1, 1), (1, 1)),
    ConvCase(40, 5, (2, 3), (1, 1), bias=False),
    # one kernel column, several rows: source channels in the register tile of the gradient
    ConvCase(5, 2, (6, 4), (3, 1), padding=((1, 1), (0, 0))),
]


def tile_cases(target: Target) -> list[ConvCase]:
    """One below, at and one above every size that a kernel is cut by."""
    to, tp = conv.choose_tile(target, 64, 64)
    v, block = target.width, conv.ROW_BLOCK
    around = [
        ConvCase(2, o, (2, cols + 1), (1, 2)) for o in _near(to) for cols in _near(tp) if o * cols
    ]
    around += [ConvCase(c, 2, (2, 3), (1, 1)) for c in {*_near(4), *_near(v)} if c]
    around += [ConvCase(1, o, (2, 2), (2, 2)) for o in _near(block)]
    around += [ConvCase(1, 2, (1, kw + 1), (1, kw)) for kw in _near(v)]
    around += [ConvCase(1, 2, (2, 20), (1, kw), padding=((0, 0), (9, 9))) for kw in _near(2 * v)]
    around += [ConvCase(2, to, (3, 2 * k + 1), (2, 2), (2, 2)) for k in _near(tp // 2) if k]
    return around


def _near(size: int) -> list[int]:
    return [size - 1, size, size + 1]


@cache
def _prepared(target: Target) -> list[ConvCase]:
    """The target's cases, their kernels compiled."""
    cases = [*CASES, *tile_cases(target)]
    compile_ahead([k for case in cases for k in case.kernels(target)], target)
    return cases


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution(case: ConvCase, target: Target) -> None:
    _prepared(target)
    case.check(target)


def test_sizes_around_every_tile(target: Target) -> None:
    for case in _prepared(target)[len(CASES) :]:
        try:
            case.check(target)
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error


def test_tiles_fit_the_registers(target: Target) -> None:
    for outputs in (1, 2, 3, 5, 6, 16, 17, 33):
        for positions in (1, 2, 3, 7, 10, 14, 28, 39):
            for period in (1, 2, 3):
                to, tp = conv.choose_tile(target, outputs, positions, period)
                spare = 1 if target.fma else 2
                assert to * tp + min(to, tp) + spare <= target.registers
                assert 1 <= to <= outputs and tp % period == 0 and tp < positions + period


# ---- groups of samples, blocks of channels -----------------------------------------------------


@pytest.mark.parametrize("accumulate", [False, True])
def test_gradients_over_several_sample_groups(target: Target, accumulate: bool) -> None:
    for case in (ConvCase(3, 5, (4, 5), (2, 2)), ConvCase(9, 18, (1, 1), (1, 1))):
        case.check_to_weight(target, accumulate, groups=3)
        case.check_to_bias(target, accumulate, groups=3)


@pytest.mark.parametrize("accumulate", [False, True])
def test_blocks_of_a_weight_gradient_leave_the_others_alone(
    target: Target, accumulate: bool
) -> None:
    case = ConvCase(3, 35, (3, 3), (2, 2), groups=2)
    x, dy = case.x(target.width), case.dy(target.width)
    kernel = case.to_weight_kernel(target, accumulate)
    before = case.w()
    blocks = -(-35 // conv.ROW_BLOCK)
    arguments = [given(to_lanes(x)), given(to_lanes(dy))]
    (whole,) = run_kernel(kernel, target, changed(before), *arguments, 0, 2 * blocks, 1, 0, 0)
    for first in range(2 * blocks):
        (found,) = run_kernel(
            kernel, target, changed(before), *arguments, first, first + 1, 1, 0, 0
        )
        group, inside = divmod(first, blocks)
        start = group * 35 + inside * conv.ROW_BLOCK
        stop = min(start + conv.ROW_BLOCK, (group + 1) * 35)
        expected = before.copy()
        expected[start:stop] = whole[start:stop]
        check_equal(found, expected)
    (none,) = run_kernel(kernel, target, changed(before), *arguments, 1, 1, 1, 0, 0)
    check_equal(none, before)


def test_a_linear_layer_is_a_convolution_of_one_pixel(target: Target) -> None:
    for inputs, outputs in ((1, 1), (4, 10), (15, 17), (33, 3)):
        ConvCase(inputs, outputs, (1, 1), (1, 1)).check(target)


# ---- tails -------------------------------------------------------------------------------------


V, E0, E1 = Var("v"), Var("e0"), Var("e1")
TAILS = {
    "relu": (Tail(maximum(V, 0)), lambda v: v.clip(0)),
    "relu keep": (Tail(maximum(V, 0), keep=True), lambda v: v.clip(0)),
    "add": (Tail(V + E0, 1), lambda v, e: v + e),
    "two keep": (Tail(tanh(V * 0.05) * E0 - E1, 2, True), lambda v, e, f: _tanh(v * 0.05) * e - f),
}


def _tanh(v):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.tanh(v)


@pytest.mark.parametrize("name", TAILS)
def test_tails(name: str, target: Target) -> None:
    tail, expected = TAILS[name]
    check_tail(ConvCase(2, 5, (4, 11), (2, 3), padding=((1, 0), (1, 2))), target, tail, expected)


def test_a_tail_behind_the_gradient_to_the_input(target: Target) -> None:
    case = ConvCase(3, 4, (5, 6), (2, 2), (2, 2), ((1, 0), (1, 1)))
    x, dy = case.x(target.width), case.dy(target.width)
    plain = case.to_input_kernel(target)
    tailed = case.to_input_kernel(target, Tail(V * E0, 1, keep=True))
    out, lanes = wanted(*to_lanes(x).shape), given(to_lanes(dy))
    (v,) = run_kernel(plain, target, out, lanes, given(case.w()))
    extra = given(to_lanes(x))
    found, kept = run_kernel(tailed, target, out, lanes, given(case.w()), out, extra)
    check_equal(kept, v)
    check_equal(found, v * extra.array)


# ---- any convolution ---------------------------------------------------------------------------


def _sizes(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


CONVOLUTIONS = st.builds(
    ConvCase,
    channels=st.integers(1, 6),
    outputs=st.integers(1, 9),
    size=_sizes(1, 9),
    kernel=_sizes(1, 5),
    stride=_sizes(1, 4),
    padding=st.tuples(_sizes(0, 4), _sizes(0, 4)),
    dilation=_sizes(1, 3),
    groups=st.integers(1, 3),
    bias=st.booleans(),
)


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@examples(case=CONVOLUTIONS)
def test_any_convolution(target: Target, case: ConvCase) -> None:
    try:
        _ = case.out
    except ShapeError:
        assume(False)
    compile_ahead(case.kernels(target), target)
    case.check(target)


def test_equal_problems_are_one_kernel(target: Target) -> None:
    kernels: list[Kernel] = [ConvCase(2, 3, (4, 4)).forward_kernel(target) for _ in range(2)]
    assert kernels[0] is kernels[1]
    other = ConvCase(2, 4, (4, 4)).forward_kernel(target)
    assert other.symbol != kernels[0].symbol
