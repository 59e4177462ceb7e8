"""What a training has brought: its epochs, the best of them, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
"""One epoch: epoch, loss, accuracy, validation_loss, validation_accuracy, lr, seconds,
images_per_second, loader_share, gradient_norm. Accuracies and the loader's part of the time are
shares of 1; what does not apply is absent."""


@dataclass
class Run:
    """The course of a training.

    Args:
        epochs: how many epochs were asked for.
        history: one record for each finished epoch, in order.
        stopped: why it ended: "epochs" (all are done), "early stopping" or "callback".
        best_epoch: the epoch with the highest validation accuracy (with mse: the lowest
            validation loss; without validation: the lowest loss), from 1; None before the first.
        restored: whether the network was put back into the state of the best epoch.
    """

    epochs: int
    history: list[Record] = field(default_factory=list)
    stopped: str = "epochs"
    best_epoch: int | None = None
    restored: bool = False

    @property
    def best(self) -> Record | None:
        """The record of the best epoch."""
        return None if self.best_epoch is None else self.history[self.best_epoch - 1]

    @property
    def seconds(self) -> float:
        """The time of all epochs together."""
        return float(sum(record["seconds"] for record in self.history))

    def add(self, record: Record) -> bool:
        """Append an epoch; True where it is the best so far."""
        self.history.append(record)
        best = self.best
        if best is None or _rank(record) < _rank(best):
            self.best_epoch = int(record["epoch"])
            return True
        return False

    @property
    def since_best(self) -> int:
        """How many epochs have passed since the best one."""
        return len(self.history) - (self.best_epoch or 0)

    def __repr__(self) -> str:
        if not self.history:
            return f"Run(0 of {self.epochs} epochs)"
        text = f"Run({len(self.history)} of {self.epochs} epochs in {self.seconds:.1f} s"
        if self.stopped != "epochs":
            text += f", ended by {self.stopped}"
        text += f": {describe(self.history[-1])}"
        best = self.best
        if best is not None and best is not self.history[-1]:
            kept = ", restored" if self.restored else ""
            text += f"; best epoch {self.best_epoch}{kept}: {describe(best)}"
        return text + ")"


def _rank(record: Record) -> tuple[float, float]:
    """Smaller is better."""
    loss = float(record["validation_loss" if "validation_loss" in record else "loss"])
    return -float(record.get("validation_accuracy", 0.0)), loss


def describe(record: Record) -> str:
    """Losses and accuracies of one epoch.

    >>> describe({"loss": 0.25, "accuracy": 0.9, "validation_loss": 0.3})
    'loss 0.2500, accuracy 90.00 %, validation loss 0.3000'
    """
    parts = []
    for key in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        if key in record:
            name = key.replace("_", " ")
            share = key.endswith("accuracy")
            parts.append(
                f"{name} {record[key]:.2%}".replace("%", " %")
                if share
                else f"{name} {record[key]:.4f}"
            )
    return ", ".join(parts)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a training; the network is in the state of the last finished epoch.

    Args:
        run: the epochs that were finished.
    """

    def __init__(self, run: Run) -> None:
        done = len(run.history)
        where = f"in epoch {done + 1} of {run.epochs}" if done < run.epochs else "at its end"
        kept = f"epoch {done} is kept" if done else "no epoch was finished"
        super().__init__(f"training interrupted {where}; {kept}.")
        self.run = run
