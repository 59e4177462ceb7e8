"""Lowering to blocked programs: what all rules share.

Steps of a schedule become stages. A value may exist in two layouts, blocked and plain; it is
converted when a rule asks for the other one, once. What a concatenation takes in is written
where it will lie, what a slice gives is looked at where it lies.

Rules for operations are in `blocked_forward` and `blocked_backward`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from striate.codegen.targets import Target
from striate.errors import CompileError
from striate.graph.graph import Graph, Shape
from striate.kernels.channels import copy_floats
from striate.kernels.kernel import Kernel
from striate.kernels.packing import Packing, from_blocks, pack, to_blocks
from striate.kernels.routine import Recipe, Routine, blocks, recipe
from striate.program.choose import Choice, Choices
from striate.program.convolution import Windows
from striate.program.fuse import Fused, Schedule
from striate.program.memory import aligned
from striate.program.stage import Places, Ref, Stage, Value, stages_of

BLOCKED, PLAIN = "blocked", "plain"
Operand: TypeAlias = "str | Ref"
"""A value's key, or a pointer to something else."""


@dataclass(frozen=True)
class Decision:
    """A convolution's pass for which an algorithm was chosen."""

    windows: Windows
    direction: str
    plain: bool
    choice: Choice


def positions(shape: Shape) -> int:
    """Places of one channel."""
    return math.prod(shape[1:])


class Lowering:
    """Turns steps into stages, knowing where every value is.

    Attributes:
        stages: what a call of the program (or a step of training) does.
        prepare: what is done once for given parameters.
        shared: (a new value's home, an old one's, stage): the new one may take the old one's
            memory if nobody reads that later.
    """

    training = False
    draws = False  # whether random numbers are drawn
    choices: Choices

    def __init__(self, graph: Graph, schedule: Schedule, target: Target) -> None:
        self.graph, self.schedule, self.target = graph, schedule, target
        self.places = Places()
        self.stages: list[Stage] = []
        self.prepare: list[Stage] = []
        self.shared: list[tuple[str, str, int]] = []
        self.arrays: dict[str, int] = {}  # of a value: bytes a sample in the caller's array
        self.decisions: dict[str, Decision] = {}  # by the label of the stages that they shaped
        self.updates: dict[str, int] = {}  # how often a parameter has been updated
        self.claims = self._claim_concats()
        self.wanted: dict[str, int] = {}  # values that the caller gets: the number of the array
        self.delivered: dict[str, int] = {}  # those that were written there when they were made

    def other(self, step: Fused) -> None:
        """An operation, or a form of one, that has no rule of its own."""
        raise CompileError(f"program: no rule for the operation {step.node.op!r}.")

    # ---- values -------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape:
        return self.graph.nodes[name].shape

    def blocks(self, name: str) -> int:
        return blocks(self.shape(name)[0], self.target)

    def plane(self, name: str) -> int:
        """Floats of a block of a blocked value."""
        return positions(self.shape(name)) * self.target.width

    def floats(self, name: str, layout: str) -> int:
        """Floats of a sample."""
        if layout == BLOCKED:
            return self.blocks(name) * self.plane(name)
        return aligned(math.prod(self.shape(name)))

    def has(self, name: str, layout: str) -> bool:
        return f"{name}@{layout}" in self.places.values

    def make(self, name: str, layout: str) -> str:
        """The key of a new value, with memory of its own or where a concatenation wants it."""
        key, floats = f"{name}@{layout}", self.floats(name, layout)
        if layout == BLOCKED and name in self.claims:
            whole, offset = self.claims[name]
            home = self._home(whole)
            self.places.values[key] = Value(
                BLOCKED, floats, home.home, self._offset(whole) + offset
            )
            return key
        self.places.values[key] = Value(layout, floats, key)
        self.places.steps[key] = aligned(floats)
        return key

    def _home(self, whole: str) -> Value:
        if not self.has(whole, BLOCKED):
            self.make(whole, BLOCKED)
        return self.places.values[f"{whole}@{BLOCKED}"]

    def _offset(self, whole: str) -> int:
        return self.places.values[f"{whole}@{BLOCKED}"].offset

    def view(self, name: str, layout: str, of: str, offset: int = 0) -> str:
        """The key of a value that lies inside another one (`of`, a key)."""
        base, key = self.places.values[of], f"{name}@{layout}"
        floats = self.floats(name, layout)
        self.places.values[key] = Value(layout, floats, base.home, base.offset + offset)
        return key

    def value(self, name: str, layout: str) -> str:
        """The key of a value in a layout; it is converted if need be."""
        name = self.schedule.root[name]
        key = f"{name}@{layout}"
        if key in self.places.values:
            return key
        other = PLAIN if layout == BLOCKED else BLOCKED
        if positions(self.shape(name)) == 1 and self.has(name, other):
            return self.view(name, layout, f"{name}@{other}")  # the two layouts are the same
        if layout == PLAIN and name in self.arrays:
            return self._copy_array(name)
        return self._convert(name, layout)

    def _copy_array(self, name: str) -> str:
        key = self.make(name, PLAIN)
        kernel = copy_floats(self.target, math.prod(self.shape(name)))
        source = Ref("array", name, step=self.arrays[name])
        self.run(name, recipe(Routine(kernel)), {"to": key, "from": source})
        return key

    def _convert(self, name: str, layout: str) -> str:
        channels, places = self.shape(name)[0], positions(self.shape(name))
        source: Operand
        if layout == BLOCKED:
            if name in self.arrays:
                source = Ref("array", name, step=self.arrays[name])
            else:
                source = self.value(name, PLAIN)
            made = to_blocks(self.target, channels, places)
        elif self.has(name, BLOCKED):
            source, made = f"{name}@{BLOCKED}", from_blocks(self.target, channels, places)
        else:
            raise CompileError(f"program: {name!r} is read before anything has made it.")
        key = self.make(name, layout)
        self.run(name, made, {"out": key, "source": source})
        return key

    def deliver(self, name: str, number: int) -> None:
        """Bring an output into the caller's array."""
        root = self.schedule.root[name]
        if self.delivered.get(root) == number:
            return
        shape, elements = self.shape(root), math.prod(self.shape(root))
        out = Ref("array", f"output:{number}", step=4 * elements)
        if self.has(root, BLOCKED) and positions(shape) > 1:
            made = from_blocks(self.target, shape[0], positions(shape))
            self.run(name, made, {"out": out, "source": f"{root}@{BLOCKED}"})
            return
        source: Operand
        if root in self.arrays and not self.has(root, PLAIN):
            source = Ref("array", root, step=self.arrays[root])
        else:
            source = self.value(root, PLAIN)
        copy = recipe(Routine(copy_floats(self.target, elements)))
        self.run(name, copy, {"to": out, "from": source})

    def note_wanted(self, outputs: Sequence[str]) -> None:
        """Note which array each value goes to; those that go to several are copied to each."""
        roots = [self.schedule.root[name] for name in outputs]
        self.wanted = {r: k for k, r in enumerate(roots) if roots.count(r) == 1}

    def caller_place(self, name: str) -> Ref | None:
        """Where the caller wants a value, if nobody else reads it."""
        number = self.wanted.get(name)
        readers = [n for n in self.graph.nodes.values() if name in map(self._root_of, n.inputs)]
        if number is None or readers:
            return None
        self.delivered[name] = number
        return Ref("array", f"output:{number}", step=4 * math.prod(self.shape(name)))

    def rows(self, name: str) -> Operand:
        """A plain value, or the caller's array itself, for kernels that read at any address."""
        root = self.schedule.root[name]
        if root in self.arrays and not self.has(root, PLAIN):
            return Ref("array", root, step=self.arrays[root])
        return self.value(root, PLAIN)

    def _root_of(self, name: str) -> str:
        return self.schedule.root.get(name, name)

    # ---- stages -------------------------------------------------------------------------------

    def run(
        self,
        label: str,
        made: Recipe,
        operands: Mapping[str, Operand],
        prepare: bool = False,
    ) -> list[Stage]:
        """Append a recipe's stages; operands by the names of the kernel's arguments."""
        refs, steps = {}, {}
        named = dict(operands)
        for buffer in made.buffers:
            key = f"{label}:{buffer.name}#{len(self.stages)}"
            if buffer.per_sample:
                self.places.values[key] = Value(PLAIN, buffer.per_sample, key)
                self.places.steps[key] = aligned(buffer.per_sample)
                named[buffer.name] = key
            else:
                named[buffer.name] = self.fixed(key, buffer.fixed)
        for name, operand in named.items():
            if isinstance(operand, Ref):
                refs[name] = operand
                if operand.kind == "value":
                    steps[name] = self.places.step(operand.name)
                elif operand.kind == "array":
                    steps[name] = operand.step // 4
            else:
                refs[name] = Ref("value", operand)
                steps[name] = self.places.step(operand)
        made_stages = stages_of(label, made, refs, steps)
        (self.prepare if prepare else self.stages).extend(made_stages)
        return made_stages

    def run_blocks(
        self, label: str, kernel: Kernel, operands: Mapping[str, str], count: int
    ) -> None:
        """Append a stage of a kernel that works on one block of channels, for `count` of them.

        Every operand is a blocked value of that many blocks.
        """
        refs: dict[str, Operand] = {}
        for name, key in operands.items():
            refs[name] = Ref("value", key, part=self.places.values[key].floats // count)
        self.run(label, recipe(Routine(kernel, parts=count)), refs)

    def fixed(self, name: str, floats: int, lasting: bool = False) -> Ref:
        """A buffer that does not grow with the batch."""
        self.places.fixed[name] = aligned(floats)
        if lasting:
            self.places.lasting.add(name)
        return Ref("fixed", name)

    def tail(self, step: Fused, layout: str) -> dict[str, Operand]:
        """The operands of a step's tail; notes that the output may replace one that it reads."""
        if step.tail is None:
            return {}
        found: dict[str, Operand] = {}
        if step.tail.keep:
            found["kept"] = self.make(step.node.name, layout)
        for k, name in enumerate(step.extras):
            found[f"e{k}"] = self.value(name, layout)
        return found

    def may_replace(self, key: str, others: Sequence[str]) -> None:
        """The next stage reads and writes the same places of these values, in that order."""
        values = self.places.values
        for other in others:
            new, old = values[key], values[other]
            alone = new.home == key and old.home == other
            if alone and self.places.steps[key] == self.places.steps[other]:
                self.shared.append((key, other, len(self.stages)))

    def choose(self, label: str, w: Windows, direction: str, plain: bool = False) -> Choice:
        """The algorithm of a convolution's pass, noted under the label of its stages."""
        choice = self.choices.find(w, direction, plain)
        self.decisions[label] = Decision(w, direction, plain, choice)
        return choice

    # ---- parameters ---------------------------------------------------------------------------

    def vector(self, name: str) -> Ref:
        """A parameter of one number a channel, with room for whole vectors."""
        if self.training:
            return Ref("parameter", name)
        key = f"vector:{name}"
        if key not in self.places.fixed:
            packing = Packing(math.prod(self.shape(name)), 1)
            out = self.fixed(key, packing.floats(self.target), lasting=True)
            operands = {"packed": out, "weight": Ref("parameter", name)}
            self.run(name, pack(self.target, packing), operands, prepare=True)
        return Ref("fixed", key)

    def packed(
        self, name: str, packing: Packing, scale: Ref | None = None, lasting: bool = True
    ) -> Ref:
        """A weight as the kernels read it; in training packed where it is used."""
        key = f"packed:{name}:{int(packing.transposed)}"
        key = self.version(f"{key}:{scale.name}" if scale else key, name)
        if key not in self.places.fixed:
            last = lasting and not self.training
            out = self.fixed(key, packing.floats(self.target), lasting=last)
            operands: dict[str, Operand] = {"packed": out, "weight": Ref("parameter", name)}
            if scale is not None:
                operands["scale"] = scale
            made = pack(self.target, packing, scaled=scale is not None)
            self.run(name, made, operands, prepare=not self.training)
        return Ref("fixed", key)

    def version(self, key: str, parameter: str) -> str:
        """A key that changes when the parameter is updated."""
        return f"{key}#{self.updates.get(parameter, 0)}"

    # ---- concatenation ------------------------------------------------------------------------

    def _claim_concats(self) -> dict[str, tuple[str, int]]:
        """For each value that can be made inside a concatenation: which one, and where."""
        claims: dict[str, tuple[str, int]] = {}
        for step in self.schedule.steps:
            node = step.node
            if node.op != "concat" or node.attributes["axis"] != 1 or len(node.shape) < 2:
                continue
            at = 0
            for name in map(self.schedule.root.__getitem__, node.inputs):
                channels = self.shape(name)[0]
                if at % self.target.width == 0 and self._claimable(name, claims):
                    claims[name] = (node.name, at * positions(node.shape))
                at += channels
        return claims

    def _claimable(self, name: str, claims: Mapping[str, object]) -> bool:
        node = self.graph.nodes[name]
        views = ("reshape", "slice", "dropout")
        return node.op not in ("input", "parameter", *views) and name not in claims
