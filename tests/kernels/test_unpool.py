"""Switches and unpooling of windows that lie apart, against their formulas, on every target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import given, run_kernel, wanted

from striate.codegen.targets import TARGETS, Target, runs_here
from striate.formula.operations import find_operation
from striate.kernels.unpool import (
    Switches,
    are_apart,
    max_switches,
    max_unpool,
    max_unpool_gradient,
)

HERE = [target for target in TARGETS.values() if runs_here(target)]
# image, kernel, stride, dilation
CASES = [
    ((4, 6), (2, 2), (2, 2), (1, 1)),
    ((1, 1), (1, 1), (1, 1), (1, 1)),
    ((7, 5), (2, 1), (3, 2), (1, 1)),
    ((9, 8), (2, 3), (3, 5), (2, 2)),
    ((5, 5), (5, 5), (9, 9), (1, 1)),
]


def settings(case: Any) -> dict[str, Any]:
    _, kernel, stride, dilation = (list(part) for part in case)
    none = [[0, 0], [0, 0]]
    return {"kernel": kernel, "stride": stride, "padding": none, "dilation": dilation}


@pytest.mark.parametrize("target", HERE, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_there_and_back(case: Any, target: Target) -> None:
    image, kernel, stride, dilation = case
    rng, width = np.random.default_rng(0), target.width
    x = rng.integers(-9, 10, (1, width, *image)).astype(np.float32)
    x[0, 0, 0, 0] = np.nan
    places = find_operation("max_pool_indices").reference(settings(case), [x])
    s = Switches(image, places.shape[2:], kernel, stride, dilation)

    def lanes(values: Any) -> Any:
        return np.moveaxis(values[0], 0, -1)

    found = run_kernel(
        max_switches(target, s), target, wanted(*lanes(places).shape), given(lanes(x))
    )
    assert np.array_equal(found[0], lanes(places))

    places[0, -1] = -1  # names no place
    back = find_operation("max_unpool")
    attributes = {**settings(case), "output": list(image)}
    small = rng.integers(1, 10, places.shape).astype(np.float32)
    expected = back.reference(attributes, [small, places])
    kernel_of_y = max_unpool(target, s)
    arguments = [given(lanes(small)), given(lanes(places))]
    found = run_kernel(kernel_of_y, target, wanted(*image, width), *arguments)
    assert np.array_equal(found[0], lanes(expected))

    dy = rng.integers(1, 10, expected.shape).astype(np.float32)
    slope = back.gradient(attributes, dy, [small, places], [0])[0]
    arguments = [given(lanes(dy)), given(lanes(places))]
    made = max_unpool_gradient(target, s)
    found = run_kernel(made, target, wanted(*lanes(places).shape), *arguments)
    assert np.array_equal(found[0], lanes(slope))


def test_apart() -> None:
    assert are_apart((2, 2), (2, 2), (1, 1))
    assert are_apart((3, 1), (2, 1), (2, 5))
    assert not are_apart((2, 2), (3, 2), (1, 1))
    assert not are_apart((2, 2), (2, 2), (2, 1))
