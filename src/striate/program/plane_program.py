"""Programs of networks that treat each channel by itself: a batch of n·c planes, in lanes.

Going back computes the forward values again, in the cache: cheaper than keeping them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.codegen.targets import Target, current_target
from striate.graph.gradient import pull_back
from striate.graph.graph import Graph
from striate.program.gradient_program import Array, Arrays, GradientProgram, Passage
from striate.program.native import BatchProgram
from striate.program.plan import plan_inference
from striate.program.planes import Planes


class PlaneProgram:
    """Computes some nodes of a graph on planes."""

    def __init__(
        self, planes: Planes, graph: Graph, outputs: Sequence[str], target: Target
    ) -> None:
        self.planes, self.outputs = planes, tuple(outputs)
        self.graph = Graph(graph.nodes.values(), self.outputs).pruned()
        self._program = BatchProgram(
            plan_inference(self.graph, target, self.outputs), self.graph, target
        )

    def run(
        self, arrays: Mapping[str, NDArray[Any]], count: int, parameters: Mapping[str, Any]
    ) -> Arrays:
        """The outputs (n, c, …) of a batch of `count` samples; `arrays` are inputs by name."""
        planes = self.planes
        inputs = [
            planes.numbers(node.name, parameters, count)
            if node.name in planes.given
            else planes.stacked(arrays[node.name])
            for node in self.graph.inputs
        ]
        found = self._program.run(inputs, count * planes.channels, {})
        return dict(zip(self.outputs, map(planes.apart, found), strict=True))


class PlaneGradient(GradientProgram):
    """Outputs and gradients, natively, of a graph that `planes.plane_form` has a form of."""

    def __init__(
        self,
        planes: Planes,
        graph: Graph,
        outputs: Sequence[str] | None = None,
        wanted: Sequence[str] = (),
        target: Target | None = None,
        relu: str = "gradient",
    ) -> None:
        super().__init__(graph, outputs, wanted, relu=relu)
        self.planes, self.target = planes, target or current_target()
        self._lock = threading.Lock()
        self._forward: PlaneProgram | None = None
        self._backward: PlaneProgram | None = None
        rows = [name for name, source in planes.given.items() if source.parameter in self.wanted]
        inner = [name for name in self.wanted if name in planes.graph.nodes]
        self._pull = pull_back(planes.graph, self.outputs, [*inner, *rows], relu)

    def forward(self, passage: Passage) -> Arrays:
        given = passage.given
        if not given.count:
            return {o: self.zeros(o, 0) for o in self.outputs}
        with self._lock:
            if self._forward is None:
                self._forward = PlaneProgram(
                    self.planes, self.planes.graph, self.outputs, self.target
                )
            return self._forward.run(self._arrays(passage), given.count, given.parameters)

    def pulled(self, passage: Passage, upstream: Arrays) -> Arrays:
        given, found = passage.given, dict(self._pull.gradients)
        arrays = self._arrays(passage)
        arrays |= {self._pull.upstream[name]: array for name, array in upstream.items()}
        values: Arrays = {}
        if given.count and found:
            with self._lock:
                if self._backward is None:
                    names = tuple(dict.fromkeys(found.values()))
                    self._backward = PlaneProgram(self.planes, self._pull.graph, names, self.target)
                values = self._backward.run(arrays, given.count, given.parameters)
        return {name: self._gradient(name, values, given.count) for name in self.wanted}

    def _arrays(self, passage: Passage) -> Arrays:
        names = (node.name for node in self.graph.inputs)
        return dict(zip(names, passage.given.inputs, strict=True))

    def _gradient(self, name: str, values: Arrays, count: int) -> Array:
        node = self.graph.nodes[name]
        if node.batched:
            source = self._pull.gradients.get(name)
            if source is None or source not in values:
                return self.zeros(name, count)
            return values[source]
        total = np.zeros(node.shape)
        for place, given in self.planes.given.items():
            made = values.get(self._pull.gradients.get(place, ""))
            if given.parameter != name or made is None:
                continue
            sums = made.sum(axis=(0, *range(2, made.ndim)), dtype=np.float64)
            if node.shape[-1] == 1:
                sums = sums.sum(keepdims=True)
            total[... if given.row is None else given.row] += sums
        return total.astype(np.float32)
