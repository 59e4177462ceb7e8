"""Receptive fields as a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from striate.inspect.summary_text import shape_text

if TYPE_CHECKING:
    from striate.inspect.receptive import ReceptiveField, ReceptiveFields

_NOT_ALIGNED = (
    "Paths to layers marked ≠ differ in stride or centre: the field is the hull around all of them."
)


def table(found: ReceptiveFields, width: int) -> str:
    """A row for each layer: its output, the field's size, stride, start and first centre."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    rows.add_column("name", overflow="fold")
    for title in ("output", "field", "stride", "starts at", "first centre"):
        rows.add_column(title, justify="right", no_wrap=True)
    for field in found.values():
        mark = "" if field.aligned else " ≠"
        cells = (shape_text(field.shape), field.text + mark, field.stride_text)
        rows.add_row(escape(field.name), *cells, _places(field.start), _places(field.centre))
    file = StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(rows)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    notes = [] if all(field.aligned for field in found.values()) else ["", _NOT_ALIGNED]
    return "\n".join([*lines, *notes])


def describe(field: ReceptiveField) -> str:
    """What is said of one layer, a line for each thing."""
    if not field.reads:
        return f"{field.name}  {shape_text(field.shape)}\n  does not depend on the input"
    size = " × ".join(map(str, field.size))
    image = shape_text(field.input_shape[1:] or field.input_shape)
    whole = f": every unit looks at the whole input ({image})" if all(field.whole) else ""
    lines = [
        f"{field.name}  {shape_text(field.shape)}",
        f"  size     {size}{whole}",
        f"  stride   {field.stride_text}",
        f"  starts   at {_places(field.start)}, centre {_places(field.centre)}, for unit 0",
    ]
    if not field.aligned:
        lines.append(
            "  aligned  no: paths differ in stride or centre; this is the hull around them"
        )
    return "\n".join(lines)


def _places(values: Sequence[float | None]) -> str:
    """Places along the axes, once where they are equal."""
    texts = ["–" if v is None else f"{v:g}".replace("-", "−") for v in values]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
