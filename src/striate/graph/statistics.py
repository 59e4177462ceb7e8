"""Batch norm in graphs: which parameters are running statistics, and which form a graph computes.

A forward graph has `batch_norm` nodes whatever the mode: to run it is to use the running
statistics, to train it is to use the batch's. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from striate.errors import OptionError
from striate.graph.graph import Graph

RUNNING, TRAINING = "batch_norm", "batch_norm_training"
_ARGUMENTS = slice(3, 5)  # mean and var


def buffers(graph: Graph) -> tuple[str, ...]:
    """The parameters that an optimiser leaves alone: what batch norms read and do not learn.

    Their running statistics, and scale and shift where these are constants.

    >>> from striate.graph.graph import Node
    >>> graph = Graph([Node("x", "input", shape=(2,))])
    >>> for name in ("w", "b", "mean", "var"):
    ...     _ = graph.append(Node(name, "parameter", shape=(2,), batched=False))
    >>> settings = {"eps": 1e-5, "momentum": 0.1}
    >>> _ = graph.apply("norm", "batch_norm", ("x", "w", "b", "mean", "var"), settings)
    >>> buffers(graph)
    ('mean', 'var')
    """
    norms = [node for node in graph.steps if node.op in (RUNNING, TRAINING)]
    found = [name for node in norms for name in node.inputs[_ARGUMENTS]]
    for node in norms:
        fixed = node.attributes.get("fixed", ())
        found += [n for n, k in zip(node.inputs[1:3], ("w", "b"), strict=True) if k in fixed]
    return tuple(dict.fromkeys(found))


def with_batch_statistics(graph: Graph, names: Container[str] | None = None) -> Graph:
    """The graph with each `batch_norm` (or those of these names) as `batch_norm_training`.

    Raises:
        OptionError: a whole network is to be trained and a batch norm has momentum=None.
    """
    for node in graph.steps:
        if names is None and node.op in (RUNNING, TRAINING) and node.attributes["momentum"] is None:
            raise OptionError(
                f"{node.name}: expected momentum to be a number where a program trains; got None, "
                "the mean over all batches, which only plain calls keep. Give momentum=0.1, say."
            )
    nodes = (
        replace(node, op=TRAINING)
        if node.op == RUNNING and (names is None or node.name in names)
        else node
        for node in graph.nodes.values()
    )
    return Graph(nodes, graph.outputs)
