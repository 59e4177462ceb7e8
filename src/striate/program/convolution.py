"""A convolution's windows as the kernels see them, whatever its rank or direction.

Every convolution node, transposed or not, of one to three spatial axes, is one `Windows`: a
convolution from a source image to an output image, both as rows × columns (the rows of a volume
are its depth and height, flattened). A transposed convolution runs it backwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from striate.graph.graph import Node, Shape
from striate.kernels.window import Taps, reversed_taps, taps


@dataclass(frozen=True)
class Windows:
    """A convolution from `contracted` channels of `source` to `outputs` channels.

    Attributes:
        outputs: channels of the convolution's output, of all groups.
        contracted: channels of its source, of all groups.
        groups: as the weight has them.
        kernel: (rows, columns) of the kernel.
        source: (rows, columns) of the source.
        rows: taps of each output row.
        cols: taps of each output column.
        stride: along each spatial axis.
        dilation: along each spatial axis.
        padding: (before, after) along each spatial axis.
        rank: spatial axes.
        flipped: whether the kernels are met the other way round, as in a true convolution.
    """

    outputs: int
    contracted: int
    groups: int
    kernel: tuple[int, int]
    source: tuple[int, int]
    rows: Taps
    cols: Taps
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    rank: int = 2
    flipped: bool = False

    @property
    def out(self) -> tuple[int, int]:
        return len(self.rows), len(self.cols)

    @cached_property
    def back_rows(self) -> Taps:
        """For each source row: (kernel row, output row) of the windows that meet it."""
        return reversed_taps(self.rows, self.source[0])

    @cached_property
    def back_cols(self) -> Taps:
        return reversed_taps(self.cols, self.source[1])

    @property
    def depthwise(self) -> bool:
        """One channel in and one out a group."""
        return self.groups > 1 and self.groups == self.outputs == self.contracted

    @property
    def unit_3x3(self) -> bool:
        """What Winograd serves: 3×3, stride and dilation 1, no groups, padding below 3."""
        plain = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1
        return plain and self.kernel == (3, 3) and all(max(p) < 3 for p in self.padding)


def flat_image(spatial: Sequence[int]) -> tuple[int, int]:
    """Spatial axes as (rows, columns)."""
    return math.prod(spatial[:-1]), spatial[-1]


def windows(
    attributes: Mapping[str, Any],
    outputs: int,
    contracted: int,
    kernel: Sequence[int],
    source: Sequence[int],
    out: Sequence[int],
    flipped: bool = False,
) -> Windows:
    """The windows of a convolution of `source` (spatial sizes) into `out` (spatial sizes)."""
    stride, dilation = tuple(attributes["stride"]), tuple(attributes["dilation"])
    padding = tuple((int(a), int(b)) for a, b in attributes["padding"])
    along = [
        taps(source[k], out[k], kernel[k], stride[k], dilation[k], padding[k][0])
        for k in range(len(source))
    ]
    if flipped:
        along = [
            tuple(tuple((kernel[k] - 1 - tap, at) for tap, at in here[::-1]) for here in axis)
            for k, axis in enumerate(along)
        ]
    rows: Taps = (((0, 0),),)
    for taps_here, size, k in zip(along[:-1], source[:-1], kernel[:-1], strict=True):
        rows = tuple(
            tuple((a * k + c, b * size + d) for a, b in outer for c, d in inner)
            for outer in rows
            for inner in taps_here
        )
    return Windows(
        outputs,
        contracted,
        int(attributes["groups"]),
        flat_image(kernel),
        flat_image(source),
        rows,
        along[-1],
        stride,
        dilation,
        padding,
        len(source),
        flipped,
    )


def windows_of(node: Node, x: Shape, w: Shape, y: Shape) -> Windows:
    """The windows of a convolution node (or of a gradient of one).

    Args:
        node: its attributes count.
        x: shape of the node's input, without the batch.
        w: shape of its weight.
        y: shape of its output.
    """
    if node.operation.startswith("local"):
        rank = len(x) - 1
        if node.operation.startswith("local_transpose"):
            return windows(node.attributes, x[0], y[0], w[2 : 2 + rank], y[1:], x[1:])
        return windows(node.attributes, w[0], x[0], w[2 : 2 + rank], x[1:], y[1:])
    if node.operation.startswith("conv_transpose"):
        return windows(node.attributes, x[0], y[0], w[2:], y[1:], x[1:])
    flipped = node.operation.startswith("true_")
    return windows(node.attributes, w[0], x[0], w[2:], x[1:], y[1:], flipped)
