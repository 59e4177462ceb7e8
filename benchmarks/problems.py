"""The cases of problems.txt."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).with_name("problems.txt")
KINDS = ("training", "inference", "latency", "import", "compile", "memory", "whole")


@dataclass(frozen=True)
class Problem:
    """One case: its kind, its name, its settings, and for `whole` a command."""

    kind: str
    name: str
    settings: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()

    @property
    def batch(self) -> int:
        return int(self.settings["batch"])

    @property
    def threads(self) -> int:
        return int(self.settings["threads"])

    def number(self, key: str) -> float | None:
        """A setting as a number, or None."""
        return float(self.settings[key]) if key in self.settings else None

    def __str__(self) -> str:
        shown = [f"{k}={v}" for k, v in self.settings.items() if k in ("batch", "threads")]
        return " ".join([self.kind, self.name, *shown])


def parse(text: str) -> list[Problem]:
    """The cases of a file's text.

    >>> parse("training lenet5 batch=64 threads=1")[0].batch
    64
    """
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        line, _, command = line.partition("#")[0].partition(" -- ")
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or words[0] not in KINDS or not all("=" in w for w in words[2:]):
            raise ValueError(f"problems.txt, line {number}: not `kind name key=value …`: {line}")
        settings = dict(word.split("=", 1) for word in words[2:])
        problems.append(Problem(words[0], words[1], settings, tuple(shlex.split(command))))
    return problems


def load() -> list[Problem]:
    """All cases."""
    return parse(FILE.read_text(encoding="utf-8"))
