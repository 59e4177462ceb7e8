"""Named arrays in NumPy's .npz archives, read without pickle and within the size of the file.

Memory: the archive may be deflated, by at most `MOST_RATIO`; every array's header is compared
with its entry's size before anything is allocated.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from striate.errors import FileError, ModelError, OptionError
from striate.files import StrPath, open_for_reading, write_atomically

MOST_RATIO = 64
_DATE = (1980, 1, 1, 0, 0, 0)
_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OSError, KeyError),
    *(NotImplementedError, RuntimeError, OverflowError, SyntaxError, MemoryError, TypeError),
    tokenize.TokenError,
)


def load_npz(path: StrPath) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name.

    Raises:
        ModelError: no such file, no archive of arrays, damaged, with pickled objects, or larger
            than its size allows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_npz({"w": np.ones((2, 3), "f4")}, f"{folder}/a.npz")
    ...     load_npz(f"{folder}/a.npz")["w"].shape
    (2, 3)
    """
    name = os.fspath(path)
    try:
        with open_for_reading(path) as file, zipfile.ZipFile(file) as archive:
            size = os.fstat(file.fileno()).st_size
            entries = archive.infolist()
            total = sum(info.file_size for info in entries)
            if total > MOST_RATIO * size:
                raise ModelError(
                    f"{name}: expected arrays of at most {MOST_RATIO} times the file's "
                    f"{size:,} bytes; got {total:,}. Save them with numpy.savez."
                )
            return {
                info.filename.removesuffix(".npy"): _read(archive, info, name) for info in entries
            }
    except ModelError:
        raise
    except FileError as error:
        raise ModelError(str(error)) from error
    except _ERRORS as error:
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelError(
            f"{name}: expected an .npz archive of arrays; it is none or damaged ({why}). "
            "Copy it again."
        ) from None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    with archive.open(info) as file:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
            shape, fortran, dtype = read(file)
        if dtype.hasobject or dtype.names is not None or min(shape, default=0) < 0:
            raise ModelError(
                f"{name}: expected arrays of numbers; {info.filename[:60]!r} has dtype={dtype}. "
                "Nothing pickled is read."
            )
        if math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
            raise ValueError(f"{info.filename[:60]!r} is not as long as its shape {shape}")
        flat = np.frombuffer(bytearray(file.read()), dtype)
        return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def save_npz(arrays: Mapping[str, Any], path: StrPath) -> None:
    """Write named arrays to a .npz file, as `numpy.savez` does; the same arrays, the same bytes.

    Raises:
        OptionError: something that is no array of numbers.
        FileError: the file cannot be written.
    """
    found = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in found.items():
        if array.dtype.kind not in "fiubc":
            raise OptionError(
                f"save_npz: expected arrays of numbers; got {name!r} of dtype={array.dtype}."
            )

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in found.items():
                info = zipfile.ZipInfo(f"{name}.npy", _DATE)
                with archive.open(info, "w", force_zip64=array.nbytes >= 1 << 31) as entry:
                    npy.write_array(entry, array, allow_pickle=False)

    write_atomically(path, write)
