"""A network in another mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from striate.nn.module import Module


@contextmanager
def in_mode(net: Module, training: bool) -> Iterator[Module]:
    """The network in training or in evaluation mode, and afterwards as it was.

    Layers that were in another mode than the network are put back into theirs.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Dropout())
    >>> with in_mode(net, False):
    ...     net[0].training
    False
    >>> net[0].training
    True
    """
    modes = [(module, module.training) for module in net.modules()]
    if all(mode == training for _, mode in modes):
        yield net
        return
    net.train(training)
    try:
        yield net
    finally:
        for module, mode in modes:
            module.training = mode
