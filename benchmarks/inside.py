"""Cases inside this process: training steps and forward passes, ours and the peers' in turn.

Each contender's numbers are compared with the float64 reference before it is timed; one that is
wrong is not timed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

import striate as st
from benchmarks.problems import Problem
from benchmarks.result import Result, Row
from striate.graph.graph import Graph
from striate.measure import peers, timing
from striate.measure.machine import Peak
from striate.measure.torch_graph import running_statistics
from striate.program import build_inference, build_training

TOLERANCE = 1e-4  # of the largest number; float32 sums of some hundred terms
# Of a parameter's change: a rounding can turn a ReLU or move a maximum, in float32 as in ours.
TRAINING_TOLERANCE = 5e-2
SECONDS = 30.0  # of a case, about; small networks take less
_STEPS = 3  # steps compared with the reference before a training is timed
_SAMPLES = 512  # of one timed turn of training of the smallest networks, at least
left_out: set[str] = set()  # contenders not wanted, e.g. "torch compiled"
_LARGE = 2e9  # operations of a batch, above which torch's float64 is what we compare with


def run(problem: Problem, rounds: int) -> Result:
    """Measure one case."""
    if problem.kind == "scaling":
        return _scaling(problem, rounds)
    st.set_num_threads(problem.threads)
    if problem.kind == "training":
        return _training(problem, rounds)
    return _inference(problem, rounds)


# ---- networks and their arithmetic ----


def network(
    name: str, training: bool = False, dropout: bool = True
) -> tuple[Any, Graph, dict[str, np.ndarray]]:
    """A network with its graph on its usual images, and its weights.

    Args:
        name: of the network.
        training: the graph of its training mode.
        dropout: whether there is any, in training.
    """
    st.manual_seed(0)
    net = st.models.build(name)
    for module in net.modules():
        if isinstance(module, st.nn.Dropout) and not dropout:
            module.p = 0.0
    net.train(training)
    graph = net.to_graph(st.models.usual_input(name))
    return net, graph, {n: a.copy() for n, a in net.state_dict().items()}


def sample_images(graph: Graph, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images as the network takes them, and labels: digits where they fit, else noise."""
    shape, classes = graph.inputs[0].shape, graph.nodes[graph.outputs[0]].shape[0]
    if shape == (1, 28, 28):
        train, _ = st.data.load("digits")
        places = np.arange(count) % len(train)
        return train.images[places], train.labels[places]
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, *shape), np.float32), rng.integers(0, classes, count)


def flops(graph: Graph, batch: int, training: bool) -> float:
    """Multiplications and additions of a batch; the images themselves need no gradient."""
    total = 0.0
    for row in st.summary(graph).rows:
        first = training and graph.inputs[0].name in getattr(graph.nodes[row.name], "inputs", ())
        total += row.multiply_adds * ((2 if first else 3) if training else 1)
    return 2.0 * batch * total


# ---- training ----


class OwnTraining:
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
        for name, array in self.program.parameters.items():
            array[...] = weights[name]
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


Maker = Callable[..., Any]
_TORCH: dict[str, Maker] = {
    "torch": partial(peers.TorchTraining, last=False),
    "torch channels_last": partial(peers.TorchTraining, last=True),
    "torch compiled": partial(peers.TorchTraining, last=True, compiled=True),
}


def _training(problem: Problem, rounds: int) -> Result:
    makers: dict[str, Maker] = {"striate": OwnTraining}
    absent = []
    if "torch" in peers.versions():
        peers.set_torch_threads(problem.threads)
        makers |= {n: make for n, make in _TORCH.items() if n not in left_out}
    else:
        absent.append("torch")
    errors, skipped = _training_errors(problem, makers)
    _, graph, weights = network(problem.name, training=True)
    batch = problem.batch
    steps = max(1 if flops(graph, batch, True) > _LARGE else 2, _SAMPLES // batch // _scale(graph))
    images, labels = sample_images(graph, steps * batch)
    contenders = {
        name: (make(graph, weights, images, labels, batch).run, steps)
        for name, make in makers.items()
        if errors.get(name, math.inf) <= tolerance(problem)
    }
    work = flops(graph, batch, training=True)
    return _timed(problem, contenders, errors, [*absent, *skipped], rounds, work)


def _scale(graph: Graph) -> int:
    """1 for the smallest networks; how many fewer samples a turn of the others has."""
    return max(1, round(flops(graph, 1, training=True) / 3e6))


def _training_errors(
    problem: Problem, makers: dict[str, Maker]
) -> tuple[dict[str, float], list[str]]:
    """The largest error of any parameter's change by some steps.

    Without dropout, whose masks differ from library to library. Also: who could not run.
    """
    _, graph, weights = network(problem.name, training=True, dropout=False)
    batch = problem.batch
    large = flops(graph, batch, training=True) > _LARGE
    images, labels = sample_images(graph, (1 if large else _STEPS) * batch)
    data = (graph, weights, images, labels, batch)
    # torch's float64 is compared with the package's own reference in the tests.
    if large and "torch" in makers:
        exact: Any = peers.TorchTraining(*data, double=True)
    else:
        exact = OwnTraining(*data, backend="reference")
    exact.run()
    expected = {n: np.array(a) for n, a in exact.parameters().items()}
    statistics = running_statistics(graph)
    del exact
    errors, skipped = {}, []
    for name, make in makers.items():
        try:
            run = make(*data)
            if name.endswith("compiled"):
                peers.within(peers.COMPILE_SECONDS, run.run)
            else:
                run.run()
        except Exception as fault:
            if name == "striate":
                raise
            skipped.append(f"{name} ({_short(fault)})")
            continue
        found = run.parameters()
        errors[name] = max(
            change_error(found[n], a, weights[n])
            for n, a in expected.items()
            if n not in statistics
        )
    return errors, skipped


def _short(fault: Exception) -> str:
    text = str(fault).strip().splitlines()
    return (text[0] if text else type(fault).__name__)[:80]


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """max |found − exact| / max |exact|; infinite where a number is not finite or shapes differ."""
    if found.shape != exact.shape or found.size == 0 or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - exact).max() / max(float(np.abs(exact).max()), 1e-30))


def change_error(found: np.ndarray, exact: np.ndarray, start: np.ndarray) -> float:
    """‖found − exact‖ / ‖exact − start‖; infinite where a number is not finite or shapes differ."""
    if found.shape != exact.shape or found.size == 0 or not np.isfinite(found).all():
        return float("inf")
    change = float(np.linalg.norm(exact - start))
    # What float32 cannot hold beside the parameter's own size is nobody's error.
    least = 1e-6 * float(np.linalg.norm(start))
    return float(np.linalg.norm(found - exact)) / max(change, least, 1e-30)


def tolerance(problem: Problem) -> float:
    """What counts as right: a share of the largest number, or of a parameter's change."""
    usual = TRAINING_TOLERANCE if problem.kind == "training" else TOLERANCE
    return problem.number("tolerance") or usual


# ---- inference ----


def _inference(problem: Problem, rounds: int) -> Result:
    net, graph, weights = network(problem.name)
    images, _ = sample_images(graph, problem.batch)
    makers: dict[str, Callable[[], Callable[[], Any]]] = {
        "striate": lambda: partial(st.freeze(net), images),
    }
    if "torch" in peers.versions():
        peers.set_torch_threads(problem.threads)
        forms = dict(peers.torch_inference(graph, weights, images))
        makers |= {name: make for name, make in forms.items() if name not in left_out}
    makers |= dict(peers.forward_peers(graph, weights, [images], problem.threads))
    calls, skipped = _made(makers)
    work = flops(graph, problem.batch, training=False)
    if work > _LARGE and "torch" in calls:
        import torch

        exact = peers.torch_call(graph, weights, [images], False, torch.float64)()
    else:
        exact = build_inference(graph, backend="reference").run(images, weights)
    errors = {name: error(np.asarray(call()), exact) for name, call in calls.items()}
    contenders = {}
    for name, call in calls.items():
        if errors[name] <= tolerance(problem):
            count = timing.repeated(call)
            contenders[name] = (timing.times(call, count), count)
    absent = [n for n in peers.NAMES if not any(m.startswith(n) for m in makers)]
    return _timed(problem, contenders, errors, [*absent, *skipped], rounds, work)


def _made(
    makers: dict[str, Callable[[], Callable[[], Any]]],
) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """The contenders that can run, and who could not, with why."""
    calls, skipped = {}, []
    for name, make in makers.items():
        try:
            calls[name] = make()
            calls[name]()
        except Exception as fault:
            if name == "striate":
                raise
            skipped.append(f"{name} ({_short(fault)})")
    return calls, skipped


# ---- one thread and two ----


def _scaling(problem: Problem, rounds: int) -> Result:
    """One network on one thread and on two, with the multiply-add loop beside it."""
    call = _one_call(problem)
    speeds: dict[int, list[float]] = {1: [], 2: []}
    peaks = {count: Peak(count) for count in speeds}

    def on(count: int) -> Callable[[], None]:
        def run() -> None:
            st.set_num_threads(count)
            call()

        return run

    def both() -> float:
        for count, peak in peaks.items():
            speeds[count].append(peak.run())
        return speeds[1][-1]

    contenders = {"1 thread": (on(1), 1), "2 threads": (on(2), 1)}
    timed, _ = timing.interleave(contenders, rounds, both, SECONDS)
    one, two = timed["1 thread"].median, timed["2 threads"].median
    loop = statistics.median(speeds[2]) / statistics.median(speeds[1])
    goal, share = problem.number("goal"), one / two / loop
    rows = [Row(n, seconds=t.median, fastest=t.fastest, rounds=t.rounds) for n, t in timed.items()]
    rows.append(
        Row(
            "gain",
            value=one / two,
            unit="×",
            goal=None if goal is None else goal * loop,
            reached=None if goal is None else share >= goal,
            note=f"{share:.2f} of the multiply-add loop's {loop:.2f}×",
        )
    )
    return Result(problem, rows)


def _one_call(problem: Problem) -> Callable[[], object]:
    if problem.settings["mode"] == "inference":
        net, graph, _ = network(problem.name)
        images, _ = sample_images(graph, problem.batch)
        return partial(st.freeze(net), images)
    _, graph, weights = network(problem.name, training=True)
    data = sample_images(graph, problem.batch)
    return OwnTraining(graph, weights, *data, problem.batch).run


# ---- both ----


def _timed(
    problem: Problem,
    contenders: Mapping[str, tuple[Callable[[], object], int]],
    errors: dict[str, float],
    absent: list[str],
    rounds: int,
    work: float,
) -> Result:
    timed, peak = timing.interleave(contenders, rounds, Peak(problem.threads).run, SECONDS)
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
                rounds=timed[name].rounds,
                error=wrong,
                gflops=speed,
                percent_of_peak=100 * speed / peak,
            )
        )
    return Result(problem, rows, absent=absent, extra={"peak_gflops": peak, "gflop": work / 1e9})
