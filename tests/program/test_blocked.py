"""Blocked programs against the reference: every inner value, every trained number."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from blocked_networks import BLOCKED_BUILDERS
from harness import check_close
from networks import BUILDERS, Problem
from three_steps import check_three_steps

from striate import settings
from striate.codegen.targets import Target, current_target
from striate.optim import SGD
from striate.program.blocked_native import BlockedProgram
from striate.program.blocked_train import BlockedTraining
from striate.program.reference import ReferenceInference

OPTIMIZER = SGD(0.1, momentum=0.9, weight_decay=0.01)
RULE = OPTIMIZER.rule()


@cache
def _built(name: str) -> Problem:
    return {**BUILDERS, **BLOCKED_BUILDERS}[name]()


@pytest.fixture(params=[*BUILDERS, *BLOCKED_BUILDERS])
def problem(request: pytest.FixtureRequest) -> Problem:
    return _built(request.param)


def hyper(steps: int) -> Any:
    rows = [OPTIMIZER.hyper(k, 0.1) for k in range(steps)]
    return np.array(rows, np.float32).reshape(steps, len(RULE.hyper))


def run(problem: Problem, target: Target, names: list[str], x: Any, parameters: Any) -> Any:
    program = BlockedProgram(problem.graph, target, names, 1)
    return dict(zip(names, program.run(x, len(x), parameters), strict=True))


def test_inner_values(problem: Problem, target: Target) -> None:
    parameters, names = problem.parameters(), problem.inner()
    reference = ReferenceInference(problem.graph)
    for count in (3, target.width + 1):
        x = problem.images(count)
        expected = reference.exact(x, parameters, names)
        found = run(problem, target, names, x, parameters)
        for name in names:
            check_close(found[name], expected[name], factor=30, dense=0.05)
        output = problem.graph.outputs[0]
        check_close(
            run(problem, target, [output], x, parameters)[output], expected[output], factor=30
        )


def test_three_steps_of_training(problem: Problem, target: Target) -> None:
    native = BlockedTraining(problem.graph, problem.loss, RULE, target)
    check_three_steps(native, problem, OPTIMIZER, count=29, batch=11, factor=60)


def test_threads_do_not_change_a_bit(problem: Problem) -> None:
    x, t = problem.images(13), problem.targets(13)
    found, before = [], settings.get_num_threads()
    try:
        for threads in (1, 2, 3):
            settings.set_num_threads(threads)
            training = BlockedTraining(problem.graph, problem.loss, RULE)
            for name, value in problem.parameters().items():
                training.parameters[name][...] = value
            result = training.run(x, t, np.arange(13), batch_size=5, hyper=hyper(3))
            program = BlockedProgram(problem.graph, current_target(), problem.graph.outputs, 1)
            (y,) = program.run(x, 13, problem.parameters())
            arrays = [*training.parameters.values(), result.losses, y]
            found.append([a.tobytes() for a in arrays])
    finally:
        settings.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_weights_changed_in_place_are_noticed(lenet: Problem) -> None:
    parameters = lenet.parameters()
    program = BlockedProgram(lenet.graph, current_target(), lenet.graph.outputs, 1)
    x = lenet.images(2)
    (first,) = program.run(x, 2, parameters)
    assert np.array_equal(program.run(x, 2, parameters)[0], first)
    parameters["conv2.weight"][3, 2, 1, 1] += 1
    (changed,) = program.run(x, 2, parameters)
    expected = ReferenceInference(lenet.graph).run(x, parameters)
    assert not np.array_equal(changed, first)
    check_close(changed, expected, factor=30)


@pytest.mark.parametrize(
    "name", ["lenet", "branches", "concat and slice", "residual norms", "joined blocks"]
)
def test_memory_is_near_its_lower_bound(name: str) -> None:
    problem = _built(name)
    plan = BlockedTraining(problem.graph, problem.loss, RULE).plan
    assert plan.memory.values.size <= 1.15 * plan.memory.values.lower_bound


def test_large_batches_go_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _built("residual norms")
    program = BlockedProgram(problem.graph, current_target(), problem.graph.outputs, 1)
    x, parameters = problem.images(11), problem.parameters()
    (whole,) = program.run(x, 11, parameters)
    size = program.plan.memory.values.size
    monkeypatch.setattr("striate.program.blocked_native._MOST_FLOATS", 4 * size)
    (pieces,) = program.run(x, 11, parameters)
    check_close(pieces, whole, factor=4)  # tiles of samples are cut otherwise: sums round so too
