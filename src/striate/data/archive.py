"""Unpacking a tar archive of pictures to a folder, so that nothing is written outside it.

The archive is unpacked beside its place under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path

from striate.data.encoded import tracked
from striate.data.tar import Member, TarStream, open_tar
from striate.errors import DataError, FileError
from striate.files import StrPath, make_folder
from striate.settings import cache_folder

BYTE_LIMIT = 64 << 30
FILE_LIMIT = 10_000_000
ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")


def unpack(
    archive: StrPath,
    folder: StrPath | None = None,
    *,
    byte_limit: int = BYTE_LIMIT,
    file_limit: int = FILE_LIMIT,
    progress: bool = True,
) -> Path:
    """Unpack a tar archive, packed with gzip, bzip2 or xz or not.

    Links, devices and names that lead elsewhere are refused before anything of them is written.
    An archive that is unpacked already, to the same folder, is not unpacked again.

    Args:
        archive: the file.
        folder: where to; it must not exist yet. By default a folder of its name in the cache.
        byte_limit: the most bytes that are written in all.
        file_limit: the most files and folders.
        progress: show a bar, on a terminal.
    Returns:
        The folder.
    Raises:
        DataError: a damaged archive, one with refused entries, or one beyond a limit; nothing is
            left of it then.
        FileError: the archive cannot be read, or the folder cannot be written or exists already.
    """
    path = Path(archive).expanduser()
    target = _default_folder(path) if folder is None else Path(folder).expanduser()
    if target.exists():
        if folder is None:
            return target
        raise FileError(
            f"{target}: expected a new folder to unpack to; it exists. Choose another, or read it."
        )
    make_folder(target.parent)
    temporary = target.parent / f".striate-{os.urandom(8).hex()}.tmp"
    try:
        temporary.mkdir()
        _unpack_to(path, temporary, byte_limit, file_limit, progress)
        temporary.rename(target)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise FileError(
                f"{target}: cannot be written: {error.strerror or error}. Choose another folder."
            ) from error
        raise
    return target


def is_archive(path: Path) -> bool:
    """Whether a file is called as a tar archive is."""
    return path.is_file() and path.name.lower().endswith(ENDINGS)


def _default_folder(path: Path) -> Path:
    """A folder in the cache that belongs to this version of the archive."""
    try:
        found = path.stat()
    except OSError as error:
        raise FileError(
            f"{path}: expected an archive; {error.strerror}. Check the path."
        ) from error
    mark = f"{path.resolve()}:{found.st_size}:{found.st_mtime_ns}"
    stem = path.name.split(".")[0] or "archive"
    return cache_folder() / "data" / f"{stem}-{zlib.crc32(os.fsencode(mark)):08x}"


def _unpack_to(path: Path, folder: Path, byte_limit: int, file_limit: int, progress: bool) -> None:
    with open_tar(path) as (stream, _):
        count = written = 0
        for member in tracked(iter(stream), None, f"unpacking {path.name}", progress):
            count, written = count + 1, written + member.size
            if count > file_limit or written > byte_limit:
                raise DataError(
                    f"{path}: expected at most {file_limit:,} files with {byte_limit:,} bytes; got "
                    "more. Check the archive, or raise the limit."
                )
            _write(stream, member, folder)


def _write(stream: TarStream, member: Member, folder: Path) -> None:
    target = folder / member.name
    if member.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(target, "xb") as file:
            missing = member.size
            while missing:
                step = min(missing, 1 << 20)
                file.write(stream.read(step, step))
                missing -= step
    except FileExistsError as error:
        raise DataError(
            f"{stream.where}: expected each name once; got {member.name!r} again. "
            "Make the archive anew."
        ) from error
