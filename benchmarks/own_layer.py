"""One pass of one layer of ours, through the same planning, kernels and threads as a network's.

Its inputs are brought into the layout that they would have inside a network once, outside of what
is timed. A forward pass has its weights arranged beforehand, as inference has; a gradient pays for
arranging them, as a step of training does. The optimiser's update is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

import striate as st
from benchmarks.layer import Layer
from striate.codegen.targets import current_target
from striate.program.arrays import address_of, aligned_zeros
from striate.program.blocked import BLOCKED, PLAIN
from striate.program.blocked_backward import TrainingLowering
from striate.program.blocked_forward import ForwardLowering
from striate.program.blocked_inference import (
    FUSABLE,
    thin_strided_points,
)
from striate.program.blocked_native import Machine, encoder_for
from striate.program.blocked_plan import bind_parameters, place
from striate.program.choose import Choice, Choices, batch_magnitude
from striate.program.convolution import Windows
from striate.program.fuse import fuse

Arrays = Mapping[str, np.ndarray]
_IMAGE = 4  # channels of what can only be the network's own input
_OUT = "output:0"


class _Direct(Choices):
    """The direct kernels with their own options."""

    def find(self, w: Windows, direction: str, plain: bool = False) -> Choice:
        """The direct form of any convolution."""
        return Choice()


class OwnLayer:
    """A compiled pass: `run` is what is timed, `result` gives what it computes.

    Args:
        layer: the layer and the pass.
        inputs: "input", "residual", "upstream" of the batch, as the pass needs them.
        weights: "0.weight" and "0.bias".
        direct: not Winograd, whatever the program would choose.
    """

    def __init__(self, layer: Layer, inputs: Arrays, weights: Arrays, direct: bool = False) -> None:
        self._layer, self._graph = layer, layer.pass_graph()
        self._choices = _Direct if direct else Choices
        low, first, last = self._lowered()
        everything = (0, len(low.stages))
        homes = {value.home for value in low.places.values.values() if value.home in self._sources}
        memory = place(
            low.places, low.prepare, low.stages, low.shared, dict.fromkeys(homes, everything)
        )
        kept = {n.name: inputs[n.name] for n in self._graph.inputs if n.name in inputs}
        self._inputs = {name: np.ascontiguousarray(x, np.float32) for name, x in kept.items()}
        self._weights = {name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}
        self._machine = Machine(
            [*low.prepare, *low.stages], memory, [*self._inputs, _OUT], current_target()
        )
        self._gradient = aligned_zeros(math.prod(layer.weight_shape) + 64)
        encoder = encoder_for(self._machine, low.places, lambda _: address_of(self._gradient))
        stages = {"prepare": low.prepare, "all": low.stages, "timed": low.stages[first:last]}
        self._counts = {name: len(part) for name, part in stages.items()}
        self._tables = {name: encoder.table(part) for name, part in stages.items()}
        for table in self._tables.values():
            used = {name: address_of(self._weights[name]) for name in table.parameters}
            bind_parameters(table, used)
        for name, array in self._inputs.items():
            self._machine.set_array(name, address_of(array))
        # A gradient to weights is no value of the batch: it comes in `_gradient`.
        made = () if layer.which == "weight" else self._graph.nodes[low.graph.outputs[0]].shape
        self._out = np.empty((layer.n, *made), np.float32)
        self._machine.set_array(_OUT, address_of(self._out))
        self._walk("prepare")
        self.result()

    def _lowered(self) -> tuple[ForwardLowering, int, int]:
        """The stages, and which of them are timed."""
        target, layer, graph = current_target(), self._layer, self._graph
        graph = thin_strided_points(graph)
        schedule = fuse(graph, (), FUSABLE)
        low: ForwardLowering
        if layer.which == "forward":
            low = ForwardLowering(graph, schedule, target)
            low.folds = {}
        else:
            parts = {"0.weight": ["gradient"]} if layer.which == "weight" else {}
            low = TrainingLowering(graph, schedule, target, parts, st.optim.SGD(0.1).rule())
            low.left = dict.fromkeys(parts, 2)  # so that it waits with the update
        low.choices = self._choices(target, batch_magnitude(layer.n))
        layout = PLAIN if layer.linear else BLOCKED
        self._sources: set[str] = set()
        for node in graph.inputs:
            if node.name not in self._read():
                continue
            low.arrays[node.name] = 4 * math.prod(node.shape)
            if node.name != "input" or layer.linear or layer.c > _IMAGE:
                self._sources.add(low.value(node.name, layout))
                del low.arrays[node.name]
        first = len(low.stages)
        for step in schedule.steps:
            low.lower(step)
        last = len(low.stages)
        if layer.which != "weight":
            low.deliver(graph.outputs[0], 0)
        return low, first, last

    def _read(self) -> set[str]:
        """The inputs whose numbers the pass needs."""
        if self._layer.which == "input":
            return {"upstream"}
        return {n.name for n in self._graph.inputs}

    def _walk(self, name: str) -> None:
        self._machine.run(self._tables[name], self._counts[name], self._layer.n)

    def run(self) -> None:
        """The pass, its inputs where an earlier layer would have left them."""
        self._walk("timed")

    def result(self) -> np.ndarray:
        """What the pass computes from its inputs, as an ordinary array."""
        self._walk("all")
        if self._layer.which == "weight":
            shape = self._layer.weight_shape
            return np.array(self._gradient[: math.prod(shape)].reshape(shape))
        return self._out
