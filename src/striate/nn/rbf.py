"""LeNet-5's own layers, RBF and Subsample; and distances between two tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.nn import functional as F
from striate.nn import init
from striate.nn.arguments import Sizes, named_pair, whole
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class RBF(Module):
    """`y[n,o] = Σ_k (x[n,k] − weight[o,k])²`: the squared distance to a prototype of each class.

    The class with the smallest number is the answer: `F.argmax(-y, 1)`.

    Args:
        in_features: numbers that go in.
        out_features: classes.
        prototypes: (out_features, in_features), what the weights start as; −1 or 1 at random where
            None. LeNet-5 takes 7 × 12 pictures of the characters.
        fixed: the prototypes are no parameters: they are part of the network's graph, not of its
            state dict. As published, they are.
    Input: (n, in_features). Output: (n, out_features).
    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
        recognition, Proceedings of the IEEE 86 (1998), section II.B.

    >>> RBF(2, 2, [[1, 1], [-1, 1]])(np.array([[1.0, 1.0]]))
    array([[0., 4.]], dtype=float32)
    """

    one_node = True

    def __init__(
        self, in_features: int, out_features: int, prototypes: Any = None, fixed: bool = False
    ) -> None:
        super().__init__()
        self.in_features = whole(in_features, "RBF", "in_features")
        self.out_features = whole(out_features, "RBF", "out_features")
        self.fixed, shape = bool(fixed), (self.out_features, self.in_features)
        given = np.zeros(shape) if prototypes is None else np.array(prototypes)
        if given.shape != shape:
            raise OptionError(f"RBF: expected prototypes of shape {shape}; got {given.shape}.")
        weight: Any = given.astype(np.float32) if fixed else Parameter(given)
        self.weight = weight
        if prototypes is None:
            self.reset_parameters()
        if fixed:
            weight.flags.writeable = False  # a traced network has a copy

    def reset_parameters(self) -> None:
        """Prototypes of −1 and 1, drawn at random."""
        array: Any = self.weight if self.fixed else self.weight.data
        init.uniform_(array, -1, 1)
        array[...] = np.where(array < 0, -1, 1)

    def forward(self, x: Any) -> Any:
        """The squared distances."""
        return F.rbf(x, self.weight)

    def extra_repr(self) -> str:
        fixed = ", fixed=True" if self.fixed else ""
        return f"in_features={self.in_features}, out_features={self.out_features}{fixed}"


class Subsample(Module):
    """`y[n,c,i,j] = bias[c] + weight[c] · Σ` of the kh × kw window at (i·kh, j·kw).

    LeNet-5's subsampling, with two trained numbers a map; an activation follows it there.

    Args:
        channels: maps.
        kernel_size: one number or (vertical, horizontal).
    Input: (n, channels, ih, iw). Output: (n, channels, ⌊ih/kh⌋, ⌊iw/kw⌋).
    Parameters: weight (channels,) and bias (channels,), U(−r, r) with r = 1/√(kh·kw) at first.
    Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document
        recognition, Proceedings of the IEEE 86 (1998), section II.B.

    >>> Subsample(6)(np.zeros((1, 6, 28, 28))).shape
    (1, 6, 14, 14)
    """

    one_node = True

    def __init__(self, channels: int, kernel_size: Sizes = 2) -> None:
        super().__init__()
        self.channels = whole(channels, "Subsample", "channels")
        self.kernel_size = named_pair(kernel_size, "Subsample", "kernel_size")
        self.weight = Parameter(np.empty(self.channels, np.float32))
        self.bias = Parameter(np.empty(self.channels, np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh numbers."""
        bound = 1 / math.sqrt(math.prod(self.kernel_size))
        for parameter in (self.weight, self.bias):
            init.uniform_(parameter, -bound, bound)

    def forward(self, x: Any) -> Any:
        """The weighted sums of the windows."""
        return F.subsample(x, self.weight, self.bias, self.kernel_size)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"


class CosineSimilarity(Module):
    """`Σ x·y / (max(|x|, eps) · max(|y|, eps))` along an axis.

    Args:
        dim: the axis.
        eps: the least length.
    Inputs: two tensors of one shape. Output: without the axis.

    >>> CosineSimilarity()(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
    array([0.96], dtype=float32)
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Any, x2: Any) -> Any:
        """The cosines of the angles."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, eps={self.eps}"


class PairwiseDistance(Module):
    """`(Σ |x − y + eps|^p)^(1/p)` along the last axis.

    Args:
        p: the norm's exponent.
        eps: added, so that equal vectors have a gradient.
        keepdim: keep the axis with size 1.
    Inputs: two tensors (n, …, k). Output: (n, …).
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.p, self.eps, self.keepdim = p, eps, bool(keepdim)

    def forward(self, x1: Any, x2: Any) -> Any:
        """The distances."""
        return F.pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)

    def extra_repr(self) -> str:
        return f"p={self.p}, eps={self.eps}, keepdim={self.keepdim}"
