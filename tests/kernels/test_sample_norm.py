"""Normalisation of runs of single samples against the formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import changed, check_close, given, run_kernel, wanted

from striate.codegen.targets import Target
from striate.formula.operations import find_operation
from striate.kernels.sample_norm import Runs, sample_norm, sample_norm_gradient, sample_norm_weight

# operation, its number of groups or axes, the shape of x with the batch
CASES: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "group": ("group_norm", 2, (2, 6, 7, 5)),
    "instance": ("group_norm", 3, (3, 3, 11, 13)),
    "one group": ("group_norm", 1, (2, 4, 17)),
    "features": ("group_norm", 2, (3, 38)),
    "layer": ("layer_norm", 1, (2, 5, 37)),
    "layer of images": ("layer_norm", 3, (3, 2, 9, 8)),
    "layer of one vector": ("layer_norm", 1, (2, 64)),
}


def problem(name: str) -> Any:
    op, number, shape = CASES[name]
    rng = np.random.default_rng(3)
    x = (rng.normal(size=shape) + 20 * (name == "group")).astype(np.float32)
    groups = op == "group_norm"
    attributes = {"eps": 1e-3, "groups" if groups else "axes": number}
    if groups:
        inner: tuple[int, ...] = (shape[1],)
        size = int(np.prod(shape[2:]))
        runs = Runs(number, shape[1] // number, size, 1e-3, each=False)
    else:
        inner = shape[len(shape) - number :]
        outer = int(np.prod(shape[1 : len(shape) - number]))
        runs = Runs(outer, 1, int(np.prod(inner)), 1e-3, each=True)
    g, w, b = (rng.normal(size=s).astype(np.float32) for s in (shape, inner, inner))
    return find_operation(op), attributes, runs, x, g, w, b


def on_samples(made: Any, target: Target, batch: list[Any], parameters: list[Any]) -> Any:
    (routine,) = made.steps
    rows = []
    for sample in zip(*batch, strict=True):
        found = np.full(sample[0].shape, np.nan, np.float32)
        inputs = [given(k) for k in (*sample, *parameters)]
        for part in range(routine.parts):
            (found,) = run_kernel(routine.kernel, target, changed(found), *inputs, part)
        rows.append(found)
    return np.stack(rows)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_against_the_formula(name: str, count: int, target: Target) -> None:
    operation, attributes, runs, x, g, *both = problem(name)
    parameters = both[:count]
    arrays = [k.astype(np.float64) for k in (x, *parameters)]
    slopes = operation.gradient(attributes, g, arrays)
    made = sample_norm(target, runs, count > 0, count > 1)
    found = on_samples(made, target, [x], parameters)
    factor = 30 if name == "group" else 4  # a mean of 20 costs five bits of x itself
    check_close(found, operation.reference(attributes, arrays), factor=factor)
    made = sample_norm_gradient(target, runs, count > 0)
    check_close(on_samples(made, target, [g, x], parameters[:1]), slopes[0], factor=factor)
    for k, slope in enumerate(slopes[1:]):
        (routine,) = sample_norm_weight(target, runs, k == 1).steps
        room = -(-slope.size // target.width) * target.width
        found = np.full(room, np.nan, np.float32)
        step = x[0].size
        for part in range(routine.parts):
            (found,) = run_kernel(
                routine.kernel, target, changed(found), given(g), given(x), len(x), step, step, part
            )
        check_close(found[: slope.size], slope.ravel(), factor=2 * factor)
        assert not found[slope.size :].any()


def test_a_constant_has_no_deviation(target: Target) -> None:
    runs = Runs(1, 1, 100, 0.0, each=True)
    (routine,) = sample_norm(target, runs, False, False).steps
    x = np.full(100, 7.3, np.float32)
    (found,) = run_kernel(routine.kernel, target, wanted(100), given(x), 0)
    assert not np.isinf(found).any()
