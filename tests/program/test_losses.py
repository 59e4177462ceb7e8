"""Losses in both kinds of native training programs, against the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from striate.formula import loss_scalar as scalars
from striate.graph.graph import Graph, Node
from striate.graph.losses import TrainingLoss, as_loss
from striate.optim import SGD
from striate.program.blocked_train import BlockedTraining
from striate.program.native import NativeTraining
from striate.program.reference import ReferenceTraining

WEIGHT = [0.5, 2.0, 1.0, 0.25, 3.0]
LABELLED = {"weight": WEIGHT, "ignore_index": -100}
OVERLAP = {"alpha": 0.5, "beta": 0.5, "smooth": 1.0, "per_class": True, "activation": "softmax"}
SOFT = {"weight": WEIGHT, "label_smoothing": 0.1}
SAMPLES = 11


def network(height: int, width: int) -> Graph:
    """Five numbers for each pixel."""
    graph = Graph([Node("x", "input", shape=(2, height, width))])
    graph.append(Node("w", "parameter", shape=(5, 2, 3, 3), batched=False))
    graph.append(Node("b", "parameter", shape=(5,), batched=False))
    conv = {"stride": [1, 1], "padding": [[1, 1], [1, 1]], "dilation": [1, 1], "groups": 1}
    graph.apply("y", "conv2d", ("x", "w", "b"), conv)
    graph.outputs = ("y",)
    return graph


def labels(*shape: int) -> Any:
    rng = np.random.default_rng(1)
    return np.where(
        rng.random((SAMPLES, *shape)) < 0.2, -100, rng.integers(0, 5, (SAMPLES, *shape))
    )


def numbers(*shape: int) -> Any:
    return np.random.default_rng(2).normal(size=(SAMPLES, 5, *shape)).astype(np.float32)


def shares(*shape: int) -> Any:
    return np.abs(numbers(*shape))


def binary(reduction: str, weight: Any) -> TrainingLoss:
    expr = scalars.binary_cross_entropy_with_logits(True)
    return TrainingLoss("scalar_loss", scalars.scalar_loss(expr, reduction, {"pos_weight": weight}))


def weighted(smoothing: float, times: float | None = None) -> TrainingLoss:
    attributes = {**LABELLED, "label_smoothing": smoothing}
    return TrainingLoss("weighted_cross_entropy", attributes, times)


CASES: dict[str, tuple[TrainingLoss, Callable[..., Any]]] = {
    "cross entropy": (weighted(0.1), labels),
    "a sum": (weighted(0.0, 64.0), labels),
    "focal": (TrainingLoss("focal_cross_entropy", {**LABELLED, "gamma": 2.0}), labels),
    "soft": (
        TrainingLoss("soft_cross_entropy", {"weight": WEIGHT, "label_smoothing": 0.1}),
        numbers,
    ),
    "mse": (as_loss("mse"), numbers),
    "a weight for each class": (binary("mean", np.reshape(WEIGHT, (5, 1, 1))), numbers),
    "one weight": (binary("sum", [[2.0]]), numbers),
    "a weight for each row": (binary("sum", np.arange(1.0, 9)[:, None]), numbers),
    "overlap": (TrainingLoss("overlap_loss", {**OVERLAP, "labels": False}), shares),
}


@pytest.mark.parametrize("kind", [NativeTraining, BlockedTraining])
@pytest.mark.parametrize("size", [(8, 8), (8, 3)])  # places that fill lanes, and that do not
@pytest.mark.parametrize("name", CASES)
def test_losses_of_images(name: str, size: tuple[int, int], kind: Any) -> None:
    loss, make = CASES[name]
    graph, targets = network(*size), make(*size)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(SAMPLES, 2, *size)).astype(np.float32)
    hyper = np.array([SGD(0.1).hyper(k, 0.1) for k in range(3)], np.float32)
    order, results = rng.permutation(SAMPLES), []
    start = {p.name: rng.normal(0, 0.1, p.shape) for p in graph.parameters}
    for program in (kind, ReferenceTraining):
        training = program(graph, loss, SGD(0.1).rule())
        for key, value in start.items():
            training.parameters[key][...] = value
        found = training.run(x, targets, order, batch_size=4, hyper=hyper)
        results.append((found, training.parameters))
    (native, ours), (reference, expected) = results
    np.testing.assert_allclose(native.losses, reference.losses, rtol=1e-4, atol=1e-6)
    for key, value in expected.items():
        step = np.abs(value - start[key]).max()
        assert np.abs(ours[key] - value).max() < 1e-4 * step + 1e-7, key


def test_scales() -> None:
    """What a sample's loss is multiplied by, step by step."""
    targets = np.array([0, 1, -100, -100, 4])
    order = np.array([0, 1, 2, 3, 4])
    assert weighted(0.0).scales((5,), targets, order, 2).tolist() == pytest.approx([0.4, 0, 1 / 3])
    assert as_loss("mse").scales((5,), targets, order, 2).tolist() == [0.5, 0.5, 1]
    assert weighted(0.0, 3.0).scales((5,), targets, order, 2).tolist() == [3, 3, 3]
    assert weighted(0.0).scales((5,), targets, order[:0], 2).size == 0
