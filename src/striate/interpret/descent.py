"""Images made by optimisation: Adam's steps on the numbers that stand for images.

One step costs one pass of the network forward and one back; what else is done in it is done on
images alone. Everything random comes from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.formula.update import apply_numpy
from striate.interpret.batches import positive
from striate.interpret.image_space import Float32, ImageSpace
from striate.interpret.regularize import alpha_norm, total_variation
from striate.optim.adam import Adam

Loss = Callable[[Float32], tuple[Float32, Float32]]
Progress = Callable[[int, int], None]
_NOISE = 0.01


@dataclass(frozen=True)
class Penalties:
    """What is added to the loss, and what is done with the images between steps.

    Attributes:
        tv, beta: weight and exponent of the total variation.
        norm, alpha: weight and exponent of the distance from the centre.
        blur, blur_every: the images are blurred by so many pixels every so many steps; the blur
            falls to 0 with the rate.
        jitter: most pixels by which they are shifted, anew for each step.
        radius: the longest distance ‖x − centre‖, or None.
    """

    tv: float = 0.0
    beta: float = 2.0
    norm: float = 0.0
    alpha: float = 2.0
    blur: float = 0.0
    blur_every: int = 4
    jitter: int = 0
    radius: float | None = None

    def check(self, where: str) -> None:
        """Refuse what cannot be.

        Raises:
            OptionError: a weight below 0, an exponent below 1, a count that is none.
        """
        least = {"tv": 0, "norm": 0, "blur": 0, "beta": 1, "alpha": 1}
        if self.radius is not None:
            least["radius"] = 0
        for name, smallest in least.items():
            require_number(where, name, getattr(self, name), smallest)
        positive(where, "jitter", self.jitter, 0)
        positive(where, "blur_every", self.blur_every)

    def gradient(self, x: Float32, centre: Float32) -> Float32:
        """The gradient of the penalties; weights of 0 cost nothing."""
        found = np.zeros_like(x)
        if self.tv:
            found += np.float32(self.tv) * total_variation(x, self.beta)[1]
        if self.norm:
            found += np.float32(self.norm) * alpha_norm(x, self.alpha, centre)[1]
        return found


def require_number(where: str, name: str, value: Any, least: float = 0.0) -> None:
    """Refuse what is no finite number of at least `least`."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not real or not least <= value < np.inf:
        raise OptionError(
            f"{where}: expected {name} to be a number of at least {least}; got {name}={value!r}."
        )


@dataclass
class Descent:
    """Steps of Adam down a loss of images.

    Args:
        space: how the images are written.
        penalties: what keeps them calm.
        lr: Adam's rate, falling to 0 over the steps as half a cosine.
        steps: how many.
        seed: of the noise to start from and of the shifts.
        progress: called with the steps done and all steps.
    """

    space: ImageSpace
    penalties: Penalties
    lr: float
    steps: int
    seed: int = 0
    progress: Progress | None = None
    course: list[Float32] = field(default_factory=list)

    def noise(self, numbers: range) -> Float32:
        """The numbers of weak noise about the centre; an image's depends on its own number only."""
        shape = self.space.of(np.zeros((1, *self.space.shape), np.float32)).shape[1:]
        found = np.empty((len(numbers), *shape), np.float32)
        for row, number in zip(found, numbers, strict=True):
            row[:] = _NOISE * self._generator(number + 1).standard_normal(shape, np.float32)
        return self.space.project(found)

    def run(self, z: Float32, loss: Loss) -> Float32:
        """The numbers after the last step; the loss's values go to `course`.

        Args:
            z: where to start.
            loss: what gives the values (n,) of images and the gradient to them.
        """
        adam, shifts = Adam(self.lr), self._generator(0)
        rule = adam.rule()
        state: dict[str, Any] = {name: np.zeros_like(z) for name in rule.state}
        for step in range(self.steps):
            gradient = self._gradient(z, loss, shifts)
            share = 0.5 * (1 + float(np.cos(np.pi * step / self.steps)))
            hyper = dict(zip(rule.hyper, adam.hyper(step, self.lr * share), strict=True))
            z, state = apply_numpy(rule, z, gradient, state, hyper, np.float32)
            z = self._bounded(z, step, share)
            if self.progress is not None:
                self.progress(step + 1, self.steps)
        return z

    def _gradient(self, z: Float32, loss: Loss, shifts: np.random.Generator) -> Float32:
        x = self.space.image(z)
        jitter = self.penalties.jitter
        by = shifts.integers(-jitter, jitter + 1, 2) if jitter else np.zeros(2, np.int64)
        values, gradient = loss(_rolled(x, by))
        self.course.append(values)
        total = _rolled(gradient, -by) + self.penalties.gradient(x, self.space.centre)
        if self.penalties.radius is not None:
            total = _along_sphere(total, x - self.space.centre, self.penalties.radius)
        return self.space.pull(x, total)

    def _bounded(self, z: Float32, step: int, share: float) -> Float32:
        penalties = self.penalties
        if penalties.blur and (step + 1) % penalties.blur_every == 0:
            z = self.space.smoothed(z, penalties.blur * share)  # small steps could not undo it
        z = self.space.project(z)
        if penalties.radius is None:
            return z
        away = self.space.image(z) - self.space.centre
        kept = np.minimum(1, penalties.radius / np.maximum(_lengths(away), 1e-30))
        return self.space.of(self.space.centre + away * kept.astype(np.float32))

    def _generator(self, stream: int) -> np.random.Generator:
        """Random numbers of their own for the shifts (0) and for each image (1, 2, …)."""
        return np.random.Generator(np.random.Philox(key=[self.seed, stream]))


def _rolled(x: NDArray[Any], by: NDArray[np.int64]) -> NDArray[Any]:
    return np.roll(x, tuple(by), axis=(2, 3)) if by.any() else x


def _lengths(x: Float32) -> Float32:
    """‖x‖ of each image, (n, 1, 1, 1)."""
    found: Float32 = np.sqrt(np.square(x).sum(axis=(1, 2, 3), keepdims=True))
    return found


def _along_sphere(gradient: Float32, away: Float32, radius: float) -> Float32:
    """The gradient without what leads out of the ball, for images that are on its sphere.

    Without that, steps that Adam scales number by number would not come to rest at the optimum.
    """
    direction = away / np.maximum(_lengths(away), 1e-30)
    outward = (gradient * direction).sum(axis=(1, 2, 3), keepdims=True)
    leads_out = (outward < 0) & (_lengths(away) >= radius * (1 - 1e-4))
    return np.asarray(gradient - np.where(leads_out, outward, 0) * direction, np.float32)
