"""Normalisation layers: batch norm of any kind of input, and local response normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn import functional as F
from striate.nn.apply import apply
from striate.nn.arguments import check_kind, whole
from striate.nn.elementwise import finite
from striate.nn.functional_norm import fixed_of
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class _TrackedNorm(Module):
    """What batch norm and instance norm share: scale, shift and running statistics of channels.

    Where there is no scale and shift, or no running statistics, buffers outside the state dict
    stand in for them.
    """

    one_node = True
    ranks: tuple[int, ...] = ()  # axes that the input may have, the batch included
    layout = ""

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        bias: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_kind(where, device, dtype)
        size = self.num_features = whole(num_features, where, "num_features")
        self.eps = finite(eps, where, "eps")
        self.momentum = None if momentum is None else _share(momentum, where, "momentum")
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        self.weight = Parameter(np.ones(size, np.float32)) if self.affine else None
        self.bias = Parameter(np.zeros(size, np.float32)) if self.affine and bias else None
        kept = self.track_running_stats
        self.register_buffer("running_mean", np.zeros(size, np.float32) if kept else None)
        self.register_buffer("running_var", np.ones(size, np.float32) if kept else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if kept else None)
        self._stand_in()

    def _stand_in(self) -> None:
        """The buffers that take the places of what this layer has not."""
        size = self.num_features
        if self.weight is None:
            self.register_buffer("_one", np.ones(size, np.float32), persistent=False)
        if self.bias is None:
            self.register_buffer("_zero", np.zeros(size, np.float32), persistent=False)

    @property
    def _scale_and_shift(self) -> tuple[Any, Any]:
        scale = self._one if self.weight is None else self.weight
        return scale, self._zero if self.bias is None else self.bias

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches counted."""
        if self.track_running_stats:
            self.running_mean[...] = 0
            self.running_var[...] = 1
            self.num_batches_tracked[...] = 0

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and fresh running statistics."""
        self.reset_running_stats()
        for parameter, value in ((self.weight, 1), (self.bias, 0)):
            if parameter is not None:
                parameter.data[...] = value

    def _require_rank(self, x: Any) -> None:
        if x.ndim not in self.ranks:
            raise ShapeError(
                f"{type(self).__name__}: expected x {self.layout}; got shape={tuple(x.shape)}."
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_TrackedNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        kept = track_running_stats
        super().__init__(num_features, eps, momentum, affine, kept, bias, device, dtype)

    def _stand_in(self) -> None:
        super()._stand_in()
        if not self.track_running_stats:
            self.register_buffer("_mean", np.zeros(self.num_features), persistent=False)
            self.register_buffer("_var", np.ones(self.num_features), persistent=False)

    def forward(self, x: Any) -> Any:
        """`y` for x (n, num_features, …)."""
        self._require_rank(x)
        scale = self._scale_and_shift
        if self.track_running_stats:
            running = (self.running_mean, self.running_var)
            return F.batch_norm(x, *running, *scale, self.training, self.momentum, self.eps)
        attributes = {"eps": self.eps, "momentum": self.momentum or 0.0, **fixed_of(*scale)}
        return apply("batch_norm_training", (x, *scale, self._mean, self._var), attributes)


def _share(value: Any, where: str, name: str) -> float:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise OptionError(f"{where}: expected {name} from 0 to 1; got {name}={value!r}.")
    return float(value)


class BatchNorm1d(_BatchNorm):
    """Batch norm of features (n, c) or sequences (n, c, length); see `BatchNorm2d`."""

    ranks, layout = (2, 3), "(n, c) or (n, c, length)"


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over the batch and the image, then scale and shift it.

    `y[n,c,i,j] = (x[n,c,i,j] − mean[c])/√(var[c] + eps) · weight[c] + bias[c]`

    In training mode mean and variance are the batch's, and the running ones move towards them by
    the share `momentum` (the variance unbiased); in evaluation mode they are the running ones.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: share of the new statistics, from 0 to 1. None is 1/(batches so far): their mean;
            only plain calls in training mode keep it, `fit` asks for a number.
        affine: whether there are weight and bias.
        bias: whether there is a bias, where there is a weight.
        track_running_stats: whether running statistics are kept. Otherwise mean and variance are
            the batch's in evaluation too, so that what a sample gives depends on the others.
    Input and output: (n, num_features, h, w).
    Parameters: weight (num_features,), 1 at first, and bias (num_features,), 0 at first.
    Buffers: running_mean, running_var (num_features,) and num_batches_tracked.
    Source: Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167.

    >>> norm = BatchNorm2d(3)
    >>> y = norm(np.random.default_rng(0).normal(5, 2, (8, 3, 4, 4)))
    >>> bool(abs(y.mean()) < 1e-6), [round(float(m), 1) for m in norm.running_mean]
    (True, [0.5, 0.5, 0.5])
    """

    ranks, layout = (4,), "(n, c, h, w)"


class BatchNorm3d(_BatchNorm):
    """Batch norm of volumes (n, c, depth, h, w); see `BatchNorm2d`."""

    ranks, layout = (5,), "(n, c, depth, h, w)"


class LocalResponseNorm(Module):
    """Divide each number by a power of the mean square of its neighbours in other channels.

    `y[n,c,i,j] = x[n,c,i,j] / (k + alpha/size · Σ_a x[n, c + a − ⌊size/2⌋, i, j]²)^beta`

    Args:
        size: channels around each that count, itself included.
        alpha: weight of their mean square.
        beta: exponent.
        k: added to the mean square.
    Input and output: (n, channels, …) with one to three axes of space.
    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
        Networks, NeurIPS 2012, section 3.3.
    """

    one_node = True

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = whole(size, "LocalResponseNorm", "size")
        self.alpha, self.beta, self.k = alpha, beta, k

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, …)."""
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """`LocalResponseNorm` of images, by its older name.

    It is what the paper says: `size` channels. torch's layer of this name adds up one more.

    Args:
        size: channels around each that count, itself included.
        alpha: weight of their mean square.
        beta: exponent.
        k: added to the mean square.
    Input and output: (n, channels, h, w).
    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
        Networks, NeurIPS 2012, section 3.3.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)
