"""Normalisation of runs of each sample by their own mean and deviation: layer, group, instance.

Values are plain: a run is `length` neighbouring numbers, cut into segments that have one weight
each (group norm: the channels) or a weight for each number (layer norm). The mean is taken twice,
the second time of what is left, so a mean that is large against the deviation costs no accuracy.
Statistics are worked out anew where a gradient needs them: they cost a read from the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import make_kernel
from striate.kernels.routine import Recipe, Routine, recipe

_UNROLL = 4


@dataclass(frozen=True)
class Runs:
    """`groups` runs a sample, each of `segments` segments of `size` numbers.

    With `each`, weights stand for every number of a run and are the same for all runs; otherwise
    every segment of a sample has a weight of its own.
    """

    groups: int
    segments: int
    size: int
    eps: float
    each: bool

    @property
    def length(self) -> int:
        return self.segments * self.size


# The weights of numbers, by their place in the run and whether they are a whole vector.
Weights = Callable[[Int, bool], Value]


class _Run:
    """Emits loops over the numbers of a run; rests of segments are vectors with zeros behind."""

    def __init__(self, b: Builder, runs: Runs) -> None:
        self.b, self.runs = b, runs
        self.rest = runs.size % b.width
        lanes = ", ".join(f"i1 {int(k < self.rest)}" for k in range(b.width))
        self.mask = f"<{lanes}>"

    def load(self, pointer: Value, at: Int, whole: bool) -> Value:
        b = self.b
        if whole:
            return b.load(pointer, at, align=4)
        vector = b.zero
        for lane in range(self.rest):
            vector = b.insert(vector, b.load_float(pointer, b.add(at, lane)), lane)
        return vector

    def store(self, value: Value, pointer: Value, at: Int, whole: bool) -> None:
        b = self.b
        if whole:
            b.store(value, pointer, at, align=4)
            return
        for lane in range(self.rest):
            b.store_float(b.extract(value, lane), pointer, b.add(at, lane))

    def real(self, value: Value, whole: bool) -> Value:
        return value if whole else self.b.select(self.mask, value, self.b.zero)

    def sums(
        self,
        segment: Int,
        count: int,
        body: Callable[[Int, bool], list[Value]],
        totals: list[Value],
    ) -> list[Value]:
        """Add `body(place in the run, whether whole)` over a segment to `count` vectors."""
        b, size = self.b, self.runs.size
        start, whole = b.mul(segment, size), size - self.rest
        step = _UNROLL * b.width
        tiled = whole // step * step

        def several(i: Int, found: list[Value]) -> list[Value]:
            found = list(found)
            for k in range(_UNROLL):
                parts = body(b.add(b.add(start, i), k * b.width), True)
                for j, part in enumerate(parts):
                    place = k * count + j
                    found[place] = b.fadd(found[place], part)
            return found

        def one(i: Int, found: list[Value]) -> list[Value]:
            parts = body(b.add(start, i), True)
            return [b.fadd(t, p) for t, p in zip(found[:count], parts, strict=True)] + found[count:]

        totals = b.loop(0, tiled, several, totals, step=step)
        totals = b.loop(tiled, whole, one, totals, step=b.width)
        if self.rest:
            parts = [self.real(p, False) for p in body(b.add(start, whole), False)]
            totals = [b.fadd(t, p) for t, p in zip(totals[:count], parts, strict=True)] + list(
                totals[count:]
            )
        return list(totals)

    def total(self, count: int, body: Callable[[Int, Int, bool], list[Value]]) -> list[Value]:
        """Sums over the whole run in every lane; the body is also given the segment."""
        b = self.b

        def segment(k: Int, totals: list[Value]) -> list[Value]:
            return self.sums(k, count, lambda at, whole: body(k, at, whole), totals)

        totals = b.loop(0, self.runs.segments, segment, [b.zero] * (count * _UNROLL))
        return [self.spread(totals[j::count]) for j in range(count)]

    def spread(self, parts: list[Value]) -> Value:
        """The sum of all lanes of some vectors, in every lane."""
        b, total = self.b, parts[0]
        for part in parts[1:]:
            total = b.fadd(total, part)
        return b.splat(b.extract(b.sum_lanes([total]), 0))

    def each(self, segment: Int, body: Callable[[Int, bool], None]) -> None:
        """`body(place in the run, whether whole)` over a segment."""
        b, size = self.b, self.runs.size
        start, whole = b.mul(segment, size), size - self.rest
        b.loop(0, whole, lambda i, _: body(b.add(start, i), True), step=b.width)
        if self.rest:
            body(b.add(start, whole), False)

    def statistics(self, x: Value) -> tuple[Value, Value]:
        """Mean and 1/√(variance + eps) of the run at x, in every lane."""
        b, share = self.b, self.b.const(1.0 / self.runs.length)
        (total,) = self.total(1, lambda _, at, whole: [self.load(x, at, whole)])
        near = b.fmul(total, share)

        def around(_: Int, at: Int, whole: bool) -> list[Value]:
            d = self.real(b.fsub(self.load(x, at, whole), near), whole)
            return [d, b.fmul(d, d)]

        left, squares = self.total(2, around)
        more = b.fmul(left, share)
        variance = b.fsub(b.fmul(squares, share), b.fmul(more, more))
        variance = b.select(b.fcmp("olt", variance, b.zero), b.zero, variance)
        root = b.unary("sqrt", b.fadd(variance, b.const(self.runs.eps)))
        return b.fadd(near, more), b.fdiv(b.const(1.0), root)

    def weight(self, w: Value | None, run: Int, segment: Int) -> Weights | None:
        """The weights of a segment's numbers, by their places; None where there are none."""
        if w is None:
            return None
        if self.runs.each:
            return lambda at, whole: self.load(w, at, whole)
        b = self.b
        here = b.broadcast(w, b.add(b.mul(run, self.runs.segments), segment))
        return lambda _, __: here


@functools.lru_cache(maxsize=128)
def sample_norm(target: Target, runs: Runs, weighted: bool, biased: bool) -> Recipe:
    """y = (x − μ)/√(σ² + eps) · w + b: arguments out, x, [w], [b], part (a run)."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, x, *more, part = arguments
        place = b.mul(part, runs.length)
        x, out, run = b.at(x, place), b.at(out, place), _Run(b, runs)
        mean, inverse = run.statistics(x)

        def segment(k: Int, _: list[Value]) -> None:
            w = run.weight(more[0] if weighted else None, part, k)
            shift = run.weight(more[-1] if biased else None, part, k)

            def place(at: Int, whole: bool) -> None:
                y = b.fmul(b.fsub(run.load(x, at, whole), mean), inverse)
                y = y if w is None else b.fmul(y, w(at, whole))
                y = y if shift is None else b.fadd(y, shift(at, whole))
                run.store(y, out, at, whole)

            run.each(k, place)

        b.loop(0, runs.segments, segment)

    names = ["out", "x", *(["w"] if weighted else []), *(["b"] if biased else []), "part:i64"]
    return recipe(Routine(make_kernel(target, "sample_norm", names, build), runs.groups))


@functools.lru_cache(maxsize=128)
def sample_norm_gradient(target: Target, runs: Runs, weighted: bool) -> Recipe:
    """dx = (g·w − Σ g·w/N − x̂·Σ g·w·x̂/N)/√(σ² + eps): arguments out, g, x, [w], part."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, g, x, *more, part = arguments
        place, run = b.mul(part, runs.length), _Run(b, runs)
        out, g, x = (b.at(k, place) for k in (out, g, x))
        mean, inverse = run.statistics(x)

        def slope(w: Weights | None, at: Int, whole: bool) -> Value:
            found = run.load(g, at, whole)
            return found if w is None else b.fmul(found, w(at, whole))

        def standard(at: Int, whole: bool) -> Value:
            return b.fmul(b.fsub(run.load(x, at, whole), mean), inverse)

        def weights(k: Int) -> Weights | None:
            return run.weight(more[0] if weighted else None, part, k)

        def both(k: Int, at: Int, whole: bool) -> list[Value]:
            up = slope(weights(k), at, whole)
            return [up, b.fmul(up, standard(at, whole))]

        share = b.const(1.0 / runs.length)
        plain, along = (b.fmul(t, share) for t in run.total(2, both))

        def segment(k: Int, _: list[Value]) -> None:
            w = weights(k)

            def place(at: Int, whole: bool) -> None:
                left = b.fsub(slope(w, at, whole), plain)
                left = b.fsub(left, b.fmul(standard(at, whole), along))
                run.store(b.fmul(left, inverse), out, at, whole)

            run.each(k, place)

        b.loop(0, runs.segments, segment)

    names = ["out", "g", "x", *(["w"] if weighted else []), "part:i64"]
    return recipe(Routine(make_kernel(target, "sample_norm_gradient", names, build), runs.groups))


@functools.lru_cache(maxsize=128)
def sample_norm_weight(target: Target, runs: Runs, bias: bool) -> Recipe:
    """dw = Σ g·x̂, or with `bias` db = Σ g, over the samples.

    Arguments out, g, x, samples, g_step, x_step, part (a run; where weights stand for each number
    there is one part for all runs). `out` is filled to whole vectors by the last part.
    """
    parts = 1 if runs.each else runs.groups
    count = runs.length if runs.each else runs.groups * runs.segments

    def build(b: Builder, arguments: list[Value]) -> None:
        out, g, x, samples, g_step, x_step, part = arguments
        run = _Run(b, runs)
        if runs.each:
            b.loop(0, count, lambda k, _: b.store_float("0.0", out, k))
        else:
            first = b.mul(part, runs.segments)
            b.loop(0, runs.segments, lambda k, _: b.store_float("0.0", out, b.add(first, k)))
        b.when(b.compare("eq", part, parts - 1), lambda: _clear_rest(b, out, count))

        def one(n: Int, which: Int) -> None:
            place = b.mul(which, runs.length)
            g_here = b.at(g, b.add(b.mul(n, g_step), place))
            x_here = b.at(x, b.add(b.mul(n, x_step), place))
            mean, inverse = (b.zero, b.zero) if bias else run.statistics(x_here)

            def slope(at: Int, whole: bool) -> Value:
                up = run.load(g_here, at, whole)
                if bias:
                    return up
                return b.fmul(up, b.fmul(b.fsub(run.load(x_here, at, whole), mean), inverse))

            _accumulate(b, run, runs, out, which, slope)

        def sample(n: Int, _: list[Value]) -> None:
            if runs.each:
                b.loop(0, runs.groups, lambda k, _: one(n, k))
            else:
                one(n, part)

        b.loop(0, samples, sample)

    names = ["out", "g", "x", "samples:i64", "g_step:i64", "x_step:i64", "part:i64"]
    kernel = make_kernel(target, "sample_norm_weight", names, build)
    return recipe(Routine(kernel, parts, samples=0))


def _clear_rest(b: Builder, out: Value, count: int) -> None:
    for at in range(count, -(-count // b.width) * b.width):
        b.store_float("0.0", out, at)


def _accumulate(
    b: Builder,
    run: _Run,
    runs: Runs,
    out: Value,
    which: Int,
    slope: Callable[[Int, bool], Value],
) -> None:
    """Add a run's slopes to what `out` holds: number by number, or a sum for each segment."""

    def segment(k: Int, _: list[Value]) -> None:
        if runs.each:

            def add(at: Int, whole: bool) -> None:
                run.store(b.fadd(run.load(out, at, whole), slope(at, whole)), out, at, whole)

            run.each(k, add)
            return
        parts = run.sums(k, 1, lambda at, whole: [slope(at, whole)], [b.zero] * _UNROLL)
        total = b.extract(run.spread(parts), 0)
        at = b.add(b.mul(which, runs.segments), k)
        b.store_float(b.let(f"fadd float {b.load_float(out, at)}, {total}"), out, at)

    b.loop(0, runs.segments, segment)
