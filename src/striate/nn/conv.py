"""Convolution layers: a learned bank of filters slid over sequences, images or volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn import init
from striate.nn.arguments import Padding, Sizes, check_kind, named_sizes, whole, window_padding
from striate.nn.data_format import channels_are_last, image_sizes
from striate.nn.functional_conv import Sliding, lay, padding_mode_of, slide, transposed_padding
from striate.nn.module import Module
from striate.nn.parameter import Parameter
from striate.nn.symbol import SymbolicTensor

_USUAL = {
    "padding_mode": "zeros",
    "data_format": "channels_first",
    "strict": False,
    "true_convolution": False,
}


class WindowLayer(Module):
    """What layers with kernels share: sizes, parameters, text."""

    one_node = True
    rank = 2
    transposed = False
    padding: Any
    padding_mode = "zeros"
    data_format = "channels_first"
    strict = False

    def _set_sizes(
        self, channels: tuple[int, int], kernel_size: Sizes, stride: Sizes, dilation: Sizes
    ) -> None:
        where = type(self).__name__
        self.in_channels = whole(channels[0], where, "in_channels")
        self.out_channels = whole(channels[1], where, "out_channels")
        self.kernel_size = named_sizes(kernel_size, self.rank, where, "kernel_size")
        self.stride = named_sizes(stride, self.rank, where, "stride")
        self.dilation = named_sizes(dilation, self.rank, where, "dilation")

    def _set_layout(self, padding_mode: str, data_format: str) -> None:
        """How images come in; a layer that first moves them is more than one node."""
        where = type(self).__name__
        padding_mode_of(padding_mode, where)
        last = channels_are_last(data_format, where)
        self.padding_mode, self.data_format = padding_mode, data_format
        if last or padding_mode != "zeros":
            self.one_node = False

    def _set_groups(self, groups: int) -> None:
        where = type(self).__name__
        self.groups = whole(groups, where, "groups")
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise OptionError(
                    f"{where}: expected groups to divide {name}; got groups={self.groups}, "
                    f"{name}={getattr(self, name)}."
                )

    def _bank(self) -> tuple[int, ...]:
        """The shape of one bank of kernels."""
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second // self.groups, *self.kernel_size)

    def _set_parameters(self, weight: tuple[int, ...], bias: tuple[int, ...] | None) -> None:
        self.weight = Parameter(np.empty(weight, np.float32))
        self.bias = None if bias is None else Parameter(np.empty(bias, np.float32))
        if bias is None:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights and biases, as torch distributes those of convolutions."""
        fan = init.fans(self._bank())[0]
        bound = init.calculate_gain("leaky_relu", math.sqrt(5)) * math.sqrt(3.0 / fan)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            bound = 1 / math.sqrt(fan)
            init.uniform_(self.bias, -bound, bound)

    def sliding(self) -> Sliding:
        """How its window slides."""
        return Sliding(
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.padding_mode,
            self.strict,
            self.data_format,
        )

    def _text(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"

    def extra_repr(self) -> str:
        text = f"{self._text()}, stride={self.stride}"
        defaults = {"padding": (0,), "dilation": (1,), "output_padding": (0,)}
        for name, default in defaults.items():
            value = getattr(self, name, default * self.rank)
            if value != default * self.rank:
                text += f", {name}={value}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        for name, usual in _USUAL.items():
            if getattr(self, name, usual) != usual:
                text += f", {name}={getattr(self, name)}"
        return text


class _Conv(WindowLayer):
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
        *,
        strict: bool = False,
        data_format: str = "channels_first",
        true_convolution: bool = False,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_kind(where, device, dtype)
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation)
        self.padding = window_padding(padding, where, self.rank)
        self.strict, self.true_convolution = bool(strict), bool(true_convolution)
        self._set_layout(padding_mode, data_format)
        self._set_groups(groups)
        self._set_parameters(self._bank(), (self.out_channels,) if bias else None)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_channels, …), or (n, …, in_channels) where channels are last."""
        op = f"{'true_' if self.true_convolution else ''}conv{self.rank}d"
        return slide(op, self.rank, x, self.weight, self.bias, self.sliding())


class Conv2d(_Conv):
    """Cross-correlation of images with learned kernels.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] · weight[o,c,p,q]`

    Args:
        in_channels: channels of the images.
        out_channels: kernels, and channels of the result.
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: pixels, likewise.
        padding: pixels on each side, likewise, or ((top, bottom), (left, right)); "valid" for
            none, "same" for ⌈size/stride⌉ outputs ("same_lower": with an odd pixel at the start),
            "full" for d·(k − 1) on each side.
        dilation: pixels between the taps, 1 = dense.
        groups: independent groups of channels; divides both channel numbers.
        bias: whether there is one.
        padding_mode: what is read outside: "zeros", "reflect", "replicate", "circular",
            "symmetric".
        strict: refuse images of which the stride leaves rows or columns unread.
        data_format: "channels_first", or "channels_last" for images (n, ih, iw, in_channels) in
            and (n, oh, ow, out_channels) out; the weight is the same.
        true_convolution: flip the kernels, as mathematics does.
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


# ---- transposed --------------------------------------------------------------------------------


class TransposedLayer(WindowLayer):
    """What transposed layers share: the sizes of their outputs."""

    transposed = True

    def _set_output(self, padding: Padding, output_padding: Sizes) -> None:
        where = type(self).__name__
        self.padding = transposed_padding(padding, where, self.rank)
        self.output_padding = named_sizes(output_padding, self.rank, where, "output_padding", 0)
        for more, step, gap in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if more >= max(step, gap):
                raise OptionError(
                    f"{where}: expected output_padding below the stride or the dilation; got "
                    f"output_padding={self.output_padding}, stride={self.stride}, "
                    f"dilation={self.dilation}."
                )

    def _set_transposed_layout(self, padding_mode: str, data_format: str) -> None:
        if padding_mode != "zeros":
            raise OptionError(
                f"{type(self).__name__}: expected padding_mode='zeros', as its padding is cut off "
                f"the output; got padding_mode={padding_mode!r}."
            )
        self._set_layout(padding_mode, data_format)

    def _more(self, x: Any, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """The output padding that gives the wanted size."""
        if output_size is None:
            return self.output_padding
        where, wanted = type(self).__name__, tuple(output_size)
        if len(wanted) == self.rank + 2:
            wanted = wanted[2:]
        wanted = named_sizes(wanted, self.rank, where, "output_size")
        last = channels_are_last(self.data_format, where)
        image = image_sizes(x, self.rank, where, last)
        least, most = [], []
        for n, k, s, d, p in zip(
            image, self.kernel_size, self.stride, self.dilation, self.padding, strict=True
        ):
            cut = 2 * p if isinstance(p, int) else sum(p)
            least.append((n - 1) * s - cut + d * (k - 1) + 1)
            most.append(least[-1] + s - 1)
        if any(not a <= w <= b for a, w, b in zip(least, wanted, most, strict=True)):
            raise ShapeError(
                f"{where}: expected output_size from {tuple(least)} to {tuple(most)} for images "
                f"{image} with stride={self.stride}; got {wanted}."
            )
        return tuple(w - a for w, a in zip(wanted, least, strict=True))


class _ConvTranspose(TransposedLayer):
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
        *,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        check_kind(type(self).__name__, device, dtype)
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation)
        self._set_output(padding, output_padding)
        self._set_transposed_layout(padding_mode, data_format)
        self._set_groups(groups)
        self._set_parameters(self._bank(), (self.out_channels,) if bias else None)

    def __call__(self, x: Any, output_size: Sequence[int] | None = None) -> Any:
        if output_size is None:
            return super().__call__(x)
        if isinstance(x, SymbolicTensor):
            return super().__call__(x, output_size)
        return self.forward(x, output_size)  # a size for this call only: no network is kept

    def forward(self, x: Any, output_size: Sequence[int] | None = None) -> Any:
        """`y` for x (n, in_channels, …).

        Args:
            output_size: of y along its axes of space, where a stride leaves a choice.
        """
        op, more = f"conv_transpose{self.rank}d", self._more(x, output_size)
        return lay(op, self.rank, x, self.weight, self.bias, self.sliding(), more)


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d`: each pixel lays a learned kernel into a larger image.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, (i + ph − p·dh)/sh, (j + pw − q·dw)/sw] ·
    weight[c,o,p,q]`, over whole places only.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result.
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: pixels between the kernels in the result, likewise.
        padding: pixels cut off each side of the result, likewise, or ((top, bottom), (left,
            right)).
        output_padding: pixels added at its end, below the stride or the dilation.
        groups: independent groups of channels; divides both channel numbers.
        bias: whether there is one.
        dilation: pixels between the taps.
        padding_mode: "zeros".
        data_format: "channels_first", or "channels_last" for images (n, ih, iw, in_channels).
    Input: (n, in_channels, ih, iw). Output: (n, out_channels, oh, ow),
        oh = (ih − 1)·sh − 2·ph + dh·(kh − 1) + output_padding + 1. A call may name it:
        `layer(x, output_size=(oh, ow))`.
    Parameters: weight (in_channels, out_channels/groups, kh, kw) and bias (out_channels,).
    Raises:
        OptionError: an argument is out of range or not supported.

    >>> ConvTranspose2d(64, 32, 2, stride=2)(np.zeros((1, 64, 7, 7))).shape
    (1, 32, 14, 14)
    """


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d`; the arguments are those of `ConvTranspose2d`.

    `y[n,o,i] = bias[o] + Σ_{c,p} x[n, c, (i + P − p·d)/s] · weight[c,o,p]`

    Input: (n, in_channels, length). Output: (n, out_channels, out length).
    Parameters: weight (in_channels, out_channels/groups, k) and bias (out_channels,).

    >>> ConvTranspose1d(3, 2, 4, stride=2, padding=1)(np.zeros((1, 3, 10))).shape
    (1, 2, 20)
    """

    rank = 1


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d`; the arguments are those of `ConvTranspose2d`.

    `y[n,o,k,i,j] = bias[o] + Σ_{c,r,p,q} x[n, c, (k + P − r·d)/s, …] · weight[c,o,r,p,q]`

    Input: (n, in_channels, id, ih, iw). Output: (n, out_channels, od, oh, ow).
    Parameters: weight (in_channels, out_channels/groups, kd, kh, kw) and bias (out_channels,).

    >>> ConvTranspose3d(3, 2, 2, stride=2)(np.zeros((1, 3, 2, 4, 4))).shape
    (1, 2, 4, 8, 8)
    """

    rank = 3


# ---- separable ---------------------------------------------------------------------------------


class SeparableConv2d(Module):
    """A depthwise convolution, then a 1×1 convolution: space and channels one after the other.

    `y = pointwise(depthwise(x))`, with in_channels·(kh·kw + out_channels) products a pixel instead
    of in_channels·kh·kw·out_channels (times `depth_multiplier`).

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result.
        kernel_size, stride, padding, dilation: of the depthwise convolution, as in `Conv2d`.
        depth_multiplier: kernels a channel.
        bias: whether the 1×1 convolution has one; the depthwise convolution has none.
        padding_mode, strict, data_format: as in `Conv2d`.
    Input: (n, in_channels, ih, iw). Output: (n, out_channels, oh, ow).
    Parameters: depthwise.weight (in_channels·depth_multiplier, 1, kh, kw), pointwise.weight
        (out_channels, in_channels·depth_multiplier, 1, 1), pointwise.bias (out_channels,).
    Source: Chollet, Xception, CVPR 2017.

    >>> SeparableConv2d(8, 16, 3, padding="same")(np.zeros((1, 8, 10, 10))).shape
    (1, 16, 10, 10)
    """

    rank = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        where = type(self).__name__
        inner = whole(in_channels, where, "in_channels")
        inner *= whole(depth_multiplier, where, "depth_multiplier")
        layer = {1: Conv1d, 2: Conv2d, 3: Conv3d}[self.rank]
        sizes = (kernel_size, stride, padding, dilation, in_channels)
        self.depthwise = layer(
            in_channels,
            inner,
            *sizes,
            bias=False,
            padding_mode=padding_mode,
            strict=strict,
            data_format=data_format,
        )
        self.pointwise = layer(inner, out_channels, 1, bias=bias, data_format=data_format)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_channels, …)."""
        return self.pointwise(self.depthwise(x))


class SeparableConv1d(SeparableConv2d):
    """A depthwise convolution, then a 1×1 convolution, of sequences; see `SeparableConv2d`.

    Input: (n, in_channels, length). Output: (n, out_channels, out length).

    >>> SeparableConv1d(8, 16, 3, padding="same")(np.zeros((1, 8, 10))).shape
    (1, 16, 10)
    """

    rank = 1


class SeparableConv3d(SeparableConv2d):
    """A depthwise convolution, then a 1×1×1 convolution, of volumes; see `SeparableConv2d`.

    Input: (n, in_channels, id, ih, iw). Output: (n, out_channels, od, oh, ow).

    >>> SeparableConv3d(8, 16, 3, padding="same")(np.zeros((1, 8, 4, 6, 5))).shape
    (1, 16, 4, 6, 5)
    """

    rank = 3
