"""What the estimators share: their parameters, the way from scikit-learn's data to a training.

A subclass says what its targets are; the arrays are prepared in `arrays`, the network in `nets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from striate.errors import OptionError
from striate.graph.losses import TrainingLoss
from striate.nn.module import Module
from striate.optim import Optimizer, Schedule, make_optimizer, make_schedule
from striate.settings import within
from striate.sklearn.arrays import (
    Array,
    Chosen,
    Float32,
    Float64,
    Shape,
    choose,
    find_scale,
    flat,
    image_shape,
    unscaled,
)
from striate.sklearn.nets import Net, make_net, require_outputs, thread_count
from striate.train.fit import fit
from striate.train.order import split
from striate.train.plan import OptimizerState
from striate.train.run import Run

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6 it was a method

    def validate_data(estimator: Any, /, *arrays: Any, **options: Any) -> Any:
        """Arrays checked, and their features compared with those of the fit."""
        return estimator._validate_data(*arrays, **options)


_FLAT_BATCH, _IMAGE_BATCH = 64, 256
_SEEDS = 2**31 - 1


class NetEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators that hold a network; not for use by itself."""

    def __init__(
        self,
        net: Net = None,
        *,
        input_shape: tuple[int, ...] | None = None,
        standardize: bool = True,
        epochs: int = 20,
        batch_size: int = 32,
        optimizer: str | Optimizer = "adam",
        learning_rate: float | None = None,
        schedule: str | Schedule = "cosine",
        augment: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.net = net
        self.input_shape = input_shape
        self.standardize = standardize
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # ---- data --------------------------------------------------------------------------------

    def _checked(self, X: Any, *y: Any, fresh: bool, **options: Any) -> Any:
        """X as rows of finite numbers (and y), with the shape of a sample known or compared."""
        rows, found = flat(X)
        checked = validate_data(self, rows, *y, reset=fresh, dtype="numeric", **options)
        features = (checked[0] if y else checked).shape[1]
        where = type(self).__name__
        if fresh:
            self.input_shape_: Shape = image_shape(self.input_shape, found, features, where)
        else:
            image_shape(self.input_shape_, found, features, where)
        return checked

    def _weights(self, sample_weight: Any, X: Array) -> Float64 | None:
        if sample_weight is None:
            return None
        weights = np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64))
        if (weights < 0).any() or not weights.any():
            raise OptionError(
                f"{type(self).__name__}: expected weights of at least zero, and one above; got "
                f"the least {weights.min():g}, the greatest {weights.max():g}."
            )
        return weights

    # ---- training ----------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "net_")

    def _start(self, X: Array, y: Array, chosen: Chosen, outputs: int) -> None:
        """A fresh network, and the scale of its input."""
        shape = self.input_shape_
        self._seed = int(check_random_state(self.random_state).randint(_SEEDS))
        net = self._make_net(outputs)
        self.scale_ = find_scale(X, shape, chosen) if self.standardize else unscaled(shape)
        self.net_: Module = net
        self._memory: tuple[Any, OptimizerState | None] = (None, None)
        self.n_iter_ = 0
        self.history_: list[dict[str, Any]] = []

    def _make_net(self, outputs: int) -> Module:
        where, shape = type(self).__name__, self.input_shape_
        net = make_net(self.net, shape, outputs, self._seed, where)
        require_outputs(net, shape, outputs, where)
        return net

    def _train(
        self, X: Array, y: Array, weights: Float64 | None, outputs: int, *, fresh: bool, part: bool
    ) -> None:
        """Train on all samples for `epochs`, or where it is a part of the data, once.

        Args:
            X: (n, features).
            y: (n,) class numbers, or (n, k) numbers.
            weights: (n,) or None.
            outputs: of the network.
            fresh: whether to begin with a new network.
            part: whether more data follows.
        """
        chosen = choose(X, y, weights)
        if fresh:
            self._start(X, y, chosen, outputs)
        images = self.scale_.apply(X, self.input_shape_, chosen.rows)
        targets, loss = self._targets(y[chosen.rows], chosen.weights)
        data, held_out, patience = (images, targets), None, None
        if self.early_stopping and not part:
            stay, off = split(y[chosen.rows], self.validation_fraction, self._seed)
            data, held_out = (images[stay], targets[stay]), (images[off], targets[off])
            patience = self.n_iter_no_change
        if isinstance(loss, TrainingLoss):
            # A batch's loss is divided by its size, not by its weights: every sample then has the
            # influence that its weight says, in whatever company.
            loss = replace(loss, times=1 / min(self.batch_size, len(data[0])))
        optimizer = self._optimizer()
        state = self._remembered(optimizer) if part or self.warm_start else None
        with within(threads=thread_count(self.n_jobs)):
            run = fit(
                self.net_,
                data,
                validation=held_out,
                epochs=1 if part else self.epochs,
                batch_size=self.batch_size,
                optimizer=optimizer,
                schedule="constant" if part else self._schedule(),
                loss=loss,  # type: ignore[arg-type]
                augment=self.augment,
                seed=self._seed + self.n_iter_,
                progress=bool(self.verbose),
                early_stopping=patience,
                optimizer_state=state,
            )
        self._note(run)

    def _targets(self, y: Array, weights: Float64 | None) -> tuple[Array, str | TrainingLoss]:
        """The targets of a training, with the weights in them, and the loss that reads them."""
        raise NotImplementedError

    def _optimizer(self) -> Optimizer:
        given, rate = self.optimizer, self.learning_rate
        if isinstance(given, str):
            return make_optimizer(given, rate)
        if not isinstance(given, Optimizer):
            raise OptionError(
                f"{type(self).__name__}: expected optimizer as a name or one of striate.optim; "
                f"got {given!r}."
            )
        return given if rate is None else replace(given, lr=rate)

    def _remembered(self, optimizer: Optimizer) -> OptimizerState:
        """What the optimiser remembers of earlier parts; nothing where it is another one now."""
        kind, state = getattr(self, "_memory", (None, None))
        if state is None or kind != optimizer.rule().state:
            state = OptimizerState()
        self._memory = (optimizer.rule().state, state)
        return state

    def _schedule(self) -> Schedule:
        return make_schedule(self.schedule) if isinstance(self.schedule, str) else self.schedule

    def _note(self, run: Run) -> None:
        self.n_iter_ += len(run.history)
        self.history_ = [*self.history_, *run.history]
        self.loss_curve_: list[float] = [record["loss"] for record in self.history_]

    # ---- use ---------------------------------------------------------------------------------

    def _in_use(self) -> Module:
        """The network that samples go through."""
        return self.net_

    def _outputs(self, X: Any) -> Float32:
        """What the network gives for each sample, (n, …)."""
        check_is_fitted(self)
        rows = self._checked(X, fresh=False)
        net = self._in_use()
        with within(threads=thread_count(self.n_jobs)):
            return np.concatenate([net(batch)[:count] for batch, count in self._batches(rows)])

    def _batches(self, rows: Array) -> Iterator[tuple[Float32, int]]:
        """Scaled batches, and how many of each are samples.

        Flat samples come in batches of one size, filled up with zeros: so a sample's output does
        not depend on its company, to the last bit. For images that would cost too much.
        """
        size = _FLAT_BATCH if len(self.input_shape_) == 1 else _IMAGE_BATCH
        for start in range(0, len(rows), size):
            batch = self.scale_.apply(rows[start : start + size], self.input_shape_)
            count = len(batch)
            if len(self.input_shape_) == 1 and count < size:
                room: NDArray[np.float32] = np.zeros((size, *batch.shape[1:]), np.float32)
                room[:count] = batch
                batch = room
            yield batch, count
