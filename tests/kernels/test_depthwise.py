"""Depthwise convolution in blocked layout against its formula, all passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from harness import Argument, check_equal, compile_ahead, given, run_kernel, wanted, whole_numbers

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS, Target
from striate.formula.expression import Var, maximum
from striate.kernels import depthwise as dw
from striate.kernels.kernel import Kernel, Tail
from striate.kernels.routine import Routine, blocks
from striate.kernels.window import Taps, reversed_taps, taps

Pair = tuple[int, int]
V, E = Var("v"), Var("e0")
ADD_RELU = Tail(maximum(V + E, 0), 1, keep=True)


@dataclass(frozen=True)
class Case:
    channels: int
    size: Pair
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((1, 1), (1, 1))
    dilation: Pair = (1, 1)

    def __str__(self) -> str:
        (a, b), (c, d) = self.padding
        return (
            f"{self.channels}@{self.size[0]}×{self.size[1]} by {self.kernel[0]}×{self.kernel[1]} "
            f"s{self.stride} p{a}{b}{c}{d} d{self.dilation}"
        )

    def along(self, axis: int) -> Taps:
        size, k, s, d = (v[axis] for v in (self.size, self.kernel, self.stride, self.dilation))
        before, after = self.padding[axis]
        out = max((size + before + after - d * (k - 1) - 1) // s + 1, 0)
        return taps(size, out, k, s, d, before)

    def problem(self, bias: bool = False) -> dw.Depthwise:
        return dw.Depthwise(
            self.channels, self.size, self.along(0), self.along(1), self.kernel, bias
        )

    def reversed(self) -> dw.Depthwise:
        rows, cols = (reversed_taps(self.along(k), self.size[k]) for k in range(2))
        out = len(self.along(0)), len(self.along(1))
        return dw.Depthwise(self.channels, out, rows, cols, self.kernel, period=self.stride[1])

    def kernels(self, target: Target) -> list[Kernel]:
        found = [
            dw.depthwise(target, self.problem(True), ADD_RELU),
            dw.depthwise(target, self.reversed()),
            dw.depthwise_weight_gradient(target, self.problem()),
        ]
        return [r.steps[0].kernel for r in found]


CASES = [
    Case(1, (1, 1)),
    Case(7, (5, 6)),
    Case(9, (7, 7)),
    Case(16, (14, 13), stride=(2, 2)),
    Case(8, (9, 31), stride=(2, 2), padding=((0, 1), (0, 1))),
    Case(5, (3, 4), (5, 5), padding=((2, 2), (2, 2))),  # the kernel is larger than the image
    Case(8, (11, 23), (5, 5), padding=((2, 2), (2, 2))),
    Case(3, (12, 15), (5, 5), (2, 2), ((2, 2), (2, 2))),
    Case(8, (9, 9), (2, 2), (3, 4), ((0, 0), (0, 0))),  # strides above the kernel
    Case(9, (12, 13), (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    Case(4, (9, 17), (3, 2), (2, 1), ((2, 1), (0, 2)), (1, 3)),
    Case(8, (1, 40), (1, 3), padding=((0, 0), (1, 1))),  # 1-D
    Case(8, (6, 6), (1, 1), padding=((0, 0), (0, 0))),
    Case(3, (20, 20), (7, 7), padding=((3, 3), (3, 3))),
    Case(2, (1, 40), (1, 31), padding=((0, 0), (15, 15))),  # wider than the registers
    Case(2, (20, 3), (17, 2), padding=((8, 8), (1, 0))),
]


def to_blocked(samples: Any, width: int) -> Any:
    """(n, c, h, w) to (n, blocks, h, w, width); the lanes that are no channel hold NaN."""
    n, c, *size = samples.shape
    count = -(-c // width)
    padded = np.full((n, count * width, *size), np.nan, np.float32)
    padded[:, :c] = samples
    return np.ascontiguousarray(np.moveaxis(padded.reshape(n, count, width, *size), 2, -1))


def from_blocked(values: Any, channels: int) -> Any:
    moved = np.moveaxis(values, -1, 2)
    return moved.reshape(len(values), -1, *moved.shape[3:])[:, :channels]


def pack(weight: Any, width: int) -> Any:
    """(c, kh, kw) to (blocks, kh, kw, width), 0 beyond the last channel."""
    return np.nan_to_num(to_blocked(weight[None], width)[0])


def forward(p: dw.Depthwise, x: Any, w: Any) -> Any:
    """The sum in `Depthwise`, without the bias."""
    out = np.zeros((*x.shape[:2], len(p.rows), len(p.cols)))
    for r, row_pairs in enumerate(p.rows):
        for q, col_pairs in enumerate(p.cols):
            for kh, row in row_pairs:
                for kw, col in col_pairs:
                    out[..., r, q] += x[..., row, col] * w[:, kh, kw]
    return out


def weight_slope(p: dw.Depthwise, x: Any, dy: Any) -> Any:
    found = np.zeros((x.shape[1], *p.kernel))
    for r, row_pairs in enumerate(p.rows):
        for q, col_pairs in enumerate(p.cols):
            for kh, row in row_pairs:
                for kw, col in col_pairs:
                    found[:, kh, kw] += (x[..., row, col] * dy[..., r, q]).sum(axis=0)
    return found


def run_parts(routine: Routine, target: Target, *arguments: Argument | int) -> list[Any]:
    """The outputs after every part has run; each place is written by one part."""
    results: list[Any] = []
    for part in range(routine.parts):
        found = run_kernel(routine.kernel, target, *arguments, part)
        results = results or [np.full_like(f, np.nan) for f in found]
        for old, new in zip(results, found, strict=True):
            here = ~np.isnan(new)
            assert np.isnan(old[here]).all(), "two parts write one place"
            old[here] = new[here]
    return results


@cache
def _prepare(target: Target) -> None:
    compile_ahead([k for case in CASES for k in case.kernels(target)], target)


def _x(case: Case, samples: int = 1) -> Any:
    return whole_numbers(1, samples, case.channels, *case.size)


def _w(case: Case) -> Any:
    return whole_numbers(2, case.channels, *case.kernel)


def _dy(case: Case, samples: int = 1) -> Any:
    p = case.problem()
    return whole_numbers(3, samples, case.channels, len(p.rows), len(p.cols))


def _row(values: Any, width: int) -> Any:
    return np.nan_to_num(to_blocked(values[None, :, None], width)).reshape(-1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_with_bias_and_tail(case: Case, target: Target) -> None:
    _prepare(target)
    _check_forward(case, target, None)


def _check_forward(case: Case, target: Target, tile: dw.Tile | None) -> None:
    p = case.problem(True)
    x, w, bias = _x(case), _w(case), whole_numbers(4, case.channels)
    extra = _dy(case)
    step = dw.depthwise(target, p, ADD_RELU, tile).steps[0]
    shape = wanted(*to_blocked(extra, target.width).shape)
    arrays = [to_blocked(x, target.width), pack(w, target.width), _row(bias, target.width)]
    found, kept = run_parts(
        step,
        target,
        shape,
        *(given(a) for a in arrays),
        shape,
        given(to_blocked(extra, target.width)),
    )
    expected = forward(p, x, w) + bias[:, None, None]
    check_equal(from_blocked(kept, case.channels), expected, dense=0.3)
    expected = np.maximum(expected + extra, 0)
    check_equal(from_blocked(found, case.channels), expected, dense=0.0)


@pytest.mark.parametrize("tile", [dw.Tile(1, True), dw.Tile(3, False)], ids=str)
@pytest.mark.parametrize("case", [CASES[1], CASES[3], CASES[9]], ids=str)
def test_other_tiles(case: Case, tile: dw.Tile, target: Target) -> None:
    _check_forward(case, target, tile)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_to_the_input(case: Case, target: Target) -> None:
    _prepare(target)
    p = case.reversed()
    dy, w = _dy(case), _w(case)
    step = dw.depthwise(target, p).steps[0]
    shape = wanted(*to_blocked(_x(case), target.width).shape)
    arrays = [to_blocked(dy, target.width), pack(w, target.width)]
    (found,) = run_parts(step, target, shape, *(given(a) for a in arrays))
    check_equal(from_blocked(found, case.channels), forward(p, dy, w), dense=0.0)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_to_the_weights(case: Case, samples: int, target: Target) -> None:
    _prepare(target)
    p = case.problem()
    x, dy = _x(case, samples), _dy(case, samples)
    step = dw.depthwise_weight_gradient(target, p).steps[0]
    assert (step.parts, step.samples) == (blocks(case.channels, target), 0)
    there = [to_blocked(a, target.width) for a in (x, dy)]
    shape = wanted(*pack(_w(case), target.width).shape)
    sizes = [a[0].size for a in there]
    (found,) = run_parts(step, target, shape, *(given(a) for a in there), samples, *sizes)
    found = from_blocked(found[None], case.channels)[0]
    check_equal(found, weight_slope(p, x, dy), dense=0.1)


def test_the_order_of_parts_does_not_matter_in_the_last_strip(target: Target) -> None:
    """Large images are cut into strips of rows; here the last one is shorter."""
    case = Case(1, (101, 90))
    step = dw.depthwise(target, case.problem()).steps[0]
    assert step.parts > 1
    x, w = _x(case), _w(case)
    shape = wanted(*to_blocked(x, target.width).shape)
    arrays = [to_blocked(x, target.width), pack(w, target.width)]
    (found,) = run_parts(step, target, shape, *(given(a) for a in arrays))
    check_equal(from_blocked(found, 1), forward(case.problem(), x, w))


def test_depth_flattened_into_rows(target: Target) -> None:
    """A 3×3×3 kernel over 3 × 4 × 5: kernel rows are kd·3 + kh, source rows d·4 + h."""
    depth, height, cols = (taps(size, size, 3, 1, 1, 1) for size in (3, 4, 5))
    rows = tuple(
        tuple((kd * 3 + kh, d * 4 + h) for kd, d in some for kh, h in pairs)
        for some in depth
        for pairs in height
    )
    p = dw.Depthwise(9, (12, 5), rows, cols, (9, 3))
    x, w = whole_numbers(1, 2, 9, 12, 5), whole_numbers(2, 9, 9, 3)
    dy = whole_numbers(3, 2, 9, 12, 5)
    v = target.width
    step = dw.depthwise(target, p).steps[0]
    shape = wanted(*to_blocked(x[:1], v).shape)
    (found,) = run_parts(step, target, shape, given(to_blocked(x[:1], v)), given(pack(w, v)))
    check_equal(from_blocked(found, 9), forward(p, x[:1], w))
    step = dw.depthwise_weight_gradient(target, p).steps[0]
    there = [to_blocked(a, v) for a in (x, dy)]
    shape = wanted(*pack(w, v).shape)
    sizes = [a[0].size for a in there]
    (found,) = run_parts(step, target, shape, *(given(a) for a in there), 2, *sizes)
    check_equal(from_blocked(found[None], 9)[0], weight_slope(p, x, dy))


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
@pytest.mark.parametrize("case", [CASES[2], CASES[7]], ids=str)
def test_other_targets_compile(name: str, case: Case) -> None:
    for kernel in case.kernels(TARGETS[name]):
        assert assembly(kernel.module.text, TARGETS[name])


def _tiles(kernels: Sequence[Pair], target: Target) -> list[dw.Tile]:
    cases = [Case(8, (40, 40), k) for k in kernels]
    return [dw.choose_tile(target, case.problem()) for case in cases]


def test_weights_are_held_where_they_fit() -> None:
    small, large = _tiles([(3, 3), (1, 31)], TARGETS["x86-64-v3"])
    assert small.held and not large.held
    assert all(t.held for t in _tiles([(3, 3), (7, 7)], TARGETS["x86-64-v4"]))
