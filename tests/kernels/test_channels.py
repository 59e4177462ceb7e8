"""Channels in lanes: single samples against the formula."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from conv_case import ConvCase
from harness import (
    check_close,
    check_equal,
    compile_ahead,
    given,
    normal_numbers,
    run_kernel,
    wanted,
    whole_numbers,
)

from striate.codegen.targets import Target
from striate.formula.expression import Var, maximum
from striate.formula.operations import find_operation
from striate.kernels import channels
from striate.kernels.conv import Gather
from striate.kernels.kernel import Kernel, Tail

CASES = [
    ConvCase(1, 6, (28, 28), (5, 5), padding=((2, 2), (2, 2))),
    ConvCase(6, 16, (14, 14), (5, 5)),
    ConvCase(2, 3, (1, 1), (1, 1)),
    ConvCase(3, 5, (1, 1), (3, 3), padding=((1, 1), (1, 1))),
    ConvCase(17, 33, (4, 5), (2, 3), (2, 1), ((1, 0), (0, 1))),
    ConvCase(16, 16, (3, 20), (1, 3), dilation=(1, 2), bias=False),
    ConvCase(5, 9, (9, 8), (3, 3), (2, 3), ((1, 1), (2, 2))),
    ConvCase(4, 4, (7, 8), (1, 1), (2, 3)),
    ConvCase(8, 8, (2, 9), (2, 2)),
]


def _kernel(case: ConvCase, target: Target, plain: bool, tail: Tail | None = None) -> Kernel:
    problem = Gather(
        1,
        channels.blocks(case.outputs, target),
        case.channels,
        case.size,
        case.along(0),
        case.along(1),
        channels.packed_strides(case.channels, case.kernel, target.width),
        case.bias,
    )
    return channels.gather_channels(target, problem, plain, tail)


def _to_blocks(x: Any, width: int) -> Any:
    """(c, …) to (blocks, …, width); the lanes that are no channel hold NaN."""
    count = -(-x.shape[0] // width)
    padded = np.full((count * width, *x.shape[1:]), np.nan, np.float32)
    padded[: x.shape[0]] = x
    return np.moveaxis(padded.reshape(count, width, *x.shape[1:]), 1, -1)


def _from_blocks(y: Any, count: int) -> Any:
    blocks = np.moveaxis(y, -1, 1)
    return blocks.reshape(-1, *blocks.shape[2:])[:count]


def _pack(weight: Any, target: Target) -> Any:
    """The reference of `pack_weights`."""
    flat = weight.reshape(weight.shape[0], -1)
    padded = np.zeros((channels.blocks(len(flat), target) * target.width, flat.shape[1]), "f4")
    padded[: len(flat)] = flat
    blocks = padded.reshape(-1, target.width, flat.shape[1])
    return np.ascontiguousarray(blocks.transpose(0, 2, 1))


@cache
def _prepare(target: Target) -> None:
    kernels = [_kernel(case, target, plain) for case in CASES for plain in (True, False)]
    compile_ahead(kernels, target)


@pytest.mark.parametrize("plain", [True, False], ids=["array", "blocks"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution(case: ConvCase, plain: bool, target: Target) -> None:
    _prepare(target)
    x, w, b = case.x(1), case.w(), case.b()
    arrays = [x, w, b] if case.bias else [x, w]
    (expected,) = find_operation("conv2d").reference(case.attributes, arrays)
    out = wanted(channels.blocks(case.outputs, target), *case.out, target.width)
    source = x[0] if plain else _to_blocks(x[0], target.width)
    packed = [given(_pack(a, target)) for a in arrays[1:]]
    (found,) = run_kernel(_kernel(case, target, plain), target, out, given(source), *packed)
    check_equal(_from_blocks(found, case.outputs), expected, dense=0.3)
    assert not _from_blocks(found, found.shape[0] * target.width)[case.outputs :].any()


def test_convolution_with_a_tail(target: Target) -> None:
    case = ConvCase(3, 10, (5, 6))
    x, w, b = case.x(1), case.w(), case.b()
    (v,) = find_operation("conv2d").reference(case.attributes, [x, w, b])
    extra = whole_numbers(5, *v.shape)
    tail = Tail(maximum(Var("v"), 0) * Var("e0"), 1, keep=True)
    out = wanted(channels.blocks(10, target), *case.out, target.width)
    packed = [given(_pack(a, target)) for a in (w, b)]
    more = [out, given(np.nan_to_num(_to_blocks(extra, target.width)))]
    kernel = _kernel(case, target, True, tail)
    found, kept = run_kernel(kernel, target, out, given(x[0]), *packed, *more)
    check_equal(_from_blocks(found, 10), v.clip(0) * extra, dense=0.2)
    check_equal(_from_blocks(kept, 10), v)


def _near(width: int) -> list[int]:
    return [1, width - 1, width, width + 1, 2 * width + 1]


def test_pack_weights(target: Target) -> None:
    pairs = [(o, k) for o in _near(target.width) for k in (*_near(target.width), 25)]
    compile_ahead([channels.pack_weights(target, o, k) for o, k in pairs], target)
    for outputs, per_output in pairs:
        weight = normal_numbers(outputs, outputs, per_output)
        expected = _pack(weight, target)
        kernel = channels.pack_weights(target, outputs, per_output)
        (found,) = run_kernel(kernel, target, wanted(*expected.shape), given(weight))
        check_equal(found, expected, dense=0.05)


def test_unblock(target: Target) -> None:
    pairs = [(c, p) for c in _near(target.width) for p in (*_near(target.width), 25)]
    compile_ahead([channels.unblock(target, c, p) for c, p in pairs], target)
    for count, positions in pairs:
        x = normal_numbers(count, count, positions)
        kernel = channels.unblock(target, count, positions)
        blocks = given(_to_blocks(x, target.width))
        (found,) = run_kernel(kernel, target, wanted(count, positions), blocks)
        check_equal(found, x)


def test_copy_floats(target: Target) -> None:
    for count in (*_near(target.width), 100):
        x = normal_numbers(count, count)
        kernel = channels.copy_floats(target, count)
        (found,) = run_kernel(kernel, target, wanted(count), given(x))
        check_equal(found, x)


def _whole(count: int, width: int) -> int:
    return -(-count // width) * width


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_linear_one(target: Target, bias: bool) -> None:
    w = target.width
    pairs = [(o, k) for o in _near(w) for k in _near(w)] + [(10, 84), (84, 120)]
    compile_ahead([channels.linear_one(target, o, k, bias) for o, k in pairs], target)
    for outputs, inputs in pairs:
        weight, x = whole_numbers(0, outputs, inputs), whole_numbers(1, inputs)
        b = whole_numbers(2, outputs)
        padded = np.full(_whole(inputs, w), np.nan, np.float32)
        padded[:inputs] = x
        kernel = channels.linear_one(target, outputs, inputs, bias)
        pointers = [given(padded), given(weight), *([given(_pack(b, target))] if bias else [])]
        (found,) = run_kernel(kernel, target, wanted(_whole(outputs, w)), *pointers)
        expected = weight.astype(float) @ x + (b if bias else 0)
        check_equal(found[:outputs], expected, dense=0.0)


def test_linear_one_with_a_tail(target: Target) -> None:
    outputs, inputs, w = 11, 13, target.width
    weight, x = normal_numbers(0, outputs, inputs), normal_numbers(1, inputs)
    size = _whole(outputs, w)
    extra = normal_numbers(2, size)
    padded = np.zeros(_whole(inputs, w), np.float32)
    padded[:inputs] = x
    kernel = channels.linear_one(target, outputs, inputs, False, Tail(Var("v") + Var("e0"), 1))
    lanes = [given(padded), given(weight), given(extra)]
    (found,) = run_kernel(kernel, target, wanted(size), *lanes)
    expected = weight.astype(float) @ x + extra[:outputs]
    check_close(found[:outputs], expected)
    assert math.isfinite(found.sum())
