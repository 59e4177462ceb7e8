"""Pooling in `striate.nn.functional`: windows of sequences, images and volumes.

Here are the public functions; `pool_windows` says where windows lie and which operation they are.
Functions whose name has no number of axes take any: (n, channels, …) with one to three of space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError
from striate.nn.apply import T, apply, sample_shape
from striate.nn.arguments import Padding, Sizes
from striate.nn.pool_windows import (
    Window,
    rank_of,
    sigmas,
    with_indices,
)
from striate.nn.random_numbers import uniform
from striate.nn.symbol import SymbolicTensor

# ---- the largest number of a window ------------------------------------------------------------


def max_pool2d(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    strict: bool = False,
    data_format: str = "channels_first",
) -> Any:
    """The largest number of each window; the first of equals gets the gradient.

    `y[n,c,i,j] = max_{p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw]`, outside the image −∞.

    Args:
        input: (n, channels, ih, iw).
        kernel_size: one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: −∞ on each side, at most half of the kernel; also pairs (before, after), "valid"
            or "same".
        dilation: pixels between the taps.
        ceil_mode: round the number of windows up, as long as the last one starts in the image or
            the padding before it; the rest of it reads −∞.
        return_indices: also give where the maxima are: flat positions in the plane, row by row,
            int64 on arrays. `max_unpool2d` puts numbers back there.
        strict: refuse images of which the stride leaves rows or columns unread.
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Returns:
        (n, channels, oh, ow), with `return_indices` a pair of these.

    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).ravel()
    array([ 5.,  7., 13., 15.], dtype=float32)
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    return windows_max(2, input, window, return_indices)


def max_pool1d(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    strict: bool = False,
    data_format: str = "channels_first",
) -> Any:
    """The largest number of each window of sequences; the arguments are those of `max_pool2d`.

    Args:
        input: (n, channels, length).
    Returns:
        (n, channels, windows), with `return_indices` a pair of these.

    >>> max_pool1d(np.array([[[3.0, 1, 2, 5]]]), 2, return_indices=True)
    (array([[[3., 5.]]], dtype=float32), array([[[0, 3]]]))
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    return windows_max(1, input, window, return_indices)


def max_pool3d(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    strict: bool = False,
    data_format: str = "channels_first",
) -> Any:
    """The largest number of each window of volumes; the arguments are those of `max_pool2d`.

    Args:
        input: (n, channels, id, ih, iw).
    Returns:
        (n, channels, od, oh, ow), with `return_indices` a pair of these.

    >>> max_pool3d(np.zeros((1, 2, 4, 6, 6)), (1, 2, 3)).shape
    (1, 2, 4, 3, 2)
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    return windows_max(3, input, window, return_indices)


def windows_max(rank: int, input: Any, window: Window, return_indices: bool) -> Any:
    """Max pooling over `rank` axes of space, with its switches if wanted."""
    where = f"max_pool{rank}d"
    x, attributes = window.prepare(where, rank, input)
    y = window.finish(apply(where, (x,), attributes))
    if not return_indices:
        return y
    return with_indices(y, window.finish(apply("max_pool_indices", (x,), attributes)))


# ---- means and sums ----------------------------------------------------------------------------


def avg_pool2d(
    input: T,
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
) -> T:
    """The mean of each window.

    `y[n,c,i,j] = Σ_{p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] / count`, outside 0.

    Args:
        input: (n, channels, ih, iw).
        kernel_size: one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: zeros on each side, at most half of the kernel; also pairs (before, after),
            "valid" or "same".
        ceil_mode: round the number of windows up, as long as the last one starts in the image or
            the padding before it; what lies beyond the padding does not count.
        count_include_pad: divide by the whole window, or only by what lies inside the image.
        divisor_override: divide by this instead.
        dilation: pixels between the taps.
        strict: refuse images of which the stride leaves rows or columns unread.
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Returns:
        (n, channels, oh, ow).

    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).ravel()
    array([ 2.5,  4.5, 10.5, 12.5], dtype=float32)
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    return cast(T, windows_mean(2, input, window, count_include_pad, divisor_override))


def avg_pool1d(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """The mean of each window of sequences; the arguments are those of `avg_pool2d`.

    Args:
        input: (n, channels, length).
    Returns:
        (n, channels, windows).

    >>> avg_pool1d(np.array([[[3.0, 1, 2, 5]]]), 2)
    array([[[2. , 3.5]]], dtype=float32)
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    return cast(T, windows_mean(1, input, window, count_include_pad, None))


def avg_pool3d(
    input: T,
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
) -> T:
    """The mean of each window of volumes; the arguments are those of `avg_pool2d`.

    Args:
        input: (n, channels, id, ih, iw).
    Returns:
        (n, channels, od, oh, ow).

    >>> avg_pool3d(np.ones((1, 2, 4, 6, 6)), 2).shape
    (1, 2, 2, 3, 3)
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    return cast(T, windows_mean(3, input, window, count_include_pad, divisor_override))


def windows_mean(
    rank: int, input: Any, window: Window, count_include_pad: bool, divisor: int | None
) -> Any:
    """Average pooling as the simplest operation that says it: `avg_pool` where it can."""
    where = f"avg_pool{rank}d"
    x, attributes = window.prepare(where, rank, input)
    require_divisor(divisor, where)
    if divisor is not None:
        settings = {**attributes, "divisor": float(divisor)}
        return window.finish(apply("sum_pool", (x,), settings, where))
    declared = window.declared(where, rank, input)
    counted = declared if count_include_pad else [[0, 0]] * rank
    padding = attributes["padding"]
    plain = {key: attributes[key] for key in ("kernel", "stride", "padding")}
    if max(attributes["dilation"]) == 1 and counted in (padding, [[0, 0]] * rank):
        inside = counted != padding or not count_include_pad
        settings = {**plain, "count_include_pad": not inside}
        return window.finish(apply(where, (x,), settings))
    return window.finish(apply("mean_pool", (x,), {**attributes, "counted": counted}, where))


def require_divisor(divisor: Any, where: str) -> None:
    """Refuse a divisor that is no whole number, or 0."""
    number = isinstance(divisor, (int, np.integer)) and not isinstance(divisor, bool)
    if divisor is not None and (not number or divisor == 0):
        raise OptionError(
            f"{where}: expected divisor_override to be a whole number other than 0; got "
            f"divisor_override={divisor!r}."
        )


def sum_pool(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    *,
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """The sum of each window; the arguments are those of `max_pool2d`, outside the image 0.

    Args:
        input: (n, channels, …) with one to three axes of space.
    Returns:
        (n, channels, …), a number for each window.

    >>> sum_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2).ravel()
    array([10., 18., 42., 50.], dtype=float32)
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    x, attributes = window.prepare("sum_pool", rank_of(input, "sum_pool"), input)
    return cast(T, window.finish(apply("sum_pool", (x,), {**attributes, "divisor": 1.0})))


def gaussian_pool(
    input: T,
    kernel_size: Sizes,
    sigma: float | Sequence[float],
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    *,
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """The mean of each window, weighed by the distance from its middle.

    `y = Σ w·x / Σ w` over the window, `w = exp(−d²/2σ²)` with d in pixels.

    Args:
        input: (n, channels, …) with one to three axes of space.
        sigma: σ in pixels, one number or one for each axis of space.
        count_include_pad: whether the padding has weights in the divisor, too.
        kernel_size, stride, padding, dilation, ceil_mode, strict, data_format: as for
            `max_pool2d`.
    Returns:
        (n, channels, …), a number for each window.

    >>> gaussian_pool(np.array([[[0.0, 1, 0]]]), 3, sigma=1.0).round(4)
    array([[[0.4519]]], dtype=float32)
    """
    where = "gaussian_pool"
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    rank = rank_of(input, where)
    x, attributes = window.prepare(where, rank, input)
    attributes["sigma"] = sigmas(sigma, rank, where)
    declared = window.declared(where, rank, input)
    attributes["counted"] = declared if count_include_pad else [[0, 0]] * rank
    return cast(T, window.finish(apply(where, (x,), attributes)))


# ---- norms -------------------------------------------------------------------------------------


def lp_pool(
    input: T,
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
) -> T:
    """The p-norm of each window, `(Σ x^p)^(1/p)`; with `absolute`, `(Σ |x|^p)^(1/p)`.

    The two are equal for even p. PyTorch takes no absolute values, so that a negative number has
    no power of p = 1.5 (NaN) and a negative sum no root; ONNX takes them. Where the sum is 0 the
    gradient is 0.

    Args:
        input: (n, channels, …) with one to three axes of space.
        norm_type: p, above 0; ∞ for the largest absolute value, −∞ for the smallest.
        absolute: whether absolute values are taken.
        ceil_mode: round the number of windows up. As in PyTorch the sum of a window that reaches
            over the edge is scaled up to the whole window; not so with `absolute`.
        kernel_size, stride, padding, dilation, strict, data_format: as for `max_pool2d`.
    Returns:
        (n, channels, …), a number for each window.

    >>> lp_pool(np.array([[[3.0, 4.0, -6.0, 8.0]]]), 2, 2)
    array([[[ 5., 10.]]], dtype=float32)
    """
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    rank = rank_of(input, "lp_pool")
    return cast(T, norm_pool("lp_pool", rank, input, norm_type, absolute, window))


def require_norm(norm_type: Any, where: str) -> None:
    """Refuse a norm that is neither above 0 nor −∞."""
    number = isinstance(norm_type, (int, float)) and not isinstance(norm_type, bool)
    if not number or math.isnan(norm_type) or not (norm_type > 0 or math.isinf(norm_type)):
        raise OptionError(
            f"{where}: expected norm_type above 0, or −∞; got norm_type={norm_type!r}."
        )


def norm_pool(
    where: str, rank: int, input: Any, norm_type: float, absolute: bool, window: Window
) -> Any:
    """The p-norm of each window over `rank` axes of space."""
    require_norm(norm_type, where)
    if math.isinf(norm_type):
        sign = 1 if norm_type > 0 else -1
        size: Any = abs(input if isinstance(input, SymbolicTensor) else np.asarray(input))
        largest = windows_max(rank, size if sign > 0 else -size, window, False)
        return largest if sign > 0 else -largest
    x, attributes = window.prepare(where, rank, input)
    declared = window.declared(where, rank, input)
    scaled = not absolute and declared != attributes["padding"]
    attributes["counted"] = declared if scaled else None
    attributes |= {"norm": float(norm_type), "absolute": bool(absolute)}
    return window.finish(apply("lp_pool", (x,), attributes, where))


def lp_pool1d(
    input: T,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> T:
    """`lp_pool` of sequences (n, channels, length)."""
    window = Window(kernel_size, stride, ceil_mode=ceil_mode)
    return cast(T, norm_pool("lp_pool1d", 1, input, norm_type, False, window))


def lp_pool2d(
    input: T,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> T:
    """`lp_pool` of images (n, channels, ih, iw)."""
    window = Window(kernel_size, stride, ceil_mode=ceil_mode)
    return cast(T, norm_pool("lp_pool2d", 2, input, norm_type, False, window))


def lp_pool3d(
    input: T,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> T:
    """`lp_pool` of volumes (n, channels, id, ih, iw)."""
    window = Window(kernel_size, stride, ceil_mode=ceil_mode)
    return cast(T, norm_pool("lp_pool3d", 3, input, norm_type, False, window))


# ---- chance ------------------------------------------------------------------------------------


def stochastic_pool(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    training: bool = True,
    *,
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """In training one number of each window, drawn in proportion; else the mean of such draws.

    With activations `a = max(x, 0)` each number's chance is `a/Σ a`; otherwise `Σ a·x / Σ a`. A
    window without a positive number gives 0.

    On arrays the numbers come from the library's generator (`striate.manual_seed`). In a traced
    network that `fit` trains they depend on the seed, the step and the element only.

    Args:
        input: (n, channels, …) with one to three axes of space; after a ReLU.
        training: whether to draw.
        kernel_size, stride, padding, dilation, ceil_mode, strict, data_format: as for
            `max_pool2d`.
    Returns:
        (n, channels, …), a number for each window.
    Source: Zeiler & Fergus, Stochastic pooling for regularization of deep convolutional neural
        networks, arXiv:1301.3557.

    >>> stochastic_pool(np.array([[[1.0, 3.0, 0.0, 2.0]]]), 2, training=False)
    array([[[2.5, 2. ]]], dtype=float32)
    """
    where = "stochastic_pool"
    window = Window(kernel_size, stride, padding, dilation, ceil_mode, strict, data_format)
    x, attributes = window.prepare(where, rank_of(input, where), input)
    if not training:
        return cast(T, window.finish(apply("expected_pool", (x,), attributes, where)))
    from striate.formula.operations import find_operation

    shape = find_operation("expected_pool").shape(attributes, [sample_shape(x, where)])
    return cast(T, window.finish(apply(where, (x, uniform(x, shape, where)), attributes)))
