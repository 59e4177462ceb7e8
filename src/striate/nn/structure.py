"""Layers that move numbers or leave them: Flatten, Unflatten, Identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.errors import OptionError
from striate.nn import functional as F
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


class Unflatten(Module):
    """One axis as several, `unflattened_size`; one of them may be −1.

    Input: (n, …). Output: (n, …) with the axis `dim` taken apart.

    >>> import numpy as np
    >>> Unflatten(1, (16, 5, 5))(np.zeros((4, 400))).shape
    (4, 16, 5, 5)
    """

    one_node = True

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if not hasattr(dim, "__index__") or not isinstance(unflattened_size, Sequence):
            raise OptionError(
                f"Unflatten: expected an axis and its sizes, as Unflatten(1, (16, 5, 5)); got "
                f"dim={dim!r}, unflattened_size={unflattened_size!r}."
            )
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Any) -> Any:
        """x with the axis taken apart."""
        return F.unflatten(x, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Identity(Module):
    """x itself; takes any arguments, so that it can stand in for any layer."""

    one_node = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        """x."""
        return x
