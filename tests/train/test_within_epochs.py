"""Checkpoints within epochs: exact after an exception, after Ctrl-C and after SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from striate import nn
from striate.errors import ModelError, OptionError
from striate.train import Callback, Interrupted
from striate.train.checkpoint import load_checkpoint
from striate.train.run import Run

Fit = Callable[..., tuple[nn.Module, Run]]
MORE: dict[str, Any] = {
    "optimizer": "momentum",
    "clip_norm": 0.5,
    "ema": 0.9,
    "schedule": "one-cycle",
}


class Stop(Callback):
    """Raises after so many calls of `on_step`."""

    def __init__(self, at: int, error: type[BaseException] = ZeroDivisionError) -> None:
        self.left, self.error = at, error

    def on_step(self, record: dict[str, Any], net: nn.Module) -> None:
        self.left -= 1
        if not self.left:
            raise self.error("stopped")


def course(run: Run) -> list[dict[str, Any]]:
    """The history without times."""
    times = ("seconds", "images_per_second", "loader_share")
    return [{k: v for k, v in record.items() if k not in times} for record in run.history]


@pytest.mark.parametrize("augment", [None, "flip,crop1"])
@pytest.mark.parametrize("backend", ["reference", "native"])
@pytest.mark.parametrize("steps", [3, 9, 14])  # of 3 · 6: in the first, second and third epoch
def test_resumed_within_an_epoch_is_uninterrupted(
    fit_tiny: Fit,
    tiny: SimpleNamespace,
    tmp_path: Path,
    augment: str | None,
    backend: str,
    steps: int,
) -> None:
    more = {**MORE, "backend": backend, "augment": augment, "validation": 0.2}
    whole, run = fit_tiny(**more)
    more |= {"out": tmp_path, "save_steps": 2}
    with pytest.raises(ZeroDivisionError, match="stopped"):
        fit_tiny(**more, callbacks=[Stop(steps)])
    found = load_checkpoint(tmp_path / "step.safetensors")
    per_epoch = 5
    assert (
        len(found.history) * per_epoch + found.step
        == (steps - 1) // per_epoch * per_epoch + ((steps - 1) % per_epoch) // 2 * 2
    )
    again, other = fit_tiny(**more, resume=True)
    assert tiny.weights(again) == tiny.weights(whole)
    assert course(other) == course(run)
    assert not (tmp_path / "step.safetensors").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_keeps_the_steps(fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path) -> None:
    whole, run = fit_tiny(**MORE)

    class Press(Callback):
        def on_step(self, record: dict[str, Any], net: nn.Module) -> None:
            if record["step"] == 8:
                signal.raise_signal(signal.SIGINT)

    net = tiny.make_net()
    with pytest.raises(Interrupted, match="interrupted in epoch 2 of 3; epoch 1 is kept"):
        fit_tiny(net=net, **MORE, out=tmp_path, callbacks=[Press()])
    assert load_checkpoint(tmp_path / "step.safetensors").step == 2  # noticed before the next one
    again, other = fit_tiny(**MORE, out=tmp_path, resume=True)
    assert tiny.weights(again) == tiny.weights(whole)
    assert course(other) == course(run)


def test_a_checkpoint_by_the_clock(fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path) -> None:
    """Due at every moment: native epochs are left between steps, and nothing changes."""
    whole, _ = fit_tiny(**MORE, backend="native")
    seen: list[int] = []

    class Look(Callback):
        def on_step(self, record: dict[str, Any], net: nn.Module) -> None:
            seen.append(int((tmp_path / "step.safetensors").exists()))

    found, _ = fit_tiny(
        **MORE, backend="native", out=tmp_path, save_minutes=1e-9, callbacks=[Look()]
    )
    assert sum(seen) >= 6
    assert tiny.weights(found) == tiny.weights(whole)


def test_an_old_step_file_is_not_taken(
    fit_tiny: Fit, tiny: SimpleNamespace, tmp_path: Path
) -> None:
    more = {**MORE, "out": tmp_path, "save_steps": 2}
    with pytest.raises(ZeroDivisionError, match="stopped"):
        fit_tiny(**more, callbacks=[Stop(4)])
    old = (tmp_path / "step.safetensors").read_bytes()
    with pytest.raises(ZeroDivisionError, match="stopped"):
        fit_tiny(**more, resume=True, callbacks=[Stop(10)])
    (tmp_path / "step.safetensors").write_bytes(old)  # of the first epoch, which is finished
    again, _ = fit_tiny(**more, resume=True)
    assert tiny.weights(again) == tiny.weights(fit_tiny(**MORE)[0])


def test_a_damaged_or_foreign_step_file(fit_tiny: Fit, tmp_path: Path) -> None:
    more = {**MORE, "out": tmp_path, "save_steps": 2}
    with pytest.raises(ZeroDivisionError, match="stopped"):
        fit_tiny(**more, callbacks=[Stop(4)])
    with pytest.raises(OptionError, match="batch size 4 instead of 8"):
        fit_tiny(**{**more, "batch_size": 4}, resume=True)
    path = tmp_path / "step.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"Remove this file: the training then goes on from"):
        fit_tiny(**more, resume=True)
    path.unlink()
    fit_tiny(**more, resume=True)


CHILD = """
import sys
import numpy as np
import striate as st
from striate import nn

st.manual_seed(5)
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
                    nn.Flatten(), nn.Linear(4 * 36, 3))
labels = np.arange(2400) % 3
images = np.random.default_rng(1).normal(size=(2400, 1, 8, 8)).astype(np.float32)
print("ready", flush=True)
st.fit(net, (images, labels), epochs=3, batch_size=8, optimizer="momentum", progress=False,
       augment="flip,crop1,cutout2", ema=0.99, clip_norm=1.0, schedule="cosine", log=sys.argv[1],
       out=sys.argv[1], resume="resume" in sys.argv, save_steps=40)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
def test_killed_within_epochs_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """A native training with dropout, augmentation and averages, killed twice."""
    folder = tmp_path / "killed"

    def start(*more: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-c", CHILD, *more]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE)

    with start(str(tmp_path / "whole")) as whole:
        places: list[tuple[int, int]] = []
        for attempt in range(2):
            with start(str(folder), *(["resume"] if attempt else [])) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                path = folder / "step.safetensors"
                before = path.stat().st_mtime_ns if path.exists() else 0
                while not path.exists() or path.stat().st_mtime_ns == before:
                    assert child.poll() is None, "it ended before it was killed"
                    time.sleep(0.005)
                time.sleep(0.03 * attempt)
                child.send_signal(signal.SIGKILL)
            if path.exists():
                found = load_checkpoint(path)
                places.append((len(found.history), found.step))
        with start(str(folder), "resume") as child:
            assert child.wait(timeout=120) == 0
        assert whole.wait(timeout=120) == 0
    assert places == sorted(places)
    assert places[0][1] > 0
    model = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == model
    steps = [line.split('"step": ')[1] for line in (folder / "log.jsonl").read_text().splitlines()]
    wanted = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    assert len(steps) == len(wanted)
