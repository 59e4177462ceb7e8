"""Optimiser steps of every rule, and the sum of the pieces' gradients."""

from __future__ import annotations

import numpy as np
import pytest
from harness import (
    changed,
    check_close,
    check_equal,
    given,
    normal_numbers,
    run_kernel,
    wanted,
    whole_numbers,
)

from striate.codegen.targets import Target
from striate.formula.update import apply_numpy
from striate.kernels.update import sum_pieces, update
from striate.optim import SGD, Adam, AdamW, RMSProp
from striate.optim.optimizer import Optimizer

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.1),
    "sgd decay": SGD(0.1, weight_decay=0.01),
    "momentum": SGD(0.1, momentum=0.9),
    "nesterov decay": SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": Adam(0.01),
    "adam decay": Adam(0.01, weight_decay=0.1),
    "adamw": AdamW(0.01, weight_decay=0.1),
    "rmsprop": RMSProp(0.01),
    "rmsprop momentum decay": RMSProp(0.01, momentum=0.5, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update(name: str, target: Target) -> None:
    optimizer = OPTIMIZERS[name]
    rule = optimizer.rule()
    kernel = update(target, rule)
    for vectors in (1, 5):
        shape = (vectors, target.width)
        p, g, *states = (normal_numbers(k, *shape) for k in range(2 + len(rule.state)))
        states = [np.abs(s) + np.float32(0.1) for s in states]
        hyper = np.array(optimizer.hyper(3, 0.05), np.float32)
        arrays = [changed(a) for a in (p, g, *states)]
        found = run_kernel(kernel, target, *arrays, given(hyper), vectors)
        numbers = dict(zip(rule.hyper, map(float, hyper), strict=True))
        given_states = dict(zip(rule.state, states, strict=True))
        expected, after = apply_numpy(rule, p, g, given_states, numbers)
        check_close(found[0], expected)
        for state, array in zip(rule.state, found[2:], strict=True):
            check_close(array, after[state])
        assert not np.array_equal(found[0], p)


def test_update_touches_what_it_is_told_to(target: Target) -> None:
    optimizer = OPTIMIZERS["momentum"]
    arrays = [normal_numbers(k, 4, target.width) for k in range(3)]
    hyper = given(np.array(optimizer.hyper(0, 0.05), np.float32))
    kernel = update(target, optimizer.rule())
    found = run_kernel(kernel, target, *map(changed, arrays), hyper, 2)
    for after, before in zip(found, arrays, strict=True):
        assert np.array_equal(after[2:], before[2:])
    none = run_kernel(kernel, target, *map(changed, arrays), hyper, 0)
    assert all(np.array_equal(a, b) for a, b in zip(none, arrays, strict=True))


def test_sum_pieces(target: Target) -> None:
    kernel, w = sum_pieces(target), target.width
    pieces = whole_numbers(0, 5, 6 * w)
    for used in (1, 2, 5):
        for vectors in (1, 6):
            (g,) = run_kernel(
                kernel, target, wanted(vectors, w), given(pieces), 6 * w, used, vectors
            )
            expected = pieces[:used, : vectors * w].sum(axis=0).reshape(vectors, w)
            check_equal(g, expected, dense=0.3)
