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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.codegen import spmd
from striate.codegen.compiler import load
from striate.codegen.targets import Target, current_target
from striate.errors import ModelError, suggest
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph
from striate.program import threads
from striate.program.channel_plan import plan_channels
from striate.program.checks import (
    parameter_of,
    require_course,
    require_images,
    require_labels,
    require_one_input,
    require_targets,
)
from striate.program.driver import PIECES
from striate.program.plan import InferencePlan, TrainingPlanner, plan_inference
from striate.program.result import TrainResult
from striate.settings import get_num_threads

Float32 = NDArray[np.float32]
_ALIGN = 64


def aligned_zeros(count: int) -> Float32:
    """`count` float32 zeros that begin at a cache line."""
    raw = np.zeros(4 * count + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + 4 * count].view(np.float32)


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class _Loaded:
    """A program's code, its context block and its threads' workspaces."""

    def __init__(self, modules: Sequence[Any], fields: list[str], workspace: int, target: Target):
        self._code = load(list(modules), target)
        self.entry = self._code.function("entry", ctypes.c_int64, ctypes.c_void_p)
        self.block = np.zeros(max(len(fields), 1), np.int64)
        self.block_address = _address(self.block)
        self.place = {name: k for k, name in enumerate(fields)}
        self.workspace = workspace
        self.shared = np.zeros(spmd.SHARED_BYTES + _ALIGN, np.uint8)
        self.shared_address = -(-_address(self.shared) // _ALIGN) * _ALIGN
        self._workspaces = aligned_zeros(0)
        self.set("shared", self.shared_address)

    def set(self, name: str, number: int) -> None:
        self.block[self.place[name]] = number

    def word(self, offset: int) -> NDArray[np.int64]:
        """A word of the shared block, as a live array of one."""
        start = self.shared_address - _address(self.shared) + offset
        return self.shared[start : start + 8].view(np.int64)

    def reserve(self, count: int) -> None:
        """Room for this many threads' values."""
        if self._workspaces.size < count * self.workspace:
            self._workspaces = aligned_zeros(count * self.workspace)
            self.set("workspaces", _address(self._workspaces))


class NativeInference:
    """Runs a forward graph with one input; the outputs are as `run` and `values` say."""

    def __init__(self, graph: Graph, target: Target | None = None) -> None:
        require_one_input("inference", graph)
        self.graph = graph
        self.input = graph.inputs[0]
        self.target = target or current_target()
        self._lock = threading.Lock()
        self._programs: dict[tuple[tuple[str, ...], bool], _Program] = {}

    def run(self, x: NDArray[Any], parameters: Mapping[str, Any]) -> Float32:
        """The first output, (n, *shape) float32, of a batch (n, *input shape)."""
        return self._run(x, parameters, (self.graph.outputs[0],))[0]

    def values(
        self, x: NDArray[Any], parameters: Mapping[str, Any], names: Sequence[str]
    ) -> dict[str, Float32]:
        """The outputs of any nodes, exactly as the program computes them."""
        for name in names:
            if name not in self.graph.nodes:
                raise ModelError(
                    f"graph: there is no node {name!r}. {suggest(name, self.graph.nodes)}"
                )
        leaves = {self.input.name: x, **parameters}
        inner = tuple(n for n in names if self.graph.nodes[n].op not in ("input", "parameter"))
        outputs = tuple(dict.fromkeys((*inner, self.graph.outputs[0])))
        found = dict(zip(outputs, self._run(x, parameters, outputs), strict=True))
        return {n: found[n] if n in found else np.asarray(leaves[n], np.float32) for n in names}

    def _program(self, outputs: tuple[str, ...], count: int) -> _Program:
        """The program for a batch: a few samples go with channels in lanes where that serves."""
        few = count <= _few(self.target)
        key = (outputs, few)
        if key not in self._programs:
            plan = plan_channels(self.graph, self.target, outputs) if few else None
            if few and plan is None:
                self._programs[key] = self._program(outputs, self.target.width)
            else:
                kind = _BatchProgram if plan is None else _SampleProgram
                plan = plan or plan_inference(self.graph, self.target, outputs)
                self._programs[key] = kind(plan, self.graph, self.target)
        return self._programs[key]

    def _run(
        self, x: NDArray[Any], parameters: Mapping[str, Any], outputs: tuple[str, ...]
    ) -> list[Float32]:
        require_images("inference", x, self.input.shape)
        count = len(x)
        if not count:
            return [np.empty((0, *self.graph.nodes[o].shape), np.float32) for o in outputs]
        with self._lock:
            return self._program(outputs, count).run(x, count, parameters)


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

    def run(self, images: NDArray[Any], count: int, parameters: Mapping[str, Any]) -> list[Float32]:
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
                array = _parameter(parameters, node.name, node.shape)
                self._loaded.set(f"parameter:{node.name}", _address(array))
                # A converted copy would hide later changes in place: bind those anew each time.
                self._bound[k] = given if array is given else None
                self._kept[k] = array
        fixed = type(parameters) is MappingProxyType and all(b is not None for b in self._bound)
        self._last = parameters if fixed else None


class _BatchProgram(_Program):
    """Batch in lanes: reads and writes arrays where they are."""

    def __init__(self, plan: InferencePlan, graph: Graph, target: Target) -> None:
        super().__init__(plan, graph, target)
        self._width = target.width

    def run(self, images: NDArray[Any], count: int, parameters: Mapping[str, Any]) -> list[Float32]:
        self._bind(parameters)
        images = np.ascontiguousarray(images, np.float32)
        groups = -(-count // self._width)
        arrays = [np.empty((groups * self._width, *s), np.float32) for s in self.shapes]
        self._loaded.set("images", _address(images))
        for k, array in enumerate(arrays):
            self._loaded.set(f"output:{k}", _address(array))
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
        self._loaded.set("images", _address(self._images))
        for k, array in enumerate(self._outputs):
            self._loaded.set(f"output:{k}", _address(array))

    def run(self, images: NDArray[Any], count: int, parameters: Mapping[str, Any]) -> list[Float32]:
        self._bind(parameters)
        self._images[:count] = images
        self._launch(count, count)
        return [a[:count].copy() for a in self._outputs]


def _parameter(parameters: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Float32:
    given = parameter_of(parameters, name, shape)
    array = np.ascontiguousarray(given, np.float32)
    # A view of a memory map or of another subclass is no copy: the given array is used as it is.
    shared = isinstance(given, np.ndarray) and np.may_share_memory(array, given)
    return given if shared else array


class NativeTraining:
    """Trains a forward graph: whole epochs in one native call.

    Attributes:
        parameters: live float32 arrays by name, zero at first; fill them before the first run.
        state: live float32 arrays of the optimiser, "momentum:0.weight", zero at first.
    """

    def __init__(
        self, graph: Graph, loss: str, rule: UpdateRule, target: Target | None = None
    ) -> None:
        require_one_input("training", graph)
        self.rule, self.input = rule, graph.inputs[0]
        self.prediction = graph.nodes[graph.outputs[0]]
        self.target = target or current_target()
        self.plan = TrainingPlanner(graph, loss, rule, self.target).plan()
        layout = self.plan.layout
        self._loaded = _Loaded(self.plan.modules, layout.context, layout.workspace, self.target)
        self._arenas = {
            name: aligned_zeros(self.plan.arena_floats)
            for name in ("p", "g", *(f"state:{s}" for s in rule.state))
        }
        self.parameters = self._views("p")
        self.state = {
            f"{s}:{name}": view
            for s in rule.state
            for name, view in self._views(f"state:{s}").items()
        }
        self._pieces = aligned_zeros(PIECES * layout.piece_floats)
        self._whole = aligned_zeros(0)
        self._flags = np.zeros(self.plan.flags, np.int64)
        self._stamp = 1
        self._course: tuple[Float32, Float32, int] = (aligned_zeros(0), aligned_zeros(0), 1)
        self._bind_arenas()

    def so_far(self) -> TrainResult:
        """What the running call has brought until now; for use in its `progress`."""
        losses, correct, batch_size = self._course
        done = int(self._loaded.word(spmd.PROGRESS)[0])
        seen = min(done * batch_size, losses.size)
        return TrainResult(done, losses[:seen], correct[:seen] > 0.5)

    def _views(self, arena: str) -> dict[str, Float32]:
        views = {}
        for name, place in self.plan.places.items():
            size = int(np.prod(place.shape, dtype=np.int64))
            flat = self._arenas[arena][place.offset : place.offset + size]
            views[name] = flat.reshape(place.shape)
        return views

    def _bind_arenas(self) -> None:
        loaded = self._loaded
        for name, arena in self._arenas.items():
            loaded.set(name, _address(arena))
        for name, place in self.plan.places.items():
            loaded.set(f"parameter:{name}", _address(self._arenas["p"]) + 4 * place.offset)
        loaded.set("pieces", _address(self._pieces))
        loaded.set("flags", _address(self._flags))
        loaded.set("sleep", threads.sleep_address())
        loaded.set("hypers", len(self.rule.hyper))

    def run(
        self,
        images: Any,
        targets: Any,
        order: Any,
        *,
        batch_size: int,
        hyper: Any,
        first_step: int = 0,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrainResult:
        """One step a batch, over the samples that `order` names; see ReferenceTraining.run."""
        images = np.ascontiguousarray(images, np.float32)
        require_images("training", images, self.input.shape)
        order = np.ascontiguousarray(order, np.int64)
        targets = self._targets(targets, len(images))
        hyper = np.ascontiguousarray(hyper, np.float32)
        steps = require_course(order, len(images), batch_size, hyper.shape, self.rule)
        width = self.target.width
        losses = np.zeros(order.size + width, np.float32)
        correct = np.zeros(order.size + width, np.float32)
        groups = -(-min(batch_size, max(order.size, 1)) // width)
        self._size_for(groups)
        arrays = dict(
            images=images, targets=targets, order=order, losses=losses, correct=correct, hyper=hyper
        )
        for name, array in arrays.items():
            self._loaded.set(name, _address(array))
        for name, number in dict(
            samples=order.size, steps=steps, batch=batch_size, first_step=first_step
        ).items():
            self._loaded.set(name, number)
        self._loaded.block.view(np.uint64)[self._loaded.place["seed"]] = seed & (2**64 - 1)
        self._course = (losses[: order.size], correct[: order.size], batch_size)
        self._go(steps, progress, stop)
        return self.so_far()

    def _go(
        self,
        steps: int,
        progress: Callable[[int], None] | None,
        stop: threading.Event | None,
    ) -> None:
        loaded = self._loaded
        halt, count = loaded.word(spmd.STOP), loaded.word(spmd.PROGRESS)
        for offset in (spmd.STOP, spmd.HALTED, spmd.PROGRESS):
            loaded.word(offset)[0] = 0
        if not steps or (stop is not None and stop.is_set()):
            return
        number = get_num_threads()
        loaded.reserve(number)
        loaded.set("threads", number)
        loaded.set("stamp", self._stamp)
        self._stamp += 2 * steps

        def tick() -> None:
            if stop is not None and stop.is_set():
                halt[0] = 1
            if progress is not None:
                progress(int(count[0]))

        def end() -> None:
            halt[0] = 1

        threads.run_watched(loaded.entry, loaded.block_address, number, tick, end)

    def _size_for(self, groups: int) -> None:
        """Room for the values that are kept for all groups of a batch."""
        floats = sum(size for size, _ in self.plan.layout.whole.values()) * groups
        if self._whole.size < floats:
            self._whole = aligned_zeros(floats)
        self._loaded.set("whole", _address(self._whole))
        self._loaded.set("capacity", groups)

    def _targets(self, targets: Any, count: int) -> NDArray[Any]:
        shape = self.plan.target_shape
        kind = np.int64 if shape is None else np.float32
        array = np.ascontiguousarray(targets, kind)
        require_targets(array, count, shape or ())
        if shape is None:
            require_labels(array, self.prediction.shape[0] if self.prediction.shape else 1)
        return array
