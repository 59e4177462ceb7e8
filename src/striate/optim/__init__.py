"""Optimisers and learning-rate schedules, with torch.optim's names, defaults and formulas."""

from __future__ import annotations

from striate.optim.adam import Adam, AdamW
from striate.optim.by_name import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from striate.optim.optimizer import Optimizer
from striate.optim.rmsprop import RMSProp
from striate.optim.schedule import Constant, Cosine, OneCycle, Schedule, Step
from striate.optim.sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "OneCycle",
    "Optimizer",
    "RMSProp",
    "Schedule",
    "Step",
    "make_optimizer",
    "make_schedule",
]
