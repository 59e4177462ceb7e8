"""Frozen networks: a snapshot for inference, whose weights are arranged once and never looked at.

A plain call of a module notices weights that were changed in place, at the price of reading them
all. A frozen network has a copy of its own, so it need not look.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from striate.graph.graph import Shape
from striate.nn.execution import Inference, as_batch, build, returned
from striate.nn.mode import in_mode
from striate.nn.module import Module
from striate.nn.parameter import Float32
from striate.nn.result import Place
from striate.nn.trace import Traced, trace


class Frozen:
    """A network's inference program with copies of its weights; later changes do not reach it.

    Args:
        net: the network; it is frozen as in `eval()` mode.

    >>> import numpy as np, striate as st
    >>> net = st.nn.Sequential(st.nn.Conv2d(3, 8, 3), st.nn.ReLU())
    >>> fast = st.freeze(net)
    >>> fast(np.zeros((2, 3, 8, 8))).shape
    (2, 8, 6, 6)
    """

    def __init__(self, net: Module) -> None:
        self._net = net
        self._programs: dict[
            tuple[Shape, ...], tuple[Traced, Inference, MappingProxyType[str, Float32]]
        ] = {}
        self._arrays: dict[str, Float32] = {
            name: array.copy() for name, array in net.arrays().items()
        }

    def __call__(self, *inputs: Any) -> Any:
        """What the network gives for a batch (n, …); with several inputs for one of each."""
        batches = tuple(as_batch(x, "freeze") for x in inputs)
        shapes = tuple(x.shape[1:] for x in batches)
        if shapes not in self._programs:
            self._programs[shapes] = self._build(shapes)
        traced, program, arrays = self._programs[shapes]
        given = batches[0] if len(batches) == 1 else batches
        if isinstance(traced.result, Place):
            return program.run(given, arrays, frozen=True)
        names = list(traced.graph.outputs)
        return returned(traced, program.values(given, arrays, names, frozen=True))

    def _build(
        self, shapes: tuple[Shape, ...]
    ) -> tuple[Traced, Inference, MappingProxyType[str, Float32]]:
        with in_mode(self._net, training=False):
            traced = trace(self._net, shapes)
        graph = traced.graph
        arrays = {
            p.name: np.ascontiguousarray(self._arrays[p.name], np.float32) for p in graph.parameters
        }
        return traced, build(graph), MappingProxyType(arrays)

    def __repr__(self) -> str:
        return f"Frozen({type(self._net).__name__})"


def freeze(net: Module) -> Frozen:
    """A snapshot of a network for fast inference; see `Frozen`."""
    return Frozen(net)
