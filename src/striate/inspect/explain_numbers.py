"""The numbers that explanations are made of: a network's parameters and its nodes' values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ModelError, OptionError
from striate.formula.formula import Formula
from striate.formula.operation import Operation
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node

Fetch = Callable[[list[str]], Mapping[str, ArrayLike]]


class Numbers:
    """The values of a graph's nodes, as they were given or as a program computes them.

    Args:
        graph: the forward network.
        parameters: arrays by name.
        values: arrays with the batch axis, by node name.
        sample: the sample of the batch that is asked about.
        fetch: computes the values of nodes that are not among these.
    """

    def __init__(
        self,
        graph: Graph,
        parameters: Mapping[str, ArrayLike],
        values: Mapping[str, ArrayLike],
        sample: int = 0,
        fetch: Fetch | None = None,
    ) -> None:
        self.graph, self.sample = graph, sample
        self._parameters, self._fetch = parameters, fetch
        self._values = {name: np.asarray(array) for name, array in values.items()}

    def require(self, names: Iterable[str]) -> None:
        """Have the values of some nodes computed together, where they are not known."""
        unknown = [n for n in names if n not in self._values]
        unknown = [n for n in unknown if self.graph.nodes[n].op != "parameter"]
        if unknown and self._fetch is not None:
            found = self._fetch(unknown)
            self._values |= {name: np.asarray(array) for name, array in found.items()}

    def require_all(self, output: str) -> None:
        """Have the values of everything that a node depends on, by one run of the network."""
        self.require(self.graph.pruned([output]).nodes)

    def array(self, name: str) -> NDArray[Any]:
        """All of a node's numbers; with the batch axis where it has one."""
        if self.graph.nodes[name].op == "parameter":
            return np.asarray(self._found(self._parameters, name))
        self.require([name])
        array = np.asarray(self._found(self._values, name))
        if self.graph.nodes[name].batched and not 0 <= self.sample < len(array):
            raise OptionError(
                f"explain: expected a sample from 0 to {len(array) - 1}; got {self.sample}."
            )
        return array

    @staticmethod
    def _found(arrays: Mapping[str, Any], name: str) -> Any:
        if name not in arrays:
            raise ModelError(f"explain: expected the values of {name!r}; got {sorted(arrays)}.")
        return arrays[name]

    def place(self, name: str, at: Sequence[int]) -> tuple[int, ...]:
        """A place with the sample before it, where the node has a batch axis."""
        return (self.sample, *at) if self.graph.nodes[name].batched else tuple(at)

    def own(self, name: str, index: Sequence[int]) -> tuple[int, ...]:
        """A place without the sample: the other way round."""
        return tuple(index[1:] if self.graph.nodes[name].batched else index)

    def number(self, name: str, at: Sequence[int]) -> float:
        """One number."""
        return float(self.array(name)[self.place(name, at)])

    def native(self, name: str, at: Sequence[int]) -> float | None:
        """One number if it is known."""
        return self.number(name, at) if name in self._values else None

    def known(self, name: str) -> NDArray[Any] | None:
        """A node's numbers if they are known."""
        return self._values.get(name)

    def bound(self, node: Node) -> tuple[Formula, dict[str, NDArray[Any]]]:
        """A node's formula and the arrays that it reads, which are not copied."""
        return bind(
            find_operation(node.op), node.attributes, [self.array(name) for name in node.inputs]
        )


def bind(
    operation: Operation, attributes: Mapping[str, Any], arrays: Sequence[NDArray[Any]]
) -> tuple[Formula, dict[str, NDArray[Any]]]:
    """An operation's formula on these arrays, and all that it reads by name, constants included.

    `Operation.bind` makes float64 copies, which of a large layer's weights take longer than all
    the rest; only those that read something else than the arrays themselves (labels) must do so.
    """
    if type(operation).bind is not Operation.bind and operation.is_loss:
        formula, tensors = operation.bind(attributes, arrays)
        return formula, {**tensors, **formula.constants}
    names = operation.argument_names(attributes, len(arrays))
    formula = operation.formula(attributes, [array.shape for array in arrays])
    return formula, {**dict(zip(names, arrays, strict=True)), **formula.constants}
