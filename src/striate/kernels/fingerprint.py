"""A fingerprint of floats in memory, to notice that somebody has changed them in place.

Not a cryptographic hash: it guards against forgetfulness, not against attack. It reads at the
speed of memory. Every bit counts, also those that comparing floats would not see (the sign of
zero, the bits of a NaN), and so does every float's place.

There are 32 streams of floats, each with two states of 32 bits:

    h ← rotate((h xor x) · M, 13),  g ← rotate(g, 5) + h,  x = the stream's next float

Both steps can be undone, so that a single float changed in a stream always shows; and two changes
whose effects on h cancel have left their trace in g. Two streams give one of the 16 words out.
"""

from __future__ import annotations

import functools

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel, make_kernel

STREAMS = 32
WORDS = STREAMS // 2
_FACTOR = 0x9E3779B1  # odd; 2³² divided by the golden ratio
_WIDE = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd


@functools.lru_cache(maxsize=8)
def fingerprint(target: Target) -> Kernel:
    """16 words of 64 bits from floats: equal floats in the same order give equal words.

    The words do not depend on the target.

    Args:
        target: the CPU.

    Returns:
        Kernel of out (16 words), data (count floats, read exactly) and count.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        out, data, count = arguments
        sums = _streams(b, data, count)
        over = _left_over(b, data, count)
        _finish(b, out, sums, over)

    return make_kernel(target, "fingerprint", ["out", "data", "count:i64"], build)


def _streams(b: Builder, data: Value, count: Value) -> list[Value]:
    """The states h of all streams, then g, after all whole rounds of 32 floats."""
    vectors = STREAMS // b.width
    start = [b.as_floats(_numbered(b, v * b.width + 1)) for v in range(2 * vectors)]

    def one(at: Int, states: list[Value]) -> list[Value]:
        here = b.at(data, at)
        words = [b.as_integers(s) for s in states]
        hs, gs = [], []
        for v in range(vectors):
            x = b.as_integers(b.load(here, v * b.width, align=4))
            mixed = b.integer("mul", b.integer("xor", words[v], x), b.const_int(_FACTOR))
            hs.append(_rotate(b, mixed, 13))
            gs.append(b.integer("add", _rotate(b, words[vectors + v], 5), hs[-1]))
        return [b.as_floats(s) for s in (*hs, *gs)]

    whole = b.mul(b.divide(count, STREAMS), STREAMS)
    return [b.as_integers(s) for s in b.loop(0, whole, one, start, step=STREAMS)]


def _numbered(b: Builder, first: int) -> Value:
    """A different number in every lane."""
    lanes = (f"i32 {(first + k) * _FACTOR % 2**32}" for k in range(b.width))
    return b.let(f"bitcast {b.integers} <{', '.join(lanes)}> to {b.integers}")


def _rotate(b: Builder, a: Value, by: int) -> Value:
    high = b.integer("shl", a, b.const_int(by))
    return b.integer("or", high, b.integer("lshr", a, b.const_int(32 - by)))


def _left_over(b: Builder, data: Value, count: Value) -> Value:
    """A word of the floats behind the last whole round, and of the count."""
    state = b.let("alloca i64, align 8")
    first = b.let(f"mul i64 {b.add(count, 1)}, {_WIDE[2]}")
    b.emit(f"store i64 {first}, ptr {state}, align 8")

    def one(at: Int, _: list[Value]) -> None:
        x = b.let(f"load i32, ptr {b.at(data, at)}, align 4")
        mixed = b.let(f"xor i64 {b.load_i64(state)}, {b.let(f'zext i32 {x} to i64')}")
        turned = _rotate_wide(b, b.let(f"mul i64 {mixed}, {_WIDE[0]}"), 31)
        b.emit(f"store i64 {turned}, ptr {state}, align 8")

    b.loop(b.mul(b.divide(count, STREAMS), STREAMS), count, one)
    return b.load_i64(state)


def _rotate_wide(b: Builder, a: Value, by: int) -> Value:
    b.declare("declare i64 @llvm.fshl.i64(i64, i64, i64)")
    return b.let(f"call i64 @llvm.fshl.i64(i64 {a}, i64 {a}, i64 {by})")


def _finish(b: Builder, out: Value, sums: list[Value], over: Value) -> None:
    """Each word: two streams of both states, multiplied and turned, and what was left over."""
    for word in range(WORDS):
        first, second = (_state(b, sums, stream) for stream in (word, word + WORDS))
        a = b.let(f"mul i64 {first}, {_WIDE[0]}")
        c = _rotate_wide(b, b.let(f"mul i64 {second}, {_WIDE[1]}"), 29)
        both = b.let(f"add i64 {a}, {c}")
        total = b.let(f"add i64 {both}, {_rotate_wide(b, over, word + 1)}")
        b.emit(f"store i64 {total}, ptr {b.at(out, word, 8)}, align 8")


def _state(b: Builder, sums: list[Value], stream: int) -> Value:
    """h and g of one stream as one word."""
    vectors = STREAMS // b.width
    vector, lane = divmod(stream, b.width)
    parts = []
    for state in (sums[vector], sums[vectors + vector]):
        half = b.let(f"extractelement {b.integers} {state}, i32 {lane}")
        parts.append(b.let(f"zext i32 {half} to i64"))
    return b.let(f"or i64 {parts[0]}, {b.let(f'shl i64 {parts[1]}, 32')}")
