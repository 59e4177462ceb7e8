"""Checks of arguments that the layers and the functions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.shapes import pair, several

Sizes = int | Sequence[int]
Padding = int | Sequence[int] | Sequence[Sequence[int]] | str
PADDINGS = ("valid", "same", "same_lower", "full")


def named_pair(value: Sizes, where: str, name: str, least: int = 1) -> tuple[int, int]:
    """`(height, width)` from a number or two; the error names the layer and the argument."""
    return pair(value, f"{where}: {name}", least)


def named_sizes(value: Sizes, count: int, where: str, name: str, least: int = 1) -> tuple[int, ...]:
    """`count` sizes, one for each axis of space, from one number or from `count`."""
    return several(value, count, f"{where}: {name}", least)


def whole(value: Any, where: str, name: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise OptionError(
            f"{where}: expected {name} to be a whole number from {least}; got {name}={value!r}."
        )
    return int(value)


def window_padding(padding: Padding, where: str, rank: int) -> Any:
    """A padding as a layer keeps it: a word, `rank` numbers, or `rank` pairs (before, after).

    Raises:
        OptionError: it is none of these.

    >>> window_padding(1, "conv2d", 2), window_padding([[0, 1], [2, 3]], "conv2d", 2)
    ((1, 1), ((0, 1), (2, 3)))
    """
    if isinstance(padding, str):
        if padding not in PADDINGS:
            raise OptionError(
                f"{where}: expected padding to be numbers, pairs of numbers, "
                f"{', '.join(map(repr, PADDINGS[:-1]))} or {PADDINGS[-1]!r}; "
                f"got padding={padding!r}."
            )
        return padding
    sides: Any = padding
    if isinstance(sides, Sequence) and any(isinstance(side, Sequence) for side in sides):
        if len(sides) != rank or not all(isinstance(side, Sequence) for side in sides):
            raise OptionError(
                f"{where}: padding: expected a whole number, {rank} of them or {rank} pairs "
                f"(before, after); got {padding!r}."
            )
        return tuple(pair(side, f"{where}: padding") for side in sides)
    return named_sizes(sides, rank, where, "padding", 0)


def conv_padding(
    padding: Padding,
    where: str,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    image: tuple[int, ...],
) -> list[list[int]]:
    """`[[top, bottom], [left, right]]` of a window that slides over an image, of any rank.

    With reach `r = d·(k − 1) + 1`, "full" adds r − 1 zeros on both sides. "same" adds as many in
    all as give ⌈size/stride⌉ outputs, `max((⌈size/s⌉ − 1)·s + r − size, 0)`, an odd one at the
    end; "same_lower" puts it at the start.

    >>> conv_padding("same", "conv2d", (4, 3), (1, 1), (1, 1), (9, 9))
    [[1, 2], [1, 1]]
    >>> conv_padding("same", "conv2d", (3, 3), (2, 2), (1, 1), (8, 9))
    [[0, 1], [1, 1]]
    >>> conv_padding("full", "conv1d", (3,), (1,), (2,), (9,))
    [[4, 4]]
    """
    rank = len(kernel_size)
    checked = window_padding(padding, where, rank)
    if checked == "valid":
        return [[0, 0] for _ in kernel_size]
    reaches = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    if checked == "full":
        return [[r - 1, r - 1] for r in reaches]
    if not isinstance(checked, str):
        return [[k, k] if isinstance(k, int) else list(k) for k in checked]
    totals = [
        max((-(-size // s) - 1) * s + r - size, 0)
        for size, s, r in zip(image, stride, reaches, strict=True)
    ]
    if checked == "same_lower":
        return [[total - total // 2, total // 2] for total in totals]
    return [[total // 2, total - total // 2] for total in totals]


def both_sides(padding: tuple[int, ...]) -> list[list[int]]:
    """`[[top, bottom], [left, right]]` from (vertical, horizontal)."""
    return [[k, k] for k in padding]


def unsupported(where: str, name: str, value: Any, instead: str) -> None:
    """Refuse an argument of torch's that striate has not, unless it says nothing.

    Raises:
        OptionError: `value` is neither None nor False.
    """
    if value is not None and value is not False:
        raise OptionError(f"{where}: {name}={value!r} is not supported. {instead}")


def plain_loss(where: str, what: str, weight: Any, size_average: Any, reduce: Any) -> None:
    """Refuse what torch's losses take and ours do not; `what` is what a weight would be for."""
    unsupported(where, "weight", weight, f"Every {what} weighs 1.")
    unsupported(where, "size_average", size_average, "Write reduction='mean' or 'sum'.")
    unsupported(where, "reduce", reduce, "Write reduction='none'.")


def check_kind(where: str, device: Any, dtype: Any) -> None:
    """Refuse any device but the CPU and any dtype but float32."""
    if device is not None and str(device) != "cpu":
        unsupported(where, "device", device, "Networks run on the CPU; leave it out.")
    if dtype is not None and np.dtype(dtype) != np.float32:
        unsupported(where, "dtype", dtype, "Networks compute in float32; leave it out.")


def probability(p: Any, where: str) -> float:
    """A dropout probability: from 0 to below 1."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.number)) or not 0 <= p < 1:
        raise OptionError(f"{where}: expected a probability from 0 to below 1; got p={p!r}.")
    return float(p)


def axis_order(dims: Sequence[Any], ndim: int, where: str, shape: Any) -> list[int]:
    """`dims` counted from the front: every axis once.

    Raises:
        ShapeError: an axis is missing, twice there, or outside the shape.

    >>> axis_order((0, -1, 1), 3, "permute", (2, 3, 4))
    [0, 2, 1]
    """
    whole = all(hasattr(k, "__index__") and not isinstance(k, bool) for k in dims)
    order = [int(k) % ndim for k in dims if -ndim <= k < ndim] if whole else []
    if sorted(order) != list(range(ndim)) or len(order) != len(dims):
        raise ShapeError(
            f"{where}: expected each of the {ndim} axes once; got dims={tuple(dims)!r} for shape "
            f"{shape}."
        )
    return order


def exchanged(dim0: int, dim1: int, ndim: int, where: str, shape: Any) -> list[int]:
    """The order of axes with two of them exchanged.

    >>> exchanged(1, -1, 4, "transpose", (2, 3, 4, 5))
    [0, 3, 2, 1]
    """
    for dim in (dim0, dim1):
        if isinstance(dim, bool) or not hasattr(dim, "__index__") or not -ndim <= dim < ndim:
            raise ShapeError(
                f"{where}: expected axes from {-ndim} to {ndim - 1}; got dim={dim!r} for shape "
                f"{shape}."
            )
    order = list(range(ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return order
