"""TensorBoard's event files, written by ourselves: framed records with a few protobuf fields.

    record = length (u64) · masked crc32c(length) · data · masked crc32c(data)
    Event  = 1: wall_time (double), 2: step (int64), 3: file_version (string),
             5: summary {1: value {1: tag, 2: simple_value (float)}}, 7: session_log {1: status}

Only scalars are written. A file that was cut off in the middle of a record stays readable.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from striate.errors import FileError
from striate.files import StrPath, make_folder

_POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), bits in reverse
_MASK = 0xA282EAD8
_START = 1  # a session begins: what older files say of this step and later ones is void


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The CRC-32C checksum.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum as record files have it: turned by 15 bits, a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """One record."""
    length = struct.pack("<Q", len(data))
    head = length + struct.pack("<I", masked_crc32c(length))
    return head + data + struct.pack("<I", masked_crc32c(data))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _block(field: int, data: bytes) -> bytes:
    """A field of bytes: a text or a message."""
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _event(step: int, rest: bytes, now: float) -> bytes:
    return struct.pack("<Bd", 1 << 3 | 1, now) + _varint(2 << 3) + _varint(step) + rest


def scalar_event(step: int, values: Mapping[str, float], now: float) -> bytes:
    """An event with scalars, as protobuf."""
    found = [
        _block(1, _block(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value))
        for tag, value in values.items()
    ]
    return _event(step, _block(5, b"".join(found)), now)


class EventFile:
    """A new event file in a folder; scalars are appended to it.

    Args:
        folder: it is made where it is missing.
        first_step: the first step that will be written. TensorBoard then forgets what older files
            of the folder say of it and of later ones, as after a training was killed.
    Raises:
        FileError: the file cannot be written.
    """

    def __init__(self, folder: StrPath, first_step: int = 0) -> None:
        now = time.time()
        name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}"
        self.path = Path(make_folder(folder)) / name
        count = 0
        while self.path.exists():
            count += 1
            self.path = self.path.with_name(f"{name}.{count}")
        self._append(framed(_event(0, _block(3, b"brain.Event:2"), now)))
        if first_step:
            session = _block(7, _varint(1 << 3) + _varint(_START))
            self._append(framed(_event(first_step, session, now)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars of one step.

        Raises:
            FileError: the file cannot be written.
        """
        if values:
            self._append(framed(scalar_event(step, values, time.time())))

    def _append(self, data: bytes) -> None:
        try:
            with open(self.path, "ab") as file:
                file.write(data)
        except OSError as error:
            raise FileError(
                f"{self.path}: cannot be written: {error.strerror}. Give another folder for log."
            ) from error
