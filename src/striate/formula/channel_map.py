"""Scalar functions with parameters that each channel has of its own: the operation `channel_map`.

PReLU, SReLU and APL are such functions; any expression of x and of parameters is one. What a
channel is: axis 1, the one behind the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from striate.errors import OptionError, ShapeError
from striate.formula.expression import (
    Expr,
    Tensor,
    Var,
    axes,
    from_json,
    maximum,
    minimum,
    substitute,
    to_json,
    variables,
    where,
)
from striate.formula.formula import Array, Formula
from striate.formula.operation import (
    Attributes,
    Operation,
    Shape,
    require_attributes,
)

MOST_PARAMETERS = 8
_NAMES = tuple(f"p{k}" for k in range(MOST_PARAMETERS))
_N, _C = axes("n c")


class ChannelMap(Operation):
    """`y[n,c,…] = f(x[n,c,…], p0[c], p1[c], …)` for a scalar expression f.

    Inputs: x (n, channels, …); p0, p1, … each (channels,) or (1,), shared by all channels. A
    parameter of shape (s, channels) or (s, 1) is s numbers a channel, in f p0_0, p0_1, ….
    Output: as x.
    Attributes: `expr` is f, of x and the parameters; `constants` are lists of numbers that f reads
    as k0, k1, …: channel c has the entry c modulo the list's length.

    >>> f = where(Var("x") > 0, Var("x"), Var("p0") * Var("x"))
    >>> ChannelMap().shape(channel_map_attributes(f), [(4, 5, 5), (4,)])
    (4, 5, 5)
    """

    name = "channel_map"
    arguments = ("x", *_NAMES)
    optional = MOST_PARAMETERS
    parameters = _NAMES
    attributes = ("expr", "constants")

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        require_attributes(self.name, attributes, self.attributes)
        names = self.argument_names(attributes, len(shapes))
        x = tuple(shapes[0])
        if not x:
            raise ShapeError("channel_map: x expected channels besides the batch; got shape ().")
        for name, shape in zip(names[1:], shapes[1:], strict=True):
            if len(shape) not in (1, 2) or shape[-1] not in (1, x[0]):
                raise ShapeError(
                    f"channel_map: {name} expected shape ({x[0]},) or (1,), or rows of these, for "
                    f"x {x}; got {tuple(shape)}. Make the layer with num_parameters={x[0]}."
                )
        known = {name for name, _, _ in scalars(shapes)} | set(_constants(attributes))
        for name in variables(from_json(attributes["expr"])):
            if name != "x" and name not in known:
                raise OptionError(
                    f"channel_map: expected an expression of x, {', '.join(sorted(known))}; "
                    f"got {name!r}."
                )
        return x

    def formula(self, attributes: Attributes, shapes: Sequence[Shape]) -> Formula:
        x = tuple(shapes[0])
        place = (_N, _C, *axes(" ".join(f"k{k}" for k in range(len(x) - 2))))
        reads: dict[str, Expr] = {"x": Tensor("x")[place]}
        for name, tensor, row in scalars(shapes):
            wide = shapes[_NAMES.index(tensor) + 1][-1] > 1
            at = _C if wide else 0
            reads[name] = Tensor(tensor)[at] if row is None else Tensor(tensor)[row, at]
        constants = _constants(attributes)
        for name, values in constants.items():
            at = 0 if len(values) == 1 else _C if len(values) == x[1] else _C % len(values)
            reads[name] = Tensor(name)[at]
        sizes = {str(axis): size for axis, size in zip(place, x, strict=True)}
        names = self.argument_names(attributes, len(shapes))
        tensors = {n: tuple(s) for n, s in zip(names, shapes, strict=True)}
        body = substitute(from_json(attributes["expr"]), reads)
        return Formula(place, body, sizes, tensors, constants=constants)


def scalars(shapes: Sequence[Shape]) -> list[tuple[str, str, int | None]]:
    """For each scalar that the parameters of these shapes give: its name, its tensor, its row."""
    found: list[tuple[str, str, int | None]] = []
    for name, shape in zip(_NAMES, shapes[1:], strict=False):
        if len(shape) == 1:
            found.append((name, name, None))
        else:
            found += [(f"{name}_{row}", name, row) for row in range(shape[0])]
    return found


def channel_function_name(attributes: Attributes) -> str:
    """What a `channel_map` node computes: the name of a well-known function, or its expression.

    >>> channel_function_name(prelu())
    'prelu'
    """
    named = {"prelu": prelu(), "srelu": srelu(), "bipolar relu": bipolar_relu()}
    hinges = str(attributes["expr"]).count("p0_")
    named |= {"apl": apl(hinges)} if hinges else {}
    for name, known in named.items():
        if known == dict(attributes):
            return name
    return str(from_json(attributes["expr"]))


def channel_map_attributes(e: Expr, constants: Sequence[Sequence[float]] = ()) -> dict[str, Any]:
    """The attributes of a `channel_map` node."""
    return {"expr": to_json(e), "constants": [[float(k) for k in row] for row in constants]}


def _constants(attributes: Attributes) -> Mapping[str, Array]:
    import numpy as np

    rows = attributes["constants"]
    if not isinstance(rows, Sequence) or not all(isinstance(k, Sequence) and k for k in rows):
        raise OptionError(f"channel_map: constants expected lists of numbers; got {rows!r}.")
    return {f"k{k}": np.asarray(row, np.float64) for k, row in enumerate(rows)}


# ---- well-known ones -------------------------------------------------------------------------

_X = Var("x")


def prelu() -> dict[str, Any]:
    """`x` where x > 0, else p0·x.

    Source: He et al., Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    return channel_map_attributes(where(_X > 0, _X, Var("p0") * _X))


def srelu() -> dict[str, Any]:
    """`t_l + a_l·(x − t_l)` where x ≤ t_l, `t_r + a_r·(x − t_r)` where x ≥ t_r, else x.

    p0 … p3 are t_l, a_l, t_r, a_r.

    Source: Jin et al., Deep Learning with S-shaped Rectified Linear Activation Units,
    arXiv:1512.07030.
    """
    t_left, a_left, t_right, a_right = (Var(name) for name in _NAMES[:4])
    left, right = t_left + a_left * (_X - t_left), t_right + a_right * (_X - t_right)
    return channel_map_attributes(where(_X <= t_left, left, where(_X >= t_right, right, _X)))


def apl(hinges: int) -> dict[str, Any]:
    """`max(0, x) + Σ_s a_s·max(0, −x + b_s)`; the rows of p0 are a, those of p1 are b.

    Source: Agostinelli et al., Learning Activation Functions to Improve Deep Neural Networks,
    arXiv:1412.6830.
    """
    total = maximum(_X, 0)
    for s in range(hinges):
        total = total + Var(f"p0_{s}") * maximum(Var(f"p1_{s}") - _X, 0)
    return channel_map_attributes(total)


def bipolar_relu() -> dict[str, Any]:
    """`max(x, 0)` in even channels, `min(x, 0) = −max(−x, 0)` in odd ones.

    Source: Eidnes & Nøkland, Shifting Mean Activation Towards Zero with Bipolar Activation
    Functions, arXiv:1709.04054.
    """
    side = Var("k0")
    return channel_map_attributes(where(side > 0, maximum(_X, 0), minimum(_X, 0)), [[1, 0]])
