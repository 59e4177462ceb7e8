"""One contract for every loss: reductions, what training minimises, gradients, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError, TraceError
from striate.nn import functional as F
from striate.nn import scalar

Array = np.ndarray[Any, Any]
BASES = {"Loss"}
WEIGHTS = [1.0, 2.0, 0.5, 3.0]


@dataclass(frozen=True)
class Case:
    """A loss with a prediction and a target.

    Attributes:
        make: the loss with these settings, at least `reduction`.
        x, t: from a random generator.
        count: what the mean divides the sum by; by default how many numbers "none" gives.
    """

    make: Callable[..., nn.Module]
    x: Callable[[np.random.Generator], Array]
    t: Callable[[np.random.Generator], Array]
    count: float | None = None


def normal(*shape: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.normal(size=shape)


def uniform(*shape: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.uniform(0.05, 0.95, shape)


def signs(*shape: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.choice([-1.0, 1.0], shape)


def labels(*shape: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.integers(0, 4, shape)


def constant(values: Any) -> Callable[[np.random.Generator], Array]:
    return lambda rng: np.array(values)


def log_softmax(*shape: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: np.log(rng.dirichlet(np.ones(shape[-1]), shape[:-1]))


def pinball(reduction: str) -> nn.ScalarLoss:
    body = lambda x, t: scalar.maximum(0.9 * (t - x), 0.1 * (x - t))  # noqa: E731
    return nn.ScalarLoss(body, reduction, "pinball")


ROWS = normal(3, 5)
CASES = {
    "L1Loss": Case(nn.L1Loss, ROWS, ROWS),
    "MSELoss": Case(nn.MSELoss, ROWS, ROWS),
    "ContentLoss": Case(nn.ContentLoss, normal(2, 3, 4), normal(2, 3, 4)),
    "SmoothL1Loss": Case(nn.SmoothL1Loss, ROWS, ROWS),
    "HuberLoss": Case(nn.HuberLoss, ROWS, ROWS),
    "PoissonNLLLoss": Case(nn.PoissonNLLLoss, ROWS, uniform(3, 5)),
    "KLDivLoss": Case(nn.KLDivLoss, log_softmax(3, 5), uniform(3, 5)),
    "BCELoss": Case(nn.BCELoss, uniform(3, 5), uniform(3, 5)),
    "BCEWithLogitsLoss": Case(nn.BCEWithLogitsLoss, ROWS, uniform(3, 5)),
    "SigmoidFocalLoss": Case(nn.SigmoidFocalLoss, ROWS, labels(3, 5)),
    "SoftMarginLoss": Case(nn.SoftMarginLoss, ROWS, signs(3, 5)),
    "HingeLoss": Case(nn.HingeLoss, ROWS, signs(3, 5)),
    "HingeEmbeddingLoss": Case(nn.HingeEmbeddingLoss, ROWS, signs(3, 5)),
    "MultiLabelSoftMarginLoss": Case(nn.MultiLabelSoftMarginLoss, ROWS, uniform(3, 5)),
    "ScalarLoss": Case(pinball, ROWS, ROWS),
    "CrossEntropyLoss": Case(nn.CrossEntropyLoss, normal(3, 4), labels(3)),
    "CrossEntropyLoss-images": Case(nn.CrossEntropyLoss, normal(2, 4, 2, 3), labels(2, 2, 3)),
    "CrossEntropyLoss-weights": Case(
        lambda reduction: nn.CrossEntropyLoss(WEIGHTS, ignore_index=2, reduction=reduction),
        normal(4, 4),
        constant([0, 3, 2, 1]),
        6.0,
    ),
    "CrossEntropyLoss-soft": Case(nn.CrossEntropyLoss, normal(3, 4), uniform(3, 4), 3),
    "NLLLoss": Case(nn.NLLLoss, log_softmax(3, 4), labels(3)),
    "FocalCrossEntropyLoss": Case(nn.FocalCrossEntropyLoss, normal(3, 4), labels(3)),
    "DeepSupervisionLoss": Case(
        lambda reduction: nn.DeepSupervisionLoss((1, 0.5), reduction=reduction),
        normal(3, 4, 2),
        labels(3),
    ),
    "MultiMarginLoss": Case(nn.MultiMarginLoss, normal(3, 4), labels(3)),
    "OperationLoss": Case(lambda reduction: nn.OperationLoss("mse_loss"), ROWS, ROWS),
    "TverskyLoss": Case(
        lambda reduction: nn.TverskyLoss(0.3, 0.7, reduction=reduction),
        uniform(2, 3, 4),
        uniform(2, 3, 4),
    ),
    "DiceLoss": Case(nn.DiceLoss, uniform(2, 3, 4), uniform(2, 3, 4)),
    "JaccardLoss": Case(nn.JaccardLoss, uniform(2, 3, 4), uniform(2, 3, 4)),
    "StyleLoss": Case(nn.StyleLoss, normal(2, 3, 4), normal(2, 3, 3)),
    "CTCLoss": Case(nn.CTCLoss, log_softmax(2, 4, 4), constant([[1, 2], [3, 3]])),
    "CosineEmbeddingLoss": Case(nn.CosineEmbeddingLoss, normal(4, 6), signs(4)),
    "TripletMarginLoss": Case(nn.TripletMarginLoss, normal(4, 6), normal(4, 6)),
}
PAIRS = ("CosineEmbeddingLoss", "TripletMarginLoss")
TRAINED = [name for name in CASES if name not in PAIRS]


def class_of(name: str) -> str:
    return name.partition("-")[0]


def arrays(name: str) -> tuple[Array, Array]:
    """Prediction and target; the prediction has numbers that float32 holds."""
    rng = np.random.default_rng(4)
    x = CASES[name].x(rng).astype(np.float32).astype(np.float64)
    t = CASES[name].t(rng)
    return x, t.astype(np.float32).astype(np.float64) if t.dtype.kind == "f" else t


def value(name: str, loss: nn.Module, x: Array, t: Array) -> Any:
    if name == "CTCLoss":
        lengths = np.full(len(x), x.shape[1]), np.full(len(x), t.shape[1])
        return loss(x.transpose(1, 0, 2), t, *lengths)
    if name == "CosineEmbeddingLoss":
        return loss(x[:, ::2], x[:, 1::2], t)
    return loss(x, x[:, ::-1] + 1, t) if name == "TripletMarginLoss" else loss(x, t)


def test_every_loss_has_a_case() -> None:
    kinds = {n: getattr(nn, n) for n in nn.__all__}
    losses = {n for n, k in kinds.items() if isinstance(k, type) and issubclass(k, nn.Loss)}
    named = {n for n in kinds if n.endswith("Loss")}
    assert sorted((losses | named) - BASES - {class_of(name) for name in CASES}) == []


@pytest.mark.parametrize("name", [n for n in CASES if n != "OperationLoss"])
def test_reductions_agree(name: str) -> None:
    case, (x, t) = CASES[name], arrays(name)
    none, total, mean = (value(name, case.make(reduction=r), x, t) for r in ("none", "sum", "mean"))
    assert none.dtype == np.float32 and none.shape[0] == len(x) and np.isfinite(none).all()
    assert np.shape(total) == np.shape(mean) == () and np.count_nonzero(none) > none.size / 3
    assert total == pytest.approx(none.sum(dtype=float), rel=1e-5)
    each = none / t.shape[1] if name == "CTCLoss" else none
    count = none.size if case.count is None else case.count
    assert mean == pytest.approx(each.sum(dtype=float) / count, rel=1e-5)
    assert case.make(reduction="mean").reduction == "mean"


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", TRAINED)
def test_training_minimises_the_same_number(name: str, reduction: str) -> None:
    """And by a gradient that central differences confirm."""
    (x, t), loss = arrays(name), CASES[name].make(reduction=reduction)
    spec = loss.for_training(x.shape[1:], t)
    spec.check(x.shape[1:], t)
    scale = spec.scales(x.shape[1:], t, np.arange(len(x)), len(x))[0]
    found = scale * spec.operation.reference(spec.attributes, [x, t]).sum()
    assert found == pytest.approx(float(value(name, loss, x, t)), rel=1e-5)
    report = st.check_gradient(spec.op, (x, t), attributes=spec.attributes)
    assert report.ok, f"{name}\n{report}"


def test_gradients_of_losses_in_a_network() -> None:
    x, t = arrays("TripletMarginLoss")

    def triplet(a: Any, b: Any, c: Any) -> Any:
        return F.triplet_margin_loss(a, b, c, reduction="none")

    assert st.check_gradient(triplet, (x, x[:, ::-1] + 1, t)).ok
    assert st.check_gradient(F.cosine_similarity, (x, t)).ok


@pytest.mark.parametrize("name", CASES)
def test_an_empty_batch(name: str) -> None:
    """Nothing adds up to 0; the mean of nothing is no number, as in NumPy and torch."""
    case, (x, t) = CASES[name], arrays(name)
    if name != "OperationLoss":
        assert value(name, case.make(reduction="none"), x[:0], t[:0]).shape[0] == 0
        assert value(name, case.make(reduction="sum"), x[:0], t[:0]) == 0
    assert np.isnan(value(name, case.make(reduction="mean"), x[:0], t[:0]))


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused(name: str) -> None:
    case, (x, t) = CASES[name], arrays(name)
    wrong = t[:-1] if t.ndim == 1 or name == "CTCLoss" else t[:, :-1]
    with pytest.raises(ShapeError, match=r"^\w+: expected .*(targets|shape|samples).*; got .*\.$"):
        value(name, case.make(reduction="mean"), x, wrong)
    if name != "OperationLoss":
        with pytest.raises(OptionError, match=f"{class_of(name)}: expected reduction .*'max'"):
            case.make(reduction="max")
    if name in TRAINED:
        with pytest.raises(TraceError, match="is a loss, and a network gives its prediction"):
            nn.Sequential(Inside(case.make(reduction="mean"), t))(x)


class Inside(nn.Module):
    """A network that takes a loss itself."""

    def __init__(self, loss: nn.Module, target: Array) -> None:
        super().__init__()
        self.loss, self.target = loss, target

    def forward(self, x: Any) -> Any:
        more = ([4], [2]) if isinstance(self.loss, nn.CTCLoss) else ()
        return self.loss(x, self.target, *more)
