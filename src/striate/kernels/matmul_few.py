"""The gradient to the input of fully connected layers on rows, for few samples.

Then reading the weights is all that takes time: a part reads whole rows of them, in order, and
leaves sums over its own outputs; a second step adds the parts' sums, always in the same order.
For more samples matmul_gradient reuses what it has read, which this does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Tail, make_kernel
from striate.kernels.routine import Buffer, Recipe, Routine, whole_vectors
from striate.kernels.rows import (
    QUAD,
    each,
    partial_load,
    row_names,
    sample_tiles,
    take_rows,
)

_PARTS = 32  # at most; more would spend time on adding their sums up
_FLOATS = 65536  # weights of a part, at least
_COLUMNS = 16384  # inputs whose sums stay in the cache while the part's rows go by
_GROUP = 8  # samples of an item, at most


def few_input_gradient(
    target: Target, outputs: int, inputs: int, tail: Tail | None = None
) -> Recipe:
    """dx[n, i] = tail(Σ over parts (Σ over the part's o of dy[n, o] · w[o, i])).

    Args:
        target: the CPU.
        outputs: features of dy.
        inputs: features of dx.
        tail: fused into the store.

    Returns:
        Recipe of out, dy, weight (outputs, inputs), the tail's arguments; right for any number
        of samples.
    """
    rows = max(-(-_FLOATS // inputs), -(-outputs // _PARTS))
    rows = -(-rows // QUAD) * QUAD
    parts, step = -(-outputs // rows), whole_vectors(inputs, target)

    def build(b: Builder, arguments: list[Value]) -> None:
        _Streams(b, arguments, (outputs, inputs, rows, step)).emit()

    names = ["sums", "dy", "weight", "sums_step:i64", "dy_step:i64", "samples:i64", "part:i64"]
    kernel = make_kernel(target, "linear_input_gradient_few", names, build)
    first = Routine(kernel, parts, _GROUP, samples_first=True)
    second = _added(target, inputs, parts, tail)
    return Recipe((first, second), (Buffer("sums", per_sample=parts * step),))


class _Streams:
    """Blocks of columns outside, then rows of weights 4 by 4, samples, vectors of columns."""

    def __init__(
        self, b: Builder, arguments: list[Value], sizes: tuple[int, int, int, int]
    ) -> None:
        sums, self.dy, self.weight, self.step, self.dy_step, self.samples, part = arguments
        self.b = b
        self.outputs, self.inputs, self.rows, room = sizes
        self.first = b.mul(part, self.rows)
        self.sums = b.at(sums, b.mul(part, room))
        self.unit = QUAD * b.width

    def emit(self) -> None:
        b = self.b
        count = b.minimum(self.rows, b.sub(self.outputs, self.first))

        def block(c: Int, _: list[Value]) -> None:
            stop = b.minimum(b.add(c, _COLUMNS), self.inputs)

            def clear(n: Int) -> None:
                row = b.at(self.sums, b.mul(n, self.step))
                b.loop(c, stop, lambda at, _: b.store(b.zero, row, at), step=b.width)

            each(b, self.samples, clear)
            self._groups(count, c, stop)

        b.loop(0, self.inputs, block, step=_COLUMNS)

    def _groups(self, count: Int, start: Int, stop: Int) -> None:
        """Groups of 4 rows of weights, for pairs of samples; the last group maybe has fewer."""
        b = self.b

        def group(r: Int, rows: int) -> None:
            o = b.add(self.first, r)
            weights, dy = b.at(self.weight, b.mul(o, self.inputs)), b.at(self.dy, o)
            streams = [b.at(weights, t * self.inputs) for t in range(rows)]

            def pair(n: Int, samples: int) -> None:
                places = [b.at(self.sums, b.mul(b.add(n, s), self.step)) for s in range(samples)]
                sources = [b.at(dy, b.mul(b.add(n, s), self.dy_step)) for s in range(samples)]
                factors = [[b.broadcast(source, t) for t in range(rows)] for source in sources]
                self._products(streams, factors, places, start, stop)

            sample_tiles(b, self.samples, 2, pair)

        whole = b.mul(b.divide(count, QUAD), QUAD)
        b.loop(0, whole, lambda r, _: group(r, QUAD), step=QUAD)
        if self.outputs % QUAD:
            b.loop(whole, count, lambda r, _: group(r, self.outputs % QUAD), step=QUAD)

    def _products(
        self,
        streams: list[Value],
        factors: list[list[Value]],
        places: list[Value],
        start: Int,
        stop: Int,
    ) -> None:
        """Samples' sums + their factors · rows of weights, over columns start … stop."""
        b = self.b
        rest = self.inputs % self.unit

        def vector(at: Int, load: Callable[[Value], Value]) -> None:
            sums = [b.load(place, at) for place in places]
            for r, stream in enumerate(streams):
                w = load(stream)
                sums = [b.fma(w, f[r], s) for f, s in zip(factors, sums, strict=True)]
            for place, total in zip(places, sums, strict=True):
                b.store(total, place, at)

        def unit(c: Int, _: list[Value]) -> None:
            for at in range(0, self.unit, b.width):
                here = b.add(c, at)
                vector(here, functools.partial(b.load, offset=here, align=4))

        def end(c: Int, _: list[Value]) -> None:
            for at in range(0, rest, b.width):
                here, count = self.inputs - rest + at, min(rest - at, b.width)
                load = functools.partial(partial_load, b, offset=here, count=count, before=here)
                vector(here, load)

        whole = b.minimum(stop, self.inputs - rest)
        b.loop(start, whole, unit, step=self.unit)
        if rest:
            b.loop(whole, stop, end, step=self.unit)


def _added(target: Target, inputs: int, parts: int, tail: Tail | None) -> Routine:
    """out = tail(the parts' sums, added from the first to the last)."""
    step, unit = whole_vectors(inputs, target), QUAD * target.width
    columns = unit * max(1, 4096 // (parts * unit))

    def build(b: Builder, arguments: list[Value]) -> None:
        out, sums, *rest = arguments
        target_rows = take_rows(b, tail, out, rest)
        part = rest.pop(0)

        def some(c: Int, vectors: int) -> None:
            place = b.at(sums, c)

            def add(p: Int, totals: list[Value]) -> list[Value]:
                here = b.at(place, b.mul(p, step))
                return [b.fadd(s, b.load(here, v * b.width)) for v, s in enumerate(totals)]

            start = [b.load(place, v * b.width) for v in range(vectors)]
            totals = b.loop(1, parts, add, start)
            for v, total in enumerate(totals):
                target_rows.store(0, b.add(c, v * b.width), total)

        first = b.mul(part, columns)
        stop = b.minimum(b.add(first, columns), step)
        whole = b.minimum(stop, step // unit * unit)
        b.loop(first, whole, lambda c, _: some(c, QUAD), step=unit)
        if step % unit:
            b.loop(whole, stop, lambda c, _: some(c, step % unit // b.width), step=unit)

    names = ["out", "sums", *row_names(tail), "part:i64"]
    kernel = make_kernel(target, "linear_input_gradient_added", names, build)
    return Routine(kernel, -(-step // columns))
