"""The order of axes: any permutation, and channels last for layers that compute channels first.

Weights keep torch's layout whatever the images' is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn.apply import T, sample_shape
from striate.nn.arguments import axis_order, exchanged
from striate.nn.parameter import as_float32
from striate.nn.symbol import SymbolicTensor, at_line

FORMATS = ("channels_first", "channels_last")
_SPACE = {1: "length", 2: "height, width", 3: "depth, height, width"}


def permute(input: T, dims: Sequence[int]) -> T:
    """The axes in another order: axis k of the result is axis `dims[k]` of the input.

    Args:
        input: (n, …).
        dims: every axis once. In a network the batch, axis 0, stays first.
    Returns:
        A tensor of the same numbers.

    >>> permute(np.zeros((2, 3, 8, 9)), (0, 2, 3, 1)).shape
    (2, 8, 9, 3)
    """
    if isinstance(input, SymbolicTensor):
        return input.permute(*dims)
    x = as_float32(input, "permute")
    order = axis_order(dims, x.ndim, "permute", x.shape)
    return np.array(x.transpose(order), order="C")


def transpose(input: T, dim0: int, dim1: int) -> T:
    """The input with two axes exchanged; in a network not the batch, axis 0.

    >>> transpose(np.zeros((2, 3, 8)), 1, 2).shape
    (2, 8, 3)
    """
    if isinstance(input, SymbolicTensor):
        return input.transpose(dim0, dim1)
    x = as_float32(input, "transpose")
    return permute(cast(T, x), exchanged(dim0, dim1, x.ndim, "transpose", x.shape))


# ---- channels last -----------------------------------------------------------------------------


def channels_are_last(data_format: str, where: str) -> bool:
    """Whether the images are (n, …, channels).

    Raises:
        OptionError: the format is neither "channels_first" nor "channels_last".
    """
    if data_format not in FORMATS:
        raise OptionError(
            f"{where}: expected data_format 'channels_first' or 'channels_last'; got "
            f"data_format={data_format!r}."
        )
    return data_format == FORMATS[1]


def image_sizes(x: Any, rank: int, where: str, last: bool = False) -> tuple[int, ...]:
    """The sizes along the `rank` axes of space of (n, channels, …), or of (n, …, channels).

    Raises:
        ShapeError: another number of axes, or an axis of size 0.

    >>> image_sizes(np.zeros((2, 3, 8, 9)), 2, "conv2d")
    (8, 9)
    """
    shape = sample_shape(x, where)
    if len(shape) != rank + 1:
        space = _SPACE[rank]
        axes = f"n, {space}, channels" if last else f"n, channels, {space}"
        raise ShapeError(
            f"{where}: expected an input ({axes}); got shape={('N', *shape)}, which has "
            f"{len(shape)} axes besides the batch instead of {rank + 1}{at_line()}."
        )
    if 0 in shape:
        raise ShapeError(
            f"{where}: expected channels, images and kernels of at least 1; got x {shape} besides "
            f"the batch{at_line()}."
        )
    return shape[:-1] if last else shape[1:]


def to_first(x: T, rank: int, where: str) -> T:
    """(n, …, channels) as (n, channels, …), for `rank` axes of space.

    >>> to_first(np.zeros((2, 8, 9, 3)), 2, "conv2d").shape
    (2, 3, 8, 9)
    """
    image_sizes(x, rank, where, last=True)
    return permute(x, (0, rank + 1, *range(1, rank + 1)))


def to_last(x: T) -> T:
    """(n, channels, …) as (n, …, channels).

    >>> to_last(np.zeros((2, 3, 8, 9))).shape
    (2, 8, 9, 3)
    """
    return permute(x, (0, *range(2, 1 + len(sample_shape(x, "to_last"))), 1))
