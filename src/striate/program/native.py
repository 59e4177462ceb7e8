"""The native backend: programs as machine code, run on NumPy arrays.

A program is compiled for a per-sample shape and serves any batch size. Parameters of an inference
program stay where the caller has them; a training program keeps them, their gradients and the
optimiser's state in arenas of its own, seen from outside as live arrays.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.codegen import spmd
from striate.codegen.compiler import load
from striate.codegen.targets import Target, current_target
from striate.errors import ModelError, suggest
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph
from striate.graph.losses import TrainingLoss, as_loss
from striate.program import threads
from striate.program.arrays import Float32, address_of, aligned_zeros, as_parameter
from striate.program.channel_plan import plan_channels
from striate.program.checks import input_arrays, require_inputs, require_one_input
from striate.program.choose import batch_magnitude, blocked_pays
from striate.program.driver import PIECES
from striate.program.plan import InferencePlan, TrainingPlanner, plan_inference
from striate.program.planes import Planes, plane_form
from striate.program.training import Course, TrainingProgram
from striate.settings import get_num_threads

if TYPE_CHECKING:
    from striate.program.blocked_native import BlockedProgram
    from striate.program.plane_program import PlaneProgram

_ALIGN = 64


class _Loaded:
    """A program's code, its context block and its threads' workspaces."""

    def __init__(self, modules: Sequence[Any], fields: list[str], workspace: int, target: Target):
        self._code = load(list(modules), target)
        self.entry = self._code.function("entry", ctypes.c_int64, ctypes.c_void_p)
        self.block = np.zeros(max(len(fields), 1), np.int64)
        self.block_address = address_of(self.block)
        self.place = {name: k for k, name in enumerate(fields)}
        self.workspace = workspace
        self.shared = np.zeros(spmd.SHARED_BYTES + _ALIGN, np.uint8)
        self.shared_address = -(-address_of(self.shared) // _ALIGN) * _ALIGN
        self._workspaces = aligned_zeros(0)
        self.set("shared", self.shared_address)

    def set(self, name: str, number: int) -> None:
        self.block[self.place[name]] = number

    def word(self, offset: int) -> NDArray[np.int64]:
        """A word of the shared block, as a live array of one."""
        start = self.shared_address - address_of(self.shared) + offset
        return self.shared[start : start + 8].view(np.int64)

    def reserve(self, count: int) -> None:
        """Room for this many threads' values."""
        if self._workspaces.size < count * self.workspace:
            self._workspaces = aligned_zeros(count * self.workspace)
            self.set("workspaces", address_of(self._workspaces))


class NativeInference:
    """Runs a forward graph; the outputs are as `run` and `values` say.

    What is run is a batch (n, *input shape), or of a graph with several inputs a tuple of them, in
    the graph's order, or a dict by name.
    """

    def __init__(self, graph: Graph, target: Target | None = None) -> None:
        require_inputs("inference", graph)
        self.graph, self.inputs = graph, graph.inputs
        self.target = target or current_target()
        self._planes = plane_form(graph)
        self._is_blocked = blocked_pays(graph, self.target)
        self._lock = threading.Lock()
        self._programs: dict[tuple[tuple[str, ...], int], _Program | BlockedProgram] = {}
        self._on_planes: dict[tuple[str, ...], PlaneProgram] = {}

    def run(self, x: Any, parameters: Mapping[str, Any], frozen: bool = False) -> Float32:
        """The first output, (n, *shape) float32, of a batch.

        `frozen` promises that the parameters hold what they held at the last call.
        """
        return self._run(x, parameters, (self.graph.outputs[0],), frozen)[0]

    def values(
        self,
        x: Any,
        parameters: Mapping[str, Any],
        names: Sequence[str],
        frozen: bool = False,
    ) -> dict[str, Float32]:
        """The outputs of any nodes, exactly as the program computes them; `frozen` as for `run`."""
        given = input_arrays("inference", self.inputs, x)
        for name in names:
            if name not in self.graph.nodes:
                raise ModelError(
                    f"graph: there is no node {name!r}. {suggest(name, self.graph.nodes)}"
                )
        images = dict(zip((node.name for node in self.inputs), given, strict=True))
        leaves = {**images, **parameters}
        inner = tuple(n for n in names if self.graph.nodes[n].op not in ("input", "parameter"))
        outputs = tuple(dict.fromkeys((*inner, self.graph.outputs[0])))
        found = dict(zip(outputs, self._run(x, parameters, outputs, frozen), strict=True))
        return {n: found[n] if n in found else np.asarray(leaves[n], np.float32) for n in names}

    def _program(self, outputs: tuple[str, ...], count: int) -> _Program | BlockedProgram:
        """The program for a batch: a few samples go with channels in lanes where that serves."""
        few = count <= _few(self.target)
        if self._is_blocked:
            return self._blocked(outputs, count)
        key = (outputs, few)
        if key not in self._programs:
            plan = plan_channels(self.graph, self.target, outputs) if few else None
            if few and plan is None:
                self._programs[key] = self._program(outputs, self.target.width)
            else:
                kind = BatchProgram if plan is None else _SampleProgram
                plan = plan or plan_inference(self.graph, self.target, outputs)
                self._programs[key] = kind(plan, self.graph, self.target)
        return self._programs[key]

    def _blocked(self, outputs: tuple[str, ...], count: int) -> _Program | BlockedProgram:
        """The blocked program for a batch of about this size."""
        magnitude = batch_magnitude(count)
        key = (outputs, magnitude)
        if key not in self._programs:
            from striate.program.blocked_native import BlockedProgram

            self._programs[key] = BlockedProgram(self.graph, self.target, outputs, magnitude)
        return self._programs[key]

    def _run(
        self,
        x: Any,
        parameters: Mapping[str, Any],
        outputs: tuple[str, ...],
        frozen: bool = False,
    ) -> list[Float32]:
        arrays = input_arrays("inference", self.inputs, x)
        count = len(arrays[0])
        if not count:
            return [np.empty((0, *self.graph.nodes[o].shape), np.float32) for o in outputs]
        with self._lock:
            if self._planes is not None:
                return self._run_planes(self._planes, arrays, parameters, outputs)
            return self._program(outputs, count).run(arrays, count, parameters, frozen)

    def _run_planes(
        self,
        planes: Planes,
        arrays: Sequence[Any],
        parameters: Mapping[str, Any],
        outputs: tuple[str, ...],
    ) -> list[Float32]:
        from striate.program.plane_program import PlaneProgram

        if outputs not in self._on_planes:
            program = PlaneProgram(planes, planes.graph, outputs, self.target)
            self._on_planes[outputs] = program
        named = dict(zip((node.name for node in self.inputs), arrays, strict=True))
        found = self._on_planes[outputs].run(named, len(arrays[0]), parameters)
        return [found[name] for name in outputs]


def _few(target: Target) -> int:
    """The most samples that go with channels in lanes: more fill a vector well enough."""
    return target.width // 2


class _Program:
    """A loaded inference program, and the parameters that it was last given."""

    def __init__(self, plan: InferencePlan, graph: Graph, target: Target) -> None:
        layout = plan.layout
        self.shapes = [graph.nodes[o].shape for o in plan.outputs]
        self._loaded = _Loaded(plan.modules, layout.context, layout.workspace, target)
        self._names = [n for n in graph.parameters if f"parameter:{n.name}" in self._loaded.place]
        self._bound: list[Any] = [None] * len(self._names)
        self._kept: list[Any] = [None] * len(self._names)
        self._last: Mapping[str, Any] | None = None
        self._claims = self._loaded.word(spmd.CLAIMS)
        self._samples = self._loaded.place["samples"]

    def run(
        self,
        inputs: Sequence[NDArray[Any]],
        count: int,
        parameters: Mapping[str, Any],
        frozen: bool = False,
    ) -> list[Float32]:
        raise TypeError(f"{type(self).__name__} does not say how it runs.")

    def _launch(self, count: int, pieces: int) -> None:
        """Run the program: `count` samples, which threads claim in so many pieces."""
        loaded = self._loaded
        loaded.block[self._samples] = count
        number = min(get_num_threads(), pieces) if pieces > 1 else 1
        loaded.reserve(number)
        self._claims[0] = 0
        if number == 1:
            loaded.entry(0, loaded.block_address)
        else:
            threads.run(loaded.entry, loaded.block_address, number)

    def _bind(self, parameters: Mapping[str, Any]) -> None:
        """Put the parameters' addresses into the context, where they are not there already.

        A read-only mapping promises that it holds the same arrays at every call.
        """
        if parameters is self._last:
            return
        for k, node in enumerate(self._names):
            given = parameters.get(node.name)
            if given is None or given is not self._bound[k]:
                array = as_parameter(parameters, node.name, node.shape)
                self._loaded.set(f"parameter:{node.name}", address_of(array))
                # A converted copy would hide later changes in place: bind those anew each time.
                self._bound[k] = given if array is given else None
                self._kept[k] = array
        fixed = type(parameters) is MappingProxyType and all(b is not None for b in self._bound)
        self._last = parameters if fixed else None


class BatchProgram(_Program):
    """Batch in lanes: reads and writes arrays where they are."""

    def __init__(self, plan: InferencePlan, graph: Graph, target: Target) -> None:
        super().__init__(plan, graph, target)
        self._width = target.width

    def run(
        self,
        inputs: Sequence[NDArray[Any]],
        count: int,
        parameters: Mapping[str, Any],
        frozen: bool = False,
    ) -> list[Float32]:
        self._bind(parameters)
        kept = [np.ascontiguousarray(x, np.float32) for x in inputs]
        groups = -(-count // self._width)
        arrays = [np.empty((groups * self._width, *s), np.float32) for s in self.shapes]
        for k, array in enumerate(kept):
            self._loaded.set(f"input:{k}", address_of(array))
        for k, array in enumerate(arrays):
            self._loaded.set(f"output:{k}", address_of(array))
        self._launch(count, groups)
        return [a[:count] for a in arrays]


class _SampleProgram(_Program):
    """Channels in lanes, for a few samples: copied to and from arrays of its own.

    At its speed, asking NumPy for an address takes longer than copying.
    """

    def __init__(self, plan: InferencePlan, graph: Graph, target: Target) -> None:
        super().__init__(plan, graph, target)
        most = _few(target)
        self._images = np.zeros((most, *graph.inputs[0].shape), np.float32)
        self._outputs = [np.zeros((most, *s), np.float32) for s in self.shapes]
        self._loaded.set("input:0", address_of(self._images))
        for k, array in enumerate(self._outputs):
            self._loaded.set(f"output:{k}", address_of(array))

    def run(
        self,
        inputs: Sequence[NDArray[Any]],
        count: int,
        parameters: Mapping[str, Any],
        frozen: bool = False,
    ) -> list[Float32]:
        self._bind(parameters)
        self._images[:count] = inputs[0]
        self._launch(count, count)
        return [a[:count].copy() for a in self._outputs]


class NativeTraining(TrainingProgram):
    """Trains a forward graph with the batch in lanes."""

    def __init__(
        self,
        graph: Graph,
        loss: str | TrainingLoss,
        rule: UpdateRule,
        target: Target | None = None,
    ) -> None:
        require_one_input("training", graph)
        self.target = target or current_target()
        self.plan = plan = TrainingPlanner(graph, loss, rule, self.target).plan()
        floats, shape, width = plan.arena_floats, plan.target_shape, self.target.width
        super().__init__(graph, as_loss(loss), rule, plan.places, floats, shape, width)
        layout = plan.layout
        self._loaded = _Loaded(plan.modules, layout.context, layout.workspace, self.target)
        self._pieces = aligned_zeros(PIECES * layout.piece_floats)
        self._squares = aligned_zeros(plan.squares)
        self._whole = aligned_zeros(0)
        self._flags = np.zeros(plan.flags, np.int64)
        self._stamp = 1
        self._bind_arenas()

    def _bind_arenas(self) -> None:
        loaded = self._loaded
        for name, arena in self.arenas.items():
            loaded.set(name, address_of(arena))
        for name in self.plan.places:
            loaded.set(f"parameter:{name}", self.place_address("p", name))
        loaded.set("pieces", address_of(self._pieces))
        loaded.set("squares", address_of(self._squares))
        loaded.set("flags", address_of(self._flags))
        loaded.set("sleep", threads.sleep_address())
        loaded.set("hypers", len(self.rule.hyper))

    def word(self, offset: int) -> NDArray[np.int64]:
        return self._loaded.word(offset)

    def aim(self, course: Course, threads: int) -> tuple[Callable[[int, int], None], int]:
        loaded, size = self._loaded, course.order.size
        self._size_for(-(-min(course.batch_size, max(size, 1)) // self.target.width))
        for name in ("images", "targets", "order", "losses", "correct", "hyper", "scales"):
            loaded.set(name, address_of(getattr(course, name)))
        numbers = dict(samples=size, steps=course.steps, batch=course.batch_size)
        numbers |= dict(first_step=course.first_step, threads=threads, stamp=self._stamp)
        for name, number in numbers.items():
            loaded.set(name, number)
        loaded.block.view(np.uint64)[loaded.place["seed"]] = course.seed & (2**64 - 1)
        loaded.reserve(threads)
        self._stamp += 2 * course.steps
        return loaded.entry, loaded.block_address

    def _size_for(self, groups: int) -> None:
        """Room for the values that are kept for all groups of a batch."""
        floats = sum(size for size, _ in self.plan.layout.whole.values()) * groups
        if self._whole.size < floats:
            self._whole = aligned_zeros(floats)
        self._loaded.set("whole", address_of(self._whole))
        self._loaded.set("capacity", groups)
