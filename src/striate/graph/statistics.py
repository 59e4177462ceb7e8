"""Batch norm in graphs: which parameters are running statistics, and which form a graph computes.

A forward graph has `batch_norm` nodes whatever the mode: to run it is to use the running
statistics, to train it is to use the batch's. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from striate.graph.graph import Graph

RUNNING, TRAINING = "batch_norm", "batch_norm_training"
_ARGUMENTS = slice(3, 5)  # mean and var


def buffers(graph: Graph) -> tuple[str, ...]:
    """The parameters that an optimiser leaves alone: the running statistics of batch norms.

    >>> from striate.graph.graph import Node
    >>> graph = Graph([Node("x", "input", shape=(2,))])
    >>> for name in ("w", "b", "mean", "var"):
    ...     _ = graph.append(Node(name, "parameter", shape=(2,), batched=False))
    >>> settings = {"eps": 1e-5, "momentum": 0.1}
    >>> _ = graph.apply("norm", "batch_norm", ("x", "w", "b", "mean", "var"), settings)
    >>> buffers(graph)
    ('mean', 'var')
    """
    norms = (node for node in graph.steps if node.op in (RUNNING, TRAINING))
    return tuple(dict.fromkeys(name for node in norms for name in node.inputs[_ARGUMENTS]))


def with_batch_statistics(graph: Graph, names: Container[str] | None = None) -> Graph:
    """The graph with each `batch_norm` (or those of these names) as `batch_norm_training`."""
    nodes = (
        replace(node, op=TRAINING)
        if node.op == RUNNING and (names is None or node.name in names)
        else node
        for node in graph.nodes.values()
    )
    return Graph(nodes, graph.outputs)
