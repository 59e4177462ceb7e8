"""The reference backend: any graph, node by node, in NumPy float64.

It has the same classes and methods as the native program and stands for what a graph means: tests
compare the two, and where there is no native code it runs everything. Deliberately not fast.
Parameters and optimiser states are kept in float32, as the native program keeps them; whatever
happens between reading and storing them is float64.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ModelError, suggest
from striate.formula.norm import BatchNormTraining
from striate.formula.operations import find_operation
from striate.formula.update import GRADIENT_NORM, UpdateRule, apply_numpy
from striate.graph.gradient import differentiate
from striate.graph.graph import LEAVES, Graph, Node
from striate.graph.losses import TrainingLoss, as_loss
from striate.graph.statistics import buffers
from striate.program.checks import (
    input_arrays,
    parameter_of,
    require_course,
    require_images,
    require_inputs,
    require_one_input,
    require_targets,
)
from striate.program.result import TrainResult
from striate.random import Draw

Array = NDArray[np.float64]
Float32 = NDArray[np.float32]

_REPORT_SECONDS = 0.1


def evaluate_graph(
    graph: Graph,
    leaves: Mapping[str, ArrayLike],
    wanted: Iterable[str] | None = None,
    draw: Draw | None = None,
) -> dict[str, Array]:
    """The values of some nodes of a graph, in float64.

    Args:
        graph: forward or gradient nodes, in order.
        leaves: arrays for the inputs and parameters, by name.
        wanted: names of the nodes asked for; by default the graph's outputs.
        draw: the random numbers of a training step; without it dropout does
            nothing, and uniform numbers are 0.5.
    Raises:
        ModelError: a wanted node is not in the graph, or a leaf has no array.
    """
    names = tuple(graph.outputs if wanted is None else wanted)
    for name in names:
        if name not in graph.nodes:
            raise ModelError(f"graph: there is no node {name!r}. {suggest(name, graph.nodes)}")
    needed = graph.pruned(names)
    last = {name: node.name for node in needed.nodes.values() for name in node.inputs}
    values: dict[str, Array] = {}
    for node in needed.nodes.values():
        if node.op in LEAVES:
            if node.name in leaves:
                values[node.name] = np.asarray(leaves[node.name], np.float64)
            continue
        values[node.name] = _evaluate_node(node, values, draw)
        for name in set(node.inputs):
            if last[name] == node.name and name not in names:
                del values[name]
    missing = [name for name in names if name not in values]
    if missing:
        raise ModelError(f"graph: expected an array for {missing[0]!r}; got none.")
    return {name: values[name] for name in names}


def _evaluate_node(node: Node, values: Mapping[str, Array], draw: Draw | None) -> Array:
    missing = [name for name in node.inputs if name not in values]
    if missing:
        raise ModelError(f"graph: expected an array for {missing[0]!r}, read by {node.name!r}.")
    operation = find_operation(node.op)
    arrays = [values[name] for name in node.inputs]
    if operation.draws and draw is not None:
        return operation.training(node.attributes, arrays[0], draw)
    return operation.reference(node.attributes, arrays)


class ReferenceInference:
    """Runs a forward graph; several inputs are a tuple of arrays or a dict by name.

    >>> from striate.formula.activation import map_attributes
    >>> graph = Graph([Node("x", "input", shape=(3,))])
    >>> _ = graph.apply("y", "map", ("x",), map_attributes("relu"))
    >>> graph.outputs = ("y",)
    >>> ReferenceInference(graph).run(np.array([[-1.0, 0.0, 2.0]]), {})
    array([[0., 0., 2.]], dtype=float32)
    """

    def __init__(self, graph: Graph) -> None:
        require_inputs("inference", graph)
        self.graph = graph

    def run(self, x: Any, parameters: Mapping[str, ArrayLike], frozen: bool = False) -> Float32:
        """The first output, (n, *shape) float32, of a batch."""
        name = self.graph.outputs[0]
        return self.values(x, parameters, [name])[name]

    def values(
        self,
        x: Any,
        parameters: Mapping[str, ArrayLike],
        names: Iterable[str],
        frozen: bool = False,
    ) -> dict[str, Float32]:
        """The outputs of any nodes, float32."""
        found = self.exact(x, parameters, names)
        return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}

    def exact(
        self, x: Any, parameters: Mapping[str, ArrayLike], names: Iterable[str]
    ) -> dict[str, Array]:
        """The outputs of any nodes, float64."""
        arrays = input_arrays("inference", self.graph.inputs, x)
        images = dict(zip((node.name for node in self.graph.inputs), arrays, strict=True))
        leaves = {
            node.name: parameter_of(parameters, node.name, node.shape)
            for node in self.graph.parameters
        }
        return evaluate_graph(self.graph, {**leaves, **images}, names)


class ReferenceTraining:
    """Trains a forward graph: loss, gradient and update of each step, in order.

    Attributes:
        parameters: live float32 arrays by name, zero at first; fill them before the first run.
            The running statistics of batch norms are among them; each step keeps them.
        state: live float32 arrays of the optimiser, `"momentum:0.weight"`, zero at first.
    """

    def __init__(self, graph: Graph, loss: str | TrainingLoss, rule: UpdateRule) -> None:
        require_one_input("training", graph)
        self.rule = rule
        self.input = graph.inputs[0]
        self.prediction = graph.nodes[graph.outputs[0]]
        self.criterion = as_loss(loss)
        self.classifies = self.criterion.classifies(self.prediction.shape)
        self.parameters: dict[str, Float32] = {
            node.name: np.zeros(node.shape, np.float32) for node in graph.parameters
        }
        self.state: dict[str, Float32] = {
            f"{name}:{parameter}": np.zeros_like(array)
            for name in rule.state
            for parameter, array in self.parameters.items()
            if name in rule.kept or parameter not in buffers(graph)
        }
        self._losses: list[Float32] = []
        self._correct: list[NDArray[np.bool_]] = []
        self._gradient_norms: list[float] = []
        self.graph, self.gradients = differentiate(graph, self.criterion, list(self.parameters))
        self._without_gradient = [name for name in self.parameters if name not in self.gradients]
        self.loss = self.graph.nodes[self.graph.outputs[-1]]
        self.target = self.graph.nodes[self.loss.inputs[1]]
        self._norms = [node for node in self.graph.pruned([self.loss.name]).steps if _is_norm(node)]

    def run(
        self,
        images: Any,
        targets: Any,
        order: Any,
        *,
        batch_size: int,
        hyper: Any,
        first_step: int = 0,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrainResult:
        """One step a batch, over the samples that `order` names.

        Args:
            images: (N, *input shape).
            targets: (N,) labels, or (N, *output shape) for mse.
            order: (m,) positions of samples; the last batch may be smaller.
            batch_size: samples a step.
            hyper: (steps, number of the rule's hyper numbers).
            first_step: global number of the first step, for dropout.
            seed: of dropout's random numbers.
            progress: called with the number of steps done, about ten times a second.
            stop: where set, training ends before the next step.
        """
        order = np.asarray(order, np.int64)
        require_images("training", images, self.input.shape)
        require_targets(targets, len(images), self.target.shape)
        steps = require_course(order, len(images), batch_size, np.shape(hyper), self.rule)
        self._losses, self._correct, self._gradient_norms = [], [], []
        done, reported = 0, time.monotonic()
        while done < steps and not (stop is not None and stop.is_set()):
            rows = order[done * batch_size : (done + 1) * batch_size]
            numbers = dict(zip(self.rule.hyper, map(float, hyper[done]), strict=True))
            draw = Draw(seed, first_step + done)
            loss, right = self._step(images[rows], targets[rows], numbers, draw)
            self._losses.append(loss)
            self._correct.append(right)
            done += 1
            if progress is not None and time.monotonic() - reported >= _REPORT_SECONDS:
                progress(done)
                reported = time.monotonic()
        return self.so_far()

    def so_far(self) -> TrainResult:
        """What the running call has brought until now; for use in its `progress`."""
        return TrainResult(
            len(self._losses),
            np.concatenate([np.zeros(0, np.float32), *self._losses]),
            np.concatenate([np.zeros(0, bool), *self._correct]),
            np.array(self._gradient_norms, np.float32),
        )

    def gradient(
        self, images: ArrayLike, targets: ArrayLike, draw: Draw | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of each sample, and the gradient of their mean to every parameter (float64)."""
        found = self._values(images, targets, draw)
        slopes = {name: found[node] for name, node in self.gradients.items()}
        if not self.criterion.plain:  # the graph's gradients are those of the plain mean
            ratio = self._ratio(np.asarray(targets))
            slopes = {name: ratio * slope for name, slope in slopes.items()}
        return found[self.loss.name], slopes

    def _ratio(self, targets: NDArray[Any]) -> float:
        """The batch's scale over that of a plain mean."""
        count = len(targets)
        order = np.arange(count)
        return count * float(
            self.criterion.scales(self.prediction.shape, targets, order, max(count, 1))[0]
        )

    def _values(self, images: ArrayLike, targets: ArrayLike, draw: Draw | None) -> dict[str, Array]:
        leaves = {**self.parameters, self.input.name: images, self.target.name: targets}
        names = [self.loss.name, self.prediction.name, *self.gradients.values()]
        names += [node.inputs[0] for node in self._norms]
        return evaluate_graph(self.graph, leaves, names, draw)

    def _step(
        self, images: Any, targets: Any, hyper: Mapping[str, float], draw: Draw
    ) -> tuple[Float32, NDArray[np.bool_]]:
        found = self._values(images, targets, draw)
        slopes = {name: found[node] for name, node in self.gradients.items()}
        if not self.criterion.plain:
            ratio = self._ratio(np.asarray(targets))
            slopes = {name: ratio * slope for name, slope in slopes.items()}
        if self.rule.needs_norm:
            squares = sum(float(np.square(slope).sum()) for slope in slopes.values())
            self._gradient_norms.append(math.sqrt(squares))
            hyper = {**hyper, GRADIENT_NORM: self._gradient_norms[-1]}
        for name, slope in slopes.items():
            self._update(self.rule, name, slope, hyper)
        for norm in self._norms:
            self._keep_statistics(norm, found[norm.inputs[0]])
        if self.rule.kept:
            kept = self.rule.without_gradient()
            for name in self._without_gradient:
                self._update(kept, name, 0.0, hyper)
        loss = found[self.loss.name].astype(np.float32)
        if not self.classifies:
            return loss, np.zeros(loss.shape, bool)
        return loss, found[self.prediction.name].argmax(axis=1) == targets

    def _update(
        self, rule: UpdateRule, name: str, slope: ArrayLike, hyper: Mapping[str, float]
    ) -> None:
        state = {
            key: self.state[f"{key}:{name}"] for key in rule.state if f"{key}:{name}" in self.state
        }
        array = self.parameters[name]
        full = {key: state.get(key, np.zeros_like(array)) for key in rule.state}
        value, states = apply_numpy(rule, array, np.broadcast_to(slope, array.shape), full, hyper)
        array[...] = value
        for key in state:
            state[key][...] = states[key]

    def _keep_statistics(self, norm: Node, x: Array) -> None:
        """Move a batch norm's running statistics towards those of the batch."""
        running = [self.parameters[name] for name in norm.inputs[3:]]
        operation = find_operation(norm.op)
        if isinstance(operation, BatchNormTraining):
            found = operation.running_statistics(norm.attributes, x, *running)
            for array, value in zip(running, found, strict=True):
                array[...] = value


def _is_norm(node: Node) -> bool:
    return node.op == BatchNormTraining.name
