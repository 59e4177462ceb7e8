"""Cases inside this process: training steps and forward passes, ours and the peers' in turn.

Each contender's numbers are compared with the float64 reference before it is timed; one that is
wrong is not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import striate as st
from benchmarks import peers, timing
from benchmarks.peak import Peak
from benchmarks.problems import Problem
from benchmarks.result import Result, Row
from striate.graph.graph import Graph
from striate.program import build_inference, build_training

TOLERANCE = 1e-4  # of the largest number; float32 sums of some hundred terms
_STEPS = 3  # steps compared with the reference before a training is timed
_SAMPLES = 512  # of one timed turn of training, at least


def run(problem: Problem, rounds: int) -> Result:
    """Measure one case."""
    st.set_num_threads(problem.threads)
    if problem.kind == "training":
        return _training(problem, rounds)
    return _inference(problem, rounds)


# ---- networks and their arithmetic ----


def _network(name: str) -> tuple[Any, Graph, dict[str, np.ndarray]]:
    st.manual_seed(0)
    net = st.models.build(name)
    net.eval()
    return net, net.to_graph((1, 28, 28)), {n: a.copy() for n, a in net.state_dict().items()}


def _images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first digits of the bundled sample, repeated as needed."""
    train, _ = st.data.load("digits")
    places = np.arange(count) % len(train)
    return train.images[places], train.labels[places]


def flops(graph: Graph, batch: int, training: bool) -> float:
    """Multiplications and additions of a batch; the images themselves need no gradient."""
    total = 0.0
    for row in st.summary(graph).rows:
        first = training and graph.inputs[0].name in getattr(graph.nodes[row.name], "inputs", ())
        total += row.multiply_adds * ((2 if first else 3) if training else 1)
    return 2.0 * batch * total


# ---- training ----


class _Ours:
    """Training steps of striate, many in one native call as `fit` does it."""

    def __init__(
        self,
        graph: Graph,
        weights: dict[str, np.ndarray],
        images: np.ndarray,
        labels: np.ndarray,
        batch: int,
        backend: str | None = None,
    ) -> None:
        optimizer = st.optim.SGD(0.01, momentum=0.9)
        self.program = build_training(
            graph, loss="cross_entropy", rule=optimizer.rule(), backend=backend
        )
        for name, value in weights.items():
            self.program.parameters[name][...] = value
        self._images, self._labels, self._batch = images, labels, batch
        self._order = np.arange(len(images))
        steps = -(-len(images) // batch)
        self._hyper = np.array([optimizer.hyper(0, 0.01)] * steps, np.float32)

    def run(self) -> None:
        self.program.run(
            self._images, self._labels, self._order, batch_size=self._batch, hyper=self._hyper
        )

    def parameters(self) -> dict[str, np.ndarray]:
        return dict(self.program.parameters)


def _training(problem: Problem, rounds: int) -> Result:
    _, graph, weights = _network(problem.name)
    batch = problem.batch
    makers: dict[str, Callable[..., Any]] = {"striate": partial(_Ours, graph, weights)}
    absent = []
    if "torch" in peers.versions():
        peers.set_torch_threads(problem.threads)
        makers["torch"] = partial(peers.TorchTraining, weights, last=False)
        makers["torch channels_last"] = partial(peers.TorchTraining, weights, last=True)
    else:
        absent.append("torch")
    errors = _training_errors(partial(_Ours, graph, weights), makers, batch)
    steps = max(2, -(-_SAMPLES // batch))
    images, labels = _images(steps * batch)
    contenders = {
        name: (make(images=images, labels=labels, batch=batch).run, steps)
        for name, make in makers.items()
        if errors[name] <= TOLERANCE
    }
    work = flops(graph, batch, training=True)
    return _timed(problem, contenders, errors, absent, rounds, work)


def _training_errors(
    reference: Callable[..., Any], makers: dict[str, Callable[..., Any]], batch: int
) -> dict[str, float]:
    """The largest difference of any parameter after some steps, as a share of the largest one."""
    images, labels = _images(_STEPS * batch)
    data = {"images": images, "labels": labels, "batch": batch}
    exact = reference(**data, backend="reference")
    exact.run()
    errors = {}
    for name, make in makers.items():
        run = make(**data)
        run.run()
        found = run.parameters()
        errors[name] = max(error(found[n], a) for n, a in exact.parameters().items())
    return errors


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """max |found − exact| / max |exact|; infinite where a number is not finite or shapes differ."""
    if found.shape != exact.shape or found.size == 0 or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - exact).max() / max(float(np.abs(exact).max()), 1e-30))


# ---- inference ----


def _inference(problem: Problem, rounds: int) -> Result:
    net, graph, weights = _network(problem.name)
    images, _ = _images(problem.batch)
    calls: dict[str, Callable[[], Any]] = {"striate": partial(net, images)}
    absent = []
    found = peers.versions()
    if "torch" in found:
        peers.set_torch_threads(problem.threads)
        calls |= dict(peers.torch_inference(weights, images))
    for name, make in (
        ("onnxruntime", peers.onnxruntime_inference),
        ("openvino", peers.openvino_inference),
    ):
        if name in found and "onnx" in found:
            calls[name] = make(weights, images, problem.threads)
    absent = [name for name in peers.NAMES if not any(c.startswith(name) for c in calls)]
    exact = build_inference(graph, backend="reference").run(images, weights)
    errors = {name: error(np.asarray(call()), exact) for name, call in calls.items()}
    contenders = {}
    for name, call in calls.items():
        if errors[name] <= TOLERANCE:
            count = timing.repeated(call)
            contenders[name] = (timing.times(call, count), count)
    return _timed(
        problem, contenders, errors, absent, rounds, flops(graph, problem.batch, training=False)
    )


# ---- both ----


def _timed(
    problem: Problem,
    contenders: dict[str, tuple[Callable[[], object], int]],
    errors: dict[str, float],
    absent: list[str],
    rounds: int,
    work: float,
) -> Result:
    timed, peak = timing.interleave(contenders, rounds, Peak(problem.threads).run)
    rows = []
    for name, wrong in errors.items():
        if name not in timed:
            rows.append(Row(name, error=wrong, note="wrong, not timed"))
            continue
        speed = work / timed[name].median / 1e9
        rows.append(
            Row(
                name,
                seconds=timed[name].median,
                fastest=timed[name].fastest,
                rounds=rounds,
                error=wrong,
                gflops=speed,
                percent_of_peak=100 * speed / peak,
            )
        )
    return Result(problem, rows, absent=absent, extra={"peak_gflops": peak, "gflop": work / 1e9})
