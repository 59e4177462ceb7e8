"""Rows into lanes and back: exact copies, and nothing touched beyond the samples."""

from __future__ import annotations

import numpy as np
from harness import (
    changed,
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
from striate.kernels.lanes import lanes_to_rows, rows_to_lanes


def _sizes(width: int) -> list[int]:
    return [1, width - 1, width, width + 1, 2 * width, 3 * width - 1]


def test_rows_to_lanes(target: Target) -> None:
    width = target.width
    compile_ahead([rows_to_lanes(target, n) for n in _sizes(width)], target)
    for elements in _sizes(width):
        for samples in {1, 2, width - 1, width}:
            values = whole_numbers(0, width, elements + 3)
            source = values.ravel()[: (samples - 1) * (elements + 3) + elements]
            kernel = rows_to_lanes(target, elements)
            out = wanted(elements, width)
            (found,) = run_kernel(kernel, target, out, given(source), elements + 3, samples)
            repeated = values[np.minimum(np.arange(width), samples - 1), :elements]
            check_equal(found, to_lanes(repeated))


def test_lanes_to_rows(target: Target) -> None:
    width = target.width
    compile_ahead([lanes_to_rows(target, n) for n in _sizes(width)], target)
    for elements in _sizes(width):
        for samples in {1, 2, width - 1, width}:
            source = whole_numbers(0, elements, width)
            step = elements + 5
            before = np.full((samples - 1) * step + elements, np.nan, np.float32)
            kernel = lanes_to_rows(target, elements)
            (found,) = run_kernel(kernel, target, changed(before), given(source), step, samples)
            expected = np.full((samples, step), np.nan)
            expected[:, :elements] = from_lanes(source)[:samples]
            check_equal(found, expected.ravel()[: before.size])
