"""A summary as plain text: as many columns as the width has room for.

What must be there comes first (name, layer, output, parameters, multiply-adds); then, while there
is room, the receptive field and its stride, memory, each layer's share of the multiply-adds, the
numbers in full, bars, and the rows that are never read (which else stand under the table).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from striate.inspect.summary import Row, Summary

_GAP = 2
_BAR = 8  # columns of a full bar
_EIGHTHS = "▏▎▍▌▋▊▉"
_FOLDING = ("name", "layer")
_SHORT = {"stride ": "s", "padding ": "p", "dilation ": "d", "groups ": "g", ", ": " "}


@dataclass(frozen=True)
class _Column:
    title: str
    cells: Sequence[str]
    right: bool = True

    @property
    def width(self) -> int:
        return max(map(len, (self.title, *self.cells)))


def text(found: Summary, width: int) -> str:
    """The table and the sums in at most `width` columns."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    columns = _columns(found)
    chosen = _chosen(columns, width)
    listed = [column for place in chosen.values() for column in place]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _GAP - 1, 0, 0))
    for column in listed:
        fixed = column.title not in _FOLDING
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=fixed,
            min_width=column.width if fixed else None,
        )
    for cells in zip(*(column.cells for column in listed), strict=True):
        table.add_row(*map(escape, cells))
    file = StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(table)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    notes = _notes(found, chosen["layer"] is columns["brief"], "unread" in chosen, width)
    return "\n".join([*lines, "", *_totals(found), *notes])


def _columns(found: Summary) -> dict[str, list[_Column]]:
    """Every column there is, by what it is called here."""
    fields, inputs = found.receptive_fields, found.graph.inputs
    names = [i.name for i in inputs] if len(inputs) > 1 else ["input"]

    def column(
        title: str, cell: Callable[[Row], str], right: bool = True, first: Sequence[str] = ()
    ) -> _Column:
        head = first or [""] * len(inputs)
        return _Column(title, [*head, *map(cell, found.rows)], right)

    columns = {
        "name": [column("name", lambda row: row.name, False, names)],
        "layer": [column("layer", lambda row: row.layer, right=False)],
        "brief": [column("layer", lambda row: brief(row.layer), right=False)],
        "output": [
            column(
                "output",
                lambda row: shape_text(row.shape),
                first=[shape_text(i.shape) for i in inputs],
            )
        ],
        "counts": [
            column("parameters", lambda row: count(row.parameters)),
            column("multiply-adds", lambda row: count(row.multiply_adds)),
        ],
        "short": [
            column("params", lambda row: short_count(row.parameters)),
            column("mult-adds", lambda row: short_count(row.multiply_adds)),
        ],
        "memory": [column("memory", lambda row: size_text(row.bytes))],
    }
    if found.multiply_adds:
        columns["share"] = [column("share", lambda row: _share(row, found, bars=False))]
        columns["bars"] = [column("share", lambda row: _share(row, found, bars=True), right=False)]
    if fields is not None:
        columns["field"] = [column("field", lambda row: fields[row.name].text)]
        columns["stride"] = [column("stride", lambda row: fields[row.name].stride_text)]
    if any(row.unread for row in found.rows):
        columns["unread"] = [column("never read", lambda row: row.unread, right=False)]
    return columns


_ORDER = ("name", "layer", "output", "counts", "share", "memory", "field", "stride", "unread")
# What is added or put in another's place while there is room: (where, what).
_WISHES = (
    ("field", "field"),
    ("stride", "stride"),
    ("memory", "memory"),
    ("share", "share"),
    ("layer", "layer"),
    ("counts", "counts"),
    ("share", "bars"),
    ("unread", "unread"),
)


def _chosen(columns: dict[str, list[_Column]], width: int) -> dict[str, list[_Column]]:
    """The columns that fit, by their places."""
    chosen = {key: columns[key] for key in ("name", "output")}
    chosen |= {"layer": columns["brief"], "counts": columns["short"]}

    def taken(shown: dict[str, list[_Column]]) -> int:
        return sum(c.width + _GAP for listed in shown.values() for c in listed) - _GAP

    for place, key in _WISHES:
        if key in columns and (key != "bars" or "share" in chosen):
            wish = chosen | {place: columns[key]}
            chosen = wish if taken(wish) <= width else chosen
    return {key: chosen[key] for key in _ORDER if key in chosen}


def _notes(found: Summary, short: bool, unread_shown: bool, width: int) -> list[str]:
    notes = []
    if short and any(brief(row.layer) != row.layer for row in found.rows):
        notes.append("s stride, p padding, d dilation, g groups")
    unread = [f"{row.name}: {row.unread}" for row in found.rows if row.unread]
    if unread and not unread_shown:
        title = "never read     "
        notes += textwrap.wrap(
            "; ".join(unread), width, initial_indent=title, subsequent_indent=" " * len(title)
        )
    if unread:
        notes.append("Some rows or columns are never read: the stride steps over them.")
    return notes


def _totals(found: Summary) -> list[str]:
    return [
        f"parameters     {found.parameters:>12,}   ({size_text(found.parameter_bytes)})",
        f"multiply-adds  {found.multiply_adds:>12,}   for one image",
        f"activations    {size_text(found.activation_bytes):>12}   for one image",
        f"bytes moved    {size_text(found.bytes_moved):>12}   for one image, layer by layer",
    ]


def _share(row: Row, found: Summary, bars: bool) -> str:
    """The row's share of all multiply-adds."""
    if not row.multiply_adds:
        return "–".rjust(4)
    share = row.multiply_adds / max(found.multiply_adds, 1)
    percent = f"{share:.0%}" if share >= 0.005 else "<1%"
    return f"{percent:>4} {bar(share, _BAR)}".rstrip() if bars else f"{percent:>4}"


def bar(share: float, width: int) -> str:
    """A bar of text, to an eighth of a column.

    >>> bar(0.5, 8), bar(0.26, 8), bar(0.0, 8)
    ('████', '██▏', '')
    """
    whole, rest = divmod(round(share * width * 8), 8)
    return "█" * whole + (_EIGHTHS[rest - 1] if rest else "")


def brief(layer: str) -> str:
    """A layer with short words: s stride, p padding, d dilation, g groups."""
    for long, short in _SHORT.items():
        layer = layer.replace(long, short)
    return layer


# ---- numbers as text -------------------------------------------------------------------------


def shape_text(shape: Sequence[int]) -> str:
    """A shape as it is read aloud.

    >>> shape_text((6, 28, 28))
    '6×28×28'
    """
    return "×".join(map(str, shape)) or "1"


def size_text(size: int) -> str:
    """Bytes in a unit that suits them.

    >>> size_text(400), size_text(246_824), size_text(5_000_000)
    ('400 B', '241.0 KiB', '4.8 MiB')
    """
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"


def count(value: int) -> str:
    """A number in full; "–" for none.

    >>> count(61706), count(0)
    ('61,706', '–')
    """
    return f"{value:,}" if value else "–"


def short_count(value: int) -> str:
    """A number with three figures.

    >>> short_count(156), short_count(48_120), short_count(3_097_600), short_count(0)
    ('156', '48.1 K', '3.10 M', '–')
    """
    if value < 1000:
        return count(value)
    number, unit = float(value), ""
    for larger in ("K", "M", "G", "T"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"
