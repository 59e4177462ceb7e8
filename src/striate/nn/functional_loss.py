"""Losses in `striate.nn.functional`: of classes, and what all losses share.

A loss takes arrays and gives a number (or one for each element, with `reduction="none"`),
computed in float64 and rounded to float32. It is no part of a network: `fit(loss=…)` takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, ShapeError
from striate.formula.loss import Loss
from striate.formula.operations import find_operation
from striate.nn.arguments import unsupported
from striate.nn.execution import as_batch
from striate.nn.parameter import Array, as_float32
from striate.nn.trace import find_tracer
from striate.nn.untraceable import untraceable

Float64 = NDArray[np.float64]
Weights = Array | Sequence[float] | None  # (classes,)
REDUCTIONS = ("mean", "sum", "none")


# ---- what all losses share -------------------------------------------------------------------


def check_reduction(where: str, reduction: Any, known: tuple[str, ...] = REDUCTIONS) -> str:
    """One of the reductions that the loss knows."""
    if reduction not in known:
        listed = f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
        raise OptionError(f"{where}: expected reduction {listed}; got reduction={reduction!r}.")
    return str(reduction)


def reduced(where: str, losses: Float64, reduction: str, shares: Float64 | None = None) -> Any:
    """The losses as they are, their sum, or their mean (`Σ losses / Σ shares`), in float32."""
    if check_reduction(where, reduction) == "none":
        return losses.astype(np.float32)
    total = losses.sum(dtype=np.float64)
    if reduction == "sum":
        return np.float32(total)
    count = losses.size if shares is None else shares.sum()
    return np.float32(total / count if count else np.nan)


def old_options(where: str, size_average: Any, reduce: Any) -> None:
    """Refuse what `reduction` has replaced."""
    unsupported(where, "size_average", size_average, "Write reduction='mean' or 'sum'.")
    unsupported(where, "reduce", reduce, "Write reduction='none'.")


def no_symbols(where: str, *values: Any) -> None:
    """Refuse the tensors of a network being traced."""
    if find_tracer(*values) is not None:
        raise untraceable(
            f"{where} is a loss, and a network gives its prediction",
            "Return the prediction from forward, and give the loss to striate.fit(loss=...).",
        )


def loss_operation(op: str) -> Loss:
    """A loss operation by its name."""
    operation = find_operation(op)
    if not isinstance(operation, Loss):
        raise OptionError(f"loss: expected a loss operation; got {op!r}.")
    return operation


def weight_list(weight: Any, where: str) -> list[float] | None:
    """Class weights as an attribute: a list of numbers of at least 0.

    Raises:
        ShapeError: they are no row.
        OptionError: one is negative or not finite.
    """
    if weight is None:
        return None
    array = as_float32(weight, where)
    if array.ndim != 1:
        raise ShapeError(
            f"{where}: expected weight (classes,), one number a class; got shape={array.shape}."
        )
    if not (np.isfinite(array) & (array >= 0)).all():
        raise OptionError(f"{where}: expected weights of at least 0; got weight={weight!r}.")
    return [float(k) for k in array]


def class_numbers(where: str, target: Any) -> NDArray[Any]:
    """Targets that must be whole numbers."""
    labels = np.asarray(target)
    if labels.dtype.kind not in "iu":
        raise OptionError(
            f"{where}: expected target (n,) of whole numbers, one class a sample (or (n, …), one a "
            f"place); got shape={labels.shape}, dtype={labels.dtype}."
        )
    return labels


def require_same_count(where: str, *arrays: Array) -> None:
    """Refuse arrays that disagree in their number of samples."""
    if len({len(a) for a in arrays}) > 1:
        listed = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(
            f"{where}: expected arrays with the same number of samples; got shapes {listed}."
        )


def by_place(
    op: str, input: Array, labels: NDArray[Any], attributes: Mapping[str, Any]
) -> tuple[Float64, Float64]:
    """Loss and share of every place that has a label: both (n, …), as the labels.

    The places become samples of their own, since an operation gives one number a sample.
    """
    where, operation = op, loss_operation(op)
    scores = as_batch(input, where).astype(np.float64)
    if labels.ndim == 0:
        raise ShapeError(f"{where}: expected target (n,), one class a sample; got shape=().")
    require_same_count(where, scores, labels)
    operation.shape(attributes, [scores.shape[1:], labels.shape[1:]])
    rows = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])
    flat = labels.reshape(-1)
    losses = operation.reference(attributes, [rows, flat])
    shares = operation.shares(attributes, rows.shape[1:], flat)
    return losses.reshape(labels.shape), shares.reshape(labels.shape)


def by_sample(op: str, x: Array, t: Array, attributes: Mapping[str, Any], reduction: str) -> Any:
    """An operation's losses, one a sample, reduced; the operation is called as the function is."""
    require_same_count(op, x, t)
    operation = loss_operation(op)
    operation.shape(attributes, [x.shape[1:], t.shape[1:]])
    return reduced(op, operation.reference(attributes, [x, t]), reduction)


# ---- classes ---------------------------------------------------------------------------------


def cross_entropy(
    input: Array,
    target: Array,
    weight: Weights = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """`−w[t]·ln softmax(x)[n, t[n]]`, computed in float64 and rounded to float32.

    Args:
        input: (n, classes, …), logits.
        target: (n, …), whole numbers from 0 to classes − 1; or floats of the input's shape, the
            probabilities of the classes.
        weight: (classes,), what each class counts.
        ignore_index: the label of places that count for nothing.
        reduction: "mean" (over the weights of the labels), "sum" or "none".
        label_smoothing: the share of the target that is spread over all classes.
    Returns:
        A float32 number, or (n, …) with "none".
    Raises:
        DataError: a label out of range.

    >>> round(float(cross_entropy(np.zeros((2, 10)), np.array([3, 4]))), 4)
    2.3026
    """
    where = "cross_entropy"
    no_symbols(where, input, target)
    old_options(where, size_average, reduce)
    labels = np.asarray(target)
    settings = {"weight": weight_list(weight, where), "label_smoothing": float(label_smoothing)}
    if labels.dtype.kind == "f" and labels.ndim > 1:
        return _soft(where, as_batch(input, where), labels, settings, reduction)
    labels = class_numbers(where, target)
    plain = not label_smoothing and weight is None and ignore_index == -100
    if plain and labels.ndim == 1 and np.ndim(input) == 2 and not (labels == ignore_index).any():
        losses, shares = by_place(where, input, labels, {})
    else:
        settings["ignore_index"] = ignore_index
        losses, shares = by_place("weighted_cross_entropy", input, labels, settings)
    return reduced(where, losses, reduction, shares)


def _soft(
    where: str, input: Array, target: Array, settings: Mapping[str, Any], reduction: str
) -> Any:
    """Cross-entropy against probabilities; its mean is over the places, whatever the weights."""
    if input.shape != target.shape:
        raise ShapeError(
            f"{where}: expected target (n, …) of whole numbers, or probabilities of the input's "
            f"shape {input.shape}; got shape={target.shape}, dtype={target.dtype}."
        )
    rows = [np.moveaxis(a.astype(np.float64), 1, -1) for a in (input, target)]
    flat = [a.reshape(-1, input.shape[1]) for a in rows]
    losses = loss_operation("soft_cross_entropy").reference(settings, flat)
    return reduced(where, losses.reshape(rows[0].shape[:-1]), reduction)


def nll_loss(
    input: Array,
    target: Array,
    weight: Weights = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`−w[t]·x[n, t[n]]` of logarithms of probabilities x.

    Args:
        input: (n, classes, …).
        target: (n, …), whole numbers from 0 to classes − 1.
        weight, ignore_index, reduction: as for `cross_entropy`.
    Returns:
        A float32 number, or (n, …) with "none".

    >>> float(nll_loss(np.array([[-1.0, -2.0]]), np.array([1])))
    2.0
    """
    where = "nll_loss"
    no_symbols(where, input, target)
    old_options(where, size_average, reduce)
    attributes = {"weight": weight_list(weight, where), "ignore_index": ignore_index}
    losses, shares = by_place(where, input, class_numbers(where, target), attributes)
    return reduced(where, losses, reduction, shares)


def focal_cross_entropy(
    input: Array,
    target: Array,
    weight: Weights = None,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """`−w[t]·(1 − p)^γ·ln p` with p = softmax(x)[n, t[n]]: sure predictions count for less.

    Args:
        input: (n, classes, …), logits.
        target: (n, …), whole numbers from 0 to classes − 1.
        weight: (classes,), the paper's α for each class.
        gamma: how much less; 0 is cross-entropy.
        ignore_index: the label of places that count for nothing.
        reduction: "mean" (over the places that count), "sum" or "none".
    Source: Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.

    >>> round(float(focal_cross_entropy(np.zeros((1, 2)), np.array([0]))), 4)
    0.1733
    """
    where = "focal_cross_entropy"
    no_symbols(where, input, target)
    attributes = {
        "weight": weight_list(weight, where),
        "ignore_index": ignore_index,
        "gamma": float(gamma),
    }
    losses, shares = by_place(where, input, class_numbers(where, target), attributes)
    return reduced(where, losses, reduction, shares)


def multi_margin_loss(
    input: Array,
    target: Array,
    p: int = 1,
    margin: float = 1.0,
    weight: Weights = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`w[t]·Σ_{c≠t} max(0, margin − x[n,t] + x[n,c])^p / classes`: a multi-class SVM.

    Args:
        input: (n, classes), scores.
        target: (n,), whole numbers from 0 to classes − 1.
        p: 1 or 2.
        weight: (classes,), what each class counts; the mean is over the samples all the same.
    Returns:
        A float32 number, or (n,) with "none".

    >>> float(multi_margin_loss(np.array([[1.0, 0.5]]), np.array([0])))
    0.25
    """
    where = "multi_margin_loss"
    no_symbols(where, input, target)
    old_options(where, size_average, reduce)
    attributes = {"p": p, "margin": float(margin), "weight": weight_list(weight, where)}
    losses, _ = by_place(where, input, class_numbers(where, target), attributes)
    return reduced(where, losses, reduction)


def deep_supervision_loss(
    input: Array,
    target: Array,
    weights: Sequence[float] = (1.0, 0.3, 0.3),
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Any:
    """`Σ_h w[h]·cross_entropy(x[:, :, h], t)`: heads that all have to know the label.

    Args:
        input: (n, classes, heads), logits; (n, classes) are those of the first head.
        target: (n,), whole numbers from 0 to classes − 1.
        weights: what each head counts for.
        label_smoothing: the share of the target that is spread over all classes.
        reduction: "mean" over the samples, "sum" or "none".
    Returns:
        A float32 number, or (n,) with "none".

    >>> round(float(deep_supervision_loss(np.zeros((1, 10, 2)), np.array([3]), (1, 0.5))), 4)
    3.4539
    """
    where = "deep_supervision_loss"
    no_symbols(where, input, target)
    x, t = as_batch(input, where).astype(np.float64), class_numbers(where, target)
    settings = {"weights": [float(k) for k in weights], "label_smoothing": float(label_smoothing)}
    return by_sample(where, x, t, settings, reduction)
