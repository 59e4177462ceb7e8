"""`fit`: train a network on arrays in memory.

This file takes the arguments apart, checks them against each other and against the data, and
puts the parts together. The loop over the epochs is in `trainer`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.errors import OptionError, ShapeError
from striate.graph.losses import as_loss
from striate.optim import Adam, Constant, Optimizer, Schedule, make_optimizer, make_schedule
from striate.train.losses import training_loss
from striate.train.order import split
from striate.train.predict import network_graph
from striate.train.run import Record, Run
from striate.train.samples import Samples, as_samples, fit_to_output
from striate.train.trainer import Plan, Trainer

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
    seed: int = 0,
    progress: bool = True,
    callbacks: Iterable[Callable[[Record, Module], object]] = (),
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    early_stopping: int | None = None,
    backend: str | None = None,
) -> Run:
    """Train a network: in each step, `p ← update(p, ∂/∂p mean over the batch of the losses)`.

    The same seed gives the same weights, on any number of threads, interrupted and resumed or
    not. Afterwards the network is in evaluation mode and holds the trained parameters: those of
    the last finished epoch, or with `early_stopping` those of the best. They stay so too where
    training ends by an error or by Ctrl-C.

    Args:
        net: the network; its parameters are changed in place.
        data: a data set, or a pair of images (n, c, h, w) and targets: labels (n,), integers, for
            cross_entropy; (n, *out), the shape of the network's output, for mse; what the loss
            says for others.
        validation: data to judge each epoch by; or the share of `data` that is split off for it,
            above 0 and below 1, the same share of every class.
        epochs: how many times each sample is used, at least 1.
        batch_size: samples of a step; the last batch of an epoch may be smaller.
        optimizer: one of `striate.optim`, or its name; Adam by default.
        schedule: the course of the learning rate, or its name; constant by default.
        loss: "cross_entropy", "mse", or a loss of `striate.nn`, as nn.BCEWithLogitsLoss(); its
            mean (or sum) over each batch is what is minimised.
        seed: of the order of the samples, of dropout and of the split; at least 0.
        progress: whether to show the course: live in a terminal, else a line for each epoch.
        callbacks: functions of (the epoch's record, the network), called after each epoch; one
            that returns True ends the training.
        out: a folder for checkpoint, model, best model and metrics, written after each epoch.
        resume: go on from the checkpoint in `out`.
        early_stopping: end after so many epochs without a new best; needs `validation`.
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
        optimizer=_optimizer(optimizer),
        schedule=_schedule(schedule),
        loss=as_loss("mse"),  # until the network's output is known
        seed=_at_least("seed", seed, 0),
        early_stopping=None
        if early_stopping is None
        else _at_least("early_stopping", early_stopping, 1),
        backend=backend,
        progress=progress,
        callbacks=tuple(callbacks),
    )
    _check_together(plan, validation, out, resume)
    train, held_out = _parts(data, validation, plan.seed)
    output = _output_shape(net, train)
    plan = replace(plan, loss=training_loss(loss, output, train.targets))
    train = fit_to_output(train, output, plan.loss, "fit")
    if held_out is not None:
        _require_like(train, held_out)
        held_out = fit_to_output(held_out, output, plan.loss, "validation")
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
    if plan.early_stopping is not None and validation is None:
        raise OptionError(
            f"fit: expected validation data with early_stopping={plan.early_stopping}; got none. "
            "Use validation=0.1 to split off a tenth."
        )


# ---- data ------------------------------------------------------------------------------------


def _parts(data: Any, validation: Any, seed: int) -> tuple[Samples, Samples | None]:
    samples = as_samples(data, "fit")
    if validation is None:
        return samples, None
    if isinstance(validation, (int, float, np.floating)):
        stay, off = split(samples.targets, float(validation), seed)
        return samples.only(stay), samples.only(off)
    return samples, as_samples(validation, "validation")


def _output_shape(net: Module, samples: Samples) -> tuple[int, ...]:
    """The network's output for these images; raises ShapeError where they do not fit."""
    graph = network_graph(net, samples.images.shape[1:])
    if not graph.parameters:
        raise OptionError(
            "fit: expected a network with parameters; got none to train. Add a layer, as nn.Linear."
        )
    return graph.nodes[graph.outputs[0]].shape


def _require_like(train: Samples, held_out: Samples) -> None:
    shape, other = train.images.shape[1:], held_out.images.shape[1:]
    if shape != other:
        raise ShapeError(f"validation: expected images {shape}, as for training; got {other}.")
