"""Layers that move numbers or leave them: Flatten, Dropout, Identity."""

from __future__ import annotations

from typing import Any

from striate.nn import functional as F
from striate.nn.arguments import probability
from striate.nn.module import Module


class Flatten(Module):
    """Axes `start_dim` … `end_dim` as one.

    Input: (n, c, h, w). Output: (n, c·h·w).

    >>> import numpy as np
    >>> Flatten()(np.zeros((4, 16, 5, 5))).shape
    (4, 400)
    """

    one_node = True

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """x with the axes merged."""
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training `x/(1 − p)` where a uniform number is ≥ p, else 0; in evaluation x itself.

    Args:
        p: the share that is dropped, from 0 to below 1.
        inplace: inside a network the input itself becomes the output, as in torch.
    Source: Srivastava et al., Dropout, Journal of Machine Learning Research 15 (2014).
    """

    one_node = True

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = probability(p, "Dropout"), bool(inplace)

    def forward(self, x: Any) -> Any:
        """x, in training with a share p dropped."""
        return F.dropout(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Identity(Module):
    """x itself; takes any arguments, so that it can stand in for any layer."""

    one_node = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """x."""
        return x
