"""Switches of max pooling, and numbers put back where they say, for windows that lie apart.

A plane is rows × columns of vectors: a block of channels of one sample, or one channel of a
vector of samples. Windows lie inside the plane and share no place; others are computed by their
formula (`formula.unpool`), which these kernels agree with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel


@dataclass(frozen=True)
class Switches:
    """Windows without padding that do not overlap.

    Attributes:
        image: (rows, columns) of the plane that was pooled.
        windows: how many, (down, across).
        kernel, stride, dilation: (rows, columns).
        planes: how many, one after the other.
    """

    image: tuple[int, int]
    windows: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    planes: int = 1

    @property
    def offsets(self) -> list[int]:
        """Places of a window's elements, counted from its first, row by row."""
        (kh, kw), (dh, dw), width = self.kernel, self.dilation, self.image[1]
        return [p * dh * width + q * dw for p in range(kh) for q in range(kw)]

    @property
    def covers(self) -> bool:
        """Whether every place of the plane is in a window."""
        pairs = zip(self.image, self.windows, self.kernel, strict=True)
        whole = all(size == count * k for size, count, k in pairs)
        return whole and self.stride == self.kernel


def are_apart(stride: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether windows share no place."""
    each = zip(stride, kernel, dilation, strict=True)
    return all(s >= d * (k - 1) + 1 for s, k, d in each)


@functools.lru_cache(maxsize=128)
def max_switches(target: Target, s: Switches) -> Kernel:
    """y[window] = the place of its first maximum (or first NaN); arguments y, x."""

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x = arguments

        def window(at: Int, first: Int, places: Callable[[int], Value]) -> None:
            best, where = b.load(x, b.mul(first, b.width)), places(0)
            for offset in s.offsets[1:]:
                value = b.load(b.at(x, b.mul(first, b.width)), offset * b.width)
                lost = b.bitwise("and", b.fcmp("uno", value, value), b.fcmp("ord", best, best))
                take = b.bitwise("or", b.fcmp("ogt", value, best), lost)
                best = b.select(take, value, best)
                where = b.select(take, places(offset), where)
            b.store(where, y, b.mul(at, b.width))

        _windows(b, s, window)

    return make_kernel(target, "max_switches", ["y", "x"], build)


@functools.lru_cache(maxsize=128)
def max_unpool(target: Target, s: Switches) -> Kernel:
    """y[place] = x[window] where the window's switch names the place, else 0.

    Arguments y, x, indices.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x, indices = arguments
        if not s.covers:
            count = s.image[0] * s.image[1] * s.planes
            b.loop(0, count, lambda k, _: b.store(b.zero, y, b.mul(k, b.width)))

        def window(at: Int, first: Int, places: Callable[[int], Value]) -> None:
            value = b.load(x, b.mul(at, b.width))
            switch = b.load(indices, b.mul(at, b.width))
            base = b.at(y, b.mul(first, b.width))
            for offset in s.offsets:
                hit = b.fcmp("oeq", switch, places(offset))
                b.store(b.select(hit, value, b.zero), base, offset * b.width)

        _windows(b, s, window)

    return make_kernel(target, "max_unpool", ["y", "x", "indices"], build)


@functools.lru_cache(maxsize=128)
def max_unpool_gradient(target: Target, s: Switches) -> Kernel:
    """dx[window] = dy at the place that its switch names, 0 where that is none of its own.

    Arguments dx, dy, indices.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        dx, dy, indices = arguments

        def window(at: Int, first: Int, places: Callable[[int], Value]) -> None:
            switch = b.load(indices, b.mul(at, b.width))
            base, found = b.at(dy, b.mul(first, b.width)), b.zero
            for offset in s.offsets:
                hit = b.fcmp("oeq", switch, places(offset))
                found = b.select(hit, b.load(base, offset * b.width), found)
            b.store(found, dx, b.mul(at, b.width))

        _windows(b, s, window)

    return make_kernel(target, "max_unpool_gradient", ["dx", "dy", "indices"], build)


def _windows(
    b: Builder, s: Switches, body: Callable[[Int, Int, Callable[[int], Value]], None]
) -> None:
    """`body(number of the window, its first place, the vector of a place)` for each window.

    Windows and places are counted through all planes, a place's vector within its own.
    """
    (down, across), (sh, sw), (height, width) = s.windows, s.stride, s.image

    def row(i: Int, plane: Int) -> None:
        def one(j: Int, _: list[Value]) -> None:
            first = b.add(b.mul(i, sh * width), b.mul(j, sw))
            number = _vector(b, first)

            def place(offset: int) -> Value:
                return b.fadd(number, b.const(float(offset))) if offset else number

            at = b.add(b.mul(b.add(b.mul(plane, down), i), across), j)
            body(at, b.add(b.mul(plane, height * width), first), place)

        b.loop(0, across, one)

    b.loop(0, s.planes, lambda plane, _: b.loop(0, down, lambda i, _: row(i, plane)))


def _vector(b: Builder, number: Int) -> Value:
    if isinstance(number, int):
        return b.const(float(number)) if number else b.zero
    return b.splat(b.let(f"sitofp i64 {number} to float"))
