"""NumPy arrays as native code sees them: addresses, alignment, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.program.checks import parameter_of

Float32 = NDArray[np.float32]
_ALIGN = 64


def aligned_zeros(count: int) -> Float32:
    """`count` float32 zeros that begin at a cache line."""
    raw = np.zeros(4 * count + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + 4 * count].view(np.float32)


def address_of(array: NDArray[Any]) -> int:
    """The address of an array's first number."""
    address: int = array.__array_interface__["data"][0]
    return address


def as_parameter(parameters: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Float32:
    """A graph's parameter as a contiguous float32 array: the given one wherever that will do."""
    given = parameter_of(parameters, name, shape)
    array = np.ascontiguousarray(given, np.float32)
    # A view of a memory map or of another subclass is no copy: the given array is used as it is.
    shared = isinstance(given, np.ndarray) and np.may_share_memory(array, given)
    return given if shared else array
