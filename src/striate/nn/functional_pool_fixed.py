"""Pooling in `striate.nn.functional` that is not over windows at fixed steps.

Adaptive, fractional and global pooling, pyramids, unpooling, groups of channels, learned regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError
from striate.nn.apply import T, apply, sample_shape
from striate.nn.arguments import Sizes, whole
from striate.nn.functional_pool import norm_pool, require_norm
from striate.nn.pool_windows import (
    Window,
    adaptive,
    fractional_starts,
    rank_of,
    require_choice,
    unpool_attributes,
    with_indices,
)
from striate.nn.symbol import SymbolicTensor


def fractional_max_pool2d(
    input: T,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """The largest number of each of oh × ow windows that begin at drawn places.

    Window i begins at `⌊(i + u)·a⌋ − ⌊u·a⌋` with `a = (ih − kh)/(oh − 1)` and one u from [0, 1)
    for each axis, the last one at ih − kh. All images and channels of a call share the windows
    (PyTorch draws u for each).

    Args:
        input: (n, channels, ih, iw).
        kernel_size: one number or (vertical, horizontal).
        output_size: (oh, ow), or one number for both.
        output_ratio: instead, the share of the image's size that the output has, from 0 to 1.
        return_indices: also give where the maxima are, as `max_pool2d` does.
        _random_samples: the numbers u, (…, 2), horizontal first as in PyTorch; None draws them
            from the library's generator: on arrays at each call, in a network when it is traced.
            The layer draws them once, when it is made.
    Returns:
        (n, channels, oh, ow), with `return_indices` a pair of these.
    Source: Graham, Fractional max-pooling, arXiv:1412.6071.

    >>> fractional_max_pool2d(np.ones((1, 1, 9, 9)), 2, output_ratio=0.6).shape
    (1, 1, 5, 5)
    """
    sizes = (output_size, output_ratio)
    return windows_fractional(2, input, kernel_size, sizes, return_indices, _random_samples)


def fractional_max_pool3d(
    input: T,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """`fractional_max_pool2d` of volumes (n, channels, id, ih, iw)."""
    sizes = (output_size, output_ratio)
    return windows_fractional(3, input, kernel_size, sizes, return_indices, _random_samples)


def windows_fractional(
    rank: int,
    input: Any,
    kernel_size: Sizes,
    sizes: tuple[Any, Any],
    return_indices: bool,
    samples: Any,
) -> Any:
    """Fractional max pooling over `rank` axes of space; sizes: output_size and output_ratio."""
    where = f"fractional_max_pool{rank}d"
    attributes = fractional_starts(where, rank, input, kernel_size, sizes, samples)
    y = apply("fractional_max_pool", (input,), attributes, where)
    if not return_indices:
        return y
    return with_indices(y, apply("fractional_max_pool_indices", (input,), attributes))


# ---- a fixed number of windows -----------------------------------------------------------------


def adaptive_avg_pool2d(input: T, output_size: Any, *, data_format: str = "channels_first") -> T:
    """The mean of each of oh × ow windows that together cover the image.

    Window i reaches from row `⌊i·ih/oh⌋` to before row `⌈(i+1)·ih/oh⌉`.

    Args:
        input: (n, channels, ih, iw).
        output_size: (oh, ow), or one number for both; None keeps the image's size.
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Returns:
        (n, channels, oh, ow).

    >>> adaptive_avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 1)
    array([[[[7.5]]]], dtype=float32)
    """
    return cast(T, adaptive("adaptive_avg_pool", 2, input, output_size, data_format))


def adaptive_avg_pool1d(input: T, output_size: Any, *, data_format: str = "channels_first") -> T:
    """`adaptive_avg_pool2d` of sequences (n, channels, length).

    >>> adaptive_avg_pool1d(np.arange(5.0).reshape(1, 1, 5), 2)
    array([[[1., 3.]]], dtype=float32)
    """
    return cast(T, adaptive("adaptive_avg_pool", 1, input, output_size, data_format))


def adaptive_avg_pool3d(input: T, output_size: Any, *, data_format: str = "channels_first") -> T:
    """`adaptive_avg_pool2d` of volumes (n, channels, id, ih, iw)."""
    return cast(T, adaptive("adaptive_avg_pool", 3, input, output_size, data_format))


def adaptive_max_pool2d(
    input: T,
    output_size: Any,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
) -> Any:
    """The largest number of each of oh × ow windows that together cover the image.

    Window i reaches from row `⌊i·ih/oh⌋` to before row `⌈(i+1)·ih/oh⌉`.

    Args:
        input: (n, channels, ih, iw).
        output_size: (oh, ow), or one number for both; None keeps the image's size.
        return_indices: also give where the maxima are, as `max_pool2d` does.
        data_format: "channels_first", or "channels_last" for (n, ih, iw, channels).
    Returns:
        (n, channels, oh, ow), with `return_indices` a pair of these.

    >>> adaptive_max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), (1, 2))
    array([[[[13., 15.]]]], dtype=float32)
    """
    return adaptive("adaptive_max_pool", 2, input, output_size, data_format, return_indices)


def adaptive_max_pool1d(
    input: T,
    output_size: Any,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
) -> Any:
    """`adaptive_max_pool2d` of sequences (n, channels, length)."""
    return adaptive("adaptive_max_pool", 1, input, output_size, data_format, return_indices)


def adaptive_max_pool3d(
    input: T,
    output_size: Any,
    return_indices: bool = False,
    *,
    data_format: str = "channels_first",
) -> Any:
    """`adaptive_max_pool2d` of volumes (n, channels, id, ih, iw)."""
    return adaptive("adaptive_max_pool", 3, input, output_size, data_format, return_indices)


def global_avg_pool(input: T, *, data_format: str = "channels_first") -> T:
    """The mean of each channel: (n, channels, …) gives (n, channels, 1, …).

    >>> global_avg_pool(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[1.5]]]], dtype=float32)
    """
    rank = rank_of(input, "global_avg_pool")
    return cast(T, adaptive("adaptive_avg_pool", rank, input, 1, data_format))


def global_max_pool(input: T, *, data_format: str = "channels_first") -> T:
    """The largest number of each channel: (n, channels, …) gives (n, channels, 1, …).

    >>> global_max_pool(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[3.]]]], dtype=float32)
    """
    rank = rank_of(input, "global_max_pool")
    return cast(T, adaptive("adaptive_max_pool", rank, input, 1, data_format))


def global_lp_pool(input: T, norm_type: float = 2.0) -> T:
    """The p-norm of each channel, `(Σ |x|^p)^(1/p)`: (n, channels, …) gives (n, channels, 1, …).

    >>> global_lp_pool(np.array([[[3.0, -4.0]]]))
    array([[[5.]]], dtype=float32)
    """
    where = "global_lp_pool"
    window = Window(sample_shape(input, where)[1:])
    return cast(T, norm_pool(where, rank_of(input, where), input, norm_type, True, window))


def spatial_pyramid_pool(input: T, levels: Sequence[int] = (1, 2, 4), mode: str = "max") -> T:
    """Adaptive pools of several sizes, one after another in one row: images of any size fit it.

    Level k cuts the image into k × k windows; level 2 alone is a summary of each quadrant.

    Args:
        input: (n, channels, …) with one to three axes of space.
        levels: windows along each axis, level by level.
        mode: "max" or "avg".
    Returns:
        (n, channels·Σ k²); level by level, in each channel by channel.
    Source: He et al., Spatial pyramid pooling in deep convolutional networks, arXiv:1406.4729.

    >>> spatial_pyramid_pool(np.zeros((2, 3, 7, 9))).shape
    (2, 63)
    """
    where = "spatial_pyramid_pool"
    require_choice(mode, ("max", "avg"), where, "mode")
    sizes = [whole(k, where, "levels") for k in levels]
    if not sizes:
        raise OptionError(f"{where}: expected at least one level; got levels={levels!r}.")
    from striate.nn.functional import cat, flatten

    rank = rank_of(input, where)
    name = f"adaptive_{mode}_pool"
    parts = [flatten(adaptive(name, rank, input, k, "channels_first"), 1) for k in sizes]
    return cast(T, parts[0] if len(parts) == 1 else cat(parts, dim=1))


# ---- back again --------------------------------------------------------------------------------


def max_unpool2d(
    input: T,
    indices: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
    *,
    dilation: Sizes = 1,
) -> T:
    """Numbers put back to where the maxima were; 0 elsewhere.

    `y[n,c].flat[indices[n,c,i,j]] = x[n,c,i,j]`. Where overlapping windows name the same place the
    largest number stays, so what max pooling and its unpooling leave is the maxima themselves.

    Args:
        input: (n, channels, oh, ow).
        indices: as `max_pool2d(…, return_indices=True)` gives them.
        kernel_size: of the pooling; a place takes only from windows that it is in.
        stride: of the pooling; the kernel size where None.
        padding: of the pooling.
        output_size: the size of the image that was pooled, (h, w) or (n, c, h, w);
            `(oh − 1)·stride − 2·padding + kernel` where None.
        dilation: of the pooling.
    Returns:
        (n, channels, h, w).
    Raises:
        DataError: on arrays, an index outside its window.
    Source: Zeiler & Fergus, Visualizing and understanding convolutional networks,
        arXiv:1311.2901.

    >>> from striate.nn.functional import max_pool2d
    >>> y, where = max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2, return_indices=True)
    >>> max_unpool2d(y, where, 2)[0, 0]
    array([[ 0.,  0.,  0.,  0.],
           [ 0.,  5.,  0.,  7.],
           [ 0.,  0.,  0.,  0.],
           [ 0., 13.,  0., 15.]], dtype=float32)
    """
    return cast(
        T, windows_unpool(2, input, indices, (kernel_size, stride, padding, dilation), output_size)
    )


def max_unpool1d(
    input: T,
    indices: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
    *,
    dilation: Sizes = 1,
) -> T:
    """`max_unpool2d` of sequences (n, channels, windows)."""
    return cast(
        T, windows_unpool(1, input, indices, (kernel_size, stride, padding, dilation), output_size)
    )


def max_unpool3d(
    input: T,
    indices: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
    *,
    dilation: Sizes = 1,
) -> T:
    """`max_unpool2d` of volumes (n, channels, od, oh, ow)."""
    return cast(
        T, windows_unpool(3, input, indices, (kernel_size, stride, padding, dilation), output_size)
    )


def windows_unpool(
    rank: int, input: Any, indices: Any, settings: tuple[Any, ...], output_size: Any
) -> Any:
    """Max unpooling over `rank` axes of space; settings: kernel, stride, padding, dilation."""
    where = f"max_unpool{rank}d"
    attributes = unpool_attributes(where, rank, input, indices, settings, output_size)
    if not isinstance(input, SymbolicTensor) and not isinstance(indices, SymbolicTensor):
        indices = np.asarray(indices, np.float32)
    return apply("max_unpool", (input, indices), attributes, where)


# ---- over channels -----------------------------------------------------------------------------


def channel_max_pool(input: T, size: int, stride: int | None = None) -> T:
    """Maxout: the largest of each group of channels, `y[n,c,…] = max_m x[n, c·stride + m, …]`.

    Args:
        input: (n, channels, …) with up to three axes of space.
        size: channels of a group.
        stride: from the first channel of a group to that of the next; `size` where None.
    Returns:
        (n, groups, …).
    Source: Goodfellow et al., Maxout networks, arXiv:1302.4389.

    >>> channel_max_pool(np.array([[1.0, 5.0, 2.0, 3.0]]), 2)
    array([[5., 3.]], dtype=float32)
    """
    return cast(T, apply("channel_max_pool", (input,), _groups("channel_max_pool", size, stride)))


def channel_avg_pool(input: T, size: int, stride: int | None = None) -> T:
    """The mean of each group of channels; the arguments are those of `channel_max_pool`.

    >>> channel_avg_pool(np.array([[1.0, 5.0, 2.0, 3.0]]), 2)
    array([[3. , 2.5]], dtype=float32)
    """
    return cast(T, apply("channel_avg_pool", (input,), _groups("channel_avg_pool", size, stride)))


def channel_lp_pool(input: T, size: int, norm_type: float = 2.0, stride: int | None = None) -> T:
    """The p-norm of each group of channels, `(Σ_m |x[n, c·stride + m, …]|^p)^(1/p)`.

    With p = 2 this is the energy of a group of filters, as of a quadrature pair. Where the sum is
    0 the gradient is 0.

    Args:
        input: (n, channels, …) with up to three axes of space.
        size: channels of a group.
        norm_type: p, above 0.
        stride: from the first channel of a group to that of the next; `size` where None.
    Returns:
        (n, groups, …).

    >>> channel_lp_pool(np.array([[3.0, 4.0, -6.0, 8.0]]), 2)
    array([[ 5., 10.]], dtype=float32)
    """
    require_norm(norm_type, "channel_lp_pool")
    settings = {**_groups("channel_lp_pool", size, stride), "norm": float(norm_type)}
    return cast(T, apply("channel_lp_pool", (input,), settings))


def _groups(where: str, size: int, stride: int | None) -> dict[str, int]:
    size = whole(size, where, "size")
    return {"size": size, "stride": size if stride is None else whole(stride, where, "stride")}


# ---- learned regions ---------------------------------------------------------------------------


def region_pool(input: T, labels: Any, mode: str = "mean") -> T:
    """One number for each region of positions, whatever the regions' forms.

    Args:
        input: (n, channels, …) with one to three axes of space.
        labels: whole numbers of the image's form: the region of each position, −1 for none.
        mode: "mean", "max" or "sum".
    Returns:
        (n, channels, regions).

    >>> region_pool(np.array([[[1.0, 2.0, 5.0]]]), [0, 1, 0], "sum")
    array([[[6., 2.]]], dtype=float32)
    """
    require_choice(mode, ("mean", "max", "sum"), "region_pool", "mode")
    attributes = {"labels": np.asarray(labels).tolist(), "how": mode}
    return cast(T, apply("region_pool", (input,), attributes))


def learned_pool(input: T, weight: Any) -> T:
    """One number for each map of weights: `y[n,c,g] = Σ_{p,q} weight[g,p,q] · x[n,c,p,q]`.

    Args:
        input: (n, channels, …) with one to three axes of space.
        weight: (regions, …), of the image's size.
    Returns:
        (n, channels, regions).
    Source: Malinowski & Fritz, Learnable pooling regions for image classification,
        arXiv:1301.3516.

    >>> learned_pool(np.ones((1, 2, 3, 3)), np.ones((4, 3, 3))).shape
    (1, 2, 4)
    """
    return cast(T, apply("learned_pool", (input, weight), {}, parameters=1))
