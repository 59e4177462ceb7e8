"""Elementwise kernels: every scalar function, copies, clearing, and dropout bit for bit."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from harness import (
    Given,
    check_close,
    check_equal,
    compile_ahead,
    from_lanes,
    given,
    normal_numbers,
    run_kernel,
    to_lanes,
    wanted,
    whole_numbers,
)

from striate.codegen.targets import Target
from striate.errors import OptionError
from striate.formula.activation import ACTIVATIONS
from striate.formula.expression import (
    Const,
    Expr,
    Var,
    asinh,
    atan,
    call,
    cos,
    equal,
    erf,
    evaluate,
    exp,
    expm1,
    floor,
    log,
    log1p,
    maximum,
    minimum,
    power,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    tanh,
    unequal,
    variables,
    where,
)
from striate.kernels import elementwise
from striate.kernels.kernel import Tail
from striate.random import dropout_uniform

X, Y, Z = Var("x"), Var("y"), Var("z")
EXACT: dict[str, Expr] = {
    "input": X,
    "constant": Const(2.5),
    "add": X + Y,
    "sub": X - Y,
    "mul": X * Y,
    "neg": -X,
    "abs": abs(X),
    "maximum": maximum(X, Y),
    "maximum with a constant": maximum(X, 0) + maximum(X, 1.5),
    "maximum of a constant": maximum(0, X) + maximum(1.5, X),
    "minimum": minimum(X, Y),
    "minimum with a constant": minimum(X, 0) + minimum(-1.5, X),
    "where": where(X > Y, X, Z) + where(X, Y, Z),
    "compare": (X > Y) + 2 * (X >= Y) + 4 * (X < Y) + 8 * (X <= Y),
    "compare a compare": where((X > 0) > (Y > 0), X, Y),
    "powers": power(X, 2) + power(Y, 3) + power(Z, 4),
    "equality": equal(X, Y) + 2 * unequal(X, Z),
    "floor and sign": floor(X / 4) + 8 * sign(Y),
    "equal parts": (X + Y) * (X + Y) - (X + Y),
}
ROUNDED: dict[str, Expr] = {
    "div": X / (Y + 0.25),
    "negative powers": power(X, -1) + power(Y, -3),
    "sqrt": sqrt(abs(X)) + power(abs(Y), 0.5),
    "fractional power": power(abs(X) + 0.5, 1.5) + power(abs(Y) + 0.5, -0.7),
    "exp": exp(X),
    "log": log(abs(X)) + Y,
    "tanh": tanh(X * 0.5),
    "sigmoid": sigmoid(X) + sigmoid(-Y * 30),
    "near 0": expm1(X) * log1p(abs(Y)) + softplus(Z),
    "trigonometry": sin(X) + 2 * cos(Y) + atan(Z),
    "erf and asinh": erf(X) + asinh(Y),
    "three": X * Y + tanh(Z) * where(X > Z, exp(-abs(X)), sigmoid(Y)),
    **{name: activation.expr for name, activation in ACTIVATIONS.items()},
    **{
        f"gradient of {n}": a.gradient_y for n, a in ACTIVATIONS.items() if a.gradient_y is not None
    },
}


def _check(expr: Expr, target: Target, *, exact: bool, elements: int = 7) -> None:
    names = variables(expr)
    rng = np.random.default_rng(zlib.crc32(str(expr).encode()))
    shape = (target.width, elements)
    arrays = {
        name: (
            whole_numbers(k, *shape)
            if exact
            else (rng.normal(size=shape) * 2 + 0.01).astype(np.float32)
        )
        for k, name in enumerate(names)
    }
    kernel = elementwise.elementwise(target, expr, names, elements)
    lanes = [given(to_lanes(a)) for a in arrays.values()]
    (found,) = run_kernel(kernel, target, wanted(elements, target.width), *lanes)
    expected = evaluate(expr, {n: a.astype(float) for n, a in arrays.items()})
    expected = np.broadcast_to(expected, shape)
    if exact:
        check_equal(from_lanes(found), expected, dense=0.1)
    else:
        check_close(from_lanes(found), expected, dense=0.1)


def test_every_function_is_among_the_cases() -> None:
    from striate.formula.expression import children
    from striate.formula.functions import NUMPY

    def functions(e: Expr) -> set[str]:
        own = {e.function} if hasattr(e, "function") else set()
        return own.union(*(functions(c) for c in children(e)))

    cases = [*EXACT.values(), *ROUNDED.values()]
    assert set().union(*(functions(e) for e in cases)) == set(NUMPY)


@pytest.mark.parametrize("name", EXACT)
def test_exact_functions(name: str, target: Target) -> None:
    _check(EXACT[name], target, exact=True)


@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_functions(name: str, target: Target) -> None:
    _check(ROUNDED[name], target, exact=False)


def test_any_number_of_elements(target: Target) -> None:
    for elements in (1, 2, 3, 100):
        _check(X * Y - X, target, exact=True, elements=elements)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 88.0], np.float32)


@pytest.mark.parametrize(
    "expr",
    [
        maximum(X, Y),
        minimum(X, Y),
        maximum(X, 0),
        minimum(0, X),
        where(X > Y, 1, 2),
        where(X, 1, 2),
        (X <= Y) + 2 * (X >= Y),
        abs(X),
        sqrt(X),
        X / Y,
        exp(X),
        log(X),
        tanh(X),
        sigmoid(X),
        equal(X, Y) + 2 * unequal(X, Y),
        expm1(X),
        log1p(X),
        softplus(X),
        erf(X),
        atan(X),
        asinh(X),
        floor(X),
        sign(X),
        power(X, 2),
        power(X, -2),
    ],
    ids=str,
)
def test_special_values(expr: Expr, target: Target) -> None:
    names = variables(expr)
    x, y = (a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL))  # 64 pairs
    elements = x.size // target.width
    arrays = {n: a.reshape(elements, target.width) for n, a in zip(("x", "y"), (x, y), strict=True)}
    kernel = elementwise.elementwise(target, expr, names, elements)
    out = wanted(elements, target.width)
    (found,) = run_kernel(kernel, target, out, *(given(arrays[n]) for n in names))
    with np.errstate(all="ignore"):
        expected = evaluate(expr, {n: a.astype(np.float64) for n, a in arrays.items()})
        expected = np.asarray(expected, np.float64)
        expected[np.abs(expected) > 3.4028236e38] *= np.inf  # what float32 cannot hold
    check_close(found, expected, dense=0.1)


def test_an_exponent_that_is_no_constant_is_refused(target: Target) -> None:
    with pytest.raises(OptionError, match="expected a constant exponent"):
        elementwise.elementwise(target, call("pow", X, Y), ("x", "y"), 1)


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "size", "from_step", "to_step", "from_at", "to_at"),
    [
        (1, 1, 1, 1, 0, 0),
        (3, 2, 2, 5, 0, 1),
        (3, 2, 5, 2, 3, 0),
        (2, 4, 4, 4, 0, 0),
        (1, 3, 9, 9, 4, 2),
    ],
)
def test_copy_blocks(
    target: Target, blocks: int, size: int, from_step: int, to_step: int, from_at: int, to_at: int
) -> None:
    kernel = elementwise.copy_blocks(target, blocks, size, from_step, to_step, from_at, to_at)
    source = normal_numbers(1, from_at + (blocks - 1) * from_step + size, target.width)
    expected = np.full((to_at + (blocks - 1) * to_step + size, target.width), np.nan)
    for k in range(blocks):
        start = from_at + k * from_step
        expected[to_at + k * to_step :][:size] = source[start : start + size]
    (found,) = run_kernel(kernel, target, wanted(*expected.shape), given(source))
    check_equal(found, expected)


def test_clear(target: Target) -> None:
    for vectors in (1, 2, 9):
        kernel = elementwise.clear(target, vectors)
        (found,) = run_kernel(kernel, target, wanted(vectors, target.width))
        check_equal(found, np.zeros_like(found), dense=0)


# ---- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.25, 0.9])
def test_dropout_bit_for_bit(p: float, target: Target) -> None:
    seed, step, site = 0x9ABCDEF012345678, 0xFFFFFFFE, 3
    width, sizes = target.width, (1, 3, 4, 5, 8, 30)
    compile_ahead([elementwise.dropout(target, n, p, site) for n in sizes], target)
    samples = np.arange(width) + 1000
    key = np.array([seed & 0xFFFFFFFF, seed >> 32, step], np.uint32)
    for elements in sizes:
        x = whole_numbers(elements, width, elements)
        kernel = elementwise.dropout(target, elements, p, site)
        lanes: list[Given] = [given(to_lanes(x)), given(samples, np.int32), given(key, np.uint32)]
        (found,) = run_kernel(kernel, target, wanted(elements, width), *lanes)
        kept = dropout_uniform(seed, step, site, samples, elements) >= p
        expected = np.where(kept, x * np.float32(1 / (1 - p)), np.float32(0))
        check_equal(from_lanes(found), expected, dense=0.0)
        if elements == 30:
            assert abs(kept.mean() - (1 - p)) < 0.2


def test_dropout_with_a_tail(target: Target) -> None:
    width, elements = target.width, 6
    x, extra = whole_numbers(1, width, elements), whole_numbers(2, width, elements)
    samples, key = np.arange(width), np.array([7, 0, 2])
    plain = elementwise.dropout(target, elements, 0.5, 1)
    tail = Tail(Var("v") * Var("e0"), 1, keep=True)
    tailed = elementwise.dropout(target, elements, 0.5, 1, tail)
    arguments = [given(to_lanes(x)), given(samples, np.int32), given(key, np.int32)]
    out = wanted(elements, width)
    (dropped,) = run_kernel(plain, target, out, *arguments)
    found, kept = run_kernel(tailed, target, out, *arguments, out, given(to_lanes(extra)))
    check_equal(kept, dropped, dense=0.2)
    check_equal(found, dropped * to_lanes(extra), dense=0.2)


def test_uniform_bit_for_bit(target: Target) -> None:
    seed, step, site, width = 0x9ABCDEF012345678, 0xFFFFFFFE, 5, target.width
    samples = np.arange(width) + 70
    key = np.array([seed & 0xFFFFFFFF, seed >> 32, step], np.uint32)
    for elements in (1, 4, 7):
        kernel = elementwise.uniform(target, elements, site)
        lanes = [given(samples, np.int32), given(key, np.uint32)]
        (found,) = run_kernel(kernel, target, wanted(elements, width), *lanes)
        expected = dropout_uniform(seed, step, site, samples, elements)
        check_equal(from_lanes(found), expected, dense=0.5)
    half = elementwise.fill(target, 3, 0.5)
    (found,) = run_kernel(half, target, wanted(3, width))
    assert (found == 0.5).all()
