"""What a direct convolution is, and how its loops may be cut: a cost model, and other candidates.

The kernel itself is in direct. Figures here are estimates of cycles, and only their order counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from striate.codegen.targets import Target
from striate.kernels.conv import kernel_columns
from striate.kernels.routine import blocks
from striate.kernels.window import Run, Taps, runs, split

_PANEL = 11 * 1024  # bytes of weights that stay in the first cache beside the source
_POSITIONS = 196  # a part's positions: enough that weights are worth bringing
_SOURCE = 160 * 1024  # bytes of source of a part that stay in the second cache beside the rest
_PARTS = 24  # below so many, parts of half the positions
_PART_WORK = 700_000  # multiply-adds of a part, at least, where more of them can be had
_FEW_PARTS = 16  # below so many, two threads should get equal shares


@dataclass(frozen=True)
class Direct:
    """out[o, r, c] = bias[o] + Σ source[i, row, col] · w[o, i, kr, kc] within o's group.

    Attributes:
        outputs, contracted: channels of out and of the source, over all groups.
        groups: groups left after merging; their channels are whole blocks if there are several.
        source: rows and columns of the source.
        rows, cols: which (kr, row) and (kc, col) meet each output row and column.
        kernel: sizes of the kernel.
        bias: whether there is one.
        plain: whether the source is an array in C order instead of blocks.
        period: columns this far apart meet the same kernel columns (the stride, going backward).
    """

    outputs: int
    contracted: int
    groups: int
    source: tuple[int, int]
    rows: Taps
    cols: Taps
    kernel: tuple[int, int]
    bias: bool = False
    plain: bool = False
    period: int = 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Options:
    """How the loops of a direct convolution are cut.

    Attributes:
        tile: blocks of output channels and positions whose sums are in registers.
        chunk: blocks of source channels whose weights a part uses at a time; sums are kept in
            scratch memory between chunks. All of them, or more, or a plain source: no chunks.
        rows: output rows of a part.
        tiles: tiles of output channels of a part.
        rows_next: whether the next part has other rows and the same weights, not the reverse.
        samples: samples of an item, at most: small images share each chunk of weights.
    """

    tile: tuple[int, int]
    chunk: int
    rows: int
    tiles: int = 1
    rows_next: bool = False
    samples: int = 1


def candidates(target: Target, p: Direct) -> list[Options]:
    """A few options worth trying, the one that the cost model prefers first."""
    p = flattened(p)
    tiles = _tiles(target, p)
    found = [_options(target, p, tile) for tile in tiles[:3]]
    first = found[0]
    total = source_blocks(target, p)
    for chunk in (first.chunk // 2, first.chunk * 2):
        if 1 <= chunk < 2 * total and not p.plain:
            found.append(replace(first, chunk=min(chunk, total)))
    for rows in (-(-first.rows // 2), min(first.rows * 2, len(p.rows))):
        found.append(replace(first, rows=rows))
    found.append(replace(first, rows_next=not first.rows_next))
    return list(dict.fromkeys(found))


def default_options(target: Target, p: Direct) -> Options:
    """The first of `candidates`."""
    return _options(target, p, _tiles(target, p)[0])


def _options(target: Target, p: Direct, tile: tuple[int, int]) -> Options:
    """Options around a tile: weights in the first cache, parts with work for some microseconds."""
    chunk = _chunk(target, p, tile[0])
    count = len(output_tiles(target, p, tile[0])) * p.groups
    rows = _rows(p, count)
    samples = _samples(p)
    work = samples * tile[0] * target.width * p.contracted // p.groups * p.taps
    work *= rows * len(p.cols)
    tiles = _even(count, min(count, -(-_PART_WORK // max(work, 1))))
    tiles = _balanced(count, tiles, -(-len(p.rows) // rows))
    again = len(p.rows) / rows, count / tiles  # parts along each way
    weights, source = _sizes(p)
    return Options(tile, chunk, rows, tiles, again[0] * weights > again[1] * source, samples)


def _balanced(count: int, tiles: int, strips: int) -> int:
    """At most so many tiles a part, that few parts come out as an even number of equal ones."""
    parts = strips * -(-count // tiles)
    if parts >= _FEW_PARTS or (parts % 2 == 0 and count % tiles == 0):
        return tiles
    for fewer in range(tiles, max(tiles // 2, 1) - 1, -1):
        if count % fewer == 0 and strips * (count // fewer) % 2 == 0:
            return fewer
    return tiles


def _sizes(p: Direct) -> tuple[int, int]:
    """Floats of the weights and of the source."""
    weights = p.outputs * p.contracted // p.groups * p.taps
    return weights, p.contracted * p.source[0] * p.source[1]


def _samples(p: Direct) -> int:
    """Samples that make up for images of few positions where weights are many."""
    positions = len(p.rows) * len(p.cols)
    if p.plain or 4 * _sizes(p)[0] <= _SOURCE or 6 * positions > _POSITIONS:
        return 1
    wanted = min(_POSITIONS // (2 * positions), 16)
    return int(2 ** (wanted.bit_length() - 1))  # batches are often powers of two


def _rows(p: Direct, count: int) -> int:
    """A part's rows, where there are `count` tiles of outputs."""
    rows = _even(len(p.rows), -(-_POSITIONS // len(p.cols)))
    if count * len(p.rows) < _PARTS * rows:
        rows = _even(len(p.rows), -(-_POSITIONS // (2 * len(p.cols))))
    met = {row for pairs in p.rows for _, row in pairs}
    line = p.contracted // p.groups * p.source[1] * 4 * max(len(met) / len(p.rows), 1)
    if _sizes(p)[0] * 4 <= 4 * _SOURCE and rows * line > _SOURCE and count > p.groups:
        rows = _even(len(p.rows), max(int(_SOURCE / line), 1))
    return rows


def _even(count: int, most: int) -> int:
    """`count` cut into pieces of at most `most`: the size of the largest, if they are even."""
    return -(-count // -(-count // most)) if count else 1


def weights_before_samples(target: Target, p: Direct, options: Options) -> bool:
    """Whether it is cheaper to read the source again for each part than weights for each sample."""
    weights, source = _sizes(p)
    count = len(output_tiles(target, p, options.tile[0])) * p.groups // options.tiles
    return weights > source * max(count // p.groups, 1)


def _tiles(target: Target, p: Direct) -> list[tuple[int, int]]:
    """Register tiles by estimated cycles, the best first; of those with one height, the best."""
    outputs, widest = blocks(p.outputs // p.groups, target), len(p.cols[:: p.period])
    costs: dict[int, tuple[float, int]] = {}
    for tp in range(1, min(widest, 28) + 1):
        steps = _column_steps(p, tp)
        for to in range(1, min(outputs, 8) + 1):
            if _fits(target, to, tp):
                cost = _cost(target, p, to, steps)
                costs[to] = min(costs.get(to, (cost, tp)), (cost, tp))
    ranked = sorted((cost, -to, tp) for to, (cost, tp) in costs.items())
    return [(-to, tp) for _, to, tp in ranked]


def _fits(target: Target, to: int, tp: int) -> bool:
    """Whether a tile's sums and operands fit, with room for what LLVM wants beside them."""
    spare = (1 if target.fma else 4) + (1 if target.registers == 32 else 0)
    if tp == 1:
        spare += 1 if target.fma else 3
    return to * tp + min(to, tp) + spare <= target.registers


def _column_steps(p: Direct, tp: int) -> list[tuple[int, int, list[int], int]]:
    """Of each run of tiles: how many, how wide; positions met by each kernel column; most met."""
    return [
        (
            run.count,
            run.width,
            [len(met) for met in kernel_columns(run).values()],
            max(len(pairs) for pairs in run.pattern),
        )
        for run, _ in column_runs(p, tp)
    ]


def _cost(
    target: Target, p: Direct, to: int, steps: list[tuple[int, int, list[int], int]]
) -> float:
    """Cycles for one row: multiply-adds, loads and latency of each step, stores of each tile.

    Two multiply-adds and two loads a cycle; a sum can take a term every four cycles. Weights come
    from farther away than source numbers, which neighbours have met.
    """
    lanes = 1 if p.plain else target.width
    far = to * lanes * p.taps * target.width * 4 > 2 * _PANEL  # weights beyond the first cache
    each = 0.2 if far else 0.08
    times = p.contracted // p.groups * max(sum(map(len, p.rows)) / len(p.rows), 1)
    total = 0.0
    heights = output_tiles(target, p, to)
    # Backward with a stride a tile has few steps a chunk, so that its sums' journeys count.
    chunks = -(-source_blocks(target, p) // _chunk(target, p, to)) if p.period > 1 else 1
    for a in set(heights):
        for count, width, met, longest in steps:
            step = max(a * sum(met) / 2, sum(a + m for m in met) / 2, 4.0 * longest)
            step += sum(each * a + 0.04 * m for m in met)
            total += heights.count(a) * count * (times * step + 20 + 1.5 * a * width * chunks)
    return total


def _chunk(target: Target, p: Direct, to: int) -> int:
    """Blocks of source channels whose weights for `to` blocks of outputs fit the first cache."""
    total = source_blocks(target, p)
    lanes = 1 if p.plain else target.width
    most = max(_PANEL // (to * lanes * p.taps * target.width * 4), 1)
    return total if p.plain or total <= 2 * most else -(-total // -(-total // most))


def output_tiles(target: Target, p: Direct, to: int) -> list[int]:
    """Tiles of one group's output blocks."""
    return split(blocks(p.outputs // p.groups, target), to)


def source_blocks(target: Target, p: Direct) -> int:
    """Blocks of one group's source channels; channels of a plain source."""
    channels = p.contracted // p.groups
    return channels if p.plain else blocks(channels, target)


def column_runs(p: Direct, tp: int) -> list[tuple[Run, int]]:
    """Runs over the columns of each residue class, and the class."""
    found = []
    for residue in range(min(p.period, len(p.cols))):
        along = p.cols[residue :: p.period]
        found += [(run, residue) for run in runs(along, split(len(along), tp))]
    return found


def identity(size: int) -> Taps:
    """Each position meets the source position of its number with the only kernel element."""
    return tuple(((0, k),) for k in range(size))


def flattened(p: Direct) -> Direct:
    """A kernel of one tap over all positions: any rows will do, those that tile well are taken."""
    same = p.rows == identity(p.source[0]) and p.cols == identity(p.source[1])
    if p.kernel != (1, 1) or not same:
        return p
    positions = p.source[0] * p.source[1]
    fitting = [n for n in range(1, min(positions, 256) + 1) if positions % n == 0]
    cols = positions if positions <= 256 else max(fitting)
    if cols < 24:
        cols = max(p.source)
    rows = positions // cols
    return replace(p, source=(rows, cols), rows=identity(rows), cols=identity(cols))
