"""Capsule layers: groups of numbers that stand for a thing and its pose.

Source: Sabour, Frosst, Hinton, Dynamic routing between capsules, arXiv:1710.09829.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from striate.nn import functional as F
from striate.nn import init
from striate.nn.arguments import Sizes, whole
from striate.nn.conv import Conv2d
from striate.nn.module import Module
from striate.nn.parameter import Parameter


class PrimaryCapsules(Module):
    """A convolution whose channels are taken as capsules: `squash` of vectors of `dim` numbers.

    Args:
        in_channels: of the images.
        capsules: kinds of capsules at each place.
        dim: numbers of a capsule; the convolution has capsules·dim channels, capsule after
            capsule.
        kernel_size, stride, padding: of the convolution.
    Input: (n, in_channels, ih, iw). Output: (n, capsules·oh·ow, dim).
    Source: Sabour, Frosst, Hinton, Dynamic routing between capsules, arXiv:1710.09829.

    >>> PrimaryCapsules(256, 32, 8, 9, stride=2)(np.zeros((1, 256, 20, 20))).shape
    (1, 1152, 8)
    """

    def __init__(
        self,
        in_channels: int,
        capsules: int,
        dim: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
    ) -> None:
        super().__init__()
        self.capsules = whole(capsules, "PrimaryCapsules", "capsules")
        self.dim = whole(dim, "PrimaryCapsules", "dim")
        channels = self.capsules * self.dim
        self.conv = Conv2d(in_channels, channels, kernel_size, stride, padding)

    def forward(self, x: Any) -> Any:
        """The squashed capsules of all places."""
        y = F.unflatten(self.conv(x), 1, (self.capsules, self.dim))
        y = F.permute(y, (0, 1, 3, 4, 2))
        return F.squash(F.flatten(y, 1, 3))


class Capsules(Module):
    """A layer of capsules that those of the layer below vote for, with routing by agreement.

    Args:
        in_capsules: capsules below, of `in_dim` numbers.
        out_capsules: capsules here, of `out_dim` numbers.
        in_dim, out_dim: numbers of a capsule.
        iterations: of the routing, at least 1.
    Input: (n, in_capsules, in_dim). Output: (n, out_capsules, out_dim); the length of a vector
        says how likely its thing is there (`F.capsule_lengths`).
    Parameters: weight (in_capsules, out_capsules, in_dim, out_dim), N(0, 1/in_dim) at first.
    Source: Sabour, Frosst, Hinton, Dynamic routing between capsules, arXiv:1710.09829.

    >>> Capsules(1152, 10, 8, 16)(np.zeros((1, 1152, 8))).shape
    (1, 10, 16)
    """

    def __init__(
        self, in_capsules: int, out_capsules: int, in_dim: int, out_dim: int, iterations: int = 3
    ) -> None:
        super().__init__()
        named = {"in_capsules": in_capsules, "out_capsules": out_capsules}
        named |= {"in_dim": in_dim, "out_dim": out_dim}
        shape = tuple(whole(value, "Capsules", name) for name, value in named.items())
        self.in_capsules, self.out_capsules, self.in_dim, self.out_dim = shape
        self.iterations = whole(iterations, "Capsules", "iterations")
        self.weight = Parameter(np.empty(shape, np.float32))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights."""
        init.normal_(self.weight, 0.0, 1 / math.sqrt(self.in_dim))

    def forward(self, x: Any) -> Any:
        """The capsules that the votes agree on."""
        return F.capsules(x, self.weight, self.iterations)

    def extra_repr(self) -> str:
        return (
            f"{self.in_capsules}, {self.out_capsules}, {self.in_dim}, {self.out_dim}, "
            f"iterations={self.iterations}"
        )
