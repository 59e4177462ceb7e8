"""Convolution layers: a learned bank of filters slid over sequences, images or volumes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn import init
from striate.nn.arguments import Padding, Sizes, check_kind, conv_padding, named_sizes, whole
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class _Convolution(Module):
    """What all convolutions share: sizes, parameters, text."""

    one_node = True
    rank = 2
    transposed = False

    def _set_sizes(
        self, channels: tuple[int, int], kernel_size: Sizes, stride: Sizes, dilation: Sizes
    ) -> None:
        where = type(self).__name__
        self.in_channels = whole(channels[0], where, "in_channels")
        self.out_channels = whole(channels[1], where, "out_channels")
        self.kernel_size = named_sizes(kernel_size, self.rank, where, "kernel_size")
        self.stride = named_sizes(stride, self.rank, where, "stride")
        self.dilation = named_sizes(dilation, self.rank, where, "dilation")

    def _set_parameters(self, groups: int, bias: bool, padding_mode: str) -> None:
        where = type(self).__name__
        self.groups = whole(groups, where, "groups")
        self.padding_mode = padding_mode
        if padding_mode != "zeros":
            raise OptionError(
                f"{where}: expected padding_mode='zeros'; got {padding_mode!r}. Pad the images "
                "with numpy.pad before they go in."
            )
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise OptionError(
                    f"{where}: expected groups to divide {name}; got groups={self.groups}, "
                    f"{name}={getattr(self, name)}."
                )
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        shape = (first, second // self.groups, *self.kernel_size)
        self.weight = Parameter(np.empty(shape, np.float32))
        self.bias = Parameter(np.empty(self.out_channels, np.float32)) if bias else None
        if not bias:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases, as torch distributes them."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight.shape)[0])
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        defaults = {"padding": (0,), "dilation": (1,), "output_padding": (0,)}
        for name, default in defaults.items():
            value = getattr(self, name, default * self.rank)
            if value != default * self.rank:
                text += f", {name}={value}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else f"{text}, bias=False"


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind(type(self).__name__, device, dtype)
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation)
        self.padding = self._checked_padding(padding)
        self._set_parameters(groups, bias, padding_mode)

    def _checked_padding(self, padding: Padding) -> tuple[int, ...] | str:
        where = type(self).__name__
        conv_padding(padding, where, self.kernel_size, self.stride, self.dilation)
        if isinstance(padding, str):
            return padding
        return named_sizes(padding, self.rank, where, "padding", 0)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_channels, …)."""
        function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[self.rank]
        return function(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Conv2d(_Conv):
    """Cross-correlation of images with learned kernels.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] · weight[o,c,p,q]`

    Args:
        in_channels: channels of the images.
        out_channels: kernels, and channels of the result.
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: pixels, likewise.
        padding: zero pixels on each side, likewise; "valid" for none, "same" to keep the size.
        dilation: pixels between the taps, 1 = dense.
        groups: independent groups of channels; divides both channel numbers.
        bias: whether there is one.
        padding_mode: "zeros".
    Input: (n, in_channels, ih, iw). Output: (n, out_channels, oh, ow).
    Parameters: weight (out_channels, in_channels/groups, kh, kw) and bias (out_channels,), both
        U(−r, r) with r = 1/√(kh·kw·in_channels/groups) at first.
    Raises:
        OptionError: an argument is out of range or not supported.

    >>> Conv2d(1, 6, 5, padding=2)(np.zeros((4, 1, 28, 28))).shape
    (4, 6, 28, 28)
    """


class Conv1d(_Conv):
    """Cross-correlation of sequences with learned kernels; the arguments are those of `Conv2d`.

    `y[n,o,i] = bias[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · weight[o,c,p]`

    Input: (n, in_channels, length). Output: (n, out_channels, out length).
    Parameters: weight (out_channels, in_channels/groups, k) and bias (out_channels,).

    >>> Conv1d(3, 8, 5, padding=2)(np.zeros((4, 3, 100))).shape
    (4, 8, 100)
    """

    rank = 1


class Conv3d(_Conv):
    """Cross-correlation of volumes with learned kernels; the arguments are those of `Conv2d`.

    `y[n,o,k,i,j] = bias[o] + Σ_{c,r,p,q} x[n, c, k·s + r·d − P, …] · weight[o,c,r,p,q]`

    Input: (n, in_channels, id, ih, iw). Output: (n, out_channels, od, oh, ow).
    Parameters: weight (out_channels, in_channels/groups, kd, kh, kw) and bias (out_channels,).

    >>> Conv3d(1, 2, 3, stride=(1, 2, 2))(np.zeros((1, 1, 5, 9, 9))).shape
    (1, 2, 3, 4, 4)
    """

    rank = 3


class ConvTranspose2d(_Convolution):
    """The transpose of `Conv2d`: each pixel lays a learned kernel into a larger image.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, (i + ph − p·dh)/sh, (j + pw − q·dw)/sw] ·
    weight[c,o,p,q]`, over whole places only.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result.
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: pixels between the kernels in the result, likewise.
        padding: pixels cut off each side of the result, likewise.
        output_padding: pixels added at its end, below the stride or the dilation.
        groups: independent groups of channels; divides both channel numbers.
        bias: whether there is one.
        dilation: pixels between the taps.
        padding_mode: "zeros".
    Input: (n, in_channels, ih, iw). Output: (n, out_channels, oh, ow),
        oh = (ih − 1)·sh − 2·ph + dh·(kh − 1) + output_padding + 1.
    Parameters: weight (in_channels, out_channels/groups, kh, kw) and bias (out_channels,).
    Raises:
        OptionError: an argument is out of range or not supported.

    >>> ConvTranspose2d(64, 32, 2, stride=2)(np.zeros((1, 64, 7, 7))).shape
    (1, 32, 14, 14)
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_kind(where, device, dtype)
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation)
        self.padding = named_sizes(padding, self.rank, where, "padding", 0)
        self.output_padding = named_sizes(output_padding, self.rank, where, "output_padding", 0)
        for more, step, gap in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if more >= max(step, gap):
                raise OptionError(
                    f"{where}: expected output_padding below the stride or the dilation; got "
                    f"output_padding={self.output_padding}, stride={self.stride}, "
                    f"dilation={self.dilation}."
                )
        self._set_parameters(groups, bias, padding_mode)

    def forward(self, x: Any) -> Any:
        """`y` for images x (n, in_channels, ih, iw)."""
        return F.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )
