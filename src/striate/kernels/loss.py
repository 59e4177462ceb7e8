"""Losses with the batch in lanes: softmax, cross-entropy and mean squared error, with gradients.

A loss kernel gives a sample's loss, whether its prediction was right, and the gradient of the
batch's mean loss, in one pass. Dead lanes have scale 0, so their gradient is 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import exp, log, maximum
from striate.kernels.kernel import Kernel, make_kernel


@dataclass(frozen=True)
class _Shifted:
    """The parts of a stable softmax: the maximum, and Σ e^(x − maximum)."""

    top: Value
    total: Value


def _shifted(b: Builder, x: Value, classes: int) -> _Shifted:
    def larger(i: Int, carry: list[Value]) -> list[Value]:
        return [maximum(b, b.load(x, b.mul(i, b.width)), carry[0])]

    (top,) = b.loop(1, classes, larger, [b.load(x)])

    def add(i: Int, carry: list[Value]) -> list[Value]:
        value = exp(b, b.fsub(b.load(x, b.mul(i, b.width)), top))
        return [b.fadd(carry[0], value)]

    (total,) = b.loop(0, classes, add, [b.zero])
    return _Shifted(top, total)


@functools.lru_cache(maxsize=64)
def softmax(target: Target, classes: int) -> Kernel:
    """y = e^x / Σ e^x; arguments y, x."""

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x = arguments
        s = _shifted(b, x, classes)

        def one(i: Int, _: list[Value]) -> None:
            at = b.mul(i, b.width)
            b.store(b.fdiv(exp(b, b.fsub(b.load(x, at), s.top)), s.total), y, at)

        b.loop(0, classes, one)

    return make_kernel(target, "softmax", ["y", "x"], build)


@functools.lru_cache(maxsize=64)
def softmax_gradient(target: Target, classes: int) -> Kernel:
    """dx = y·(dy − Σ dy·y); arguments dx, dy, x."""

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, dy, x = arguments
        s = _shifted(b, x, classes)

        def probability(at: Int) -> Value:
            return b.fdiv(exp(b, b.fsub(b.load(x, at), s.top)), s.total)

        def add(i: Int, carry: list[Value]) -> list[Value]:
            at = b.mul(i, b.width)
            return [b.fma(probability(at), b.load(dy, at), carry[0])]

        (inner,) = b.loop(0, classes, add, [b.zero])

        def one(i: Int, _: list[Value]) -> None:
            at = b.mul(i, b.width)
            b.store(b.fmul(probability(at), b.fsub(b.load(dy, at), inner)), dx, at)

        b.loop(0, classes, one)

    return make_kernel(target, "softmax_gradient", ["dx", "dy", "x"], build)


@functools.lru_cache(maxsize=64)
def cross_entropy(target: Target, classes: int) -> Kernel:
    """loss = log Σ e^x − x[label]; dx = (softmax − one-hot)·scale.

    Arguments dx, loss, correct, x, labels (i32 a lane), scale (1/n a lane, 0 in dead lanes).
    `correct` is 1 where the first largest logit is the label's.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, loss, correct, x, labels, scale_at = arguments
        label = b.let(f"load {b.integers}, ptr {labels}, align 4")
        scale = b.load(scale_at)
        s = _shifted(b, x, classes)
        share = b.fdiv(scale, s.total)

        def one(i: Int, carry: list[Value]) -> list[Value]:
            at = b.mul(i, b.width)
            value = b.load(x, at)
            here = b.let(f"icmp eq {b.integers} {label}, {_index(b, i)}")
            part = b.fmul(exp(b, b.fsub(value, s.top)), share)
            b.store(b.fsub(part, b.select(here, scale, b.zero)), dx, at)
            earlier = b.select(b.fcmp("oge", value, s.top), b.const(1.0), b.zero)
            # carry: x[label]; whether a maximum was met; whether the first one was the label's
            first = b.select(b.fcmp("oeq", carry[1], b.zero), earlier, b.zero)
            hit = b.fadd(carry[2], b.select(here, first, b.zero))
            return [b.select(here, value, carry[0]), b.fadd(carry[1], earlier), hit]

        found, _, hits = b.loop(0, classes, one, [b.zero, b.zero, b.zero])
        b.store(b.fadd(log(b, s.total), b.fsub(s.top, found)), loss, align=4)
        b.store(hits, correct, align=4)

    names = ["dx", "loss", "correct", "x", "labels", "scale"]
    return make_kernel(target, "cross_entropy", names, build)


def _index(b: Builder, i: Int) -> Value:
    """The class number in every lane."""
    if isinstance(i, int):
        return b.const_int(i)
    word = b.let(f"trunc i64 {i} to i32")
    first = b.let(f"insertelement {b.integers} poison, i32 {word}, i32 0")
    mask = f"<{b.width} x i32> zeroinitializer"
    return b.let(f"shufflevector {b.integers} {first}, {b.integers} poison, {mask}")


@functools.lru_cache(maxsize=8)
def store_result(target: Target) -> Kernel:
    """A vector of results, one a lane, to where the caller's array of them goes on."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source = arguments
        b.store(b.load(source), out, align=4)

    return make_kernel(target, "store_result", ["out", "source"], build)


@functools.lru_cache(maxsize=64)
def classified(target: Target, classes: int) -> Kernel:
    """correct = 1 where the first largest of x is at the label; arguments correct, x, labels.

    The labels are floats, one a lane.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        correct, x, labels = arguments

        def larger(i: Int, carry: list[Value]) -> list[Value]:
            top, best = carry
            value, here = b.load(x, b.mul(i, b.width)), _float_index(b, i)
            more = b.fcmp("ogt", value, top)
            return [b.select(more, value, top), b.select(more, here, best)]

        _, best = b.loop(1, classes, larger, [b.load(x), b.zero])
        hit = b.fcmp("oeq", best, b.load(labels))
        b.store(b.select(hit, b.const(1.0), b.zero), correct, align=4)

    return make_kernel(target, "classified", ["correct", "x", "labels"], build)


def _float_index(b: Builder, i: Int) -> Value:
    """The class number in every lane, as a float."""
    if isinstance(i, int):
        return b.const(float(i))
    return b.splat(b.let(f"uitofp i64 {i} to float"))


@functools.lru_cache(maxsize=64)
def squared_error(target: Target, elements: int) -> Kernel:
    """loss = mean (x − t)²; dx = 2(x − t)/elements · scale; arguments dx, loss, x, t, scale."""

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, loss, x, wanted, scale_at = arguments
        scale = b.fmul(b.load(scale_at), b.const(2.0 / max(elements, 1)))

        def one(i: Int, carry: list[Value]) -> list[Value]:
            at = b.mul(i, b.width)
            error = b.fsub(b.load(x, at), b.load(wanted, at))
            b.store(b.fmul(error, scale), dx, at)
            return [b.fma(error, error, carry[0])]

        (total,) = b.loop(0, elements, one, [b.zero])
        b.store(b.fdiv(total, b.const(float(max(elements, 1)))), loss, align=4)

    return make_kernel(target, "squared_error", ["dx", "loss", "x", "wanted", "scale"], build)
