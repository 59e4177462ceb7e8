"""Pooling layers: the largest or the mean number of each window."""

from __future__ import annotations

from typing import Any

from striate.nn import functional as F
from striate.nn.arguments import Sizes, adaptive_size, named_pair, unsupported
from striate.nn.module import Module


class MaxPool2d(Module):
    """The largest number of each window.

    `y[n,c,i,j] = max_{p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw]`, outside the image −∞.

    Args:
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: likewise; at most half of the kernel.
        dilation: pixels between the taps.
        ceil_mode: round the number of windows up; the last ones reach over the edge.
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> import numpy as np
    >>> MaxPool2d(2)(np.zeros((4, 6, 28, 28))).shape
    (4, 6, 14, 14)
    """

    one_node = True

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        unsupported("MaxPool2d", "return_indices", return_indices, "Leave it out.")
        named_pair(kernel_size, "MaxPool2d", "kernel_size")
        named_pair(kernel_size if stride is None else stride, "MaxPool2d", "stride")
        named_pair(padding, "MaxPool2d", "padding", 0)
        named_pair(dilation, "MaxPool2d", "dilation")
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode = bool(ceil_mode)

    def forward(self, x: Any) -> Any:
        """`y` for images x (n, channels, ih, iw)."""
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window.

    `y[n,c,i,j] = Σ_{p,q} x[n, c, i·sh + p − ph, j·sw + q − pw] / (kh·kw)`, outside the image 0.

    Args:
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: likewise; at most half of the kernel.
        count_include_pad: divide by kh·kw, or only by the pixels inside the image.
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> import numpy as np
    >>> AvgPool2d(2)(np.zeros((4, 6, 28, 28))).shape
    (4, 6, 14, 14)
    """

    one_node = True

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        unsupported("AvgPool2d", "ceil_mode", ceil_mode, "Pad the input so that the windows fit.")
        unsupported("AvgPool2d", "divisor_override", divisor_override, "Scale the result instead.")
        named_pair(kernel_size, "AvgPool2d", "kernel_size")
        named_pair(kernel_size if stride is None else stride, "AvgPool2d", "stride")
        named_pair(padding, "AvgPool2d", "padding", 0)
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
        self.count_include_pad = bool(count_include_pad)

    def forward(self, x: Any) -> Any:
        """`y` for images x (n, channels, ih, iw)."""
        return F.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            count_include_pad=self.count_include_pad,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The mean of each of oh × ow windows that together cover the image, whatever its size.

    Window i reaches from row `⌊i·ih/oh⌋` to before row `⌈(i+1)·ih/oh⌉`.

    Args:
        output_size: (oh, ow), or one number for both; None keeps the image's size.
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> import numpy as np
    >>> AdaptiveAvgPool2d((6, 6))(np.zeros((2, 16, 13, 13))).shape
    (2, 16, 6, 6)
    """

    one_node = True

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        adaptive_size(output_size, "AdaptiveAvgPool2d")
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """`y` for images x (n, channels, ih, iw)."""
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
