"""torch's zip checkpoints, written without torch: what `torch.load(weights_only=True)` reads.

The same arrays give the same bytes. Only weights by name are written; arrays that are one object
share a storage, as tied weights do in torch.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from striate.errors import OptionError
from striate.files import StrPath, write_atomically
from striate.formats.torch_pickle import STORAGES
from striate.nn.module import Module

_ROOT = "archive"
_ALIGNMENT = 64
_LOCAL_HEADER, _FIELD = 30, 4  # bytes of a zip entry's header, and of an extra field's
_NAMES = {
    np.dtype(dtype): name for name, dtype in STORAGES.items() if dtype not in ("", "bfloat16")
}


def save_torch(weights: Module | Mapping[str, Any], path: StrPath) -> None:
    """Write weights to a torch checkpoint (.pth), which `torch.load` reads.

    Args:
        weights: a network, or name -> array of a float, integer or boolean dtype.
        path: the file, written whole or not at all.
    Raises:
        OptionError: a dtype that torch's files have not, or a name that is no text.
        FileError: the file cannot be written.

    >>> import tempfile
    >>> from striate import nn
    >>> from striate.formats.torch_file import load_torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_torch(nn.Linear(3, 2), f"{folder}/net.pth")
    ...     sorted(load_torch(f"{folder}/net.pth"))
    ['bias', 'weight']
    """
    named = weights.state_dict() if isinstance(weights, Module) else weights
    if not isinstance(named, Mapping):
        raise OptionError(
            f"save_torch: expected a network or a dict of arrays; got {type(weights).__name__}."
        )
    arrays: dict[int, NDArray[Any]] = {}
    for name, value in named.items():
        arrays.setdefault(id(value), _storable(name, value))
    keys = {identity: str(k) for k, identity in enumerate(arrays)}
    content = _pickled({n: (keys[id(v)], arrays[id(v)]) for n, v in named.items()})

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, file, "data.pkl", content)
            _add(archive, file, "byteorder", b"little")
            for identity, key in keys.items():
                _add(archive, file, f"data/{key}", arrays[identity].reshape(-1).view(np.uint8).data)
            _add(archive, file, "version", b"3\n")

    write_atomically(path, write)


def _storable(name: Any, value: Any) -> NDArray[Any]:
    """A value as a little-endian array in C order."""
    array = np.asarray(value)
    if not isinstance(name, str) or array.dtype.newbyteorder("=") not in _NAMES:
        known = ", ".join(map(str, _NAMES))
        raise OptionError(
            f"save_torch: expected arrays by name, of dtype {known}; got name={name!r}, "
            f"dtype={array.dtype}, shape {array.shape}. Convert the array."
        )
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, dtype=little).reshape(array.shape)


def _add(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: bytes | memoryview) -> None:
    """An entry whose bytes begin at a multiple of 64, as torch's do, dated the first day of zip."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")
    info.file_size = len(content)  # so that the module knows whether it needs a long header
    start = file.tell() + _LOCAL_HEADER + len(info.filename) + _FIELD
    gap = -start % _ALIGNMENT
    info.extra = b"FB" + gap.to_bytes(2, "little") + b"Z" * gap
    with archive.open(info, "w", force_zip64=len(content) >= 1 << 31) as entry:
        entry.write(content)


# ---- the pickle --------------------------------------------------------------------------------


def _pickled(tensors: Mapping[str, tuple[str, NDArray[Any]]]) -> bytes:
    """An ordered dict of tensors in pickle's protocol 2, as `torch.save` would write it."""
    out = io.BytesIO()
    out.write(b"\x80\x02ccollections\nOrderedDict\n)R(")
    for name, (key, array) in tensors.items():
        out.write(_text(name))
        out.write(b"ctorch._utils\n_rebuild_tensor_v2\n((")
        out.write(_text("storage") + b"ctorch\n" + _NAMES[array.dtype].encode() + b"\n")
        out.write(_text(key) + _text("cpu") + _number(array.size) + b"tQ" + _number(0))
        strides = [k // array.itemsize for k in array.strides]
        out.write(_row(array.shape) + _row(strides))
        out.write(b"\x89ccollections\nOrderedDict\n)RtR")
    out.write(b"u.")
    return out.getvalue()


def _text(text: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"save_torch: expected names in UTF-8; got {text[:40]!r} with half a character."
        ) from None
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _number(value: int) -> bytes:
    """A whole number: 4 bytes where they do, else as many as it needs."""
    if value < 2**31:
        return b"J" + value.to_bytes(4, "little")
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little")


def _row(numbers: Any) -> bytes:
    return b"(" + b"".join(_number(int(k)) for k in numbers) + b"t"
