"""The same bits on any number of threads; stopping, progress, failure, a busy machine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from networks import BUILDERS, Problem

from striate import settings
from striate.optim import SGD
from striate.program import threads
from striate.program.native import NativeInference, NativeTraining

OPTIMIZER = SGD(0.05, momentum=0.9)


def hyper(steps: int) -> Any:
    return np.array([OPTIMIZER.hyper(k, 0.05) for k in range(steps)], np.float32)


def training_of(problem: Problem) -> NativeTraining:
    training = NativeTraining(problem.graph, problem.loss, OPTIMIZER.rule())
    for name, value in problem.parameters().items():
        training.parameters[name][...] = value
    return training


def trained(problem: Problem, count: int = 90, batch: int = 40, seed: int = 3) -> dict[str, bytes]:
    """Everything that training leaves behind, as bytes."""
    training = training_of(problem)
    x, t = problem.images(count), problem.targets(count)
    order = np.concatenate([np.arange(count), np.arange(count)[::-1]])
    steps = -(-order.size // batch)
    result = training.run(x, t, order, batch_size=batch, hyper=hyper(steps), seed=seed)
    assert result.steps == steps
    found = {name: a.tobytes() for name, a in (training.parameters | training.state).items()}
    return {**found, "losses": result.losses.tobytes(), "correct": result.correct.tobytes()}


def test_training_gives_the_same_bytes_on_any_number_of_threads(problem: Problem) -> None:
    settings.set_num_threads(1)
    once = trained(problem)
    assert trained(problem) == once, "twice with one seed"
    for count in (2, 3, 8):
        settings.set_num_threads(count)
        assert trained(problem) == once, f"{count} threads"


def test_another_seed_drops_others() -> None:
    problem = BUILDERS["dropouts"]()
    assert trained(problem, seed=4) != trained(problem, seed=3)
    assert trained(problem, seed=4 + 2**32) != trained(problem, seed=4)


def test_inference_gives_the_same_bytes_on_any_number_of_threads(problem: Problem) -> None:
    x, parameters = problem.images(100), problem.parameters()
    results = set()
    for count in (1, 2, 3, 8):
        settings.set_num_threads(count)
        results.add(NativeInference(problem.graph).run(x, parameters).tobytes())
    assert len(results) == 1


def test_one_program_on_changing_numbers_of_threads(lenet: Problem) -> None:
    native, parameters, x = NativeInference(lenet.graph), lenet.parameters(), lenet.images(50)
    results = set()
    for count in (1, 4, 2, 8, 1):
        settings.set_num_threads(count)
        results.add(native.run(x, parameters).tobytes())
    assert len(results) == 1


def test_callers_on_many_threads(lenet: Problem) -> None:
    native, parameters = NativeInference(lenet.graph), lenet.parameters()
    settings.set_num_threads(2)
    batches = [lenet.images(40)[: 3 + 9 * k] * (k + 1) for k in range(4)]
    expected = [native.run(x, parameters) for x in batches]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(10):
            if not np.array_equal(native.run(batches[k], parameters), expected[k]):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not wrong and not any(w.is_alive() for w in workers)


def test_two_trainings_at_once(lenet: Problem) -> None:
    """Their programs share the pool of threads; neither may wait for the other's."""
    settings.set_num_threads(3)
    expected = trained(lenet, batch=16)
    found: list[dict[str, bytes]] = []
    workers = [
        threading.Thread(target=lambda: found.append(trained(lenet, batch=16))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert found == [expected] * 3


# ---- stopping and progress -----------------------------------------------------------------------


def _long(problem: Problem, steps: int = 4000) -> dict[str, Any]:
    count = 64
    order = np.arange(steps * 16) % count
    return {
        "images": problem.images(count),
        "targets": problem.targets(count),
        "order": order,
        "batch_size": 16,
        "hyper": hyper(steps),
    }


@pytest.mark.parametrize("count", [1, 2, 3])
def test_stop_leaves_whole_steps(lenet: Problem, count: int) -> None:
    settings.set_num_threads(count)
    training, stop = training_of(lenet), threading.Event()
    result = training.run(**_long(lenet), stop=stop, progress=lambda done: stop.set())
    assert 0 < result.steps < 4000
    assert result.losses.shape == result.correct.shape == (16 * result.steps,)
    again = training_of(lenet)
    repeated = again.run(**_long(lenet, result.steps))
    assert np.array_equal(repeated.losses, result.losses)
    for name, value in again.parameters.items():
        assert np.array_equal(value, training.parameters[name])


def test_a_stop_before_the_start(lenet: Problem) -> None:
    training, stop = training_of(lenet), threading.Event()
    stop.set()
    result = training.run(**_long(lenet), stop=stop)
    assert (result.steps, result.losses.size) == (0, 0)
    before = lenet.parameters()
    assert all(np.array_equal(training.parameters[n], before[n]) for n in before)


def test_progress_is_told_from_the_calling_thread(lenet: Problem) -> None:
    training = training_of(lenet)
    seen: list[tuple[int, int]] = []

    def progress(done: int) -> None:
        seen.append((done, threading.get_ident()))

    result = training.run(**_long(lenet, 2000), progress=progress)
    counts = [done for done, _ in seen]
    assert counts == sorted(counts) and counts[-1] <= result.steps == 2000
    assert {thread for _, thread in seen} == {threading.get_ident()}


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError])
def test_a_failing_progress_ends_training_in_order(
    lenet: Problem, fault: type[BaseException]
) -> None:
    settings.set_num_threads(2)
    training = training_of(lenet)

    def progress(done: int) -> None:
        raise fault("from the display")

    with pytest.raises(fault, match="from the display"):
        training.run(**_long(lenet), progress=progress)
    assert all(np.isfinite(value).all() for value in training.parameters.values())
    # the program can be used again
    assert training.run(**_long(lenet, 3)).steps == 3


def test_the_pool_survives_a_failing_entry() -> None:
    seen: list[int] = []
    threads.run(lambda thread, context: seen.append(thread), 0, 4)
    assert sorted(seen) == [0, 1, 2, 3]


# ---- a busy machine ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_busy_machine_does_not_make_two_threads_collapse(lenet: Problem) -> None:
    """Beside two processes that spin, barriers must sleep, not wait out whole time slices.

    Compared with one thread beside the same two, which no barrier holds up: 0.7 times as long was
    measured on two cores (and 1.7 times with barriers that yield). The limit leaves room for noise.
    """
    training = training_of(lenet)
    work = _long(lenet, 600)

    def seconds(count: int) -> float:
        settings.set_num_threads(count)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            training.run(**work)
            best = min(best, time.perf_counter() - start)
        return best

    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.3)
        one, two = seconds(1), seconds(2)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert two < 2 * one, f"two threads took {two / one:.1f} times as long as one"
