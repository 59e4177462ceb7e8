"""An evaluation as tables of text: classes, confusion, worst mistakes."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from striate.train.evaluate import Evaluation

_FEW_CLASSES = 5  # of which a sample's class is always among the first five
_MOST_COLUMNS = 20
"""Confusions of more classes than this are too wide for a terminal and are listed in pairs."""


def evaluation_text(result: Evaluation, mistakes: int) -> str:
    """The accuracy, the tables of classes and of confusions, and the worst mistakes."""
    from rich.console import Console

    console = Console(file=StringIO(), width=200, color_system=None, legacy_windows=False)
    wrong = len(result.mistakes)
    right = result.samples - wrong
    console.print(
        f"accuracy {100 * result.accuracy:.2f} % ({right:,} of {result.samples:,}), "
        + (f"top-5 {100 * result.top(5):.2f} %, " if len(result.names) > _FEW_CLASSES else "")
        + f"loss {result.loss:.4f}\n",
        highlight=False,
    )
    console.print(_classes(result))
    console.print(_confusion(result) if len(result.names) <= _MOST_COLUMNS else _pairs(result))
    if wrong and mistakes > 0:
        console.print(_mistakes(result, mistakes))
    output = console.file
    text = output.getvalue() if isinstance(output, StringIO) else ""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for position, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if position == 0 else "right")
    return table


def _classes(result: Evaluation) -> Table:
    from rich.markup import escape

    table = _table("Classes", "class", "samples", "precision", "recall", "F1")
    columns = (result.count, result.precision, result.recall, result.f1)
    for name, count, *shares in zip(result.names, *columns, strict=True):
        table.add_row(escape(name), f"{count:,}", *(f"{100 * share:.2f} %" for share in shares))
    return table


def _confusion(result: Evaluation) -> Table:
    from rich.markup import escape

    table = _table("Confusion (row: true class, column: given class)", "", *result.names)
    for name, row in zip(result.names, result.confusion.tolist(), strict=True):
        table.add_row(escape(name), *(str(count) if count else "·" for count in row))
    return table


def _pairs(result: Evaluation) -> Table:
    import numpy as np
    from rich.markup import escape

    table = _table("Most frequent confusions", "true class", "given class", "samples")
    off = result.confusion - np.diag(np.diag(result.confusion))
    for place in np.argsort(-off, axis=None, kind="stable")[:_MOST_COLUMNS]:
        true, given = divmod(int(place), len(result.names))
        if off[true, given]:
            names = escape(result.names[true]), escape(result.names[given])
            table.add_row(*names, str(off[true, given]))
    return table


def _mistakes(result: Evaluation, most: int) -> Table:
    from rich.markup import escape

    columns = ("sample", "true class", "given class", "its probability", "true one's probability")
    table = _table("Worst mistakes", *columns)
    for mistake in result.mistakes[:most]:
        table.add_row(
            str(mistake.index),
            escape(result.names[mistake.label]),
            escape(result.names[mistake.predicted]),
            f"{100 * mistake.probability:.2f} %",
            f"{100 * mistake.label_probability:.2g} %",
        )
    return table
