"""Pooling over regions that were learned: listed positions, or a weight for every position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError, suggest
from striate.formula.expression import Expr, Max, Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
)
from striate.formula.pool import PLACES, SPACE, C, N, look_up, sizes_of

_R, _P = axes("g p")
HOW = ("mean", "max", "sum")


class RegionPool(Operation):
    """One number for each region of positions, whatever the regions' forms.

    `y[n,c,g] = mean, max or sum of x[n, c, …]` over the positions whose label is g.

    Attributes:
        labels: nested lists of the image's form; a region's number, from 0, or −1 for none.
        how: "mean", "max" or "sum".

    Input: x (n, channels, …) with one to three axes of space. Output: (n, channels, regions).

    >>> RegionPool().reference({"labels": [0, 1, 0], "how": "sum"}, [[[[1.0, 2.0, 5.0]]]])
    array([[[6., 2.]]])
    """

    name = "region_pool"
    arguments = ("x",)
    attributes = ("labels", "how")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, labels = tuple(shapes[0]), self._labels(attributes)
        if x[1:] != labels.shape:
            raise ShapeError(
                f"{self.name}: expected x (channels, {', '.join(map(str, labels.shape))}), a place "
                f"for each label; got shape {x} besides the batch. Fit the regions on this size."
            )
        return (x[0], int(labels.max()) + 1)

    def _labels(self, attributes: Attributes) -> Any:
        how = attributes["how"]
        if how not in HOW:
            raise OptionError(f"{self.name}: unknown how {how!r}. {suggest(str(how), HOW)}")
        labels = np.asarray(attributes["labels"])
        if labels.dtype.kind not in "iu" or labels.ndim not in SPACE:
            raise OptionError(
                f"{self.name}: labels expected whole numbers over one to three axes of space; got "
                f"shape {labels.shape}."
            )
        missing = sorted(set(range(int(labels.max(initial=0)) + 1)) - set(labels.ravel().tolist()))
        if missing or labels.min() < -1:
            raise OptionError(
                f"{self.name}: expected every region from 0 to {labels.max()} to have a position "
                f"(−1 for none); got none of region {missing[0] if missing else labels.min()}."
            )
        return labels

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, labels = tuple(shapes[0]), self._labels(attributes)
        members = [np.argwhere(labels == g) for g in range(int(labels.max()) + 1)]
        longest = max(map(len, members))
        table = np.full((len(members), longest, labels.ndim), -1)
        for row, places in zip(table, members, strict=True):
            row[: len(places)] = places
        spots = [
            (_R * longest + _P).through(table[:, :, k].ravel().tolist()) for k in range(labels.ndim)
        ]
        read, how = look_up("x", N, C, *spots), attributes["how"]
        sizes = {"n": x[0], "c": x[1], "g": len(members), "p": longest}
        if how == "max":
            outside = {"x": -math.inf}
            return Formula((N, C, _R), Max((_P,), read), sizes, {"x": x}, outside=outside)
        body: Expr = Sum((_P,), read)
        if how == "sum":
            return Formula((N, C, _R), body, sizes, {"x": x})
        counts = {"count": np.array([float(len(k)) for k in members])}
        return Formula((N, C, _R), body / Tensor("count")[_R], sizes, {"x": x}, constants=counts)


class LearnedPool(Operation):
    """One number for each map of weights: `y[n,c,g] = Σ_{p,q} w[g,p,q] · x[n,c,p,q]`.

    The weights are shared by all channels, and learned with the rest of the network.

    Inputs: x (n, channels, …) with one to three axes of space; w (regions, …).
    Output: (n, channels, regions).

    Source: Malinowski & Fritz, Learnable pooling regions for image classification,
    arXiv:1301.3516.

    >>> LearnedPool().shape({}, [(6, 5, 5), (4, 5, 5)])
    (6, 4)
    """

    name = "learned_pool"
    arguments = ("x", "w")
    parameters = ("w",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, w = tuple(shapes[0]), tuple(shapes[1])
        if not 2 <= len(x) <= 4 or len(w) != len(x) or w[1:] != x[1:]:
            raise ShapeError(
                f"{self.name}: expected maps w (regions, …) of the size of x (channels, …); got "
                f"x {x} besides the batch and w {w}. Make the layer with input_size={x[1:]}."
            )
        return (x[0], w[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, w = tuple(shapes[0]), tuple(shapes[1])
        space = PLACES[len(x) - 2]
        body = Sum(space, look_up("w", _R, *space) * look_up("x", N, C, *space))
        sizes = {"n": x[0], "c": x[1], "g": w[0], **sizes_of(space, x[2:])}
        return Formula((N, C, _R), body, sizes, {"x": x, "w": w})
