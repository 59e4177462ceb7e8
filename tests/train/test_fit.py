"""`fit` on tiny nets: what it brings, what it refuses, and that equal seeds give equal bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.data.dataset import DataSet
from striate.errors import DataError, OptionError, ShapeError, StriateError
from striate.train.run import Run

Pair = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
Fit = Callable[..., tuple[nn.Module, Run]]


# ---- what it brings --------------------------------------------------------------------------


def test_it_learns(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    held_out = tiny.make_data(30, seed=2)
    net, run = fit_tiny(epochs=20, optimizer=optim.Adam(lr=0.02), validation=held_out)
    assert run.history[-1]["loss"] < 0.3 < run.history[0]["loss"]
    assert run.history[-1]["validation_accuracy"] > 0.9
    predicted = net(held_out[0]).argmax(axis=1)
    assert (predicted == held_out[1]).mean() == run.history[-1]["validation_accuracy"]


def test_records(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    _, run = fit_tiny(validation=tiny.make_data(9, seed=2), optimizer=optim.SGD(0.5))
    assert [record["epoch"] for record in run.history] == [1, 2, 3]
    assert set(run.history[0]) == {
        "epoch",
        "loss",
        "accuracy",
        "validation_loss",
        "validation_accuracy",
        "lr",
        "seconds",
        "images_per_second",
    }
    assert all(record["lr"] == 0.5 for record in run.history)
    assert run.stopped == "epochs"
    assert run.best is run.history[(run.best_epoch or 0) - 1]
    assert "Run(3 of 3 epochs in" in repr(run)
    json.dumps(run.history)


@pytest.mark.peer
def test_the_losses_are_those_of_torch(fit_tiny: Fit, data: Pair, tiny: SimpleNamespace) -> None:
    torch = pytest.importorskip("torch")
    net = tiny.make_net(dropout=0.0)
    theirs = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
    )
    names = {"1": "1", "4": "3"}
    state = {f"{names[k[0]]}{k[1:]}": torch.tensor(v) for k, v in net.state_dict().items()}
    theirs.load_state_dict(state)
    _, run = fit_tiny(net=net, epochs=2, batch_size=45, optimizer=optim.SGD(0.1, 0.9, True, 0.01))
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, 0.9, 0, 0.01, True)
    for record in run.history:
        loss = torch.nn.functional.cross_entropy(
            theirs(torch.tensor(data[0])), torch.tensor(data[1])
        )
        assert record["loss"] == pytest.approx(loss.item(), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for ours, parameter in zip(net.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(ours.data, parameter.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_equal_seeds_give_equal_bits_and_others_do_not(
    fit_tiny: Fit, tiny: SimpleNamespace
) -> None:
    first, again, other = (fit_tiny(seed=seed)[0] for seed in (0, 0, 1))
    assert tiny.weights(first) == tiny.weights(again)
    assert tiny.weights(first) != tiny.weights(other)


def test_the_networks_own_arrays_are_trained(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    net = tiny.make_net()
    arrays = [parameter.data for parameter in net.parameters()]
    before = [array.copy() for array in arrays]
    fit_tiny(net=net)
    for parameter, array, old in zip(net.parameters(), arrays, before, strict=True):
        assert parameter.data is array
        assert not np.array_equal(array, old)


def test_afterwards_the_network_is_in_evaluation_mode(fit_tiny: Fit, data: Pair) -> None:
    net, _ = fit_tiny()
    assert not any(module.training for module in net.modules())
    assert np.array_equal(net(data[0]), net(data[0]))


def test_data_as_a_data_set_and_as_a_pair_are_the_same(
    fit_tiny: Fit, data: Pair, tiny: SimpleNamespace
) -> None:
    images, labels = data
    as_set, _ = fit_tiny(data=DataSet(images, labels, ("a", "b", "c")))
    as_pair, _ = fit_tiny(data=[images.astype(np.float64), labels.astype(np.uint8)])
    assert tiny.weights(as_set) == tiny.weights(as_pair)


def test_bytes_are_scaled(fit_tiny: Fit, data: Pair, tiny: SimpleNamespace) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 4), np.uint8)
    labels = np.arange(9) % 3
    scaled = (pixels / np.float32(255))[:, None]
    assert tiny.weights(fit_tiny(data=(pixels, labels))[0]) == tiny.weights(
        fit_tiny(data=(scaled, labels))[0]
    )


@pytest.mark.parametrize("batch_size", [1, 44, 45, 46, 1000])
def test_any_batch_size(fit_tiny: Fit, batch_size: int) -> None:
    _, run = fit_tiny(batch_size=batch_size, epochs=1)
    assert 0 < run.history[0]["loss"] < 3


def test_a_fraction_is_split_off(fit_tiny: Fit, data: Pair, tiny: SimpleNamespace) -> None:
    stay, off = DataSet(*data, classes=("a", "b", "c")).split(0.2, seed=3)
    net, run = fit_tiny(validation=0.2, seed=3)
    other, same = fit_tiny(data=stay, validation=off, seed=3)
    assert tiny.weights(net) == tiny.weights(other)
    assert run.history[0]["validation_loss"] == same.history[0]["validation_loss"]


def test_regression_with_mse() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 1, 2, 2)).astype(np.float32)
    y = (x.reshape(64, 4) @ [1.0, -2.0, 0.5, 0.0] + 0.25).astype(np.float32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    run = st.fit(
        net, (x, y), epochs=40, batch_size=16, optimizer=optim.SGD(0.1), loss="mse",
        validation=0.25, progress=False, backend="reference",
    )  # fmt: skip
    assert run.history[-1]["validation_loss"] < 1e-6
    assert "accuracy" not in run.history[0]
    np.testing.assert_allclose(net.state_dict()["1.weight"], [[1, -2, 0.5, 0]], atol=1e-3)


def test_names_of_optimizers_and_schedules(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    by_name, _ = fit_tiny(optimizer="adam", schedule="cosine")
    by_object, run = fit_tiny(optimizer=optim.Adam(), schedule=optim.Cosine())
    assert tiny.weights(by_name) == tiny.weights(by_object)
    assert run.history[-1]["lr"] == optim.Cosine().at(1e-3, 17, 18, 6)


def test_callbacks_are_called_and_can_end_the_training(
    fit_tiny: Fit, tiny: SimpleNamespace
) -> None:
    seen: list[tuple[int, bytes]] = []

    def callback(record: dict[str, Any], net: nn.Module) -> bool:
        seen.append((record["epoch"], tiny.weights(net)["1.weight"]))
        return record["epoch"] == 2

    net, run = fit_tiny(callbacks=[callback])
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert seen[1][1] == tiny.weights(net)["1.weight"] != seen[0][1]
    assert run.stopped == "callback"


def test_early_stopping_restores_the_best_epoch(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    kept: dict[int, dict[str, bytes]] = {}

    def keep(record: dict[str, Any], net: nn.Module) -> None:
        kept[record["epoch"]] = tiny.weights(net)

    rng = np.random.default_rng(0)
    noise = rng.normal(size=(30, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, 30)
    net, run = fit_tiny(
        data=noise,
        epochs=60,
        validation=tiny.make_data(30, seed=2),
        early_stopping=4,
        callbacks=[keep],
        optimizer=optim.Adam(0.05),
    )
    assert run.stopped == "early stopping"
    assert run.restored
    assert run.best_epoch == len(run.history) - 4
    assert tiny.weights(net) == kept[run.best_epoch] != kept[len(run.history)]
    assert "ended by early stopping" in repr(run)
    assert "restored" in repr(run)


# ---- what it shows ---------------------------------------------------------------------------


def test_plain_lines_and_silence(fit_tiny: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit_tiny()
    assert capsys.readouterr().out == ""
    fit_tiny(progress=True, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2: loss ")
    assert lines[1].endswith("images/s")


# ---- what it refuses -------------------------------------------------------------------------


def with_nan(images: Any, labels: Any) -> Any:
    images[7, 0, 1, 2] = np.nan
    return images, labels


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"data": with_nan}, DataError, "expected finite images; got nan in sample 7 of 45"),
    ({"data": lambda x, y: (x * np.inf, y)}, DataError, "expected finite images; got"),
    ({"data": lambda x, y: (x, y + 1)}, DataError, "the network has 3 outputs; got label 3 at"),
    ({"data": lambda x, y: (x, y - 1)}, DataError, "got label -1 at index 0"),
    ({"data": lambda x, y: (x, y * 1.0)}, DataError, "expected integer labels"),
    ({"data": lambda x, y: (x, y[:, None])}, DataError, "expected integer labels"),
    ({"data": lambda x, y: (x, y[:9])}, DataError, "expected one target for each image"),
    ({"data": lambda x, y: (x[:0], y[:0])}, DataError, "expected at least one image"),
    ({"data": lambda x, y: (x.astype(int), y)}, DataError, "expected images of float32; got int64"),
    ({"data": lambda x, y: x}, DataError, "expected a data set, a source or a pair .* got ndarray"),
    ({"data": lambda x, y: ([[1], [1, 2]], y)}, DataError, "expected two arrays"),
    ({"data": lambda x, y: (x[:, :, :3], y)}, ShapeError, "1, 3, 4. do not fit the network"),
    ({"validation": lambda x, y: (x[:, :, :3], y)}, ShapeError, "validation: expected images"),
    ({"validation": lambda x, y: (x, y + 5)}, DataError, "validation: expected labels 0 … 2"),
    ({"validation": 1.5}, OptionError, "expected a fraction above 0 and below 1"),
    ({"loss": "mse"}, ShapeError, r"expected targets \(n, 3\), the shape of the network's output"),
    ({"loss": "hinge"}, OptionError, "expected 'cross_entropy' or 'mse'; got 'hinge'"),
    ({"epochs": 0}, OptionError, "at least 1; got epochs=0"),
    ({"epochs": 1.5}, OptionError, r"got epochs=1\.5"),
    ({"batch_size": 0}, OptionError, "got batch_size=0"),
    ({"seed": -1}, OptionError, "at least 0; got seed=-1"),
    ({"early_stopping": 2}, OptionError, "expected validation data with early_stopping=2"),
    ({"optimizer": "adm"}, OptionError, "Did you mean 'adam'"),
    ({"optimizer": 0.1}, OptionError, r"expected optimizer as striate\.optim"),
    ({"schedule": 0.1}, OptionError, r"expected schedule as striate\.optim"),
    ({"resume": True}, OptionError, "expected out=FOLDER with resume=True"),
    ({"net": nn.Sequential(nn.Flatten())}, OptionError, "expected a network with parameters"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "message"), BAD)
def test_bad_arguments(
    fit_tiny: Fit,
    tiny: SimpleNamespace,
    tmp_path: Path,
    changes: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    images, labels = tiny.make_data()
    for key in ("data", "validation"):
        if callable(changes.get(key)):
            changes = {**changes, key: changes[key](images.copy(), labels)}
    if "resume" not in changes:
        changes = {**changes, "out": tmp_path / "run"}
    with pytest.raises(kind, match=message):
        fit_tiny(**changes)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes(
    fit_tiny: Fit, tmp_path: Path, data: Pair, tiny: SimpleNamespace
) -> None:
    kept: dict[int, dict[str, bytes]] = {}
    net = tiny.make_net()
    with pytest.raises(
        StriateError,
        match=r"expected a finite loss; got .* in epoch 2 at step \d+ of 6 \(lr=1e\+30\)",
    ):
        fit_tiny(
            net=net,
            out=tmp_path,
            optimizer=optim.SGD(0.1),
            schedule=optim.Step(step_size=1, gamma=1e31),
            callbacks=[lambda record, net: kept.update({record["epoch"]: tiny.weights(net)})],
        )
    assert tiny.weights(net) == kept[1]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert not any(module.training for module in net.modules())
