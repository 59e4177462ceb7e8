"""Pooling kernels against the formula: windows of all kinds, ties, NaN, tails."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from harness import (
    check_close,
    check_equal,
    compile_ahead,
    from_lanes,
    given,
    run_kernel,
    to_lanes,
    wanted,
    whole_numbers,
)

from striate.codegen.targets import Target
from striate.formula.expression import Var, maximum
from striate.formula.operations import find_operation
from striate.graph.graph import Node
from striate.kernels import pool
from striate.kernels.kernel import Kernel, Tail
from striate.kernels.window import Taps
from striate.program.fuse import pool_of

Pair = tuple[int, int]


@dataclass(frozen=True)
class PoolCase:
    size: Pair
    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    channels: int = 2

    def __str__(self) -> str:
        (a, b), (c, d) = self.padding
        return (
            f"{self.size[0]}×{self.size[1]} by {self.kernel[0]}×{self.kernel[1]} "
            f"s{self.stride} p{a}{b}{c}{d} d{self.dilation}"
        )

    def attributes(self, op: str, counted: bool = True) -> dict[str, Any]:
        common = {
            "kernel": list(self.kernel),
            "stride": list(self.stride),
            "padding": [list(side) for side in self.padding],
        }
        if op == "max_pool2d":
            return {**common, "dilation": list(self.dilation)}
        return {**common, "count_include_pad": counted}

    def problem(self, op: str, counted: bool = True) -> pool.Pool:
        node = Node("y", op, ("x",), self.attributes(op, counted))
        return pool_of(node, (self.channels, *self.size))

    @property
    def average(self) -> bool:
        """Average pooling has no dilation."""
        return self.dilation == (1, 1)

    def kernels(self, target: Target) -> list[Kernel]:
        largest = self.problem("max_pool2d")
        found = [pool.max_pool(target, largest), pool.max_pool_gradient(target, largest)]
        for counted in (True, False) if self.average else ():
            mean = self.problem("avg_pool2d", counted)
            found += [pool.average_pool(target, mean), pool.average_pool_gradient(target, mean)]
        return found

    def x(self, target: Target, most: int = 9) -> Any:
        return whole_numbers(0, target.width, self.channels, *self.size, most=most)


CASES = [
    PoolCase((28, 28)),  # LeNet-5's own
    PoolCase((10, 10)),
    PoolCase((1, 1), (1, 1), (1, 1)),
    PoolCase((1, 1), (3, 3), (1, 1), ((1, 1), (1, 1))),
    PoolCase((5, 7)),  # a row and a column that no window meets
    PoolCase((3, 6), (3, 3), (3, 3)),
    PoolCase((3, 8), (3, 2), (3, 2)),  # tiles of 4 columns: 4 …
    PoolCase((2, 6)),  # … 3 …
    PoolCase((2, 10)),  # … 5
    PoolCase((7, 8), (3, 3), (2, 2)),  # overlapping
    PoolCase((6, 5), (3, 2), (1, 1)),
    PoolCase((7, 9), (2, 2), (3, 4)),  # stride above the window
    PoolCase((7, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    PoolCase((6, 7), (3, 4), (2, 3), ((1, 0), (0, 2))),
    PoolCase((8, 8), (2, 2), (2, 2), ((1, 1), (1, 1))),
    PoolCase((9, 8), (2, 3), (1, 2), ((0, 0), (0, 0)), (3, 2)),
    PoolCase((9, 8), (3, 3), (2, 1), ((2, 1), (1, 2)), (2, 2), channels=1),
    PoolCase((4, 4), channels=19),
    PoolCase((7, 7), (7, 7), (7, 7)),  # the whole image: large windows are loops
    PoolCase((9, 12), (5, 5), (1, 2), ((2, 2), (2, 2))),
    PoolCase((3, 41), (2, 19), (1, 3), ((1, 0), (9, 9)), channels=1),
    PoolCase((2, 44), (1, 20), (1, 2), ((0, 0), (0, 0)), (1, 2), channels=1),
]


@cache
def _prepare(target: Target) -> None:
    compile_ahead([k for case in CASES for k in case.kernels(target)], target)


def _upstream(out: tuple[int, ...]) -> Any:
    return whole_numbers(5, *out, most=6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_pooling(case: PoolCase, target: Target) -> None:
    _prepare(target)
    operation, attributes = find_operation("max_pool2d"), case.attributes("max_pool2d")
    x = case.x(target, most=3)  # many ties
    y = operation.reference(attributes, [x])
    kernel, gradient = case.kernels(target)[:2]
    (found,) = run_kernel(kernel, target, wanted(*to_lanes(y).shape), given(to_lanes(x)))
    check_equal(from_lanes(found), y)
    dy = _upstream(y.shape)
    (expected,) = operation.gradient(attributes, dy, [x])
    assert expected is not None
    out = wanted(*to_lanes(x).shape)
    (slope,) = run_kernel(gradient, target, out, given(to_lanes(dy)), given(to_lanes(x)))
    check_equal(from_lanes(slope), expected, dense=0.02)


@pytest.mark.parametrize("counted", [True, False], ids=["with padding", "without padding"])
@pytest.mark.parametrize("case", [c for c in CASES if c.average], ids=str)
def test_average_pooling(case: PoolCase, counted: bool, target: Target) -> None:
    _prepare(target)
    operation = find_operation("avg_pool2d")
    attributes = case.attributes("avg_pool2d", counted)
    x = case.x(target)
    y = operation.reference(attributes, [x])
    problem = case.problem("avg_pool2d", counted)
    kernel = pool.average_pool(target, problem)
    (found,) = run_kernel(kernel, target, wanted(*to_lanes(y).shape), given(to_lanes(x)))
    check_close(from_lanes(found), y)
    dy = _upstream(y.shape)
    (expected,) = operation.gradient(attributes, dy, [x])
    assert expected is not None
    gradient = pool.average_pool_gradient(target, problem)
    out = wanted(*to_lanes(x).shape)
    (slope,) = run_kernel(gradient, target, out, given(to_lanes(dy)))
    check_close(from_lanes(slope), expected, dense=0.1)


@pytest.mark.parametrize("stride", [(2, 2), (1, 1)], ids=["apart", "overlapping"])
def test_equal_maxima_the_first_gets_the_gradient(stride: Pair, target: Target) -> None:
    case = PoolCase((2, 4), stride=stride, channels=1)
    x = np.full((target.width, 1, 2, 4), -1.0, np.float32)
    problem = case.problem("max_pool2d")
    dy = np.ones((target.width, 1, *problem.out), np.float32)
    kernel = pool.max_pool_gradient(target, problem)
    out = wanted(*to_lanes(x).shape)
    (slope,) = run_kernel(kernel, target, out, given(to_lanes(dy)), given(to_lanes(x)))
    first = [1.0, 0, 1, 0] if stride == (2, 2) else [1.0, 1, 1, 0]
    check_equal(from_lanes(slope)[0, 0], [first, [0, 0, 0, 0]], dense=0.2)


def test_nan_goes_through(target: Target) -> None:
    case = PoolCase((2, 8), channels=1)
    x = case.x(target)
    for lane in range(4):  # each place of the window, in windows and lanes of their own
        x[lane, 0, lane // 2, 2 * lane + lane % 2] = np.nan
    y = find_operation("max_pool2d").reference(case.attributes("max_pool2d"), [x])
    assert np.isnan(y).sum() == 4
    kernel, gradient = case.kernels(target)[:2]
    (found,) = run_kernel(kernel, target, wanted(*to_lanes(y).shape), given(to_lanes(x)))
    check_equal(from_lanes(found), y)
    dy = _upstream(y.shape)
    out = wanted(*to_lanes(x).shape)
    (slope,) = run_kernel(gradient, target, out, given(to_lanes(dy)), given(to_lanes(x)))
    slope = from_lanes(slope)
    assert np.isfinite(slope).all() and slope.sum() == dy.sum()
    for lane in range(4):
        assert slope[lane, 0, lane // 2, 2 * lane + lane % 2] == dy[lane, 0, 0, lane]


def test_infinities(target: Target) -> None:
    case = PoolCase((2, 4), channels=1)
    x = np.full((target.width, 1, 2, 4), -np.inf, np.float32)
    x[:, :, 1, 3] = np.inf
    kernel = pool.max_pool(target, case.problem("max_pool2d"))
    (found,) = run_kernel(kernel, target, wanted(1, 1, 2, target.width), given(to_lanes(x)))
    check_equal(from_lanes(found)[0, 0, 0], [-np.inf, np.inf])


V, E = Var("v"), Var("e0")


def test_nan_and_equal_maxima_in_large_windows(target: Target) -> None:
    case = PoolCase((5, 5), (5, 5), (1, 1), channels=1)
    x = np.full((target.width, 1, 5, 5), -np.inf, np.float32)
    x[1, 0, 2, 3] = x[1, 0, 4, 0] = 3
    x[2, 0, 1, 1] = x[2, 0, 3, 4] = np.nan
    x[2, 0, 4, 4] = 9
    kernel, gradient = case.kernels(target)[:2]
    (found,) = run_kernel(kernel, target, wanted(1, 1, 1, target.width), given(to_lanes(x)))
    check_equal(found[0, 0, 0, :4], [-np.inf, 3, np.nan, -np.inf])
    dy = np.ones((target.width, 1, 1, 1), np.float32)
    out = wanted(*to_lanes(x).shape)
    (slope,) = run_kernel(gradient, target, out, given(to_lanes(dy)), given(to_lanes(x)))
    places = [np.argwhere(lane[0]).tolist() for lane in from_lanes(slope)]
    assert places[:4] == [[[0, 0]], [[2, 3]], [[3, 4]], [[0, 0]]]


def _adaptive(size: int, out: int) -> Taps:
    ends = [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
    return tuple(tuple((k, first + k) for k in range(last - first)) for first, last in ends)


@pytest.mark.parametrize(
    ("size", "out"), [((7, 7), (1, 1)), ((13, 10), (6, 4)), ((3, 2), (7, 7)), ((40, 30), (2, 1))]
)
def test_adaptive_windows_of_varying_length(size: Pair, out: Pair, target: Target) -> None:
    rows, cols = (_adaptive(s, o) for s, o in zip(size, out, strict=True))
    p = pool.Pool(2, size, rows, cols)
    x = whole_numbers(1, target.width, 2, *size)
    dy = whole_numbers(2, target.width, 2, *out)
    y, slope = np.zeros(dy.shape), np.zeros(x.shape)
    for i, r in enumerate(rows):
        for j, c in enumerate(cols):
            window = np.s_[:, :, r[0][1] : r[-1][1] + 1, c[0][1] : c[-1][1] + 1]
            y[:, :, i, j] = x[window].mean(axis=(2, 3), dtype=np.float64)
            slope[window] += (dy[:, :, i, j] / (len(r) * len(c)))[..., None, None]
    kernel, gradient = pool.average_pool(target, p), pool.average_pool_gradient(target, p)
    (found,) = run_kernel(kernel, target, wanted(*to_lanes(y).shape), given(to_lanes(x)))
    check_close(from_lanes(found), y, dense=0.3)
    out_shape = wanted(*to_lanes(x).shape)
    (found,) = run_kernel(gradient, target, out_shape, given(to_lanes(dy)))
    check_close(from_lanes(found), slope)


def test_tails(target: Target) -> None:
    case = PoolCase((4, 6))
    x = case.x(target)
    tail = Tail(maximum(V, 0) * E, 1, keep=True)
    for op, build in (("max_pool2d", pool.max_pool), ("avg_pool2d", pool.average_pool)):
        y = find_operation(op).reference(case.attributes(op), [x])
        extra = _upstream(y.shape)
        kernel = build(target, case.problem(op), tail)
        out = wanted(*to_lanes(y).shape)
        lanes = [given(to_lanes(x)), out, given(to_lanes(extra))]
        found, kept = run_kernel(kernel, target, out, *lanes)
        check_close(from_lanes(kept), y)
        check_close(from_lanes(found), y.clip(0) * extra, dense=0.3)


def test_a_tail_behind_the_gradient_of_max_pooling(target: Target) -> None:
    case = PoolCase((4, 6))
    problem = case.problem("max_pool2d")
    assert problem.partition
    x = case.x(target)
    dy = _upstream((target.width, 2, 2, 3))
    (slope,) = find_operation("max_pool2d").gradient(case.attributes("max_pool2d"), dy, [x])
    assert slope is not None
    extra = whole_numbers(8, *x.shape)
    kernel = pool.max_pool_gradient(target, problem, Tail(V * E, 1))
    out = wanted(*to_lanes(x).shape)
    lanes = [given(to_lanes(a)) for a in (dy, x, extra)]
    (found,) = run_kernel(kernel, target, out, *lanes)
    check_equal(from_lanes(found), slope * extra, dense=0.2)


def test_what_a_partition_is() -> None:
    assert not PoolCase((5, 4)).problem("max_pool2d").partition
    assert not PoolCase((4, 4), (3, 3), (1, 1)).problem("max_pool2d").partition
    assert not PoolCase((4, 4), (1, 1), (2, 2)).problem("max_pool2d").partition
    assert PoolCase((6, 4), (3, 2), (3, 2)).problem("max_pool2d").partition
    assert PoolCase((2, 2), (2, 2), (2, 2), ((1, 1), (1, 1))).problem("max_pool2d").partition
