"""Results on the terminal, as JSON, as the page docs/benchmarks.md, and in the README."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import layer_tables, problems, roofline
from benchmarks.problems import RACES
from benchmarks.result import ELSEWHERE, OURS, Result, Row
from benchmarks.text import (
    goal_text,
    is_race,
    quantity,
    reached,
    reached_text,
    short,
    threads_text,
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
    """The short tables: networks beside peers, what else was to be reached, kinds of layers."""
    lines = _networks_table([r for r in results if r.problem.kind in RACES])
    lines += _others_table([r for r in results if r.problem.kind in _ALONE])
    if layer_tables.layers_of(results):
        lines += ["", *layer_tables.summary_table(results)]
        lines += [
            "",
            "For kinds of layers: the speed of the fastest peer (torch in both memory formats, "
            "ONNX Runtime, OpenVINO) times over, median (lowest … highest), and how many layers "
            "reach what they were to reach.",
        ]
    lines += ["", _elsewhere(results)]
    lines += [
        "",
        "“Of peak” is the share of this machine's speed at multiply-adds alone, measured in the "
        "same rounds: it says what is left to gain with the same arithmetic.",
        "",
        f"Measured on {_shown_machines(results, machine)}.",
    ]
    return "\n".join(lines)


def _shown_machines(results: Sequence[Result], machine: dict[str, Any]) -> str:
    shown = [r for r in results if r.problem.kind not in _PAGE_ONLY]
    marked = any(ELSEWHERE in r.extra for r in shown)
    return _machines_text(machine) if marked else _machine_text(machine)


_ALONE = ("import", "compile", "memory", "whole")
_PAGE_ONLY = {"filter": "filters on whole images", "operation": "single operations"}
_PAGE_ONLY["scaling"] = "the gain of a second thread"


def _networks_table(results: Sequence[Result]) -> list[str]:
    """Networks beside peers: a row a case, its numbers of threads beside each other."""
    if not results:
        return []
    cases: dict[str, dict[int, Result]] = {}
    for result in results:
        name = title(result).replace(f", {threads_text(result)}", "")
        cases.setdefault(name, {})[result.problem.threads] = result
    threads = sorted({count for found in cases.values() for count in found})
    heads = [f"{count} thread{'s' if count > 1 else ''}" for count in threads]
    lines = [
        f"| | {' | '.join(heads)} | to reach | reached |",
        f"|---|{'---|' * len(heads)}---:|---|",
    ]
    for name, found in cases.items():
        cells = [_race_cell(found[k]) if k in found else "–" for k in threads]
        goals = [r.problem.number("goal") for r in found.values()]
        goal = "–" if goals[0] is None else f"{goals[0]:g}×"
        said = list(dict.fromkeys(_reached_race(r) for r in found.values()))
        lines.append(f"| {name} | {' | '.join(cells)} | {goal} | {', '.join(said)} |")
    return lines


def _race_cell(result: Result) -> str:
    """`1.93 ms, 75 % of peak: **4.1×** torch`."""
    ours, rival = result.row(OURS), result.best_rival
    if ours is None or ours.seconds is None:
        return "wrong, not timed"
    share = ours.percent_of_peak
    text = time_text(ours.seconds) + ("" if share is None else f", {share:.0f} % of peak")
    return f"{text}: " + (
        "no peer was installed" if rival is None else f"**{result.ratio:.1f}×** {rival.name}"
    )


def _reached_race(result: Result) -> str:
    ours = result.row(OURS)
    wrong = ours is None or ours.seconds is None
    return "**no**" if wrong else reached_text(reached(result))


def _others_table(results: Sequence[Result]) -> list[str]:
    """What is measured alone, or as a whole command."""
    rows = [row for result in results for row in _other_rows(result)]
    if not rows:
        return []
    return ["", "| | striate | | to reach | reached |", "|---|---:|---|---:|---|", *rows]


def _other_rows(result: Result) -> list[str]:
    head = title(result)
    command = result.problem.command
    if command:
        first = command[: command.index("--epochs") + 2] if "--epochs" in command else command
        head = f"`striate {' '.join(first)} …`"
    rows = [r for r in result.rows if r.goal is not None or r.unit == "%" or command]
    return [
        f"| {head}: {r.name} | {quantity(r)} | {r.note} | {goal_text(r)} | "
        f"{reached_text(r.reached)} |"
        for r in rows
    ]


def _elsewhere(results: Sequence[Result]) -> str:
    """What only the page of benchmarks shows, and how many goals it reaches."""
    said = []
    for kind, words in _PAGE_ONLY.items():
        judged = [reached(r) for r in results if r.problem.kind == kind]
        judged = [r for r in judged if r is not None]
        if judged:
            said.append(f"{words} ({sum(map(bool, judged))} of {len(judged)} goals reached)")
    listed = ", ".join(["each layer", *said])
    return f"On [the page of benchmarks](docs/benchmarks.md): {listed}."


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
