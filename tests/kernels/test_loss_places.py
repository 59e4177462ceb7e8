"""The kernel of weighted cross-entropy against the formula."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check_close, from_lanes, given, normal_numbers, run_kernel, to_lanes, wanted

from striate.codegen.targets import Target
from striate.formula.operations import find_operation
from striate.kernels.loss_places import Weighted, weighted_cross_entropy


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("classes", "places"), [(2, 1), (3, 4), (21, 2)])
@pytest.mark.parametrize("ignored", [-100, 1, 255])
def test_weighted_cross_entropy(
    classes: int, places: int, weighted: bool, smoothing: float, ignored: int, target: Target
) -> None:
    width = target.width
    rng = np.random.default_rng(classes)
    weights = tuple(rng.uniform(0.2, 3, classes)) if weighted else None
    problem = Weighted(classes, places, weights, ignored, smoothing)
    x = 3 * normal_numbers(classes, width, classes, places)
    labels = rng.integers(0, classes, (width, places))
    labels[::3, 0] = ignored
    scale = np.linspace(0, 1, width)
    inputs = [given(to_lanes(x)), given(to_lanes(labels)), given(scale)]
    kernel = weighted_cross_entropy(target, problem)
    outs = [wanted(classes, places, width), wanted(width)]
    dx, losses = run_kernel(kernel, target, *outs, *inputs)
    attributes = {
        "weight": None if weights is None else list(weights),
        "ignore_index": ignored,
        "label_smoothing": smoothing,
    }
    operation = find_operation("weighted_cross_entropy")
    check_close(losses, operation.reference(attributes, [x, labels]), factor=8, dense=0.2)
    expected = operation.gradient(attributes, scale, [x, labels])[0]
    assert expected is not None
    check_close(from_lanes(dx), expected, factor=8, dense=0.2)


def test_one_class_and_masked_scores(target: Target) -> None:
    width = target.width
    problem = Weighted(3, 1, None, -100, 0.0)
    x = np.zeros((width, 3, 1))
    x[:, 1] = -np.inf  # never the label: it is as if the class were not there
    labels = np.where(np.arange(width) % 2, 0, 2)[:, None]
    inputs = [given(to_lanes(x)), given(to_lanes(labels)), given(np.ones(width))]
    kernel = weighted_cross_entropy(target, problem)
    dx, losses = run_kernel(kernel, target, wanted(3, 1, width), wanted(width), *inputs)
    check_close(losses, np.full(width, np.log(2)))
    assert (from_lanes(dx)[:, 1] == 0).all()
