"""`python -m benchmarks`: measure the cases of problems.txt and write the tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from benchmarks import filters, inside, layers, operations, outside, problems, report, text
from benchmarks.problems import Problem
from benchmarks.result import OURS, Result


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; returns the exit code: 1 where a contender of ours was wrong."""
    options = _options().parse_args(arguments)
    if options.tables:
        report.rewrite()
        return 0
    chosen = [p for p in problems.load() if all(word in str(p) for word in options.only)]
    if not chosen:
        print(f"benchmarks: no case of problems.txt has {options.only}.", file=sys.stderr)
        return 2
    inside.left_out.update(options.without)
    if options.target:
        layers.left_out.update(("onnxruntime", "openvino"))
        chosen = [p for p in chosen if p.kind == "layer"]
    machine = {**outside.machine(), "quick": options.quick}
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_at_start']}\n")
    results = [_measured(p, options, k, len(chosen)) for k, p in enumerate(chosen)]
    _summarise(results)
    if options.merge or options.write or not (options.quick or options.only):
        file = report.narrower(options.target) if options.target else report.RESULTS
        report.write(results, machine, options.merge, file)
        print(f"written: {file}, {report.PAGE}, the table of {report.README}")
    return 1 if any(_wrong(r) for r in results) else 0


def _measured(problem: Problem, options: argparse.Namespace, place: int, count: int) -> Result:
    print(f"… {problem} ({place + 1} of {count})", flush=True)
    rounds = options.rounds or (3 if options.quick else 41)
    if problem.kind == "layer":
        result = layers.run(problem, rounds)
    elif problem.kind == "operation":
        result = operations.run(problem, rounds)
    elif problem.kind == "filter":
        result = filters.run(problem, rounds)
    elif problem.kind in (*problems.RACES, "scaling"):
        result = inside.run(problem, rounds)
    else:
        result = outside.run(problem, quick=options.quick)
    report.show(result)
    return result


def _wrong(result: Result) -> bool:
    ours = result.row(OURS)
    return text.is_race(result) and (ours is None or ours.seconds is None)


def _summarise(results: Sequence[Result]) -> None:
    missed = [r for r in results if text.reached(r) is False]
    known = [r for r in results if text.reached(r) is not None]
    if known:
        end = "; not:" if missed else ""
        print(f"{len(known) - len(missed)} of {len(known)} goals reached{end}")
        for result in missed:
            print(f"  {result.problem}: {text.verdict(result)}")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", help="words that a case must have: layer threads=1")
    parser.add_argument("--quick", action="store_true", help="few rounds; writes nothing")
    parser.add_argument("--rounds", type=int, help="rounds of each contender (default: 41)")
    parser.add_argument("--write", action="store_true", help="write the tables all the same")
    parser.add_argument(
        "--merge", action="store_true", help="write them, with the earlier results of other cases"
    )
    parser.add_argument(
        "--without", action="append", default=[], help="a contender to leave out: torch compiled"
    )
    parser.add_argument(
        "--target", choices=LIMITS, help="limit ours and torch to it; cases of kind layer only"
    )
    parser.add_argument("--tables", action="store_true", help="only write the tables anew")
    return parser


LIMITS = {
    "x86-64-v2": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    "x86-64-v3": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
"""What keeps torch to the vectors of a target."""


def _with_own_settings() -> None:
    """Start again limited as --target says, and with memory that is kept once it is there.

    torch takes fresh memory for every result; with the system's defaults some processes then pay
    for new pages at each call and others do not. These settings give it its best case.
    """
    wanted = dict(outside.OWN_SETTINGS) if sys.platform == "linux" else {}
    target = next((name for name in LIMITS if name in sys.argv), None)
    if target is not None:
        wanted |= {"STRIATE_TARGET": target, **LIMITS[target]}
    missing = {k: v for k, v in wanted.items() if os.environ.get(k) != v}
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]])


if __name__ == "__main__":
    _with_own_settings()
    sys.exit(main())
