"""Uniform random numbers beside a tensor: drawn at once on arrays, a node in a traced network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from striate.nn.execution import as_batch
from striate.nn.trace import find_tracer
from striate.settings import next_generator


def uniform(x: Any, shape: Sequence[int], where: str) -> Any:
    """A uniform number from [0, 1) at each of `shape`'s places, for every sample of x.

    In a network that `fit` trains they depend on the seed, the step and the place only; so it is
    called in training mode only, and evaluation mode is to take the mean instead.

    Args:
        x: (n, …), an array or a traced tensor.
        shape: of the numbers, without the batch.
        where: who draws, for names and errors.
    Returns:
        (n, *shape).
    """
    tracer = find_tracer(x)
    if tracer is not None:
        attributes = {"site": tracer.dropout_site(), "shape": [int(k) for k in shape]}
        return tracer.apply("uniform", (x,), attributes, f"{where}_uniform")
    return next_generator().random((len(as_batch(x, where)), *shape), np.float32)
