"""Layers of several inputs or outputs, and of whole numbers, for the contract of every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from striate import nn
from striate.nn import functional as F

IMAGES, SEQUENCES = (2, 4, 6, 5), (2, 2, 3)
Arrays = tuple[np.ndarray, ...]


class Called(nn.Module):
    """A layer that takes or gives tuples, as a network of plain tensors."""

    def __init__(self, layer: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, *inputs: Any) -> Any:
        return self.call(self.layer, *inputs)


def output(layer: nn.Module, x: Any) -> Any:
    """The output of every step of a sequence layer, without the last states."""
    return layer(x)[0]


def last_states(layer: nn.Module, x: Any) -> Any:
    """What an LSTM remembers at the end: h and c."""
    _, (h, c) = layer(x)
    return F.cat([h[-1], c[-1]], 1)


def cell_states(layer: nn.Module, x: Any, h: Any, c: Any) -> Any:
    return F.cat(layer(x, (h, c)), 1)


def hidden_state(layer: nn.Module, x: Any, h: Any) -> Any:
    return layer(x, h)


def pooled(rank: int, kernel: Any) -> Callable[[np.random.Generator], Arrays]:
    """What a max pooling gives: its maxima and where they were."""
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[rank]
    shape = {1: (2, 4, 9), 2: (2, 4, 6, 6), 3: (2, 2, 2, 6, 4)}[rank]
    return lambda rng: pool(rng.normal(size=shape), kernel, return_indices=True)


def numbers(rng: np.random.Generator) -> Arrays:
    """Rows of a table, but for row 2, which is the padding's and learns nothing."""
    return (rng.choice([0, 1, 3, 4, 5, 6], (2, 5)),)


LAYERS: dict[str, Any] = {
    "Bilinear": (lambda: nn.Bilinear(5, 4, 3), ((2, 6, 5), (2, 6, 4)), (6, 3)),
    "Bilinear-no-bias": (lambda: nn.Bilinear(5, 4, 3, bias=False), ((2, 5), (2, 4)), (3,)),
    "AdaptiveInstanceNorm": (nn.AdaptiveInstanceNorm, (IMAGES, (2, 4, 3, 7)), IMAGES[1:]),
    "AdaptiveInstanceNorm-scale": (
        nn.AdaptiveInstanceNorm,
        (IMAGES, (2, 4), (2, 4)),
        IMAGES[1:],
    ),
    "CosineSimilarity": (nn.CosineSimilarity, (IMAGES, IMAGES), (6, 5)),
    "PairwiseDistance": (lambda: nn.PairwiseDistance(3.0), ((2, 7), (2, 7)), ()),
    "PairwiseDistance-kept": (
        lambda: nn.PairwiseDistance(keepdim=True),
        (SEQUENCES, SEQUENCES),
        (2, 1),
    ),
    "MaxUnpool1d": (lambda: nn.MaxUnpool1d(3), pooled(1, 3), (4, 9)),
    "MaxUnpool2d": (lambda: nn.MaxUnpool2d((3, 1)), pooled(2, (3, 1)), (4, 6, 6)),
    "MaxUnpool3d": (lambda: nn.MaxUnpool3d((1, 3, 1)), pooled(3, (1, 3, 1)), (2, 2, 6, 4)),
    "Embedding": (lambda: nn.Embedding(7, 3), numbers, (5, 3)),
    "Embedding-padded": (lambda: nn.Embedding(7, 3, padding_idx=2), numbers, (5, 3)),
    "LSTM": (lambda: Called(nn.LSTM(3, 3, batch_first=True), output), SEQUENCES, (2, 3)),
    "LSTM-states": (lambda: Called(nn.LSTM(3, 2, batch_first=True), last_states), SEQUENCES, (4,)),
    "LSTM-projected": (
        lambda: Called(nn.LSTM(3, 2, 2, batch_first=True, proj_size=1), output),
        SEQUENCES,
        (2, 1),
    ),
    "GRU": (
        lambda: Called(nn.GRU(3, 2, batch_first=True, bidirectional=True), output),
        SEQUENCES,
        (2, 4),
    ),
    "RNN": (lambda: Called(nn.RNN(3, 4, batch_first=True), output), SEQUENCES, (2, 4)),
    "LSTMCell": (lambda: Called(nn.LSTMCell(5, 4), cell_states), ((2, 5), (2, 4), (2, 4)), (8,)),
    "GRUCell": (lambda: Called(nn.GRUCell(5, 4), hidden_state), ((2, 5), (2, 4)), (4,)),
    "RNNCell": (lambda: Called(nn.RNNCell(5, 4, False), hidden_state), ((2, 5), (2, 4)), (4,)),
}
