"""Between arrays and lanes: gather samples into a group's lanes, and bring results back.

Arrays are C order, one sample after the other. Lanes beyond the last sample of a batch repeat it,
so that nothing odd (0/0, log 0) arises in them; their weight in every gradient is 0.
"""

from __future__ import annotations

import functools

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel


@functools.lru_cache(maxsize=128)
def gather_samples(target: Target, elements: int) -> Kernel:
    """out[element, lane] = array[index[lane], element]; arguments out, array, index (i64)."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, array, index = arguments
        rows = [b.at(array, b.mul(b.load_i64(index, lane), elements)) for lane in range(b.width)]

        def block(e: Int, _: list[Value]) -> None:
            columns = b.transpose([b.load(row, e, align=4) for row in rows])
            for k, column in enumerate(columns):
                b.store(column, out, b.mul(b.add(e, k), b.width))

        if elements >= b.width:
            whole = elements // b.width * b.width
            b.loop(0, whole, block, step=b.width)
            if whole < elements:
                block(elements - b.width, [])  # overlaps what is done already
        else:
            for e in range(elements):
                vector = "poison"
                for lane, row in enumerate(rows):
                    vector = b.insert(vector, b.load_float(row, e), lane)
                b.store(vector, out, e * b.width)

    return make_kernel(target, "gather_samples", ["out", "array", "index"], build)


@functools.lru_cache(maxsize=128)
def scatter_samples(target: Target, elements: int) -> Kernel:
    """array[lane, element] = value[element, lane]: arguments array (at the group's first sample;
    room for `width` samples), value.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        array, value = arguments

        def block(e: Int, _: list[Value]) -> None:
            rows = [b.load(value, b.mul(b.add(e, k), b.width)) for k in range(b.width)]
            for lane, row in enumerate(b.transpose(rows)):
                b.store(row, array, b.add(e, lane * elements), align=4)

        if elements >= b.width:
            whole = elements // b.width * b.width
            b.loop(0, whole, block, step=b.width)
            if whole < elements:
                block(elements - b.width, [])
        else:
            for e in range(elements):
                vector = b.load(value, e * b.width)
                for lane in range(b.width):
                    b.store_float(b.extract(vector, lane), array, lane * elements + e)

    return make_kernel(target, "scatter_samples", ["array", "value"], build)
