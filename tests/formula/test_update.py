"""Update rules: assignments in order, states kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from striate.errors import OptionError
from striate.formula.expression import Var
from striate.formula.update import UpdateRule, apply_numpy

P, G, M, LR, MU = (Var(name) for name in ("p", "g", "momentum", "lr", "mu"))
MOMENTUM = UpdateRule(
    "momentum",
    ("momentum",),
    ("lr", "mu"),
    (("momentum", MU * M + G), ("p", P - LR * M)),
)


def test_later_assignments_see_earlier_ones() -> None:
    p, state = np.array([1.0, 2.0]), {"momentum": np.array([4.0, 0.0])}
    hyper = {"lr": 0.5, "mu": 0.25}
    value, states = apply_numpy(MOMENTUM, p, [1.0, -2.0], state, hyper)
    assert states["momentum"].tolist() == [2.0, -2.0] and value.tolist() == [0.0, 3.0]
    assert p.tolist() == [1.0, 2.0] and state["momentum"].tolist() == [4.0, 0.0]
    assert str(MOMENTUM) == "momentum ← ((mu · momentum) + g); p ← (p − (lr · momentum))"


def test_faults_are_told() -> None:
    with pytest.raises(OptionError, match=r"to 'p' reads 'momentun'. Did you mean 'momentum'"):
        UpdateRule("x", ("momentum",), ("lr",), (("p", P - Var("momentun")),))
    with pytest.raises(OptionError, match="the hyper number 'lr' cannot be assigned"):
        UpdateRule("x", (), ("lr",), (("lr", LR * 2),))
