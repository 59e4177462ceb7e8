"""Results on the terminal, as JSON, as the page docs/benchmarks.md, and in the README."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.result import OURS, Result, Row

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"


# ---- numbers as text ----


def time_text(seconds: float | None) -> str:
    """A time in a fitting unit.

    >>> time_text(0.00123), time_text(12.0), time_text(3.4e-5)
    ('1.23 ms', '12.0 s', '34.0 µs')
    """
    if seconds is None:
        return "–"
    if seconds < 0:
        return f"−{time_text(-seconds)}"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            number = seconds / size
            return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} {unit}"
    return "–"


def quantity(row: Row) -> str:
    """A row's median, with its unit."""
    if row.value is not None:
        digits = 2 if row.unit == "%" else 0
        return f"{row.value:.{digits}f} {row.unit}"
    return time_text(row.seconds) if row.seconds is not None else "–"


def goal_text(row: Row) -> str:
    """What a row was to reach."""
    if row.goal is None:
        return "–"
    if row.value is not None:
        sign = "≥" if row.unit == "%" else "≤"
        return f"{sign} {row.goal:g} {row.unit}"
    return f"≤ {time_text(row.goal)}"


def reached_text(reached: bool | None) -> str:
    return {True: "yes", False: "**no**", None: "–"}[reached]


def title(result: Result) -> str:
    """A case in words."""
    p = result.problem
    threads = (
        f"{p.threads} thread" + ("s" if p.threads > 1 else "") if "threads" in p.settings else ""
    )
    names = {"lenet5": "LeNet-5"}
    name = names.get(p.name, p.name)
    return {
        "training": f"{name}, training step, batch {p.settings.get('batch')}, {threads}",
        "inference": f"{name}, inference, batch {p.settings.get('batch')}, {threads}",
        "latency": f"{name}, one image, {threads}",
        "import": "`import striate`",
        "compile": f"machine code of {name}, training and inference",
        "memory": f"memory of training {name}, batch {p.settings.get('batch')}",
        "whole": f"`striate {' '.join(p.command)}`",
    }[p.kind]


def is_race(result: Result) -> bool:
    return result.problem.kind in ("training", "inference", "latency")


def reached(result: Result) -> bool | None:
    """Whether the goal of a race is reached."""
    goal = result.problem.number("goal")
    return None if goal is None or result.ratio is None else result.ratio >= goal


# ---- the terminal ----


def show(result: Result) -> None:
    """Print one case."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    race = is_race(result)
    columns = ("GFLOP/s", "of peak", "error") if race else ("to reach", "")
    table = Table(title=title(result), title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("median", "fastest", *columns):
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name))
    for row in result.rows:
        table.add_row(row.name, *(_race_cells(row) if race else _other_cells(row)))
    console.print(table)
    if race:
        console.print(_verdict(result))
    console.print()


def _race_cells(row: Row) -> tuple[str, ...]:
    if row.gflops is None or row.percent_of_peak is None:
        return row.note, "–", "–", "–", f"{row.error:.0e}"
    speed, share = f"{row.gflops:.1f}", f"{row.percent_of_peak:.0f} %"
    return quantity(row), time_text(row.fastest), speed, share, f"{row.error:.0e}"


def _other_cells(row: Row) -> tuple[str, ...]:
    mark = {True: "✓ ", False: "✗ ", None: ""}[row.reached]
    return quantity(row), time_text(row.fastest), goal_text(row), mark + row.note


def _verdict(result: Result) -> str:
    goal = result.problem.number("goal")
    if result.ratio is None or result.best_rival is None:
        return "no peer to compare with: " + ", ".join(result.absent or ["none was right"])
    text = f"{result.ratio:.2f}× the speed of {result.best_rival.name}"
    if goal is not None:
        text += f" (to reach: {goal:g}×: {'reached' if reached(result) else 'not reached'})"
    if result.absent:
        text += f"; not installed: {', '.join(result.absent)}"
    return f"{text}; peak {result.extra['peak_gflops']:.0f} GFLOP/s"


# ---- files ----


def write(results: Sequence[Result], machine: dict[str, Any]) -> None:
    """Write results.json, the page of the documentation, and the README's table."""
    data = {"machine": machine, "cases": [r.to_json() for r in results]}
    RESULTS.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(results, machine), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    README.write_text(between(text, readme_table(results, machine)), encoding="utf-8")


def between(text: str, table: str) -> str:
    """`text` with what stands between the markers replaced."""
    head, found, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"README.md: expected the markers {BEGIN} and {END}.")
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def _machine_text(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items() if n != "onnx")
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}; {versions}; {machine['date']}"
        + ("; a quick run of few rounds" if machine.get("quick") else "")
    )


def readme_table(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """The short table: what was to be reached, and what is."""
    lines = [
        "| what | striate | of peak | compared with | to reach | reached |",
        "|---|---:|---:|---|---:|---|",
    ]
    for result in results:
        lines += _short_rows(result)
    lines += [
        "",
        "“Of peak” is the share of this machine's speed at multiply-adds alone, measured in the "
        "same rounds: it says what is left to gain with the same arithmetic.",
        "",
        f"Measured on {_machine_text(machine)}.",
    ]
    return "\n".join(lines)


def _short_rows(result: Result) -> list[str]:
    return [_race_row(result)] if is_race(result) else _other_rows(result)


def _race_row(result: Result) -> str:
    ours, rival = result.row(OURS), result.best_rival
    if ours is None or ours.percent_of_peak is None:
        return f"| {title(result)} | wrong, not timed | | | | **no** |"
    goal = result.problem.number("goal")
    rival_text = "no peer was installed"
    if rival is not None:
        rival_text = f"**{result.ratio:.1f}×** {rival.name} ({time_text(rival.seconds)})"
    cells = (
        title(result),
        time_text(ours.seconds),
        f"{ours.percent_of_peak:.0f} %",
        rival_text,
        "–" if goal is None else f"{goal:g}×",
        reached_text(reached(result)),
    )
    return f"| {' | '.join(cells)} |"


def _other_rows(result: Result) -> list[str]:
    head = title(result)
    command = result.problem.command
    if command:
        first = command[: command.index("--epochs") + 2] if "--epochs" in command else command
        head = f"`striate {' '.join(first)} …`"
    rows = [r for r in result.rows if r.goal is not None or r.unit == "%" or command]
    return [
        f"| {head}: {r.name} | {quantity(r)} | | {r.note} | {goal_text(r)} | "
        f"{reached_text(r.reached)} |"
        for r in rows
    ]


def page(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """The page of the documentation."""
    parts = [PAGE_HEAD.format(machine=_machine_text(machine))]
    for result in results:
        parts.append(f"## {title(result)}\n")
        parts.append("\n".join(_page_table(result)) + "\n")
        if is_race(result):
            verdict = _verdict(result)
            parts.append(verdict[0].upper() + verdict[1:] + ".\n")
    return "\n".join(parts)


def _page_table(result: Result) -> list[str]:
    if is_race(result):
        lines = [
            "| | median | fastest round | GFLOP/s | of peak | error |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for r in result.rows:
            if r.seconds is None:
                lines.append(f"| {r.name} | {r.note} | | | | {r.error:.0e} |")
                continue
            lines.append(
                f"| {r.name} | {time_text(r.seconds)} | {time_text(r.fastest)} | {r.gflops:.1f} | "
                f"{r.percent_of_peak:.0f} % | {r.error:.0e} |"
            )
        return lines
    lines = [
        "| | median | fastest | rounds | to reach | reached | |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for r in result.rows:
        lines.append(
            f"| {r.name} | {quantity(r)} | {time_text(r.fastest)} | {r.rounds or '–'} | "
            f"{goal_text(r)} | {reached_text(r.reached)} | {r.note} |"
        )
    return lines


PAGE_HEAD = """\
# Benchmarks

This page is written by `python -m benchmarks`; the cases are in `benchmarks/problems.txt`, the
numbers in `benchmarks/results.json`. Install the peers with `pip install -e ".[bench]"`; one that
is absent is left out and named.

Measured on {machine}.

How:

- **Correct first.** What each contender computes is compared with the float64 reference; "error" is
  the largest difference as a share of the largest number (for training: of any parameter after
  three steps). One above 1e-4 is not timed.
- **Side by side.** All contenders run in one process on the same number of threads, in turn, for
  many short rounds; a turn is a pause, an untimed call, then the timed calls. The table has
  medians; the ratio is that of the medians. A busy neighbour meets all of them alike.
- **The same work.** The same weights and images. A training step is zeroing the gradients, forward,
  cross-entropy, backward, and SGD with momentum. torch gets its batches cut and laid out before
  the clock starts, and is timed in both memory formats; striate gathers its batches inside the
  timed call, many steps a call, as `fit` does. ONNX Runtime and OpenVINO get a model of a fixed
  batch size.
- **Peak** is the speed of a loop of multiply-adds and nothing else, generated like every kernel,
  measured on the same threads in the same rounds. GFLOP/s count a multiply-add as two, layers only.
- Imports, compilations, memory and whole commands are measured in fresh processes. `whole` cases
  take the time from the start of the process to the printed test accuracy, reading the data
  included, with compiled code in the cache; the median of the seeds counts, and all are shown.
"""
