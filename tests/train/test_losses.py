"""Training with every loss: the same steps as torch, both backends alike, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.errors import DataError, OptionError, ShapeError
from striate.formula.expression import Sum, Tensor, axes
from striate.formula.formula import Formula
from striate.formula.loss import Loss
from striate.formula.operations import OPERATIONS, find_operation, register
from striate.nn import functional as F
from striate.nn import scalar

SAMPLES, BATCH = 21, 8
WEIGHT = [0.5, 2.0, 1.0, 0.25, 3.0]


def images(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(SAMPLES, 2, 6, 6)).astype(np.float32)


def classifier() -> nn.Module:
    st.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def segmenter() -> nn.Module:
    """An output for each pixel."""
    st.manual_seed(2)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))


def labels(*shape: int, ignored: int | None = None) -> Any:
    found = np.random.default_rng(3).integers(0, 5, (SAMPLES, *shape))
    if ignored is not None:
        found[np.random.default_rng(4).random(found.shape) < 0.3] = ignored
    return found


def numbers(*shape: int) -> Any:
    return np.random.default_rng(5).normal(size=(SAMPLES, *shape)).astype(np.float32)


def spellings() -> Any:
    """Targets of one or two of the classes 1 and 2."""
    rng = np.random.default_rng(6)
    inside = np.arange(2) < rng.integers(1, 3, (SAMPLES, 1))
    return np.where(inside, rng.integers(1, 3, (SAMPLES, 2)), -1)


def signs(*shape: int) -> Any:
    return np.where(numbers(*shape) > 0, 1, -1).astype(np.float32)


class Rows(nn.Module):
    """Scores (n, 15) as logarithms of probabilities of 3 classes at 5 times."""

    def __init__(self) -> None:
        super().__init__()
        self.grow = nn.Linear(5, 15)

    def forward(self, x: Any) -> Any:
        return F.log_softmax(self.grow(x).reshape(-1, 5, 3), 2)


Made = tuple[Callable[[], nn.Module], Callable[[], nn.Loss], Any]
# name: network, loss, targets
PROBLEMS: dict[str, Made] = {
    "class weights": (classifier, lambda: nn.CrossEntropyLoss(WEIGHT), labels()),
    "ignored labels": (classifier, nn.CrossEntropyLoss, labels(ignored=-100)),
    "smooth labels": (
        classifier,
        lambda: nn.CrossEntropyLoss(WEIGHT, ignore_index=1, label_smoothing=0.2),
        labels(),
    ),
    "dense labels": (segmenter, lambda: nn.CrossEntropyLoss(WEIGHT), labels(6, 6, ignored=-100)),
    "a sum": (classifier, lambda: nn.CrossEntropyLoss(reduction="sum"), labels()),
    "a sum over pixels": (
        segmenter,
        lambda: nn.CrossEntropyLoss(reduction="sum", ignore_index=255),
        labels(6, 6, ignored=255),
    ),
    "probabilities": (segmenter, lambda: nn.CrossEntropyLoss(WEIGHT), np.abs(numbers(5, 6, 6))),
    "binary": (
        classifier,
        lambda: nn.BCEWithLogitsLoss(pos_weight=WEIGHT),
        (numbers(5) > 0).astype(np.int64),
    ),
    "several labels": (classifier, nn.MultiLabelSoftMarginLoss, (numbers(5) > 0).astype(np.int64)),
    "multi-margin": (classifier, lambda: nn.MultiMarginLoss(2, weight=WEIGHT), labels()),
    "huber": (segmenter, lambda: nn.HuberLoss(delta=0.5), numbers(5, 6, 6)),
    "smooth l1": (segmenter, nn.SmoothL1Loss, numbers(5, 6, 6)),
    "l1, summed": (classifier, lambda: nn.L1Loss(reduction="sum"), numbers(5)),
    "poisson": (classifier, lambda: nn.PoissonNLLLoss(full=True), np.abs(numbers(5).round())),
    "soft margin": (classifier, nn.SoftMarginLoss, signs(5)),
    "hinge embedding": (classifier, nn.HingeEmbeddingLoss, signs(5)),
}
MORE: dict[str, Made] = {  # that torch does not have
    "focal": (segmenter, lambda: nn.FocalCrossEntropyLoss(WEIGHT), labels(6, 6)),
    "sigmoid focal": (classifier, nn.SigmoidFocalLoss, (numbers(5) > 0).astype(np.int64)),
    "dice": (segmenter, lambda: nn.DiceLoss(activation="softmax"), labels(6, 6)),
    "jaccard": (
        segmenter,
        lambda: nn.JaccardLoss(per_class=False, activation="sigmoid"),
        (numbers(5, 6, 6) > 0).astype(np.float32),
    ),
    "style": (segmenter, nn.StyleLoss, numbers(5, 5)),
    "a formula": (
        classifier,
        lambda: nn.ScalarLoss(lambda x, t: scalar.log(1 + (x - t) ** 2)),
        numbers(5),
    ),
    "hinge": (classifier, nn.HingeLoss, signs(5)),
    "kl": (
        lambda: nn.Sequential(*classifier(), nn.Scalar(lambda x: -scalar.softplus(-x))),
        lambda: nn.KLDivLoss(reduction="batchmean"),
        np.abs(numbers(5)) / 5,
    ),
    "ctc": (
        lambda: nn.Sequential(*classifier(), Rows()),
        lambda: nn.CTCLoss(zero_infinity=True),
        spellings(),
    ),
    "bce": (lambda: nn.Sequential(*classifier(), nn.Sigmoid()), nn.BCELoss, signs(5) / 2 + 0.5),
}


def train(made: Made, backend: str, **more: Any) -> tuple[nn.Module, Any]:
    """One epoch of plain steps: three batches, the last one smaller."""
    net, loss = made[0](), made[1]()
    options = {"epochs": 1, "batch_size": BATCH, "optimizer": optim.SGD(0.05), "progress": False}
    run = st.fit(net, (images(), made[2]), loss=loss, backend=backend, **{**options, **more})
    return net, run.history[-1]


@pytest.mark.parametrize("name", PROBLEMS | MORE)
def test_the_backends_agree(name: str) -> None:
    made = (PROBLEMS | MORE)[name]
    (native, found), (reference, expected) = (train(made, b) for b in ("native", "reference"))
    start = made[0]().state_dict()
    for key, value in reference.state_dict().items():
        step = np.abs(value - start[key]).max()
        assert step > 0
        assert np.abs(native.state_dict()[key] - value).max() < 1e-3 * step + 1e-7, key
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found.get("accuracy") == expected.get("accuracy")
    assert ("accuracy" in found) == (made[2].ndim == 1)


@pytest.mark.peer
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_same_steps_as_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    made = PROBLEMS[name]
    net, record = train(made, "reference")
    theirs = _torch_net(torch, made[0]())
    loss = _torch_loss(torch, name, made[1]())
    sgd = torch.optim.SGD(theirs.parameters(), 0.05)
    order, x, t = _order(), torch.tensor(images()), torch.tensor(made[2])
    if not isinstance(made[1](), (nn.CrossEntropyLoss, nn.MultiMarginLoss)):
        t = t.float()
    for start in range(0, SAMPLES, BATCH):
        rows = order[start : start + BATCH]
        sgd.zero_grad()
        loss(theirs(x[rows]), t[rows]).backward()
        sgd.step()
    for ours, parameter in zip(net.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(ours.data, parameter.detach().numpy(), rtol=2e-4, atol=2e-6)
    assert np.isfinite(record["loss"])


def _order() -> Any:
    from striate.train.order import epoch_order

    return epoch_order(0, 1, SAMPLES)


def _torch_net(torch: Any, net: nn.Module) -> Any:
    made = []
    for layer in net.children():
        name = type(layer).__name__
        if name == "Conv2d":
            o, i, k, _ = layer.weight.shape
            made.append(torch.nn.Conv2d(i, o, k, padding=(k - 1) // 2 if o == 4 and i == 2 else 0))
            made[-1].padding = (0, 0) if len(list(net.children())) == 4 else made[-1].padding
        elif name == "Linear":
            made.append(torch.nn.Linear(*reversed(layer.weight.shape)))
        else:
            made.append(getattr(torch.nn, name)())
    theirs = torch.nn.Sequential(*made)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in net.state_dict().items()})
    return theirs


def _torch_loss(torch: Any, name: str, ours: nn.Loss) -> Any:
    options: dict[str, Any] = {"reduction": ours.reduction}
    for key in ("weight", "pos_weight", "ignore_index", "label_smoothing", "delta", "p", "full"):
        if hasattr(ours, key):
            value = getattr(ours, key)
            is_array = key.endswith("weight") and value is not None
            options[key] = torch.tensor(value, dtype=torch.float32) if is_array else value
    return getattr(torch.nn, type(ours).__name__)(**options)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_accuracy_and_loss_are_of_the_samples_that_count(backend: str) -> None:
    """Without updates an epoch's means are those of the loss on all samples."""
    made = PROBLEMS["ignored labels"]
    optimizer = optim.SGD(1e-30)
    net, record = train(made, backend, optimizer=optimizer, validation=(images(), made[2]))
    outputs, counts = net(images()), made[2] >= 0
    assert record["loss"] == pytest.approx(nn.CrossEntropyLoss()(outputs, made[2]), rel=1e-5)
    right = (outputs.argmax(1) == made[2])[counts]
    assert record["accuracy"] == pytest.approx(right.mean())
    assert record["validation_loss"] == pytest.approx(record["loss"], rel=1e-5)
    assert record["validation_accuracy"] == pytest.approx(right.mean())


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_batch_that_counts_for_nothing_changes_nothing(backend: str) -> None:
    nothing = np.full(SAMPLES, -100)
    net, record = train((classifier, nn.CrossEntropyLoss, nothing), backend)
    for before, after in zip(classifier().parameters(), net.parameters(), strict=True):
        assert np.array_equal(before.data, after.data)
    assert record["loss"] == 0 and record["accuracy"] == 0


def test_a_module_that_is_plain_is_the_named_loss() -> None:
    for module, name, targets in (
        (nn.CrossEntropyLoss, "cross_entropy", labels()),
        (nn.MSELoss, "mse", numbers(5)),
    ):
        nets = []
        for loss in (module(), name):
            net = classifier()
            st.fit(net, (images(), targets), loss=loss, epochs=2, progress=False)
            nets.append(net.state_dict())
        for key, value in nets[0].items():
            assert np.array_equal(value, nets[1][key])


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_one_output_takes_targets_in_a_row(backend: str) -> None:
    st.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 1))
    data = (images(), (images().mean((1, 2, 3)) > 0).astype(np.int64))
    run = st.fit(
        net, data, loss=nn.BCEWithLogitsLoss(), epochs=30, batch_size=8, progress=False,
        optimizer=optim.SGD(0.1), backend=backend,
    )  # fmt: skip
    assert run.history[-1]["loss"] < run.history[0]["loss"] / 2
    assert "accuracy" not in run.history[0]


class Pairs(Loss):
    """`y[n] = Σ_k |x[n,k] − t[n,k]|³`."""

    name = "cubes"

    def formula(self, attributes: Any, shapes: Any) -> Formula:
        n, k = axes("n k")
        body = Sum((k,), abs(Tensor("x")[n, k] - Tensor("t")[n, k]) ** 3)
        shape = tuple(shapes[0])
        return Formula((n,), body, {"n": shape[0], "k": shape[1]}, {"x": shape, "t": shape})


def test_an_operation_of_ones_own_is_trained_natively() -> None:
    register(Pairs())
    try:
        made: Made = (classifier, lambda: nn.OperationLoss("cubes"), numbers(5))
        nets = [train(made, backend)[0].state_dict() for backend in ("native", "reference")]
        for key, value in nets[0].items():
            np.testing.assert_allclose(value, nets[1][key], rtol=1e-4, atol=1e-6)
    finally:
        del OPERATIONS["cubes"]
        find_operation.cache_clear()


def test_resuming_asks_for_the_same_loss(tmp_path: Any) -> None:
    data = (images(), labels())
    options = {"epochs": 1, "progress": False, "backend": "reference", "out": tmp_path / "run"}
    st.fit(classifier(), data, loss=nn.CrossEntropyLoss(WEIGHT), **options)
    options |= {"epochs": 2, "resume": True}
    st.fit(classifier(), data, loss=nn.CrossEntropyLoss(WEIGHT), **options)
    with pytest.raises(OptionError, match=r"got .*loss 'cross_entropy' instead of"):
        st.fit(classifier(), data, **options)


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    ("hinge", labels(), OptionError, "expected 'cross_entropy' or 'mse'; got 'hinge'"),
    (len, labels(), OptionError, "a name or a loss of striate.nn, as nn.L1Loss"),
    (nn.ReLU(), labels(), OptionError, "a name or a loss of striate.nn"),
    (nn.L1Loss(reduction="none"), numbers(5), OptionError, "reduction='mean' or 'sum'; got"),
    (nn.L1Loss(), numbers(4), ShapeError, r"expected targets \(n, 5\), the shape of the network"),
    (nn.CrossEntropyLoss(WEIGHT), labels() + 2, DataError, "labels from 0 to 4, or -100 for thos"),
    (nn.CrossEntropyLoss([1.0]), labels(), ShapeError, r"weight expected shape \(5,\)"),
    (nn.CrossEntropyLoss(WEIGHT), numbers(), DataError, "expected integer labels for weighted_"),
    (nn.CrossEntropyLoss(WEIGHT), labels(3), ShapeError, r"targets \(n\), as weighted_cross_ent"),
    (nn.BCELoss(), numbers(5), DataError, "BCELoss: expected targets from 0 to 1"),
    (nn.HingeLoss(), numbers(5), DataError, "HingeLoss: expected targets 1 or −1"),
    (nn.CTCLoss(), labels(), DataError, r"CTCLoss: expected targets \(n, length\)"),
    (nn.CTCLoss(), labels(3), ShapeError, r"a network that gives \(n, time, classes\)"),
]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ([[-1, 1]], "expected −1 only after a target's end; got one inside, for sample 0"),
        ([[0, 1]], "without the blank, 0, and −1 after the target's end; got 0 for sample 0"),
        ([[1, 3]], "expected classes from 0 to 2 without the blank"),
    ],
)
def test_targets_that_ctc_refuses(target: Any, text: str) -> None:
    net = nn.Sequential(*classifier(), Rows())
    data = (images(), np.repeat(target, SAMPLES, 0))
    with pytest.raises(DataError, match=text):
        st.fit(net, data, loss=nn.CTCLoss(), epochs=1, progress=False)


@pytest.mark.parametrize("k", range(len(BAD)))
def test_refusals(k: int) -> None:
    loss, targets, kind, text = BAD[k]
    with pytest.raises(kind, match=text):
        st.fit(classifier(), (images(), targets), loss=loss, epochs=1, progress=False)


def test_losses_of_many_numbers_are_worked_out_in_pieces(monkeypatch: Any) -> None:
    from striate.train import losses

    outputs, loss = numbers(6, 6), losses.as_loss("mse")
    whole = losses.sample_losses(outputs, outputs[::-1], loss)
    assert whole.shape == (SAMPLES,) and (whole > 0).sum() == SAMPLES - 1  # the middle is itself
    monkeypatch.setattr(losses, "_MOST_NUMBERS", 400)
    np.testing.assert_allclose(losses.sample_losses(outputs, outputs[::-1], loss), whole)
