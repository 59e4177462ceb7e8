"""Checkpoints: exact resume, interruption at any moment, full disks and damaged files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import striate as st
from striate import nn, optim
from striate.errors import FileError, ModelError, OptionError
from striate.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from striate.train.run import Interrupted, Run

Fit = Callable[..., tuple[nn.Module, Run]]
FILES = {
    "best.safetensors",
    "checkpoint.safetensors",
    "metrics.jsonl",
    "model.safetensors",
    "settings.json",
}


def losses(run: Run) -> list[float]:
    return [record["loss"] for record in run.history]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# ---- what is written -------------------------------------------------------------------------


def test_the_folder_of_a_training(fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path) -> None:
    net, run = fit_tiny(out=tmp_path / "a" / "b", validation=0.2)
    folder = tmp_path / "a" / "b"
    assert {path.name for path in folder.iterdir()} == FILES
    assert metrics(folder) == run.history
    assert tiny.weights(st.load(folder / "model.safetensors")) == tiny.weights(net)
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["optimizer"]["name"] == "Adam"
    assert settings["epochs"] == 3


def test_the_best_model_is_that_of_the_best_epoch(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    kept: dict[int, dict[str, bytes]] = {}
    _, run = fit_tiny(
        out=tmp_path,
        epochs=8,
        optimizer=optim.SGD(5.0),
        validation=0.2,
        callbacks=[lambda record, net: kept.update({record["epoch"]: tiny.weights(net)})],
    )
    assert run.best_epoch is not None
    assert tiny.weights(st.load(tmp_path / "best.safetensors")) == kept[run.best_epoch]


def test_a_checkpoint_goes_round(tmp_path: Path) -> None:
    arrays = {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    state = {"momentum:0.weight": np.ones((2, 3), np.float32)}
    given = Checkpoint(arrays, state, {}, [{"epoch": 1, "loss": 0.1}], {"seed": 3})
    save_checkpoint(tmp_path / "c", given)
    again = load_checkpoint(tmp_path / "c")
    assert again.history == given.history
    assert again.settings == given.settings
    assert again.best == {}
    np.testing.assert_array_equal(again.parameters["0.weight"], arrays["0.weight"])
    np.testing.assert_array_equal(again.state["momentum:0.weight"], state["momentum:0.weight"])


# ---- exact resume ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_resumed_is_uninterrupted_byte_for_byte(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    given: dict[str, Any] = {"optimizer": name, "schedule": "one-cycle", "epochs": 5, "seed": 3}
    given["validation"] = 0.2
    whole, run = fit_tiny(out=tmp_path / "whole", **given)
    _, part = fit_tiny(
        out=tmp_path / "part", callbacks=[lambda record, net: record["epoch"] == 2], **given
    )
    assert part.stopped == "callback"
    # Another network object with other weights: all comes from the checkpoint.
    net, resumed = fit_tiny(
        net=tiny.make_net().apply(lambda m: None), out=tmp_path / "part", resume=True, **given
    )
    assert tiny.weights(net) == tiny.weights(whole)
    assert losses(resumed) == losses(run)
    assert resumed.best_epoch == run.best_epoch
    for file in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "part" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    first, second = (
        load_checkpoint(tmp_path / k / "checkpoint.safetensors") for k in ("whole", "part")
    )
    for group in ("parameters", "state"):
        ours, theirs = getattr(first, group), getattr(second, group)
        assert {n: a.tobytes() for n, a in ours.items()} == {
            n: a.tobytes() for n, a in theirs.items()
        }
    assert [record["epoch"] for record in metrics(tmp_path / "part")] == [1, 2, 3, 4, 5]


def test_resume_does_not_depend_on_the_weights_given(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    whole, _ = fit_tiny(epochs=2)
    fit_tiny(out=tmp_path, epochs=1)
    other = tiny.make_net()
    for parameter in other.parameters():
        parameter.data[...] = 7
    net, _ = fit_tiny(net=other, out=tmp_path, epochs=2, resume=True)
    assert tiny.weights(net) == tiny.weights(whole)


def test_resume_of_a_finished_training_loads_it(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    whole, run = fit_tiny(out=tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    net, again = fit_tiny(out=tmp_path, resume=True)
    assert tiny.weights(net) == tiny.weights(whole)
    assert again.history == run.history == metrics(tmp_path)


def test_early_stopping_is_resumed_exactly(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    given = {"epochs": 40, "validation": 0.4, "early_stopping": 3, "optimizer": optim.SGD(3.0)}
    whole, run = fit_tiny(**given)
    assert run.stopped == "early stopping"
    best = run.best_epoch or 0
    # Ended after the best epoch, before patience is over: the best must come from the checkpoint.
    _, part = fit_tiny(
        out=tmp_path, callbacks=[lambda record, net: record["epoch"] == best + 1], **given
    )
    assert part.stopped == "callback"
    net, resumed = fit_tiny(out=tmp_path, resume=True, **given)
    assert resumed.stopped == "early stopping"
    assert (resumed.best_epoch, resumed.restored) == (best, True)
    assert (
        tiny.weights(net)
        == tiny.weights(whole)
        == tiny.weights(st.load(tmp_path / "model.safetensors"))
    )
    # And once more, when nothing is left to do.
    net, resumed = fit_tiny(out=tmp_path, resume=True, **given)
    assert tiny.weights(net) == tiny.weights(whole)
    assert resumed.stopped == "early stopping"


def test_a_training_that_had_no_epoch_yet_begins_anew(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    fit_tiny(out=tmp_path)
    whole = tiny.weights(st.load(tmp_path / "model.safetensors"))
    for name in FILES - {"settings.json"}:
        (tmp_path / name).unlink()
    net, _ = fit_tiny(out=tmp_path, resume=True)
    assert tiny.weights(net) == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 9}, "got batch size 9 instead of 8"),
        ({"seed": 4}, "got seed 4 instead of 0"),
        ({"seed": 4, "batch_size": 9}, "batch size 9 instead of 8, seed 4 instead of 0"),
        ({"optimizer": optim.SGD(0.1)}, r"optimizer SGD\(lr=0\.1, .*\) instead of Adam\(lr=0\.001"),
        ({"schedule": "cosine"}, r"schedule Cosine\(.*\) instead of Constant\(\)"),
        ({"validation": 0.2}, "training samples 36 instead of 45"),
        ({"epochs": 2}, "expected epochs of at least 3, which .* has done; got epochs=2"),
    ],
)
def test_other_settings_are_refused(
    fit_tiny: Fit, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    fit_tiny(out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OptionError, match=message):
        fit_tiny(out=tmp_path, resume=True, **changes)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_data_and_networks_are_refused(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    fit_tiny(out=tmp_path)
    with pytest.raises(OptionError, match=r"training data '.*' instead of '.*'"):
        fit_tiny(out=tmp_path, resume=True, data=tiny.make_data(seed=9))
    with pytest.raises(OptionError, match=r"network '.*' instead of '.*'"):
        fit_tiny(out=tmp_path, resume=True, net=tiny.make_net(dropout=0.5))


def test_more_epochs_with_a_schedule_that_has_no_end(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    whole, _ = fit_tiny(epochs=4)
    fit_tiny(out=tmp_path, epochs=2)
    net, _ = fit_tiny(out=tmp_path, epochs=4, resume=True)
    assert tiny.weights(net) == tiny.weights(whole)
    fit_tiny(out=tmp_path, epochs=2, schedule="cosine")
    with pytest.raises(OptionError, match="epochs 4 instead of 2"):
        fit_tiny(out=tmp_path, epochs=4, schedule="cosine", resume=True)


# ---- damage ----------------------------------------------------------------------------------


def test_nothing_to_resume(fit_tiny: Fit, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"expected a training in .*; it has no checkpoint"):
        fit_tiny(out=tmp_path, resume=True)


def test_a_flipped_bit_anywhere_is_found(fit_tiny: Fit, tmp_path: Path) -> None:
    fit_tiny(out=tmp_path, epochs=1)
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"checkpoint\.safetensors: "):
            load_checkpoint(path)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_truncated_checkpoint_is_refused(fit_tiny: Fit, tmp_path: Path, size: int) -> None:
    fit_tiny(out=tmp_path, epochs=1)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"checkpoint\.safetensors: expected"):
        fit_tiny(out=tmp_path, resume=True)


def test_a_model_is_no_checkpoint(fit_tiny: Fit, tmp_path: Path) -> None:
    fit_tiny(out=tmp_path, epochs=1)
    (tmp_path / "model.safetensors").replace(tmp_path / "checkpoint.safetensors")
    with pytest.raises(ModelError, match="expected a checkpoint of a training; got a safetensors"):
        fit_tiny(out=tmp_path, resume=True)


def test_a_full_disk_leaves_the_old_checkpoint(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = fit_tiny(epochs=3)
    fit_tiny(out=tmp_path, epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FileError, match="the disk is full"):
            fit_tiny(out=tmp_path, epochs=3, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    net, _ = fit_tiny(out=tmp_path, epochs=3, resume=True)
    assert tiny.weights(net) == tiny.weights(whole)


def test_a_new_training_leaves_the_old_files_until_it_has_its_own(
    fit_tiny: Fit, tmp_path: Path
) -> None:
    fit_tiny(out=tmp_path)
    before = load_checkpoint(tmp_path / "checkpoint.safetensors")
    with pytest.raises(ZeroDivisionError, match="division"):
        fit_tiny(out=tmp_path, seed=8, epochs=1, schedule=Faulty())
    after = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert after.settings == before.settings


class Faulty(optim.Schedule):
    """A schedule that fails in the second step."""

    def at(self, lr: float, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return lr / (1 - step)


# ---- interruption ----------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself a signal, as POSIX has it")
def test_ctrl_c_keeps_the_last_finished_epoch(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from striate.program import reference

    monkeypatch.setattr(reference, "_REPORT_SECONDS", 0.0)
    whole, _ = fit_tiny(epochs=4)
    kept: dict[int, dict[str, bytes]] = {}

    def press(record: dict[str, Any], net: nn.Module) -> None:
        kept[record["epoch"]] = tiny.weights(net)
        if record["epoch"] == 2:  # the epoch after this one stops at its first step
            monkeypatch.setattr(
                "striate.train.progress.Silent.step",
                lambda *_: os.kill(os.getpid(), signal.SIGINT) if not kept.get(-1) else None,
            )

    net = tiny.make_net()
    with pytest.raises(Interrupted, match="interrupted in epoch 3 of 4; epoch 2 is kept") as info:
        fit_tiny(net=net, epochs=4, out=tmp_path, callbacks=[press])
    assert isinstance(info.value, KeyboardInterrupt)
    assert len(info.value.run.history) == 2
    assert tiny.weights(net) == kept[2]
    assert len(load_checkpoint(tmp_path / "checkpoint.safetensors").history) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    kept[-1] = {"done": b""}
    net, _ = fit_tiny(epochs=4, out=tmp_path, resume=True)
    assert tiny.weights(net) == tiny.weights(whole)


def test_an_interruption_without_our_handler(fit_tiny: Fit, tiny: SimpleNamespace) -> None:
    def press(record: dict[str, Any], net: nn.Module) -> None:
        raise KeyboardInterrupt

    net = tiny.make_net()
    with pytest.raises(Interrupted, match="in epoch 2 of 3; epoch 1 is kept"):
        fit_tiny(net=net, callbacks=[press])
    assert tiny.weights(net) == tiny.weights(fit_tiny(epochs=1)[0])


CHILD = """
import sys
import numpy as np
import striate as st
from striate import nn

st.manual_seed(5)
net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
labels = np.arange(24) % 3
images = np.random.default_rng(1).normal(size=(24, 1, 4, 4)).astype(np.float32)
print("ready", flush=True)
st.fit(net, (images, labels), epochs=400, batch_size=24, optimizer="momentum", progress=False,
       backend="reference", out=sys.argv[1], resume="resume" in sys.argv)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_killed_at_any_moment_the_checkpoint_is_whole(tmp_path: Path) -> None:
    folder, done = tmp_path / "run", -1
    pauses = np.random.default_rng(2).uniform(0.02, 0.2, 6)
    for attempt, pause in enumerate(pauses):
        arguments = [sys.executable, "-c", CHILD, str(folder), *(["resume"] if attempt else [])]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            while not (folder / "settings.json").exists() and child.poll() is None:
                time.sleep(0.01)
            time.sleep(pause)
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL, "it ended before it was killed"
        if not (folder / "checkpoint.safetensors").exists():
            continue
        checkpoint = load_checkpoint(folder / "checkpoint.safetensors")
        assert len(checkpoint.history) >= done
        done = len(checkpoint.history)
        if (folder / "model.safetensors").exists():
            st.load(folder / "model.safetensors")
    assert done > 0
    # What the killed processes left is the same as what one process reaches in as many epochs.
    again = tmp_path / "again"
    source = CHILD.replace("epochs=400", f"epochs={done}")
    subprocess.run(
        [sys.executable, "-c", source, str(again)], check=True, stdout=subprocess.DEVNULL
    )
    theirs = load_checkpoint(again / "checkpoint.safetensors")
    for group in ("parameters", "state"):
        ours, others = getattr(checkpoint, group), getattr(theirs, group)
        assert {n: a.tobytes() for n, a in ours.items()} == {
            n: a.tobytes() for n, a in others.items()
        }
