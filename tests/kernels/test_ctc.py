"""The CTC kernel against the formula's recursion, and the small kernels of losses."""

from __future__ import annotations

import numpy as np
import pytest
from harness import (
    check_close,
    check_equal,
    from_lanes,
    given,
    normal_numbers,
    run_kernel,
    to_lanes,
    wanted,
)

from striate.codegen.targets import Target
from striate.formula.operations import find_operation
from striate.kernels import loss
from striate.kernels.ctc import Ctc, ctc


def _targets(problem: Ctc, width: int) -> np.ndarray:
    """Targets of every length, with repeated classes."""
    rng = np.random.default_rng(problem.time)
    labels = np.delete(np.arange(problem.classes), problem.blank)
    found = labels[rng.integers(0, min(2, len(labels)), (width, problem.length))]
    found[np.arange(problem.length) >= (np.arange(width) % (problem.length + 1))[:, None]] = -1
    return found


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(
    ("time", "classes", "length"), [(1, 3, 1), (6, 3, 2), (9, 5, 4), (2, 4, 3)]
)
def test_ctc(time: int, classes: int, length: int, mean: bool, blank: int, target: Target) -> None:
    """Some targets are longer than the time: no path spells them."""
    width = target.width
    problem = Ctc(time, classes, length, blank, mean, zero_infinity=True)
    x = normal_numbers(time, width, time, classes)
    t = _targets(problem, width)
    scale = np.linspace(0, 1, width)
    outs = [wanted(time, classes, width), wanted(width)]
    inputs = [given(to_lanes(x)), given(to_lanes(t)), given(scale)]
    room = wanted(problem.scratch(width))
    dx, losses, *_ = run_kernel(ctc(target, problem), target, *outs, *inputs, room)
    attributes = {"blank": blank, "zero_infinity": True, "mean": mean, "length": length}
    operation = find_operation("ctc_loss")
    check_close(losses, operation.reference(attributes, [x, t]), factor=8, dense=0.2)
    expected = operation.gradient(attributes, scale, [x, t])[0]
    check_close(from_lanes(dx), expected, factor=8, dense=0.1)


def test_a_target_without_a_path_is_infinite(target: Target) -> None:
    width = target.width
    problem = Ctc(2, 3, 2, 0, False, zero_infinity=False)
    x, t = normal_numbers(0, width, 2, 3), np.tile([1, 2], (width, 1))
    t[-1] = 1  # the same twice needs a blank between
    outs = [wanted(2, 3, width), wanted(width)]
    inputs = [given(to_lanes(x)), given(to_lanes(t)), given(np.ones(width))]
    room = wanted(problem.scratch(width))
    dx, losses, *_ = run_kernel(ctc(target, problem), target, *outs, *inputs, room)
    assert np.isposinf(losses[-1]) and np.isfinite(losses[:-1]).all()
    assert (from_lanes(dx)[-1] == 0).all()


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_what_was_right(classes: int, target: Target) -> None:
    width = target.width
    x = np.round(normal_numbers(classes, width, classes))  # many are equal: the first counts
    labels = np.arange(width) % classes
    (found,) = run_kernel(
        loss.classified(target, classes), target, wanted(width), given(to_lanes(x)), given(labels)
    )
    check_equal(found, x.argmax(axis=1) == labels, dense=0)


def test_results_go_anywhere(target: Target) -> None:
    values = normal_numbers(1, target.width)
    (found,) = run_kernel(loss.store_result(target), target, wanted(target.width), given(values))
    check_equal(found, values)
