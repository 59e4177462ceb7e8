"""Which number of a network a map is about: the target, one number for each image.

Every method of `striate.interpret` takes it alike, as `target` and `layer`:

    target=None         each image's greatest number in the layer
    target=3            class 3 for every image; in a layer with space, channel 3 at the place
                        where it is greatest
    target=(3, 0, 2)    a place, for every image
    target=[3, 5]       one for each image: classes, or places
    layer=None          the network's scores: its output, before a last softmax or log-softmax
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import OptionError, ShapeError
from striate.inspect.one_input import OneInput
from striate.inspect.probe import Probe
from striate.inspect.scores import scores_layer as scores_layer
from striate.nn.execution import as_batch
from striate.nn.graph_module import GraphModule
from striate.nn.module import Module
from striate.nn.trace import arguments, takes

Float32 = NDArray[np.float32]
Places = NDArray[np.intp]


class Target:
    """One number of a layer for each image, checked; `layer` and `target` as the methods take them.

    Where a target asks for the greatest number, its place is only known with the layer's values.

    Args:
        probe: the network.
        target: None, a class, a place, or one of these for each image.
        count: how many images there are.
        layer: the node that it lies in; by default the network's scores.
    Attributes:
        layer: the node that it lies in.
        shape: of that node's output, without the batch.
    Raises:
        ModelError: there is no such layer; the error lists those that there are.
        OptionError: a target is outside the layer's output, or there are more or fewer of them
            than images.
    """

    def __init__(
        self, probe: Probe, target: Any = None, *, count: int, layer: str | None = None
    ) -> None:
        self.probe, self.count = probe, count
        self.layer = scores_layer(probe.graph) if layer is None else probe.layer(layer).name
        node = probe.graph.nodes[self.layer]
        self.shape = node.shape
        if not node.batched:
            raise OptionError(
                f"{probe.where}: expected a layer that depends on the image; got {self.layer!r}, "
                "which is computed from parameters alone."
            )
        if not all(self.shape):
            raise OptionError(
                f"{probe.where}: expected a layer with numbers in its output; got {self.layer!r} "
                f"with shape {self.shape}."
            )
        self._wanted = [self._one(t) for t in self._each(target)]

    def _each(self, target: Any) -> list[Any]:
        """The target of each image."""
        if isinstance(target, np.ndarray):
            target = target.tolist()
        if not isinstance(target, list | range):
            return [target] * self.count
        if len(target) != self.count:
            raise OptionError(
                f"{self.probe.where}: expected one target for each of {self.count} images; got "
                f"{len(target)}: {list(target)!r:.60}. A place is a tuple."
            )
        return list(target)

    def _one(self, target: Any) -> tuple[int, ...] | int | None:
        """One image's: a place, the number of a channel, or None for the greatest of all."""
        if target is None:
            return None
        if isinstance(target, tuple | list) and len(target) != 1:
            return self._place(target)
        try:
            index = operator.index(target[0] if isinstance(target, tuple | list) else target)
        except TypeError:
            raise self._wrong(target) from None
        channels = self.shape[0] if self.shape else 0
        if not 0 <= index < channels:
            raise self._wrong(target)
        return (index,) + (0,) * (len(self.shape) - 1) if channels == self._size else index

    def _place(self, target: Sequence[Any]) -> tuple[int, ...]:
        try:
            whole = [operator.index(k) for k in target]
        except TypeError:
            raise self._wrong(target) from None
        return self.probe.place(self.layer, whole)

    @property
    def _size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def _wrong(self, target: Any) -> OptionError:
        kind = "a class" if len(self.shape) == 1 else "a channel or a place (c, …)"
        last = f"0…{self.shape[0] - 1}" if self.shape else "none: it is a single number"
        return OptionError(
            f"{self.probe.where}: expected target to be {kind} in the output of {self.layer!r}, "
            f"shape {self.shape} ({last}); got {target!r}."
        )

    # ---- with the layer's values --------------------------------------------------------------

    @property
    def known(self) -> bool:
        """Whether the places are known without the layer's values."""
        return all(isinstance(t, tuple) for t in self._wanted)

    def places(self, values: ArrayLike | None = None) -> Places:
        """The place of each image's target, (n, axes of the layer).

        Args:
            values: the layer's output (n, …); may be left out where all places are `known`.
        """
        array = None if values is None else np.asarray(values)
        found = [self._found(t, array, k) for k, t in enumerate(self._wanted)]
        return np.array(found, np.intp).reshape(self.count, len(self.shape))

    def _found(self, target: Any, values: NDArray[Any] | None, image: int) -> tuple[int, ...]:
        if isinstance(target, tuple):
            return target
        if values is None:
            raise OptionError(
                f"{self.probe.where}: expected the values of {self.layer!r}; got none."
            )
        part = values[image] if target is None else values[image, target]
        place = np.unravel_index(int(np.argmax(part)), part.shape)
        head = () if target is None else (target,)
        return (*head, *(int(k) for k in place))

    def upstream(self, values: Float32) -> Float32:
        """1 at each image's target, 0 elsewhere: what is sent back to get its gradient.

        Args:
            values: the layer's output, (n, …).
        """
        return one_hot(self.places(values), self.shape)

    def resolved(self, x: Float32) -> Places:
        """The places for images, with a forward pass where one is needed."""
        if self.known:
            return self.places()
        return self.places(self.probe.values(x, [self.layer])[self.layer])

    def fixed(self, x: Float32) -> Target:
        """The same target with its places known, as they are for images."""
        places: list[Any] = [tuple(place) for place in self.resolved(x).tolist()]
        return Target(self.probe, places, count=self.count, layer=self.layer)


def look_at(
    where: str, net: Module | OneInput, x: ArrayLike, backend: str | None = None
) -> tuple[Probe, Float32]:
    """A network laid open for images, and the images as a batch.

    Args:
        where: who asks, for errors.
        net: the network, or `OneInput`.
        x: images (n, c, h, w) or one (c, h, w); for networks on other samples theirs.
        backend: "native" or "reference"; by default the one in force.
    Returns:
        The probe, and (n, …) in float32.
    Raises:
        ShapeError: the images do not fit the network.
    """
    _require_one_input(where, net)
    array = as_batch(x, where)
    whole, rest = tuple(array.shape), tuple(array.shape[1:])
    if isinstance(net, GraphModule) and len(net.graph.inputs) == 1:
        rank = len(net.graph.inputs[0].shape)
        shapes = [whole if rank == len(whole) else rest]
    else:  # three axes are mostly one image, any other number mostly a batch
        shapes = [whole, rest] if len(whole) == 3 else [rest, whole]
    failure: ShapeError | None = None
    for shape in filter(None, shapes):
        try:
            probe = Probe(net, shape, where, backend)
            batch = probe.batch(array)
            if probe.one is not None:
                probe.one.require_count(len(batch), where)
            return probe, batch
        except ShapeError as error:
            failure = failure or error
    raise ShapeError(
        f"{where}: expected images that fit the network; got shape {whole}: {failure}"
    ) from failure


def _require_one_input(where: str, net: Module | OneInput) -> None:
    """Refuse a network that is run on several inputs: a map is about one image."""
    if isinstance(net, OneInput):
        return
    if isinstance(net, GraphModule):
        inputs = [node.name for node in net.graph.inputs]
    else:
        inputs = ["x"] if not isinstance(net, Module) or takes(net, 1) else arguments(net)
    if len(inputs) != 1:
        raise OptionError(
            f"{where}: expected a network with one input; got {type(net).__name__}, which takes "
            f"{', '.join(inputs)}. Write striate.inspect.OneInput(net, (None, other)) for a map of "
            "the first."
        )


def one_hot(places: Places, shape: Sequence[int]) -> Float32:
    """Zeros (n, *shape) with a 1 at each image's place.

    >>> one_hot(np.array([[2], [0]]), (3,))
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    found = np.zeros((len(places), *shape), np.float32)
    found[tuple([np.arange(len(places)), *places.T])] = 1
    return found


def at_places(values: NDArray[Any], places: Places) -> NDArray[Any]:
    """Each image's number at its place, (n,).

    >>> at_places(np.array([[1.0, 5.0], [2.0, 7.0]]), np.array([[1], [0]]))
    array([5., 2.])
    """
    picked: NDArray[Any] = values[tuple([np.arange(len(places)), *places.T])]
    return picked
