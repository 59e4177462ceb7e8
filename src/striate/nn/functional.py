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
from striate.nn.apply import T, Weight, apply, into
from striate.nn.arguments import (
    probability,
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
from striate.nn.functional_group_norm import (
    adain,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
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
from striate.nn.functional_pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    gaussian_pool,
    lp_pool,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    stochastic_pool,
    sum_pool,
)
from striate.nn.functional_pool_fixed import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    channel_avg_pool,
    channel_lp_pool,
    channel_max_pool,
    fractional_max_pool2d,
    fractional_max_pool3d,
    global_avg_pool,
    global_lp_pool,
    global_max_pool,
    learned_pool,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
    region_pool,
    spatial_pyramid_pool,
)
from striate.nn.functional_resize import (
    channel_shuffle,
    fold,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    unfold,
)
from striate.nn.parameter import Float32, as_float32
from striate.nn.symbol import SymbolicTensor
from striate.nn.trace import find_tracer
from striate.nn.untraceable import untraceable

__all__ = [
    "adain",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "add",
    "apl",
    "arctan",
    "arsinh",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "binary_step",
    "brelu",
    "cat",
    "celu",
    "center_crop",
    "channel_avg_pool",
    "channel_lp_pool",
    "channel_max_pool",
    "channel_shuffle",
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
    "fold",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "gaussian_pool",
    "gelu",
    "global_avg_pool",
    "global_lp_pool",
    "global_max_pool",
    "glu",
    "gram_matrix",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "isrlu",
    "isru",
    "jaccard_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "learned_pool",
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
    "lp_pool",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mish",
    "mse_loss",
    "mul",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "pad",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll_loss",
    "prelu",
    "region_pool",
    "relu",
    "relu6",
    "rms_norm",
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
    "spatial_pyramid_pool",
    "sqnl",
    "srelu",
    "stochastic_pool",
    "style_loss",
    "sum_pool",
    "tanh",
    "tanhshrink",
    "threshold",
    "tiled_conv1d",
    "tiled_conv2d",
    "tiled_conv3d",
    "total_variation",
    "transpose",
    "tversky_loss",
    "unfold",
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
