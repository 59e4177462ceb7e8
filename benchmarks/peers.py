"""The peers: the same network, with the same weights, in torch, ONNX Runtime and OpenVINO.

Each is set up as its documentation says for speed on a CPU: threads set, weights and inputs in
the layout that it is timed with before the clock starts, no copies of results asked for. A peer
that is not installed is left out, and the report says so.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Weights = Mapping[str, np.ndarray]
Call = Callable[[], Any]
NAMES = ("torch", "onnxruntime", "openvino")


def versions() -> dict[str, str]:
    """The peers that are installed."""
    from importlib import metadata

    found = {}
    for name in (*NAMES, "onnx"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# ---- torch ----


def torch_lenet5(weights: Weights) -> Any:
    """LeNet-5 in torch, layer for layer as striate.models.lenet5."""
    from collections import OrderedDict

    import torch
    from torch import nn

    layers = OrderedDict(
        conv1=nn.Conv2d(1, 6, 5, padding=2),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(6, 16, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(400, 120),
        relu3=nn.ReLU(),
        fc2=nn.Linear(120, 84),
        relu4=nn.ReLU(),
        fc3=nn.Linear(84, 10),
    )
    net = nn.Sequential(layers)
    net.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return net


class TorchTraining:
    """Training steps in torch eager, in one of its memory formats."""

    def __init__(
        self, weights: Weights, images: np.ndarray, labels: np.ndarray, batch: int, last: bool
    ) -> None:
        import torch

        form = torch.channels_last if last else torch.contiguous_format
        self.net = torch_lenet5(weights).to(memory_format=form)
        self._optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
        self._loss = torch.nn.CrossEntropyLoss()
        x, y = torch.tensor(images).contiguous(memory_format=form), torch.tensor(labels)
        self._batches = list(zip(x.split(batch), y.split(batch), strict=True))

    def run(self) -> None:
        """One step on each batch."""
        for x, y in self._batches:
            self._optimizer.zero_grad()
            self._loss(self.net(x), y).backward()
            self._optimizer.step()

    def parameters(self) -> dict[str, np.ndarray]:
        return {n: p.detach().contiguous().numpy() for n, p in self.net.named_parameters()}


def torch_inference(weights: Weights, images: np.ndarray) -> Iterator[tuple[str, Call]]:
    """Eager in both memory formats, and traced, frozen and optimised."""
    import torch

    def eager(form: Any) -> Call:
        net = torch_lenet5(weights).eval().to(memory_format=form)
        x = torch.tensor(images).contiguous(memory_format=form)

        def call() -> Any:
            with torch.inference_mode():
                return net(x).numpy()

        return call

    yield "torch", eager(torch.contiguous_format)
    yield "torch channels_last", eager(torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, x = torch_lenet5(weights).eval(), torch.tensor(images)
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))

    def call() -> Any:
        with torch.inference_mode():
            return frozen(x).numpy()

    yield "torch frozen", call


def set_torch_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


# ---- ONNX Runtime, OpenVINO ----


def onnx_lenet5(weights: Weights, batch: int) -> bytes:
    """LeNet-5 as an ONNX model for a batch of a fixed size."""
    from onnx import TensorProto, checker, helper, numpy_helper

    def conv(name: str, x: str, pads: int) -> Any:
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        return helper.make_node("Conv", inputs, [name], kernel_shape=[5, 5], pads=[pads] * 4)

    def relu(x: str, y: str) -> Any:
        return helper.make_node("Relu", [x], [y])

    def pool(x: str, y: str) -> Any:
        return helper.make_node("MaxPool", [x], [y], kernel_shape=[2, 2], strides=[2, 2])

    def linear(name: str, x: str) -> Any:
        return helper.make_node("Gemm", [x, f"{name}.weight", f"{name}.bias"], [name], transB=1)

    nodes = [
        *(conv("conv1", "x", 2), relu("conv1", "relu1"), pool("relu1", "pool1")),
        *(conv("conv2", "pool1", 0), relu("conv2", "relu2"), pool("relu2", "pool2")),
        helper.make_node("Flatten", ["pool2"], ["flat"], axis=1),
        *(linear("fc1", "flat"), relu("fc1", "relu3")),
        *(linear("fc2", "relu3"), relu("fc2", "relu4"), linear("fc3", "relu4")),
    ]
    graph = helper.make_graph(
        nodes,
        "lenet5",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 28, 28])],
        [helper.make_tensor_value_info("fc3", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(np.ascontiguousarray(w), n) for n, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def onnxruntime_inference(weights: Weights, images: np.ndarray, threads: int) -> Call:
    """ONNX Runtime with all its graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx_lenet5(weights, len(images)), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": images})[0]


def openvino_inference(weights: Weights, images: np.ndarray, threads: int) -> Call:
    """OpenVINO in float32, one stream, input and output shared without a copy."""
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = core.read_model(onnx_lenet5(weights, len(images)))
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def call() -> Any:
        return request.infer({0: images}, share_inputs=True, share_outputs=True)[0]

    return call
