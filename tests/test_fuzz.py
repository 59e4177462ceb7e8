"""Every reader of files, given damaged ones for a moment; and that the checker sees what is wrong.

`python tools/fuzz.py --minutes 60` does the same for longer, each reader in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from striate.errors import DataError

FILE = Path(__file__).parents[1] / "tools" / "fuzz.py"
NAMES = (
    *("torch", "torch-pickle", "torch-stream", "safetensors", "safetensors-header", "model"),
    *("model-graph", "npz", "npz-array", "idx", "picture", "shards", "archive", "onnx"),
)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("striate_fuzz", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_reader_is_tried(tool: ModuleType) -> None:
    assert tuple(tool.READERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")  # of Pillow and others about what they read
def test_a_moment_of_damaged_files(
    tool: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "onnx":
        pytest.importorskip("onnx")
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    outcome = tool.fuzz(name, tool.READERS[name], 0.4, 1, tmp_path, most=200)
    assert outcome.findings == []
    assert outcome.files > len(tool.READERS[name].seeds())


# ---- the checker ---------------------------------------------------------------------------------


def bad_type(path: Path, folder: Path) -> None:
    raise ValueError("deep inside")


def several_lines(path: Path, folder: Path) -> None:
    raise DataError("one\ntwo")


def hungry(path: Path, folder: Path) -> None:
    np.ones(300 << 20, np.uint8)


def escaping(path: Path, folder: Path) -> None:
    (folder / ".." / "escaped").write_bytes(b"x")


def slow(path: Path, folder: Path) -> None:
    time.sleep(3)


WRONG = {
    "ValueError: deep inside": bad_type,
    "no sentence": several_lines,
    "MiB for": hungry,
    "a file outside": escaping,
    "no answer within 1 s": slow,
}


@pytest.mark.parametrize("finding", WRONG)
def test_what_is_wrong_is_found(
    tool: ModuleType, finding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if finding == "MiB for" and not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of memory is counted on Linux")
    monkeypatch.setattr(tool, "SECONDS", 1 if WRONG[finding] is slow else 60)
    reader: Any = tool.Reader(lambda: [b"seed"], WRONG[finding])
    outcome = tool.fuzz("bad", reader, 10, 0, tmp_path, most=1)
    assert len(outcome.findings) == 1 and finding in outcome.findings[0]
    assert (tmp_path / "findings" / "bad-0.bin").read_bytes() == b"seed"


def test_a_refusal_in_a_sentence_is_no_finding(tool: ModuleType, tmp_path: Path) -> None:
    def refuse(path: Path, folder: Path) -> None:
        raise DataError("file: expected pictures; got none.")

    outcome = tool.fuzz("good", tool.Reader(lambda: [b"seed"], refuse), 10, 0, tmp_path, most=5)
    assert (outcome.files, outcome.refused, outcome.findings) == (5, 5, [])


def test_changes_change_and_come_from_the_seed(tool: ModuleType) -> None:
    seeds = [bytes(range(256)), b"12 34 56"]

    def some(seed: int) -> list[bytes]:
        random = np.random.default_rng(seed)
        return [tool.changed(seeds[0], seeds, random) for _ in range(50)]

    assert some(1) == some(1) != some(2)
    assert sum(content != seeds[0] for content in some(1)) > 40
