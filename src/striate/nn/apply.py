"""How a function of `nn` applies an operation: it traces where it is traced, else it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from striate.nn.execution import as_batch, compute
from striate.nn.parameter import Array, Parameter, as_float32
from striate.nn.symbol import SymbolicTensor
from striate.nn.trace import find_tracer

# A traced tensor gives a traced tensor, an array gives an array.
T = TypeVar("T", SymbolicTensor, Array)
Weight = Parameter | Array
Attributes = Mapping[str, Any]


def apply(
    op: str, inputs: Sequence[Any], attributes: Attributes, stem: str = "", parameters: int = 0
) -> Any:
    """Trace or compute; the last `parameters` inputs have no batch axis."""
    tracer = find_tracer(*inputs)
    if tracer is not None:
        return tracer.apply(op, inputs, attributes, stem or op)
    count = len(inputs) - parameters
    arrays = [as_batch(k, stem or op) for k in inputs[:count]]
    arrays += [as_float32(k, stem or op) for k in inputs[count:]]
    return compute(op, arrays, attributes, [k < count for k in range(len(inputs))])


def into(input: T, result: Any, inplace: bool) -> T:
    """With `inplace`, put the result where the argument was."""
    if not inplace:
        return cast(T, result)
    if isinstance(input, SymbolicTensor):
        input._rebind(result)
    elif isinstance(input, np.ndarray):
        input[...] = result
    return input


def sample_shape(x: Any, where: str) -> tuple[int, ...]:
    """The shape of one sample of a traced tensor or an array, without the batch."""
    if isinstance(x, SymbolicTensor):
        return x._sample_shape
    return as_batch(x, where).shape[1:]
