"""Losses in `striate.nn.functional` that compare numbers one by one: regression, binary classes.

Each is an expression of x and t (`formula.loss_scalar`); arrays and reductions are handled once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from striate.errors import DataError, OptionError, ShapeError
from striate.formula import loss_scalar as losses
from striate.formula.expression import Expr, Operand, Var, evaluate, trace_scalar, variables
from striate.nn.arguments import plain_loss
from striate.nn.execution import as_batch
from striate.nn.functional_loss import (
    Float64,
    check_reduction,
    no_symbols,
    old_options,
    reduced,
)
from striate.nn.parameter import Array, as_float32


def scalar_value(
    where: str,
    expr: Expr,
    input: Any,
    target: Any,
    reduction: str,
    constants: Mapping[str, Any] | None = None,
) -> Any:
    """The loss of an expression of x, t and constants that broadcast to them."""
    return reduced(where, each(where, expr, input, target, constants), reduction)


def each(
    where: str, expr: Expr, input: Any, target: Any, constants: Mapping[str, Any] | None = None
) -> Float64:
    """The expression on every element, in float64."""
    no_symbols(where, input, target)
    x, t = as_batch(input, where), as_batch(target, where)
    if x.shape != t.shape:
        raise ShapeError(
            f"{where}: expected input and target of one shape; got {x.shape} and {t.shape}."
        )
    values: dict[str, Any] = {"x": x.astype(np.float64), "t": t.astype(np.float64)}
    for name, given in (constants or {}).items():
        values[name] = _fitting(where, name, given, x.shape).astype(np.float64)
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(evaluate(expr, values), np.float64), x.shape)


def _fitting(where: str, name: str, given: Any, shape: tuple[int, ...]) -> Array:
    array = as_float32(given, where)
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        raise ShapeError(
            f"{where}: expected {name} of a shape that broadcasts to the input's, {shape}; got "
            f"shape={array.shape}."
        ) from None
    return array


def loss_expression(function: Callable[..., Operand] | Expr, where: str) -> Expr:
    """The expression of a user's loss: a function of (x, t), or an expression of x and t.

    Raises:
        OptionError: it is neither, or does what scalars cannot.
    """
    if isinstance(function, Expr):
        unknown = [name for name in variables(function) if name not in ("x", "t")]
        if unknown:
            raise OptionError(f"{where}: expected an expression of x and t; got {function}.")
        return function
    try:
        return trace_scalar(function, ("x", "t"))
    except (TypeError, ValueError, AttributeError) as error:
        raise OptionError(
            f"{where}: expected a function of two scalars, prediction and target, made of "
            f"+ - * / ** abs and the functions of striate.nn.scalar; got {error}."
        ) from None


# ---- regression ------------------------------------------------------------------------------


def scalar_loss(
    function: Callable[..., Operand] | Expr, input: Array, target: Array, reduction: str = "mean"
) -> Any:
    """Your own loss, a formula of a prediction x and a target t: the mean of `f(x, t)`.

    Args:
        function: of two scalars, written with + - * / ** abs and `striate.nn.scalar`.
        input, target: (n, …), of one shape.
        reduction: "mean" and "sum" are over every element; "none" gives (n, …).

    >>> from striate.nn import scalar
    >>> float(scalar_loss(lambda x, t: scalar.log(1 + (x - t) ** 2), [[1.0]], [[1.0]]))
    0.0
    """
    where = "scalar_loss"
    return scalar_value(where, loss_expression(function, where), input, target, reduction)


def mse_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Any:
    """`(x − t)²`, computed in float64 and rounded to float32.

    Args:
        input: (n, …).
        target: the same shape.
        reduction: "mean" and "sum" are over every element; "none" gives (n, …).
    Returns:
        A float32 number, or (n, …) with "none".

    >>> float(mse_loss(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])))
    2.0
    """
    plain_loss("mse_loss", "element", weight, size_average, reduce)
    return scalar_value("mse_loss", losses.squared_error(), input, target, reduction)


def l1_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Array | None = None,
) -> Any:
    """`|x − t|`; arguments and result as for `mse_loss`.

    >>> float(l1_loss(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]])))
    1.0
    """
    plain_loss("l1_loss", "element", weight, size_average, reduce)
    return scalar_value("l1_loss", losses.absolute_error(), input, target, reduction)


def smooth_l1_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Any:
    """`½(x − t)²/β` where |x − t| < β, else `|x − t| − β/2`; the rest as for `mse_loss`.

    >>> smooth_l1_loss(np.array([[0.5, 3.0]]), np.zeros((1, 2)), reduction="none")
    array([[0.125, 2.5  ]], dtype=float32)
    """
    where = "smooth_l1_loss"
    old_options(where, size_average, reduce)
    expr = losses.smooth_l1(at_least(where, "beta", beta))
    return scalar_value(where, expr, input, target, reduction)


def huber_loss(
    input: Array,
    target: Array,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Array | None = None,
) -> Any:
    """`½(x − t)²` where |x − t| ≤ δ, else `δ(|x − t| − δ/2)`; the rest as for `mse_loss`.

    >>> huber_loss(np.array([[0.5, 3.0]]), np.zeros((1, 2)), reduction="none")
    array([[0.125, 2.5  ]], dtype=float32)
    """
    plain_loss("huber_loss", "element", weight, None, None)
    expr = losses.huber(at_least("huber_loss", "delta", delta, strictly=True))
    return scalar_value("huber_loss", expr, input, target, reduction)


def at_least(
    where: str, name: str, value: Any, least: float = 0.0, strictly: bool = False
) -> float:
    """A number that is at least (or above) a limit."""
    number = float(value)
    if not (number > least or (number == least and not strictly)):
        word = "above" if strictly else "of at least"
        raise OptionError(f"{where}: expected {name} {word} {least:g}; got {name}={value!r}.")
    return number


def poisson_nll_loss(
    input: Array,
    target: Array,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-08,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`e^x − t·x`, for counts t of which x is the logarithm of the rate.

    Args:
        input, target: (n, …), of one shape.
        log_input: whether x is the logarithm; else the loss is `x − t·ln(x + eps)`.
        full: add Stirling's `t·ln t − t + ½·ln(2πt)` where t > 1.
    """
    old_options("poisson_nll_loss", size_average, reduce)
    expr = losses.poisson_nll(log_input, full, eps)
    return scalar_value("poisson_nll_loss", expr, input, target, reduction)


def kl_div(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """`t·(ln t − x)`: how far the distribution of logarithms x is from t.

    Args:
        input: (n, …), logarithms of probabilities.
        target: the same shape: probabilities, or their logarithms with `log_target`.
        reduction: "batchmean" is the sum divided by n, which is the divergence; "mean" and "sum"
            are over every element; "none" gives (n, …).
    """
    where = "kl_div"
    old_options(where, size_average, reduce)
    check_reduction(where, reduction, KL_REDUCTIONS)
    expr = losses.kl_divergence(log_target)
    if reduction != "batchmean":
        return scalar_value(where, expr, input, target, reduction)
    found = each(where, expr, input, target)
    return np.float32(found.sum() / len(found) if len(found) else np.nan)


KL_REDUCTIONS = ("mean", "batchmean", "sum", "none")


# ---- two classes -----------------------------------------------------------------------------


def binary_cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`−(t·ln x + (1 − t)·ln(1 − x))`, logarithms not below −100.

    Args:
        input: (n, …), probabilities.
        target: the same shape, from 0 to 1.
        weight: what each element counts, of a shape that broadcasts.
        reduction: "mean" and "sum" are over every element; "none" gives (n, …).
    Raises:
        DataError: the input is not from 0 to 1.

    >>> round(float(binary_cross_entropy([[0.5]], [[1.0]])), 4)
    0.6931
    """
    where = "binary_cross_entropy"
    old_options(where, size_average, reduce)
    no_symbols(where, input, target)
    require_probabilities(where, "input", as_batch(input, where))
    expr, constants = weighted(losses.binary_cross_entropy(), weight)
    return scalar_value(where, expr, input, target, reduction, constants)


def require_probabilities(where: str, what: str, array: Array) -> None:
    """Refuse numbers that are not from 0 to 1."""
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        raise DataError(
            f"{where}: expected {what} from 0 to 1; got {array[wrong].flat[0]:g}. Put a sigmoid "
            "before it, or use binary_cross_entropy_with_logits."
        )


def weighted(expr: Expr, weight: Any) -> tuple[Expr, dict[str, Any]]:
    """The expression times `w`, where there is a weight."""
    return (expr, {}) if weight is None else (Var("w") * expr, {"w": weight})


def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Any:
    """`−(p·t·ln σ(x) + (1 − t)·ln(1 − σ(x)))`, exact for large x too.

    Args:
        input: (n, …), logits.
        target: the same shape, from 0 to 1.
        weight: what each element counts, of a shape that broadcasts.
        pos_weight: p, what a positive counts, of a shape that broadcasts: one for each class.
        reduction: "mean" and "sum" are over every element; "none" gives (n, …).

    >>> round(float(binary_cross_entropy_with_logits([[0.0]], [[1.0]])), 4)
    0.6931
    """
    where = "binary_cross_entropy_with_logits"
    old_options(where, size_average, reduce)
    expr, constants = logits_expression(weight, pos_weight)
    return scalar_value(where, expr, input, target, reduction, constants)


def logits_expression(weight: Any, pos_weight: Any) -> tuple[Expr, dict[str, Any]]:
    """Binary cross-entropy of logits with its weights."""
    positive = pos_weight is not None
    expr = losses.binary_cross_entropy_with_logits(positive)
    expr, constants = weighted(expr, weight)
    return expr, {**constants, **({"pos_weight": pos_weight} if positive else {})}


def sigmoid_focal_loss(
    input: Array, target: Array, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Any:
    """`−α_t·(1 − p_t)^γ·ln p_t`, p_t being the probability σ(x) gives to what is right.

    Args:
        input: (n, …), logits.
        target: the same shape, 0 or 1.
        alpha: what a positive counts, and 1 − alpha a negative; below 0 both count 1.
        gamma: how much less sure predictions count.
        reduction: "none" (as in torchvision) gives (n, …); "mean" and "sum" are over all.
    Source: Lin et al., Focal Loss for Dense Object Detection, arXiv:1708.02002.

    >>> round(float(sigmoid_focal_loss([[0.0]], [[1.0]], reduction="mean")), 4)
    0.0433
    """
    expr = losses.sigmoid_focal(alpha, gamma)
    return scalar_value("sigmoid_focal_loss", expr, input, target, reduction)


def soft_margin_loss(
    input: Array,
    target: Array,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`ln(1 + e^(−t·x))`, t being 1 or −1; shapes and reduction as for `mse_loss`.

    >>> round(float(soft_margin_loss([[0.0]], [[1.0]])), 4)
    0.6931
    """
    where = "soft_margin_loss"
    old_options(where, size_average, reduce)
    return scalar_value(where, losses.soft_margin(), input, target, reduction)


def multilabel_soft_margin_loss(
    input: Array,
    target: Array,
    weight: Array | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Binary cross-entropy of logits, its mean over the classes: several labels a sample.

    Args:
        input: (n, …, classes), logits.
        target: the same shape, 0 or 1.
        weight: (classes,).
        reduction: "none" gives (n, …), without the classes.
    """
    where = "multilabel_soft_margin_loss"
    old_options(where, size_average, reduce)
    expr, constants = weighted(losses.binary_cross_entropy_with_logits(), weight)
    found = each(where, expr, input, target, constants)
    if found.ndim < 2:
        raise ShapeError(f"{where}: expected input (n, classes); got {found.shape}.")
    return reduced(where, found.mean(axis=-1), reduction)


def hinge_embedding_loss(
    input: Array,
    target: Array,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`x` where t is 1, `max(0, margin − x)` where it is −1; x are distances.

    >>> hinge_embedding_loss([[0.3, 0.3]], [[1.0, -1.0]], reduction="none")
    array([[0.3, 0.7]], dtype=float32)
    """
    where = "hinge_embedding_loss"
    old_options(where, size_average, reduce)
    expr = losses.hinge_embedding(float(margin))
    require_signs(where, as_batch(target, where))
    return scalar_value(where, expr, input, target, reduction)


def hinge_loss(input: Array, target: Array, margin: float = 1.0, reduction: str = "mean") -> Any:
    """`max(0, margin − t·x)`, t being 1 or −1: a binary SVM. Not in torch.

    >>> hinge_loss([[0.3, 2.0]], [[1.0, 1.0]], reduction="none")
    array([[0.7, 0. ]], dtype=float32)
    """
    require_signs("hinge_loss", as_batch(target, "hinge_loss"))
    return scalar_value("hinge_loss", losses.hinge(float(margin)), input, target, reduction)


def require_signs(where: str, target: Array) -> None:
    """Refuse targets that are not 1 or −1."""
    wrong = np.abs(target) != 1
    if wrong.any():
        raise DataError(f"{where}: expected targets 1 or −1; got {target[wrong].flat[0]:g}.")
