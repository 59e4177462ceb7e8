"""The terms of a gradient for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.inspect.explain_layout import number, term_lines, verdict, wrapped

if TYPE_CHECKING:
    from striate.inspect.explain_gradient import GradientExplanation
    from striate.inspect.explain_parts import Part


def gradient_text(found: GradientExplanation, width: int, full: bool) -> str:
    """The whole explanation."""
    name = f"{found.node}[{', '.join(map(str, found.at))}]"
    lines = [*wrapped(f"gradient of {found.of} to {name}", width, ""), ""]
    for part in found.parts:
        lines += [*_part_lines(part, width, full), ""]
    if not found.parts:
        lines += ["  nothing reads it on the way: the gradient is 0", ""]
    if len(found.parts) > 1:
        total = " ".join(_signed(part.value) for part in found.parts).removeprefix("+ ")
        lines += [*wrapped(f"{total} = {number(found.value)}", width), ""]
    lines += verdict(found.value, found.native, found.allowed, found.agrees, found.ordered)
    return "\n".join(line.rstrip() for line in lines)


def _part_lines(part: Part, width: int, full: bool) -> list[str]:
    if not part.node:
        return [f"  the gradient that is sent back, as it was given: {number(part.value)}"]
    reads = ", ".join(k if k == name else f"{k} = {name}" for k, name in part.tensors.items())
    head = f"through {part.node}: {part.op} of {reads}; dy = the gradient to {part.node}"
    lines = [*wrapped(head, width, ""), *wrapped(part.formula, width), ""]
    count = len(part.step.terms)
    lines += term_lines(part.step.terms, "sum", width, full, part.product)
    return [*lines, f"  sum of {count} {'terms' if count != 1 else 'term'} = {number(part.value)}"]


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'} {number(abs(value))}"
