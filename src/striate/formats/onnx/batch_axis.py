"""Values of an imported network whose batch is not axis 0, as recurrent layers have it.

A graph holds the batch in front. So such a value is held batch first, and knows where its batch
belongs; that moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from striate.formats.onnx.value import Value
from striate.graph.graph import Shape


def is_symbol(value: Value) -> bool:
    """Whether a value is computed sample by sample."""
    return value.place is not None and not value.is_known and not value.place.whole


def batch_axis(value: Value) -> int:
    """Where the batch is."""
    return value.place.axis if value.place is not None else 0


def moved(value: Value) -> bool:
    """Whether the batch is elsewhere than in front."""
    return is_symbol(value) and batch_axis(value) != 0


def to_front(value: Value, axis: int | None = None) -> Value:
    """The value with its batch in front; of one that belongs to the model, with that axis there."""
    if not is_symbol(value):
        return value.derived(("front", axis), lambda a: np.moveaxis(a, axis or 0, 0))
    k = batch_axis(value)
    shape = (value.shape[k], *value.shape[:k], *value.shape[k + 1 :])
    return _placed(value, shape, 0)


def to_place(value: Value, axis: int) -> Value:
    """A value with its batch in front as one with it at an axis."""
    batch, *rest = value.shape
    return _placed(value, (*rest[:axis], batch, *rest[axis:]), axis)


def _placed(value: Value, shape: Shape, axis: int) -> Value:
    place = None if value.place is None else replace(value.place, axis=axis)
    return Value(shape, value.dtype, place=place)


def shifted(axis: int, batch: int) -> int:
    """Where an axis is once the batch has gone to the front."""
    return axis + 1 if axis < batch else axis


def along(value: Value, axis: int, apply: Callable[[Value, int], Value]) -> Value:
    """An operation along an axis that keeps all axes, of a value with the batch elsewhere."""
    k = batch_axis(value)
    return to_place(apply(to_front(value), shifted(axis, k)), k)


def batch_after(value: Value, target: Sequence[int]) -> int | None:
    """Which axis of a new shape is the batch: as many numbers lie before it as did."""
    k = batch_axis(value)
    before = math.prod(value.shape[:k])
    for axis, size in enumerate(target):
        if size == value.shape[k] and math.prod(target[:axis]) == before:
            return axis
    return None
