"""A network as data: a list of nodes, each an operation with named inputs, attributes and a shape.

A graph knows nothing of CPUs and holds no numbers: the parameters' values are kept beside it,
by name. It can be written as JSON and travels with the weights. What an operation means, and the
shape that it gives, is in `formula.operations`.

Shapes leave out the batch: a node with `batched=True` and shape (6, 28, 28) stands for an array
of shape (n, 6, 28, 28). Parameters are not batched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from striate.errors import ModelError, OptionError, ShapeError
from striate.formula.operations import find_operation

Shape = tuple[int, ...]
LEAVES = ("input", "parameter")
_FORMAT = "striate-graph-1"


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    `op` is "input", "parameter", the name of an operation ("conv2d"), or the gradient of one to
    one of its arguments ("conv2d:dw"), whose first input is the upstream gradient.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: Shape = ()
    batched: bool = True

    @property
    def operation(self) -> str:
        """The operation's name, without the argument that a gradient is taken to."""
        return self.op.partition(":")[0]

    @property
    def gradient_of(self) -> str | None:
        """The argument that this gradient node is taken to ("w"), or None."""
        return self.op.partition(":d")[2] or None


class Graph:
    """Nodes in an order in which each comes after its inputs, and the names of the outputs."""

    def __init__(self, nodes: Iterable[Node] = (), outputs: Iterable[str] = ()) -> None:
        self.nodes: dict[str, Node] = {}
        for node in nodes:
            self.append(node)
        self.outputs: tuple[str, ...] = tuple(outputs)

    @property
    def input_shape(self) -> tuple[Any, ...]:
        """The shape of one sample; of several inputs a tuple of their shapes."""
        shapes = tuple(node.shape for node in self.inputs)
        return shapes[0] if len(shapes) == 1 else shapes

    def only_input(self, where: str) -> Node:
        """The input, for what takes a network of one.

        Args:
            where: who asks, for the error.
        Raises:
            OptionError: there are several.
        """
        if len(self.inputs) != 1:
            raise OptionError(
                f"{where}: expected a network with one input; got {len(self.inputs)}: "
                f"{', '.join(node.name for node in self.inputs)}."
            )
        return self.inputs[0]

    def only_output(self, where: str) -> Node:
        """The node that the network gives, for what takes a network of one output.

        Args:
            where: who asks, for the error.
        Raises:
            OptionError: it gives several.
        """
        if len(self.outputs) != 1:
            raise OptionError(
                f"{where}: expected a network that gives one tensor; got {len(self.outputs)}: "
                f"{', '.join(self.outputs)}. Return one of them from forward."
            )
        return self.nodes[self.outputs[0]]

    def append(self, node: Node) -> Node:
        """Add a node; its name must be new and its inputs known."""
        if node.name in self.nodes:
            raise ModelError(f"graph: two nodes are named {node.name!r}; names must be unique.")
        for name in node.inputs:
            if name not in self.nodes:
                raise ModelError(
                    f"graph: {node.name!r} reads {name!r}, which no node before it gives."
                )
        self.nodes[node.name] = node
        return node

    def apply(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...],
        attributes: Mapping[str, Any] | None = None,
    ) -> Node:
        """Append an operation; its shape follows. Raises ShapeError on a misfit."""
        attributes = dict(attributes or {})
        parents = [self.nodes[i] for i in inputs]
        try:
            shape = find_operation(op).shape(attributes, [p.shape for p in parents])
        except ShapeError as error:
            text = str(error)  # begins with the operation's name, which the node may have too
            raise ShapeError(text if text.startswith(f"{name}: ") else f"{name}: {text}") from None
        batched = self._batched(Node(name, op, inputs, attributes))
        return self.append(Node(name, op, inputs, attributes, shape, batched))

    def _batched(self, node: Node) -> bool:
        """A gradient has a batch where what it is taken to has one; else any input tells."""
        inputs = node.inputs
        if node.gradient_of is not None:
            names = find_operation(node.op).argument_names(node.attributes, len(inputs))
            inputs = (inputs[names.index(node.gradient_of)],)
        return any(self.nodes[i].batched for i in inputs)

    def unique(self, stem: str) -> str:
        """`stem`, or `stem_1`, `stem_2` … where that name is taken."""
        if stem not in self.nodes:
            return stem
        count = 1
        while f"{stem}_{count}" in self.nodes:
            count += 1
        return f"{stem}_{count}"

    @property
    def inputs(self) -> list[Node]:
        return [n for n in self.nodes.values() if n.op == "input"]

    @property
    def parameters(self) -> list[Node]:
        return [n for n in self.nodes.values() if n.op == "parameter"]

    @property
    def steps(self) -> list[Node]:
        """The nodes that compute something."""
        return [n for n in self.nodes.values() if n.op not in LEAVES]

    def consumers(self, name: str) -> list[Node]:
        """The nodes that read `name`."""
        return [n for n in self.nodes.values() if name in n.inputs]

    def copy(self) -> Graph:
        return Graph(self.nodes.values(), self.outputs)

    def pruned(self, outputs: Iterable[str] | None = None) -> Graph:
        """The graph without what `outputs` (by default its own) do not need; inputs stay."""
        wanted = tuple(self.outputs if outputs is None else outputs)
        needed = set(wanted)
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        kept = [n for n in self.nodes.values() if n.name in needed or n.op == "input"]
        return Graph(kept, wanted)

    def with_input_shape(self, *shapes: Shape) -> Graph:
        """The same network on inputs of other shapes; raises ShapeError on a misfit.

        Args:
            shapes: one for each input, in the graph's order.
        """
        if len(shapes) != len(self.inputs):
            raise ShapeError(
                f"graph: expected a shape for each of {len(self.inputs)} inputs; got "
                f"{len(shapes)}: {', '.join(map(str, shapes))}."
            )
        graph, left = Graph(outputs=self.outputs), iter(shapes)
        for node in self.nodes.values():
            if node.op == "input":
                graph.append(replace(node, shape=tuple(next(left))))
            elif node.op == "parameter":
                graph.append(node)
            else:
                graph.apply(node.name, node.op, node.inputs, node.attributes)
        return graph

    def to_json(self) -> dict[str, Any]:
        """The graph as JSON data."""
        return {
            "format": _FORMAT,
            "outputs": list(self.outputs),
            "nodes": [
                {
                    "name": n.name,
                    "op": n.op,
                    "inputs": list(n.inputs),
                    "attributes": dict(n.attributes),
                    "shape": list(n.shape),
                    "batched": n.batched,
                }
                for n in self.nodes.values()
            ],
        }

    @classmethod
    def from_json(cls, data: Any) -> Graph:
        """The graph that `to_json` gave; shapes are worked out anew, nothing is believed.

        Raises:
            ModelError: the data is not a graph, or names an operation that does not exist.
        """
        try:
            if data["format"] != _FORMAT:
                found = repr(data["format"])[:60]
                raise ModelError(f"graph: expected format {_FORMAT!r}; got {found}.")
            graph = cls(outputs=[str(o) for o in data["outputs"]])
            for item in data["nodes"]:
                name, op = str(item["name"]), str(item["op"])
                inputs = tuple(str(i) for i in item["inputs"])
                if op in LEAVES:
                    shape = tuple(int(k) for k in item["shape"])
                    graph.append(Node(name, op, (), {}, shape, batched=op == "input"))
                else:
                    unknown = [i for i in inputs if i not in graph.nodes]
                    if unknown:
                        raise ModelError(
                            f"graph: {name!r} reads {unknown[0]!r}, which no node gives."
                        )
                    graph.apply(name, op, inputs, item["attributes"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ShapeError):
                raise ModelError(f"graph: {error}") from None
            raise ModelError(
                f"graph: expected a striate graph; got damaged data ({error})."
            ) from None
        for output in graph.outputs:
            if output not in graph.nodes:
                raise ModelError(f"graph: the output {output!r} is no node of the graph.")
        return graph
