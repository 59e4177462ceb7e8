"""How Winograd's work is cut into items, and what it is estimated to cost.

Measured on a CPU with 8 lanes and 512 KB of second-level cache: the cut matters little (a few
percent) as long as an item has 12 tiles or more for each reading of the weights, and a transform
of one block of channels of a tile costs about as much as 130 register vector multiply-adds.

Not here: the code (winograd, winograd_weight).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from striate.codegen.targets import Target
from striate.errors import OptionError
from striate.kernels.routine import blocks
from striate.kernels.window import split
from striate.kernels.winograd_transform import PANEL, Winograd, u_floats

_PARTS = 8  # items of a call worth having for more threads
_ITEM_CYCLES = 100_000  # of a product, below which more items do not pay
_WHOLE_BYTES = 32_000_000  # transformed x and dy of a batch that are kept at once
_SUMS_BYTES = 10_000_000  # of all pieces of a gradient to weights
_CACHED_BYTES = 2_500_000  # of sums that an item may add to again and again
_TRANSFORM_CYCLES = {2: 70.0, 4: 135.0}  # of one block of channels of one tile
_FEW = 12  # tiles of a sample, below which samples share a reading of the weights
_SHARED_BYTES = 4e6  # of weights, above which they do so up to twice as many
_PRODUCT_SHARE = 0.9  # of the CPU's multiply-adds
_BYTES_A_CYCLE = 10.0  # weights that stream from the last cache
_CACHE_BYTES = 16e6  # beyond which they come from memory, at half that speed


@dataclass(frozen=True)
class Options:
    """How a convolution is cut.

    Attributes:
        rows: rows of tiles an item takes of one sample.
        samples: samples an item takes, all their rows; more than one only with all rows.
        panels: panels of output channels an item takes; 0: all.
        phases: transform windows in a routine of their own.
        depth: contracted blocks of channels summed in registers before sums go to memory; 0: all.
        tile: tiles that a product keeps in registers beside a panel; 0: as many as fit.
    """

    rows: int
    samples: int = 1
    panels: int = 0
    phases: bool = False
    depth: int = 0
    tile: int = 0


@dataclass(frozen=True)
class WeightOptions:
    """How a gradient to weights is cut.

    Attributes:
        panels: panels of output channels of an item; 0: all.
        spans: spans (two blocks) of source channels of an item; 0: all.
        pieces: pieces of the batch; 0: the whole batch in every item.
        tiles: tiles that are summed in registers before the sums go to memory.
    """

    panels: int = 0
    spans: int = 0
    pieces: int = 0
    tiles: int = 128


def tile_width(target: Target) -> int:
    """Operands beside a panel of outputs whose sums fit the registers."""
    spare = (1 if target.fma else 4) + (1 if target.registers == 32 else 0)
    return (target.registers - PANEL - spare) // PANEL


# ---- forward, gradient to input -----------------------------------------------------------------


def choose(target: Target, p: Winograd) -> Options:
    """The options that the cost model prefers, for calls of about `p.batch` samples."""
    rows, cols = p.tiles
    wanted = 3 * tile_width(target)
    samples, each = 1, rows * cols
    if each < _FEW or (each < 2 * _FEW and 4 * u_floats(target, p) > _SHARED_BYTES):
        groups = -(-p.batch * each // (2 * wanted))
        samples = -(-p.batch // groups)
    fused = Options(max(1, min(rows, wanted // cols)), samples)
    items = -(-rows // fused.rows) * -(-p.batch // samples)
    if items >= _PARTS or min(p.outputs, p.contracted) < 4 * target.width:
        return fused
    return _by_channels(target, p, samples)


def _by_channels(target: Target, p: Winograd, samples: int) -> Options:
    """Windows in a routine of their own, so that items may share them."""
    rows, cols = p.tiles
    together = max(1, min(rows, 64 // cols))
    items = -(-rows // together) * -(-p.batch // samples)
    panels = -(-blocks(p.outputs, target) // PANEL)
    tiles = samples * together * cols
    one = p.algebra.planes * p.contracted * tiles * PANEL / 2  # cycles of a panel
    least = max(1, math.ceil(_ITEM_CYCLES / one))
    return Options(together, samples, max(least, panels * items // (2 * _PARTS), 1), True)


def candidates(target: Target, p: Winograd) -> list[Options]:
    """Options worth trying, the default first."""
    first = choose(target, p)
    rows = p.tiles[0]
    found = [first, replace(first, phases=not first.phases, panels=0)]
    found += [replace(first, panels=0), replace(first, depth=16)]
    if first.samples == 1:
        found += [replace(first, rows=r) for r in (1, 2, 4, rows) if r <= rows]
    else:
        found += [replace(first, samples=max(2, first.samples // 2))]
    found.append(replace(first, tile=max(1, tile_width(target) - 1)))
    depth = blocks(p.contracted, target)
    return list(dict.fromkeys(o for o in found if o.depth < depth))


# ---- gradient to weights ------------------------------------------------------------------------


def choose_weight(target: Target, p: Winograd) -> WeightOptions:
    """The options that the cost model prefers, for calls of about `p.batch` samples."""
    tiles = math.prod(p.tiles) * p.batch
    channels = (blocks(p.outputs, target) + blocks(p.contracted, target)) * target.width
    whole, sums = 4 * p.algebra.planes * channels * tiles, 4 * u_floats(target, p)
    many = sums <= _CACHED_BYTES and tiles >= 64 * _PARTS
    if whole <= _WHOLE_BYTES and not many:
        return _rectangles(target, p, _PARTS)
    pieces = max(2 if sums <= _SUMS_BYTES else 1, min(_PARTS, _SUMS_BYTES // sums))
    pieces = min(pieces, p.tiles[0] * p.batch)
    return replace(_rectangles(target, p, -(-_PARTS // (2 * pieces))), pieces=pieces)


def _rectangles(target: Target, p: Winograd, wanted: int) -> WeightOptions:
    """The largest rectangles of channels of which there are so many."""
    span = PANEL * target.width
    for outputs, contracted in ((128, 128), (64, 64), (32, 64), (16, 64)):
        panels, spans = max(1, outputs // span), max(1, contracted // span)
        across = -(-p.outputs // (panels * span))
        if across * -(-p.contracted // (spans * span)) >= wanted:
            break
    return WeightOptions(panels, spans)


def weight_candidates(target: Target, p: Winograd) -> list[WeightOptions]:
    """Options worth trying, the default first."""
    first = choose_weight(target, p)
    doubled = replace(first, panels=2 * first.panels, spans=2 * first.spans)
    other = replace(first, pieces=0 if first.pieces else min(2, p.tiles[0] * p.batch))
    return list(dict.fromkeys([first, doubled, other, replace(first, tiles=64)]))


# ---- cost ---------------------------------------------------------------------------------------


def cost(target: Target, p: Winograd, direction: str) -> float:
    """Estimated cycles of one core for a sample of a batch of `p.batch`.

    To compare with a direct kernel's: multiply-adds / (2·width) / 0.88 on a CPU that starts two
    vectors of multiply-adds a cycle. `direction` is "forward" or "source" (with p the convolution
    that is run; "source" includes the transform of the weights, once a batch) or "weight".

    Raises:
        OptionError: an unknown direction.
    """
    if direction not in ("forward", "source", "weight"):
        raise OptionError(
            f"Winograd: expected direction forward, source or weight; got {direction!r}."
        )
    tiles = math.prod(p.tiles)
    ins, outs = blocks(p.contracted, target), blocks(p.outputs, target)
    transforms = (ins + outs) * tiles * _TRANSFORM_CYCLES[p.m]
    samples = p.batch if tiles < _FEW else 1  # that share one reading of u
    operands = p.contracted if direction == "weight" else tiles * samples
    sums = p.algebra.planes * p.contracted * tiles * outs
    product = sums / 2 * _waste(target, operands) / _PRODUCT_SHARE
    u = 4.0 * u_floats(target, p)
    streamed = min(u, _CACHE_BYTES) + 2 * max(0.0, u - _CACHE_BYTES)
    reading = streamed / _BYTES_A_CYCLE * max(1.0, tiles * samples / 32) / samples
    once = sums / tiles * 4.0 + streamed / _BYTES_A_CYCLE
    if direction == "weight":
        return product + transforms + once / p.batch
    return max(product, reading) + transforms + (once / p.batch if direction == "source" else 0)


def _waste(target: Target, operands: int) -> float:
    """How much longer products take because register tiles are not full."""
    widths = split(operands, tile_width(target))
    slots = PANEL * widths[0]
    return max(1.0, 8 / slots) * widths[0] * len(widths) / operands  # 8: two a cycle, latency 4
