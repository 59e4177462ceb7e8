"""Cases of single layers: ours and the peers' in turn, checked against float64 first.

A peer's forward pass is its layer with what we fuse into ours; its gradients are torch's
`convolution_backward` for one gradient alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import striate as st
from benchmarks.inside import error, tolerance
from benchmarks.layer import Layer
from benchmarks.own_layer import OwnLayer
from benchmarks.problems import Problem
from benchmarks.result import Result, Row
from striate.errors import ModelError
from striate.formula.operations import find_operation
from striate.measure import peers, timing
from striate.measure.machine import Copy, Peak
from striate.program import build_inference

Arrays = dict[str, np.ndarray]
Call = Callable[[], Any]
left_out: set[str] = set()  # peers not wanted
SECONDS = 2.0  # of a case, about
_REFERENCE = 2e7  # multiply-adds up to which our own float64 reference is fast enough


def run(problem: Problem, rounds: int) -> Result:
    """Measure one case."""
    st.set_num_threads(problem.threads)
    layer = Layer.of(problem.settings)
    inputs, weights = numbers(layer)
    exact = expected(layer, inputs, weights)
    direct = problem.settings.get("algorithm") == "direct"
    own = OwnLayer(layer, inputs, weights, direct)
    calls: dict[str, tuple[Call, Call]] = {"striate": (own.run, own.result)}
    skipped: list[str] = []
    for name, make in _peers(layer, inputs, weights, problem.threads):
        if name in left_out:
            continue
        try:
            calls[name] = make()
            calls[name][0]()
        except (ModelError, RuntimeError) as fault:
            skipped.append(f"{name} ({str(fault).splitlines()[0][:80]})")
    errors = {name: error(result(), exact) for name, (_, result) in calls.items()}
    contenders = {}
    for name, (call, _) in calls.items():
        if errors[name] <= tolerance(problem):
            count = timing.repeated(call)
            contenders[name] = (timing.times(call, count), count)
    return _timed(problem, layer, contenders, errors, skipped, rounds)


def _timed(
    problem: Problem,
    layer: Layer,
    contenders: dict[str, tuple[Call, int]],
    errors: dict[str, float],
    skipped: list[str],
    rounds: int,
) -> Result:
    peak, copy = Peak(problem.threads), Copy(problem.threads, layer.bytes)
    copies: list[float] = []
    peaks: list[float] = []

    def both() -> float:
        copies.append(copy.run())
        peaks.append(peak.run())
        return peaks[-1]

    timed, speed = timing.interleave(contenders, rounds, both, SECONDS)
    bandwidth = float(np.median(copies))
    rows = []
    for name, wrong in errors.items():
        if name not in timed:
            rows.append(Row(name, error=wrong, note="wrong, not timed"))
            continue
        seconds = timed[name].median
        gflops = 2 * layer.multiply_adds / seconds / 1e9
        rows.append(
            Row(
                name,
                seconds=seconds,
                fastest=timed[name].fastest,
                rounds=timed[name].rounds,
                error=wrong,
                gflops=gflops,
                percent_of_peak=100 * gflops / speed,
                percent_of_bandwidth=100 * layer.bytes / seconds / 1e9 / bandwidth,
            )
        )
    best = {n: 2 * layer.multiply_adds / t.fastest / 1e9 for n, t in timed.items()}
    extra = {
        "best_of_peak": 100 * best.get("striate", 0.0) / max(peaks),
        "peak_gflops": speed,
        "copy_gbytes": bandwidth,
        "gflop": 2 * layer.multiply_adds / 1e9,
        "mbytes": layer.bytes / 1e6,
    }
    absent = [n for n in ("torch",) if n not in peers.versions()]
    return Result(problem, rows, [*absent, *skipped], extra)


# ---- numbers ----


def numbers(layer: Layer) -> tuple[Arrays, Arrays]:
    """Random inputs and weights: "input", "residual", "upstream"; "0.weight", "0.bias"."""
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        return np.float32(scale) * rng.standard_normal(shape, np.float32)

    inputs = {
        "input": normal((layer.n, *layer.source_shape)),
        "upstream": normal((layer.n, *layer.out_shape)),
    }
    if "add" in layer.fused:
        inputs["residual"] = normal((layer.n, *layer.out_shape))
    fan = math.prod(layer.weight_shape[1:])
    weights = {"0.weight": normal(layer.weight_shape, 1 / math.sqrt(fan))}
    if "bias" in layer.fused:
        weights["0.bias"] = normal((layer.o,))
    return inputs, weights


def expected(layer: Layer, inputs: Arrays, weights: Arrays) -> np.ndarray:
    """The pass in float64: by our reference where it is small, by torch where it is there."""
    if layer.multiply_adds > _REFERENCE and "torch" in peers.versions():
        import torch

        return np.asarray(_torch_pass(layer, inputs, weights, False, torch.float64)[1]())
    if layer.which == "forward":
        return _reference_forward(layer, inputs, weights)
    graph = layer.pass_graph()
    node = graph.nodes["gradient"]
    arrays = [(inputs | weights)[name] for name in node.inputs]
    return find_operation(node.op).reference(node.attributes, arrays)


def _reference_forward(layer: Layer, inputs: Arrays, weights: Arrays) -> np.ndarray:
    graph = layer.forward_graph()
    if "add" not in layer.fused:
        return np.asarray(build_inference(graph, "reference").run(inputs["input"], weights))
    values: Arrays = {**inputs, **weights}
    for node in graph.steps:
        arrays = [values[name] for name in node.inputs]
        values[node.name] = find_operation(node.op).reference(node.attributes, arrays)
    return values[graph.outputs[0]]


# ---- contenders: (what is timed, what it gives) ----


def _peers(
    layer: Layer, inputs: Arrays, weights: Arrays, threads: int
) -> Iterator[tuple[str, Callable[[], tuple[Call, Call]]]]:
    found = peers.versions()
    if "torch" in found:
        peers.set_torch_threads(threads)
        yield "torch", lambda: _torch_pass(layer, inputs, weights, last=False)
        if not layer.linear:
            yield "torch channels_last", lambda: _torch_pass(layer, inputs, weights, last=True)
    if layer.which != "forward":
        return
    graph = layer.forward_graph()
    given = [inputs[n.name] for n in graph.inputs]
    for name, make in peers.forward_peers(graph, weights, given, threads):
        yield name, lambda make=make: (lambda call: (call, lambda: np.asarray(call())))(make())  # type: ignore[misc]


def _torch_pass(
    layer: Layer, inputs: Arrays, weights: Arrays, last: bool, dtype: Any = None
) -> tuple[Call, Call]:
    if layer.which == "forward":
        graph = layer.forward_graph()
        given = [inputs[n.name] for n in graph.inputs]
        call = peers.torch_call(graph, weights, given, last, dtype)
        return call, call
    call = _torch_gradient(layer, inputs, weights, last, dtype)
    return call, lambda: call().contiguous().numpy()


def _torch_gradient(layer: Layer, inputs: Arrays, weights: Arrays, last: bool, dtype: Any) -> Call:
    import torch

    dy, x = (peers.laid_out(inputs[name], last, dtype) for name in ("upstream", "input"))
    w = peers.laid_out(weights["0.weight"], last, dtype)
    to_input = layer.which == "input"
    if layer.linear:
        return (lambda: dy @ w) if to_input else (lambda: dy.t() @ x)
    mask = [to_input, not to_input, False]
    sides = [[layer.s] * 2, [layer.p] * 2, [1, 1], layer.transposed, [0, 0], layer.g, mask]

    def call() -> Any:
        with torch.inference_mode():
            found = torch.ops.aten.convolution_backward(dy, x, w, None, *sides)
            return found[0 if to_input else 1]

    return call
