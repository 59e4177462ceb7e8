"""Judging by held-out samples after each epoch: loss, accuracy, and what else was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.train.evaluate import class_ranks
from striate.train.losses import sample_losses, sample_shares
from striate.train.predict import Predictor
from striate.train.run import Record
from striate.train.samples import AnySamples

if TYPE_CHECKING:
    from striate.nn.module import Module
    from striate.train.plan import Plan

Metric = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""A function of outputs (n, …) and targets (n, …) with a number for each sample, (n,)."""

_BATCH = 256
_TOP = re.compile(r"top([1-9]\d*)")


def as_metrics(given: Mapping[str, Metric] | Iterable[str]) -> dict[str, Metric]:
    """Names of metrics ("top5"), or functions by name, as functions by name.

    Raises:
        OptionError: an unknown name, or no function.

    >>> scores, labels = np.array([[0.1, 0.7, 0.2]]), np.array([2])
    >>> as_metrics(["top2"])["top2"](scores, labels).tolist()
    [1.0]
    """
    named = given if isinstance(given, Mapping) else {str(name): None for name in given}
    found: dict[str, Metric] = {}
    for name, function in named.items():
        match = _TOP.fullmatch(name)
        if callable(function):
            found[name] = function
        elif function is None and match:
            found[name] = _top(int(match[1]))
        else:
            raise OptionError(
                f"metrics: expected names as 'top5', or functions by name; got {name!r}. Give a "
                "dict of functions of (outputs, targets)."
            )
    return found


def _top(k: int) -> Metric:
    def top(scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        return (class_ranks(scores, labels) < k).astype(np.float64)

    return top


class Judge:
    """Held-out samples and the network's forward program.

    Args:
        net: the network.
        held_out: the samples.
        plan: which loss, which metrics.
    """

    def __init__(self, net: Module, held_out: AnySamples, plan: Plan) -> None:
        self.samples, self.loss, self.metrics = held_out, plan.judge, plan.metrics
        self.predictor = Predictor(net, held_out.shape, plan.backend)
        self.classifies = self.loss.classifies(self.predictor.output)

    def record(
        self, parameters: Mapping[str, NDArray[np.float32]], check: Callable[[], None]
    ) -> Record:
        """Means over the samples with these parameters; `check` is called between batches."""
        total, right, whole, counted = 0.0, 0, 0.0, 0
        sums = dict.fromkeys(self.metrics, 0.0)
        for outputs, targets in self.predictor.batches(self.samples, _BATCH, parameters):
            check()
            total += float(sample_losses(outputs, targets, self.loss).sum())
            shares = sample_shares(outputs, targets, self.loss)
            whole, counted = whole + float(shares.sum()), counted + int((shares > 0).sum())
            if self.classifies:
                right += int(((outputs.argmax(axis=1) == targets) & (shares > 0)).sum())
            for name, metric in self.metrics.items():
                sums[name] += float(np.asarray(metric(outputs, targets), np.float64).sum())
        record = {"validation_loss": total / (whole or 1.0)}
        if self.classifies:
            record["validation_accuracy"] = right / (counted or 1)
        record |= {f"validation_{name}": sums[name] / len(self.samples) for name in sums}
        return record
