"""`lr_find`: a short training with a rising learning rate, to see which rates a network bears.

The network is left as it was. The picture of the curve is `striate.plot.learning_rates`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.augment import as_augmentation
from striate.errors import OptionError, StriateError
from striate.optim import Adam, Optimizer, make_optimizer
from striate.train.feed import Feed, make_feed
from striate.train.losses import training_loss
from striate.train.order import epoch_order
from striate.train.predict import output_shape, training_graph
from striate.train.samples import AnySamples, as_samples, fit_to_output

if TYPE_CHECKING:
    from striate.nn.loss import Loss
    from striate.nn.module import Module

Float64 = NDArray[np.float64]
_SMOOTHING = 0.9  # of the past in the running mean
_WORSE = 4.0  # times the lowest loss: the sweep ends
_FEWEST = 10  # steps before which it does not


@dataclass(frozen=True)
class LearningRates:
    """The losses of a sweep over learning rates.

    Attributes:
        rates: (steps,), the learning rate of each step, rising by the same factor.
        losses: (steps,), the loss of each step's batch.
        smoothed: (steps,), their running mean, `s ← 0.9·s + 0.1·loss`, corrected at its beginning.
    """

    rates: Float64
    losses: Float64
    smoothed: Float64

    @property
    def suggestion(self) -> float:
        """Where the smoothed loss falls fastest; at most a tenth of the rate at its minimum.

        >>> rates = np.geomspace(1e-4, 1, 40)
        >>> curve = 1 / (1 + 100 * rates) + rates**2
        >>> 0.003 < LearningRates(rates, curve, curve).suggestion < 0.03
        True
        """
        lowest = int(self.smoothed.argmin())
        if lowest < 2:
            return float(self.rates[lowest] / 10)
        slope = np.gradient(self.smoothed, np.log(self.rates))
        first = lowest // 4  # the running mean is rough at its beginning
        steepest = self.rates[first + int(slope[first : lowest + 1].argmin())]
        return float(min(steepest, self.rates[lowest] / 10))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON data."""
        values = {name: getattr(self, name).tolist() for name in ("rates", "losses", "smoothed")}
        return {"suggestion": self.suggestion, **values}

    def __repr__(self) -> str:
        low, high = self.rates[0], self.rates[-1]
        return (
            f"LearningRates({len(self.rates)} steps from {low:.2g} to {high:.2g}: "
            f"suggestion {self.suggestion:.2g})"
        )


def lr_find(
    net: Module,
    data: Any,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int = 64,
    optimizer: Optimizer | str | None = None,
    loss: str | Loss = "cross_entropy",
    augment: Any = None,
    seed: int = 0,
    backend: str | None = None,
) -> LearningRates:
    """Train for some steps with `lr(k) = lowest·(highest/lowest)^(k/(steps−1))`; note the losses.

    The sweep ends early where the smoothed loss is four times its lowest value, or not finite.
    The network's parameters are not changed.

    Args:
        net, data, batch_size, optimizer, loss, augment, seed, backend: as for `fit`.
        lowest: the first rate, above 0.
        highest: the last rate, above `lowest`.
        steps: how many steps, at least 10.
    Returns:
        The rates and the losses, with a suggestion.
    Raises:
        OptionError: an argument is out of its range.
        StriateError: the loss is not finite from the beginning on.
    Source:
        Smith: Cyclical learning rates for training neural networks, 2017.

    >>> from striate import nn
    >>> x, y = np.eye(4, dtype="f4").reshape(4, 1, 2, 2), np.arange(4)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    >>> found = lr_find(net, (x, y), steps=20, batch_size=4, backend="reference")
    >>> len(found.rates) == len(found.losses) <= 20
    True
    """
    rule = _checked(lowest, highest, steps, batch_size, optimizer)
    samples = as_samples(data, "lr_find")
    output = output_shape(training_graph(net, samples.shape))
    spec = training_loss(loss, output, samples.targets)
    samples = fit_to_output(samples, output, spec, "lr_find")
    chain = as_augmentation(augment, samples.source())
    if chain is not None and chain.soft:
        raise OptionError("lr_find: expected an augmentation that mixes no images; leave it out.")
    training, program = net.training, _program(net, samples, spec, rule, backend, batch_size)
    net.train(training)
    feed = make_feed(program, samples, batch_size, seed, chain, getattr(data, "classes", ()))
    try:
        rates = np.geomspace(lowest, highest, steps)
        return _sweep(feed, samples, rule, rates, batch_size, seed)
    finally:
        feed.close()


def _checked(
    lowest: float, highest: float, steps: int, batch_size: int, optimizer: Any
) -> Optimizer:
    if not 0 < lowest < highest < math.inf:
        raise OptionError(
            f"lr_find: expected 0 < lowest < highest; got lowest={lowest!r}, highest={highest!r}."
        )
    for name, value, least in (("steps", steps, _FEWEST), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
            raise OptionError(
                f"lr_find: expected a whole number of at least {least}; got {name}={value!r}."
            )
    if optimizer is None:
        return Adam()
    made = make_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    if not isinstance(made, Optimizer):
        raise OptionError(f"lr_find: expected an optimiser or its name; got {optimizer!r}.")
    return made


def _program(
    net: Module, samples: AnySamples, spec: Any, rule: Optimizer, backend: Any, batch_size: int
) -> Any:
    from striate.program import build_training

    graph = training_graph(net.train(), samples.shape)
    program = build_training(
        graph, loss=spec, rule=rule.rule(), backend=backend, batch_size=batch_size
    )
    for name, array in net.graph_arrays(graph).items():
        program.parameters[name][...] = array
    return program


def _sweep(
    feed: Feed, samples: AnySamples, rule: Optimizer, rates: Float64, batch_size: int, seed: int
) -> LearningRates:
    """Steps in short stretches until the loss has grown."""
    import threading

    per_epoch = -(-len(samples) // batch_size)
    losses: list[float] = []
    done = 0
    while done < len(rates):
        epoch, start = done // per_epoch + 1, done % per_epoch
        if start == 0:
            order = samples.index[epoch_order(seed, epoch, len(samples))]
            feed.begin(epoch, order, 0)
        count = min(_FEWEST, per_epoch - start, len(rates) - done)
        numbers = [rule.hyper(k, float(rates[k])) for k in range(done, done + count)]
        with np.errstate(over="ignore", invalid="ignore"):
            result = feed.run(
                start, np.array(numbers, np.float32), done, lambda _: None, threading.Event()
            )
        starts = np.arange(0, result.losses.size, batch_size)
        sums = np.add.reduceat(result.losses.astype(np.float64), starts)
        losses += (sums / np.diff([*starts, result.losses.size])).tolist()
        done += count
        if _is_over(losses):
            break
    return _cut(rates, np.array(losses))


def _smooth(losses: Float64) -> Float64:
    found, running = np.empty(len(losses)), 0.0
    for k, loss in enumerate(losses):
        running = _SMOOTHING * running + (1 - _SMOOTHING) * loss
        found[k] = running / (1 - _SMOOTHING ** (k + 1))
    return found


def _is_over(losses: list[float]) -> bool:
    smoothed = _smooth(np.array(losses))
    return not np.isfinite(smoothed).all() or bool(smoothed[-1] > _WORSE * smoothed.min())


def _cut(rates: Float64, losses: Float64) -> LearningRates:
    """The curve up to where the loss has grown too far."""
    finite = int(np.argmin(np.isfinite(losses))) if not np.isfinite(losses).all() else len(losses)
    if finite < 2:
        raise StriateError(
            f"lr_find: expected a finite loss at the lowest rate; got {losses[:2].tolist()} at "
            f"lr={rates[0]:g}. Give a lower one, or look at the data."
        )
    smoothed = _smooth(losses[:finite])
    low = np.minimum.accumulate(smoothed)
    worse = np.flatnonzero(smoothed > _WORSE * low)
    end = int(worse[0]) + 1 if worse.size and worse[0] >= _FEWEST else finite
    return LearningRates(rates[:end], losses[:end], smoothed[:end])


def save_json(found: LearningRates, path: str) -> None:
    """Write a sweep as JSON."""
    from striate.files import write_atomically

    write_atomically(path, (json.dumps(found.to_json(), indent=2) + "\n").encode())
