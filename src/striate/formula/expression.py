"""Expressions: the one notation in which striate writes down what an operation means.

An expression is built from constants, named scalars (`Var`), reads of named tensors (`Read`),
functions (`Call`) and sums or maxima over axes (`Reduce`):

    b[o] + Sum((c, p, q), x[n, c, i*s + p*d - P, j*s + q*d - P] * w[o, c, p, q])
    where(x > 0, x, x / sqrt(1 + a*x*x))

This file holds the notation, its text and JSON forms, its derivative rules (`diff`) and its
evaluation on NumPy arrays (`evaluate`). What can be read off a whole formula (reference,
gradient, region, cost, …) is in `formula.formula`; machine code for it is in `kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.errors import OptionError, suggest
from striate.formula.functions import ARITY
from striate.formula.functions import NUMPY as NUMPY

# ---- indices ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Index:
    """`const + Σ coefficient·axis`, then modulo `mod` where that is not 0, over `div`, looked up.

    A division that leaves a rest gives −1, which is outside every tensor: `x[(i − p)/2]` reads
    nothing where i − p is odd. With a `table` the number found so far is a place in it, and the
    index is what stands there (−1 beyond its ends); so windows may lie where no formula puts them:
    `x[n, c, (i*3 + p).through(starts)]`.
    """

    terms: tuple[tuple[str, int], ...] = ()
    const: int = 0
    mod: int = 0
    div: int = 1
    table: tuple[int, ...] = ()

    def _merge(self, other: Index | int, sign: int) -> Index:
        other = other if isinstance(other, Index) else Index(const=other)
        self._require_affine()
        other._require_affine()
        total = dict(self.terms)
        for axis, coefficient in other.terms:
            total[axis] = total.get(axis, 0) + sign * coefficient
        terms = tuple((a, c) for a, c in total.items() if c)
        return Index(terms, self.const + sign * other.const)

    def __add__(self, other: Index | int) -> Index:
        return self._merge(other, 1)

    __radd__ = __add__

    def __sub__(self, other: Index | int) -> Index:
        return self._merge(other, -1)

    def _require_affine(self) -> None:
        if not self.affine:
            raise OptionError(
                f"index: expected sums and multiples of axes before %, // and tables; "
                f"got {self} inside another index. Write (i + 1) % 4, not (i % 4) + 1."
            )

    def __mul__(self, factor: int) -> Index:
        self._require_affine()
        return Index(tuple((a, c * factor) for a, c in self.terms), self.const * factor)

    __rmul__ = __mul__

    def __mod__(self, mod: int) -> Index:
        self._require_affine()
        return Index(self.terms, self.const, mod)

    def __floordiv__(self, div: int) -> Index:
        return Index(self.terms, self.const, self.mod, div)

    def through(self, table: Sequence[int]) -> Index:
        """The number that stands at this place of a table."""
        return Index(self.terms, self.const, self.mod, self.div, tuple(int(k) for k in table))

    def at(self, where: Mapping[str, Any]) -> Any:
        """The index's value where every axis has the value (or array of values) in `where`."""
        value = self.const + sum(c * where[a] for a, c in self.terms)
        value = value % self.mod if self.mod else value
        if self.div != 1:
            whole, rest = value // self.div, value % self.div
            if isinstance(value, np.ndarray):
                value = np.where(rest == 0, whole, -1)
            else:
                value = -1 if rest else whole
        return self._looked_up(value) if self.table else value

    def _looked_up(self, place: Any) -> Any:
        if not isinstance(place, np.ndarray):
            return self.table[place] if 0 <= place < len(self.table) else -1
        inside = (place >= 0) & (place < len(self.table))
        return np.where(inside, np.asarray(self.table)[np.where(inside, place, 0)], -1)

    @property
    def axis(self) -> str | None:
        """The axis, where the index is that axis alone."""
        if self.affine and len(self.terms) == 1 and self.terms[0][1] == 1 and not self.const:
            return self.terms[0][0]
        return None

    @property
    def affine(self) -> bool:
        """Whether it is `const + Σ coefficient·axis` and no more."""
        return not self.mod and self.div == 1 and not self.table

    def __str__(self) -> str:
        signs = {1: "+", -1: "-"}
        text = "".join(signs.get(c, f"{c:+d}") + a for a, c in self.terms).removeprefix("+")
        text = text or str(self.const)
        if self.terms and self.const:
            text += f"{self.const:+d}"
        text = f"({text})%{self.mod}" if self.mod else text
        text = text if self.div == 1 else f"({text})/{self.div}"
        return f"table({text})" if self.table else text


def axes(names: str) -> tuple[Index, ...]:
    """Named axes to index with: `n, c, i, j = axes("n c i j")`."""
    return tuple(Index(((name, 1),)) for name in names.split())


# ---- expressions -----------------------------------------------------------------------------


class Expr:
    """An expression; Python's operators build larger ones."""

    def __add__(self, other: Operand) -> Expr:
        return call("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return call("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return call("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return call("div", other, self)

    def __pow__(self, exponent: float) -> Expr:
        return power(self, exponent)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __abs__(self) -> Expr:
        return call("abs", self)

    def __gt__(self, other: Operand) -> Expr:
        return call("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return call("ge", self, other)

    def __lt__(self, other: Operand) -> Expr:
        return call("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return call("le", self, other)

    def __bool__(self) -> bool:
        raise OptionError(
            "expression: a comparison of symbols has no truth value; "
            "write where(condition, a, b) instead of `a if condition else b`."
        )


Operand = Expr | float | int


@dataclass(frozen=True)
class Const(Expr):
    value: float

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True)
class Var(Expr):
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Read(Expr):
    tensor: str
    index: tuple[Index, ...]

    def __str__(self) -> str:
        return f"{self.tensor}[{', '.join(map(str, self.index))}]"


@dataclass(frozen=True)
class Call(Expr):
    function: str
    arguments: tuple[Expr, ...]

    def __str__(self) -> str:
        sign = INFIX.get(self.function)
        if sign:
            return f"({self.arguments[0]} {sign} {self.arguments[1]})"
        if self.function == "neg":
            return f"-{self.arguments[0]}"
        return f"{self.function}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True)
class Reduce(Expr):
    how: str  # "sum" or "max"
    over: tuple[str, ...]
    body: Expr

    def __str__(self) -> str:
        return f"{'Σ' if self.how == 'sum' else 'max'}[{','.join(self.over)}] {self.body}"


INFIX = {"add": "+", "sub": "−", "mul": "·", "div": "/", "gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
INFIX |= {"eq": "=", "ne": "≠"}


def expr(value: Operand) -> Expr:
    """`value` as an expression."""
    return value if isinstance(value, Expr) else Const(float(value))


def call(function: str, *arguments: Operand) -> Expr:
    """`function(arguments…)`, folded where the arguments are constants or neutral."""
    args = tuple(expr(a) for a in arguments)
    if all(isinstance(a, Const) for a in args):
        folded = NUMPY[function](*(a.value for a in args if isinstance(a, Const)))
        return Const(float(folded))
    simpler = _simplify(function, args)
    return Call(function, args) if simpler is None else simpler


def _simplify(function: str, args: tuple[Expr, ...]) -> Expr | None:
    zero, one = Const(0.0), Const(1.0)
    if function == "add":
        if zero in args:
            return args[1] if args[0] == zero else args[0]
        return _merge_selections(*args)
    if function == "sub":
        return args[0] if args[1] == zero else call("neg", args[1]) if args[0] == zero else None
    if function == "mul":
        if zero in args:
            return zero
        return args[1] if args[0] == one else args[0] if args[1] == one else None
    if function == "div":
        return zero if args[0] == zero else args[0] if args[1] == one else None
    if function == "where" and args[1] == args[2]:
        return args[1]
    return None


def _merge_selections(a: Expr, b: Expr) -> Expr | None:
    """where(c, p, 0) + where(c, 0, q) is where(c, p, q)."""
    zero = Const(0.0)
    if isinstance(a, Call) and isinstance(b, Call) and a.function == b.function == "where":
        (c, p, p0), (d, q0, q) = a.arguments, b.arguments
        if c == d and p0 == zero and q0 == zero:
            return Call("where", (c, p, q))
    return None


def power(base: Operand, exponent: Operand) -> Expr:
    """`base ** exponent` for a constant exponent."""
    if isinstance(exponent, Expr):
        raise OptionError("power: expected a constant exponent; write exp(b*log(a)) instead.")
    if exponent == 0:
        return Const(1.0)
    if exponent == 1:
        return expr(base)
    return call("pow", base, float(exponent))


def exp(x: Operand) -> Expr:
    return call("exp", x)


def log(x: Operand) -> Expr:
    return call("log", x)


def sqrt(x: Operand) -> Expr:
    return call("sqrt", x)


def tanh(x: Operand) -> Expr:
    return call("tanh", x)


def sigmoid(x: Operand) -> Expr:
    return call("sigmoid", x)


def expm1(x: Operand) -> Expr:
    """`eˣ − 1`, exact near 0."""
    return call("expm1", x)


def log1p(x: Operand) -> Expr:
    """`ln(1 + x)`, exact near 0."""
    return call("log1p", x)


def erf(x: Operand) -> Expr:
    """The error function `2/√π · ∫₀ˣ exp(−t²) dt`."""
    return call("erf", x)


def sin(x: Operand) -> Expr:
    return call("sin", x)


def cos(x: Operand) -> Expr:
    return call("cos", x)


def atan(x: Operand) -> Expr:
    return call("atan", x)


def asinh(x: Operand) -> Expr:
    """`ln(x + √(x² + 1))`."""
    return call("asinh", x)


def floor(x: Operand) -> Expr:
    """The largest whole number that is at most x; its derivative counts as 0."""
    return call("floor", x)


def sign(x: Operand) -> Expr:
    """1, 0 or −1; its derivative counts as 0."""
    return call("sign", x)


def equal(a: Operand, b: Operand) -> Expr:
    """1 where a = b, else 0 (`==` compares expressions, not their values)."""
    return call("eq", a, b)


def unequal(a: Operand, b: Operand) -> Expr:
    """1 where a ≠ b, else 0."""
    return call("ne", a, b)


def softplus(x: Operand) -> Expr:
    """`ln(1 + eˣ)`, computed so that eˣ cannot overflow."""
    return call("softplus", x)


def maximum(a: Operand, b: Operand) -> Expr:
    """The larger of two; NaN if one is. The gradient of a tie goes to `b`."""
    return call("maximum", a, b)


def minimum(a: Operand, b: Operand) -> Expr:
    """The smaller of two; NaN if one is. The gradient of a tie goes to `b`."""
    return call("minimum", a, b)


def where(condition: Operand, a: Operand, b: Operand) -> Expr:
    """`a` where the condition holds, else `b`."""
    return call("where", condition, a, b)


def _over(over: tuple[Index, ...]) -> tuple[str, ...]:
    names = tuple(a.axis for a in over)
    return tuple(n for n in names if n is not None)


def Sum(over: tuple[Index, ...], body: Operand) -> Expr:
    """`Σ` of `body` over the axes."""
    return Reduce("sum", _over(over), expr(body))


def Max(over: tuple[Index, ...], body: Operand) -> Expr:
    """Maximum of `body` over the axes; the gradient goes to the first of equals."""
    return Reduce("max", _over(over), expr(body))


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `Tensor("x")[n, c, i]` reads it."""

    name: str

    def __getitem__(self, index: Index | int | tuple[Index | int, ...]) -> Read:
        parts = index if isinstance(index, tuple) else (index,)
        return Read(self.name, tuple(k if isinstance(k, Index) else Index(const=k) for k in parts))


# ---- functions: their derivatives ------------------------------------------------------------


# One rule a function: (arguments, the call itself) -> partial derivative to each argument.
_Partials = Callable[[tuple[Expr, ...], Expr], tuple[Expr, ...]]
_ZERO, _ONE = Const(0.0), Const(1.0)
DERIVATIVES: dict[str, _Partials] = {
    "add": lambda a, y: (_ONE, _ONE),
    "sub": lambda a, y: (_ONE, Const(-1.0)),
    "mul": lambda a, y: (a[1], a[0]),
    "div": lambda a, y: (_ONE / a[1], -y / a[1]),
    "neg": lambda a, y: (Const(-1.0),),
    "abs": lambda a, y: (where(a[0] > 0, 1, where(a[0] < 0, -1, 0)),),
    "pow": lambda a, y: (a[1] * power(a[0], _constant(a[1]) - 1), _ZERO),
    "exp": lambda a, y: (y,),
    "log": lambda a, y: (_ONE / a[0],),
    "sqrt": lambda a, y: (Const(0.5) / y,),
    "tanh": lambda a, y: (_ONE - y * y,),
    "sigmoid": lambda a, y: (y * (_ONE - y),),
    "expm1": lambda a, y: (exp(a[0]),),
    "log1p": lambda a, y: (_ONE / (_ONE + a[0]),),
    "erf": lambda a, y: (Const(2 / math.sqrt(math.pi)) * exp(-(a[0] * a[0])),),
    "sin": lambda a, y: (cos(a[0]),),
    "cos": lambda a, y: (-sin(a[0]),),
    "atan": lambda a, y: (_ONE / (_ONE + a[0] * a[0]),),
    "asinh": lambda a, y: (_ONE / sqrt(_ONE + a[0] * a[0]),),
    "floor": lambda a, y: (_ZERO,),
    "sign": lambda a, y: (_ZERO,),
    "softplus": lambda a, y: (sigmoid(a[0]),),
    "maximum": lambda a, y: (where(a[0] > a[1], 1, 0), where(a[0] > a[1], 0, 1)),
    "minimum": lambda a, y: (where(a[0] < a[1], 1, 0), where(a[0] < a[1], 0, 1)),
    "where": lambda a, y: (_ZERO, where(a[0], 1, 0), where(a[0], 0, 1)),
    "gt": lambda a, y: (_ZERO, _ZERO),
    "ge": lambda a, y: (_ZERO, _ZERO),
    "lt": lambda a, y: (_ZERO, _ZERO),
    "le": lambda a, y: (_ZERO, _ZERO),
    "eq": lambda a, y: (_ZERO, _ZERO),
    "ne": lambda a, y: (_ZERO, _ZERO),
}


def _constant(e: Expr) -> float:
    if not isinstance(e, Const):
        raise OptionError(f"power: expected a constant exponent; got {e}.")
    return e.value


def diff(e: Expr, to: Expr) -> Expr:
    """The derivative of a scalar expression `e` to the leaf `to` (a `Var` or a `Read`)."""
    if e == to:
        return _ONE
    if isinstance(e, Call):
        total: Expr = _ZERO
        for argument, partial in zip(
            e.arguments, DERIVATIVES[e.function](e.arguments, e), strict=True
        ):
            inner = diff(argument, to)
            if inner != _ZERO and partial != _ZERO:
                total = total + chain(partial, inner)
        return total
    if isinstance(e, Reduce):
        raise OptionError(f"diff: expected a scalar expression; got the reduction {e}.")
    return _ZERO


def chain(partial: Expr, inner: Expr) -> Expr:
    """The chain rule's `partial · inner`; a 0/1 selection stays one (0·inf must stay 0)."""
    if isinstance(partial, Call) and partial.function == "where":
        condition, a, b = partial.arguments
        if isinstance(a, Const) and isinstance(b, Const):
            return where(condition, a * inner, b * inner)
    return partial * inner


def evaluate(e: Expr, values: Mapping[str, Any]) -> Any:
    """The value of a scalar expression on NumPy arrays, `values[name]` for each `Var`."""
    if isinstance(e, Const):
        return e.value
    if isinstance(e, Var):
        return values[e.name]
    if isinstance(e, Call):
        return NUMPY[e.function](*(evaluate(a, values) for a in e.arguments))
    raise OptionError(f"evaluate: expected a scalar expression; got {e}.")


def variables(e: Expr) -> tuple[str, ...]:
    """The names of the scalars in `e`, in the order of their first use."""
    found: dict[str, None] = {}

    def walk(part: Expr) -> None:
        if isinstance(part, Var):
            found.setdefault(part.name)
        for child in children(part):
            walk(child)

    walk(e)
    return tuple(found)


def children(e: Expr) -> tuple[Expr, ...]:
    """The parts that `e` is made of."""
    return e.arguments if isinstance(e, Call) else (e.body,) if isinstance(e, Reduce) else ()


def substitute(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """`e` with every `Var` that `values` names replaced."""
    if isinstance(e, Var):
        return values.get(e.name, e)
    if isinstance(e, Call):
        return call(e.function, *(substitute(a, values) for a in e.arguments))
    if isinstance(e, Reduce):
        return Reduce(e.how, e.over, substitute(e.body, values))
    return e


# ---- JSON, for graphs that travel with their weights ------------------------------------------


def to_json(e: Expr) -> Any:
    """A scalar expression as nested lists: 1.5, "x", ["mul", "x", 1.5]."""
    if isinstance(e, Const):
        return e.value
    if isinstance(e, Var):
        return e.name
    if isinstance(e, Call):
        return [e.function, *(to_json(a) for a in e.arguments)]
    raise OptionError(f"to_json: expected a scalar expression; got {e}.")


def from_json(data: Any) -> Expr:
    """The scalar expression that `to_json` gave; raises OptionError on anything else."""
    if isinstance(data, (int, float)) and not isinstance(data, bool):
        return Const(float(data))
    if isinstance(data, str):
        return Var(data)
    if isinstance(data, list) and data and isinstance(data[0], str):
        name, parts = data[0], data[1:]
        if name not in NUMPY:
            raise OptionError(f"expression: unknown function {name!r}. {suggest(name, NUMPY)}")
        if len(parts) != ARITY[name]:
            raise OptionError(
                f"expression: {name} expected {ARITY[name]} arguments; got {len(parts)}."
            )
        return Call(name, tuple(from_json(p) for p in parts))
    raise OptionError(f"expression: expected a number, a name or a list; got {data!r}.")


def trace_scalar(function: Callable[..., Operand], names: tuple[str, ...]) -> Expr:
    """The expression that a Python function of scalars computes: call it with symbols.

    >>> str(trace_scalar(lambda x: x / sqrt(1 + x * x), ("x",)))
    '(x / sqrt((1 + (x · x))))'
    """
    return expr(function(*(Var(name) for name in names)))
