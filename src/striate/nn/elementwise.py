"""Elementwise operations of `nn` as attributes of a graph's `map` nodes; computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from striate.errors import OptionError
from striate.formula.activation import map_attributes
from striate.formula.expression import Expr, Operand, Var, to_json, trace_scalar, variables

ARGUMENTS = ("x", "y", "z", "u", "v", "w")

_X, _Y = Var("x"), Var("y")
RELU = map_attributes("relu")
TANH = map_attributes("tanh")
SIGMOID = map_attributes("sigmoid")
ADD = map_attributes(_X + _Y, ("x", "y"))
MUL = map_attributes(_X * _Y, ("x", "y"))


def finite(value: Any, where: str, name: str) -> float:
    """A setting of an activation, checked: a finite number."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not np.isfinite(value):
        raise OptionError(f"{where}: expected {name} to be a finite number; got {name}={value!r}.")
    return float(value)


def scalar_expression(
    fn_or_expr: Callable[..., Operand] | Expr, count: int, where: str
) -> tuple[Expr, tuple[str, ...]]:
    """The expression of a user's function of `count` scalars, and the names of its inputs.

    Raises:
        OptionError: the function takes another number of arguments, or does what scalars cannot.

    >>> e, names = scalar_expression(lambda x, y: x * y + 1, 2, "F.scalar")
    >>> str(e), names
    ('((x · y) + 1)', ('x', 'y'))
    """
    if isinstance(fn_or_expr, Expr):
        names = variables(fn_or_expr)
        if len(names) != count:
            raise OptionError(
                f"{where}: expected an expression of {count} variables, one a tensor; "
                f"got {fn_or_expr} with {', '.join(names) or 'none'}."
            )
        return fn_or_expr, names
    if not callable(fn_or_expr) or not 1 <= count <= len(ARGUMENTS):
        raise OptionError(
            f"{where}: expected a function of 1 to {len(ARGUMENTS)} scalars, or an expression; "
            f"got {fn_or_expr!r} for {count} tensors."
        )
    names = ARGUMENTS[:count]
    return traced_scalar(fn_or_expr, names, where), names


def traced_scalar(function: Callable[..., Operand], names: tuple[str, ...], where: str) -> Expr:
    """The expression that a function of scalars of these names computes."""
    try:
        e = trace_scalar(function, names)
        to_json(e)
    except OptionError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise OptionError(
            f"{where}: expected a function of {len(names)} scalars made of + - * / ** abs and the "
            f"functions of striate.nn.scalar (exp, log, sqrt, tanh, sigmoid, maximum, minimum, "
            f"where); got {error}. Write scalar.exp(x), not math.exp(x) or numpy.exp(x)."
        ) from None
    return e
