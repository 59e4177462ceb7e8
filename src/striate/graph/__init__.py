"""Networks as data: nodes, shapes, parameters; the gradient as a graph-to-graph transform; passes."""
