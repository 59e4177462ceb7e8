"""Callbacks of the start, of steps, epochs and the end; metrics of the validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from striate import nn
from striate.errors import OptionError
from striate.train import Callback
from striate.train.evaluate import class_ranks
from striate.train.run import Run

Fit = Callable[..., tuple[nn.Module, Run]]


class Notes(Callback):
    def __init__(self, every: int = 1, stop: int | None = None) -> None:
        self.every, self.stop, self.notes = every, stop, []

    def on_start(self, run: Run, net: nn.Module) -> None:
        self.notes.append(("start", len(run.history)))

    def on_step(self, record: dict[str, Any], net: nn.Module) -> bool | None:
        self.notes.append(("step", record["step"]))
        self.last = record
        return record["step"] == self.stop

    def on_epoch(self, record: dict[str, Any], net: nn.Module) -> None:
        self.notes.append(("epoch", record["epoch"]))

    def on_end(self, run: Run, net: nn.Module) -> None:
        self.notes.append(("end", len(run.history)))


@pytest.mark.parametrize("augment", [None, "flip0"])
def test_the_order_of_calls(fit_tiny: Fit, tiny: SimpleNamespace, augment: str | None) -> None:
    notes = Notes(every=2)
    net, run = fit_tiny(callbacks=[notes], epochs=2, batch_size=10, augment=augment)
    expected = [("start", 0), ("step", 2), ("step", 4), ("epoch", 1), ("step", 7), ("step", 9)]
    assert notes.notes == [*expected, ("epoch", 2), ("end", 2)]
    assert notes.last["epoch"] == 2
    assert notes.last["lr"] == run.history[-1]["lr"]
    assert tiny.weights(net) == tiny.weights(fit_tiny(epochs=2, batch_size=10)[0])


def test_the_loss_of_steps_is_that_of_the_epoch(fit_tiny: Fit) -> None:
    seen: list[float] = []

    class Losses(Callback):
        def on_step(self, record: dict[str, Any], net: nn.Module) -> None:
            seen.append(record["loss"])

    _, run = fit_tiny(callbacks=[Losses()], epochs=1, batch_size=9)
    assert len(seen) == 5
    assert np.mean(seen) == pytest.approx(run.history[0]["loss"])


def test_a_step_can_end_the_training(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    notes = Notes(stop=8)
    net, run = fit_tiny(callbacks=[notes])
    assert (run.stopped, len(run.history)) == ("callback", 1)
    assert notes.notes[-1] == ("end", 1)
    assert tiny.weights(net) == tiny.weights(fit_tiny(epochs=1)[0])


def test_the_end_is_called_after_an_error_too(fit_tiny: Fit) -> None:
    notes = Notes()

    def fail(record: Any, net: nn.Module) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit_tiny(callbacks=[notes, fail])
    assert notes.notes[-1] == ("end", 1)


def test_averaged_weights_are_judged_and_kept(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path, data: Any
) -> None:
    from striate.formats.model_file import load
    from striate.train import evaluate
    from striate.train.checkpoint import load_checkpoint

    net, run = fit_tiny(ema=0.9, validation=data, out=tmp_path, optimizer="momentum")
    plain, _ = fit_tiny(optimizer="momentum")
    assert tiny.weights(net) != tiny.weights(plain)
    found = load_checkpoint(tmp_path / "checkpoint.safetensors")
    for name, array in plain.state_dict().items():
        assert found.parameters[name].tobytes() == array.tobytes()
        assert found.state[f"average:{name}"].tobytes() == net.state_dict()[name].tobytes()
    loss = evaluate(net, data, backend="reference").loss
    assert loss == pytest.approx(run.history[-1]["validation_loss"], rel=1e-5)
    best = load(tmp_path / "best.safetensors")
    assert run.best is not None
    loss = evaluate(best, data, backend="reference").loss
    assert loss == pytest.approx(run.best["validation_loss"], rel=1e-5)


# ---- metrics ---------------------------------------------------------------------------------


def test_metrics_of_the_validation(fit_tiny: Fit, data: Any, tmp_path: Path) -> None:
    def margin(scores: Any, labels: Any) -> Any:
        return scores.max(axis=1) - scores.min(axis=1)

    _, run = fit_tiny(validation=data, metrics=["top1", "top2", "top3"], out=tmp_path)
    for record in run.history:
        assert record["validation_top1"] == record["validation_accuracy"]
        assert record["validation_top1"] <= record["validation_top2"] <= 1
        assert record["validation_top3"] == 1
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["validation_top2"] == run.history[-1]["validation_top2"]
    _, run = fit_tiny(validation=data, metrics={"margin": margin})
    assert run.history[-1]["validation_margin"] > 0


@pytest.mark.peer
def test_ranks_are_scikit_learns_top_k() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 12)), rng.integers(0, 12, 200)
    ranks = class_ranks(scores, labels)
    for k in (1, 3, 5, 11):
        wanted = metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(12))
        assert (ranks < k).mean() == pytest.approx(wanted)


def test_a_rank_among_equal_scores_goes_by_number() -> None:
    assert class_ranks(np.zeros((3, 3)), np.array([0, 1, 2])).tolist() == [0, 1, 2]


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"callbacks": [3]}, r"expected functions of \(record, net\) or striate.train.Callback"),
        ({"callbacks": [Notes(every=0)]}, "every of at least 1 step; got every=0 in Notes"),
        ({"metrics": ["top5"]}, "expected validation data with metrics="),
        ({"metrics": ["top"], "validation": 0.2}, "expected names as 'top5'.*got 'top'"),
        ({"metrics": {"a": 3}, "validation": 0.2}, "functions by name; got 'a'"),
        ({"save_steps": 3}, "expected out=FOLDER with save_steps=3"),
        ({"save_minutes": 0}, "above 0, or None; got save_minutes=0"),
        ({"label_smoothing": 1.5}, "from 0 to 1; got label_smoothing=1.5"),
        ({"label_smoothing": 0.1, "loss": "mse"}, "label_smoothing with loss='cross_entropy'"),
        ({"clip_norm": 0}, "above 0; got max_norm=0"),
        ({"ema": 1}, "below 1; got decay=1"),
        ({"augment": "flop"}, "unknown 'flop'. Did you mean 'flip'"),
    ],
)
def test_bad_arguments(fit_tiny: Fit, given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fit_tiny(**given)
