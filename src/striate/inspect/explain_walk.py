"""The stages of an explanation: one number followed through a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula import terms
from striate.formula.formula import Formula
from striate.formula.operation import Operation
from striate.formula.operations import find_operation
from striate.formula.terms import Step, Values
from striate.graph.graph import LEAVES, Graph, Node
from striate.inspect.explain import Stage
from striate.inspect.explain_numbers import Numbers, bind
from striate.inspect.explain_rounding import TINY, Ordered, in_order, of_winograd, rounding

Source = tuple[str, tuple[int, ...]]


def moves(node: Node) -> bool:
    """Whether the node only puts numbers elsewhere, so that each comes from one place."""
    operation = find_operation(node.op)
    by_place = type(operation).source is not Operation.source
    return not operation.has_formula and (by_place or node.op == "embedding")


def leads_back(graph: Graph, node: Node) -> bool:
    """Whether what the node is made of is explained with it."""
    return moves(node) or passes_on(graph, node)


def passes_on(graph: Graph, node: Node) -> bool:
    """Whether the node is a scalar function of a single computed node."""
    single = node.op == "map" and len(node.inputs) == 1
    return single and graph.nodes[node.inputs[0]].op not in LEAVES


def activation_after(graph: Graph, name: str) -> Node | None:
    """The scalar function that alone reads a node."""
    readers = graph.consumers(name)
    if len(readers) == 1 and readers[0].op == "map" and len(readers[0].inputs) == 1:
        return None if name in graph.outputs else readers[0]
    return None


def source_of(numbers: Numbers, node: Node, at: tuple[int, ...]) -> Source | None:
    """The node and place that a moved number comes from; None where an embedding has no row."""
    if node.op == "embedding":
        row = numbers.number(node.inputs[0], at[:-1])
        table = numbers.graph.nodes[node.inputs[1]]
        inside = row == np.floor(row) and 0 <= row < table.shape[0]
        return (table.name, (int(row), at[-1])) if inside else None
    shapes = [numbers.graph.nodes[name].shape for name in node.inputs]
    number, place = find_operation(node.op).source(node.attributes, shapes, at)
    return node.inputs[number], place


class Walk:
    """Follows one number through a graph."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers, self.graph = numbers, numbers.graph

    def stages(self, node: Node, at: tuple[int, ...]) -> list[Stage]:
        """The stages behind a number, the earliest first."""
        if moves(node):
            return self._moved(node, at)
        if passes_on(self.graph, node):
            before = self.stages(self.graph.nodes[node.inputs[0]], at)
            return [*before, self.stage(node, at, before[-1])]
        return [self.stage(node, at)]

    def stage(self, node: Node, at: tuple[int, ...], before: Stage | None = None) -> Stage:
        """A computed number; a scalar function is applied to that of the stage before."""
        operation = find_operation(node.op)
        if not operation.has_formula:
            return self._without_formula(node, at)
        place = self.numbers.place(node.name, at)
        if before is None:
            formula, arrays = self.numbers.bound(node)
        else:
            formula, arrays = bind(operation, node.attributes, [_spread(before.value, place)])
        with np.errstate(all="ignore"):
            step = terms.explain(formula, formula.place(place), arrays)
        if before is None:
            ordered = in_order(formula, formula.place(place), arrays, step)
        else:
            ordered = _after(formula, place, before.ordered)
        names = operation.argument_names(node.attributes, len(node.inputs))
        allowed = rounding(step, 0.0 if before is None else before.allowed) + TINY
        return Stage(
            node.name,
            node.op,
            at,
            str(formula),
            formula.latex(),
            dict(zip(names, node.inputs, strict=True)),
            step,
            step.value,
            self.numbers.native(node.name, at),
            allowed + self._winograd(node),
            ordered,
        )

    def _winograd(self, node: Node) -> float:
        if not may_be_winograd(self.graph, node):
            return 0.0
        return of_winograd(self.numbers.known(node.name))

    def _without_formula(self, node: Node, at: tuple[int, ...]) -> Stage:
        """A number that a rule of its own computes: shown, but not taken apart."""
        operation = find_operation(node.op)
        arrays = [self.numbers.array(name) for name in node.inputs]
        found = operation.reference(node.attributes, arrays)
        value = float(found[self.numbers.place(node.name, at)])
        step = Step("computed", "a rule of its own, no index formula", value)
        names = operation.argument_names(node.attributes, len(node.inputs))
        tensors = dict(zip(names, node.inputs, strict=True))
        native = self.numbers.native(node.name, at)
        about = f"y is computed by a rule of its own ({node.op}), no index formula"
        ordered = Ordered((), float(np.float32(value)))
        allowed = 1e-4 * abs(value) + TINY
        return Stage(
            node.name, node.op, at, about, "", tensors, step, value, native, allowed, ordered
        )

    def _moved(self, node: Node, at: tuple[int, ...]) -> list[Stage]:
        source = source_of(self.numbers, node, at)
        if source is None:
            raise OptionError(
                f"explain: expected a number that counts a row of {node.inputs[1]!r}; got "
                f"{self.numbers.number(node.inputs[0], at[:-1]):g}."
            )
        name, place = source
        parent = self.graph.nodes[name]
        before = [] if parent.op in LEAVES else self.stages(parent, place)
        value = before[-1].value if before else self.numbers.number(name, place)
        origin = f"{name}[{', '.join(map(str, place))}]"
        own = Stage(
            node.name,
            node.op,
            at,
            f"y = {origin}",
            "",
            {"x": name},
            Step("read", origin, value),
            value,
            self.numbers.native(node.name, at),
            before[-1].allowed if before else TINY,
            before[-1].ordered if before else Ordered((), value),
        )
        return [*before, own]


def may_be_winograd(graph: Graph, node: Node) -> bool:
    """Whether a program may compute the node by Winograd's algorithm."""
    if node.operation != "conv2d":
        return False
    weight = node.inputs[1 + (node.gradient_of is not None)]
    kernel, a = graph.nodes[weight].shape[2:], node.attributes
    return kernel == (3, 3) and {*a["stride"], *a["dilation"], a["groups"]} == {1}


def _after(formula: Formula, place: tuple[int, ...], before: Ordered) -> Ordered:
    """What a scalar function makes of a number in float32, and of that with fused sums."""
    (name,) = formula.shapes

    def applied(value: float) -> float:
        values = Values(formula, {name: _spread(value, place)}, np.float32)
        with np.errstate(all="ignore"):
            return float(values.value(formula.body, formula.place(place), 0))

    fused = None if before.fused is None else applied(before.fused)
    return Ordered(before.axes, applied(before.value), fused)


def _spread(value: float, place: tuple[int, ...]) -> NDArray[Any]:
    """A tensor that has the value everywhere, large enough to be read at a place."""
    return np.broadcast_to(np.float64(value), tuple(k + 1 for k in place))
