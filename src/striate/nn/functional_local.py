"""Layers whose kernels are not the same everywhere, in `striate.nn.functional`.

Locally connected: a bank of kernels for each position; tiled: banks that come back after t
positions. None of them is in torch.
"""

from __future__ import annotations

from striate.nn.apply import T, Weight
from striate.nn.arguments import Padding, Sizes
from striate.nn.functional_conv import Sliding, lay, slide


def local2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """A convolution whose kernels depend on the place: locally connected.

    `y[n,o,i,j] = bias + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] ·
    weight[o,c,p,q,i,j]`

    Args:
        input: (n, in_channels, ih, iw).
        weight: (out_channels, in_channels/groups, kh, kw, oh, ow): the position last, so that
            neighbouring positions have neighbouring weights.
        bias: (out_channels,), or (out_channels, oh, ow) for one at each position, or None.
        stride, padding, dilation, groups, padding_mode, strict, data_format: as of `conv2d`.
    Returns:
        (n, out_channels, oh, ow).
    Raises:
        ShapeError: the weight's positions are not those of the output.

    >>> import numpy as np
    >>> w = np.arange(4.0).reshape(1, 1, 1, 1, 2, 2)
    >>> local2d(np.ones((1, 1, 2, 2)), w)
    array([[[[0., 1.],
             [2., 3.]]]], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("local2d", 2, input, weight, bias, sliding)


def local1d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """`local2d` of sequences: `y[n,o,i] = bias + Σ_{c,p} x[n, c, i·s + p·d − P] · weight[o,c,p,i]`.

    Args:
        input: (n, in_channels, length).
        weight: (out_channels, in_channels/groups, k, out length).
        bias: (out_channels,), or (out_channels, out length), or None.

    >>> import numpy as np
    >>> local1d(np.ones((1, 1, 3)), np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[2., 4.]]], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("local1d", 1, input, weight, bias, sliding)


def local3d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """`local2d` of volumes.

    Args:
        input: (n, in_channels, id, ih, iw).
        weight: (out_channels, in_channels/groups, kd, kh, kw, od, oh, ow).
        bias: (out_channels,), or (out_channels, od, oh, ow), or None.

    >>> import numpy as np
    >>> local3d(np.ones((1, 1, 2, 2, 2)), np.ones((3, 1, 2, 1, 1, 1, 2, 2))).shape
    (1, 3, 1, 2, 2)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("local3d", 3, input, weight, bias, sliding)


def local_transpose2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    data_format: str = "channels_first",
) -> T:
    """The transpose of `local2d`: what it sends back to its input.

    Each number of the input lays a kernel of its own into the output:
    `y[n,o,i,j] = bias + Σ_{c,p,q} x[n,c,k,l] · weight[c,o,p,q,k,l]` with `k = (i + ph − p·dh)/sh`
    and `l = (j + pw − q·dw)/sw`, over whole places inside the input only.

    Args:
        input: (n, in_channels, ih, iw).
        weight: (in_channels, out_channels/groups, kh, kw, ih, iw).
        bias: (out_channels,), or (out_channels, oh, ow), or None.
        stride, padding, output_padding, groups, dilation, data_format: as of `conv_transpose2d`.
    Returns:
        (n, out_channels, oh, ow), as large as of `conv_transpose2d`.

    >>> import numpy as np
    >>> w = np.arange(8.0).reshape(1, 1, 1, 2, 1, 4)
    >>> local_transpose2d(np.ones((1, 1, 1, 4)), w, stride=(1, 2)).ravel()
    array([0., 4., 1., 5., 2., 6., 3., 7.], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, data_format=data_format)
    return lay("local_transpose2d", 2, input, weight, bias, sliding, output_padding)


def local_transpose1d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    data_format: str = "channels_first",
) -> T:
    """The transpose of `local1d`.

    Args:
        input: (n, in_channels, length).
        weight: (in_channels, out_channels/groups, k, length).
        bias: (out_channels,), or (out_channels, out length), or None.

    >>> import numpy as np
    >>> local_transpose1d(np.ones((1, 1, 2)), np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[0., 3., 3.]]], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, data_format=data_format)
    return lay("local_transpose1d", 1, input, weight, bias, sliding, output_padding)


def local_transpose3d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    data_format: str = "channels_first",
) -> T:
    """The transpose of `local3d`.

    Args:
        input: (n, in_channels, id, ih, iw).
        weight: (in_channels, out_channels/groups, kd, kh, kw, id, ih, iw).
        bias: (out_channels,), or (out_channels, od, oh, ow), or None.

    >>> import numpy as np
    >>> local_transpose3d(np.ones((1, 2, 1, 2, 2)), np.ones((2, 3, 2, 1, 1, 1, 2, 2))).shape
    (1, 3, 2, 2, 2)
    """
    sliding = Sliding(stride, padding, dilation, groups, data_format=data_format)
    return lay("local_transpose3d", 3, input, weight, bias, sliding, output_padding)


def tiled_conv2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """A convolution whose kernels come back after t positions.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] ·
    weight[i mod th, j mod tw, o,c,p,q]`

    With t = 1 it is `conv2d`, with t = the size of the output `local2d`.

    Args:
        input: (n, in_channels, ih, iw).
        weight: (th, tw, out_channels, in_channels/groups, kh, kw).
        bias: (out_channels,), or None.
        stride, padding, dilation, groups, padding_mode, strict, data_format: as of `conv2d`.
    Returns:
        (n, out_channels, oh, ow).
    Source: Le et al., Tiled convolutional neural networks, NIPS 2010.

    >>> import numpy as np
    >>> w = np.array([1.0, 10.0]).reshape(1, 2, 1, 1, 1, 1)
    >>> tiled_conv2d(np.ones((1, 1, 1, 5)), w).ravel()
    array([ 1., 10.,  1., 10.,  1.], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("tiled_conv2d", 2, input, weight, bias, sliding)


def tiled_conv1d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """`tiled_conv2d` of sequences: weight (t, out_channels, in_channels/groups, k).

    >>> import numpy as np
    >>> tiled_conv1d(np.ones((1, 1, 3)), np.array([1.0, 10.0]).reshape(2, 1, 1, 1))
    array([[[ 1., 10.,  1.]]], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("tiled_conv1d", 1, input, weight, bias, sliding)


def tiled_conv3d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """`tiled_conv2d` of volumes: weight (td, th, tw, out_channels, in_channels/groups, kd, kh, kw).

    >>> import numpy as np
    >>> tiled_conv3d(np.ones((1, 1, 3, 3, 3)), np.ones((2, 1, 1, 4, 1, 2, 2, 2))).shape
    (1, 4, 2, 2, 2)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("tiled_conv3d", 3, input, weight, bias, sliding)
