"""One convolution as the tests see it: sizes, whole-number data, the kernels and the references."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from harness import (
    changed,
    check_close,
    check_equal,
    from_lanes,
    given,
    run_kernel,
    to_lanes,
    wanted,
    whole_numbers,
)

from striate.codegen.targets import Target
from striate.formula.operations import find_operation
from striate.kernels import conv
from striate.kernels.kernel import Kernel, Tail
from striate.kernels.window import Taps, reversed_taps, taps

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvCase:
    """`channels` and `outputs` are per group."""

    channels: int
    outputs: int
    size: Pair
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = True

    def __str__(self) -> str:
        g = f"{self.groups}×" if self.groups > 1 else ""
        (a, b), (c, d) = self.padding
        return (
            f"{g}{self.channels}→{self.outputs} of {self.size[0]}×{self.size[1]} by "
            f"{self.kernel[0]}×{self.kernel[1]} s{self.stride} p{a}{b}{c}{d} d{self.dilation}"
        )

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "stride": list(self.stride),
            "padding": [list(side) for side in self.padding],
            "dilation": list(self.dilation),
            "groups": self.groups,
        }

    @cached_property
    def out(self) -> Pair:
        """The output's size; a test case must have one."""
        x = (self.channels * self.groups, *self.size)
        w = (self.outputs * self.groups, self.channels, *self.kernel)
        shape = find_operation("conv2d").shape(self.attributes, [x, w])
        return shape[1], shape[2]

    @property
    def dense(self) -> float:
        """The least share of a gradient that is not 0: none where windows meet padding only."""
        meets = all(any(self.along(axis)) for axis in (0, 1))
        return 0.01 if meets else 0.0

    def along(self, axis: int) -> Taps:
        return taps(
            self.size[axis],
            self.out[axis],
            self.kernel[axis],
            self.stride[axis],
            self.dilation[axis],
            self.padding[axis][0],
        )

    # ---- kernels -----------------------------------------------------------------------------

    @property
    def _per(self) -> int:
        return self.channels * self.kernel[0] * self.kernel[1]

    def forward_kernel(self, target: Target, tail: Tail | None = None) -> Kernel:
        kh, kw = self.kernel
        strides = (self.outputs * self._per, self._per, kh * kw, kw, 1)
        rows, cols = self.along(0), self.along(1)
        problem = conv.Gather(
            self.groups, self.outputs, self.channels, self.size, rows, cols, strides, self.bias
        )
        return conv.gather(target, problem, tail)

    def to_input_kernel(self, target: Target, tail: Tail | None = None) -> Kernel:
        kh, kw = self.kernel
        strides = (self.outputs * self._per, kh * kw, self._per, kw, 1)
        rows, cols = (reversed_taps(self.along(k), self.size[k]) for k in (0, 1))
        problem = conv.Gather(
            self.groups,
            self.channels,
            self.outputs,
            self.out,
            rows,
            cols,
            strides,
            period=self.stride[1],
        )
        return conv.gather(target, problem, tail)

    def to_weight_kernel(self, target: Target, accumulate: bool) -> Kernel:
        problem = conv.WeightGradient(
            self.groups,
            self.outputs,
            self.channels,
            self.kernel,
            self.size,
            self.along(0),
            self.along(1),
            (self.stride[0], self.dilation[0], self.padding[0][0]),
            accumulate,
        )
        return conv.weight_gradient(target, problem)

    def to_bias_kernel(self, target: Target, accumulate: bool) -> Kernel:
        positions = self.out[0] * self.out[1]
        return conv.bias_gradient(target, self.groups * self.outputs, positions, accumulate)

    def kernels(self, target: Target) -> list[Kernel]:
        """All that `check` runs."""
        return [
            self.forward_kernel(target),
            self.to_input_kernel(target),
            self.to_weight_kernel(target, accumulate=False),
            self.to_weight_kernel(target, accumulate=True),
            self.to_bias_kernel(target, accumulate=True),
        ]

    # ---- data ---------------------------------------------------------------------------------

    def x(self, samples: int, seed: int = 0) -> Any:
        return whole_numbers(seed, samples, self.groups * self.channels, *self.size)

    def w(self) -> Any:
        return whole_numbers(1, self.groups * self.outputs, self.channels, *self.kernel, most=3)

    def b(self) -> Any:
        return whole_numbers(2, self.groups * self.outputs)

    def dy(self, samples: int, seed: int = 3) -> Any:
        return whole_numbers(seed, samples, self.groups * self.outputs, *self.out, most=3)

    # ---- checks -------------------------------------------------------------------------------

    def check(self, target: Target) -> None:
        self.check_forward(target)
        self.check_to_input(target)
        self.check_to_weight(target, accumulate=False)
        self.check_to_weight(target, accumulate=True)
        self.check_to_bias(target, accumulate=True)

    def check_forward(self, target: Target) -> None:
        x, w, b = self.x(target.width), self.w(), self.b()
        arrays = [x, w, b] if self.bias else [x, w]
        expected = find_operation("conv2d").reference(self.attributes, arrays)
        out = wanted(self.groups * self.outputs, *self.out, target.width)
        kernel = self.forward_kernel(target)
        (found,) = run_kernel(kernel, target, out, given(to_lanes(x)), *map(given, arrays[1:]))
        check_equal(from_lanes(found), expected, dense=self.dense)

    def _gradients(self, x: Any, dy: Any) -> list[Any]:
        operation = find_operation("conv2d")
        return list(operation.gradient(self.attributes, dy, [x, self.w(), self.b()]))

    def check_to_input(self, target: Target) -> None:
        x, dy = self.x(target.width), self.dy(target.width)
        expected = self._gradients(x, dy)[0]
        out = wanted(*to_lanes(x).shape)
        kernel = self.to_input_kernel(target)
        (found,) = run_kernel(kernel, target, out, given(to_lanes(dy)), given(self.w()))
        # positions that no window meets have gradient 0
        check_equal(from_lanes(found), expected, dense=self.dense)

    def check_to_weight(self, target: Target, accumulate: bool, groups: int = 1) -> None:
        """`groups` sample groups behind one another, all blocks of output channels."""
        width = target.width
        x, dy = self.x(groups * width), self.dy(groups * width)
        expected = self._gradients(x, dy)[1]
        before = (
            whole_numbers(4, *expected.shape) if accumulate else np.full(expected.shape, np.nan)
        )
        lanes = [np.stack([to_lanes(p) for p in np.split(a, groups)]) for a in (x, dy)]
        steps = [a[0].size for a in lanes] if groups > 1 else [0, 0]
        blocks = self.groups * -(-self.outputs // conv.ROW_BLOCK)
        kernel = self.to_weight_kernel(target, accumulate)
        (found,) = run_kernel(
            kernel, target, changed(before), *map(given, lanes), 0, blocks, groups, *steps
        )
        check_equal(found, expected + before if accumulate else expected, dense=self.dense)

    def check_to_bias(self, target: Target, accumulate: bool, groups: int = 1) -> None:
        dy = self.dy(groups * target.width)
        expected = dy.sum((0, 2, 3), dtype=float)
        before = (
            whole_numbers(4, *expected.shape) if accumulate else np.full(expected.shape, np.nan)
        )
        lanes = np.stack([to_lanes(p) for p in np.split(dy, groups)])
        kernel = self.to_bias_kernel(target, accumulate)
        step = lanes[0].size if groups > 1 else 0
        (found,) = run_kernel(kernel, target, changed(before), given(lanes), groups, step)
        check_equal(found, expected + before if accumulate else expected)


def check_tail(case: ConvCase, target: Target, tail: Tail, expected: Any) -> None:
    """The forward kernel with a tail; `expected(v, extras)` in NumPy float64."""
    x, w, b = case.x(target.width), case.w(), case.b()
    v = find_operation("conv2d").reference(case.attributes, [x, w, b])
    extras = [whole_numbers(10 + k, *v.shape) for k in range(tail.extras)]
    out = wanted(*to_lanes(v).shape)
    kernel = case.forward_kernel(target, tail)
    more = [out] if tail.keep else []
    pointers = [out, given(to_lanes(x)), given(w), given(b), *more]
    found = run_kernel(kernel, target, *pointers, *(given(to_lanes(e)) for e in extras))
    check_close(from_lanes(found[0]), expected(v, *extras), dense=0.3)
    if tail.keep:
        check_equal(from_lanes(found[1]), v)
