"""The peers: the same network, with the same weights, in torch, ONNX Runtime and OpenVINO.

Each is set up as its documentation says for speed on a CPU: threads set, weights and inputs in
the layout that it is timed with before the clock starts, no copies of results asked for. A peer
that is not installed, or that cannot run a network, is left out, and the report says so.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module, metadata
from typing import Any

from numpy.typing import NDArray

from striate.graph.graph import Graph
from striate.measure.torch_graph import torch_module, torch_package

Weights = Mapping[str, NDArray[Any]]
Call = Callable[[], Any]
NAMES = ("torch", "onnxruntime", "openvino")
COMPILE_SECONDS = 120  # that torch.compile may take


def versions() -> dict[str, str]:
    """The peers that are installed."""
    found = {}
    for name in (*NAMES, "onnx"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# ---- torch ----


def memory_format(last: bool) -> Any:
    torch = torch_package()

    return torch.channels_last if last else torch.contiguous_format


def laid_out(array: NDArray[Any], last: bool, dtype: Any = None) -> Any:
    """An array as a tensor in one of torch's memory formats."""
    torch = torch_package()

    tensor = torch.tensor(array, dtype=dtype)
    return tensor.contiguous(memory_format=memory_format(last)) if tensor.ndim == 4 else tensor


class TorchTraining:
    """Training steps in torch, in one of its memory formats; eager, or compiled."""

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        images: NDArray[Any],
        labels: NDArray[Any],
        batch: int,
        last: bool = False,
        compiled: bool = False,
        double: bool = False,
    ) -> None:
        torch = torch_package()

        dtype = torch.float64 if double else torch.float32
        net = torch_module(graph, weights, dtype, training=True)
        self.net = net.to(memory_format=memory_format(last))
        if compiled:
            torch._dynamo.reset()
        self._forward = torch.compile(self.net) if compiled else self.net
        self._optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
        self._loss = torch.nn.CrossEntropyLoss()
        x, y = laid_out(images, last, dtype), torch.tensor(labels)
        self._batches = list(zip(x.split(batch), y.split(batch), strict=True))

    def run(self) -> None:
        """One step on each batch."""
        for x, y in self._batches:
            self._optimizer.zero_grad()
            self._loss(self._forward(x), y).backward()
            self._optimizer.step()

    def parameters(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = self.net.arrays()
        return found


def torch_call(
    graph: Graph, weights: Weights, inputs: Sequence[NDArray[Any]], last: bool, dtype: Any = None
) -> Call:
    """A forward pass in eager mode."""
    torch = torch_package()

    net = torch_module(graph, weights, dtype).eval().to(memory_format=memory_format(last))
    given = [laid_out(x, last, dtype) for x in inputs]

    def call() -> Any:
        with torch.inference_mode():
            return net(*given).numpy()

    return call


def torch_inference(
    graph: Graph, weights: Weights, images: NDArray[Any]
) -> Iterator[tuple[str, Callable[[], Call]]]:
    """Makers of: eager in both memory formats; traced, frozen and optimised; compiled."""
    yield "torch", lambda: torch_call(graph, weights, [images], last=False)
    yield "torch channels_last", lambda: torch_call(graph, weights, [images], last=True)
    yield "torch frozen", lambda: _frozen(graph, weights, images)
    yield "torch compiled", lambda: _compiled(graph, weights, images)


def _frozen(graph: Graph, weights: Weights, images: NDArray[Any]) -> Call:
    torch = torch_package()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch_module(graph, weights, inplace=False).eval()
        net = net.to(memory_format=torch.channels_last)
        x = laid_out(images, True)
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))

    def call() -> Any:
        with torch.inference_mode():
            return frozen(x).numpy()

    return call


def _compiled(graph: Graph, weights: Weights, images: NDArray[Any]) -> Call:
    """torch.compile with constants folded into the weights, in channels-last."""
    torch = torch_package()
    inductor = import_module("torch._inductor.config")

    torch._dynamo.reset()
    net = torch_module(graph, weights, inplace=False).eval()
    net = torch.compile(net.to(memory_format=torch.channels_last))
    x = laid_out(images, True)

    def call() -> Any:
        with torch.inference_mode(), inductor.patch(freezing=True):
            return net(x).numpy()

    within(COMPILE_SECONDS, call)
    return call


def within(seconds: int, call: Callable[[], object]) -> None:
    """Call something, and give up after a while where the system can say so.

    Raises:
        TimeoutError: it took longer.
    """
    usable = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if not usable:
        call()
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        call()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def set_torch_threads(count: int) -> None:
    torch = torch_package()

    torch.set_num_threads(count)


# ---- ONNX Runtime, OpenVINO ----


def onnxruntime_call(
    graph: Graph, weights: Weights, inputs: Sequence[NDArray[Any]], threads: int
) -> Call:
    """ONNX Runtime with all its graph optimisations."""
    onnxruntime: Any = import_module("onnxruntime")

    from striate.measure.onnx_graph import onnx_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx_model(graph, weights, len(inputs[0])), options, providers=["CPUExecutionProvider"]
    )
    given = {n.name: x for n, x in zip(graph.inputs, inputs, strict=True)}
    return lambda: session.run(None, given)[0]


def openvino_call(
    graph: Graph, weights: Weights, inputs: Sequence[NDArray[Any]], threads: int
) -> Call:
    """OpenVINO in float32, one stream, input and output shared without a copy."""
    openvino: Any = import_module("openvino")

    from striate.measure.onnx_graph import onnx_model

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = core.read_model(onnx_model(graph, weights, len(inputs[0])))
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    given = dict(enumerate(inputs))

    def call() -> Any:
        return request.infer(given, share_inputs=True, share_outputs=True)[0]

    return call


def forward_peers(
    graph: Graph, weights: Weights, inputs: Sequence[NDArray[Any]], threads: int
) -> Iterator[tuple[str, Callable[[], Call]]]:
    """Makers of the two runtimes that read ONNX, where they are installed."""
    found = versions()
    makers = {"onnxruntime": onnxruntime_call, "openvino": openvino_call}
    for name, make in makers.items():
        if name in found and "onnx" in found:
            yield name, lambda make=make: make(graph, weights, inputs, threads)  # type: ignore[misc]
