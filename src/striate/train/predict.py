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


def output_shape(net: Module, shape: tuple[int, ...], training: bool) -> tuple[int, ...]:
    """What the network gives for images of this shape in a mode, without the batch.

    Raises:
        ShapeError: the images do not fit the network.
        OptionError: it has no parameters.
    """
    with in_mode(net, training):
        graph = network_graph(net, shape)
    if training and not graph.parameters:
        raise OptionError(
            "training: expected a network with parameters; got none to train. Add a layer, as "
            "nn.Linear."
        )
    return graph.nodes[graph.outputs[0]].shape


class Predictor:
    """A network's forward program for images of one shape, in evaluation mode.

    Args:
        net: the network; its mode is left as it is.
        shape: the images' shape, without the batch.
        backend: "native" or "reference"; None takes the default.
    Raises:
        ShapeError: the images do not fit the network.
    """

    def __init__(self, net: Module, shape: tuple[int, ...], backend: str | None) -> None:
        from striate.program import build_inference  # late: import striate stays light

        modes = [(module, module.training) for module in net.modules()]
        try:
            graph = network_graph(net.eval(), shape)
        finally:
            for module, training in modes:
                module.training = training
        self.output: tuple[int, ...] = graph.nodes[graph.outputs[0]].shape
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
