"""Terms laid out for a terminal: grids side by side, or a list of the largest.

Plain text of a given width, without colours.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.formula.terms import Place, Reads, Terms
from striate.inspect.explain_rounding import Ordered, ulps

_GAP = "   "
_SHOWN_GROUPS = 2  # channels shown in full
_SHOWN_TERMS = 8
_MOST_ROWS = 12  # of a grid that is shown without being asked for
_MOST_AXES = 14  # letters of the order of summation in a line with others
_PADDING = "pad"


def number(value: float) -> str:
    """A number in at most 10 characters.

    >>> number(0.0), number(-0.123456), number(12345678.0)
    ('0', '-0.1235', '1.235e+07')
    """
    return f"{value:.4g}" if value else "0"


def wrapped(text: str, width: int, first: str = "  ", rest: str = "      ") -> list[str]:
    """A long line as several, broken at spaces."""
    return textwrap.wrap(
        text,
        max(width, 20),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def term_lines(terms: Terms, kind: str, width: int, full: bool, product: bool = True) -> list[str]:
    """The terms of a sum ("sum") or maximum ("max"), as grids where they fit.

    Args:
        terms, kind: what is shown.
        width: columns.
        full: whether all terms are.
        product: whether a gradient's terms are products of what they read; else their slopes are
            shown.
    """
    product = product and is_product(terms)
    shows_all = product or len(terms.reads) == 1
    if len(terms.dims) >= 2 and shows_all and _grid_fits(terms, width, full):
        return _group_lines(terms, kind, width, full, product)
    return _list_lines(terms, kind, full, product)


def is_product(terms: Terms) -> bool:
    """Whether the terms are products of what they read, and no other slope counts."""
    if terms.slopes is None:
        return True
    found = np.ones(len(terms))
    for read in terms.reads:
        found = found * read.values
    with np.errstate(all="ignore"):
        return bool(np.allclose(found, terms.values, rtol=1e-9, atol=0.0, equal_nan=True))


# ---- grids ---------------------------------------------------------------------------------------


def _grid_fits(terms: Terms, width: int, full: bool) -> bool:
    rows, columns = terms.shape[-2:]
    if (rows > _MOST_ROWS and not full) or columns < 2:
        return False
    every = [terms.values, *(read.values for read in terms.reads)]
    every += [] if terms.slopes is None else [terms.slopes]
    size = max(len(_aligned(_scaled(_ends(values))[0])[0]) for values in every)
    return (max(size, len(_PADDING)) + 1) * columns + 2 <= width


def _ends(values: NDArray[np.float64]) -> list[float | None]:
    """Enough numbers to tell how wide the columns must be."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return [0.0]
    low, high = float(finite.min()), float(finite.max())
    broken = (finite != np.floor(finite)).any()
    return [low, high, 0.37 * max(abs(low), abs(high))] if broken else [low, high]


def _group_lines(terms: Terms, kind: str, width: int, full: bool, product: bool) -> list[str]:
    """Grids over the last two dimensions, one set for each place on those before them."""
    size = terms.shape[-2] * terms.shape[-1]
    groups = terms.values.reshape(-1, size)
    parts = groups.sum(axis=1) if kind == "sum" else groups.max(axis=1)
    shown = list(range(len(groups)))
    if not full and len(groups) > _SHOWN_GROUPS:
        shown = sorted(np.argsort(-np.abs(parts), kind="stable")[:_SHOWN_GROUPS].tolist())
    lines: list[str] = []
    for k in shown:
        part = terms.take(np.arange(k * size, (k + 1) * size))
        if len(groups) > 1:
            outer = [a for dim in terms.dims[:-2] for a in dim]
            where = ", ".join(f"{a} = {part.at[a][0]}" for a in outer)
            lines.append(f"  {where}: part of the {kind} {number(float(parts[k]))}")
        lines += [*_grids(part, terms.shape[-1], width, product), ""]
    if len(shown) < len(groups):
        hidden = np.delete(parts, shown)
        left = float(hidden.sum() if kind == "sum" else hidden.max())
        name = ", ".join(a for dim in terms.dims[:-2] for a in dim)
        count = len(hidden)
        lines += [
            f"  … {count} more of {name} ({count * size} terms): part of the {kind} {number(left)}",
            "",
        ]
    return lines[:-1]


def _grids(terms: Terms, columns: int, width: int, product: bool) -> list[str]:
    """One grid a tensor and one of the products, side by side as far as they fit."""
    blocks = [_block(_title(read), _cells(read), columns) for read in terms.reads]
    if not product and terms.slopes is not None:
        blocks.append(_block("slope", terms.slopes.tolist(), columns))
    if len(blocks) > 1:
        blocks.append(_block("products", terms.values.tolist(), columns))
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


def _cells(read: Reads) -> list[float | None]:
    """What was read; None for padding."""
    inside = read.inside.tolist()
    return [v if ok else None for v, ok in zip(read.values.tolist(), inside, strict=True)]


def _block(title: str, cells: Sequence[float | None], columns: int) -> list[str]:
    """A title and rows of numbers of one width."""
    cells, unit = _scaled(cells)
    texts, title = _aligned(cells), title + unit
    rows = [" ".join(texts[k : k + columns]) for k in range(0, len(texts), columns)]
    across = max(len(title), len(rows[0]))
    return [line.ljust(across) for line in (title, *rows)]


def _scaled(cells: Sequence[float | None]) -> tuple[list[float | None], str]:
    """Very small and very large numbers in units of a power of ten, and that."""
    largest = max((abs(v) for v in cells if v is not None and math.isfinite(v)), default=0.0)
    if largest == 0 or 0.01 <= largest < 1e6:
        return list(cells), ""
    exponent = math.floor(math.log10(largest))
    return [v if v is None else v / 10.0**exponent for v in cells], f" ×1e{exponent:+03d}"


def _aligned(cells: Sequence[float | None]) -> list[str]:
    """Numbers with as many decimals as the largest of them leaves room for."""
    sizes = [abs(v) for v in cells if v is not None and math.isfinite(v)]
    largest = max(sizes, default=0.0)
    whole = all(size == int(size) for size in sizes) and largest < 1e6
    decimals = 0 if whole else 3 - min(3, math.floor(math.log10(max(largest, 1.0))))
    texts = [_PADDING if v is None else "0" if v == 0 else f"{v:.{decimals}f}" for v in cells]
    size = max(map(len, texts))
    return [text.rjust(size) for text in texts]


def _title(read: Reads) -> str:
    """`x[0, 1, 3…7, 4…8]`: what the grid's reads cover."""
    spans = (str(k[0]) if k[0] == k[-1] else f"{k[0]}…{k[-1]}" for k in read.index)
    return f"{read.tensor}[{', '.join(spans)}]"


# ---- lists ---------------------------------------------------------------------------------------


def _list_lines(terms: Terms, kind: str, full: bool, product: bool) -> list[str]:
    """One term a line: all of them in order, or the largest."""
    few = full or len(terms) <= _SHOWN_TERMS
    which = np.arange(len(terms)) if few else terms.largest(_SHOWN_TERMS)
    lines = [] if few else [f"  the {_SHOWN_TERMS} largest of {len(terms)} terms"]
    lines += _columns(_rows(terms.take(which), product))
    if not few:
        rest = np.delete(terms.values, which)
        left = float(rest.sum()) if kind == "sum" else float(rest.max())
        lines.append(f"  … {len(rest)} more terms, part of the {kind} {number(left)}")
    return lines


def _rows(terms: Terms, product: bool) -> list[list[str]]:
    """The cells of each term: what was read, times what, what came out."""
    rows = []
    for term in terms:
        if product:
            cells = [cell for place in term.places for cell in ("·", *_read_cells(place))][1:]
        else:
            cells = [*_read_cells(term.places[0]), "·", "slope", number(term.slope or 0.0)]
            cells += [f"(largest {_written(place)})" for place in term.places[1:]]
        if len(term.places) > 1 or not product:
            cells += ["→", number(term.value)]
        rows.append(cells)
    return rows


def _read_cells(place: Place) -> tuple[str, str]:
    return f"{place.tensor}[{', '.join(map(str, place.index))}]", shown(place)


def _written(place: Place) -> str:
    return " ".join(_read_cells(place))


def shown(place: Place) -> str:
    """What a place holds."""
    return number(place.value) if place.inside else _PADDING


def _columns(rows: list[list[str]]) -> list[str]:
    """Cells under each other; numbers stand right, names left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(size) if cell[:1].isalpha() or cell[:1] == "(" else cell.rjust(size)
            for cell, size in zip(row, widths, strict=True)
        ]
        lines.append("  " + " ".join(cells))
    return lines


# ---- what came out -------------------------------------------------------------------------------


def verdict(
    value: float, native: float | None, allowed: float, fine: bool, ordered: Ordered
) -> list[str]:
    """The exact number, the program's, the one in the stated order, and how they lie."""
    rows = [] if native is None else [("by the network", f"{native:.9g}", "")]
    away = "" if native is None else f"difference {number(native - value)}"
    rows.append(("exact", f"{value:.9g}", away))
    axes = ", ".join(ordered.axes)
    long = len(axes) > _MOST_AXES
    how = (
        "float32, in this order" if long else f"float32, in the order {axes}" if axes else "float32"
    )
    rows.append((how, f"{ordered.value:.9g}", _against(ordered.value, native)))
    if ordered.fused is not None:
        fused = "  with fused multiply-adds"
        rows.append((fused, f"{ordered.fused:.9g}", _against(ordered.fused, native)))
    first, second = (max(len(row[k]) for row in rows) for k in (0, 1))
    lines = [f"order of summation: {axes}"] if long else []
    lines += [f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows]
    if native is not None:
        word = "agrees" if fine else "DOES NOT AGREE"
        lines.append(f"{word} within float32 rounding ({allowed:.1e})")
    return lines


def _against(value: float, native: float | None) -> str:
    """How far the program's number is from another."""
    distance = None if native is None else ulps(value, native)
    if distance is None:
        return ""
    if distance == 0:
        return "the same to the last bit"
    gap = abs((native or 0.0) - value)
    return f"{distance:,} {'ulp' if distance == 1 else 'ulps'} off ({gap:.1e})"
