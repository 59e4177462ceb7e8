"""A whole measurement of one network: ours and, if wanted, other libraries in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import ShapeError
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph, Shape
from striate.measure import peers, timing
from striate.measure.machine import Peak
from striate.measure.profile import LayerTime, Runnable, inference, training
from striate.nn.mode import in_mode
from striate.nn.module import Module
from striate.settings import get_num_threads

_ROUNDS = 41
_OURS = "striate"


@dataclass(frozen=True)
class Contender:
    """One library's time.

    Attributes:
        name: "striate", "torch channels_last" …
        seconds: median of a call.
        fastest: the fastest round.
        difference: the largest difference of its output from ours, as a share of our largest
            number; None for ours, and in training.
    """

    name: str
    seconds: float
    fastest: float
    difference: float | None = None


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes:
        input_shape: of one image.
        batch: images a call.
        threads: that everybody had.
        training: whether steps of training were timed.
        contenders: ours first.
        absent: who could not run, and why.
        layers: shares of our time, in order; empty where they cannot be told apart.
        memory: bytes of ours by what they are for.
        operations: additions and multiplications of a call.
        build_seconds: until ours was ready.
        peak_gflops: the speed of multiply-adds and nothing else, in the same rounds.
    """

    input_shape: Shape
    batch: int
    threads: int
    training: bool
    contenders: tuple[Contender, ...]
    absent: dict[str, str]
    layers: tuple[LayerTime, ...]
    memory: dict[str, int]
    operations: float
    build_seconds: float
    peak_gflops: float

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        found = asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}


def measure(
    net: Module,
    input_shape: Shape,
    batch: int = 1,
    rule: UpdateRule | None = None,
    with_peers: bool = False,
    seconds: float = 5.0,
) -> Bench:
    """Time a network on made-up images.

    Args:
        net: the network; its mode is left as it was, its weights are not changed.
        input_shape: of one image (c, h, w).
        batch: images a call.
        rule: an optimiser's: time steps of training with it, instead of inference.
        with_peers: also in torch, ONNX Runtime and OpenVINO, those that are installed.
        seconds: to measure for, about; building comes on top.
    Raises:
        ShapeError: the network does not take such images.
        OptionError: the network has several inputs.
    """
    train = rule is not None
    graph, weights = graph_of(net, input_shape, train)
    graph.only_input("bench")
    images = np.random.default_rng(0).standard_normal((batch, *input_shape), np.float32)
    if rule is None:
        made = inference(graph, weights, images)
    else:
        made = _training(graph, weights, images, rule)
    calls: dict[str, Callable[[], object]] = {_OURS: made.call}
    absent: dict[str, str] = {}
    differences: dict[str, float | None] = {}
    if with_peers:
        makers = _training_peers if train else _inference_peers
        _add(calls, absent, makers(graph, weights, images))
        if not train:
            differences = _differences(calls)
    contenders = {}
    for name, call in calls.items():
        count = timing.repeated(call)
        contenders[name] = (timing.times(call, count), count)
    threads = get_num_threads()
    timed, peak = timing.interleave(contenders, _ROUNDS, Peak(threads).run, seconds, least=3)
    rows = (Contender(n, t.median, t.fastest, differences.get(n)) for n, t in timed.items())
    layers = tuple(made.layers()) if made.layers is not None else ()
    return Bench(
        *(input_shape, batch, threads, train, tuple(rows), absent, layers),
        *(made.memory, made.operations, made.seconds, peak),
    )


def graph_of(
    net: Module, shape: Shape, train: bool = False
) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """A network's graph in one mode, and its weights; the network is left in its own."""
    with in_mode(net, train):
        return net.to_graph(shape), net.state_dict()


def _training(
    graph: Graph,
    weights: Mapping[str, NDArray[np.float32]],
    images: NDArray[np.float32],
    rule: UpdateRule,
) -> Runnable:
    if len(graph.nodes[graph.outputs[0]].shape) != 1:
        raise ShapeError(
            "bench: expected a classifier, with one row of class scores an image, to train; got "
            f"a network with output {graph.nodes[graph.outputs[0]].shape}. Time its inference."
        )
    labels = _labels(graph, len(images))
    return training(graph, weights, images, labels, "cross_entropy", rule)


def _labels(graph: Graph, count: int) -> NDArray[np.int64]:
    classes = graph.nodes[graph.outputs[0]].shape[0]
    return np.arange(count) % classes


# ---- peers -----------------------------------------------------------------------------------

Makers = Iterator[tuple[str, Callable[[], Callable[[], object]]]]


def _inference_peers(
    graph: Graph, weights: Mapping[str, NDArray[np.float32]], images: NDArray[np.float32]
) -> Makers:
    threads = get_num_threads()
    if "torch" in peers.versions():
        peers.set_torch_threads(threads)
        for name, last in (("torch", False), ("torch channels_last", True)):
            yield name, partial(peers.torch_call, graph, weights, [images], last)
    yield from peers.forward_peers(graph, weights, [images], threads)


def _training_peers(
    graph: Graph, weights: Mapping[str, NDArray[np.float32]], images: NDArray[np.float32]
) -> Makers:
    if "torch" not in peers.versions():
        return
    peers.set_torch_threads(get_num_threads())
    data = (graph, weights, images, _labels(graph, len(images)), len(images))
    for name, last in (("torch", False), ("torch channels_last", True)):
        yield name, lambda last=last: peers.TorchTraining(*data, last).run  # type: ignore[misc]


def _add(calls: dict[str, Callable[[], object]], absent: dict[str, str], makers: Makers) -> None:
    """Make those that can be made and run; note why others cannot."""
    for name, make in makers:
        try:
            call = make()
            call()
        except Exception as fault:  # another library's: any
            lines = str(fault).strip().splitlines()
            absent[name] = f"cannot run it ({lines[0] if lines else type(fault).__name__})"
        else:
            calls[name] = call
    for name in peers.NAMES:
        if not any(known.startswith(name) for known in (*calls, *absent)):
            absent[name] = "not installed"


def _differences(calls: Mapping[str, Callable[[], object]]) -> dict[str, float | None]:
    outputs = {name: _output(call) for name, call in calls.items()}
    ours = outputs.pop(_OURS)
    largest = max(float(np.abs(ours).max()), 1e-30)
    return {name: float(np.abs(out - ours).max()) / largest for name, out in outputs.items()}


def _output(call: Callable[[], object]) -> NDArray[np.float32]:
    found = call()
    return np.array(found[0] if isinstance(found, list) else found, np.float32)
