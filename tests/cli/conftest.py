"""A command line to call, and small things for it to work on: a data set, a network, a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.cli.main import run

NET = """\
from striate import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(36, 10)

    def forward(self, x):
        return self.fc(self.pool(self.relu(self.conv(x))).flatten(1))
"""


@dataclass
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Answer]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command line in this process, in an empty folder, with the reference backend."""
    monkeypatch.setenv("STRIATE_BACKEND", "reference")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        found = capsys.readouterr()
        return Answer(code, found.out, found.err)

    return call


def _start(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "striate", *map(str, arguments)]
    environment = {**os.environ, "STRIATE_BACKEND": "reference"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **more,
    )


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line as a process of its own; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, **more: Any) -> subprocess.Popen[str]:
        started.append(_start(*arguments, **more))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array of bytes as an IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx_folder(folder: Path, train: int = 60, test: int = 20) -> Path:
    """Four IDX files of 8×8 images: class k is bright in the k-th of its first rows."""
    folder.mkdir()
    random = np.random.default_rng(5)
    for part, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        images = random.integers(0, 40, (count, 8, 8))
        images[np.arange(count), labels % 5 + 1, 1 + (labels // 5) * 4] = 255
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of four small IDX files."""
    return write_idx_folder(tmp_path / "tiny")


@pytest.fixture
def net(tmp_path: Path) -> str:
    """A Python file with a small network, as --model wants it."""
    path = tmp_path / "net.py"
    path.write_text(NET, encoding="utf-8")
    return f"{path}:Net"


@pytest.fixture
def model(cli: Cli, data: Path, net: str, tmp_path: Path) -> Path:
    """The folder of a short training."""
    answer = cli(
        "train", "--data", data, "--model", net, "--epochs", 2, "--lr", 0.01, "--out", "run"
    )
    assert answer.code == 0, answer.err
    return tmp_path / "run"


@pytest.fixture
def width() -> Callable[[str], int]:
    """The width of a picture file."""
    from PIL import Image

    def measure(path: str) -> int:
        with Image.open(path) as image:
            image.load()
            return image.width

    return measure


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG of 16×16: a dark stroke on white."""
    from PIL import Image

    pixels = np.full((16, 16), 255, np.uint8)
    pixels[3:13, 7:9] = 0
    path = tmp_path / "stroke.png"
    Image.fromarray(pixels).save(path)
    return path
