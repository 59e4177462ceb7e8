"""Learning-rate schedules, as pure functions of the step.

Nothing is counted or remembered: the rate of a step depends on the number of that step alone (with
`Plateau` also on the records of the epochs before it), so that a resumed training sees exactly the
rates of an uninterrupted one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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

    def after(
        self,
        history: Sequence[Mapping[str, Any]],
        lr: float,
        step: int,
        total_steps: int,
        steps_per_epoch: int,
    ) -> float:
        """The learning rate of one step, after epochs with these records; else as `at`."""
        return self.at(lr, step, total_steps, steps_per_epoch)

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


@dataclass(frozen=True)
class Warmup(Schedule):
    """Another schedule, with a rise in a straight line over the first epochs.

    `lr(t) = min(1, (t+1)/W) · schedule(t)`, W being `epochs · steps_per_epoch`.

    Args:
        schedule: the schedule whose rates are lowered at first.
        epochs: how long the rise takes, at least 0; parts of an epoch are allowed.
    Raises:
        OptionError: a setting is out of its range.

    >>> Warmup(Step(), epochs=2).at(0.1, step=4, total_steps=100, steps_per_epoch=5)
    0.05
    """

    schedule: Schedule
    epochs: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise OptionError(
                f"Warmup: expected a schedule of striate.optim; got {self.schedule!r}."
            )
        require(self, "epochs", self.epochs, 0.0)

    @property
    def needs_end(self) -> bool:  # type: ignore[override]
        return self.schedule.needs_end

    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return self.after((), lr, step, total_steps, steps_per_epoch)

    def after(
        self,
        history: Sequence[Mapping[str, Any]],
        lr: float,
        step: int,
        total_steps: int,
        steps_per_epoch: int,
    ) -> float:
        warm = max(round(self.epochs * steps_per_epoch), 1)
        rate = self.schedule.after(history, lr, step, total_steps, steps_per_epoch)
        return min(1.0, (step + 1) / warm) * rate

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "schedule": self.schedule.settings()}


@dataclass(frozen=True)
class Plateau(Schedule):
    """Lowered when a number no longer gets better: `lr ← max(min_lr, factor·lr)`.

    After each epoch its number (validation loss, or loss where there is no validation) is compared
    with the best so far; one below `best·(1 − threshold)` is better. More than `patience` epochs
    in a row without a better one lower the rate; then `cooldown` epochs are not counted.

    Args:
        factor: what the rate is multiplied with, above 0 and below 1.
        patience: epochs without a better one that are borne, at least 0.
        threshold: the share by which a better one must be lower, at least 0.
        cooldown: epochs after a change that do not count, at least 0.
        min_lr: the lowest rate, at least 0.
    Raises:
        OptionError: a setting is out of its range.
    Source:
        torch.optim.lr_scheduler.ReduceLROnPlateau.

    >>> history = [{"loss": 1.0}, {"loss": 1.0}, {"loss": 1.0}]
    >>> schedule = Plateau(factor=0.5, patience=1)
    >>> schedule.after(history, 0.1, step=30, total_steps=50, steps_per_epoch=10)
    0.05
    """

    factor: float = 0.1
    patience: int = 5
    threshold: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        require(self, "factor", self.factor, 0.0, below=1.0)
        for name in ("patience", "threshold", "cooldown", "min_lr"):
            require(self, name, getattr(self, name), 0.0)

    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return lr

    def after(
        self,
        history: Sequence[Mapping[str, Any]],
        lr: float,
        step: int,
        total_steps: int,
        steps_per_epoch: int,
    ) -> float:
        best, bad, cooling = math.inf, 0, 0
        for record in history:
            value = float(record.get("validation_loss", record["loss"]))
            better = value < best * (1.0 - self.threshold) if best < math.inf else True
            best, bad = (value, 0) if better else (best, bad + 1)
            if cooling:
                cooling, bad = cooling - 1, 0
            if bad > self.patience:
                lr, cooling, bad = max(lr * self.factor, self.min_lr), self.cooldown, 0
        return lr
