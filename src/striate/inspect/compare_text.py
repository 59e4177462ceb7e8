"""Two networks side by side as plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from striate.inspect.summary_text import brief, count, shape_text, short_count, size_text

if TYPE_CHECKING:
    from striate.inspect.compare import Comparison, Pair
    from striate.inspect.summary import Row

_MARKS = "= same layer and shape, ≠ same kind, < only in the first, > only in the second"


def text(found: Comparison, width: int) -> str:
    """A line for each layer, the sums, and what the marks say."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("first", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("second", overflow="fold")
    table.add_column("output", justify="right", no_wrap=True)
    numbers = _numbers(found)
    for title, _ in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    for pair in found.pairs:
        sides = [*_side(pair.a), pair.mark, *_side(pair.b)]
        table.add_row(*map(escape, sides), *(cell(pair) for _, cell in numbers))
    file = StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(table)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return "\n".join([*lines, "", *_totals(found), "", *_notes(found)])


def _side(row: Row | None) -> tuple[str, str]:
    return ("", "") if row is None else (f"{row.name}  {brief(row.layer)}", shape_text(row.shape))


def _numbers(found: Comparison) -> list[tuple[str, Callable[[Pair], str]]]:
    """The last columns: distances where there are any, else the difference in parameters."""
    columns: list[tuple[str, Callable[[Pair], str]]] = []
    if any(pair.weights is not None for pair in found.pairs):
        columns.append(("Δ weights", lambda pair: _relative(pair.weights)))
    if found.images:
        columns.append(("Δ outputs", lambda pair: _relative(pair.outputs)))
    if not found.same:
        columns.append(("params", lambda pair: _change(pair, "parameters")))
        columns.append(("mult-adds", lambda pair: _change(pair, "multiply_adds")))
        columns.append(("field", lambda pair: _fields(found, pair)))
    return columns


def _fields(found: Comparison, pair: Pair) -> str:
    """The receptive field; of both where they differ."""
    sides = [
        "" if row is None or own.receptive_fields is None else own.receptive_fields[row.name].text
        for own, row in ((found.a, pair.a), (found.b, pair.b))
    ]
    return " → ".join(dict.fromkeys(filter(None, sides))) or "–"


def _relative(distance: Any) -> str:
    if distance is None:
        return "–"
    value = distance.relative
    return "0" if value == 0 else f"{value:.2g}" if value < 1e-3 or value >= 100 else f"{value:.1%}"


def _change(pair: Pair, key: str) -> str:
    """How much more the second has."""
    left, right = (0 if row is None else getattr(row, key) for row in (pair.a, pair.b))
    if left == right:
        return "–"
    return ("+" if right > left else "−") + short_count(abs(right - left))


def _totals(found: Comparison) -> list[str]:
    say: dict[str, Callable[[Any], str]] = {
        "layers": str,
        "parameters": count,
        "multiply_adds": count,
        "activation_bytes": size_text,
        "bytes_moved": size_text,
        "receptive_field": str,
    }
    titles = {"activation_bytes": "activations", "receptive_field": "last field"}
    rows: list[Sequence[str]] = []
    totals = found.totals()
    for key, write in say.items():
        a, b = totals[key]
        both = isinstance(a, int) and a and a != b
        times = f"×{b / a:.3g}" if both else ""
        rows.append((titles.get(key, key.replace("_", "-")), write(a), write(b), times))
    rows[4] = ("bytes moved", *rows[4][1:])
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
        for row in rows
    ]


def _notes(found: Comparison) -> list[str]:
    notes = ["Both have the same layers." if found.same else _MARKS]
    if any(pair.weights is not None for pair in found.pairs) or found.images:
        notes.append("Δ is ‖a − b‖ / ‖a‖.")
    if found.agreement is not None:
        images = "image" if found.images == 1 else "images"
        notes.append(
            f"On {found.images} {images} the greatest output agrees for {found.agreement:.1%}."
        )
    return notes
