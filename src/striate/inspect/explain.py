"""Why a number in a network is what it is: the exact arithmetic of one activation.

The arithmetic is read off the formula of the operation (`formula.terms`), with the numbers that
the network really had as inputs; nothing about convolution or pooling is written here. A stage is
one operation; an activation that follows a convolution is a second stage, and an operation that
only moves numbers is followed back to where they came from. How it looks on a terminal is in
`inspect.explain_text`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ModelError, OptionError, suggest
from striate.formula.expression import DERIVATIVES, Const, Expr
from striate.formula.operations import find_operation
from striate.formula.terms import Step
from striate.graph.graph import LEAVES, Graph, Node

Array = NDArray[np.float64]
_EPS = 2.0**-23  # twice the rounding error of one float32 operation
_TINY = 2.0**-126  # results below this may be flushed to 0
_WINOGRAD = 1e-5  # of the largest number; measured 4e-6


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

    @property
    def difference(self) -> float | None:
        """The program's number minus the exact one."""
        return None if self.native is None else self.native - self.value

    @property
    def agrees(self) -> bool:
        """Whether the program's number is the exact one but for float32 rounding."""
        if self.native is None:
            return True
        if self.native == self.value or (math.isnan(self.native) and math.isnan(self.value)):
            return True
        return abs(self.native - self.value) <= self.allowed

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
        values = []
        for term in step.terms:
            read = [p.value for p in term.places if p.tensor == tensor]
            if tensor is not None and not read:
                return None
            values.append(term.value if tensor is None else read[0])
        shape = [k + 1 for k in step.terms[-1].at.values()]
        return np.array(values).reshape(shape)


@dataclass(frozen=True)
class Explanation:
    """The arithmetic behind one number of a network.

    Attributes:
        node: the node asked for.
        at: the place asked for.
        sample: its sample in the batch.
        stages: the operations, in the order of computation.
    """

    node: str
    at: tuple[int, ...]
    sample: int
    stages: tuple[Stage, ...] = field(repr=False)

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

    def text(self, width: int = 80, full: bool = False) -> str:
        """The arithmetic for a terminal `width` characters wide; `full` leaves no term out."""
        from striate.inspect.explain_text import explanation_text

        return explanation_text(self, width, full)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON data; numbers that JSON lacks are "inf", "-inf" or "nan"."""
        return {
            "node": self.node,
            "at": list(self.at),
            "sample": self.sample,
            "value": _json(self.value),
            "native": _json(self.native),
            "agrees": self.agrees,
            "stages": [_stage_dict(stage) for stage in self.stages],
        }


def explain(
    graph: Graph,
    parameters: Mapping[str, ArrayLike],
    values: Mapping[str, ArrayLike],
    node: str,
    at: Sequence[int],
    *,
    sample: int = 0,
) -> Explanation:
    """The exact arithmetic of one number, from the formula of its layer.

    An activation that alone reads the node is shown with it. If the node is an activation, what it
    is applied to is shown first.

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

    >>> graph = Graph([Node("x", "input", shape=(2,)),
    ...                Node("w", "parameter", shape=(1, 2), batched=False)])
    >>> _ = graph.apply("y", "linear", ("x", "w"))
    >>> found = explain(graph, {"w": [[2.0, 3.0]]}, {"x": [[5.0, 7.0]]}, "y", (0,))
    >>> found.products, found.value
    (array([10., 21.]), 31.0)
    """
    place = _require_place(graph, node, at)
    walk = _Walk(graph, parameters, values, sample)
    stages = walk.stages(graph.nodes[node], place)
    follower = _activation_after(graph, node)
    if follower is not None and graph.nodes[node].operation != "map":
        stages = [*stages, walk.stage(follower, place, stages[-1])]
    return Explanation(node, place, sample, tuple(stages))


def needed_values(graph: Graph, node: str) -> list[str]:
    """The nodes whose values `explain` wants: what is read, then what is compared.

    Args:
        graph: the forward network.
        node: the node to be explained.
    """
    if node not in graph.nodes:
        raise ModelError(f"explain: there is no node {node!r}. {suggest(node, graph.nodes)}")
    names: dict[str, None] = {}

    def visit(name: str) -> None:
        names[name] = None
        at = graph.nodes[name]
        if at.op in LEAVES:
            return
        for parent in at.inputs:
            if _moves(at) or _passes_on(graph, at):
                visit(parent)
            elif graph.nodes[parent].op != "parameter":
                names[parent] = None

    visit(node)
    follower = _activation_after(graph, node)
    if follower is not None:
        names[follower.name] = None
    return list(names)


def _require_place(graph: Graph, node: str, at: Sequence[int]) -> tuple[int, ...]:
    if node not in graph.nodes or graph.nodes[node].op in LEAVES:
        steps = [step.name for step in graph.steps]
        raise ModelError(f"explain: there is no layer {node!r}. {suggest(node, steps)}")
    shape = graph.nodes[node].shape
    place = tuple(int(k) for k in at)
    if len(place) != len(shape) or not all(0 <= k < n for k, n in zip(place, shape, strict=True)):
        ranges = ", ".join(f"0…{n - 1}" for n in shape)
        raise OptionError(
            f"explain: expected a place ({ranges}) in the output of {node!r}, shape {shape}; "
            f"got {place}."
        )
    return place


def _moves(node: Node) -> bool:
    return node.op not in LEAVES and not find_operation(node.op).has_formula


def _passes_on(graph: Graph, node: Node) -> bool:
    """Whether the node is a scalar function of a single computed node."""
    single = node.op == "map" and len(node.inputs) == 1
    return single and graph.nodes[node.inputs[0]].op not in LEAVES


def _activation_after(graph: Graph, name: str) -> Node | None:
    """The scalar function that alone reads a node."""
    readers = graph.consumers(name)
    if len(readers) == 1 and readers[0].op == "map" and len(readers[0].inputs) == 1:
        return None if name in graph.outputs else readers[0]
    return None


class _Walk:
    """Follows one number through a graph."""

    def __init__(
        self,
        graph: Graph,
        parameters: Mapping[str, ArrayLike],
        values: Mapping[str, ArrayLike],
        sample: int,
    ) -> None:
        self.graph = graph
        self.parameters = parameters
        self.values = values
        self.sample = sample

    def stages(self, node: Node, at: tuple[int, ...]) -> list[Stage]:
        """The stages behind a number, the earliest first."""
        if _moves(node):
            return self._moved(node, at)
        if _passes_on(self.graph, node):
            before = self.stages(self.graph.nodes[node.inputs[0]], at)
            return [*before, self.stage(node, at, before[-1])]
        return [self.stage(node, at)]

    def stage(self, node: Node, at: tuple[int, ...], before: Stage | None = None) -> Stage:
        """A computed number; a scalar function is applied to that of the stage before."""
        operation = find_operation(node.op)
        if before is None:
            arrays = [self._array(self.graph.nodes[name]) for name in node.inputs]
        else:
            arrays = [np.broadcast_to(np.float64(before.value), (1, *node.shape))]
        formula, tensors = operation.bind(node.attributes, arrays)
        step = formula.explain((0, *at), **tensors)
        names = operation.argument_names(node.attributes, len(node.inputs))
        return Stage(
            node.name,
            node.op,
            at,
            str(formula),
            formula.latex(),
            dict(zip(names, node.inputs, strict=True)),
            step,
            step.value,
            self._native(node.name, at),
            rounding(step, 0.0 if before is None else before.allowed) + self._spread(node) + _TINY,
        )

    def _spread(self, node: Node) -> float:
        """What Winograd may add: it rounds sums of a whole tile, so an error does not shrink
        where the terms of one number happen to be small.
        """
        if node.op != "conv2d" or node.name not in self.values:
            return 0.0
        kernel, a = self.graph.nodes[node.inputs[1]].shape[2:], node.attributes
        steps = {*a["stride"], *a["dilation"], a["groups"]}
        if kernel != (3, 3) or steps != {1}:
            return 0.0
        found = np.abs(self._array(node))
        return _WINOGRAD * float(found[np.isfinite(found)].max(initial=0.0))

    def _moved(self, node: Node, at: tuple[int, ...]) -> list[Stage]:
        shapes = [self.graph.nodes[name].shape for name in node.inputs]
        number, place = find_operation(node.op).source(node.attributes, shapes, at)
        parent = self.graph.nodes[node.inputs[number]]
        before = [] if parent.op in LEAVES else self.stages(parent, place)
        value = before[-1].value if before else self._number(self._array(parent), place)
        allowed = before[-1].allowed if before else _TINY
        origin = f"{parent.name}[{', '.join(map(str, place))}]"
        step = Step("read", origin, value)
        native = self._native(node.name, at)
        tensors = {"x": parent.name}
        own = Stage(
            node.name, node.op, at, f"y = {origin}", "", tensors, step, value, native, allowed
        )
        return [*before, own]

    def _array(self, node: Node) -> Array:
        if node.op == "parameter":
            return np.asarray(self._find(self.parameters, node.name), np.float64)
        array = np.asarray(self._find(self.values, node.name))
        if not 0 <= self.sample < len(array):
            raise OptionError(
                f"explain: expected a sample from 0 to {len(array) - 1}; got {self.sample}."
            )
        return np.asarray(array[self.sample : self.sample + 1], np.float64)

    def _find(self, arrays: Mapping[str, ArrayLike], name: str) -> ArrayLike:
        if name not in arrays:
            raise ModelError(f"explain: expected the values of {name!r}; got {sorted(arrays)}.")
        return arrays[name]

    def _native(self, name: str, at: tuple[int, ...]) -> float | None:
        if name not in self.values:
            return None
        return self._number(np.asarray(self.values[name])[self.sample : self.sample + 1], at)

    @staticmethod
    def _number(array: NDArray[Any], at: tuple[int, ...]) -> float:
        """The number at a place of the only sample."""
        place = (0, *at)
        return float(array[place])


def rounding(step: Step, read: float = 0.0) -> float:
    """How far float32 arithmetic, in any order of summation, may be from `step.value`.

    A sum of m terms: `(√m + 4)·ε·Σ|term|`, since roundings go either way.
    A function: `Σ |∂f/∂part|·(error of the part) + 4ε·|value|`. A read: `read`.
    """
    if step.kind == "read":
        return read
    if step.kind == "sum":
        return (math.sqrt(len(step.terms)) + 4) * _EPS * math.fsum(abs(t.value) for t in step.terms)
    if step.kind not in DERIVATIVES:
        plain = step.kind == "max" and all(len(t.places) == 1 for t in step.terms)
        return 0.0 if plain else 4 * _EPS * abs(step.value)
    errors = [rounding(part, read) for part in step.parts]
    if step.kind in ("maximum", "minimum"):
        return max(errors)
    if step.kind == "where":
        return _rounding_of_choice(step, errors, read)
    with np.errstate(all="ignore"):
        arguments: tuple[Expr, ...] = tuple(Const(part.value) for part in step.parts)
        partials = DERIVATIVES[step.kind](arguments, Const(step.value))
        carried = sum(
            abs(_constant(partial)) * error
            for partial, error in zip(partials, errors, strict=True)
            if error
        )
    return carried + 4 * _EPS * abs(step.value)


def _rounding_of_choice(step: Step, errors: list[float], read: float) -> float:
    """The error of the branch taken; of either, where rounding may have turned the comparison."""
    condition, yes, no = step.parts
    sides = [part.value for part in condition.parts]
    margin = sum(rounding(part, read) for part in condition.parts)
    if len(sides) == 2 and abs(sides[0] - sides[1]) > margin:
        return errors[1] if condition.value else errors[2]
    return max(errors[1:]) + abs(yes.value - no.value)


def _constant(e: Expr) -> float:
    return e.value if isinstance(e, Const) else math.inf


def _stage_dict(stage: Stage) -> dict[str, Any]:
    return {
        "node": stage.node,
        "op": stage.op,
        "at": list(stage.at),
        "formula": stage.formula,
        "latex": stage.latex,
        "tensors": dict(stage.tensors),
        "value": _json(stage.value),
        "native": _json(stage.native),
        "difference": _json(stage.difference),
        "allowed": _json(stage.allowed),
        "agrees": stage.agrees,
        "step": _step_dict(stage.step),
    }


def _step_dict(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": step.kind, "text": step.text, "value": _json(step.value)}
    if step.parts:
        found["parts"] = [_step_dict(part) for part in step.parts]
    if step.places:
        found["places"] = [_place_dict(place) for place in step.places]
    if step.terms:
        found["terms"] = [
            {
                "at": dict(term.at),
                "places": [_place_dict(place) for place in term.places],
                "value": _json(term.value),
            }
            for term in step.terms
        ]
    return found


def _place_dict(place: Any) -> dict[str, Any]:
    return {
        "tensor": place.tensor,
        "index": list(place.index),
        "value": _json(place.value),
        "padding": not place.inside,
    }


def _json(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
