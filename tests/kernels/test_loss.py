"""Loss kernels against the formula: values, gradients, the right answers, dead lanes, extremes."""

from __future__ import annotations

from typing import Any

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

CLASSES = [1, 2, 3, 10, 33]


@pytest.mark.parametrize("classes", CLASSES)
def test_softmax_and_its_gradient(classes: int, target: Target) -> None:
    operation = find_operation("softmax")
    x, dy = (3 * normal_numbers(k, target.width, classes) for k in (0, 1))
    y = operation.reference({}, [x])
    out = wanted(classes, target.width)
    (found,) = run_kernel(loss.softmax(target, classes), target, out, given(to_lanes(x)))
    check_close(from_lanes(found), y)
    (expected,) = operation.gradient({}, dy, [x])
    assert expected is not None
    kernel = loss.softmax_gradient(target, classes)
    (slope,) = run_kernel(kernel, target, out, given(to_lanes(dy)), given(to_lanes(x)))
    if classes == 1:
        assert np.abs(slope).max() < 1e-6  # y is always 1
    else:
        check_close(from_lanes(slope), expected, factor=4)


def _cross_entropy(target: Target, x: Any, labels: Any, scale: Any) -> list[Any]:
    classes, width = x.shape[1], target.width
    kernel = loss.cross_entropy(target, classes)
    outs = [wanted(classes, width), wanted(width), wanted(width)]
    tables = [given(to_lanes(x)), given(labels, np.int32), given(scale)]
    dx, losses, correct = run_kernel(kernel, target, *outs, *tables)
    return [from_lanes(dx), losses, correct]


@pytest.mark.parametrize("classes", CLASSES)
def test_cross_entropy(classes: int, target: Target) -> None:
    width = target.width
    x = 3 * normal_numbers(classes, width, classes)
    labels = np.arange(width) % classes
    scale = np.full(width, 1 / width)
    scale[-1] = 0  # a lane beyond the batch
    dx, losses, correct = _cross_entropy(target, x, labels, scale)
    operation = find_operation("cross_entropy")
    expected, _ = operation.gradient({}, scale, [x, labels])
    assert expected is not None and (dx[-1] == 0).all()
    if classes == 1:
        assert np.abs(dx).max() < 1e-7 and np.abs(losses).max() < 1e-6
    else:
        check_close(dx, expected, factor=4)
        check_close(losses, operation.reference({}, [x, labels]), factor=4)
    check_equal(correct, x.argmax(axis=1) == labels, dense=0)


def test_the_first_of_equal_logits_counts(target: Target) -> None:
    width = target.width
    x = np.zeros((width, 4), np.float32)
    x[:, 0] = -1
    x[:, 3] = -2  # classes 1 and 2 are equal and largest
    labels = np.arange(width) % 4
    _, _, correct = _cross_entropy(target, x, labels, np.full(width, 1.0))
    check_equal(correct, labels == 1, dense=0.2)


@pytest.mark.parametrize("shift", [1000.0, -1000.0, 2.0**23, -3e38, 3e38])
def test_large_logits_neither_overflow_nor_cancel(shift: float, target: Target) -> None:
    width = target.width
    plain = np.tile(np.array([0, 40, -200, 3], np.float32), (width, 1))
    labels, scale = np.arange(width) % 4, np.full(width, 0.5)
    found = _cross_entropy(target, plain + np.float32(shift), labels, scale)
    assert all(np.isfinite(a).all() for a in found)
    if abs(shift) < 1e38:  # the differences are exact, so nothing may change
        for a, b in zip(found, _cross_entropy(target, plain, labels, scale), strict=True):
            check_equal(a, b, dense=0.2)
    soft = loss.softmax(target, 4)
    lanes = given(to_lanes(plain + np.float32(shift)))
    (y,) = run_kernel(soft, target, wanted(4, width), lanes)
    check_close(y.sum(axis=0), np.ones(width))


def test_nan_is_not_hidden(target: Target) -> None:
    width = target.width
    x = normal_numbers(0, width, 3)
    x[1, 2] = np.nan
    dx, losses, correct = _cross_entropy(target, x, np.zeros(width), np.full(width, 1.0))
    assert np.isnan(losses[1]) and np.isnan(dx[1]).any() and correct[1] == 0
    assert np.isfinite(np.delete(losses, 1)).all() and np.isfinite(np.delete(dx, 1, 0)).all()


@pytest.mark.parametrize("elements", [1, 2, 10, 33])
def test_squared_error(elements: int, target: Target) -> None:
    width = target.width
    x, t = (normal_numbers(k, width, elements) for k in (0, 1))
    scale = np.full(width, 1 / width)
    scale[0] = 0
    kernel = loss.squared_error(target, elements)
    inputs = [given(to_lanes(x)), given(to_lanes(t)), given(scale)]
    dx, losses = run_kernel(kernel, target, wanted(elements, width), wanted(width), *inputs)
    operation = find_operation("mse_loss")
    check_close(losses, operation.reference({}, [x, t]))
    expected = operation.gradient({}, scale, [x, t])[0]
    assert expected is not None
    check_close(from_lanes(dx), expected)
