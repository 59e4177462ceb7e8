"""`python -m benchmarks`: measure every case of problems.txt and write the tables."""

from __future__ import annotations

import argparse
import sys

from benchmarks import inside, outside, problems, report
from benchmarks.result import Result


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; returns the exit code: 1 where a contender of ours was wrong."""
    options = _options().parse_args(arguments)
    chosen = [p for p in problems.load() if all(word in str(p) for word in options.only)]
    if not chosen:
        print(f"benchmarks: no case of problems.txt has {options.only}.", file=sys.stderr)
        return 2
    machine = {**outside.machine(), "quick": options.quick}
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_at_start']}\n")
    results: list[Result] = []
    for problem in chosen:
        print(f"… {problem}", flush=True)
        if problem.kind in ("training", "inference", "latency"):
            result = inside.run(problem, rounds=options.rounds or (3 if options.quick else 41))
        else:
            result = outside.run(problem, quick=options.quick)
        report.show(result)
        results.append(result)
    if options.write or not (options.quick or options.only):
        report.write(results, machine)
        print(f"written: {report.RESULTS}, {report.PAGE}, the table of {report.README}")
    wrong = [r for r in results if report.is_race(r) and r.row("striate").seconds is None]  # type: ignore[union-attr]
    return 1 if wrong else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", help="words that a case must have: training threads=1")
    parser.add_argument("--quick", action="store_true", help="few rounds; writes nothing")
    parser.add_argument("--rounds", type=int, help="rounds of each contender (default: 41)")
    parser.add_argument("--write", action="store_true", help="write the tables all the same")
    return parser


if __name__ == "__main__":
    sys.exit(main())
