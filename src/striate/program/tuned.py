"""Tuned choices on disk: what `striate tune` measured, for this CPU and kind of code.

One JSON file beside the code cache; damaged or foreign files count as absent. Choices change
results within rounding, so they are only ever made when the user asks for it.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.codegen.targets import Target, host_identity
from striate.settings import cache_folder

if TYPE_CHECKING:
    from striate.program.choose import Choice

_FORMAT = "striate-tuned-1"


def tuned_file(target: Target) -> Path:
    """Where the choices for a target on this CPU are kept."""
    return cache_folder() / f"tuned-{target.name}-{host_identity()}.json"


def kept_choices(target: Target) -> Mapping[str, Choice]:
    """The choices kept on disk; none with STRIATE_TUNED=0."""
    if os.environ.get("STRIATE_TUNED", "").strip() == "0":
        return {}
    path = tuned_file(target)
    try:
        found = path.stat()
    except OSError:
        return {}
    return _read(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int) -> Mapping[str, Choice]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            return {}
        return {str(key): _choice(item) for key, item in data["choices"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def keep_choices(target: Target, choices: Mapping[str, Choice]) -> Path:
    """Add choices to those on disk; returns the file."""
    from striate.files import make_folder, write_atomically

    path = tuned_file(target)
    make_folder(path.parent)
    every = {**kept_choices(target), **choices}
    data = {
        "format": _FORMAT,
        "choices": {
            key: {
                "algorithm": choice.algorithm,
                "options": None if choice.options is None else asdict(choice.options),
                "kind": _kind(type(choice.options)),
            }
            for key, choice in sorted(every.items())
        },
    }
    write_atomically(path, json.dumps(data, indent=1).encode())
    return path


def forget_choices(target: Target) -> int:
    """Remove the choices on disk; returns how many there were."""
    count = len(kept_choices(target))
    tuned_file(target).unlink(missing_ok=True)
    return count


def _option_kinds() -> dict[str, type]:
    from striate.kernels import direct_options, weight_tiles, winograd_plan

    kinds = (
        direct_options.Options,
        weight_tiles.WeightOptions,
        winograd_plan.Options,
        winograd_plan.WeightOptions,
    )
    return {_kind(kind): kind for kind in kinds}


def _kind(kind: type) -> str:
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def _choice(item: Any) -> Choice:
    from striate.program.choose import Choice

    algorithm, given = str(item["algorithm"]), item["options"]
    if algorithm not in ("direct", "winograd2", "winograd4"):
        raise ValueError(algorithm)
    if given is None:
        return Choice(algorithm)
    kind = _option_kinds()[str(item["kind"])]
    names = {f.name for f in fields(kind)}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k in names}
    return Choice(algorithm, kind(**values))
