"""Winograd convolution F(2×2, 3×3) and F(4×4, 3×3) in blocked layout: forward, gradient to input.

Three stages for a group of tiles: transform the windows of all source channels, one matrix
product over the channels for each of the (m+2)² planes, transform the sums into outputs (bias and
tail fused). Either one routine does all three for the tiles of an item, in the thread's scratch,
or (`phases`) a first routine transforms all windows into a buffer and a second does the rest, so
that items can share the windows and differ in their output channels.

The gradient to the input is the same convolution of dy with channels swapped, padding 2 − p and
flipped weights. Not here: the gradient to the weights (winograd_weight), the transforms
themselves (winograd_transform).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Tail, make_kernel, store_with_tail
from striate.kernels.routine import Buffer, Recipe, Routine, blocks, recipe
from striate.kernels.window import split
from striate.kernels.winograd_plan import Options, candidates, choose, cost, tile_width
from striate.kernels.winograd_transform import (
    PANEL,
    Algebra,
    Slots,
    Winograd,
    by_pattern,
    inside,
    u_floats,
    u_plane,
)
from striate.kernels.winograd_weight import winograd_weight

__all__ = [
    "Options",
    "Winograd",
    "candidates",
    "choose",
    "cost",
    "transform_weights",
    "u_floats",
    "winograd",
    "winograd_weight",
]


# ---- weights -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=512)
def transform_weights(target: Target, p: Winograd, flipped: bool = False) -> Recipe:
    """u = G w Gᵀ; arguments u, packed, part.

    Args:
        target: what code is generated for.
        p: the convolution that will use them.
        flipped: turn the taps round, for the gradient to the input (`packed` is then packed
            transposed: in lanes are the channels that this convolution puts out).
    """
    count = blocks(p.outputs, target)
    panels, pieces = -(-count // PANEL), split(p.contracted, 64)
    starts = [sum(pieces[:k]) for k in range(len(pieces) + 1)]

    def build(b: Builder, arguments: list[Value]) -> None:
        u, packed, part = arguments
        panel = b.divide(part, len(pieces))
        piece = b.sub(part, b.mul(panel, len(pieces)))
        first, last = (
            (b.load_i64(b.table(starts), piece), b.load_i64(b.table(starts[1:]), piece))
            if len(pieces) > 1
            else (0, p.contracted)
        )

        def some(held: int) -> None:
            source = b.at(packed, b.mul(panel, PANEL * p.contracted * 9 * b.width))
            out = b.at(u, b.mul(panel, PANEL * p.contracted * b.width))

            def channel(i: Int, _: list[Value]) -> None:
                w, here = b.at(source, b.mul(i, 9 * b.width)), b.at(out, b.mul(i, held * b.width))
                for o in range(held):
                    b.fence()
                    there = b.at(here, o * b.width)
                    at = b.at(w, o * p.contracted * 9 * b.width)
                    _transform_weight(b, p.algebra, at, there, flipped, u_plane(target, p))

            b.loop(first, last, channel)

        _for_panel(b, count, panel, some)

    kernel = make_kernel(target, f"winograd{p.m}_weights", ["u", "packed", "part:i64"], build)
    return recipe(Routine(kernel, parts=panels * len(pieces), samples=0))


def _for_panel(b: Builder, count: int, panel: Int, body: Callable[[int], None]) -> None:
    """Run `body(blocks of the panel)`; the last panel has one block if their count is odd."""
    full = count // PANEL
    if count % PANEL == 0:
        body(PANEL)
    elif full == 0:
        body(1)
    else:
        b.when(b.compare("slt", panel, full), lambda: body(PANEL))
        b.when(b.compare("eq", panel, full), lambda: body(1))


def _transform_weight(
    b: Builder, algebra: Algebra, w: Value, out: Value, flipped: bool, apart: int
) -> None:
    """G w Gᵀ of one vector of outputs and one contracted channel; planes lie `apart`."""
    taps = [b.load(w, (8 - k if flipped else k) * b.width) for k in range(9)]
    columns = [algebra.weight(b, taps[k::3]) for k in range(3)]
    for r in range(algebra.window):
        for k, value in enumerate(algebra.weight(b, [column[r] for column in columns])):
            b.store(value, out, (r * algebra.window + k) * apart)


# ---- the plan of a product ---------------------------------------------------------------------


class Plan:
    """Sizes and places that the routines of one convolution share."""

    def __init__(self, target: Target, p: Winograd, options: Options) -> None:
        self.target, self.p, self.options = target, p, options
        rows, cols = p.tiles
        self.samples = options.samples
        self.row_parts = [rows] if self.samples > 1 else split(rows, min(options.rows, rows))
        tiles = self.samples * self.row_parts[0] * cols
        most = options.tile or tile_width(target)
        planes, lanes = p.algebra.planes, target.width
        self.in_blocks = blocks(p.contracted, target)
        self.out_blocks = blocks(p.outputs, target)
        count = -(-self.out_blocks // PANEL)
        self.panel_parts = split(count, min(options.panels or count, count))
        self.v = Slots(tiles, most, self.in_blocks, planes, lanes)
        held = min(self.panel_parts[0] * PANEL, self.out_blocks)
        self.sums = Slots(tiles, most, held, planes, lanes)
        depth = min(options.depth or self.in_blocks, self.in_blocks)
        self.chunks = split(self.in_blocks, depth)
        self.u_plane = u_plane(target, p)
        self.windows = p.windows()
        self.line = (p.tiles[1] * p.m) | 1  # columns of the strip of outputs
        outgoing = p.algebra.window * self.line * lanes
        self.strip = max(self.windows.strip_floats(lanes), outgoing)

    def v_per_sample(self) -> int:
        """Floats of the buffer of transformed windows a sample: any number of samples fits."""
        if self.samples == 1:
            return len(self.row_parts) * self.v.floats
        each, groups = self.p.tiles[0] * self.p.tiles[1], self.v.groups_of()
        return max(
            -(-groups[n * each] * self.v.group // (16 * n)) * 16 for n in range(1, self.samples + 1)
        )


@functools.lru_cache(maxsize=512)
def winograd(
    target: Target, p: Winograd, tail: Tail | None = None, options: Options | None = None
) -> Recipe:
    """out = bias + the convolution of source with the transformed weights u.

    Args:
        target: what code is generated for.
        p: the convolution.
        tail: an elementwise expression fused into the stores.
        options: how the work is cut; by default as `choose` estimates.
    Returns:
        One routine with arguments out, source, u, [bias], the tail's, scratch, part; or two, the
        first with v and source, the second with v instead of source. Items of several samples
        also have samples and the steps of values from sample to sample.
        out: blocks of `outputs` channels, (out rows, out columns); source likewise.
    Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.
    """
    plan = Plan(target, p, options or choose(target, p))
    tails = list(tail.arguments) if tail else []
    given = ["u", *(["bias"] if p.bias else []), *tails]
    if not plan.options.phases:
        return recipe(_routine(plan, ["out", "source", *given], tail, True, True))
    steps = (
        _routine(plan, ["v", "source"], None, True, False),
        _routine(plan, ["out", "v", *given], tail, False, True),
    )
    return Recipe(steps, (Buffer("v", per_sample=plan.v_per_sample()),))


def _routine(
    plan: Plan, names: Sequence[str], tail: Tail | None, windows: bool, products: bool
) -> Routine:
    names = list(names)
    if plan.samples > 1:
        once = ("u", "bias", "v")
        names += ["samples:i64", *(f"{n}_step:i64" for n in names if n not in once)]
    names += ["scratch", "part:i64"]
    emitters: list[Emitter] = []

    def build(b: Builder, arguments: list[Value]) -> None:
        values = {n.partition(":")[0]: a for n, a in zip(names, arguments, strict=True)}
        emitters.append(Emitter(b, plan, tail, values, windows, products))
        emitters[0].emit()

    kind = "" if windows and products else "_windows" if windows else "_products"
    kernel = make_kernel(plan.target, f"winograd{plan.p.m}{kind}", names, build)
    return Routine(
        kernel,
        parts=len(plan.row_parts) * len(emitters[0].block_parts),
        samples=plan.samples,
        scratch=emitters[0].scratch,
        samples_first=not (windows and not products) and len(plan.row_parts) == 1,
    )


class Emitter:
    """Emits one routine: a part is (piece of the blocks of channels, piece of the tile rows)."""

    def __init__(
        self,
        b: Builder,
        plan: Plan,
        tail: Tail | None,
        values: dict[str, Value],
        windows: bool,
        products: bool,
    ) -> None:
        self.b, self.plan, self.p, self.tail, self.values = b, plan, plan.p, tail, values
        self.has_windows, self.has_products = windows, products
        if products:
            self.block_parts = plan.panel_parts
        else:  # few enough that an item is worth its start
            work = plan.v.tiles * plan.in_blocks
            self.block_parts = split(plan.in_blocks, max(1, -(-plan.in_blocks * 500 // work)))
        self.scratch = plan.strip
        self.strip = values["scratch"]
        self.v = values.get("v", "")
        if windows and products:
            self.v = b.at(values["scratch"], self._reserve(plan.v.floats))
        self.sums = ""
        if products:
            self.sums = b.at(values["scratch"], self._reserve(plan.sums.floats))

    def _reserve(self, floats: int) -> int:
        at = -(-self.scratch // 16) * 16
        self.scratch = at + floats
        return at

    # ---- which part -----------------------------------------------------------------------------

    def _piece(self, parts: Sequence[int], index: Int) -> tuple[Int, Int]:
        """The piece's first element and the one behind its last."""
        starts = [sum(parts[:k]) for k in range(len(parts) + 1)]
        if len(parts) == 1:
            return 0, starts[1]
        b, table = self.b, self.b.table(starts)
        return b.load_i64(table, index), b.load_i64(table, b.add(index, 1))

    def emit(self) -> None:
        b, plan = self.b, self.plan
        rows = len(plan.row_parts)
        piece = b.divide(self.values["part"], rows)
        row = b.sub(self.values["part"], b.mul(piece, rows))
        if len(self.block_parts) == 1:
            piece, row = 0, self.values["part"]
        if rows == 1:
            row = 0
        self.first_row, last_row = self._piece(plan.row_parts, row)
        self.block_range = self._piece(self.block_parts, piece)
        height = self.p.tiles[0]
        self.count: Int = b.sub(last_row, self.first_row)  # rows of tiles that the item has
        if plan.samples > 1:
            self.count = b.mul(self.values["samples"], height)
        if not (self.has_windows and self.has_products) and rows > 1:
            self.v = b.at(self.v, b.mul(row, plan.v.floats))
        if self.has_windows:
            self._windows()
        if self.has_products:
            self._products()
            self._outputs()

    def _over_rows(self, body: Callable[[Int, Int, Int], None]) -> None:
        """Run `body(sample, row of tiles in it, number of the row's first tile in the item)`."""
        b, (height, width) = self.b, self.p.tiles

        def one(k: Int, _: list[Value]) -> None:
            sample, row = (0, b.add(k, self.first_row))
            if self.plan.samples > 1:
                sample = b.divide(k, height)  # type: ignore[assignment]
                row = b.sub(k, b.mul(sample, height))
            body(sample, row, b.mul(k, width))

        b.loop(0, self.count, one)

    def _of_sample(self, name: str, sample: Int) -> Value:
        """The argument for one of the item's samples."""
        if self.plan.samples == 1:
            return self.values[name]
        step = self.values[f"{name}_step"]
        return self.b.at(self.values[name], self.b.mul(sample, step))

    # ---- windows --------------------------------------------------------------------------------

    def _windows(self) -> None:
        b, plan, windows = self.b, self.plan, self.plan.windows
        windows.clear(b, self.strip)
        places = b.table(plan.v.offsets())
        plane = self.p.source[0] * self.p.source[1] * b.width
        everything = (0, plan.in_blocks)
        first, last = everything if self.has_products else self.block_range

        def row(sample: Int, r: Int, tile: Int) -> None:
            source = self._of_sample("source", sample)

            def block(c: Int, _: list[Value]) -> None:
                out = b.at(self.v, b.mul(c, plan.v.block))

                def place(t: Int) -> tuple[Value, int]:
                    return b.at(out, b.load_i64(places, b.add(tile, t))), plan.v.plane

                windows.transform(b, b.at(source, b.mul(c, plane)), r, self.strip, place)

            b.loop(first, last, block)

        self._over_rows(row)

    # ---- products -------------------------------------------------------------------------------

    def _products(self) -> None:
        """sums[plane] = u[plane] · v[plane], for the item's panels and groups of tiles."""
        b, plan = self.b, self.plan
        tiles = b.mul(self.count, self.p.tiles[1])
        groups: Int = len(plan.v.widths)
        if not isinstance(tiles, int):
            groups = b.load_i64(b.table(plan.v.groups_of()), tiles)
        bounds = [sum(plan.chunks[:k]) for k in range(len(plan.chunks) + 1)]
        same = len(set(plan.chunks[1:])) <= 1 and self.p.contracted % b.width == 0

        def plane(k: Int, _: list[Value]) -> None:
            u = b.at(self.values["u"], b.mul(k, plan.u_plane))
            v, sums = (
                b.at(self.v, b.mul(k, plan.v.plane)),
                b.at(self.sums, b.mul(k, plan.sums.plane)),
            )
            self._chunk(u, v, sums, groups, 0, plan.chunks[0])
            if same and len(plan.chunks) > 1:
                size = plan.chunks[1]
                start = plan.chunks[0]

                def chunk(c: Int, _: list[Value]) -> None:
                    first = b.add(b.mul(c, size), start)
                    self._chunk(u, v, sums, groups, first, size)

                b.loop(0, len(plan.chunks) - 1, chunk)
            else:
                for first, size in zip(bounds[1:], plan.chunks[1:], strict=False):
                    self._chunk(u, v, sums, groups, first, size)

        b.loop(0, self.p.algebra.planes, plane)

    def _chunk(self, u: Value, v: Value, sums: Value, groups: Int, first: Int, size: int) -> None:
        """One chunk of the contraction, for all panels and groups."""
        b, plan = self.b, self.plan
        v = b.at(v, b.mul(first, plan.v.block))
        start, stop = self.block_range
        full = plan.out_blocks // PANEL

        def panel(q: Int, held: int) -> None:
            depth = b.mul(b.mul(q, PANEL), self.p.contracted * b.width)
            u_q = b.at(u, b.add(depth, b.mul(first, b.width * held * b.width)))
            sums_q = b.at(sums, b.mul(b.sub(q, start), PANEL * plan.sums.block))
            wide = plan.v.widths.count(plan.v.slots)

            def group(width: int) -> Callable[[Int, list[Value]], None]:
                def one(g: Int, _: list[Value]) -> None:
                    here = b.at(sums_q, b.mul(g, plan.sums.group))
                    self._product(
                        u_q, b.at(v, b.mul(g, plan.v.group)), here, held, width, first, size
                    )

                return one

            b.loop(0, b.minimum(groups, wide), group(plan.v.slots))
            if wide < len(plan.v.widths):
                b.loop(wide, groups, group(plan.v.slots - 1))

        b.loop(start, b.minimum(stop, full), lambda q, _: panel(q, PANEL))
        if plan.out_blocks % PANEL:
            self._last_panel(stop, full, panel)

    def _last_panel(self, stop: Int, full: int, panel: Callable[[Int, int], None]) -> None:
        """The panel of one block, if it is the item's."""
        if isinstance(stop, int):
            panel(full, 1)
        else:
            self.b.when(self.b.compare("sgt", stop, full), lambda: panel(full, 1))

    def _product(
        self, u: Value, v: Value, sums: Value, held: int, width: int, first: Int, size: int
    ) -> None:
        """One register tile: `held` blocks of outputs × `width` tiles, `size` blocks deep."""
        b, plan = self.b, self.plan
        places = [(o, j) for o in range(held) for j in range(width)]
        carry = [b.zero] * len(places)
        if first != 0:
            carry = [b.load(sums, o * plan.sums.block + j * b.width) for o, j in places]
        rest = self.p.contracted % b.width
        last = rest and first == plan.in_blocks - size
        unroll = max(1, min(b.width, 8 if held * width <= 16 else 4))

        def lanes(c: Int, first_lane: Int, count: int, acc: list[Value]) -> list[Value]:
            acc = list(acc)
            x = b.at(v, b.add(b.mul(c, plan.v.block), first_lane))
            w = b.at(u, b.mul(b.add(b.mul(c, b.width), first_lane), held * b.width))
            for i in range(count):
                b.fence()
                ws = [b.load(w, (i * held + o) * b.width) for o in range(held)]
                for j in range(width):
                    value = b.broadcast(x, j * b.width + i)
                    for o in range(held):
                        at = o * width + j
                        acc[at] = b.fma(value, ws[o], acc[at])
            return acc

        def block(c: Int, acc: list[Value]) -> list[Value]:
            return b.loop(0, b.width, lambda i, a: lanes(c, i, unroll, a), acc, step=unroll)

        acc = b.loop(0, size - 1 if last else size, block, carry)
        if last:
            acc = lanes(size - 1, 0, rest, acc)
        for value, (o, j) in zip(acc, places, strict=True):
            b.store(value, sums, o * plan.sums.block + j * b.width)

    # ---- outputs --------------------------------------------------------------------------------

    def _outputs(self) -> None:
        b, plan = self.b, self.plan
        places = b.table(plan.sums.offsets())
        start, stop = (b.mul(k, PANEL) for k in self.block_range)
        stop = b.minimum(stop, plan.out_blocks)

        def row(sample: Int, r: Int, tile: Int) -> None:
            names = ["out", *(self.tail.arguments if self.tail else ())]
            out, *rest = [self._of_sample(n, sample) for n in names]

            def block(o: Int, _: list[Value]) -> None:
                sums = b.at(self.sums, b.mul(b.sub(o, start), plan.sums.block))

                def one(t: Int, _: list[Value]) -> None:
                    at = b.load_i64(places, b.add(tile, t))
                    self._gather(b.at(sums, at), b.at(self.strip, b.mul(t, self.p.m * b.width)))

                b.loop(0, self.p.tiles[1], one)
                self._finish(o, r, out, rest)

            b.loop(start, stop, block)

        self._over_rows(row)

    def _gather(self, sums: Value, strip: Value) -> None:
        """The first pass of one tile: each row of planes to m columns of the strip."""
        b, size = self.b, self.p.algebra.window
        for r in range(size):
            b.fence()
            planes = [b.load(sums, (r * size + k) * self.plan.sums.plane) for k in range(size)]
            for k, value in enumerate(self.p.algebra.output(b, planes)):
                b.store(value, strip, (r * self.plan.line + k) * b.width)

    def _finish(self, o: Int, r: Int, out: Value, rest: Sequence[Value]) -> None:
        """The second pass of a row of tiles: bias, tail, and out."""
        b, p = self.b, self.p
        height, width = p.out
        size = p.algebra.window
        bias = b.load(self.values["bias"], b.mul(o, b.width)) if p.bias else None
        line = b.add(b.mul(o, height), b.mul(r, p.m))
        first = b.mul(line, width * b.width)

        def rows(pattern: tuple[bool, ...]) -> None:
            def column(j: Int, _: list[Value]) -> None:
                at = b.mul(j, b.width)
                here = b.at(self.strip, at)
                planes = [b.load(here, k * self.plan.line * b.width) for k in range(size)]
                values = p.algebra.output(b, planes)
                offset = b.add(first, at)
                for k, value in enumerate(values):
                    if pattern[k]:
                        if bias is not None:
                            value = b.fadd(value, bias)
                        at_row = b.add(offset, k * width * b.width)
                        store_with_tail(b, self.tail, value, out, at_row, rest)

            b.loop(0, width, column)

        by_pattern(b, inside(p.tiles[0], p.m, p.m, 0, height), r, rows)
