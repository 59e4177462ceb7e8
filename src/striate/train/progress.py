"""Showing a training: a live display in a terminal, plain lines elsewhere, or nothing.

The display is drawn from the training's own progress calls, without a thread, so that it takes
no core from the native program.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from striate.train.run import Record, Run, describe

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Display(Protocol):
    """Something that shows a training."""

    def step(self, epoch: int, steps: int, means: Record | None = None) -> None:
        """So many steps of this epoch (from 1) are done, with these means so far."""

    def finished(self, record: Record) -> None:
        """An epoch is finished."""

    def close(self) -> None:
        """The training is over."""


class Silent:
    """Shows nothing."""

    def step(self, epoch: int, steps: int, means: Record | None = None) -> None:
        pass

    def finished(self, record: Record) -> None:
        pass

    def close(self) -> None:
        pass


def epoch_line(record: Record, epochs: int) -> str:
    """One epoch as one line.

    >>> epoch_line({"epoch": 2, "loss": 0.5, "lr": 0.1, "seconds": 1.0, "images_per_second": 9}, 3)
    'epoch 2/3: loss 0.5000, lr 0.1, 1.0 s, 9 images/s'
    """
    waiting = f", loader {record['loader_share']:.0%}" if "loader_share" in record else ""
    return (
        f"epoch {record['epoch']}/{epochs}: {describe(record)}, lr {record['lr']:.3g}, "
        f"{record['seconds']:.1f} s{waiting.replace('%', ' %')}, "
        f"{record['images_per_second']:,.0f} images/s"
    )


def short_line(record: Record, epochs: int) -> str:
    """One epoch as one line that fits a terminal of 80 columns.

    >>> record = {"epoch": 2, "loss": 0.5, "accuracy": 0.75, "images_per_second": 9}
    >>> short_line({**record, "validation_loss": 0.25, "validation_accuracy": 0.875}, 3)
    'epoch 2/3: loss 0.5000, 75.00 %; validation 0.2500, 87.50 %; 9 images/s'
    """
    parts = [_loss_and_accuracy("loss", record, "")]
    if "validation_loss" in record:
        parts.append(_loss_and_accuracy("validation", record, "validation_"))
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    if "loader_share" in record:
        parts.append(f"loader {100 * record['loader_share']:.0f} %")
    return f"epoch {record['epoch']}/{epochs}: {'; '.join(parts)}"


def _loss_and_accuracy(word: str, record: Record, prefix: str) -> str:
    text = f"{word} {record[prefix + 'loss']:.4f}"
    accuracy = record.get(prefix + "accuracy")
    return text if accuracy is None else f"{text}, {100 * accuracy:.2f} %"


class PlainLines:
    """A line of text for each epoch, with the time that is left where more are to come."""

    def __init__(self, run: Run) -> None:
        self.run, self.epochs = run, run.epochs

    def step(self, epoch: int, steps: int, means: Record | None = None) -> None:
        pass

    def finished(self, record: Record) -> None:
        left = self.epochs - int(record["epoch"])
        mean = sum(r["seconds"] for r in self.run.history) / max(len(self.run.history), 1)
        end = f", {clock(left * mean)} left" if left * mean >= 1 else ""
        print(epoch_line(record, self.epochs) + end, flush=True)

    def close(self) -> None:
        pass


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> clock(75), clock(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class LiveDisplay:
    """A bar over the whole training, and a line for each finished epoch above it."""

    def __init__(self, run: Run, steps_per_epoch: int, images: int) -> None:
        self.epochs = run.epochs
        self.steps_per_epoch = steps_per_epoch
        self.images = images
        self.latest = _loss_and_accuracy("loss", run.history[-1], "") if run.history else ""
        self.first_step = len(run.history) * steps_per_epoch
        self.began = self.epoch_began = time.perf_counter()
        self.epoch = 0
        self.bar, self.task = self._make_bar()
        self.bar.start()

    def _make_bar(self) -> tuple[Progress, TaskID]:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        def text(format: str, style: str = "none") -> TextColumn:
            return TextColumn(format, style=style, table_column=Column(no_wrap=True))

        bar = Progress(
            text("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),  # what the texts leave over
            text("{task.percentage:>3.0f} %"),
            text("{task.fields[latest]}"),
            text("{task.fields[speed]}", "cyan"),
            text("{task.fields[left]}", "green"),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        task = bar.add_task(
            "training",
            total=self.epochs * self.steps_per_epoch,
            completed=self.first_step,
            epoch=min(self.first_step // self.steps_per_epoch + 1, self.epochs),
            epochs=self.epochs,
            speed="",
            left="",
            latest=self.latest,
        )
        return bar, task

    def step(self, epoch: int, steps: int, means: Record | None = None) -> None:
        now = time.perf_counter()
        if epoch != self.epoch:
            self.epoch, self.epoch_began = epoch, now
        if means is not None:
            self.latest = _loss_and_accuracy("loss", means, "")
        done = (epoch - 1) * self.steps_per_epoch + steps
        self.bar.update(
            self.task,
            completed=done,
            epoch=epoch,
            speed=self._speed(steps, now - self.epoch_began),
            left=self._left(done, now - self.began),
            latest=self.latest,
            refresh=True,
        )

    def _speed(self, steps: int, seconds: float) -> str:
        images = self.images * steps / self.steps_per_epoch
        return f"{images / seconds:,.0f} images/s" if seconds > 0 and steps else ""

    def _left(self, done: int, seconds: float) -> str:
        here = done - self.first_step
        if not here or not seconds:
            return ""
        left = seconds * (self.epochs * self.steps_per_epoch - done) / here
        return f"{clock(left)} left"

    def finished(self, record: Record) -> None:
        line = short_line(record, self.epochs)
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self.latest = _loss_and_accuracy("loss", record, "")
        self.bar.update(self.task, latest=self.latest, refresh=True)

    def close(self) -> None:
        self.bar.stop()


def make_display(progress: bool, run: Run, steps_per_epoch: int, images: int) -> Display:
    """The display that suits where the output goes.

    Args:
        progress: False for none.
        run: the training, with the epochs that are already done.
        steps_per_epoch: the steps of an epoch.
        images: the images of an epoch.
    """
    if not progress:
        return Silent()
    if sys.stdout is not None and sys.stdout.isatty():
        return LiveDisplay(run, steps_per_epoch, images)
    return PlainLines(run)
