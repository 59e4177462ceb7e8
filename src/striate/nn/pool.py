"""Pooling layers over windows: the largest number, a mean, a sum, a norm, or one by chance."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.nn import functional_pool as F
from striate.nn.arguments import Padding, Sizes, named_sizes, window_padding
from striate.nn.data_format import channels_are_last, image_sizes
from striate.nn.module import Module, require_sizes
from striate.nn.pool_windows import Window, sigmas
from striate.nn.trace import find_tracer, layer_named


class PairModule(Module):
    """A layer that may take or give a pair of tensors: arrays it then computes at once."""

    pairs = False

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Compute or trace, as every module."""
        if self.pairs and find_tracer(inputs, keywords) is None:
            require_sizes(type(self).__name__, [np.shape(x)[1:] for x in inputs])
            with layer_named(self):
                return self.forward(*inputs, **keywords)
        return super().__call__(*inputs, **keywords)


class WindowPool(PairModule):
    """What pooling layers over windows share: their arguments and text."""

    one_node = True
    rank = 2
    shown: tuple[str, ...] = ("kernel_size", "stride", "padding")

    def _set_window(
        self,
        kernel_size: Sizes,
        stride: Sizes | None,
        padding: Padding,
        dilation: Sizes,
        ceil_mode: bool,
        strict: bool,
        data_format: str,
    ) -> None:
        where, rank = type(self).__name__, self.rank
        named_sizes(kernel_size, rank, where, "kernel_size")
        named_sizes(kernel_size if stride is None else stride, rank, where, "stride")
        named_sizes(dilation, rank, where, "dilation")
        window_padding(padding, where, rank)
        channels_are_last(data_format, where)
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode, self.strict, self.data_format = bool(ceil_mode), bool(strict), data_format

    def _window(self, x: Any) -> Window:
        """The window, for an input that has as many axes as the layer is for."""
        last = channels_are_last(self.data_format, type(self).__name__)
        image_sizes(x, self.rank, type(self).__name__, last)
        return Window(
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.strict,
            self.data_format,
        )

    def _rest(self) -> dict[str, Any]:
        """The keywords that all functions take."""
        return {"strict": self.strict, "data_format": self.data_format}

    def extra_repr(self) -> str:
        text = ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)
        usual: dict[str, Any] = {"dilation": 1, "ceil_mode": False, "count_include_pad": True}
        usual |= {"divisor_override": None, "strict": False, "data_format": "channels_first"}
        for name, default in usual.items():
            value = getattr(self, name, default)
            if name not in self.shown and value != default:
                text += f", {name}={value}"
        return text


class _MaxPool(WindowPool):
    shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        settings = (kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
        self._set_window(*settings)
        self.return_indices = self.pairs = bool(return_indices)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …), with `return_indices` a pair (y, indices)."""
        return F.windows_max(self.rank, x, self._window(x), self.return_indices)


class MaxPool2d(_MaxPool):
    """The largest number of each window.

    `y[n,c,i,j] = max_{p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw]`, outside the image −∞.

    Args:
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: likewise; at most half of the kernel. Also pairs (before, after), "valid", "same".
        dilation: pixels between the taps.
        return_indices: also give where the maxima are, for `MaxUnpool2d`: (y, indices).
        ceil_mode: round the number of windows up; the last ones reach over the edge.
        strict: refuse images of which the stride leaves rows or columns unread.
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> import numpy as np
    >>> MaxPool2d(2)(np.zeros((4, 6, 28, 28))).shape
    (4, 6, 14, 14)
    """


class MaxPool1d(_MaxPool):
    """The largest number of each window of sequences; the arguments are those of `MaxPool2d`.

    Input: (n, channels, length). Output: (n, channels, windows).
    """

    rank = 1


class MaxPool3d(_MaxPool):
    """The largest number of each window of volumes; the arguments are those of `MaxPool2d`.

    Input: (n, channels, id, ih, iw). Output: (n, channels, od, oh, ow).
    """

    rank = 3


class _AvgPool(WindowPool):
    divisor_override: int | None = None

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        dilation: Sizes = 1,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        settings = (kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
        self._set_window(*settings)
        F.require_divisor(divisor_override, type(self).__name__)
        self.count_include_pad = bool(count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        counts = (self.count_include_pad, self.divisor_override)
        return F.windows_mean(self.rank, x, self._window(x), *counts)


class AvgPool2d(_AvgPool):
    """The mean of each window.

    `y[n,c,i,j] = Σ_{p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] / count`, outside the image 0.

    Args:
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: likewise; at most half of the kernel. Also pairs (before, after), "valid", "same".
        ceil_mode: round the number of windows up; what lies beyond the padding does not count.
        count_include_pad: divide by kh·kw, or only by the pixels inside the image.
        divisor_override: divide by this instead.
        dilation: pixels between the taps.
        strict: refuse images of which the stride leaves rows or columns unread.
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> import numpy as np
    >>> AvgPool2d(2)(np.zeros((4, 6, 28, 28))).shape
    (4, 6, 14, 14)
    """


class AvgPool1d(_AvgPool):
    """The mean of each window of sequences; the arguments are those of `AvgPool2d`.

    Input: (n, channels, length). Output: (n, channels, windows).
    """

    rank = 1


class AvgPool3d(_AvgPool):
    """The mean of each window of volumes; the arguments are those of `AvgPool2d`.

    Input: (n, channels, id, ih, iw). Output: (n, channels, od, oh, ow).
    """

    rank = 3


class _SumPool(WindowPool):
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
        *,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        settings = (kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
        self._set_window(*settings)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        window = self._window(x)
        more = (window.stride, window.padding, window.dilation, window.ceil_mode)
        return F.sum_pool(x, window.kernel_size, *more, **self._rest())


class SumPool2d(_SumPool):
    """The sum of each window; the arguments are those of `MaxPool2d`. Not in PyTorch.

    `y[n,c,i,j] = Σ_{p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw]`, outside the image 0.

    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).
    """


class SumPool1d(_SumPool):
    """The sum of each window of sequences (n, channels, length); see `SumPool2d`."""

    rank = 1


class SumPool3d(_SumPool):
    """The sum of each window of volumes (n, channels, id, ih, iw); see `SumPool2d`."""

    rank = 3


class _LPPool(WindowPool):
    shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(
        self,
        norm_type: float,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        ceil_mode: bool = False,
        *,
        padding: Padding = 0,
        dilation: Sizes = 1,
        absolute: bool = False,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        settings = (kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
        self._set_window(*settings)
        F.require_norm(norm_type, type(self).__name__)
        self.norm_type, self.absolute = norm_type, bool(absolute)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        where = type(self).__name__
        return F.norm_pool(where, self.rank, x, self.norm_type, self.absolute, self._window(x))

    def extra_repr(self) -> str:
        return super().extra_repr() + (", absolute=True" if self.absolute else "")


class LPPool2d(_LPPool):
    """The p-norm of each window: `(Σ x^p)^(1/p)`, with `absolute` `(Σ |x|^p)^(1/p)`.

    The two are equal for even p; L2 pooling is p = 2. PyTorch has the first form, ONNX the second.

    Args:
        norm_type: p, above 0; ∞ for the largest absolute value, −∞ for the smallest.
        kernel_size: pixels, one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        ceil_mode: round the number of windows up. As in PyTorch the sum of a window that reaches
            over the edge is scaled up to the whole window; not so with `absolute`.
        absolute: whether absolute values are taken.
        padding, dilation, strict, data_format: as for `MaxPool2d`.
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).

    >>> import numpy as np
    >>> LPPool2d(2, 2)(np.full((1, 1, 2, 2), 3.0))
    array([[[[6.]]]], dtype=float32)
    """


class LPPool1d(_LPPool):
    """The p-norm of each window of sequences (n, channels, length); see `LPPool2d`."""

    rank = 1


class LPPool3d(_LPPool):
    """The p-norm of each window of volumes (n, channels, id, ih, iw); see `LPPool2d`."""

    rank = 3


class _GaussianPool(WindowPool):
    shown = ("kernel_size", "sigma", "stride", "padding")

    def __init__(
        self,
        kernel_size: Sizes,
        sigma: float | tuple[float, ...],
        stride: Sizes | None = None,
        padding: Padding = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
        *,
        strict: bool = False,
        data_format: str = "channels_first",
    ) -> None:
        super().__init__()
        settings = (kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
        self._set_window(*settings)
        sigmas(sigma, self.rank, type(self).__name__)
        self.sigma, self.count_include_pad = sigma, bool(count_include_pad)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        w = self._window(x)
        more = (w.stride, w.padding, w.dilation, w.ceil_mode, self.count_include_pad)
        return F.gaussian_pool(x, w.kernel_size, self.sigma, *more, **self._rest())


class GaussianPool2d(_GaussianPool):
    """The mean of each window, weighed by the distance from its middle. Not in PyTorch.

    `y = Σ w·x / Σ w` over the window, `w = exp(−d²/2σ²)` with d in pixels.

    Args:
        kernel_size: pixels, one number or (vertical, horizontal).
        sigma: σ in pixels, one number or two.
        count_include_pad: whether the padding has weights in the divisor, too.
        stride, padding, dilation, ceil_mode, strict, data_format: as for `MaxPool2d`.
    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).
    """


class GaussianPool1d(_GaussianPool):
    """A weighed mean of each window of sequences (n, channels, length); see `GaussianPool2d`."""

    rank = 1


class GaussianPool3d(_GaussianPool):
    """A weighed mean of each window of volumes (n, channels, id, ih, iw); see `GaussianPool2d`."""

    rank = 3


class _StochasticPool(_SumPool):
    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …): drawn in training, else what that gives on average."""
        w = self._window(x)
        more = (w.stride, w.padding, w.dilation, w.ceil_mode, self.training)
        return F.stochastic_pool(x, w.kernel_size, *more, **self._rest())


class StochasticPool2d(_StochasticPool):
    """In training one number of each window, drawn in proportion to it; else the mean of the draws.

    With activations `a = max(x, 0)` each number's chance is `a/Σ a`; in evaluation mode the output
    is `Σ a·x / Σ a`. A window without a positive number gives 0. The arguments are those of
    `MaxPool2d`. Not in PyTorch.

    Input: (n, channels, ih, iw). Output: (n, channels, oh, ow).
    Source: Zeiler & Fergus, Stochastic pooling for regularization of deep convolutional neural
        networks, arXiv:1301.3557.
    """


class StochasticPool1d(_StochasticPool):
    """Stochastic pooling of sequences (n, channels, length); see `StochasticPool2d`."""

    rank = 1


class StochasticPool3d(_StochasticPool):
    """Stochastic pooling of volumes (n, channels, id, ih, iw); see `StochasticPool2d`."""

    rank = 3
