"""`evaluate`: counts by hand, scikit-learn's numbers, text, and what it refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from striate import nn
from striate.data.dataset import DataSet
from striate.errors import DataError, ModelError, OptionError, ShapeError
from striate.train import Evaluation, evaluate


def scores_net(classes: int = 3) -> nn.Module:
    """A network whose scores are its input."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(classes, classes))
    net.load_state_dict({"1.weight": np.eye(classes), "1.bias": np.zeros(classes)})
    return net


def judge(scores: list[list[float]], labels: list[int], **given: Any) -> Evaluation:
    images = np.array(scores, np.float32)[:, None, None, :]
    net = scores_net(images.shape[-1])
    return evaluate(net, (images, np.array(labels)), backend="reference", **given)


SCORES = [[4.0, 0, 0], [0, 3, 0], [0, 2, 0], [0, 0, 5], [9, 0, 0], [1, 0, 0]]
LABELS = [0, 1, 0, 2, 1, 0]


def test_by_hand() -> None:
    result = judge(SCORES, LABELS, names=["a", "b", "c"])
    assert result.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert result.samples == 6
    assert result.accuracy == 4 / 6
    assert result.count.tolist() == [3, 2, 1]
    assert result.precision == pytest.approx([2 / 3, 1 / 2, 1])
    assert result.recall == pytest.approx([2 / 3, 1 / 2, 1])
    assert result.f1 == pytest.approx([2 / 3, 1 / 2, 1])
    worst = result.mistakes[0]
    assert [mistake.index for mistake in result.mistakes] == [4, 2]
    assert (worst.label, worst.predicted) == (1, 0)
    assert worst.probability == pytest.approx(np.exp(9) / (np.exp(9) + 2))
    assert worst.label_probability == pytest.approx(1 / (np.exp(9) + 2))
    z = np.array(SCORES)
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(6), LABELS]
    assert result.loss == pytest.approx(losses.mean(), rel=1e-7)


def test_a_class_without_samples_or_predictions() -> None:
    result = judge([[1.0, 0, 0], [1, 0, 0]], [0, 1])
    assert result.recall.tolist() == [1, 0, 0]
    assert result.precision.tolist() == [0.5, 0, 0]
    assert result.f1 == pytest.approx([2 / 3, 0, 0])


@pytest.mark.peer
def test_as_scikit_learn_has_it() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 5, 200), rng.normal(size=(200, 5))
    result = judge(scores.tolist(), labels.tolist())
    table = metrics.precision_recall_fscore_support(labels, scores.argmax(1), zero_division=0)
    for ours, theirs in zip(
        (result.precision, result.recall, result.f1, result.count), table, strict=True
    ):
        np.testing.assert_allclose(ours, theirs)
    np.testing.assert_array_equal(
        result.confusion, metrics.confusion_matrix(labels, scores.argmax(1))
    )


def test_batches_change_nothing(tiny: SimpleNamespace) -> None:
    net, data = tiny.make_net(), tiny.make_data()
    results = [evaluate(net, data, size, backend="reference") for size in (1, 7, 45, 1000)]
    assert len({(r.loss, r.confusion.tobytes(), r.mistakes) for r in results}) == 1


def test_the_mode_of_the_network_stays_and_dropout_is_off(tiny: SimpleNamespace) -> None:
    net, data = tiny.make_net(dropout=0.9), tiny.make_data()
    net[3].eval()
    first, second = (evaluate(net, data, backend="reference") for _ in range(2))
    assert first.loss == second.loss
    assert [module.training for module in net] == [True, True, True, False, True]


def test_names_come_from_the_data_set(tiny: SimpleNamespace) -> None:
    images, labels = tiny.make_data()
    result = evaluate(
        tiny.make_net(), DataSet(images, labels, ("ant", "bee", "cat")), backend="reference"
    )
    assert result.names == ("ant", "bee", "cat")


def test_text() -> None:
    text = judge(SCORES, LABELS, names=["ant", "[b]", "cat"]).text()
    assert "accuracy 66.67 % (4 of 6), loss" in text
    for word in ("Classes", "precision", "Confusion", "Worst mistakes", "[b]", "99.98 %"):
        assert word in text, word
    right = judge(SCORES[:2], LABELS[:2])
    assert "accuracy 100.00 % (2 of 2)" in right.text()
    assert "mistakes" not in right.text()
    assert repr(right).startswith("Evaluation(2 samples, accuracy 100.00 %, loss 0.0")


def test_text_of_many_classes_lists_pairs() -> None:
    text = judge(np.eye(30)[[1, 1, 2]].tolist(), [1, 0, 2]).text()
    assert "Most frequent confusions" in text


def test_json() -> None:
    result = judge(SCORES, LABELS)
    data = json.loads(json.dumps(result.to_json()))
    assert data["confusion"] == result.confusion.tolist()
    assert data["classes"][0]["count"] == 3
    assert data["mistakes"][0]["index"] == 4


def test_what_it_refuses(tiny: SimpleNamespace) -> None:
    net = tiny.make_net()
    images, labels = tiny.make_data()
    with pytest.raises(DataError, match="evaluate: expected labels 0 … 2"):
        evaluate(net, (images, labels + 1), backend="reference")
    with pytest.raises(DataError, match="evaluate: expected at least one image"):
        evaluate(net, (images[:0], labels[:0]), backend="reference")
    with pytest.raises(ShapeError, match="do not fit the network"):
        evaluate(net, (images[:, :, 1:], labels), backend="reference")
    with pytest.raises(OptionError, match="expected batch_size of at least 1; got 0"):
        evaluate(net, (images, labels), 0)
    next(net.parameters()).data[3] = np.nan
    with pytest.raises(ModelError, match="expected finite outputs; got nan for sample 0"):
        evaluate(net, (images, labels), backend="reference")
