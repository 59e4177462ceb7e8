"""Gradient programs as machine code: blocked stages, forward and back, on the caller's arrays.

The values of a forward pass stay in the program's memory until the next pass: going back right
after it computes nothing twice, later it runs forward again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from striate.codegen.targets import Target, current_target
from striate.graph.graph import Graph
from striate.program.arrays import Float32, address_of, aligned_zeros, as_parameter
from striate.program.blocked_gradient import ONES, GradientPlan, plan_gradient
from striate.program.blocked_native import Machine, encoder_for
from striate.program.blocked_plan import bind_gradients, bind_parameters
from striate.program.choose import Choices, batch_magnitude
from striate.program.gradient_program import Array, Arrays, Given, GradientProgram, Passage
from striate.program.memory import aligned

_MOST_FLOATS = 2**28  # of the values of samples that are computed together
_KEY_WORDS = 16  # of the random key: a cache line
_UNUSED = ("order", "targets", "scales")  # arrays of training that lane tables point to


class NativeGradient(GradientProgram):
    """Runs natively; a program is planned for each magnitude of the batch."""

    def __init__(
        self,
        graph: Graph,
        outputs: Sequence[str] | None = None,
        wanted: Sequence[str] = (),
        draws: bool = False,
        target: Target | None = None,
        relu: str = "gradient",
    ) -> None:
        super().__init__(graph, outputs, wanted, draws, relu)
        self.target = target or current_target()
        self._lock = threading.Lock()
        self._loaded: dict[int, _Loaded] = {}

    def _for(self, count: int) -> _Loaded:
        magnitude = batch_magnitude(count)
        if magnitude not in self._loaded:
            choices = Choices(self.target, magnitude)
            parts = (self.graph, self.outputs, self.wanted, self.target, choices, self.draws)
            self._loaded[magnitude] = _Loaded(plan_gradient(*parts, relu=self.relu), self)
        return self._loaded[magnitude]

    def forward(self, passage: Passage) -> Arrays:
        count = passage.given.count
        if not count:
            return {o: self.zeros(o, 0) for o in self.outputs}
        with self._lock:
            return self._for(count).forward(passage)

    def pulled(self, passage: Passage, upstream: Arrays) -> Arrays:
        count = passage.given.count
        if not count:
            return {w: self.zeros(w, 0) for w in self.wanted}
        with self._lock:
            return self._for(count).backward(passage, upstream)


class _Loaded:
    """A plan with its machine."""

    def __init__(self, plan: GradientPlan, program: GradientProgram) -> None:
        self.plan, self.program = plan, program
        graph = program.graph
        self._inputs = [node.name for node in plan.inputs]
        self._delivered = [*plan.values, *plan.batched]
        arrays = [*self._inputs, *plan.upstream.values(), *_UNUSED, "key"]
        arrays += [f"output:{k}" for k in range(len(self._delivered))]
        stages = [*plan.prepare, *plan.forward, *plan.backward]
        self._machine = Machine(stages, plan.memory, arrays, program.target)  # type: ignore[attr-defined]
        encoder = encoder_for(self._machine, plan.places, lambda _: 0)
        self._tables = [
            (encoder.table(part), len(part)) for part in (plan.prepare, plan.forward, plan.backward)
        ]
        read = {name for table, _ in self._tables for name in table.parameters}
        self._parameters = [n for n in graph.parameters if n.name in read]
        self._statistics = {
            name: aligned_zeros(aligned(graph.nodes[name].shape[0])) for name in plan.statistics
        }
        self._key = np.zeros(_KEY_WORDS, np.uint32)
        self._kept: list[Any] = []
        self._last: Passage | None = None  # whose values lie in the memory
        if ONES in plan.places.fixed:
            start = plan.memory.fixed.offsets[ONES]
            self._machine.fixed[start : start + plan.places.fixed[ONES]] = 1

    # ---- arrays -------------------------------------------------------------------------------

    def _bind(self, parameters: Mapping[str, Any]) -> None:
        """The parameters' addresses into the tables; running statistics are copies."""
        kept = {n.name: as_parameter(parameters, n.name, n.shape) for n in self._parameters}
        for name, room in self._statistics.items():
            if name in kept:
                room[: kept[name].size] = kept[name]
                kept[name] = room
        addresses = {name: address_of(array) for name, array in kept.items()}
        for table, _ in self._tables:
            bind_parameters(table, addresses)
        self._kept = list(kept.values())

    def _set_inputs(self, given: Given, start: int, stop: int) -> None:
        machine = self._machine
        for name, array in zip(self._inputs, given.inputs, strict=True):
            part = np.ascontiguousarray(array[start:stop], np.float32)
            machine.set_array(name, address_of(part))
            self._kept.append(part)
        self._key[:3] = given.seed & 0xFFFFFFFF, given.seed >> 32 & 0xFFFFFFFF, given.step
        for name in ("key", *_UNUSED):
            machine.set_array(name, address_of(self._key))

    def _outputs(self, names: Sequence[str], first: int, count: int) -> Arrays:
        made = {}
        for k, name in enumerate(names, start=first):
            made[name] = np.empty(self.program.full_shape(name, count), np.float32)
            self._machine.set_array(f"output:{k}", address_of(made[name]))
        return made

    def _walk(self, which: int, count: int) -> None:
        table, stages = self._tables[which]
        if stages:
            self._machine.run(table, stages, count)

    # ---- passes -------------------------------------------------------------------------------

    def forward(self, passage: Passage) -> Arrays:
        """The outputs; the values stay for `backward`, unless the batch goes in pieces."""
        pieces = self._pieces(passage.given.count)
        found = [self._forward(passage, start, stop) for start, stop in pieces]
        self._last = passage if len(pieces) == 1 else None
        return found[0] if len(found) == 1 else _joined(found)

    def _forward(self, passage: Passage, start: int, stop: int) -> Arrays:
        self._last = None
        self._bind(passage.given.parameters)
        self._set_inputs(passage.given, start, stop)
        values = self._outputs(self.plan.values, 0, stop - start)
        self._walk(0, 1)
        self._walk(1, stop - start)
        return values

    def backward(self, passage: Passage, upstream: Arrays) -> Arrays:
        """The gradients."""
        pieces = self._pieces(passage.given.count)
        found = []
        for start, stop in pieces:
            if self._last is not passage:
                self._forward(passage, start, stop)
            part = {name: array[start:stop] for name, array in upstream.items()}
            found.append(self._backward(part, stop - start))
        if len(found) == 1:
            return found[0]
        parameters = {name for name in found[0] if not self.program.graph.nodes[name].batched}
        return _joined(found, parameters)

    def _backward(self, upstream: Arrays, count: int) -> Arrays:
        plan, program = self.plan, self.program
        self._last = None
        kept = {name: np.ascontiguousarray(a, np.float32) for name, a in upstream.items()}
        for name, array in kept.items():
            self._machine.set_array(plan.upstream[name], address_of(array))
        made = self._outputs(plan.batched, len(plan.values), count)
        rooms = {name: self._room(name) for name in plan.parameters}
        bind_gradients(self._tables[2][0], {name: address_of(a) for name, a in rooms.items()})
        self._walk(2, count)
        for name, room in rooms.items():
            shape = program.graph.nodes[name].shape
            made[name] = room[: int(np.prod(shape, dtype=np.int64))].reshape(shape)
        for name in program.wanted:
            if name not in made:
                made[name] = program.zeros(name, count)
        return {name: made[name] for name in program.wanted}

    def _room(self, name: str) -> Float32:
        """Memory of its own for a parameter's gradient, with room for whole vectors."""
        size = int(np.prod(self.program.graph.nodes[name].shape, dtype=np.int64))
        raw = np.empty(aligned(size) + 16, np.float32)
        start = -address_of(raw) % 64 // 4
        return raw[start : start + aligned(size)]

    def _pieces(self, count: int) -> list[tuple[int, int]]:
        """A large batch goes in pieces where its samples have nothing to do with each other."""
        whole = bool(self.plan.statistics) or self.program.draws
        most = count if whole else max(_MOST_FLOATS // max(self.plan.memory.values.size, 1), 1)
        return [(start, min(start + most, count)) for start in range(0, count, most)]


def _joined(parts: Sequence[Arrays], summed: Sequence[str] | set[str] = ()) -> Arrays:
    """Pieces of a batch put together: values joined, parameters' gradients added."""
    made: Arrays = {}
    for name in parts[0]:
        several: list[Array] = [part[name] for part in parts]
        made[name] = sum(several[1:], several[0]) if name in summed else np.concatenate(several)
    return made
