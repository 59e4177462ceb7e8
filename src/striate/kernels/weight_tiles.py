"""How a direct weight gradient is cut up: its sizes, its register tiles, its strips and items.

Not here: the code that is made of them (direct_weight).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from striate.codegen.targets import Target
from striate.kernels.window import Taps, split

_CACHE = 192 * 1024  # bytes of a strip at most: well below a second-level cache
_LONG = 160  # positions that make it worth loading and storing a tile's sums
_PART_WORK = 2_500_000  # multiply-adds · 2 that are worth an item of their own: 25 µs or more
_BATCH = 8  # samples that a batch may be expected to have
_PARTS = 48  # items that keep 64 threads busy enough, and cost one thread nothing
_AHEAD = 32
_LARGE = 1 << 19  # bytes of a tile's gradients that should not be read once per kernel row


@dataclass(frozen=True)
class DirectWeight:
    """The sizes of a weight gradient; `outputs` and `contracted` count over all groups.

    Attributes:
        outputs: channels of dy.
        contracted: channels of x.
        groups: either 1, or both kinds of channels of a group are whole blocks.
        kernel: taps along rows and columns; tap = kernel row · kernel columns + kernel column.
        source: rows and columns of x.
        rows: for each row of dy the (kernel row, row of x) that it meets.
        cols: the same for columns.
        plain: x is an array (contracted, rows, cols) in C order, on any float's address.
    """

    outputs: int
    contracted: int
    groups: int
    kernel: tuple[int, int]
    source: tuple[int, int]
    rows: Taps
    cols: Taps
    plain: bool = False


@dataclass(frozen=True)
class WeightOptions:
    """How a weight gradient is computed; all choices but `shares` give the same bits.

    Attributes:
        blocks: output blocks of a register tile.
        channels: source channels of a register tile (divides the width, unless x is plain).
        columns: kernel columns of a register tile, at most; with plain x a tile holds up to
            channels · columns pairs of both, in any mixture.
        rows: rows of dy in a strip.
        samples: samples summed in registers, where a strip is a whole image.
        unroll: columns of dy in the body of the innermost loop, at most.
        parts: items to aim at.
        shares: ranges of rows with partial sums of their own; their number changes the order of
            the additions.
        ahead: positions of dy to ask memory for in advance, 0: none.
    """

    blocks: int
    channels: int
    columns: int
    rows: int
    samples: int
    unroll: int
    parts: int
    shares: int = 1
    ahead: int = 0


def _fits(target: Target, outputs: int, pairs: int) -> bool:
    """Whether the sums, the gradients of one position and a source element have registers."""
    spare = (0 if target.fma else 4) + (1 if target.registers == 32 else 0)
    return outputs * pairs + outputs + 1 + spare <= target.registers


def _cycles(outputs: int, pairs: int) -> float:
    """Cycles a position: two multiply-adds or two loads each, four cycles of latency."""
    work = max(outputs * pairs / 2, (outputs + pairs) / 2, 4.0)
    return work + 0.15 * outputs + 0.05 * pairs


def _tile_cost(p: DirectWeight, width: int, tile: tuple[int, int, int]) -> float:
    """Estimated cycles a position for all output blocks, one source block, one kernel row."""
    outputs, channels, columns = tile
    per_group = -(-p.outputs // p.groups // width)
    contracted = p.contracted // p.groups
    if p.plain:
        pairs = split(contracted * p.kernel[1], channels * columns)
    else:
        lanes = min(width, contracted)
        of_channels = [channels] * (lanes // channels) + [lanes % channels] * (lanes % channels > 0)
        pairs = [a * k for a in of_channels for k in split(p.kernel[1], columns)]
    return sum(_cycles(o, n) for o in split(per_group, outputs) for n in pairs)


def _tiles(target: Target, p: DirectWeight) -> list[tuple[int, int, int]]:
    """All register tiles (output blocks, source channels, kernel columns) that fit, best first."""
    width = target.width
    per_group = -(-p.outputs // p.groups // width)
    most_channels = min(p.contracted // p.groups, 16) if p.plain else width
    sizes = [n for n in range(1, most_channels + 1) if p.plain or width % n == 0]
    found = [
        (o, n, k)
        for o in range(1, min(per_group, 8) + 1)
        for n in sizes
        for k in range(1, p.kernel[1] + 1)
        if _fits(target, o, n * k)
    ]
    return sorted(found, key=lambda tile: (_tile_cost(p, width, tile), tile))


def _strip_bytes(p: DirectWeight, width: int, outputs: int, rows: int) -> int:
    """Bytes of the gradients of some rows and of the source rows of one block that they meet."""
    first = (len(p.rows) - rows) // 2
    met = {row for pairs in p.rows[first : first + rows] for _, row in pairs}
    lanes = p.contracted // p.groups if p.plain else width
    return 4 * (rows * len(p.cols) * outputs * width + len(met) * p.source[1] * lanes)


def _with_strips(
    target: Target, p: DirectWeight, tile: tuple[int, int, int], cache: int = _CACHE
) -> WeightOptions:
    """Options around a tile: as many rows as the cache holds; samples where images are tiny."""
    outputs, channels, columns = tile
    rows, positions = len(p.rows), len(p.rows) * len(p.cols)
    while rows > 1 and _strip_bytes(p, target.width, outputs, rows) > cache:
        rows = -(-rows // 2)
    samples = min(-(-_LONG // max(positions, 1)), 32) if rows == len(p.rows) else 1
    parts = max(1, min(_PARTS, _BATCH * _work(p) // _PART_WORK))
    shares = 1
    tiles = p.groups * len(split(-(-p.outputs // p.groups // target.width), outputs))
    if 4 * positions * outputs * target.width > _LARGE and tiles < parts:
        shares = max(1, min(parts // tiles, len(p.rows) // 4))
    ahead = _AHEAD if p.plain else 0  # few sums a gradient: dy comes from far away
    return WeightOptions(outputs, channels, columns, rows, samples, 8, parts, shares, ahead)


def _work(p: DirectWeight) -> int:
    """Floating-point operations of one sample, about."""
    weights = p.outputs * p.contracted // p.groups * math.prod(p.kernel)
    return 2 * weights * len(p.rows) * len(p.cols)


def default_options(target: Target, p: DirectWeight) -> WeightOptions:
    """The options with the least estimated time."""
    p = flattened(p)
    return _with_strips(target, p, _tiles(target, p)[0])


def candidates(target: Target, p: DirectWeight) -> list[WeightOptions]:
    """Options worth timing, the default first."""
    flat = flattened(p)
    found = [default_options(target, p)]
    for tile in _tiles(target, flat)[:3]:
        for cache in (_CACHE, _CACHE // 8):
            found.append(_with_strips(target, flat, tile, cache))
    return list(dict.fromkeys(found))


def flattened(p: DirectWeight) -> DirectWeight:
    """A 1×1 kernel that meets every position is one of rows as long as one likes."""
    rows, cols = p.source
    everywhere = (_each(rows), _each(cols))
    if p.kernel != (1, 1) or (p.rows, p.cols) != everywhere:
        return p
    length = max(n for n in range(1, 257) if rows * cols % n == 0)
    if length < cols:
        return p
    count = rows * cols // length
    return replace(p, source=(count, length), rows=_each(count), cols=_each(length))


def _each(size: int) -> Taps:
    return tuple(((0, position),) for position in range(size))


@dataclass(frozen=True)
class Job:
    """An item's work: a range of tiles of output blocks × source channels × kernel rows.

    Attributes:
        share: which range of rows.
        outputs: the first output block; how many tiles of the full size begin there, and how many
            one block narrower follow.
        group: the group of all of this.
        source: first and last + 1 whole block of source channels; 1 where the group's last,
            partial one is taken too.
        lanes: first and last + 1 channel of the whole blocks.
        kernel: first and last + 1 kernel row.
    """

    share: int
    outputs: tuple[int, int, int]
    group: int
    source: tuple[int, int, int]
    lanes: tuple[int, int]
    kernel: tuple[int, int]

    @property
    def ranges(self) -> list[int]:
        """Outputs, source, lanes and kernel rows in a row."""
        return [*self.outputs, *self.source, *self.lanes, *self.kernel]


def cut(count: int, most: int) -> list[tuple[int, int]]:
    """0 … count in at most `most` ranges, as even as may be."""
    sizes = split(count, -(-count // max(min(most, count), 1)))
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [(a, a + n) for a, n in zip(starts, sizes, strict=True)]


def source_blocks(p: DirectWeight, width: int) -> tuple[int, int]:
    """Whole blocks of source channels of a group, and the channels of a partial last one."""
    contracted = p.contracted // p.groups
    return (1, 0) if p.plain else divmod(contracted, width)


def jobs(target: Target, p: DirectWeight, options: WeightOptions, shares: int) -> list[Job]:
    """The items: cut by shares, output tiles and source blocks, then kernel rows and lanes."""
    width = target.width
    per_group = -(-p.outputs // p.groups // width)
    widths = split(per_group, options.blocks)
    whole, rest = source_blocks(p, width)
    wanted = -(-options.parts // (p.groups * shares))
    tiles, sources = _two_cuts(p, len(widths), whole + (rest > 0), wanted)
    wanted = -(-wanted // (len(tiles) * len(sources)))
    kernels = cut(p.kernel[0], wanted)
    wanted = -(-wanted // len(kernels))
    units = 1 if p.plain or rest or width % options.channels else width // options.channels
    lanes = [(a * width // units, z * width // units) for a, z in cut(units, wanted)]
    return [
        Job(share, _tiles_of(widths, group, tile), group, _source_of(source, whole), lane, kernel)
        for share, group, tile, source, kernel, lane in itertools.product(
            range(shares), range(p.groups), tiles, sources, kernels, lanes
        )
    ]


def _two_cuts(
    p: DirectWeight, tiles: int, sources: int, wanted: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Ranges of output tiles and of source blocks that together give the items wanted.

    Every range of tiles reads all of x, every range of source blocks all of dy: as little of both
    as may be, and items of one size.
    """
    dy, x = p.outputs * len(p.rows) * len(p.cols), p.contracted * math.prod(p.source)
    ways = []
    for most in range(1, tiles + 1):
        a = cut(tiles, most)
        z = cut(sources, -(-wanted // len(a)))
        largest = -(-tiles // len(a)) * -(-sources // len(z))
        read = dy * len(z) + x * len(a)
        too_few = len(a) * len(z) < min(wanted, tiles * sources)
        ways.append(((too_few, read * largest * len(a) * len(z)), a, z))
    _, best, rest = min(ways, key=lambda way: way[0])
    return best, rest


def _tiles_of(widths: list[int], group: int, tiles: tuple[int, int]) -> tuple[int, int, int]:
    """The first block of some output tiles of a group, and the numbers of wide and narrow ones."""
    start, stop = tiles
    wide = widths.count(widths[0])
    first = group * sum(widths) + sum(widths[:start])
    return first, max(min(stop, wide) - start, 0), max(stop - max(start, wide), 0)


def _source_of(source: tuple[int, int], whole: int) -> tuple[int, int, int]:
    """First and last + 1 whole source block, and whether the partial last one is taken too."""
    start, stop = source
    return start, min(stop, whole), int(stop > whole)


def pieces(count: int, most: int) -> list[tuple[int, int]]:
    """0 … count in ranges of at most `most`, as even as may be."""
    return cut(count, -(-count // most))
