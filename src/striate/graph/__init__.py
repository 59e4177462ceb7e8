"""Networks as data: nodes, shapes, parameters; the gradient as a transform of graphs."""
