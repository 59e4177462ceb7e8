"""Checks of arguments that the layers and the functions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.shapes import pair, several

Sizes = int | Sequence[int]
Padding = int | Sequence[int] | str


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


def conv_padding(
    padding: Padding,
    where: str,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> list[list[int]]:
    """`[[top, bottom], [left, right]]` from a number, two, "valid" or "same"; of any rank.

    "same" adds `d·(k − 1)` rows in all, an odd one at the end, so that the size stays.

    >>> conv_padding("same", "conv2d", (4, 3), (1, 1), (1, 1))
    [[1, 2], [1, 1]]
    """
    if isinstance(padding, str):
        if padding == "valid":
            return [[0, 0] for _ in kernel_size]
        if padding != "same":
            raise OptionError(
                f"{where}: expected padding to be numbers, 'valid' or 'same'; "
                f"got padding={padding!r}."
            )
        if max(stride) > 1:
            raise OptionError(
                f"{where}: expected stride 1 with padding='same'; got stride={stride}. "
                "Give the padding in numbers."
            )
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        return [[total // 2, total - total // 2] for total in totals]
    return both_sides(named_sizes(padding, len(kernel_size), where, "padding", 0))


def both_sides(padding: tuple[int, ...]) -> list[list[int]]:
    """`[[top, bottom], [left, right]]` from (vertical, horizontal)."""
    return [[k, k] for k in padding]


def adaptive_size(value: Any, where: str) -> tuple[int | None, int | None]:
    """The output size of adaptive pooling: a number, None, or two of these.

    >>> adaptive_size((7, None), "pool")
    (7, None)
    """
    parts = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(parts) != 2:
        raise OptionError(f"{where}: expected output_size of one or two numbers; got {value!r}.")
    height, width = (None if k is None else whole(k, where, "output_size") for k in parts)
    return height, width


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


def plain_cross_entropy(where: str, ignore_index: int, label_smoothing: float) -> None:
    """Refuse what torch's cross-entropy takes besides."""
    if ignore_index != -100:
        unsupported(where, "ignore_index", ignore_index, "Leave such samples out.")
    if label_smoothing:
        unsupported(where, "label_smoothing", label_smoothing, "Leave it at 0.")


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
