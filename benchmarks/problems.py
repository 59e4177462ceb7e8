"""The cases of problems.txt."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).with_name("problems.txt")
RACES = ("training", "inference", "latency")
KINDS = (*RACES, "layer", "filter", "operation", "scaling", "import", "compile", "memory", "whole")
PASSES = ("forward", "input", "weight")
_SHOWN = ("pass", "n", "batch", "threads", "mode", "algorithm", "against")


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
        shown = [f"{k}={self.settings[k]}" for k in _SHOWN if k in self.settings]
        return " ".join([self.kind, self.name, *shown])


def parse(text: str) -> list[Problem]:
    """The cases of a file's text.

    A line of kind `layer` stands for one case a pass and number of threads; where it gives
    several passes, the settings with as many values belong to them in order.

    >>> parse("training lenet5 batch=64 threads=1")[0].batch
    64
    >>> [str(p) for p in parse("layer a.b c=8 o=8 pass=input,weight n=2,4 threads=1")]
    ['layer a.b pass=input n=2 threads=1', 'layer a.b pass=weight n=4 threads=1']
    """
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        line, _, command = line.partition("#")[0].partition(" -- ")
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or words[0] not in KINDS or not all("=" in w for w in words[2:]):
            raise ValueError(f"problems.txt, line {number}: not `kind name key=value …`: {line}")
        settings = dict(word.split("=", 1) for word in words[2:])
        if words[0] == "layer":
            problems += _passes(words[1], settings, number)
        else:
            problems.append(Problem(words[0], words[1], settings, tuple(shlex.split(command))))
    return problems


def _passes(name: str, settings: dict[str, str], line: int) -> Iterator[Problem]:
    """The cases of a layer's line."""
    passes = settings.get("pass", "forward").split(",")
    if any(p not in PASSES for p in passes):
        raise ValueError(f"problems.txt, line {line}: a pass is one of {', '.join(PASSES)}")
    for threads in settings.get("threads", "1,2").split(","):
        for k, which in enumerate(passes):
            chosen = {"pass": which, "threads": threads}
            for key, value in settings.items():
                values = value.split(",")
                if key in chosen:
                    continue
                if len(values) not in (1, len(passes)):
                    raise ValueError(
                        f"problems.txt, line {line}: {key} needs one value, or one a pass"
                    )
                chosen[key] = values[k if len(values) > 1 else 0]
            yield Problem("layer", name, chosen)


def load() -> list[Problem]:
    """All cases."""
    return parse(FILE.read_text(encoding="utf-8"))
