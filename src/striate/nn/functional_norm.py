"""Normalisation in `striate.nn.functional` by the statistics of the batch, and by neighbours.

That of each sample by itself is in `functional_group_norm`.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn.apply import T, Weight, apply
from striate.nn.arguments import whole
from striate.nn.execution import as_batch, normalize_batch
from striate.nn.parameter import Array, Float32, as_float32
from striate.nn.symbol import SymbolicTensor
from striate.nn.untraceable import untraceable


def batch_norm(
    input: T,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Weight | None = None,
    bias: Weight | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> T:
    """Normalise each channel by its mean and variance, then scale and shift it.

    `y[n,c,…] = (x[n,c,…] − mean[c])/√(var[c] + eps) · weight[c] + bias[c]`

    Args:
        input: (n, channels, …) with up to three axes of space.
        running_mean: (channels,); in a network a buffer of the module.
        running_var: likewise.
        weight: (channels,), or None for 1.
        bias: (channels,), or None for 0.
        training: whether mean and variance are those of the batch; the running ones then move
            towards them by the share `momentum` (the variance unbiased), in place.
        momentum: from 0 to 1; in a network also None, the mean over all batches so far.
        eps: added to the variance.
    Returns:
        As the input.
    Raises:
        ShapeError: the numbers of channels differ.
    Source: Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167.

    >>> x = np.array([[1.0], [3.0]])
    >>> batch_norm(x, None, None, training=True, eps=0.0)
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    cumulative = momentum is None and isinstance(input, SymbolicTensor)
    share = None if cumulative else _number(momentum, "momentum")
    attributes = {"eps": _number(eps, "eps"), "momentum": share}
    if isinstance(input, SymbolicTensor):
        return cast(
            T, _trace(input, [weight, bias, running_mean, running_var], attributes, training)
        )
    x = as_batch(input, "batch_norm")
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: expected x (n, channels, ...); got shape={x.shape}.")
    given = (weight, bias, running_mean, running_var)
    if not training and (running_mean is None or running_var is None):
        raise OptionError(
            "batch_norm: expected running_mean and running_var with training=False; got None."
        )
    parts: list[Any] = [_vector(k, x.shape[1], d) for k, d in zip(given, (1, 0, 0, 1), strict=True)]
    if not training:
        return cast(T, apply("batch_norm", (x, *parts), attributes, parameters=4))
    result = normalize_batch([x, *parts], attributes)
    for old, new in zip(given[2:], parts[2:], strict=True):
        if isinstance(old, np.ndarray):
            old[...] = new
    return cast(T, result)


def local_response_norm(
    input: T, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> T:
    """Divide each number by a power of the mean square of its neighbours in other channels.

    `y[n,c,i,j] = x[n,c,i,j] / (k + alpha/size · Σ_a x[n, c + a − ⌊size/2⌋, i, j]²)^beta`

    Args:
        input: (n, channels, …) with one to three axes of space.
        size: channels around each that count, itself included.
        alpha: weight of their mean square.
        beta: exponent.
        k: added to the mean square.
    Returns:
        As the input.
    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
        Networks, NeurIPS 2012, section 3.3.

    >>> local_response_norm(np.ones((1, 1, 1, 1)), 1, alpha=1.0, beta=1.0)
    array([[[[0.5]]]], dtype=float32)
    """
    where = "local_response_norm"
    attributes = {
        "size": whole(size, where, "size"),
        "alpha": _number(alpha, "alpha", where),
        "beta": _number(beta, "beta", where),
        "k": _number(k, "k", where),
    }
    return cast(T, apply(where, (input,), attributes))


def _trace(x: SymbolicTensor, given: list[Any], attributes: dict[str, Any], training: bool) -> Any:
    missing = [
        name
        for name, value in zip(
            ("weight", "bias", "running_mean", "running_var"), given, strict=True
        )
        if value is None
    ]
    if missing:
        raise untraceable(
            f"batch_norm in a network needs weight, bias, running_mean and running_var; got None "
            f"for {', '.join(missing)}",
            "Use the layer nn.BatchNorm2d, which has them all.",
        )
    attributes = attributes | fixed_of(*given[:2])
    result = x._tracer.apply("batch_norm", (x, *given), attributes, "batch_norm")
    if training:
        x._tracer.use_batch_statistics(result)
    return result


def fixed_of(weight: Any, bias: Any) -> dict[str, list[str]]:
    """The attribute that says which of scale and shift are buffers, and so are not learned."""
    fixed = [n for n, k in (("w", weight), ("b", bias)) if isinstance(k, np.ndarray)]
    return {"fixed": fixed} if fixed else {}


def _vector(value: Any, channels: int, default: float) -> Float32:
    if value is None:
        return np.full(channels, default, np.float32)
    array = as_float32(value, "batch_norm")
    if array.shape != (channels,):
        raise ShapeError(
            f"batch_norm: expected one number a channel, shape ({channels},); "
            f"got shape={array.shape}."
        )
    return array


def _number(value: Any, name: str, where: str = "batch_norm") -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise OptionError(f"{where}: expected {name} to be a number; got {name}={value!r}.")
    return float(value)
