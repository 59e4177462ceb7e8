"""What a training step reads of the caller's arrays: samples in any order, labels, positions."""

from __future__ import annotations

import functools

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel


@functools.lru_cache(maxsize=64)
def load_sample(target: Target, elements: int) -> Kernel:
    """out = array[order[sample]]: arguments out, array, order (i64), sample.

    `out` has room for whole vectors; the array is read exactly.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        out, array, order, sample = arguments
        row = b.at(array, b.mul(b.load_i64(order, sample), elements))
        whole = elements // b.width * b.width

        def one(at: Int, _: list[Value]) -> None:
            b.store(b.load(row, at, align=4), out, at)

        b.loop(0, whole, one, step=b.width)
        for at in range(whole, elements):
            b.store_float(b.load_float(row, at), out, at)

    return make_kernel(target, "load_sample", ["out", "array", "order", "sample:i64"], build)


@functools.lru_cache(maxsize=8)
def lane_tables(target: Target, labels: bool) -> Kernel:
    """Tables of a group's lanes, for the kernels with the batch in lanes.

    positions[lane] = first + lane; scale[lane] = share[0], 0 beyond the batch; with `labels` also
    labels[lane] = targets[order[first + lane]] (lanes beyond the batch repeat the last sample).
    Arguments positions (i32), scale, share, [labels (i32), targets (i64), order (i64)], first,
    batch.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        positions, scale, share_at, *more = arguments
        first, batch = more[-2:]
        share = b.load_float(share_at)
        for lane in range(b.width):
            position = b.add(first, lane)
            alive = b.compare("slt", position, batch)
            b.store_float(b.let(f"select i1 {alive}, float {share}, float 0.0"), scale, lane)
            word = b.let(f"trunc i64 {position} to i32")
            b.emit(f"store i32 {word}, ptr {b.at(positions, lane)}, align 4")
            if labels:
                there, targets, order = more[:3]
                place = b.load_i64(order, b.minimum(position, b.sub(batch, 1)))
                label = b.let(f"trunc i64 {b.load_i64(targets, place)} to i32")
                b.emit(f"store i32 {label}, ptr {b.at(there, lane)}, align 4")

    names = ["positions", "scale", "share"]
    names += ["labels", "targets", "order"] if labels else []
    return make_kernel(target, "lane_tables", [*names, "first:i64", "batch:i64"], build)
