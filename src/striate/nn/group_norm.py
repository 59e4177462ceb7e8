"""Layers that normalise each sample by its own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn.arguments import check_kind, whole
from striate.nn.elementwise import finite
from striate.nn.functional_group_norm import sizes_of
from striate.nn.module import Module
from striate.nn.norm import _TrackedNorm
from striate.nn.parameter import Parameter


class LayerNorm(Module):
    """Normalise over the last axes of each sample, then scale and shift.

    `y = (x − μ)/√(σ² + eps) · weight + bias`, μ and σ² over the axes of `normalized_shape`.

    Args:
        normalized_shape: the sizes of the last axes, or of the last one.
        eps: added to the variance.
        elementwise_affine: whether there are weight and bias.
        bias: whether there is a bias.
    Input and output: (n, …, *normalized_shape).
    Parameters: weight (*normalized_shape), 1 at first, and bias, 0 at first.
    Source: Ba, Kiros, Hinton, Layer Normalization, arXiv:1607.06450.

    >>> LayerNorm(2, eps=0.0)(np.array([[1.0, 3.0]]))
    array([[-1.,  1.]], dtype=float32)
    """

    one_node = True

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("LayerNorm", device, dtype)
        self.normalized_shape = sizes_of(normalized_shape, "LayerNorm")
        self.eps, self.elementwise_affine = (
            finite(eps, "LayerNorm", "eps"),
            bool(elementwise_affine),
        )
        shape, both = self.normalized_shape, self.elementwise_affine and bool(bias)
        ones = Parameter(np.ones(shape, np.float32)) if self.elementwise_affine else None
        self.register_parameter("weight", ones)
        self.register_parameter("bias", Parameter(np.zeros(shape, np.float32)) if both else None)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset(self)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, …, *normalized_shape)."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


def _reset(layer: Any) -> None:
    for name, value in (("weight", 1), ("bias", 0)):
        parameter = getattr(layer, name, None)
        if parameter is not None:
            parameter.data[...] = value


class RMSNorm(Module):
    """Divide by the root of the mean square over the last axes of each sample, then scale.

    `y = x/√(Σ_p x_p²/K + eps) · weight`

    Args:
        normalized_shape: the sizes of the last axes, or of the last one.
        eps: added to the mean square; None is float32's, 1.19e-7.
        elementwise_affine: whether there is a weight.
    Input and output: (n, …, *normalized_shape).
    Parameters: weight (*normalized_shape), 1 at first.
    Source: Zhang & Sennrich, Root Mean Square Layer Normalization, arXiv:1910.07467.

    >>> RMSNorm(2, eps=0.0)(np.array([[1.0, 7.0]]))
    array([[0.2, 1.4]], dtype=float32)
    """

    one_node = True

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kind("RMSNorm", device, dtype)
        self.normalized_shape = sizes_of(normalized_shape, "RMSNorm")
        self.eps = None if eps is None else finite(eps, "RMSNorm", "eps")
        self.elementwise_affine = bool(elementwise_affine)
        ones = np.ones(self.normalized_shape, np.float32)
        self.register_parameter("weight", Parameter(ones) if self.elementwise_affine else None)

    def reset_parameters(self) -> None:
        """Weight 1."""
        _reset(self)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, …, *normalized_shape)."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(Module):
    """Normalise groups of channels of each sample, then scale and shift each channel.

    `y[n,c,…] = (x[n,c,…] − μ[n,g])/√(σ²[n,g] + eps) · weight[c] + bias[c]`, g the group of c.

    Args:
        num_groups: divides the channels.
        num_channels: channels.
        eps: added to the variance.
        affine: whether there are weight and bias.
        bias: whether there is a bias, where there is a weight.
    Input and output: (n, num_channels, …).
    Parameters: weight (num_channels,), 1 at first, and bias (num_channels,), 0 at first.
    Source: Wu & He, Group Normalization, arXiv:1803.08494.

    >>> GroupNorm(2, 4, eps=0.0)(np.array([[1.0, 3.0, 10.0, 30.0]]))
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    one_node = True

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_kind("GroupNorm", device, dtype)
        self.num_groups = whole(num_groups, "GroupNorm", "num_groups")
        self.num_channels = whole(num_channels, "GroupNorm", "num_channels")
        if self.num_channels % self.num_groups:
            raise OptionError(
                f"GroupNorm: expected num_groups to divide num_channels; got "
                f"num_groups={num_groups}, num_channels={num_channels}."
            )
        self.eps, self.affine = finite(eps, "GroupNorm", "eps"), bool(affine)
        size = self.num_channels
        ones, zeros = np.ones(size, np.float32), np.zeros(size, np.float32)
        self.register_parameter("weight", Parameter(ones) if self.affine else None)
        self.register_parameter("bias", Parameter(zeros) if self.affine and bias else None)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset(self)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, num_channels, …)."""
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class _InstanceNorm(_TrackedNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        kept = track_running_stats
        super().__init__(num_features, eps, momentum, affine, kept, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, num_features, …)."""
        self._require_rank(x)
        momentum = 0.0 if self.momentum is None else self.momentum
        running = (self.running_mean, self.running_var)
        if self.track_running_stats and not self.training:
            scale = self._scale_and_shift
            return F.instance_norm(x, *running, *scale, False, momentum, self.eps)
        return F.instance_norm(x, *running, self.weight, self.bias, True, momentum, self.eps)


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of sequences (n, c, length); see `InstanceNorm2d`."""

    ranks, layout = (3,), "(n, c, length)"


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each sample by itself, then scale and shift it.

    `y[n,c,i,j] = (x[n,c,i,j] − μ[n,c])/√(σ²[n,c] + eps) · weight[c] + bias[c]`

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: of the running statistics.
        affine: whether there are weight and bias.
        bias: whether there is a bias, where there is a weight.
        track_running_stats: whether there are running statistics, which evaluation then uses.
            They come from a checkpoint: a network that trains does not move them, so such a layer
            is used in evaluation mode.
    Input and output: (n, num_features, h, w).
    Source: Ulyanov et al., Instance Normalization, arXiv:1607.08022.

    >>> InstanceNorm2d(1, eps=0.0)(np.array([[[[1.0, 3.0]]], [[[10.0, 30.0]]]])).ravel()
    array([-1.,  1., -1.,  1.], dtype=float32)
    """

    ranks, layout = (4,), "(n, c, h, w)"


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of volumes (n, c, depth, h, w); see `InstanceNorm2d`."""

    ranks, layout = (5,), "(n, c, depth, h, w)"


class AdaptiveInstanceNorm(Module):
    """Each channel of each sample takes a style's mean and deviation.

    `y = σ(style)·(x − μ(x))/σ(x) + μ(style)`; called with two tensors (n, channels) in place of a
    style, `scale·(x − μ(x))/σ(x) + shift`. It stands inside a network, which gives it both.

    Args:
        eps: added to the variances.
    Input: x (n, channels, …), and style (n, channels, …), or scale and shift (n, channels).
    Output: as x.
    Source: Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance
        Normalization, arXiv:1703.06868; with scale and shift Karras et al., arXiv:1812.04948.
    """

    one_node = True

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = finite(eps, "AdaptiveInstanceNorm", "eps")

    def forward(self, x: Any, *style: Any) -> Any:
        """`y` for x and a style, or x, scale and shift."""
        if len(style) == 1:
            return F.adain(x, style[0], eps=self.eps)
        if len(style) == 2:
            return F.adain(x, scale=style[0], shift=style[1], eps=self.eps)
        raise OptionError(
            f"AdaptiveInstanceNorm: expected x and a style, or x, scale and shift; got "
            f"{1 + len(style)} tensors."
        )

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
