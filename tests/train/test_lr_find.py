"""The learning-rate finder: its sweep, its end, its suggestion; the network stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn
from striate.errors import OptionError, ShapeError, StriateError
from striate.train.lr_find import LearningRates


def find(tiny: SimpleNamespace, data: Any, **more: Any) -> tuple[nn.Module, LearningRates]:
    net = tiny.make_net()
    given = {"batch_size": 8, "optimizer": "sgd", "backend": "reference"}
    return net, st.lr_find(net, data, **{**given, **more})


def test_the_sweep(tiny: SimpleNamespace, data: Any) -> None:
    net, found = find(tiny, data, steps=60, lowest=1e-4, highest=100.0)
    assert tiny.weights(net) == tiny.weights(tiny.make_net())
    assert found.rates[0] == pytest.approx(1e-4)
    ratios = found.rates[1:] / found.rates[:-1]
    np.testing.assert_allclose(ratios, (1e6) ** (1 / 59))
    assert len(found.rates) < 60, "it ends where the loss has grown"
    assert found.smoothed[-1] > 4 * found.smoothed.min()
    assert 1e-3 < found.suggestion <= found.rates[found.smoothed.argmin()] / 10


def test_the_running_mean(tiny: SimpleNamespace, data: Any) -> None:
    _, found = find(tiny, data, steps=20, lowest=1e-3, highest=0.1)
    running = 0.0
    for k, loss in enumerate(found.losses):
        running = 0.9 * running + 0.1 * loss
        assert found.smoothed[k] == pytest.approx(running / (1 - 0.9 ** (k + 1)))


def test_native_streamed_and_augmented_sweeps(tiny: SimpleNamespace, data: Any) -> None:
    more = {"steps": 15, "lowest": 1e-4, "highest": 0.1}
    _, reference = find(tiny, data, **more)
    _, native = find(tiny, data, **more, backend="native")
    _, streamed = find(tiny, data, **more, backend="native", augment="flip0")
    np.testing.assert_allclose(native.losses, reference.losses, rtol=1e-4)
    assert native.losses.tolist() == streamed.losses.tolist()


def test_a_smaller_set_than_the_sweep_is_gone_through_again(
    tiny: SimpleNamespace, data: Any
) -> None:
    few = (data[0][:10], data[1][:10])
    _, found = find(tiny, few, steps=30, lowest=1e-5, highest=1e-3)
    assert len(found.losses) == 30


def test_as_json_and_as_text(tiny: SimpleNamespace, data: Any) -> None:
    _, found = find(tiny, data, steps=12, lowest=1e-4, highest=0.1)
    assert json.loads(json.dumps(found.to_json()))["suggestion"] == found.suggestion
    assert repr(found).startswith("LearningRates(12 steps from 0.0001 to 0.1: suggestion ")


def test_the_picture(tiny: SimpleNamespace, data: Any, tmp_path: Path) -> None:
    from striate import plot

    _, found = find(tiny, data, steps=12, lowest=1e-4, highest=0.1)
    figure = plot.learning_rates(
        found.rates, found.losses, found.smoothed, suggestion=found.suggestion
    )
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert len(axes.lines) == 3
    assert axes.lines[1].get_ydata().tolist() == found.smoothed.tolist()
    with pytest.raises(ShapeError, match="three lines of one length"):
        plot.learning_rates([1, 2], [1, 2], [1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lowest": 0.0}, "expected 0 < lowest < highest; got lowest=0.0"),
        ({"lowest": 1.0, "highest": 1.0}, "lowest < highest"),
        ({"steps": 9}, "at least 10; got steps=9"),
        ({"batch_size": 0}, "at least 1; got batch_size=0"),
        ({"optimizer": 3}, "expected an optimiser or its name; got 3"),
        ({"augment": "mixup"}, "mixes no images"),
    ],
)
def test_refusals(tiny: SimpleNamespace, data: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        find(tiny, data, **given)


def test_a_loss_that_is_never_finite(tiny: SimpleNamespace, data: Any) -> None:
    with pytest.raises(StriateError, match="expected a finite loss at the lowest rate"):
        find(tiny, data, lowest=1e36, highest=1e37)
