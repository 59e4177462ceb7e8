"""Which layer of a network holds its scores."""

from __future__ import annotations

from striate.graph.graph import Graph

_SOFTMAX = ("softmax", "softmax_along", "log_softmax")
_SAME_NUMBERS = ("reshape", "dropout")  # in evaluation


def scores_layer(graph: Graph) -> str:
    """The node of the network's scores: its output, before a last softmax or log-softmax.

    The gradient of a probability vanishes where the network is sure; that of a score does not.

    >>> from striate import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1))
    >>> graph = net.to_graph((1, 2, 2))
    >>> graph.outputs, scores_layer(graph)
    (('2',), '1')
    """
    node = graph.nodes[graph.outputs[0]]
    while node.op in _SAME_NUMBERS:
        node = graph.nodes[node.inputs[0]]
    if node.op in _SOFTMAX and graph.nodes[node.inputs[0]].op != "input":
        return node.inputs[0]
    return graph.outputs[0]
