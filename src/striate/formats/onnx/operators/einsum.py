"""Products of matrices and tensors: MatMul, Gemm and Einsum."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np

from striate.formats.onnx.batch_axis import batch_axis, is_symbol, moved, to_front, to_place
from striate.formats.onnx.lowering import Call
from striate.formats.onnx.registry import operator
from striate.formats.onnx.value import FLOAT32, Value
from striate.formula.einsum import BATCHED, WEIGHTS

_LETTERS = string.ascii_letters


def product(c: Call, equation: str, values: Sequence[Value]) -> Value:
    """`Σ` of products in Einstein's notation, `->` included.

    Where all operands and the output begin with one letter, that is the batch; else each operand
    is one sample.
    """
    if len(values) > len(BATCHED):
        c.refuse(f"expected at most {len(BATCHED)} operands; got {len(values)}")
    left, _, output = equation.partition("->")
    operands = left.split(",")
    own = [v.constant for v in values]
    if all(own):
        own = [False] * len(own)
    if c.lowering.symbolic and all(is_symbol(v) or w for v, w in zip(values, own, strict=True)):
        return _product_of_samples(c, operands, output, values)
    first = output[:1]
    batched = first and all(
        first not in k if weight else k[:1] == first and first not in k[1:]
        for k, weight in zip(operands, own, strict=True)
    )
    if not batched:
        free = next(letter for letter in _LETTERS if letter not in equation)
        operands = [k if w else free + k for k, w in zip(operands, own, strict=True)]
        output = free + output
    data, weights = iter(BATCHED), iter(WEIGHTS)
    names = [next(weights) if w else next(data) for w in own]
    settings = {"equation": f"{','.join(operands)}->{output}", "inputs": names}
    if output[1:]:
        return c.apply("einsum", values, settings, whole=not batched)
    # a sample has at least one axis, so a single number gets one
    extra = next(letter for letter in _LETTERS if letter not in settings["equation"])
    ones = c.reshape(values[0], (*values[0].shape, 1))
    operands[0] += extra
    settings["equation"] = f"{','.join(operands)}->{output}{extra}"
    found = c.apply("einsum", [ones, *values[1:]], settings, whole=not batched)
    return c.reshape(found, found.shape[:-1])


def _product_of_samples(
    c: Call, operands: Sequence[str], output: str, values: Sequence[Value]
) -> Value:
    """Of an imported network: the batch's letter goes to the front of each operand."""
    data, weights = iter(BATCHED), iter(WEIGHTS)
    symbols = [v for v in values if is_symbol(v)]
    letters = {k[batch_axis(v)] for k, v in zip(operands, values, strict=True) if v in symbols}
    n = "".join(letters)
    if len(letters) != 1 or output.count(n) != 1:
        c.refuse("expected every sample to be computed by itself; the batch is summed over")
    names, left, given = [], [], []
    for k, v in zip(operands, values, strict=True):
        own = k.replace(n, "")
        if v in symbols:
            v = to_front(v)
        else:  # the model's own: weights, or numbers that are the same for every sample
            sizes = [s for letter, s in zip(k, v.shape, strict=True) if letter != n]
            v = c.reshape(v, sizes if v.label else (1, *sizes))
        names.append(next(weights) if v.label else next(data))
        left.append(own if v.label else n + own)
        given.append(v)
    rest = output.replace(n, "")
    one = "" if rest else next(k for k in _LETTERS if k not in "".join(operands) + output)
    if one:  # a sample has at least one axis
        at = next(k for k, v in enumerate(values) if v in symbols)
        given[at], left[at] = c.reshape(given[at], (*given[at].shape, 1)), left[at] + one
    settings = {"equation": f"{','.join(left)}->{n}{rest}{one}", "inputs": names}
    found = c.apply("einsum", given, settings, whole=False)
    return to_place(found, output.index(n)) if rest else found


@operator("Einsum", since=12)
def einsum(c: Call) -> Value:
    equation, values = str(c.attribute("equation", "")).replace(" ", ""), c.present()
    return product(c, spelled_out(c, equation, [v.rank for v in values]), values)


def spelled_out(c: Call, equation: str, ranks: Sequence[int]) -> str:
    """An equation with letters in place of `...`, and with its output."""
    left, arrow, output = equation.partition("->")
    operands = left.split(",")
    if len(operands) != len(ranks):
        c.refuse(f"the equation {equation!r} expected {len(operands)} inputs; got {len(ranks)}")
    most = max(
        (r - len(k.replace("...", "")) for k, r in zip(operands, ranks, strict=True) if "..." in k),
        default=0,
    )
    if most < 0:
        c.refuse(f"the equation {equation!r} does not fit inputs of {list(ranks)} axes")
    free = [letter for letter in _LETTERS if letter not in equation][:most]
    found = []
    for letters, rank in zip(operands, ranks, strict=True):
        count = rank - len(letters.replace("...", ""))
        dots = "".join(free[most - count :]) if count else ""
        found.append(letters.replace("...", dots))
    if not arrow:
        together = "".join(operands).replace(".", "")
        once = sorted(k for k in set(together) if together.count(k) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    output = output.replace("...", "".join(free))
    if not re.fullmatch(r"[A-Za-z,]*->[A-Za-z]*", f"{','.join(found)}->{output}"):
        c.refuse(f"expected an equation of letters; got {equation!r}")
    return f"{','.join(found)}->{output}"


@operator("MatMul")
def matmul(c: Call) -> Value:
    a, b = c.value(0), c.value(1)
    if not a.rank or not b.rank:
        c.refuse(f"expected tensors of at least one axis; got shapes {a.shape} and {b.shape}")
    if a.rank == b.rank == 2 and b.is_known and a.dtype == FLOAT32:
        return linear(c, a, turned(b))
    if a.rank > 2 and b.rank == 2 and b.constant and not a.constant and a.dtype == FLOAT32:
        return _dense(c, a, turned(b))
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    letters = _LETTERS[: len(batch)]
    left, a = _operand(c, a, letters, "YZ" if a.rank > 1 else "Z")
    right, b = _operand(c, b, letters, "ZX" if b.rank > 1 else "Z")
    kept = "".join(k for k in letters if k in left + right)
    output = kept + "Y" * left.endswith("YZ") + "X" * right.endswith("X")
    shape = _shape_of(a, b, batch, output)
    return c.reshape(product(c, f"{left},{right}->{output}", [a, b]), shape)


def _dense(c: Call, x: Value, w: Value) -> Value:
    """`x·wᵀ` along the last of several axes."""
    if moved(x) and batch_axis(x) < x.rank - 1:
        return to_place(c.apply("dense", [to_front(x), w], whole=False), batch_axis(x))
    return c.apply("dense", [x, w], whole=c.form(x, [])[0])


def _shape_of(a: Value, b: Value, batch: tuple[int, ...], output: str) -> tuple[int, ...]:
    last = (a.shape[-2],) if "Y" in output else ()
    return (*batch, *last, *((b.shape[-1],) if "X" in output else ()))


def _operand(c: Call, value: Value, letters: str, own: str) -> tuple[str, Value]:
    """The letters of an operand; its axes of size 1, which are broadcast, are left out."""
    shape = value.shape
    outer = shape[: len(shape) - len(own)]
    mine = letters[len(letters) - len(outer) :]
    batch = batch_axis(value) if c.lowering.symbolic and is_symbol(value) else -1
    kept = [
        (k, n) for at, (k, n) in enumerate(zip(mine, outer, strict=True)) if n != 1 or at == batch
    ]
    inner = shape[len(outer) :]
    return "".join(k for k, _ in kept) + own, c.reshape(value, (*(n for _, n in kept), *inner))


def turned(matrix: Value) -> Value:
    """A known matrix transposed."""
    return matrix.derived("turned", lambda a: np.ascontiguousarray(a.T))


def linear(c: Call, x: Value, w: Value, bias: Value | None = None) -> Value:
    """`x·wᵀ + bias`: the fully connected layer."""
    return c.apply("linear", [x, w] if bias is None else [x, w, bias], whole=False)


@operator("Gemm")
def gemm(c: Call) -> Value:
    a, b, more = c.value(0), c.value(1), c.maybe(2)
    alpha, beta = float(c.attribute("alpha", 1.0)), float(c.attribute("beta", 1.0))
    a_turned, b_turned = c.attribute("transA", 0), c.attribute("transB", 0)
    c.attribute("broadcast", 0)
    if a.rank != 2 or b.rank != 2:
        c.refuse(f"expected two matrices; got shapes {a.shape} and {b.shape}")
    if not a_turned and b.is_known and a.dtype == FLOAT32:
        return _layer(c, a, scaled(b if b_turned else turned(b), alpha), more, beta)
    equation = f"{'ki' if a_turned else 'ik'},{'jk' if b_turned else 'kj'}->ij"
    found = product(c, equation, [a, b])
    if more is None:
        return found if alpha == 1 else c.map(lambda x: alpha * x, found)
    return c.map(lambda x, y: alpha * x + beta * y, found, more)


def _layer(c: Call, x: Value, w: Value, more: Value | None, beta: float) -> Value:
    """`x·wᵀ + beta·more`; what is one number a feature is the layer's bias."""
    if more is None:
        return linear(c, x, w)
    bias = _as_bias(scaled(more, beta), w.shape[0]) if more.is_known else None
    found = linear(c, x, w, bias)
    return found if bias is not None else c.map(lambda p, q: p + beta * q, found, more)


def scaled(value: Value, factor: float) -> Value:
    """A known value times a number."""
    if factor == 1:
        return value
    return value.derived(("scaled", factor), lambda a: a * np.asarray(factor, a.dtype))


def _as_bias(value: Value, count: int) -> Value | None:
    """A known value as one number for each feature, where it is that."""
    if value.shape not in ((), (1,), (count,), (1, 1), (1, count)):
        return None
    if value.shape == (count,):
        return value
    return value.derived("bias", lambda a: np.broadcast_to(a.reshape(-1), (count,)).copy())
