"""Scalar expressions as nodes of ONNX, with its broadcasting.

What ONNX has no operator for is spelled out so that no digits are lost: `eˣ − 1` and `ln(1 + x)`
near 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from striate.errors import OptionError
from striate.formats.onnx.builder import FLOAT, Builder
from striate.formula.expression import Call, Const, Expr, Var

_NEAR = 0.5  # where the exact forms are used


@dataclass(frozen=True)
class Scalar:
    """A value of the model: its name, and whether it holds truth values."""

    name: str
    truth: bool = False


_PLAIN = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "abs": "Abs",
    "pow": "Pow",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "atan": "Atan",
    "asinh": "Asinh",
    "floor": "Floor",
    "sign": "Sign",
    "softplus": "Softplus",
    "maximum": "Max",
    "minimum": "Min",
}
_TRUTHS = {"gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual"}
_TRUTHS |= {"eq": "Equal", "ne": "Equal"}
FUNCTIONS = {*_PLAIN, *_TRUTHS, "where", "expm1", "log1p"}


def number(b: Builder, value: Scalar) -> str:
    """The value as float32; truth values are 1 and 0."""
    return b.op("Cast", value.name, to=FLOAT) if value.truth else value.name


def truth(b: Builder, value: Scalar) -> str:
    """The value as truth values: whether it is not 0."""
    if value.truth:
        return value.name
    return b.op("Not", b.op("Equal", value.name, b.number(0.0)))


def function(b: Builder, name: str, inputs: list[Scalar]) -> Scalar:
    """A function of scalars, element by element."""
    if name == "where":
        condition, yes, no = inputs
        return Scalar(b.op("Where", truth(b, condition), number(b, yes), number(b, no)))
    given = [number(b, value) for value in inputs]
    if name in _TRUTHS:
        found = b.op(_TRUTHS[name], *given)
        return Scalar(b.op("Not", found) if name == "ne" else found, truth=True)
    if name in _PLAIN:
        return Scalar(b.op(_PLAIN[name], *given))
    if name in _SPELLED:
        return Scalar(_SPELLED[name](b, given[0]))
    raise OptionError(f"export_onnx: the function {name!r} has no counterpart in ONNX.")


def _expm1(b: Builder, x: str) -> str:
    """`2t/(1 − t)` with t = tanh(x/2) near 0, else `eˣ − 1`."""
    one = b.number(1.0)
    t = b.op("Tanh", b.op("Mul", x, b.number(0.5)))
    near = b.op("Div", b.op("Add", t, t), b.op("Sub", one, t))
    return _near(b, x, near, b.op("Sub", b.op("Exp", x), one))


def _log1p(b: Builder, x: str) -> str:
    """`2·artanh(x/(2 + x))` near 0, else `ln(1 + x)`."""
    t = b.op("Div", x, b.op("Add", x, b.number(2.0)))
    half = b.op("Atanh", t)
    return _near(b, x, b.op("Add", half, half), b.op("Log", b.op("Add", x, b.number(1.0))))


def _near(b: Builder, x: str, near: str, far: str) -> str:
    return b.op("Where", b.op("Less", b.op("Abs", x), b.number(_NEAR)), near, far)


_SPELLED: dict[str, Callable[[Builder, str], str]] = {"expm1": _expm1, "log1p": _log1p}


def expression(b: Builder, e: Expr, values: Mapping[str, str]) -> str:
    """A scalar expression of values by name, broadcast to each other as NumPy does."""
    known: dict[Expr, Scalar] = {}

    def value(part: Expr) -> Scalar:
        if part not in known:
            known[part] = compute(part)
        return known[part]

    def compute(part: Expr) -> Scalar:
        if isinstance(part, Const):
            return Scalar(b.number(part.value))
        if isinstance(part, Var):
            return Scalar(values[part.name])
        if isinstance(part, Call):
            return function(b, part.function, [value(a) for a in part.arguments])
        raise OptionError(f"export_onnx: expected a scalar expression; got {part}.")

    return number(b, value(e))
