"""Native programs against the reference: every inner value, every trained number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_close
from networks import Net, Problem
from three_steps import check_three_steps

from striate import settings
from striate.codegen.targets import Target
from striate.errors import ModelError, OptionError, ShapeError
from striate.optim import SGD, Adam
from striate.program import build_inference, build_training
from striate.program.native import NativeInference, NativeTraining
from striate.program.reference import ReferenceInference, ReferenceTraining

OPTIMIZER = SGD(0.1, momentum=0.9, weight_decay=0.01)
RULE = OPTIMIZER.rule()


def hyper(steps: int) -> Any:
    rows = [OPTIMIZER.hyper(k, 0.1) for k in range(steps)]
    return np.array(rows, np.float32).reshape(steps, len(RULE.hyper))


def fill(training: Any, problem: Problem) -> None:
    for name, value in problem.parameters().items():
        training.parameters[name][...] = value


def test_inner_values(problem: Problem, target: Target) -> None:
    native, reference = NativeInference(problem.graph, target), ReferenceInference(problem.graph)
    parameters, names = problem.parameters(), problem.inner()
    for count in (2 * target.width + 3, 1):
        x = problem.images(count)
        expected = reference.exact(x, parameters, names)
        found = native.values(x, parameters, names)
        for name in names:
            check_close(found[name], expected[name], factor=8, dense=0.05)
        check_close(native.run(x, parameters), expected[problem.graph.outputs[0]], factor=8)


def test_any_batch_size(problem: Problem, target: Target) -> None:
    """The result of a sample does not depend on the batch that it is in, sizes kept equal."""
    native, parameters = NativeInference(problem.graph, target), problem.parameters()
    width = target.width
    x = problem.images(2 * width + 1)
    whole = native.run(x, parameters)
    for count in (width // 2 + 1, width - 1, width, width + 1, 2 * width):
        assert np.array_equal(native.run(x[:count], parameters), whole[:count])
    one = native.run(x[:1], parameters)
    for count in (1, width // 2):
        few = native.run(x[:count], parameters)
        assert np.array_equal(few[:1], one)
        check_close(few, whole[:count], factor=8)
    shape = problem.graph.nodes[problem.graph.outputs[0]].shape
    assert native.run(x[:0], parameters).shape == (0, *shape)


def test_values_are_those_of_the_run(problem: Problem) -> None:
    native, parameters = NativeInference(problem.graph), problem.parameters()
    for count in (1, 21):
        x = problem.images(count)
        found = native.values(x, parameters, problem.inner())
        assert np.array_equal(found[problem.graph.outputs[0]], native.run(x, parameters))
        for name in problem.inner():
            alone = native.values(x, parameters, [name])[name]
            assert np.array_equal(alone, found[name]), name


def test_three_steps_of_training(problem: Problem, target: Target) -> None:
    native = NativeTraining(problem.graph, problem.loss, RULE, target)
    check_three_steps(native, problem, OPTIMIZER, count=53, batch=20, factor=30)


def test_every_optimiser_trains_lenet(lenet: Problem) -> None:
    from striate.optim import AdamW, RMSProp

    x, t = lenet.images(24), lenet.targets(24)
    for optimizer in (SGD(0.1), Adam(1e-3), AdamW(1e-3), RMSProp(1e-3, momentum=0.5)):
        rates = np.array([optimizer.hyper(k, 1e-3) for k in range(3)], np.float32)
        found = []
        for kind in (NativeTraining, ReferenceTraining):
            training = kind(lenet.graph, "cross_entropy", optimizer.rule())
            fill(training, lenet)
            training.run(x, t, np.arange(24), batch_size=8, hyper=rates)
            found.append(training.parameters)
        for name, expected in found[1].items():
            # the adaptive ones divide small gradients by small numbers
            assert np.abs(found[0][name] - expected).max() < 2e-4, (type(optimizer), name)


def test_pieces_and_groups_of_large_batches(lenet: Problem) -> None:
    """More groups than pieces, and fewer; a batch larger than the data."""
    x, t = lenet.images(150), lenet.targets(150)
    for batch in (150, 1, 500):
        count = min(batch * 2, 150) if batch > 1 else 3
        steps = -(-count // batch)
        found = []
        for kind in (NativeTraining, ReferenceTraining):
            training = kind(lenet.graph, "cross_entropy", RULE)
            fill(training, lenet)
            training.run(x, t, np.arange(count), batch_size=batch, hyper=hyper(steps))
            found.append(training.parameters)
        for name, expected in found[1].items():
            check_close(found[0][name], expected, factor=30)


def test_samples_may_repeat_and_be_left_out(lenet: Problem) -> None:
    x, t = lenet.images(30), lenet.targets(30)
    order = np.array([4, 4, 29, 0, 4, 17, 4])
    chosen, plain = (NativeTraining(lenet.graph, "cross_entropy", RULE) for _ in range(2))
    fill(chosen, lenet)
    fill(plain, lenet)
    first = chosen.run(x, t, order, batch_size=7, hyper=hyper(1))
    second = plain.run(x[order], t[order], np.arange(7), batch_size=7, hyper=hyper(1))
    assert np.array_equal(first.losses, second.losses) and first.losses.size == 7
    for name, value in plain.parameters.items():
        assert np.array_equal(value, chosen.parameters[name])


def test_nothing_to_do(lenet: Problem) -> None:
    training = NativeTraining(lenet.graph, "cross_entropy", RULE)
    fill(training, lenet)
    x, t = lenet.images(3), lenet.targets(3)
    result = training.run(x, t, np.arange(0), batch_size=4, hyper=hyper(0))
    assert (result.steps, result.losses.size, result.correct.size) == (0, 0, 0)
    before = lenet.parameters()
    assert all(np.array_equal(training.parameters[n], before[n]) for n in before)


def test_unused_parameters_stay() -> None:
    from networks import BUILDERS

    problem = BUILDERS["unused parameter"]()
    training = NativeTraining(problem.graph, problem.loss, SGD(0.1, weight_decay=0.1).rule())
    fill(training, problem)
    rates = np.array([[0.1, 0.1]], np.float32)
    training.run(problem.images(4), problem.targets(4), np.arange(4), batch_size=4, hyper=rates)
    before = problem.parameters()
    assert np.array_equal(training.parameters["unused"], before["unused"])
    assert not np.array_equal(training.parameters["linear.weight_1"], before["linear.weight_1"])


def test_parameters_and_state_are_live(lenet: Problem) -> None:
    x, t = lenet.images(8), lenet.targets(8)
    training = NativeTraining(lenet.graph, "cross_entropy", RULE)
    views = dict(training.parameters)
    fill(training, lenet)
    training.run(x, t, np.arange(8), batch_size=8, hyper=hyper(1))
    assert all(views[name] is training.parameters[name] for name in views)
    assert np.abs(training.state["momentum:fc1.weight"]).max() > 0
    saved = {n: v.copy() for n, v in {**training.parameters, **training.state}.items()}
    second = NativeTraining(lenet.graph, "cross_entropy", RULE)
    for name, value in saved.items():
        (second.parameters | second.state)[name][...] = value
    for one in (training, second):
        one.run(x, t, np.arange(8), batch_size=4, hyper=hyper(2), first_step=1)
    for name, value in training.parameters.items():
        assert np.array_equal(value, second.parameters[name])


def test_inference_sees_parameters_changed_in_place(lenet: Problem) -> None:
    native, parameters = NativeInference(lenet.graph), lenet.parameters()
    for count in (1, 20):
        x = lenet.images(count)
        before = native.run(x, parameters)
        parameters["fc3.bias"] += 1
        assert np.allclose(native.run(x, parameters), before + 1, atol=1e-5)
        doubles = {name: value.astype(np.float64) for name, value in parameters.items()}
        native.run(x, doubles)
        doubles["fc3.bias"] += 1
        assert np.allclose(native.run(x, doubles), before + 2, atol=1e-5)


def test_inputs_of_other_kinds(lenet: Problem) -> None:
    native, parameters = NativeInference(lenet.graph), lenet.parameters()
    for count in (2, 19):
        x = lenet.images(count)
        expected = native.run(x, parameters)
        turned = np.asfortranarray(x)
        wide = np.repeat(x, 2, axis=3)[..., ::2]
        for other in (x.astype(np.float64), turned, wide, x[::-1][::-1]):
            assert np.array_equal(native.run(other, parameters), expected)


def test_results_are_the_callers_own(lenet: Problem) -> None:
    native, parameters = NativeInference(lenet.graph), lenet.parameters()
    for count in (1, 19):
        x = lenet.images(count)
        first = native.run(x, parameters)
        kept = first.copy()
        native.run(-x, parameters)
        assert np.array_equal(first, kept)


def test_the_backend_by_name(lenet: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIATE_BACKEND", raising=False)
    assert isinstance(build_inference(lenet.graph), NativeInference)
    assert isinstance(build_inference(lenet.graph, "reference"), ReferenceInference)
    training = build_training(lenet.graph, loss="mse", rule=RULE)
    assert isinstance(training, NativeTraining)
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    assert isinstance(build_inference(lenet.graph), ReferenceInference)
    with pytest.raises(OptionError, match=r"unknown backend 'nativ'. Did you mean 'native'"):
        build_inference(lenet.graph, "nativ")


def test_faults_are_told(lenet: Problem) -> None:
    native, parameters = NativeInference(lenet.graph), lenet.parameters()
    x, t = lenet.images(4), lenet.targets(4)
    with pytest.raises(ShapeError, match=r"images of shape \(n, 1, 28, 28\); got \(4, 28, 28\)"):
        native.run(x[:, 0], parameters)
    with pytest.raises(ModelError, match=r"expected 'conv1.bias'; got"):
        native.run(x, {k: v for k, v in parameters.items() if k != "conv1.bias"})
    with pytest.raises(ShapeError, match=r"fc3.bias expected shape \(10,\); got \(9,\)"):
        native.run(x, {**parameters, "fc3.bias": np.zeros(9, np.float32)})
    with pytest.raises(ModelError, match=r"no node 'conv3'. Did you mean"):
        native.values(x, parameters, ["conv3"])
    with pytest.raises(ModelError, match="a graph with an input and an output"):
        NativeInference(Net(3).graph)
    training = NativeTraining(lenet.graph, "cross_entropy", RULE)
    with pytest.raises(ShapeError, match=r"targets of shape \(4,\); got \(3,\)"):
        training.run(x, t[:3], np.arange(4), batch_size=2, hyper=hyper(2))
    with pytest.raises(ShapeError, match="order expected positions from 0 to 3"):
        training.run(x, t, np.array([4]), batch_size=2, hyper=hyper(1))
    with pytest.raises(ShapeError, match="order expected positions from 0 to 3"):
        training.run(x, t, np.array([-1]), batch_size=2, hyper=hyper(1))
    with pytest.raises(ShapeError, match=r"hyper expected shape \(2, 3\).*got \(1, 3\)"):
        training.run(x, t, np.arange(4), batch_size=2, hyper=hyper(1))
    with pytest.raises(OptionError, match="batch_size expected at least 1; got 0"):
        training.run(x, t, np.arange(4), batch_size=0, hyper=hyper(1))
    with pytest.raises(ShapeError, match="labels from 0 to 9; got"):
        training.run(x, t + 10, np.arange(1), batch_size=2, hyper=hyper(1))


def test_denormals_are_flushed_inside_only() -> None:
    from striate.formula.expression import Var

    net = Net(3)
    graph = net.done(net.map(Var("x") * 1e-30, "x"))
    settings.set_num_threads(2)
    native = NativeInference(graph)
    for count in (1, 100):
        x = np.full((count, 3), 1e-10, np.float32)
        assert not native.run(x, {}).any()
        tiny = np.float32(1e-30) * np.full(4, 1e-10, np.float32)
        assert (tiny > 0).all(), "the CPU's mode was not put back"
