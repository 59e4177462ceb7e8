"""What a case has brought: a row for each contender, and whether the goal is reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.problems import Problem

OURS = "striate"
EXTRA = (
    "best_of_peak",
    "peak_gflops",
    "copy_gbytes",
    "gflop",
    "mbytes",
    "system",
)  # what else a case has: numbers, and what it was measured on where that is told
ELSEWHERE = "elsewhere"  # in `extra`: the system, where it is not that of the file's machine


@dataclass(frozen=True)
class Row:
    """One contender, or one of several quantities of a case.

    Attributes:
        name: who or what.
        seconds: the median; None where the quantity is no time.
        fastest: the fastest round.
        rounds: how many rounds there were.
        error: largest difference from the float64 reference, as a share of the largest number.
        gflops: 10⁹ multiplications and additions a second.
        percent_of_peak: of the speed of the multiply-add loop in the same rounds.
        percent_of_bandwidth: the bytes that it must move at least, as a share of the speed of a
            copy of as many bytes in the same rounds.
        value: a quantity that is no time.
        unit: its unit.
        goal: what it is to reach; `reached` says whether it did.
        note: what else is to be said.
    """

    name: str
    seconds: float | None = None
    fastest: float | None = None
    rounds: int | None = None
    error: float | None = None
    gflops: float | None = None
    percent_of_peak: float | None = None
    percent_of_bandwidth: float | None = None
    value: float | None = None
    unit: str = ""
    goal: float | None = None
    reached: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """A measured case."""

    problem: Problem
    rows: list[Row]
    absent: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> Row | None:
        return next((r for r in self.rows if r.name == name), None)

    @property
    def rivals(self) -> list[Row]:
        """The peers that were timed and that the goal is measured against."""
        names = ("onnxruntime",) if self.problem.kind == "latency" else None
        return [
            r
            for r in self.rows
            if r.name != OURS and r.seconds is not None and (names is None or r.name in names)
        ]

    @property
    def best_rival(self) -> Row | None:
        """The fastest peer, by medians."""
        return min(self.rivals, key=lambda r: r.seconds or 0.0, default=None)

    @property
    def ratio(self) -> float | None:
        """How many times the best peer's speed ours is, by medians."""
        ours, best = self.row(OURS), self.best_rival
        if ours is None or best is None or not ours.seconds or not best.seconds:
            return None
        return best.seconds / ours.seconds

    def to_json(self) -> dict[str, Any]:
        """The case as JSON data."""
        return {
            "case": str(self.problem),
            "kind": self.problem.kind,
            "name": self.problem.name,
            "settings": self.problem.settings,
            "command": list(self.problem.command),
            "ratio": self.ratio,
            "best_peer": None if self.best_rival is None else self.best_rival.name,
            "absent": self.absent,
            **{k: v for k, v in self.extra.items() if k in EXTRA},
            "rows": [
                {k: v for k, v in asdict(r).items() if v not in (None, "")} for r in self.rows
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """The result that `to_json` gave."""
        problem = Problem(data["kind"], data["name"], data["settings"], tuple(data["command"]))
        extra = {k: data[k] for k in EXTRA if k in data}
        return cls(problem, [Row(**row) for row in data["rows"]], data["absent"], extra)
