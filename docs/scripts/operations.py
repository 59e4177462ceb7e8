"""The page operations/index.md: every operation with a small example, and the counts of the README.

    python docs/scripts/operations.py --write

Formulas, sizes and costs are computed from the operations; which kernels are whose is read off the
lowerings. What is said by hand is in `operation_entries.py`.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

from operation_entries import APART, CONTAINERS, FAMILIES, ON_ARRAYS, Entry  # noqa: E402

from striate import nn  # noqa: E402
from striate.formula.operation import Operation  # noqa: E402
from striate.formula.operations import OPERATIONS  # noqa: E402
from striate.nn import functional as F  # noqa: E402

PAGE = ROOT / "docs" / "operations" / "index.md"
ONNX_PAGE = ROOT / "docs" / "operations" / "onnx.md"
README = ROOT / "README.md"
GENERATED = ("<!-- generated: begin -->", "<!-- generated: end -->")
COVERAGE = ("<!-- coverage: begin -->", "<!-- coverage: end -->")


# ---- the page --------------------------------------------------------------------------------


def render(page: str) -> str:
    """The page with its generated part made anew.

    Raises:
        ValueError: an operation, a layer or a function is on no family's list, or on one wrongly.
    """
    require_complete()
    return _between(page, GENERATED, "\n\n".join((contents(), *map(family, FAMILIES))))


def _between(page: str, marks: tuple[str, str], made: str) -> str:
    for mark in marks:
        if page.count(mark) != 1:
            raise ValueError(f"expected {mark} once; got it {page.count(mark)} times")
    before, _, rest = page.partition(marks[0])
    return f"{before}{marks[0]}\n\n{made}\n\n{marks[1]}{rest.partition(marks[1])[2]}"


def entries(title: str) -> list[Entry]:
    """The operations of a family."""
    return list(FAMILIES[title][1]())


def require_complete() -> None:
    """Refuse lists that leave something out, name what is not there, or repeat an operation."""
    listed = [entry for title in FAMILIES for entry in entries(title)]
    names = Counter(entry.op for entry in listed)
    _require_same("operations", set(OPERATIONS), set(names))
    _require_same("layers", set(layers()), {n for e in listed for n in e.layers.split()})
    _require_same("functions", set(functions()), {n for e in listed for n in e.functions.split()})
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise ValueError(f"operations on the page twice: {', '.join(twice)}")


def _require_same(what: str, there: set[str], listed: set[str]) -> None:
    lost, unknown = sorted(there - listed), sorted(listed - there)
    if lost:
        raise ValueError(f"{what} that the page lacks: {', '.join(lost)}; see operation_entries.py")
    if unknown:
        raise ValueError(f"{what} on the page that do not exist: {', '.join(unknown)}")


def layers() -> list[str]:
    """The names of `nn` that are layers or losses."""
    found = [name for name in nn.__all__ if isinstance(getattr(nn, name), type)]
    return [
        name
        for name in found
        if issubclass(getattr(nn, name), nn.Module) and name not in (*CONTAINERS, *APART)
    ]


def functions() -> list[str]:
    """The names of `nn.functional` that are made of operations."""
    return [name for name in F.__all__ if name not in ON_ARRAYS]


def contents() -> str:
    """A line for each family."""
    lines = ["| family | operations | page with pictures and examples |", "|---|---:|---|"]
    for title, (page, _) in FAMILIES.items():
        anchor = title.lower().replace(" ", "-")
        lines.append(f"| [{title}](#{anchor}) | {len(entries(title))} | [{page[:-3]}]({page}) |")
    return "\n".join(lines)


def family(title: str) -> str:
    """A family's table, and its examples."""
    found = entries(title)
    lines = [f"## {title}", ""]
    lines += ["| operation | what it gives | layers | functions | elsewhere | machine code |"]
    lines += ["|---|---|---|---|---|---|", *map(row, found)]
    lines += ["", "```text", "\n\n".join(map(example, found)), "```"]
    return "\n".join(lines)


def row(entry: Entry) -> str:
    """An operation's line in the table."""
    cells = (
        f"`{entry.op}`",
        first_sentence(OPERATIONS[entry.op]),
        _quoted(entry.layers),
        _quoted(entry.functions),
        elsewhere(entry),
        machine_code(entry.op),
    )
    return "| " + " | ".join(cells) + " |"


def first_sentence(operation: Operation) -> str:
    """The first line of an operation's docstring; classes that it names become operations."""
    line = (type(operation).__doc__ or "").strip().splitlines()[0]
    names = {type(other).__name__: name for name, other in OPERATIONS.items()}
    line = re.sub(r"`(\w+)`", lambda found: f"`{names.get(found[1], found[1])}`", line)
    return re.sub(r"; see `\w+`\.$", ".", line).replace("|", "\\|")


def _quoted(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split())


def elsewhere(entry: Entry) -> str:
    """What torch and ONNX call it."""
    torch = f"torch: {entry.torch}" if entry.torch else "not in torch"
    return f"{torch}; ONNX: {', '.join(entry.onnx.split())}" if entry.onnx else torch


def example(entry: Entry) -> str:
    """The example's shapes and cost after the operation's name, and its formula."""
    operation = OPERATIONS[entry.op]
    output = operation.shape(entry.attributes, entry.shapes)
    sizes = ", ".join(map(_shape, entry.shapes)) + f" → {_shape(output)}"
    cost = operation.cost(entry.attributes, entry.shapes)
    counted = operation.has_formula or cost.operations
    counts = f"{cost.multiply_adds:,} multiply-adds, {cost.operations:,} operations"
    head = f"{entry.op}: {sizes}" + (f"; {counts}" if counted else "")
    if not operation.has_formula:
        return head
    shapes = operation.full_shapes(entry.attributes, entry.shapes)
    text = str(operation.formula(entry.attributes, shapes))
    wrap = {"width": 96, "initial_indent": "  ", "subsequent_indent": "      "}
    return "\n".join([head, *textwrap.wrap(text, break_long_words=False, **wrap)])


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"


def machine_code(op: str) -> str:
    """Whose kernels run it: its own, with the batch or the channels in lanes, or its formula's."""
    from striate.program.blocked_gradient import GradientLowering
    from striate.program.lower import _RULES, COPIES

    if op in (*COPIES, "reshape"):
        return "moved, not computed"
    rules = {name for name in _RULES if name.partition(":")[0] == op}
    rules |= {f"{op}:dx"} if op == "weighted_cross_entropy" else set()
    stages = {name for name in dir(GradientLowering) if re.fullmatch(f"op_{op}(_d\\w+)?", name)}
    own = [where for where, found in (("batch", rules), ("channels", stages)) if found]
    return f"own ({' and '.join(own)})" if own else "from the formula"


# ---- the README ------------------------------------------------------------------------------


def render_readme(text: str) -> str:
    """The README with its counts made anew."""
    return _between(text, COVERAGE, "\n\n".join((totals(), by_family())))


def totals() -> str:
    """How much there is, in a sentence."""
    passed, cases = onnx_cases()
    return (
        f"{len(OPERATIONS)} operations, {len(layers())} layers and losses, {len(functions())} "
        f"functions;\n{passed:,} of ONNX's {cases:,} backend tests of the operators covered pass "
        "([which, and why\nnot the rest](docs/operations/onnx.md))."
    )


def by_family() -> str:
    """How many operations, layers and functions each family has."""
    lines = ["| family | operations | layers | functions |", "|---|---:|---:|---:|"]
    for title, (page, _) in FAMILIES.items():
        found = entries(title)
        named = [
            len({n for entry in found for n in text(entry).split()})
            for text in (lambda e: e.layers, lambda e: e.functions)
        ]
        counts = " | ".join(map(str, (len(found), *named)))
        lines.append(f"| [{title}](docs/operations/{page}) | {counts} |")
    return "\n".join(lines)


def onnx_cases() -> tuple[int, int]:
    """How many of ONNX's cases pass, of how many of covered operators; from their page."""
    text = ONNX_PAGE.read_text(encoding="utf-8")
    found = re.search(r"^\| together \| \d+ \| (\d+) \| (\d+) \|", text, re.M)
    if found is None:
        raise ValueError(f"{ONNX_PAGE} has no line of totals; run onnx_coverage.py --write")
    return int(found[2]), int(found[1])


def pages() -> Iterable[tuple[Path, Any]]:
    """Each file, and what makes its text anew."""
    return ((PAGE, render), (README, render_readme))


def main() -> None:
    for path, make in pages():
        text = path.read_text(encoding="utf-8")
        made = make(text)
        if "--write" in sys.argv:
            path.write_text(made, encoding="utf-8")
        elif made != text:
            sys.exit(f"{path} is not up to date; run with --write")


if __name__ == "__main__":
    main()
