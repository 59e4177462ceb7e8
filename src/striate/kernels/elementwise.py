"""Elementwise kernels: any scalar expression over equal-shaped values; copies; random numbers.

With the batch in lanes an elementwise operation is a loop over vectors, whatever the shape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.codegen.vmath import emit
from striate.formula.expression import Expr
from striate.kernels.kernel import Kernel, Tail, make_kernel, store_with_tail


@functools.lru_cache(maxsize=512)
def elementwise(
    target: Target, expr: Expr, inputs: tuple[str, ...], elements: int, aligned: bool = True
) -> Kernel:
    """y = expr(inputs…) on `elements` vectors; arguments y, then the inputs.

    `aligned`: whether they begin at whole vectors in memory.
    """
    align = None if aligned else 4

    def build(b: Builder, arguments: list[Value]) -> None:
        y, *xs = arguments

        def one(i: Int, _: list[Value]) -> None:
            at = b.mul(i, b.width)
            values = {name: b.load(x, at, align) for name, x in zip(inputs, xs, strict=True)}
            b.store(emit(b, expr, values), y, at, align)

        b.loop(0, elements, one)

    return make_kernel(target, "elementwise", ["y", *inputs], build)


@functools.lru_cache(maxsize=256)
def copy_blocks(
    target: Target, blocks: int, size: int, from_step: int, to_step: int, from_at: int, to_at: int
) -> Kernel:
    """Copy `blocks` blocks of `size` vectors, steps and starts in vectors; arguments to, from."""

    def build(b: Builder, arguments: list[Value]) -> None:
        to, source = arguments

        def block(k: Int, _: list[Value]) -> None:
            here = b.at(source, b.add(b.mul(k, from_step * b.width), from_at * b.width))
            there = b.at(to, b.add(b.mul(k, to_step * b.width), to_at * b.width))

            def one(i: Int, _: list[Value]) -> None:
                b.store(b.load(here, b.mul(i, b.width)), there, b.mul(i, b.width))

            b.loop(0, size, one)

        b.loop(0, blocks, block)

    return make_kernel(target, "copy_blocks", ["to", "from"], build)


@functools.lru_cache(maxsize=64)
def clear(target: Target, vectors: int) -> Kernel:
    """Fill with zeros; arguments out."""

    def build(b: Builder, arguments: list[Value]) -> None:
        b.loop(0, vectors, lambda i, _: b.store(b.zero, arguments[0], b.mul(i, b.width)))

    return make_kernel(target, "clear", ["out"], build)


@functools.lru_cache(maxsize=64)
def fill(target: Target, vectors: int, value: float) -> Kernel:
    """The same number everywhere; arguments out."""

    def build(b: Builder, arguments: list[Value]) -> None:
        b.loop(0, vectors, lambda i, _: b.store(b.const(value), arguments[0], b.mul(i, b.width)))

    return make_kernel(target, "fill", ["out"], build)


_PHILOX_M = (0xD2511F53, 0xCD9E8D57)
_PHILOX_W = (0x9E3779B9, 0xBB67AE85)


@functools.lru_cache(maxsize=64)
def dropout(target: Target, elements: int, p: float, site: int, tail: Tail | None = None) -> Kernel:
    """y = x/(1−p) where the counter-based uniform is at least p, else 0.

    Arguments y, x, samples (the lanes' positions in the batch, i32), key (the seed's two words and
    the step's number, i32), then the tail's. Philox4x32-10 with the counter
    (element // 4, sample, step, site) gives the words of four neighbouring elements.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        y, x, samples, key, *rest = arguments

        def one(u: Value, at: Int) -> None:
            kept = b.fmul(b.load(x, at), b.const(1.0 / (1.0 - p) if p < 1 else 0.0))
            value = b.select(b.fcmp("oge", u, b.const(p)), kept, b.zero)
            store_with_tail(b, tail, value, y, at, rest)

        _for_each_uniform(b, elements, site, samples, key, one)

    names = ["y", "x", "samples", "key", *(tail.arguments if tail else ())]
    return make_kernel(target, "dropout", names, build)


@functools.lru_cache(maxsize=64)
def uniform(target: Target, elements: int, site: int, tail: Tail | None = None) -> Kernel:
    """The counter-based uniform numbers themselves; arguments y, samples, key, the tail's.

    See `dropout`.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        y, samples, key, *rest = arguments

        def one(u: Value, at: Int) -> None:
            store_with_tail(b, tail, u, y, at, rest)

        _for_each_uniform(b, elements, site, samples, key, one)

    names = ["y", "samples", "key", *(tail.arguments if tail else ())]
    return make_kernel(target, "uniform", names, build)


def _for_each_uniform(
    b: Builder,
    elements: int,
    site: int,
    samples: Value,
    key: Value,
    use: Callable[[Value, Int], None],
) -> None:
    """`use(uniform numbers, offset in floats)` for every element."""
    lanes = b.let(f"load {b.integers}, ptr {samples}, align 4")
    words = [*(_splat_word(b, key, k) for k in range(3)), b.const_int(site)]

    def four(i: Int, count: int) -> None:
        counter = _splat_i32(b, b.divide(i, 4))
        uniforms = _philox(b, [counter, lanes, words[2], words[3]], words[:2])
        for k in range(count):
            top = b.integer("lshr", uniforms[k], b.const_int(8))
            u = b.fmul(b.let(f"uitofp {b.integers} {top} to {b.vector}"), b.const(2.0**-24))
            use(u, b.mul(b.add(i, k), b.width))

    b.tiled(elements, 4, four)


def _splat_word(b: Builder, pointer: Value, at: int) -> Value:
    word = b.let(f"load i32, ptr {b.at(pointer, at)}, align 4")
    return _splat_int(b, word)


def _splat_i32(b: Builder, index: Int) -> Value:
    if isinstance(index, int):
        return b.const_int(index)
    return _splat_int(b, b.let(f"trunc i64 {index} to i32"))


def _splat_int(b: Builder, word: Value) -> Value:
    first = b.let(f"insertelement {b.integers} poison, i32 {word}, i32 0")
    mask = f"<{b.width} x i32> zeroinitializer"
    return b.let(f"shufflevector {b.integers} {first}, {b.integers} poison, {mask}")


def _philox(b: Builder, counter: list[Value], key: list[Value]) -> list[Value]:
    """Ten rounds of Philox4x32 (Salmon et al. 2011) in every lane."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for turn in range(10):
        if turn:
            k0 = b.integer("add", k0, b.const_int(_signed(_PHILOX_W[0])))
            k1 = b.integer("add", k1, b.const_int(_signed(_PHILOX_W[1])))
        high0, low0 = _multiply(b, c0, _PHILOX_M[0])
        high1, low1 = _multiply(b, c2, _PHILOX_M[1])
        c0 = b.integer("xor", b.integer("xor", high1, c1), k0)
        c2 = b.integer("xor", b.integer("xor", high0, c3), k1)
        c1, c3 = low1, low0
    return [c0, c1, c2, c3]


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def _multiply(b: Builder, a: Value, constant: int) -> tuple[Value, Value]:
    """The high and low words of a 32 × 32-bit product."""
    wide = f"<{b.width} x i64>"
    factor = "<" + ", ".join([f"i64 {constant}"] * b.width) + ">"
    product = b.let(f"mul {wide} {b.let(f'zext {b.integers} {a} to {wide}')}, {factor}")
    shift = "<" + ", ".join(["i64 32"] * b.width) + ">"
    top = b.let(f"lshr {wide} {product}, {shift}")
    high = b.let(f"trunc {wide} {top} to {b.integers}")
    return high, b.let(f"trunc {wide} {product} to {b.integers}")
