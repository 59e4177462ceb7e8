"""Winograd's gradient to the weights: dw = Gᵀ [ Σ over tiles (Bᵀ x B) ⊙ (A dy Aᵀ) ] G.

The sum over the tiles of the whole batch is a matrix product for each of the (m+2)² planes, with
register tiles of two blocks of outputs × some source channels. It is cut in one of two ways:

- *whole*: two routines transform x and dy of all samples into buffers; the items of a third have
  a rectangle of channels each, sum over all tiles and bring the sum back. For small images.
- *pieces*: an item has some of the batch's rows of tiles, for a rectangle of channels; it
  transforms them a few rows at a time in its scratch and adds to sums of its own. A second
  routine adds the pieces' sums, always in the same order, and brings them back. For large images.

How many pieces there are depends on the layer alone, so the bits do not depend on the threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import make_kernel
from striate.kernels.routine import Buffer, Recipe, Routine, blocks
from striate.kernels.window import split
from striate.kernels.winograd_plan import WeightOptions, choose_weight, tile_width
from striate.kernels.winograd_transform import (
    PANEL,
    Slots,
    Windows,
    Winograd,
    u_floats,
    u_plane,
)

_SPAN = 2  # blocks of source channels that register tiles are cut from


class WeightPlan:
    """Sizes that the routines of one gradient share."""

    def __init__(self, target: Target, p: Winograd, options: WeightOptions) -> None:
        self.target, self.p, self.options = target, p, options
        self.in_blocks, self.out_blocks = blocks(p.contracted, target), blocks(p.outputs, target)
        panels, spans = -(-self.out_blocks // PANEL), -(-self.in_blocks // _SPAN)
        self.panel_parts = split(panels, min(options.panels or panels, panels))
        self.span_parts = split(spans, min(options.spans or spans, spans))
        self.most = tile_width(target)
        self.plane = u_plane(target, p)
        self.held_panels, self.held_spans = self.panel_parts[0], self.span_parts[0]

    def slots(self, tiles: int, held: int) -> Slots:
        return Slots(tiles, tiles, held, self.p.algebra.planes, self.target.width)

    @property
    def channel_parts(self) -> int:
        return len(self.panel_parts) * len(self.span_parts)


@functools.lru_cache(maxsize=512)
def winograd_weight(target: Target, p: Winograd, options: WeightOptions | None = None) -> Recipe:
    """The gradient to the weights of the convolution p, from its source x and dy.

    Args:
        target: what code is generated for.
        p: the convolution (its bias does not matter).
        options: how the work is cut; by default as `choose_weight` estimates.
    Returns:
        Routines whose arguments are dw, x, dy, buffers (v, d or du), samples, steps, scratch and
        part. dw[ob][i][tap][lane] is written, summed over the batch: blocks of `outputs`.
    Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.
    """
    plan = WeightPlan(target, p, options or choose_weight(target, p))
    return _pieces(plan) if plan.options.pieces else _whole(plan)


# ---- the whole batch in every item -------------------------------------------------------------


def _whole(plan: WeightPlan) -> Recipe:
    p, target = plan.p, plan.target
    tiles = p.tiles[0] * p.tiles[1]
    v, d = plan.slots(tiles, plan.in_blocks), plan.slots(tiles, plan.out_blocks)
    names = ["dw", "v", "d", "samples:i64", "v_step:i64", "d_step:i64", "scratch", "part:i64"]

    def build(b: Builder, arguments: list[Value]) -> None:
        _WholeEmitter(
            b, plan, dict(zip([n.partition(":")[0] for n in names], arguments, strict=True))
        ).emit(v, d)

    kernel = make_kernel(target, f"winograd{p.m}_to_weight", names, build)
    products = Routine(
        kernel,
        parts=plan.channel_parts,
        samples=0,
        scratch=_whole_plane(plan) * p.algebra.planes,
    )
    steps = (
        _transform(target, p.windows(), v, ("v", "x")),
        _transform(target, p.gradients(), d, ("d", "dy")),
        products,
    )
    buffers = (Buffer("v", per_sample=v.floats), Buffer("d", per_sample=d.floats))
    return Recipe(steps, buffers)


def _whole_plane(plan: WeightPlan) -> int:
    """Floats between planes of an item's sums."""
    channels = min(plan.held_spans * _SPAN * plan.target.width, plan.p.contracted)
    return plan.held_panels * PANEL * plan.target.width * channels + 16


def _transform(target: Target, windows: Windows, slots: Slots, names: tuple[str, str]) -> Routine:
    """All windows of one sample; a part is a piece of the blocks of channels."""
    work = 200 * slots.tiles  # cycles a block
    parts = split(slots.blocks, max(1, -(-60_000 // work)))

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, strip, part = arguments
        first, last = piece_bounds(b, parts, part)
        windows.clear(b, strip)
        each = windows.image[0] * windows.image[1] * b.width

        def block(c: Int, _: list[Value]) -> None:
            def row(r: Int, _: list[Value]) -> None:
                tile = b.at(out, b.mul(r, windows.tiles[1] * b.width))
                here = b.at(tile, b.mul(c, slots.block))

                def place(t: Int) -> tuple[Value, int]:
                    return b.at(here, b.mul(t, b.width)), slots.plane

                windows.transform(b, b.at(source, b.mul(c, each)), r, strip, place)

            b.loop(0, windows.tiles[0], row)

        b.loop(first, last, block)

    name = f"winograd{windows.algebra.m}_{'windows' if names[0] == 'v' else 'gradients'}"
    kernel = make_kernel(target, name, [*names, "scratch", "part:i64"], build)
    return Routine(kernel, parts=len(parts), scratch=windows.strip_floats(target.width))


def piece_bounds(b: Builder, parts: Sequence[int], index: Int) -> tuple[Int, Int]:
    """Where piece number `index` of a split begins and ends."""
    bounds = [sum(parts[:k]) for k in range(len(parts) + 1)]
    if len(parts) == 1:
        return 0, bounds[1]
    table = b.table(bounds)
    return b.load_i64(table, index), b.load_i64(table, b.add(index, 1))


class _Emitter:
    """What both ways share: products of a rectangle of channels, and bringing sums back."""

    def __init__(self, b: Builder, plan: WeightPlan, values: dict[str, Value]) -> None:
        self.b, self.plan, self.p, self.values = b, plan, plan.p, values
        self.span = _SPAN * b.width  # source channels of a span

    def _rectangle(self, part: Int) -> None:
        """Set the item's panels and spans."""
        b, plan = self.b, self.plan
        row = b.divide(part, len(plan.span_parts))
        col = b.sub(part, b.mul(row, len(plan.span_parts)))
        if len(plan.panel_parts) == 1:
            row, col = 0, part
        self.panels = piece_bounds(b, plan.panel_parts, row)
        self.spans = piece_bounds(b, plan.span_parts, col)

    def _over_panels(self, body: Callable[[Int, int], None]) -> None:
        """Run `body(panel, its blocks)` for the item's panels; emitted once for each width."""
        b, (start, stop) = self.b, self.panels
        full = self.plan.out_blocks // PANEL
        b.loop(start, b.minimum(stop, full), lambda q, _: body(q, PANEL))
        if self.plan.out_blocks % PANEL:
            self._if_last(stop, full, lambda: body(full, 1))

    def _over_spans(self, body: Callable[[Int, int], None]) -> None:
        """Run `body(span, its channels)` for the item's spans."""
        b, (start, stop) = self.b, self.spans
        full = self.p.contracted // self.span
        b.loop(start, b.minimum(stop, full), lambda s, _: body(s, self.span))
        if self.p.contracted % self.span:
            self._if_last(stop, full, lambda: body(full, self.p.contracted % self.span))

    def _if_last(self, stop: Int, full: int, body: Callable[[], None]) -> None:
        if isinstance(stop, int):
            if stop > full:
                body()
            return
        self.b.when(self.b.compare("sgt", stop, full), body)

    def _zero(self, sums: Value, place: Callable[[Int, int, Int], Int]) -> None:
        """Zero one plane of the item's sums; `place`: floats to (panel, its blocks, channel)."""
        b = self.b

        def panel(q: Int, held: int) -> None:
            def span(s: Int, channels: int) -> None:
                at = b.at(sums, place(q, held, b.mul(s, self.span)))
                b.loop(0, channels * held, lambda k, _: b.store(b.zero, at, b.mul(k, b.width)))

            self._over_spans(span)

        self._over_panels(panel)

    def _add_products(
        self,
        sums: Value,
        place: Callable[[Int, int, Int], Int],
        operand: Callable[[Int, Int], tuple[Value, Value]],
        slots: tuple[Slots, Slots],
        over: Callable[
            [Callable[[Value, Value, int, list[Value]], list[Value]], Value, Value, list[Value]],
            list[Value],
        ],
    ) -> None:
        """Add a chunk of tiles to one plane of the item's sums.

        `operand(block of x, block of dy)` are the first tiles; `over` sums over the tiles.
        """
        b, (v, d) = self.b, slots

        def panel(q: Int, held: int) -> None:
            def span(s: Int, channels: int) -> None:
                x, y = operand(b.mul(s, _SPAN), b.mul(q, PANEL))
                at = b.at(sums, place(q, held, b.mul(s, self.span)))
                first = 0
                for count in split(channels, self.plan.most):
                    self._register_tile(at, x, y, range(first, first + count), held, v, d, over)
                    first += count

            self._over_spans(span)

        self._over_panels(panel)

    def _register_tile(
        self,
        sums: Value,
        x: Value,
        y: Value,
        channels: range,
        held: int,
        v: Slots,
        d: Slots,
        over: Callable[..., list[Value]],
    ) -> None:
        b = self.b
        places = [(i, o) for i in channels for o in range(held)]

        def step(x: Value, y: Value, unroll: int, acc: list[Value]) -> list[Value]:
            acc = list(acc)
            for t in range(unroll):
                b.fence()
                ds = [b.load(y, o * d.block + t * b.width) for o in range(held)]
                for k, i in enumerate(channels):
                    value = b.broadcast(x, i // b.width * v.block + t * b.width + i % b.width)
                    for o in range(held):
                        acc[k * held + o] = b.fma(value, ds[o], acc[k * held + o])
            return acc

        acc = [b.load(sums, (i * held + o) * b.width) for i, o in places]
        acc = over(step, x, y, acc)
        for value, (i, o) in zip(acc, places, strict=True):
            b.store(value, sums, (i * held + o) * b.width)

    def _back(
        self, sums: Sequence[Value], apart: int, place: Callable[[Int, int, Int], Int]
    ) -> None:
        """dw = Gᵀ (Σ sums) G for the item's panels and spans; planes lie `apart`."""
        b, p, size = self.b, self.p, self.p.algebra.window

        def panel(q: Int, held: int) -> None:
            def span(s: Int, channels: int) -> None:
                def channel(i: Int, _: list[Value]) -> None:
                    at = b.add(place(q, held, b.mul(s, self.span)), b.mul(i, held * b.width))
                    for o in range(held):
                        block = b.add(b.mul(q, PANEL), o)
                        row = b.add(b.mul(block, p.contracted), b.add(b.mul(s, self.span), i))
                        out = b.at(self.values["dw"], b.mul(row, 9 * b.width))
                        here = [b.at(part, b.add(at, o * b.width)) for part in sums]
                        columns = [
                            p.algebra.weight_gradient(
                                b, [self._sum(here, (r * size + k) * apart) for r in range(size)]
                            )
                            for k in range(size)
                        ]
                        for r in range(3):
                            taps = p.algebra.weight_gradient(b, [column[r] for column in columns])
                            for k, value in enumerate(taps):
                                b.store(value, out, (r * 3 + k) * b.width)

                b.loop(0, channels, channel)

            self._over_spans(span)

        self._over_panels(panel)

    def _sum(self, pointers: Sequence[Value], at: int) -> Value:
        total = self.b.load(pointers[0], at)
        for pointer in pointers[1:]:
            total = self.b.fadd(total, self.b.load(pointer, at))
        return total


class _WholeEmitter(_Emitter):
    """An item's rectangle of channels, for all tiles of the batch."""

    def _place(self, q: Int, held: int, channel: Int) -> Int:
        """Floats to a panel and source channel in the item's sums of a plane."""
        b, plan = self.b, self.plan
        channels = min(plan.held_spans * self.span, self.p.contracted)
        row = b.mul(b.sub(q, self.panels[0]), PANEL * channels * b.width)
        return b.add(row, b.mul(b.sub(channel, b.mul(self.spans[0], self.span)), held * b.width))

    def emit(self, v: Slots, d: Slots) -> None:
        b, plan, values = self.b, self.plan, self.values
        self._rectangle(values["part"])
        apart, tiles = _whole_plane(plan), v.tiles
        together = max(1, plan.options.tiles // tiles)  # samples summed in registers
        unroll = 2 if tiles > 1 else 1

        def plane(k: Int, _: list[Value]) -> None:
            sums = b.at(values["scratch"], b.mul(k, apart))
            self._zero(sums, self._place)

            def some(n: Int, _: list[Value]) -> None:
                count = b.minimum(b.sub(values["samples"], n), together)

                def operand(c: Int, o: Int) -> tuple[Value, Value]:
                    at_x = b.add(b.mul(k, v.plane), b.mul(c, v.block))
                    at_y = b.add(b.mul(k, d.plane), b.mul(o, d.block))
                    x = b.at(values["v"], b.add(at_x, b.mul(n, values["v_step"])))
                    return x, b.at(values["d"], b.add(at_y, b.mul(n, values["d_step"])))

                def over(
                    step: Callable[..., list[Value]], x: Value, y: Value, acc: list[Value]
                ) -> list[Value]:
                    def sample(j: Int, acc: list[Value]) -> list[Value]:
                        x_j = b.at(x, b.mul(j, values["v_step"]))
                        y_j = b.at(y, b.mul(j, values["d_step"]))

                        def tile(u: int) -> Callable[[Int, list[Value]], list[Value]]:
                            return lambda t, a: step(
                                b.at(x_j, b.mul(t, b.width)), b.at(y_j, b.mul(t, b.width)), u, a
                            )

                        whole = tiles // unroll * unroll
                        acc = b.loop(0, whole, tile(unroll), acc, step=unroll)
                        return b.loop(whole, tiles, tile(1), acc)

                    return b.loop(0, count, sample, acc)

                self._add_products(sums, self._place, operand, (v, d), over)

            b.loop(0, values["samples"], some, step=together)

        b.loop(0, self.p.algebra.planes, plane)
        self._back([values["scratch"]], apart, self._place)


# ---- pieces of the batch -----------------------------------------------------------------------


def _pieces(plan: WeightPlan) -> Recipe:
    p, target = plan.p, plan.target
    emitters: list[_PiecesEmitter] = []
    names = ["du", "x", "dy", "samples:i64", "x_step:i64", "dy_step:i64", "scratch", "part:i64"]

    def build(b: Builder, arguments: list[Value]) -> None:
        values = dict(zip([n.partition(":")[0] for n in names], arguments, strict=True))
        emitters.append(_PiecesEmitter(b, plan, values))
        emitters[0].emit()

    kernel = make_kernel(target, f"winograd{p.m}_to_weight_pieces", names, build)
    parts = plan.channel_parts * plan.options.pieces
    first = Routine(kernel, parts=parts, samples=0, scratch=emitters[0].scratch)
    buffer = Buffer("du", fixed=plan.options.pieces * u_floats(target, p))
    return Recipe((first, _finish(plan)), (buffer,))


def _finish(plan: WeightPlan) -> Routine:
    """Add up the pieces' sums and bring them back; a part is a panel."""
    count = -(-plan.out_blocks // PANEL)
    single = WeightPlan(plan.target, plan.p, WeightOptions(panels=1))

    def build(b: Builder, arguments: list[Value]) -> None:
        dw, du, part = arguments
        emitter = _PiecesEmitter(b, single, {"dw": dw, "scratch": "", "part": part})
        emitter._rectangle(part)
        size = u_floats(plan.target, plan.p)
        sums = [b.at(du, k * size) for k in range(plan.options.pieces)]
        emitter._back(sums, plan.plane, emitter._place)

    name = f"winograd{plan.p.m}_sum_weights"
    kernel = make_kernel(plan.target, name, ["dw", "du", "part:i64"], build)
    return Routine(kernel, parts=count, samples=0)


class _PiecesEmitter(_Emitter):
    """An item's rectangle of channels, for some of the batch's rows of tiles."""

    def __init__(self, b: Builder, plan: WeightPlan, values: dict[str, Value]) -> None:
        super().__init__(b, plan, values)
        cols = self.p.tiles[1]
        self.rows = max(1, round(plan.options.tiles / cols))  # of tiles, transformed together
        held = min(plan.held_spans * _SPAN, plan.in_blocks)
        self.v = plan.slots(self.rows * cols, held)
        held = min(plan.held_panels * PANEL, plan.out_blocks)
        self.d = plan.slots(self.rows * cols, held)
        strips = [w.strip_floats(b.width) for w in (self.p.windows(), self.p.gradients())]
        starts = [0]
        for size in (*strips, self.v.floats, self.d.floats):
            starts.append(-(-(starts[-1] + size) // 16) * 16)
        self.scratch, self.starts = starts[-1], starts

    def _place(self, q: Int, held: int, channel: Int) -> Int:
        """Floats to a panel and source channel in a plane of the sums, which are as u."""
        row = self.b.mul(q, PANEL * self.p.contracted * self.b.width)
        return self.b.add(row, self.b.mul(channel, held * self.b.width))

    def emit(self) -> None:
        b, plan, values = self.b, self.plan, self.values
        piece = b.divide(values["part"], plan.channel_parts)
        self._rectangle(b.sub(values["part"], b.mul(piece, plan.channel_parts)))
        self.du = b.at(values["du"], b.mul(piece, u_floats(plan.target, self.p)))
        memory = [b.at(values["scratch"], at) for at in self.starts[:4]]
        self.strips, (self.v_at, self.d_at) = memory[:2], memory[2:]
        self.p.windows().clear(b, self.strips[0])
        self.p.gradients().clear(b, self.strips[1])

        def clear(k: Int, _: list[Value]) -> None:
            self._zero(b.at(self.du, b.mul(k, plan.plane)), self._place)

        b.loop(0, self.p.algebra.planes, clear)
        total = b.mul(values["samples"], self.p.tiles[0])
        first = b.divide(b.mul(piece, total), plan.options.pieces)
        last = b.divide(b.mul(b.add(piece, 1), total), plan.options.pieces)
        b.loop(first, last, lambda r, _: self._rows(r, last), step=self.rows)

    def _rows(self, first: Int, last: Int) -> None:
        """Some rows of tiles, from number `first` of the batch's."""
        b = self.b
        count = b.minimum(b.sub(last, first), self.rows)
        start, stop = (b.mul(k, _SPAN) for k in self.spans)
        held = (start, b.minimum(stop, self.plan.in_blocks))
        self._transform("x", self.p.windows(), (first, count), held, self.v, self.v_at)
        start, stop = (b.mul(k, PANEL) for k in self.panels)
        held = (start, b.minimum(stop, self.plan.out_blocks))
        self._transform("dy", self.p.gradients(), (first, count), held, self.d, self.d_at)
        self._products(b.mul(count, self.p.tiles[1]))

    def _transform(
        self,
        name: str,
        windows: Windows,
        rows: tuple[Int, Int],
        held: tuple[Int, Int],
        slots: Slots,
        out: Value,
    ) -> None:
        b, (height, width) = self.b, windows.tiles
        strip = self.strips[0 if name == "x" else 1]
        each = windows.image[0] * windows.image[1] * b.width

        def row(k: Int, _: list[Value]) -> None:
            number = b.add(k, rows[0])
            sample = b.divide(number, height)
            r = b.sub(number, b.mul(sample, height))
            source = b.at(self.values[name], b.mul(sample, self.values[f"{name}_step"]))
            tile = b.at(out, b.mul(k, width * b.width))

            def block(c: Int, _: list[Value]) -> None:
                here = b.at(tile, b.mul(b.sub(c, held[0]), slots.block))

                def place(t: Int) -> tuple[Value, int]:
                    return b.at(here, b.mul(t, b.width)), slots.plane

                windows.transform(b, b.at(source, b.mul(c, each)), r, strip, place)

            b.loop(*held, block)

        b.loop(0, rows[1], row)

    def _products(self, tiles: Int) -> None:
        b = self.b

        def over(
            step: Callable[..., list[Value]], x: Value, y: Value, acc: list[Value]
        ) -> list[Value]:
            def tile(u: int) -> Callable[[Int, list[Value]], list[Value]]:
                return lambda t, a: step(
                    b.at(x, b.mul(t, b.width)), b.at(y, b.mul(t, b.width)), u, a
                )

            whole = b.mul(b.divide(tiles, 2), 2)
            acc = b.loop(0, whole, tile(2), acc, step=2)
            return b.loop(whole, tiles, tile(1), acc)

        def plane(k: Int, _: list[Value]) -> None:
            v, d = b.at(self.v_at, b.mul(k, self.v.plane)), b.at(self.d_at, b.mul(k, self.d.plane))

            def operand(c: Int, o: Int) -> tuple[Value, Value]:
                x = b.sub(c, b.mul(self.spans[0], _SPAN))
                y = b.sub(o, b.mul(self.panels[0], PANEL))
                return b.at(v, b.mul(x, self.v.block)), b.at(d, b.mul(y, self.d.block))

            sums = b.at(self.du, b.mul(k, self.plan.plane))
            self._add_products(sums, self._place, operand, (self.v, self.d), over)

        b.loop(0, self.p.algebra.planes, plane)
