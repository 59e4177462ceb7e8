"""Which target is in force, and what STRIATE_TARGET may say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from striate.codegen import targets
from striate.codegen.targets import TARGETS, Target, current_target, runs_here
from striate.errors import OptionError

RUNNABLE = [t for t in TARGETS.values() if runs_here(t)]


def test_the_best_target_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIATE_TARGET", raising=False)
    found = current_target()
    assert found.cpu == "host" and found.width == max(t.width for t in RUNNABLE)
    monkeypatch.setenv("STRIATE_TARGET", "host")
    assert current_target() == found


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_a_target_by_name(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {target.name, target.name.removeprefix("x86-64-"), f" {target.name} "}:
        monkeypatch.setenv("STRIATE_TARGET", name)
        assert current_target() == target


def test_unknown_and_absent_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_TARGET", "x86-64-v33")
    with pytest.raises(OptionError, match=r"unknown target 'x86-64-v33'. Did you mean 'x86-64-v3'"):
        current_target()
    monkeypatch.setenv("STRIATE_TARGET", "v4")
    monkeypatch.setattr(targets, "host_features", lambda: frozenset({"sse4_2", "ssse3", "popcnt"}))
    with pytest.raises(OptionError, match="this CPU cannot run x86-64-v4"):
        current_target()


def test_a_machine_that_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIATE_TARGET", raising=False)
    monkeypatch.setattr(targets.platform, "machine", lambda: "riscv64")
    targets._host_target.cache_clear()
    try:
        with pytest.raises(OptionError, match=r"got 'riscv64'.*STRIATE_BACKEND=reference"):
            current_target()
    finally:
        targets._host_target.cache_clear()


def test_the_host_is_told_apart() -> None:
    assert len(targets.host_identity()) == 16
    assert targets.host_identity() == targets.host_identity()


_RUN = """
import numpy as np, striate as st
from striate import nn
from striate.codegen.targets import current_target
from striate.optim import SGD
st.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4))
x = np.random.default_rng(0).normal(size=(20, 1, 8, 8)).astype("f4")
st.fit(net, (x, np.arange(20) % 4), epochs=2, batch_size=7, optimizer=SGD(0.1), progress=False)
print(current_target().name, *net(x)[3].tolist())
"""


def test_the_variable_in_a_process_of_its_own() -> None:
    results = {}
    for target in RUNNABLE:
        done = subprocess.run(
            [sys.executable, "-c", _RUN],
            env={**os.environ, "STRIATE_TARGET": target.name},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        name, *numbers = done.stdout.split()
        assert name == target.name
        results[name] = [float(n) for n in numbers]
    first = next(iter(results.values()))
    assert all(r == pytest.approx(first, rel=1e-4, abs=1e-5) for r in results.values())
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        env={**os.environ, "STRIATE_TARGET": "v9"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode and "unknown target 'v9'" in done.stderr
