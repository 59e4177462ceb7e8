"""Conv2d: a learned bank of filters slid over images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn import init
from striate.nn.arguments import Padding, Sizes, check_kind, conv_padding, named_pair, whole
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class Conv2d(Module):
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

    one_node = True

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
        check_kind("Conv2d", device, dtype)
        self.in_channels = whole(in_channels, "Conv2d", "in_channels")
        self.out_channels = whole(out_channels, "Conv2d", "out_channels")
        self.kernel_size = named_pair(kernel_size, "Conv2d", "kernel_size")
        self.stride = named_pair(stride, "Conv2d", "stride")
        self.dilation = named_pair(dilation, "Conv2d", "dilation")
        self.groups = whole(groups, "Conv2d", "groups")
        self.padding = self._checked_padding(padding)
        self.padding_mode = padding_mode
        self._check(padding_mode)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(np.empty(shape, np.float32))
        self.bias = Parameter(np.empty(self.out_channels, np.float32)) if bias else None
        if not bias:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _checked_padding(self, padding: Padding) -> tuple[int, int] | str:
        conv_padding(padding, "Conv2d", self.kernel_size, self.stride, self.dilation)
        return padding if isinstance(padding, str) else named_pair(padding, "Conv2d", "padding", 0)

    def _check(self, padding_mode: str) -> None:
        if padding_mode != "zeros":
            raise OptionError(
                f"Conv2d: expected padding_mode='zeros'; got {padding_mode!r}. Pad the images "
                "with numpy.pad before they go in."
            )
        for name in ("in_channels", "out_channels"):
            channels = getattr(self, name)
            if channels % self.groups:
                raise OptionError(
                    f"Conv2d: expected groups to divide {name}; got groups={self.groups}, "
                    f"{name}={channels}."
                )

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases, as torch distributes them."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight.shape)[0])
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        """`y` for images x (n, in_channels, ih, iw)."""
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        if self.padding != (0, 0):
            padding = self.padding
            text += f", padding={padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text
