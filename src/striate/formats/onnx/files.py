"""ONNX files on disk: written whole or not at all, read with every size checked.

External data, weights in a second file, is written and read only when asked for; then only from
regular files inside the model's own folder.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from striate.errors import FileError, ModelError, OptionError
from striate.files import StrPath, open_for_reading, read_bytes, write_atomically

MOST_BYTES = 2**31 - 1  # of one protobuf message
_BESIDE = 2**20  # what a model may hold besides its weights


def import_package(where: str) -> Any:
    """The package onnx.

    Raises:
        OptionError: it is not installed.
    """
    try:
        return import_module("onnx")
    except ImportError:
        raise OptionError(
            f"{where}: expected the package onnx, which is not installed; write "
            "pip install 'striate[onnx]'."
        ) from None


# ---- writing -----------------------------------------------------------------------------------


def write_model(model: Any, path: StrPath, data: Sequence[Any] | None = None) -> None:
    """Write a model; with `data`, first its weights, one after another, to the file beside it.

    Raises:
        OptionError: it is larger than a protobuf can be.
    """
    if data is not None:
        write_atomically(data_path(path), lambda file: _write_arrays(file, data))
    size = model.ByteSize()
    if not 0 <= size <= MOST_BYTES:
        raise too_large(size)
    write_atomically(path, model.SerializeToString(deterministic=True))


def data_path(path: StrPath) -> str:
    """The file of the weights beside a model."""
    return f"{os.fspath(path)}.data"


def too_large(size: int) -> OptionError:
    """What to say of a model that one file cannot hold."""
    return OptionError(
        f"export_onnx: expected at most 2 GiB, the limit of one ONNX file; got weights of "
        f"{size / 2**30:.2f} GiB. Write external_data=True, which puts them into a second file."
    )


def require_one_file(sizes: int) -> None:
    """Refuse weights that one file cannot hold, before it is made."""
    if sizes > MOST_BYTES - _BESIDE:
        raise too_large(sizes)


def little(array: Any) -> Any:
    """float32 as files hold it."""
    return np.ascontiguousarray(array, "<f4")


def _write_arrays(file: BinaryIO, arrays: Sequence[Any]) -> None:
    for array in arrays:
        file.write(memoryview(little(array)).cast("B"))


def external_entries(location: str, offset: int, array: Any) -> dict[str, str]:
    """Where a weight lies in the file beside the model, and its checksum."""
    whole = memoryview(little(array)).cast("B")
    digest = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    entries = {"location": location, "offset": offset, "length": len(whole), "checksum": digest}
    return {key: str(value) for key, value in entries.items()}


# ---- reading -----------------------------------------------------------------------------------


def read_model(path: StrPath, external_data: bool) -> tuple[Any, Path | None]:
    """The model in a file, checked by onnx, and the folder that its weights may lie in."""
    onnx = import_package("import_onnx")
    decode = import_module("google.protobuf.message").DecodeError
    content = read_bytes(path, limit=MOST_BYTES)
    try:
        model = onnx.ModelProto.FromString(content)
    except decode:
        raise ModelError(f"{path}: expected an ONNX model; got damaged or other data.") from None
    except RecursionError:
        raise ModelError(f"{path}: expected an ONNX model; got one nested too deeply.") from None
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{path}: expected an ONNX model; got a file without a network.")
    if not _is_text(model):
        raise ModelError(f"{path}: expected an ONNX model with names in UTF-8; got other bytes.")
    return model, Path(path).resolve().parent if external_data else None


def _is_text(message: Any) -> bool:
    """Whether all texts in a message are: the parser leaves those that are none as bytes."""
    for field, value in message.ListFields():
        values = value if hasattr(value, "append") else [value]
        if field.type == field.TYPE_STRING:
            if not all(isinstance(k, str) for k in values):
                return False
        elif field.type == field.TYPE_MESSAGE and not all(map(_is_text, values)):
            return False
    return True


def require_valid(model: Any) -> None:
    """What onnx's checker says, as one sentence: cycles, unknown operators, wrong attributes."""
    onnx = import_module("onnx")
    for output in model.graph.output:  # which may say nothing of its shape
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        said = first_line(error)
        raise ModelError(f"onnx: expected a valid model; the checker says: {said}") from None
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ModelError(f"onnx: expected a valid model; got {first_line(error)}.") from None


def first_line(error: BaseException) -> str:
    """The first line of a message."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def array_of(tensor: Any, folder: Path | None = None) -> Any:
    """The numbers of a tensor of a model.

    Args:
        tensor: an `onnx.TensorProto`.
        folder: where its numbers may lie, or None where files beside the model are not opened.
    Raises:
        ModelError: the tensor is damaged, or its file is missing, outside or too short.
    """
    onnx = import_module("onnx")
    where = f"onnx: the tensor {tensor.name!r}"
    if any(k < 0 for k in tensor.dims):
        raise ModelError(f"{where} expected sizes from 0; got {list(tensor.dims)}.")
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        if folder is None:
            raise ModelError(
                f"{where} lies in another file, which is not opened unless asked for. "
                "Write import_onnx(path, external_data=True) if you trust the model."
            )
        return _external(tensor, folder, where)
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, MemoryError, OverflowError) as error:
        raise ModelError(f"{where} is damaged: {first_line(error)}.") from None


def _external(tensor: Any, folder: Path, where: str) -> Any:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    dtype = _dtype_of(tensor, where)
    length = math.prod(tensor.dims) * dtype.itemsize
    try:
        offset = int(entries.get("offset", "0"))
        stated = int(entries.get("length", str(length)))
    except ValueError:
        raise ModelError(f"{where} expected whole numbers for offset and length.") from None
    if stated != length or offset < 0:
        raise ModelError(
            f"{where} expected {length} bytes for its shape {tuple(tensor.dims)}; got "
            f"length={stated}, offset={offset}."
        )
    content = _bytes_at(_inside(entries.get("location", ""), folder, where), offset, length, where)
    digest = entries.get("checksum", "")
    if digest and hashlib.sha1(content, usedforsecurity=False).hexdigest() != digest.lower():
        raise ModelError(
            f"{where} expected the numbers that the model was written with; got others."
        )
    return np.frombuffer(content, dtype).reshape(tuple(tensor.dims))


def _dtype_of(tensor: Any, where: str) -> np.dtype[Any]:
    helper = import_module("onnx").helper
    try:
        native: np.dtype[Any] = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{where} has the type {tensor.data_type}, unknown here.") from None
    if native.kind not in "fiub":
        raise ModelError(f"{where} has the type {native}; expected numbers.")
    little_endian: np.dtype[Any] = native.newbyteorder("<")
    return little_endian


def _inside(location: str, folder: Path, where: str) -> Path:
    """The file, which must be inside the folder, also after links are followed."""
    try:
        path = (folder / location).resolve()
        inside = bool(location) and "\0" not in location and path.is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside or Path(location).is_absolute():
        raise ModelError(f"{where} expected a file inside the model's folder; got {location!r}.")
    return path


def _bytes_at(path: Path, offset: int, length: int, where: str) -> bytes:
    try:
        with open_for_reading(path) as file:
            size = os.fstat(file.fileno()).st_size
            if offset + length > size:
                raise ModelError(
                    f"{where} expected {length} bytes from {offset} on in {path.name}; it has "
                    f"{size}."
                )
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}.") from error
