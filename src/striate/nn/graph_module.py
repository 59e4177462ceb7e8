"""GraphModule: a network made from a graph alone, without the code that once built it.

It has the state-dict names of the original, runs on any batch and any image size that its graph
allows, can be part of another network, can be trained further and saved again. It cannot do what
is no part of a graph: a `forward` that chose by shape has made its choice when it was traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from striate.errors import ModelError, OptionError, ShapeError
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node
from striate.nn.module import Module
from striate.nn.parameter import Parameter
from striate.nn.symbol import SymbolicTensor
from striate.nn.trace import Tracer


class _Branch(Module):
    """A place in the tree of names ("conv1" of "conv1.weight"); it computes nothing itself."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Refused: the graph belongs to the whole network."""
        raise OptionError(
            "loaded layer: expected the whole network to be called; got one of its layers. "
            "Call the network, or program.values for what a layer gives."
        )


class GraphModule(Module):
    """A network from a graph and its parameters.

    Args:
        graph: the network in evaluation mode, with inputs and outputs.
        parameters: state-dict name -> array, or Parameter to share it; all that the graph reads
            and that is no buffer.
        training_graph: the network in training mode where it differs (dropout), or None.
        description: what the network was: the text of the module that was saved.
        notes: anything that travels with it, as JSON values (class names, how images are scaled).
        buffers: state-dict name -> array that is not trained (running statistics).
    Raises:
        ModelError: a parameter is missing or has another shape than the graph says.
    """

    def __init__(
        self,
        graph: Graph,
        parameters: Mapping[str, Any],
        training_graph: Graph | None = None,
        description: str = "",
        notes: Mapping[str, Any] | None = None,
        buffers: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        both = (graph, graph if training_graph is None else training_graph)
        # In the instance's dict, where a layer that is called "graph" cannot take its place.
        self.__dict__.update(_graphs=both, _description=description, _notes=dict(notes or {}))
        for name, value in parameters.items():
            self._place(name, value if isinstance(value, Parameter) else Parameter(value))
        for name, value in (buffers or {}).items():
            self._place(name, np.array(value))
        for each in both:
            self._check(each)
        self.eval()

    @property
    def graph(self) -> Graph:
        """The network in evaluation mode."""
        graph: Graph = self._own("_graphs")[0]
        return graph

    @property
    def training_graph(self) -> Graph:
        """The network in training mode."""
        graph: Graph = self._own("_graphs")[1]
        return graph

    @property
    def description(self) -> str:
        """What the network was, as text."""
        return str(self._own("_description"))

    @property
    def notes(self) -> dict[str, Any]:
        """What travels with it: JSON values."""
        notes: dict[str, Any] = self._own("_notes")
        return notes

    @notes.setter
    def notes(self, value: Mapping[str, Any]) -> None:
        self.__dict__["_notes"] = dict(value)

    def _own(self, name: str) -> Any:
        return self.__dict__[name]

    def _place(self, name: str, value: Any) -> None:
        """Put a parameter or a buffer at its dotted name, making the branches on the way."""
        *path, leaf = name.split(".")
        module: Module = self
        for part in path:
            taken = part in module._parameters or part in module._buffers
            child = module._modules.setdefault(part, _Branch())
            if child is None or not part or taken:
                raise ModelError(f"graph: expected parameter names that form a tree; got {name!r}.")
            module = child
        if not leaf or module._holds(leaf):
            raise ModelError(f"graph: expected parameter names that form a tree; got {name!r}.")
        if isinstance(value, Parameter):
            module._parameters[leaf] = value
        else:
            module._buffers[leaf] = value

    def _check(self, graph: Graph) -> None:
        if not graph.inputs or not graph.outputs:
            raise ModelError(
                f"graph: expected inputs and outputs; got {len(graph.inputs)} and "
                f"{len(graph.outputs)}."
            )
        held = self.state_dict()
        for node in graph.parameters:
            if node.name not in held:
                raise ModelError(
                    f"graph: expected a parameter {node.name!r} of shape {node.shape}; got none."
                )
            if held[node.name].shape != node.shape:
                raise ModelError(
                    f"graph: expected {node.name} of shape {node.shape}; "
                    f"got shape={held[node.name].shape}."
                )

    def _held(self) -> dict[str, Any]:
        """Every parameter and buffer by each of its names."""
        found: dict[str, Any] = dict(self.named_parameters(remove_duplicate=False))
        return found | dict(self.named_buffers(remove_duplicate=False))

    @property
    def input_shape(self) -> tuple[Any, ...]:
        """The per-sample shape that the graph was saved with; of several inputs their shapes."""
        return self.graph.input_shape

    def forward(self, *inputs: Any) -> Any:
        """The graph's output, traced node by node; of several a tuple."""
        graph = self.training_graph if self.training else self.graph
        if len(inputs) != len(graph.inputs):
            raise OptionError(
                f"GraphModule: expected {len(graph.inputs)} inputs, one of each shape in "
                f"{[node.shape for node in graph.inputs]}; got {len(inputs)}."
            )
        x = inputs[0]
        if not isinstance(x, SymbolicTensor):
            return self(*inputs)
        held = self._held()
        names = (node.name for node in graph.inputs)
        values: dict[str, Any] = dict(zip(names, inputs, strict=True))
        for node in graph.nodes.values():
            if node.op == "parameter":
                values[node.name] = held[node.name]
            elif node.op != "input":
                values[node.name] = _replay(x._tracer, node, values)
                if node.op == "batch_norm" and self.training:
                    x._tracer.use_batch_statistics(values[node.name])
        found = tuple(values[name] for name in graph.outputs)
        return found[0] if len(found) == 1 else found

    def __repr__(self) -> str:
        inner = self.description.replace("\n", "\n  ")
        return f"GraphModule(\n  input {self.input_shape}\n  {inner}\n)"

    def share(self, alias: str, name: str) -> None:
        """Give a parameter a second name, as a layer used twice has."""
        held = self._held()
        if name not in held:
            raise ModelError(
                f"graph: expected a parameter {name!r} to share as {alias!r}; got none."
            )
        self._place(alias, held[name])


def _replay(tracer: Tracer, node: Node, values: Mapping[str, Any]) -> SymbolicTensor:
    attributes = dict(node.attributes)
    if find_operation(node.op).draws:
        attributes["site"] = tracer.dropout_site()
    inputs = [values[name] for name in node.inputs]
    try:
        return tracer.apply(node.op, inputs, attributes, node.name)
    except ShapeError as error:
        raise ShapeError(f"{error} The network was saved for other image sizes.") from None
