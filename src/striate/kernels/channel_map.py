"""Scalar functions with parameters of each channel, on images as they lie in memory.

A channel's places lie side by side; its parameters are spread over a vector once and stay in
registers. The gradients to all parameters come out of one pass over the images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import emit
from striate.formula.expression import Expr, variables
from striate.kernels.kernel import make_kernel
from striate.kernels.routine import Recipe, Routine, recipe

_TILE = 4  # vectors of a channel at once


@dataclass(frozen=True)
class Scalar:
    """A scalar of a channel: where channel c's number stands.

    Attributes:
        tensor: the parameter's name.
        start: of the first channel, in floats.
        own: whether every channel has one of its own.
    """

    tensor: str
    start: int = 0
    own: bool = True


@dataclass(frozen=True)
class ChannelFunction:
    """What a channel map computes with.

    Attributes:
        channels, places: of an image.
        scalars: by the names that expressions use.
        constants: lists of numbers that the channels go through in turn, by name.
        images: names of the images that expressions read, in order.
    """

    channels: int
    places: int
    scalars: tuple[tuple[str, Scalar], ...]
    constants: tuple[tuple[str, tuple[float, ...]], ...] = ()
    images: tuple[str, ...] = ("x",)

    @property
    def tensors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(scalar.tensor for _, scalar in self.scalars))


@functools.lru_cache(maxsize=256)
def channel_map(target: Target, function: ChannelFunction, expr: Expr) -> Recipe:
    """out = expr: arguments out, the images, the tensors; one sample an item."""
    f = function

    def build(b: Builder, arguments: list[Value]) -> None:
        pointers = dict(zip(("out", *f.images, *f.tensors), arguments, strict=True))

        def channel(c: Int, _: list[Value]) -> None:
            known = _scalars(b, f, variables(expr), pointers, c)
            base = b.mul(c, f.places)
            rows = {name: b.at(pointers[name], base) for name in f.images}
            out = b.at(pointers["out"], base)

            def one(at: Int, count: int) -> None:
                images = {name: b.load_part(row, at, count) for name, row in rows.items()}
                b.store_part(emit(b, expr, {**known, **images}), out, at, count)

            _places(b, f.places, lambda at, count, totals: one(at, count) or totals, [])

        b.loop(0, f.channels, channel)

    names = ["out", *f.images, *f.tensors]
    return recipe(Routine(make_kernel(target, "channel_map", names, build)))


@functools.lru_cache(maxsize=256)
def channel_sums(
    target: Target, function: ChannelFunction, sums: tuple[tuple[str, Expr], ...]
) -> Recipe:
    """Sums over the batch and a channel's places, of several expressions.

    Each goes to the place of a scalar (by its name) in "d" + its tensor. Arguments: the d-tensors,
    the images, the tensors, the images' steps, samples, part. Every scalar is each channel's own.
    """
    f = function
    named = dict(f.scalars)
    outs = tuple(dict.fromkeys(f"d{named[name].tensor}" for name, _ in sums))
    steps = [f"{name}_step:i64" for name in f.images]
    arguments = [*outs, *f.images, *f.tensors, *steps, "samples:i64", "part:i64"]

    def build(b: Builder, given: list[Value]) -> None:
        values = dict(zip((a.partition(":")[0] for a in arguments), given, strict=True))
        c = values["part"]
        read = tuple(v for _, e in sums for v in variables(e))
        known = _scalars(b, f, read, values, c)

        def sample(n: Int, totals: list[Value]) -> list[Value]:
            rows = {
                name: b.at(
                    values[name], b.add(b.mul(n, values[f"{name}_step"]), b.mul(c, f.places))
                )
                for name in f.images
            }

            def some(at: Int, count: int, totals: list[Value]) -> list[Value]:
                images = {name: b.load_part(row, at, count) for name, row in rows.items()}
                found = [emit(b, e, {**known, **images}) for _, e in sums]
                if count < b.width:
                    found = [b.first_lanes(value, count) for value in found]
                return [b.fadd(t, value) for t, value in zip(totals, found, strict=True)]

            return _places(b, f.places, some, totals)

        totals = b.loop(0, values["samples"], sample, [b.zero] * len(sums))
        for (name, _), total in zip(sums, totals, strict=True):
            scalar = named[name]
            first = b.extract(b.sum_lanes([total]), 0)
            b.store_float(first, values[f"d{scalar.tensor}"], b.add(c, scalar.start))

    kernel = make_kernel(target, "channel_sums", arguments, build)
    return recipe(Routine(kernel, parts=f.channels, samples=0))


def _scalars(
    b: Builder,
    f: ChannelFunction,
    wanted: Sequence[str],
    pointers: Mapping[str, Value],
    c: Int,
) -> dict[str, Value]:
    """A vector of each scalar of channel c."""
    found = {}
    for name, scalar in f.scalars:
        if name in wanted:
            at = b.add(c, scalar.start) if scalar.own else scalar.start
            found[name] = b.broadcast(pointers[scalar.tensor], at)
    for name, row in f.constants:
        if name in wanted:
            table = b.float_table(row)
            at = 0 if len(row) == 1 else b.let(f"urem i64 {c}, {len(row)}")
            found[name] = b.broadcast(table, at)
    return found


_Step = Callable[[Int, int, list[Value]], list[Value]]


def _places(b: Builder, places: int, step: _Step, totals: list[Value]) -> list[Value]:
    """`step(first place, how many, totals)` over a channel's places, a vector at a time."""
    tile = _TILE * b.width

    def several(at: Int, totals: list[Value]) -> list[Value]:
        for k in range(_TILE):
            totals = step(b.add(at, k * b.width), b.width, totals)
        return totals

    whole = places // tile * tile
    totals = b.loop(0, whole, several, totals, step=tile)
    for at in range(whole, places, b.width):
        totals = step(at, min(b.width, places - at), totals)
    return totals
