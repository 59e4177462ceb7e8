"""Samples to lanes and back, whatever their number of elements."""

from __future__ import annotations

import numpy as np
from harness import check_equal, compile_ahead, given, normal_numbers, run_kernel, wanted

from striate.codegen.targets import Target
from striate.kernels.layout import gather_samples, scatter_samples


def _sizes(width: int) -> list[int]:
    return sorted({1, 2, width - 1, width, width + 1, 2 * width, 2 * width + 3, 100})


def test_gather_samples(target: Target) -> None:
    width = target.width
    compile_ahead([gather_samples(target, n) for n in _sizes(width)], target)
    index = (np.arange(width) * 5 + 2) % (width + 3)
    index[-1] = index[0]  # a sample may come twice
    for elements in _sizes(width):
        array = normal_numbers(elements, width + 3, elements)
        kernel = gather_samples(target, elements)
        out = wanted(elements, width)
        (found,) = run_kernel(kernel, target, out, given(array), given(index, np.int64))
        check_equal(found, array[index].T)


def test_only_the_named_samples_are_read(target: Target) -> None:
    """An array of one sample, every lane naming it: the guard pages are right around it."""
    for elements in _sizes(target.width):
        array = normal_numbers(elements, 1, elements)
        index = np.zeros(target.width)
        kernel = gather_samples(target, elements)
        out = wanted(elements, target.width)
        (found,) = run_kernel(kernel, target, out, given(array), given(index, np.int64))
        check_equal(found, np.repeat(array.T, target.width, axis=1))


def test_scatter_samples(target: Target) -> None:
    width = target.width
    compile_ahead([scatter_samples(target, n) for n in _sizes(width)], target)
    for elements in _sizes(width):
        value = normal_numbers(elements, elements, width)
        kernel = scatter_samples(target, elements)
        (found,) = run_kernel(kernel, target, wanted(width, elements), given(value))
        check_equal(found, value.T)
