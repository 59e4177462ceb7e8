"""The loop over the epochs: run, judge, keep, show, and end well whatever happens.

From memory one call of the training program is one epoch, unless something is to be done between
its steps. The network's own arrays change only between epochs, all together, so that they always
hold the state of the last finished one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError, StriateError
from striate.nn.trace import BATCH_COUNT
from striate.optim.extend import AVERAGE
from striate.train.callback import watches_steps
from striate.train.checkpoint import (
    Checkpoint,
    OutputFolder,
    copy_arrays,
    require_same_settings,
    save_checkpoint,
)
from striate.train.feed import Part, make_feed
from striate.train.interrupt import InterruptGuard, Pause
from striate.train.judge import Judge
from striate.train.log import TrainingLog
from striate.train.order import epoch_order
from striate.train.plan import Plan, settings_of
from striate.train.predict import output_shape, training_graph
from striate.train.progress import Display, make_display
from striate.train.run import Interrupted, Record, Run
from striate.train.samples import AnySamples

if TYPE_CHECKING:
    from striate.nn.module import Module
    from striate.program.result import TrainResult

Float32 = NDArray[np.float32]


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
        self,
        net: Module,
        train: AnySamples,
        held_out: AnySamples | None,
        plan: Plan,
        folder: Path | None,
    ) -> None:
        from striate.program import build_training  # late: import striate stays light

        self.net, self.train, self.plan = net, train, plan
        self.graph = training_graph(net.train(), train.shape)
        self.settings = settings_of(plan, train, held_out, self.graph.to_json())
        self.folder = None if folder is None else OutputFolder(folder)
        self.program = build_training(
            self.graph,
            loss=plan.loss,
            rule=plan.optimizer.rule(),
            backend=plan.backend,
            batch_size=plan.batch_size,
        )
        output = output_shape(self.graph)
        self.classifies = plan.loss.classifies(output)
        soft = plan.augment is not None and plan.augment.soft
        self.shares = None if plan.loss.plain or soft else plan.loss.shares(output, train.targets)
        self.feed = make_feed(
            self.program, train, plan.batch_size, plan.seed, plan.augment, plan.classes
        )
        self.arrays = net.graph_arrays(self.graph)
        counters = [k for name, k in net.named_buffers() if name.endswith(BATCH_COUNT)]
        self.counters = [(array, int(array)) for array in counters]
        for name, array in self.arrays.items():
            self.program.parameters[name][...] = array
            if f"{AVERAGE}:{name}" in self.program.state:
                self.program.state[f"{AVERAGE}:{name}"][...] = array
        carried = plan.optimizer_state
        self.earlier = 0 if carried is None else carried.steps
        if carried is not None and self.earlier:
            copy_arrays(self.program.state, carried.arrays, Path("optimizer_state"))
        self.judge = None if held_out is None else Judge(net, held_out, plan)
        self.best: Mapping[str, Float32] = {}
        self.course = Run(plan.epochs)
        self.guard = InterruptGuard()
        self.part = Part()
        self.log: TrainingLog | None = None
        self.saved_at = time.monotonic()

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.train) // self.plan.batch_size)

    def run(self, resume: bool) -> Run:
        """All epochs that are left; the network is in evaluation mode afterwards."""
        try:
            with self.guard:
                self._prepare(resume)
                for callback in self.plan.callbacks:
                    callback.on_start(self.course, self.net)
                self._epochs()
                self._end()
                self.guard.check()
        except KeyboardInterrupt:
            raise Interrupted(self.course) from None
        finally:
            self.feed.close()
            self.net.eval()
            for callback in self.plan.callbacks:
                callback.on_end(self.course, self.net)
        return self.course

    # ---- beginning ---------------------------------------------------------------------------

    def _prepare(self, resume: bool) -> None:
        if self.folder is not None:
            if resume:
                self._restore(self.folder)
            else:
                self.folder.forget_step()
            self.folder.write_settings({**self.settings, "epochs": self.plan.epochs})
        if self.plan.log is not None:
            done = len(self.course.history) * self.steps_per_epoch + self.part.steps
            self.log = TrainingLog(self.plan.log, done)

    def _restore(self, folder: OutputFolder) -> None:
        checkpoint, path = folder.resumable(), folder.checkpoint
        if checkpoint is not None:
            self._take(checkpoint, path)
            done = len(checkpoint.history)
            if done > self.plan.epochs:
                raise OptionError(
                    f"resume: expected epochs of at least {done}, which {path} has done; got "
                    f"epochs={self.plan.epochs}."
                )
            for record in checkpoint.history:
                self.course.add(record)
            self.best = dict(checkpoint.best)
            with self.guard.whole():
                self._to_net(self._judged(), done)
        unfinished = folder.unfinished(len(self.course.history))
        if unfinished is not None:
            self._take(unfinished, folder.step)
            found = unfinished.epoch
            self.part.steps = unfinished.step
            self.part.losses = [found["losses"]]
            self.part.correct = [found["correct"] > 0]
            self.part.norms = [found["gradient_norms"]]

    def _take(self, checkpoint: Checkpoint, path: Path) -> None:
        require_same_settings(path, checkpoint.settings, self.settings)
        copy_arrays(self.program.parameters, checkpoint.parameters, path)
        copy_arrays(self.program.state, checkpoint.state, path)

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
        began, waited = time.perf_counter(), self.feed.waited
        epoch, skipped = len(self.course.history) + 1, self.part.steps
        means = self._learn(epoch, display)
        if means is None:
            return True
        seconds = max(time.perf_counter() - began, 1e-9)
        record: Record = {"epoch": epoch, **means, **self._validation()}
        record["lr"] = self._rate(epoch * self.steps_per_epoch - 1)
        record["seconds"] = time.perf_counter() - began
        seen = len(self.train) - min(skipped * self.plan.batch_size, len(self.train))
        record["images_per_second"] = seen / seconds
        if self.feed.streams:
            record["loader_share"] = min((self.feed.waited - waited) / seconds, 1.0)
        with self.guard.whole():
            self._to_net(self._judged(), epoch)
            is_best = self.course.add(record)
            if is_best and self.plan.early_stopping is not None:
                self.best = {name: array.copy() for name, array in self.arrays.items()}
        self.part = Part()
        self._save(is_best)
        display.finished(record)
        if self.log is not None:
            self.log.epoch(epoch * self.steps_per_epoch, record)
        wishes = [callback.on_epoch(record, self.net) for callback in self.plan.callbacks]
        return any(wish is True for wish in wishes)

    def _learn(self, epoch: int, display: Display) -> Record | None:
        """The steps of an epoch that are left; None where a callback wants to end."""
        steps = self.steps_per_epoch
        self.order = self.train.index[epoch_order(self.plan.seed, epoch, len(self.train))]
        self.feed.begin(epoch, self.order, self.part.steps)
        display.step(epoch, self.part.steps)
        while self.part.steps < steps:
            before = self.part.steps
            self._stretch(epoch, display)
            if self.guard.stop.is_set():
                self._save_part()
                raise KeyboardInterrupt
            if self._call_after_steps(epoch, before):
                return None
            if self.part.steps < steps and self._is_due(before):
                self._save_part()
        self._require_finite_parameters(epoch)
        display.step(epoch, steps)
        return self._means(self.part.result())

    def _stretch(self, epoch: int, display: Display) -> None:
        """Steps up to the next one after which something is to be done."""
        plan, start = self.plan, self.part.steps
        first = (epoch - 1) * self.steps_per_epoch + start
        last = first - start + self._next_stop(start)
        before = self.earlier
        numbers = [plan.optimizer.hyper(before + s, self._rate(s)) for s in range(first, last)]
        pause = Pause(self.guard, self.time_is_over)

        def watch(result: TrainResult) -> None:
            """Show the running epoch's means; end it early where its losses have gone astray."""
            whole = self.part.result(result)
            if not np.isfinite(result.losses).all():
                pause.set()
            elif whole.losses.size:
                display.step(epoch, whole.steps, self._means(whole))
                self._log_steps(epoch, whole)

        with np.errstate(over="ignore", invalid="ignore"):  # found below, with words
            result = self.feed.run(start, np.array(numbers, np.float32), first, watch, pause)
        self._require_finite(result, epoch)
        self.part.add(result)
        self._log_steps(epoch, self.part.result())

    def _next_stop(self, start: int) -> int:
        """The step of the epoch after which the program has to come back."""
        every = [callback.every for callback in self.plan.callbacks if watches_steps(callback)]
        if self.folder is not None and self.plan.save_steps is not None:
            every.append(self.plan.save_steps)
        return min([self.steps_per_epoch, *((start // k + 1) * k for k in every)])

    def _means(self, result: TrainResult, first: int = 0) -> Record:
        """Loss and accuracy of steps of the epoch, the first of them being `first`."""
        start = first * self.plan.batch_size
        losses, correct = result.losses[start:], result.correct[start:]
        if self.shares is None:
            shares = np.ones(losses.size)
        else:
            shares = self.shares[self.order[start : start + losses.size]]
        record = {"loss": float(losses.sum(dtype=np.float64) / _or_one(shares.sum()))}
        if self.classifies:
            counted = shares > 0
            record["accuracy"] = float(correct[counted].sum() / _or_one(counted.sum()))
        if result.gradient_norms.size == result.steps > first:
            record["gradient_norm"] = float(result.gradient_norms[first:].mean(dtype=np.float64))
        return record

    def _rate(self, step: int) -> float:
        plan, steps = self.plan, self.steps_per_epoch
        history = self.course.history[: step // steps]
        return plan.schedule.after(history, plan.optimizer.lr, step, plan.epochs * steps, steps)

    def _validation(self) -> Record:
        return {} if self.judge is None else self.judge.record(self._judged(), self.guard.check)

    # ---- between steps -----------------------------------------------------------------------

    def _log_steps(self, epoch: int, result: TrainResult) -> None:
        """Log every window of steps that is complete."""
        log, before = self.log, (epoch - 1) * self.steps_per_epoch
        while log is not None and result.steps - (log.next_step - before) >= self.plan.log_steps:
            first = log.next_step - before
            last = (first // self.plan.log_steps + 1) * self.plan.log_steps
            log.next_step = before + last
            log.steps(before + last, self._step_record(epoch, result, first, last))
        if log is not None and result.steps == self.steps_per_epoch:
            log.next_step = before + result.steps

    def _step_record(self, epoch: int, result: TrainResult, first: int, last: int) -> Record:
        end = last * self.plan.batch_size
        cut = type(result)(last, result.losses[:end], result.correct[:end], _until(result, last))
        rate = self._rate((epoch - 1) * self.steps_per_epoch + last - 1)
        return {"epoch": epoch, **self._means(cut, first), "lr": rate}

    def _call_after_steps(self, epoch: int, before: int) -> bool:
        """Call who wants to know of steps; True where one wants to end the training."""
        done, wishes = self.part.steps, []
        for callback in self.plan.callbacks:
            if not watches_steps(callback) or done // callback.every == before // callback.every:
                continue
            first = max(done - callback.every, 0)
            record = self._step_record(epoch, self.part.result(), first, done)
            step = (epoch - 1) * self.steps_per_epoch + done
            wishes.append(callback.on_step({"step": step, **record}, self.net))
        return any(wish is True for wish in wishes)

    def _is_due(self, before: int) -> bool:
        """Whether a checkpoint is to be written after the steps since `before`."""
        every = self.plan.save_steps
        if every is not None and self.part.steps // every > before // every:
            return True
        return self.time_is_over()

    def time_is_over(self) -> bool:
        """Whether the last checkpoint is older than it may be."""
        minutes = self.plan.save_minutes
        if self.folder is None or minutes is None:
            return False
        return time.monotonic() - self.saved_at >= 60 * minutes

    # ---- what must not be --------------------------------------------------------------------

    def _require_finite(self, result: TrainResult, epoch: int) -> None:
        wrong = np.flatnonzero(~np.isfinite(result.losses))
        if wrong.size:
            step = self.part.steps + int(wrong[0]) // self.plan.batch_size
            self._diverged(f"{result.losses[wrong[0]]}", epoch, step)

    def _require_finite_parameters(self, epoch: int) -> None:
        if not all(np.isfinite(array).all() for array in self.program.parameters.values()):
            self._diverged("parameters that are not finite", epoch, self.part.steps - 1)

    def _diverged(self, found: str, epoch: int, step: int) -> None:
        rate = self._rate((epoch - 1) * self.steps_per_epoch + step)
        kept = f"epoch {epoch - 1}" if epoch > 1 else "before the training"
        raise StriateError(
            f"fit: expected a finite loss; got {found} in epoch {epoch} at step {step + 1} of "
            f"{self.steps_per_epoch} (lr={rate:g}). Try a learning rate of {rate / 10:g}, or "
            f"a warm-up; the state of {kept} is kept."
        )

    # ---- keeping -----------------------------------------------------------------------------

    def _judged(self) -> Mapping[str, Float32]:
        """The parameters that are judged and kept: the average, where there is one."""
        state, parameters = self.program.state, self.program.parameters
        return {name: state.get(f"{AVERAGE}:{name}", array) for name, array in parameters.items()}

    def _to_net(self, parameters: Any, epoch: int) -> None:
        """Give the network the state that it has after an epoch."""
        for name, array in self.arrays.items():
            array[...] = parameters[name]
        for counter, before in self.counters:
            counter[...] = before + epoch * self.steps_per_epoch

    def _checkpoint(self, part: TrainResult | None = None) -> Checkpoint:
        epoch: dict[str, NDArray[Any]] = {}
        if part is not None:
            epoch = {"losses": part.losses, "gradient_norms": part.gradient_norms}
            epoch["correct"] = part.correct.astype(np.float32)
        return Checkpoint(
            self.program.parameters,
            self.program.state,
            self.best if part is None else {},
            self.course.history,
            self.settings,
            epoch,
            0 if part is None else part.steps,
        )

    def _save(self, is_best: bool) -> None:
        self.saved_at = time.monotonic()
        if self.folder is None:
            return
        if is_best:
            self.folder.write_model(self.net, "best")
        self.folder.finish_epoch(self._checkpoint())
        self.folder.write_model(self.net)
        self.folder.write_metrics(self.course.history)

    def _save_part(self) -> None:
        """Write the checkpoint within an epoch."""
        if self.folder is not None and self.part.steps:
            save_checkpoint(self.folder.step, self._checkpoint(self.part.result()))
        self.saved_at = time.monotonic()

    def _end(self) -> None:
        """Put back the best epoch, where that was asked for; write what may be missing."""
        if self.plan.early_stopping is not None and self.best:
            with self.guard.whole():
                self._to_net(self.best, self.course.best_epoch or 0)
                self.course.restored = True
        if self.folder is not None and self.course.history:
            self.folder.write_model(self.net)
            self.folder.write_metrics(self.course.history)
        carried = self.plan.optimizer_state
        if carried is not None:
            carried.steps = self.earlier + len(self.course.history) * self.steps_per_epoch
            carried.arrays = {name: array.copy() for name, array in self.program.state.items()}


def _until(result: TrainResult, last: int) -> Float32:
    return result.gradient_norms[:last]


def _or_one(count: float) -> float:
    """A number to divide by: 1 where nothing was counted."""
    return float(count) or 1.0
