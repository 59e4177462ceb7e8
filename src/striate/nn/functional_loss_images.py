"""Losses in `striate.nn.functional` of regions, images, features and sequences without alignment.

`total_variation` and `gram_matrix` have no target; they may also stand inside a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.ctc import best_path
from striate.nn.apply import T, apply
from striate.nn.execution import as_batch
from striate.nn.functional_loss import (
    by_sample,
    check_reduction,
    class_numbers,
    loss_operation,
    no_symbols,
    reduced,
    require_same_count,
)
from striate.nn.functional_loss_scalar import mse_loss, require_probabilities
from striate.nn.parameter import Array, as_float32


def dice_loss(
    input: Array,
    target: Array,
    smooth: float = 1.0,
    per_class: bool = True,
    activation: str = "none",
    reduction: str = "mean",
) -> Any:
    """`1 − (2·Σ p·t + smooth)/(Σ p + Σ t + smooth)`: how little two regions overlap.

    Args:
        input: (n, classes, …), probabilities, or what `activation` makes them of.
        target: the same shape, from 0 to 1; or (n, …), class numbers.
        smooth: keeps empty regions from dividing by 0.
        per_class: sum over the places of each class, then take the classes' mean; else sum over
            everything.
        activation: "none", "sigmoid" or "softmax" over the classes.
        reduction: "mean" and "sum" are over the samples; "none" gives (n,).
    Source: Milletari et al., V-Net, arXiv:1606.04797.

    >>> right = np.array([[[[1.0, 0.0]]]])
    >>> float(dice_loss(right, right))
    0.0
    """
    return overlap_value("dice_loss", input, target, dice(smooth, per_class, activation), reduction)


def dice(smooth: float, per_class: bool, activation: str) -> dict[str, Any]:
    """Dice as a Tversky loss: alpha = beta = ½, and half the smoothing."""
    return tversky(0.5, 0.5, smooth / 2, per_class, activation)


def tversky(
    alpha: float, beta: float, smooth: float, per_class: bool, activation: str
) -> dict[str, Any]:
    """The attributes of an overlap loss, but for `labels`."""
    return {
        "alpha": float(alpha),
        "beta": float(beta),
        "smooth": float(smooth),
        "per_class": bool(per_class),
        "activation": activation,
    }


def jaccard_loss(
    input: Array,
    target: Array,
    smooth: float = 1.0,
    per_class: bool = True,
    activation: str = "none",
    reduction: str = "mean",
) -> Any:
    """`1 − (Σ p·t + smooth)/(Σ p + Σ t − Σ p·t + smooth)`, intersection over union.

    The arguments are those of `dice_loss`.
    """
    attributes = tversky(1.0, 1.0, smooth, per_class, activation)
    return overlap_value("jaccard_loss", input, target, attributes, reduction)


def tversky_loss(
    input: Array,
    target: Array,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    per_class: bool = True,
    activation: str = "none",
    reduction: str = "mean",
) -> Any:
    """`1 − (TP + smooth)/(TP + alpha·FP + beta·FN + smooth)`; the rest as for `dice_loss`.

    Args:
        alpha: what a false positive counts.
        beta: what a false negative counts.
    Source: Salehi et al., arXiv:1706.05721.
    """
    attributes = tversky(alpha, beta, smooth, per_class, activation)
    return overlap_value("tversky_loss", input, target, attributes, reduction)


def overlap_attributes(
    attributes: Mapping[str, Any], prediction: tuple[int, ...], target: Array
) -> dict[str, Any]:
    """With `labels` as the target shows: whole numbers, and one axis less than the prediction."""
    labels = target.dtype.kind in "iu" and target.shape[1:] == prediction[1:]
    return {**attributes, "labels": labels}


def overlap_value(
    where: str, input: Any, target: Any, attributes: Mapping[str, Any], reduction: str
) -> Any:
    """An overlap loss on arrays; whether targets are class numbers is seen from them."""
    no_symbols(where, input, target)
    check_reduction(where, reduction)
    x, t = as_batch(input, where), np.asarray(target)
    settings = overlap_attributes(attributes, x.shape[1:], t)
    operation = loss_operation("overlap_loss")
    if not settings["labels"]:
        t = as_batch(target, where)
    require_same_count(where, x, t)
    operation.shape(settings, [x.shape[1:], t.shape[1:]])
    if settings["activation"] == "none":
        require_probabilities(where, "input", x)
    return reduced(where, operation.reference(settings, [x, t]), reduction)


def total_variation(input: T, power: int = 1) -> T:
    """`Σ |x[i+1,j] − x[i,j]|^p + Σ |x[i,j+1] − x[i,j]|^p` of each image: its roughness.

    Args:
        input: (n, channels, h, w).
        power: p, 1 or 2.
    Returns:
        (n,).
    Source: Rudin, Osher & Fatemi (1992), in the anisotropic form.

    >>> float(total_variation(np.array([[[[0.0, 1.0], [0.0, 3.0]]]]))[0])
    6.0
    """
    return cast(T, apply("total_variation", (input,), {"power": power}))


def gram_matrix(input: T) -> T:
    """`y[n,a,b] = Σ_{i,j} x[n,a,i,j]·x[n,b,i,j] / (C·H·W)`: which channels are active together.

    Args:
        input: (n, C, H, W), features.
    Returns:
        (n, C, C).
    Source: Gatys et al., Image Style Transfer Using Convolutional Neural Networks (2016).

    >>> gram_matrix(np.ones((1, 2, 3, 3)))[0]
    array([[0.5, 0.5],
           [0.5, 0.5]], dtype=float32)
    """
    return cast(T, apply("gram_matrix", (input,), {}))


def content_loss(input: Array, target: Array, reduction: str = "mean") -> Any:
    """`(x − t)²` of features: the content loss of style transfer, `mse_loss` by its name there.

    Source: Gatys et al. (2016), with the mean in place of half the sum.
    """
    return mse_loss(input, target, reduction=reduction)


def style_loss(input: Array, target: Array, reduction: str = "mean") -> Any:
    """The mean of `(G[a,b] − t[a,b])²` with G the Gram matrix of features.

    Args:
        input: (n, C, H, W), features.
        target: (n, C, C), the Gram matrix wanted; or (n, C, H, W), features that have it.
        reduction: "mean" and "sum" are over the samples; "none" gives (n,).
    """
    where = "style_loss"
    no_symbols(where, input, target)
    x, t = as_batch(input, where), as_batch(target, where)
    require_same_count(where, x, t)
    grams = gram_matrix(t) if t.ndim == x.ndim and t.shape[1:2] == x.shape[1:2] else t
    if t.ndim == 3 and t.shape[1:] == (x.shape[1],) * 2:
        grams = t
    return by_sample(where, x, grams, {}, reduction)


# ---- sequences -------------------------------------------------------------------------------


def ctc_loss(
    log_probs: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """`−ln Σ_paths Π_t p[t, path_t]` over the paths that spell the target: no alignment needed.

    Args:
        log_probs: (time, n, classes), logarithms of probabilities; torch's order of axes.
        targets: (n, length) class numbers without the blank; or all of them in one row.
        input_lengths: (n,), time steps of each sample.
        target_lengths: (n,), class numbers of each target.
        blank: the class that stands for none.
        reduction: "mean" divides each loss by its target's length first; "sum"; "none" gives (n,).
        zero_infinity: whether a target that no path can spell has the loss 0.
    Raises:
        DataError: a target or a length is out of range.
    Source: Graves et al., Connectionist Temporal Classification (ICML 2006).

    >>> quarter = np.log(np.full((2, 1, 4), 0.25))
    >>> round(float(ctc_loss(quarter, [[1]], [2], [1])), 4)  # 1 1, 1 _, _ 1: three paths of 16
    1.674
    """
    where = "ctc_loss"
    no_symbols(where, log_probs, targets)
    check_reduction(where, reduction)
    x = as_float32(log_probs, where)
    if x.ndim != 3:
        raise ShapeError(f"{where}: expected log_probs (time, n, classes); got shape={x.shape}.")
    lengths = [_lengths(where, k, x.shape[1]) for k in (input_lengths, target_lengths)]
    padded = _padded(where, class_numbers(where, targets), lengths[1])
    attributes = {
        "blank": blank,
        "zero_infinity": bool(zero_infinity),
        "mean": reduction == "mean",
        "length": padded.shape[1],
    }
    operation = loss_operation("ctc_loss")
    operation.shape(attributes, [(x.shape[0], x.shape[2]), padded.shape[1:]])
    rows = x.astype(np.float64).transpose(1, 0, 2)
    return reduced(where, operation.reference(attributes, [rows, padded, *lengths]), reduction)


def _lengths(where: str, given: Any, count: int) -> Array:
    lengths = np.asarray(given)
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu":
        raise OptionError(
            f"{where}: expected lengths ({count},) of whole numbers, one a sample; got "
            f"shape={lengths.shape}, dtype={lengths.dtype}."
        )
    return lengths.astype(np.int64)


def _padded(where: str, targets: Array, lengths: Array) -> Array:
    """Targets as (n, longest); those in one row are cut into pieces first. −1 fills up."""
    if targets.ndim == 2 and len(targets) == len(lengths):
        return targets.astype(np.int64)
    if targets.ndim != 1 or lengths.sum() != targets.size or (lengths < 0).any():
        raise ShapeError(
            f"{where}: expected targets ({len(lengths)}, length), or {lengths.sum()} of them in "
            f"one row, as the lengths say; got shape={targets.shape}."
        )
    found = np.full((len(lengths), int(lengths.max(initial=0))), -1, np.int64)
    found[np.arange(found.shape[1]) < lengths[:, None]] = targets
    return found


def ctc_decode(
    log_probs: Array, blank: int = 0, input_lengths: Array | None = None
) -> list[list[int]]:
    """The class numbers that the most probable path spells: repeats merged, blanks taken out.

    Args:
        log_probs: (time, n, classes), as for `ctc_loss`; any scores will do.
        blank: the class that stands for none.
        input_lengths: (n,), time steps of each sample; all by default.
    Returns:
        For each sample a list of class numbers.

    >>> ctc_decode(np.log([[[0.1, 0.9]], [[0.2, 0.8]], [[0.9, 0.1]], [[0.3, 0.7]]]))
    [[1, 1]]
    """
    x = as_float32(log_probs, "ctc_decode")
    if x.ndim != 3:
        raise ShapeError(f"ctc_decode: expected log_probs (time, n, classes); got shape={x.shape}.")
    return best_path(x.transpose(1, 0, 2), blank, input_lengths)
