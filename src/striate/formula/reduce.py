"""Sums, means, maxima and norms over any axes of a sample; and running sums.

One operation covers most of them: a scalar formula of each number, a sum or a maximum, and a scalar
formula of what comes out, `y = outer(Σ inner(x))`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from striate.errors import OptionError, ShapeError
from striate.formula.expression import (
    Expr,
    Index,
    Max,
    Reduce,
    Sum,
    Tensor,
    Var,
    axes,
    exp,
    from_json,
    log,
    power,
    sqrt,
    substitute,
    to_json,
    variables,
    where,
)
from striate.formula.formula import Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
    whole_attribute,
)

_X, _T = Var("x"), Var("t")


class _Reduction(Operation):
    """Axes that a sample loses, or keeps with size 1."""

    arguments = ("x",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        x, over = tuple(shapes[0]), self._over(attributes, len(shapes[0]))
        if attributes["keepdim"]:
            return tuple(1 if k in over else size for k, size in enumerate(x, 1))
        return tuple(size for k, size in enumerate(x, 1) if k not in over)

    def _over(self, attributes: Attributes, rank: int) -> tuple[int, ...]:
        """The axes to reduce, counting the batch as axis 0."""
        over = tuple(attributes["axes"])
        good = all(isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= rank for k in over)
        if not over or len(set(over)) != len(over) or not good:
            raise OptionError(
                f"{self.name}: axes expected different numbers from 1 to {rank} (0 is the batch); "
                f"got {list(over)}."
            )
        if not isinstance(attributes["keepdim"], bool):
            raise OptionError(
                f"{self.name}: keepdim expected true or false; got {attributes['keepdim']!r}."
            )
        return over

    def _axes(
        self, attributes: Attributes, x: Shape
    ) -> tuple[tuple[Index, ...], tuple[Index, ...], tuple[Index, ...], dict[str, int]]:
        """The output's index, the axes to reduce, the index of x, and the sizes."""
        over = self._over(attributes, len(x) - 1)
        output, reduced, read, sizes = [], [], [], {}
        for k, size in enumerate(x):
            (axis,) = axes("n" if k == 0 else f"r{k}" if k in over else f"k{k}")
            sizes[str(axis)] = size
            read.append(axis)
            if k not in over:
                output.append(axis)
                continue
            reduced.append(axis)
            if attributes["keepdim"]:
                (one,) = axes(f"k{k}")
                sizes[str(one)] = 1
                output.append(one)
        return tuple(output), tuple(reduced), tuple(read), sizes


class ReduceAxes(_Reduction):
    """`y[n,…] = outer(Σ_r inner(x[n,…,r,…]))`, or with a maximum in place of the sum.

    Attributes: `axes`, counting the batch as 0; `keepdim`, whether they stay with size 1; `how`,
    "sum" or "max"; `inner`, a formula of x; `outer`, a formula of t. Of equal maxima the first gets
    the gradient.

    Input: x (n, …). Output: (n, …) without the axes.

    >>> ReduceAxes().shape(reduce_attributes("sum", [2, 3], False), [(6, 8, 8)])
    (6,)
    """

    name = "reduce"
    attributes = ("axes", "keepdim", "how", "inner", "outer")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        shape = super().shape(attributes, shapes)
        if attributes["how"] not in ("sum", "max"):
            raise OptionError(
                f"reduce: how expected 'sum' or 'max'; got {attributes['how']!r}. "
                "A minimum is minus the maximum of −x."
            )
        for key, name in (("inner", "x"), ("outer", "t")):
            body = from_json(attributes[key])
            if any(v != name for v in variables(body)):
                raise OptionError(f"reduce: {key} expected a formula of {name}; got {body}.")
        return shape

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        output, over, read, sizes = self._axes(attributes, x)
        inner = substitute(from_json(attributes["inner"]), {"x": Tensor("x")[read]})
        total = Reduce(attributes["how"], tuple(map(str, over)), inner)
        body = substitute(from_json(attributes["outer"]), {"t": total})
        return Formula(output, body, sizes, {"x": x})


def reduce_attributes(
    how: str, over: Sequence[int], keepdim: bool, inner: Expr = _X, outer: Expr = _T
) -> dict[str, Any]:
    """The attributes of a `reduce` node."""
    return {
        "axes": list(over),
        "keepdim": keepdim,
        "how": how,
        "inner": to_json(inner),
        "outer": to_json(outer),
    }


def p_norm(p: float) -> tuple[str, Expr, Expr]:
    """`how`, `inner` and `outer` of `(Σ|x|^p)^(1/p)`; where that is 0, so is its slope.

    >>> p_norm(1)[0]
    'sum'
    """
    if p == float("inf"):
        return "max", abs(_X), _T
    if p == float("-inf"):
        return "max", -abs(_X), -_T
    if p == 1:
        return "sum", abs(_X), _T
    if p == 2:
        return "sum", _X * _X, where(_T > 0, sqrt(_T), 0)
    if p == 0:
        return "sum", where(_X > 0, 1, where(_X < 0, 1, 0)), _T
    return "sum", power(abs(_X), p), where(_T > 0, power(_T, 1 / p), 0)


class LogSumExp(_Reduction):
    """`y[n,…] = ln Σ_r exp(x[n,…,r,…])`, with the largest x taken off first.

    Input: x (n, …). Output: (n, …) without the axes.

    >>> LogSumExp().shape({"axes": [1], "keepdim": True}, [(10, 4)])
    (1, 4)
    """

    name = "logsumexp"
    attributes = ("axes", "keepdim")

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        output, over, read, sizes = self._axes(attributes, x)
        other = {str(axis): axes(f"m{str(axis)[1:]}")[0] for axis in over}
        sizes.update({str(other[str(axis)]): sizes[str(axis)] for axis in over})
        top = Max(tuple(other.values()), Tensor("x")[tuple(other.get(str(k), k) for k in read)])
        body = log(Sum(over, exp(Tensor("x")[read] - top))) + top
        return Formula(output, body, sizes, {"x": x})


class CumSum(Operation):
    """`y[n,i] = Σ_{j ≤ i} x[n,j]` along one axis, written as `Σ_j x[n, i − j]` with 0 before x.

    Input: x (n, …). Output: the same shape. `axis` counts the batch as 0.

    >>> CumSum().reference({"axis": 1}, [[[1.0, 2.0, 3.0]]])
    array([[1., 3., 6.]])
    """

    name = "cumsum"
    arguments = ("x",)
    attributes = ("axis",)

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        self.argument_names(attributes, len(shapes))
        if whole_attribute(self.name, attributes, "axis", 1) > len(shapes[0]):
            raise ShapeError(
                f"cumsum: expected an axis from 1 to {len(shapes[0])}; got "
                f"axis={attributes['axis']} for shape {tuple(shapes[0])} besides the batch."
            )
        return tuple(shapes[0])

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x, along = tuple(shapes[0]), int(attributes["axis"])
        (place, (j,)) = axes(" ".join(["n", *(f"k{k}" for k in range(1, len(x)))])), axes("j")
        read = tuple(axis - j if k == along else axis for k, axis in enumerate(place))
        sizes: Mapping[str, int] = {str(a): size for a, size in zip(place, x, strict=True)}
        return Formula(place, Sum((j,), Tensor("x")[read]), {**sizes, "j": x[along]}, {"x": x})
