"""Compiled objects on disk, so that a network compiles once on a machine.

An entry is code that will run, so nothing is believed: the folder must belong to this user and be
closed to others, and an entry's digest is checked before it is used; anything foreign, damaged or
unreadable counts as absent and is made anew. Many processes may share the folder: entries are
written to a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from striate.codegen.targets import Target, host_identity
from striate.settings import cache_folder

_MAGIC = b"striate-object-1"
_DIGEST = 32


@functools.cache
def _llvm_version() -> str:
    """What tells one installed llvmlite from another, found without importing it."""
    from importlib.util import find_spec

    found = find_spec("llvmlite")
    if found is None or found.origin is None:
        return "absent"
    try:
        return Path(found.origin).with_name("_version.py").read_text(encoding="utf-8")
    except OSError:
        return found.origin


def key(text: str, target: Target) -> str:
    """The name of a module's entry: a digest of its IR, the CPU and the compiler's version."""
    cpu = host_identity() if target.cpu == "host" else target.cpu
    parts = (_MAGIC.decode(), target.name, target.triple, cpu, _llvm_version(), text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def folder() -> Path:
    """Where entries are kept."""
    return cache_folder() / "code"


def _trusted(path: Path) -> bool:
    """Whether the folder is this user's own and closed to others (made so where it is new)."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        return False
    if os.name == "nt":
        return True
    if found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return True
    _warn_once(str(path))
    return False


@functools.cache
def _warn_once(path: str) -> None:
    warnings.warn(
        f"code cache: {path} must belong to you alone (mode 700); it is not used, so code is "
        "compiled anew in each process. Run `chmod 700` on it, or remove it.",
        RuntimeWarning,
        stacklevel=2,
    )


def read(name: str) -> bytes | None:
    """The object kept under a key, or None."""
    path = folder()
    if not _trusted(path):
        return None
    try:
        data = (path / f"{name}.o").read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST
    payload = data[start:]
    sealed = data[:start] == _MAGIC + _seal(name, payload)
    return payload if sealed and payload else None


def write(name: str, payload: bytes) -> None:
    """Keep an object; a folder that cannot be written is no error, only slower next time."""
    path = folder()
    if not _trusted(path):
        return
    import tempfile  # late: most processes find all they need

    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + _seal(name, payload) + payload)
        os.replace(temporary, path / f"{name}.o")
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _seal(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(name.encode() + payload).digest()


@dataclass(frozen=True)
class Usage:
    """What the cache holds: the folder, entries, bytes."""

    folder: Path
    entries: int
    size: int


def usage() -> Usage:
    """Count the entries."""
    files = [p for p in folder().glob("*.o") if p.is_file()] if folder().is_dir() else []
    return Usage(folder(), len(files), sum(p.stat().st_size for p in files))


def clear() -> Usage:
    """Remove all entries; returns what there was."""
    before = usage()
    if before.folder.is_dir():
        for path in [*before.folder.glob("*.o"), *before.folder.glob(".new-*")]:
            with contextlib.suppress(OSError):
                path.unlink()
    return before
