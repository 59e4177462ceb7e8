"""An optimiser's memory carried from one training to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.errors import ModelError, OptionError
from striate.train import OptimizerState, fit

SAMPLE = (np.array([[1.0, -2.0, 0.5]], np.float32), np.array([[3.0]], np.float32))
ADAM = optim.Adam(lr=0.1)


def trained(epochs: list[int], state: OptimizerState | None, backend: str | None) -> nn.Module:
    st.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    for count in epochs:
        fit(
            net,
            SAMPLE,
            epochs=count,
            loss="mse",
            optimizer=ADAM,
            progress=False,
            optimizer_state=state,
            backend=backend,
        )
    return net


@pytest.mark.parametrize("backend", [None, "reference"])
def test_one_state_makes_several_trainings_one(backend: str | None) -> None:
    state = OptimizerState()
    parts, whole = trained([1, 3, 2], state, backend), trained([6], None, backend)
    assert state.steps == 6 and len(state.arrays) == 2 * 4
    anew = trained([1, 3, 2], None, backend)
    for name, array in whole.state_dict().items():
        assert np.array_equal(parts.state_dict()[name], array)
        assert not np.array_equal(anew.state_dict()[name], array)


def test_a_state_of_another_optimiser_or_with_a_folder_is_refused(tmp_path: Path) -> None:
    state = OptimizerState()
    net = trained([1], state, "reference")
    with pytest.raises(ModelError, match="optimizer_state: expected the arrays of this network"):
        fit(net, SAMPLE, epochs=1, loss="mse", optimizer="momentum", optimizer_state=state)
    with pytest.raises(OptionError, match="expected no folder together with an optimizer_state"):
        fit(net, SAMPLE, epochs=1, loss="mse", out=tmp_path / "out", optimizer_state=state)
