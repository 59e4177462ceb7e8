"""`fit`: train a network on arrays in memory, or on a source of batches.

This file takes the arguments apart, checks them against each other and against the data, and
puts the parts together. The loop over the epochs is in `trainer`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.data.augment import Compose, as_augmentation
from striate.errors import OptionError, ShapeError
from striate.graph.losses import TrainingLoss, as_loss
from striate.optim import Adam, Constant, Optimizer, Schedule, make_optimizer, make_schedule
from striate.optim.extend import Average, ClipNorm, ClipValue, GradientNorm
from striate.train.callback import Callback, as_callbacks
from striate.train.judge import Metric, as_metrics
from striate.train.losses import training_loss
from striate.train.order import split
from striate.train.plan import OptimizerState, Plan
from striate.train.predict import evaluation_graph, output_shape, training_graph
from striate.train.run import Record, Run
from striate.train.samples import AnySamples, Streamed, as_samples, fit_to_output
from striate.train.trainer import Trainer

if TYPE_CHECKING:
    from striate.nn.loss import Loss
    from striate.nn.module import Module

_MOST_SEED = 2**63


def fit(
    net: Module,
    data: Any,
    *,
    validation: Any = None,
    epochs: int,
    batch_size: int = 64,
    optimizer: Optimizer | str | None = None,
    schedule: Schedule | str | None = None,
    loss: str | Loss = "cross_entropy",
    label_smoothing: float = 0.0,
    augment: Any = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    ema: float | None = None,
    seed: int = 0,
    progress: bool = True,
    callbacks: Iterable[Callback | Callable[[Record, Module], object]] = (),
    metrics: Mapping[str, Metric] | Iterable[str] = (),
    log: str | os.PathLike[str] | None = None,
    log_steps: int = 20,
    out: str | os.PathLike[str] | None = None,
    save_steps: int | None = None,
    save_minutes: float | None = 5.0,
    resume: bool = False,
    early_stopping: int | None = None,
    optimizer_state: OptimizerState | None = None,
    backend: str | None = None,
) -> Run:
    """Train a network: in each step, `p ← update(p, ∂/∂p mean over the batch of the losses)`.

    The same seed gives the same weights, on any number of threads, interrupted and resumed or
    not, also where the process was killed in the middle of an epoch. Afterwards the network is in
    evaluation mode and holds the trained parameters: those of the last finished epoch, or with
    `early_stopping` those of the best. They stay so too where training ends by an error or by
    Ctrl-C.

    Arrays in memory are trained on natively, a whole epoch a call. A source (`striate.data`), and
    any data with `augment`, comes in batches that threads prepare while the network learns.

    Args:
        net: the network; its parameters are changed in place.
        data: a data set, or a pair of images (n, c, h, w) and targets: labels (n,), integers, for
            cross_entropy; (n, *out), the shape of the network's output, for mse; what the loss
            says for others. Or a source, as `striate.data` has them, of any size.
        validation: data to judge each epoch by; or the share of `data` that is split off for it,
            above 0 and below 1, the same share of every class.
        epochs: how many times each sample is used, at least 1.
        batch_size: samples of a step; the last batch of an epoch may be smaller.
        optimizer: one of `striate.optim`, or its name; Adam by default.
        schedule: the course of the learning rate, or its name; constant by default.
        loss: "cross_entropy", "mse", or a loss of `striate.nn`, as nn.BCEWithLogitsLoss(); its
            mean (or sum) over each batch is what is minimised.
        label_smoothing: the share of the target that is spread over all classes, from 0 to 1;
            for cross_entropy.
        augment: how images are changed while training: a text as "flip,crop4", a step, or a list
            of steps; see `striate.data.augmentation`.
        clip_norm: the longest gradient, as `optim.ClipNorm` has it.
        clip_value: the largest number in a gradient, as `optim.ClipValue` has it.
        ema: decay of a moving average of the weights, as `optim.Average` has it; the average is
            then what is judged, saved and left in the network.
        seed: of the order of the samples, of dropout, augmentation and the split; at least 0.
        progress: whether to show the course: live in a terminal, else a line for each epoch.
        callbacks: functions of (the epoch's record, the network), called after each epoch; one
            that returns True ends the training. Or `striate.train.Callback`s.
        metrics: more numbers for the validation: "top5" and the like, or a dict of functions of
            (outputs, targets) that give a number for each sample.
        log: a folder for TensorBoard event files and log.jsonl.
        log_steps: how many steps one entry of the log is the mean of.
        out: a folder for checkpoint, model, best model and metrics, written after each epoch.
        save_steps: write a checkpoint within an epoch too, after so many steps; needs `out`.
        save_minutes: the same after so many minutes; None for never.
        resume: go on from the checkpoint in `out`.
        early_stopping: end after so many epochs without a new best; needs `validation`.
        optimizer_state: what the optimiser remembers of an earlier training of this network; it is
            changed in place, so one `OptimizerState()` given to all of them makes them one.
        backend: "native" or "reference"; None takes the default.
    Returns:
        The epochs' records, the best epoch, and why the training ended.
    Raises:
        ShapeError: the images or targets do not fit the network.
        DataError: the data is empty, has NaN, or labels that the network has no output for.
        OptionError: an argument is out of its range, or the settings differ on resuming.
        FileError, ModelError: `out` cannot be written, or its checkpoint is damaged.
        StriateError: the loss became infinite or NaN.
        KeyboardInterrupt: Ctrl-C (an `Interrupted`, with the run so far).

    >>> import numpy as np
    >>> from striate import nn
    >>> x = np.array([[[[0.0]]], [[[1.0]]]], np.float32)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    >>> run = fit(net, (x, np.array([0, 1])), epochs=2, progress=False, backend="reference")
    >>> len(run.history)
    2
    """
    plan = Plan(
        epochs=_at_least("epochs", epochs, 1),
        batch_size=_at_least("batch_size", batch_size, 1),
        optimizer=_extended(_optimizer(optimizer), clip_norm, clip_value, ema, log),
        schedule=_schedule(schedule),
        loss=as_loss("mse"),  # until the network's output is known
        judge=as_loss("mse"),
        seed=_at_least("seed", seed, 0),
        early_stopping=None
        if early_stopping is None
        else _at_least("early_stopping", early_stopping, 1),
        backend=backend,
        progress=progress,
        callbacks=as_callbacks(callbacks),
        classes=tuple(map(str, getattr(data, "classes", ()))),
        metrics=as_metrics(metrics),
        log=None if log is None else Path(log),
        log_steps=_at_least("log_steps", log_steps, 1),
        save_steps=None if save_steps is None else _at_least("save_steps", save_steps, 1),
        save_minutes=save_minutes,
        optimizer_state=optimizer_state,
    )
    _check_together(plan, validation, out, resume)
    train, held_out = _parts(data, validation, plan.seed)
    output = output_shape(evaluation_graph(net, train.shape, "training"))
    learned = output_shape(training_graph(net, train.shape))
    plan = replace(plan, augment=as_augmentation(augment, train.source(plan.classes)))
    plan = _with_losses(plan, _smoothed(loss, label_smoothing), (learned, output), train)
    train = fit_to_output(train, output, plan.judge, "fit")
    if held_out is not None:
        _require_like(train, held_out)
        held_out = fit_to_output(held_out, output, plan.judge, "validation")
        held_out = _as_judged(held_out, plan.augment)
    folder = None if out is None else Path(out)
    trainer = Trainer(net, train, held_out, plan, folder)
    return trainer.run(resume)


# ---- arguments -------------------------------------------------------------------------------


def _at_least(name: str, value: Any, least: int) -> int:
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or not least <= value.__index__() < _MOST_SEED:
        raise OptionError(
            f"fit: expected a whole number of at least {least}; got {name}={value!r}."
        )
    return int(value)


def _optimizer(value: Any) -> Optimizer:
    if value is None:
        return Adam()
    if isinstance(value, str):
        return make_optimizer(value)
    if not isinstance(value, Optimizer):
        raise OptionError(
            f"fit: expected optimizer as striate.optim.Adam(lr=0.001) or a name; got {value!r}."
        )
    return value


def _extended(
    optimizer: Optimizer,
    clip_norm: float | None,
    clip_value: float | None,
    ema: float | None,
    log: Any,
) -> Optimizer:
    if clip_value is not None:
        optimizer = ClipValue(optimizer, clip_value)
    if clip_norm is not None:
        optimizer = ClipNorm(optimizer, clip_norm)
    if ema is not None:
        optimizer = Average(optimizer, ema)
    if log is not None:
        optimizer = GradientNorm(optimizer)
    return optimizer


def _schedule(value: Any) -> Schedule:
    if value is None:
        return Constant()
    if isinstance(value, str):
        return make_schedule(value)
    if not isinstance(value, Schedule):
        raise OptionError(
            f"fit: expected schedule as striate.optim.Cosine() or a name; got {value!r}."
        )
    return value


def _check_together(plan: Plan, validation: Any, out: Any, resume: bool) -> None:
    if resume and out is None:
        raise OptionError(
            "fit: expected out=FOLDER with resume=True; got out=None. "
            "Name the folder of the training that is to go on."
        )
    if plan.save_steps is not None and out is None:
        raise OptionError(
            f"fit: expected out=FOLDER with save_steps={plan.save_steps}; got out=None. "
            "Name the folder for the checkpoints."
        )
    if plan.save_minutes is not None and not plan.save_minutes > 0:
        raise OptionError(
            f"fit: expected minutes above 0, or None; got save_minutes={plan.save_minutes!r}."
        )
    if plan.optimizer_state is not None and out is not None:
        raise OptionError(
            f"fit: expected no folder together with an optimizer_state; got out={str(out)!r}. "
            "Use resume=True to go on with what a folder has."
        )
    if plan.metrics and validation is None:
        raise OptionError(
            f"fit: expected validation data with metrics={list(plan.metrics)}; got none. "
            "Use validation=0.1 to split off a tenth."
        )
    if plan.early_stopping is not None and validation is None:
        raise OptionError(
            f"fit: expected validation data with early_stopping={plan.early_stopping}; got none. "
            "Use validation=0.1 to split off a tenth."
        )


# ---- the loss --------------------------------------------------------------------------------


def _smoothed(loss: Any, label_smoothing: float) -> Any:
    if not label_smoothing:
        return loss
    if loss != "cross_entropy":
        raise OptionError(
            f"fit: expected label_smoothing with loss='cross_entropy'; got "
            f"label_smoothing={label_smoothing!r}. Give it to the loss, as "
            "nn.CrossEntropyLoss(label_smoothing=0.1)."
        )
    from striate.nn.loss import CrossEntropyLoss

    return CrossEntropyLoss(label_smoothing=label_smoothing)


def _with_losses(
    plan: Plan, loss: Any, outputs: tuple[tuple[int, ...], tuple[int, ...]], train: AnySamples
) -> Plan:
    """The plan with what is minimised and what is judged by; they differ where labels are mixed.

    Args:
        outputs: the shape of the network's output in training, and in evaluation.
    """
    learned, output = outputs
    judge = training_loss(loss, output, train.targets)
    if plan.augment is None or not plan.augment.soft or train.targets.ndim > 1:
        if learned == output:
            return replace(plan, loss=judge, judge=judge)
        minimised = training_loss(loss, learned, train.targets)
        if minimised.target_shape(learned) != judge.target_shape(output):
            raise ShapeError(
                f"fit: expected a loss that takes the network's output in training, "
                f"{('n', *learned)}, and else, {('n', *output)}, with the same targets; got "
                f"{minimised.op}. For heads that learn the same labels write "
                "loss=nn.DeepSupervisionLoss(weights)."
            )
        return replace(plan, loss=minimised, judge=judge)
    from striate.nn.loss import CrossEntropyLoss

    module = CrossEntropyLoss() if isinstance(loss, (str, TrainingLoss)) else loss
    mixed = training_loss(module, learned, np.zeros((1, *output), np.float32))
    if not judge.classifies(output) or mixed.target_shape(learned) != output:
        raise OptionError(
            f"fit: expected labels and cross_entropy with an augmentation that mixes images; got "
            f"{judge.op}. Leave mixup and cutmix out."
        )
    classes = plan.classes if len(plan.classes) == output[0] else map(str, range(output[0]))
    return replace(plan, loss=mixed, judge=judge, classes=tuple(classes))


# ---- data ------------------------------------------------------------------------------------


def _as_judged(samples: AnySamples, augment: Compose | None) -> AnySamples:
    """Held-out samples with the steps of an augmentation that are not random."""
    fixed = None if augment is None else augment.evaluation()
    if fixed is None:
        return samples
    return Streamed(samples.source(), samples.targets, samples.index, fixed)


def _parts(data: Any, validation: Any, seed: int) -> tuple[AnySamples, AnySamples | None]:
    samples = as_samples(data, "fit")
    if validation is None:
        return samples, None
    if isinstance(validation, (int, float, np.floating)):
        stay, off = split(samples.targets, float(validation), seed)
        return samples.only(stay), samples.only(off)
    return samples, as_samples(validation, "validation")


def _require_like(train: AnySamples, held_out: AnySamples) -> None:
    shape, other = train.shape, held_out.shape
    if shape != other:
        raise ShapeError(f"validation: expected images {shape}, as for training; got {other}.")
