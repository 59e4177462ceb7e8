"""Channels in lanes: the layout for one sample (or a few), where the batch cannot fill a vector.

A value (c, h, w) is ⌈c/width⌉ blocks of h·w vectors; a flat value is its numbers in order, padded
to whole vectors. Pooling and elementwise kernels serve this layout as they are (a block is a
channel to them); here are the convolution, the fully connected layer and the changes of layout.
Forward only.
"""

from __future__ import annotations

import functools

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.conv import Gather, GatherEmitter
from striate.kernels.kernel import Kernel, Tail, make_kernel, store_with_tail
from striate.kernels.window import Run


def blocks(channels: int, target: Target) -> int:
    """Vectors that hold one position's channels."""
    return -(-channels // target.width)


class ChannelGather(GatherEmitter):
    """A gather whose weights are vectors of output channels and whose source is broadcast."""

    plain = False  # the source is an array in C order, not blocks of channels

    def source_unit(self) -> int:
        return 1 if self.plain else self.b.width

    def load_source(self, pointer: Value, at: int) -> Value:
        return self.b.broadcast(pointer, at)

    def load_weight(self, pointer: Value, at: int) -> Value:
        return self.b.load(pointer, at)

    def bias_at(self, channel: Int) -> Value:
        return self.b.at(self.bias or "null", self.b.mul(channel, self.b.width))

    def load_bias(self, bias: Value, channel: Int) -> Value:
        return self.b.load(bias, self.b.mul(channel, self.b.width))

    def over_channels(
        self, run: Run, to: int, source: Value, weight: Value, sums: list[Value]
    ) -> list[Value]:
        if self.plain:
            return super().over_channels(run, to, source, weight, sums)
        b, p = self.b, self.p
        whole = p.contracted // b.width

        def lanes(i: Int, count: int, sums: list[Value]) -> list[Value]:
            x = b.at(source, b.mul(i, self.plane))
            w = b.at(weight, b.mul(i, b.width * p.strides[2]))

            def lane(u: Int, sums: list[Value]) -> list[Value]:
                here, weights = b.at(x, u), b.at(w, b.mul(u, p.strides[2]))
                self.taps(run, to, here, 0, weights, 0, sums)
                return sums

            return b.loop(0, count, lane, sums)

        sums = b.loop(0, whole, lambda i, s: lanes(i, b.width, s), sums)
        return lanes(whole, p.contracted - whole * b.width, sums)


class _PlainGather(ChannelGather):
    plain = True


@functools.lru_cache(maxsize=256)
def gather_channels(target: Target, p: Gather, plain: bool, tail: Tail | None = None) -> Kernel:
    """A convolution: arguments out, source, packed weights, [packed bias], then the tail's.

    In `p`, outputs counts blocks and strides are those of `pack_weights`; with `plain` the source
    is an array (c, h, w) in C order.
    """
    emitter = _PlainGather if plain else ChannelGather

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, weight, *rest = arguments
        bias = rest.pop(0) if p.bias else None
        emitter(b, p, tail, out, source, weight, bias, rest).emit()

    names = ["out", "source", "weight", *(["bias"] if p.bias else [])]
    names += tail.arguments if tail else ()
    return make_kernel(target, "gather_channels", names, build)


def packed_strides(
    contracted: int, kernel: tuple[int, int], width: int
) -> tuple[int, int, int, int, int]:
    """The strides of packed weights along (g, o block, i, kh, kw), in floats."""
    kh, kw = kernel
    return (0, contracted * kh * kw * width, kh * kw * width, kw * width, width)


@functools.lru_cache(maxsize=256)
def pack_weights(target: Target, outputs: int, per_output: int) -> Kernel:
    """packed[block, k, lane] = weight[block·width + lane, k], 0 in lanes that are no channel.

    Arguments packed, weight; `per_output` = i·kh·kw. A bias is packed with per_output = 1.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        packed, weight = arguments

        def block(first: Int, rows: int) -> None:
            source = b.at(weight, b.mul(first, per_output))
            out = b.at(packed, b.mul(first, per_output))

            def columns(at: Int, _: list[Value]) -> None:
                loaded = [b.load(source, b.add(at, r * per_output), align=4) for r in range(rows)]
                loaded += [b.zero] * (b.width - rows)
                for c, column in enumerate(b.transpose(loaded)):
                    b.store(column, out, b.mul(b.add(at, c), b.width))

            def single(at: Int, _: list[Value]) -> None:
                vector = b.zero
                for r in range(rows):
                    vector = b.insert(vector, b.load_float(source, b.add(at, r * per_output)), r)
                b.store(vector, out, b.mul(at, b.width))

            whole = per_output // b.width * b.width
            b.loop(0, whole, columns, step=b.width)
            b.loop(whole, per_output, single)

        b.tiled(outputs, b.width, block)

    return make_kernel(target, "pack_weights", ["packed", "weight"], build)


@functools.lru_cache(maxsize=256)
def unblock(target: Target, channels: int, positions: int) -> Kernel:
    """array[c, position] = blocks[c // width, position, c % width]; arguments array, blocks.

    Writes exactly channels · positions floats.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        array, source = arguments

        def block(first: Int, lanes: int) -> None:
            here = b.at(source, b.mul(first, positions))
            there = b.at(array, b.mul(first, positions))

            def some(at: Int, _: list[Value]) -> None:
                rows = [b.load(here, b.mul(b.add(at, j), b.width)) for j in range(b.width)]
                for lane, row in enumerate(b.transpose(rows)[:lanes]):
                    b.store(row, there, b.add(at, lane * positions), align=4)

            def single(at: Int, _: list[Value]) -> None:
                vector = b.load(here, b.mul(at, b.width))
                for lane in range(lanes):
                    b.store_float(b.extract(vector, lane), there, b.add(at, lane * positions))

            whole = positions // b.width * b.width
            b.loop(0, whole, some, step=b.width)
            b.loop(whole, positions, single)

        b.tiled(channels, b.width, block)

    return make_kernel(target, "unblock", ["array", "blocks"], build)


@functools.lru_cache(maxsize=64)
def copy_floats(target: Target, count: int) -> Kernel:
    """Copy `count` floats, neither side padded or aligned; arguments to, from."""

    def build(b: Builder, arguments: list[Value]) -> None:
        to, source = arguments
        whole = count // b.width * b.width
        b.loop(
            0,
            whole,
            lambda i, _: b.store(b.load(source, i, align=4), to, i, align=4),
            step=b.width,
        )
        for i in range(whole, count):
            b.store_float(b.load_float(source, i), to, i)

    return make_kernel(target, "copy_floats", ["to", "from"], build)


@functools.lru_cache(maxsize=128)
def linear_one(
    target: Target, outputs: int, inputs: int, bias: bool, tail: Tail | None = None
) -> Kernel:
    """y = W·x + bias for one sample, weights in torch's layout, streamed once.

    Arguments y, x, weight, [bias (packed)], then the tail's. Lanes run along the inputs; the sums
    of `width` outputs become one vector at the end.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x, weight, *rest = arguments
        packed = rest.pop(0) if bias else None

        def some(o: Int, rows: int) -> None:
            base = b.at(weight, b.mul(o, inputs))
            sums = _dot_products(b, x, base, rows, inputs)
            total = b.sum_lanes(sums)
            if packed is not None:
                total = b.fadd(total, b.load(packed, o))
            store_with_tail(b, tail, total, y, o, rest)

        b.tiled(outputs, b.width, some)

    names = ["y", "x", "weight", *(["bias"] if bias else []), *(tail.arguments if tail else ())]
    return make_kernel(target, "linear_one", names, build)


def _dot_products(b: Builder, x: Value, base: Value, rows: int, inputs: int) -> list[Value]:
    """For each of `rows` weight rows the lanes of its product with x, still to be summed."""
    whole = inputs // b.width * b.width

    def step(k: Int, sums: list[Value]) -> list[Value]:
        b.fence()
        value, here = b.load(x, k), b.at(base, k)
        for r in range(rows):
            sums[r] = b.fma(b.load(here, r * inputs, align=4), value, sums[r])
        return sums

    sums = b.loop(0, whole, step, [b.zero] * rows, step=b.width)
    left = inputs - whole
    if left:
        for r in range(rows):
            w, v = b.zero, b.zero
            for lane in range(left):
                w = b.insert(w, b.load_float(base, r * inputs + whole + lane), lane)
                v = b.insert(v, b.load_float(x, whole + lane), lane)
            sums[r] = b.fma(w, v, sums[r])
    return sums
