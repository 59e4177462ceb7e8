"""Losses in `striate.nn.functional` that compare descriptions with each other.

With `reduction="none"` they may also stand inside a network.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.nn.apply import apply
from striate.nn.execution import as_batch
from striate.nn.functional_loss import check_reduction, old_options, reduced
from striate.nn.functional_loss_scalar import require_signs
from striate.nn.trace import find_tracer


def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`1 − cos(x, y)` where t is 1, `max(0, cos(x, y) − margin)` where it is −1.

    Args:
        input1, input2: (n, features).
        target: (n,), 1 or −1.
        margin: from −1 to 1.
        reduction: "mean" and "sum" are over the samples; "none" gives (n,).

    >>> float(cosine_embedding_loss([[1.0, 0.0]], [[0.0, 2.0]], [1.0]))
    1.0
    """
    where = "cosine_embedding_loss"
    old_options(where, size_average, reduce)
    if find_tracer(target) is None:
        require_signs(where, as_batch(target, where))
    arrays, settings = (input1, input2, target), {"margin": float(margin)}
    return _paired(where, "cosine_embedding", arrays, settings, reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-06,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """`max(0, margin + d(anchor, positive) − d(anchor, negative))`, d being the p-norm.

    Args:
        anchor, positive, negative: (n, features).
        margin: by how much the negative should be farther.
        p: of the norm.
        eps: added to the differences, so that the norm has a slope at 0.
        swap: let the positive's distance to the negative count, where that is nearer.
        reduction: "mean" and "sum" are over the samples; "none" gives (n,).
    Source: Balntas et al. (BMVC 2016).

    >>> round(float(triplet_margin_loss([[0.0]], [[1.0]], [[1.5]])), 4)
    0.5
    """
    where = "triplet_margin_loss"
    old_options(where, size_average, reduce)
    settings = {"margin": float(margin), "p": float(p), "eps": float(eps), "swap": bool(swap)}
    return _paired(where, "triplet_margin", (anchor, positive, negative), settings, reduction)


def _paired(
    where: str, op: str, inputs: tuple[Any, ...], settings: dict[str, Any], reduction: str
) -> Any:
    check_reduction(where, reduction)
    if find_tracer(*inputs) is not None:
        if reduction != "none":
            raise OptionError(
                f"{where}: expected reduction='none' inside a network, one number a sample; got "
                f"reduction={reduction!r}."
            )
        return apply(op, inputs, settings)
    arrays = [as_batch(a, where) for a in inputs]
    if len({len(a) for a in arrays}) > 1:
        listed = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(
            f"{where}: expected arrays with the same number of samples; got shapes {listed}."
        )
    return reduced(where, np.asarray(apply(op, arrays, settings), np.float64), reduction)
