"""Why a number in a network is what it is: the exact arithmetic of one activation.

The arithmetic is read off the formula of the operation (`formula.terms`), with the numbers that
the network really had as inputs; nothing about convolution or pooling is written here. A stage is
one operation; an activation that follows a convolution is a second stage, and an operation that
only moves numbers is followed back to where they came from. How it looks on a terminal is in
`inspect.explain_text`, gradients are in `inspect.explain_gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ModelError, OptionError, ShapeError, suggest
from striate.formula.terms import Place, Step, Term
from striate.graph.graph import LEAVES, Graph
from striate.inspect.explain_numbers import Numbers
from striate.inspect.explain_rounding import Ordered
from striate.inspect.probe import Batch, Probe, require_place, unknown_layer
from striate.nn.trace import takes

if TYPE_CHECKING:
    from striate.inspect.explain_trace import Contribution, Trace
    from striate.nn.module import Module

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """One operation's part in an explanation.

    Attributes:
        node: name of the node in the graph.
        op: its operation.
        at: the place of the number, without the sample.
        formula: the operation's formula as text (for one that moves numbers, where it came from).
        latex: the same in LaTeX, or "".
        tensors: names in the graph of the tensors that the formula reads.
        step: the arithmetic.
        value: the number in float64.
        native: the number that the program computed, if it was given.
        allowed: how far float32 rounding may take the program's number from `value`.
        ordered: the number in float32, with its sum added up in the formula's order.
    """

    node: str
    op: str
    at: tuple[int, ...]
    formula: str
    latex: str
    tensors: Mapping[str, str]
    step: Step
    value: float
    native: float | None
    allowed: float
    ordered: Ordered

    @property
    def difference(self) -> float | None:
        """The program's number minus the exact one."""
        return None if self.native is None else self.native - self.value

    @property
    def agrees(self) -> bool:
        """Whether the program's number is the exact one but for float32 rounding."""
        return agrees(self.native, self.value, self.allowed)

    def grid(self, tensor: str | None = None) -> Array | None:
        """What the terms of the stage's sum or maximum read of a tensor, on the axes summed over.

        Args:
            tensor: its name in the formula ("x", "w"); None for the terms themselves.
        Returns:
            One axis for each axis summed over, or None where there is no such sum.
        """
        step = self.step.find("sum") or self.step.find("max")
        if step is None or not step.terms:
            return None
        if tensor is None:
            return step.terms.values.reshape(step.terms.shape)
        found = [read for read in step.terms.reads if read.tensor == tensor]
        return found[0].values.reshape(step.terms.shape) if found else None


@dataclass(frozen=True)
class Explanation:
    """The arithmetic behind one number of a network.

    Attributes:
        node: the node asked for.
        at: the place asked for.
        sample: its sample in the batch.
        stages: the operations, in the order of computation.
        numbers: all that is known of this run of the network.
    """

    node: str
    at: tuple[int, ...]
    sample: int
    stages: tuple[Stage, ...] = field(repr=False)
    numbers: Numbers = field(repr=False, compare=False)

    @property
    def value(self) -> float:
        """The final number in float64, after the activation."""
        return self.stages[-1].value

    @property
    def native(self) -> float | None:
        """The final number as the program computed it."""
        return self.stages[-1].native

    @property
    def agrees(self) -> bool:
        """Whether every number given is the exact one but for float32 rounding."""
        return all(stage.agrees for stage in self.stages)

    @property
    def patch(self) -> Array | None:
        """The part of the input that the number reads, e.g. (c, p, q); padding is 0."""
        return self.stages[0].grid("x")

    @property
    def kernel(self) -> Array | None:
        """The weights that it is multiplied with, of the same shape."""
        return self.stages[0].grid("w")

    @property
    def products(self) -> Array | None:
        """Every term of the sum, of the same shape."""
        return self.stages[0].grid()

    @property
    def sum(self) -> float | None:
        """The sum of the products, before the bias."""
        step = self.stages[0].step.find("sum")
        return None if step is None else step.value

    @property
    def bias(self) -> float | None:
        """The bias, where there is one."""
        parts = self.stages[0].step.parts
        reads = (p.value for p in parts if p.kind == "read" and p.places[0].tensor == "b")
        return next(reads, None)

    # ---- further back -------------------------------------------------------------------------

    def contributions(self) -> list[Contribution]:
        """What the first stage's number owes to each number of the network that it reads.

        An amount is the number times the slope: of a sum of products the term itself. The largest
        amounts come first; parameters are none of them (their part is what is left).
        """
        from striate.inspect.explain_trace import contributions

        first = self.stages[0]
        return contributions(self.numbers, first.node, first.at)

    def back(self, which: int | Term | Place = 0) -> Explanation:
        """The explanation of a number that this one reads.

        Args:
            which: 0 for the one that adds the most, 1 for the next; or a term of a sum, or a place
                that was read.
        Raises:
            OptionError: there is no such number, or it is one of the image or a parameter.
        """
        if isinstance(which, int):
            found = self.contributions()
            if not 0 <= which < len(found):
                raise OptionError(
                    f"explain: expected a number that was read, from 0 to {len(found) - 1}; got "
                    f"{which}."
                )
            return self.behind(found[which].node, found[which].at)
        tensors = self.stages[0].tensors
        places = which.places if isinstance(which, Term) else (which,)
        for place in places:
            name = tensors.get(place.tensor, "")
            if place.inside and name and self.numbers.graph.nodes[name].op not in LEAVES:
                return self.behind(name, self.numbers.own(name, place.index))
        raise OptionError(
            f"explain: expected a term that reads a computed number; got "
            f"{', '.join(f'{p.tensor}{list(p.index)}' for p in places) or 'no place'}, which is "
            "of the image or a parameter, or padding."
        )

    def behind(self, node: str, at: Sequence[int]) -> Explanation:
        """The explanation of another number of the same run of the network.

        Args:
            node: name of a node.
            at: the number's place, without the sample.
        """
        if node in self.numbers.graph.nodes and self.numbers.graph.nodes[node].op in LEAVES:
            raise OptionError(
                f"explain: expected a computed number; got one of {node!r}, which is "
                f"{'the image' if self.numbers.graph.nodes[node].op == 'input' else 'a parameter'}:"
                " nothing is behind it."
            )
        self.numbers.require_all(self.node)
        return explained(self.numbers, node, at)

    def to_pixels(self, most: int = 3, depth: int | None = None) -> Trace:
        """The largest contributions followed layer by layer to the image.

        Args:
            most: how many numbers of each layer are followed.
            depth: how many layers; by default all, to the pixels.
        """
        from striate.inspect.explain_trace import trace

        self.numbers.require_all(self.node)
        return trace(self.numbers, self.stages[-1].node, self.stages[-1].at, most, depth)

    # ---- as text and data ---------------------------------------------------------------------

    def text(self, width: int = 80, full: bool = False) -> str:
        """The arithmetic for a terminal `width` characters wide; `full` leaves no term out."""
        from striate.inspect.explain_text import explanation_text

        return explanation_text(self, width, full)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON data; numbers that JSON lacks are "inf", "-inf" or "nan"."""
        from striate.inspect.explain_json import explanation_dict

        return explanation_dict(self)


def agrees(native: float | None, value: float, allowed: float) -> bool:
    """Whether a program's number is the exact one but for rounding."""
    if native is None or native == value or (math.isnan(native) and math.isnan(value)):
        return True
    return abs(native - value) <= allowed


def explain(
    net: Module,
    image: ArrayLike | tuple[ArrayLike, ...],
    layer: str,
    index: int | Sequence[int] | None = None,
    *,
    sample: int = 0,
    backend: str | None = None,
) -> Explanation:
    """The exact arithmetic of one number of a network, with the numbers that its program computed.

    An activation that alone reads the layer is shown with it; of an activation, what it is applied
    to is shown first.

    Args:
        net: a network, in any mode: it is looked at as in evaluation.
        image: one image (c, h, w), or a batch (n, c, h, w); of a network with several inputs a
            tuple with one of each.
        layer: the name of a node, as `summary` lists them.
        index: the number's place in the layer's output, (o, i, j); a channel alone means the place
            in it where the output is greatest, None that in all the output.
        sample: which image of a batch.
        backend: "native" or "reference"; by default that in force.
    Raises:
        ModelError: there is no such layer; the error lists those there are.
        OptionError: the index is outside the layer's output; the error shows its shape.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    >>> found = explain(net, np.ones((1, 5, 5)), "0", (1, 0, 2))
    >>> found.products.shape, found.agrees
    ((1, 3, 3), True)
    """
    probe, x = opened(net, image, "explain", backend)
    probe.layer(layer)
    numbers = Numbers(
        probe.graph, probe.parameters, probe.fed(x), sample, lambda n: probe.values(x, n)
    )
    numbers.require(needed_values(probe.graph, layer))
    return explained(numbers, layer, greatest(probe, layer, index, numbers.array(layer), sample))


def explain_node(
    graph: Graph,
    parameters: Mapping[str, ArrayLike],
    values: Mapping[str, ArrayLike],
    node: str,
    at: Sequence[int],
    *,
    sample: int = 0,
) -> Explanation:
    """The exact arithmetic of one number of a graph, from values that are given.

    Args:
        graph: the forward network.
        parameters: the network's parameters by name.
        values: arrays with the batch axis, by node name; those of `needed_values` at least. What
            else is there is compared with the exact numbers.
        node: the node whose number is to be explained.
        at: the number's place, without the sample: (o, i, j) in a convolution's output.
        sample: the number's sample in the batch.
    Raises:
        ModelError: there is no such node.
        OptionError: the place is outside the node's output.

    >>> from striate.graph.graph import Node
    >>> graph = Graph([Node("x", "input", shape=(2,)),
    ...                Node("w", "parameter", shape=(1, 2), batched=False)])
    >>> _ = graph.apply("y", "linear", ("x", "w"))
    >>> found = explain_node(graph, {"w": [[2.0, 3.0]]}, {"x": [[5.0, 7.0]]}, "y", (0,))
    >>> found.products, found.value
    (array([10., 21.]), 31.0)
    """
    return explained(Numbers(graph, parameters, values, sample), node, at)


def explained(numbers: Numbers, node: str, at: Sequence[int]) -> Explanation:
    from striate.inspect.explain_walk import Walk, activation_after

    graph = numbers.graph
    place = _require_place(graph, node, at)
    walk = Walk(numbers)
    stages = walk.stages(graph.nodes[node], place)
    follower = activation_after(graph, node)
    if follower is not None and graph.nodes[node].operation != "map":
        numbers.require([follower.name])
        stages = [*stages, walk.stage(follower, place, stages[-1])]
    return Explanation(node, place, numbers.sample, tuple(stages), numbers)


def needed_values(graph: Graph, node: str) -> list[str]:
    """The nodes whose values `explain_node` wants: what is read, then what is compared.

    Args:
        graph: the forward network.
        node: the node to be explained.
    """
    from striate.inspect.explain_walk import activation_after, leads_back

    if node not in graph.nodes:
        raise ModelError(f"explain: there is no node {node!r}. {suggest(node, graph.nodes)}")
    names: dict[str, None] = {}

    def visit(name: str) -> None:
        names[name] = None
        at = graph.nodes[name]
        if at.op in LEAVES:
            return
        for parent in at.inputs:
            if graph.nodes[parent].op == "parameter":
                continue
            if leads_back(graph, at):
                visit(parent)
            else:
                names[parent] = None

    visit(node)
    follower = activation_after(graph, node)
    if follower is not None:
        names[follower.name] = None
    return list(names)


def opened(net: Module, image: Any, where: str, backend: str | None) -> tuple[Probe, Batch]:
    """A network laid open for one image or for a batch, and the batch; of several inputs each.

    Three axes are an image (c, h, w), any other number a batch, where the network takes it so.
    """
    known: Any = getattr(net, "input_shape", None)
    failure: ShapeError | None = None
    for form in [known] if known is not None else _forms(net, image):
        try:
            probe = Probe(net, form, where, backend)
            return probe, probe.batches(image)
        except ShapeError as error:
            failure = failure or error
    raise failure or ShapeError(f"{where}: expected an image; got shape {np.shape(image)}.")


def _forms(net: Module, image: Any) -> list[Any]:
    """The shapes of one sample that images may be meant to have, the likelier first."""
    if isinstance(image, tuple) and len(image) > 1 and takes(net, len(image)):
        wholes = [np.shape(one) for one in image]
        one, batch = tuple(wholes), tuple(shape[1:] for shape in wholes)
        return [one, batch] if len(wholes[0]) == 3 else [batch, one]
    shape = np.shape(image)
    return [shape, shape[1:]] if len(shape) == 3 else [shape[1:], shape]


def greatest(
    probe: Probe,
    layer: str,
    index: int | Sequence[int] | None,
    values: NDArray[Any],
    sample: int,
) -> tuple[int, ...]:
    """A place in a layer's output: what of it is left open is where the output is greatest."""
    shape = probe.shape(layer)
    head = () if index is None else tuple(int(k) for k in np.atleast_1d(index))
    if len(head) > 1 or len(head) == len(shape):
        return probe.place(layer, head)
    probe.place(layer, (*head, *(0,) * (len(shape) - len(head))))
    own = values[sample] if probe.graph.nodes[layer].batched else values
    part = own[head]
    return (*head, *(int(k) for k in np.unravel_index(int(np.argmax(part)), part.shape)))


def _require_place(graph: Graph, node: str, at: Sequence[int]) -> tuple[int, ...]:
    if node not in graph.nodes or graph.nodes[node].op in LEAVES:
        raise unknown_layer("explain", node, [step.name for step in graph.steps])
    return require_place("explain", f"the output of {node!r}", graph.nodes[node].shape, at)
