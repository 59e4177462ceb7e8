"""Scalar functions with parameters of each channel, channels in lanes: forward and both gradients.

A vector is a position's channels, so a parameter is a vector that is loaded once a block. The
gradients to all parameters are summed in one pass over x and the upstream gradient: in float32
over short chunks of positions, in float64 over the chunks, in one fixed order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import Emitter
from striate.formula.expression import Expr, Var, chain, diff
from striate.kernels.kernel import make_kernel
from striate.kernels.norm import _Doubles, real_lanes, unrolled
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.kernels.spread import Spread
from striate.kernels.window import split

_CHUNK = 64  # positions that are summed in float32
_ITEM = 2048  # vectors that an item should have at least
_UNROLL = 4
UPSTREAM = Var("g")


@dataclass(frozen=True)
class Numbers:
    """A parameter: the scalars that its rows give, and whether all channels share each."""

    scalars: tuple[str, ...]
    shared: bool


@dataclass(frozen=True)
class ChannelFunction:
    """`y = expr(x, parameters of the channel)` on blocked values.

    `constants` are scalars with a value for each lane, the same in all blocks.
    """

    expr: Expr
    channels: int
    positions: int
    parameters: tuple[Numbers, ...]
    constants: tuple[tuple[str, tuple[float, ...]], ...] = ()

    @property
    def scalars(self) -> tuple[str, ...]:
        return tuple(name for p in self.parameters for name in p.scalars)


def _values(
    b: Builder, f: ChannelFunction, pointers: Sequence[Value], block: Int
) -> dict[str, Value]:
    """The vector of each scalar in a block of channels."""
    found = {name: _lanes(b, values) for name, values in f.constants}
    for numbers, pointer in zip(f.parameters, pointers, strict=True):
        for row, name in enumerate(numbers.scalars):
            if numbers.shared:
                found[name] = b.broadcast(pointer, row)
            else:
                found[name] = _row(b, f.channels, pointer, row * f.channels, block)
    return found


def _lanes(b: Builder, values: Sequence[float]) -> Value:
    """A constant with the values over and over."""
    vector = b.const(values[0])
    for lane in range(1, b.width):
        value = values[lane % len(values)]
        if value != values[0]:
            scalar = b.const(value)
            vector = b.insert(vector, b.extract(scalar, 0), lane)
    return vector


def _row(b: Builder, channels: int, pointer: Value, start: int, block: Int) -> Value:
    """A block's numbers of a row that need not fill whole vectors; nothing beyond it is read."""
    first = b.mul(block, b.width)
    if channels % b.width == 0:
        return b.load(pointer, b.add(first, start), align=4)
    vector = b.zero
    for lane in range(b.width):
        channel = b.minimum(b.add(first, lane), channels - 1)
        vector = b.insert(vector, b.load_float(pointer, b.add(channel, start)), lane)
    return vector


def _pointwise(
    target: Target, name: str, f: ChannelFunction, expr: Expr, sources: tuple[str, ...]
) -> Recipe:
    """out = expr(sources, the channel's scalars) at each place."""
    spread = Spread(blocks(f.channels, target), f.positions, _ITEM, _UNROLL)
    count = len(sources)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, *rest, part = arguments

        def block(k: Int, first: Int, stop: Int) -> None:
            known = _values(b, f, rest[count:], k)

            def position(i: Int) -> None:
                at = b.mul(b.add(b.mul(k, f.positions), i), b.width)
                here = {s: b.load(p, at) for s, p in zip(sources, rest[:count], strict=True)}
                b.store(Emitter(b, {**known, **here}).value(expr), out, at)

            unrolled(b, first, stop, position)

        spread.walk(b, part, block)

    names = ["out", *sources, *(f"p{k}" for k in range(len(f.parameters))), "part:i64"]
    return recipe(Routine(make_kernel(target, name, names, build), spread.parts))


@functools.lru_cache(maxsize=256)
def channel_map(target: Target, f: ChannelFunction) -> Recipe:
    """y = f(x): arguments out, x, p0 …, part."""
    return _pointwise(target, "channel_map", f, f.expr, ("x",))


@functools.lru_cache(maxsize=256)
def channel_map_gradient(target: Target, f: ChannelFunction) -> Recipe:
    """dx = g · ∂f/∂x: arguments out, g, x, p0 …, part."""
    slope = chain(diff(f.expr, Var("x")), UPSTREAM)
    return _pointwise(target, "channel_map_gradient", f, slope, ("g", "x"))


@functools.lru_cache(maxsize=256)
def channel_map_sums(target: Target, f: ChannelFunction) -> Recipe:
    """Σ g · ∂f/∂p over samples and positions, for every scalar p and channel.

    Returns:
        Arguments sums (scalars, blocks, lanes), g, x, p0 …, samples, g_step, x_step, part (a
        block). Lanes beyond the last channel are 0.
    """
    slopes = [chain(diff(f.expr, Var(name)), UPSTREAM) for name in f.scalars]
    total_blocks = blocks(f.channels, target)

    def build(b: Builder, arguments: list[Value]) -> None:
        sums, g, x, *pointers = arguments[: 3 + len(f.parameters)]
        samples, g_step, x_step, part = arguments[3 + len(f.parameters) :]
        doubles = _Doubles(b)
        known = _values(b, f, pointers, part)
        place = b.mul(part, f.positions * b.width)

        def sample(n: Int, totals: list[Value]) -> list[Value]:
            g_here = b.at(g, b.add(b.mul(n, g_step), place))
            x_here = b.at(x, b.add(b.mul(n, x_step), place))

            def position(i: Int, found: list[Value]) -> list[Value]:
                at = b.mul(i, b.width)
                emitter = Emitter(b, {**known, "g": b.load(g_here, at), "x": b.load(x_here, at)})
                return [b.fadd(t, emitter.value(e)) for t, e in zip(found, slopes, strict=True)]

            return _chunks(b, f.positions, totals, len(slopes), position)

        empty = doubles.pack([doubles.const(0.0)] * len(slopes))
        totals = doubles.unpack(b.loop(0, samples, sample, empty))
        for k, total in enumerate(totals):
            at = b.mul(b.add(part, k * total_blocks), b.width)
            b.store(real_lanes(b, f.channels, part, doubles.narrow(total), b.zero), sums, at)

    names = ["sums", "g", "x", *(f"p{k}" for k in range(len(f.parameters)))]
    names += ["samples:i64", "g_step:i64", "x_step:i64", "part:i64"]
    kernel = make_kernel(target, "channel_map_sums", names, build)
    return recipe(Routine(kernel, total_blocks, samples=0))


def _chunks(
    b: Builder,
    positions: int,
    totals: list[Value],
    count: int,
    position: Callable[[Int, list[Value]], list[Value]],
) -> list[Value]:
    """The totals (as `_Doubles.pack` gives them) and a sample's sums, chunk by chunk."""
    doubles = _Doubles(b)

    def chunk(first: Int, size: int, totals: list[Value]) -> list[Value]:
        sums = b.loop(0, size, lambda i, s: position(b.add(first, i), s), [b.zero] * count)
        parts = [doubles.widen(s) for s in sums]
        before = doubles.unpack(totals)
        return doubles.pack([doubles.do("fadd", t, p) for t, p in zip(before, parts, strict=True)])

    sizes, first = split(positions, _CHUNK), 0
    for size in dict.fromkeys(sizes):
        number = sizes.count(size)

        def one(i: Int, t: list[Value], size: int = size, first: int = first) -> list[Value]:
            return chunk(b.add(first, b.mul(i, size)), size, t)

        totals = b.loop(0, number, one, totals)
        first += size * number
    return totals


@functools.lru_cache(maxsize=256)
def parameter_gradient(target: Target, f: ChannelFunction, which: int) -> Recipe:
    """A parameter's gradient from the sums: arguments out, sums.

    Those of a number that the channels share are added up. `out` is filled to whole vectors.
    """
    numbers = f.parameters[which]
    before = sum(len(p.scalars) for p in f.parameters[:which])
    total_blocks = blocks(f.channels, target)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, sums = arguments
        size = (1 if numbers.shared else f.channels) * len(numbers.scalars)
        for row in range(len(numbers.scalars)):
            start = (before + row) * total_blocks * b.width
            if numbers.shared:
                _total(b, sums, start, total_blocks, out, row)
                continue

            def copy(c: Int, _: list[Value], start: int = start, row: int = row) -> None:
                b.store_float(b.load_float(sums, b.add(c, start)), out, b.add(c, row * f.channels))

            b.loop(0, f.channels, copy)
        for at in range(size, blocks(size, target) * b.width):
            b.store_float("0.0", out, at)

    kernel = make_kernel(target, "parameter_gradient", ["out", "sums"], build)
    return recipe(Routine(kernel, samples=0))


def _total(b: Builder, sums: Value, start: int, count: int, out: Value, at: int) -> None:
    """out[at] = the sum of all lanes of `count` vectors."""

    def add(k: Int, total: list[Value]) -> list[Value]:
        return [b.fadd(total[0], b.load(sums, b.add(b.mul(k, b.width), start)))]

    (total,) = b.loop(0, count, add, [b.zero])
    b.store_float(b.extract(b.sum_lanes([total]), 0), out, at)
