"""Tar files read as a stream, defensively: names, sizes and places; nothing is ever extracted here.

Header blocks are parsed by the standard library; which kinds of entries may be there, how long
names may be and that no data are missing is checked here. Links, devices and names that lead out
of their folder are refused, also where they would do no harm.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Protocol, TypeVar

from striate.errors import DataError
from striate.files import StrPath, open_for_reading

_BLOCK = 512
_MOST_HEADER = 1 << 16  # bytes of a long name or of extended attributes
_PIECE = 1 << 20
_XZ_MEMORY = 1 << 28  # bytes that unpacking xz may take
_DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError)
_KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


R = TypeVar("R")


class Bytes(Protocol):
    """What a tar file is read from."""

    def read(self, size: int, /) -> bytes: ...
    def seekable(self) -> bool: ...
    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True)
class Member:
    """A file or folder in a tar file.

    Args:
        name: its path, with slashes, within the archive.
        size: bytes; 0 for a folder.
        offset: where its data begin, in the unpacked stream.
        is_folder: whether it is one.
    """

    name: str
    size: int
    offset: int
    is_folder: bool


class TarStream:
    """A tar file as a sequence of members, whose data can be read while each is the current one.

    Args:
        where: the name of the file, for messages.
        file: the unpacked bytes, open for reading; skipped by seeking where it can be.
    """

    def __init__(self, where: str, file: Bytes) -> None:
        self.where, self._file, self._at = where, file, 0
        self._end = 0  # of the current member's data and padding

    def __iter__(self) -> Iterator[Member]:
        """The members, in order.

        Raises:
            DataError: damaged or missing data, or an entry that is refused.
        """
        long_name: str | None = None
        while (info := self._header()) is not None:
            start = self._at
            self._end = start + -(-info.size // _BLOCK) * _BLOCK
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
                content = self.read(info.size, _MOST_HEADER)
                found = _pax_path(self.where, content) if info.type == tarfile.XHDTYPE else content
                long_name = long_name if found is None else _text(self.where, found)
            elif info.type in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
                self.read(info.size, _MOST_HEADER)
            else:
                yield self._member(info, long_name, start)
                long_name = None
            self._skip()

    def read(self, size: int, limit: int) -> bytes:
        """The next `size` bytes of the current member, refused where they are above `limit`."""
        if size > limit:
            raise DataError(
                f"{self.where}: expected at most {limit:,} bytes; got an entry of {size:,}. "
                "Check that it is the right file."
            )
        parts, missing = [], size
        while missing:
            part = self._safely(self._file.read, min(missing, _PIECE))
            if not part:
                raise DataError(
                    f"{self.where}: expected {size:,} more bytes of data at {self._at:,}; got "
                    f"{size - missing:,}. The file is truncated: fetch it again."
                )
            parts.append(part)
            missing -= len(part)
            self._at += len(part)
        return b"".join(parts)

    def _safely(self, function: Callable[[int], R], number: int) -> R:
        try:
            return function(number)
        except _DAMAGED as error:
            raise DataError(
                f"{self.where}: expected whole data; got damaged or truncated ones ({error}). "
                "Fetch the file again."
            ) from error

    def _header(self) -> tarfile.TarInfo | None:
        block = self.read(_BLOCK, _BLOCK)
        if not block.strip(b"\0"):
            return None  # the mark at the end
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise DataError(
                f"{self.where}: expected a tar header at byte {self._at - _BLOCK:,}; got something "
                f"else ({error}). The file is damaged or no tar file."
            ) from error
        if info.size < 0:
            raise DataError(f"{self.where}: expected a size of at least 0; got {info.size}.")
        return info

    def _member(self, info: tarfile.TarInfo, long_name: str | None, start: int) -> Member:
        name = _text(self.where, info.name if long_name is None else long_name)
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            kind = _KINDS.get(info.type, f"an entry of type {info.type!r}")
            raise DataError(
                f"{self.where}: expected files and folders only; got {kind}, {name!r}. "
                "Make the archive without it."
            )
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            raise DataError(
                f"{self.where}: expected names within the archive; got {name!r}. "
                "It may be made to write elsewhere: do not use it."
            )
        folder = info.type == tarfile.DIRTYPE
        return Member(str(path), 0 if folder else info.size, start, folder)

    def _skip(self) -> None:
        """Go on to the next header; the data between must be there."""
        missing = self._end - self._at
        if missing and self._file.seekable():
            self._safely(self._file.seek, self._end - 1)
            self._at = self._end - 1
            missing = 1
        while missing:
            step = min(missing, _PIECE)
            self.read(step, step)
            missing -= step


def _text(where: str, name: str | bytes) -> str:
    if isinstance(name, bytes):
        name = name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if not name or "\0" in name:
        raise DataError(f"{where}: expected a name of each entry; got {name!r}.")
    return name


def _pax_path(where: str, content: bytes) -> bytes | None:
    """The path in extended attributes, `length key=value` lines; None where there is none."""
    found = None
    while content.strip(b"\0"):
        digits, blank, _ = content.partition(b" ")
        length = int(digits) if blank and digits.isdigit() and len(digits) < 8 else 0
        record = content[len(digits) + 1 : length - 1]
        if content[length - 1 : length] != b"\n" or b"=" not in record:
            raise DataError(f"{where}: expected extended attributes; got damaged ones.")
        key, _, value = record.partition(b"=")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise DataError(
                f"{where}: expected plain entries; got extended sizes. Make the archive anew."
            )
        found = value if key == b"path" else found
        content = content[length:]
    return found


# ---- compression -----------------------------------------------------------------------------


@contextmanager
def open_tar(path: StrPath) -> Iterator[tuple[TarStream, bool]]:
    """Open a tar file, packed with gzip, bzip2 or xz or not, as its content says.

    Args:
        path: the file.
    Returns:
        The archive, and whether it is packed; closed at the end of the `with` block.
    Raises:
        FileError: the file cannot be read.
    """
    with open_for_reading(path) as file:
        magic = file.read(6)
        file.seek(0)
        stream: Bytes = file
        if magic.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=file, mode="rb")
        elif magic.startswith(b"BZh"):
            stream = bz2.BZ2File(file)
        elif magic == b"\xfd7zXZ\0":
            stream = _Xz(file)
        yield TarStream(os.fspath(path), stream), stream is not file


class _Xz:
    """As lzma.LZMAFile, but with a bound on the memory that a file can ask for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._state = file, _new_xz()

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, /) -> int:
        raise OSError("packed data go forward only")

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        packed = b""
        while True:
            if self._state.eof:  # streams may follow each other, with zeros between
                packed = self._state.unused_data.lstrip(b"\0") or self._file.read(_PIECE)
                packed = packed.lstrip(b"\0")
                if not packed:
                    return b""
                self._state = _new_xz()
            elif self._state.needs_input:
                packed = self._file.read(_PIECE)
                if not packed:
                    raise EOFError("they end too early")
            part = self._state.decompress(packed, size)
            packed = b""
            if part:
                return part


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
