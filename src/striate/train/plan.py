"""What a training was asked to do, and which of it the trained bits depend on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.augment import Compose
from striate.graph.losses import TrainingLoss
from striate.optim import Optimizer, Schedule
from striate.optim.extend import GradientNorm
from striate.train.callback import Callback
from striate.train.checkpoint import Settings
from striate.train.judge import Metric
from striate.train.samples import AnySamples


@dataclass
class OptimizerState:
    """What an optimiser remembers between two trainings of a network: an empty one at first.

    Args:
        steps: how many steps were done.
        arrays: its averages, by state and parameter.
    """

    steps: int = 0
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a training was asked to do; the names are those of `fit`."""

    epochs: int
    batch_size: int
    optimizer: Optimizer
    schedule: Schedule
    loss: TrainingLoss
    judge: TrainingLoss
    seed: int
    early_stopping: int | None
    backend: str | None
    progress: bool
    callbacks: tuple[Callback, ...]
    augment: Compose | None = None
    classes: tuple[str, ...] = ()
    metrics: dict[str, Metric] = field(default_factory=dict)
    log: Path | None = None
    log_steps: int = 20
    save_steps: int | None = None
    save_minutes: float | None = None
    optimizer_state: OptimizerState | None = None


def settings_of(plan: Plan, train: AnySamples, held_out: AnySamples | None, graph: Any) -> Settings:
    """All that the trained bits depend on; two trainings with equal settings give equal bits."""
    from striate.program import backend_name

    text = json.dumps(graph, sort_keys=True)
    optimizer = plan.optimizer
    while isinstance(optimizer, GradientNorm):  # changes nothing
        optimizer = optimizer.optimizer
    settings: Settings = {
        "network": f"{zlib.crc32(text.encode()):08x}",
        "batch_size": plan.batch_size,
        "optimizer": optimizer.settings(),
        "schedule": plan.schedule.settings(),
        "loss": plan.loss.settings(),
        "seed": plan.seed,
        "early_stopping": plan.early_stopping,
        "backend": backend_name(plan.backend),
        "image_shape": list(train.shape),
        "training_samples": len(train),
        "training_data": train.fingerprint(),
        "validation_samples": 0 if held_out is None else len(held_out),
        "validation_data": "" if held_out is None else held_out.fingerprint(),
    }
    if plan.augment is not None:
        settings["augmentation"] = json.loads(json.dumps(plan.augment.settings()))
    if plan.schedule.needs_end:
        settings["epochs"] = plan.epochs
    return settings
