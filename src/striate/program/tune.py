"""Choosing algorithms by measuring them, inside the network that they are for.

Each round builds the network with another candidate in every convolution and adds up cycles stage
by stage, so a candidate is timed with the caches as its neighbours leave them. What wins clearly
replaces the cost model's choice; the network as a whole is then timed against the untuned one,
and nothing is kept that did not make it faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from striate.codegen.targets import Target, current_target
from striate.graph.graph import Graph
from striate.kernels import direct as direct_kernel
from striate.kernels import direct_weight
from striate.kernels.winograd import Winograd
from striate.kernels.winograd_plan import candidates as winograd_candidates
from striate.kernels.winograd_plan import weight_candidates
from striate.program.blocked import Decision
from striate.program.blocked_backward import weight_form
from striate.program.blocked_forward import direct_form, packing_of
from striate.program.blocked_native import BlockedProgram
from striate.program.choose import (
    DIRECT,
    TO_SOURCE,
    TO_WEIGHT,
    Choice,
    Choices,
    batch_magnitude,
    default_choice,
    problem_key,
    winograd_form,
)
from striate.program.tuned import keep_choices

_CLEARLY = 0.97  # of the default's time that a candidate may take to replace it
_TURNS = 5


@dataclass
class Finding:
    """What tuning found for one convolution's pass: cycles of the default and of the best."""

    key: str
    default: Choice
    best: Choice
    cycles: tuple[float, float]

    @property
    def gain(self) -> float:
        return self.cycles[0] / max(self.cycles[1], 1.0)


@dataclass
class Tuning:
    """The outcome: seconds of the network before and after, and what was found."""

    before: float
    after: float
    findings: list[Finding] = field(default_factory=list)
    kept: bool = False


def candidates(target: Target, d: Decision, batch: int) -> list[Choice]:
    """Ways to compute a pass, the cost model's own first."""
    w, found = d.windows, [default_choice(target, d.windows, d.direction, batch, d.plain)]
    if w.depthwise:
        return found
    served = not (w.flipped and d.direction == TO_WEIGHT)  # by Winograd
    if w.unit_3x3 and served and not d.plain:
        for size in (2, 4):
            form = winograd_form(w, size, False, batch, d.direction == TO_SOURCE)
            found += [Choice(f"winograd{size}", o) for o in _winograd_options(target, form, d)]
    groups = packing_of(w).merged(target)
    if d.direction == TO_WEIGHT:
        ways: Sequence[Any] = direct_weight.candidates(target, weight_form(w, groups, d.plain))
    else:
        back = d.direction == TO_SOURCE
        ways = direct_kernel.candidates(target, direct_form(w, groups, False, d.plain, back))
    found += [Choice(DIRECT, o) for o in (None, *ways[1:])]
    return list(dict.fromkeys(found))


def _winograd_options(target: Target, form: Winograd | None, d: Decision) -> Sequence[Any]:
    if form is None:
        return [None]
    to_weight = d.direction == TO_WEIGHT
    ways = weight_candidates(target, form) if to_weight else winograd_candidates(target, form)
    return [None, *ways[1:]]


def tune_inference(
    graph: Graph,
    parameters: Mapping[str, Any],
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
    keep: bool = True,
) -> Tuning:
    """Tune a network's inference; what is faster is kept on disk for this machine.

    Args:
        graph: a forward graph.
        parameters: its weights.
        batch: samples of a call.
        progress: called with rounds done and rounds in all.
        keep: whether to write the outcome to disk.
    """
    target = current_target()
    tuner = _Tuner(graph, parameters, target, batch)
    tuner.measure(progress)
    outcome = tuner.outcome()
    if keep and outcome.kept:
        keep_choices(target, {f.key: f.best for f in outcome.findings if f.best != f.default})
    return outcome


class _Tuner:
    def __init__(
        self, graph: Graph, parameters: Mapping[str, Any], target: Target, batch: int
    ) -> None:
        self.graph, self.parameters, self.target, self.batch = graph, parameters, target, batch
        self.size = batch_magnitude(batch)
        rng = np.random.default_rng(0)
        x = [rng.standard_normal((batch, *i.shape), np.float32) for i in graph.inputs]
        self.x = x[0] if len(x) == 1 else tuple(x)
        self.default = self.build({})
        self.ways: dict[str, list[Choice]] = {}
        for d in self.default.plan.decisions.values():
            key = problem_key(d.windows, d.direction, self.size, d.plain)
            self.ways.setdefault(key, candidates(target, d, self.size))
        self.cycles: dict[tuple[str, Choice], float] = {}

    def build(self, tuned: Mapping[str, Choice]) -> BlockedProgram:
        choices = Choices(self.target, self.size, tuned)
        return BlockedProgram(self.graph, self.target, self.graph.outputs, self.size, choices)

    def measure(self, progress: Callable[[int, int], None] | None) -> None:
        """Time every candidate, each a few times with its rivals in between."""
        rounds = max(map(len, self.ways.values()), default=0)
        programs = []
        for k in range(rounds):
            tuned = {key: ways[k % len(ways)] for key, ways in self.ways.items()}
            programs.append((tuned, self.build(tuned)))
            if progress is not None:
                progress(k + 1, rounds)
        for _ in range(_TURNS):
            for tuned, program in programs:
                self._time(program, tuned)

    def _time(self, program: BlockedProgram, tuned: Mapping[str, Choice]) -> None:
        stages = program.plan.stages
        times = np.zeros(len(stages), np.int64)
        self.call(program)
        program.machine.time_stages(times)
        self.call(program)
        program.machine.time_stages(None)
        spent: dict[str, int] = {}
        for stage, cycles in zip(stages, times.tolist(), strict=True):
            spent[stage.name] = spent.get(stage.name, 0) + cycles
        totals: dict[str, list[int]] = {}
        for label, d in program.plan.decisions.items():
            key = problem_key(d.windows, d.direction, self.size, d.plain)
            totals.setdefault(key, []).append(spent[label])
        for key, cycles_of in totals.items():
            mean = sum(cycles_of) / len(cycles_of)
            at = (key, tuned[key])
            self.cycles[at] = min(self.cycles.get(at, mean), mean)

    def call(self, program: BlockedProgram) -> None:
        program.run(self.x, self.batch, self.parameters, frozen=True)

    def outcome(self) -> Tuning:
        findings = []
        for key, ways in self.ways.items():
            first = self.cycles[key, ways[0]]
            best = min(ways, key=lambda way: self.cycles[key, way])
            if self.cycles[key, best] > _CLEARLY * first:
                best = ways[0]
            findings.append(Finding(key, ways[0], best, (first, self.cycles[key, best])))
        changed = {f.key: f.best for f in findings if f.best != f.default}
        before, after = self._race(self.build(changed)) if changed else (0.0, 0.0)
        return Tuning(before, after, findings, kept=bool(changed) and after < before)

    def _race(self, tuned: BlockedProgram) -> tuple[float, float]:
        """Seconds of the untuned and the tuned network, in turn, medians."""
        spent: tuple[list[float], list[float]] = ([], [])
        for turn in range(4 * _TURNS + 1):
            for program, times in zip((self.default, tuned), spent, strict=True):
                start = time.perf_counter()
                self.call(program)
                if turn:
                    times.append(time.perf_counter() - start)
        return float(np.median(spent[0])), float(np.median(spent[1]))
