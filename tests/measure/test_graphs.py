"""Our graphs in torch and in ONNX compute what our own float64 reference computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import ModelError
from striate.measure import onnx_graph, torch_graph
from striate.nn import functional as F
from striate.program import build_inference, build_training

pytestmark = pytest.mark.peer


class Everything(nn.Module):
    """Most operations of the classic networks, on a small image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding="same")
        self.uneven = nn.Conv2d(8, 8, 2, padding="same", groups=2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.average = nn.AvgPool2d(3, stride=1, padding=1)
        self.squash = nn.ScaledTanh()
        self.adapt = nn.AdaptiveAvgPool2d((2, 2))
        self.fc = nn.Linear(4 * 12, 5)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.conv(x))
        y = self.bn(self.uneven(x))
        x = F.relu(x + y)
        x = self.pool(F.sigmoid(x) * F.tanh(y))
        x = F.cat((self.average(x), self.squash(x)[:, 1:5]), dim=1)
        return self.fc(self.adapt(x).flatten(1))


def made(training: bool = False) -> tuple[Any, dict[str, np.ndarray], np.ndarray]:
    st.manual_seed(3)
    net = Everything().train(training)
    rng = np.random.default_rng(0)
    weights = {n: a.copy() for n, a in net.state_dict().items()}
    weights["bn.running_mean"] += rng.normal(size=8).astype(np.float32)
    weights["bn.running_var"] *= rng.uniform(0.5, 2, 8).astype(np.float32)
    return net.to_graph((3, 12, 12)), weights, rng.normal(size=(4, 3, 12, 12))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_torch_inference(inplace: bool, last: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    graph, weights, x = made()
    exact = build_inference(graph, "reference").run(x.astype(np.float32), weights)
    net = torch_graph.torch_module(graph, weights, torch.float64, inplace)
    form = torch.channels_last if last else torch.contiguous_format
    x64 = torch.tensor(x.astype(np.float32), dtype=torch.float64)
    with torch.inference_mode():
        found = net.to(memory_format=form)(x64.contiguous(memory_format=form)).numpy()
    assert np.allclose(found, exact, rtol=0, atol=1e-6)  # the reference rounds to float32 at last


def test_torch_training() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from striate.measure.peers import TorchTraining

    graph, weights, x = made(training=True)
    labels = np.array([0, 1, 2, 3])
    optimizer = st.optim.SGD(0.01, momentum=0.9)
    ours = build_training(graph, loss="cross_entropy", rule=optimizer.rule(), backend="reference")
    for name, array in ours.parameters.items():
        array[...] = weights[name]
    hyper = np.array([optimizer.hyper(0, 0.01)], np.float32)
    images = x.astype(np.float32)
    ours.run(images, labels, np.arange(4), batch_size=4, hyper=hyper)
    theirs = TorchTraining(graph, weights, images, labels, 4, double=True)
    theirs.run()
    found = theirs.parameters()
    assert set(found) == set(ours.parameters) - {"bn.running_mean", "bn.running_var"}
    for name, array in found.items():
        assert np.allclose(array, ours.parameters[name], rtol=0, atol=1e-6), name
        assert not np.array_equal(array, weights[name])


def test_onnx() -> None:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    import onnxruntime

    class Known(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1)
            self.bn = nn.BatchNorm2d(8)
            self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            self.average = nn.AvgPool2d(3, stride=1, padding=1)
            self.adapt = nn.AdaptiveAvgPool2d((3, 3))
            self.fc = nn.Linear(72, 5)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn(self.conv(x)))
            x = self.average(x) + F.sigmoid(x)
            x = F.cat((x[:, :3], F.tanh(x[:, 3:])), dim=1)
            return F.softmax(self.fc(self.adapt(self.pool(x)).flatten(1)), dim=1)

    graph = Known().eval().to_graph((3, 12, 12))
    weights = {p.name: np.full(p.shape, 0.1, np.float32) for p in graph.parameters}
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    exact = build_inference(graph, "reference").run(x, weights)
    model = onnx_graph.onnx_model(graph, weights, 2)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"input": x})[0], exact, rtol=0, atol=1e-6)
    graph = nn.Sequential(nn.ScaledTanh()).to_graph((3, 2, 2))
    with pytest.raises(ModelError, match="no operation for the map"):
        onnx_graph.onnx_model(graph, {}, 1)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: F.relu(x), "relu"),
        (lambda x: F.sigmoid(x), "sigmoid"),
        (lambda x: F.tanh(x), "tanh"),
        (lambda x: x + x, ""),
        (lambda x: x * 2.0, ""),
    ],
)
def test_names_of_maps(function: Any, name: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    (node,) = Net().to_graph((3,)).steps
    assert torch_graph.known_map(node) in (name, "add" if len(node.inputs) == 2 else name)
