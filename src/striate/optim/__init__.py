"""Optimisers and learning-rate schedules, with torch.optim's names, defaults and formulas."""

from __future__ import annotations

from striate.optim.adam import Adam, AdamW
from striate.optim.by_name import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from striate.optim.extend import Average, ClipNorm, ClipValue, GradientNorm
from striate.optim.optimizer import Optimizer
from striate.optim.rmsprop import RMSProp
from striate.optim.schedule import (
    Constant,
    Cosine,
    OneCycle,
    Plateau,
    Schedule,
    Step,
    Warmup,
)
from striate.optim.sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "Average",
    "ClipNorm",
    "ClipValue",
    "Constant",
    "Cosine",
    "GradientNorm",
    "OneCycle",
    "Optimizer",
    "Plateau",
    "RMSProp",
    "Schedule",
    "Step",
    "Warmup",
    "make_optimizer",
    "make_schedule",
]
