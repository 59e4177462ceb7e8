"""A parameter: a float32 array that a network learns.

It is a thin holder, not a tensor: arithmetic on it gives plain NumPy arrays and no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from striate.errors import OptionError, ShapeError

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]


def as_float32(value: Any, where: str) -> Float32:
    """`value` as a float32 array in C order; a copy only where it has to be one.

    Takes whole numbers, booleans and floats of any width; float64 is rounded.

    Raises:
        OptionError: the value is no array of real numbers.
    """
    if type(value) is np.ndarray and value.dtype == np.float32 and value.flags.c_contiguous:
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "fiub":
        raise OptionError(
            f"{where}: expected an array of real numbers; got {type(value).__name__} of "
            f"dtype={array.dtype}. Pass a NumPy array of float32."
        )
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, as in every cast
        return np.asarray(array, dtype=np.float32, order="C")


class Parameter:
    """An array that a network learns; assigned to a module's attribute it is registered there.

    Args:
        data: numbers of any real dtype; copied to float32, C order.

    >>> scale = Parameter([1.0, 2.0])
    >>> scale.shape, float(scale.data.sum())
    ((2,), 3.0)
    """

    __slots__ = ("__weakref__", "_data")

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        self._data: Float32 = as_float32(data, "Parameter").copy()
        self.requires_grad = requires_grad

    @property
    def data(self) -> Float32:
        """The numbers themselves: change them in place and the next call sees it."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        array = as_float32(value, "Parameter.data")
        if array.shape != self._data.shape:
            raise ShapeError(
                f"Parameter.data: expected shape {self._data.shape}; got shape={array.shape}. "
                "Make a new Parameter for another shape."
            )
        self._data[...] = array

    @property
    def requires_grad(self) -> bool:
        """Always true: every parameter of a network is trained."""
        return True

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not value:
            raise OptionError(
                "Parameter: expected requires_grad=True; got False. Frozen parameters are not "
                "supported: run the frozen layers as a network of their own and train on what "
                "they give."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return self._data.dtype

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """How many axes it has."""
        return self.ndim

    def numel(self) -> int:
        """How many numbers it holds."""
        return self._data.size

    def numpy(self) -> Float32:
        """The numbers themselves, not a copy."""
        return self._data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy:
            return np.array(self._data, dtype=dtype)
        return np.asarray(self._data, dtype=dtype)

    def __len__(self) -> int:
        return len(self._data)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        twin = Parameter(self._data)
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> tuple[type[Parameter], tuple[Float32]]:
        return Parameter, (self._data,)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{self._data!r}"
