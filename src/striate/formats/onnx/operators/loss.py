"""Losses of class scores, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.formats.onnx.lowering import Call
from striate.formats.onnx.operators.normalization import along
from striate.formats.onnx.operators.reduction import reduced
from striate.formats.onnx.operators.structure import permute
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import BOOL, Array, Value
from striate.formula.expression import Var
from striate.formula.operations import find_operation
from striate.settings import next_generator

_X, _T = Var("x"), Var("t")
_NO_LABEL = -(2**20)  # stands for "no label is ignored"


@operator("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood(c: Call) -> Value:
    return _loss(c, "nll_loss", {})


@operator("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy(c: Call) -> list[Value]:
    found = [_loss(c, "weighted_cross_entropy", {"label_smoothing": 0.0})]
    return [*found, along(c, "log_softmax", c.value(0), 1)] if c.wants(1) else found


def _loss(c: Call, op: str, more: dict[str, Any]) -> Value:
    """The loss of every place, reduced; places become samples, so that each has a loss."""
    x, labels, weight = c.value(0), c.value(1).array, c.maybe(2)
    how, ignored = c.attribute("reduction", "mean"), c.attribute("ignore_index", _NO_LABEL)
    if how not in ("none", "mean", "sum"):
        c.refuse(f"reduction expected none, mean or sum; got {how!r}")
    if x.rank < 2 or labels.shape != (x.shape[0], *x.shape[2:]):
        c.refuse(f"expected x (n, classes, …) and labels (n, …); got {x.shape}, {labels.shape}")
    wrong = (labels != ignored) & ((labels < 0) | (labels >= x.shape[1]))
    if wrong.any():
        c.refuse(f"expected labels from 0 to {x.shape[1] - 1}; got {int(labels[wrong][0])}")
    rows = permute(c, x, (0, *range(2, x.rank), 1))
    rows = c.reshape(rows, (labels.size, x.shape[1]))
    flat = labels.reshape(-1)
    weights = None if weight is None else [float(k) for k in weight.array]
    settings = {"weight": weights, "ignore_index": int(ignored), **more}
    every = c.apply(op, [rows, Value.of(flat)], settings, whole=False)
    if how == "none":
        return c.reshape(every, labels.shape)
    total = 1.0
    if how == "mean":
        total = float(_shares(op, settings, x.shape[1], flat).sum())
    return reduced(c, every, [0], "sum", _X, _T / total, keep=False)


def _shares(op: str, settings: dict[str, Any], classes: int, labels: Array) -> Array:
    """What each label weighs in a mean."""
    operation: Any = find_operation(op)
    found: Array = operation.shares(settings, (classes,), labels)
    return found


@operator("Dropout")
def dropout(c: Call) -> list[Value]:
    """In training some numbers become 0; with a seed, those that ONNX's text draws by NumPy."""
    x, seed = c.value(0), c.attribute("seed")
    given, mode = c.maybe(1), c.maybe(2)
    ratio = float(c.attribute("ratio", 0.5))
    c.attribute("is_test", 0)
    c.attribute("consumed_inputs")
    if given is not None:
        ratio = float(given.array.ravel()[0])
    if not 0 <= ratio < 1:
        c.refuse(f"ratio expected from 0 to below 1; got {ratio:g}")
    if c.lowering.symbolic:
        if c.lowering.training and ratio:
            x = c.apply("dropout", [x], {"p": ratio, "site": 0}, whole=c.form(x, [])[0])
        return [x]
    if mode is None or not bool(mode.array.ravel()[0]) or not ratio:
        return [x, c.given(np.ones(x.shape), BOOL)] if c.wants(1) else [x]
    if seed is None:
        drawn = next_generator().random(x.shape)
    else:
        drawn = np.random.RandomState(int(seed)).uniform(0, 1, x.shape)
    kept = Value.of(drawn >= ratio)
    return [c.map(lambda a, b: a * b / (1 - ratio), x, kept), kept]
