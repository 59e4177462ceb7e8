"""The registry: every operation of a graph, found by name."""

from __future__ import annotations

from functools import cache

from striate.errors import ModelError, suggest
from striate.formula.activation import Map
from striate.formula.broadcast import BroadcastMap, Tile
from striate.formula.conv import Conv1d, Conv2d, Conv3d, ConvTranspose2d
from striate.formula.einsum import Einsum
from striate.formula.embedding import Embedding
from striate.formula.linear import Bilinear, Dense, Linear
from striate.formula.loss import CrossEntropy, MseLoss, Softmax
from striate.formula.norm import BatchNorm, BatchNormTraining, LocalResponseNorm
from striate.formula.operation import Gradient, Operation
from striate.formula.pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from striate.formula.rbf import Rbf, Subsample
from striate.formula.reduce import CumSum, LogSumExp, ReduceAxes
from striate.formula.structure import Concat, Dropout, Flip, Reshape, Roll, Slice

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Conv1d(),
        Conv2d(),
        Conv3d(),
        ConvTranspose2d(),
        Linear(),
        MaxPool2d(),
        AvgPool2d(),
        AdaptiveAvgPool2d(),
        BatchNorm(),
        BatchNormTraining(),
        LocalResponseNorm(),
        Map(),
        Concat(),
        Slice(),
        Reshape(),
        Dropout(),
        Softmax(),
        CrossEntropy(),
        MseLoss(),
        BroadcastMap(),
        Tile(),
        ReduceAxes(),
        LogSumExp(),
        CumSum(),
        Einsum(),
        Dense(),
        Bilinear(),
        Rbf(),
        Subsample(),
        Embedding(),
        Flip(),
        Roll(),
    )
}


@cache
def find_operation(op: str) -> Operation:
    """The operation named `op`, or the gradient of one: "conv2d", "conv2d:dw".

    Raises:
        ModelError: there is no such operation; the nearest name is suggested.

    >>> find_operation("conv2d:dw").name
    'conv2d:dw'
    """
    name, _, argument = op.partition(":d")
    operation = OPERATIONS.get(name)
    if operation is None or (argument == "" and name != op):
        raise ModelError(f"graph: unknown operation {op!r}. {suggest(name, OPERATIONS)}")
    return Gradient(operation, argument) if argument else operation
