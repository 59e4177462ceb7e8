"""Between rows and lanes: samples that lie some step apart, and a group of them in lanes.

For steps of a program whose values are rows that only have a kernel with the batch in lanes.
The order of samples is the rows' own here; `layout` has the kernels that follow an index.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel


@functools.lru_cache(maxsize=128)
def rows_to_lanes(target: Target, elements: int) -> Kernel:
    """out[element, lane] = source[min(lane, samples − 1), element].

    Args:
        target: the CPU.
        elements: floats of a sample; nothing beyond them is read.

    Returns:
        Kernel of out (elements, width), source, source_step (floats from a sample to the next)
        and samples (1 … width); lanes beyond the samples repeat the last one.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, step, samples = arguments
        emit_rows_to_lanes(b, out, source, step, samples, elements)

    names = ["out", "source", "source_step:i64", "samples:i64"]
    return make_kernel(target, "rows_to_lanes", names, build)


def emit_rows_to_lanes(
    b: Builder, out: Value, source: Value, step: Value, samples: Value, elements: int
) -> None:
    """The code of `rows_to_lanes`, inside another kernel."""
    rows = _rows(b, source, step, samples)

    def block(e: Int) -> None:
        columns = b.transpose([b.load(row, e, align=4) for row in rows])
        for k, column in enumerate(columns):
            b.store(column, out, b.mul(b.add(e, k), b.width))

    def single(e: int) -> None:
        vector = "poison"
        for lane, row in enumerate(rows):
            vector = b.insert(vector, b.load_float(row, e), lane)
        b.store(vector, out, e * b.width)

    _blocks(b, elements, block, single)


@functools.lru_cache(maxsize=128)
def lanes_to_rows(target: Target, elements: int) -> Kernel:
    """out[lane, element] = source[element, lane] for the lanes below `samples`.

    Args:
        target: the CPU.
        elements: floats of a sample; nothing beyond them is written.

    Returns:
        Kernel of out, source (elements, width), out_step (floats from a sample to the next) and
        samples (1 … width); no other rows are written.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source, step, samples = arguments
        # Lanes beyond the last sample are written to its row, before its own numbers.
        rows = list(reversed(list(enumerate(_rows(b, out, step, samples)))))

        def block(e: Int) -> None:
            columns = [b.load(source, b.mul(b.add(e, k), b.width)) for k in range(b.width)]
            values = b.transpose(columns)
            for lane, row in rows:
                b.store(values[lane], row, e, align=4)

        def single(e: int) -> None:
            vector = b.load(source, e * b.width)
            for lane, row in rows:
                b.store_float(b.extract(vector, lane), row, e)

        _blocks(b, elements, block, single)

    names = ["out", "source", "out_step:i64", "samples:i64"]
    return make_kernel(target, "lanes_to_rows", names, build)


def _rows(b: Builder, base: Value, step: Value, samples: Value) -> list[Value]:
    """Where each lane's sample lies; the last one again for lanes beyond it."""
    last = b.sub(samples, 1)
    return [b.at(base, b.mul(b.minimum(lane, last), step)) for lane in range(b.width)]


def _blocks(
    b: Builder, elements: int, block: Callable[[Int], None], single: Callable[[int], None]
) -> None:
    """Whole vectors of elements; the last may overlap what is done already."""
    if elements < b.width:
        for e in range(elements):
            single(e)
        return
    whole = elements // b.width * b.width
    b.loop(0, whole, lambda e, _: block(e), step=b.width)
    if whole < elements:
        block(elements - b.width)
