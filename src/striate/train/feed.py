"""How a training program gets its samples: whole epochs from memory, or batch after batch.

A feed runs any stretch of an epoch's steps. From arrays in memory a stretch is one native call;
batches of a loader (streamed or augmented) are given to the program step by step, while the
loader's threads prepare the next ones. The bits are the same either way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.augment import Compose
from striate.data.loader import Loader
from striate.data.source import Source
from striate.errors import StriateError
from striate.program.result import TrainResult
from striate.train.order import Index
from striate.train.samples import AnySamples, Samples

if TYPE_CHECKING:
    from striate.program import Training

Watch = Callable[[TrainResult], None]
_REPORT_SECONDS = 0.1


@dataclass
class Part:
    """What the steps of the running epoch have brought so far."""

    steps: int = 0
    losses: list[NDArray[np.float32]] = field(default_factory=list)
    correct: list[NDArray[np.bool_]] = field(default_factory=list)
    norms: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, result: TrainResult) -> None:
        """Append what further steps have brought."""
        self.steps += result.steps
        self.losses.append(result.losses)
        self.correct.append(result.correct)
        self.norms.append(result.gradient_norms)

    def result(self, more: TrainResult | None = None) -> TrainResult:
        """All of it as one result, with that of a running stretch behind it."""
        pieces = [] if more is None else [more]
        return TrainResult(
            self.steps + sum(piece.steps for piece in pieces),
            np.concatenate([_NOTHING, *self.losses, *(p.losses for p in pieces)]),
            np.concatenate([_NOTHING > 0, *self.correct, *(p.correct for p in pieces)]),
            np.concatenate([_NOTHING, *self.norms, *(p.gradient_norms for p in pieces)]),
        )


_NOTHING = np.zeros(0, np.float32)


class MemoryFeed:
    """Stretches of steps over arrays in memory, each one call of the program."""

    waited = 0.0
    streams = False

    def __init__(self, program: Training, samples: Samples, batch_size: int, seed: int) -> None:
        self.program, self.samples = program, samples
        self.batch_size, self.seed = batch_size, seed
        self.order: Index = samples.index[:0]

    def begin(self, epoch: int, order: Index, start: int) -> None:
        """An epoch in this order of rows, from step `start` on."""
        self.order = order

    def run(
        self,
        start: int,
        hyper: NDArray[np.float32],
        first_step: int,
        watch: Watch,
        stop: threading.Event,
    ) -> TrainResult:
        """The steps from `start` on, one for each row of `hyper`."""
        size = self.batch_size
        return self.program.run(
            self.samples.images,
            self.samples.targets,
            self.order[start * size : (start + len(hyper)) * size],
            batch_size=size,
            hyper=hyper,
            first_step=first_step,
            seed=self.seed,
            progress=lambda _: watch(self.program.so_far()),
            stop=stop,
        )

    def close(self) -> None:
        pass


class LoaderFeed:
    """Steps over the batches of a loader, each one call of the program."""

    streams = True

    def __init__(
        self,
        program: Training,
        samples: AnySamples,
        batch_size: int,
        seed: int,
        augment: Compose | None,
        classes: tuple[str, ...],
    ) -> None:
        self.program, self.batch_size, self.seed = program, batch_size, seed
        self.targets, self.augment = samples.targets, augment
        self.source: Source = samples.source(classes)
        self.order: Index = samples.index[:0]
        self.loader: Loader | None = None
        self._waited = 0.0

    @property
    def waited(self) -> float:
        """Seconds for which the program had no batch."""
        return self._waited + (self.loader.waited if self.loader is not None else 0.0)

    def begin(self, epoch: int, order: Index, start: int) -> None:
        """An epoch in this order of samples, from step `start` on."""
        self.close()
        self.order = order
        self.loader = Loader(
            self.source,
            order,
            self.batch_size,
            augment=self.augment,
            seed=self.seed,
            epoch=epoch,
            start=start,
        )

    def run(
        self,
        start: int,
        hyper: NDArray[np.float32],
        first_step: int,
        watch: Watch,
        stop: threading.Event,
    ) -> TrainResult:
        """The steps from `start` on, one for each row of `hyper`."""
        part, reported = Part(), time.monotonic()
        while part.steps < len(hyper) and not stop.is_set():
            part.add(self._step(start + part.steps, hyper[part.steps], first_step + part.steps))
            if time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                watch(part.result())
        return part.result()

    def _step(self, number: int, hyper: NDArray[np.float32], step: int) -> TrainResult:
        if self.loader is None:
            raise StriateError("training: the loader was closed.")
        images, targets = next(self.loader)
        if not self.loader.soft:  # as they were checked; the source's own may have another form
            rows = self.order[number * self.batch_size : (number + 1) * self.batch_size]
            targets = self.targets[rows]
        return self.program.run(
            images,
            targets,
            np.arange(len(images)),
            batch_size=self.batch_size,
            hyper=hyper[np.newaxis],
            first_step=step,
            seed=self.seed,
        )

    def close(self) -> None:
        """End the loader's threads."""
        if self.loader is not None:
            self._waited += self.loader.waited
            self.loader.close()
            self.loader = None


Feed = MemoryFeed | LoaderFeed


def make_feed(
    program: Training,
    samples: AnySamples,
    batch_size: int,
    seed: int,
    augment: Compose | None = None,
    classes: Any = (),
) -> Feed:
    """The feed for these samples: from memory where they are there and stay as they are."""
    if isinstance(samples, Samples) and augment is None:
        return MemoryFeed(program, samples, batch_size, seed)
    return LoaderFeed(program, samples, batch_size, seed, augment, tuple(map(str, classes or ())))
