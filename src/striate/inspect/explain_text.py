"""Explanations laid out for a terminal: patch, kernel and products as grids, or as a list.

Plain text of a given width, without colours; the arithmetic is in `inspect.explain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from striate.formula.terms import Place, Step
from striate.inspect.explain_layout import number, shown, term_lines, verdict, wrapped

if TYPE_CHECKING:
    from striate.inspect.explain import Explanation, Stage
    from striate.inspect.explain_trace import Trace


def explanation_text(explanation: Explanation, width: int, full: bool) -> str:
    """The whole explanation."""
    lines: list[str] = []
    for stage in explanation.stages:
        lines += [*_stage_lines(stage, width, full), ""]
    last = explanation.stages[-1]
    lines += verdict(last.value, last.native, last.allowed, explanation.agrees, last.ordered)
    return "\n".join(line.rstrip() for line in lines)


def _stage_lines(stage: Stage, width: int, full: bool) -> list[str]:
    lines = [*wrapped(stage_name(stage), width, ""), *wrapped(stage.formula, width)]
    if stage.step.kind in ("read", "computed") and not stage.step.places:
        return [*lines, f"  = {number(stage.value)}"]
    for reduction in reductions(stage.step):
        lines += ["", *term_lines(reduction.terms, reduction.kind, width, full)]
        lines.append(f"  {total_line(reduction)}")
    reads = reads_lines(stage, width)
    lines += ["", *reads] if reads else []
    return [*lines, "", *summary_lines(stage, width)]


def stage_name(stage: Stage) -> str:
    """`conv1[0, 3, 4]: conv2d of x = input, w = conv1.weight`."""
    place = ", ".join(map(str, stage.at))
    reads = ", ".join(k if k == name else f"{k} = {name}" for k, name in stage.tensors.items())
    return f"{stage.node}[{place}]: {stage.op}" + (f" of {reads}" if reads else "")


def reductions(step: Step) -> list[Step]:
    """The sums and maxima of a step, each once."""
    found = [part for part in _walk(step) if part.terms]
    return list({id(part.terms): part for part in found}.values())


def _walk(step: Step) -> Iterator[Step]:
    yield step
    for part in step.parts:
        yield from _walk(part)


def total_line(step: Step) -> str:
    """`sum of 9 terms = 1.25`."""
    count, terms = len(step.terms), step.terms
    word = "largest of" if step.kind == "max" else "sum of"
    total = f"{word} {count} {'terms' if count != 1 else 'term'} = {number(step.value)}"
    if step.kind == "max" and terms.reads:
        place = terms.reads[0].place(int(np.argmax(terms.values)))
        total += f", the first at {_name(place)}"
    return total


def reads_lines(stage: Stage, width: int) -> list[str]:
    """What a stage reads outside sums, with its places; of an activation it is said above."""
    places = _places(stage.step)
    if not places or (stage.op == "map" and len(stage.tensors) == 1):
        return []
    return wrapped("reads " + ", ".join(map(_read, places)), width)


def _places(step: Step) -> list[Place]:
    """What is read outside sums, where that is more than a bias."""
    found = {p.places[0]: None for p in _walk(step) if p.kind == "read" and p.places}
    places = [place for place in found if place.tensor != "b"]
    return list(found) if places else []


def _name(place: Place) -> str:
    return f"{place.tensor}[{', '.join(map(str, place.index))}]"


def _read(place: Place) -> str:
    return f"{_name(place)} = {shown(place)}"


# ---- what is made of them ----------------------------------------------------------------------

_SIGNS = {"add": "+", "sub": "−", "mul": "·", "div": "/"}
_COMPARE = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "eq": "=", "ne": "≠"}


def _functions(step: Step, width: int) -> list[str]:
    """The functions inside a longer expression, with their values."""
    found: dict[str, None] = {}
    for part in _walk(step):
        if (
            part is not step
            and part.parts
            and part.kind not in (*_SIGNS, *_COMPARE, "where", "neg")
        ):
            found[f"{_written(part)} = {number(part.value)}"] = None
    return [line for text in found for line in wrapped(text, width)]


def summary_lines(stage: Stage, width: int) -> list[str]:
    """The steps from the sums to the value: `0.12 + 0.5 = 0.62`."""
    if stage.step.terms:
        return [f"  {stage.node}[{', '.join(map(str, stage.at))}] = {number(stage.value)}"]
    made = f"{_written(stage.step)} = {number(stage.value)}"
    return [*_functions(stage.step, width), *wrapped(made, width)]


def _written(step: Step) -> str:
    """A function with its arguments' values in place of their names."""
    signs = {**_SIGNS, **_COMPARE}
    if step.kind in signs and len(step.parts) == 2:
        left, right = (_inner(part) for part in step.parts)
        return f"{left} {signs[step.kind]} {right}"
    if step.kind == "neg":
        return f"−{_inner(step.parts[0])}"
    if not step.parts:
        return _inner(step)
    return f"{step.kind}({', '.join(_outer(part) for part in step.parts)})"


def _inner(step: Step) -> str:
    """An argument of a sign: a sum in it needs parentheses."""
    if step.kind in _SIGNS:
        return f"({_written(step)})"
    return _outer(step)


def _outer(step: Step) -> str:
    if step.parts:
        return _written(step)
    names = {"sum": "sum", "max": "largest"}
    label = names.get(step.kind, "")
    if step.kind == "read" and step.places[0].tensor == "b":
        label = "bias"
    return f"{label} {number(step.value)}".strip()


# ---- back to the pixels --------------------------------------------------------------------------


def trace_text(trace: Trace, width: int) -> str:
    """A tree of contributions; what was not followed is summed up."""
    place = ", ".join(map(str, trace.at))
    lines = [
        f"{trace.node}[{place}] = {number(trace.value)}, made of",
        *_branches(trace, "", width),
        "",
        *wrapped(
            "Each line: a number, its value, what it adds to the number at the top, and that as a "
            "share of it. What is added is the value times the slope.",
            width,
            "",
            "",
        ),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _branches(trace: Trace, lead: str, width: int) -> list[str]:
    rows: list[tuple[str, Trace | None]] = [(_entry(part), part) for part in trace.parts]
    if trace.others:
        rows.append((f"… {trace.others:,} more {_signed(trace.rest)}", None))
    if trace.parts and abs(trace.constant) > 1e-6 * abs(trace.amount):
        rows.append((f"bias and constants {_signed(trace.constant)}", None))
    lines = []
    for k, (text, part) in enumerate(rows):
        last = k == len(rows) - 1
        while part is not None and len(part.parts) == 1 and not part.others and not part.constant:
            part = part.parts[0]
            text += f" ← {_place_of(part)}"
        lines += wrapped(text, width, lead + ("└─ " if last else "├─ "), lead + "   " * (1 + last))
        if part is not None:
            lines += _branches(part, lead + ("   " if last else "│  "), width)
    return lines


def _entry(trace: Trace) -> str:
    share = percent(trace.share)
    return f"{_place_of(trace)} {number(trace.value)}: {_signed(trace.amount)} ({share})"


def percent(share: float) -> str:
    """A share: three figures below 100 %, no decimals above.

    >>> percent(0.01234), percent(-2.5)
    ('1.23 %', '-250 %')
    """
    return f"{100 * share:.3g} %" if abs(share) < 1 else f"{100 * share:.0f} %"


def _place_of(trace: Trace) -> str:
    kind = "pixel " if trace.op == "input" else ""
    return f"{kind}{trace.node}[{', '.join(map(str, trace.at))}]"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{number(abs(value))}"
