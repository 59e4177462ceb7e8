"""Three steps of a native training beside the reference: losses, weights, the optimiser's state."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import check_close
from networks import Problem

from striate.program.reference import ReferenceTraining


def check_three_steps(
    native: Any, problem: Problem, optimizer: Any, *, count: int, batch: int, factor: float
) -> None:
    """Train both on `count` samples in uneven batches, and compare every number.

    Args:
        native: the program, not yet filled.
        problem: the network and its data.
        optimizer: whose rule the program was made with.
        count: samples, three batches of them.
        batch: their size; the last one is smaller.
        factor: by which the tolerance of single sums is widened.
    """
    reference = ReferenceTraining(problem.graph, problem.loss, optimizer.rule())
    x, t = problem.images(count), problem.targets(count)
    order = np.random.default_rng(3).permutation(count)
    hyper = np.array([optimizer.hyper(k, 0.1) for k in range(3)], np.float32)
    results = []
    for training in (native, reference):
        for name, value in problem.parameters().items():
            training.parameters[name][...] = value
        results.append(
            training.run(x, t, order, batch_size=batch, hyper=hyper, first_step=5, seed=2**40 + 7)
        )
    assert results[0].steps == results[1].steps == 3
    check_close(results[0].losses, results[1].losses, factor=factor)
    assert np.array_equal(results[0].correct, results[1].correct)
    before, share = problem.parameters(), 1e-4 * factor / 30  # 1e-4 for factor 30, 2e-4 for 60
    for name, expected in reference.parameters.items():
        check_close(native.parameters[name], expected, factor=factor, dense=0.3)
        step = np.abs(expected - before[name]).max()
        error = np.abs(native.parameters[name] - expected).max()
        assert error <= share * step + 1e-7, f"{name}: off by {error} of a step of {step}"
    for name, state in reference.state.items():
        largest = np.abs(state).max()
        assert np.abs(native.state[name] - state).max() <= share * largest + 1e-7, name
