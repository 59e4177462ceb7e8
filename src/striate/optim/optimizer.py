"""What every optimiser has: an update rule of scalar expressions, and its scalars at each step.

An optimiser holds settings only. The state of a training (momentum, averages) belongs to the
program that runs it, so one optimiser can serve many trainings and has nothing to be reset.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

from striate.errors import AbsentError, OptionError
from striate.formula.update import UpdateRule


@dataclass(frozen=True)
class Optimizer(ABC):
    """Base of the optimisers: how a parameter `p` with gradient `g` is changed in one step.

    Args:
        lr: the learning rate, at least 0.
    Raises:
        OptionError: a setting is out of its range.
    """

    lr: float

    def __new__(cls, *settings: Any, **named: Any) -> Any:
        """Refuse parameters as torch's optimisers take them, with a word on what does the loop."""
        if settings and not isinstance(settings[0], (int, float, str, Optimizer)):
            raise OptionError(
                f"{cls.__name__}: expected settings alone, as {cls.__name__}(lr=0.01), since fit "
                f"does the loop; got {type(settings[0]).__name__}. Write striate.fit(net, data, "
                f"optimizer={cls.__name__}(lr=0.01))."
            )
        return super().__new__(cls)

    def __getattr__(self, name: str) -> Any:
        if name in ("step", "zero_grad", "param_groups"):
            raise AbsentError(
                f"{type(self).__name__}: expected no .{name}, since striate.fit(net, data, "
                f"optimizer=...) does the loop; pass the optimizer to it."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __post_init__(self) -> None:
        require(self, "lr", self.lr, 0.0)

    @abstractmethod
    def rule(self) -> UpdateRule:
        """The update as expressions over `p`, `g`, the state and the scalars of `hyper`."""

    @abstractmethod
    def hyper(self, step: int, lr: float) -> tuple[float, ...]:
        """The rule's scalars at one step, worked out in float64.

        Args:
            step: the number of the step, from 0.
            lr: the learning rate of this step, as the schedule gives it.
        Returns:
            One number for each name in `rule().hyper`.
        """

    def settings(self) -> dict[str, Any]:
        """The name and the settings as JSON data."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"name": type(self).__name__} | {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }


def require(owner: object, name: str, value: object, least: float, below: float = math.inf) -> None:
    """Refuse a setting that is no number of `least <= value < below`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and least <= float(value) < below:  # type: ignore[arg-type]
        return
    limits = f"at least {least:g}" + (f" and below {below:g}" if below < math.inf else "")
    raise OptionError(f"{type(owner).__name__}: expected a number {limits}; got {name}={value!r}.")


def require_flag(owner: object, name: str, value: object) -> None:
    """Refuse a switch that is neither True nor False."""
    if not isinstance(value, bool):
        raise OptionError(f"{type(owner).__name__}: expected True or False; got {name}={value!r}.")
