"""Blocked programs at work: memory, machine words, threads.

A plan's stages become a table for the `runner`; arrays are read and written where the caller has
them. Inference arranges the weights once and notices by a checksum when somebody changed them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.codegen import spmd
from striate.codegen.compiler import load
from striate.codegen.targets import Target
from striate.graph.graph import Graph
from striate.program import threads
from striate.program.arrays import Float32, address_of, aligned_zeros, as_parameter
from striate.program.blocked_inference import PRINTS, InferencePlan, plan_blocked
from striate.program.blocked_plan import (
    SCRATCH,
    Encoder,
    Memory,
    Table,
    bind_parameters,
    kernel_modules,
)
from striate.program.choose import Choices
from striate.program.runner import BASE_WORDS, FIELDS, runner
from striate.program.stage import Places, Ref, Stage
from striate.settings import get_num_threads

_FIRST_ARRAY = SCRATCH + 1
_MOST_FLOATS = 2**27  # of the values of samples that are computed together


class Machine:
    """The runner with its context block, its bases and its memory."""

    def __init__(
        self, stages: Sequence[Stage], memory: Memory, arrays: Sequence[str], target: Target
    ) -> None:
        self.code = load([runner(target), *kernel_modules(stages)], target)
        self._entry = self.code.function("run_table", ctypes.c_int64, ctypes.c_void_p)
        self.memory = memory
        self.base = {name: _FIRST_ARRAY + k for k, name in enumerate(arrays)}
        self._bases = np.zeros((_FIRST_ARRAY + len(arrays), BASE_WORDS), np.int64)
        self._block = np.zeros(len(FIELDS), np.int64)
        self.block_address = address_of(self._block)
        self._shared = np.zeros(spmd.SHARED_BYTES + 64, np.uint8)
        self._shared_address = -(-address_of(self._shared) // 64) * 64
        self.fixed = aligned_zeros(memory.fixed.size)
        self._values = aligned_zeros(0)
        self._scratch = aligned_zeros(0)
        self._bases[2, 0] = address_of(self.fixed)
        self.set("shared", self._shared_address)
        self.set("bases", address_of(self._bases))
        self.set("base_count", len(self._bases))
        self.set("sleep", threads.sleep_address())

    def set(self, name: str, number: int) -> None:
        self._block[FIELDS.index(name)] = number

    def set_array(self, name: str, address: int, step: int = 0) -> None:
        """The caller's array: its address, and bytes from one training step to the next."""
        self._bases[self.base[name]] = (address, 0, step)

    def word(self, offset: int) -> NDArray[np.int64]:
        """A word of the shared block, as a live array of one."""
        start = self._shared_address - address_of(self._shared) + offset
        return self._shared[start : start + 8].view(np.int64)

    def reserve(self, batch: int, count: int) -> None:
        """Room for the values of a batch, and for so many threads."""
        if self._values.size < batch * self.memory.values.size:
            self._values = aligned_zeros(batch * self.memory.values.size)
            self._bases[1, 0] = address_of(self._values)
        if self._scratch.size < count * self.memory.scratch:
            self._scratch = aligned_zeros(count * self.memory.scratch)
            self._bases[SCRATCH] = (address_of(self._scratch), 4 * self.memory.scratch, 0)

    def aim(self, table: Table, stages: int, batch: int, samples: int, steps: int) -> int:
        """Set up a run of a table; returns the threads that it will have."""
        count = get_num_threads()
        self.reserve(batch, count)
        self.set("table", address_of(table.words))
        self.set("stages", stages)
        self.set("batch", batch)
        self.set("samples", samples)
        self.set("steps", steps)
        self.set("threads", count)
        for offset in (spmd.CLAIMS, spmd.ARRIVED, spmd.STOP, spmd.HALTED, spmd.PROGRESS):
            self.word(offset)[0] = 0
        return count

    def run(self, table: Table, stages: int, batch: int) -> None:
        """Walk a table once."""
        count = self.aim(table, stages, batch, batch, 1)
        if count == 1:
            self._entry(0, self.block_address)
        else:
            threads.run(self._entry, self.block_address, count)

    @property
    def entry(self) -> Any:
        return self._entry

    def time_stages(self, times: NDArray[np.int64] | None) -> None:
        """Have cycles added up stage by stage, or (None) stop that."""
        self._times = times
        self.set("times", 0 if times is None else address_of(times))


def encoder_for(machine: Machine, places: Places, address: Any = None) -> Encoder:
    """An encoder with the machine's addresses."""

    def none(ref: Ref) -> int:
        raise TypeError(f"{ref.kind} belongs to training.")

    return Encoder(places, machine.memory, machine.base, address or none, machine.code.address)


class BlockedProgram:
    """A blocked inference program: arrays in, arrays out."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        outputs: Sequence[str],
        batch: int,
        choices: Choices | None = None,
    ) -> None:
        choices = choices or Choices(target, batch)
        self.plan: InferencePlan = plan_blocked(graph, target, outputs, choices)
        plan = self.plan
        self.shapes = [graph.nodes[o].shape for o in outputs]
        self._parameters = graph.parameters
        self._check = plan.check
        self._inputs = [node.name for node in graph.inputs]
        arrays = [*self._inputs, *(f"output:{k}" for k in range(len(outputs)))]
        every = [*plan.prepare, *plan.stages, *self._check]
        self.machine = Machine(every, plan.memory, arrays, target)
        encoder = encoder_for(self.machine, plan.places)
        self._main = encoder.table(plan.stages)
        self._once = encoder.table(plan.prepare)
        self._checks = encoder.table(self._check)
        self._prints = self._find_prints()
        self._last: Mapping[str, Any] | None = None
        self._kept: list[Any] = []
        self._stale = True
        self._addresses: dict[str, int] = {}
        self._seen = b""

    def _find_prints(self) -> Float32:
        if not self._check:
            return self.machine.fixed[:0]
        start = self.plan.memory.fixed.offsets[PRINTS]
        return self.machine.fixed[start : start + self.plan.places.fixed[PRINTS]]

    def run(
        self,
        inputs: NDArray[Any] | Sequence[NDArray[Any]],
        count: int,
        parameters: Mapping[str, Any],
        frozen: bool = False,
    ) -> list[Float32]:
        self._bind(parameters)
        self._refresh(frozen)
        given = [inputs] if isinstance(inputs, np.ndarray) else inputs
        kept = [np.ascontiguousarray(x, np.float32) for x in given]
        arrays = [np.empty((count, *s), np.float32) for s in self.shapes]
        most = max(_MOST_FLOATS // max(self.plan.memory.values.size, 1), 1)
        for start in range(0, count, most):
            self._run_some(kept, arrays, start, min(start + most, count))
        return arrays

    def _run_some(
        self, inputs: Sequence[Float32], arrays: Sequence[Float32], start: int, stop: int
    ) -> None:
        """Samples start … stop: large batches go in pieces, so that memory stays bounded."""
        for name, array in zip(self._inputs, inputs, strict=True):
            self.machine.set_array(name, address_of(array[start:stop]))
        for k, array in enumerate(arrays):
            self.machine.set_array(f"output:{k}", address_of(array[start:stop]))
        self.machine.run(self._main, len(self.plan.stages), stop - start)

    def _bind(self, parameters: Mapping[str, Any]) -> None:
        """Put the parameters' addresses into the tables, if they are other arrays than last time.

        A read-only mapping promises that it holds the same arrays at every call.
        """
        if parameters is self._last:
            return
        kept = [as_parameter(parameters, n.name, n.shape) for n in self._parameters]
        addresses = {n.name: address_of(a) for n, a in zip(self._parameters, kept, strict=True)}
        if addresses != self._addresses:
            for table in (self._main, self._once, self._checks):
                bind_parameters(table, addresses)
            self._stale = True
        self._addresses, self._kept = addresses, kept
        fixed = type(parameters) is MappingProxyType
        self._last = parameters if fixed and self._are_given(parameters) else None

    def _are_given(self, parameters: Mapping[str, Any]) -> bool:
        """Whether no parameter had to be converted: a copy would hide later changes in place."""
        return all(
            parameters[n.name] is a for n, a in zip(self._parameters, self._kept, strict=True)
        )

    def _refresh(self, frozen: bool) -> None:
        """Arrange the weights anew where they have changed."""
        if frozen and not self._stale:
            return
        self.machine.run(self._checks, len(self._check), 1)
        found = self._prints.tobytes()
        if self._stale or found != self._seen:
            self.machine.run(self._once, len(self.plan.prepare), 1)
            self._seen, self._stale = found, False
