"""How well a network classifies: accuracy, loss, confusion, a table of classes, worst mistakes.

The numbers come from class scores in batches; nothing is trained and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.graph.losses import as_loss
from striate.train.predict import Predictor, log_softmax
from striate.train.samples import as_samples, fit_to_output

if TYPE_CHECKING:
    from striate.nn.module import Module

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified sample.

    Args:
        index: its place in the data.
        label: its class.
        predicted: the class the network gave.
        probability: the network's probability of `predicted`.
        label_probability: the network's probability of `label`.
    """

    index: int
    label: int
    predicted: int
    probability: float
    label_probability: float


@dataclass(frozen=True)
class Evaluation:
    """What a network does on a data set.

    Args:
        confusion: (classes, classes) counts, row = class of the sample, column = class given.
        loss: mean cross-entropy.
        mistakes: all wrong samples, the worst (lowest probability of the right class) first.
        names: the classes' names.
        ranks: (samples,), how many classes have a higher score than the right one, or the same
            score and a lower number.
    """

    confusion: Int64
    loss: float
    mistakes: tuple[Mistake, ...]
    names: tuple[str, ...]
    ranks: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def samples(self) -> int:
        """How many samples there were."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of samples that are classified rightly."""
        return int(np.trace(self.confusion)) / self.samples

    def top(self, k: int) -> float:
        """The share of samples whose right class is among the k with the highest scores."""
        if k < 1:
            raise OptionError(f"top: expected k of at least 1; got k={k!r}.")
        return float((self.ranks < k).mean()) if self.ranks.size else self.accuracy

    @property
    def count(self) -> Int64:
        """The samples of each class, (classes,)."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def precision(self) -> Float64:
        """Of the samples given each class, the share that is of it; 0 where there are none."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> Float64:
        """Of the samples of each class, the share that is given it; 0 where there are none."""
        return _share(np.diag(self.confusion), self.count)

    @property
    def f1(self) -> Float64:
        """The harmonic mean of precision and recall; 0 where both are."""
        return _share(2 * np.diag(self.confusion), self.count + self.confusion.sum(axis=0))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return {
            "samples": self.samples,
            "accuracy": self.accuracy,
            "top5": self.top(5),
            "loss": self.loss,
            "classes": [
                {"name": name, "count": int(n), "precision": p, "recall": r, "f1": f}
                for name, n, p, r, f in zip(
                    self.names,
                    self.count,
                    self.precision.tolist(),
                    self.recall.tolist(),
                    self.f1.tolist(),
                    strict=True,
                )
            ],
            "confusion": self.confusion.tolist(),
            "mistakes": [vars(mistake) for mistake in self.mistakes],
        }

    def text(self, mistakes: int = 5) -> str:
        """The accuracy, the table of classes, the confusion and the worst mistakes, as text.

        Args:
            mistakes: how many mistakes are listed at most.
        """
        from striate.train.tables import evaluation_text

        return evaluation_text(self, mistakes)

    def __repr__(self) -> str:
        return (
            f"Evaluation({self.samples:,} samples, accuracy {100 * self.accuracy:.2f} %, "
            f"loss {self.loss:.4f}, {len(self.mistakes)} mistakes)"
        )


def _share(part: Int64, whole: Int64) -> Float64:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def evaluate(
    net: Module,
    data: Any,
    batch_size: int = 256,
    *,
    names: Sequence[str] | None = None,
    backend: str | None = None,
) -> Evaluation:
    """Classify a data set and count: `accuracy = Σ[argmax_k z[n, k] = t[n]] / N`.

    Args:
        net: a network with class scores (n, classes) as output.
        data: a data set, or a pair of images (n, c, h, w) float32 and labels (n,) integers.
        batch_size: how many samples run at once; it changes speed and memory only.
        names: the classes' names; by default the data set's `classes`, else their numbers.
        backend: "native" or "reference"; None takes the default.
    Returns:
        The counts; ties between scores go to the lowest class.
    Raises:
        DataError: the data is empty, has NaN, or labels that the network has no output for.
        ShapeError: the images do not fit the network.
        ModelError: the network's outputs are not finite.
    """
    samples = as_samples(data, "evaluate")
    if batch_size < 1:
        raise OptionError(f"evaluate: expected batch_size of at least 1; got {batch_size}.")
    predictor = Predictor(net, samples.shape, backend)
    samples = fit_to_output(samples, predictor.output, as_loss("cross_entropy"), "evaluate")
    classes = predictor.output[0]
    log_p = np.concatenate(
        [log_softmax(scores) for scores, _ in predictor.batches(samples, batch_size)]
    )
    return _evaluation(log_p, samples.targets, _names(data, names, classes))


def _names(data: Any, names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    given = getattr(data, "classes", None) if names is None else names
    if given is None or len(given) != classes:
        return tuple(map(str, range(classes)))
    return tuple(map(str, given))


def _evaluation(log_p: Float64, labels: Int64, names: tuple[str, ...]) -> Evaluation:
    classes, rows = len(names), np.arange(len(labels))
    predicted = log_p.argmax(axis=1)
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    right = log_p[rows, labels]
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(right[wrong], kind="stable")]
    mistakes = tuple(
        Mistake(
            index=int(i),
            label=int(labels[i]),
            predicted=int(predicted[i]),
            probability=float(np.exp(log_p[i, predicted[i]])),
            label_probability=float(np.exp(right[i])),
        )
        for i in wrong
    )
    ranks = class_ranks(log_p, labels)
    loss = float(-right.mean())
    return Evaluation(flat.reshape(classes, classes), loss, mistakes, names, ranks)


def class_ranks(scores: NDArray[Any], labels: NDArray[Any]) -> Int64:
    """How many classes come before the right one, (n,): 0 where it has the highest score.

    >>> class_ranks(np.array([[0.1, 0.7, 0.2]]), np.array([2])).tolist()
    [1]
    """
    right = np.take_along_axis(scores, labels[:, np.newaxis], axis=1)
    ties = (scores == right) & (np.arange(scores.shape[1]) < labels[:, np.newaxis])
    return np.asarray(((scores > right) | ties).sum(axis=1), np.int64)
