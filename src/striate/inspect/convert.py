"""Fully connected layers as convolutions, and convolutions as fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.inspect.matrix import matrix

if TYPE_CHECKING:
    from striate.nn.module import Module

_MOST = 2**28


def as_linear(layer: Module, input_shape: Sequence[int]) -> Any:
    """A linear layer of any kind as `nn.Linear` on flattened samples.

    `linear(x.reshape(n, -1))` is `layer(x).reshape(n, -1)`: a convolution's kernel stands in every
    row, at its place, among zeros.

    Args:
        layer: a convolution, pooling by averages …; whatever `matrix` takes.
        input_shape: of one sample, (c, h, w).
    Raises:
        OptionError: it is not linear, or the full matrix would be too large.

    >>> from striate import nn
    >>> as_linear(nn.Conv2d(1, 1, (1, 2)), (1, 4, 4))
    Linear(in_features=16, out_features=12, bias=True)
    """
    from striate import nn

    found, offset = matrix(layer, input_shape)
    rows, columns = found.shape
    if rows * columns > _MOST:
        raise OptionError(
            f"as_linear: expected at most {_MOST:,} weights; got {rows:,} × {columns:,} = "
            f"{rows * columns:,}. Keep the sparse matrix of `inspect.matrix`."
        )
    linear = nn.Linear(columns, rows)
    linear.weight.data[...] = found.toarray()
    if linear.bias is not None:
        linear.bias.data[...] = offset
    return linear.train(layer.training)


def as_conv(linear: Module, input_shape: Sequence[int]) -> Any:
    """`nn.Linear` on flattened samples as a convolution whose kernel is as large as the sample.

    On samples of `input_shape` it gives (out_features, 1, 1); on larger ones it slides: one
    prediction for every place, all of what overlaps computed once.

    Args:
        linear: an `nn.Linear` with in_features = c·h·w.
        input_shape: (c, length), (c, h, w) or (c, d, h, w).
    Raises:
        OptionError: not an `nn.Linear`.
        ShapeError: its features are not so many.
    Source: Long, Shelhamer & Darrell, Fully convolutional networks for semantic segmentation,
    arXiv:1411.4038.

    >>> from striate import nn
    >>> conv = as_conv(nn.Linear(7 * 7 * 8, 10), (8, 7, 7))
    >>> conv(np.zeros((1, 8, 7, 7))).shape, conv(np.zeros((1, 8, 9, 12))).shape
    ((1, 10, 1, 1), (1, 10, 3, 6))
    """
    from striate import nn

    if not isinstance(linear, nn.Linear):
        raise OptionError(f"as_conv: expected an nn.Linear; got a {type(linear).__name__}.")
    channels, *kernel = (int(k) for k in input_shape)
    kinds: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    if len(kernel) not in kinds or channels * math.prod(kernel) != linear.in_features:
        raise ShapeError(
            f"as_conv: expected an input shape (channels, …) of {linear.in_features} numbers, as "
            f"the layer has in_features; got {tuple(input_shape)}."
        )
    weight = np.asarray(linear.weight.data)
    kind, bias = kinds[len(kernel)], linear.bias
    made = kind(channels, len(weight), tuple(kernel), bias=bias is not None)
    made.weight.data[...] = weight.reshape(len(weight), channels, *kernel)
    if bias is not None:
        made.bias.data[...] = bias.data
    return made.train(linear.training)
