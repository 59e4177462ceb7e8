"""Filters on plain images by Fourier transforms down the columns, in blocks that fit the cache.

A strip of N padded rows is transformed column by column, columns side by side in lanes, so no
transposition is needed anywhere. Down the columns the filter is then a product for each frequency;
along the rows it stays a sum over the kernel's columns:

    Y[f, c] = Σ_q X[f, c + q·step] · W[f, q],   W[f, q] = conj(DFT(weight[:, q]))[f] / N

of which the first N − kh + 1 rows are right (overlap–save). Two strips, one below the other, go as
real and imaginary part of one complex strip, since the filter itself is real. Frequencies stay in
the order in which the transform leaves them, and W is kept in that order.

Source: Stockham/Cooley–Tukey, An algorithm for the machine calculation of complex Fourier series,
Math. Comp. 19 (1965); overlap–save: Stockham, High-speed convolution and correlation (1966).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.image import ARGUMENTS, Item
from striate.kernels.kernel import Kernel, make_kernel

VECTORS = 4  # of a tile of the products
LENGTHS = (32, 64, 128, 256, 512)
"""Rows of a block that there are transforms for."""


def radices(length: int) -> tuple[int, ...]:
    """The passes of a transform: fours, and a last two where the length is no power of four."""
    twos = length.bit_length() - 1
    return (4,) * (twos // 2) + (2,) * (twos % 2)


@functools.lru_cache(maxsize=16)
def order(length: int) -> NDArray[np.intp]:
    """The frequency at each place after the forward transform."""
    found = np.zeros(1, np.intp)
    for radix in reversed(radices(length)):
        found = np.concatenate([k + radix * found for k in range(radix)])
    return found


@functools.lru_cache(maxsize=16)
def twiddles(length: int) -> NDArray[np.float32]:
    """For each pass of radix 4 and each j: the real and imaginary parts of w^j, w^2j, w^3j."""
    parts, span = [np.zeros(0)], length
    for radix in radices(length):
        if radix == 4:
            angle = -2j * np.pi / span * np.outer(np.arange(span // 4), [1, 2, 3])
            turned = np.exp(angle)
            parts.append(np.stack([turned.real, turned.imag], -1).ravel())
        span //= radix
    return np.concatenate(parts).astype(np.float32)


def packed_weight(kernel: NDArray[np.float64], length: int) -> NDArray[np.float32]:
    """The twiddles, then W as (frequency, column, (re, im, −im))."""
    spectrum = np.conj(np.fft.fft(kernel, length, axis=0))[order(length)] / length
    triples = np.stack([spectrum.real, spectrum.imag, -spectrum.imag], -1)
    return np.concatenate([twiddles(length), triples.ravel().astype(np.float32)])


_Complex = tuple[Value, Value]
_Butterfly = Callable[[list[_Complex], "Value | None"], list[_Complex]]


class _Transform:
    """Transforms one vector of columns in place: row r's real part at r·pitch, imaginary behind."""

    def __init__(self, b: Builder, length: int, pitch: Int, table: Value) -> None:
        self.b, self.length, self.pitch, self.table = b, length, pitch, table

    def forward(self, re: Value, im: Value) -> None:
        span, at = self.length, 0
        for radix in radices(self.length):
            self._pass(re, im, span, radix, at, self._out_of)
            at += 6 * (span // 4) if radix == 4 else 0
            span //= radix

    def inverse(self, re: Value, im: Value) -> None:
        span, at, done = self.length, 0, []
        for radix in radices(self.length):
            done.append((span, radix, at))
            at += 6 * (span // 4) if radix == 4 else 0
            span //= radix
        for span, radix, at in reversed(done):
            self._pass(re, im, span, radix, at, self._into)

    def _pass(
        self, re: Value, im: Value, span: int, radix: int, at: int, butterfly: _Butterfly
    ) -> None:
        """One pass: blocks of `span` rows; in each, rows j, j + span/radix, … meet."""
        b, part = self.b, span // radix
        jump = b.mul(part, self.pitch)

        def block(k: Int, _: list[Value]) -> None:
            first = b.mul(b.mul(k, span), self.pitch)

            def meet(j: Int, _: list[Value]) -> None:
                here = b.add(first, b.mul(j, self.pitch))
                offsets = [b.add(here, b.mul(m, jump)) for m in range(radix)]
                places = [(b.at(re, o), b.at(im, o)) for o in offsets]
                values = [(b.load(x, 0, 4), b.load(y, 0, 4)) for x, y in places]
                turns = None
                if radix == 4 and span > 4:
                    turns = b.at(self.table, b.add(at, b.mul(j, 6)))
                for (x, y), (r, i) in zip(places, butterfly(values, turns), strict=True):
                    b.store(r, x, 0, 4)
                    b.store(i, y, 0, 4)

            b.loop(0, part, meet)

        b.loop(0, self.length // span, block)

    def _out_of(self, v: list[_Complex], turns: Value | None) -> list[_Complex]:
        if len(v) == 2:
            return [self._sum(v[0], v[1]), self._difference(v[0], v[1])]
        results = self._four(v, forward=True)
        return results if turns is None else self._turned(results, turns, forward=True)

    def _into(self, v: list[_Complex], turns: Value | None) -> list[_Complex]:
        if len(v) == 2:
            return [self._sum(v[0], v[1]), self._difference(v[0], v[1])]
        return self._four(v if turns is None else self._turned(v, turns, forward=False), False)

    def _four(self, v: list[_Complex], forward: bool) -> list[_Complex]:
        """The transform of four numbers (without scale)."""
        b = self.b
        even, odd = self._sum(v[0], v[2]), self._sum(v[1], v[3])
        a, (dr, di) = self._difference(v[0], v[2]), self._difference(v[1], v[3])
        plus = (b.fadd(a[0], di), b.fsub(a[1], dr))  # a − i·d
        minus = (b.fsub(a[0], di), b.fadd(a[1], dr))  # a + i·d
        one, three = (plus, minus) if forward else (minus, plus)
        return [self._sum(even, odd), one, self._difference(even, odd), three]

    def _turned(self, v: list[_Complex], turns: Value, forward: bool) -> list[_Complex]:
        """All but the first times their twiddles, or those's conjugates."""
        b, found = self.b, v[:1]
        for k, (r, i) in enumerate(v[1:]):
            c, s = b.broadcast(turns, 2 * k), b.broadcast(turns, 2 * k + 1)
            rs, is_ = b.fmul(r, s), b.fmul(i, s)
            if forward:
                found.append((b.fma(r, c, b.fneg(is_)), b.fma(i, c, rs)))
            else:
                found.append((b.fma(r, c, is_), b.fma(i, c, b.fneg(rs))))
        return found

    def _sum(self, a: _Complex, c: _Complex) -> _Complex:
        return self.b.fadd(a[0], c[0]), self.b.fadd(a[1], c[1])

    def _difference(self, a: _Complex, c: _Complex) -> _Complex:
        return self.b.fsub(a[0], c[0]), self.b.fsub(a[1], c[1])


def tile_columns(target: Target) -> int:
    """Columns of a strip are whole tiles of so many."""
    return VECTORS * target.width


@functools.lru_cache(maxsize=64)
def column_fft(target: Target, kernel_columns: int, length: int) -> Kernel:
    """The filter by transforms of `length` rows; the weight is `packed_weight`.

    `band` are the rows that a block gives; an item has two of them. Scratch: `length` rows of
    `pitch` floats, and as many from `second` on.
    """
    table = len(twiddles(length))

    def build(b: Builder, arguments: list[Value]) -> None:
        item = Item(b, arguments)
        s, reach = item.size, b.mul(item.size["step"], kernel_columns - 1)
        re, im = item.scratch, b.at(item.scratch, s["second"])
        first = b.mul(b.mul(item.band_number, 2), s["band"])
        second = b.add(first, s["band"])
        wide = b.add(item.columns, reach)
        item.load_strip(re, first, length, wide)
        item.load_strip(im, second, length, wide)
        transform = _Transform(b, length, s["pitch"], item.weight)

        def forward(c: Int, _: list[Value]) -> None:
            transform.forward(b.at(re, c), b.at(im, c))

        def inverse(c: Int, _: list[Value]) -> None:
            transform.inverse(b.at(re, c), b.at(im, c))

        b.loop(0, wide, forward, step=b.width)
        weight = b.at(item.weight, table)
        _products(item, (re, im), weight, kernel_columns, length)
        b.loop(0, item.columns, inverse, step=b.width)
        for part, at in ((re, first), (im, second)):
            rows = item.at_most(s["band"], item.at_least(b.sub(s["out_h"], at), 0))
            item.store_strip(part, s["pitch"], at, rows)

    return make_kernel(target, "image_column_fft", ARGUMENTS, build)


def _products(
    item: Item, parts: tuple[Value, Value], weight: Value, kernel_columns: int, length: int
) -> None:
    """Each frequency's row meets its W, in place: what a tile reads is behind what it writes."""
    b, s = item.b, item.size

    def frequency(f: Int, _: list[Value]) -> None:
        taps = b.at(weight, b.mul(f, 3 * kernel_columns))
        line = b.mul(f, s["pitch"])

        def along(c: Int, _: list[Value]) -> None:
            re, im = (b.at(part, b.add(line, c)) for part in parts)

            def tap(q: Int, sums: list[Value]) -> list[Value]:
                at = b.mul(q, s["step"])
                x, y = b.at(re, at), b.at(im, at)
                w = [b.broadcast(taps, b.add(b.mul(q, 3), k)) for k in range(3)]
                for v in range(VECTORS):
                    r, i = b.load(x, v * b.width, 4), b.load(y, v * b.width, 4)
                    first = b.fma(r, w[0], sums[2 * v])
                    other = b.fma(r, w[1], sums[2 * v + 1])
                    sums[2 * v] = b.fma(i, w[2], first)
                    sums[2 * v + 1] = b.fma(i, w[0], other)
                return sums

            sums = b.loop(0, kernel_columns, tap, [b.zero] * (2 * VECTORS))
            for v in range(VECTORS):
                b.store(sums[2 * v], re, v * b.width, 4)
                b.store(sums[2 * v + 1], im, v * b.width, 4)

        b.loop(0, item.columns, along, step=VECTORS * b.width)

    b.loop(0, length, frequency)


def best_length(kernel_rows: int, kernel_columns: int) -> int:
    """The length of block with the least arithmetic a pixel, or 0 where the kernel is too high."""

    def work(n: int) -> float:
        return (4 * kernel_columns + 10 * math.log2(n)) * n / (n - kernel_rows + 1)

    return min((n for n in LENGTHS if n >= 2 * kernel_rows), key=work, default=0)
