"""Direct convolution in blocked layout against the formula; exact numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from blocked_case import from_blocked, packed_weights, to_blocked
from conv_case import ConvCase
from harness import changed, check_equal, compile_ahead, given, run_kernel, whole_numbers

from striate.codegen.compiler import compile_modules
from striate.codegen.targets import TARGETS, Target
from striate.formula.expression import Var, maximum
from striate.formula.operations import find_operation
from striate.kernels.direct import Direct, Options, candidates, direct
from striate.kernels.kernel import Tail
from striate.kernels.packing import Packing
from striate.kernels.routine import Routine
from striate.kernels.window import reversed_taps, taps

ONE = ((1, 1), (1, 1))
CASES = [
    ConvCase(16, 16, (8, 9), padding=ONE),
    ConvCase(7, 9, (14, 14), padding=ONE),
    ConvCase(33, 17, (7, 7), padding=ONE, bias=False),
    ConvCase(3, 5, (1, 1), (3, 3), padding=ONE),
    ConvCase(1, 1, (1, 1), (1, 1)),
    ConvCase(17, 40, (4, 5), (2, 3), (2, 1), ((1, 0), (0, 1))),
    ConvCase(16, 24, (9, 10), (3, 3), (2, 2), ONE),
    ConvCase(16, 16, (3, 20), (1, 3), dilation=(1, 2), bias=False),
    ConvCase(5, 9, (9, 8), (3, 3), (2, 3), ((1, 1), (2, 2))),
    ConvCase(4, 4, (7, 8), (1, 1), (2, 3)),
    ConvCase(12, 20, (5, 7), (1, 1)),
    ConvCase(20, 12, (13, 32), (1, 1)),
    ConvCase(9, 31, (20, 20), (1, 1)),
    ConvCase(8, 8, (2, 9), (2, 2)),
    ConvCase(8, 8, (14, 14), (5, 5), (4, 4), ((2, 2), (2, 2))),
    ConvCase(1, 2, (2, 1), (5, 7), padding=((3, 2), (3, 3))),
    ConvCase(2, 2, (6, 5), (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    ConvCase(16, 16, (5, 6), groups=3, padding=ONE),
    ConvCase(16, 48, (6, 6), (1, 1), groups=2),
    ConvCase(4, 8, (6, 6), groups=4, padding=ONE),
    ConvCase(3, 2, (5, 6), groups=3),
]
PLAIN = [
    ConvCase(1, 6, (28, 28), (5, 5), padding=((2, 2), (2, 2))),
    ConvCase(3, 20, (33, 31), (7, 7), (2, 2), ((3, 3), (3, 3))),
    ConvCase(3, 33, (12, 13), padding=ONE),
    ConvCase(3, 17, (12, 13), (1, 1)),
    ConvCase(4, 16, (16, 16), (4, 4), (4, 4)),
    ConvCase(2, 3, (1, 1), (3, 3), padding=ONE),
]


def packing(case: ConvCase, transposed: bool = False) -> Packing:
    channels, outputs = case.channels * case.groups, case.outputs * case.groups
    return Packing(outputs, channels, case.groups, case.kernel, transposed)


def forward(case: ConvCase, target: Target, plain: bool = False) -> Direct:
    groups, p = packing(case).merged(target), packing(case)
    along = (case.along(0), case.along(1))
    return Direct(p.outputs, p.contracted, groups, case.size, *along, case.kernel, case.bias, plain)


def to_input(case: ConvCase, target: Target) -> Direct:
    groups, p = packing(case).merged(target), packing(case)
    rows, cols = (reversed_taps(case.along(k), case.size[k]) for k in (0, 1))
    return Direct(
        p.contracted, p.outputs, groups, case.out, rows, cols, case.kernel, period=case.stride[1]
    )


def run_direct(
    p: Direct,
    target: Target,
    source: Any,
    weight: Any,
    bias: Any = None,
    *,
    tail: Tail | None = None,
    extras: tuple[Any, ...] = (),
    options: Options | None = None,
    samples: int = 0,
) -> tuple[Any, ...]:
    """What the parts in reverse order give: out, kept; of several samples if so many are said."""
    routine = step(p, target, tail, options)
    numbers = {"samples:i64": max(samples, 1)}
    shape: tuple[int, ...] = (-(-p.outputs // target.width), len(p.rows), len(p.cols), target.width)
    step_out = math.prod(shape)
    shape = (samples, *shape) if samples else shape
    numbers |= {f"{n}_step:i64": step_out for n in ("out", "kept", "e0")}
    numbers["source_step:i64"] = source.size // max(samples, 1)
    held = {n: np.full(shape, np.nan, np.float32) for n in ("out", "kept")}
    held["scratch"] = np.full((routine.scratch,), np.nan, np.float32)
    fixed = {"source": source, "weight": weight, "bias": bias}
    fixed |= {f"e{k}": extra for k, extra in enumerate(extras)}
    for part in reversed(range(routine.parts)):
        numbers["part:i64"] = part
        arguments: list[Any] = []
        names = [name for name in routine.kernel.arguments if name in held]
        for name in routine.kernel.arguments:
            if name in held:
                arguments.append(changed(held[name]))
            else:
                arguments.append(numbers[name] if name in numbers else given(fixed[name]))
        found = run_kernel(routine.kernel, target, *arguments)
        held |= dict(zip(names, found, strict=True))
    return held["out"], held["kept"]


def step(
    p: Direct, target: Target, tail: Tail | None = None, options: Options | None = None
) -> Routine:
    (routine,) = direct(target, p, tail, options).steps
    return routine


def _bias(case: ConvCase, target: Target) -> Any:
    lanes = -(-case.outputs * case.groups // target.width) * target.width
    padded = np.zeros(lanes, np.float32)
    padded[: case.outputs * case.groups] = case.b()
    return padded


def _source(x: Any, plain: bool, target: Target) -> Any:
    return x if plain else to_blocked(x, target.width)


def check_forward(
    case: ConvCase, target: Target, plain: bool, options: Options | None = None
) -> None:
    x, w = case.x(1), case.w()
    arrays = [x, w, case.b()] if case.bias else [x, w]
    (expected,) = find_operation("conv2d").reference(case.attributes, arrays)
    weight = packed_weights(packing(case), w, target)
    bias = _bias(case, target) if case.bias else None
    p, source = forward(case, target, plain), _source(x[0], plain, target)
    out, _ = run_direct(p, target, source, weight, bias, options=options)
    check_equal(from_blocked(out, case.outputs * case.groups), expected, dense=0.3)


def check_to_input(case: ConvCase, target: Target, options: Options | None = None) -> None:
    x, w, dy = case.x(1), case.w(), case.dy(1)
    operation = find_operation("conv2d")
    (expected,) = operation.gradient(case.attributes, dy, [x, w, case.b()])[0]
    weight = packed_weights(packing(case, transposed=True), w, target)
    source = to_blocked(dy[0], target.width)
    out, _ = run_direct(to_input(case, target), target, source, weight, options=options)
    check_equal(from_blocked(out, case.channels * case.groups), expected, dense=case.dense)


@cache
def _prepare(target: Target) -> None:
    problems = [forward(case, target) for case in CASES]
    problems += [to_input(case, target) for case in CASES]
    problems += [forward(case, target, True) for case in PLAIN]
    compile_ahead([step(p, target).kernel for p in problems], target)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case: ConvCase, target: Target) -> None:
    _prepare(target)
    check_forward(case, target, plain=False)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_plain_source(case: ConvCase, target: Target) -> None:
    _prepare(target)
    check_forward(case, target, plain=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_to_input(case: ConvCase, target: Target) -> None:
    _prepare(target)
    check_to_input(case, target)


OPTIONS = [
    Options((2, 3), chunk=1, rows=3),
    Options((1, 2), chunk=2, rows=1, tiles=3),
    Options((3, 2), chunk=1, rows=50, tiles=2, rows_next=True),
]


def test_other_options(target: Target) -> None:
    cases = [
        ConvCase(4 * target.width + 3, 5 * target.width, (6, 7), padding=ONE),
        ConvCase(3 * target.width, 5 * target.width - 1, (6, 7), (1, 1)),
        ConvCase(2 * target.width, 3 * target.width, (7, 8), (3, 3), (2, 2), ONE, groups=2),
    ]
    make = ((case, f, o) for case in cases for f in (forward, to_input) for o in OPTIONS)
    kernels = [step(f(case, target), target, None, o).kernel for case, f, o in make]
    compile_ahead(kernels, target)
    for case in cases:
        for options in OPTIONS:
            check_forward(case, target, False, options)
            check_to_input(case, target, options)


def test_tail_on_top_of_its_extra(target: Target) -> None:
    """Also where sums wait in scratch memory; the residual lies where the result goes."""
    case = ConvCase(2 * target.width, target.width + 1, (5, 6))
    x, w, b = case.x(1), case.w(), case.b()
    (v,) = find_operation("conv2d").reference(case.attributes, [x, w, b])
    extra = whole_numbers(5, *v.shape)
    tail = Tail(maximum(Var("v") + Var("e0"), 0), 1, keep=True)
    weight, bias = packed_weights(packing(case), w, target), _bias(case, target)
    source, residual = to_blocked(x[0], target.width), to_blocked(extra, target.width)
    p = forward(case, target)
    for options in (None, OPTIONS[0]):
        out, kept = run_direct(
            p, target, source, weight, bias, tail=tail, extras=(residual,), options=options
        )
        check_equal(from_blocked(out, case.outputs), (v + extra).clip(0), dense=0.2)
        check_equal(from_blocked(kept, case.outputs), v)
    plain_tail = replace(tail, keep=False)
    for options in (None, OPTIONS[0]):
        routine = step(p, target, plain_tail, options)
        out = residual.copy()
        for part in range(routine.parts):
            out = _in_place(routine, target, out, [source, weight, bias], part)
        check_equal(from_blocked(out, case.outputs), (v + extra).clip(0), dense=0.2)


def _in_place(routine: Routine, target: Target, out: Any, inputs: list[Any], part: int) -> Any:
    """One part with out as its own residual."""
    import ctypes

    from harness import code

    kinds = [ctypes.c_int64 if ":" in n else ctypes.c_void_p for n in routine.kernel.arguments]
    memory = [_aligned(a) for a in (out, *inputs, np.zeros(max(routine.scratch, 1), "f4"))]
    addresses = [a.ctypes.data for a in memory]
    given_names = dict(zip(("out", "source", "weight", "bias", "scratch"), addresses, strict=True))
    given_names |= {"e0": addresses[0], "part:i64": part}
    function = code(routine.kernel, target).function(routine.kernel.symbol, *kinds)
    function(*[given_names[n] for n in routine.kernel.arguments])
    return memory[0].copy()


def _aligned(array: Any) -> Any:
    raw = np.zeros(array.size * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    found = raw[start : start + array.size * 4].view(np.float32).reshape(array.shape)
    found[...] = array
    return found


def test_samples_that_share_weights(target: Target) -> None:
    """Small images with many weights: an item takes several samples."""
    v = target.width
    wide = ConvCase(30 * v, 3 * v + 1, (2, 3), padding=ONE)
    large = ConvCase(512, 512, (2, 2), padding=ONE)
    assert step(forward(large, target), target).samples > 1
    options = (Options((2, 3), 3, 1, samples=4), Options((2, 2), 99, 2, samples=3))
    tail = Tail(Var("v") + Var("e0"), 1, keep=True)
    x, w, b = wide.x(3), wide.w(), wide.b()
    v_expected = find_operation("conv2d").reference(wide.attributes, [x, w, b])
    extra = whole_numbers(5, *v_expected.shape)
    weight, bias = packed_weights(packing(wide), w, target), _bias(wide, target)
    source, residual = (np.stack([to_blocked(a, v) for a in some]) for some in (x, extra))
    for way in options:
        out, kept = run_direct(
            forward(wide, target), target, source, weight, bias,
            tail=tail, extras=(residual,), options=way, samples=3,
        )  # fmt: skip
        for k in range(3):
            check_equal(from_blocked(kept[k], wide.outputs), v_expected[k])
            check_equal(from_blocked(out[k], wide.outputs), v_expected[k] + extra[k], dense=0.4)


# ---- one and three dimensions ------------------------------------------------------------------


def test_three_dimensions(target: Target) -> None:
    """Rows of the kernel are (depth, row) in one; against a sum written out."""
    c, o, (d, h, w), k = target.width + 1, 9, (4, 5, 6), (2, 3, 2)
    deep, high, wide = taps(d, 2, 2, 2, 1, 0), taps(h, 5, 3, 1, 1, 1), taps(w, 5, 2, 1, 1, 0)
    rows = tuple(
        tuple((kd * k[1] + kh, z * h + y) for kd, z in a for kh, y in b) for a in deep for b in high
    )
    x, weight = whole_numbers(1, c, d, h, w), whole_numbers(2, o, c, *k)
    expected = np.zeros((o, 2, 5, 5))
    for z in range(2):
        for y in range(5):
            for kd, from_z in deep[z]:
                for kh, from_y in high[y]:
                    for kw in range(2):
                        part = x[:, from_z, from_y, kw : kw + 5]
                        expected[:, z, y] += weight[:, :, kd, kh, kw].astype(float) @ part
    p = Direct(o, c, 1, (d * h, w), rows, wide, (k[0] * k[1], k[2]))
    packed = packed_weights(Packing(o, c, 1, k), weight, target)
    source = to_blocked(x.reshape(c, d * h, w), target.width)
    out, _ = run_direct(p, target, source, packed)
    check_equal(from_blocked(out, o).reshape(expected.shape), expected)


def test_one_dimension(target: Target) -> None:
    c, o, size = 5, target.width + 2, 30
    x, weight = whole_numbers(1, c, size), whole_numbers(2, o, c, 4)
    expected = np.zeros((o, 9))
    for j in range(9):
        expected[:, j] = np.tensordot(weight.astype(float), x[:, 3 * j : 3 * j + 4], 2)
    p = Direct(o, c, 1, (1, size), (((0, 0),),), taps(size, 9, 4, 3, 1, 0), (1, 4))
    packed = packed_weights(Packing(o, c, 1, (4,)), weight, target)
    out, _ = run_direct(p, target, to_blocked(x[:, None], target.width), packed)
    check_equal(from_blocked(out, o)[:, 0], expected)


# ---- choices -----------------------------------------------------------------------------------

LAYERS = [
    ConvCase(64, 64, (56, 56), padding=ONE),
    ConvCase(512, 512, (14, 14), padding=ONE),
    ConvCase(2048, 512, (7, 7), (1, 1)),
    ConvCase(64, 128, (56, 56), (3, 3), (2, 2), ONE),
]


@pytest.mark.parametrize("level", list(TARGETS))
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_candidates(case: ConvCase, level: str) -> None:
    """Few, all different, the first is the default; parts for several threads."""
    target = TARGETS[level]
    for p in (forward(case, target), to_input(case, target)):
        found = candidates(target, p)
        assert 2 <= len(found) <= 8
        assert len(set(found)) == len(found)
        assert step(p, target) == step(p, target, None, found[0])
        assert step(p, target).parts >= 8


@pytest.mark.parametrize("level", ["x86-64-v4", "aarch64"])
def test_other_targets_compile(level: str) -> None:
    target = TARGETS[level]
    problems = [forward(CASES[0], target), forward(PLAIN[1], target, True)]
    problems += [to_input(CASES[6], target)]
    assert all(compile_modules([step(p, target).kernel.module for p in problems], target))
