"""Layers that put axes in another order."""

from __future__ import annotations

from typing import Any

from striate.errors import OptionError
from striate.nn.arguments import axis_order
from striate.nn.data_format import permute
from striate.nn.module import Module


class Permute(Module):
    """The axes in another order, the batch first: `Permute(0, 2, 3, 1)` gives (n, h, w, c).

    Args:
        dims: every axis once, 0 (the batch) first.
    Input: (n, …). Output: its axes in that order.

    >>> import numpy as np
    >>> Permute(0, 2, 3, 1)(np.zeros((2, 3, 8, 9))).shape
    (2, 8, 9, 3)
    """

    one_node = True

    def __init__(self, *dims: Any) -> None:
        super().__init__()
        given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
        order = axis_order(given, len(given), "Permute", f"of {len(given)} axes")
        if not order or order[0] != 0:
            raise OptionError(
                f"Permute: expected 0, the batch, as the first axis; got dims={given!r}. "
                "Write all axes, for example Permute(0, 2, 3, 1)."
            )
        self.dims = tuple(order)

    def forward(self, x: Any) -> Any:
        """x with its axes in the order of `dims`."""
        return permute(x, self.dims)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.dims))
