"""The course of a training as files to look at: TensorBoard events and lines of JSON.

    DIR/events.out.tfevents.…   one file a session
    DIR/log.jsonl               one line for every few steps, and one for every epoch

Nothing is read back by a training; after a resumption, lines of steps that are done anew go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from striate.errors import FileError
from striate.files import make_folder, read_bytes, write_atomically
from striate.train.run import Record
from striate.train.tensorboard import EventFile

_LIMIT = 1 << 30


class TrainingLog:
    """Writes both files.

    Args:
        folder: it is made where it is missing.
        first_step: how many steps are done already.
    Raises:
        FileError: a file cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.lines = make_folder(folder) / "log.jsonl"
        self.next_step = first_step  # of all, the first that no window has
        self._keep_until(first_step)
        self.events = EventFile(folder, first_step + 1 if first_step else 0)

    def _keep_until(self, step: int) -> None:
        """Leave out what later steps had written; a line that was cut off goes too."""
        if not self.lines.exists():
            return
        kept = []
        for line in read_bytes(self.lines, _LIMIT).decode("utf-8", "replace").splitlines():
            try:
                if int(json.loads(line)["step"]) <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_atomically(self.lines, "".join(kept).encode())

    def steps(self, step: int, record: Mapping[str, Any]) -> None:
        """What some steps have brought, the last of them being `step` (of all, from 1)."""
        self._write(step, {f"step/{k}": v for k, v in record.items() if k != "epoch"}, record)

    def epoch(self, step: int, record: Record) -> None:
        """A finished epoch, after so many steps."""
        self._write(step, {_tag(key): v for key, v in record.items() if key != "epoch"}, record)

    def _write(self, step: int, scalars: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        self.events.add(step, {k: float(v) for k, v in scalars.items() if _is_number(v)})
        line = json.dumps({"step": step, **record}) + "\n"
        try:
            with open(self.lines, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise FileError(
                f"{self.lines}: cannot be written: {error.strerror}. Give another folder for log."
            ) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tag(key: str) -> str:
    """Validation beside training: `validation_loss` → validation/loss, `loss` → train/loss."""
    head, _, rest = key.partition("_")
    return f"validation/{rest}" if head == "validation" and rest else f"train/{key}"
