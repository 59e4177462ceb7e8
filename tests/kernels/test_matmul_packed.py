"""Fully connected layers with packed weights: exact numbers, odd sizes, any number of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_close, check_equal, normal_numbers, whole_numbers
from spills import spills_in_loops
from test_matmul import ADD_AND_CUT, Arrays, compile_recipes, rows, run_recipe

from striate.codegen.compiler import assembly, compile_modules
from striate.codegen.targets import TARGETS, Target
from striate.kernels.kernel import Tail
from striate.kernels.matmul_packed import PackedOptions, linear_packed
from striate.kernels.routine import Recipe, whole_vectors

SMALL = PackedOptions(chunk=16, pairs=1, group=9, ahead=16)


def _packed(target: Target, w: Any) -> Any:
    """w[o, k] as packed[block][k][lane], one block after the other as rows (a parameter)."""
    outputs, inputs = w.shape
    all_rows = np.zeros((whole_vectors(outputs, target), inputs), np.float32)
    all_rows[:outputs] = w
    blocked = all_rows.reshape(-1, target.width, inputs).transpose(0, 2, 1)
    return np.ascontiguousarray(blocked)


def _check(
    target: Target, made: Recipe, shape: tuple[int, int], samples: int, tail: Tail | None = None
) -> None:
    outputs, inputs = shape
    x, w = whole_numbers(0, samples, inputs), whole_numbers(1, outputs, inputs, most=3)
    bias, extra = whole_numbers(2, outputs), whole_numbers(3, samples, outputs, most=20)
    arrays: Arrays = {"source": x, "weight": _packed(target, w)}
    arrays["bias"] = rows(target, bias[None])[0]
    arrays["out"] = rows(target, np.full((samples, outputs), np.nan, np.float32), target.width)
    names = {n for step in made.steps for n in step.kernel.arguments}
    y = x.astype(float) @ w.T + (bias if "bias" in names else 0)
    if tail:
        arrays |= {"e0": rows(target, extra), "kept": np.full_like(arrays["out"], np.nan)}
    run_recipe(made, target, samples, arrays)
    if tail:
        check_equal(arrays["kept"][:, :outputs], y)
        y = np.maximum(y + extra, 0)
    check_equal(arrays["out"][:, :outputs], y, dense=0.0 if tail else 0.5)
    room = whole_vectors(outputs, target)
    assert np.isnan(arrays["out"][:, room:]).all(), "written behind the row's room"


def _shapes(target: Target) -> list[tuple[int, int]]:
    w = target.width
    outputs = (1, w, w - 1, 2 * w + 1, 5 * w - 1, 2 * w)
    inputs = (2, 3, 1, 16, 5, 17, 33, 70)
    return [*((o, 19) for o in outputs), *((2 * w + 3, k) for k in inputs)]


@pytest.mark.parametrize("options", [None, SMALL])
def test_packed(target: Target, options: PackedOptions | None) -> None:
    shapes = _shapes(target)[options is None :: 4]
    made = {s: linear_packed(target, *s, s[0] % 2 == 1, None, options=options) for s in shapes}
    compile_recipes(list(made.values()), target)
    for at, (shape, recipe) in enumerate(made.items()):
        for samples in (1 + at, 10 + at):
            _check(target, recipe, shape, samples)


def test_packed_with_a_tail(target: Target) -> None:
    shape = (3 * target.width + 1, 41)
    made = linear_packed(target, *shape, True, ADD_AND_CUT, options=SMALL)
    for samples in (1, 6, 17):
        _check(target, made, shape, samples, ADD_AND_CUT)


def test_packed_in_several_chunks_groups_and_parts(target: Target) -> None:
    shape = (150, 530)
    made = linear_packed(target, *shape, True, options=PackedOptions(pairs=3))
    assert made.steps[-1].parts > 1
    for samples in (3, 200):
        _check(target, made, shape, samples)


def test_packed_rounds_little(target: Target) -> None:
    x, w = normal_numbers(0, 7, 5000), normal_numbers(1, 33, 5000)
    arrays: Arrays = {"source": x, "weight": _packed(target, w)}
    arrays["out"] = rows(target, np.full((7, 33), np.nan, np.float32))
    run_recipe(linear_packed(target, 33, 5000, False), target, 7, arrays)
    check_close(arrays["out"][:, :33], x.astype(float) @ w.T)


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
def test_inner_loops_keep_to_the_registers(name: str) -> None:
    target = TARGETS[name]
    made = linear_packed(target, 40, 512, True, ADD_AND_CUT)
    assert spills_in_loops(assembly(made.steps[-1].kernel.module.text, target)) == 0


def test_packed_compiles_for_other_targets() -> None:
    for name in ("x86-64-v4", "aarch64"):
        target = TARGETS[name]
        made = linear_packed(target, 37, 41, True, ADD_AND_CUT)
        modules = [step.kernel.module for step in made.steps]
        assert all(compile_modules(modules, target))
