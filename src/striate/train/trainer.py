"""The loop over the epochs: run, judge, keep, show, and end well whatever happens.

One call of the training program is one epoch. The network's own arrays change only between
epochs, all together, so that they always hold the state of the last finished one.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, StriateError
from striate.graph.losses import TrainingLoss
from striate.nn.trace import BATCH_COUNT
from striate.optim import Optimizer, Schedule
from striate.train.checkpoint import (
    Checkpoint,
    OutputFolder,
    Settings,
    copy_arrays,
    require_same_settings,
    save_checkpoint,
)
from striate.train.interrupt import InterruptGuard
from striate.train.losses import sample_losses, sample_shares
from striate.train.order import epoch_order
from striate.train.predict import Predictor
from striate.train.progress import Display, make_display
from striate.train.run import Interrupted, Record, Run
from striate.train.samples import Samples

if TYPE_CHECKING:
    from striate.nn.module import Module
    from striate.program.result import TrainResult

_EVALUATION_BATCH = 256
_DIGEST_ROWS = 512


@dataclass(frozen=True)
class Plan:
    """What a training was asked to do; the names are those of `fit`."""

    epochs: int
    batch_size: int
    optimizer: Optimizer
    schedule: Schedule
    loss: TrainingLoss
    seed: int
    early_stopping: int | None
    backend: str | None
    progress: bool
    callbacks: tuple[Callable[[Record, Module], object], ...]


class Trainer:
    """One training of one network.

    Args:
        net: the network; its parameters are changed in place.
        train: the samples to learn from.
        held_out: the samples to judge by.
        plan: the settings.
        folder: where to write checkpoints.
    """

    def __init__(
        self, net: Module, train: Samples, held_out: Samples | None, plan: Plan, folder: Path | None
    ) -> None:
        from striate.program import build_training  # late: import striate stays light

        self.net, self.train, self.held_out, self.plan = net, train, held_out, plan
        shape = train.images.shape[1:]
        self.graph = net.train().to_graph(shape)
        self.settings = _settings(plan, train, held_out, self.graph.to_json())
        self.folder = None if folder is None else OutputFolder(folder)
        self.program = build_training(
            self.graph,
            loss=plan.loss,
            rule=plan.optimizer.rule(),
            backend=plan.backend,
            batch_size=plan.batch_size,
        )
        output = self.graph.nodes[self.graph.outputs[0]].shape
        self.classifies = plan.loss.classifies(output)
        self.shares = None if plan.loss.plain else plan.loss.shares(output, train.targets)
        self.arrays = net.graph_arrays(self.graph)
        counters = [k for name, k in net.named_buffers() if name.endswith(BATCH_COUNT)]
        self.counters = [(array, int(array)) for array in counters]
        for name, array in self.arrays.items():
            self.program.parameters[name][...] = array
        self.predictor = None if held_out is None else Predictor(net, shape, plan.backend)
        self.best: dict[str, NDArray[np.float32]] = {}
        self.course = Run(plan.epochs)
        self.guard = InterruptGuard()

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.plan.batch_size)

    def run(self, resume: bool) -> Run:
        """All epochs that are left; the network is in evaluation mode afterwards."""
        try:
            with self.guard:
                self._prepare(resume)
                self._epochs()
                self._end()
                self.guard.check()
        except KeyboardInterrupt:
            raise Interrupted(self.course) from None
        finally:
            self.net.eval()
        return self.course

    # ---- beginning ---------------------------------------------------------------------------

    def _prepare(self, resume: bool) -> None:
        if self.folder is None:
            return
        checkpoint = self.folder.resumable() if resume else None
        if checkpoint is not None:
            self._restore(checkpoint, self.folder.checkpoint)
        self.folder.write_settings({**self.settings, "epochs": self.plan.epochs})

    def _restore(self, checkpoint: Checkpoint, path: Path) -> None:
        require_same_settings(path, checkpoint.settings, self.settings)
        done = len(checkpoint.history)
        if done > self.plan.epochs:
            raise OptionError(
                f"resume: expected epochs of at least {done}, which {path} has done; got "
                f"epochs={self.plan.epochs}."
            )
        copy_arrays(self.program.parameters, checkpoint.parameters, path)
        copy_arrays(self.program.state, checkpoint.state, path)
        for record in checkpoint.history:
            self.course.add(record)
        self.best = dict(checkpoint.best)
        with self.guard.whole():
            self._to_net(self.program.parameters, done)

    # ---- epochs ------------------------------------------------------------------------------

    def _epochs(self) -> None:
        display = make_display(
            self.plan.progress, self.course, self.steps_per_epoch, len(self.train)
        )
        try:
            while len(self.course.history) < self.plan.epochs and not self._patience_is_over():
                if self._epoch(display):
                    self.course.stopped = "callback"
                    return
        finally:
            display.close()
        if len(self.course.history) < self.plan.epochs:
            self.course.stopped = "early stopping"

    def _patience_is_over(self) -> bool:
        patience = self.plan.early_stopping
        return patience is not None and self.course.since_best >= patience

    def _epoch(self, display: Display) -> bool:
        """One epoch; True where a callback wants to end the training."""
        self.guard.check()
        began = time.perf_counter()
        epoch = len(self.course.history) + 1
        record: Record = {"epoch": epoch, **self._learn(epoch, display)}
        speed = len(self.train) / max(time.perf_counter() - began, 1e-9)
        record.update(self._judge(epoch))
        record["lr"] = self._rate(epoch * self.steps_per_epoch - 1)
        record["seconds"] = time.perf_counter() - began
        record["images_per_second"] = speed
        with self.guard.whole():
            self._to_net(self.program.parameters, epoch)
            is_best = self.course.add(record)
            if is_best and self.plan.early_stopping is not None:
                self.best = {name: array.copy() for name, array in self.arrays.items()}
        self._save(is_best)
        display.finished(record)
        wishes = [callback(record, self.net) for callback in self.plan.callbacks]
        return any(wish is True for wish in wishes)

    def _learn(self, epoch: int, display: Display) -> Record:
        plan, steps = self.plan, self.steps_per_epoch
        self.order = self.train.index[epoch_order(plan.seed, epoch, len(self.train))]
        first = (epoch - 1) * steps
        numbers = [plan.optimizer.hyper(s, self._rate(s)) for s in range(first, first + steps)]
        display.step(epoch, 0)
        with np.errstate(over="ignore", invalid="ignore"):  # found by _require_finite, with words
            result = self.program.run(
                self.train.images,
                self.train.targets,
                self.order,
                batch_size=plan.batch_size,
                hyper=np.array(numbers, np.float32),
                first_step=first,
                seed=plan.seed,
                progress=lambda done: self._watch(epoch, done, display),
                stop=self.guard.stop,
            )
        self._require_finite(result, epoch)
        if result.steps < steps:
            raise KeyboardInterrupt
        display.step(epoch, steps)
        return self._means(result)

    def _watch(self, epoch: int, done: int, display: Display) -> None:
        """Show the running epoch's means; end it early where its losses have gone astray."""
        result = self.program.so_far()
        if not np.isfinite(result.losses).all():
            self.guard.stop.set()
        elif result.losses.size:
            display.step(epoch, done, self._means(result))

    def _means(self, result: TrainResult) -> Record:
        if self.shares is None:
            shares = np.ones(result.losses.size)
        else:
            shares = self.shares[self.order[: result.losses.size]]
        record = {"loss": float(result.losses.sum(dtype=np.float64) / _or_one(shares.sum()))}
        if self.classifies:
            counted = shares > 0
            record["accuracy"] = float(result.correct[counted].sum() / _or_one(counted.sum()))
        return record

    def _rate(self, step: int) -> float:
        plan, steps = self.plan, self.steps_per_epoch
        return plan.schedule.at(plan.optimizer.lr, step, plan.epochs * steps, steps)

    def _require_finite(self, result: TrainResult, epoch: int) -> None:
        wrong = np.flatnonzero(~np.isfinite(result.losses))
        if wrong.size:
            step, found = int(wrong[0]) // self.plan.batch_size, f"{result.losses[wrong[0]]}"
        elif all(np.isfinite(array).all() for array in self.program.parameters.values()):
            return
        else:
            step, found = result.steps - 1, "parameters that are not finite"
        rate = self._rate((epoch - 1) * self.steps_per_epoch + step)
        kept = f"epoch {epoch - 1}" if epoch > 1 else "before the training"
        raise StriateError(
            f"fit: expected a finite loss; got {found} in epoch {epoch} at step {step + 1} of "
            f"{self.steps_per_epoch} (lr={rate:g}). Try a learning rate of {rate / 10:g}, or "
            f"a warm-up; the state of {kept} is kept."
        )

    def _judge(self, epoch: int) -> Record:
        """Loss and accuracy on the held-out samples, with the present parameters."""
        if self.predictor is None or self.held_out is None:
            return {}
        total, right, whole, counted = 0.0, 0, 0.0, 0
        parameters = self.program.parameters
        for outputs, targets in self.predictor.batches(
            self.held_out, _EVALUATION_BATCH, parameters
        ):
            self.guard.check()
            total += float(sample_losses(outputs, targets, self.plan.loss).sum())
            shares = sample_shares(outputs, targets, self.plan.loss)
            whole, counted = whole + float(shares.sum()), counted + int((shares > 0).sum())
            if self.classifies:
                right += int(((outputs.argmax(axis=1) == targets) & (shares > 0)).sum())
        record = {"validation_loss": total / _or_one(whole)}
        if self.classifies:
            record["validation_accuracy"] = right / _or_one(counted)
        return record

    # ---- keeping -----------------------------------------------------------------------------

    def _to_net(self, parameters: Any, epoch: int) -> None:
        """Give the network the state that it has after an epoch."""
        for name, array in self.arrays.items():
            array[...] = parameters[name]
        for counter, before in self.counters:
            counter[...] = before + epoch * self.steps_per_epoch

    def _save(self, is_best: bool) -> None:
        if self.folder is None:
            return
        if is_best:
            self.folder.write_model(self.net, "best")
        save_checkpoint(
            self.folder.checkpoint,
            Checkpoint(
                self.program.parameters,
                self.program.state,
                self.best,
                self.course.history,
                self.settings,
            ),
        )
        self.folder.write_model(self.net)
        self.folder.write_metrics(self.course.history)

    def _end(self) -> None:
        """Put back the best epoch, where that was asked for; write what may be missing."""
        if self.plan.early_stopping is not None and self.best:
            with self.guard.whole():
                self._to_net(self.best, self.course.best_epoch or 0)
                self.course.restored = True
        if self.folder is not None and self.course.history:
            self.folder.write_model(self.net)
            self.folder.write_metrics(self.course.history)


def _or_one(count: float) -> float:
    """A number to divide by: 1 where nothing was counted."""
    return float(count) or 1.0


# ---- what the bits depend on -----------------------------------------------------------------


def _settings(plan: Plan, train: Samples, held_out: Samples | None, graph: Any) -> Settings:
    """All that the trained bits depend on; two trainings with equal settings give equal bits."""
    import json

    from striate.program import backend_name

    text = json.dumps(graph, sort_keys=True)
    settings: Settings = {
        "network": f"{zlib.crc32(text.encode()):08x}",
        "batch_size": plan.batch_size,
        "optimizer": plan.optimizer.settings(),
        "schedule": plan.schedule.settings(),
        "loss": plan.loss.settings(),
        "seed": plan.seed,
        "early_stopping": plan.early_stopping,
        "backend": backend_name(plan.backend),
        "image_shape": list(train.images.shape[1:]),
        "training_samples": len(train),
        "training_data": _fingerprint(train),
        "validation_samples": 0 if held_out is None else len(held_out),
        "validation_data": "" if held_out is None else _fingerprint(held_out),
    }
    if plan.schedule.needs_end:
        settings["epochs"] = plan.epochs
    return settings


def _fingerprint(samples: Samples) -> str:
    """A checksum of the targets and of some of the images, spread over all."""
    rows = samples.index[:: max(1, len(samples) // _DIGEST_ROWS)]
    code = zlib.crc32(np.ascontiguousarray(samples.targets[samples.index]).data)
    return f"{zlib.crc32(samples.images[rows].data, code):08x}"
