"""A network's outputs on many samples, in batches.

It runs the forward program alone; what a loss makes of the outputs is in `losses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ModelError, OptionError, ShapeError
from striate.graph.graph import Graph
from striate.nn.mode import in_mode
from striate.train.samples import AnySamples

if TYPE_CHECKING:
    from striate.nn.module import Module

Float64 = NDArray[np.float64]


def network_graph(net: Module, shape: tuple[int, ...]) -> Graph:
    """The network as a graph for images of this shape (without the batch).

    Raises:
        ShapeError: the images do not fit the network; the message shows where.
    """
    try:
        return net.to_graph(shape)
    except ShapeError as error:
        axes = ", ".join(map(str, ("n", *shape)))
        raise ShapeError(f"images ({axes}) do not fit the network: {error}") from None


def evaluation_graph(net: Module, shape: tuple[int, ...], where: str) -> Graph:
    """The network as a graph in evaluation, with one output.

    Raises:
        ShapeError: the images do not fit the network.
        OptionError: it gives several tensors.
    """
    with in_mode(net, training=False):
        graph = network_graph(net, shape)
    graph.only_output(where)
    return graph


def training_graph(net: Module, shape: tuple[int, ...]) -> Graph:
    """The network as a graph in training, with one output.

    Where it returns the scores of several heads, each (n, classes), these stand beside each other:
    (n, classes, heads), in the order in which they were returned.

    Raises:
        ShapeError: the images do not fit the network.
        OptionError: it has no parameters, or returns several tensors of other shapes.
    """
    with in_mode(net, training=True):
        graph = network_graph(net, shape)
    if not graph.parameters:
        raise OptionError(
            "training: expected a network with parameters; got none to train. Add a layer, as "
            "nn.Linear."
        )
    heads = [graph.nodes[name] for name in graph.outputs]
    if len(heads) == 1:
        return graph
    if len({node.shape for node in heads}) > 1 or len(heads[0].shape) != 1:
        listed = ", ".join(f"{node.name} {('n', *node.shape)}" for node in heads)
        raise OptionError(
            "training: expected a network that gives one tensor, or the scores of several heads, "
            f"each (n, classes); got {listed}."
        )
    columns = []
    for node in heads:
        column = graph.unique(f"{node.name}:column")
        columns.append(column)
        graph.apply(column, "reshape", (node.name,), {"shape": [*node.shape, 1]})
    joined = graph.apply(graph.unique("heads"), "concat", tuple(columns), {"axis": 2})
    graph.outputs = (joined.name,)
    return graph


def output_shape(graph: Graph) -> tuple[int, ...]:
    """The shape of a graph's output, without the batch."""
    return graph.nodes[graph.outputs[0]].shape


class Predictor:
    """A network's forward program for images of one shape, in evaluation mode.

    Args:
        net: the network; its mode is left as it is.
        shape: the images' shape, without the batch.
        backend: "native" or "reference"; None takes the default.
    Raises:
        ShapeError: the images do not fit the network.
        OptionError: it gives several tensors.
    """

    def __init__(self, net: Module, shape: tuple[int, ...], backend: str | None) -> None:
        from striate.program import build_inference  # late: import striate stays light

        graph = evaluation_graph(net, shape, "network")
        self.output = output_shape(graph)
        self.parameters: Mapping[str, NDArray[np.float32]] = net.graph_arrays(graph)
        self._program = build_inference(graph, backend=backend)

    def batches(
        self,
        samples: AnySamples,
        size: int,
        parameters: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
        """The outputs (n, *out) and the targets of one batch after the other.

        Args:
            samples: the images and targets.
            size: samples of a batch.
            parameters: the numbers to use; by default the network's, as they are now.
        Raises:
            ModelError: an output is not finite.
        """
        numbers = self.parameters if parameters is None else parameters
        for start in range(0, len(samples), size):
            images, targets = samples.batch(start, size)
            outputs = self._program.run(images, numbers)
            finite = np.isfinite(outputs)
            if not finite.all():
                row = int(np.argmin(finite.reshape(len(outputs), -1).all(axis=1)))
                raise ModelError(
                    f"network: expected finite outputs; got {outputs[row][~finite[row]].flat[0]} "
                    f"for sample {samples.index[start + row]}. The weights are too large or "
                    "damaged; load an earlier model."
                )
            yield outputs, targets


def log_softmax(scores: NDArray[Any]) -> Float64:
    """`z[n, k] − log Σⱼ exp z[n, j]` in float64.

    Args:
        scores: z, (n, classes).
    Returns:
        The logarithms of the classes' probabilities, (n, classes).
    """
    z = scores.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
