"""Convolutions in `striate.nn.functional`: of sequences, images and volumes, flipped, transposed.

All that slide a window end in `slide`, which also serves the layers whose kernels are not shared:
it takes channels-last images, pads, and refuses what `strict` refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.operations import find_operation
from striate.nn.apply import T, Weight, apply
from striate.nn.arguments import Padding, Sizes, conv_padding, named_sizes, whole, window_padding
from striate.nn.data_format import channels_are_last, image_sizes, to_first, to_last
from striate.nn.functional_pad import padded
from striate.nn.parameter import Parameter
from striate.shapes import require_reached

_KERNEL = {1: "k", 2: "kh, kw", 3: "kd, kh, kw"}
_AXES = ("depth", "height", "width")
PADDING_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
    "symmetric": "symmetric",
}


@dataclass(frozen=True)
class Sliding:
    """How a window slides: the arguments that all convolutions share."""

    stride: Sizes = 1
    padding: Padding = 0
    dilation: Sizes = 1
    groups: int = 1
    padding_mode: str = "zeros"
    strict: bool = False
    data_format: str = "channels_first"


def conv2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """Cross-correlate images with kernels.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] · weight[o,c,p,q]`

    Args:
        input: (n, in_channels, ih, iw).
        weight: (out_channels, in_channels/groups, kh, kw).
        bias: (out_channels,), or None.
        stride: pixels, one number or (vertical, horizontal).
        padding: pixels on each side: one number, (vertical, horizontal), or ((top, bottom),
            (left, right)); "valid" for none; "same" for an output of size ⌈size/stride⌉, an odd
            pixel at the end ("same_lower": at the start); "full" for every place where kernel and
            image meet, d·(k − 1) on each side. torch has no "same" with a stride, no "full" and no
            uneven sides.
        dilation: pixels between the taps, 1 = dense.
        groups: independent groups of channels.
        padding_mode: what is read outside: "zeros", "reflect", "replicate", "circular" or
            "symmetric" (see `pad`).
        strict: refuse sizes at which the stride leaves rows or columns unread.
        data_format: "channels_first", or "channels_last" for images (n, ih, iw, in_channels) and
            an output (n, oh, ow, out_channels). The weight is the same.
    Returns:
        (n, out_channels, oh, ow), oh = ⌊(ih + 2·ph − dh·(kh − 1) − 1)/sh⌋ + 1.
    Raises:
        ShapeError: channels disagree, the kernel does not fit, or `strict` refuses.
        OptionError: an argument is out of range.
    Source: Dumoulin & Visin, A guide to convolution arithmetic, arXiv:1603.07285.

    >>> x, w = np.ones((1, 1, 4, 4)), np.ones((2, 1, 3, 3))
    >>> conv2d(x, w, padding=1)[0, :, 0, 0]
    array([4., 4.], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("conv2d", 2, input, weight, bias, sliding)


def conv1d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """Cross-correlate sequences with kernels; the arguments are those of `conv2d`.

    `y[n,o,i] = bias[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · weight[o,c,p]`

    Args:
        input: (n, in_channels, length).
        weight: (out_channels, in_channels/groups, k).
    Returns:
        (n, out_channels, out length).

    >>> conv1d(np.arange(5.0).reshape(1, 1, 5), np.ones((1, 1, 3)))
    array([[[3., 6., 9.]]], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("conv1d", 1, input, weight, bias, sliding)


def conv3d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """Cross-correlate volumes with kernels; the arguments are those of `conv2d`.

    `y[n,o,k,i,j] = bias[o] + Σ_{c,r,p,q} x[n, c, k·s + r·d − P, …] · weight[o,c,r,p,q]`

    Args:
        input: (n, in_channels, id, ih, iw).
        weight: (out_channels, in_channels/groups, kd, kh, kw).
    Returns:
        (n, out_channels, od, oh, ow).

    >>> conv3d(np.ones((1, 1, 4, 4, 4)), np.ones((2, 1, 3, 3, 3))).shape
    (1, 2, 2, 2, 2)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("conv3d", 3, input, weight, bias, sliding)


def convolve2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """Convolve images with kernels as mathematics does: with the kernels flipped.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, i·sh + p·dh − ph, j·sw + q·dw − pw] ·
    weight[o, c, kh−1−p, kw−1−q]`

    Equal to `conv2d` with the kernels turned by 180°. With padding="full" the operation commutes
    and polynomials multiply. The arguments are those of `conv2d`; not in torch.

    Returns:
        (n, out_channels, oh, ow).

    >>> x = np.array([[1.0, 2.0]]).reshape(1, 1, 1, 2)  # 1 + 2t
    >>> convolve2d(x, np.array([[3.0, 4.0]]).reshape(1, 1, 1, 2), padding="full").ravel()
    array([ 3., 10.,  8.], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("true_conv2d", 2, input, weight, bias, sliding)


def convolve1d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """Convolve sequences with flipped kernels; the arguments are those of `conv2d`.

    `y[n,o,i] = bias[o] + Σ_{c,p} x[n, c, i·s + p·d − P] · weight[o, c, k−1−p]`

    >>> convolve1d(np.array([[[1.0, 0, 0, 2]]]), np.array([[[1.0, 2, 3]]]), padding="full")
    array([[[1., 2., 3., 2., 4., 6.]]], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("true_conv1d", 1, input, weight, bias, sliding)


def convolve3d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    strict: bool = False,
    data_format: str = "channels_first",
) -> T:
    """Convolve volumes with flipped kernels; the arguments are those of `conv2d`.

    `y[n,o,k,i,j] = bias[o] + Σ_{c,r,p,q} x[n, c, k·s + r·d − P, …] · weight[o, c, kd−1−r, …]`

    >>> convolve3d(np.ones((1, 1, 4, 4, 4)), np.ones((2, 1, 3, 3, 3))).shape
    (1, 2, 2, 2, 2)
    """
    sliding = Sliding(stride, padding, dilation, groups, padding_mode, strict, data_format)
    return slide("true_conv3d", 3, input, weight, bias, sliding)


def conv_transpose2d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    data_format: str = "channels_first",
) -> T:
    """The transpose of `conv2d`: each pixel of the input lays the kernel into the output.

    `y[n,o,i,j] = bias[o] + Σ_{c,p,q} x[n, c, (i + ph − p·dh)/sh, (j + pw − q·dw)/sw] ·
    weight[c,o,p,q]`, over whole places only.

    Args:
        input: (n, in_channels, ih, iw).
        weight: (in_channels, out_channels/groups, kh, kw).
        bias: (out_channels,), or None.
        stride: pixels between the kernels in the output, one number or (vertical, horizontal).
        padding: pixels cut off each side of the output, likewise, or ((top, bottom), (left,
            right)).
        output_padding: pixels added at the end, below the stride or the dilation.
        groups: independent groups of channels.
        dilation: pixels between the taps.
        data_format: "channels_first", or "channels_last" for images (n, ih, iw, in_channels) and
            an output (n, oh, ow, out_channels).
    Returns:
        (n, out_channels, oh, ow), oh = (ih − 1)·sh − 2·ph + dh·(kh − 1) + output_padding + 1.
    Source: Dumoulin & Visin, A guide to convolution arithmetic, arXiv:1603.07285.

    >>> conv_transpose2d(np.ones((1, 3, 5, 5)), np.ones((3, 2, 2, 2)), stride=2).shape
    (1, 2, 10, 10)
    """
    sliding = Sliding(stride, padding, dilation, groups, data_format=data_format)
    return lay("conv_transpose2d", 2, input, weight, bias, sliding, output_padding)


def conv_transpose1d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    data_format: str = "channels_first",
) -> T:
    """The transpose of `conv1d`; the arguments are those of `conv_transpose2d`.

    `y[n,o,i] = bias[o] + Σ_{c,p} x[n, c, (i + P − p·d)/s] · weight[c,o,p]`

    Args:
        input: (n, in_channels, length).
        weight: (in_channels, out_channels/groups, k).
    Returns:
        (n, out_channels, out length).

    >>> conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0]]]), stride=2)
    array([[[ 1., 10.,  2., 20.]]], dtype=float32)
    """
    sliding = Sliding(stride, padding, dilation, groups, data_format=data_format)
    return lay("conv_transpose1d", 1, input, weight, bias, sliding, output_padding)


def conv_transpose3d(
    input: T,
    weight: Weight,
    bias: Weight | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    data_format: str = "channels_first",
) -> T:
    """The transpose of `conv3d`; the arguments are those of `conv_transpose2d`.

    `y[n,o,k,i,j] = bias[o] + Σ_{c,r,p,q} x[n, c, (k + P − r·d)/s, …] · weight[c,o,r,p,q]`

    Args:
        input: (n, in_channels, id, ih, iw).
        weight: (in_channels, out_channels/groups, kd, kh, kw).
    Returns:
        (n, out_channels, od, oh, ow).

    >>> conv_transpose3d(np.ones((1, 3, 2, 5, 5)), np.ones((3, 2, 2, 2, 2)), stride=2).shape
    (1, 2, 4, 10, 10)
    """
    sliding = Sliding(stride, padding, dilation, groups, data_format=data_format)
    return lay("conv_transpose3d", 3, input, weight, bias, sliding, output_padding)


# ---- what they share ---------------------------------------------------------------------------


def slide(
    op: str,
    rank: int,
    input: T,
    weight: Weight,
    bias: Weight | None,
    sliding: Sliding,
) -> T:
    """Apply an operation that slides a window over `rank` axes of space."""
    last = channels_are_last(sliding.data_format, op)
    mode = padding_mode_of(sliding.padding_mode, op)
    kernel = require_kernel(op, weight, rank)
    x = to_first(input, rank, op) if last else input
    image = image_sizes(x, rank, op)
    stride = named_sizes(sliding.stride, rank, op, "stride")
    dilation = named_sizes(sliding.dilation, rank, op, "dilation")
    sides = conv_padding(sliding.padding, op, kernel, stride, dilation, image)
    if sliding.strict:
        names = ("length",) if rank == 1 else _AXES[-rank:]
        rows = zip(names, image, kernel, stride, map(_two, sides), dilation, strict=True)
        for axis in rows:
            require_reached(op, *axis)
    if mode != "constant" and any(map(any, sides)):
        x, sides = padded(x, sides, mode), [[0, 0]] * rank
    attributes = {
        "stride": list(stride),
        "padding": sides,
        "dilation": list(dilation),
        "groups": whole(sliding.groups, op, "groups"),
    }
    y = _applied(op, x, weight, bias, attributes)
    return to_last(y) if last else y


def lay(
    op: str,
    rank: int,
    input: T,
    weight: Weight,
    bias: Weight | None,
    sliding: Sliding,
    output_padding: Sizes,
) -> T:
    """Apply a transposed operation: each number of the input lays a kernel into the output."""
    last = channels_are_last(sliding.data_format, op)
    require_kernel(op, weight, rank)
    x = to_first(input, rank, op) if last else input
    image_sizes(x, rank, op)
    attributes = {
        "stride": list(named_sizes(sliding.stride, rank, op, "stride")),
        "padding": [_ends(side) for side in transposed_padding(sliding.padding, op, rank)],
        "output_padding": list(named_sizes(output_padding, rank, op, "output_padding", 0)),
        "dilation": list(named_sizes(sliding.dilation, rank, op, "dilation")),
        "groups": whole(sliding.groups, op, "groups"),
    }
    y = _applied(op, x, weight, bias, attributes)
    return to_last(y) if last else y


def transposed_padding(padding: Padding, where: str, rank: int) -> tuple[Any, ...]:
    """What is cut off the output of a transposed convolution: `rank` numbers or pairs."""
    if isinstance(padding, str):
        raise OptionError(
            f"{where}: expected padding in numbers, which are cut off the output; got "
            f"padding={padding!r}."
        )
    checked: tuple[Any, ...] = window_padding(padding, where, rank)
    return checked


def padding_mode_of(padding_mode: str, where: str) -> str:
    """The mode of the operation "pad" that torch's `padding_mode` means.

    Raises:
        OptionError: there is no such mode.
    """
    if padding_mode not in PADDING_MODES:
        raise OptionError(
            f"{where}: expected padding_mode {', '.join(map(repr, PADDING_MODES))}; got "
            f"padding_mode={padding_mode!r}."
        )
    return PADDING_MODES[padding_mode]


def require_kernel(op: str, weight: Any, rank: int) -> tuple[int, ...]:
    """The sizes of a weight's kernels along the axes of space."""
    shape = np.shape(weight.data if isinstance(weight, Parameter) else weight)
    form = weight_form(op, rank)
    if len(shape) != form.count(",") + 1:
        raise ShapeError(f"{op}: expected a weight ({form}); got shape={shape}.")
    operation: Any = find_operation(op)
    return tuple(operation.bank(shape)[2:])


def weight_form(op: str, rank: int) -> str:
    """The axes of an operation's weight, as docs name them.

    >>> weight_form("local2d", 2)
    'out_channels, in_channels/groups, kh, kw, oh, ow'
    """
    operation: Any = find_operation(op)
    channels = f"{operation.weight_axes}, {_KERNEL[rank]}"
    if op.startswith("tiled"):
        return f"{_KERNEL[rank].replace('k', 't')}, {channels}"
    if op.startswith("local"):
        at = "i" if "transpose" in op else "o"
        places = {1: f"{at}l"}.get(rank, _KERNEL[rank].replace("k", at))
        return f"{channels}, {places}"
    return channels


def _applied(op: str, x: T, weight: Weight, bias: Weight | None, attributes: dict[str, Any]) -> T:
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return cast(T, apply(op, inputs, attributes, parameters=len(inputs) - 1))


def _two(side: list[int]) -> tuple[int, int]:
    return side[0], side[1]


def _ends(side: Any) -> list[int]:
    return [side, side] if isinstance(side, int) else list(side)
