"""Every loss against torch: values on arrays, and gradients of the operations in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate import nn
from striate.formula.operations import find_operation
from striate.nn import functional as F

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")
quick = settings(max_examples=20, deadline=None)
REDUCTIONS = ("mean", "sum", "none")


def _close(ours: Any, theirs: Any) -> None:
    expected = theirs.detach().numpy()
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-6 * scale)


def _slope(module: Any, x: np.ndarray[Any, Any], t: np.ndarray[Any, Any]) -> Any:
    """The gradient of the module's loss, as a training takes it."""
    loss = module.for_training(x.shape[1:], t)
    scale = loss.scales(x.shape[1:], t, np.arange(len(x)), len(x))[0]
    operation, up = find_operation(loss.op), np.full(len(x), float(scale))
    return operation.gradient(loss.attributes, up, [x, t], [0])[0]


def _compare(module: Any, peer: Any, x: Any, t: Any, times: Any = 1.0) -> None:
    """Value on arrays, and the gradient to the prediction."""
    theirs = torch.tensor(x, requires_grad=True)
    expected = peer(theirs, torch.tensor(t))
    _close(module(x.astype(np.float32), t), expected)
    if module.reduction == "none":
        return
    expected.backward()
    if not torch.isfinite(expected):
        return
    found, slope = _slope(module, x, t), theirs.grad.numpy()
    np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-6 * np.abs(slope).max(initial=1e-3))


def _arrays(seed: int, *shape: int) -> np.random.Generator:
    return np.random.default_rng([seed, *shape])


SHAPES = st.sampled_from([(5, 4), (3, 1), (1, 6), (2, 3, 4), (4, 3, 2, 3), (2, 5, 1, 1)])
SEEDS = st.integers(0, 10**6)


@quick
@given(
    SHAPES,
    SEEDS,
    st.sampled_from(REDUCTIONS),
    st.booleans(),
    st.sampled_from([-100, 0, 2, 255]),
    st.sampled_from([0.0, 0.1, 0.6]),
)
def test_cross_entropy(
    shape: Any, seed: int, reduction: str, weighted: bool, ignored: int, smoothing: float
) -> None:
    rng = _arrays(seed, *shape)
    x = rng.normal(0, 3, shape)
    t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    t[rng.random(t.shape) < 0.3] = ignored if not 0 <= ignored < shape[1] else t.flat[0]
    t.flat[0] = 0 if ignored != 0 else min(1, shape[1] - 1)
    weight = rng.uniform(0.1, 3, shape[1]) if weighted else None
    theirs = None if weight is None else torch.tensor(weight)
    options = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
    peer = torch.nn.CrossEntropyLoss(theirs, **options)
    _compare(nn.CrossEntropyLoss(weight, **options), peer, x, t)


@quick
@given(SHAPES, SEEDS, st.sampled_from(REDUCTIONS), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_cross_entropy_of_probabilities(
    shape: Any, seed: int, reduction: str, weighted: bool, smoothing: float
) -> None:
    rng = _arrays(seed, *shape)
    x, t = rng.normal(0, 3, shape), rng.random(shape)
    t /= t.sum(1, keepdims=True)
    weight = rng.uniform(0.1, 3, shape[1]) if weighted else None
    theirs = None if weight is None else torch.tensor(weight)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    peer = torch.nn.CrossEntropyLoss(theirs, **options)
    _compare(nn.CrossEntropyLoss(weight, **options), peer, x, t)


@quick
@given(SHAPES, SEEDS, st.sampled_from(REDUCTIONS), st.booleans(), st.sampled_from([-100, 1]))
def test_nll(shape: Any, seed: int, reduction: str, weighted: bool, ignored: int) -> None:
    rng = _arrays(seed, *shape)
    x = np.log(rng.uniform(0.01, 1, shape))
    t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    t.flat[0] = 0
    weight = rng.uniform(0.1, 3, shape[1]) if weighted else None
    theirs = None if weight is None else torch.tensor(weight)
    options = {"ignore_index": ignored, "reduction": reduction}
    _compare(nn.NLLLoss(weight, **options), torch.nn.NLLLoss(theirs, **options), x, t)


@quick
@given(
    st.integers(1, 6),
    st.integers(1, 7),
    SEEDS,
    st.sampled_from(REDUCTIONS),
    st.sampled_from([1, 2]),
    st.floats(0.1, 3),
    st.booleans(),
)
def test_multi_margin(
    n: int, classes: int, seed: int, reduction: str, p: int, margin: float, weighted: bool
) -> None:
    rng = _arrays(seed, n, classes)
    weight = rng.uniform(0.1, 3, classes) if weighted else None
    theirs = None if weight is None else torch.tensor(weight)
    peer = torch.nn.MultiMarginLoss(p, margin, theirs, reduction=reduction)
    ours = nn.MultiMarginLoss(p, margin, weight, reduction=reduction)
    _compare(ours, peer, rng.normal(size=(n, classes)), rng.integers(0, classes, n))


def _pair(name: str, rng: np.random.Generator, shape: Any) -> tuple[Any, Any]:
    """A prediction and a target that the loss has a meaning for."""
    x, t = rng.normal(0, 2, shape), rng.normal(0, 2, shape)
    p, q = rng.uniform(0.02, 0.98, (2, *shape))
    if name in ("HingeEmbeddingLoss", "SoftMarginLoss"):
        return x, np.where(t > 0, 1.0, -1.0)
    if name == "BCELoss":
        return p, q
    if name == "KLDivLoss":
        return np.log(p), q
    if name == "KLDivLoss, log":
        return np.log(p), np.log(q)
    if name == "PoissonNLLLoss, counts":
        return np.abs(x) + 0.1, np.abs(np.round(3 * t))
    if name == "PoissonNLLLoss":
        return x, np.abs(np.round(3 * t))
    if name in ("BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"):
        return x * 5, np.round(q)
    return x, t


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "MSELoss": [{}],
    "L1Loss": [{}],
    "SmoothL1Loss": [{}, {"beta": 0.3}, {"beta": 0.0}],
    "HuberLoss": [{}, {"delta": 0.4}],
    "PoissonNLLLoss": [{}, {"full": True}],
    "PoissonNLLLoss, counts": [{"log_input": False, "full": True, "eps": 1e-6}],
    "KLDivLoss": [{}],
    "KLDivLoss, log": [{"log_target": True}],
    "BCELoss": [{}],
    "BCEWithLogitsLoss": [{}],
    "SoftMarginLoss": [{}],
    "HingeEmbeddingLoss": [{}, {"margin": 2.5}],
    "MultiLabelSoftMarginLoss": [{}],
}


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")  # torch, on kl_div's mean
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@settings(max_examples=6, deadline=None)
@given(shape=SHAPES, seed=SEEDS)
def test_losses_of_numbers(name: str, reduction: str, shape: Any, seed: int) -> None:
    kind = name.partition(",")[0]
    for options in OPTIONS[name]:
        x, t = _pair(name, _arrays(seed, *shape), shape)
        ours = getattr(nn, kind)(**options, reduction=reduction)
        _compare(ours, getattr(torch.nn, kind)(**options, reduction=reduction), x, t)


@quick
@given(SHAPES, SEEDS, st.sampled_from(REDUCTIONS), st.booleans(), st.booleans())
def test_weights_of_binary_losses(
    shape: Any, seed: int, reduction: str, weighted: bool, positive: bool
) -> None:
    rng = _arrays(seed, *shape)
    weight = rng.uniform(0.1, 3, shape[1:]) if weighted else None
    pos = rng.uniform(0.1, 3, shape[-1]) if positive else None
    theirs = [None if a is None else torch.tensor(a) for a in (weight, pos)]
    x, t = _pair("BCEWithLogitsLoss", rng, shape)
    peer = torch.nn.BCEWithLogitsLoss(theirs[0], reduction=reduction, pos_weight=theirs[1])
    _compare(nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=pos), peer, x, t)
    x, t = _pair("BCELoss", rng, shape)
    peer = torch.nn.BCELoss(theirs[0], reduction=reduction)
    _compare(nn.BCELoss(weight, reduction=reduction), peer, x, t)
    row = None if not weighted else rng.uniform(0.1, 3, shape[-1])
    peer = torch.nn.MultiLabelSoftMarginLoss(
        None if row is None else torch.tensor(row), reduction=reduction
    )
    x, t = _pair("MultiLabelSoftMarginLoss", rng, shape)
    _compare(nn.MultiLabelSoftMarginLoss(row, reduction=reduction), peer, x, t)


@pytest.mark.parametrize("log_target", [False, True])
def test_batchmean(log_target: bool) -> None:
    x, t = _pair("KLDivLoss, log" if log_target else "KLDivLoss", _arrays(3), (4, 3, 2))
    options = {"reduction": "batchmean", "log_target": log_target}
    _compare(nn.KLDivLoss(**options), torch.nn.KLDivLoss(**options), x, t)


def _focal(x: Any, t: Any, alpha: float, gamma: float) -> Any:
    """As torchvision writes it."""
    p = torch.sigmoid(x)
    value = torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    value = value * (1 - p_t) ** gamma
    return (alpha * t + (1 - alpha) * (1 - t)) * value if alpha >= 0 else value


@quick
@given(SHAPES, SEEDS, st.floats(-0.5, 1), st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]))
def test_focal_losses(shape: Any, seed: int, alpha: float, gamma: float) -> None:
    rng = _arrays(seed, *shape)
    x, t = rng.normal(0, 2, shape), np.round(rng.random(shape))
    ours = nn.SigmoidFocalLoss(alpha, gamma)
    _compare(ours, lambda x, t: _focal(x, t, alpha, gamma).mean(), x, t)
    _close(
        F.sigmoid_focal_loss(x, t, alpha, gamma), _focal(*map(torch.tensor, (x, t)), alpha, gamma)
    )
    weight = rng.uniform(0.1, 3, shape[1])
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))

    def softmax(x: Any, t: Any) -> Any:
        value = torch.nn.functional.cross_entropy(x, t, reduction="none")
        return (torch.tensor(weight)[t] * (1 - torch.exp(-value)) ** gamma * value).mean()

    if gamma == 0 or shape[1] > 1:  # of one class p is 1, and a root has no slope at 0
        _compare(nn.FocalCrossEntropyLoss(weight, gamma), softmax, x, labels)


@quick
@given(
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(2, 6),
    SEEDS,
    st.sampled_from(REDUCTIONS),
    st.booleans(),
)
def test_ctc(
    n: int, time: int, classes: int, seed: int, reduction: str, zero_infinity: bool
) -> None:
    rng = _arrays(seed, n, time, classes)
    blank = int(rng.integers(0, classes))
    logits = rng.normal(0, 2, (time, n, classes))
    steps, lengths = rng.integers(1, time + 1, n), rng.integers(0, 5, n)
    labels = np.delete(np.arange(classes), blank)
    targets = labels[rng.integers(0, classes - 1, (n, 5))]
    theirs = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        theirs.log_softmax(2),
        torch.tensor(targets),
        torch.tensor(steps),
        torch.tensor(lengths),
        blank,
        reduction,
        zero_infinity,
    )
    log_p = logits - np.log(np.exp(logits).sum(2, keepdims=True))
    given_lengths = (steps, lengths)
    ours = nn.CTCLoss(blank, reduction, zero_infinity)(log_p, targets, *given_lengths)
    _close(ours, expected)
    flat = np.concatenate([row[:k] for row, k in zip(targets, lengths, strict=True)])
    _close(F.ctc_loss(log_p, flat, *given_lengths, blank, reduction, zero_infinity), expected)
    if reduction == "none" or not torch.isfinite(expected):
        return
    expected.backward()
    mean = reduction == "mean"
    attributes = {"blank": blank, "zero_infinity": zero_infinity, "mean": mean, "length": 5}
    up = np.full(n, 1 / n if mean else 1.0)
    arrays = [log_p.transpose(1, 0, 2), targets, *given_lengths]
    slope = find_operation("ctc_loss").gradient(attributes, up, arrays)[0]
    assert slope is not None
    slope = slope.transpose(1, 0, 2)
    found = slope - np.exp(log_p) * slope.sum(2, keepdims=True)  # through the log-softmax
    np.testing.assert_allclose(found, theirs.grad.numpy(), rtol=1e-6, atol=1e-9)


def test_gram_and_total_variation() -> None:
    x = torch.tensor(_arrays(1).normal(size=(2, 3, 4, 5)), dtype=torch.float32)
    flat = x.flatten(2)
    _close(F.gram_matrix(x.numpy()), flat @ flat.transpose(1, 2) / (3 * 4 * 5))
    down, across = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    for power in (1, 2):
        expected = sum(d.abs().pow(power).sum((1, 2, 3)) for d in (down, across))
        _close(F.total_variation(x.numpy(), power), expected)
