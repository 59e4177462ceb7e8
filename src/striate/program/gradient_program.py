"""Programs that give a graph's outputs and the gradients to any of its nodes.

`start` runs the forward part and gives a `Passage`: the outputs, and the way back. `pull` turns
upstream gradients into gradients. Here are what both backends share, and the reference; the
native backend is in `native_gradient`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, ShapeError, suggest
from striate.graph.gradient import pull_back
from striate.graph.graph import Graph
from striate.graph.statistics import buffers
from striate.program.checks import input_arrays, parameter_of
from striate.program.reference import evaluate_graph
from striate.random import Draw

Array = NDArray[Any]
Arrays = dict[str, Array]


class Passage:
    """One forward pass: its outputs in `values`, and what is needed to go back."""

    def __init__(self, program: GradientProgram, given: Given) -> None:
        self.program, self.given = program, given
        self.values: Arrays = {}

    def pull(self, upstream: Mapping[str, Any] | None = None) -> Arrays:
        """The gradients of Σ ⟨upstream, output⟩ to each node asked for, by name.

        Args:
            upstream: for each output an array of its shape; outputs left out have none (0), and
                without any all of them have 1 everywhere.
        Returns:
            Arrays of the nodes' shapes, with the batch axis where there is one. A parameter's
            gradient is the sum over the batch. What no output depends on has zeros.
        """
        return self.program.pulled(self, self.program.upstream_arrays(upstream, self.given.count))


class Given:
    """What a forward pass is given."""

    def __init__(
        self, inputs: list[Any], parameters: Mapping[str, Any], seed: int, step: int
    ) -> None:
        self.inputs, self.parameters = inputs, parameters
        self.seed, self.step = seed, step
        self.count = len(inputs[0])


class GradientProgram:
    """A forward graph and the gradients to some of its nodes.

    Args:
        graph: the network; its batch norms are computed as they stand.
        outputs: the nodes that are computed and take upstream gradients; by default the graph's.
        wanted: the inputs, inner nodes and parameters whose gradients are given.
        draws: whether random numbers are drawn (dropout), as in training.
        relu: what goes back through ReLUs, one of `graph.gradient.RELU_RULES`.
    """

    def __init__(
        self,
        graph: Graph,
        outputs: Sequence[str] | None = None,
        wanted: Sequence[str] = (),
        draws: bool = False,
        relu: str = "gradient",
    ) -> None:
        self.graph, self.relu = graph, relu
        self.outputs = tuple(graph.outputs if outputs is None else outputs)
        self.wanted = tuple(dict.fromkeys(wanted))
        self.draws = draws
        if not graph.inputs or not self.outputs:
            raise ModelError("gradient: expected a graph with an input and an output.")
        for name in (*self.outputs, *self.wanted):
            if name not in graph.nodes:
                raise ModelError(
                    f"gradient: there is no node {name!r}. {suggest(name, graph.nodes)}"
                )
        running = buffers(graph)
        for name in self.wanted:
            if name in running:
                raise ModelError(
                    f"gradient: {name!r} expected a node that is learned or computed; got a "
                    "running statistic, which has no gradient."
                )

    def start(
        self, inputs: Any, parameters: Mapping[str, Any], *, seed: int = 0, step: int = 0
    ) -> Passage:
        """Run forward.

        Args:
            inputs: a batch (n, …); of several inputs a tuple in the graph's order, or a dict.
            parameters: arrays by name. They and the inputs must stay as they are until the last
                `pull`.
            seed, step: of the random numbers, where some are drawn.
        """
        arrays = input_arrays("gradient", self.graph.inputs, inputs)
        passage = Passage(self, Given(arrays, parameters, seed, step))
        passage.values = self.forward(passage)
        return passage

    def run(
        self,
        inputs: Any,
        parameters: Mapping[str, Any],
        upstream: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        step: int = 0,
    ) -> tuple[Arrays, Arrays]:
        """The outputs and the gradients, each by name; see `start` and `Passage.pull`."""
        passage = self.start(inputs, parameters, seed=seed, step=step)
        return passage.values, passage.pull(upstream)

    def upstream_arrays(self, upstream: Mapping[str, Any] | None, count: int) -> Arrays:
        """An array for each output."""
        given = dict.fromkeys(self.outputs, 1.0) if upstream is None else dict(upstream)
        for name in given:
            if name not in self.outputs:
                raise ModelError(
                    f"gradient: upstream of {name!r} expected one of {list(self.outputs)}. "
                    f"{suggest(name, self.outputs)}"
                )
        found: Arrays = {}
        for name in self.outputs:
            shape = (count, *self.graph.nodes[name].shape)
            value: Any = given.get(name, 0.0)
            if np.ndim(value) == 0 and not isinstance(value, np.ndarray):
                value = np.full(shape, value, np.float32)
            if np.shape(value) != shape:
                raise ShapeError(
                    f"gradient: upstream of {name!r} expected shape {shape}; got {np.shape(value)}."
                )
            found[name] = value
        return found

    def full_shape(self, name: str, count: int) -> tuple[int, ...]:
        """A node's shape, with the batch where it has one."""
        node = self.graph.nodes[name]
        return (count, *node.shape) if node.batched else node.shape

    def zeros(self, name: str, count: int) -> Array:
        """Zeros of a node's shape: an empty batch, or a gradient that nothing contributes to."""
        return np.zeros(self.full_shape(name, count), np.float32)

    def forward(self, passage: Passage) -> Arrays:
        """The outputs."""
        raise TypeError(f"{type(self).__name__} does not say how it runs.")

    def pulled(self, passage: Passage, upstream: Arrays) -> Arrays:
        """The gradients."""
        raise TypeError(f"{type(self).__name__} does not say how it runs.")


class ReferenceGradient(GradientProgram):
    """In NumPy float64; `start` and `run` round to float32 unless `exact`."""

    def __init__(
        self,
        graph: Graph,
        outputs: Sequence[str] | None = None,
        wanted: Sequence[str] = (),
        draws: bool = False,
        exact: bool = False,
        relu: str = "gradient",
    ) -> None:
        super().__init__(graph, outputs, wanted, draws, relu)
        self.kind = np.float64 if exact else np.float32
        self._pull = pull_back(graph, self.outputs, self.wanted, relu)

    def forward(self, passage: Passage) -> Arrays:
        return self._evaluated(passage, {}, {name: name for name in self.outputs})

    def pulled(self, passage: Passage, upstream: Arrays) -> Arrays:
        leaves = {self._pull.upstream[name]: array for name, array in upstream.items()}
        found = self._evaluated(passage, leaves, self._pull.gradients)
        count = passage.given.count
        return {
            name: found[name]
            if name in found
            else np.zeros(self.full_shape(name, count), self.kind)
            for name in self.wanted
        }

    def _evaluated(self, passage: Passage, leaves: Arrays, names: Mapping[str, str]) -> Arrays:
        given = passage.given
        leaves = dict(leaves)
        for node, array in zip(self.graph.inputs, given.inputs, strict=True):
            leaves[node.name] = array
        for node in self.graph.parameters:
            leaves[node.name] = parameter_of(given.parameters, node.name, node.shape)
        draw = Draw(given.seed, given.step) if self.draws else None
        found = evaluate_graph(self._pull.graph, leaves, list(names.values()), draw)
        return {k: np.array(found[name], self.kind, order="C") for k, name in names.items()}
