"""Optimiser steps: a rule's scalar expressions on vectors of parameters, gradients and state."""

from __future__ import annotations

import functools

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import Emitter
from striate.formula.update import UpdateRule
from striate.kernels.kernel import Kernel, make_kernel


@functools.lru_cache(maxsize=64)
def update(target: Target, rule: UpdateRule) -> Kernel:
    """Update parameters in place; arguments p, g, each state, hyper, then the number of vectors.

    `hyper` holds the step's scalars in the rule's order.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        p, g, *rest = arguments
        states, hyper, count = rest[: len(rule.state)], rest[-2], rest[-1]
        scalars = {name: b.broadcast(hyper, k) for k, name in enumerate(rule.hyper)}
        places = {"p": p, "g": g, **dict(zip(rule.state, states, strict=True))}

        def one(i: Int, _: list[Value]) -> None:
            at = b.mul(i, b.width)
            values = {name: b.load(pointer, at) for name, pointer in places.items()} | scalars
            changed: dict[str, Value] = {}
            for name, expr in rule.assign:
                changed[name] = values[name] = Emitter(b, values).value(expr)
            for name, value in changed.items():
                if name in places:
                    b.store(value, places[name], at)

        b.loop(0, count, one)

    names = ["p", "g", *(f"state_{s}" for s in rule.state), "hyper", "count:i64"]
    return make_kernel(target, "update", names, build)


@functools.lru_cache(maxsize=8)
def sum_pieces(target: Target) -> Kernel:
    """g = Σ over the pieces, in order; arguments g, pieces, step (floats), pieces used, vectors."""

    def build(b: Builder, arguments: list[Value]) -> None:
        g, pieces, step, used, count = arguments

        def one(i: Int, _: list[Value]) -> None:
            at = b.mul(i, b.width)

            def piece(k: Int, carry: list[Value]) -> list[Value]:
                return [b.fadd(carry[0], b.load(pieces, b.add(b.mul(k, step), at)))]

            (total,) = b.loop(1, used, piece, [b.load(pieces, at)])
            b.store(total, g, at)

        b.loop(0, count, one)

    names = ["g", "pieces", "step:i64", "used:i64", "count:i64"]
    return make_kernel(target, "sum_pieces", names, build)
