"""Resizing and rearranging in `striate.nn.functional`: interpolation, shuffles, patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError, suggest
from striate.nn.apply import T, apply, sample_shape
from striate.nn.arguments import Sizes, both_sides, named_sizes, whole
from striate.nn.data_format import channels_are_last, to_first, to_last
from striate.nn.pool_windows import adaptive
from striate.nn.symbol import SymbolicTensor, at_line

# torch's mode -> the operation's, and the axes of space that it is for
MODES: dict[str, tuple[str, tuple[int, ...]]] = {
    "nearest": ("nearest", (1, 2, 3)),
    "nearest-exact": ("nearest-exact", (1, 2, 3)),
    "linear": ("linear", (1,)),
    "bilinear": ("linear", (2,)),
    "trilinear": ("linear", (3,)),
    "bicubic": ("cubic", (2,)),
    "area": ("area", (1, 2, 3)),
}


def interpolate(
    input: T,
    size: Sizes | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
    *,
    data_format: str = "channels_first",
) -> T:
    """Sequences, images or volumes in another size, by interpolation.

    `y[n,c,i,j] = Σ_{p,q} x[n, c, rows[i,p], columns[j,q]] · wr[i,p] · wc[j,q]` with 1 place an
    axis for nearest, 2 for linear and 4 for cubic modes. Output i lies at `(i + ½)·step − ½` in
    the input, step = input/output; with `align_corners` at `i·(input − 1)/(output − 1)`.

    Args:
        input: (n, channels, …) with one to three axes of space.
        size: of the output, one number or one for each axis of space.
        scale_factor: instead, how many times as large the output is (rounded down); the step is
            then 1/scale_factor unless `recompute_scale_factor`.
        mode: "nearest", "nearest-exact", "area"; "linear", "bilinear" and "trilinear" for one, two
            and three axes of space; "bicubic" for two.
        align_corners: whether the first and last places coincide (else their outer edges do); for
            the linear and cubic modes.
        recompute_scale_factor: take the step from the sizes though a factor is given.
        antialias: widen the weights where an image shrinks; for "bilinear" and "bicubic".
        data_format: "channels_first", or "channels_last" for (n, …, channels).
    Returns:
        (n, channels, …).
    Raises:
        OptionError: arguments that do not go together, as in PyTorch.

    >>> interpolate(np.array([[[0.0, 3.0]]]), size=4, mode="linear", align_corners=True)
    array([[[0., 1., 2., 3.]]], dtype=float32)
    """
    where = "interpolate"
    last = channels_are_last(data_format, where)
    x = to_first(input, len(sample_shape(input, where)) - 1, where) if last else input
    image = sample_shape(x, where)[1:]
    kind = _mode(mode, len(image), where)
    if kind in ("nearest", "nearest-exact", "area") and align_corners is not None:
        raise OptionError(
            f"{where}: expected align_corners only with the linear and cubic modes; got "
            f"mode={mode!r}, align_corners={align_corners!r}. Leave it out."
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise OptionError(
            f"{where}: expected antialias only with mode 'bilinear' or 'bicubic'; got "
            f"mode={mode!r}. Use mode='area' to shrink, or leave it out."
        )
    recompute = bool(recompute_scale_factor)
    output, steps = _target(where, image, size, scale_factor, recompute or kind == "area")
    if kind == "area":
        y: Any = adaptive("adaptive_avg_pool", len(image), x, output, "channels_first")
        return cast(T, to_last(y) if last else y)
    attributes = {
        "output": output,
        "mode": kind,
        "steps": steps,
        "align_corners": bool(align_corners),
        "antialias": bool(antialias),
    }
    y = apply("resize", (x,), attributes, where)
    return cast(T, to_last(y) if last else y)


def _mode(mode: str, rank: int, where: str) -> str:
    if mode not in MODES:
        if mode == "lanczos":
            raise OptionError(f"{where}: mode='lanczos' is not supported. Use 'bicubic'.")
        raise OptionError(f"{where}: unknown mode {mode!r}. {suggest(str(mode), MODES)}")
    kind, ranks = MODES[mode]
    if rank not in ranks:
        fitting = [k for k, (_, own) in MODES.items() if rank in own]
        if not fitting:
            raise ShapeError(
                f"{where}: expected an input (n, channels, …) with one to three axes of space; "
                f"got {rank} of them{at_line()}."
            )
        raise OptionError(
            f"{where}: expected a mode for {rank} axes of space, one of "
            f"{', '.join(map(repr, fitting))}; got mode={mode!r}."
        )
    return kind


def _target(
    where: str,
    image: tuple[int, ...],
    size: Sizes | None,
    scale_factor: float | Sequence[float] | None,
    recompute: bool,
) -> tuple[list[int], list[float] | None]:
    """The sizes of the output, and the steps where they are not input over output."""
    if (size is None) == (scale_factor is None):
        raise OptionError(
            f"{where}: expected either size or scale_factor; got size={size!r}, "
            f"scale_factor={scale_factor!r}."
        )
    rank = len(image)
    if size is not None:
        return list(named_sizes(size, rank, where, "size")), None
    factors = scale_factors(scale_factor, rank, where)
    output = [int(n * factor) for n, factor in zip(image, factors, strict=True)]
    if min(output) < 1:
        raise ShapeError(
            f"{where}: expected an output of at least 1 along every axis; got {tuple(output)}, "
            f"{scale_factor} times {image}{at_line()}. Use a larger scale_factor, or size."
        )
    return output, None if recompute else [1 / factor for factor in factors]


def scale_factors(value: Any, rank: int, where: str) -> list[float]:
    """How many times as large the output is along each axis of space."""
    parts = list(value) if isinstance(value, Sequence) else [value] * rank
    numbers = all(isinstance(k, (int, float, np.number)) and not isinstance(k, bool) for k in parts)
    if len(parts) != rank or not numbers or not all(0 < k < math.inf for k in parts):
        raise OptionError(
            f"{where}: expected scale_factor above 0, one number or {rank}; got "
            f"scale_factor={value!r}."
        )
    return [float(k) for k in parts]


# ---- shuffles ----------------------------------------------------------------------------------


def pixel_shuffle(input: T, upscale_factor: int) -> T:
    """r² channels of a place become its r × r finer places.

    `y[n, c, h·r + a, w·r + b] = x[n, c·r² + a·r + b, h, w]`

    Args:
        input: (n, channels·r², h, w); with one or three axes of space channels·r or channels·r³.
        upscale_factor: r.
    Returns:
        (n, channels, h·r, w·r).
    Source: Shi et al., arXiv:1609.05158.

    >>> pixel_shuffle(np.arange(4.0).reshape(1, 4, 1, 1), 2)
    array([[[[0., 1.],
             [2., 3.]]]], dtype=float32)
    """
    factor = whole(upscale_factor, "pixel_shuffle", "upscale_factor")
    return cast(T, apply("pixel_shuffle", (input,), {"factor": factor}))


def pixel_unshuffle(input: T, downscale_factor: int) -> T:
    """The reverse of `pixel_shuffle`: blocks of r × r places become channels.

    >>> pixel_unshuffle(np.zeros((1, 2, 6, 6)), 3).shape
    (1, 18, 2, 2)
    """
    factor = whole(downscale_factor, "pixel_unshuffle", "downscale_factor")
    return cast(T, apply("pixel_unshuffle", (input,), {"factor": factor}))


def channel_shuffle(input: T, groups: int) -> T:
    """Channels dealt out anew, so that each group gets some of every other.

    `y[n, k·g + m, …] = x[n, m·(channels/g) + k, …]`

    Source: Zhang et al., ShuffleNet, arXiv:1707.01083.

    >>> channel_shuffle(np.arange(4.0).reshape(1, 4), 2)
    array([[0., 2., 1., 3.]], dtype=float32)
    """
    settings = {"groups": whole(groups, "channel_shuffle", "groups")}
    return cast(T, apply("channel_shuffle", (input,), settings))


# ---- windows as columns ------------------------------------------------------------------------


def unfold(
    input: T, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> T:
    """Every window as a column of numbers (im2col).

    `y[n, (c·kh + p)·kw + q, i·ow + j] = x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw]`

    Args:
        input: (n, channels, …) with one to three axes of space.
        kernel_size, dilation, padding, stride: one number or one for each axis of space.
    Returns:
        (n, channels·kh·kw, windows).

    >>> unfold(np.arange(4.0).reshape(1, 1, 4), 2)
    array([[[0., 1., 2.],
            [1., 2., 3.]]], dtype=float32)
    """
    rank = len(sample_shape(input, "unfold")) - 1
    settings = _columns("unfold", max(rank, 1), kernel_size, dilation, padding, stride)
    return cast(T, apply("unfold", (input,), settings))


def fold(
    input: T,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> T:
    """Columns laid back as windows, overlaps added up: the transpose of `unfold`.

    Args:
        input: (n, channels·kh·kw, windows).
        output_size: of the image, (h, w); one number for both.
        kernel_size, dilation, padding, stride: those of the windows.
    Returns:
        (n, channels, h, w), as many axes of space as the sizes have; two for single numbers.

    >>> fold(np.ones((1, 4, 4)), (3, 3), 2)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]], dtype=float32)
    """
    where = "fold"
    given = (output_size, kernel_size, dilation, padding, stride)
    rank = next((len(k) for k in given if isinstance(k, Sequence)), 2)
    settings = _columns(where, rank, kernel_size, dilation, padding, stride)
    output = named_sizes(output_size, rank, where, "output_size")
    along = zip(
        output, *(settings[k] for k in ("kernel", "stride", "padding", "dilation")), strict=True
    )
    counts: list[int] = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, (p, _), d in along]
    shape: tuple[int, ...] = sample_shape(input, where)
    if len(shape) != 2 or shape[1] != math.prod(counts):
        raise ShapeError(
            f"{where}: expected an input (n, channels·{math.prod(settings['kernel'])}, "
            f"{math.prod(counts)}), a column for each of {'·'.join(map(str, counts))} windows; got "
            f"shape={('N', *shape)}{at_line()}."
        )
    images: Any
    if isinstance(input, SymbolicTensor):
        images = input.view(-1, shape[0], *counts)
    else:
        images = np.asarray(input, np.float32).reshape(-1, shape[0], *counts)
    return cast(T, apply(where, (images,), {**settings, "output": list(output)}))


def _columns(
    where: str, rank: int, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> dict[str, Any]:
    return {
        "kernel": list(named_sizes(kernel_size, rank, where, "kernel_size")),
        "stride": list(named_sizes(stride, rank, where, "stride")),
        "padding": both_sides(named_sizes(padding, rank, where, "padding", 0)),
        "dilation": list(named_sizes(dilation, rank, where, "dilation")),
    }
