"""The cost model: measured once, kept, and a function of sizes from then on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate import filters
from striate.codegen.targets import current_target
from striate.filters import cost


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    monkeypatch.setattr(cost, "measure", lambda: {k: (a, 2 * b) for k, (a, b) in FOUND.items()})
    cost._constants.cache_clear()
    yield tmp_path
    cost._constants.cache_clear()


FOUND = cost.BUILT_IN


def test_measured_once_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cost.constants()
    file = cost.constants_file(current_target())
    assert file.parent == folder
    assert first["direct"] == (FOUND["direct"][0], 2 * FOUND["direct"][1])
    monkeypatch.setattr(cost, "measure", lambda: pytest.fail("measured again"))
    cost._constants.cache_clear()
    assert cost.constants() == first


@pytest.mark.parametrize("text", ["", "{}", '{"format": "striate-filters-1", "constants": {}}'])
def test_a_damaged_file_is_measured_anew(folder: Path, text: str) -> None:
    file = cost.constants_file(current_target())
    file.write_text(text, encoding="utf-8")
    assert cost.constants()["fft"][1] == 2 * FOUND["fft"][1]
    assert json.loads(file.read_text(encoding="utf-8"))["format"] == "striate-filters-1"


def test_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_TUNED", "0")
    assert cost.constants() is cost.BUILT_IN
    rng = np.random.default_rng(0)
    found = {}
    for size in (3, 31, 201, 601):
        found[size] = filters.choose((1024, 1024), rng.normal(size=(size, size))).algorithm
    assert found == {3: "direct", 31: "column_fft", 201: "fft", 601: "fft"}
    assert filters.choose((1024, 1024), filters.gaussian(5, 31)).algorithm == "separable"
    assert filters.choose((1024, 1024), np.ones((101, 101))).algorithm == "separable"
    assert filters.choose((1024, 1024), rng.normal(size=(70, 90))).terms == 70


def test_measuring_is_sane() -> None:
    st.set_num_threads(2)
    found = cost.measure()
    assert found.keys() == cost.BUILT_IN.keys()
    assert all(a >= 0 and b > 0 for a, b in found.values())
    assert st.get_num_threads() == 2


def test_the_choice_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_TUNED", "0")
    kernel = np.random.default_rng(1).normal(size=(13, 13))
    st.set_num_threads(1)
    one = filters.choose((500, 500), kernel)
    st.set_num_threads(16)
    assert filters.choose((500, 500), kernel) == one


def test_large_kernels_of_many_channels_are_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_TUNED", "0")
    assert cost.choose_channels((1, 256, 256), (8, 8, 3, 3)).algorithm == "direct"
    assert cost.choose_channels((1, 256, 256), (8, 8, 101, 101)).algorithm != "direct"
