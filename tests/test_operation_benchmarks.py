"""The benchmarks of single operations: ours and torch's compute the same. No speeds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import operations, problems, report, text
from benchmarks.problems import Problem

NAMES = list(operations.CASES)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "SECONDS", 0.0)
    for name, case in operations.CASES.items():
        monkeypatch.setitem(operations.CASES, name, replace(case, shape=(3, *case.shape[1:])))


def test_every_case_is_one() -> None:
    named = {p.name for p in problems.load() if p.kind == "operation"}
    assert named | {"relu"} == set(NAMES)
    for problem in problems.load():
        if "against" in problem.settings:
            assert problem.settings["against"] in NAMES


@pytest.mark.peer
@pytest.mark.parametrize("name", NAMES)
def test_all_compute_the_same(name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    result = operations.run(Problem("operation", name, {"threads": "2", "goal": "1"}), 1)
    assert [row.name for row in result.rows] == ["striate", "torch"]
    assert all(row.error is not None and row.error < 1e-5 for row in result.rows)
    assert result.ratio and "wrong" not in report._race_cell(result)


def test_beside_another_of_ours() -> None:
    settings = {"threads": "1", "against": "relu", "goal": "0.5"}
    result = operations.run(Problem("operation", "sqnl", settings), 1)
    assert [row.name for row in result.rows] == ["striate", "our relu"]
    assert result.ratio and "against our own relu" in text.title(result)
