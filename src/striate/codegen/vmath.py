"""exp, log, sigmoid and tanh on vectors, and any scalar expression as vector code.

Polynomials with range reduction, the same on every target. Largest errors, in units in the last
place: log 0.85, exp 0.9 (1.2 without multiply-add instructions), sigmoid 2.2, tanh 2.5; special
values are right. Not here: what an activation is (formula.activation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from striate.codegen.builder import Builder, Value
from striate.errors import OptionError
from striate.formula.expression import Call, Const, Expr, Var

_LOG2E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723212e-6
_MAGIC = 12582912.0  # 1.5 · 2^23: adding it rounds to the nearest integer
_MAGIC_BITS = 0x4B400000
# Minimax polynomials: e^r on |r| ≤ ln2/2; (log(1+f) − f + f²/2)/f³ on √½ ≤ 1+f ≤ √2.
_EXP = (
    0.0013814596459269524,
    0.0083687175065279,
    0.04166838899254799,
    0.1666652113199234,
    0.4999999403953552,
    1.0,
    1.0,
)
_LOG = (
    0.06746601313352585,
    -0.11675640940666199,
    0.11888174712657928,
    -0.12405591458082199,
    0.14219550788402557,
    -0.1666799634695053,
    0.2000211924314499,
    -0.25000008940696716,
    0.3333331346511841,
)


def _horner(b: Builder, x: Value, coefficients: tuple[float, ...]) -> Value:
    total = b.const(coefficients[0])
    for c in coefficients[1:]:
        total = b.fma(total, x, b.const(c))
    return total


def _at_most(b: Builder, x: Value, limit: float) -> Value:
    """min(x, limit); NaN stays."""
    return b.select(b.fcmp("ogt", x, b.const(limit)), b.const(limit), x)


def _at_least(b: Builder, x: Value, limit: float) -> Value:
    return b.select(b.fcmp("olt", x, b.const(limit)), b.const(limit), x)


def _reduce(b: Builder, x: Value) -> tuple[Value, Value]:
    """x = n·ln2 + r with |r| ≤ ln2/2: (r, n as an integer hidden in a float's low bits)."""
    shifted = b.fadd(b.fmul(x, b.const(_LOG2E)), b.const(_MAGIC))
    n = b.fsub(shifted, b.const(_MAGIC))
    r = b.fma(n, b.const(-_LN2_HIGH), x)
    return b.fma(n, b.const(-_LN2_LOW), r), shifted


def _power_of_two(b: Builder, n: Value) -> Value:
    """2^n for an integer vector −126 ≤ n ≤ 127."""
    biased = b.integer("add", n, b.const_int(127))
    return b.as_floats(b.integer("shl", biased, b.const_int(23)))


def exp(b: Builder, x: Value) -> Value:
    """e^x: overflows to inf, underflows gradually, NaN stays."""
    x = _at_least(b, _at_most(b, x, 89.0), -104.0)
    r, shifted = _reduce(b, x)
    n = b.integer("sub", b.as_integers(shifted), b.const_int(_MAGIC_BITS))
    half = b.integer("ashr", n, b.const_int(1))  # two steps, so that 2^n never overflows alone
    scaled = b.fmul(_horner(b, r, _EXP), _power_of_two(b, half))
    return b.fmul(scaled, _power_of_two(b, b.integer("sub", n, half)))


def log(b: Builder, x: Value) -> Value:
    """Natural logarithm: log 0 = −inf, log of a negative number = NaN."""
    tiny = b.fcmp("olt", x, b.const(1.17549435e-38))
    normal = b.select(tiny, b.fmul(x, b.const(8388608.0)), x)
    raw = b.as_integers(normal)
    offset = b.integer("sub", raw, b.const_int(0x3F3504F3))  # bits of √½
    e = b.integer("ashr", offset, b.const_int(23))
    m = b.as_floats(b.integer("sub", raw, b.integer("shl", e, b.const_int(23))))
    exponent = b.let(f"sitofp {b.integers} {e} to {b.vector}")
    exponent = b.select(tiny, b.fsub(exponent, b.const(23.0)), exponent)
    f = b.fsub(m, b.const(1.0))
    square = b.fmul(f, f)
    tail = b.fmul(b.fmul(_horner(b, f, _LOG), square), f)
    tail = b.fma(exponent, b.const(-2.12194440e-4), tail)
    tail = b.fma(square, b.const(-0.5), tail)
    result = b.fma(exponent, b.const(0.693359375), b.fadd(f, tail))
    inf = b.const(float("inf"))
    result = b.select(b.fcmp("oeq", x, inf), inf, result)
    result = b.select(b.fcmp("oeq", x, b.zero), b.const(float("-inf")), result)
    return b.select(
        b.fcmp("uge", x, b.zero),
        b.fadd(result, b.select(b.fcmp("uno", x, x), x, b.zero)),
        b.const(float("nan")),
    )


def sigmoid(b: Builder, x: Value) -> Value:
    """1/(1 + e^−x), without overflow: with e = e^−|x| it is 1/(1+e) or e/(1+e)."""
    e = exp(b, b.fneg(b.unary("fabs", x)))
    top = b.select(b.fcmp("olt", x, b.zero), e, b.const(1.0))
    return b.fdiv(top, b.fadd(b.const(1.0), e))


def tanh(b: Builder, x: Value) -> Value:
    """−m/(2 + m) with m = e^(−2|x|) − 1 computed without cancellation; one path for all x."""
    y = _at_least(b, b.fmul(b.unary("fabs", x), b.const(-2.0)), -40.0)
    r, shifted = _reduce(b, y)
    q = b.fma(b.fmul(r, r), _horner(b, r, _EXP[:5]), r)  # e^r − 1
    n = b.integer("sub", b.as_integers(shifted), b.const_int(_MAGIC_BITS))
    scale = _power_of_two(b, n)
    m = b.fma(scale, q, b.fsub(scale, b.const(1.0)))
    result = b.copysign(b.fdiv(b.fneg(m), b.fadd(b.const(2.0), m)), x)
    return b.select(b.fcmp("uno", x, x), x, result)


def maximum(b: Builder, a: Value, c: Value) -> Value:
    """The larger; NaN if one is."""
    return _extreme(b, a, c, "ogt", "olt")


def minimum(b: Builder, a: Value, c: Value) -> Value:
    """The smaller; NaN if one is."""
    return _extreme(b, a, c, "olt", "ogt")


def _extreme(b: Builder, a: Value, c: Value, wins: str, loses: str) -> Value:
    if c == b.zero or c.startswith("<float"):  # a constant is no NaN: one vmaxps or vminps
        return b.select(b.fcmp(loses, a, c), c, a)
    take = b.bitwise("or", b.fcmp(wins, a, c), b.fcmp("uno", a, a))
    return b.select(take, a, c)


_EMIT: dict[str, Callable[..., Value]] = {
    "add": Builder.fadd,
    "sub": Builder.fsub,
    "mul": Builder.fmul,
    "div": Builder.fdiv,
    "neg": Builder.fneg,
    "abs": lambda b, a: b.unary("fabs", a),
    "sqrt": lambda b, a: b.unary("sqrt", a),
    "exp": exp,
    "log": log,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "maximum": maximum,
    "minimum": minimum,
}
_COMPARE = {"gt": "ogt", "ge": "oge", "lt": "olt", "le": "ole"}


class Emitter:
    """Emits scalar expressions on vectors; equal parts are computed once."""

    def __init__(self, b: Builder, values: Mapping[str, Value]) -> None:
        self.b = b
        self._values = values
        self._done: dict[Expr, Value] = {}
        self._masks: dict[Expr, Value] = {}

    def value(self, e: Expr) -> Value:
        """The vector that `e` computes."""
        if isinstance(e, Const):
            return self.b.const(e.value) if e.value != 0 else self.b.zero
        if isinstance(e, Var):
            return self._values[e.name]
        if e not in self._done:
            self._done[e] = self._call(e)
        return self._done[e]

    def _call(self, e: Expr) -> Value:
        b = self.b
        if not isinstance(e, Call):
            raise OptionError(f"expression: expected a scalar expression; got {e}.")
        if e.function in _COMPARE:
            return b.select(self.mask(e), b.const(1.0), b.zero)
        if e.function == "where":
            mask = self.mask(e.arguments[0])
            return b.select(mask, self.value(e.arguments[1]), self.value(e.arguments[2]))
        if e.function == "pow":
            return self._power(e)
        return _EMIT[e.function](b, *(self.value(a) for a in e.arguments))

    def mask(self, condition: Expr) -> Value:
        """The lanes in which a condition holds."""
        if condition not in self._masks:
            b = self.b
            if isinstance(condition, Call) and condition.function in _COMPARE:
                left, right = (self.value(a) for a in condition.arguments)
                found = b.fcmp(_COMPARE[condition.function], left, right)
            else:
                found = b.fcmp("une", self.value(condition), b.zero)
            self._masks[condition] = found
        return self._masks[condition]

    def _power(self, e: Call) -> Value:
        b, base, exponent = self.b, self.value(e.arguments[0]), e.arguments[1]
        if not isinstance(exponent, Const):
            raise OptionError(f"power: expected a constant exponent; got {exponent}.")
        k = exponent.value
        if k == int(k) and 0 < abs(k) <= 64:
            result = self._whole_power(base, int(abs(k)))
            return result if k > 0 else b.fdiv(b.const(1.0), result)
        if k == 0.5:
            return b.unary("sqrt", base)
        return exp(b, b.fmul(b.const(k), log(b, base)))

    def _whole_power(self, base: Value, k: int) -> Value:
        result, square = None, base
        while k:
            if k & 1:
                result = square if result is None else self.b.fmul(result, square)
            k >>= 1
            if k:
                square = self.b.fmul(square, square)
        return result if result is not None else self.b.const(1.0)


def emit(b: Builder, e: Expr, values: Mapping[str, Value]) -> Value:
    """The vector that a scalar expression computes on the vectors `values`."""
    return Emitter(b, values).value(e)
