"""Kernels for aarch64 run for real: emulated, against the references that the other targets meet.

Skipped where qemu's user-mode emulator is not installed (Debian's package qemu-user-static). The
cases are few and small: what is looked for is what differs from x86 with as wide a vector, that
is instructions, 32 registers, relocations and the calling convention.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import blocked_case
import conv_case
import emulated
import numpy as np
import pytest
import test_blocked
import test_depthwise
import test_direct
import test_direct_weight
import test_elementwise
import test_fingerprint as fingerprints
import test_formula
import test_linear
import test_local
import test_matmul
import test_native
import test_norm
import test_packing
import test_pool
import test_unpool
import test_update
import winograd_case
from blocked_networks import BLOCKED_BUILDERS
from conv_case import ConvCase
from emulated import AARCH64, run_emulated
from harness import (
    check_close,
    check_equal,
    compile_ahead,
    given,
    normal_numbers,
    wanted,
    whole_numbers,
)
from networks import BUILDERS, Net
from winograd_case import WinogradCase

from striate.codegen.builder import Builder, Value
from striate.errors import CompileError
from striate.formula.expression import Var, exp, maximum, tanh
from striate.formula.operations import find_operation
from striate.kernels.conv import ROW_BLOCK
from striate.kernels.elementwise import clear, elementwise
from striate.kernels.kernel import Kernel, Tail, make_kernel
from striate.kernels.linear import batch_weight_gradient
from striate.kernels.matmul import linear, linear_input_gradient, linear_weight_gradient
from striate.kernels.packing import Packing
from striate.kernels.routine import Recipe
from striate.program.blocked_native import BlockedProgram
from striate.program.blocked_train import BlockedTraining
from striate.program.native import NativeInference, NativeTraining

pytestmark = pytest.mark.skipif(not emulated.emulator(), reason=emulated.ABSENT)

MODULES = (
    *(blocked_case, conv_case, winograd_case, test_depthwise, test_direct, test_direct_weight),
    *(test_elementwise, fingerprints, test_linear, test_matmul, test_norm),
    *(test_packing, test_pool, test_update, test_formula, test_local, test_unpool),
)
ONE = ((1, 1), (1, 1))


@pytest.fixture(autouse=True)
def _emulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    emulated.emulate(monkeypatch, *MODULES)
    yield


# ---- the emulator ------------------------------------------------------------------------------


def _copy(at: int, to: int) -> Kernel:
    """One float from x[at] to out[to]."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, x = arguments
        b.store_float(b.load_float(x, at), out, to)

    return make_kernel(AARCH64, "copy", ["out", "x"], build)


def test_outputs_begin_as_nan() -> None:
    (out,) = run_emulated(_copy(2, 1), AARCH64, wanted(3), given([4.0, 5.0, 6.0]))
    check_equal(out, [np.nan, 6.0, np.nan])


@pytest.mark.parametrize(("at", "to"), [(0, 3), (0, -1), (3, 0), (-1, 0)])
def test_stray_accesses_end_the_program(at: int, to: int) -> None:
    with pytest.raises(AssertionError, match="signal 11"):
        run_emulated(_copy(at, to), AARCH64, wanted(3), given([4.0, 5.0, 6.0]))


def test_inputs_cannot_be_written() -> None:
    kernel = make_kernel(AARCH64, "spoil", ["x"], lambda b, a: b.store_float("0.0", a[0]))
    with pytest.raises(AssertionError, match="signal 11"):
        run_emulated(kernel, AARCH64, given([1.0]))


def test_what_lies_beside_a_buffer_is_compared() -> None:
    """A stray write that meets no forbidden page: into the rest of the buffer's own."""

    def build(b: Builder, arguments: list[Value]) -> None:
        address = b.let(f"ptrtoint ptr {arguments[0]} to i64")
        inside = b.let(f"and i64 {address}, 4095")
        b.when(b.compare("eq", inside, 0), lambda: b.store_float("0.0", arguments[0], 5))

    kernel = make_kernel(AARCH64, "beside", ["out"], build)
    with pytest.raises(AssertionError, match="written behind a buffer"):
        run_emulated(kernel, AARCH64, wanted(3))


def test_more_arguments_than_registers() -> None:
    """From the ninth on they come on the stack."""
    names = ["out", *(f"n{k}:i64" for k in range(12))]

    def build(b: Builder, arguments: list[Value]) -> None:
        total: Any = 0
        for k, n in enumerate(arguments[1:]):
            total = b.add(total, b.mul(n, 10**k))
        b.emit(f"store i64 {total}, ptr {arguments[0]}, align 8")

    kernel = make_kernel(AARCH64, "digits", names, build)
    digits = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    (out,) = run_emulated(kernel, AARCH64, wanted(2), *digits)
    assert out.view(np.int64)[0] == sum(d * 10**k for k, d in enumerate(digits))


# ---- convolutions with samples in lanes ----------------------------------------------------------

LANES = [
    ConvCase(1, 6, (9, 11), (5, 5), padding=((2, 2), (2, 2))),
    ConvCase(2, 3, (1, 1), (3, 3), padding=ONE),
    ConvCase(5, 9, (6, 7), (3, 3), (2, 3), ((2, 0), (0, 1)), (2, 1)),
    ConvCase(1, 2, (6, 5), groups=4, stride=(2, 2), bias=False),
]


@pytest.mark.parametrize("case", LANES, ids=str)
def test_samples_in_lanes(case: ConvCase) -> None:
    compile_ahead(case.kernels(AARCH64), AARCH64)
    case.check(AARCH64)


# ---- convolutions with channels in lanes ---------------------------------------------------------

DIRECT = [
    ConvCase(3, 5, (4, 9), padding=ONE),
    ConvCase(9, 13, (7, 6), padding=ONE, bias=False),
    ConvCase(5, 9, (9, 8), (3, 3), (2, 3), ((1, 1), (2, 2))),
    ConvCase(12, 20, (5, 7), (1, 1)),
    ConvCase(1, 2, (2, 1), (5, 7), padding=((3, 2), (3, 3))),
    ConvCase(8, 8, (5, 6), groups=3, padding=ONE),
]
PLAIN = [ConvCase(3, 17, (12, 13), padding=ONE), ConvCase(1, 6, (9, 9), (5, 5), (2, 2))]


@cache
def _prepare() -> None:
    """Compile the kernels of all convolutions with channels in lanes, on all cores."""
    p = test_direct
    problems = [p.forward(case, AARCH64) for case in DIRECT]
    problems += [p.to_input(case, AARCH64) for case in DIRECT]
    problems += [p.forward(case, AARCH64, True) for case in PLAIN]
    recipes = [test_direct_weight.gradient(case, AARCH64) for case in DIRECT]
    recipes += [test_direct_weight.gradient(case, AARCH64, plain=True) for case in PLAIN]
    kernels = [p.step(problem, AARCH64).kernel for problem in problems]
    kernels += [step.kernel for recipe in recipes for step in recipe.steps]
    kernels += [k for case in WINOGRAD for k in case.kernels(AARCH64)]
    kernels += [k for case in DEPTHWISE for k in case.kernels(AARCH64)]
    compile_ahead(kernels, AARCH64)


@pytest.mark.parametrize("case", DIRECT, ids=str)
def test_direct_convolution(case: ConvCase) -> None:
    _prepare()
    test_direct.check_forward(case, AARCH64, plain=False)
    test_direct.check_to_input(case, AARCH64)
    test_direct_weight.check(case, AARCH64)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_direct_convolution_of_plain_images(case: ConvCase) -> None:
    _prepare()
    test_direct.check_forward(case, AARCH64, plain=True)
    test_direct_weight.check(case, AARCH64, plain=True)


def test_tail() -> None:
    case = ConvCase(9, 5, (5, 6))
    x, w, b = case.x(1), case.w(), case.b()
    (v,) = find_operation("conv2d").reference(case.attributes, [x, w, b])
    extra = whole_numbers(5, *v.shape)
    out, kept = test_direct.run_direct(
        test_direct.forward(case, AARCH64),
        AARCH64,
        blocked_case.to_blocked(x[0], AARCH64.width),
        blocked_case.packed_weights(test_direct.packing(case), w, AARCH64),
        test_direct._bias(case, AARCH64),
        tail=Tail(maximum(Var("v") + Var("e0"), 0), 1, keep=True),
        extras=(blocked_case.to_blocked(extra, AARCH64.width),),
    )
    check_equal(blocked_case.from_blocked(kept, case.outputs), v)
    check_equal(blocked_case.from_blocked(out, case.outputs), (v + extra).clip(0), dense=0.2)


WINOGRAD = [
    WinogradCase(case, m, samples)
    for case, samples in (
        (ConvCase(7, 9, (6, 7), padding=((2, 1), (0, 2))), 2),
        (ConvCase(1, 1, (1, 1), padding=ONE), 3),
    )
    for m in (2, 4)
]


@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_winograd(case: WinogradCase) -> None:
    _prepare()
    x, w, b = case.case.x(case.samples), case.case.w(), case.case.b()
    dy = case.case.dy(case.samples)
    found = [
        case.forward(AARCH64, x, w, b)["out"],
        case.to_input(AARCH64, dy, w),
        case.to_weight(AARCH64, x, dy),
    ]
    expected = [case.expected(x, w, b), *case.gradients(x, w, dy)[:2]]
    for f, e in zip(found, expected, strict=True):
        if case.m == 2:
            check_equal(f, e, dense=0.05)
        else:
            check_close(f, e, dense=0.05, factor=6)


DEPTHWISE = [
    test_depthwise.Case(9, (7, 7)),
    test_depthwise.Case(5, (3, 4), (5, 5), padding=((2, 2), (2, 2))),
    test_depthwise.Case(4, (9, 17), (3, 2), (2, 1), ((2, 1), (0, 2)), (1, 3)),
    test_depthwise.Case(2, (1, 40), (1, 31), padding=((0, 0), (15, 15))),
]


@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_depthwise_convolution(case: test_depthwise.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    _prepare()
    monkeypatch.setattr(test_depthwise, "_prepare", lambda target: None)
    test_depthwise.test_forward_with_bias_and_tail(case, AARCH64)
    test_depthwise.test_gradient_to_the_input(case, AARCH64)
    test_depthwise.test_gradient_to_the_weights(case, 2, AARCH64)


@pytest.mark.parametrize("transposed", [False, True])
def test_packed_weights(transposed: bool) -> None:
    for p in (Packing(9, 5, 1, (3, 3), transposed), Packing(8, 4, 4, (1, 3), transposed)):
        weight = normal_numbers(1, p.outputs, p.contracted // p.groups, *p.taps)
        expected = blocked_case.packed_weights(p, weight, AARCH64)
        made = test_packing.pack(AARCH64, p)
        found = blocked_case.run_parts(made, AARCH64, expected.shape, given(weight))
        check_equal(found, expected, dense=0.05)


# ---- the other kernels -------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "positions"), [(1, 1), (9, 65), (3, 5)])
def test_batch_norm(channels: int, positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_norm, "_prepare", lambda target: None)
    recipes = test_norm._recipes(AARCH64, channels, positions)
    compile_ahead([recipe.steps[0].kernel for recipe in recipes], AARCH64)
    test_norm.test_statistics(channels, positions, 2, AARCH64)
    test_norm.test_application(channels, positions, AARCH64)
    test_norm.test_sums(channels, positions, 2, AARCH64)
    test_norm.test_gradient(channels, positions, AARCH64)
    test_norm.test_folding(channels, True, AARCH64)


@pytest.mark.parametrize("shape", [(5, 7), (9, 17), (35, 11)], ids=str)
def test_fully_connected_layers(shape: tuple[int, int]) -> None:
    made: list[Recipe] = [
        linear(AARCH64, *shape, True),
        linear_input_gradient(AARCH64, *shape),
        linear_weight_gradient(AARCH64, *shape),
    ]
    test_matmul.compile_recipes(made, AARCH64)
    outputs, inputs = shape
    for samples in (1, 6):
        test_matmul._check_linear(AARCH64, made[0], shape, samples, None)
        test_matmul._check_input_gradient(AARCH64, made[1], shape, samples)
    dy, x = whole_numbers(0, 5, outputs), whole_numbers(1, 5, inputs, most=3)
    arrays = {
        "dw": np.full(shape, np.nan, np.float32),
        "dy": test_matmul.rows(AARCH64, dy, 4),
        "x": x,
    }
    test_matmul.run_recipe(made[2], AARCH64, 5, arrays)
    check_equal(arrays["dw"], dy.astype(float).T @ x)


@pytest.mark.parametrize("shape", [(16, 5), (9, 9), (35, 6)], ids=str)
def test_weight_gradient_over_the_whole_batch(shape: tuple[int, int]) -> None:
    """With 32 registers a tile has more outputs than a vector lanes."""
    kernel = batch_weight_gradient(AARCH64, *shape)
    blocks = (0, -(-shape[0] // ROW_BLOCK))
    found, expected = test_linear._run(kernel, AARCH64, shape, 2, blocks, 16)
    check_equal(found, expected)


def test_no_more_sums_than_lanes() -> None:
    b = Builder(AARCH64)
    with pytest.raises(CompileError, match="expected at most 4 vectors to sum; got 5"):
        b.sum_lanes([b.zero] * 5)


POOLS = [
    test_pool.PoolCase((5, 7)),
    test_pool.PoolCase((7, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    test_pool.PoolCase((9, 12), (5, 5), (1, 2), ((2, 2), (2, 2))),
]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pooling(case: test_pool.PoolCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_pool, "_prepare", lambda target: None)
    compile_ahead(case.kernels(AARCH64), AARCH64)
    test_pool.test_max_pooling(case, AARCH64)
    test_pool.test_average_pooling(case, False, AARCH64)


def test_pooling_of_nan() -> None:
    test_pool.test_nan_goes_through(AARCH64)
    test_pool.test_nan_and_equal_maxima_in_large_windows(AARCH64)


@pytest.mark.parametrize("name", ["compare", "compare a compare", "minimum", "powers", "where"])
def test_exact_functions(name: str) -> None:
    test_elementwise.test_exact_functions(name, AARCH64)


@pytest.mark.parametrize(
    "name", ["exp", "log", "tanh", "sigmoid", "three", "sqrt", "div", "softplus"]
)
def test_rounded_functions(name: str) -> None:
    test_elementwise.test_rounded_functions(name, AARCH64)


X, Y = Var("x"), Var("y")


@pytest.mark.parametrize("expr", [exp(X), tanh(X), maximum(X, Y), maximum(X, 0), X / Y], ids=str)
def test_special_values(expr: Any) -> None:
    test_elementwise.test_special_values(expr, AARCH64)


def test_dropout_bit_for_bit() -> None:
    test_elementwise.test_dropout_bit_for_bit(0.25, AARCH64)


@pytest.mark.parametrize("name", ["nesterov decay", "adamw", "rmsprop momentum decay"])
def test_optimizer_steps(name: str) -> None:
    test_update.test_update(name, AARCH64)


FORMULAS = [
    *("conv of sequences, groups", "transposed conv overlapping", "max pool overlapping"),
    *("softmax", "response norm", "own diagonals", "own maximum"),
]


@pytest.mark.parametrize("name", FORMULAS)
def test_kernels_made_from_formulas(name: str) -> None:
    test_formula.test_forward_and_gradients(name, AARCH64)


@pytest.mark.parametrize("case", test_local.CASES[:5], ids=str)
def test_locally_connected_layers(case: Any) -> None:
    test_local.test_passes(case, AARCH64)


@pytest.mark.parametrize("case", test_unpool.CASES[:3], ids=str)
def test_switches(case: Any) -> None:
    test_unpool.test_there_and_back(case, AARCH64)


def test_fingerprint() -> None:
    fingerprints.test_it_is_what_the_head_says_and_reads_no_more(AARCH64, 1000)


def test_an_object_may_call_another() -> None:
    """A call to a kernel in another module is relocated."""
    inner = clear(AARCH64, 3)
    text = (
        f"{inner.declaration}\ndefine void @outer(ptr %out) {{\n"
        f"  call void @{inner.symbol}(ptr %out)\n  ret void\n}}\n"
    )
    outer = emulated.Module("outer", text)
    segment = emulated.Segment(0x40000000, b"\xff" * 4096, 6)
    call = emulated.Call("outer", (segment.address,))
    (found,) = emulated.run_program([outer, inner.module], AARCH64, [call], [segment])
    assert found == bytes(48) + b"\xff" * 4048


# ---- whole networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["branches", "dropouts"])
def test_networks_with_samples_in_lanes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated.emulate_programs(monkeypatch)
    problem = BUILDERS[name]()
    test_native.test_inner_values(problem, AARCH64)
    test_native.test_three_steps_of_training(problem, AARCH64)


@pytest.mark.parametrize("name", ["residual norms", "joined blocks", "mobile"])
def test_networks_with_channels_in_lanes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated.emulate_programs(monkeypatch)
    problem = BLOCKED_BUILDERS[name]()
    test_blocked.test_inner_values(problem, AARCH64)
    test_blocked.test_three_steps_of_training(problem, AARCH64)


@pytest.mark.parametrize("kind", [NativeTraining, BlockedTraining])
def test_threads_do_not_change_a_bit(kind: Any) -> None:
    """They meet at barriers and claim work from shared counters."""
    problem = BUILDERS["branches"]()
    x, t = problem.images(13), problem.targets(13)
    found = []
    for threads in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            emulated.emulate_programs(patch, threads)
            program = kind(problem.graph, problem.loss, test_blocked.RULE, AARCH64)
            for name, value in problem.parameters().items():
                program.parameters[name][...] = value
            hyper = test_blocked.hyper(3)
            result = program.run(x, t, np.arange(13), batch_size=5, hyper=hyper)
            assert result.steps == 3
            arrays = [*program.parameters.values(), *program.state.values(), result.losses]
            found.append([a.tobytes() for a in arrays])
    assert found[0] == found[1]


def test_denormals_are_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By every program's entry; a kernel alone leaves the CPU's switch as it is."""
    emulated.emulate_programs(monkeypatch)
    tiny = elementwise(AARCH64, X * 1e-30, ("x",), 1)
    (found,) = run_emulated(tiny, AARCH64, wanted(1, 4), given(np.full((1, 4), 1e-10)))
    assert (found > 0).all()
    net = Net(3)
    graph = net.done(net.map(X * 1e-30, "x"))
    program = NativeInference(graph, AARCH64)
    for count in (1, 5):
        assert not program.run(np.full((count, 3), 1e-10, np.float32), {}).any()
    blocked = BlockedProgram(graph, AARCH64, graph.outputs, 1)
    assert not blocked.run(np.full((2, 3), 1e-10, np.float32), 2, {})[0].any()
