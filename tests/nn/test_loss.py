"""Losses on arrays: worked numbers, what they refuse, losses of one's own."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from striate import nn
from striate.errors import DataError, OptionError, ShapeError
from striate.formula.ctc import best_path
from striate.formula.expression import Sum, Tensor, Var, axes
from striate.formula.formula import Formula
from striate.formula.loss import Loss, MseLoss
from striate.formula.operations import OPERATIONS, find_operation, register
from striate.nn import functional as F
from striate.nn import scalar

LOGITS = np.array([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]])
LABELS = np.array([0, 1, 0])


def test_a_weighted_mean_divides_by_the_weights() -> None:
    each = F.cross_entropy(LOGITS, LABELS, reduction="none")
    weights = np.array([1.0, 5.0, 1.0])
    found = F.cross_entropy(LOGITS, LABELS, weight=[1.0, 5.0])
    assert found == pytest.approx((each * weights).sum() / weights.sum(), rel=1e-6)


def test_ignored_labels_count_for_nothing() -> None:
    labels = np.array([0, -100, 0])
    two = F.cross_entropy(LOGITS[[0, 2]], LABELS[[0, 2]])
    assert F.cross_entropy(LOGITS, labels) == pytest.approx(two, rel=1e-6)
    assert F.cross_entropy(LOGITS, labels, reduction="none")[1] == 0
    assert F.cross_entropy(LOGITS, LABELS, ignore_index=1) == pytest.approx(two, rel=1e-6)
    assert np.isnan(F.cross_entropy(LOGITS[:1], [1], ignore_index=1))


def test_large_logits_are_exact() -> None:
    x = np.array([[1000.0, -1000.0]])
    assert F.cross_entropy(x, [1], weight=[1.0, 1.0]) == 2000
    assert F.binary_cross_entropy_with_logits(x, np.array([[0.0, 1.0]])) == 1000
    slope = find_operation("weighted_cross_entropy").gradient(
        {"weight": None, "ignore_index": -100, "label_smoothing": 0.0}, [1.0], [x, np.array([1])]
    )[0]
    assert np.array_equal(slope, [[1.0, -1.0]])
    masked = np.array([[0.0, -np.inf, 0.0]])
    assert F.cross_entropy(masked, [0], ignore_index=9) == pytest.approx(np.log(2))


def test_a_logit_of_zero_has_a_slope() -> None:
    module = nn.BCEWithLogitsLoss()
    loss = module.for_training((1,), np.ones((1, 1)))
    slope = find_operation(loss.op).gradient(loss.attributes, [1.0], [[[0.0]], [[1.0]]])[0]
    assert slope is not None and slope[0, 0] == -0.5


def test_overlap() -> None:
    p = np.array([[[1.0, 1.0, 0.0, 0.0]]])
    t = np.array([[[1.0, 0.0, 1.0, 0.0]]])
    assert F.dice_loss(p, t, smooth=0) == 0.5
    assert F.jaccard_loss(p, t, smooth=0) == pytest.approx(2 / 3)
    assert F.tversky_loss(p, t, alpha=0, beta=1, smooth=0) == 0.5
    assert F.dice_loss(p * 0, t * 0) == 0
    labels = np.array([[0, 1, 1, 0]])
    scores = np.zeros((1, 2, 4))
    scores[0, labels[0], np.arange(4)] = 50
    assert F.dice_loss(scores, labels, activation="softmax") < 1e-6
    assert F.dice_loss(p, t, per_class=False, reduction="none").shape == (1,)


def test_total_variation_and_grams_in_a_network() -> None:
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    for layer in (nn.TotalVariation(), nn.TotalVariation(2), nn.GramMatrix()):
        found = nn.Sequential(layer)(image)
        np.testing.assert_allclose(found, layer(image), rtol=1e-5)
    rows = F.style_loss(image, F.gram_matrix(image), reduction="none")
    assert rows.shape == (2,) and np.allclose(rows, 0, atol=1e-12)
    assert F.style_loss(image, image) == rows.mean()
    assert nn.ContentLoss()(image, image + 1) == pytest.approx(1)


class Compared(nn.Module):
    """How far the two halves of a row are from each other, in a network."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.loss = nn.TripletMarginLoss(reduction=reduction)

    def forward(self, x: Any) -> Any:
        return F.triplet_margin_loss(x[:, :2], x[:, 2:4], x[:, 4:], reduction=self.loss.reduction)


def test_descriptions_are_compared_in_a_network() -> None:
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    parts = (x[:, :2], x[:, 2:4], x[:, 4:])
    found = Compared("none")(x)
    np.testing.assert_allclose(found, nn.TripletMarginLoss(reduction="none")(*parts), rtol=1e-5)
    assert nn.TripletMarginLoss()(*parts) == pytest.approx(found.mean(), rel=1e-5)
    with pytest.raises(OptionError, match="reduction='none' inside a network"):
        Compared("mean")(x)


def all_paths(x: Any, target: list[int], blank: int) -> float:
    """−log of the sum over every path that spells the target."""
    total = 0.0
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        spelled = [k for k, _ in itertools.groupby(path)]
        if [k for k in spelled if k != blank] == target:
            total += np.exp(sum(x[t, k] for t, k in enumerate(path)))
    return float(-np.log(total))


@pytest.mark.parametrize("target", [[], [1], [1, 2], [2, 2], [1, 2, 1]])
@pytest.mark.parametrize("blank", [0, 3])
def test_ctc_sums_over_all_paths(target: list[int], blank: int) -> None:
    x = np.random.default_rng(1).normal(size=(5, 4))
    target = [k if k != blank else 0 for k in target]
    found = F.ctc_loss(x[:, None], np.array([target], int), [5], [len(target)], blank, "sum")
    assert found == pytest.approx(all_paths(x.astype(np.float32), target, blank), rel=1e-5)


def test_ctc_of_what_no_path_can_spell() -> None:
    x = np.log(np.full((2, 1, 3), 1 / 3))
    assert F.ctc_loss(x, [[1, 1]], [2], [2]) == np.inf
    assert F.ctc_loss(x, [[1, 1]], [2], [2], zero_infinity=True) == 0


def test_the_best_path() -> None:
    scores = np.eye(3)[[[0, 1, 1, 0, 1, 2, 2]]]
    assert best_path(scores) == [[1, 1, 2]]
    assert best_path(scores, lengths=[3]) == [[1]]
    assert F.ctc_decode(scores.transpose(1, 0, 2), blank=1) == [[0, 0, 2]]


# ---- one's own ---------------------------------------------------------------------------------


def test_a_loss_written_as_a_scalar_formula() -> None:
    x, t = np.array([[1.0, 2.0]]), np.array([[0.0, 2.0]])
    pinball = nn.ScalarLoss(lambda x, t: scalar.maximum(0.9 * (t - x), 0.1 * (x - t)), name="pin")
    assert pinball(x, t) == pytest.approx(0.05)
    assert repr(pinball) == "ScalarLoss(pin)"
    same = nn.ScalarLoss(abs(Var("x") - Var("t")), "sum")
    assert same(x, t) == 1
    assert np.array_equal(F.scalar_loss(lambda x, t: x * t, x, t, "none"), [[0.0, 4.0]])


class Jumps(Loss):
    """`y[n] = Σ_k |(x[k+1] − x[k]) − (t[k+1] − t[k])|`: the steps should be right."""

    name = "jumps"

    def formula(self, attributes: Any, shapes: Any) -> Formula:
        n, k = axes("n k")
        x, t = Tensor("x"), Tensor("t")
        steps = abs((x[n, k + 1] - x[n, k]) - (t[n, k + 1] - t[n, k]))
        shape = tuple(shapes[0])
        sizes = {"n": shape[0], "k": shape[1] - 1}
        return Formula((n,), Sum((k,), steps), sizes, {"x": shape, "t": shape})


def test_an_operation_of_ones_own() -> None:
    register(Jumps())
    try:
        loss = nn.OperationLoss("jumps")
        assert loss([[0.0, 1.0, 5.0]], [[0.0, 2.0, 3.0]]) == 4
        register(Jumps())
        assert repr(loss) == "OperationLoss('jumps')"
    finally:
        del OPERATIONS["jumps"]
        find_operation.cache_clear()


def test_names_that_are_taken() -> None:
    class Mine(MseLoss):
        name = "conv2d"

    class Colon(MseLoss):
        name = "a:b"

    for operation in (Mine(), Colon()):
        with pytest.raises(OptionError, match="register: expected an operation with a name of its"):
            register(operation)
    with pytest.raises(OptionError, match="expected a loss operation; got 'conv2d'"):
        nn.OperationLoss("conv2d")


# ---- refusals ----------------------------------------------------------------------------------

ONE, TWO = np.zeros((2, 3)), np.zeros((2, 3, 4))
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: F.cross_entropy(ONE, [0, 3], [1, 1, 1]), DataError, "labels from 0 to 2, or -100 f"),
    (lambda: F.cross_entropy(ONE, [0, 1], [1, 1]), ShapeError, r"weight expected shape \(3,\)"),
    (lambda: F.cross_entropy(ONE, [0, 1], [1, 1, -1]), OptionError, "weights of at least 0"),
    (lambda: F.cross_entropy(ONE, [0, 1], [[1, 1, 1]]), ShapeError, r"weight \(classes,\), one"),
    (lambda: F.cross_entropy(ONE, [0.0, 1.0]), OptionError, "target .n,. of whole numbers"),
    (lambda: F.cross_entropy(ONE, ONE.T), ShapeError, "probabilities of the input's shape"),
    (lambda: F.cross_entropy(TWO, [0, 1]), ShapeError, r"expected targets \(n, 4\) for"),
    (lambda: F.cross_entropy(TWO, np.zeros((2, 3), int)), ShapeError, r"targets \(n, 4\)"),
    (lambda: F.cross_entropy(ONE, 1), ShapeError, "one class a sample; got shape=()"),
    (
        lambda: F.cross_entropy(ONE, [0, 1], label_smoothing=1.5),
        OptionError,
        "label_smoothing expected from 0 to 1",
    ),
    (lambda: F.cross_entropy(ONE, [0, 1], reduce=True), OptionError, "Write reduction='none'"),
    (lambda: F.nll_loss(ONE, [0, 5]), DataError, "nll_loss: expected labels from 0 to 2"),
    (lambda: F.multi_margin_loss(ONE, [0, 1], p=3), OptionError, "p expected 1 or 2; got 3"),
    (lambda: F.multi_margin_loss(ONE, [0, -1]), DataError, "multi_margin_loss: expected labels"),
    (lambda: F.focal_cross_entropy(ONE, [0, 1], gamma=-1), OptionError, "gamma expected a numb"),
    (lambda: F.binary_cross_entropy(ONE + 2, ONE), DataError, "input from 0 to 1; got 2. Put a"),
    (lambda: nn.BCELoss()(ONE * np.nan, ONE), DataError, "input from 0 to 1; got nan"),
    (lambda: F.binary_cross_entropy(ONE, TWO), ShapeError, "input and target of one shape"),
    (lambda: F.l1_loss(ONE, ONE, weight=ONE), OptionError, "Every element weighs 1"),
    (
        lambda: F.binary_cross_entropy_with_logits(ONE, ONE, pos_weight=[1.0, 2.0]),
        ShapeError,
        "pos_weight of a shape that broadcasts",
    ),
    (lambda: F.huber_loss(ONE, ONE, delta=0), OptionError, "expected delta above 0; got delta=0"),
    (lambda: F.smooth_l1_loss(ONE, ONE, beta=-1), OptionError, "expected beta of at least 0"),
    (lambda: F.hinge_embedding_loss(ONE, ONE), DataError, "expected targets 1 or −1; got 0"),
    (lambda: nn.HingeLoss()(ONE, ONE), DataError, "HingeLoss: expected targets 1 or −1"),
    (lambda: F.kl_div(ONE, ONE, reduction="max"), OptionError, "'mean', 'batchmean', 'sum' or"),
    (lambda: F.multilabel_soft_margin_loss([1.0], [1.0]), ShapeError, r"input \(n, classes\)"),
    (lambda: F.dice_loss(ONE + 2, ONE), DataError, "dice_loss: expected input from 0 to 1"),
    (lambda: F.dice_loss(ONE, TWO), ShapeError, r"expected targets \(n, 3\) for predictions"),
    (lambda: F.dice_loss(ONE, ONE, activation="relu"), OptionError, "activation expected 'none'"),
    (lambda: F.dice_loss(TWO, np.full((2, 4), 3)), DataError, "overlap_loss: expected labels fr"),
    (lambda: F.total_variation(ONE), ShapeError, r"x expected \(n, channels, h, w\)"),
    (lambda: F.total_variation(TWO[:, None], 3), OptionError, "power expected 1 or 2; got 3"),
    (lambda: F.gram_matrix(ONE), ShapeError, r"x expected \(n, channels, …\)"),
    (lambda: F.style_loss(TWO, TWO[:, :2]), ShapeError, r"expected targets \(n, 3, 3\)"),
    (lambda: F.ctc_loss(ONE, [[1]], [1], [1]), ShapeError, r"log_probs \(time, n, classes\)"),
    (lambda: F.ctc_loss(TWO, [[1]] * 3, [2], [1]), OptionError, r"lengths \(3,\) of whole"),
    (lambda: F.ctc_loss(TWO, [[1]] * 3, [3] * 3, [1] * 3), DataError, "input_lengths from 0 to 2"),
    (lambda: F.ctc_loss(TWO, [[1]] * 3, [2] * 3, [2] * 3), DataError, "target_lengths from 0"),
    (lambda: F.ctc_loss(TWO, [[4]] * 3, [2] * 3, [1] * 3), DataError, "without the blank, 0"),
    (lambda: F.ctc_loss(TWO, [[0]] * 3, [2] * 3, [1] * 3), DataError, "without the blank, 0"),
    (lambda: F.ctc_loss(TWO, [1], [2] * 3, [1] * 3), ShapeError, "or 3 of them in one row"),
    (lambda: F.ctc_loss(TWO, [[1]] * 3, [2] * 3, [1] * 3, 4), OptionError, "blank expected below"),
    (lambda: F.ctc_decode(ONE), ShapeError, r"log_probs \(time, n, classes\)"),
    (lambda: nn.ScalarLoss(lambda x: x), OptionError, "expected a function of two scalars"),
    (lambda: nn.ScalarLoss(Var("y") - Var("x")), OptionError, "an expression of x and t; got"),
    (lambda: nn.CrossEntropyLoss(ignore_index=0.5), OptionError, "ignore_index to be a whole n"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), OptionError, "label_smoothing from 0 to 1"),
    (lambda: nn.MultiMarginLoss(p=3), OptionError, "MultiMarginLoss: expected p to be 1 or 2"),
    (lambda: nn.L1Loss(size_average=True), OptionError, "Write reduction='mean' or 'sum'"),
    (lambda: nn.L1Loss(reduction="max"), OptionError, "L1Loss: expected reduction 'mean', 'sum'"),
    (lambda: F.cosine_embedding_loss(ONE, ONE, [0, 1]), DataError, "expected targets 1 or −1; got"),
    (lambda: F.cosine_embedding_loss(ONE, ONE, [1, 1], 2), OptionError, "margin expected from −1"),
    (lambda: F.cosine_embedding_loss(ONE, ONE, [1]), ShapeError, "the same number of samples"),
    (lambda: F.cosine_embedding_loss(TWO, TWO, [1, 1]), ShapeError, "x expected 1 axes"),
    (lambda: F.triplet_margin_loss(ONE, ONE, TWO), ShapeError, "expected inputs of equal shape"),
    (lambda: F.triplet_margin_loss(TWO, TWO, TWO), ShapeError, r"anchor expected \(n, features\)"),
    (lambda: nn.TripletMarginLoss(p=0)(ONE, ONE, ONE), OptionError, "p expected a number above 0"),
    (lambda: nn.Sequential(nn.GramMatrix())(ONE), ShapeError, "expected"),
]


@pytest.mark.parametrize("k", range(len(BAD)))
def test_refusals(k: int) -> None:
    call, kind, text = BAD[k]
    with pytest.raises(kind, match=text):
        call()
