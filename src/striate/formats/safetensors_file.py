"""Named arrays in a safetensors file: written byte for byte the same, read without trust.

    8 bytes  length of the header, little-endian
    header   JSON: {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}, …}
    data     the arrays, little-endian, C order, without gaps

Reading goes through the safetensors library. Writing does not: the library orders metadata at
random, so that the same network would give another file every time. What the arrays mean is
the caller's.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from striate.errors import FileError, ModelError, OptionError
from striate.files import StrPath, open_for_reading, write_atomically

HEADER_LIMIT = 100_000_000  # bytes, as the format says
_LENGTH = 8
_ALIGNMENT = 8
_METADATA = "__metadata__"

# Ordered by alignment: the widest first, so that each array starts at a multiple of its item size.
_DTYPES: dict[str, str] = {
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
    "F32": "<f4",
    "I32": "<i4",
    "U32": "<u4",
    "F16": "<f2",
    "I16": "<i2",
    "U16": "<u2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


def save_tensors(
    path: StrPath, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays and texts to a safetensors file.

    The same arrays and texts give the same bytes, whatever their order in the mappings.

    Args:
        path: the file, written whole or not at all.
        tensors: arrays of any shape, of a float, integer or boolean dtype of 1 to 8 bytes.
        metadata: texts by name.
    Raises:
        OptionError: a dtype that the format has not, or a name or text that is no text.
        FileError: the file cannot be written.
    Source: https://github.com/huggingface/safetensors, "Format".

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tensors(f"{folder}/a.safetensors", {"w": np.ones((2, 3), "f4")}, {"by": "me"})
    ...     tensors, metadata = load_tensors(f"{folder}/a.safetensors")
    >>> tensors["w"].shape, metadata
    ((2, 3), {'by': 'me'})
    """
    arrays = {name: _storable(name, array) for name, array in tensors.items()}
    ranks = {dtype: rank for rank, dtype in enumerate(_NAMES)}
    order = sorted(arrays, key=lambda name: (ranks[arrays[name].dtype], name))
    header = _header({name: arrays[name] for name in order}, dict(metadata or {}))

    def write(file: BinaryIO) -> None:
        file.write(len(header).to_bytes(_LENGTH, "little"))
        file.write(header)
        for name in order:
            file.write(arrays[name].data)

    write_atomically(path, write)


def load_tensors(path: StrPath) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read the named arrays and texts of a safetensors file.

    Args:
        path: the file.
    Returns:
        (tensors, metadata): arrays that may be written to, in the order of their names, bfloat16
            as float32; texts.
    Raises:
        ModelError: no such file, not a safetensors file, truncated, damaged, or with a dtype that
            NumPy has not.
    """
    name = os.fspath(path)
    content, metadata = _read(path)
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(content)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, OverflowError) as error:
        raise ModelError(_damaged(name, str(error))) from error
    return {key: _array(name, key, entry) for key, entry in sorted(entries)}, metadata


# ---- writing ---------------------------------------------------------------------------------


def _storable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """`array` little-endian and in C order."""
    given = np.asarray(array)
    little = given.dtype.newbyteorder("<")
    if not isinstance(name, str) or name == _METADATA or little not in _NAMES:
        raise OptionError(
            f"save_tensors: expected text names and dtypes {', '.join(_NAMES.values())}; got "
            f"name={name!r}, dtype={given.dtype}, shape {given.shape}. Convert the array."
        )
    return np.ascontiguousarray(given, dtype=little).reshape(given.shape)


def _header(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[Any, Any]) -> bytes:
    entries: dict[str, Any] = {}
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise OptionError(
                f"save_tensors: expected metadata of texts; got {key!r}={text!r}. Convert it."
            )
    if metadata:
        entries[_METADATA] = dict(sorted(metadata.items()))
    start = 0
    for name, array in arrays.items():
        stop = start + array.nbytes
        place = {"data_offsets": [start, stop], "shape": list(array.shape)}
        entries[name] = {"dtype": _NAMES[array.dtype], **place}
        start = stop
    try:
        header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"save_tensors: expected names and texts in UTF-8; got {error.object[:40]!r} with "
            "half a character. Correct the text."
        ) from error
    header += b" " * (-len(header) % _ALIGNMENT)
    if len(header) > HEADER_LIMIT:
        raise OptionError(
            f"save_tensors: expected names and texts of at most {HEADER_LIMIT:,} bytes; got "
            f"{len(header):,}. Save fewer arrays to a file."
        )
    return header


# ---- reading ---------------------------------------------------------------------------------


def _read(path: StrPath) -> tuple[bytes, dict[str, str]]:
    """The content of the file and the texts in its header; the header is looked at first."""
    name = os.fspath(path)
    try:
        with open_for_reading(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_LENGTH + 1)
            length = _header_length(name, start, size)
            metadata = _metadata(name, start[_LENGTH:] + file.read(length - 1))
            file.seek(0)
            return file.read(), metadata
    except ModelError:
        raise
    except FileError as error:
        raise ModelError(str(error)) from error
    except (OSError, MemoryError) as error:
        raise ModelError(f"{name}: cannot be read: {error}. Check the file.") from error


def _header_length(name: str, start: bytes, size: int) -> int:
    if len(start) <= _LENGTH:
        raise ModelError(
            f"{name}: expected a safetensors file; got {size} bytes, too few for one. "
            "Check that it is the right file."
        )
    length = int.from_bytes(start[:_LENGTH], "little")
    if start[_LENGTH:] != b"{" or not 2 <= length <= HEADER_LIMIT:
        raise ModelError(
            f"{name}: expected a safetensors file, with a header of 2 to {HEADER_LIMIT:,} bytes "
            f"that begins with '{{'; got length={length:,}, first byte {start[_LENGTH:]!r}. "
            "Check that it is the right file."
        )
    if _LENGTH + length > size:
        raise ModelError(
            f"{name}: expected {_LENGTH + length:,} bytes of header; got a file of {size:,} bytes. "
            "The file is truncated: copy it again."
        )
    return length


def _metadata(name: str, header: bytes) -> dict[str, str]:
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ModelError(_damaged(name, f"its header is no JSON: {error}")) from error
    metadata = entries.get(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(t, str) for t in metadata.values()):
        raise ModelError(_damaged(name, "its metadata are no texts"))
    return metadata


def _array(name: str, key: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype = _DTYPES.get(entry["dtype"])
    if entry["dtype"] == "BF16":  # the upper half of a float32
        halves = np.frombuffer(entry["data"], "<u2").astype(np.uint32)
        wide: NDArray[Any] = (halves << 16).view(np.float32).reshape(entry["shape"])
        return wide
    if dtype is None:
        raise ModelError(
            f"{name}: expected dtypes {', '.join(_DTYPES)}, BF16; got dtype={entry['dtype']} of "
            f"{key!r}, shape {tuple(entry['shape'])}. Save it as float32."
        )
    array: NDArray[Any] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.writeable else array.copy()


def _damaged(name: str, reason: str) -> str:
    brief = " ".join(reason.split())[:200]  # the library may quote half of the header
    return (
        f"{name}: expected a whole safetensors file; it is truncated or damaged ({brief}). "
        "Copy it again, or use another checkpoint."
    )
