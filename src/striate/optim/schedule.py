"""Learning-rate schedules, as pure functions of the step.

Nothing is counted or remembered: the rate of a step depends on the number of that step alone, so
that a resumed training sees exactly the rates of an uninterrupted one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from striate.errors import OptionError
from striate.optim.optimizer import require


@dataclass(frozen=True)
class Schedule(ABC):
    """Base of the schedules."""

    needs_end: ClassVar[bool] = False
    """Whether the rates depend on how many steps there will be in all."""

    @abstractmethod
    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """The learning rate of one step.

        Args:
            lr: the optimiser's learning rate.
            step: the number of the step, from 0.
            total_steps: the steps of the whole training.
            steps_per_epoch: the steps of one epoch.
        Returns:
            The rate, in float64.
        """

    def settings(self) -> dict[str, Any]:
        """The name and the settings as JSON data."""
        return {"name": type(self).__name__} | {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Constant(Schedule):
    """The optimiser's rate at every step: `lr(t) = lr`.

    >>> Constant().at(0.1, step=7, total_steps=10, steps_per_epoch=5)
    0.1
    """

    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return lr


@dataclass(frozen=True)
class Step(Schedule):
    """Lowered every few epochs: `lr(epoch) = lr · gamma^⌊epoch / step_size⌋`.

    Args:
        step_size: epochs between two changes, at least 1.
        gamma: what the rate is multiplied with at each change, at least 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        torch.optim.lr_scheduler.StepLR, counted in epochs.

    >>> Step(step_size=2, gamma=0.5).at(0.1, step=20, total_steps=50, steps_per_epoch=10)
    0.05
    """

    step_size: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not hasattr(self.step_size, "__index__") or isinstance(self.step_size, bool):
            raise OptionError(
                f"Step: expected a whole number of epochs; got step_size={self.step_size!r}."
            )
        require(self, "step_size", self.step_size, 1)
        require(self, "gamma", self.gamma, 0.0)

    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return lr * self.gamma ** (step // steps_per_epoch // self.step_size)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `lr` to `min_lr`: `min_lr + (lr − min_lr)·(1 + cos(π·t/T))/2`.

    With a warm-up of w epochs the rate first rises in a straight line, `lr·(t+1)/W` over the
    W = w·steps_per_epoch first steps; t and T count the steps after them.

    Args:
        min_lr: the rate at the end, at least 0.
        warmup: epochs of warm-up, at least 0; parts of an epoch are allowed.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts, 2017.

    >>> Cosine().at(0.1, step=50, total_steps=100, steps_per_epoch=10)
    0.05
    """

    min_lr: float = 0.0
    warmup: float = 0.0

    needs_end: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self, "min_lr", self.min_lr, 0.0)
        require(self, "warmup", self.warmup, 0.0)

    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        warm = min(round(self.warmup * steps_per_epoch), total_steps)
        if step < warm:
            return lr * (step + 1) / warm
        part = (step - warm) / max(total_steps - warm, 1)
        return self.min_lr + (lr - self.min_lr) * (1.0 + math.cos(math.pi * part)) / 2.0


@dataclass(frozen=True)
class OneCycle(Schedule):
    """One cycle: from `max_lr/div_factor` up to `max_lr`, then down far below the start.

    Both halves are half cosines; the first takes the part `rise` of the steps, the last rate is
    `max_lr / div_factor / final_div_factor`. The momentum stays as it is.

    Args:
        max_lr: the highest rate; None takes the optimiser's.
        rise: the part of the steps in which the rate rises, above 0 and below 1.
        div_factor: the highest rate over the first, above 0.
        final_div_factor: the first rate over the last, above 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        Smith, Topin: Super-convergence, 2018; the values are those of
        torch.optim.lr_scheduler.OneCycleLR with cycle_momentum=False.

    >>> round(OneCycle().at(0.1, step=29, total_steps=100, steps_per_epoch=10), 6)
    0.1
    """

    max_lr: float | None = None
    rise: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    needs_end: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_lr is not None:
            require(self, "max_lr", self.max_lr, 0.0)
        require(self, "rise", self.rise, 0.0, below=1.0)
        for name in ("rise", "div_factor", "final_div_factor"):
            value = getattr(self, name)
            require(self, name, value, 0.0)
            if value == 0:
                raise OptionError(f"OneCycle: expected a number above 0; got {name}=0.")

    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        highest = lr if self.max_lr is None else self.max_lr
        first = highest / self.div_factor
        # Torch counts the first half from step 0 to step rise·T − 1, where the rate is highest.
        top, last = self.rise * total_steps - 1.0, total_steps - 1.0
        if step <= top:
            return _half_cosine(first, highest, step / top if top > 0 else 1.0)
        start = max(top, 0.0)
        part = (step - start) / (last - start) if last > start else 1.0
        return _half_cosine(highest, first / self.final_div_factor, part)


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * part))
