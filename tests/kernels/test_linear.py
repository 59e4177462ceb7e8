"""The weight gradient of fully connected layers over a whole batch, exact numbers."""

from __future__ import annotations

import numpy as np
from harness import changed, check_equal, compile_ahead, given, run_kernel, to_lanes, whole_numbers

from striate.codegen.targets import Target
from striate.kernels.conv import ROW_BLOCK
from striate.kernels.kernel import Kernel
from striate.kernels.linear import batch_weight_gradient


def _shapes(width: int) -> list[tuple[int, int]]:
    """(outputs, inputs): around blocks of outputs, vectors and tiles of inputs."""
    inputs = {1, width - 1, width, width + 1, 2 * width, 3 * width + 2, 4 * width + 1}
    around = [(o, 2 * width + 1) for o in (1, 2, 7, 8, 9, ROW_BLOCK - 1, ROW_BLOCK, ROW_BLOCK + 1)]
    few = [(ROW_BLOCK, k) for k in (1, width - 1, width + 1)]  # tiles of outputs beyond a vector
    return [*around, *((5, k) for k in sorted(inputs)), *few, (40, 130)]


def _run(
    kernel: Kernel,
    target: Target,
    shape: tuple[int, int],
    groups: int,
    blocks: tuple[int, int],
    padding: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's gradient and the expected one, of groups that lie `padding` floats apart."""
    (outputs, inputs), width = shape, target.width
    x = whole_numbers(0, groups * width, inputs)
    dy = whole_numbers(1, groups * width, outputs, most=3)
    rows = x.reshape(groups, -1)
    lanes = np.stack([to_lanes(part).ravel() for part in np.split(dy, groups)])
    arrays = [np.pad(a, ((0, 0), (0, padding)), constant_values=np.nan) for a in (rows, lanes)]
    steps = [a.shape[1] for a in arrays]
    before = np.full(shape, np.nan, np.float32)
    pointers = [changed(before), *map(given, arrays)]
    (found,) = run_kernel(kernel, target, *pointers, *blocks, groups, *steps)
    return found, dy.astype(float).T @ x


def test_batch_weight_gradient(target: Target) -> None:
    shapes = _shapes(target.width)
    compile_ahead([batch_weight_gradient(target, *shape) for shape in shapes], target)
    for shape in shapes:
        kernel = batch_weight_gradient(target, *shape)
        blocks = (0, -(-shape[0] // ROW_BLOCK))
        for groups, padding in ((1, 0), (3, 0), (2, 16)):
            found, expected = _run(kernel, target, shape, groups, blocks, padding)
            check_equal(found, expected)


def test_blocks_leave_the_others_alone(target: Target) -> None:
    shape = (35, 9)
    kernel = batch_weight_gradient(target, *shape)
    for first in range(3):
        found, expected = _run(kernel, target, shape, 2, (first, first + 1), 0)
        wanted = np.full(shape, np.nan)
        span = slice(first * ROW_BLOCK, (first + 1) * ROW_BLOCK)
        wanted[span] = expected[span]
        check_equal(found, wanted)
