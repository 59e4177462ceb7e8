"""Normalisation in `striate.nn.functional` of each sample by its own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn.apply import T, Weight, apply
from striate.nn.arguments import whole
from striate.nn.elementwise import finite
from striate.nn.execution import as_batch
from striate.nn.functional_norm import batch_norm
from striate.nn.parameter import Array
from striate.nn.symbol import SymbolicTensor
from striate.nn.untraceable import untraceable

FLOAT32_EPS = float(np.finfo(np.float32).eps)


def layer_norm(
    input: T,
    normalized_shape: int | Sequence[int],
    weight: Weight | None = None,
    bias: Weight | None = None,
    eps: float = 1e-5,
) -> T:
    """Normalise over the last axes of each sample, then scale and shift.

    `y = (x − μ)/√(σ² + eps) · weight + bias`, μ and σ² over the axes of `normalized_shape`.

    Args:
        input: (n, …, *normalized_shape).
        normalized_shape: the sizes of the last axes, or of the last one.
        weight, bias: of that shape, or None for 1 and 0.
        eps: added to the variance.
    Returns:
        As the input.
    Source: Ba, Kiros, Hinton, Layer Normalization, arXiv:1607.06450.

    >>> layer_norm(np.array([[1.0, 3.0]]), 2, eps=0.0)
    array([[-1.,  1.]], dtype=float32)
    """
    where = "layer_norm"
    count = _last_axes(input, normalized_shape, where)
    attributes = {"eps": finite(eps, where, "eps"), "axes": count}
    return _normalised(input, weight, bias, attributes, where, sizes_of(normalized_shape, where))


def rms_norm(
    input: T,
    normalized_shape: int | Sequence[int],
    weight: Weight | None = None,
    eps: float | None = None,
) -> T:
    """Divide by the root of the mean square over the last axes of each sample, then scale.

    `y = x/√(Σ_p x_p²/K + eps) · weight`

    Args:
        input: (n, …, *normalized_shape).
        normalized_shape: the sizes of the last axes, or of the last one.
        weight: of that shape, or None for 1.
        eps: added to the mean square; None is float32's, 1.19e-7.
    Returns:
        As the input.
    Source: Zhang & Sennrich, Root Mean Square Layer Normalization, arXiv:1910.07467.

    >>> rms_norm(np.array([[1.0, 7.0]]), 2, eps=0.0)
    array([[0.2, 1.4]], dtype=float32)
    """
    where = "rms_norm"
    count = _last_axes(input, normalized_shape, where)
    small = FLOAT32_EPS if eps is None else finite(eps, where, "eps")
    inputs = (input,) if weight is None else (input, weight)
    attributes = {"eps": small, "axes": count}
    return cast(T, apply(where, inputs, attributes, parameters=len(inputs) - 1))


def group_norm(
    input: T,
    num_groups: int,
    weight: Weight | None = None,
    bias: Weight | None = None,
    eps: float = 1e-5,
) -> T:
    """Normalise groups of channels of each sample, then scale and shift each channel.

    `y[n,c,…] = (x[n,c,…] − μ[n,g])/√(σ²[n,g] + eps) · weight[c] + bias[c]`, g the group of c.

    Args:
        input: (n, channels, …).
        num_groups: divides the channels.
        weight, bias: (channels,), or None for 1 and 0.
        eps: added to the variance.
    Returns:
        As the input.
    Source: Wu & He, Group Normalization, arXiv:1803.08494.

    >>> group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), 2, eps=0.0)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    where = "group_norm"
    groups = whole(num_groups, where, "num_groups")
    attributes = {"eps": finite(eps, where, "eps"), "groups": groups}
    return _normalised(input, weight, bias, attributes, where, _channels(input, where))


def instance_norm(
    input: T,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Weight | None = None,
    bias: Weight | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> T:
    """Normalise each channel of each sample, then scale and shift it.

    `y[n,c,…] = (x[n,c,…] − μ[n,c])/√(σ²[n,c] + eps) · weight[c] + bias[c]`

    Args:
        input: (n, channels, …) with one to three axes of space.
        running_mean, running_var: (channels,) arrays, or None.
        weight, bias: (channels,), or None for 1 and 0.
        use_input_stats: whether mean and variance are the sample's; the running ones, where given,
            then move towards the mean of all samples' by the share `momentum`, in place.
            Otherwise they are the running ones.
        momentum: from 0 to 1.
        eps: added to the variance.
    Returns:
        As the input.
    Source: Ulyanov et al., Instance Normalization, arXiv:1607.08022.

    >>> instance_norm(np.array([[[1.0, 3.0]], [[10.0, 30.0]]]), eps=0.0).ravel()
    array([-1.,  1., -1.,  1.], dtype=float32)
    """
    where = "instance_norm"
    channels = _channels(input, where, "(n, channels, …) with at least one axis of space", 3)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None or running_var is not None:
        _keep_statistics(input, running_mean, running_var, finite(momentum, where, "momentum"))
    attributes = {"eps": finite(eps, where, "eps"), "groups": channels[0]}
    return _normalised(input, weight, bias, attributes, "group_norm", channels, where)


def _keep_statistics(x: Any, mean: Any, variance: Any, momentum: float) -> None:
    """Move the running statistics towards the mean of those of all samples."""
    if isinstance(x, SymbolicTensor):
        raise untraceable(
            "instance_norm in a network keeps no running statistics while it trains",
            "Leave track_running_stats at False, or call eval() to use those that were loaded.",
        )
    values = np.asarray(x, np.float64)
    over = tuple(range(2, values.ndim))
    count = int(np.prod(values.shape[2:]))
    unbiased = values.var(axis=over) * (count / max(count - 1, 1))
    for old, new in ((mean, values.mean(axis=over)), (variance, unbiased)):
        if old is not None and len(values):
            old[...] = (1 - momentum) * old + momentum * new.mean(axis=0)


def adain(
    input: T,
    style: T | None = None,
    scale: T | None = None,
    shift: T | None = None,
    eps: float = 1e-5,
) -> T:
    """Adaptive instance norm: each channel of each sample takes a style's mean and deviation.

    `y = σ(style)·(x − μ(x))/σ(x) + μ(style)`, or `scale·(x − μ(x))/σ(x) + shift` with numbers
    that a network gives.

    Args:
        input: (n, channels, …) with one or more axes of space.
        style: (n, channels, …), of any size.
        scale, shift: (n, channels), in place of a style.
        eps: added to the variances.
    Returns:
        As the input.
    Source: Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance
        Normalization, arXiv:1703.06868; with scale and shift Karras et al., arXiv:1812.04948.

    >>> adain(np.array([[[1.0, 3.0]]]), np.array([[[10.0, 30.0, 10.0, 30.0]]]), eps=0.0)
    array([[[10., 30.]]], dtype=float32)
    """
    attributes = {"eps": finite(eps, "adain", "eps")}
    named = (("style", style), ("scale", scale), ("shift", shift))
    given = [name for name, value in named if value is not None]
    if given not in (["style"], ["scale", "shift"]):
        raise OptionError(
            "adain: expected a style, or both scale and shift; "
            f"got {' and '.join(given) or 'none'}."
        )
    if style is not None:
        return cast(T, apply("adaptive_instance_norm", (input, style), attributes, "adain"))
    return cast(T, apply("styled_instance_norm", (input, scale, shift), attributes, "adain"))


# ---- checks ----------------------------------------------------------------------------------


def _normalised(
    x: T,
    weight: Weight | None,
    bias: Weight | None,
    attributes: dict[str, Any],
    op: str,
    shape: tuple[int, ...],
    where: str = "",
) -> T:
    """The operation with those of weight and bias that are given; `shape` is theirs."""
    inputs: tuple[Any, ...] = (x,)
    if bias is not None and weight is None:
        if isinstance(x, SymbolicTensor):
            raise untraceable(
                f"{where or op} in a network was given a bias without a weight",
                "Pass a weight of ones, an nn.Parameter, too.",
            )
        weight = np.ones(shape, np.float32)
    inputs += () if weight is None else (weight,)
    inputs += () if bias is None else (bias,)
    return cast(T, apply(op, inputs, attributes, where or op, parameters=len(inputs) - 1))


def _shape_of(x: Any, where: str) -> tuple[Any, ...]:
    return tuple(x.shape if isinstance(x, SymbolicTensor) else as_batch(x, where).shape)


def _channels(
    x: Any, where: str, layout: str = "(n, channels, …)", least: int = 2
) -> tuple[int, ...]:
    """(channels,) of x."""
    shape = _shape_of(x, where)
    if len(shape) < least:
        raise ShapeError(f"{where}: expected x {layout}; got shape {shape}.")
    return (int(shape[1]),)


def sizes_of(normalized_shape: int | Sequence[int], where: str) -> tuple[int, ...]:
    """The sizes of the axes that are normalised over, as a tuple."""
    given = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not given:
        raise OptionError(f"{where}: expected normalized_shape of at least one size; got none.")
    return tuple(whole(k, where, "normalized_shape") for k in given)


def _last_axes(x: Any, normalized_shape: int | Sequence[int], where: str) -> int:
    """How many axes are normalised over; they must be the last ones of x."""
    sizes, shape = sizes_of(normalized_shape, where), _shape_of(x, where)
    if len(sizes) >= len(shape) or tuple(shape[len(shape) - len(sizes) :]) != sizes:
        listed = ", ".join(map(str, sizes))
        raise ShapeError(
            f"{where}: expected x (n, …, {listed}), as normalized_shape says; got shape {shape}."
        )
    return len(sizes)
