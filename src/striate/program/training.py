"""What native training programs share: parameters and state as live arrays, the course of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.codegen import spmd
from striate.formula.update import GRADIENT_NORM, UpdateRule
from striate.graph.graph import Graph
from striate.graph.losses import TrainingLoss
from striate.program import threads
from striate.program.arrays import Float32, address_of, aligned_zeros
from striate.program.checks import (
    require_course,
    require_images,
    require_labels,
    require_one_input,
    require_targets,
)
from striate.program.plan import ParameterPlace
from striate.program.result import TrainResult
from striate.settings import get_num_threads


@dataclass(frozen=True)
class Course:
    """One run: the arrays that it reads and writes, and its numbers."""

    images: NDArray[Any]
    targets: NDArray[Any]
    order: NDArray[np.int64]
    hyper: Float32
    scales: Float32  # for each step what a sample's loss is multiplied by
    losses: Float32
    correct: Float32
    batch_size: int
    steps: int
    first_step: int
    seed: int


class TrainingProgram:
    """Trains a forward graph: whole epochs in one native call.

    Attributes:
        parameters: live float32 arrays by name, zero at first; fill them before the first run.
        state: live float32 arrays of the optimiser, "momentum:0.weight", zero at first.
    """

    def __init__(
        self,
        graph: Graph,
        loss: TrainingLoss,
        rule: UpdateRule,
        places: Mapping[str, ParameterPlace],
        arena_floats: int,
        target_shape: tuple[int, ...] | None,
        width: int,
    ) -> None:
        require_one_input("training", graph)
        self.rule, self.input, self.loss = rule, graph.inputs[0], loss
        self.prediction = graph.nodes[graph.outputs[0]]
        self._places, self._target_shape, self._width = places, target_shape, width
        names = ("p", "g", *(f"state:{s}" for s in rule.state))
        self.arenas = {name: aligned_zeros(arena_floats) for name in names}
        self.parameters = self._views("p")
        self.state = {
            f"{s}:{name}": view
            for s in rule.state
            for name, view in self._views(f"state:{s}").items()
        }
        self._course = (aligned_zeros(0), aligned_zeros(0), 1)
        self._norms = aligned_zeros(0)

    def _views(self, arena: str) -> dict[str, Float32]:
        views = {}
        for name, place in self._places.items():
            size = int(np.prod(place.shape, dtype=np.int64))
            flat = self.arenas[arena][place.offset : place.offset + size]
            views[name] = flat.reshape(place.shape)
        return views

    def place_address(self, arena: str, parameter: str) -> int:
        """Where a parameter, its gradient or a state of it lies."""
        return address_of(self.arenas[arena]) + 4 * self._places[parameter].offset

    # ---- what the programs themselves say -----------------------------------------------------

    def aim(self, course: Course, threads: int) -> tuple[Callable[[int, int], None], int]:
        """Set up a run; returns the entry and its context."""
        raise TypeError(f"{type(self).__name__} does not say how it runs.")

    def word(self, offset: int) -> NDArray[np.int64]:
        """A word of the block that the threads share."""
        raise TypeError(f"{type(self).__name__} does not say where its shared block is.")

    # ---- running ------------------------------------------------------------------------------

    def so_far(self) -> TrainResult:
        """What the running call has brought until now; for use in its `progress`."""
        losses, correct, batch_size = self._course
        done = int(self.word(spmd.PROGRESS)[0])
        seen = min(done * batch_size, losses.size)
        return TrainResult(done, losses[:seen], correct[:seen] > 0.5, self._norms[:done])

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
        if self.rule.needs_norm:
            hyper = hyper.copy()  # the program writes into it
            self._norms = hyper[:, self.rule.hyper.index(GRADIENT_NORM)]
        losses = np.zeros(order.size + self._width, np.float32)
        correct = np.zeros(order.size + self._width, np.float32)
        self._course = (losses[: order.size], correct[: order.size], batch_size)
        course = Course(
            images=images,
            targets=targets,
            order=order,
            hyper=hyper,
            scales=self.loss.scales(self.prediction.shape, targets, order, batch_size),
            losses=losses,
            correct=correct,
            batch_size=batch_size,
            steps=steps,
            first_step=first_step,
            seed=seed,
        )
        self._go(course, progress, stop)
        return self.so_far()

    def _go(
        self,
        course: Course,
        progress: Callable[[int], None] | None,
        stop: threading.Event | None,
    ) -> None:
        halt, count = self.word(spmd.STOP), self.word(spmd.PROGRESS)
        for offset in (spmd.STOP, spmd.HALTED, spmd.PROGRESS):
            self.word(offset)[0] = 0
        if not course.steps or (stop is not None and stop.is_set()):
            return
        number = get_num_threads()
        entry, block = self.aim(course, number)

        def tick() -> None:
            if stop is not None and stop.is_set():
                halt[0] = 1
            if progress is not None:
                progress(int(count[0]))

        def end() -> None:
            halt[0] = 1

        threads.run_watched(entry, block, number, tick, end)

    def _targets(self, targets: Any, count: int) -> NDArray[Any]:
        shape = self._target_shape
        kind = np.int64 if shape is None else np.float32
        array = np.ascontiguousarray(targets, kind)
        require_targets(array, count, shape or ())
        if shape is None:
            require_labels(array, self.prediction.shape[0] if self.prediction.shape else 1)
        else:
            self.loss.check(self.prediction.shape, array)
        return array
