"""What a piece of training has brought: the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    steps: int
    losses: NDArray[np.float32]
    correct: NDArray[np.bool_]
