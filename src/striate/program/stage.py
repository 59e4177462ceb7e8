"""A blocked program as data: stages of kernel calls, and what their arguments are.

Symbolic: values, parameters and buffers by name. `blocked_plan` gives them addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from striate.errors import CompileError
from striate.kernels.kernel import Kernel
from striate.kernels.routine import Recipe, Routine


@dataclass(frozen=True)
class Ref:
    """A pointer.

    Kinds: "value" (of the batch), "fixed" (a buffer that does not grow with the batch),
    "array" (the caller's, a field of the program, `step` bytes a sample), "parameter",
    "gradient" and "state:<name>" (of the optimiser), and "scratch" (the thread's).

    Attributes:
        kind: see above.
        name: of the value, buffer, array or parameter.
        offset: floats from its beginning.
        part: floats from one part of the work to the next.
        step: of an array: bytes from one sample to the next.
    """

    kind: str
    name: str = ""
    offset: int = 0
    part: int = 0
    step: int = 0


@dataclass(frozen=True)
class Number:
    """A whole number, affine in the batch, the group of samples and the part; at most `limit`."""

    constant: int = 0
    batch: int = 0
    group: int = 0
    part: int = 0
    limit: int | None = None


Argument = Ref | Number


@dataclass(frozen=True)
class Work:
    """A kernel and its arguments, in order."""

    kernel: Kernel
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Stage:
    """Calls made for every item; items are `parts` × groups of `samples` (0: one group of all)."""

    name: str
    calls: tuple[Work, ...]
    parts: int
    samples: int = 1
    samples_first: bool = False
    scratch: int = 0

    def refs(self) -> list[Ref]:
        return [a for call in self.calls for a in call.arguments if isinstance(a, Ref)]


@dataclass
class Value:
    """A value of the batch: where it lives and how.

    Attributes:
        layout: "blocked", "plain" (C order) or "flat" (plain, with room for whole vectors).
        floats: floats a sample, of this value.
        home: the value in whose memory it lies (itself, unless it is a view).
        offset: floats from the beginning of a sample of its home.
    """

    layout: str
    floats: int
    home: str
    offset: int = 0


@dataclass
class Places:
    """What is known of memory while a program is planned.

    Attributes:
        values: by name; one entry a layout ("x", "x@blocked", …).
        steps: for each home: floats from one sample to the next.
        fixed: floats of each fixed buffer.
        lasting: fixed buffers that keep their contents from call to call.
    """

    values: dict[str, Value] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)
    lasting: set[str] = field(default_factory=set)

    def step(self, name: str) -> int:
        return self.steps[self.values[name].home]


def bind(routine: Routine, refs: Mapping[str, Ref], steps: Mapping[str, int]) -> Work:
    """A routine's call, its arguments found by name; `steps`: floats a sample of each name."""
    arguments: list[Argument] = []
    for written in routine.kernel.arguments:
        name, _, kind = written.partition(":")
        arguments.append(_number(routine, name, steps) if kind else _ref(routine, name, refs))
    return Work(routine.kernel, tuple(arguments))


def _ref(routine: Routine, name: str, refs: Mapping[str, Ref]) -> Ref:
    if name == "scratch":
        return Ref("scratch")
    if name not in refs:
        raise CompileError(f"program: {routine.kernel.symbol} expected {name!r}; got {list(refs)}.")
    return refs[name]


def _number(routine: Routine, name: str, steps: Mapping[str, int]) -> Number:
    if name == "part":
        return Number(part=1)
    if name == "batch":
        return Number(batch=1)
    if name == "samples":
        most = routine.samples
        return Number(batch=1, group=-most, limit=most) if most else Number(batch=1)
    if name.endswith("_step") and name[:-5] in steps:
        return Number(steps[name[:-5]])
    raise CompileError(f"program: {routine.kernel.symbol} asks for an unknown number {name!r}.")


def stages_of(
    name: str, made: Recipe, refs: Mapping[str, Ref], steps: Mapping[str, int]
) -> list[Stage]:
    """The stages of a recipe."""
    stages = []
    for routine in made.steps:
        work = bind(routine, refs, steps)
        stages.append(
            Stage(
                name,
                (work,),
                routine.parts,
                routine.samples if _reads_batch(work) else 0,
                routine.samples_first,
                routine.scratch,
            )
        )
    return stages


def _reads_batch(work: Work) -> bool:
    """Whether a call has anything to do with the batch (packing weights has not)."""
    return any(isinstance(a, Ref) and a.kind in ("value", "array") for a in work.arguments)


def followed_by(stage: Stage, calls: Sequence[Work]) -> Stage:
    """The stage with more calls made for each of its items."""
    return replace(stage, calls=(*stage.calls, *calls))
