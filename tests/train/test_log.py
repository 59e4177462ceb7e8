"""Event files and lines of JSON, read back by a reader of the test's own and by TensorBoard."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from striate import nn
from striate.errors import FileError, OptionError
from striate.train import Callback
from striate.train.run import Run
from striate.train.tensorboard import EventFile, crc32c, masked_crc32c

Fit = Callable[..., tuple[nn.Module, Run]]


def records(path: Path) -> list[bytes]:
    """The records of a file, their checksums compared with zlib-free ones of the test's own."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12])[0] == masked_crc32c(content[:8])
        data = content[12 : 12 + length]
        assert struct.unpack("<I", content[12 + length : 16 + length])[0] == masked_crc32c(data)
        found.append(data)
        content = content[16 + length :]
    return found


def fields(data: bytes) -> list[tuple[int, Any]]:
    """Protobuf's wire format: (field, value)."""
    found, at = [], 0

    def varint() -> int:
        nonlocal at
        number, shift = 0, 0
        while True:
            byte = data[at]
            number, shift, at = number | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return number

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value: Any = varint()
        elif key & 7 == 1:
            value, at = struct.unpack("<d", data[at : at + 8])[0], at + 8
        elif key & 7 == 5:
            value, at = struct.unpack("<f", data[at : at + 4])[0], at + 4
        else:
            size = varint()
            value, at = data[at : at + size], at + size
        found.append((key >> 3, value))
    return found


def scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records(path)[1:]:
        event = dict(fields(record))
        if 5 in event:
            for _, value in fields(event[5]):
                parts = dict(fields(value))
                found.setdefault(parts[1].decode(), []).append((event[2], parts[2]))
    return found


def events(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("data", "value"),  # of RFC 3720, B.4
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_crc32c(data: bytes, value: int) -> None:
    assert crc32c(data) == value


def test_the_files_of_a_training(fit_tiny: Fit, tmp_path: Path) -> None:
    _, run = fit_tiny(log=tmp_path, log_steps=2, validation=0.2, augment="flip")
    (path,) = events(tmp_path)
    first = dict(fields(records(path)[0]))
    assert first[3] == b"brain.Event:2"
    found = scalars(path)
    names = "loss accuracy lr gradient_norm images_per_second loader_share seconds".split()
    wanted = {f"train/{name}" for name in names} | {"validation/loss", "validation/accuracy"}
    wanted |= {f"step/{name}" for name in ("loss", "accuracy", "lr", "gradient_norm")}
    assert set(found) == wanted
    losses = [record["loss"] for record in run.history]
    assert [step for step, _ in found["train/loss"]] == [5, 10, 15]
    assert [value for _, value in found["train/loss"]] == pytest.approx(losses)
    assert [step for step, _ in found["step/loss"]] == [2, 4, 7, 9, 12, 14]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5, 7, 9, 10, 12, 14, 15]
    assert [line["loss"] for line in lines if "seconds" in line] == losses
    assert all(line["gradient_norm"] > 0 for line in lines)


def test_steps_of_memory_are_steps_of_a_stream(fit_tiny: Fit, tmp_path: Path) -> None:
    for name, augment in (("memory", None), ("stream", "flip0")):
        fit_tiny(log=tmp_path / name, log_steps=2, augment=augment, backend="native")
    one, two = (
        [
            json.loads(line)
            for line in (tmp_path / name / "log.jsonl").read_text().splitlines()
            if "seconds" not in line
        ]
        for name in ("memory", "stream")
    )
    assert one == two


def test_a_resumed_log_has_every_step_once(fit_tiny: Fit, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, record: dict[str, Any], net: nn.Module) -> None:
            if record["step"] == 11:
                raise ZeroDivisionError("stopped")

    more: dict[str, Any] = {"log_steps": 1, "out": tmp_path / "out", "save_steps": 3}
    with pytest.raises(ZeroDivisionError, match="stopped"):
        fit_tiny(log=tmp_path / "a", callbacks=[Stop()], **more)
    with open(tmp_path / "a" / "log.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 11, "lo')  # as a kill leaves it
    fit_tiny(log=tmp_path / "a", resume=True, **more)
    fit_tiny(log=tmp_path / "b", log_steps=1)

    def steps(name: str) -> list[tuple[int, float]]:
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        return [(record["step"], record["loss"]) for record in map(json.loads, lines)]

    assert steps("a") == steps("b")
    _, second = sorted(events(tmp_path / "a"), key=lambda path: path.stat().st_mtime_ns)
    session = dict(fields(records(second)[1]))
    assert (session[2], session[7]) == (10, b"\x08\x01")  # forget what is said of step 10 and on


def test_a_folder_that_is_none(fit_tiny: Fit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="expected a folder; it is a file"):
        fit_tiny(log=tmp_path / "file")
    with pytest.raises(OptionError, match="at least 1; got log_steps=0"):
        fit_tiny(log=tmp_path, log_steps=0)


def test_two_files_of_one_second(tmp_path: Path) -> None:
    assert EventFile(tmp_path).path != EventFile(tmp_path).path


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")  # of tensorboard's own
def test_tensorboard_reads_it(fit_tiny: Fit, tmp_path: Path) -> None:
    name = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(name)
    _, run = fit_tiny(log=tmp_path, log_steps=2)
    found = accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    assert "train/loss" in found.Tags()["scalars"]
    values = [event.value for event in found.Scalars("train/loss")]
    assert values == pytest.approx([record["loss"] for record in run.history])
    assert [event.step for event in found.Scalars("train/loss")] == [6, 12, 18]
