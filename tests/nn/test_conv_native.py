"""Every case of the convolution family natively: values and all gradients, against float64."""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate import nn
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


def _everything() -> nn.Module:
    """Every kind of layer of the family in one network."""
    return nn.Sequential(
        nn.ConstantPad2d((1, 0, 0, 1), 0.25),
        nn.Conv2d(2, 6, 5, 2, "same", padding_mode="reflect"),
        nn.Tanh(),
        nn.TiledConv2d(6, 8, 3, 2, padding=1),
        nn.CenterCrop((6, 5)),
        nn.LocallyConnected2d(8, 4, (6, 5), 3, padding="same_lower", padding_mode="circular"),
        nn.SeparableConv2d(4, 3, 3, padding="same"),
        nn.Permute(0, 2, 3, 1),
        nn.Conv2d(3, 4, (2, 1), true_convolution=True, data_format="channels_last"),
        nn.ConvTranspose2d(4, 2, 2, 2, data_format="channels_last"),
        nn.Flatten(2),
        nn.LocallyConnectedTranspose1d(10, 3, 20, 2),
        nn.ReplicationPad1d((2, 1)),
    )


@pytest.mark.parametrize("count", [1, 17])
def test_a_network_of_all_of_them(count: int) -> None:
    st.manual_seed(1)
    net = _everything()
    graph, x = net.to_graph((2, 14, 13)), np.random.default_rng(0).normal(size=(count, 2, 14, 13))
    parameters = net.state_dict()
    wanted = ["input", *parameters]
    values = []
    for backend in ("native", "reference"):
        program = build_gradient(graph, None, wanted, backend=backend)
        y, slopes = program.run(x.astype(np.float32), parameters)
        values.append([*y.values(), *(slopes[name] for name in wanted)])
    for native, exact in zip(*values, strict=True):
        scale = np.abs(exact).max()
        np.testing.assert_allclose(native, exact, rtol=1e-4, atol=2e-5 * scale)
