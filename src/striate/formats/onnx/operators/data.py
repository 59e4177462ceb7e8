"""What moves or makes data but computes nothing of a network: constants, types, shapes, indices.

These are done by NumPy, since they hold whole numbers and shapes, which graphs do not.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from striate.formats.onnx.files import array_of
from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import BOOL, FLOAT32, INT64, Value
from striate.formula import expression as e

_CONSTANTS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


_WHOLE = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_TYPES = ("bool", "float16", "float32", "float64", "bfloat16", *_WHOLE)


@operator("Identity")
def identity(c: Call) -> Value:
    return c.value(0)


@operator("Constant")
def constant(c: Call) -> Value:
    tensor = c.attribute("value")
    if tensor is not None:
        return c.given(array_of(tensor))
    for name, dtype in _CONSTANTS.items():
        found = c.attribute(name)
        if found is not None:
            return c.given(found, dtype)
    c.refuse("expected the attribute value, or one of " + ", ".join(_CONSTANTS))


@operator("ConstantOfShape")
def constant_of_shape(c: Call) -> Value:
    shape = c.integers(0)
    tensor = c.attribute("value")
    c.require_room(shape, made=True)
    array = np.zeros(1, np.float32)
    if tensor is not None:
        array = array_of(tensor)
    return c.given(
        np.broadcast_to(array.ravel()[:1].reshape(()), tuple(shape))
    )  # one number in memory


@operator("Shape")
def shape_of(c: Call) -> Value:
    shape = c.value(0).shape
    start, end = c.attribute("start", 0), c.attribute("end", len(shape))
    return c.given(shape[start:end], INT64, constant=True)


@operator("Size")
def size_of(c: Call) -> Value:
    return c.given(math.prod(c.value(0).shape), INT64, constant=True)


@operator("Range")
def number_range(c: Call) -> Value:
    start, limit, step = (c.value(k).array.ravel()[0] for k in range(3))
    if float(step) == 0:
        c.refuse("expected a step other than 0")
    count = max(math.ceil((float(limit) - float(start)) / float(step)), 0)
    c.require_room([count], made=True)
    dtype = c.value(0).dtype
    steps = np.arange(count).astype(dtype) * step
    return c.given(steps + start, dtype)


@operator("Cast", "CastLike")
def cast(c: Call) -> Value:
    x = c.value(0)
    c.attribute("saturate", 1)
    c.attribute("round_mode", "up")
    if c.op == "CastLike":
        return cast_to(c, x, c.value(1).dtype)
    return cast_to(c, x, _numpy_type(c, c.attribute("to")))


def cast_to(c: Call, x: Value, dtype: Any) -> Value:
    """A value in another type; truth values and float32 stay in their graph."""
    if dtype == x.dtype:
        return x
    for kind in (x.dtype, np.dtype(dtype)):
        if kind.name not in _TYPES:
            c.refuse(f"the type {kind} is not supported; supported are {', '.join(_TYPES)}")
    if not x.is_known and c.lowering.symbolic:
        return _cast_symbol(c, x, dtype)
    if x.dtype == BOOL and dtype == FLOAT32 and not x.is_known:
        return Value(x.shape, FLOAT32, place=x.place)
    if x.dtype == FLOAT32 and dtype == BOOL and not x.is_known:
        return c.map(lambda k: e.unequal(k, 0), x, dtype=BOOL)
    with np.errstate(all="ignore"):
        return c.given(x.array.astype(dtype))


def _cast_symbol(c: Call, x: Value, dtype: np.dtype[Any]) -> Value:
    """A value of a network: all numbers are float32 there, whole ones and truth values too."""
    if dtype.kind == "b":
        return c.map(lambda k: e.unequal(k, 0), x, dtype=BOOL)
    kind = FLOAT32 if dtype.kind == "f" else INT64
    if kind == INT64 and x.dtype == FLOAT32:
        x = c.map(lambda k: e.sign(k) * e.floor(abs(k)), x)
    return Value(x.shape, kind, place=x.place)


def _numpy_type(c: Call, number: Any) -> np.dtype[Any]:
    names: Any = import_module("onnx").helper.tensor_dtype_to_np_dtype
    try:
        found: np.dtype[Any] = np.dtype(names(number))
    except (KeyError, TypeError, ValueError):
        c.refuse(f"the type {number} is not supported")
    return found


@operator("NonZero")
def nonzero(c: Call) -> Value:
    return c.given(np.array(np.nonzero(c.value(0).array), np.int64))


@operator("GatherElements", since=11)
def gather_elements(c: Call) -> Value:
    x, indices = c.value(0), c.value(1).array
    axis = c.axis(c.attribute("axis", 0), x.rank)
    size = x.shape[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        c.refuse(f"expected indices from {-size} to {size - 1}")
    return c.given(np.take_along_axis(x.array, indices % size, axis))
