"""What a layer costs, by any algorithm, and what it would cost without sharing and locality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from striate.errors import OptionError
from striate.graph.graph import Graph, Node, Shape
from striate.inspect.summary import Row, summary

if TYPE_CHECKING:
    from striate.nn.module import Module

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")


@dataclass(frozen=True)
class Cost:
    """A layer's (or a network's) cost for one sample.

    Attributes:
        multiply_adds: products that are summed up.
        operations: single additions, multiplications, comparisons and functions.
        parameters: numbers that are learned.
        activations: numbers of all outputs.
        bytes_moved: what must be read and written at least, in float32: every input, parameter
            and output once.
        multiplications: of one convolution, by algorithm: "direct", "winograd2", "winograd4"
            (3×3 and stride 1), "fft" (transforms of the whole image; real multiplications).
        shape: of the output.
    """

    multiply_adds: int
    operations: int
    parameters: int
    activations: int
    bytes_moved: int
    multiplications: Mapping[str, int] = field(default_factory=dict)
    shape: Shape = ()

    @property
    def intensity(self) -> float:
        """Operations for each byte moved: below what the machine does, memory is the limit."""
        return self.operations / max(self.bytes_moved, 1)


def cost(layer: Module | Graph, input_shape: Sequence[int] | None = None) -> Cost:
    """What a layer or a network costs for one sample.

    Args:
        layer: a layer, a network or a graph.
        input_shape: of one sample, (c, h, w); by default the one it last had.
    Raises:
        OptionError: the shape is not known.

    >>> from striate import nn
    >>> found = cost(nn.Conv2d(3, 10, 5), (3, 32, 32))
    >>> found.parameters, found.multiply_adds, found.shape
    (760, 588000, (10, 28, 28))
    """
    found = summary(layer, input_shape)
    graph = found.graph
    steps = graph.steps
    single = steps[0] if len(steps) == 1 else None
    return Cost(
        multiply_adds=found.multiply_adds,
        operations=found.operations,
        parameters=found.parameters,
        activations=found.activation_bytes // 4,
        bytes_moved=found.bytes_moved,
        multiplications={} if single is None else algorithms(graph, single, found.rows[0]),
        shape=graph.nodes[graph.outputs[0]].shape,
    )


def algorithms(graph: Graph, node: Node, row: Row) -> dict[str, int]:
    """Multiplications of one convolution by algorithm; {} for anything else."""
    if node.op not in _CONVOLUTIONS:
        return {}
    x, w = (graph.nodes[i].shape for i in node.inputs[:2])
    found = {"direct": row.multiply_adds}
    ones = all(set(node.attributes[k]) == {1} for k in ("stride", "dilation"))
    pairs = w[1] * w[0]
    if ones and node.op == "conv2d" and w[2:] == (3, 3):
        for tile in (2, 4):
            tiles = math.prod(-(-n // tile) for n in node.shape[1:])
            found[f"winograd{tile}"] = pairs * tiles * (tile + 2) ** 2
    if ones:
        sizes = [n + sum(p) for n, p in zip(x[1:], node.attributes["padding"], strict=True)]
        found["fft"] = _by_transforms(sizes, x[0], w)
    return found


def _by_transforms(sizes: Sequence[int], channels: int, weight: Shape) -> int:
    """Real multiplications of transforms, products and the way back, on powers of two.

    A complex transform of N numbers takes N/2·log₂N complex products, a real one half of that; a
    complex product takes 4 multiplications.
    """
    length: int = math.prod(2 ** math.ceil(math.log2(max(n, 1))) for n in sizes)
    planes = channels + weight[0] + weight[0] * weight[1]
    transform = length * max(math.ceil(math.log2(max(length, 1))), 1)
    return planes * transform + weight[0] * weight[1] * 2 * length


# ---- sparse and dense ----------------------------------------------------------------------------


@dataclass(frozen=True)
class SparseVersusDense:
    """A convolution beside the fully connected layer that does the same.

    Attributes:
        shape: of the output.
        operations: multiplications and additions of the convolution.
        weights: numbers that it has.
        entries: of its matrix, that are not 0 by design.
        dense_entries: of the full matrix: inputs times outputs.
        dense_operations: multiplications and additions with the full matrix.
    """

    shape: Shape
    operations: int
    weights: int
    entries: int
    dense_entries: int
    dense_operations: int

    @property
    def times_fewer(self) -> float:
        """How many times fewer operations the convolution takes."""
        return self.dense_operations / max(self.operations, 1)

    def __str__(self) -> str:
        return (
            f"{self.operations:,} operations with {self.weights:,} weights; as a full matrix "
            f"{self.dense_operations:,} operations with {self.dense_entries:,} weights "
            f"({self.times_fewer:,.0f} times more)"
        )


def sparse_versus_dense(layer: Module, input_shape: Sequence[int]) -> SparseVersusDense:
    """Compare a layer with the fully connected one from the same inputs to the same outputs.

    Args:
        layer: one linear layer.
        input_shape: of one sample, (c, h, w).
    Raises:
        OptionError: the layer is more than one step.
    Source: Goodfellow, Bengio & Courville, Deep Learning (2016), section 9.2: an edge detector
    [−1 1] on an image of 320 columns and 280 rows.

    >>> from striate import nn
    >>> edge = nn.Conv2d(1, 1, (1, 2), bias=False)
    >>> found = sparse_versus_dense(edge, (1, 280, 320))
    >>> found.operations, found.dense_entries, round(found.times_fewer)
    (267960, 8003072000, 59733)
    """
    found = summary(layer, input_shape)
    if len(found.rows) != 1:
        raise OptionError(
            f"sparse_versus_dense: expected one layer; got {len(found.rows)} steps, "
            f"{[row.name for row in found.rows]}."
        )
    [row] = found.rows
    inputs, outputs = math.prod(found.input_shape), math.prod(row.shape)
    return SparseVersusDense(
        shape=row.shape,
        operations=row.operations,
        weights=row.parameters,
        entries=row.multiply_adds or row.operations,
        dense_entries=inputs * outputs,
        dense_operations=outputs * (2 * inputs - 1),
    )
