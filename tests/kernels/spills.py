"""Counts vector registers that go through the stack, in the assembly that LLVM writes."""

from __future__ import annotations

import re

_VECTOR = re.compile(r"%[xyz]mm\d+")
_STACK = re.compile(r"\(%rsp[,)]")
_LABEL = re.compile(r"^(\.LBB\w+):")
_JUMP = re.compile(r"^\s+j\w+\s+(\.LBB\w+)")


def vector_spills(text: str) -> int:
    """Instructions with a vector register and the stack."""
    return len(_spilling(text.splitlines()))


def spills_in_loops(text: str) -> int:
    """The same, but only in innermost loops: backward jumps around no other."""
    lines = text.splitlines()
    labels = {m.group(1): k for k, line in enumerate(lines) if (m := _LABEL.match(line))}
    jumps = [(labels[m.group(1)], k) for k, line in enumerate(lines) if (m := _JUMP.match(line))]
    loops = [(start, stop) for start, stop in jumps if start < stop]
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return sum(any(start <= k <= stop for start, stop in inner) for k in _spilling(lines))


def _spilling(lines: list[str]) -> list[int]:
    return [
        k
        for k, line in enumerate(lines)
        if not line.lstrip().startswith((".", "#")) and _VECTOR.search(line) and _STACK.search(line)
    ]
