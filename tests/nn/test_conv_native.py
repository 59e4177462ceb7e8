"""Every case of the convolution family natively: values and all gradients, against float64."""

from __future__ import annotations

import numpy as np
import pytest

from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node
from striate.program import build_gradient
from tests.formula.cases_conv import CASES


@pytest.mark.parametrize("name", CASES)
def test_native_values_and_gradients(name):
    op, attributes, arrays = CASES[name]
    operation = find_operation(op)
    names = operation.argument_names(attributes, len(arrays))
    graph = Graph([Node("x", "input", shape=arrays[0].shape[1:])])
    for argument, array in zip(names[1:], arrays[1:], strict=True):
        graph.append(Node(argument, "parameter", shape=array.shape, batched=False))
    graph.outputs = (graph.apply("y", op, names, attributes).name,)
    single = [a.astype(np.float32) for a in arrays]
    expected = operation.reference(attributes, single)
    upstream = np.random.default_rng(0).normal(size=expected.shape).astype(np.float32)
    program = build_gradient(graph, None, names, backend="native")
    values, slopes = program.run(
        single[0], dict(zip(names[1:], single[1:], strict=True)), {"y": upstream}
    )
    np.testing.assert_allclose(values["y"], expected, rtol=1e-4, atol=1e-4)
    for argument, slope in zip(
        names, operation.gradient(attributes, upstream, single), strict=True
    ):
        np.testing.assert_allclose(slopes[argument], slope, rtol=1e-4, atol=1e-4)
