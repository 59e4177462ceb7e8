"""Optimisers and schedules by the names that a command line has for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from striate.errors import OptionError, suggest
from striate.optim.adam import Adam, AdamW
from striate.optim.optimizer import Optimizer
from striate.optim.rmsprop import RMSProp
from striate.optim.schedule import Constant, Cosine, OneCycle, Plateau, Schedule, Step
from striate.optim.sgd import SGD

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(SGD, lr=1e-1),
    "momentum": partial(SGD, lr=1e-2, momentum=0.9),
    "nesterov": partial(SGD, lr=1e-2, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSProp, lr=1e-3),
    "adam": Adam,
    "adamw": AdamW,
}
"""Each name's optimiser, with a learning rate that is a fair start for small networks."""

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "one-cycle": OneCycle,
    "plateau": Plateau,
}


def make_optimizer(
    name: str, lr: float | None = None, weight_decay: float | None = None
) -> Optimizer:
    """The optimiser of that name.

    Args:
        name: sgd, momentum, nesterov, rmsprop, adam or adamw.
        lr: the learning rate; None leaves the name's own.
        weight_decay: the weight decay; None leaves the name's own.
    Raises:
        OptionError: there is no such name, or a value is out of its range.

    >>> make_optimizer("momentum", lr=0.05)
    SGD(lr=0.05, momentum=0.9, nesterov=False, weight_decay=0.0)
    """
    if name not in OPTIMIZERS:
        raise OptionError(f"optimizer: unknown name {name!r}. {suggest(name, OPTIMIZERS)}")
    given = {"lr": lr, "weight_decay": weight_decay}
    return OPTIMIZERS[name](**{key: value for key, value in given.items() if value is not None})


def make_schedule(name: str, **settings: Any) -> Schedule:
    """The schedule of that name.

    Args:
        name: constant, step, cosine, one-cycle or plateau.
        settings: arguments of the schedule, as `gamma` of step.
    Raises:
        OptionError: there is no such name or argument, or a value is out of its range.

    >>> make_schedule("step", step_size=5)
    Step(step_size=5, gamma=0.1)
    """
    if name not in SCHEDULES:
        raise OptionError(f"schedule: unknown name {name!r}. {suggest(name, SCHEDULES)}")
    try:
        return SCHEDULES[name](**settings)
    except TypeError as error:
        raise OptionError(f"schedule: {name} does not take these settings: {error}.") from None
