"""A number followed back through a network: what adds the most to it, layer by layer to pixels.

What a number y owes to a number x that it is computed from is `x · ∂y/∂x`: a term of a sum as it
stands, all of it for the largest of a window, to first order for other functions. What is left of
y is the part of biases and constants. For a network of convolutions, batch norms, ReLUs and
poolings the parts of all pixels and all biases add up to the number exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula.operations import find_operation
from striate.formula.terms import exact_sum
from striate.formula.terms_gradient import slopes
from striate.graph.graph import LEAVES, Node
from striate.inspect.explain_json import number as as_json
from striate.inspect.explain_numbers import Numbers
from striate.inspect.explain_walk import moves, source_of

Array = NDArray[np.float64]
At = tuple[int, ...]


@dataclass(frozen=True)
class Contribution:
    """What one number adds to another that is computed from it.

    Attributes:
        node, at: the number that is read, without the sample.
        value: the number.
        slope: the derivative of the other to it.
        amount: value · slope.
    """

    node: str
    at: At
    value: float
    slope: float
    amount: float


@dataclass(frozen=True)
class Trace:
    """A number, what it adds to the number at the top, and the largest parts that it is made of.

    Attributes:
        node, op, at: where it is; `op` is "input" for a pixel.
        value: the number.
        slope: the derivative of the top number to it along this way.
        amount: what it adds to the top number, value · slope.
        share: amount over the top number.
        parts: the numbers behind it that were followed.
        rest: what the numbers behind it that were not followed add to the top number.
        others: how many these are.
        constant: what biases and constants of its operation add to the top number.
    """

    node: str
    op: str
    at: At
    value: float
    slope: float
    amount: float
    share: float
    parts: tuple[Trace, ...] = ()
    rest: float = 0.0
    others: int = 0
    constant: float = 0.0

    @property
    def pixels(self) -> tuple[Trace, ...]:
        """The numbers of the image that were reached."""
        if self.op == "input":
            return (self,)
        return tuple(pixel for part in self.parts for pixel in part.pixels)

    @property
    def depth(self) -> int:
        """How many layers were followed."""
        return 1 + max((part.depth for part in self.parts), default=-1)

    def text(self, width: int = 80, full: bool = False) -> str:
        """The tree for a terminal; there is no more of it than was followed, `full` or not."""
        from striate.inspect.explain_text import trace_text

        return trace_text(self, width)

    def to_dict(self) -> dict[str, Any]:
        """The tree as JSON data."""
        found: dict[str, Any] = {"node": self.node, "op": self.op, "at": list(self.at)}
        for key in ("value", "slope", "amount", "share", "rest", "constant"):
            found[key] = as_json(getattr(self, key))
        found["others"] = self.others
        found["parts"] = [part.to_dict() for part in self.parts]
        return found


def contributions(numbers: Numbers, name: str, at: Sequence[int]) -> list[Contribution]:
    """What a number owes to each number of the network that it reads, the largest first."""
    made = _Sources(numbers, name, tuple(at))
    return [made.contribution(k) for k in made.order()]


class _Sources:
    """What a number reads, as arrays: many thousand reads are taken together."""

    def __init__(self, numbers: Numbers, name: str, at: At) -> None:
        self.numbers = numbers
        self.names: list[str] = []  # of the nodes
        self.which, self.flat = np.zeros(0, np.intp), np.zeros(0, np.intp)
        self.slopes = np.zeros(0)
        node = numbers.graph.nodes[name]
        if moves(node):
            self._moved(node, at)
        elif find_operation(node.op).has_formula:
            self._computed(node, at)
        self._merge()
        self.values = self._values()
        self.amounts = np.where(self.slopes == 0, 0.0, self.values * self.slopes)

    def _moved(self, node: Node, at: At) -> None:
        source = source_of(self.numbers, node, at)
        if source is not None and self.numbers.graph.nodes[source[0]].op != "parameter":
            place = self.numbers.place(*source)
            flat = np.ravel_multi_index(place, self.numbers.array(source[0]).shape)
            self._add(source[0], np.array([flat]), np.ones(1))

    def _computed(self, node: Node, at: At) -> None:
        formula, arrays = self.numbers.bound(node)
        names = find_operation(node.op).argument_names(node.attributes, len(node.inputs))
        nodes = dict(zip(names, node.inputs, strict=True))
        place = formula.place(self.numbers.place(node.name, at))
        for reads in slopes(formula, place, arrays):
            name = nodes[reads.tensor]
            if self.numbers.graph.nodes[name].op == "parameter" or not reads.inside.any():
                continue
            shape = self.numbers.array(name).shape
            if shape == arrays[reads.tensor].shape:  # not a label that is read as one of many
                inside = reads.take(np.flatnonzero(reads.inside))
                self._add(name, np.ravel_multi_index(inside.index, shape), inside.values)

    def _add(self, name: str, flat: NDArray[Any], slope: Array) -> None:
        if name not in self.names:
            self.names.append(name)
        which = np.full(len(flat), self.names.index(name))
        self.which = np.concatenate([self.which, which])
        self.flat = np.concatenate([self.flat, flat])
        self.slopes = np.concatenate([self.slopes, slope])

    def _merge(self) -> None:
        """Numbers that are read several times, once."""
        both = np.stack([self.which, self.flat], axis=1)
        unique, inverse = np.unique(both, axis=0, return_inverse=True)
        if len(unique) < len(both):
            total = np.zeros(len(unique))
            np.add.at(total, inverse.ravel(), self.slopes)
            self.which, self.flat, self.slopes = unique[:, 0], unique[:, 1], total

    def _values(self) -> Array:
        found = np.zeros(len(self.flat))
        for k, name in enumerate(self.names):
            of_it = self.which == k
            array = self.numbers.array(name)
            found[of_it] = array[np.unravel_index(self.flat[of_it], array.shape)]
        return found

    def order(self) -> list[int]:
        """The numbers by what they add, the largest first; those that add nothing are left out."""
        ranked = np.argsort(-np.abs(self.amounts), kind="stable")
        return [int(k) for k in ranked if self.slopes[k] != 0]

    def contribution(self, k: int) -> Contribution:
        name = self.names[self.which[k]]
        index = np.unravel_index(self.flat[k], self.numbers.array(name).shape)
        at = self.numbers.own(name, [int(i) for i in index])
        return Contribution(
            name, at, float(self.values[k]), float(self.slopes[k]), float(self.amounts[k])
        )


@dataclass
class _Open:
    """A number of the tree while it grows."""

    node: str
    at: At
    value: float
    slope: float
    parts: list[_Open]
    total: float = 0.0  # of all numbers behind it
    others: int = 0
    expanded: bool = False


def trace(numbers: Numbers, node: str, at: Sequence[int], most: int, depth: int | None) -> Trace:
    """The largest contributions to a number, layer by layer.

    In each layer the `most` numbers that add the most to the number at the top are followed.

    Args:
        numbers: the network's, those of everything before the node among them.
        node, at: the number.
        most: how many numbers of a layer are followed.
        depth: how many layers; None for all.
    """
    if most < 1 or (depth is not None and depth < 1):
        raise OptionError(
            f"explain: expected at least one number a layer and one layer; got most={most}, "
            f"depth={depth}."
        )
    top = _Open(node, tuple(at), numbers.number(node, at), 1.0, [])
    frontier, level = [top], 0
    while frontier and (depth is None or level < depth):
        found: list[tuple[_Open, _Open]] = []
        for one in frontier:
            found += [(one, part) for part in _expanded(numbers, one, most)]
        found.sort(key=lambda pair: -_size(pair[1].value * pair[1].slope))
        for parent, part in found[:most]:
            parent.parts.append(part)
            parent.others -= 1
        kept = [part for _, part in found[:most]]
        frontier = [part for part in kept if numbers.graph.nodes[part.node].op not in LEAVES]
        level += 1
    return _closed(numbers, top, top.value)


def _size(value: float) -> float:
    return math.inf if math.isnan(value) else abs(value)


def _expanded(numbers: Numbers, one: _Open, most: int) -> list[_Open]:
    """The largest numbers behind one; how many there are and what they add is noted."""
    sources = _Sources(numbers, one.node, one.at)
    order = sources.order()
    one.total, one.others, one.expanded = exact_sum(sources.amounts), len(order), True
    parts = [sources.contribution(k) for k in order[:most]]
    return [_Open(p.node, p.at, p.value, one.slope * p.slope, []) for p in parts]


def _closed(numbers: Numbers, one: _Open, top: float) -> Trace:
    parts = tuple(_closed(numbers, part, top) for part in one.parts)
    amount, behind = one.value * one.slope, one.total * one.slope
    return Trace(
        one.node,
        numbers.graph.nodes[one.node].op,
        one.at,
        one.value,
        one.slope,
        amount,
        amount / top if top else math.nan,
        parts,
        behind - sum(part.amount for part in parts) if one.expanded else 0.0,
        one.others,
        amount - behind if one.expanded else 0.0,
    )
