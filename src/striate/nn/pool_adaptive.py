"""Pooling layers whose windows are not at fixed steps, and unpooling.

Adaptive, global and fractional pooling, pyramids; max unpooling; groups of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.nn import functional_pool_fixed as F
from striate.nn.arguments import Sizes, named_sizes, whole
from striate.nn.data_format import channels_are_last, image_sizes
from striate.nn.functional_pool import require_norm
from striate.nn.linear import Linear
from striate.nn.module import Module
from striate.nn.pool import PairModule
from striate.nn.pool_windows import (
    adaptive,
    adaptive_sizes,
    fractional_samples,
    fractional_sizes,
    require_choice,
)

# ---- adaptive ----------------------------------------------------------------------------------


class _Adaptive(PairModule):
    one_node = True
    rank = 2
    how = "avg"
    return_indices = False

    def _set_size(self, output_size: Any, data_format: str) -> None:
        where = type(self).__name__
        adaptive_sizes(output_size, self.rank, where)
        channels_are_last(data_format, where)
        self.output_size, self.data_format = output_size, data_format

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        name = f"adaptive_{self.how}_pool"
        settings = (self.output_size, self.data_format, self.return_indices)
        return adaptive(name, self.rank, x, *settings)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_Adaptive):
    def __init__(self, output_size: Any, *, data_format: str = "channels_first") -> None:
        super().__init__()
        self._set_size(output_size, data_format)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The mean of each of oh × ow windows that together cover the image, whatever its size.

    Window i reaches from row `⌊i·ih/oh⌋` to before row `⌈(i+1)·ih/oh⌉`.

    Args:
        output_size: (oh, ow), or one number for both; None keeps the image's size.
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> import numpy as np
    >>> AdaptiveAvgPool2d((6, 6))(np.zeros((2, 16, 13, 13))).shape
    (2, 16, 6, 6)
    """


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Adaptive average pooling of sequences (n, channels, length); see `AdaptiveAvgPool2d`."""

    rank = 1


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Adaptive average pooling of volumes (n, channels, id, ih, iw); see `AdaptiveAvgPool2d`."""

    rank = 3


class _AdaptiveMaxPool(_Adaptive):
    how = "max"

    def __init__(
        self,
        output_size: Any,
        return_indices: bool = False,
        *,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        self._set_size(output_size, data_format)
        self.return_indices = self.pairs = bool(return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest number of each of oh × ow windows that together cover the image.

    Window i reaches from row `⌊i·ih/oh⌋` to before row `⌈(i+1)·ih/oh⌉`.

    Args:
        output_size: (oh, ow), or one number for both; None keeps the image's size.
        return_indices: also give where the maxima are: (y, indices).
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).
    """


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Adaptive max pooling of sequences (n, channels, length); see `AdaptiveMaxPool2d`."""

    rank = 1


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Adaptive max pooling of volumes (n, channels, id, ih, iw); see `AdaptiveMaxPool2d`."""

    rank = 3


class _Global(_Adaptive):
    output_size = 1

    def __init__(self, *, data_format: str = "channels_first") -> None:
        super().__init__()
        self._set_size(1, data_format)

    def extra_repr(self) -> str:
        return ""


class GlobalAvgPool2d(_Global):
    """The mean of each channel, `Σ x[n, c, …] / count`. In PyTorch `AdaptiveAvgPool2d(1)`.

    Input: (n, channels, ih, iw). Output: (n, channels, 1, 1).

    >>> import numpy as np
    >>> GlobalAvgPool2d()(np.zeros((2, 16, 5, 7))).shape
    (2, 16, 1, 1)
    """


class GlobalAvgPool1d(_Global):
    """The mean of each channel of sequences: (n, channels, length) to (n, channels, 1)."""

    rank = 1


class GlobalAvgPool3d(_Global):
    """The mean of each channel of volumes: (n, channels, id, ih, iw) to (n, channels, 1, 1, 1)."""

    rank = 3


class GlobalMaxPool2d(_Global):
    """The largest number of each channel. In PyTorch `AdaptiveMaxPool2d(1)`.

    Input: (n, channels, ih, iw). Output: (n, channels, 1, 1).
    """

    how = "max"


class GlobalMaxPool1d(_Global):
    """The largest number of each channel: (n, channels, length) to (n, channels, 1)."""

    rank, how = 1, "max"


class GlobalMaxPool3d(_Global):
    """The largest number of each channel of volumes: (n, channels, …) to (n, channels, 1, 1, 1)."""

    rank, how = 3, "max"


class SpatialPyramidPool(Module):
    """Adaptive pools of several sizes, one after another in one row: images of any size fit it.

    Level k cuts the image into k × k windows; level 2 alone is a summary of each quadrant.

    Args:
        levels: windows along each axis, level by level.
        mode: "max" or "avg".
    Input: (n, channels, …) with one to three axes of space.
    Output: (n, channels·Σ k²); level by level, in each channel by channel.
    Source: He et al., Spatial pyramid pooling in deep convolutional networks, arXiv:1406.4729.

    >>> import numpy as np
    >>> SpatialPyramidPool((1, 2))(np.zeros((2, 3, 7, 9))).shape
    (2, 15)
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 4), mode: str = "max") -> None:
        super().__init__()
        where = type(self).__name__
        require_choice(mode, ("max", "avg"), where, "mode")
        self.levels, self.mode = tuple(whole(k, where, "levels") for k in levels), mode

    def forward(self, x: Any) -> Any:
        """The summaries of x (n, channels, …) in one row."""
        return F.spatial_pyramid_pool(x, self.levels, self.mode)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, mode={self.mode!r}"


# ---- fractional --------------------------------------------------------------------------------


class _FractionalMaxPool(PairModule):
    one_node = True
    rank = 2

    def __init__(
        self,
        kernel_size: Sizes,
        output_size: Sizes | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        named_sizes(kernel_size, self.rank, where, "kernel_size")
        fractional_sizes(where, self.rank, (output_size, output_ratio))
        self.kernel_size, self.output_size = kernel_size, output_size
        self.output_ratio = output_ratio
        self.return_indices = self.pairs = bool(return_indices)
        drawn = fractional_samples(where, self.rank, _random_samples)
        self.samples = tuple(drawn[::-1] if self.rank == 2 else drawn)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …), with `return_indices` a pair (y, indices)."""
        sizes = (self.output_size, self.output_ratio)
        image_sizes(x, self.rank, type(self).__name__)
        return F.windows_fractional(
            self.rank, x, self.kernel_size, sizes, self.return_indices, self.samples
        )

    def extra_repr(self) -> str:
        if self.output_size is not None:
            return f"kernel_size={self.kernel_size}, output_size={self.output_size}"
        return f"kernel_size={self.kernel_size}, output_ratio={self.output_ratio}"


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest number of each of oh × ow windows that begin at drawn places.

    Window i begins at `⌊(i + u)·a⌋ − ⌊u·a⌋` with `a = (ih − kh)/(oh − 1)` and one u from [0, 1)
    for each axis, the last one at ih − kh. The layer draws its u when it is made, from the
    library's generator (`striate.manual_seed`), and keeps them (PyTorch draws at every call, for
    every image and channel); `samples` holds them, and assigning others moves the windows.

    Args:
        kernel_size: pixels, one number or (vertical, horizontal).
        output_size: (oh, ow), or one number for both.
        output_ratio: instead, the share of the image's size that the output has, from 0 to 1.
        return_indices: also give where the maxima are: (y, indices).
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).
    Source: Graham, Fractional max-pooling, arXiv:1412.6071.

    >>> import numpy as np
    >>> FractionalMaxPool2d(2, output_ratio=0.7)(np.zeros((1, 3, 20, 20))).shape
    (1, 3, 14, 14)
    """


class FractionalMaxPool3d(_FractionalMaxPool):
    """Fractional max pooling of volumes (n, channels, id, ih, iw); see `FractionalMaxPool2d`."""

    rank = 3


# ---- unpooling ---------------------------------------------------------------------------------


class _MaxUnpool(PairModule):
    one_node = True
    pairs = True
    rank = 2

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        *,
        dilation: Sizes = 1,
    ) -> None:
        super().__init__()
        where, rank = type(self).__name__, self.rank
        self.kernel_size = named_sizes(kernel_size, rank, where, "kernel_size")
        steps = kernel_size if stride is None else stride
        self.stride = named_sizes(steps, rank, where, "stride")
        self.padding = named_sizes(padding, rank, where, "padding", 0)
        self.dilation = named_sizes(dilation, rank, where, "dilation")

    def forward(self, x: Any, indices: Any, output_size: Sequence[int] | None = None) -> Any:
        """x (n, channels, …) put back to where `indices` say, in an image of `output_size`."""
        settings = (self.kernel_size, self.stride, self.padding, self.dilation)
        return F.windows_unpool(self.rank, x, indices, settings, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool2d(_MaxUnpool):
    """Numbers put back to where the maxima were (the switches of a max pooling); 0 elsewhere.

    `y[n,c].flat[indices[n,c,i,j]] = x[n,c,i,j]`. Where overlapping windows name the same place the
    largest number stays.

    Args:
        kernel_size: of the pooling, one number or (vertical, horizontal).
        stride: of the pooling; the kernel size where None.
        padding: of the pooling.
        dilation: of the pooling.
    Inputs: x and indices (n, channels, oh, ow), and `output_size`, the size of the image that was
    pooled (`(oh − 1)·stride − 2·padding + kernel` where None). Output: (n, channels, h, w).
    Source: Zeiler & Fergus, Visualizing and understanding convolutional networks,
        arXiv:1311.2901.

    >>> import numpy as np
    >>> from striate.nn.pool import MaxPool2d
    >>> y, indices = MaxPool2d(2, return_indices=True)(np.arange(4.0).reshape(1, 1, 2, 2))
    >>> MaxUnpool2d(2)(y, indices)
    array([[[[0., 0.],
             [0., 3.]]]], dtype=float32)
    """


class MaxUnpool1d(_MaxUnpool):
    """Max unpooling of sequences (n, channels, windows); see `MaxUnpool2d`."""

    rank = 1


class MaxUnpool3d(_MaxUnpool):
    """Max unpooling of volumes (n, channels, od, oh, ow); see `MaxUnpool2d`."""

    rank = 3


# ---- over channels -----------------------------------------------------------------------------


class ChannelMaxPool(Module):
    """The largest of each group of channels, `y[n,c,…] = max_m x[n, c·stride + m, …]`.

    Not in PyTorch (there a reshape and a maximum).

    Args:
        size: channels of a group.
        stride: from the first channel of a group to that of the next; `size` where None.
    Input: (n, channels, …) with up to three axes of space. Output: (n, groups, …).
    Source: Goodfellow et al., Maxout networks, arXiv:1302.4389.

    >>> import numpy as np
    >>> ChannelMaxPool(2)(np.zeros((2, 6, 5, 5))).shape
    (2, 3, 5, 5)
    """

    one_node = True

    def __init__(self, size: int, stride: int | None = None) -> None:
        super().__init__()
        where = type(self).__name__
        self.size = whole(size, where, "size")
        self.stride = self.size if stride is None else whole(stride, where, "stride")

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        return F.channel_max_pool(x, self.size, self.stride)

    def extra_repr(self) -> str:
        return f"size={self.size}, stride={self.stride}"


class MaxoutChannels(ChannelMaxPool):
    """Maxout over k filters, after a convolution of k times as many; see `ChannelMaxPool`."""

    def __init__(self, k: int) -> None:
        super().__init__(k)


class ChannelAvgPool(ChannelMaxPool):
    """The mean of each group of channels; the arguments are those of `ChannelMaxPool`."""

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        return F.channel_avg_pool(x, self.size, self.stride)


class ChannelLPPool(ChannelMaxPool):
    """The p-norm of each group of channels, `(Σ_m |x[n, c·stride + m, …]|^p)^(1/p)`.

    With p = 2 this is the energy of a group of filters, as of a quadrature pair (the model of a
    complex cell). Where the sum is 0 the gradient is 0.

    Args:
        size: channels of a group.
        norm_type: p, above 0.
        stride: from the first channel of a group to that of the next; `size` where None.
    Input: (n, channels, …) with up to three axes of space. Output: (n, groups, …).

    >>> import numpy as np
    >>> ChannelLPPool(2)(np.array([[3.0, 4.0]]))
    array([[5.]], dtype=float32)
    """

    def __init__(self, size: int, norm_type: float = 2.0, stride: int | None = None) -> None:
        super().__init__(size, stride)
        require_norm(norm_type, type(self).__name__)
        self.norm_type = float(norm_type)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        return F.channel_lp_pool(x, self.size, self.norm_type, self.stride)

    def extra_repr(self) -> str:
        return f"size={self.size}, norm_type={self.norm_type:g}, stride={self.stride}"


class Maxout(Module):
    """A fully connected layer whose units are the largest of k linear ones.

    `y[n,o] = max_m (bias[o·k + m] + Σ_i x[n,i]·weight[o·k + m, i])`

    Args:
        in_features: numbers of a sample.
        out_features: units.
        k: linear pieces of each unit.
        bias: whether there is one.
    Input: (n, in_features). Output: (n, out_features).
    Parameters: those of `linear`, an `nn.Linear(in_features, out_features·k)`.
    Source: Goodfellow et al., Maxout networks, arXiv:1302.4389.

    >>> import numpy as np
    >>> Maxout(8, 3, 4)(np.zeros((2, 8))).shape
    (2, 3)
    """

    def __init__(self, in_features: int, out_features: int, k: int, bias: bool = True) -> None:
        super().__init__()
        self.k = whole(k, "Maxout", "k")
        self.out_features = whole(out_features, "Maxout", "out_features")
        self.linear = Linear(in_features, self.out_features * self.k, bias)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, in_features)."""
        return F.channel_max_pool(self.linear(x), self.k)

    def extra_repr(self) -> str:
        return f"k={self.k}"
