"""No vector goes through the stack in the inner loops of fully connected layers on rows."""

from __future__ import annotations

import pytest
from spills import spills_in_loops, vector_spills

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS
from striate.kernels.fingerprint import fingerprint
from striate.kernels.kernel import Kernel
from striate.kernels.matmul import linear, linear_input_gradient, linear_weight_gradient
from striate.kernels.routine import Recipe

SHAPES = [(1000, 512), (1000, 2048), (120, 400)]  # outputs, inputs
MAKERS = {
    "forward": lambda target, o, i: linear(target, o, i, bias=True),
    "to input": linear_input_gradient,
    "to input of few samples": lambda target, o, i: linear_input_gradient(target, o, i, batch=1),
    "to weight": linear_weight_gradient,
}


def _assembly(kernel: Kernel, level: str) -> str:
    return assembly(kernel.module.text, TARGETS[f"x86-64-{level}"])


def _made(what: str, level: str, shape: tuple[int, int]) -> Recipe:
    made: Recipe = MAKERS[what](TARGETS[f"x86-64-{level}"], *shape)
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("what", MAKERS)
@pytest.mark.parametrize("level", ["v3", "v4"])
def test_no_spills(level: str, what: str, shape: tuple[int, int]) -> None:
    for step in _made(what, level, shape).steps:
        assert spills_in_loops(_assembly(step.kernel, level)) == 0


@pytest.mark.parametrize("what", MAKERS)
def test_few_where_rows_end_within_a_vector(what: str) -> None:
    """The code for a row's end, which runs once a row, may have some."""
    for step in _made(what, "v3", (1000, 1030)).steps:
        assert spills_in_loops(_assembly(step.kernel, "v3")) <= 4


@pytest.mark.parametrize("what", MAKERS)
def test_few_spills_on_the_oldest_target(what: str) -> None:
    for step in _made(what, "v2", (1000, 512)).steps:
        assert spills_in_loops(_assembly(step.kernel, "v2")) <= 4


@pytest.mark.parametrize("level", ["v3", "v4"])
def test_fingerprint_has_none(level: str) -> None:
    kernel = fingerprint(TARGETS[f"x86-64-{level}"])
    assert vector_spills(_assembly(kernel, level)) == 0
