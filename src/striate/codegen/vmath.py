"""exp, log, tanh, erf, sin … on vectors, and any scalar expression as vector code.

Polynomials with range reduction, the same on every target. Largest errors, in units in the last
place: log 0.85, exp 0.9 (1.2 without multiply-add instructions), sigmoid 2.2, tanh 2.5, expm1 1.5,
log1p 2.4, softplus 2.5, erf 1.2, atan 1.5, asinh 2.7, sin and cos 1.6 for |x| ≤ 10⁶ (beyond, they
only stay between −1 and 1); special values are right. Not here: what an activation is
(formula.activation).
"""

from __future__ import annotations

import math
import struct
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


def expm1(b: Builder, x: Value) -> Value:
    """e^x − 1 without cancellation: 2^n·(e^r − 1) + (2^n − 1), scaled in two steps as in `exp`."""
    y = _at_least(b, _at_most(b, x, 89.0), -40.0)
    r, shifted = _reduce(b, y)
    q = b.fma(b.fmul(r, r), _horner(b, r, _EXP[:5]), r)  # e^r − 1
    n = b.integer("sub", b.as_integers(shifted), b.const_int(_MAGIC_BITS))
    half = b.integer("ashr", n, b.const_int(1))
    rest = b.integer("sub", n, half)
    scale, back = _power_of_two(b, half), _power_of_two(b, b.integer("sub", b.const_int(0), rest))
    m = b.fma(scale, q, b.fsub(scale, back))
    result = b.copysign(b.fmul(m, _power_of_two(b, rest)), x)
    return b.select(b.fcmp("uno", x, x), x, result)


def log1p(b: Builder, x: Value) -> Value:
    """ln(1 + x) as ln(u)·x/(u − 1) with u = 1 + x rounded: the rounding's error cancels."""
    u = b.fadd(b.const(1.0), x)
    near = b.fcmp("oeq", u, b.const(1.0))
    below = b.select(near, b.const(1.0), b.fsub(u, b.const(1.0)))
    ratio = b.select(b.fcmp("oeq", x, below), b.const(1.0), b.fdiv(x, below))  # not ∞/∞
    return b.select(near, x, b.fmul(log(b, u), ratio))


def softplus(b: Builder, x: Value) -> Value:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|)."""
    small = log1p(b, exp(b, b.fneg(b.unary("fabs", x))))
    return b.fadd(maximum(b, x, b.zero), small)


_ERF_NEAR = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1)
_ERF_FAR = (
    -1.72853470e-5,
    3.83197126e-4,
    -3.88396438e-3,
    2.42546219e-2,
    -1.06777877e-1,
    -6.34846687e-1,
    -1.28717512e-1,
)


def erf(b: Builder, x: Value) -> Value:
    """A polynomial up to 0.92; from there on 1 − e^(−t + t·polynomial), to 4, where it is 1."""
    size = b.unary("fabs", x)
    square = b.fmul(x, x)
    near = b.fma(_horner(b, square, (*_ERF_NEAR, 1.28379166e-1)), x, x)
    t = _at_most(b, size, 4.0)
    power = b.fma(_horner(b, t, _ERF_FAR), t, b.fneg(t))
    far = b.copysign(b.fsub(b.const(1.0), exp(b, power)), x)
    result = b.select(b.fcmp("ogt", size, b.const(0.921875)), far, near)
    return b.select(b.fcmp("uno", x, x), x, result)


_ATAN = (
    0.0029745823703706264,
    -0.016581153497099876,
    0.04355349391698837,
    -0.07580574601888657,
    0.10678938776254654,
    -0.14214208722114563,
    0.19994136691093445,
    -0.3333316743373871,
)


def atan(b: Builder, x: Value) -> Value:
    """A polynomial up to 1; beyond it π/2 − atan(1/x)."""
    size = b.unary("fabs", x)
    large = b.fcmp("ogt", size, b.const(1.0))
    t = b.select(large, b.fdiv(b.const(1.0), size), size)
    square = b.fmul(t, t)
    inner = b.fma(b.fmul(_horner(b, square, _ATAN), square), t, t)
    # π/2 in two parts: the second is what the first lacks
    outer = b.fadd(b.fsub(b.const(1.57079637050628662), inner), b.const(-4.37113883e-8))
    result = b.copysign(b.select(large, outer, inner), x)
    return b.select(b.fcmp("uno", x, x), x, result)


def asinh(b: Builder, x: Value) -> Value:
    """sign(x)·ln(1 + t + t²/(1 + √(1 + t²))) with t = |x|; ln t + ln 2 where t² would overflow."""
    size = b.unary("fabs", x)
    large = b.fcmp("ogt", size, b.const(1e9))
    t = b.select(large, b.zero, size)
    square = b.fmul(t, t)
    root = b.unary("sqrt", b.fadd(b.const(1.0), square))
    small = b.fadd(t, b.fdiv(square, b.fadd(b.const(1.0), root)))
    inner = log1p(b, b.select(large, size, small))
    result = b.fadd(inner, b.select(large, b.const(0.69314718056), b.zero))
    return b.select(b.fcmp("uno", x, x), x, b.copysign(result, x))


# π/2 in parts whose products with numbers of turns below 2²⁰ are exact in float64.
_HALF_PI = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_TURN_MAGIC = 6755399441055744.0  # 1.5 · 2^52


def _turns(b: Builder, x: Value) -> tuple[Value, Value]:
    """x = n·π/2 + r with |r| ≤ π/4: (r, the low bits of n); computed in float64."""
    wide = f"<{b.width} x double>"

    def const(value: float) -> Value:
        bits = struct.unpack("<Q", struct.pack("<d", value))[0]
        return "<" + ", ".join([f"double 0x{bits:016X}"] * b.width) + ">"

    x64 = b.let(f"fpext {b.vector} {x} to {wide}")
    turns = b.let(f"fmul {wide} {x64}, {const(2 / math.pi)}")
    shifted = b.let(f"fadd {wide} {turns}, {const(_TURN_MAGIC)}")
    n = b.let(f"fsub {wide} {shifted}, {const(_TURN_MAGIC)}")
    rest = x64
    for part in _HALF_PI:
        rest = b.let(f"fsub {wide} {rest}, {b.let(f'fmul {wide} {n}, {const(part)}')}")
    r = b.let(f"fptrunc {wide} {rest} to {b.vector}")
    bits = b.let(f"bitcast {wide} {shifted} to <{b.width} x i64>")
    quarter = b.let(f"trunc <{b.width} x i64> {bits} to {b.integers}")
    return _at_least(b, _at_most(b, r, 0.7853982), -0.7853982), quarter


def _sine(b: Builder, x: Value, more: int) -> Value:
    """sin(x + more·π/2): sine or cosine of the rest, and its sign, by the quarter turn."""
    r, quarter = _turns(b, x)
    quarter = b.integer("add", quarter, b.const_int(more)) if more else quarter
    square = b.fmul(r, r)
    odd = _horner(b, square, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
    odd = b.fma(b.fmul(odd, square), r, r)
    even = _horner(b, square, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2))
    even = b.fma(b.fmul(even, square), square, b.fma(square, b.const(-0.5), b.const(1.0)))
    crossed = b.integer("and", quarter, b.const_int(1))
    is_even = b.let(f"icmp ne {b.integers} {crossed}, zeroinitializer")
    flip = b.integer("shl", b.integer("and", quarter, b.const_int(2)), b.const_int(30))
    value = b.as_integers(b.select(is_even, even, odd))
    return b.as_floats(b.integer("xor", value, flip))


def sin(b: Builder, x: Value) -> Value:
    """The sine; NaN of ±∞."""
    return b.select(b.fcmp("oeq", x, b.zero), x, _sine(b, x, 0))


def cos(b: Builder, x: Value) -> Value:
    """The cosine; NaN of ±∞."""
    return _sine(b, x, 1)


def floor(b: Builder, x: Value) -> Value:
    """The largest whole number ≤ x; from 2^23 on every number is whole."""
    size = b.unary("fabs", x)
    small = b.fcmp("olt", size, b.const(8388608.0))
    inside = b.select(small, x, b.zero)
    whole = b.let(f"fptosi {b.vector} {inside} to {b.integers}")
    cut = b.let(f"sitofp {b.integers} {whole} to {b.vector}")
    over = b.select(b.fcmp("ogt", cut, inside), b.const(1.0), b.zero)
    return b.select(small, b.copysign(b.fsub(cut, over), x), x)


def sign(b: Builder, x: Value) -> Value:
    """1, −1, or x itself where it is 0 or NaN."""
    negative = b.select(b.fcmp("olt", x, b.zero), b.const(-1.0), x)
    return b.select(b.fcmp("ogt", x, b.zero), b.const(1.0), negative)


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
    "expm1": expm1,
    "log1p": log1p,
    "softplus": softplus,
    "erf": erf,
    "atan": atan,
    "asinh": asinh,
    "sin": sin,
    "cos": cos,
    "floor": floor,
    "sign": sign,
}
_COMPARE = {"gt": "ogt", "ge": "oge", "lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}


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
