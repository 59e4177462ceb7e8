"""Blocked training programs at work; see `blocked_native` for inference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from striate.codegen.targets import Target, current_target
from striate.formula.update import UpdateRule
from striate.graph.graph import Graph
from striate.graph.losses import TrainingLoss, as_loss
from striate.program.arrays import address_of
from striate.program.blocked_native import Machine, encoder_for
from striate.program.blocked_plan import bind_parameters
from striate.program.blocked_training import plan_training
from striate.program.checks import require_one_input
from striate.program.choose import Choices
from striate.program.stage import Ref
from striate.program.training import Course, TrainingProgram

_KEY_WORDS = 16  # of a step's random key: a cache line


class BlockedTraining(TrainingProgram):
    """Trains a forward graph with channels in lanes, one sample after the other.

    Args:
        graph: the network; its first output is compared with the targets.
        loss: as `differentiate` knows it.
        rule: the optimiser's.
        target: what to generate code for.
        batch: a typical batch size, which the choice of algorithms goes by.
    """

    def __init__(
        self,
        graph: Graph,
        loss: str | TrainingLoss,
        rule: UpdateRule,
        target: Target | None = None,
        batch: int = 16,
        choices: Choices | None = None,
    ) -> None:
        require_one_input("training", graph)
        self.target = target or current_target()
        self.plan = plan = plan_training(
            graph, loss, rule, self.target, choices or Choices(self.target, batch)
        )
        floats, shape, width = plan.arena_floats, plan.target_shape, self.target.width
        super().__init__(graph, as_loss(loss), rule, plan.parameters, floats, shape, width)
        arrays = [
            self.input.name,
            "order",
            "losses",
            "correct",
            "hyper",
            "key",
            "targets",
            "scales",
        ]
        if plan.wanted is not None:
            arrays.append(plan.wanted)
        self.machine = Machine(plan.stages, plan.memory, arrays, self.target)
        encoder = encoder_for(self.machine, plan.places, self._address)
        self._table = encoder.table(plan.stages)
        addresses = {name: self.place_address("p", name) for name in plan.parameters}
        bind_parameters(self._table, addresses)
        self._keys = np.zeros((0, _KEY_WORDS), np.uint32)

    def _address(self, ref: Ref) -> int:
        arena = "g" if ref.kind == "gradient" else ref.kind
        return self.place_address(arena, ref.name)

    def word(self, offset: int) -> NDArray[np.int64]:
        return self.machine.word(offset)

    def aim(self, course: Course, threads: int) -> tuple[Callable[[int, int], None], int]:
        machine, size, batch = self.machine, course.order.size, course.batch_size
        self._keys = random_keys(course)
        steps = {
            self.input.name: (course.images, 0),
            "targets": (course.targets, 0),
            "order": (course.order, 8 * batch),
            "losses": (course.losses, 4 * batch),
            "correct": (course.correct, 4 * batch),
            "hyper": (course.hyper, 4 * len(self.rule.hyper)),
            "key": (self._keys, 4 * _KEY_WORDS),
            "scales": (course.scales, 4),
        }
        if self.plan.wanted is not None:
            steps[self.plan.wanted] = (course.targets, 0)
        for name, (array, step) in steps.items():
            machine.set_array(name, address_of(array), step)
        largest = min(batch, max(size, 1))
        machine.aim(self._table, len(self.plan.stages), largest, size, course.steps)
        machine.set("batch", batch)
        return machine.entry, machine.block_address


def random_keys(course: Course) -> NDArray[np.uint32]:
    """For each step the random generator's key and counter: seed (two words), step number."""
    keys = np.zeros((course.steps, _KEY_WORDS), np.uint32)
    seed = course.seed & (2**64 - 1)
    keys[:, 0], keys[:, 1] = seed & 0xFFFFFFFF, seed >> 32
    numbers = course.first_step + np.arange(course.steps, dtype=np.int64)
    keys[:, 2] = numbers & 0xFFFFFFFF
    return keys
