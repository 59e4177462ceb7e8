"""Layers whose kernels are not the same everywhere: locally connected and tiled convolution.

Locally connected layers have a bank of kernels for each position, so they are made for images of
one size. They are not in torch; the arguments are those of `Conv2d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.errors import OptionError
from striate.formula.operations import find_operation
from striate.nn.arguments import Padding, Sizes, conv_padding, named_sizes, window_padding
from striate.nn.conv import TransposedLayer, WindowLayer
from striate.nn.functional_conv import lay, slide
from striate.nn.trace import layer_named

_BIASES = ("position", "channel")


def _bias(where: str, bias: Any, output: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a bias: one at each position, one a channel, or none."""
    if bias is False or bias is None:
        return None
    if bias is True or bias in _BIASES:
        return output[:1] if bias == "channel" else output
    raise OptionError(
        f"{where}: expected bias 'position' (one for each output), 'channel' or False; got "
        f"bias={bias!r}."
    )


class _Local(WindowLayer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_size: Sizes,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool | str = "position",
        padding_mode: str = "zeros",
        *,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        where = type(self).__name__
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation)
        self.in_size = named_sizes(in_size, self.rank, where, "in_size")
        self.padding, self.strict = window_padding(padding, where, self.rank), bool(strict)
        self._set_layout(padding_mode, data_format)
        self._set_groups(groups)
        self.out_size = self._output()
        channels = (self.out_channels, *self.out_size)
        self._set_parameters((*self._bank(), *self.out_size), _bias(where, bias, channels))

    def _output(self) -> tuple[int, ...]:
        sizes = (self.kernel_size, self.stride, self.dilation, self.in_size)
        sides = conv_padding(self.padding, type(self).__name__, *sizes)
        settings = {"stride": self.stride, "padding": sides, "dilation": self.dilation}
        shapes = [(self.in_channels, *self.in_size), self._bank()]
        conv = find_operation(f"conv{self.rank}d")
        with layer_named(self):
            return conv.shape({**settings, "groups": self.groups}, shapes)[1:]

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_channels, *in_size)."""
        op = f"local{self.rank}d"
        return slide(op, self.rank, x, self.weight, self.bias, self.sliding())

    def _text(self) -> str:
        sizes = f"in_size={self.in_size}, kernel_size={self.kernel_size}"
        return f"{self.in_channels}, {self.out_channels}, {sizes}"


class LocallyConnected2d(_Local):
    """A convolution whose kernels depend on the place.

    `y[n,o,i,j] = bias + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] ·
    weight[o,c,p,q,i,j]`

    Args:
        in_channels: channels of the images.
        out_channels: kernels a position, and channels of the result.
        in_size: of the images, one number or (height, width): there is a kernel for each place.
        kernel_size, stride, padding, dilation, groups, padding_mode, strict, data_format: as in
            `Conv2d`.
        bias: "position" for one at each output (True means that too), "channel" for one an output
            channel, or False.
    Input: (n, in_channels, *in_size). Output: (n, out_channels, oh, ow).
    Parameters: weight (out_channels, in_channels/groups, kh, kw, oh, ow) and bias (out_channels,
        oh, ow) or (out_channels,), drawn as those of `Conv2d`.
    Source: LeCun, Generalization and network design strategies (1989); Taigman et al., DeepFace,
        CVPR 2014.

    >>> import numpy as np
    >>> LocallyConnected2d(3, 8, (10, 12), 3)(np.zeros((4, 3, 10, 12))).shape
    (4, 8, 8, 10)
    """


class LocallyConnected1d(_Local):
    """A convolution of sequences whose kernels depend on the place; see `LocallyConnected2d`.

    `y[n,o,i] = bias + Σ_{c,p} x[n, c, i·s + p·d − P] · weight[o,c,p,i]`

    Input: (n, in_channels, in_size). Output: (n, out_channels, out length).
    Parameters: weight (out_channels, in_channels/groups, k, out length) and bias.

    >>> import numpy as np
    >>> LocallyConnected1d(3, 8, 10, 3, stride=2, padding="same")(np.zeros((4, 3, 10))).shape
    (4, 8, 5)
    """

    rank = 1


class LocallyConnected3d(_Local):
    """A convolution of volumes whose kernels depend on the place; see `LocallyConnected2d`.

    Input: (n, in_channels, *in_size). Output: (n, out_channels, od, oh, ow).
    Parameters: weight (out_channels, in_channels/groups, kd, kh, kw, od, oh, ow) and bias.

    >>> import numpy as np
    >>> LocallyConnected3d(2, 3, 5, 3)(np.zeros((1, 2, 5, 5, 5))).shape
    (1, 3, 3, 3, 3)
    """

    rank = 3


class _LocalTranspose(TransposedLayer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_size: Sizes,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool | str = "position",
        dilation: Sizes = 1,
        *,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        where = type(self).__name__
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation)
        self.in_size = named_sizes(in_size, self.rank, where, "in_size")
        self._set_output(padding, output_padding)
        self._set_transposed_layout("zeros", data_format)
        self._set_groups(groups)
        self.out_size = self._output()
        channels = (self.out_channels, *self.out_size)
        self._set_parameters((*self._bank(), *self.in_size), _bias(where, bias, channels))

    def _output(self) -> tuple[int, ...]:
        settings = {
            "stride": self.stride,
            "padding": [[p, p] if isinstance(p, int) else p for p in self.padding],
            "output_padding": self.output_padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }
        shapes = [(self.in_channels, *self.in_size), self._bank()]
        with layer_named(self):
            return find_operation(f"conv_transpose{self.rank}d").shape(settings, shapes)[1:]

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_channels, *in_size)."""
        op, more = f"local_transpose{self.rank}d", self.output_padding
        return lay(op, self.rank, x, self.weight, self.bias, self.sliding(), more)

    def _text(self) -> str:
        sizes = f"in_size={self.in_size}, kernel_size={self.kernel_size}"
        return f"{self.in_channels}, {self.out_channels}, {sizes}"


class LocallyConnectedTranspose2d(_LocalTranspose):
    """The transpose of `LocallyConnected2d`: each place lays a kernel of its own into the result.

    `y[n,o,i,j] = bias + Σ_{c,p,q} x[n,c,k,l] · weight[c,o,p,q,k,l]` with `k = (i + ph − p·dh)/sh`
    and `l = (j + pw − q·dw)/sw`, over whole places inside the image only.

    Args:
        in_channels: channels of the images.
        out_channels: channels of the result.
        in_size: of the images, one number or (height, width).
        kernel_size, stride, padding, output_padding, groups, dilation, data_format: as in
            `ConvTranspose2d`.
        bias: "position" for one at each output (True means that too), "channel" for one an output
            channel, or False.
    Input: (n, in_channels, *in_size). Output: (n, out_channels, oh, ow).
    Parameters: weight (in_channels, out_channels/groups, kh, kw, ih, iw) and bias (out_channels,
        oh, ow) or (out_channels,).

    >>> import numpy as np
    >>> LocallyConnectedTranspose2d(8, 3, 5, 2, stride=2)(np.zeros((1, 8, 5, 5))).shape
    (1, 3, 10, 10)
    """


class LocallyConnectedTranspose1d(_LocalTranspose):
    """The transpose of `LocallyConnected1d`; see `LocallyConnectedTranspose2d`.

    >>> import numpy as np
    >>> LocallyConnectedTranspose1d(8, 3, 5, 2, stride=2)(np.zeros((1, 8, 5))).shape
    (1, 3, 10)
    """

    rank = 1


class LocallyConnectedTranspose3d(_LocalTranspose):
    """The transpose of `LocallyConnected3d`; see `LocallyConnectedTranspose2d`.

    >>> import numpy as np
    >>> LocallyConnectedTranspose3d(2, 3, 2, 2, stride=2)(np.zeros((1, 2, 2, 2, 2))).shape
    (1, 3, 4, 4, 4)
    """

    rank = 3


class _Tiled(WindowLayer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        tiles: int | Sequence[int],
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        where = type(self).__name__
        self._set_sizes((in_channels, out_channels), kernel_size, stride, dilation)
        self.tiles = named_sizes(tiles, self.rank, where, "tiles")
        self.padding, self.strict = window_padding(padding, where, self.rank), bool(strict)
        self._set_layout(padding_mode, data_format)
        self._set_groups(groups)
        shape = (*self.tiles, *self._bank())
        self._set_parameters(shape, (self.out_channels,) if bias else None)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_channels, …)."""
        op = f"tiled_conv{self.rank}d"
        return slide(op, self.rank, x, self.weight, self.bias, self.sliding())

    def _text(self) -> str:
        return f"{super()._text()}, tiles={self.tiles}"


class TiledConv2d(_Tiled):
    """A convolution whose kernels come back after t positions.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] ·
    weight[i mod th, j mod tw, o,c,p,q]`

    With t = 1 it is `Conv2d`, with t = the size of the output `LocallyConnected2d`.

    Args:
        in_channels: channels of the images.
        out_channels: kernels a tile, and channels of the result.
        kernel_size: pixels, one number or (vertical, horizontal).
        tiles: after how many positions the kernels come back, one number or (th, tw).
        stride, padding, dilation, groups, bias, padding_mode, strict, data_format: as in `Conv2d`.
    Input: (n, in_channels, ih, iw). Output: (n, out_channels, oh, ow).
    Parameters: weight (th, tw, out_channels, in_channels/groups, kh, kw) and bias (out_channels,).
    Source: Le et al., Tiled convolutional neural networks, NIPS 2010.

    >>> import numpy as np
    >>> TiledConv2d(3, 8, 3, tiles=2)(np.zeros((4, 3, 10, 12))).shape
    (4, 8, 8, 10)
    """


class TiledConv1d(_Tiled):
    """A convolution of sequences whose kernels come back after t positions; see `TiledConv2d`.

    >>> import numpy as np
    >>> TiledConv1d(3, 8, 3, tiles=2)(np.zeros((4, 3, 10))).shape
    (4, 8, 8)
    """

    rank = 1


class TiledConv3d(_Tiled):
    """A convolution of volumes whose kernels come back after t positions; see `TiledConv2d`.

    >>> import numpy as np
    >>> TiledConv3d(2, 3, 2, tiles=(1, 2, 2))(np.zeros((1, 2, 4, 4, 4))).shape
    (1, 3, 3, 3, 3)
    """

    rank = 3
