"""Convolutions in `striate.nn.functional`: of sequences, images and volumes, and transposed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from striate.errors import ShapeError
from striate.nn.apply import T, Weight, apply
from striate.nn.arguments import Padding, Sizes, both_sides, conv_padding, named_sizes, whole
from striate.nn.parameter import Parameter

_KERNEL = {1: "k", 2: "kh, kw", 3: "kd, kh, kw"}


def conv2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> T:
    """Cross-correlate images with kernels.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] · weight[o,c,p,q]`

    Args:
        input: (n, in_channels, ih, iw).
        weight: (out_channels, in_channels/groups, kh, kw).
        bias: (out_channels,), or None.
        stride: pixels, one number or (vertical, horizontal).
        padding: zero pixels on each side, one number or two; "valid" for none, "same" to keep
            the size (stride 1).
        dilation: pixels between the taps, 1 = dense.
        groups: independent groups of channels.
    Returns:
        (n, out_channels, oh, ow), oh = ⌊(ih + 2·ph − dh·(kh − 1) − 1)/sh⌋ + 1.
    Raises:
        ShapeError: channels disagree, or the kernel does not fit.
    Source: Dumoulin & Visin, A guide to convolution arithmetic, arXiv:1603.07285.

    >>> x, w = np.ones((1, 1, 4, 4)), np.ones((2, 1, 3, 3))
    >>> conv2d(x, w, padding=1)[0, :, 0, 0]
    array([4., 4.], dtype=float32)
    """
    return _convolve(2, input, weight, bias, (stride, padding, dilation, groups))


def conv1d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> T:
    """Cross-correlate sequences with kernels; the arguments are those of `conv2d`.

    `y[n,o,i] = bias[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · weight[o,c,p]`

    Args:
        input: (n, in_channels, length).
        weight: (out_channels, in_channels/groups, k).
    Returns:
        (n, out_channels, out length).

    >>> conv1d(np.arange(5.0).reshape(1, 1, 5), np.ones((1, 1, 3)))
    array([[[3., 6., 9.]]], dtype=float32)
    """
    return _convolve(1, input, weight, bias, (stride, padding, dilation, groups))


def conv3d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> T:
    """Cross-correlate volumes with kernels; the arguments are those of `conv2d`.

    `y[n,o,k,i,j] = bias[o] + Σ_{c,r,p,q} x[n, c, k·s + r·d − P, …] · weight[o,c,r,p,q]`

    Args:
        input: (n, in_channels, id, ih, iw).
        weight: (out_channels, in_channels/groups, kd, kh, kw).
    Returns:
        (n, out_channels, od, oh, ow).

    >>> conv3d(np.ones((1, 1, 4, 4, 4)), np.ones((2, 1, 3, 3, 3))).shape
    (1, 2, 2, 2, 2)
    """
    return _convolve(3, input, weight, bias, (stride, padding, dilation, groups))


def conv_transpose2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> T:
    """The transpose of `conv2d`: each pixel of the input lays the kernel into the output.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, (i + ph − p·dh)/sh, (j + pw − q·dw)/sw] ·
    weight[c,o,p,q]`, over whole places only.

    Args:
        input: (n, in_channels, ih, iw).
        weight: (in_channels, out_channels/groups, kh, kw).
        bias: (out_channels,), or None.
        stride: pixels between the kernels in the output, one number or (vertical, horizontal).
        padding: pixels cut off each side of the output, likewise.
        output_padding: pixels added at the end, below the stride or the dilation.
        groups: independent groups of channels.
        dilation: pixels between the taps.
    Returns:
        (n, out_channels, oh, ow), oh = (ih − 1)·sh − 2·ph + dh·(kh − 1) + output_padding + 1.
    Source: Dumoulin & Visin, A guide to convolution arithmetic, arXiv:1603.07285.

    >>> conv_transpose2d(np.ones((1, 3, 5, 5)), np.ones((3, 2, 2, 2)), stride=2).shape
    (1, 2, 10, 10)
    """
    where = "conv_transpose2d"
    _require_kernel(where, weight, "in_channels, out_channels/groups", 2)
    attributes = {
        "stride": list(named_sizes(stride, 2, where, "stride")),
        "padding": both_sides(named_sizes(padding, 2, where, "padding", 0)),
        "output_padding": list(named_sizes(output_padding, 2, where, "output_padding", 0)),
        "dilation": list(named_sizes(dilation, 2, where, "dilation")),
        "groups": whole(groups, where, "groups"),
    }
    inputs = (input, weight) if bias is None else (input, weight, bias)
    return cast(T, apply(where, inputs, attributes, parameters=len(inputs) - 1))


def _convolve(
    rank: int,
    input: T,
    weight: Weight,
    bias: Weight | None,
    settings: tuple[Sizes, Padding, Sizes, int],
) -> T:
    """Convolution over `rank` axes of space; settings: stride, padding, dilation, groups."""
    where, (stride, padding, dilation, groups) = f"conv{rank}d", settings
    kernel = _require_kernel(where, weight, "out_channels, in_channels/groups", rank)
    strides = named_sizes(stride, rank, where, "stride")
    dilations = named_sizes(dilation, rank, where, "dilation")
    attributes = {
        "stride": list(strides),
        "padding": conv_padding(padding, where, kernel, strides, dilations),
        "dilation": list(dilations),
        "groups": whole(groups, where, "groups"),
    }
    inputs = (input, weight) if bias is None else (input, weight, bias)
    return cast(T, apply(where, inputs, attributes, parameters=len(inputs) - 1))


def _require_kernel(where: str, weight: Any, channels: str, rank: int) -> tuple[int, ...]:
    """The sizes of a weight's kernel along its axes of space."""
    shape = np.shape(weight.data if isinstance(weight, Parameter) else weight)
    if len(shape) != 2 + rank:
        raise ShapeError(
            f"{where}: expected a weight ({channels}, {_KERNEL[rank]}); got shape={shape}."
        )
    return tuple(shape[2:])
