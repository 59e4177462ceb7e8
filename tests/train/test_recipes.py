"""The networks of the recipes: their sizes, and that they learn with the recipes' settings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import striate as st
from striate.cli.main import run
from striate.optim import OneCycle

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training-recipes.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(striate train .*?)```", PAGE, re.DOTALL)


def network(spec: str) -> Any:
    path, _, name = spec.partition(":")
    found = importlib.util.spec_from_file_location("recipe", ROOT / path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    st.manual_seed(0)
    return getattr(module, name)()


def test_parameters_are_as_the_page_says() -> None:
    for spec in ("mnist.py:Net", "mnist.py:Wide", "cifar.py:Net"):
        count = sum(p.numel() for p in network(f"examples/recipes/{spec}").parameters())
        said = f"{count:,}" if count < 1e6 else f"{count / 1e6:.1f} million"
        assert said in PAGE, (spec, count)


def test_the_smallest_learns_digits() -> None:
    train, test = st.data.load("digits")
    few = train.subset(np.arange(0, 5000, 5))
    record = st.fit(
        network("examples/recipes/mnist.py:Net"),
        few,
        validation=test,
        epochs=3,
        batch_size=32,
        optimizer=st.optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(),
        augment="shift2,rotate10,scale0.1",
        ema=0.9,
        progress=False,
    ).history[-1]
    assert record["validation_accuracy"] > 0.85


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.split()[2])
def test_the_options_are_known(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    """Each command gets as far as its data, which is not there."""
    words = command.replace("\\\n", " ").split()[1:]
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words[1] = "no-such-data"
    assert run(words) == 2
    assert "no-such-data" in capsys.readouterr().err
