"""Layers that resize and rearrange: upsampling, pixel and channel shuffles, patches as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.errors import OptionError, suggest
from striate.nn import functional_resize as F
from striate.nn.arguments import Sizes, whole
from striate.nn.data_format import channels_are_last, image_sizes
from striate.nn.module import Module


class Upsample(Module):
    """Sequences, images or volumes in another size, by interpolation.

    Args:
        size: of the output, one number or one for each axis of space.
        scale_factor: instead, how many times as large the output is.
        mode: "nearest", "nearest-exact", "area"; "linear", "bilinear" and "trilinear" for one, two
            and three axes of space; "bicubic" for two.
        align_corners: whether the first and last places of both coincide; for the linear and cubic
            modes.
        recompute_scale_factor: take the step from the sizes though a factor is given.
        data_format: "channels_first", or "channels_last" for (n, …, channels).
    Input: (n, channels, …). Output: (n, channels, …).

    >>> import numpy as np
    >>> Upsample(scale_factor=2, mode="bilinear")(np.zeros((1, 3, 8, 8))).shape
    (1, 3, 16, 16)
    """

    one_node = True

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        *,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        where = type(self).__name__
        if (size is None) == (scale_factor is None):
            raise OptionError(
                f"{where}: expected either size or scale_factor; got size={size!r}, "
                f"scale_factor={scale_factor!r}."
            )
        if mode not in F.MODES:
            raise OptionError(f"{where}: unknown mode {mode!r}. {suggest(str(mode), F.MODES)}")
        channels_are_last(data_format, where)
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.data_format = align_corners, data_format
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, x: Any) -> Any:
        """x in the other size."""
        return F.interpolate(
            x,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
            data_format=self.data_format,
        )

    def extra_repr(self) -> str:
        size = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{size}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Images in another size, each place the nearest one's number; see `Upsample`."""

    def __init__(self, size: Sizes | None = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")

    def forward(self, x: Any) -> Any:
        """x in the other size."""
        image_sizes(x, 2, type(self).__name__)
        return super().forward(x)


class UpsamplingBilinear2d(UpsamplingNearest2d):
    """Images in another size by bilinear interpolation, with `align_corners`; see `Upsample`."""

    def __init__(self, size: Sizes | None = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor)
        self.mode, self.align_corners = "bilinear", True


class PixelShuffle(Module):
    """r² channels of a place become its r × r finer places.

    `y[n, c, h·r + a, w·r + b] = x[n, c·r² + a·r + b, h, w]`

    Args:
        upscale_factor: r.
    Input: (n, channels·r², h, w). Output: (n, channels, h·r, w·r).
    Source: Shi et al., arXiv:1609.05158.

    >>> import numpy as np
    >>> PixelShuffle(2)(np.zeros((1, 12, 4, 4))).shape
    (1, 3, 8, 8)
    """

    one_node = True

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = whole(upscale_factor, "PixelShuffle", "upscale_factor")

    def forward(self, x: Any) -> Any:
        """x with channels spread out."""
        return F.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """The reverse of `PixelShuffle`: blocks of r × r places become channels.

    Args:
        downscale_factor: r.
    Input: (n, channels, h·r, w·r). Output: (n, channels·r², h, w).
    """

    one_node = True

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = whole(downscale_factor, "PixelUnshuffle", "downscale_factor")

    def forward(self, x: Any) -> Any:
        """x with places gathered into channels."""
        return F.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels dealt out anew: `y[n, k·g + m, …] = x[n, m·(channels/g) + k, …]`.

    Args:
        groups: g; divides the channels.
    Input and output: (n, channels, …) with up to three axes of space.
    Source: Zhang et al., ShuffleNet, arXiv:1707.01083.
    """

    one_node = True

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = whole(groups, "ChannelShuffle", "groups")

    def forward(self, x: Any) -> Any:
        """x with its channels in another order."""
        return F.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Unfold(Module):
    """Every window as a column of numbers (im2col).

    `y[n, (c·kh + p)·kw + q, i·ow + j] = x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw]`

    Args:
        kernel_size, dilation, padding, stride: one number or one for each axis of space.
    Input: (n, channels, …). Output: (n, channels·kh·kw, windows).

    >>> import numpy as np
    >>> Unfold((2, 3))(np.zeros((1, 4, 5, 6))).shape
    (1, 24, 16)
    """

    one_node = True

    def __init__(
        self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, x: Any) -> Any:
        """The windows of x as columns."""
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Unfold):
    """Columns laid back as windows, overlaps added up: the transpose of `Unfold`.

    Args:
        output_size: of the image, (h, w), one number for both.
        kernel_size, dilation, padding, stride: those of the windows.
    Input: (n, channels·kh·kw, windows). Output: (n, channels, h, w).

    >>> import numpy as np
    >>> Fold((4, 5), 2)(np.zeros((1, 12, 12))).shape
    (1, 3, 4, 5)
    """

    one_node = False

    def __init__(
        self,
        output_size: Sizes,
        kernel_size: Sizes,
        dilation: Sizes = 1,
        padding: Sizes = 0,
        stride: Sizes = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """The image of the columns x."""
        settings = (self.kernel_size, self.dilation, self.padding, self.stride)
        return F.fold(x, self.output_size, *settings)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
