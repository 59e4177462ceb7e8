"""Shapes in `striate.nn.functional`: join, split, turn round, repeat, and give axes other sizes.

In a network the first axis is the batch, which no function here mixes, moves or repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn.apply import T, apply
from striate.nn.parameter import Float32, as_float32
from striate.nn.symbol import SymbolicTensor, at_line
from striate.nn.untraceable import untraceable


def axis_of(dim: Any, ndim: int, where: str) -> int:
    """`dim` counted from the front; raises ShapeError outside the shape."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__") or not -ndim <= dim < ndim:
        raise ShapeError(
            f"{where}: expected an axis from {-ndim} to {ndim - 1}; got dim={dim!r}{at_line()}."
        )
    return int(dim) % ndim


def sample_axes(input: SymbolicTensor, dim: Any, where: str) -> list[int]:
    """The axes that `dim` names, one number or several, none of them the batch."""
    given = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    found = [axis_of(k, input.ndim, where) for k in given]
    if len(set(found)) != len(found) or not found:
        raise ShapeError(
            f"{where}: expected different axes; got dim={dim!r} for shape {input.shape}{at_line()}."
        )
    if 0 in found:
        raise untraceable(
            f"{where} along axis 0 would mix the samples of the batch, shape {input.shape}",
            "Name other axes: dim=1 or dim=(2, 3).",
        )
    return found


def _reshaped(input: SymbolicTensor, shape: Sequence[int], stem: str) -> SymbolicTensor:
    return input._tracer.apply("reshape", (input,), {"shape": list(shape)}, stem)


def _numbers(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The numbers of `f(x, 1, 2)` and of `f(x, (1, 2))`."""
    packed = len(values) == 1 and isinstance(values[0], (tuple, list))
    return tuple(values[0]) if packed else values


# ---- one tensor ------------------------------------------------------------------------------


def flatten(input: T, start_dim: int = 0, end_dim: int = -1) -> T:
    """Axes `start_dim` … `end_dim` as one; `flatten(x, 1)` keeps the batch.

    >>> flatten(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    if isinstance(input, SymbolicTensor):
        return input.flatten(start_dim, end_dim)
    x = as_float32(input, "flatten")
    first, last = axis_of(start_dim, x.ndim, "flatten"), axis_of(end_dim, x.ndim, "flatten")
    if last < first:
        raise ShapeError(
            f"flatten: expected start_dim <= end_dim; got {start_dim} and {end_dim} "
            f"for shape {x.shape}."
        )
    merged = int(np.prod(x.shape[first : last + 1], dtype=np.int64))
    return x.reshape(*x.shape[:first], merged, *x.shape[last + 1 :])


def unflatten(input: T, dim: int, sizes: Sequence[int]) -> T:
    """One axis as several, `sizes`; one of them may be −1.

    >>> unflatten(np.zeros((2, 12)), 1, (3, -1)).shape
    (2, 3, 4)
    """
    where = "unflatten"
    traced: bool = isinstance(input, SymbolicTensor)
    x: Any = input if traced else as_float32(input, where)
    axis: int = sample_axes(x, dim, where)[0] if traced else axis_of(dim, x.ndim, where)
    parts: list[int] = [int(k) for k in sizes]
    shape: Any = x.shape
    known = math.prod(k for k in parts if k != -1)
    if parts.count(-1) == 1 and known > 0:
        parts = [shape[axis] // known if k == -1 else k for k in parts]
    if min(parts, default=0) < 1 or math.prod(parts) != shape[axis]:
        raise ShapeError(
            f"{where}: expected sizes whose product is {shape[axis]}, at most one of them -1; "
            f"got {tuple(sizes)} for axis {axis} of shape {tuple(shape)}{at_line()}."
        )
    target = [*shape[:axis], *parts, *shape[axis + 1 :]]
    return cast(T, _reshaped(x, target[1:], where) if traced else x.reshape(target))


def unsqueeze(input: T, dim: int) -> T:
    """A new axis of size 1, so that it is axis `dim`.

    >>> unsqueeze(np.zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    if isinstance(input, SymbolicTensor):
        axis: int = axis_of(dim, input.ndim + 1, "unsqueeze")
        if axis == 0:
            raise untraceable("unsqueeze(0) would put an axis before the batch", "Write dim=1.")
        shape: list[int] = list(input._sample_shape)
        return _reshaped(input, [*shape[: axis - 1], 1, *shape[axis - 1 :]], "unsqueeze")
    x = as_float32(input, "unsqueeze")
    return np.expand_dims(x, axis_of(dim, x.ndim + 1, "unsqueeze"))


def squeeze(input: T, *dim: Any) -> T:
    """Without the axes of size 1: those named, or all but the batch.

    >>> squeeze(np.zeros((2, 1, 3, 1)), 1).shape
    (2, 3, 1)
    """
    traced = isinstance(input, SymbolicTensor)
    x: Any = input if traced else as_float32(input, "squeeze")
    given = _numbers(dim) if dim else range(1 if traced else 0, x.ndim)
    named = {axis_of(k, x.ndim, "squeeze") for k in given}
    if traced:
        kept = [n for k, n in enumerate(x._sample_shape, 1) if n != 1 or k not in named]
        found: Any = _reshaped(x, kept, "squeeze")
    else:
        found = x.reshape([n for k, n in enumerate(x.shape) if n != 1 or k not in named])
    return cast(T, found)


def flip(input: T, *dims: Any) -> T:
    """The order turned round along axes: `flip(x, (2, 3))`.

    >>> flip(np.array([[1.0, 2.0, 3.0]]), 1)
    array([[3., 2., 1.]], dtype=float32)
    """
    given = _numbers(dims)
    if isinstance(input, SymbolicTensor):
        return cast(T, apply("flip", (input,), {"axes": sample_axes(input, given, "flip")}))
    x = as_float32(input, "flip")
    turned: Any = np.flip(x, tuple(axis_of(k, x.ndim, "flip") for k in given)).copy()
    return cast(T, turned)


def roll(input: T, shifts: Any, dims: Any) -> T:
    """Shifted along axes; what leaves one end enters at the other.

    >>> roll(np.array([[1.0, 2.0, 3.0]]), 1, 1)
    array([[3., 1., 2.]], dtype=float32)
    """
    moves: list[int] = [
        int(k) for k in (shifts if isinstance(shifts, (tuple, list)) else (shifts,))
    ]
    given = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
    if len(moves) != len(given):
        raise OptionError(f"roll: expected a shift for each axis; got {moves} for dims={dims!r}.")
    if isinstance(input, SymbolicTensor):
        attributes = {"axes": sample_axes(input, given, "roll"), "shifts": moves}
        return cast(T, apply("roll", (input,), attributes))
    x = as_float32(input, "roll")
    return cast(T, np.roll(x, moves, [axis_of(k, x.ndim, "roll") for k in given]))


# ---- repeated --------------------------------------------------------------------------------


def repeat(input: T, *repeats: Any) -> T:
    """The tensor repeated along its axes; more numbers than axes give new axes in front.

    In a network the first number, the batch's, is 1.

    >>> repeat(np.array([[1.0, 2.0]]), 1, 2)
    array([[1., 2., 1., 2.]], dtype=float32)
    """
    counts = [int(k) for k in _numbers(repeats)]
    if not isinstance(input, SymbolicTensor):
        return np.tile(as_float32(input, "repeat"), counts)
    if len(counts) != input.ndim or counts[0] != 1 or min(counts) < 1:
        raise untraceable(
            f"repeat is given a number for each axis of {input.shape}, 1 for the batch; "
            f"got {tuple(counts)}",
            f"Write x.repeat(1{', 2' * (input.ndim - 1)}) or the like.",
        )
    return cast(T, apply("tile", (input,), {"repeats": counts[1:]}, "repeat"))


def tile(input: T, *dims: Any) -> T:
    """As `repeat`; fewer numbers than axes count for the last ones.

    >>> tile(np.array([[1.0, 2.0]]), 2)
    array([[1., 2., 1., 2.]], dtype=float32)
    """
    counts = [int(k) for k in _numbers(dims)]
    ndim = input.ndim if isinstance(input, SymbolicTensor) else np.ndim(input)
    return repeat(input, [1] * (ndim - len(counts)) + counts)


def expand(input: T, *sizes: Any) -> T:
    """Axes of size 1 repeated to the sizes given; −1 keeps a size.

    >>> expand(np.array([[1.0], [2.0]]), -1, 3)
    array([[1., 1., 1.],
           [2., 2., 2.]], dtype=float32)
    """
    wanted = list(_numbers(sizes))
    traced = isinstance(input, SymbolicTensor)
    x: Any = input if traced else as_float32(input, "expand")
    shape = list(x.shape)
    fits = len(wanted) == len(shape) if traced else len(wanted) >= len(shape)
    own = [1] * (len(wanted) - len(shape)) + shape
    if not fits or any(
        k is not n and k != -1 and (not isinstance(n, int) or n not in (1, k))
        for k, n in zip(wanted, own, strict=True)
    ):
        raise ShapeError(
            f"expand: expected sizes that are those of {tuple(shape)}, or -1, where they are not "
            f"1, the batch kept; got {tuple(wanted)}{at_line()}."
        )
    target = [n if k is n or k == -1 else int(k) for k, n in zip(wanted, own, strict=True)]
    if not traced:
        wide: Any = np.array(np.broadcast_to(x, target))
        return cast(T, wide)
    counts = [k // n for k, n in zip(target[1:], shape[1:], strict=True)]
    return cast(T, apply("tile", (input,), {"repeats": counts}, "expand"))


# ---- several tensors -------------------------------------------------------------------------


def cat(tensors: Sequence[T], dim: int = 0) -> T:
    """Join tensors along an axis; `dim=1` joins channels. Also called `concat`.

    Args:
        tensors: equal in every other axis.
        dim: the axis. A network cannot join along 0, the batch.

    >>> cat([np.zeros((1, 2, 3, 3)), np.ones((1, 4, 3, 3))], dim=1).shape
    (1, 6, 3, 3)
    """
    parts: list[Any] = list(tensors)
    if not parts:
        raise OptionError("cat: expected at least one tensor; got none.")
    symbol = next((k for k in parts if isinstance(k, SymbolicTensor)), None)
    if symbol is None:
        return cast(T, _cat_arrays([as_float32(k, "cat") for k in parts], dim))
    axis = symbol.axis(dim, "cat")
    if axis == 0:
        raise untraceable(
            "joining along axis 0 would mix the batch with itself", "Write dim=1 for channels."
        )
    return cast(T, apply("concat", parts, {"axis": axis}, "cat"))


concat = cat


def _cat_arrays(arrays: list[Float32], dim: int) -> Float32:
    axis = axis_of(dim, max(1, arrays[0].ndim), "cat")
    rest = {(a.ndim, a.shape[:axis], a.shape[axis + 1 :]) for a in arrays}
    if len(rest) > 1:
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(f"cat: expected arrays equal but for axis {axis}; got shapes {shapes}.")
    return np.concatenate(arrays, axis=axis)


def stack(tensors: Sequence[T], dim: int = 0) -> T:
    """Join tensors of one shape along a new axis.

    >>> stack([np.zeros((2, 3)), np.ones((2, 3))], dim=1).shape
    (2, 2, 3)
    """
    parts = list(tensors)
    if not parts or len({tuple(k.shape) for k in parts}) != 1:
        shapes = ", ".join(str(k.shape) for k in parts) or "none"
        raise ShapeError(f"stack: expected tensors of one shape; got {shapes}{at_line()}.")
    return cat([unsqueeze(k, dim) for k in parts], dim)


def split(input: T, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[T, ...]:
    """Parts along an axis: of a size (the last may be smaller), or of the sizes given.

    >>> [part.shape for part in split(np.zeros((1, 5)), 2, dim=1)]
    [(1, 2), (1, 2), (1, 1)]
    """
    axis, size = _split_axis(input, dim, "split")
    given = split_size_or_sections
    sizes: list[int]
    if isinstance(given, Sequence):
        sizes = [int(k) for k in given]
    else:
        step = int(given)
        sizes = [min(step, size - k) for k in range(0, size, step)] if step > 0 else []
    if sum(sizes) != size or min(sizes, default=0) < 1:
        raise ShapeError(
            f"split: expected sizes from 1 that add up to {size}; got {given!r} for axis {axis}"
            f"{at_line()}."
        )
    ends = np.cumsum([0, *sizes]).tolist()
    whole: Any = input if isinstance(input, SymbolicTensor) else as_float32(input, "split")
    index: list[Any] = [slice(None)] * axis
    places = [(*index, slice(a, b)) for a, b in pairwise(ends)]
    return tuple(whole[place] for place in places)


def chunk(input: T, chunks: int, dim: int = 0) -> tuple[T, ...]:
    """At most `chunks` parts of equal size along an axis; the last may be smaller.

    >>> [part.shape for part in chunk(np.zeros((1, 5)), 2, dim=1)]
    [(1, 3), (1, 2)]
    """
    _, size = _split_axis(input, dim, "chunk")
    if isinstance(chunks, bool) or not hasattr(chunks, "__index__") or chunks < 1:
        raise OptionError(f"chunk: expected chunks to be a whole number from 1; got {chunks!r}.")
    return split(input, -(-size // int(chunks)), dim)


def _split_axis(input: Any, dim: int, where: str) -> tuple[int, int]:
    if isinstance(input, SymbolicTensor):
        (axis,) = sample_axes(input, dim, where)
        return axis, input._sample_shape[axis - 1]
    shape = np.shape(input)
    axis = axis_of(dim, len(shape), where)
    return axis, shape[axis]
