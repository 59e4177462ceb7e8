"""Explanations laid out for a terminal: patch, kernel and products as grids, or as a list.

Plain text of a given width, without colours; the arithmetic is in `inspect.explain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from striate.formula.terms import Place, Step, Term

if TYPE_CHECKING:
    from striate.inspect.explain import Explanation, Stage

_GAP = "   "
_SHOWN_GROUPS = 2  # channels shown in full
_SHOWN_TERMS = 8
_PADDING = "pad"


def explanation_text(explanation: Explanation, width: int, full: bool) -> str:
    """The whole explanation."""
    lines: list[str] = []
    for stage in explanation.stages:
        lines += [*_stage_lines(stage, width, full), ""]
    lines += _verdict(explanation)
    return "\n".join(line.rstrip() for line in lines)


def number(value: float) -> str:
    """A number in at most 10 characters.

    >>> number(0.0), number(-0.123456), number(12345678.0)
    ('0', '-0.1235', '1.235e+07')
    """
    return f"{value:.4g}" if value else "0"


def _stage_lines(stage: Stage, width: int, full: bool) -> list[str]:
    place = ", ".join(map(str, stage.at))
    reads = ", ".join(k if k == name else f"{k} = {name}" for k, name in stage.tensors.items())
    lines = [f"{stage.node}[{place}]: {stage.op}" + (f" of {reads}" if reads else "")]
    lines += [f"  {stage.formula}"]
    if stage.step.kind == "read" and not stage.step.places:
        return [*lines, f"  = {number(stage.value)}"]
    for reduction in _reductions(stage.step):
        lines += ["", *_reduction_lines(reduction, width, full)]
    return [*lines, "", *_summary(stage)]


def _reductions(step: Step) -> list[Step]:
    if step.terms:
        return [step]
    return [found for part in step.parts for found in _reductions(part)]


# ---- sums and maxima ---------------------------------------------------------------------------


def _reduction_lines(step: Step, width: int, full: bool) -> list[str]:
    axes = list(step.terms[0].at)
    names = list(dict.fromkeys(place.tensor for place in step.terms[0].places))
    if len(axes) >= 2 and _grid_width(step.terms, axes) <= width:
        lines = _group_lines(step, axes, names, width, full)
    else:
        lines = _list_lines(step, names, full)
    count = len(step.terms)
    word = "largest of" if step.kind == "max" else "sum of"
    return [*lines, f"  {word} {count} {'terms' if count != 1 else 'term'} = {number(step.value)}"]


def _group_lines(
    step: Step, axes: list[str], names: list[str], width: int, full: bool
) -> list[str]:
    """Grids over the last two axes, one set for each value of the axes before them."""
    groups = [
        (key, list(terms))
        for key, terms in groupby(step.terms, lambda t: tuple(t.at[a] for a in axes[:-2]))
    ]
    shown = groups if full else groups[:_SHOWN_GROUPS]
    lines: list[str] = []
    for key, terms in shown:
        if len(groups) > 1:
            where = ", ".join(f"{a} = {k}" for a, k in zip(axes, key, strict=False))
            part = _total(step, terms)
            lines += [f"  {where}, part of the {step.kind} {number(part)}"]
        lines += [*_grids(terms, axes[-1], names, width), ""]
    rest = [term for _, terms in groups[len(shown) :] for term in terms]
    if rest:
        lines += [
            f"  … {len(groups) - len(shown)} more of {axes[0]} ({len(rest)} terms), "
            f"part of the {step.kind} {number(_total(step, rest))}",
            "",
        ]
    return lines


def _grids(terms: Sequence[Term], last: str, names: list[str], width: int) -> list[str]:
    """One grid a tensor and one of the products, side by side as far as they fit."""
    columns = max(term.at[last] for term in terms) + 1
    blocks = [
        _block(_title(terms, k, name), [_cell(term.places[k]) for term in terms], columns)
        for k, name in enumerate(names)
    ]
    if len(names) > 1:
        blocks.append(_block("products", [term.value for term in terms], columns))
    lines: list[str] = []
    row: list[list[str]] = []
    for block in blocks:
        if row and sum(len(b[0]) + len(_GAP) for b in (*row, block)) > width:
            lines += _beside(row)
            row = []
        row.append(block)
    return lines + _beside(row)


def _beside(blocks: Sequence[list[str]]) -> list[str]:
    return ["  " + _GAP.join(cells) for cells in zip(*blocks, strict=True)]


def _cell(place: Place) -> float | None:
    """What was read; None for padding."""
    return place.value if place.inside else None


def _block(title: str, cells: Sequence[float | None], columns: int) -> list[str]:
    """A title and rows of numbers of one width."""
    texts = _aligned(cells)
    rows = [" ".join(texts[k : k + columns]) for k in range(0, len(texts), columns)]
    across = max(len(title), len(rows[0]))
    return [line.ljust(across) for line in (title, *rows)]


def _aligned(cells: Sequence[float | None]) -> list[str]:
    """Numbers with as many decimals as the largest of them leaves room for."""
    sizes = [abs(v) for v in cells if v is not None and math.isfinite(v)]
    largest = max(sizes, default=0.0)
    whole = all(size == int(size) for size in sizes) and largest < 1e6
    decimals = 0 if whole else 3 - min(3, math.floor(math.log10(max(largest, 1.0))))
    plain = whole or 0.01 <= largest < 1e6
    texts = [
        _PADDING if v is None else "0" if v == 0 else f"{v:.{decimals}f}" if plain else f"{v:.3g}"
        for v in cells
    ]
    size = max(map(len, texts))
    return [text.rjust(size) for text in texts]


def _title(terms: Sequence[Term], k: int, name: str) -> str:
    """`x[0, 1, 3…7, 4…8]`: what the grid's reads cover."""
    first, last = terms[0].places[k].index, terms[-1].places[k].index
    spans = (str(a) if a == b else f"{a}…{b}" for a, b in zip(first, last, strict=True))
    return f"{name}[{', '.join(spans)}]"


def _grid_width(terms: Sequence[Term], axes: list[str]) -> int:
    size = max(
        len(_aligned([term.value for term in terms])[0]),
        *(
            len(_aligned([_cell(term.places[k]) for term in terms])[0])
            for k in range(len(terms[0].places))
        ),
    )
    return (size + 1) * (terms[-1].at[axes[-1]] + 1) + 2


def _list_lines(step: Step, names: list[str], full: bool) -> list[str]:
    """One term a line."""
    shown = step.terms if full else step.terms[:_SHOWN_TERMS]
    lines = []
    for term in shown:
        reads = " · ".join(
            f"{p.tensor}[{', '.join(map(str, p.index))}] {_shown(p):>10}" for p in term.places
        )
        lines.append(f"  {reads}" + (f" → {number(term.value):>10}" if len(names) > 1 else ""))
    rest = step.terms[len(shown) :]
    if rest:
        part = number(_total(step, rest))
        lines.append(f"  … {len(rest)} more terms, part of the {step.kind} {part}")
    return lines


def _total(step: Step, terms: Sequence[Term]) -> float:
    values = [term.value for term in terms]
    return float(sum(values)) if step.kind == "sum" else max(values)


# ---- what is made of them ----------------------------------------------------------------------


def _summary(stage: Stage) -> list[str]:
    """The steps from the sums to the value: `0.12 + 0.5 = 0.62`."""
    if stage.step.terms:
        return [f"  {stage.node}[{', '.join(map(str, stage.at))}] = {number(stage.value)}"]
    return [f"  {_written(stage.step)} = {number(stage.value)}"]


def _shown(place: Place) -> str:
    return number(place.value) if place.inside else _PADDING


_SIGNS = {"add": "+", "sub": "−", "mul": "·", "div": "/"}


def _written(step: Step) -> str:
    """A function with its arguments' values in place of their names."""
    if step.kind in _SIGNS and len(step.parts) == 2:
        left, right = (_inner(part) for part in step.parts)
        return f"{left} {_SIGNS[step.kind]} {right}"
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


def _verdict(explanation: Explanation) -> list[str]:
    last = explanation.stages[-1]
    lines = [f"exact: {last.value:.9g}"]
    if last.native is not None and last.difference is not None:
        lines = [
            f"computed by the network: {last.native:.9g}   exact: {last.value:.9g}   "
            f"difference: {last.difference:.1e}",
            f"{'agrees' if explanation.agrees else 'DOES NOT AGREE'} within float32 rounding "
            f"({last.allowed:.1e})",
        ]
    return lines
