"""Networks whose channels have nothing to do with each other: channels as samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_close

import striate as st
from striate import nn
from striate.nn import functional as F
from striate.program import build_gradient
from striate.program.plane_program import PlaneGradient
from striate.program.planes import plane_form


class PoolAndBack(nn.Module):
    def forward(self, x: Any) -> Any:
        y, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(F.relu(y), places, 2, output_size=(8, 7))


class TwoPools(nn.Module):
    def forward(self, x: Any) -> Any:
        return F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)


NETS = {
    "max pool": lambda: nn.MaxPool2d(2),
    "max pool, uneven": lambda: nn.MaxPool2d((3, 2), 2, 1),
    "average pool": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "gaussian pool": lambda: nn.GaussianPool2d(3, 1.0, 2),
    "l2 pool": lambda: nn.LPPool2d(2, 2),
    "adaptive pool": lambda: nn.AdaptiveAvgPool2d(3),
    "pad": lambda: nn.ReflectionPad2d(1),
    "resize": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "prelu": lambda: nn.PReLU(3),
    "prelu of one": lambda: nn.PReLU(1),
    "srelu": lambda: nn.SReLU(3),
    "apl": lambda: nn.APL(2, 3),
    "brelu": lambda: nn.BReLU(),
    "pool and back": PoolAndBack,
    "two pools": TwoPools,
    "several": lambda: nn.Sequential(nn.MaxPool2d(2), nn.PReLU(3), nn.Tanh(), nn.AvgPool2d(2)),
}
MIXED = {
    "convolution": lambda: nn.Conv2d(3, 3, 3),
    "batch norm": lambda: nn.BatchNorm2d(3),
    "channels are pooled": lambda: nn.ChannelMaxPool(3),
    "channels are shuffled": lambda: nn.ChannelShuffle(3),
    "flat": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Flatten()),
    "a convolution in between": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 2, 1)),
    "only functions of one number": lambda: nn.Sequential(nn.Tanh(), nn.ReLU()),
    "many hinges": lambda: nn.APL(3, 3),
    "a mean over channels": lambda: nn.Softmax2d(),
}


def made(make: Any, count: int) -> tuple[nn.Module, np.ndarray]:
    st.manual_seed(1)
    net = make()
    for name, parameter in net.named_parameters():
        parameter.data[:] += 0.1 if "left" in name else -0.25
    return net, np.random.default_rng(2).normal(size=(count, 3, 8, 7)).astype(np.float32)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_channels_have_no_such_form(name: str) -> None:
    net, x = made(MIXED[name], 1)
    assert plane_form(net.to_graph(x.shape[1:])) is None


def test_large_images_have_no_such_form() -> None:
    assert plane_form(nn.MaxPool2d(2).to_graph((3, 200, 200))) is None


@pytest.mark.parametrize("count", [1, 5, 6])
@pytest.mark.parametrize("name", NETS)
def test_values_and_gradients(name: str, count: int) -> None:
    net, x = made(NETS[name], count)
    graph = net.to_graph(x.shape[1:])
    parameters = dict(net.state_dict())
    names = ["input", *(p.name for p in graph.parameters)]
    program = build_gradient(graph, None, names)
    assert isinstance(program, PlaneGradient)
    exact = build_gradient(graph, None, names, backend="reference")
    passage, expected = program.start(x, parameters), exact.start(x, parameters)
    (output,) = graph.outputs
    rng = np.random.default_rng(3)
    upstream = {output: rng.normal(size=expected.values[output].shape).astype(np.float32)}
    check_close(passage.values[output], expected.values[output], factor=8, dense=0.05)
    found, right = passage.pull(upstream), expected.pull(upstream)
    assert list(found) == names
    for one in names:
        assert found[one].dtype == np.float32
        check_close(found[one], right[one], factor=32, dense=0.05)
    assert np.array_equal(net.eval()(x), passage.values[output])


def test_empty_batch() -> None:
    net, x = made(NETS["several"], 0)
    graph = net.to_graph(x.shape[1:])
    program = build_gradient(graph, None, ["input", *(p.name for p in graph.parameters)])
    values, found = program.run(x, dict(net.state_dict()))
    assert values[graph.outputs[0]].shape == (0, 3, 2, 1)
    assert found["input"].shape == (0, 3, 8, 7)
    assert not any(found[p.name].any() for p in graph.parameters)


def test_samples_are_not_copied_wrongly_with_threads() -> None:
    net, x = made(NETS["several"], 40)
    before = st.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            st.set_num_threads(threads)
            results.append(net.eval()(x))
    finally:
        st.set_num_threads(before)
    assert np.array_equal(*results)


def test_inner_values_are_those_of_the_network() -> None:
    net, x = made(NETS["several"], 4)
    graph = net.to_graph(x.shape[1:])
    program = st.program.build_inference(graph)
    names = [node.name for node in graph.steps]
    values = program.values(x, dict(net.state_dict()), names)
    exact = st.program.build_inference(graph, backend="reference")
    for name in names:
        right = exact.values(x, dict(net.state_dict()), [name])[name]
        check_close(values[name], right, factor=8, dense=0.05)
