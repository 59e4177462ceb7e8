"""Files read with a clear word about what is wrong, and written so that they are whole or absent.

`write_atomically` writes to a temporary name in the same folder, syncs it to the disk and renames
it over the old file, so that a full disk, Ctrl-C or a power cut leaves the old file as it was.
This module knows nothing of any format, and imports nothing of the package but its errors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from striate.errors import FileError

StrPath = str | os.PathLike[str]

_REMEDIES = {
    errno.ENOSPC: "the disk is full. Free some space, or write to another folder.",
    errno.EDQUOT: "your disk quota is used up. Free some space, or write to another folder.",
    errno.EFBIG: "the file would be larger than is allowed here. Raise the limit (ulimit -f).",
    errno.EROFS: "the disk is read-only. Write to another folder.",
    errno.EACCES: "permission denied. Write to a folder that belongs to you.",
    errno.EPERM: "permission denied. Write to a folder that belongs to you.",
    errno.ENOENT: "its folder does not exist. Create the folder first.",
    errno.ENOTDIR: "part of its path is a file, not a folder. Correct the path.",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one.",
}


def open_for_reading(path: StrPath) -> BinaryIO:
    """Open the file at `path` for reading bytes.

    Args:
        path: a regular file.
    Returns:
        The open file; the caller closes it.
    Raises:
        FileError: there is no such file, it is a folder or a device, or it may not be read.

    >>> open_for_reading("no-such-file")
    Traceback (most recent call last):
    ...
    striate.errors.FileError: no-such-file: expected a file; there is none. Check the path.
    """
    _refuse_nul(path)
    try:
        # A named pipe would block `open` for ever, hence the look before it.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise FileError(f"{_name(path)}: expected a file; got {what}. Check the path.")
        return open(path, "rb")
    except OSError as error:
        raise FileError(f"{_name(path)}: {_why_not_read(error)}") from error


def read_bytes(path: StrPath, limit: int) -> bytes:
    """Read the whole file at `path`, refusing one of more than `limit` bytes.

    Args:
        path: a regular file.
        limit: the most bytes that will be read, so that a wrong file cannot fill the memory.
    Returns:
        The content.
    Raises:
        FileError: as `open_for_reading`, or the file is larger than `limit`, or reading failed.
    """
    with open_for_reading(path) as file:
        try:
            content = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
        except (OSError, MemoryError) as error:
            raise FileError(f"{_name(path)}: {_why_not_read(error)}") from error
        size = max(len(content), os.fstat(file.fileno()).st_size)
    if size > limit:
        raise FileError(
            f"{_name(path)}: expected at most {limit:,} bytes; got {size:,}. "
            "Check that it is the file you mean."
        )
    return content


def make_folder(path: StrPath) -> Path:
    """Create the folder `path` and those above it where they are missing.

    Raises:
        FileError: something else has that name, or the folder may not be created.
    """
    _refuse_nul(path)
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FileError(
            f"{_name(path)}: expected a folder; it is a file. Choose another."
        ) from error
    except OSError as error:
        raise FileError(f"{_name(path)}: cannot be created: {_why_not_written(error)}") from error
    return folder


def write_atomically(path: StrPath, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write the file at `path` so that at any moment it is either the old one or the new one.

    Args:
        path: the file; its folder must exist. A link is followed, an old file keeps its mode.
        content: the bytes, or a function that writes them to the open file it is given.
    Raises:
        FileError: the file cannot be written (full disk, no permission, not a regular file …).
            The temporary is then removed and the old file is as it was; so too when `content`
            raises, or on Ctrl-C, which pass on.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/note", b"whole")
    ...     read_bytes(f"{folder}/note", limit=100)
    b'whole'
    """
    _refuse_nul(path)
    try:
        target = os.path.realpath(path)
        mode = _mode_of(target, path)
        _write_and_rename(target, content, mode)
    except OSError as error:
        raise FileError(f"{_name(path)}: cannot be written: {_why_not_written(error)}") from error


def _write_and_rename(
    target: str, content: bytes | Callable[[BinaryIO], object], mode: int | None
) -> None:
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".striate-{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too must leave nothing behind
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _mode_of(target: str, path: StrPath) -> int | None:
    """The permissions of the file that will be replaced; None where there is none yet."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise FileError(f"{_name(path)}: expected a file to write; got {what}. Choose a file name.")
    return stat.S_IMODE(mode)


def _sync_folder(folder: str) -> None:
    """Make the rename itself durable, on systems that can sync a folder."""
    if os.name == "nt":
        return
    # The new file is already in place: a file system that cannot do this is no failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_nul(path: StrPath) -> None:
    """Operating systems end a path at a NUL byte; Python answers with a bare ValueError."""
    if "\0" in os.fspath(path):
        raise FileError(f"{_name(path)}: expected a path; got a NUL byte in it. Check the path.")


def _name(path: StrPath) -> str:
    """The path as it is shown in messages: on one line, whatever is in it."""
    text = os.fspath(path)
    return text if text.isprintable() and text else repr(text)


def _why_not_read(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "expected a file; there is none. Check the path."
    if isinstance(error, PermissionError):
        return "expected a readable file; permission denied. Change its permissions."
    if isinstance(error, MemoryError):
        return "cannot be read: it does not fit into memory. Check that it is the file you mean."
    return f"cannot be read: {_reason(error)}. Check the path."


def _why_not_written(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return _REMEDIES.get(number or 0, f"{_reason(error)}. Write to another folder.")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
