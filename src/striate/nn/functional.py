"""Functions with torch's names and signatures: `from striate.nn import functional as F`.

On NumPy arrays (and parameters) they compute at once and give float32 arrays. On the tensors of
a `forward` being traced they add to the graph; so one `forward` serves both. Nothing here keeps
parameters: the layers do. Convolutions, normalisation and activations have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.activation import map_attributes
from striate.formula.expression import Expr, Operand
from striate.nn.apply import T, Weight, apply, into, sample_shape
from striate.nn.arguments import (
    Sizes,
    adaptive_size,
    both_sides,
    named_pair,
    probability,
    unsupported,
)
from striate.nn.data_format import permute, transpose
from striate.nn.elementwise import (
    ADD,
    MUL,
    scalar_expression,
)
from striate.nn.execution import as_batch, drop
from striate.nn.functional_activation import (
    arctan,
    arsinh,
    binary_step,
    celu,
    elish,
    elu,
    gelu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    isrlu,
    isru,
    leaky_relu,
    logsigmoid,
    mish,
    relu,
    relu6,
    rrelu,
    scaled_tanh,
    selu,
    sigmoid,
    silu,
    softplus,
    softshrink,
    softsign,
    sqnl,
    tanh,
    tanhshrink,
    threshold,
)
from striate.nn.functional_activation_learned import (
    apl,
    brelu,
    glu,
    log_softmax,
    prelu,
    softmax,
    softmin,
    srelu,
)
from striate.nn.functional_conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    convolve1d,
    convolve2d,
    convolve3d,
)
from striate.nn.functional_local import (
    local1d,
    local2d,
    local3d,
    local_transpose1d,
    local_transpose2d,
    local_transpose3d,
    tiled_conv1d,
    tiled_conv2d,
    tiled_conv3d,
)
from striate.nn.functional_loss import (
    cross_entropy,
    focal_cross_entropy,
    multi_margin_loss,
    nll_loss,
)
from striate.nn.functional_loss_images import (
    content_loss,
    ctc_decode,
    ctc_loss,
    dice_loss,
    gram_matrix,
    jaccard_loss,
    style_loss,
    total_variation,
    tversky_loss,
)
from striate.nn.functional_loss_scalar import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    hinge_embedding_loss,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    multilabel_soft_margin_loss,
    poisson_nll_loss,
    scalar_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
    soft_margin_loss,
)
from striate.nn.functional_norm import batch_norm, local_response_norm
from striate.nn.functional_pad import center_crop, crop, pad
from striate.nn.parameter import Float32, as_float32
from striate.nn.symbol import SymbolicTensor
from striate.nn.trace import find_tracer
from striate.nn.untraceable import untraceable

__all__ = [
    "adaptive_avg_pool2d",
    "add",
    "apl",
    "arctan",
    "arsinh",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "binary_step",
    "brelu",
    "cat",
    "celu",
    "center_crop",
    "concat",
    "content_loss",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolve1d",
    "convolve2d",
    "convolve3d",
    "crop",
    "cross_entropy",
    "ctc_decode",
    "ctc_loss",
    "dice_loss",
    "dropout",
    "elish",
    "elu",
    "flatten",
    "focal_cross_entropy",
    "gelu",
    "glu",
    "gram_matrix",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "isrlu",
    "isru",
    "jaccard_loss",
    "kl_div",
    "l1_loss",
    "leaky_relu",
    "linear",
    "local1d",
    "local2d",
    "local3d",
    "local_response_norm",
    "local_transpose1d",
    "local_transpose2d",
    "local_transpose3d",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mish",
    "mse_loss",
    "mul",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "pad",
    "permute",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "scalar",
    "scalar_loss",
    "scaled_tanh",
    "selu",
    "sigmoid",
    "sigmoid_focal_loss",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "sqnl",
    "srelu",
    "style_loss",
    "tanh",
    "tanhshrink",
    "threshold",
    "tiled_conv1d",
    "tiled_conv2d",
    "tiled_conv3d",
    "total_variation",
    "transpose",
    "tversky_loss",
]

# ---- layers ----------------------------------------------------------------------------------


def linear(input: T, weight: Weight, bias: Weight | None = None) -> T:
    """`y[n,o] = bias[o] + Σ_k x[n,k]·weight[o,k]`.

    Args:
        input: (n, in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None.
    Returns:
        (n, out_features).

    >>> linear(np.ones((2, 3)), np.ones((1, 3)), np.array([1.0]))
    array([[4.],
           [4.]], dtype=float32)
    """
    inputs = (input, weight) if bias is None else (input, weight, bias)
    return cast(T, apply("linear", inputs, {}, parameters=len(inputs) - 1))


def max_pool2d(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> T:
    """The largest number of each window; the first of equals gets the gradient.

    Args:
        input: (n, channels, ih, iw).
        kernel_size: one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: −∞ on each side, at most half of the kernel.
        dilation: pixels between the taps.
        ceil_mode: round the number of windows up, as long as the last one starts in the image or
            the padding before it; the rest of it reads −∞.
    Returns:
        (n, channels, oh, ow).

    >>> max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).ravel()
    array([ 5.,  7., 13., 15.], dtype=float32)
    """
    where = "max_pool2d"
    unsupported(where, "return_indices", return_indices, "Leave it out.")
    attributes = _window(where, kernel_size, stride, padding)
    attributes["dilation"] = list(named_pair(dilation, where, "dilation"))
    if ceil_mode:
        attributes["padding"] = _rounded_up(attributes, sample_shape(input, where)[1:])
    return cast(T, apply(where, (input,), attributes))


def avg_pool2d(
    input: T,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> T:
    """The mean of each window.

    Args:
        input: (n, channels, ih, iw).
        kernel_size: one number or (vertical, horizontal).
        stride: likewise; the kernel size where None.
        padding: zeros on each side, at most half of the kernel.
        count_include_pad: divide by the whole window, or only by what lies inside the image.
    Returns:
        (n, channels, oh, ow).

    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).ravel()
    array([ 2.5,  4.5, 10.5, 12.5], dtype=float32)
    """
    where = "avg_pool2d"
    unsupported(where, "ceil_mode", ceil_mode, "Pad the input so that the windows fit.")
    unsupported(
        where, "divisor_override", divisor_override, "Multiply the result by a number instead."
    )
    attributes = _window(where, kernel_size, stride, padding)
    attributes["count_include_pad"] = bool(count_include_pad)
    return cast(T, apply(where, (input,), attributes))


def _rounded_up(attributes: dict[str, Any], image: Sequence[int]) -> list[list[int]]:
    """The padding with which the windows cover the whole image, as torch's ceil_mode counts."""
    padding = []
    for k, size in enumerate(image):
        kernel, stride = attributes["kernel"][k], attributes["stride"][k]
        before, after = attributes["padding"][k]
        reach = attributes["dilation"][k] * (kernel - 1) + 1
        last = -(-(size + before + after - reach) // stride) * stride  # where it starts
        if last >= size + before:
            last -= stride
        padding.append([before, max(after, last + reach - size - before)])
    return padding


def adaptive_avg_pool2d(input: T, output_size: int | Sequence[int | None] | None) -> T:
    """The mean of each of oh × ow windows that together cover the image.

    Window i reaches from row `⌊i·ih/oh⌋` to before row `⌈(i+1)·ih/oh⌉`.

    Args:
        input: (n, channels, ih, iw).
        output_size: (oh, ow), or one number for both; None keeps the image's size.
    Returns:
        (n, channels, oh, ow).

    >>> adaptive_avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 1)
    array([[[[7.5]]]], dtype=float32)
    """
    where = "adaptive_avg_pool2d"
    shape = sample_shape(input, where)
    if len(shape) != 3:
        raise ShapeError(
            f"{where}: expected images (n, channels, h, w); got {len(shape)} axes besides the "
            f"batch, {shape}."
        )
    sizes = adaptive_size(output_size, where)
    output = [k if given is None else given for given, k in zip(sizes, shape[1:], strict=True)]
    return cast(T, apply(where, (input,), {"output": output}))


def _window(where: str, kernel_size: Sizes, stride: Sizes | None, padding: Sizes) -> dict[str, Any]:
    kernel = named_pair(kernel_size, where, "kernel_size")
    steps = kernel if stride is None else named_pair(stride, where, "stride")
    sides = both_sides(named_pair(padding, where, "padding", 0))
    return {"kernel": list(kernel), "stride": list(steps), "padding": sides}


# ---- elementwise -----------------------------------------------------------------------------


def scalar(fn_or_expr: Callable[..., Operand] | Expr, *tensors: T) -> T:
    """Your own formula of scalars, applied to each element of tensors of one shape.

    Its gradient and its machine code follow from it.

    Args:
        fn_or_expr: a function of as many scalars as there are tensors, written with + - * / **
            and the functions of `striate.nn.scalar`; or an expression of that many variables.
        tensors: (n, …), all of one shape.
    Returns:
        (n, …).

    >>> from striate.nn.scalar import where
    >>> scalar(lambda x: where(x > 0, x, 0.1 * x), np.array([[-10.0, 2.0]]))
    array([[-1.,  2.]], dtype=float32)
    """
    e, names = scalar_expression(fn_or_expr, len(tensors), "F.scalar")
    return cast(T, apply("map", tensors, map_attributes(e, names), "scalar"))


def add(input: T, other: T | float) -> T:
    """`x + y` for tensors of one shape, or a tensor and a number."""
    if isinstance(other, (int, float, np.number)):
        return scalar(lambda x: x + float(other), input)
    return cast(T, apply("map", (input, other), ADD, "add"))


def mul(input: T, other: T | float) -> T:
    """`x · y` for tensors of one shape, or a tensor and a number."""
    if isinstance(other, (int, float, np.number)):
        return scalar(lambda x: x * float(other), input)
    return cast(T, apply("map", (input, other), MUL, "mul"))


def dropout(input: T, p: float = 0.5, training: bool = True, inplace: bool = False) -> T:
    """In training `x/(1 − p)` where a uniform number is ≥ p, else 0; otherwise x itself.

    On arrays the numbers come from the library's generator (`striate.manual_seed`). In a traced
    network that `fit` trains they depend on the seed, the step and the element only.

    Source: Srivastava et al., Dropout, Journal of Machine Learning Research 15 (2014).
    """
    p = probability(p, "dropout")
    if not training or p == 0:
        return input
    tracer = find_tracer(input)
    if tracer is not None:
        attributes = {"p": p, "site": tracer.dropout_site()}
        return into(input, tracer.apply("dropout", (input,), attributes, "dropout"), inplace)
    return into(input, drop(as_batch(input, "dropout"), p), inplace)


# ---- shape -----------------------------------------------------------------------------------


def flatten(input: T, start_dim: int = 0, end_dim: int = -1) -> T:
    """Axes `start_dim` … `end_dim` as one; `flatten(x, 1)` keeps the batch.

    >>> flatten(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    if isinstance(input, SymbolicTensor):
        return input.flatten(start_dim, end_dim)
    x = as_float32(input, "flatten")
    first, last = _axis(start_dim, x.ndim, "flatten"), _axis(end_dim, x.ndim, "flatten")
    if last < first:
        raise ShapeError(
            f"flatten: expected start_dim <= end_dim; got {start_dim} and {end_dim} "
            f"for shape {x.shape}."
        )
    merged = int(np.prod(x.shape[first : last + 1], dtype=np.int64))
    return x.reshape(*x.shape[:first], merged, *x.shape[last + 1 :])


def _axis(dim: int, ndim: int, where: str) -> int:
    if isinstance(dim, bool) or not hasattr(dim, "__index__") or not -ndim <= dim < ndim:
        raise ShapeError(f"{where}: expected an axis from {-ndim} to {ndim - 1}; got dim={dim!r}.")
    return int(dim) % ndim


def cat(tensors: Sequence[T], dim: int = 0) -> T:
    """Join tensors along an axis; `dim=1` joins channels. Also called `concat`.

    Args:
        tensors: equal in every other axis.
        dim: the axis. A network cannot join along 0, the batch.

    >>> cat([np.zeros((1, 2, 3, 3)), np.ones((1, 4, 3, 3))], dim=1).shape
    (1, 6, 3, 3)
    """
    parts: list[Any] = list(tensors)
    if not parts:
        raise OptionError("cat: expected at least one tensor; got none.")
    symbol = next((k for k in parts if isinstance(k, SymbolicTensor)), None)
    if symbol is None:
        return cast(T, _cat_arrays([as_float32(k, "cat") for k in parts], dim))
    axis = symbol.axis(dim, "cat")
    if axis == 0:
        raise untraceable(
            "joining along axis 0 would mix the batch with itself", "Write dim=1 for channels."
        )
    return cast(T, apply("concat", parts, {"axis": axis}, "cat"))


concat = cat


def _cat_arrays(arrays: list[Float32], dim: int) -> Float32:
    axis = _axis(dim, max(1, arrays[0].ndim), "cat")
    rest = {(a.ndim, a.shape[:axis], a.shape[axis + 1 :]) for a in arrays}
    if len(rest) > 1:
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(f"cat: expected arrays equal but for axis {axis}; got shapes {shapes}.")
    return np.concatenate(arrays, axis=axis)
