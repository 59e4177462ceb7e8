"""Operations that have nothing but their formula, inside networks, in both kinds of programs.

Each case of `tests/formula` becomes a network: its inputs are cut out of the network's, its
parameters are the network's, and a fully connected layer follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from harness import check_close
from networks import Net, Problem
from three_steps import check_three_steps

from striate.codegen.targets import current_target
from striate.formula.operations import find_operation
from striate.optim import SGD
from striate.program.blocked_native import BlockedProgram
from striate.program.blocked_train import BlockedTraining
from striate.program.native import NativeInference, NativeTraining
from striate.program.reference import ReferenceInference

Case = tuple[str, dict[str, Any], list[Any]]
CASES: dict[str, Case] = import_module("tests.formula.conftest").CASES
OPTIMIZER = SGD(0.1, momentum=0.9)
WITHOUT = ("batch_norm", "batch_norm_training")  # trained by rules of their own


@dataclass(frozen=True)
class CaseProblem(Problem):
    """A case's operation (its value is `result`) before a fully connected layer."""

    result: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[int, Any] = field(default_factory=dict)  # indices and the like, by column

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), **self.given}

    def images(self, count: int) -> Any:
        found = super().images(count)
        for column, array in self.numbers.items():
            rows = np.resize(array, (count, *array.shape[1:])).reshape(count, -1)
            found[:, column : column + rows.shape[1]] = rows
        return found


def built(case: Case) -> CaseProblem:
    op, attributes, arrays = case
    operation = find_operation(op)
    names = operation.argument_names(attributes, len(arrays))
    batched = [n not in operation.shared(attributes) for n in names]
    sizes = [math.prod(a.shape[1:]) for a, own in zip(arrays, batched, strict=True) if own]
    net, at, inputs, given, numbers = Net(sum(sizes)), 0, [], {}, {}
    for k, (array, own) in enumerate(zip(arrays, batched, strict=True)):
        if not own:
            inputs.append(net.parameter(f"p{k}", *array.shape))
            given[inputs[-1]] = array.astype(np.float32)
            continue
        size = math.prod(array.shape[1:])
        if not operation.differentiable(names[k]):
            numbers[at] = array
        part = net.op("slice", "x", axis=1, start=at, stop=at + size)
        inputs.append(net.op("reshape", part, shape=list(array.shape[1:])))
        at += size
    result = net.op(op, *inputs, **attributes)
    count = math.prod(net.graph.nodes[result].shape)
    flat = net.op("reshape", result, shape=[count])
    return CaseProblem(net.done(net.linear(flat, 3)), "cross_entropy", result, given, numbers)


def usable(case: Case) -> bool:
    operation = find_operation(case[0])
    return operation.has_formula and not operation.is_loss and case[0] not in WITHOUT


USED = {name: case for name, case in CASES.items() if usable(case)}


@pytest.fixture(params=USED, name="problem")
def _problem(request: pytest.FixtureRequest) -> CaseProblem:
    return built(USED[request.param])


def test_inner_values(problem: CaseProblem) -> None:
    parameters, target = problem.parameters(), current_target()
    count, names = target.width + 3, [problem.result]
    x = problem.images(count)
    expected = ReferenceInference(problem.graph).exact(x, parameters, names)[problem.result]
    native = NativeInference(problem.graph).values(x, parameters, names)[problem.result]
    blocked = BlockedProgram(problem.graph, target, names, 1).run(x, count, parameters)[0]
    check_close(native, expected, factor=8, dense=0.05)
    check_close(blocked, expected, factor=8, dense=0.05)


@pytest.mark.parametrize("kind", [NativeTraining, BlockedTraining])
def test_three_steps_of_training(problem: CaseProblem, kind: Any) -> None:
    training = kind(problem.graph, "cross_entropy", OPTIMIZER.rule())
    check_three_steps(training, problem, OPTIMIZER, count=45, batch=19, factor=60)
