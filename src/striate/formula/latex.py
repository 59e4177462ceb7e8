"""Formulas as LaTeX, for figures, docs and notebooks."""

from __future__ import annotations

from striate.formula.expression import Call, Const, Expr, Index, Read, Reduce

_SIGNS = {"add": "+", "sub": "-", "gt": ">", "ge": r"\ge", "lt": "<", "le": r"\le"}
_SIGNS |= {"eq": "=", "ne": r"\ne"}
_FUNCTIONS = {"exp", "log", "tanh", "sin", "cos"}
_NAMES = {"atan": r"\arctan", "asinh": r"\operatorname{arsinh}", "sign": r"\operatorname{sgn}"}
_LOOSE = {"add", "sub", "neg", "gt", "ge", "lt", "le", "eq", "ne", "expm1"}


def formula(result: str, output: tuple[Index, ...], body: Expr) -> str:
    """`result_{output} = body`."""
    return f"{_indexed(result, output)} = {expression(body)}"


def expression(e: Expr) -> str:
    """An expression in LaTeX.

    >>> from striate.formula.expression import Var, sqrt
    >>> expression(Var("x") / sqrt(Var("x") + 1))
    '\\\\frac{x}{\\\\sqrt{x + 1}}'
    """
    if isinstance(e, Const):
        return f"{e.value:g}"
    if isinstance(e, Read):
        return _indexed(e.tensor, e.index)
    if isinstance(e, Reduce):
        sign = r"\sum" if e.how == "sum" else r"\max"
        return f"{sign}_{{{','.join(e.over)}}} {_grouped(e.body)}"
    if isinstance(e, Call):
        return _call(e.function, e.arguments)
    return str(e)


def _call(function: str, arguments: tuple[Expr, ...]) -> str:
    parts = [expression(a) for a in arguments]
    if function in _SIGNS:
        right = _grouped(arguments[1]) if function == "sub" else parts[1]
        return f"{parts[0]} {_SIGNS[function]} {right}"
    if function == "mul":
        return rf"{_grouped(arguments[0])}\, {_grouped(arguments[1])}"
    if function == "div":
        return rf"\frac{{{parts[0]}}}{{{parts[1]}}}"
    if function == "pow":
        return f"{_atom(arguments[0])}^{{{parts[1]}}}"
    if function == "neg":
        return f"-{_grouped(arguments[0])}"
    if function == "abs":
        return rf"\left|{parts[0]}\right|"
    if function == "sqrt":
        return rf"\sqrt{{{parts[0]}}}"
    if function == "where":
        return (
            rf"\begin{{cases}} {parts[1]} & {parts[0]} \\ {parts[2]} & \text{{otherwise}} "
            r"\end{cases}"
        )
    if function in ("maximum", "minimum"):
        return rf"\{function[:3]}({', '.join(parts)})"
    if function == "expm1":
        return rf"\exp\left({parts[0]}\right) - 1"
    if function == "log1p":
        return rf"\log\left(1 + {parts[0]}\right)"
    if function == "floor":
        return rf"\left\lfloor {parts[0]} \right\rfloor"
    if function in _NAMES:
        return rf"{_NAMES[function]}\left({parts[0]}\right)"
    name = rf"\{function}" if function in _FUNCTIONS else rf"\operatorname{{{function}}}"
    return rf"{name}\left({', '.join(parts)}\right)"


def _grouped(e: Expr) -> str:
    """`e`, in parentheses where a factor or a summand would tear it apart."""
    loose = isinstance(e, Reduce) or (isinstance(e, Call) and e.function in _LOOSE)
    return rf"\left({expression(e)}\right)" if loose else expression(e)


def _atom(e: Expr) -> str:
    return expression(e) if not isinstance(e, (Call, Reduce)) else rf"\left({expression(e)}\right)"


def _indexed(tensor: str, index: tuple[Index, ...]) -> str:
    name = tensor if len(tensor) == 1 else rf"\mathrm{{{tensor}}}"
    places = ",".join(str(k).replace("%", r" \bmod ") for k in index)
    return f"{name}_{{{places}}}"
