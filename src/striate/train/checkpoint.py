"""Checkpoints: one file that holds all a training needs to go on with the same bits.

    OUT/checkpoint.safetensors   all of it, after each finished epoch
    OUT/step.safetensors         the same in the middle of an epoch; goes when that is finished
    OUT/model.safetensors        the network after the last finished epoch
    OUT/best.safetensors         the network after the best epoch
    OUT/metrics.jsonl            one line for each finished epoch
    OUT/settings.json            what was asked for

Every file is replaced as a whole. The checkpoint alone decides where a training stands; the
others are written anew from it. What the settings mean is in `fit`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import FileError, ModelError, OptionError
from striate.files import make_folder, write_atomically
from striate.train.run import Record

if TYPE_CHECKING:
    from striate.nn.module import Module

Float32 = NDArray[np.float32]
Settings = dict[str, Any]
_STEP = "step.safetensors"
_FORMAT = "striate-checkpoint-1"
_GROUPS = ("parameter", "state", "best", "epoch")


@dataclass
class Checkpoint:
    """Where a training stands after its last finished epoch.

    Args:
        parameters: the network's, by name.
        state: the optimiser's, by the program's names.
        best: the parameters after the best epoch, where early stopping will need them.
        history: the records of the finished epochs.
        settings: everything that the bits of the training depend on, as JSON data.
        epoch: within an epoch: the losses, hits and gradient norms of its steps so far.
        step: how many steps of the unfinished epoch are done.
    """

    parameters: Mapping[str, Float32]
    state: Mapping[str, Float32]
    best: Mapping[str, Float32] = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    settings: Settings = field(default_factory=dict)
    epoch: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    step: int = 0


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        FileError: the file cannot be written; the old one is as it was.
    """
    from striate.formats.safetensors_file import save_tensors

    groups = (checkpoint.parameters, checkpoint.state, checkpoint.best, checkpoint.epoch)
    tensors = {
        f"{group}:{name}": array
        for group, arrays in zip(_GROUPS, groups, strict=True)
        for name, array in arrays.items()
    }
    data: dict[str, Any] = {"history": checkpoint.history, "settings": checkpoint.settings}
    if checkpoint.step:
        data["step"] = checkpoint.step
    course = json.dumps(data)
    save_tensors(
        path,
        tensors,
        {"format": _FORMAT, "training": course, "sha256": _digest(tensors, course)},
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, with its digest checked.

    Raises:
        ModelError: there is none, it is damaged, or it is another kind of file.
    """
    from striate.formats.safetensors_file import load_tensors

    tensors, metadata = load_tensors(path)
    if metadata.get("format") != _FORMAT:
        raise ModelError(
            f"{path}: expected a checkpoint of a training; got a safetensors file of the format "
            f"{metadata.get('format')!r}. Resume from the folder that fit wrote."
        )
    course = metadata.get("training", "")
    if metadata.get("sha256") != _digest(tensors, course):
        raise ModelError(_damaged(path, "its digest is another"))
    try:
        data = json.loads(course)
        groups: dict[str, dict[str, Float32]] = {group: {} for group in _GROUPS}
        for key, array in tensors.items():
            group, _, name = key.partition(":")
            groups[group][name] = array
        history, settings = list(data["history"]), dict(data["settings"])
        step = int(data.get("step", 0))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(_damaged(path, str(error))) from None
    parameters, state, best, epoch = (groups[name] for name in _GROUPS)
    return Checkpoint(parameters, state, best, history, settings, epoch, step)


def _damaged(path: Path, why: str) -> str:
    return (
        f"{path}: expected a whole checkpoint; it is damaged ({why}). "
        "Start anew without resume, or use best.safetensors as the model."
        if path.name != _STEP
        else f"{path}: expected a whole checkpoint; it is damaged ({why}). Remove this file: "
        "the training then goes on from the last finished epoch."
    )


def _digest(tensors: Mapping[str, NDArray[Any]], course: str) -> str:
    digest = hashlib.sha256(course.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def copy_arrays(to: Mapping[str, Float32], source: Mapping[str, Float32], path: Path) -> None:
    """Copy arrays into arrays of the same names and shapes; all of them or, on an error, none.

    Raises:
        ModelError: names or shapes differ from those in the checkpoint at `path`.
    """
    wrong = [n for n in to if n not in source or source[n].shape != to[n].shape]
    wrong += [n for n in source if n not in to]
    if wrong:
        raise ModelError(
            f"{path}: expected the arrays of this network and optimiser; {wrong[0]!r} differs. "
            "Resume with the network that the training began with."
        )
    for name, array in to.items():
        array[...] = source[name]


def require_same_settings(path: Path, saved: Settings, given: Settings) -> None:
    """Refuse to go on with other settings than the training began with.

    Raises:
        OptionError: something differs; the message names it with both values.
    """
    differences = [
        f"{key.replace('_', ' ')} {_shown(given.get(key))} instead of {_shown(saved.get(key))}"
        for key in (*saved, *(k for k in given if k not in saved))
        if saved.get(key) != given.get(key)
    ]
    if differences:
        raise OptionError(
            f"resume: expected the settings that {path} was made with; got "
            f"{', '.join(differences)}. Give the same settings, or start anew without resume."
        )


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        inner = ", ".join(f"{k}={v}" for k, v in value.items() if k != "name")
        return f"{value['name']}({inner})"
    return repr(value)


class OutputFolder:
    """The folder that a training writes to.

    Args:
        path: the folder; it is made where it is missing.
    Raises:
        FileError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = make_folder(path)
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.step = self.path / _STEP
        # What a killed process left half-written; nothing reads these.
        for leftover in self.path.glob(".striate-*.tmp"):
            with contextlib.suppress(OSError):
                leftover.unlink()

    def write_settings(self, settings: Settings) -> None:
        """Write settings.json."""
        text = json.dumps(settings, indent=2) + "\n"
        write_atomically(self.path / "settings.json", text.encode())

    def write_metrics(self, history: list[Record]) -> None:
        """Write metrics.jsonl, a line for each epoch."""
        text = "".join(json.dumps(record) + "\n" for record in history)
        write_atomically(self.path / "metrics.jsonl", text.encode())

    def write_model(self, net: Module, name: str = "model") -> None:
        """Write the network as it is, graph and weights."""
        from striate.formats.model_file import save

        save(net, self.path / f"{name}.safetensors")

    def finish_epoch(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of a finished epoch; the one within the epoch goes."""
        save_checkpoint(self.checkpoint, checkpoint)
        self.forget_step()

    def forget_step(self) -> None:
        """Remove the checkpoint within an epoch."""
        with contextlib.suppress(OSError):
            self.step.unlink(missing_ok=True)

    def unfinished(self, done: int) -> Checkpoint | None:
        """The checkpoint within the epoch that follows `done` finished ones.

        Raises:
            ModelError: it is damaged.
        """
        if not self.step.exists():
            return None
        found = load_checkpoint(self.step)
        return found if found.step and len(found.history) == done else None

    def resumable(self) -> Checkpoint | None:
        """The checkpoint; None where the training was ended before its first epoch was.

        Raises:
            FileError: no training has written to this folder.
            ModelError: the checkpoint is damaged.
        """
        if self.checkpoint.exists():
            return load_checkpoint(self.checkpoint)
        if (self.path / "settings.json").exists():
            return None
        raise FileError(
            f"resume: expected a training in {self.path}; it has no checkpoint.safetensors. "
            "Check the folder, or start without resume."
        )
