"""Fingerprints: every change of any float shows, whatever it is and wherever."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import changed, code, given, normal_numbers, run_kernel

from striate.codegen.compiler import compile_modules
from striate.codegen.targets import TARGETS, Target
from striate.kernels.fingerprint import STREAMS, WORDS, fingerprint

Print = Callable[[Any], bytes]
SIZES = (1, 2, STREAMS - 1, STREAMS, STREAMS + 1, 3 * STREAMS + 5, 1000)


@pytest.fixture
def print_of(target: Target) -> Print:
    kernel = fingerprint(target)
    kinds = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function = code(kernel, target).function(kernel.symbol, *kinds)

    def run(values: Any) -> bytes:
        out = np.zeros(WORDS, np.int64)
        function(out.ctypes.data, values.ctypes.data, values.size)
        return out.tobytes()

    return run


def _reference(values: Any) -> bytes:
    """The file's head, written with Python's integers."""

    def turn(a: int, by: int, bits: int) -> int:
        return (a << by | a >> (bits - by)) % 2**bits

    wide = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
    hs = [(k + 1) * 0x9E3779B1 % 2**32 for k in range(STREAMS)]
    gs = [(k + STREAMS + 1) * 0x9E3779B1 % 2**32 for k in range(STREAMS)]
    words = [int(x) for x in values.view(np.uint32)]
    whole = len(words) // STREAMS * STREAMS
    for k, x in enumerate(words[:whole]):
        s = k % STREAMS
        hs[s] = turn((hs[s] ^ x) * 0x9E3779B1 % 2**32, 13, 32)
        gs[s] = (turn(gs[s], 5, 32) + hs[s]) % 2**32
    over = (len(words) + 1) * wide[2] % 2**64
    for x in words[whole:]:
        over = turn((over ^ x) * wide[0] % 2**64, 31, 64)
    states = [h | g << 32 for h, g in zip(hs, gs, strict=True)]
    out = [
        (a * wide[0] + turn(c * wide[1] % 2**64, 29, 64) + turn(over, k + 1, 64)) % 2**64
        for k, (a, c) in enumerate(zip(states[:WORDS], states[WORDS:], strict=True))
    ]
    return np.array(out, np.uint64).tobytes()


@pytest.mark.parametrize("size", (0, *SIZES))
def test_it_is_what_the_head_says_and_reads_no_more(target: Target, size: int) -> None:
    values = normal_numbers(size, size)
    before = np.zeros(2 * WORDS, np.float32)
    (found,) = run_kernel(fingerprint(target), target, changed(before), given(values), size)
    assert found.tobytes() == _reference(values)


def test_one_changed_bit_anywhere_shows(print_of: Print) -> None:
    for size in SIZES:
        values = normal_numbers(size, size)
        bits = values.view(np.uint32)
        seen = {print_of(values)}
        places = range(size) if size < 200 else range(0, size, 7)
        for place in places:
            for bit in range(32):
                bits[place] ^= np.uint32(1 << bit)
                seen.add(print_of(values))
                bits[place] ^= np.uint32(1 << bit)
        assert len(seen) == 1 + 32 * len(places)


def test_changes_that_sums_would_miss(print_of: Print) -> None:
    rng = np.random.default_rng(0)
    values = normal_numbers(1, 5 * STREAMS + 9)
    before, seen = print_of(values), set()
    for _ in range(20000):
        other = values.copy()
        a, c = rng.choice(values.size, 2, replace=False)
        if rng.random() < 0.5:  # often in the same stream
            c = (a + STREAMS * rng.integers(1, 4)) % values.size
        kind = rng.integers(3)
        if kind == 0:
            other[[a, c]] = other[[c, a]]
        elif kind == 1:
            other[[a, c]] = -other[[a, c]]
        else:
            other.view(np.uint32)[[a, c]] ^= rng.integers(0, 2**32, 2, dtype=np.uint32)
        if other.tobytes() == values.tobytes():
            continue
        found = print_of(other)
        assert found != before
        seen.add((other.tobytes(), found))
    assert len({p for _, p in seen}) == len({v for v, _ in seen})


def test_changes_that_cancel_in_one_state(print_of: Print) -> None:
    """A sign and the bit that its effect is turned to, one round later in the same stream."""
    values = normal_numbers(2, 4 * STREAMS)
    before = print_of(values)
    for stream in range(STREAMS):
        other = values.copy()
        bits = other.view(np.uint32)
        bits[stream] ^= np.uint32(1 << 31)
        bits[stream + STREAMS] ^= np.uint32(1 << 12)
        assert print_of(other) != before


def test_zeros_signs_and_lengths(print_of: Print) -> None:
    for size in SIZES:
        zeros = np.zeros(size, np.float32)
        assert print_of(zeros) != print_of(-zeros)
        assert print_of(zeros) != print_of(np.zeros(size + 1, np.float32))
        assert print_of(zeros) != print_of(np.zeros(size + STREAMS, np.float32))
    prints = [print_of(np.roll(normal_numbers(3, 200), k)) for k in range(200)]
    assert len(set(prints)) == 200


@pytest.mark.parametrize("name", ["x86-64-v4", "aarch64"])
def test_other_targets_compile(name: str) -> None:
    target = TARGETS[name]
    assert all(compile_modules([fingerprint(target).module], target))
