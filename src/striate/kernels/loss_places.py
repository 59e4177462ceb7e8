"""Weighted cross-entropy of scores (classes, places) in three passes over the classes of a place.

The formula's own kernel would do, and is what this one is tested against; it goes over the scores
more often. A place is a vector: of samples, or of neighbouring places of one sample.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import exp, log, maximum
from striate.kernels.kernel import Kernel, make_kernel


@dataclass(frozen=True)
class Weighted:
    """Sizes and settings of a weighted cross-entropy.

    Attributes:
        classes, places: of the scores.
        weights: what each class counts; None: 1.
        ignored: the label of places that count for nothing.
        smoothing: the share of a label that is spread over all classes.
    """

    classes: int
    places: int
    weights: tuple[float, ...] | None
    ignored: int
    smoothing: float


@functools.lru_cache(maxsize=32)
def weighted_cross_entropy(target: Target, problem: Weighted) -> Kernel:
    """Arguments dx, loss (a vector), x, labels (floats), scale."""

    def build(b: Builder, arguments: list[Value]) -> None:
        _Emitter(b, problem, arguments).run()

    names = ["dx", "loss", "x", "labels", "scale"]
    return make_kernel(target, "weighted_cross_entropy", names, build)


class _Emitter:
    def __init__(self, b: Builder, p: Weighted, arguments: list[Value]) -> None:
        self.b, self.p = b, p
        self.dx, self.loss, self.x, self.labels, self.scale = arguments
        weights = p.weights or (1.0,) * p.classes
        self.whole = sum(weights)
        counted = [float(c != p.ignored) for c in range(p.classes)]
        self.same = p.weights is None and all(counted)
        self.weights = b.float_table([w * k for w, k in zip(weights, counted, strict=True)])
        self.every = b.float_table(list(weights))
        self.counted = b.float_table(counted)

    def run(self) -> None:
        b, p = self.b, self.p
        share = b.fmul(b.load(self.scale), b.const(1 / p.places))

        def place(d: Int, carry: list[Value]) -> list[Value]:
            return [b.fadd(carry[0], self._place(d, share))]

        (total,) = b.loop(0, p.places, place, [b.zero])
        b.store(b.fmul(total, b.const(1 / p.places)), self.loss)

    def _at(self, c: Int, d: Int) -> Int:
        return self.b.mul(self.b.add(self.b.mul(c, self.p.places), d), self.b.width)

    def _hit(self, label: Value, c: Int) -> Value:
        b = self.b
        if isinstance(c, int):
            return b.fcmp("oeq", label, b.const(float(c)))
        return b.fcmp("oeq", label, b.splat(b.let(f"uitofp i64 {c} to float")))

    def _weight(self, c: Int) -> Value:
        return self.b.const(1.0) if self.same else self.b.broadcast(self.weights, c)

    def _place(self, d: Int, share: Value) -> Value:
        """The loss of one place; its gradient is stored."""
        b, p = self.b, self.p
        label = b.load(self.labels, b.mul(d, b.width))
        (top,) = b.loop(
            1,
            p.classes,
            lambda c, carry: [maximum(b, b.load(self.x, self._at(c, d)), carry[0])],
            [b.load(self.x, self._at(0, d))],
        )

        def add(c: Int, carry: list[Value]) -> list[Value]:
            """Carry: Σ e^(x − top), x and weight of the label, Σ w·x, whether the label counts."""
            total, right, weight, every, counts = carry
            value, hit = b.load(self.x, self._at(c, d)), self._hit(label, c)
            total = b.fadd(total, exp(b, b.fsub(value, top)))
            right = b.select(hit, value, right)
            weight = b.select(hit, self._weight(c), weight)
            if p.smoothing:
                every = b.fma(b.broadcast(self.every, c), value, every)
                counts = b.select(hit, b.broadcast(self.counted, c), counts)
            return [total, right, weight, every, counts]

        total, right, weight, every, counts = b.loop(0, p.classes, add, [b.zero] * 5)
        normaliser = b.fadd(log(b, total), top)
        missed = b.fsub(normaliser, right)
        loss = b.select(b.fcmp("oeq", weight, b.zero), b.zero, b.fmul(weight, missed))
        sharp = b.fmul(weight, b.const(1 - p.smoothing))
        spread = b.fmul(counts, b.const(p.smoothing / p.classes))
        pull = sharp
        if p.smoothing:
            rest = b.fsub(b.fmul(normaliser, b.const(self.whole)), every)
            loss = b.fma(spread, rest, b.fmul(loss, b.const(1 - p.smoothing)))
            pull = b.fma(spread, b.const(self.whole), sharp)
        pull, sharp, spread = (b.fmul(part, share) for part in (pull, sharp, spread))
        self._gradient(d, label, top, b.fdiv(pull, total), sharp, spread)
        return loss

    def _gradient(
        self, d: Int, label: Value, top: Value, pull: Value, sharp: Value, spread: Value
    ) -> None:
        """dx = e^(x − top)·pull − [c = label]·sharp − w[c]·spread."""
        b = self.b

        def one(c: Int, _: list[Value]) -> None:
            at = self._at(c, d)
            value = b.fmul(exp(b, b.fsub(b.load(self.x, at), top)), pull)
            value = b.fsub(value, b.select(self._hit(label, c), sharp, b.zero))
            if self.p.smoothing:
                value = b.fsub(value, b.fmul(b.broadcast(self.every, c), spread))
            b.store(value, self.dx, at)

        b.loop(0, self.p.classes, one)
