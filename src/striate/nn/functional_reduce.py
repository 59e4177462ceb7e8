"""Reductions in `striate.nn.functional`: sums, means, extremes and norms over any axes.

In a network the axes are those of a sample; on arrays any, computed in float64. `dim` is one axis
or several, `keepdim` keeps them with size 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.formula.expression import Expr, Var, evaluate, sqrt, where
from striate.formula.reduce import p_norm, reduce_attributes
from striate.nn.apply import T
from striate.nn.functional_arithmetic import maximum, minimum
from striate.nn.functional_shape import axis_of, flatten, sample_axes
from striate.nn.parameter import Array, Parameter, as_float32
from striate.nn.symbol import SymbolicTensor
from striate.nn.trace import find_tracer
from striate.nn.untraceable import untraceable

_X, _T = Var("x"), Var("t")
_MOST_FACTORS = 64
Dim = Any  # a number, several, or None


def _reduced(
    input: Any,
    dim: Dim,
    keepdim: bool,
    name: str,
    formulas: Callable[[int], tuple[str, Expr, Expr]],
) -> Any:
    """`outer(Σ inner(x))` over `dim`; `formulas` gives how, inner and outer for a count."""
    if isinstance(input, SymbolicTensor):
        if dim is None:
            raise untraceable(
                f"{name} over all axes would mix the samples of the batch, shape {input.shape}",
                "Name the axes: dim=1 or dim=(2, 3).",
            )
        over = sample_axes(input, dim, name)
        how, inner, outer = formulas(math.prod(input._sample_shape[k - 1] for k in over))
        attributes = reduce_attributes(how, over, bool(keepdim), inner, outer)
        return input._tracer.apply("reduce", (input,), attributes, name)
    x, axes = _array(input, dim, name)
    how, inner, outer = formulas(math.prod(x.shape[k] for k in axes))
    if how == "max" and math.prod(x.shape[k] for k in axes) == 0:
        raise ShapeError(f"{name}: expected at least one number; got shape {x.shape}.")
    with np.errstate(all="ignore"):
        values = np.asarray(evaluate(inner, {"x": x}))
        total = (values.sum if how == "sum" else values.max)(axis=axes, keepdims=bool(keepdim))
        return _float32(evaluate(outer, {"t": total}))


def _array(input: Any, dim: Dim, name: str) -> tuple[Array, tuple[int, ...]]:
    """An array in float64, and the axes that `dim` names."""
    x = as_float32(input, name).astype(np.float64)
    if dim is None:
        return x, tuple(range(x.ndim))
    given = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    axes = tuple(axis_of(k, x.ndim, name) for k in given)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: expected different axes; got dim={dim!r}.")
    return x, axes


def _float32(value: Any) -> Any:
    array = np.asarray(value, np.float32)
    return array if array.ndim else array[()]


def sum_(input: T, dim: Dim = None, keepdim: bool = False) -> T:
    """`Σ x` over axes. Called `sum` in `striate.nn.functional`.

    >>> sum_(np.ones((2, 3, 4)), (1, 2))
    array([12., 12.], dtype=float32)
    """
    return cast(T, _reduced(input, dim, keepdim, "sum", lambda count: ("sum", _X, _T)))


def mean(input: T, dim: Dim = None, keepdim: bool = False) -> T:
    """`Σ x / count` over axes: `mean(x, (2, 3))` of images.

    >>> mean(np.array([[1.0, 2.0]]), 1)
    array([1.5], dtype=float32)
    """
    if isinstance(input, SymbolicTensor) and input.ndim == 4 and dim is not None:
        if sorted(sample_axes(input, dim, "mean")) == [2, 3]:  # pooling has kernels of its own
            tracer = input._tracer
            pooled = tracer.apply("adaptive_avg_pool2d", (input,), {"output": [1, 1]}, "mean")
            return pooled if keepdim else flatten(pooled, 1)
    return cast(
        T, _reduced(input, dim, keepdim, "mean", lambda count: ("sum", _X, _T / max(count, 1)))
    )


def amax(input: T, dim: Dim, keepdim: bool = False) -> T:
    """The largest number along axes; of equals the first gets the gradient.

    >>> amax(np.array([[1.0, 3.0, 2.0]]), 1)
    array([3.], dtype=float32)
    """
    return cast(T, _reduced(input, dim, keepdim, "amax", lambda count: ("max", _X, _T)))


def amin(input: T, dim: Dim, keepdim: bool = False) -> T:
    """The smallest number along axes; of equals the first gets the gradient.

    >>> amin(np.array([[1.0, 3.0, 2.0]]), 1)
    array([1.], dtype=float32)
    """
    return cast(T, _reduced(input, dim, keepdim, "amin", lambda count: ("max", -_X, -_T)))


def norm(input: T, p: float | str = 2, dim: Dim = None, keepdim: bool = False) -> T:
    """`(Σ |x|^p)^(1/p)` over axes; p may be ±inf. Where it is 0 its gradient counts as 0.

    >>> norm(np.array([[3.0, 4.0]]), 2, 1)
    array([5.], dtype=float32)
    """
    order = 2.0 if p == "fro" else p
    if isinstance(order, (bool, str)) or not isinstance(order, (int, float)):
        raise OptionError(f"norm: expected p to be a number or 'fro'; got p={p!r}.")
    if math.isnan(order) or (order < 0 and not math.isinf(order)):
        raise OptionError(f"norm: expected p from 0, inf or -inf; got p={p!r}.")
    formulas = p_norm(float(order))
    return cast(T, _reduced(input, dim, keepdim, "norm", lambda count: formulas))


def var(input: T, dim: Dim = None, correction: float = 1, keepdim: bool = False) -> T:
    """`Σ (x − mean)² / (count − correction)` over axes.

    >>> var(np.array([[1.0, 2.0, 3.0]]), 1)
    array([1.], dtype=float32)
    """
    return cast(T, _spread(input, dim, correction, keepdim, "var"))


def std(input: T, dim: Dim = None, correction: float = 1, keepdim: bool = False) -> T:
    """The root of `var`; where it is 0 its gradient counts as 0.

    >>> std(np.array([[1.0, 3.0]]), 1, correction=0)
    array([1.], dtype=float32)
    """
    return cast(T, _spread(input, dim, correction, keepdim, "std"))


def _spread(input: Any, dim: Dim, correction: float, keepdim: bool, name: str) -> Any:
    def formulas(count: int) -> tuple[str, Expr, Expr]:
        left = count - float(correction)
        if left <= 0:
            raise ShapeError(
                f"{name}: expected more than {correction:g} numbers along dim={dim!r}; "
                f"got {count}. With correction=0 one is enough."
            )
        variance = _T / left
        return "sum", _X * _X, variance if name == "var" else where(_T > 0, sqrt(variance), 0)

    if isinstance(input, SymbolicTensor):
        return _reduced(input - mean(input, dim, True), dim, keepdim, name, formulas)
    x, axes = _array(input, dim, name)
    centred = x - x.mean(axis=axes, keepdims=True)
    _, inner, outer = formulas(math.prod(x.shape[k] for k in axes))
    total = evaluate(inner, {"x": centred}).sum(axis=axes, keepdims=bool(keepdim))
    return _float32(evaluate(outer, {"t": total}))


def logsumexp(input: T, dim: Dim, keepdim: bool = False) -> T:
    """`ln Σ exp(x)` over axes; large x do no harm.

    >>> round(float(logsumexp(np.array([[1000.0, 1000.0]]), 1)[0]), 2)
    1000.69
    """
    if isinstance(input, SymbolicTensor):
        attributes = {"axes": sample_axes(input, dim, "logsumexp"), "keepdim": bool(keepdim)}
        return input._tracer.apply("logsumexp", (input,), attributes, "logsumexp")
    x, axes = _array(input, dim, "logsumexp")
    top = x.max(axis=axes, keepdims=True)
    with np.errstate(all="ignore"):
        total = np.log(np.exp(x - top).sum(axis=axes, keepdims=True)) + top
    return cast(T, _float32(total if keepdim else total.squeeze(axes)))


def prod(input: T, dim: int, keepdim: bool = False) -> T:
    """The product along one axis, of at most 64 numbers in a network.

    >>> prod(np.array([[2.0, 3.0]]), 1)
    array([6.], dtype=float32)
    """
    if not isinstance(input, SymbolicTensor):
        x, axes = _array(input, dim, "prod")
        return cast(T, _float32(x.prod(axis=axes, keepdims=bool(keepdim))))
    (axis,) = sample_axes(input, dim, "prod")
    count = input._sample_shape[axis - 1]
    if count > _MOST_FACTORS:
        raise OptionError(
            f"prod: expected at most {_MOST_FACTORS} factors in a network; got {count}. Of "
            "positive numbers write x.log().sum(dim).exp()."
        )
    index: tuple[Any, ...] = (slice(None),) * axis
    ends = (slice(k, k + 1) if keepdim else k for k in range(count))
    places = [(*index, end) for end in ends]
    product: Any = reduce(lambda a, b: a * b, [input[place] for place in places])
    return cast(T, product)


def cumsum(input: T, dim: int) -> T:
    """`y[…,i] = Σ_{j ≤ i} x[…,j]` along one axis.

    >>> cumsum(np.array([[1.0, 2.0, 3.0]]), 1)
    array([[1., 3., 6.]], dtype=float32)
    """
    if isinstance(input, SymbolicTensor):
        (axis,) = sample_axes(input, dim, "cumsum")
        return input._tracer.apply("cumsum", (input,), {"axis": axis}, "cumsum")
    x, axes = _array(input, dim, "cumsum")
    return cast(T, _float32(x.cumsum(axis=axes[0])))


def argmax(input: Array, dim: int | None = None, keepdim: bool = False) -> Any:
    """Where the largest number along an axis is, as whole numbers; on arrays only.

    >>> argmax(np.array([[1.0, 3.0, 2.0]]), 1)
    array([1])
    """
    if find_tracer(input) is not None:
        raise untraceable(
            "argmax gives whole numbers, which have no gradient",
            "Apply it to what the network gives: F.argmax(net(x), dim=1).",
        )
    x = as_float32(input, "argmax")
    axis = None if dim is None else axis_of(dim, x.ndim, "argmax")
    return np.argmax(x, axis, keepdims=bool(keepdim))


class Extreme(NamedTuple):
    """What `max` and `min` along an axis give; while a network is traced, `indices` say no."""

    values: Any
    indices: Any


class _NoIndices:
    """Where the extremes of a traced tensor are: nothing that can be computed with."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any) -> NoReturn:
        raise untraceable(
            f"{self._name} gives values and their places, and places have no gradient",
            f"Write F.a{self._name}(x, dim) for the values, or F.{self._name}imum(x, y) of two "
            "tensors.",
        )

    __add__ = __radd__ = __sub__ = __mul__ = __getitem__ = __array__ = __len__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


def max_(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest number; along an axis (values, indices); of two tensors element by element.

    Called `max` in `striate.nn.functional`. In a network only the values can be used.

    >>> max_(np.array([[1.0, 3.0, 2.0]]), 1)
    Extreme(values=array([3.], dtype=float32), indices=array([1]))
    """
    return _extreme("max", (amax, np.argmax), input, dim, keepdim)


def min_(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest number; along an axis (values, indices); of two tensors element by element.

    Called `min` in `striate.nn.functional`. In a network only the values can be used.
    """
    return _extreme("min", (amin, np.argmin), input, dim, keepdim)


def _extreme(name: str, how: Any, input: Any, dim: Any, keepdim: bool) -> Any:
    fold, place = how
    if isinstance(dim, (np.ndarray, Parameter, SymbolicTensor)):
        return (maximum if name == "max" else minimum)(input, dim)
    values = fold(input, dim, keepdim)
    if dim is None:
        return values
    if find_tracer(input) is not None:
        return Extreme(values, _NoIndices(name))
    x = as_float32(input, name)
    return Extreme(values, place(x, axis_of(dim, x.ndim, name), keepdims=bool(keepdim)))
