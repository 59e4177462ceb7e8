"""Functions of one's own that a training calls: at its start and end, after steps and epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from striate.errors import OptionError
from striate.train.run import Record, Run

if TYPE_CHECKING:
    from striate.nn.module import Module


class Callback:
    """Base: override what is of interest; `on_step` and `on_epoch` end the training by True.

    The network is the one that is trained; its arrays hold the state of the last finished epoch,
    also within one. A training whose callbacks have `on_step` comes back from native code after
    every `every` steps; one without stays there for a whole epoch.

    >>> class Losses(Callback):
    ...     def __init__(self):
    ...         self.seen = []
    ...     def on_epoch(self, record, net):
    ...         self.seen.append(record["loss"])
    """

    every: int = 1
    """How many steps there are between two calls of `on_step`."""

    def on_start(self, run: Run, net: Module) -> None:
        """Before the first step; `run` has the epochs that a resumed training had done."""

    def on_step(self, record: Record, net: Module) -> bool | None:
        """After `every` steps: step (of all, from 1), epoch; loss, accuracy and lr of these."""

    def on_epoch(self, record: Record, net: Module) -> bool | None:
        """After an epoch, with its record."""

    def on_end(self, run: Run, net: Module) -> None:
        """After the last epoch, and also after Ctrl-C or an error."""


class _Function(Callback):
    """A plain function of (record, network), called after each epoch."""

    def __init__(self, function: Callable[[Record, Module], object]) -> None:
        self.function = function

    def on_epoch(self, record: Record, net: Module) -> bool | None:
        return self.function(record, net) is True


def as_callbacks(given: Iterable[Any]) -> tuple[Callback, ...]:
    """Callbacks and plain functions as callbacks.

    Raises:
        OptionError: something that is neither, or `every` below 1.
    """
    found = []
    for one in given:
        if isinstance(one, Callback):
            if not isinstance(one.every, int) or one.every < 1:
                raise OptionError(
                    f"callbacks: expected every of at least 1 step; got every={one.every!r} in "
                    f"{type(one).__name__}."
                )
            found.append(one)
        elif callable(one):
            found.append(_Function(one))
        else:
            raise OptionError(
                f"callbacks: expected functions of (record, net) or striate.train.Callback; got "
                f"{one!r}."
            )
    return tuple(found)


def watches_steps(callback: Callback) -> bool:
    """Whether a callback wants to be called after steps."""
    return type(callback).on_step is not Callback.on_step
