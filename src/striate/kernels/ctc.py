"""Connectionist temporal classification with the batch in lanes: losses and their gradient.

The recursion of `formula.ctc` over time, forward and backward, in logarithms. Samples of a group
have targets of their own, so what a state reads of a time step is gathered lane by lane; all the
rest is vector code. Every time step counts, as in training.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import exp, log
from striate.kernels.kernel import Kernel, make_kernel


@dataclass(frozen=True)
class Ctc:
    """Sizes and settings.

    Attributes:
        time, classes, length: of predictions (time, classes) and targets (length,).
        blank: the class that stands for none.
        mean: whether a loss is divided by its target's length.
        zero_infinity: whether a target that no path can spell has the loss 0.
    """

    time: int
    classes: int
    length: int
    blank: int
    mean: bool
    zero_infinity: bool

    @property
    def row(self) -> int:
        """States of a target, with one empty place before them and one behind."""
        return 2 * self.length + 3

    def scratch(self, width: int) -> int:
        """Floats of memory that the kernel needs."""
        return width * (self.time * (self.row + self.length) + 2 * self.row + 2 * self.length + 1)


@functools.lru_cache(maxsize=32)
def ctc(target: Target, problem: Ctc) -> Kernel:
    """Arguments dx, loss, x, targets (floats, −1 after the end), scale, scratch."""

    def build(b: Builder, arguments: list[Value]) -> None:
        _Emitter(b, problem, arguments).run()

    names = ["dx", "loss", "x", "targets", "scale", "scratch"]
    return make_kernel(target, "ctc", names, build)


class _Emitter:
    def __init__(self, b: Builder, p: Ctc, arguments: list[Value]) -> None:
        self.b, self.p = b, p
        self.dx, self.loss, self.x, self.targets, self.scale, scratch = arguments
        self.nothing = b.const(-math.inf)
        sizes = {
            "alpha": p.time * p.row,
            "emit": p.time * p.length,  # x of each label at each time
            "beta": p.row,
            "ends": p.row,  # 0 at the states in which a path may end
            "skips": p.length + 1,  # 0 where the blank before a label may be left out
            "places": p.length,  # where a label's number lies in a time step, a lane each
        }
        self.at: dict[str, Value] = {}
        start = 0
        for name, vectors in sizes.items():
            self.at[name] = b.at(scratch, start * b.width)
            start += vectors

    def run(self) -> None:
        length = self._tables()
        self._forward()
        total = self._total()
        b, p = self.b, self.p
        hopeless = b.fcmp("oeq", total, self.nothing)
        weight = b.const(1.0)
        if p.mean:
            weight = b.fdiv(weight, b.select(b.fcmp("olt", length, weight), weight, length))
        loss = b.fmul(b.fneg(total), weight)
        if p.zero_infinity:
            loss = b.select(hopeless, b.zero, loss)
        b.store(loss, self.loss, align=4)
        share = b.fmul(b.load(self.scale), weight)
        self._backward(b.select(hopeless, b.zero, total), share)

    # ---- parts ----------------------------------------------------------------------------

    def _vector(self, name: str, row: Int, place: Int) -> Value:
        """Where a vector of a table lies: `row` is a time step, `place` a state or a label."""
        b, per = self.b, {"alpha": self.p.row, "emit": self.p.length}.get(name, 0)
        return b.at(self.at[name], b.mul(b.add(b.mul(row, per), place), b.width))

    def _load(self, name: str, row: Int, place: Int) -> Value:
        return self.b.load(self._vector(name, row, place))

    def _store(self, value: Value, name: str, row: Int, place: Int) -> None:
        self.b.store(value, self._vector(name, row, place))

    def _sum(self, *parts: Value) -> Value:
        """`log Σ e^part`; −∞ where all are."""
        b = self.b
        top = parts[0]
        for part in parts[1:]:
            top = b.select(b.fcmp("ogt", part, top), part, top)
        top = b.select(b.fcmp("oeq", top, self.nothing), b.zero, top)
        total = exp(b, b.fsub(parts[0], top))
        for part in parts[1:]:
            total = b.fadd(total, exp(b, b.fsub(part, top)))
        return b.fadd(top, log(b, total))

    def _tables(self) -> Value:
        """What depends on the targets alone; returns their lengths."""
        b, p = self.b, self.p
        lanes = b.const_int(0)
        for lane in range(b.width):
            lanes = b.let(f"insertelement {b.integers} {lanes}, i32 {lane}, i32 {lane}")

        def label(k: Int, carry: list[Value]) -> list[Value]:
            before, alive, length = carry
            found = b.load(self.targets, b.mul(k, b.width))
            there = b.fcmp("oge", found, b.zero)
            alive = b.select(there, alive, b.zero)
            safe = b.select(there, found, b.zero)
            number = b.let(f"fptosi {b.vector} {safe} to {b.integers}")
            place = b.integer("mul", number, b.const_int(b.width))
            place = b.integer("add", place, lanes)
            self._store(b.as_floats(place), "places", 0, k)
            differs = b.fcmp("une", found, before)
            self._store(b.select(differs, b.zero, self.nothing), "skips", 0, k)
            return [found, alive, b.fadd(length, alive)]

        first = [b.const(-1.0), b.const(1.0), b.zero]
        _, _, length = b.loop(0, p.length, label, first)
        self._store(self.nothing, "skips", 0, p.length)

        def ends(k: Int, carry: list[Value]) -> list[Value]:
            """State 2k + 1 is the blank before label k, state 2k the label before it."""
            here = b.fcmp("oeq", length, carry[0])
            for state in (b.mul(k, 2), b.add(b.mul(k, 2), 1)):
                self._store(b.select(here, b.zero, self.nothing), "ends", 0, state)
            return [b.fadd(carry[0], b.const(1.0))]

        b.loop(0, p.length + 1, ends, [b.zero])
        self._store(self.nothing, "ends", 0, 0)  # no label before the first blank
        self._store(self.nothing, "ends", 0, p.row - 1)
        return length

    def _blank(self, t: Int) -> Value:
        place = self.b.add(self.b.mul(t, self.p.classes), self.p.blank)
        return self.b.load(self.x, self.b.mul(place, self.b.width))

    def _step(self, base: Value, t: Int) -> Value:
        """Where a time step of x or dx begins."""
        return self.b.at(base, self.b.mul(t, self.p.classes * self.b.width))

    def _lane_places(self, k: Int) -> list[Value]:
        """The place of label k within a time step, of each lane."""
        b = self.b
        places = b.as_integers(self._load("places", 0, k))
        found = []
        for lane in range(b.width):
            word = b.let(f"extractelement {b.integers} {places}, i32 {lane}")
            found.append(b.let(f"sext i32 {word} to i64"))
        return found

    def _gather(self, t: Int, k: Int) -> Value:
        """x of label k at a time step."""
        b, step, vector = self.b, self._step(self.x, t), "poison"
        for lane, place in enumerate(self._lane_places(k)):
            vector = b.insert(vector, b.load_float(step, place), lane)
        self._store(vector, "emit", t, k)
        return vector

    # ---- the two passes -------------------------------------------------------------------

    def _forward(self) -> None:
        """alpha: the paths' weight from the start to a state at a time, that time included."""
        b, p = self.b, self.p

        def none(s: Int, _: list[Value]) -> None:
            self._store(self.nothing, "alpha", 0, s)

        b.loop(0, p.row, none)
        self._store(self._blank(0), "alpha", 0, 1)
        b.loop(0, p.length, lambda k, _: self._start(k))

        def step(t: Int, _: list[Value]) -> None:
            before, blank = b.sub(t, 1), self._blank(t)
            for end in (0, p.row - 1):
                self._store(self.nothing, "alpha", t, end)

            def old(s: Int) -> Value:
                return self._load("alpha", before, s)

            def one(k: Int, _: list[Value]) -> None:
                s = b.add(b.mul(k, 2), 1)
                stay, label = old(s), old(b.sub(s, 1))
                self._store(b.fadd(self._sum(stay, label), blank), "alpha", t, s)
                skip = b.fadd(label, self._load("skips", 0, k))
                ways = self._sum(old(b.add(s, 1)), stay, skip)
                self._store(b.fadd(ways, self._gather(t, k)), "alpha", t, b.add(s, 1))

            b.loop(0, p.length, one)
            last = self._sum(old(p.row - 2), old(p.row - 3))
            self._store(b.fadd(last, blank), "alpha", t, p.row - 2)

        b.loop(1, p.time, step)

    def _start(self, k: Int) -> None:
        """At the first time step a path is at the first blank or the first label."""
        b = self.b
        found = self._gather(0, k)
        first = b.let(f"icmp eq i64 {k}, 0") if not isinstance(k, int) else str(k == 0).lower()
        value = b.let(f"select i1 {first}, {b.vector} {found}, {b.vector} {self.nothing}")
        self._store(value, "alpha", 0, b.add(b.mul(k, 2), 2))

    def _total(self) -> Value:
        """The logarithm of the probability of the targets."""

        def add(s: Int, carry: list[Value]) -> list[Value]:
            b = self.b
            here = b.fadd(self._load("alpha", self.p.time - 1, s), self._load("ends", 0, s))
            return [self._sum(carry[0], here)]

        (total,) = self.b.loop(0, self.p.row, add, [self.nothing])
        return total

    def _backward(self, total: Value, share: Value) -> None:
        """beta: the paths' weight from a state to the end; with alpha it gives the gradient."""
        b, p = self.b, self.p

        def clear(s: Int, _: list[Value]) -> None:
            self._store(self.nothing, "beta", 0, s)

        b.loop(0, p.row, clear)
        self._back(p.time - 1, total, share, ending=True)
        b.loop(1, p.time, lambda k, _: self._back(b.sub(p.time - 1, k), total, share, ending=False))

    def _back(self, t: Int, total: Value, share: Value, ending: bool) -> None:
        b, p = self.b, self.p
        blank, row = self._blank(t), self._step(self.dx, t)

        def clear(c: Int, _: list[Value]) -> None:
            b.store(b.zero, row, b.mul(c, b.width))

        b.loop(0, p.classes, clear)

        def ways(s: Int, k: Int | None) -> Value:
            """To the end, without this time step; k is the label of a state, None of a blank."""
            if ending:
                return self._load("ends", 0, s)
            parts = [self._load("beta", 0, s), self._load("beta", 0, b.add(s, 1))]
            if k is not None:
                skip = self._load("skips", 0, b.add(k, 1))
                parts.append(b.fadd(self._load("beta", 0, b.add(s, 2)), skip))
            return self._sum(*parts)

        def part(s: Int, later: Value, emitted: Value) -> Value:
            """This state's part of the gradient; its beta is kept for the step before."""
            self._store(b.fadd(later, emitted), "beta", 0, s)
            path = b.fsub(b.fadd(self._load("alpha", t, s), later), total)
            return b.fmul(exp(b, path), share)

        def one(k: Int, carry: list[Value]) -> list[Value]:
            s = b.add(b.mul(k, 2), 1)
            kept = part(s, ways(s, None), blank)
            state = b.add(s, 1)
            slope = part(state, ways(state, k), self._load("emit", t, k))
            for lane, place in enumerate(self._lane_places(k)):
                old = b.load_float(row, place)
                less = b.let(f"fsub float {old}, {b.extract(slope, lane)}")
                b.store_float(less, row, place)
            return [b.fadd(carry[0], kept)]

        (blanks,) = b.loop(0, p.length, one, [b.zero])
        last = p.row - 2
        blanks = b.fadd(blanks, part(last, ways(last, None), blank))
        place = p.blank * b.width
        b.store(b.fsub(b.load(row, place), blanks), row, place)
