"""Reader of IDX files, the form in which MNIST and its successors are published.

    byte 0–1  0          byte 2  type, 0x08 = unsigned byte          byte 3  number of axes
    then one big-endian 32-bit size an axis, then the values, last axis fastest

Packed (gzip) or not is seen from the content, not from the name. The header is not believed
further than the file bears it out: unpacking stops one byte behind the size the header announces.
Only bytes are read (type 0x08), since no published set of pictures uses the other types.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError
from striate.files import StrPath, read_bytes

SIZE_LIMIT = 1 << 30  # bytes: the most a file, packed or unpacked, may have
_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def read_idx(path: StrPath, axes: int) -> NDArray[np.uint8]:
    """Read the IDX file at `path`, packed with gzip or not.

    Args:
        path: the file.
        axes: how many axes it must have: 3 for pictures (n, h, w), 1 for labels (n,).
    Returns:
        The values, uint8, read-only, of the shape the file announces.
    Raises:
        FileError: the file cannot be read.
        DataError: it is damaged or no such file.
    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database, "File formats".

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(b"\\0\\0\\x08\\x01" + b"\\0\\0\\0\\x03" + b"\\x07\\x02\\x01")
    ...     file.flush()
    ...     read_idx(file.name, axes=1).tolist()
    [7, 2, 1]
    """
    return parse_idx(str(path), unpack_idx(str(path), read_bytes(path, SIZE_LIMIT)), axes)


def unpack_idx(where: str, content: bytes) -> bytes:
    """The content of an IDX file, unpacked where it is packed with gzip.

    Args:
        where: the name of the file, for messages.
        content: the whole file.
    Returns:
        At most one byte more than the header announces.
    Raises:
        DataError: the packed data are damaged, end too early or announce too much.
    """
    if not content.startswith(_GZIP):
        return content
    header = _inflate(where, content, 4)
    if header[:3] != bytes((0, 0, _UNSIGNED_BYTE)) or len(header) < 4:
        return header  # no IDX file: `parse_idx` says so
    axes = header[3]
    header = _inflate(where, content, 4 + 4 * axes)
    if len(header) < 4 + 4 * axes:
        return header
    sizes = struct.unpack(f">{axes}I", header[4:])
    announced = len(header) + math.prod(sizes)
    if announced > SIZE_LIMIT:
        raise DataError(
            f"{where}: expected at most {SIZE_LIMIT:,} bytes when unpacked; its header announces "
            f"{announced:,}. Check that it is the right file."
        )
    return _inflate(where, content, announced + 1)


def parse_idx(where: str, content: bytes, axes: int) -> NDArray[np.uint8]:
    """The array in the unpacked content of an IDX file.

    Args:
        where: the name of the file, for messages.
        content: the unpacked file.
        axes: how many axes it must have.
    Returns:
        The values, uint8: a read-only view of `content`.
    Raises:
        DataError: a wrong first word, or another number of values than the header announces.
    """
    start = 4 + 4 * axes
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTE, axes)):
        raise DataError(
            f"{where}: expected an IDX file of bytes with {axes} axes, beginning with "
            f"0000{_UNSIGNED_BYTE:02x}{axes:02x}; got {content[:4].hex() or 'an empty file'}. "
            "Check that it is the right file."
        )
    if len(content) < start:
        raise DataError(
            f"{where}: expected an IDX header of {start} bytes; got {len(content)} bytes. "
            "The file is truncated: fetch it again."
        )
    shape = struct.unpack(f">{axes}I", content[4:start])
    _check_length(where, shape, len(content) - start)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check_length(where: str, shape: tuple[int, ...], found: int) -> None:
    expected = math.prod(shape)
    sizes = "×".join(map(str, shape))
    if found < expected:
        raise DataError(
            f"{where}: expected {sizes} = {expected:,} values as its header announces; got "
            f"{found:,}. The file is truncated: fetch it again."
        )
    if found > expected:
        raise DataError(
            f"{where}: expected {sizes} = {expected:,} values as its header announces; got "
            "more bytes behind them. The file is damaged: fetch it again."
        )


def _inflate(where: str, content: bytes, limit: int) -> bytes:
    """The first `limit` bytes of the gzip data; fewer where they end before."""
    import zlib

    parts: list[bytes] = []
    missing = limit
    rest: Any = memoryview(content)
    try:
        while missing and len(rest) and rest[:2] == _GZIP:  # gzip files may be concatenated
            member = zlib.decompressobj(wbits=31)
            parts.append(member.decompress(rest, missing))
            missing -= len(parts[-1])
            if missing and not member.eof:
                raise DataError(
                    f"{where}: expected gzip data to their end; got {len(content):,} bytes that "
                    "stop before it. The file is truncated: fetch it again."
                )
            rest = member.unused_data
    except zlib.error as error:
        raise DataError(
            f"{where}: expected gzip data; got damaged ones ({error}). Fetch the file again."
        ) from error
    return b"".join(parts)
