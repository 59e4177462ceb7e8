"""Changes of layout: weights to vectors of channels and back, images to blocks and back.

All of them turn rows of numbers into columns of vectors, width × width numbers at a time, or undo
that. What the layouts are is said in routine; what kernels compute with them is not here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.errors import ShapeError
from striate.kernels.kernel import make_kernel
from striate.kernels.routine import Recipe, Routine, blocks, recipe


@dataclass(frozen=True)
class Packing:
    """Weights w of shape (outputs, contracted/groups, *taps), as kernels want them.

    packed[ob, i, tap, lane] = w[ob·width + lane, i, tap]; transposed, for the gradient to the
    input: packed[ib, o, tap, lane] = w[o, ib·width + lane, tap]. Lanes beyond the last channel
    hold 0. Groups that are not whole blocks of channels are merged (see `merged`): i or o then
    counts the merged group's channels, and w is 0 between the groups in it.

    Attributes:
        outputs, contracted: channels over all groups, as in w's shape.
        groups: groups of w.
        taps: the kernel's sizes, one an axis of the image.
        transposed: whether the lanes are contracted channels instead of outputs.
    """

    outputs: int
    contracted: int
    groups: int = 1
    taps: tuple[int, ...] = ()
    transposed: bool = False

    def merged(self, target: Target) -> int:
        """Groups left when neighbours are merged until both sides are whole blocks, or one is."""
        for together in range(1, self.groups):
            if self.groups % together == 0 and all(
                channels // self.groups * together % target.width == 0
                for channels in (self.outputs, self.contracted)
            ):
                return self.groups // together
        return 1

    def floats(self, target: Target) -> int:
        """The size of the packed weights."""
        return self._lane_blocks(target) * self._columns(target) * target.width

    @property
    def _tap_count(self) -> int:
        return math.prod(self.taps)

    def _lane_blocks(self, target: Target) -> int:
        return blocks(self.contracted if self.transposed else self.outputs, target)

    def _columns(self, target: Target) -> int:
        """Vectors of one block."""
        across = self.outputs if self.transposed else self.contracted
        return across // self.merged(target) * self._tap_count


@functools.lru_cache(maxsize=512)
def pack(target: Target, packing: Packing, scaled: bool = False) -> Recipe:
    """Pack weights: arguments packed, weight, [scale], part (a block).

    `scale` has a number for each channel in lanes, padded to whole vectors, that multiplies its
    weights.
    """
    names = ["packed", "weight", *(["scale"] if scaled else []), "part:i64"]

    def build(b: Builder, arguments: list[Value]) -> None:
        scale = arguments[2] if scaled else None
        _Packer(b, packing, arguments[0], arguments[1], arguments[-1]).pack(scale)

    kernel = make_kernel(target, "pack", names, build)
    return recipe(Routine(kernel, parts=packing._lane_blocks(target)))


@functools.lru_cache(maxsize=512)
def unpack(target: Target, packing: Packing) -> Recipe:
    """The inverse of `pack`, not transposed: arguments weight, packed, part (a block)."""

    def build(b: Builder, arguments: list[Value]) -> None:
        weight, packed, part = arguments
        _Packer(b, packing, packed, weight, part).unpack()

    kernel = make_kernel(target, "unpack", ["weight", "packed", "part:i64"], build)
    return recipe(Routine(kernel, parts=packing._lane_blocks(target)))


class _Packer:
    """Emits the body of `pack` or `unpack` for the block `part`."""

    def __init__(self, b: Builder, p: Packing, packed: Value, weight: Value, part: Value) -> None:
        self.b, self.p, self.weight, self.part = b, p, weight, part
        self.groups = p.merged(b.target)
        self.together = p.groups // self.groups
        self.taps = p._tap_count
        self.inner = p.contracted // p.groups  # channels of a row of w
        self.columns = p._columns(b.target)
        self.packed = b.at(packed, b.mul(part, self.columns * b.width))

    def pack(self, scale: Value | None) -> None:
        b, p = self.b, self.p
        factor = None if scale is None else b.load(scale, b.mul(self.part, b.width))
        if self.together > 1:
            self._scatter(factor)
            return

        def block(lanes: int) -> None:
            masked = None if factor is None else first_lanes(b, factor, lanes)
            if not p.transposed:
                row = p.contracted // p.groups * self.taps
                source = b.at(self.weight, b.mul(self.part, b.width * row))
                rows_to_columns(b, self.packed, source, lanes, row, row, masked)
                return
            start, outputs = self._transposed_source()

            def output(o: Int, _: list[Value]) -> None:
                source = b.at(start, b.mul(o, self.inner * self.taps))
                out = b.at(self.packed, b.mul(o, self.taps * b.width))
                rows_to_columns(b, out, source, lanes, self.taps, self.taps, masked)

            b.loop(0, outputs, output)

        channels = p.contracted if p.transposed else p.outputs
        for_block(b, self.part, channels, block)

    def _transposed_source(self) -> tuple[Value, int]:
        """w at this block's first contracted channel of its group's first output; its outputs."""
        b, outputs = self.b, self.p.outputs // self.groups
        per_group = blocks(self.inner, b.target)
        group = 0 if self.groups == 1 else b.divide(self.part, per_group)
        channel = b.mul(b.sub(self.part, b.mul(group, per_group)), b.width)
        row = b.mul(group, outputs * self.inner)
        return b.at(self.weight, b.mul(b.add(row, channel), self.taps)), outputs

    def _scatter(self, factor: Value | None) -> None:
        """Merged groups: zeros, then every number of the groups to its place."""
        b = self.b
        b.loop(0, self.columns, lambda k, _: b.store(b.zero, self.packed, b.mul(k, b.width)))

        def move(w: Int, place: Int, lane: int) -> None:
            number = b.load_float(self.weight, w)
            if factor is not None:
                number = b.let(f"fmul float {number}, {b.extract(factor, lane)}")
            b.store_float(number, self.packed, place)

        self._each_of_merged(move)

    def _each_of_merged(self, move: Callable[[Int, Int, int], None]) -> None:
        """`move(place in w, place in the packed block, lane)` for all numbers of merged groups."""
        b, p = self.b, self.p
        channels = p.contracted if p.transposed else p.outputs
        lane_channels, others = channels // p.groups, p.outputs // p.groups
        if not p.transposed:
            others = self.inner

        def lane(k: int) -> None:
            channel = b.add(b.mul(self.part, b.width), k)
            group = b.divide(channel, lane_channels)
            within = b.sub(channel, b.mul(group, lane_channels))
            merged = b.sub(group, b.mul(b.divide(group, self.together), self.together))
            place = b.add(b.mul(merged, others * self.taps * b.width), k)
            row = b.mul(group, p.outputs // p.groups * self.inner * self.taps)
            step = self.inner if p.transposed else 1
            first = b.add(row, b.mul(within, (1 if p.transposed else self.inner) * self.taps))

            def other(j: Int, _: list[Value]) -> None:
                w, here = b.add(first, b.mul(j, step * self.taps)), b.mul(j, self.taps * b.width)

                def tap(t: Int, _: list[Value]) -> None:
                    move(b.add(w, t), b.add(place, b.add(here, b.mul(t, b.width))), k)

                b.loop(0, self.taps, tap)

            b.loop(0, others, other)

        def block(lanes: int) -> None:
            for k in range(lanes):
                lane(k)

        for_block(b, self.part, channels, block)

    def unpack(self) -> None:
        b, p = self.b, self.p
        if self.together > 1:

            def move(w: Int, place: Int, _: int) -> None:
                b.store_float(b.load_float(self.packed, place), self.weight, w)

            self._each_of_merged(move)
            return
        row = self.inner * self.taps
        out = b.at(self.weight, b.mul(self.part, b.width * row))
        for_block(
            b,
            self.part,
            p.outputs,
            lambda lanes: columns_to_rows(b, out, self.packed, lanes, row),
        )


# ---- images ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def to_blocks(target: Target, channels: int, positions: int) -> Recipe:
    """out[block, position, lane] = source[block·width + lane, position].

    Arguments out, source, part (a block); lanes beyond the last channel get 0.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, part = arguments
        here = b.mul(part, positions * b.width)
        out, source = b.at(out, here), b.at(source, here)
        for_block(
            b,
            part,
            channels,
            lambda lanes: rows_to_columns(b, out, source, lanes, positions, positions),
        )

    kernel = make_kernel(target, "to_blocks", ["out", "source", "part:i64"], build)
    return recipe(Routine(kernel, parts=blocks(channels, target)))


@functools.lru_cache(maxsize=256)
def from_blocks(target: Target, channels: int, positions: int) -> Recipe:
    """out[channel, position] = source[channel // width, position, channel % width].

    Arguments out, source, part (a block); writes exactly channels · positions floats.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, part = arguments
        here = b.mul(part, positions * b.width)
        out, source = b.at(out, here), b.at(source, here)
        for_block(
            b, part, channels, lambda lanes: columns_to_rows(b, out, source, lanes, positions)
        )

    kernel = make_kernel(target, "from_blocks", ["out", "source", "part:i64"], build)
    return recipe(Routine(kernel, parts=blocks(channels, target)))


@functools.lru_cache(maxsize=256)
def copy_channels(
    target: Target,
    channels: int,
    first_from: int,
    source_channels: int,
    first_to: int,
    out_channels: int,
    positions: int,
) -> Recipe:
    """out[first_to + c] = source[first_from + c] for c < channels, both in blocks.

    Arguments out, source, part (a block of out that is met); other channels of out stay as they
    are. `source_channels` and `out_channels` say how many there are at all.

    Raises:
        ShapeError: the channels are not all there.
    """
    if first_from + channels > source_channels or first_to + channels > out_channels:
        raise ShapeError("copy_channels: channels outside of the source or of the result.")
    width, last = target.width, first_to + channels
    first_block, stop_block = first_to // width, -(-last // width)

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, part = arguments

        def lanes_of(block: int) -> tuple[int, int]:
            return max(first_to - block * width, 0), min(last - block * width, width)

        def copy(block: Int, lanes: tuple[int, int]) -> None:
            _copy_block(b, out, source, block, lanes, first_from - first_to, positions)

        inner = [k for k in range(first_block, stop_block) if lanes_of(k) == (0, width)]
        for block in sorted({first_block, stop_block - 1} - set(inner)):
            here = b.compare("eq", part, block - first_block)
            b.when(here, functools.partial(copy, block, lanes_of(block)))
        if inner:
            low = b.compare("sge", part, inner[0] - first_block)
            high = b.compare("sle", part, inner[-1] - first_block)
            both = b.let(f"and i1 {low}, {high}")
            b.when(both, lambda: copy(b.add(part, first_block), (0, width)))

    kernel = make_kernel(target, "copy_channels", ["out", "source", "part:i64"], build)
    return recipe(Routine(kernel, parts=max(stop_block - first_block, 1)))


def _copy_block(
    b: Builder,
    out: Value,
    source: Value,
    block: Int,
    lanes: tuple[int, int],
    shift: int,
    positions: int,
) -> None:
    """Lanes first ≤ k < stop of a block of out: channel k + shift of the source."""
    blocks_on, lane_on = divmod(shift, b.width)
    wanted = range(*lanes)
    plane = positions * b.width
    here = b.at(out, b.mul(block, plane))
    low = b.at(source, b.mul(b.add(block, blocks_on), plane))

    def position(j: Int, _: list[Value]) -> None:
        at = b.mul(j, b.width)
        first = b.load(low, at) if any(k + lane_on < b.width for k in wanted) else b.zero
        high = b.at(low, plane) if any(k + lane_on >= b.width for k in wanted) else None
        second = b.zero if high is None else b.load(high, at)
        moved = b.shuffle(first, second, [(k + lane_on) % (2 * b.width) for k in range(b.width)])
        if len(wanted) < b.width:
            choice = [k + b.width if k in wanted else k for k in range(b.width)]
            moved = b.shuffle(b.load(here, at), moved, choice)
        b.store(moved, here, at)

    b.loop(0, positions, position)


# ---- rows to columns and back --------------------------------------------------------------------


def for_block(b: Builder, part: Value, channels: int, body: Callable[[int], None]) -> None:
    """Run `body(lanes)`: `width` of them, or in the last block as many as there are channels."""
    whole, rest = divmod(channels, b.width)
    if whole and rest:
        b.when(b.compare("slt", part, whole), lambda: body(b.width))
        b.when(b.compare("eq", part, whole), lambda: body(rest))
    elif whole or rest:
        body(b.width if whole else rest)


def first_lanes(b: Builder, value: Value, lanes: int) -> Value:
    """`value` with 0 behind its first lanes."""
    if lanes == b.width:
        return value
    return b.shuffle(value, b.zero, [k if k < lanes else b.width + k for k in range(b.width)])


def rows_to_columns(
    b: Builder,
    out: Value,
    source: Value,
    lanes: int,
    count: int,
    stride: int,
    factor: Value | None = None,
) -> None:
    """out[k, lane] = source[lane·stride + k] (· factor[lane]) for k < count, 0 behind `lanes`."""

    def put(value: Value, k: Int) -> None:
        if factor is not None:
            value = b.fmul(value, factor)
        b.store(value, out, b.mul(k, b.width))

    def some(at: Int) -> None:
        rows = [b.load(source, b.add(at, r * stride), align=4) for r in range(lanes)]
        rows += [b.zero] * (b.width - lanes)
        for c, column in enumerate(b.transpose(rows)):
            put(column, b.add(at, c))

    def single(k: Int) -> None:
        vector = b.zero
        for r in range(lanes):
            vector = b.insert(vector, b.load_float(source, b.add(k, r * stride)), r)
        put(vector, k)

    _in_squares(b, count, some, single)


def columns_to_rows(b: Builder, out: Value, source: Value, lanes: int, count: int) -> None:
    """out[lane·count + k] = source[k, lane] for k < count and the first lanes."""

    def some(at: Int) -> None:
        columns = [b.load(source, b.mul(b.add(at, c), b.width)) for c in range(b.width)]
        for r, row in enumerate(b.transpose(columns)[:lanes]):
            b.store(row, out, b.add(at, r * count), align=4)

    def single(k: Int) -> None:
        vector = b.load(source, b.mul(k, b.width))
        for r in range(lanes):
            b.store_float(b.extract(vector, r), out, b.add(k, r * count))

    _in_squares(b, count, some, single)


def _in_squares(
    b: Builder, count: int, some: Callable[[Int], None], single: Callable[[Int], None]
) -> None:
    """Whole squares, then what is left: few columns one by one, many as a last square again."""
    whole = count // b.width * b.width
    b.loop(0, whole, lambda at, _: some(at), step=b.width)
    if whole and count - whole > 2:
        some(count - b.width)
    else:
        b.loop(whole, count, lambda at, _: single(at))
