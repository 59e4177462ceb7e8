"""The registry: every operation of a graph, found by name."""

from __future__ import annotations

from functools import cache

from striate.errors import ModelError, OptionError, suggest
from striate.formula.activation import Map
from striate.formula.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool, FractionalMaxPool
from striate.formula.broadcast import BroadcastMap, Tile
from striate.formula.channel_map import ChannelMap
from striate.formula.channel_pool import ChannelAvgPool, ChannelLpPool, ChannelMaxPool
from striate.formula.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    TrueConv1d,
    TrueConv2d,
    TrueConv3d,
)
from striate.formula.ctc import CtcLoss
from striate.formula.einsum import Einsum
from striate.formula.embedding import Embedding
from striate.formula.group_norm import (
    AdaptiveInstanceNorm,
    GroupNorm,
    LayerNorm,
    RmsNorm,
    StyledInstanceNorm,
)
from striate.formula.linear import Bilinear, Dense, Linear
from striate.formula.local import (
    Local1d,
    Local2d,
    Local3d,
    LocalTranspose1d,
    LocalTranspose2d,
    LocalTranspose3d,
)
from striate.formula.loss import CrossEntropy, MseLoss, Softmax
from striate.formula.loss_classes import (
    DeepSupervisionLoss,
    FocalCrossEntropy,
    MultiMarginLoss,
    NllLoss,
    SoftCrossEntropy,
    WeightedCrossEntropy,
)
from striate.formula.loss_images import GramMatrix, OverlapLoss, StyleLoss, TotalVariation
from striate.formula.loss_pairs import CosineEmbedding, TripletMargin
from striate.formula.loss_scalar import ScalarLoss, WeightedScalarLoss
from striate.formula.norm import BatchNorm, BatchNormTraining, LocalResponseNorm
from striate.formula.operation import Gradient, Operation
from striate.formula.own import IndexFormula
from striate.formula.pad import Pad
from striate.formula.permute import Permute
from striate.formula.pool import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from striate.formula.random_numbers import Uniform
from striate.formula.rbf import Rbf, Subsample
from striate.formula.rearrange import ChannelShuffle, Fold, PixelShuffle, PixelUnshuffle, Unfold
from striate.formula.recurrent import GruState, LstmOutput, LstmState
from striate.formula.reduce import CumSum, LogSumExp, ReduceAxes
from striate.formula.regions import LearnedPool, RegionPool
from striate.formula.resize import Resize
from striate.formula.softmax import Glu, LogSoftmax, SoftmaxAlong, Softmin
from striate.formula.structure import Concat, Dropout, Flip, Reshape, Roll, Slice
from striate.formula.tiled import TiledConv1d, TiledConv2d, TiledConv3d
from striate.formula.unpool import (
    AdaptiveMaxPoolIndices,
    FractionalMaxPoolIndices,
    MaxPoolIndices,
    MaxUnpool,
)
from striate.formula.window_pool import (
    ExpectedPool,
    GaussianPool,
    LpPool,
    MeanPool,
    StochasticPool,
    SumPool,
)

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Conv1d(),
        Conv2d(),
        Conv3d(),
        ConvTranspose1d(),
        ConvTranspose2d(),
        ConvTranspose3d(),
        TrueConv1d(),
        TrueConv2d(),
        TrueConv3d(),
        Local1d(),
        Local2d(),
        Local3d(),
        LocalTranspose1d(),
        LocalTranspose2d(),
        LocalTranspose3d(),
        TiledConv1d(),
        TiledConv2d(),
        TiledConv3d(),
        Pad(),
        Permute(),
        Linear(),
        MaxPool1d(),
        MaxPool2d(),
        MaxPool3d(),
        AvgPool1d(),
        AvgPool2d(),
        AvgPool3d(),
        *(AdaptiveAvgPool(rank) for rank in (1, 2, 3)),
        *(AdaptiveMaxPool(rank) for rank in (1, 2, 3)),
        FractionalMaxPool(),
        SumPool(),
        MeanPool(),
        GaussianPool(),
        LpPool(),
        StochasticPool(),
        ExpectedPool(),
        MaxPoolIndices(),
        *(AdaptiveMaxPoolIndices(rank) for rank in (1, 2, 3)),
        FractionalMaxPoolIndices(),
        MaxUnpool(),
        ChannelMaxPool(),
        ChannelAvgPool(),
        ChannelLpPool(),
        RegionPool(),
        LearnedPool(),
        Resize(),
        PixelShuffle(),
        PixelUnshuffle(),
        ChannelShuffle(),
        Unfold(),
        Fold(),
        BatchNorm(),
        BatchNormTraining(),
        LocalResponseNorm(),
        LayerNorm(),
        RmsNorm(),
        GroupNorm(),
        StyledInstanceNorm(),
        AdaptiveInstanceNorm(),
        Map(),
        ChannelMap(),
        SoftmaxAlong(),
        LogSoftmax(),
        Softmin(),
        Glu(),
        Concat(),
        Slice(),
        Reshape(),
        Dropout(),
        Uniform(),
        Softmax(),
        CrossEntropy(),
        MseLoss(),
        NllLoss(),
        WeightedCrossEntropy(),
        SoftCrossEntropy(),
        FocalCrossEntropy(),
        MultiMarginLoss(),
        DeepSupervisionLoss(),
        ScalarLoss(),
        WeightedScalarLoss(),
        OverlapLoss(),
        TotalVariation(),
        GramMatrix(),
        StyleLoss(),
        CosineEmbedding(),
        TripletMargin(),
        CtcLoss(),
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
        LstmState(),
        LstmOutput(),
        GruState(),
        Flip(),
        Roll(),
        IndexFormula(),
    )
}


def register(operation: Operation) -> None:
    """Make an operation of one's own known by its name: to graphs, programs and model files.

    Registering the same class again replaces it.

    Raises:
        OptionError: the name is empty, has a colon, or is another operation's.

    >>> from striate.formula.loss import MseLoss
    >>> class Squares(MseLoss):
    ...     name = "my_squares"
    >>> register(Squares())
    >>> find_operation("my_squares:dx").name
    'my_squares:dx'
    >>> del OPERATIONS["my_squares"]
    """
    name, known = operation.name, OPERATIONS.get(operation.name)
    same = known is not None and type(known).__qualname__ == type(operation).__qualname__
    if not name or ":" in name or (known is not None and not same):
        raise OptionError(
            f"register: expected an operation with a name of its own, without a colon; got "
            f"{name!r}."
        )
    OPERATIONS[name] = operation
    find_operation.cache_clear()


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
