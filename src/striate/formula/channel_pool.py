"""Pooling over channels: the largest, the mean or a norm of each group at every place.

A network that learns its filters so learns what the result does not change with (maxout).
"""

from __future__ import annotations

from collections.abc import Sequence

from striate.errors import ShapeError
from striate.formula.expression import Expr, Index, Max, Read, Sum, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    whole_attribute,
)
from striate.formula.pool import PLACES, C, N, look_up, sizes_of
from striate.formula.window_pool import norm_attributes, root, to_power

(_M,) = axes("m")


class _ChannelPool(Operation):
    arguments = ("x",)
    attributes: tuple[str, ...] = ("size", "stride")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        if not 1 <= len(x) <= 4:
            raise ShapeError(
                f"{self.name}: x expected channels and at most three axes of space besides the "
                f"batch; got shape {x}."
            )
        size = whole_attribute(self.name, attributes, "size", 1)
        stride = whole_attribute(self.name, attributes, "stride", 1)
        if x[0] < size or (x[0] - size) % stride:
            raise ShapeError(
                f"{self.name}: expected groups of {size} channels, {stride} apart, that take up "
                f"all channels; got {x[0]} channels, shape {x} besides the batch."
            )
        return ((x[0] - size) // stride + 1, *x[1:])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        groups = self.shape(attributes, [x[1:]])[0]
        space: tuple[Index, ...] = PLACES[len(x) - 2] if len(x) > 2 else ()
        read = look_up("x", N, C * int(attributes["stride"]) + _M, *space)
        sizes = {"n": x[0], "c": groups, "m": int(attributes["size"]), **sizes_of(space, x[2:])}
        return Formula((N, C, *space), self._pooled(attributes, read), sizes, {"x": x})

    def _pooled(self, attributes: Attributes, read: Read) -> Expr:
        return Max((_M,), read)


class ChannelMaxPool(_ChannelPool):
    """Maxout: the largest of each group of channels, `y[n,c,…] = max_m x[n, c·stride + m, …]`.

    Input: x (n, channels, …) with up to three axes of space. Output: (n, groups, …).

    Source: Goodfellow et al., Maxout networks, arXiv:1302.4389.

    >>> ChannelMaxPool().shape({"size": 2, "stride": 2}, [(6, 5, 5)])
    (3, 5, 5)
    """

    name = "channel_max_pool"


class ChannelAvgPool(_ChannelPool):
    """The mean of each group of channels, `y[n,c,…] = Σ_m x[n, c·stride + m, …] / size`.

    Input: x (n, channels, …) with up to three axes of space. Output: (n, groups, …).
    """

    name = "channel_avg_pool"

    def _pooled(self, attributes: Attributes, read: Read) -> Expr:
        return Sum((_M,), read) / int(attributes["size"])


class ChannelLpPool(_ChannelPool):
    """The p-norm of each group of channels, `y[n,c,…] = (Σ_m |x[n, c·stride + m, …]|^p)^(1/p)`.

    The attribute `norm` is p. With norm 2 it is the energy model of complex cells. Where the sum
    is 0 the gradient is 0.

    Input: x (n, channels, …) with up to three axes of space. Output: (n, groups, …).

    Source: Hyvärinen & Hoyer, Emergence of phase- and shift-invariant features, 2000.
    """

    name = "channel_lp_pool"
    attributes = ("size", "stride", "norm")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        found = super().shape(attributes, shapes)
        norm_attributes(self.name, {**attributes, "absolute": True})
        return found

    def _pooled(self, attributes: Attributes, read: Read) -> Expr:
        norm = float(attributes["norm"])
        return root(Sum((_M,), to_power(read, norm, True)), norm, True)
