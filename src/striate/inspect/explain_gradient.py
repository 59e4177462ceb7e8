"""Why a gradient is what it is: the terms that it is a sum of.

The gradient to a number is a sum over everything that reads the number: upstream gradient times
the derivative of what reads it. Both are read off the formula (`formula.terms_gradient`), with the
upstream gradients and the values that the network's program really had. A number that several
nodes read, or that one node reads in several ways (batch norm reads x itself, in the mean and in
the variance), has a part for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ModelError, OptionError, ShapeError, suggest
from striate.formula.operations import find_operation
from striate.formula.terms import Reads, Step, Terms, exact_sum
from striate.graph.graph import Graph, Node
from striate.graph.statistics import buffers
from striate.inspect.explain import Explanation, agrees, greatest, opened
from striate.inspect.explain_numbers import Numbers
from striate.inspect.explain_parts import Part, parts_of
from striate.inspect.explain_rounding import TINY, Ordered, of_sum, of_winograd, sum_in_order
from striate.inspect.explain_walk import may_be_winograd
from striate.inspect.probe import Batch, Probe, require_place
from striate.inspect.scores import scores_layer
from striate.nn.gradients import resolved_loss

if TYPE_CHECKING:
    from striate.nn.module import Module

_SLOPES = 16  # roundings of a derivative, at most, beside those of the sum


@dataclass(frozen=True)
class GradientExplanation:
    """The terms of the gradient to one number.

    Attributes:
        node: the node whose number it is the gradient to: an input, a layer, a parameter.
        at: the number's place, without the sample.
        sample: the sample, where the node has samples.
        of: what is differentiated, in words.
        parts: what each reader of the number adds.
        value: the gradient in float64, from the program's upstream gradients.
        native: the gradient that the program computed.
        allowed: how far float32 rounding may take it from `value`.
        ordered: the sum in float32, term after term in the formula's order.
    """

    node: str
    at: tuple[int, ...]
    sample: int
    of: str
    parts: tuple[Part, ...] = field(repr=False)
    value: float
    native: float | None
    allowed: float
    ordered: Ordered
    source: Source = field(repr=False, compare=False)

    @property
    def agrees(self) -> bool:
        """Whether the program's number is the exact one but for float32 rounding."""
        return agrees(self.native, self.value, self.allowed)

    @property
    def difference(self) -> float | None:
        """The program's number minus the exact one."""
        return None if self.native is None else self.native - self.value

    def back(self, which: int = 0) -> GradientExplanation:
        """The explanation of an upstream gradient: one layer nearer to what is differentiated.

        Args:
            which: that in the term that adds the most (0), the next (1), …
        """
        ranked = self._ranked()
        if not 0 <= which < len(ranked):
            raise OptionError(
                f"explain_gradient: expected a term from 0 to {len(ranked) - 1}; got {which}."
            )
        part, number = ranked[which]
        if part.node in ("", LOSS):
            raise OptionError(
                f"explain_gradient: expected an upstream gradient that was computed; got that of "
                f"{self.of}, where going back starts."
            )
        place = part.step.terms.reads[0].place(number)
        numbers = self.source.numbers
        return self.source.explained(part.node, numbers.own(part.node, place.index), place.index)

    def _ranked(self) -> list[tuple[Part, int]]:
        """All terms, the largest first."""
        every = [
            (part, k, abs(float(part.step.terms.values[k])))
            for part in self.parts
            for k in part.step.terms.largest(len(part.step.terms))[:1000]
        ]
        return [(part, int(k)) for part, k, _ in sorted(every, key=lambda e: -e[2])]

    def behind(self, node: str, at: Sequence[int]) -> Explanation:
        """The explanation of a number of the forward pass, as what a term multiplies by."""
        from striate.inspect.explain import explained

        self.source.numbers.require_all(self.source.output)
        return explained(self.source.numbers, node, at)

    def text(self, width: int = 80, full: bool = False) -> str:
        """The terms for a terminal `width` characters wide; `full` leaves none out."""
        from striate.inspect.explain_gradient_text import gradient_text

        return gradient_text(self, width, full)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON data; numbers that JSON lacks are "inf", "-inf" or "nan"."""
        from striate.inspect.explain_json import gradient_dict

        return gradient_dict(self)


LOSS = "loss"


@dataclass(frozen=True)
class _Loss:
    """A loss behind the network's output: its operation, targets, and what a sample counts."""

    op: str
    attributes: Mapping[str, Any]
    targets: NDArray[Any]
    scale: float


class Source:
    """Forward values and gradients of one run of a network.

    Args:
        graph: the forward network.
        numbers: its values.
        output: the node that is differentiated.
        upstream: what is sent back from it, of its shape with the batch.
        of: the same in words.
        pull: computes the gradients to nodes.
        loss: what `upstream` is the gradient of, if it is one's.
    """

    def __init__(
        self,
        graph: Graph,
        numbers: Numbers,
        output: str,
        upstream: NDArray[Any],
        of: str,
        pull: Any,
        loss: _Loss | None = None,
    ) -> None:
        self.graph, self.numbers, self.output, self.of = graph.pruned([output]), numbers, output, of
        self._known: dict[str, NDArray[Any]] = {output: upstream}
        self._pull, self.loss = pull, loss
        self.count = len(upstream)

    def gradients(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The gradients to some nodes, as the program computes them."""
        unknown = [n for n in dict.fromkeys(names) if n not in self._known]
        if unknown:
            self._known |= self._pull(unknown)
        return {name: self._known[name] for name in names}

    def readers(self, name: str) -> list[tuple[Node, int]]:
        """The nodes that read a node, and as which of their inputs."""
        return [
            (node, k)
            for node in self.graph.consumers(name)
            for k, parent in enumerate(node.inputs)
            if parent == name and _differentiable(node, k)
        ]

    def explained(
        self, name: str, at: Sequence[int], index: Sequence[int] | None = None
    ) -> GradientExplanation:
        """The terms of the gradient to one number.

        Args:
            name: the node.
            at: the place, without the sample.
            index: the place with the sample; by default the sample asked about.
        """
        place = self.numbers.place(name, at) if index is None else tuple(index)
        readers = self.readers(name)
        found = self.gradients([name, *(node.name for node, _ in readers)])
        parts = [part for node, k in readers for part in self._parts(node, k, place, found)]
        if name == self.output:
            parts += self._start(place)
        sums = [part.step.terms for part in parts]
        native = float(found[name][place])
        spread = [of_winograd(found[name]) for n, _ in readers if may_be_winograd(self.graph, n)]
        rows = [terms.values for terms in sums if len(terms)]
        return GradientExplanation(
            name,
            tuple(at),
            place[0] if self.numbers.graph.nodes[name].batched else 0,
            self.of,
            tuple(parts),
            exact_sum(np.concatenate(rows)) if rows else 0.0,
            native,
            sum(of_sum(row, _SLOPES) for row in rows) + sum(spread) + TINY,
            sum_in_order(sums),
            self,
        )

    def _parts(
        self, node: Node, position: int, place: tuple[int, ...], found: Mapping[str, Any]
    ) -> list[Part]:
        operation = find_operation(node.op)
        arrays = [self.numbers.array(name) for name in node.inputs]
        return parts_of(
            operation, node.attributes, arrays, position, place, found[node.name],
            (node.name, dict(zip(_names(node), node.inputs, strict=True))),
        )  # fmt: skip

    def _start(self, place: tuple[int, ...]) -> list[Part]:
        """The gradient that is sent back: that of a loss, or as it was given."""
        if self.loss is not None:
            y, loss = self.numbers.array(self.output), self.loss
            up = np.full(len(y), loss.scale)
            return parts_of(
                find_operation(loss.op), loss.attributes, [y, loss.targets], 0, place, up,
                (LOSS, {"x": self.output, "t": "targets"}),
            )  # fmt: skip
        value = self._known[self.output][place]
        read = Reads(
            "dy",
            tuple(np.array([k]) for k in place),
            np.array([float(value)]),
            np.ones(1, bool),
        )
        terms = Terms([], (), {}, [read], np.array([float(value)]), np.ones(1))
        text = f"dy[{', '.join(map(str, place))}]"
        return [
            Part("", "given", "x", "given", {}, Step("sum", text, float(value), terms=terms), True)
        ]


def _names(node: Node) -> tuple[str, ...]:
    return find_operation(node.op).argument_names(node.attributes, len(node.inputs))


def _differentiable(node: Node, position: int) -> bool:
    return find_operation(node.op).differentiable(_names(node)[position])


# ---- of a network --------------------------------------------------------------------------------


def explain_gradient(
    net: Module,
    image: ArrayLike | tuple[ArrayLike, ...],
    wrt: str,
    index: int | Sequence[int] | None = None,
    *,
    layer: str | None = None,
    target: int | Sequence[int] | None = None,
    upstream: ArrayLike | None = None,
    loss: Any = None,
    targets: Any = None,
    sample: int = 0,
    backend: str | None = None,
) -> GradientExplanation:
    """The terms of one gradient of a network: `∂L/∂w[o,c,i,j] = Σ upstream · input`, written out.

    L is a loss; or one number of a layer; or `Σ upstream · output` of a layer.

    Args:
        net: a network, in any mode: it is differentiated as it is in evaluation.
        image: one image (c, h, w), or a batch (n, c, h, w); of a network with several inputs a
            tuple with one of each. Gradients to parameters are sums over the batch.
        wrt: what is differentiated to: the name of a parameter, a layer, or an input.
        index: the number in it, without the sample; by default that with the largest gradient.
        layer: what is differentiated; by default the scores, before a last softmax.
        target: the number of the layer, as `explain`'s index; by default the greatest.
        upstream: in place of `target` a gradient to the whole layer, with or without the batch.
        loss: in place of both a loss: "cross_entropy", "mse" or a loss of `nn`.
        targets: what the loss compares the network's output with.
        sample: which image of a batch `target` and `index` mean.
        backend: "native" or "reference"; by default that in force.
    Raises:
        ModelError: there is no such node, or it has no gradient.
        OptionError: the index is outside; more than one of target, upstream and loss.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 3))
    >>> found = explain_gradient(net, np.ones((1, 5, 5)), "0.weight", (1, 0, 2, 2), target=0)
    >>> len(found.parts[0].step.terms), found.agrees
    (9, True)
    """
    where = "explain_gradient"
    asked = {"target": target, "upstream": upstream, "loss": loss, "targets": targets}
    given = [key for key, value in asked.items() if value is not None]
    allowed: tuple[list[str], ...] = ([], ["target"], ["upstream"], ["loss", "targets"])
    if given not in allowed or (loss is not None and layer is not None):
        raise OptionError(
            f"{where}: expected a target in a layer, an upstream gradient to it, or a loss with "
            f"targets; got {', '.join(given)}{'' if layer is None else f' in {layer!r}'}."
        )
    probe, x = opened(net, image, where, backend)
    _require_wrt(probe, wrt)
    output = probe.output if loss is not None else scores_layer(probe.graph)
    output = output if layer is None else probe.layer(layer).name
    numbers = Numbers(
        probe.graph, probe.parameters, probe.fed(x), sample, lambda n: probe.values(x, n)
    )
    source = _source(probe, x, numbers, output, (target, upstream, loss, targets))
    _require_depends(source, wrt)
    if index is None:
        readers = [node.name for node, _ in source.readers(wrt)]  # at once: it takes a run each
        gradient = np.abs(source.gradients([wrt, *readers])[wrt])
        own = gradient[sample] if probe.graph.nodes[wrt].batched else gradient
        index = tuple(int(k) for k in np.unravel_index(int(np.argmax(own)), own.shape))
    at = np.atleast_1d(index) if np.size(index) else ()
    place = require_place(where, repr(wrt), probe.graph.nodes[wrt].shape, [int(k) for k in at])
    return source.explained(wrt, place)


def _source(
    probe: Probe,
    x: Batch,
    numbers: Numbers,
    output: str,
    asked: tuple[Any, Any, Any, Any],
) -> Source:
    target, upstream, loss, targets = asked
    shape, sample = probe.shape(output), numbers.sample
    count = probe.count(x)
    made: _Loss | None = None
    if loss is not None:
        y = numbers.array(output)
        one = np.asarray(targets)
        one = one[np.newaxis] if one.ndim == 0 else one
        spec, wanted = resolved_loss(loss, shape, one, "explain_gradient")
        scale = float(spec.scales(shape, wanted, np.arange(len(y)), len(y))[0])
        made = _Loss(spec.op, spec.attributes, wanted, scale)
        ups = np.full(len(y), scale)
        up = spec.operation.gradient(spec.attributes, ups, [y, wanted], [0])[0]
        of = f"the loss {spec.op} of {output}"
    elif upstream is not None:
        up = np.asarray(upstream, np.float32)
        up = up[np.newaxis] if up.shape == shape else up
        if up.shape != (count, *shape):
            raise ShapeError(
                f"explain_gradient: expected an upstream gradient {(count, *shape)}, the shape "
                f"of {output!r}; got {np.shape(upstream)}."
            )
        of = f"Σ upstream · {output}"
    else:
        at = greatest(probe, output, target, numbers.array(output), sample)
        up = np.zeros((count, *shape), np.float32)
        number = (sample, *at)
        up[number] = 1.0
        of = f"{output}[{', '.join(map(str, at))}]"
    up = np.asarray(up, np.float32)

    def pull(names: list[str]) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = probe.start(x, output, names).pull({output: up})
        return found

    return Source(probe.graph, numbers, output, up, of, pull, made)


def _require_wrt(probe: Probe, wrt: str) -> None:
    nodes = probe.graph.nodes
    if wrt not in nodes:
        known = [*nodes]
        raise ModelError(f"{probe.where}: there is no node {wrt!r}. {suggest(wrt, known)}")
    if wrt in buffers(probe.graph):
        raise ModelError(
            f"{probe.where}: {wrt!r} expected a node that is learned or computed; got a running "
            "statistic, which has no gradient."
        )


def _require_depends(source: Source, wrt: str) -> None:
    if wrt not in source.graph.nodes:
        raise ModelError(
            f"explain_gradient: expected a node that {source.output!r} depends on; got {wrt!r}, "
            "which comes after it or on another way."
        )
