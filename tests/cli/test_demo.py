"""`striate demo`: the folder that it leaves, and that the commands it prints work."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate.cli.demo import _with_shifts, run_demo

FIGURES = ("filters", "feature_maps", "confusion", "mistakes", "curves")


@pytest.fixture
def few() -> tuple[st.data.DataSet, st.data.DataSet]:
    train, test = st.data.load("digits")
    return train.subset(range(0, 5000, 125)), test.subset(range(0, 1000, 10))


def test_the_folder_and_the_next_commands(cli, few, capsys, width):
    run_demo(*few, Path("a demo"), epochs=1, seed=0, backend=None)
    out = capsys.readouterr().out
    assert "% right" in out
    assert "agrees" in out
    for name in FIGURES:
        assert width(f"a demo/{name}.png") > 700
    for name in ("model.safetensors", "metrics.jsonl", "digits/0.png", "digits/9.png"):
        assert Path("a demo", name).exists()
    commands = [line.strip() for line in out.splitlines() if line.startswith("  striate ")]
    assert len(commands) == 5
    for command in commands[:3]:  # the others take long in the reference backend
        answer = cli(*shlex.split(command, comments=True)[1:])
        assert answer.code == 0, answer.err


def test_a_foreign_folder_is_refused(cli):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    answer = cli("demo", "--out", "mine")
    assert answer.code == 2
    assert "mine is neither. Choose another, as mine-2." in answer.err
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]


def test_copies_are_shifted_by_one_pixel(few):
    train, _ = few
    images, labels = _with_shifts(train)
    count = len(train)
    assert images.shape == (5 * count, 1, 28, 28)
    assert (labels.reshape(5, count) == train.labels).all()
    np.testing.assert_array_equal(images[:count], train.images)
    np.testing.assert_array_equal(images[count : 2 * count, :, 1:], train.images[:, :, :-1])
    np.testing.assert_array_equal(images[2 * count : 3 * count, :, :-1], train.images[:, :, 1:])
    np.testing.assert_array_equal(images[3 * count : 4 * count, ..., 1:], train.images[..., :-1])
    np.testing.assert_array_equal(images[4 * count :, ..., :-1], train.images[..., 1:])
    assert not images[count : 2 * count, :, 0].any()


@pytest.mark.slow
def test_the_whole_demo_reaches_its_accuracy(cli, monkeypatch):
    monkeypatch.setenv("STRIATE_BACKEND", "native")
    answer = cli("demo")
    assert answer.code == 0, answer.err
    share = float(answer.out.partition(" % right")[0].split()[-1])
    assert share >= 97.5
    assert Path("striate-demo/filters.png").exists()
    for line in answer.out.splitlines():
        if line.startswith("  striate ") and "mnist" not in line:
            assert cli(*shlex.split(line, comments=True)[1:]).code == 0, line
