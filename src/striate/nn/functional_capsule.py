"""Capsules in `striate.nn.functional`: squash, and routing by agreement.

Source: Sabour, Frosst, Hinton, Dynamic routing between capsules, arXiv:1710.09829.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from striate.errors import ShapeError
from striate.nn.apply import T, Weight, sample_shape
from striate.nn.arguments import whole
from striate.nn.functional_activation_learned import softmax
from striate.nn.functional_arithmetic import add, einsum, mul, scalar
from striate.nn.functional_reduce import norm, sum_
from striate.nn.scalar import sqrt
from striate.nn.scalar import where as choose


def squash(input: T, dim: int = -1) -> T:
    """`v = |s|²/(1 + |s|²) · s/|s|` along an axis: the direction stays, the length is below 1.

    Args:
        input: (n, …), vectors along `dim`.

    >>> squash(np.array([[3.0, 4.0]])).round(4)
    array([[0.5769, 0.7692]], dtype=float32)
    """
    squared = sum_(mul(input, input), dim, True)
    # |s|²/(1 + |s|²)/|s| is |s|/(1 + |s|²): nothing is divided by a length that may be 0.
    factor = scalar(lambda t: choose(t > 0, sqrt(t), 0) / (1 + t), squared)
    return mul(input, factor)


def capsules(input: T, weight: Weight, iterations: int = 3) -> T:
    """Capsules of one layer vote for those of the next, and votes that agree count more.

    `û[n,i,j,:] = u[n,i,:] · weight[i,j]`; b = 0; `iterations` times: `c = softmax_j(b)`,
    `s[n,j] = Σ_i c[n,i,j]·û[n,i,j]`, `v = squash(s)`, `b[n,i,j] += û[n,i,j]·v[n,j]`.

    The gradient is taken through the couplings too.

    Args:
        input: (n, in_capsules, in_dim).
        weight: (in_capsules, out_capsules, in_dim, out_dim).
        iterations: of the routing, at least 1.
    Returns:
        (n, out_capsules, out_dim), vectors shorter than 1.
    Source: Sabour, Frosst, Hinton, Dynamic routing between capsules, arXiv:1710.09829.

    >>> capsules(np.ones((2, 6, 4)), np.ones((6, 3, 4, 5))).shape
    (2, 3, 5)
    """
    where = "capsules"
    iterations = whole(iterations, where, "iterations")
    shape, given = sample_shape(input, where), tuple(np.shape(weight))
    if len(shape) != 2 or len(given) != 4 or (given[0], given[2]) != shape:
        raise ShapeError(
            f"{where}: expected capsules (n, in_capsules, in_dim) and a weight (in_capsules, "
            f"out_capsules, in_dim, out_dim); got {shape} besides the batch and {given}."
        )
    votes: Any = einsum("nik,ijkd->nijd", input, weight)
    # The couplings are all 1/out_capsules at first: a mean, which needs no softmax.
    summed: Any = mul(sum_(votes, 1), 1 / given[1])
    logits: Any = None
    for turn in range(iterations):
        if turn:
            agreement = einsum("nijd,njd->nij", votes, squash(summed))
            logits = agreement if logits is None else add(logits, agreement)
            summed = einsum("nij,nijd->njd", softmax(logits, 2), votes)
    return cast(T, squash(summed))


def capsule_lengths(input: T) -> T:
    """`|v|` of each capsule: how sure it is that what it stands for is there.

    Args:
        input: (n, capsules, dim).
    Returns:
        (n, capsules).
    """
    return norm(input, 2, -1)
