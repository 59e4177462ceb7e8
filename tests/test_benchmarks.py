"""The benchmarks' own arithmetic: cases, checks of correctness, ratios, tables.

No speeds: those are `python -m benchmarks`.
"""

from __future__ import annotations

import numpy as np
import pytest

import striate as st
from benchmarks import inside, problems, report, text
from benchmarks.problems import Problem
from benchmarks.result import Result, Row
from striate.measure import peers
from striate.measure.machine import Copy, Peak


def test_the_cases_are_all_understood() -> None:
    cases = problems.load()
    assert {case.kind for case in cases} == set(problems.KINDS)
    assert len({str(case) for case in cases}) == len(cases)
    training = [c for c in cases if c.kind == "training" and c.name == "lenet5"]
    assert {(c.batch, c.threads) for c in training} == {
        (batch, threads) for batch in (32, 64, 128) for threads in (1, 2)
    }
    for case in cases:
        assert text.title(Result(case, []))


def test_a_line_that_is_no_case() -> None:
    with pytest.raises(ValueError, match="line 2: not `kind name key=value …`"):
        problems.parse("# a comment\nracing lenet5")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("layer a.b c=1 o=1 pass=forward,sideways", "line 1: a pass is one of forward, input"),
        ("layer a.b c=1 o=1 pass=forward,input n=1,2,3", "n needs one value, or one a pass"),
    ],
)
def test_a_layer_that_is_no_case(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        problems.parse(line)


def test_every_settled_command_is_one_of_striate() -> None:
    from striate.cli.main import run

    for case in problems.load():
        if case.kind == "whole":
            assert case.command[0] == "train"
            assert run([case.command[0], "--help"]) == 0


def test_multiply_adds_of_a_step() -> None:
    graph = st.models.lenet5().eval().to_graph((1, 28, 28))
    conv1, rest = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    assert inside.flops(graph, 2, training=False) == 2 * 2 * (conv1 + rest)
    assert inside.flops(graph, 2, training=True) == 2 * 2 * (2 * conv1 + 3 * rest)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([1.0, 2.0], 0.0),
        ([1.0, 2.5], 0.25),
        ([1.0, np.nan], np.inf),
        ([], np.inf),
        ([1.0], np.inf),
    ],
)
def test_error_sees_what_is_wrong(found: list[float], expected: float) -> None:
    assert inside.error(np.array(found), np.array([1.0, 2.0])) == expected


def test_the_peak_is_no_nonsense() -> None:
    assert 1 < Peak(1, milliseconds=1).run() < 2000
    for reading in (False, True):
        assert 0.1 < Copy(1, 2**15, reading).run() < 5000


@pytest.mark.parametrize(
    "case",
    [
        Problem("training", "lenet5", {"batch": "32", "threads": "1", "goal": "6"}),
        Problem("inference", "lenet5", {"batch": "64", "threads": "2", "goal": "3"}),
        Problem("latency", "lenet5", {"batch": "1", "threads": "1", "goal": "2"}),
    ],
    ids=str,
)
def test_ours_is_right_and_is_timed(case: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "versions", dict)
    result = inside.run(case, rounds=1)
    (row,) = result.rows
    assert row.error is not None and row.error < 1e-4
    assert row.seconds and row.gflops and row.percent_of_peak
    assert result.ratio is None
    assert "torch" in result.absent


def race(*rows: Row, kind: str = "inference", goal: str = "3") -> Result:
    settings = {"batch": "64", "threads": "1", "goal": goal}
    return Result(Problem(kind, "lenet5", settings), list(rows), [], {"peak_gflops": 100.0})


def timed(name: str, seconds: float) -> Row:
    return Row(name, seconds, seconds, 3, 1e-7, gflops=1.0, percent_of_peak=1.0)


def test_the_ratio_is_that_to_the_best_peer() -> None:
    rows = (timed("striate", 1.0), timed("torch", 9.0), timed("onnxruntime", 4.0))
    result = race(*rows)
    assert (result.ratio, text.reached(result)) == (4.0, True)
    assert text.reached(race(*rows, goal="5")) is False
    assert race(timed("striate", 1.0), timed("torch", 1.5), rows[2], kind="latency").ratio == 4.0


def test_a_wrong_contender_wins_nothing() -> None:
    wrong = Row("torch", error=1.0, note="wrong, not timed")
    result = race(timed("striate", 1.0), timed("onnxruntime", 2.0), wrong)
    assert result.ratio == 2.0
    assert "wrong, not timed" in report.page([result], MACHINE)


MACHINE = {
    "cpu": "a CPU",
    "cores": 2,
    "system": "an OS",
    "python": "3",
    "versions": {"striate": "0"},
    "date": "2000-01-01",
}


def test_a_missed_goal_is_said() -> None:
    missed = race(timed("striate", 1.0), timed("torch", 2.0))
    assert "**no**" in report.readme_table([missed], MACHINE)
    assert "not reached" in report.page([missed], MACHINE)
    alone = race(timed("striate", 1.0))
    assert "no peer was installed" in report.readme_table([alone], MACHINE)


def test_results_survive_json() -> None:
    result = race(timed("striate", 1.0), timed("torch", 2.0))
    assert Result.from_json(result.to_json()).to_json() == result.to_json()


def test_the_table_goes_between_the_markers() -> None:
    text = f"head\n{report.BEGIN}\nold\n{report.END}\ntail"
    once = report.between(text, "| new |")
    assert once == f"head\n{report.BEGIN}\n| new |\n{report.END}\ntail"
    assert report.between(once, "| new |") == once
    with pytest.raises(ValueError, match="expected the markers"):
        report.between("nothing", "")


@pytest.mark.peer
def test_peers_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(inside, "left_out", {"torch compiled"})
    case = Problem("inference", "lenet5", {"batch": "3", "threads": "1"})
    result = inside.run(case, rounds=1)
    assert len(result.rivals) >= 3
    assert all(row.error is not None and row.error < 1e-5 for row in result.rows)
    case = Problem("training", "lenet5", {"batch": "8", "threads": "1"})
    assert len(inside.run(case, rounds=1).rivals) == 2


def test_error_of_a_change() -> None:
    start, exact = np.array([1.0, 2.0]), np.array([1.3, 2.4])
    assert inside.change_error(exact, exact, start) == 0
    assert inside.change_error(start, exact, start) == pytest.approx(1.0)
    assert inside.change_error(np.array([1.0]), exact, start) == np.inf
    assert inside.change_error(np.array([np.nan, 1.0]), exact, start) == np.inf
