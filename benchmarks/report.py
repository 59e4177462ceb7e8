"""Results on the terminal, as JSON, as the page docs/benchmarks.md, and in the README."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import layer_tables, problems, roofline
from benchmarks.result import ELSEWHERE, OURS, Result, Row
from benchmarks.text import (
    goal_text,
    is_race,
    quantity,
    reached,
    reached_text,
    short,
    time_text,
    title,
    verdict,
)

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "images" / "roofline.png"
README = ROOT / "README.md"
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"


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
        console.print(verdict(result), highlight=False)
    console.print()


def _race_cells(row: Row) -> tuple[str, ...]:
    if row.seconds is None:
        return row.note, "–", "–", "–", f"{row.error:.0e}"
    speed = share = "–"
    if row.gflops is not None and row.percent_of_peak is not None:
        speed, share = f"{row.gflops:.1f}", f"{row.percent_of_peak:.0f} %"
    return quantity(row), time_text(row.fastest), speed, share, f"{row.error:.0e}"


def _other_cells(row: Row) -> tuple[str, ...]:
    mark = {True: "✓ ", False: "✗ ", None: ""}[row.reached]
    return quantity(row), time_text(row.fastest), goal_text(row), mark + row.note


# ---- files ----


def write(
    results: Sequence[Result],
    machine: dict[str, Any],
    merge: bool = False,
    file: Path = RESULTS,
) -> None:
    """Write a file of results, the page of the documentation, the picture, and the README's table.

    Args:
        results: what was measured.
        machine: on what.
        merge: keep the earlier results of cases that were not measured now.
        file: results.json, or that of a narrower target.
    """
    for result in results:
        result.extra["system"] = machine["system"]
    if merge and file.exists():
        earlier, known = read(file)
        results = merged(earlier, results)
        machine = _joined(known, machine, results)
    data = {"machine": machine, "cases": [r.to_json() for r in results]}
    file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    rewrite()


def _joined(
    known: dict[str, Any], machine: dict[str, Any], results: Sequence[Result]
) -> dict[str, Any]:
    """The machine that most results are from; those of the others stand beside it."""
    found = {known["system"]: known, **known.get("others", {}), machine["system"]: machine}
    counts = Counter(result.extra["system"] for result in results)
    (first, _), *rest = counts.most_common()
    plain = {name: {k: v for k, v in found[name].items() if k != "others"} for name in counts}
    others = {name: plain[name] for name, _ in rest}
    return {**plain[first], "others": others} if others else plain[first]


def narrower(target: str) -> Path:
    """The file of the results for a target narrower than the machine's own."""
    return RESULTS.with_name(f"results-{target}.json")


def read(file: Path = RESULTS) -> tuple[list[Result], dict[str, Any]]:
    """The results that a file holds, and the machine."""
    data = json.loads(file.read_text(encoding="utf-8"))
    results, machine = [Result.from_json(case) for case in data["cases"]], data["machine"]
    for result in results:
        if result.extra.setdefault("system", machine["system"]) != machine["system"]:
            result.extra[ELSEWHERE] = result.extra["system"]
    return results, machine


def merged(earlier: Sequence[Result], new: Sequence[Result]) -> list[Result]:
    """The new results and those earlier ones whose cases still exist, in the file's order."""
    found = {str(r.problem): r for r in (*earlier, *new)}
    known = [str(p) for p in problems.load()]
    return [found[case] for case in known if case in found]


def rewrite() -> None:
    """Write the page, the picture and the README's table from results.json."""
    results, machine = read()
    others = [read(file) for file in sorted(RESULTS.parent.glob("results-*.json"))]
    PAGE.write_text(page(results, machine, others), encoding="utf-8")
    if layer_tables.layers_of(results):
        roofline.draw(results, machine, PICTURE)
    text = README.read_text(encoding="utf-8")
    README.write_text(between(text, readme_table(results, machine)), encoding="utf-8")


def between(text: str, table: str) -> str:
    """`text` with what stands between the markers replaced."""
    head, found, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"README.md: expected the markers {BEGIN} and {END}.")
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def _machines_text(machine: dict[str, Any]) -> str:
    """All that a file's results were measured on."""
    more = (
        f"; what is marked {short(system)} on {_machine_text(other)}"
        for system, other in machine.get("others", {}).items()
    )
    return _machine_text(machine) + "".join(more)


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
    if layer_tables.layers_of(results):
        lines += ["", *layer_tables.summary_table(results)]
        lines += [
            "",
            "For kinds of layers: the speed of the fastest peer (torch in both memory formats, "
            "ONNX Runtime, OpenVINO) times over, median (lowest … highest), and how many layers "
            "reach what they were to reach. Each layer is on the page of benchmarks.",
        ]
    lines += [
        "",
        "“Of peak” is the share of this machine's speed at multiply-adds alone, measured in the "
        "same rounds: it says what is left to gain with the same arithmetic.",
        "",
        f"Measured on {_machines_text(machine)}.",
    ]
    return "\n".join(lines)


def _short_rows(result: Result) -> list[str]:
    if result.problem.kind == "layer":
        return []
    return [_race_row(result)] if is_race(result) else _other_rows(result)


def _race_row(result: Result) -> str:
    ours, rival = result.row(OURS), result.best_rival
    if ours is None or ours.seconds is None:
        return f"| {title(result)} | wrong, not timed | | | | **no** |"
    goal = result.problem.number("goal")
    rival_text = "no peer was installed"
    if rival is not None:
        rival_text = f"**{result.ratio:.1f}×** {rival.name} ({time_text(rival.seconds)})"
    cells = (
        title(result),
        time_text(ours.seconds),
        "–" if ours.percent_of_peak is None else f"{ours.percent_of_peak:.0f} %",
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


Measured = tuple[Sequence[Result], dict[str, Any]]


def page(
    results: Sequence[Result], machine: dict[str, Any], others: Sequence[Measured] = ()
) -> str:
    """The page of the documentation.

    Args:
        results: of the machine's own target.
        machine: what they were measured on.
        others: results of narrower targets.
    """
    parts = [PAGE_HEAD.format(machine=_machines_text(machine))]
    for result in results:
        if result.problem.kind == "layer":
            continue
        parts.append(f"## {title(result)}\n")
        parts.append("\n".join(_page_table(result)) + "\n")
        if is_race(result):
            said = verdict(result)
            parts.append(said[0].upper() + said[1:] + ".\n")
    parts += layer_tables.page_sections(results)
    parts += layer_tables.direct_section(results)
    for found, limited in others:
        parts.append(NARROWER.format(target=limited["target"], machine=_machine_text(limited)))
        parts.append("\n".join(layer_tables.summary_table(found)) + "\n")
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
            lines.append(f"| {r.name} | {' | '.join(_race_cells(r))} |")
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


NARROWER = """\
## Layers on {target}

Ours limited to {target}, torch to the same vectors (`ONEDNN_MAX_CPU_ISA`, `ATEN_CPU_CAPABILITY`);
the other peers cannot be limited and are left out. Measured on {machine}.
"""
PAGE_HEAD = """\
# Benchmarks

This page is written by `python -m benchmarks`; the cases are in `benchmarks/problems.txt`, the
numbers in `benchmarks/results.json`. Install the peers with `pip install -e ".[bench]"`; one that
is absent is left out and named.

Measured on {machine}.

How:

- **Correct first.** What each contender computes is compared with float64 (our reference; for large
  networks and layers torch's, which the tests compare with ours); "error" is the largest difference
  as a share of the largest number. One above 1e-4 is not timed. For training it is the error of any
  parameter's change by three steps (one where a step is large; without dropout), at most 5e-2: the
  rounding of float32 turns a ReLU or moves a maximum now and then, so torch's own is as large.
- **Side by side.** All contenders run in one process on the same number of threads, in turn, for
  many short rounds; a turn is a pause, an untimed call, then the timed calls. The table has
  medians; the ratio is that of the medians. A busy neighbour meets all of them alike.
- **The same work.** The same weights and images. A training step is zeroing the gradients, forward,
  cross-entropy, backward, and SGD with momentum. torch gets its batches cut and laid out before
  the clock starts, and is timed in both memory formats; striate gathers its batches inside the
  timed call, many steps a call, as `fit` does. ONNX Runtime and OpenVINO get a model of a fixed
  batch size and fold batch norm themselves; ours does so in `freeze`. torch's networks are written
  from the same graph: one function after the other, activations and additions in place.
  "torch frozen" is traced, frozen and optimised for inference; "torch compiled" is torch.compile
  (frozen for inference); one that failed or took longer than two minutes to compile is named.
- **Memory that stays.** torch takes fresh memory for each result. So that no contender pays for new
  pages at every call, the process keeps what it has freed (`MALLOC_TRIM_THRESHOLD_`,
  `MALLOC_MMAP_THRESHOLD_`).
- **Peak** is the speed of a loop of multiply-adds and nothing else, generated like every kernel,
  measured on the same threads in the same rounds. GFLOP/s count a multiply-add as two, layers only.
- Imports, compilations, memory and whole commands are measured in fresh processes. `whole` cases
  take the time from the start of the process to the printed test accuracy, reading the data
  included, with compiled code in the cache; the median of the seeds counts, and all are shown.
"""
