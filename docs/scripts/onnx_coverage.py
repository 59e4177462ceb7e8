"""The generated parts of two pages, written by `python docs/scripts/onnx_coverage.py --write`.

operations/onnx.md: which of ONNX's backend tests pass, counted and listed by name; it runs them all
(about half a minute; it needs onnx). onnx.md: what each operation is exported as.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "onnx.md"
EXPORTS = ROOT / "docs" / "onnx.md"
OPSET = 18
MOST = 6  # operators that are listed
_HELPERS = ("Constant", "Shape")
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
_HOW = {"graph": "graph", "reference": "float64", "numpy": "NumPy"}
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def render(page: str) -> str:
    """The page of operators with its generated part made anew."""
    return _with_part(page, generated())


def render_exports(page: str) -> str:
    """The page of networks with its generated part made anew."""
    return _with_part(page, exports())


def _with_part(page: str, part: str) -> str:
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def generated() -> str:
    return "\n\n".join((totals(), by_operator(), reasons(), names()))


def totals() -> str:
    """How many cases each set has, and what became of them."""
    from tests.formats.onnx_cases import SETS, cases, outcome

    lines = ["| set | cases | of covered operators | passed | excluded |", "|---|---|---|---|---|"]
    for kind in (*SETS, "together"):
        of_set = [c for c in cases() if kind in (c.kind, "together")]
        covered = [c for c in of_set if c.covered]
        passed = [c for c in covered if not outcome(c).wrong]
        counts = (len(of_set), len(covered), len(passed), len(covered) - len(passed))
        lines.append(f"| {kind} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def by_operator() -> str:
    """A line for each operator: cases, how they were computed."""
    from striate.formats.onnx.registry import handlers
    from tests.formats.onnx_cases import SETS, cases, outcome

    lines = [
        "## By operator",
        "",
        "An operator that ONNX spells out as a function of others is tested in both forms; what is",
        "called expanded here passes in the second form only. The sets made from PyTorch are lines",
        "of their own.",
        "",
        "| operator | passed | of | computed by |",
        "|---|---|---|---|",
    ]
    known = {*handlers(), *SETS}
    for operator, group in sorted(groups(c for c in cases() if c.covered).items()):
        done = [outcome(c) for c in group if not outcome(c).wrong]
        used = Counter(name for o in done for name in o.used)
        how = ", ".join(f"{_HOW[k]} {used[k]}" for k in _HOW if used[k])
        title = operator if operator in known else f"{operator}, expanded"
        lines.append(f"| {title} | {len(done)} | {len(group)} | {how or 'nothing to compute'} |")
    return "\n".join(lines)


def groups(found: Iterable[Any]) -> dict[str, list[Any]]:
    """Cases by what they test."""
    result: dict[str, list[Any]] = {}
    for case in found:
        result.setdefault(case.operator, []).append(case)
    return result


def reasons() -> str:
    """What is excluded, and why."""
    from striate.formats.onnx.registry import handlers
    from tests.formats.onnx_cases import cases
    from tests.formats.onnx_exclusions import EXCLUDED, NOT_COVERED

    lines = ["## Excluded", "", "Cases of covered operators that do not pass:", ""]
    for pattern, why in EXCLUDED.items():
        count = sum(1 for c in cases() if c.covered and re.match(pattern, c.name))
        lines.append(f"- `{pattern}` ({count} cases): {why}.")
    lines += ["", "Operators that are not covered, and how many cases have them:", ""]
    lines += ["| why | operators |", "|---|---|"]
    known = set(handlers())
    for why in dict.fromkeys(NOT_COVERED.values()):
        named = []
        for name in (k for k, reason in NOT_COVERED.items() if reason == why):
            count = sum(1 for c in cases() if name in c.operators - known)
            named.append(f"{name} ({count})")
        lines.append(f"| {why} | {', '.join(named)} |")
    return "\n".join(lines)


def names() -> str:
    """All cases that pass, by operator."""
    from tests.formats.onnx_cases import cases, outcome

    lines = ["## The cases that pass", ""]
    passed = [c for c in cases() if c.covered and not outcome(c).wrong]
    for operator, group in sorted(groups(passed).items()):
        listed = " ".join(c.name.removeprefix("test_") for c in group)
        lines += [f"**{operator}** ({len(group)}): `{listed}`", ""]
    return "\n".join(lines).rstrip()


# ---- what operations are exported as -------------------------------------------------------------


def exports() -> str:
    """A line for each operation: the operators that its cases give."""
    from striate.formats.onnx.exporter import LEFT_OUT, REFUSED
    from striate.formula.operations import OPERATIONS

    lines = ["| operation | in ONNX |", "|---|---|"]
    for name in sorted(OPERATIONS):
        if name in REFUSED:
            how = f"not: {REFUSED[name]}"
        elif name in LEFT_OUT:
            how = "left out: it does nothing in evaluation"
        else:
            how = "; ".join(sorted(_written(name), key=lambda k: (k == "function", k)))
        lines.append(f"| {name} | {how} |")
    return "\n".join(lines)


def _written(name: str) -> set[str]:
    """The operators of each case of an operation, or that it is a function."""
    from striate.formats.onnx.exporter import to_model
    from tests.formats.test_onnx_export import of_operation, single

    found = set()
    for case in of_operation(name).values():
        graph, _, parameters = single(case)
        model = to_model(graph, parameters, OPSET)
        ops = [n.op_type for n in model.graph.node if n.op_type not in _HELPERS]
        short = len(ops) <= MOST
        found.add("function" if model.functions else ", ".join(ops) if short else "in place")
    return found


def main() -> None:
    for path, make in ((PAGE, render), (EXPORTS, render_exports)):
        page = path.read_text(encoding="utf-8")
        made = make(page)
        if "--write" in sys.argv:
            path.write_text(made, encoding="utf-8")
        elif made != page:
            sys.exit(f"{path} is not up to date; run with --write")


if __name__ == "__main__":
    main()
