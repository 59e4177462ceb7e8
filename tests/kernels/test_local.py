"""Locally connected layers: all passes against their formula, on every target, in guarded
memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness import Argument, check_close, given, run_kernel, wanted

from striate.codegen.targets import TARGETS, Target, runs_here
from striate.formula.operations import find_operation
from striate.kernels.kernel import Kernel
from striate.kernels.local import Local, local, local_input_gradient, local_weight_gradient
from striate.kernels.routine import Recipe
from striate.program.convolution import Windows, windows

HERE = [target for target in TARGETS.values() if runs_here(target)]
# rank, image, in channels, out channels, groups, kernel, row stride, padding, dilation, batch
CASES = [
    (2, (6, 6), 2, 3, 1, (3, 3), 1, 0, 1, 3),
    (2, (5, 18), 4, 6, 2, (2, 3), 2, 1, 1, 7),
    (2, (1, 1), 1, 1, 1, (1, 1), 1, 0, 1, 1),
    (2, (7, 33), 1, 5, 1, (3, 5), 1, 2, 1, 2),
    (2, (9, 10), 2, 9, 1, (3, 2), 3, 1, 2, 26),
    (2, (4, 4), 3, 2, 1, (4, 4), 1, 0, 1, 25),
    (2, (8, 17), 2, 4, 2, (3, 1), 1, 1, 1, 5),
    (1, (21,), 3, 4, 1, (7,), 1, 3, 1, 4),
    (3, (3, 4, 9), 2, 2, 1, (2, 3, 3), 1, 1, 1, 3),
]


def attributes(case: Any) -> dict[str, Any]:
    rank, _, _, _, groups, _, stride, padding, dilation, _ = case
    return {
        "stride": [*[stride] * (rank - 1), 1],
        "padding": [[padding, padding]] * rank,
        "dilation": [dilation] * rank,
        "groups": groups,
    }


def arrays(case: Any) -> tuple[Any, ...]:
    rank, image, into, out, groups, kernel, *_, batch = case
    operation = find_operation(f"local{rank}d")
    rng, a = np.random.default_rng(0), attributes(case)
    free = find_operation(f"conv{rank}d").shape(a, [(into, *image), (out, into // groups, *kernel)])
    x = rng.normal(size=(batch, into, *image)).astype(np.float32)
    w = rng.normal(size=(out, into // groups, *kernel, *free[1:])).astype(np.float32)
    b = rng.normal(size=free).astype(np.float32)
    dy = rng.normal(size=(batch, *free)).astype(np.float32)
    formula = operation.formula(a, [x.shape, w.shape, b.shape])
    return x, w, b, dy, formula


def problem(case: Any, y: Any) -> Local:
    _, image, into, out, _, kernel, *_ = case
    w: Windows = windows(attributes(case), out, into, kernel, image, y.shape[2:])
    return Local(
        out, into, w.groups, w.kernel, w.source, w.rows, w.out[1], w.dilation[-1], w.padding[-1][0]
    )


def call(made: Recipe, target: Target, size: tuple[int, ...], *inputs: Any) -> Any:
    """Run the kernel for every part, each time into fresh memory; put what it wrote together."""
    (routine,) = made.steps
    result = np.full(size, np.nan, np.float32)
    for part in range(routine.parts):
        found = run_kernel(
            routine.kernel, target, *_arguments(routine.kernel, size, inputs, part, routine.scratch)
        )[0]
        written = ~np.isnan(found)
        assert not (written & ~np.isnan(result)).any(), "two parts write one place"
        result[written] = found[written]
    return result


def _arguments(
    kernel: Kernel, size: tuple[int, ...], inputs: Any, part: int, scratch: int
) -> list[Argument]:
    rest = iter(inputs)
    found: list[Argument] = [wanted(*size)]
    steps = {"part": part, "samples": 0}
    shapes = {kernel.arguments[0]: size}
    for name in kernel.arguments[1:]:
        plain = name.partition(":")[0]
        if name == "scratch":
            found.append(wanted(scratch))
        elif ":" not in name:
            array = next(rest)
            shapes[name] = array.shape
            if name in ("source", "dy"):
                steps["samples"] = len(array)
            found.append(given(array))
        else:
            steps[plain] = steps.get(
                plain, math.prod(shapes[plain[:-5]][1:]) if "_" in plain else 0
            )
            found.append(steps[plain])
    return found


@pytest.mark.parametrize("target", HERE, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_passes(case: Any, target: Target) -> None:
    x, w, b, dy, formula = arrays(case)
    p = problem(case, dy)
    tensors = {"x": x, "w": w, "b": b}
    expected = formula.reference(**tensors)
    found = call(local(target, p, "place"), target, expected.shape, x, w, b)
    check_close(found, expected, factor=4)
    slopes = formula.gradient(dy, **tensors)
    dx = call(local_input_gradient(target, p), target, x.shape, dy, w)
    check_close(dx, slopes["x"], factor=4)
    dw = call(local_weight_gradient(target, p), target, w.shape, dy, x)
    check_close(dw, slopes["w"], factor=4, dense=0.2)


def test_bias_of_channels() -> None:
    case, target = CASES[1], HERE[-1]
    x, w, b, dy, formula = arrays(case)
    expected = formula.reference(x=x, w=w, b=b) - b + b[:, :1, :1]
    row = np.ascontiguousarray(b[:, 0, 0])
    found = call(local(target, problem(case, dy), "channel"), target, expected.shape, x, w, row)
    check_close(found, expected, factor=4)
    plain = call(local(target, problem(case, dy)), target, expected.shape, x, w)
    check_close(plain, expected - row[:, None, None], factor=4)
