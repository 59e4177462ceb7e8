"""Pooling layers whose regions are learned: clustered from data, or trained as weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn import functional_pool_fixed as F
from striate.nn.arguments import Sizes, named_sizes, whole
from striate.nn.execution import as_batch
from striate.nn.module import Module
from striate.nn.parameter import Array, Float32, Parameter
from striate.nn.pool_windows import require_choice


def grid_labels(size: Sequence[int], cells: Sequence[int]) -> Array:
    """The number of the grid cell that each position lies in, cells counted row by row.

    >>> grid_labels((2, 4), (1, 2))
    array([[0, 0, 1, 1],
           [0, 0, 1, 1]])
    """
    total = np.zeros(tuple(size), np.int64)
    for axis, (n, k) in enumerate(zip(size, cells, strict=True)):
        along = np.arange(n) * k // n
        total = total * k + along.reshape([-1 if a == axis else 1 for a in range(len(size))])
    return total


class DynamicPool2d(Module):
    """Dynamic pooling: the regions are clusters of positions that behave alike in data.

    `y[n,c,g]` is the mean, largest or sum of `x[n,c,i,j]` over the positions (i, j) of region g.
    `fit` finds the regions by k-means over positions, each described by the numbers that it has in
    some features; they need not hang together in the image. Before `fit` they are the cells of a
    grid, for 4 regions the quadrants. Not in PyTorch.

    Args:
        regions: how many.
        input_size: (h, w) of the features, one number for both.
        mode: "mean", "max" or "sum".
    Input: (n, channels, h, w). Output: (n, channels, regions).
    Buffers: labels (h, w), the region of each position.

    >>> pool = DynamicPool2d(2, 4)
    >>> x = np.zeros((3, 2, 4, 4))
    >>> x[0, 0, 1:3, 1:3] = 1  # the middle is active where the border is not
    >>> pool.fit(x).labels
    array([[0, 0, 0, 0],
           [0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """

    one_node = True

    def __init__(self, regions: int, input_size: Sizes, mode: str = "mean") -> None:
        super().__init__()
        where = type(self).__name__
        self.regions = whole(regions, where, "regions")
        size = named_sizes(input_size, 2, where, "input_size")
        require_choice(mode, ("mean", "max", "sum"), where, "mode")
        if self.regions > size[0] * size[1]:
            raise OptionError(
                f"{where}: expected at most {size[0]}·{size[1]} regions, a position for each; got "
                f"regions={regions}."
            )
        self.input_size, self.mode = size, mode
        self.register_buffer("labels", _first_labels(self.regions, size))

    def fit(self, features: Any, seed: int = 0) -> DynamicPool2d:
        """Find the regions: k-means over positions, described by what they hold.

        Args:
            features: (n, channels, h, w), as the layer will be given.
            seed: of the clustering.
        Returns:
            The layer itself. Regions are numbered in the order of their first positions.
        """
        x = as_batch(features, f"{type(self).__name__}.fit")
        if x.ndim != 4 or x.shape[2:] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}.fit: expected features (n, channels, "
                f"{self.input_size[0]}, {self.input_size[1]}); got shape={x.shape}."
            )
        described = x.reshape(-1, x.shape[2] * x.shape[3]).T.astype(np.float64)
        if len(np.unique(described, axis=0)) < self.regions:
            raise OptionError(
                f"{type(self).__name__}.fit: expected features that tell {self.regions} positions "
                f"apart; got {len(np.unique(described, axis=0))} different ones. Use fewer regions."
            )
        found = _clusters(described, self.regions, seed)
        order = {int(g): k for k, g in enumerate(dict.fromkeys(found.tolist()))}
        self.labels = np.array([order[int(g)] for g in found]).reshape(self.input_size)
        return self

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, h, w)."""
        return F.region_pool(x, self.labels, self.mode)

    def extra_repr(self) -> str:
        return f"regions={self.regions}, input_size={self.input_size}, mode={self.mode!r}"


def _clusters(rows: Array, count: int, seed: int) -> Array:
    """The k-means cluster of each row."""
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise OptionError(
            "DynamicPool2d.fit: expected scikit-learn, which does the clustering; it is not "
            "installed. Install it with `pip install striate[clustering]`."
        ) from None
    found: Array = KMeans(count, n_init=10, random_state=seed).fit_predict(rows)
    return found


def _first_labels(regions: int, size: tuple[int, ...]) -> Array:
    """A grid as square as `regions` and the image allow; else runs of positions."""
    for rows in range(int(regions**0.5), 0, -1):
        columns = regions // rows
        if regions % rows == 0 and rows <= size[0] and columns <= size[1]:
            return grid_labels(size, (rows, columns))
    return grid_labels((size[0] * size[1],), (regions,)).reshape(size)


class LearnedPool2d(Module):
    """Pooling regions that are trained: a map of weights for each output, shared by all channels.

    `y[n,c,g] = Σ_{p,q} weight[g,p,q] · x[n,c,p,q]`

    At first the regions are the cells of a grid, each a mean: (2, 2) are the quadrants. Training
    moves the weights, which nothing keeps positive or smooth. Not in PyTorch.

    Args:
        input_size: (h, w) of the features, one number for both.
        regions: (rows, columns) of the first grid, one number for both.
    Input: (n, channels, h, w). Output: (n, channels, rows·columns).
    Parameters: weight (rows·columns, h, w).
    Source: Malinowski & Fritz, Learnable pooling regions for image classification,
        arXiv:1301.3516.

    >>> LearnedPool2d(4)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[ 2.5,  4.5, 10.5, 12.5]]], dtype=float32)
    """

    one_node = True

    def __init__(self, input_size: Sizes, regions: Sizes = 2) -> None:
        super().__init__()
        where = type(self).__name__
        self.input_size = named_sizes(input_size, 2, where, "input_size")
        self.regions = named_sizes(regions, 2, where, "regions")
        if any(k > n for k, n in zip(self.regions, self.input_size, strict=True)):
            raise OptionError(
                f"{where}: expected a grid that fits the image; got regions={self.regions}, "
                f"input_size={self.input_size}."
            )
        self.weight = Parameter(self._grid())

    def _grid(self) -> Float32:
        labels = grid_labels(self.input_size, self.regions)
        inside = labels == np.arange(labels.max() + 1)[:, None, None]
        means: Float32 = (inside / inside.sum((1, 2), keepdims=True)).astype(np.float32)
        return means

    def reset_parameters(self) -> None:
        """The means over the cells of the grid."""
        self.weight.data[...] = self._grid()

    def forward(self, x: Any) -> Any:
        """`y` for x (n, channels, h, w)."""
        return F.learned_pool(x, self.weight)

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, regions={self.regions}"
