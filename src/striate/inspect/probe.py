"""A network laid open: the values of its nodes for some images, and gradients between them.

What `explain`, `interpret` and the figures look at. A network is taken as it is in evaluation
(dropout is the identity, batch norm reads its running statistics), whatever mode it is in, and is
left as it was. Everything is float32 as the network's program computes it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ModelError, OptionError, ShapeError
from striate.graph.graph import Graph, Node, Shape
from striate.inspect.one_input import OneInput
from striate.nn.execution import Plan, as_batch
from striate.nn.mode import in_mode
from striate.nn.module import Module
from striate.program import backend_name, build_gradient

if TYPE_CHECKING:
    from striate.program.gradient_program import GradientProgram, Passage

Float32 = NDArray[np.float32]
Batch: TypeAlias = Float32 | tuple[Float32, ...]  # of several inputs one of each
_programs: weakref.WeakKeyDictionary[Plan, dict[Any, GradientProgram]] = weakref.WeakKeyDictionary()


class Probe:
    """A network in evaluation, for inputs of one shape.

    Args:
        net: the network, in any mode; one that was imported or loaded is a network like any other;
            or `OneInput`, for a network as a function of one of its inputs.
        shape: of one sample, (c, h, w); of several inputs a tuple of such shapes.
        where: who asks, for errors.
        backend: "native" or "reference"; by default the one in force.
    Attributes:
        graph: the network's graph.
        inputs: the names of its inputs.
        output: the name of its output.

    >>> from striate import nn
    >>> probe = Probe(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 5, 5))
    >>> probe.layers
    ['0', '1']
    >>> probe.values(np.zeros((4, 1, 5, 5)), ["1"])["1"].shape
    (4, 2, 3, 3)
    """

    def __init__(
        self,
        net: Module | OneInput,
        shape: Sequence[Any],
        where: str = "probe",
        backend: str | None = None,
    ) -> None:
        self.one = net if isinstance(net, OneInput) else None
        if self.one is not None:
            net, shape = self.one.net, self.one.shapes(shape)
        if not isinstance(net, Module):
            raise OptionError(f"{where}: expected a network; got {type(net).__name__}.")
        self.net, self.where, self.backend = net, where, backend_name(backend)
        with in_mode(net, training=False):
            self._plan = net.plan(tuple(shape))
        self.graph: Graph = self._plan.graph
        self.inputs = tuple(node.name for node in self.graph.inputs)
        self.output = self.graph.outputs[0]

    @property
    def input(self) -> str:
        """The name of the network's one input, or of the one that is looked at.

        Raises:
            OptionError: it has several.
        """
        if self.one is not None:
            return self.inputs[self.one.place]
        return self.graph.only_input(self.where).name

    @property
    def layers(self) -> list[str]:
        """The names of the nodes that compute something, in order."""
        return [node.name for node in self.graph.steps]

    @property
    def parameters(self) -> Mapping[str, Float32]:
        """The network's live arrays by name: parameters and running statistics."""
        return self._plan.parameters()

    def layer(self, name: str) -> Node:
        """A node that computes something.

        Raises:
            ModelError: there is none of that name; the error lists those that there are.
        """
        if name not in self.layers:
            raise unknown_layer(self.where, name, self.layers)
        return self.graph.nodes[name]

    def shape(self, name: str) -> Shape:
        """The shape of a node's output, without the batch."""
        node = self.graph.nodes[name] if name in self.inputs else self.layer(name)
        return node.shape

    def place(self, name: str, at: Sequence[int]) -> tuple[int, ...]:
        """A place in a layer's output, (c, i, j), checked.

        Raises:
            OptionError: it is outside; the error shows the shape.
        """
        return require_place(self.where, f"the output of {name!r}", self.layer(name).shape, at)

    def batch(self, x: ArrayLike) -> Float32:
        """Images as a batch (n, c, h, w) in float32; one image (c, h, w) is a batch of one.

        Raises:
            ShapeError: they have another shape than the network takes.
        """
        return self._batch(x, self.input)

    def batches(self, x: Any, rows: NDArray[np.intp] | None = None) -> Batch:
        """What a network is run on: a batch, or of several inputs a tuple of batches.

        Args:
            x: a batch; of several inputs a tuple of batches.
            rows: where one input is looked at, the sample of the others for each row of x.
        Raises:
            ShapeError: they have other shapes than the network takes, or are not equally many.
        """
        if self.one is not None:
            return self.one.filled(self.batch(x), rows, self.where)
        if len(self.inputs) == 1:
            return self.batch(x)
        if not isinstance(x, tuple | list) or len(x) != len(self.inputs):
            got = f"{len(x)} arrays" if isinstance(x, tuple | list) else f"shape {np.shape(x)}"
            raise ShapeError(
                f"{self.where}: expected a tuple with an array for each of the network's inputs, "
                f"{', '.join(self.inputs)}; got {got}."
            )
        found = tuple(self._batch(one, name) for one, name in zip(x, self.inputs, strict=True))
        if len({len(batch) for batch in found}) > 1:
            raise ShapeError(
                f"{self.where}: expected as many samples of each input; got "
                f"{', '.join(str(len(batch)) for batch in found)}."
            )
        return found

    @staticmethod
    def count(batches: Batch) -> int:
        """How many samples there are in what `batches` gave."""
        return len(batches[0] if isinstance(batches, tuple) else batches)

    def fed(self, batches: Batch) -> dict[str, Float32]:
        """What `batches` gave, by the names of the inputs."""
        each = batches if isinstance(batches, tuple) else (batches,)
        return dict(zip(self.inputs, each, strict=True))

    def _batch(self, x: ArrayLike, name: str) -> Float32:
        array = as_batch(x, self.where)
        expected = self.graph.nodes[name].shape
        if array.ndim == len(expected):
            array = array[np.newaxis]
        if array.shape[1:] != expected:
            of = "" if len(self.inputs) == 1 else f" for {name!r}"
            raise ShapeError(
                f"{self.where}: expected images (n, {', '.join(map(str, expected))}){of}; got "
                f"shape {np.shape(x)}."
            )
        return array

    # ---- values and gradients -----------------------------------------------------------------

    def values(
        self, x: Any, names: Sequence[str], rows: NDArray[np.intp] | None = None
    ) -> dict[str, Float32]:
        """The outputs of nodes for a batch, each (n, …); `rows` as for `batches`."""
        batch = self.batches(x, rows)
        for name in names:
            if name not in self.graph.nodes:
                self.layer(name)  # refuses it
        if not self.count(batch):
            return {n: np.empty((0, *self.graph.nodes[n].shape), np.float32) for n in names}
        found: dict[str, Float32] = self._inference().values(batch, self.parameters, list(names))
        return found

    def _inference(self) -> Any:
        if self.backend == backend_name():
            return self._plan.inference
        from striate.program import build_inference

        return build_inference(self.graph, self.backend)

    def start(
        self,
        x: Any,
        output: str,
        to: Sequence[str],
        relu: str = "gradient",
        also: Sequence[str] = (),
        rows: NDArray[np.intp] | None = None,
    ) -> Passage:
        """Run forward to `output`, ready to go back to `to`.

        `passage.values[output]` is what came out; `passage.pull({output: upstream})` gives the
        gradients of Σ upstream · output by name. Programs are kept with the network.

        Args:
            x: a batch; of several inputs a tuple of batches.
            output: the node that upstream gradients are given to.
            to: nodes: the input, layers, parameters.
            relu: what goes back through ReLUs, one of `graph.gradient.RELU_RULES`.
            also: further nodes whose values are wanted.
            rows: as for `batches`.
        """
        known = _programs.setdefault(self._plan, {})
        outputs = list(dict.fromkeys((output, *also)))
        key = (tuple(outputs), tuple(to), relu, self.backend)
        if key not in known:
            for name in (*outputs, *to):
                if name not in self.graph.nodes:
                    self.layer(name)  # refuses it
            known[key] = build_gradient(
                self.graph, outputs, list(to), relu=relu, backend=self.backend
            )
        return known[key].start(self.batches(x, rows), self.parameters)

    def gradient(
        self,
        x: Any,
        output: str,
        upstream: ArrayLike | Callable[[Float32], ArrayLike],
        to: str | None = None,
        relu: str = "gradient",
        rows: NDArray[np.intp] | None = None,
    ) -> tuple[Float32, Float32]:
        """What came out of a node, and the gradient of Σ upstream · output to another.

        Args:
            x: a batch; of several inputs a tuple of batches.
            output: the node that the upstream gradient is given to.
            upstream: of its shape with the batch, or a function of the output that gives it.
            to: the node to differentiate to; by default the input.
            relu: what goes back through ReLUs.
            rows: as for `batches`.
        """
        target = self.input if to is None else to
        passage = self.start(x, output, [target], relu, rows=rows)
        value = passage.values[output]
        up = upstream(value) if callable(upstream) else upstream
        found = passage.pull({output: np.asarray(up, np.float32)})
        return value, found[target]


def unknown_layer(where: str, name: str, layers: Sequence[str]) -> ModelError:
    """The error that says which layers there are, all of them, in the network's order.

    >>> str(unknown_layer("explain", "con1", ["conv1", "relu"]))
    "explain: unknown layer 'con1'. Did you mean 'conv1'? There is: conv1, relu."
    """
    near = get_close_matches(name, layers, n=1, cutoff=0.5)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    return ModelError(f"{where}: unknown layer {name!r}. {meant}There is: {', '.join(layers)}.")


def require_place(where: str, what: str, shape: Shape, at: Sequence[int]) -> tuple[int, ...]:
    """A place in something of a shape, checked.

    Raises:
        OptionError: it is outside; the error shows the shape.
    """
    place = tuple(int(k) for k in at)
    if len(place) != len(shape) or not all(0 <= k < n for k, n in zip(place, shape, strict=True)):
        ranges = ", ".join(f"0…{n - 1}" for n in shape)
        raise OptionError(
            f"{where}: expected a place ({ranges}) in {what}, shape {shape}; got {place}."
        )
    return place
