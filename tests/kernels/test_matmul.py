"""Fully connected layers on rows: forward and all gradients, exact numbers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from harness import (
    Argument,
    changed,
    check_close,
    check_equal,
    compile_ahead,
    given,
    normal_numbers,
    run_kernel,
    whole_numbers,
)

from striate.codegen.compiler import compile_modules
from striate.codegen.targets import TARGETS, Target
from striate.formula.expression import Var, maximum
from striate.kernels.kernel import Tail
from striate.kernels.matmul import (
    LinearOptions,
    linear,
    linear_input_gradient,
    linear_weight_gradient,
    rows_bias_gradient,
)
from striate.kernels.matmul_gradient import InputGradientOptions
from striate.kernels.routine import Recipe, Routine, whole_vectors

Arrays = dict[str, Any]
PARAMETERS = ("weight", "bias", "dw", "db")
ADD_AND_CUT = Tail(maximum(Var("v") + Var("e0"), 0.0), extras=1, keep=True)
SAMPLES = (1, 2, 3, 4, 7, 9)


# ---- running a recipe as a program would ---------------------------------------------------------


def run_recipe(made: Recipe, target: Target, samples: int, arrays: Arrays) -> None:
    """Run all items of all steps; `arrays` hold rows, parameters, and the outputs."""
    for buffer in made.buffers:
        arrays[buffer.name] = np.full((samples, buffer.per_sample), np.nan, np.float32)
    for step in made.steps:
        size = step.samples or samples
        for part in reversed(range(step.parts)):
            for first in range(0, samples, size):
                _run_item(step, target, arrays, part, slice(first, min(first + size, samples)))


def _run_item(step: Routine, target: Target, arrays: Arrays, part: int, item: slice) -> None:
    names = step.kernel.arguments
    known: dict[str, Argument] = {"part:i64": part, "samples:i64": item.stop - item.start}
    known["scratch"] = changed(np.full(step.scratch, np.nan))
    written = {n: arrays[n] for n in (names[0], "kept") if n in names}
    pieces = {n: a if n in PARAMETERS else a[item] for n, a in arrays.items()}
    for name in names:
        if name.endswith("_step:i64"):
            known[name] = arrays[name.removesuffix("_step:i64")].shape[1]
        elif name in written:
            known[name] = changed(pieces[name])
        elif name not in known:
            known[name] = given(pieces[name])
    results = run_kernel(step.kernel, target, *(known[name] for name in names))
    changing = [n for n in names if n in written or n == "scratch"]
    for name, result in zip(changing, results, strict=True):
        if name in written:
            pieces[name][...] = result


def rows(target: Target, values: Any, room: int = 0) -> Any:
    """Values as rows of whole vectors and some more, NaN beyond the last feature."""
    width = whole_vectors(values.shape[1], target) - values.shape[1] + room
    return np.pad(values, ((0, 0), (0, width)), constant_values=np.nan)


def _empty(target: Target, samples: int, features: int) -> Any:
    return rows(target, np.full((samples, features), np.nan, np.float32), target.width)


def _shapes(target: Target) -> list[tuple[int, int]]:
    """(outputs, inputs): around vectors, quads, blocks of outputs and tiles of inputs."""
    w = target.width
    inputs = (1, w - 1, w, w + 1, 16, 2 * w + 1, 3 * w, 6 * w + 3)
    outputs = (1, 3, 4, w, w + 1, 15, 17, 35)
    return [*((5, k) for k in inputs), *((o, 2 * w + 3) for o in outputs)]


def compile_recipes(recipes: list[Recipe], target: Target) -> None:
    compile_ahead([step.kernel for made in recipes for step in made.steps], target)


# ---- forward ---------------------------------------------------------------------------------

OPTIONS = (
    LinearOptions(),
    LinearOptions(chunk=16, rows=8, group=4, few=0, ahead=16),
    LinearOptions(chunk=32, rows=16, group=5, few=4),
)


def _check_linear(
    target: Target, made: Recipe, shape: tuple[int, int], samples: int, tail: Tail | None
) -> None:
    outputs, inputs = shape
    x, w = whole_numbers(0, samples, inputs), whole_numbers(1, outputs, inputs, most=3)
    bias, extra = whole_numbers(2, outputs), whole_numbers(3, samples, outputs, most=20)
    arrays: Arrays = {"source": x, "weight": w, "bias": rows(target, bias[None])[0]}
    names = {n for step in made.steps for n in step.kernel.arguments}
    y = x.astype(float) @ w.T + (bias if "bias" in names else 0)
    arrays["out"] = _empty(target, samples, outputs)
    if tail:
        arrays |= {"e0": rows(target, extra), "kept": _empty(target, samples, outputs)}
    run_recipe(made, target, samples, arrays)
    if tail:
        check_equal(arrays["kept"][:, :outputs], y)
        y = np.maximum(y + extra, 0)
    check_equal(arrays["out"][:, :outputs], y, dense=0.0 if tail else 0.5)
    room = whole_vectors(outputs, target)
    assert np.isnan(arrays["out"][:, room:]).all(), "written behind the row's room"


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_linear(target: Target, number: int) -> None:
    make = functools.partial(linear, target, options=OPTIONS[number])
    shapes = _shapes(target) if number == 0 else _shapes(target)[number::3]
    made = {s: make(*s, bias=s[0] % 2 == 1) for s in shapes}
    compile_recipes(list(made.values()), target)
    for at, (shape, recipe) in enumerate(made.items()):
        for samples in (SAMPLES[at % len(SAMPLES)], 1 + at, 18)[: 3 if at % 4 == 0 else 2]:
            _check_linear(target, recipe, shape, samples, None)


def test_linear_with_a_tail(target: Target) -> None:
    shapes = [(target.width + 3, 19), (3, 40)]
    made = [linear(target, *s, True, ADD_AND_CUT) for s in shapes]
    compile_recipes(made, target)
    for shape, recipe in zip(shapes, made, strict=True):
        for samples in (1, 5, 17):
            _check_linear(target, recipe, shape, samples, ADD_AND_CUT)


def test_linear_of_many_samples_and_parts(target: Target) -> None:
    shape = (150, 530)
    made = linear(target, *shape, True)
    compile_recipes([made], target)
    for samples in (3, 64, 130):
        _check_linear(target, made, shape, samples, None)


def test_linear_without_a_copy_of_the_weights(target: Target) -> None:
    shape = (20, 64)
    _check_linear(target, linear(target, *shape, False), shape, 19, None)


def test_linear_rounds_little(target: Target) -> None:
    made = linear(target, 33, 5000, False)
    for samples in (1, 5, 20):
        x, w = normal_numbers(0, samples, 5000), normal_numbers(1, 33, 5000)
        arrays: Arrays = {"source": x, "weight": w, "out": _empty(target, samples, 33)}
        run_recipe(made, target, samples, arrays)
        check_close(arrays["out"][:, :33], x.astype(float) @ w.T)


# ---- gradients -------------------------------------------------------------------------------


def _check_input_gradient(
    target: Target, made: Recipe, shape: tuple[int, int], samples: int, tail: Tail | None = None
) -> None:
    outputs, inputs = shape
    dy, w = whole_numbers(0, samples, outputs), whole_numbers(1, outputs, inputs, most=3)
    extra = whole_numbers(2, samples, inputs, most=20)
    arrays: Arrays = {"dy": rows(target, dy), "weight": w, "out": _empty(target, samples, inputs)}
    if tail:
        arrays |= {"e0": rows(target, extra), "kept": _empty(target, samples, inputs)}
    run_recipe(made, target, samples, arrays)
    dx = dy.astype(float) @ w
    if tail:
        check_equal(arrays["kept"][:, :inputs], dx)
        dx = np.maximum(dx + extra, 0)
    check_equal(arrays["out"][:, :inputs], dx, dense=0.0 if tail else 0.5)
    room = whole_vectors(inputs, target)
    assert np.isnan(arrays["out"][:, room:]).all(), "written behind the row's room"


@pytest.mark.parametrize(
    "options", [InputGradientOptions(), InputGradientOptions(chunk=16, columns=48, group=5)]
)
def test_linear_input_gradient(target: Target, options: InputGradientOptions) -> None:
    shapes = _shapes(target)[options.chunk == 16 :: 2]
    made = {s: linear_input_gradient(target, *s, options=options) for s in shapes}
    compile_recipes(list(made.values()), target)
    for at, (shape, recipe) in enumerate(made.items()):
        for samples in (SAMPLES[at % len(SAMPLES)], 1 + at):
            _check_input_gradient(target, recipe, shape, samples)


def test_linear_input_gradient_with_a_tail(target: Target) -> None:
    """Many parts; weights read where they are."""
    made = {s: linear_input_gradient(target, *s, tail=ADD_AND_CUT) for s in [(300, 600), (70, 80)]}
    compile_recipes(list(made.values()), target)
    for shape, recipe in made.items():
        for samples in (1, 19, 65):
            _check_input_gradient(target, recipe, shape, samples, ADD_AND_CUT)


def test_linear_input_gradient_where_few_samples_are_expected(target: Target) -> None:
    made = {s: linear_input_gradient(target, *s, batch=1) for s in _shapes(target)[::2]}
    compile_recipes(list(made.values()), target)
    for at, (shape, recipe) in enumerate(made.items()):
        _check_input_gradient(target, recipe, shape, SAMPLES[at % len(SAMPLES)])


@pytest.mark.parametrize("shape", [(301, 600), (7, 16421)])
def test_linear_input_gradient_of_few_samples_in_parts(
    target: Target, shape: tuple[int, int]
) -> None:
    """Parts that add up, sums in more than one block of columns, a tail."""
    made = linear_input_gradient(target, *shape, tail=ADD_AND_CUT, batch=2)
    compile_recipes([made], target)
    assert made.steps[0].parts > 1
    for samples in (1, 10):
        _check_input_gradient(target, made, shape, samples, ADD_AND_CUT)


def test_linear_weight_gradient(target: Target) -> None:
    made = {s: linear_weight_gradient(target, *s) for s in [*_shapes(target), (40, 300)]}
    compile_recipes(list(made.values()), target)
    for at, ((outputs, inputs), recipe) in enumerate(made.items()):
        for samples in (SAMPLES[at % len(SAMPLES)], 11):
            dy, x = whole_numbers(0, samples, outputs), whole_numbers(1, samples, inputs, most=3)
            dw = np.full((outputs, inputs), np.nan, np.float32)
            arrays: Arrays = {"dw": dw, "dy": rows(target, dy, target.width), "x": x}
            run_recipe(recipe, target, samples, arrays)
            check_equal(dw, dy.astype(float).T @ x)


def test_a_part_of_the_weight_gradient_is_a_block_of_rows(target: Target) -> None:
    made = linear_weight_gradient(target, 35, 9)
    compile_recipes([made], target)
    dy, x = whole_numbers(0, 3, 35), whole_numbers(1, 3, 9)
    arrays: Arrays = {"dw": np.full((35, 9), np.nan, np.float32), "dy": rows(target, dy), "x": x}
    run_recipe(made, target, 3, arrays)
    arrays["dw"][...] = np.nan
    _run_item(made.steps[-1], target, arrays, 1, slice(0, 3))
    expected = np.full((35, 9), np.nan)
    expected[16:32] = (dy.astype(float).T @ x)[16:32]
    check_equal(arrays["dw"], expected)


def test_rows_bias_gradient(target: Target) -> None:
    sizes = (1, target.width - 1, target.width, 4 * target.width + 1, 600)
    made = {o: rows_bias_gradient(target, o) for o in sizes}
    compile_recipes(list(made.values()), target)
    for outputs, recipe in made.items():
        dy = whole_numbers(0, 7, outputs)
        arrays: Arrays = {"db": np.full(outputs, np.nan, np.float32), "dy": rows(target, dy)}
        run_recipe(recipe, target, 7, arrays)
        check_equal(arrays["db"], dy.astype(float).sum(axis=0))


# ---- targets that are only compiled ------------------------------------------------------------


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
def test_other_targets_compile(name: str) -> None:
    target = TARGETS[name]
    made = [
        linear(target, 37, 41, True, ADD_AND_CUT),
        linear_input_gradient(target, 37, 41, ADD_AND_CUT),
        linear_input_gradient(target, 37, 41, ADD_AND_CUT, batch=1),
        linear_weight_gradient(target, 37, 41),
        rows_bias_gradient(target, 37),
    ]
    modules = [step.kernel.module for recipe in made for step in recipe.steps]
    assert all(compile_modules(modules, target))
