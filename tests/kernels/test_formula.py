"""Kernels made from formulas, against the formulas in float64: every operation, all gradients."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from harness import Argument, changed, check_close, given, run_kernel, wanted

from striate.codegen.targets import TARGETS, Target, current_target, runs_here
from striate.errors import CompileError
from striate.formula.formula import Formula
from striate.formula.operations import find_operation
from striate.kernels.formula import FormulaKernel, formula_kernel, rows_gradient

HERE = [target for target in TARGETS.values() if runs_here(target)]
Case = tuple[str, dict[str, Any], list[Any]]
CASES: dict[str, Case] = import_module("tests.formula.conftest").CASES


def problem(case: Case, batch: int) -> tuple[Formula, dict[str, Any], tuple[str, ...]]:
    """The formula for a batch of this size, its tensors, and the names of the parameters."""
    op, attributes, arrays = case
    operation = find_operation(op)
    names = operation.argument_names(attributes, len(arrays))
    shared = {n for n in names if n in operation.shared(attributes)}
    sized = [
        a if n in shared else np.resize(a, (batch, *a.shape[1:]))
        for n, a in zip(names, arrays, strict=True)
    ]
    formula, tensors = operation.bind(attributes, sized)
    rng = np.random.default_rng(0)
    for name, array in tensors.items():  # the samples differ
        if name not in shared and name != "t" and operation.differentiable(name):
            tensors[name] = array + rng.normal(size=array.shape) / 8
    return formula, {n: np.float32(a).astype(np.float64) for n, a in tensors.items()}, tuple(shared)


def in_lanes(array: Any) -> Any:
    return np.moveaxis(array, 0, -1)


def arguments(made: FormulaKernel, tensors: dict[str, Any]) -> list[Argument]:
    found: list[Argument] = [
        given(in_lanes(tensors[n]) if n in made.batched else tensors[n]) for n in made.tensors
    ]
    return [*found, wanted(made.scratch)]


MIXED = "batch_norm_training"  # mixes the samples of a batch: it has kernels of its own
FORMULAS = {
    name: case
    for name, case in CASES.items()
    if find_operation(case[0]).has_formula and case[0] != MIXED
}


def test_mixed_samples_are_refused() -> None:
    case = next(case for case in CASES.values() if case[0] == MIXED)
    formula, _, _ = problem(case, 4)
    with pytest.raises(CompileError, match="mixes the samples of a batch"):
        formula_kernel(current_target(), formula)


@pytest.mark.parametrize(
    "target", [t for t in TARGETS.values() if runs_here(t)], ids=lambda t: t.name
)
@pytest.mark.parametrize("name", FORMULAS)
def test_forward_and_gradients(name: str, target: Target) -> None:
    width = target.width
    formula, tensors, shared = problem(FORMULAS[name], width)
    made = formula_kernel(target, formula)
    reference = formula.reference(**tensors)
    (*result, _) = run_kernel(
        made.kernel, target, wanted(*reference.shape[1:], width), *arguments(made, tensors)
    )
    check_close(
        result[0].reshape(in_lanes(reference).shape), in_lanes(reference), factor=4, dense=0.05
    )
    upstream = np.random.default_rng(1).normal(size=reference.shape).astype(np.float32)
    operation = find_operation(FORMULAS[name][0])
    wished = [n for n in tensors if operation.differentiable(n)]
    expected = formula.gradient(upstream, wanted=wished, **tensors)
    wished = [n for n in wished if expected[n].any() or n != "t"]  # a target that only chooses
    both = {**tensors, "upstream": upstream}
    for to in wished:
        made = formula_kernel(target, formula, to)
        if to in shared:
            out: Argument = changed(np.ones(expected[to].shape))
            exact = expected[to] + 1
        else:
            exact = in_lanes(expected[to])
            out = wanted(*exact.shape)
        found = run_kernel(made.kernel, target, out, *arguments(made, both))
        check_close(found[0].reshape(np.shape(exact)), exact, factor=8, dense=0.01)


@pytest.mark.parametrize("batch", [1, 15, 17])
@pytest.mark.parametrize("name", [n for n in FORMULAS if n.startswith(("conv", "linear"))])
def test_gradient_to_parameters_of_rows(name: str, batch: int) -> None:
    target = current_target()
    formula, tensors, shared = problem(FORMULAS[name], batch)
    upstream = np.random.default_rng(1).normal(size=formula.shape).astype(np.float32)
    expected = formula.gradient(upstream, wanted=shared, **tensors)
    both = {**tensors, "upstream": upstream}
    for to in shared:
        made = rows_gradient(target, formula, to)
        steps = [int(np.prod(both[n].shape[1:])) for n in made.tensors if n in made.batched]
        rows = [given(both[n]) for n in made.tensors]
        extra: list[Argument] = [*steps, batch, wanted(made.scratch)]
        found = run_kernel(made.kernel, target, wanted(*expected[to].shape), *rows, *extra)
        check_close(found[0], expected[to], factor=8)
