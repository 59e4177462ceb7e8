"""Batch normalisation of whole batches in blocked layout: statistics, application, gradient.

Everything here streams through memory: a vector is a position's channels, so a statistic is a sum
of vectors and needs no sum over lanes. Sums run in float32 over short chunks of positions and in
float64 over the chunks, in one fixed order. Lanes beyond the last channel are written as 0 in what
belongs to a channel (means, gradients of parameters). Local response normalisation, which does mix
channels, is in `response_norm`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Tail, make_kernel, store_with_tail
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.kernels.spread import Spread
from striate.kernels.window import split

_CHUNK = 64  # positions that are summed in float32
_UNROLL = 4  # positions at once, and sums that run side by side
_ITEM = 2048  # vectors that an item should have at least


# ---- how the work is cut -------------------------------------------------------------------------


def _spread(target: Target, channels: int, positions: int) -> Spread:
    return Spread(blocks(channels, target), positions, _ITEM, _UNROLL)


def unrolled(b: Builder, first: Int, stop: Int, body: Callable[[Int], None]) -> None:
    """Run `body(position)` for first ≤ position < stop, some of them side by side."""

    def several(i: Int, count: int) -> None:
        for k in range(count):
            body(b.add(i, k))

    if isinstance(first, int) and isinstance(stop, int):
        b.tiled(stop - first, _UNROLL, lambda i, count: several(b.add(first, i), count))
    else:
        b.tiled_range(first, stop, _UNROLL, several)


def real_lanes(b: Builder, channels: int, block: Int, value: Value, other: Value) -> Value:
    """`value` in the lanes that are channels, `other` in those beyond the last one."""
    rest = channels % b.width
    if not rest:
        return value
    here = ", ".join(f"i1 {int(k < rest)}" for k in range(b.width))
    every = ", ".join(["i1 1"] * b.width)
    last = b.compare("eq", block, channels // b.width)
    mask = b.let(f"select i1 {last}, {b.bits} <{here}>, {b.bits} <{every}>")
    return b.select(mask, value, other)


# ---- sums ----------------------------------------------------------------------------------------

# One float64 number a lane, as two vectors of half the lanes each.
_Pair = tuple[Value, Value]


class _Doubles:
    """Arithmetic on pairs; sums that a loop carries travel as bits of float32 vectors."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.half = b.width // 2
        self.kind = f"<{self.half} x double>"

    def widen(self, value: Value) -> _Pair:
        """A float32 vector in float64."""
        b, narrow = self.b, f"<{self.half} x float>"
        found = []
        for start in (0, self.half):
            lanes = ", ".join(f"i32 {start + k}" for k in range(self.half))
            mask = f"<{self.half} x i32> <{lanes}>"
            part = b.let(f"shufflevector {b.vector} {value}, {b.vector} poison, {mask}")
            found.append(b.let(f"fpext {narrow} {part} to {self.kind}"))
        return found[0], found[1]

    def narrow(self, pair: _Pair) -> Value:
        """The nearest float32 vector."""
        b, narrow = self.b, f"<{self.half} x float>"
        low, high = (b.let(f"fptrunc {self.kind} {x} to {narrow}") for x in pair)
        lanes = ", ".join(f"i32 {k}" for k in range(b.width))
        mask = f"<{b.width} x i32> <{lanes}>"
        return b.let(f"shufflevector {narrow} {low}, {narrow} {high}, {mask}")

    def do(self, how: str, a: _Pair, c: _Pair) -> _Pair:
        """fadd, fsub, fmul or fdiv."""
        low, high = (self.b.let(f"{how} {self.kind} {x}, {y}") for x, y in zip(a, c, strict=True))
        return low, high

    def root(self, a: _Pair) -> _Pair:
        name = f"llvm.sqrt.v{self.half}f64"
        self.b.declare(f"declare {self.kind} @{name}({self.kind})")
        low, high = (self.b.let(f"call {self.kind} @{name}({self.kind} {x})") for x in a)
        return low, high

    def const(self, value: float) -> _Pair:
        bits = struct.unpack("<Q", struct.pack("<d", value))[0]
        text = "<" + ", ".join([f"double 0x{bits:016X}"] * self.half) + ">"
        return text, text

    def count(self, number: Int) -> _Pair:
        """An integer in every lane."""
        b = self.b
        scalar = b.let(f"sitofp i64 {number} to double")
        first = b.let(f"insertelement {self.kind} poison, double {scalar}, i32 0")
        zeros = f"<{self.half} x i32> zeroinitializer"
        found = b.let(f"shufflevector {self.kind} {first}, {self.kind} poison, {zeros}")
        return found, found

    def pack(self, pairs: Sequence[_Pair]) -> list[Value]:
        b = self.b
        return [b.let(f"bitcast {self.kind} {x} to {b.vector}") for pair in pairs for x in pair]

    def unpack(self, values: Sequence[Value]) -> list[_Pair]:
        b = self.b
        halves = [b.let(f"bitcast {b.vector} {x} to {self.kind}") for x in values]
        return list(zip(halves[::2], halves[1::2], strict=True))


# Adds one position (given with the chunk's first) to two sums.
_Step = Callable[[Int, Value, Value], tuple[Value, Value]]
# A chunk's step, given its first position and its length.
_Start = Callable[[Int, int], _Step]
# The totals over all chunks and a chunk's two sums, first position and length, to new totals.
_Merge = Callable[[list[_Pair], Value, Value, Int, int], list[_Pair]]


def _chunked(
    b: Builder, positions: int, totals: list[Value], start: _Start, merge: _Merge
) -> list[Value]:
    """Two sums over a sample's positions, chunk by chunk; totals as `_Doubles.pack` gives them."""
    doubles = _Doubles(b)

    def chunk(first: Int, size: int, totals: list[Value]) -> list[Value]:
        step = start(first, size)

        def several(i: Int, count: int, sums: list[Value]) -> list[Value]:
            sums = list(sums)
            for k in range(count):
                b.fence()
                at = b.add(b.add(first, i), k)
                sums[2 * k : 2 * k + 2] = step(at, sums[2 * k], sums[2 * k + 1])
            return sums

        whole = size // _UNROLL * _UNROLL
        sums = [b.zero] * (2 * _UNROLL)
        sums = b.loop(0, whole, lambda i, s: several(i, _UNROLL, s), sums, step=_UNROLL)
        sums = several(whole, size - whole, sums)
        one, two = (_sum(b, sums[k::2]) for k in range(2))
        return doubles.pack(merge(doubles.unpack(totals), one, two, first, size))

    first = 0
    sizes = split(positions, _CHUNK)
    for size in dict.fromkeys(sizes):
        count = sizes.count(size)

        def one(i: Int, t: list[Value], size: int = size, first: int = first) -> list[Value]:
            return chunk(b.add(first, b.mul(i, size)), size, t)

        totals = b.loop(0, count, one, totals)
        first += size * count
    return totals


def _sum(b: Builder, values: Sequence[Value]) -> Value:
    """The sum, neighbours first."""
    values = list(values)
    while len(values) > 1:
        pairs = [b.fadd(x, y) for x, y in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(values) // 2 * 2 :]
    return values[0]


# ---- training ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def batch_statistics(
    target: Target, channels: int, positions: int, eps: float, momentum: float
) -> Recipe:
    """Mean and 1/√(variance + eps) of each channel over the batch, and the running statistics.

        mean = Σ x / N,  inverse = 1/√(Σ (x − mean)²/N + eps),  N = samples · positions
        running_mean ← (1 − momentum) · running_mean + momentum · mean
        running_var ← (1 − momentum) · running_var + momentum · Σ (x − mean)²/(N − 1)

    Each chunk of positions is summed around the mean of four of them, so a mean that is large
    against the deviation costs no accuracy.

    Args:
        target: what the code is for.
        channels: channels of x (blocked); the other arrays are whole vectors of channels.
        positions: positions of a sample.
        eps: what is added to the variance.
        momentum: share of the new statistics in the running ones.

    Returns:
        Arguments mean, inverse, running_mean, running_var, x, samples, x_step, part (a block).

    Source: Ioffe and Szegedy (2015), Batch normalization; Chan, Golub and LeVeque (1983).
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        mean, inverse, running_mean, running_var, x, samples, step, part = arguments
        d = _Doubles(b)
        channel = b.mul(part, b.width)
        block = b.at(x, b.mul(channel, positions))

        def sample(n: Int, totals: list[Value]) -> list[Value]:
            here = b.at(block, b.mul(n, step))
            return _sums_around_shift(b, here, positions, totals)

        totals = b.loop(0, samples, sample, d.pack([d.const(0.0)] * 2))
        total, squares = d.unpack(totals)
        number = b.mul(samples, positions)
        middle = d.do("fdiv", total, d.count(number))
        spread = d.do("fsub", squares, d.do("fmul", middle, total))
        spread = _at_least_zero(d, spread)
        variance = d.do("fdiv", spread, d.count(number))
        root = d.root(d.do("fadd", variance, d.const(eps)))
        found = d.narrow(middle)
        unbiased = d.do("fdiv", spread, d.count(_at_least_one(b, b.sub(number, 1))))
        b.store(real_lanes(b, channels, part, found, b.zero), mean, channel)
        found_inverse = d.narrow(d.do("fdiv", d.const(1.0), root))
        b.store(real_lanes(b, channels, part, found_inverse, b.zero), inverse, channel)
        for running, new in ((running_mean, found), (running_var, d.narrow(unbiased))):
            old = b.load(running, channel)
            mixed = b.fma(b.const(momentum), new, b.fmul(b.const(1.0 - momentum), old))
            b.store(real_lanes(b, channels, part, mixed, old), running, channel)

    names = ["mean", "inverse", "running_mean", "running_var", "x"]
    names += ["samples:i64", "x_step:i64", "part:i64"]
    kernel = make_kernel(target, "batch_statistics", names, build)
    return recipe(Routine(kernel, blocks(channels, target), samples=0))


def _sums_around_shift(b: Builder, x: Value, positions: int, totals: list[Value]) -> list[Value]:
    """Add Σ x and Σ x² of one block and sample: with s = the mean of some of the chunk, d = x − s,

    Σ x = Σ d + n·s and Σ x² = Σ d² + s·(2·Σ d + n·s).
    """
    doubles = _Doubles(b)
    shifts: dict[Int, Value] = {}

    def start(first: Int, size: int) -> _Step:
        some = [b.load(x, b.mul(b.add(first, k * size // 4), b.width)) for k in range(4)]
        shift = shifts[first] = b.fmul(_sum(b, some), b.const(0.25))

        def step(i: Int, total: Value, squares: Value) -> tuple[Value, Value]:
            d = b.fsub(b.load(x, b.mul(i, b.width)), shift)
            return b.fadd(total, d), b.fma(d, d, squares)

        return step

    def merge(
        totals: list[_Pair], total: Value, squares: Value, first: Int, size: int
    ) -> list[_Pair]:
        do = doubles.do
        shift, d, dd = (doubles.widen(v) for v in (shifts[first], total, squares))
        moved = do("fmul", doubles.const(float(size)), shift)
        whole = do("fadd", d, moved)
        square = do("fadd", dd, do("fmul", shift, do("fadd", whole, d)))
        return [do("fadd", totals[0], whole), do("fadd", totals[1], square)]

    return _chunked(b, positions, totals, start, merge)


def _at_least_zero(d: _Doubles, pair: _Pair) -> _Pair:
    """max(pair, 0); NaN stays."""
    bits, zero = f"<{d.half} x i1>", d.const(0.0)[0]
    found = []
    for x in pair:
        below = d.b.let(f"fcmp olt {d.kind} {x}, {zero}")
        found.append(d.b.let(f"select {bits} {below}, {d.kind} {zero}, {d.kind} {x}"))
    return found[0], found[1]


def _at_least_one(b: Builder, number: Int) -> Int:
    b.declare("declare i64 @llvm.smax.i64(i64, i64)")
    return b.let(f"call i64 @llvm.smax.i64(i64 {number}, i64 1)")


@functools.lru_cache(maxsize=256)
def batch_norm(target: Target, channels: int, positions: int, tail: Tail | None = None) -> Recipe:
    """y = (x − mean) · inverse · weight + bias, channel by channel, through the tail.

    Args:
        target: what the code is for.
        channels: channels of x and y (blocked); per-channel arrays are whole vectors.
        positions: positions of a sample.
        tail: what is fused behind it.

    Returns:
        Arguments out, x, mean, inverse, weight, bias, the tail's, part.
    """
    spread = _spread(target, channels, positions)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, x, *vectors = arguments[:6]
        rest, part = arguments[6:-1], arguments[-1]

        def block(k: Int, first: Int, stop: Int) -> None:
            channel = b.mul(k, b.width)
            mean, inverse, weight, bias = (b.load(v, channel) for v in vectors)
            scale = b.fmul(inverse, weight)

            def position(i: Int) -> None:
                at = b.mul(b.add(b.mul(k, positions), i), b.width)
                y = b.fma(b.fsub(b.load(x, at), mean), scale, bias)
                store_with_tail(b, tail, y, out, at, rest)

            unrolled(b, first, stop, position)

        spread.walk(b, part, block)

    names = ["out", "x", "mean", "inverse", "weight", "bias"]
    return _spread_recipe(target, "batch_norm", names, tail, spread, build)


def _spread_recipe(
    target: Target,
    name: str,
    names: list[str],
    tail: Tail | None,
    spread: Spread,
    build: Callable[[Builder, list[Value]], None],
) -> Recipe:
    names = [*names, *(tail.arguments if tail else ()), "part:i64"]
    return recipe(Routine(make_kernel(target, name, names, build), spread.parts))


@functools.lru_cache(maxsize=256)
def batch_norm_sums(target: Target, channels: int, positions: int) -> Recipe:
    """The gradients of weight and bias: dw = Σ dy · (x − mean) · inverse and db = Σ dy.

    Args:
        target: what the code is for.
        channels: channels of x and dy (blocked); the other arrays are whole vectors.
        positions: positions of a sample.

    Returns:
        Arguments dw, db, dy, x, mean, inverse, samples, dy_step, x_step, part (a block).
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        dw, db, dy, x, mean, inverse, samples, dy_step, x_step, part = arguments
        doubles = _Doubles(b)
        channel = b.mul(part, b.width)
        middle = b.load(mean, channel)

        def sample(n: Int, totals: list[Value]) -> list[Value]:
            place = b.mul(channel, positions)
            dy_here = b.at(dy, b.add(b.mul(n, dy_step), place))
            x_here = b.at(x, b.add(b.mul(n, x_step), place))

            def step(i: Int, plain: Value, weighted: Value) -> tuple[Value, Value]:
                at = b.mul(i, b.width)
                slope = b.load(dy_here, at)
                d = b.fsub(b.load(x_here, at), middle)
                return b.fadd(plain, slope), b.fma(slope, d, weighted)

            return _chunked(b, positions, totals, lambda _, __: step, merge)

        def merge(totals: list[_Pair], one: Value, two: Value, _: Int, __: int) -> list[_Pair]:
            parts = (doubles.widen(one), doubles.widen(two))
            return [doubles.do("fadd", t, p) for t, p in zip(totals, parts, strict=True)]

        totals = b.loop(0, samples, sample, doubles.pack([doubles.const(0.0)] * 2))
        plain, weighted = (doubles.narrow(t) for t in doubles.unpack(totals))
        weighted = b.fmul(weighted, b.load(inverse, channel))
        b.store(real_lanes(b, channels, part, weighted, b.zero), dw, channel)
        b.store(real_lanes(b, channels, part, plain, b.zero), db, channel)

    names = ["dw", "db", "dy", "x", "mean", "inverse"]
    names += ["samples:i64", "dy_step:i64", "x_step:i64", "part:i64"]
    kernel = make_kernel(target, "batch_norm_sums", names, build)
    return recipe(Routine(kernel, blocks(channels, target), samples=0))


@functools.lru_cache(maxsize=256)
def batch_norm_gradient(
    target: Target, channels: int, positions: int, tail: Tail | None = None
) -> Recipe:
    """The gradient to the input through the batch's own statistics.

        dx = weight · inverse · (dy − db/N − (x − mean) · inverse · dw/N),  N = batch · positions

    Args:
        target: what the code is for.
        channels: channels of x, dy and dx (blocked); per-channel arrays are whole vectors.
        positions: positions of a sample.
        tail: what is fused behind it.

    Returns:
        Arguments out, dy, x, mean, inverse, weight, dw, db, the tail's, batch:i64 (the batch's
        samples), part.
    """
    spread = _spread(target, channels, positions)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, dy, x, *vectors = arguments[:8]
        rest, batch, part = arguments[8:-2], arguments[-2], arguments[-1]
        number = b.let(f"sitofp i64 {b.mul(batch, positions)} to float")
        share = b.fdiv(b.const(1.0), b.splat(number))

        def block(k: Int, first: Int, stop: Int) -> None:
            channel = b.mul(k, b.width)
            mean, inverse, weight, dw, db = (b.load(v, channel) for v in vectors)
            scale = b.fmul(inverse, weight)
            part = b.fneg(b.fmul(scale, share))
            constant, slope = b.fmul(part, db), b.fmul(b.fmul(part, inverse), dw)

            def position(i: Int) -> None:
                at = b.mul(b.add(b.mul(k, positions), i), b.width)
                d = b.fsub(b.load(x, at), mean)
                dx = b.fma(b.load(dy, at), scale, b.fma(d, slope, constant))
                store_with_tail(b, tail, dx, out, at, rest)

            unrolled(b, first, stop, position)

        spread.walk(b, part, block)

    names = ["out", "dy", "x", "mean", "inverse", "weight", "dw", "db"]
    names += [*(tail.arguments if tail else ()), "batch:i64", "part:i64"]
    return recipe(Routine(make_kernel(target, "batch_norm_gradient", names, build), spread.parts))


# ---- inference -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def fold(target: Target, channels: int, eps: float, bias: bool) -> Recipe:
    """Batch normalisation with running statistics as one factor and one term a channel.

        scale = weight/√(var + eps),  shift = b + (bias − mean) · scale

    Args:
        target: what the code is for.
        channels: numbers in every array read; scale and shift are whole vectors (0 beyond).
        eps: what is added to the variance.
        bias: whether the layer before has a bias that is to go into the shift.

    Returns:
        Arguments scale, shift, weight, b, mean, var, [bias], part (there is one).
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        scale, shift, *sources, _ = arguments

        def block(channel: Int, lanes: int) -> None:
            values = [_load_lanes(b, s, channel, lanes) for s in sources]
            weight, term, mean, var = values[:4]
            root = b.unary("sqrt", b.fadd(var, b.const(eps)))
            factor = _first_lanes(b, b.fdiv(weight, root), lanes)
            away = b.fsub(values[4], mean) if bias else b.fneg(mean)
            b.store(factor, scale, channel)
            b.store(b.fma(away, factor, term), shift, channel)

        b.tiled(channels, b.width, block)

    names = ["scale", "shift", "weight", "b", "mean", "var", *(["bias"] if bias else [])]
    kernel = make_kernel(target, "fold", [*names, "part:i64"], build)
    return recipe(Routine(kernel, samples=0))


def _load_lanes(b: Builder, pointer: Value, at: Int, lanes: int) -> Value:
    """`lanes` floats of an array of exactly that size, 0 in the other lanes."""
    if lanes == b.width:
        return b.load(pointer, at, align=4)
    found = b.zero
    for lane in range(lanes):
        found = b.insert(found, b.load_float(pointer, b.add(at, lane)), lane)
    return found


def _first_lanes(b: Builder, value: Value, lanes: int) -> Value:
    """`value` in the first lanes, 0 in the others."""
    return b.shuffle(value, b.zero, [k if k < lanes else b.width for k in range(b.width)])


@functools.lru_cache(maxsize=256)
def affine(target: Target, channels: int, positions: int, tail: Tail | None = None) -> Recipe:
    """y = x · scale + shift, channel by channel, through the tail.

    Args:
        target: what the code is for.
        channels: channels of x and y (blocked); scale and shift are whole vectors.
        positions: positions of a sample.
        tail: what is fused behind it.

    Returns:
        Arguments out, x, scale, shift, the tail's, part.
    """
    spread = _spread(target, channels, positions)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, x, scale, shift = arguments[:4]
        rest, part = arguments[4:-1], arguments[-1]

        def block(k: Int, first: Int, stop: Int) -> None:
            channel = b.mul(k, b.width)
            factor, term = b.load(scale, channel), b.load(shift, channel)

            def position(i: Int) -> None:
                at = b.mul(b.add(b.mul(k, positions), i), b.width)
                store_with_tail(b, tail, b.fma(b.load(x, at), factor, term), out, at, rest)

            unrolled(b, first, stop, position)

        spread.walk(b, part, block)

    return _spread_recipe(target, "affine", ["out", "x", "scale", "shift"], tail, spread, build)
