"""Training and judging networks: `fit`, `evaluate`, checkpoints, progress.

The arithmetic of a training is one native program (`program`); this folder feeds it, watches it,
and keeps what it has brought safe.
"""

from __future__ import annotations

from striate.train.callback import Callback
from striate.train.evaluate import Evaluation, Mistake, evaluate
from striate.train.fit import fit
from striate.train.lr_find import LearningRates, lr_find
from striate.train.plan import OptimizerState
from striate.train.run import Interrupted, Run

__all__ = [
    "Callback",
    "Evaluation",
    "Interrupted",
    "LearningRates",
    "Mistake",
    "OptimizerState",
    "Run",
    "evaluate",
    "fit",
    "lr_find",
]
