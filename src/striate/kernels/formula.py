"""Kernels made from formulas: for every operation that has none of its own.

The batch lies in lanes. The formula becomes loop nests (`formula.nests`), the nests become code
(`kernels.nest`); both are general, and so slower than a kernel made for one operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from striate.codegen.builder import Builder, Value
from striate.codegen.targets import Target
from striate.formula.formula import Formula, Shape
from striate.formula.nests import OUT, Plan, forward, gradient
from striate.kernels.kernel import Kernel, make_kernel
from striate.kernels.lanes import emit_rows_to_lanes
from striate.kernels.nest import NestEmitter
from striate.kernels.nest_index import Env, Tensor

_ALIGN = 16  # floats


@dataclass(frozen=True)
class FormulaKernel:
    """A kernel and what it has to be given.

    Attributes:
        kernel: its arguments are out, the tensors, and scratch.
        tensors: names of the tensors that it reads, in order.
        batched: those of them that have the batch in lanes; the rest are parameters.
        scratch: floats of memory of its own.
    """

    kernel: Kernel
    tensors: tuple[str, ...]
    batched: frozenset[str]
    scratch: int


def formula_kernel(target: Target, formula: Formula, to: str | None = None) -> FormulaKernel:
    """The kernel of a formula for one group of samples; with `to`, of the gradient to that tensor.

    The gradient reads "upstream" too. A gradient to a tensor without a batch is summed over the
    lanes and added to what `out` holds, in C order.

    Raises:
        CompileError: the formula mixes the samples of a batch.
    """
    plan = forward(formula) if to is None else gradient(formula, to)
    return _lanes_kernel(target, plan, to is None or to in plan.batched)


def _lanes_kernel(target: Target, plan: Plan, lanes: bool) -> FormulaKernel:
    names = plan.tensors

    def build(b: Builder, arguments: list[Value]) -> None:
        pointers = dict(zip(("out", *names, "scratch"), arguments, strict=True))
        emit_plan(b, plan, pointers, lanes)

    kernel = make_kernel(target, "formula", ["out", *names, "scratch"], build)
    batched = plan.batched & set(names)
    return FormulaKernel(kernel, tuple(names), batched, _room(target, plan))


def _room(target: Target, plan: Plan) -> int:
    return sum(_floats(target.width, shape) for shape in plan.temporaries.values())


def _floats(width: int, shape: Shape) -> int:
    return -(-math.prod(shape) * width // _ALIGN) * _ALIGN


def emit_plan(b: Builder, plan: Plan, pointers: Mapping[str, Value], lanes: bool) -> None:
    """Emit the nests of a plan; `lanes`: whether its output has the batch in lanes."""
    tensors = {OUT: Tensor(pointers["out"], tuple(plan.out_shape), lanes)}
    for name in plan.tensors:
        tensors[name] = Tensor(
            pointers[name],
            tuple(plan.shapes[name]),
            name in plan.batched,
            plan.outside.get(name, 0.0),
        )
    for name, array in plan.constants.items():
        table = b.float_table([float(k) for k in np.ravel(array)])
        tensors[name] = Tensor(table, np.shape(array), False, plan.outside.get(name, 0.0))
    at = 0
    for name, shape in plan.temporaries.items():
        tensors[name] = Tensor(b.at(pointers["scratch"], at), tuple(shape), True)
        at += _floats(b.width, shape)
    for name in plan.zeroed:
        if tensors[name].lanes:
            clear(b, tensors[name])
    emitter = NestEmitter(b, plan, tensors)
    emitter.run(_lanes_store(emitter) if lanes else _summed_store(emitter))


def clear(b: Builder, tensor: Tensor) -> None:
    """Fill a tensor in lanes with zeros."""
    count = math.prod(tensor.shape)
    b.loop(0, count, lambda k, _: b.store(b.zero, tensor.pointer, b.mul(k, b.width)))


Store = Callable[[Tensor, Sequence[Env], Sequence[Value]], None]


def _lanes_store(emitter: NestEmitter) -> Store:
    def store(target: Tensor, envs: Sequence[Env], values: Sequence[Value]) -> None:
        for env, value in zip(envs, values, strict=True):
            emitter.put(target, env, value)

    return store


def _summed_store(emitter: NestEmitter) -> Store:
    """Add the sums over the lanes, several at once."""
    b = emitter.b

    def store(target: Tensor, envs: Sequence[Env], values: Sequence[Value]) -> None:
        for start in range(0, len(values), b.width):
            some = envs[start : start + b.width]
            total = b.sum_lanes(values[start : start + b.width])
            offsets = [emitter.offset(emitter.nest.place, target, env) for env in some]
            moving, first = offsets[0]
            base = b.at(target.pointer, moving)
            row = [fixed - first for _, fixed in offsets] == list(range(b.width))
            if row and all(m == moving for m, _ in offsets):
                old = b.load(base, first, align=4)
                b.store(b.fadd(old, total), base, first, align=4)
                continue
            for lane, (at, fixed) in enumerate(offsets):
                place = b.at(target.pointer, at)
                old_one = b.load_float(place, fixed)
                one = b.let(f"fadd float {old_one}, {b.extract(total, lane)}")
                b.store_float(one, place, fixed)

    return store


def rows_gradient(target: Target, formula: Formula, to: str) -> FormulaKernel:
    """The gradient to a parameter over a whole batch of rows.

    Its kernel's arguments: out (all of it is written), the tensors (batched ones are rows: sample
    after sample), for each batched one `NAME_step:i64` (floats from a sample to the next),
    `samples:i64`, and scratch.
    """
    plan = gradient(formula, to)
    names = plan.tensors
    batched = [name for name in names if name in plan.batched]
    arguments = ["out", *names, *(f"{name}_step:i64" for name in batched)]
    arguments += ["samples:i64", "scratch"]
    size = math.prod(plan.out_shape)

    def build(b: Builder, given: list[Value]) -> None:
        values = dict(zip((a.partition(":")[0] for a in arguments), given, strict=True))
        _clear_row(b, values["out"], size)
        lanes, at = {}, _room(target, plan)
        for name in batched:
            lanes[name] = b.at(values["scratch"], at)
            at += _floats(b.width, plan.shapes[name])
        groups = b.divide(b.add(values["samples"], b.width - 1), b.width)

        def group(g: Value | int, _: list[Value]) -> None:
            first = b.mul(g, b.width)
            count = b.minimum(b.sub(values["samples"], first), b.width)
            for name in batched:
                step = values[f"{name}_step"]
                source = b.at(values[name], b.mul(first, step))
                elements = math.prod(plan.shapes[name])
                emit_rows_to_lanes(b, lanes[name], source, step, str(count), elements)
                if name == "upstream":
                    _mute(b, lanes[name], elements, count)
            emit_plan(b, plan, {**values, **lanes}, False)

        b.loop(0, groups, group)

    kernel = make_kernel(target, "formula_rows", arguments, build)
    room = _room(target, plan) + sum(_floats(target.width, plan.shapes[n]) for n in batched)
    return FormulaKernel(kernel, tuple(names), frozenset(batched), room)


def _clear_row(b: Builder, out: Value, size: int) -> None:
    whole = size // b.width * b.width
    b.loop(0, whole, lambda k, _: b.store(b.zero, out, k, align=4), step=b.width)
    b.loop(whole, size, lambda k, _: b.store_float("0.0", out, k))


def _mute(b: Builder, lanes: Value, elements: int, count: Value | int) -> None:
    """Zero in the lanes beyond the last sample."""
    numbers = ", ".join(f"float {float(k)}" for k in range(b.width))
    limit = b.splat(b.let(f"sitofp i64 {count} to float"))
    mask = b.fcmp("olt", f"<{numbers}>", limit)

    def one(e: Value | int, _: list[Value]) -> None:
        at = b.mul(e, b.width)
        b.store(b.select(mask, b.load(lanes, at), b.zero), lanes, at)

    b.loop(0, elements, one)
