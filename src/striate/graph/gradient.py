"""The gradient as a graph-to-graph transform: backpropagation adds nodes, it computes nothing.

For every node from the loss back to the parameters, the nodes for its vector–Jacobian products
are added. Most are gradients of an operation to one argument ("conv2d:dw"); a map's gradient is a
map again (its expression differentiated), a reshape's a reshape, a concatenation's are slices,
and dropout's is dropout with the same mask. A batch norm that is trained reads the statistics of
the batch: differentiating turns `batch_norm` into `batch_norm_training`.

For pictures of what a network looks at, `pull_back` can send other things back through a ReLU than
the gradient: see `RELU_RULES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from striate.errors import ModelError, OptionError, suggest
from striate.formula.activation import is_relu
from striate.formula.expression import (
    Const,
    Expr,
    Var,
    chain,
    diff,
    from_json,
    maximum,
    to_json,
    variables,
)
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node
from striate.graph.losses import LOSSES, TrainingLoss, as_loss
from striate.graph.statistics import buffers, with_batch_statistics

__all__ = [
    "LOSSES",
    "RELU_RULES",
    "PullBack",
    "TrainingLoss",
    "as_loss",
    "differentiate",
    "pull_back",
]
TARGET = "target"
RELU_RULES = ("gradient", "guided", "deconvolution")
"""What goes back through y = max(x, 0), g coming down: g where x > 0 (the gradient); max(g, 0)
where x > 0 (guided backpropagation); max(g, 0) (deconvolution). Alike where y is cut off above, as
ReLU6 is: x > 0 then means where the slope is 1."""


def differentiate(
    graph: Graph, loss: str | TrainingLoss, wrt: Iterable[str]
) -> tuple[Graph, dict[str, str]]:
    """Add a loss on the graph's first output, and the gradients of its mean over the batch.

    Args:
        graph: the network; its first output is what the loss compares with the target.
        loss: "cross_entropy" (the target is a label), "mse" (a target of the output's shape), or
            any loss operation with its settings. Where samples count differently, a gradient of
            the mean must be scaled by whoever knows the targets: see `TrainingLoss.scales`.
        wrt: the nodes (parameters, mostly) to differentiate to.

    Returns:
        The graph with an input "target", a node "loss" and the gradient nodes, its batch norms
        reading the batch's statistics; and for each name in `wrt` the node that holds its gradient
        (left out are names that the loss does not depend on, and running statistics).
    """
    spec = as_loss(loss)
    result = with_batch_statistics(graph)
    prediction = result.nodes[result.outputs[0]]
    shape = spec.target_shape(prediction.shape)
    target = result.append(Node(result.unique(TARGET), "input", shape=shape))
    name = result.unique("loss")
    inputs = (prediction.name, target.name)
    result.apply(name, spec.op, inputs, spec.attributes)
    result.outputs = (*result.outputs, name)
    running = buffers(result)
    wanted = [name for name in wrt if name not in running]
    gradients = _Backward(result, wanted).run_from_loss(name)
    return result, {w: gradients[w] for w in wanted if w in gradients}


@dataclass(frozen=True)
class PullBack:
    """A forward graph with the nodes of its vector–Jacobian products.

    Attributes:
        graph: the forward nodes, an input for each upstream gradient, the gradient nodes.
        upstream: for each output the input that takes the gradient to it.
        gradients: for each name asked for the node that holds its gradient; left out are names
            that no output depends on.
    """

    graph: Graph
    upstream: Mapping[str, str]
    gradients: Mapping[str, str]


def pull_back(
    graph: Graph, outputs: Iterable[str], wrt: Iterable[str], relu: str = "gradient"
) -> PullBack:
    """Add the gradients of Σ ⟨upstream, output⟩ to some nodes: inputs, parameters, inner nodes.

    Args:
        graph: the network, its batch norms as they are to be computed.
        outputs: the nodes that upstream gradients are given to.
        wrt: the nodes to differentiate to.
        relu: what goes back through ReLUs, one of `RELU_RULES`.
    Raises:
        ModelError: there is no such node.
        OptionError: there is no such rule.

    >>> from striate.graph.graph import Node
    >>> graph = Graph([Node("x", "input", shape=(2,)), Node("y", "input", shape=(2,))])
    >>> attributes = {"inputs": ["a", "b"], "expr": to_json(Var("a") * Var("b"))}
    >>> _ = graph.apply("z", "map", ("x", "y"), attributes)
    >>> found = pull_back(graph, ["z"], ["x"])
    >>> found.graph.nodes[found.gradients["x"]].inputs
    ('upstream:z', 'y')
    """
    result = graph.copy()
    outputs, wrt = tuple(outputs), tuple(wrt)
    for name in (*outputs, *wrt):
        if name not in graph.nodes:
            raise ModelError(f"graph: there is no node {name!r}. {suggest(name, graph.nodes)}")
    upstream = {}
    for name in outputs:
        seed = Node(result.unique(f"upstream:{name}"), "input", shape=graph.nodes[name].shape)
        upstream[name] = result.append(seed).name
    if relu not in RELU_RULES:
        raise OptionError(f"gradient: unknown rule relu={relu!r}. {suggest(relu, RELU_RULES)}")
    backward = _Backward(result, list(wrt), relu)
    backward.found = {name: seed for name, seed in upstream.items() if name in backward.needed}
    backward.walk()
    found = {name: backward.found[name] for name in wrt if name in backward.found}
    return PullBack(result, upstream, found)


class _Backward:
    """Walks back from the loss, keeping the name of each node's gradient so far."""

    def __init__(self, graph: Graph, wrt: list[str], relu: str = "gradient") -> None:
        self.graph, self.relu = graph, relu
        self.needed = set(wrt)
        for node in graph.nodes.values():
            if any(i in self.needed for i in node.inputs):
                self.needed.add(node.name)
        self.found: dict[str, str] = {}

    def run_from_loss(self, loss: str) -> dict[str, str]:
        node = self.graph.nodes[loss]
        prediction = node.inputs[0]
        if prediction in self.needed:
            name = self.graph.unique(f"{loss}:dx")
            self.graph.apply(name, f"{node.op}:dx", node.inputs, node.attributes)
            self.found[prediction] = name
        self.walk(without=loss)
        return self.found

    def walk(self, without: str = "") -> None:
        """From the last forward node to the first, once all that reads a node is done."""
        for step in reversed([n for n in self.graph.steps if ":" not in n.op]):
            if step.name in self.found and step.name != without:
                self._step(step, self.found[step.name])

    def _step(self, node: Node, upstream: str) -> None:
        for position, source in enumerate(node.inputs):
            if source in self.needed and self._differentiable(node, position):
                contribution = self._contribution(node, position, upstream)
                if contribution is not None:
                    self._accumulate(source, contribution)

    def _accumulate(self, source: str, contribution: str) -> None:
        if source not in self.found:
            self.found[source] = contribution
            return
        attributes = {"inputs": ["x", "y"], "expr": to_json(Var("x") + Var("y"))}
        name = self.graph.unique(f"{source}:sum")
        inputs = (self.found[source], contribution)
        self.found[source] = self.graph.apply(name, "map", inputs, attributes).name

    def _contribution(self, node: Node, position: int, upstream: str) -> str | None:
        """The name of the node that sends `upstream` to one input of `node`; None if it is 0."""
        if node.op == "map":
            return self._map(node, position, upstream)
        source = self.graph.nodes[node.inputs[position]]
        name = self.graph.unique(f"{node.name}:d{self._argument(node, position)}")
        if node.op == "reshape":
            attributes = {"shape": list(source.shape)}
            return self.graph.apply(name, "reshape", (upstream,), attributes).name
        if node.op == "concat":
            return self._part(node, position, upstream, name)
        if node.op == "dropout":
            return self.graph.apply(name, "dropout", (upstream,), node.attributes).name
        op = f"{node.op}:d{self._argument(node, position)}"
        inputs = (upstream, *node.inputs)
        return self.graph.apply(name, op, inputs, node.attributes).name

    def _argument(self, node: Node, position: int) -> str:
        operation = find_operation(node.op)
        return operation.argument_names(node.attributes, len(node.inputs))[position]

    def _differentiable(self, node: Node, position: int) -> bool:
        return find_operation(node.op).differentiable(self._argument(node, position))

    def _part(self, node: Node, position: int, upstream: str, name: str) -> str:
        axis = int(node.attributes["axis"])
        sizes = [self.graph.nodes[i].shape[axis - 1] for i in node.inputs]
        start = sum(sizes[:position])
        attributes = {"axis": axis, "start": start, "stop": start + sizes[position]}
        return self.graph.apply(name, "slice", (upstream,), attributes).name

    def _map(self, node: Node, position: int, upstream: str) -> str | None:
        """The gradient of a map is a map: upstream · ∂expr/∂input, of the inputs it still reads."""
        names = list(node.attributes["inputs"])
        variable = names[position]
        by_output = {} if "y" in names else node.attributes.get("gradient_y", {})
        if variable in by_output:
            partial = from_json(by_output[variable])
            values = dict(zip(names, node.inputs, strict=True)) | {"y": node.name}
        else:
            partial = diff(from_json(node.attributes["expr"]), Var(variable))
            values = dict(zip(names, node.inputs, strict=True))
        if partial == Const(0.0):
            return None
        if partial == Const(1.0):
            return upstream
        seed = "g"
        while seed in values:
            seed += "_"
        expr = chain(partial, Var(seed))
        if self.relu != "gradient" and is_relu(node.attributes):
            positive = maximum(Var(seed), 0)
            expr = positive if self.relu == "deconvolution" else chain(partial, positive)
        return self._emit_map(node, variable, expr, values, (seed, upstream))

    def _emit_map(
        self,
        node: Node,
        variable: str,
        expr: Expr,
        values: dict[str, str],
        upstream: tuple[str, str],
    ) -> str:
        """Append the map of `expr`; `upstream` is the variable and the node of what comes down."""
        used = [v for v in variables(expr) if v != upstream[0]]
        inputs = (upstream[1], *(values[v] for v in used))
        attributes = {"inputs": [upstream[0], *used], "expr": to_json(expr)}
        name = self.graph.unique(f"{node.name}:d{variable}")
        return self.graph.apply(name, "map", inputs, attributes).name
