"""What a piece of training has brought: the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainResult:
    """The course of one call of a training program.

    Attributes:
        steps: training steps done (fewer than asked for where it was stopped).
        losses: (samples done,) float32, the loss of each sample when its turn came.
        correct: (samples done,) bool, whether the largest logit was the right one; all False where
            the loss does not classify.
        gradient_norms: (steps,) float32, `√Σ g²` over all gradients of each step, where the
            optimiser's rule asks for it; else empty.
    """

    steps: int
    losses: NDArray[np.float32]
    correct: NDArray[np.bool_]
    gradient_norms: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
