"""Connectionist temporal classification: the loss of a sequence whose alignment is not known.

Not an index formula: the sum runs over all paths that spell the target, and is worked out by a
recursion over time (forward and backward variables, all in logarithms), for all samples at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import DataError, OptionError, ShapeError
from striate.formula.loss import Loss
from striate.formula.operation import Array, Attributes, Shape, whole_attribute

Int64 = NDArray[np.int64]


class CtcLoss(Loss):
    """`y[n] = −log Σ_paths Π_t p[n, t, path_t]`, over the paths that spell the target.

    A path names a class at each time step; it spells the target when repeated classes are merged
    and then blanks taken out.

    Attributes: `blank`, the class that stands for none; `zero_infinity`, whether a target that no
    path can spell has the loss 0 and no gradient; `mean`, whether y[n] is divided by the length of
    the target.
    Inputs: x (n, time, classes), logarithms of probabilities; t (n, length), class numbers, filled
    up with −1; input_lengths and target_lengths (n,), where given. Output: (n,).

    Source: Graves et al., Connectionist Temporal Classification (ICML 2006).
    """

    name = "ctc_loss"
    arguments = ("x", "t", "input_lengths", "target_lengths")
    optional = 2
    attributes = ("blank", "zero_infinity", "mean", "length")
    has_formula = False
    labels = True

    def shape(self, attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
        super().shape(attributes, shapes[:2])
        if any(tuple(shape) != () for shape in shapes[2:]):
            raise ShapeError(f"{self.name}: expected lengths (n,), one a sample.")
        return ()

    def target_shape(self, attributes: Attributes, x: Shape) -> Shape:
        if len(x) != 2:
            raise ShapeError(f"{self.name}: x expected (n, time, classes); got {('n', *x)}.")
        if whole_attribute(self.name, attributes, "blank", 0) >= x[1]:
            raise OptionError(
                f"{self.name}: blank expected below {x[1]}, the number of classes; got "
                f"{attributes['blank']}."
            )
        return (whole_attribute(self.name, attributes, "length", 0),)

    def check_targets(self, attributes: Attributes, x: Shape, targets: NDArray[Any]) -> None:
        blank = int(attributes["blank"])
        wrong = (targets >= x[1]) | (targets == blank) | (targets < -1)
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            raise DataError(
                f"{self.name}: expected classes from 0 to {x[1] - 1} without the blank, {blank}, "
                f"and −1 after the target's end; got {targets[at]:g} for sample {at[0]}."
            )

        gaps = (targets[:, :-1] < 0) & (targets[:, 1:] >= 0)
        if gaps.any():
            raise DataError(
                f"{self.name}: expected −1 only after a target's end; got one inside, for sample "
                f"{np.argwhere(gaps)[0][0]}."
            )

    def differentiable(self, argument: str) -> bool:
        return argument == "x"

    def reference(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Array:
        return self._solve(attributes, arrays).losses

    def gradient(
        self,
        attributes: Attributes,
        upstream: ArrayLike,
        arrays: Sequence[ArrayLike],
        wanted: Sequence[int] | None = None,
    ) -> list[Array | None]:
        found = self._solve(attributes, arrays)
        up = np.asarray(upstream, np.float64)[:, None, None]
        slope = np.where(up == 0, 0.0, up * found.gradient())
        return [slope, *[None] * (len(arrays) - 1)]

    def _solve(self, attributes: Attributes, arrays: Sequence[ArrayLike]) -> Alignments:
        x, targets = np.asarray(arrays[0], np.float64), np.asarray(arrays[1])
        lengths = [np.asarray(a, np.int64) for a in arrays[2:]]
        steps = lengths[0] if lengths else np.full(len(x), x.shape[1])
        given = lengths[1] if len(lengths) > 1 else (targets >= 0).cumprod(1).sum(1)
        require_lengths(self.name, "input_lengths", steps, x.shape[1])
        require_lengths(self.name, "target_lengths", given, targets.shape[1])
        inside = np.arange(targets.shape[1]) < given[:, None]
        labels = np.where(inside, targets, -1).astype(np.int64)
        self.check_targets(attributes, x.shape[1:], labels)
        found = Alignments.of(x, labels, steps, given, int(attributes["blank"]))
        losses, weight = found.losses, np.ones(len(x))
        if attributes["mean"]:
            weight = 1.0 / np.maximum(given, 1)
        hopeless = np.isinf(losses)
        if attributes["zero_infinity"]:
            losses = np.where(hopeless, 0.0, losses)
            weight = np.where(hopeless, 0.0, weight)
        return Alignments(**{**vars(found), "losses": losses * weight, "weight": weight})


def require_lengths(name: str, what: str, lengths: Int64, most: int) -> None:
    """Refuse lengths that are negative or longer than what there is."""
    wrong = np.flatnonzero((lengths < 0) | (lengths > most))
    if wrong.size:
        raise DataError(
            f"{name}: expected {what} from 0 to {most}; got {lengths[wrong[0]]} for sample "
            f"{wrong[0]}."
        )


@dataclass(frozen=True)
class Alignments:
    """All paths of a batch that spell its targets, in logarithms.

    The states of a target of length L are its L labels with blanks before, between and after
    them: 2L + 1.
    """

    x: Array  # (n, time, classes)
    states: Int64  # (n, states): the class of each state
    steps: Int64  # (n,): time steps that count
    ends: Int64  # (n,): the last state, 2L
    skips: NDArray[np.bool_]  # (n, states): whether the blank before a state may be left out
    alpha: Array  # (time, n, states): log of the paths' weight from the start to here
    losses: Array  # (n,)
    weight: Array | None = None  # what multiplies each loss

    @classmethod
    def of(cls, x: Array, labels: Int64, steps: Int64, lengths: Int64, blank: int) -> Alignments:
        """Go through time once."""
        n, time, _ = x.shape
        states = np.full((n, 2 * labels.shape[1] + 1), blank, np.int64)
        states[:, 1::2] = np.where(labels < 0, blank, labels)
        skips = np.zeros(states.shape, bool)
        skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
        inside = np.arange(states.shape[1]) <= 2 * lengths[:, None]
        alpha = np.full((max(time, 1), *states.shape), -np.inf)
        emit = _emissions(x, states)
        if time:
            alpha[0, :, :2] = np.where(inside[:, :2], emit[0, :, :2], -np.inf)
        for t in range(1, time):
            before = _three(alpha[t - 1], skips, 1)
            alpha[t] = np.where(inside, emit[t] + before, -np.inf)
        ends = 2 * lengths
        last, rows = np.maximum(steps - 1, 0), np.arange(n)
        final = alpha[last, rows, ends]
        other = np.where(ends > 0, alpha[last, rows, np.maximum(ends - 1, 0)], -np.inf)
        total = np.logaddexp(final, other)
        total = np.where(steps > 0, total, np.where(lengths == 0, 0.0, -np.inf))
        return cls(x, states, steps, ends, skips, alpha, -total)

    def occupancy(self) -> Array:
        """The probability of being in each state at each time, given the target: (time, n, states).

        0 where no path spells the target.
        """
        time, n, count = self.alpha.shape
        emit = _emissions(self.x, self.states)
        beta, rows = np.full((n, count), -np.inf), np.arange(n)
        inside = np.arange(count) <= self.ends[:, None]
        found = np.zeros(self.alpha.shape)
        ahead = np.zeros_like(self.skips)  # whether the state after next may follow at once
        ahead[:, :-2] = self.skips[:, 2:]
        for t in reversed(range(time)):
            start = np.full((n, count), -np.inf)
            start[rows, self.ends] = 0.0
            start[rows, np.maximum(self.ends - 1, 0)] = 0.0
            later = _three(beta, ahead, -1)
            here = np.where((self.steps - 1 == t)[:, None], start, later)
            here = np.where(inside & (t < self.steps)[:, None], here, -np.inf)
            with np.errstate(invalid="ignore"):
                path = self.alpha[t] + here
                path = path - np.logaddexp.reduce(path, axis=1, keepdims=True)
            found[t] = np.where(np.isfinite(path), np.exp(path), 0.0)
            beta = here + (emit[t] if t < len(emit) else 0.0)
        return found

    def gradient(self) -> Array:
        """∂loss/∂x, (n, time, classes): minus the probability of each class at each time."""
        found = np.zeros(self.x.shape)
        share = self.occupancy()[: self.x.shape[1]]
        rows, times = np.arange(len(self.x))[:, None], np.arange(self.x.shape[1])
        for k in range(self.states.shape[1]):
            np.subtract.at(found, (rows, times, self.states[:, k : k + 1]), share[:, :, k].T)
        return np.asarray(found if self.weight is None else found * self.weight[:, None, None])


def _emissions(x: Array, states: Int64) -> Array:
    """x of each state's class at each time: (time, n, states)."""
    return np.asarray(np.take_along_axis(x, states[:, None, :], axis=2).transpose(1, 0, 2))


def _three(a: Array, skips: NDArray[np.bool_], side: int) -> Array:
    """log of the sum over staying, coming from the neighbour, and from the one beyond it."""
    one, two = (np.full(a.shape, -np.inf) for _ in range(2))
    if side > 0:
        one[:, 1:], two[:, 2:] = a[:, :-1], a[:, :-2]
    else:
        one[:, :-1], two[:, :-2] = a[:, 1:], a[:, 2:]
    return np.asarray(np.logaddexp(np.logaddexp(a, one), np.where(skips, two, -np.inf)))


def best_path(x: ArrayLike, blank: int = 0, lengths: ArrayLike | None = None) -> list[list[int]]:
    """The targets that the most probable class of each time step spells.

    Args:
        x: (n, time, classes), scores of any kind.
        blank: the class that stands for none.
        lengths: how many time steps count, (n,); by default all.

    >>> best_path([[[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]])
    [[1, 1]]
    """
    scores = np.asarray(x)
    classes = scores.argmax(axis=2)
    steps = np.full(len(classes), classes.shape[1]) if lengths is None else np.asarray(lengths)
    spelled = []
    for row, count in zip(classes, steps, strict=True):
        part = row[: int(count)]
        new = np.ones(len(part), bool)
        new[1:] = part[1:] != part[:-1]
        spelled.append([int(k) for k in part[new & (part != blank)]])
    return spelled
