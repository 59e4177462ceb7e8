"""What moves numbers: reshape, transpose, slice, join, pad, repeat, look up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from striate.formats.onnx.batch_axis import (
    along,
    batch_axis,
    is_symbol,
    moved,
    shifted,
    to_front,
    to_place,
)
from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import INT64, Value
from striate.formula.broadcast import place_axes
from striate.formula.expression import Index, Tensor
from striate.formula.own import formula_attributes

_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "edge": "replicate",
    "wrap": "circular",
}


# ---- shapes ----------------------------------------------------------------------------------


@operator("Reshape")
def reshape(c: Call) -> Value:
    x = c.value(0)
    shape = c.integers(1, "shape", [])
    c.attribute("consumed_inputs")
    if not c.attribute("allowzero", 0):
        if any(k == 0 and at >= x.rank for at, k in enumerate(shape)):
            c.refuse(f"expected 0 only for axes that x {x.shape} has; got {shape}")
        shape = [x.shape[at] if k == 0 else k for at, k in enumerate(shape)]
    return c.reshape(x, _resolved(c, x, shape))


def _resolved(c: Call, x: Value, shape: list[int]) -> list[int]:
    """The shape with its −1 worked out."""
    count, known = math.prod(x.shape), math.prod(k for k in shape if k != -1)
    if shape.count(-1) == 1 and known and count % known == 0:
        return [count // known if k == -1 else k for k in shape]
    if math.prod(shape) != count or -1 in shape:
        c.refuse(f"expected a shape of {count} numbers, as x {x.shape} has; got {shape}")
    return shape


@operator("Flatten")
def flatten(c: Call) -> Value:
    x, axis = c.value(0), c.attribute("axis", 1)
    if not -x.rank <= axis <= x.rank:
        c.refuse(f"expected an axis from {-x.rank} to {x.rank}; got {axis}")
    at = axis + x.rank if axis < 0 else axis
    return c.reshape(x, (math.prod(x.shape[:at]), math.prod(x.shape[at:])))


@operator("Squeeze")
def squeeze(c: Call) -> Value:
    x = c.value(0)
    listed = c.integers(1, "axes")
    if listed is None:
        listed = [k for k, n in enumerate(x.shape) if n == 1]
    axes = {c.axis(k, x.rank) for k in listed}
    if any(x.shape[k] != 1 for k in axes):
        c.refuse(f"expected axes of size 1; got {sorted(axes)} of shape {x.shape}")
    return c.reshape(x, [n for k, n in enumerate(x.shape) if k not in axes])


@operator("Unsqueeze")
def unsqueeze(c: Call) -> Value:
    x = c.value(0)
    listed = c.integers(1, "axes", [])
    rank = x.rank + len(listed)
    axes = {c.axis(k, rank) for k in listed}
    if len(axes) != len(listed):
        c.refuse(f"expected different axes; got {listed}")
    sizes = iter(x.shape)
    return c.reshape(x, [1 if k in axes else next(sizes) for k in range(rank)])


@operator("Transpose")
def transpose(c: Call) -> Value:
    x = c.value(0)
    order = [int(k) for k in c.attribute("perm", range(x.rank)[::-1])]
    if sorted(order) != list(range(x.rank)):
        c.refuse(f"perm expected each of the {x.rank} axes once; got {order}")
    return permute(c, x, order)


def permute(c: Call, x: Value, order: Sequence[int]) -> Value:
    """Axis k of the output is axis `order[k]` of x."""
    if list(order) == list(range(x.rank)):
        return x
    if moved_by_numpy(x):
        return x.derived(("permute", tuple(order)), lambda a: np.transpose(a, order))
    if c.lowering.symbolic and is_symbol(x):
        return _permute_samples(c, x, order)
    whole, shift = c.form(x, [0] if order[0] else [])
    kept = order if whole else order[1:]
    return c.apply("permute", [x], {"order": [k + shift for k in kept]}, whole=whole)


def _permute_samples(c: Call, x: Value, order: Sequence[int]) -> Value:
    """Of an imported network: the axes of each sample move, the batch is where it is said."""
    batch = batch_axis(x)
    front, kept = to_front(x), [shifted(k, batch) for k in order if k != batch]
    if kept != sorted(kept):
        front = c.apply("permute", [front], {"order": kept}, whole=False)
    return to_place(front, list(order).index(batch))


def moved_by_numpy(x: Value) -> bool:
    """Whether a value is a shape, an index or the model's own: no business of a graph."""
    return x.constant or _is_bookkeeping(x)


def _is_bookkeeping(x: Value) -> bool:
    return x.is_known and (x.dtype == INT64 or x.dtype.kind not in "fiub" or 0 in x.shape)


# ---- parts -----------------------------------------------------------------------------------


def cut(c: Call, x: Value, axis: int, start: int, stop: int) -> Value:
    """`x[start:stop]` along an axis."""
    if (start, stop) == (0, x.shape[axis]):
        return x
    if moved_by_numpy(x) or stop <= start:
        place = (slice(None),) * axis + (slice(start, max(start, stop)),)
        return x.derived(("cut", axis, start, stop), lambda a: a[place])
    if moved(x) and axis != batch_axis(x):
        return along(x, axis, lambda v, k: cut(c, v, k, start, stop))
    whole, shift = c.form(x, [axis])
    settings = {"axis": axis + shift, "start": start, "stop": stop}
    return c.apply("slice", [x], settings, whole=whole)


@operator("Slice")
def slice_of(c: Call) -> Value:
    x = c.value(0)
    starts, ends = c.integers(1, "starts"), c.integers(2, "ends")
    axes = c.integers(3, "axes") or list(range(len(starts)))
    steps = c.integers(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            c.refuse("expected steps other than 0")
        x = stepped(c, x, c.axis(axis, x.rank), slice(start, end, step))
    return x


def stepped(c: Call, x: Value, axis: int, part: slice) -> Value:
    """A part of an axis, as Python slices it: cut, turned round, every so many taken."""
    places = range(*part.indices(x.shape[axis]))
    if not places:
        return cut(c, x, axis, 0, 0)
    step = abs(places.step)
    low, high = min(places), max(places)
    found = cut(c, x, axis, low, high + 1)
    if step > 1 and len(places) > 1:
        found = _every(c, found, axis, step)
    return turned(c, found, axis) if places.step < 0 else found


def _every(c: Call, x: Value, axis: int, step: int) -> Value:
    """Every `step`-th place from the first on: padded to whole rows, of which the first counts."""
    if moved_by_numpy(x):
        return c.given(x.array[(slice(None),) * axis + (slice(None, None, step),)])
    size = x.shape[axis]
    rows = -(-size // step)
    full = padded(c, x, [(0, rows * step - size if k == axis else 0) for k in range(x.rank)])
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    split = c.reshape(full, (*before, rows, step, *after))
    return c.reshape(cut(c, split, axis + 1, 0, 1), (*before, rows, *after))


def turned(c: Call, x: Value, axis: int) -> Value:
    """An axis the other way round."""
    if moved_by_numpy(x):
        return c.given(np.flip(x.array, axis), constant=x.constant)
    whole, shift = c.form(x, [axis])
    return c.apply("flip", [x], {"axes": [axis + shift]}, whole=whole)


@operator("Split")
def split(c: Call) -> list[Value]:
    x = c.value(0)
    axis = c.axis(c.attribute("axis", 0), x.rank)
    given = c.integers(1, "split")
    count = c.attribute("num_outputs", len(c.outputs))
    size = x.shape[axis]
    if given is None:
        part = -(-size // count) if c.opset >= 18 else size // count
        given = [min(part, max(size - k * part, 0)) for k in range(count)]
    if sum(given) != size:
        c.refuse(f"expected parts that add up to {size}; got {given}")
    ends = np.cumsum([0, *given])
    return [cut(c, x, axis, int(start), int(stop)) for start, stop in pairwise(ends)]


@operator("Concat")
def concat(c: Call) -> Value:
    parts = c.present()
    axis = c.axis(c.attribute("axis", 1), parts[0].rank)
    return joined(c, parts, axis)


def joined(c: Call, parts: Sequence[Value], axis: int) -> Value:
    """Values one after another along an axis."""
    if len(parts) == 1:
        return parts[0]
    batch = {batch_axis(v) for v in parts if moved(v)}
    if len(batch) == 1 and axis not in batch:
        (k,) = batch
        return to_place(joined(c, [to_front(v, k) for v in parts], shifted(axis, k)), k)
    if all(v.constant for v in parts) or any(moved_by_numpy(v) and not v.constant for v in parts):
        own = all(v.constant for v in parts)
        return c.given(np.concatenate([v.array for v in parts], axis), constant=own)
    forms = [c.form(v, [axis]) for v in parts if not v.is_known] or [c.form(parts[0], [axis])]
    whole, shift = forms[0] if axis else (True, 1)
    return c.apply("concat", parts, {"axis": axis + shift}, whole=whole)


# ---- padding and repeating -------------------------------------------------------------------


def padded(
    c: Call, x: Value, sides: Sequence[tuple[int, int]], mode: str = "constant", fill: float = 0.0
) -> Value:
    """A value with (before, after) more places along each axis; fewer where negative."""
    if not any(any(side) for side in sides):
        return x
    if mode == "constant" and not math.isfinite(fill):
        return _framed(c, x, sides, fill)
    whole, _ = c.form(x, [k for k, side in enumerate(sides) if any(side)])
    pairs = [list(side) for side in (sides if whole else sides[1:])]
    settings = {"padding": pairs, "mode": mode, "value": fill}
    return c.apply("pad", [x], settings, whole=whole)


def _framed(c: Call, x: Value, sides: Sequence[tuple[int, int]], fill: float) -> Value:
    """Padded with infinity or NaN, which the operation pad does not write: parts are joined."""
    found = x
    for axis, side in enumerate(sides):
        parts = [found]
        for at, count in zip((0, 2), side, strict=True):
            if count > 0:
                shape = [count if k == axis else n for k, n in enumerate(found.shape)]
                parts.insert(at, Value.of(np.full(shape, fill, x.dtype)))
        low, high = (max(-k, 0) for k in side)
        found = cut(c, joined(c, parts, axis), axis, low, sum(v.shape[axis] for v in parts) - high)
    return found


@operator("Pad")
def pad(c: Call) -> Value:
    x, mode = c.value(0), c.attribute("mode", "constant")
    pads, fill = c.integers(1, "pads"), c.attribute("value", 0.0)
    value, listed = c.maybe(2), c.integers(3)
    if pads is None:
        pads = c.attribute("paddings", [])
    if mode not in _MODES:
        c.refuse(f"mode expected one of {', '.join(_MODES)}; got {mode!r}")
    fill = float(value.array.ravel()[0]) if value is not None else float(fill)
    axes = [c.axis(k, x.rank) for k in (listed if listed is not None else range(x.rank))]
    if len(pads) != 2 * len(axes):
        c.refuse(f"pads expected {2 * len(axes)} numbers, two an axis; got {pads}")
    sides = [(0, 0)] * x.rank
    for k, axis in enumerate(axes):
        sides[axis] = (int(pads[k]), int(pads[k + len(axes)]))
    c.require_room([n + sum(side) for n, side in zip(x.shape, sides, strict=True)])
    return padded(c, x, sides, _MODES[mode], fill)


@operator("CenterCropPad", since=18)
def center_crop_pad(c: Call) -> Value:
    x, wanted = c.value(0), c.integers(1)
    axes = [c.axis(k, x.rank) for k in c.attribute("axes", range(x.rank))]
    sides = [(0, 0)] * x.rank
    for axis, size in zip(axes, wanted, strict=True):
        more = size - x.shape[axis]
        before = more // 2 if more > 0 else -(-more // 2)
        sides[axis] = (before, more - before)
    c.require_room([n + sum(side) for n, side in zip(x.shape, sides, strict=True)])
    return padded(c, x, sides)


@operator("Expand", since=8)
def expand(c: Call) -> Value:
    x = c.value(0)
    try:
        shape = np.broadcast_shapes(x.shape, tuple(c.integers(1)))
    except ValueError:
        c.refuse(f"expected a shape that x {x.shape} broadcasts to; got {c.integers(1)}")
    if moved_by_numpy(x):
        c.require_room(shape, made=True)
        return x.derived(("expand", shape), lambda a: np.broadcast_to(a, shape))
    return c.expand(x, shape)


@operator("Tile")
def tile(c: Call) -> Value:
    x, repeats = c.value(0), c.integers(1)
    if c.opset < 6:
        repeats = [1] * x.rank
        repeats[c.integers(2)[0]] = c.integers(1)[0]
    if len(repeats) != x.rank or any(k < 0 for k in repeats):
        c.refuse(f"expected a number of repeats for each of {x.rank} axes; got {repeats}")
    c.require_room([n * k for n, k in zip(x.shape, repeats, strict=True)])
    if moved_by_numpy(x) or 0 in repeats:
        c.require_room([n * k for n, k in zip(x.shape, repeats, strict=True)], made=True)
        return c.given(np.tile(x.array, repeats))
    return x if all(k == 1 for k in repeats) else c.tile(x, repeats)


# ---- blocks and channels ---------------------------------------------------------------------


@operator("DepthToSpace")
def depth_to_space(c: Call) -> Value:
    x, block = c.value(0), int(c.attribute("blocksize", 0))
    mode = c.attribute("mode", "DCR")
    _require_blocks(c, x, block)
    n, channels, h, w = x.shape
    depth = channels // (block * block)
    if depth * block * block != channels:
        c.refuse(f"expected channels divisible by {block}²; got {channels}")
    if mode == "DCR":
        # its channels count blocks first, those of striate blocks last
        split = c.reshape(x, (n, block * block, depth, h, w))
        x = c.reshape(permute(c, split, (0, 2, 1, 3, 4)), x.shape)
    return c.apply("pixel_shuffle", [x], {"factor": block}, whole=False)


@operator("SpaceToDepth")
def space_to_depth(c: Call) -> Value:
    x, block = c.value(0), int(c.attribute("blocksize", 0))
    mode = c.attribute("mode", "DCR")
    _require_blocks(c, x, block)
    n, channels, h, w = x.shape
    if h % block or w % block:
        c.refuse(f"expected height and width divisible by {block}; got {(h, w)}")
    found = c.apply("pixel_unshuffle", [x], {"factor": block}, whole=False)
    if mode == "CRD":
        return found
    split = c.reshape(found, (n, channels, block * block, h // block, w // block))
    return c.reshape(permute(c, split, (0, 2, 1, 3, 4)), found.shape)


def _require_blocks(c: Call, x: Value, block: int) -> None:
    if x.rank != 4 or block < 1:
        c.refuse(f"expected x (n, channels, h, w) and a blocksize from 1; got {x.shape}, {block}")


@operator("Gather")
def gather(c: Call) -> Value:
    """Rows of a table by their numbers: an embedding, with the axis of the rows put in front."""
    x, indices = c.value(0), c.value(1)
    axis = c.axis(c.attribute("axis", 0), x.rank)
    if not indices.is_known and x.constant and axis == 0:
        return _looked_up(c, x, indices)
    size, rows = x.shape[axis], indices.array.astype(np.int64)
    if rows.size and not -size <= rows.min() <= rows.max() < size:
        c.refuse(f"expected indices from {-size} to {size - 1}; got {rows.min()} to {rows.max()}")
    return rows_of(c, x, np.where(rows < 0, rows + size, rows), axis, indices.constant)


def _looked_up(c: Call, table: Value, indices: Value) -> Value:
    """Rows of the model's own table at places that come with the input."""
    rest = table.shape[1:]
    rows = c.reshape(table, (table.shape[0], math.prod(rest)))
    asked = Value(indices.shape, np.float32, place=indices.place)
    flat = c.reshape(asked, (asked.shape[0], math.prod(asked.shape[1:])))
    found = c.apply("embedding", [flat, rows], {"padding": -1}, whole=False, dtype=table.dtype)
    return c.reshape(found, (*indices.shape, *rest))


def _read_along(c: Call, x: Value, rows: Any, axis: int) -> Value:
    """`x` at fixed places of an axis that is not the batch: a part, or a formula with a table."""
    places = [int(k) for k in rows.ravel()]
    shape = (*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])
    if places == list(range(places[0], places[0] + len(places))):
        return c.reshape(cut(c, x, axis, places[0], places[-1] + 1), shape)
    whole, shift = c.form(x, [])
    at = place_axes(x.rank + shift)
    g = Index((("g", 1),))
    read = [g.through(places) if n == axis + shift else place for n, place in enumerate(at)]
    made = [g if n == axis + shift else place for n, place in enumerate(at)]
    settings = formula_attributes(made, Tensor("x")[tuple(read)], sizes={"g": len(places)})
    return c.reshape(c.apply("formula", [x], settings, whole=whole), shape)


def rows_of(c: Call, x: Value, rows: Any, axis: int, constant: bool = True) -> Value:
    """`x` at places of an axis, which the axes of `rows` take the place of."""
    if (x.constant and constant) or _is_bookkeeping(x) or not rows.size:
        return c.given(np.take(x.array, rows, axis), constant=x.constant and constant)
    if constant and moved(x) and axis != batch_axis(x) and rows.ndim < 2:
        k = batch_axis(x)
        found = rows_of(c, to_front(x), rows, shifted(axis, k))
        return to_place(found, k - 1 if axis < k and not rows.ndim else k)
    if constant and not x.is_known and axis + c.form(x, [])[1] > 0:
        return _read_along(c, x, rows, axis)
    order = [axis, *(k for k in range(x.rank) if k != axis)]
    table = permute(c, x, order)
    table = c.reshape(table, (table.shape[0], math.prod(table.shape[1:])))
    asked = Value.of(rows.reshape(1, -1).astype(np.float32), constant)
    found = c.apply("embedding", [asked, table], {"padding": -1}, whole=False, dtype=x.dtype)
    rest = [n for k, n in enumerate(x.shape) if k != axis]
    apart = c.reshape(found, (*rows.shape, *rest))
    return permute(c, apart, _inserted(rows.ndim, axis, x.rank))


def _inserted(count: int, axis: int, rank: int) -> list[int]:
    """The order that moves the first `count` axes to behind the `axis` next ones."""
    before = list(range(count, count + axis))
    after = list(range(count + axis, count + rank - 1))
    return [*before, *range(count), *after]
