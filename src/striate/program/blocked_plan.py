"""Memory and machine words of blocked programs: symbolic stages to tables of numbers.

Values lie in one arena whose offsets are floats a sample, so that one plan serves every batch
size; buffers that do not grow with the batch lie in another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from striate.codegen.compiler import Module
from striate.errors import CompileError
from striate.program.memory import Arena, plan
from striate.program.runner import (
    CALL_WORDS,
    MOST_ARGUMENTS,
    NO_LIMIT,
    STAGE_WORDS,
)
from striate.program.stage import Argument, Number, Places, Ref, Stage

ZERO, VALUES, FIXED, SCRATCH = range(4)
_WHOLE_BATCH = 2**40  # samples of a group that takes all of them
Life = tuple[int, int]


@dataclass
class Memory:
    """Where everything lies: offsets in floats (a sample, for values), and the thread's scratch."""

    values: Arena
    fixed: Arena
    scratch: int


def place(
    places: Places,
    prepare: Sequence[Stage],
    stages: Sequence[Stage],
    shared: Sequence[tuple[str, str, int]],
    kept: Mapping[str, Life],
) -> Memory:
    """Lay out values and fixed buffers by their lives.

    Args:
        places: what there is to place.
        prepare: stages run once.
        stages: stages of every call.
        shared: (new home, old home, stage): the new one may lie in the old one's memory.
        kept: homes that live longer than their uses say: at least so long.
    """
    values = _lives(places, stages, "value")
    for home, (first, last) in kept.items():
        start, stop = values.get(home, (first, last))
        values[home] = (min(start, first), max(stop, last))
    homes, lives = _merge(values, places.steps, shared)
    arena = plan(lives, {name: places.steps[name] for name in lives})
    arena.offsets = {name: arena.offsets[homes[name]] for name in values}
    fixed = _lives(places, [*prepare, *stages], "fixed")
    end = len(prepare) + len(stages)
    for name in places.lasting & fixed.keys():
        fixed[name] = (0, end)
    scratch = max((s.scratch for s in (*prepare, *stages)), default=0)
    return Memory(arena, plan(fixed, places.fixed), -(-scratch // 16) * 16 + 16)


def _lives(places: Places, stages: Sequence[Stage], kind: str) -> dict[str, Life]:
    lives: dict[str, Life] = {}
    for position, stage in enumerate(stages):
        for ref in stage.refs():
            if ref.kind == kind:
                name = places.values[ref.name].home if kind == "value" else ref.name
                first, _ = lives.get(name, (position, position))
                lives[name] = (first, position)
    return lives


def _merge(
    lives: Mapping[str, Life], sizes: Mapping[str, int], shared: Sequence[tuple[str, str, int]]
) -> tuple[dict[str, str], dict[str, Life]]:
    """Give a new value an old one's memory where the old one dies as the new one is born."""
    home = {name: name for name in lives}
    whole = dict(lives)
    taken: set[str] = set()
    for new, old, at in shared:
        if new not in lives or old not in lives or new in taken:
            continue
        base = home[old]
        if lives[old][1] == at == lives[new][0] == whole[base][1] and sizes[new] == sizes[base]:
            home[new] = base
            whole[base] = (whole[base][0], lives[new][1])
            del whole[new]
            taken.add(new)
    return home, whole


@dataclass
class Table:
    """A table as the runner walks it, and which of its words are addresses of parameters.

    `parameters` and `gradients`: by the parameter's name, words and the bytes that are added.
    """

    words: NDArray[np.int64]
    parameters: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    gradients: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


class Encoder:
    """Writes stages as words.

    Args:
        places, memory: where values lie.
        bases: numbers of the bases of the caller's arrays.
        address: of a "gradient" or "state:…" reference, in bytes.
        function: the address of a kernel by its symbol.
    """

    def __init__(
        self,
        places: Places,
        memory: Memory,
        bases: Mapping[str, int],
        address: Callable[[Ref], int],
        function: Callable[[str], int],
    ) -> None:
        self.places, self.memory, self.bases = places, memory, bases
        self.address, self.function = address, function

    def table(self, stages: Sequence[Stage]) -> Table:
        head = [0] * (STAGE_WORDS * len(stages))
        calls: list[int] = []
        arguments: list[int] = []
        found: dict[str, dict[str, list[tuple[int, int]]]] = {"parameter": {}, "gradient": {}}
        calls_at = len(head)
        arguments_at = calls_at + CALL_WORDS * sum(len(s.calls) for s in stages)
        for k, stage in enumerate(stages):
            first = calls_at + len(calls)
            group = stage.samples or _WHOLE_BATCH
            record = [stage.parts, group, int(stage.samples_first), first, len(stage.calls)]
            head[STAGE_WORDS * k : STAGE_WORDS * (k + 1)] = record
            for work in stage.calls:
                count = len(work.arguments)
                if count > MOST_ARGUMENTS:
                    raise CompileError(
                        f"program: {work.kernel.symbol} expected at most {MOST_ARGUMENTS} "
                        f"arguments; got {count}."
                    )
                start = arguments_at + len(arguments)
                calls += [self.function(work.kernel.symbol), start, count]
                for argument in work.arguments:
                    at = arguments_at + len(arguments)
                    words = self._argument(argument, stage.samples)
                    if isinstance(argument, Ref) and argument.kind in found:
                        places = found[argument.kind].setdefault(argument.name, [])
                        places.append((at + 1, 4 * argument.offset))
                    arguments += words
        whole = np.array([*head, *calls, *arguments], np.int64)
        return Table(whole, found["parameter"], found["gradient"])

    def _argument(self, argument: Argument, samples: int) -> list[int]:
        """base, constant, a sample of the batch, a group, a part; at most."""
        if isinstance(argument, Number):
            limit = NO_LIMIT if argument.limit is None else argument.limit
            a = argument
            return [ZERO, a.constant, a.batch, a.group, a.part, limit]
        part = 4 * argument.part
        if argument.kind == "value":
            value = self.places.values[argument.name]
            offset = 4 * (value.offset + argument.offset)
            start = 4 * self.memory.values.offsets[value.home]
            step = 4 * self.places.steps[value.home] * samples
            return [VALUES, offset, start, step, part, NO_LIMIT]
        if argument.kind == "fixed":
            offset = 4 * (self.memory.fixed.offsets[argument.name] + argument.offset)
            return [FIXED, offset, 0, 0, part, NO_LIMIT]
        if argument.kind == "scratch":
            return [SCRATCH, 4 * argument.offset, 0, 0, part, NO_LIMIT]
        if argument.kind == "array":
            base, step = self.bases[argument.name], argument.step * samples
            return [base, 4 * argument.offset, 0, step, part, NO_LIMIT]
        constant = 0 if argument.kind == "parameter" else self.address(argument)
        return [ZERO, constant + 4 * argument.offset, 0, 0, part, NO_LIMIT]


def bind_parameters(table: Table, addresses: Mapping[str, int]) -> None:
    """Write the parameters' addresses into a table."""
    for name, places in table.parameters.items():
        for word, offset in places:
            table.words[word] = addresses[name] + offset


def bind_gradients(table: Table, addresses: Mapping[str, int]) -> None:
    """Write into a table where the parameters' gradients shall go."""
    for name, places in table.gradients.items():
        for word, offset in places:
            table.words[word] = addresses[name] + offset


def kernel_modules(stages: Sequence[Stage]) -> list[Module]:
    """The modules of all kernels that the stages call, each once."""
    found = {w.kernel.symbol: w.kernel.module for s in stages for w in s.calls}
    return list(found.values())
