"""Why a number is what it is, drawn: patch, kernel and products, sum, bias, activation.

What `inspect.explain` and `inspect.explain_gradient` found; nothing is computed here. The tree of
contributions down to the pixels is in `plot.trace`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from striate.formula.terms import Terms
from striate.inspect.explain import Explanation
from striate.inspect.explain_gradient import GradientExplanation
from striate.inspect.explain_layout import is_product, verdict, wrapped
from striate.inspect.explain_text import (
    reads_lines,
    reductions,
    stage_name,
    summary_lines,
    total_line,
)
from striate.plot.page import (
    BLUE,
    FAINT,
    INK,
    MARGIN,
    MUTED,
    RULE,
    SIGNED,
    Page,
    number,
    plain,
    styled,
    text_width,
)

Array = NDArray[np.float64]
_RED = "#b2403f"
_WIDTH, _HEAD, _LINE, _GAP, _PANEL_GAP = 7.4, 0.62, 0.165, 0.16, 0.26
_SIGN = 0.2  # the room for · and =
_LARGEST, _SMALL = 2.1, 1.0  # the sides of grids, of one channel and of several
_MOST_GROUPS, _MOST_BARS, _BAR = 6, 14, 0.17
_MOST_CELLS = 256  # along a side of a grid
_TEXT_COLUMNS = 104


@dataclass(frozen=True)
class _Sum:
    """The terms of one sum or maximum as they are drawn."""

    terms: Terms
    kind: str
    total: str

    @property
    def is_grid(self) -> bool:
        shape = self.terms.shape
        told = is_product(self.terms) or len(self.terms.reads) == 1
        return told and len(shape) > 1 and shape[-1] > 1 and max(shape[-2:]) <= _MOST_CELLS

    @property
    def groups(self) -> int:
        return math.prod(self.terms.shape[:-2])

    @property
    def shown(self) -> list[int]:
        """The groups (channels) with the largest parts, in order."""
        ranked = np.argsort(-np.abs(self.parts), kind="stable")[:_MOST_GROUPS]
        return sorted(int(k) for k in ranked)

    @property
    def parts(self) -> Array:
        size = self.terms.shape[-2] * self.terms.shape[-1]
        values = self.terms.values.reshape(-1, size)
        return np.asarray(values.sum(axis=1) if self.kind == "sum" else values.max(axis=1))

    @property
    def columns(self) -> int:
        """Grids of one group: a grid for each tensor read, and the products."""
        count = len(self.terms.reads) + (not is_product(self.terms))
        return count + (count > 1)

    @property
    def side(self) -> float:
        """How wide a grid is."""
        room = _WIDTH if self.groups == 1 else (_WIDTH - 2 * _GAP) / 2
        side = (room - _SIGN * (self.columns - 1)) / max(self.columns, 1)
        return min(side, _LARGEST if self.groups == 1 else _SMALL, 0.5 * self.terms.shape[-1])

    @property
    def tall(self) -> float:
        """How tall a grid is."""
        return min(self.side * self.terms.shape[-2] / self.terms.shape[-1], 2.6)

    @property
    def head(self) -> float:
        """The room above a grid: for the name of its channel."""
        return 0.06 if self.groups == 1 else 0.3

    @property
    def rows(self) -> int:
        return len(self.shown) if self.groups == 1 else math.ceil(len(self.shown) / 2)

    @property
    def height(self) -> float:
        if self.is_grid:
            return self.rows * (self.tall + self.head + 0.2) + (
                _LINE if self.groups > _MOST_GROUPS else 0
            )
        bars = min(len(self.terms), _MOST_BARS)
        return bars * _BAR + (_LINE if len(self.terms) > bars else 0) + 0.1


@dataclass(frozen=True)
class _Panel:
    """One operation: its name, its formula, its sums, what is made of them."""

    head: str
    formula: list[str]
    sums: list[_Sum]
    lines: list[str]

    @property
    def height(self) -> float:
        texts = 1 + len(self.formula) + len(self.lines)
        return 0.1 + texts * _LINE + sum(s.height + _LINE + 0.1 for s in self.sums)


@styled
def explanation(found: Explanation | GradientExplanation, *, title: str = "") -> Figure:
    """The arithmetic of one number: for each operation what is read, the products, their sum.

    Grids are on scales symmetric about 0, red above and blue below, with the numbers where there
    is room; of many channels those with the largest part are drawn. Sums without space are bars.

    Args:
        found: what `explain` or `explain_gradient` gave.
        title: the headline.
    Returns:
        The figure.

    >>> import striate as st
    >>> from striate import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    >>> figure = explanation(st.explain(net, np.ones((1, 5, 5)), "0", (1, 0, 2)))
    """
    name = f"{found.node}[{', '.join(map(str, found.at))}]"
    if isinstance(found, Explanation):
        panels, last = _panels(found), found.stages[-1]
        headline = title or f"Why {name} is {number(found.value)}"
        under = f"sample {found.sample}"
        checks = verdict(last.value, last.native, last.allowed, found.agrees, last.ordered)
    else:
        panels = _gradient_panels(found)
        headline = title or f"Why the gradient to {name} is {number(found.value)}"
        under = f"the gradient of {found.of}"
        numbers = (found.value, found.native, found.allowed, found.agrees, found.ordered)
        checks = verdict(*numbers)
    height = _HEAD + sum(p.height + _PANEL_GAP for p in panels) + len(checks) * _LINE + 0.1
    page = Page(_WIDTH + 2 * MARGIN, height + 2 * MARGIN)
    page.title(plain(headline), plain(f"{under}; red is above 0, blue below, each scale its own"))
    y = MARGIN + _HEAD
    for panel in panels:
        _draw_panel(page, panel, y)
        y += panel.height + _PANEL_GAP
    page.bar((MARGIN, y - 0.12), (_WIDTH, 0.0), "none", edgecolor=RULE, linewidth=0.6)
    _lines(page, checks, y, MUTED)
    return page.figure


def _panels(found: Explanation) -> list[_Panel]:
    return [
        _Panel(
            stage_name(stage),
            wrapped(stage.formula, _TEXT_COLUMNS, "", "    "),
            [_Sum(s.terms, s.kind, total_line(s)) for s in reductions(stage.step)],
            [
                line.strip()
                for made in (reads_lines, summary_lines)
                for line in made(stage, _TEXT_COLUMNS)
            ],
        )
        for stage in found.stages
    ]


def _gradient_panels(found: GradientExplanation) -> list[_Panel]:
    return [
        _Panel(
            f"through {part.node}: {part.op}" if part.node else "as it was given",
            wrapped(part.formula, _TEXT_COLUMNS, "", "    "),
            [_Sum(part.step.terms, "sum", total_line(part.step))],
            [],
        )
        for part in found.parts
    ]


def _lines(page: Page, lines: list[str], y: float, colour: str) -> None:
    for k, line in enumerate(lines):
        text = plain(line)
        page.text(
            MARGIN, y + (k + 0.7) * _LINE, text, size=7, color=colour, family="DejaVu Sans Mono"
        )


def _draw_panel(page: Page, panel: _Panel, y: float) -> None:
    page.text(MARGIN, y + 0.1, plain(_cut(panel.head, 9.0)), size=9, weight="bold")
    y += _LINE + 0.04
    _lines(page, panel.formula, y, MUTED)
    y += len(panel.formula) * _LINE + 0.06
    for each in panel.sums:
        (_draw_grids if each.is_grid else _draw_bars)(page, each, y)
        y += each.height + 0.02
        page.text(MARGIN, y + 0.08, plain(each.total), size=8.5, color=INK)
        y += _LINE + 0.08
    _lines(page, panel.lines, y, INK)


def _cut(text: str, size: float) -> str:
    """A line no longer than the page is wide."""
    while text_width(text, size, "bold") > _WIDTH and len(text) > 8:
        text = text[:-6] + "…"
    return text


# ---- grids ---------------------------------------------------------------------------------------


def _draw_grids(page: Page, each: _Sum, y: float) -> None:
    rows, columns = each.terms.shape[-2:]
    size = rows * columns
    limits = _limits(each)
    for position, group in enumerate(each.shown):
        part = each.terms.take(np.arange(group * size, (group + 1) * size))
        across = 0 if each.groups == 1 else position % 2
        down = position if each.groups == 1 else position // 2
        x = MARGIN + across * (_WIDTH + _GAP) / 2
        top = y + each.head + down * (each.tall + each.head + 0.2)
        if each.groups > 1:
            outer = [a for dim in each.terms.dims[:-2] for a in dim]
            where = ", ".join(f"{a} = {part.at[a][0]}" for a in outer)
            text = f"{where}: {_signed(float(each.parts[group]))}"
            page.text(x, top - 0.17, text, size=7.5, weight="bold")
        _draw_group(page, each, part, (x, top), limits)
    hidden = each.groups - len(each.shown)
    if hidden:
        left = float(np.delete(each.parts, each.shown).sum()) if each.kind == "sum" else math.nan
        rest = "" if math.isnan(left) else f": {_signed(left)}"
        base = y + each.rows * (each.tall + each.head + 0.2) + 0.08
        name = ", ".join(a for dim in each.terms.dims[:-2] for a in dim)
        page.text(MARGIN, base, f"… {hidden} more of {name}{rest}", size=8, color=MUTED)


def _limits(each: _Sum) -> list[float]:
    """What the colours of each column end at, alike in all groups drawn."""
    rows = [read.values for read in each.terms.reads]
    if each.terms.slopes is not None and not is_product(each.terms):
        rows.append(each.terms.slopes)
    rows += [each.terms.values] if len(rows) > 1 else []
    return [float(np.abs(row[np.isfinite(row)]).max(initial=0.0)) or 1.0 for row in rows]


def _draw_group(
    page: Page, each: _Sum, part: Terms, place: tuple[float, float], limits: list[float]
) -> None:
    """What is read, the other factor, the products."""
    rows, columns = each.terms.shape[-2:]
    grids = [(f"{r.tensor}", np.where(r.inside, r.values, np.nan)) for r in part.reads]
    if part.slopes is not None and not is_product(each.terms):
        grids.append(("slope", part.slopes))
    if len(grids) > 1:
        grids.append(("products" if each.kind == "sum" else "terms", part.values))
    for k, ((name, values), limit) in enumerate(zip(grids, limits, strict=True)):
        x = place[0] + k * (each.side + _SIGN)
        grid = values.reshape(rows, columns)
        page.picture((x, place[1]), (each.side, each.tall), grid, -limit, limit, SIGNED)
        _write_numbers(page, grid, (x, place[1]), (each.side, each.tall), limit)
        below = place[1] + each.tall + 0.12
        page.text(x, below, f"{name}   ±{number(limit)}", size=7, color=MUTED)
        if k:
            sign = "=" if k == len(grids) - 1 else "·"
            middle = place[1] + each.tall / 2 + 0.04
            page.text(x - _SIGN / 2, middle, sign, size=10, color=MUTED, ha="center")


def _write_numbers(
    page: Page, grid: Array, place: tuple[float, float], size: tuple[float, float], limit: float
) -> None:
    """Each cell's number where there is room for it, and where padding was read."""
    rows, columns = grid.shape
    width, height = size[0] / columns, size[1] / rows
    if width < 0.29 or height < 0.14:
        return
    letters, digits = (7.0, 3) if width > 0.36 else (6.0, 2)
    for (i, j), value in np.ndenumerate(grid):
        missing = math.isnan(value)
        text = "pad" if missing else _short(float(value), digits)
        dark = not missing and abs(value) > 0.62 * limit
        colour = FAINT if missing else "white" if dark else INK
        x, y = place[0] + (j + 0.5) * width, place[1] + (i + 0.5) * height
        page.text(x, y, text, size=letters, color=colour, ha="center", va="center")


def _short(value: float, digits: int) -> str:
    """A number in the room of a cell: `.123`, `−1.25`, `≈0`, `3e+04`."""
    if value == 0:
        return "0"
    if not 1e-9 < abs(value) < 1000:
        return f"{value:.0e}".replace("-", "−") if math.isfinite(value) else f"{value}"
    if value == round(value):
        return f"{value:.0f}".replace("-", "−")
    text = f"{abs(value):.{max(0, digits - len(f'{abs(value):.0f}') + (abs(value) < 1))}f}"
    if float(text) == 0:
        return "≈0"
    return ("−" if value < 0 else "") + (text[1:] if text.startswith("0.") else text)


# ---- bars ----------------------------------------------------------------------------------------


def _draw_bars(page: Page, each: _Sum, y: float) -> None:
    """The largest terms as bars, each with what it is the product of."""
    terms = each.terms
    which = terms.largest(_MOST_BARS)
    which = np.sort(which) if len(which) == len(terms) else which
    largest = float(np.abs(terms.values[np.isfinite(terms.values)]).max(initial=0.0)) or 1.0
    names = [_term_name(terms, int(k)) for k in which]
    left = MARGIN + min(max((text_width(n, 7.5) for n in names), default=0.0), 4.6) + 0.75
    zero = left + (MARGIN + _WIDTH - left) / 2
    reach = (MARGIN + _WIDTH - left) / 2 - 0.1
    for row, (k, name) in enumerate(zip(which, names, strict=True)):
        value, base = float(terms.values[k]), y + (row + 0.5) * _BAR
        page.text(MARGIN, base, plain(name), size=7.5, va="center")
        page.text(left - 0.1, base, number(value), size=7.5, ha="right", va="center", color=MUTED)
        if math.isfinite(value):
            length = reach * value / largest
            colour = _RED if value > 0 else BLUE
            start = (min(zero, zero + length), base - 0.32 * _BAR)
            page.bar(start, (abs(length), 0.64 * _BAR), colour)
    page.bar((zero, y), (0.0, len(which) * _BAR), "none", edgecolor=FAINT, linewidth=0.6)
    if len(which) < len(terms):
        rest = np.delete(terms.values, which)
        left_over = f": {_signed(float(rest.sum()))}" if each.kind == "sum" else ""
        text = f"… {len(rest):,} more terms{left_over}"
        page.text(MARGIN, y + len(which) * _BAR + 0.11, text, size=8, color=MUTED)


def _term_name(terms: Terms, k: int) -> str:
    term: Any = terms[k]
    parts = [
        f"{p.tensor}[{', '.join(map(str, p.index))}] {number(p.value) if p.inside else 'pad'}"
        for p in term.places
    ]
    if term.slope is not None and not is_product(terms):
        parts = [parts[0], f"slope {number(term.slope)}"]
    return " · ".join(parts)


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "") + number(value)
