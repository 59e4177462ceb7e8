"""Winograd convolutions against the formula: F(2,3) exactly, F(4,3) within its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from conv_case import ConvCase
from harness import check_close, check_equal, compile_ahead, normal_numbers, whole_numbers
from winograd_case import WinogradCase

from striate.codegen.compiler import compile_modules
from striate.codegen.targets import TARGETS, Target
from striate.errors import OptionError, ShapeError
from striate.formula.expression import Var, maximum
from striate.kernels.kernel import Tail
from striate.kernels.winograd import Options, Winograd, winograd
from striate.kernels.winograd_plan import (
    WeightOptions,
    candidates,
    choose,
    cost,
    weight_candidates,
)

ONE = ((1, 1), (1, 1))
SHAPES = [
    (ConvCase(16, 16, (8, 8), padding=ONE), 1),
    (ConvCase(7, 9, (14, 14), padding=ONE), 2),
    (ConvCase(17, 33, (7, 7), padding=((2, 1), (0, 2)), bias=False), 5),
    (ConvCase(1, 1, (1, 1), padding=ONE), 3),
    (ConvCase(9, 40, (11, 6)), 1),
    (ConvCase(3, 5, (1, 9), padding=((1, 1), (2, 2))), 2),
]
CASES = [WinogradCase(case, m, n) for case, n in SHAPES for m in (2, 4)]
cases = pytest.mark.parametrize("case", CASES, ids=str)
CUT = WinogradCase(ConvCase(40, 56, (9, 11), padding=ONE), 4, 3)
SMALL = WinogradCase(ConvCase(20, 24, (6, 7), padding=ONE), 2, 5)
OPTIONS = [
    (CUT, Options(rows=2)),
    (CUT, Options(rows=1, panels=1, depth=2)),
    (CUT, Options(rows=2, panels=2, phases=True, depth=1, tile=3)),
    (SMALL, Options(rows=9, samples=2)),
    (SMALL, Options(rows=9, samples=3, panels=1, depth=1, tile=4)),
    (SMALL, Options(rows=9, samples=4, panels=1, phases=True)),
]
WEIGHT_OPTIONS = [
    (CUT, WeightOptions(panels=2, spans=1, tiles=5)),
    (CUT, WeightOptions(panels=1, spans=2, pieces=2, tiles=4)),
    (SMALL, WeightOptions(panels=1, spans=1, pieces=7, tiles=8)),
    (SMALL, WeightOptions(pieces=1)),
]


def check(m: int, found: Any, expected: Any, *, dense: float = 0.3) -> None:
    """Halves and quarters of whole numbers are exact; what F(4,3) loses is some roundings."""
    if m == 2:
        check_equal(found, expected, dense=dense)
    else:
        check_close(found, expected, dense=dense, factor=6)


@cache
def ready(target: Target) -> Target:
    """The target, all kernels of the tests compiled on all cores."""
    compile_ahead([kernel for case in CASES for kernel in case.kernels(target)], target)
    return target


@cases
def test_forward(case: WinogradCase, target: Target) -> None:
    x, w, b = case.case.x(case.samples), case.case.w(), case.case.b()
    found = case.forward(ready(target), x, w, b)["out"]
    check(case.m, found, case.expected(x, w, b))


@cases
def test_gradient_to_input(case: WinogradCase, target: Target) -> None:
    x, w, dy = case.case.x(case.samples), case.case.w(), case.case.dy(case.samples)
    found = case.to_input(ready(target), dy, w)
    check(case.m, found, case.gradients(x, w, dy)[0])


@cases
def test_gradient_to_weights(case: WinogradCase, target: Target) -> None:
    x, w, dy = case.case.x(case.samples), case.case.w(), case.case.dy(case.samples)
    found = case.to_weight(ready(target), x, dy)
    check(case.m, found, case.gradients(x, w, dy)[1], dense=0.05)


@pytest.mark.parametrize(("case", "options"), OPTIONS, ids=str)
def test_every_cut_gives_the_same(case: WinogradCase, options: Options, target: Target) -> None:
    x, w, b = case.case.x(case.samples), case.case.w(), case.case.b()
    found = case.forward(target, x, w, b, options)["out"]
    check(case.m, found, case.expected(x, w, b))


@pytest.mark.parametrize(("case", "options"), WEIGHT_OPTIONS, ids=str)
def test_every_cut_of_weights_gives_the_same(
    case: WinogradCase, options: WeightOptions, target: Target
) -> None:
    x, w, dy = case.case.x(case.samples), case.case.w(), case.case.dy(case.samples)
    found = case.to_weight(target, x, dy, options)
    check(case.m, found, case.gradients(x, w, dy)[1])
    again = case.to_weight(target, x, dy, options, backward=True)
    assert found.tobytes() == again.tobytes(), "the order of items changed bits"


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("case", "options"), [(CUT, Options(rows=2)), (SMALL, Options(rows=9, samples=2))], ids=str
)
def test_tail(case: WinogradCase, options: Options, in_place: bool, target: Target) -> None:
    """bias, a residual and ReLU; the residual may be the output's memory."""
    x, w, b = case.case.x(case.samples), case.case.w(), case.case.b()
    expected = case.expected(x, w, b)
    extra = whole_numbers(5, *expected.shape)
    tail = Tail(maximum(Var("v") + Var("e0"), 0.0), extras=1, keep=not in_place)
    found = case.forward(
        target, x, w, b, options, tail=tail, extras=(extra,), in_place=in_place, backward=True
    )
    check(case.m, found["out"], np.maximum(expected + extra, 0))
    if not in_place:
        check(case.m, found["kept"], expected)


def errors(m: int, found: Sequence[Any], expected: Sequence[Any]) -> list[float]:
    return [
        float(np.abs(f - e).max() / np.abs(e).max()) for f, e in zip(found, expected, strict=True)
    ]


@pytest.mark.parametrize(("m", "most"), [(2, 8e-7), (4, 4e-6)])
def test_error_against_float64(m: int, most: float) -> None:
    """max |found − exact| / max |exact| of forward, gradient to input, gradient to weights."""
    target = TARGETS["x86-64-v2"]
    case = WinogradCase(ConvCase(64, 16, (16, 16), padding=ONE, bias=False), m, 2)
    c = case.case
    x, dy = normal_numbers(1, 2, 64, *c.size), normal_numbers(2, 2, 16, *c.out)
    w = normal_numbers(3, 16, 64, 3, 3)
    exact = [case.expected(x, w, None), *case.gradients(x, w, dy)[:2]]
    found = [
        case.forward(target, x, w, None)["out"],
        case.to_input(target, dy, w),
        case.to_weight(target, x, dy),
    ]
    assert max(errors(m, found, exact)) < most


def test_candidates_begin_with_the_default() -> None:
    for name in TARGETS:
        for p in (CUT.form, SMALL.form, Winograd(512, 512, (7, 7), ONE, 4, batch=8)):
            target = TARGETS[name]
            found = candidates(target, p)
            assert found[0] == choose(target, p)
            assert len(set(found)) == len(found) > 1
            weights = weight_candidates(target, p)
            assert len(set(weights)) == len(weights) > 1


@pytest.mark.parametrize("case", [CUT, SMALL], ids=str)
def test_candidates_are_right(case: WinogradCase) -> None:
    target = TARGETS["x86-64-v2"]
    x, w, b = case.case.x(case.samples), case.case.w(), case.case.b()
    expected = case.expected(x, w, b)
    for options in candidates(target, case.form):
        check(case.m, case.forward(target, x, w, b, options)["out"], expected)
    dy = case.case.dy(case.samples)
    gradient = case.gradients(x, w, dy)[1]
    for cut in weight_candidates(target, case.form):
        check(case.m, case.to_weight(target, x, dy, cut), gradient)


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
def test_other_targets_compile(name: str) -> None:
    case = WinogradCase(ConvCase(33, 48, (14, 14), padding=ONE), 4, 2)
    assert all(compile_modules([k.module for k in case.kernels(TARGETS[name])], TARGETS[name]))


def test_cost_prefers_large_tiles_for_large_images() -> None:
    target = TARGETS["x86-64-v3"]
    for direction in ("forward", "source", "weight"):
        large = Winograd(64, 64, (56, 56), ONE, 4)
        four, two = (cost(target, replace(large, m=m), direction) for m in (4, 2))
        direct = 9 * 64 * 64 * 56 * 56 / (2 * target.width) / 0.88
        assert four < two < direct
        tiny = Winograd(512, 512, (2, 2), ONE, 4)
        assert cost(target, tiny, direction) > cost(target, replace(tiny, m=2), direction)


def test_cost_needs_a_known_direction() -> None:
    with pytest.raises(OptionError, match="direction"):
        cost(TARGETS["x86-64-v3"], SMALL.form, "sideways")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 3}, "m = 2 or 4; got m=3"),
        ({"padding": ((3, 0), (0, 0))}, "padding of 0 to 2"),
        ({"source": (1, 5), "padding": ((0, 0), (1, 1))}, "at least one output"),
    ],
)
def test_what_it_cannot_do(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        replace(CUT.form, **change)


def test_items_are_called_as_the_names_say() -> None:
    target = TARGETS["x86-64-v3"]
    (routine,) = winograd(target, CUT.form, None, Options(rows=2)).steps
    assert routine.kernel.arguments == ("out", "source", "u", "bias", "scratch", "part:i64")
    assert routine.parts == 2
