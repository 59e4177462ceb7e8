"""torch's checkpoint files (.pth, .pt), read without running anything in them, and written.

Both of torch's formats of today: a zip archive with a pickle and a file for each storage, and the
older stream of pickles with the storages behind them. The pickle goes through `torch_pickle`,
which knows a handful of names and calls nothing. torch itself is not needed.

    memory   at most 6 times the file, and 128 MiB: numbers are read once, checked against the
             file's size first; a checkpoint's tensors are views of what was read
    archive  entries have to be stored, not compressed; nothing is ever unpacked to the disk

Networks pickled as a whole (`torch.save(net)`) and TorchScript hold code: they are refused.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from striate.errors import FileError, ModelError
from striate.files import StrPath, open_for_reading
from striate.formats.torch_pickle import CODES, Dtype, Machine, Name, Refusal, StoredTensor

Array = NDArray[Any]
Progress = Callable[[int, int], object]

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of compiled networks
NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_CHUNK = 1 << 22
_MOST_DIRECTORY = 8 << 20  # bytes of a zip's table of contents: 80,000 tensors
_MOST_DEPTH = 100
_CONTENT = "/data.pkl"


def load_torch(
    path: StrPath,
    key: str | None = None,
    strip: bool = True,
    *,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """The weights in a torch checkpoint (.pth, .pt) by name, for `net.load_state_dict`.

    Nothing in the file is run. bfloat16 becomes float32, which holds it exactly; all other dtypes
    stay. What one storage holds for several names is one array here too.

    Args:
        path: the file, in torch's zip format or in the older one.
        key: which entry has the weights, where they are one of several ("model_ema"); by default
            the whole, or its entry "state_dict", "model", "net" …
        strip: take off "module." or "_orig_mod.", where every name begins with it.
        progress: called with the bytes read so far and the size of the file.
    Returns:
        name -> array.
    Raises:
        ModelError: no such file, no checkpoint, damaged, with code instead of data, or without
            weights.

    >>> import tempfile
    >>> from striate.formats.torch_write import save_torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_torch({"fc.weight": np.ones((2, 3), "f4")}, f"{folder}/net.pth")
    ...     load_torch(f"{folder}/net.pth")["fc.weight"].shape
    (2, 3)
    """
    found = _weights(read_torch(path, progress), key, os.fspath(path))
    while strip:
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in found)), "")
        if not prefix or not found:
            break
        found = {name[len(prefix) :]: array for name, array in found.items()}
    return found


def read_torch(path: StrPath, progress: Progress | None = None) -> Any:
    """All that a torch checkpoint holds: dicts, lists, tuples, numbers, texts, NumPy arrays.

    Args:
        path: the file.
        progress: called with the bytes read so far and the size of the file.
    Raises:
        ModelError: as `load_torch`.
    """
    name = os.fspath(path)
    try:
        with open_for_reading(path) as file:
            size = os.fstat(file.fileno()).st_size
            return _read(_Reader(file, size, progress))
    except Refusal as error:
        raise ModelError(f"{name}: expected a torch checkpoint of tensors; {error}.") from None
    except ModelError:
        raise
    except FileError as error:
        raise ModelError(str(error)) from error
    except RecursionError:
        raise ModelError(
            f"{name}: expected a torch checkpoint of tensors; it is nested too deeply."
        ) from None
    except (OSError, MemoryError) as error:
        raise ModelError(f"{name}: cannot be read: {error}. Check the file.") from error


# ---- which entry -------------------------------------------------------------------------------


def _weights(content: Any, key: str | None, name: str) -> dict[str, Array]:
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            raise ModelError(f"{name}: expected an entry {key!r}; got {_outline(content)}.")
        content = content[key]
        if not _is_weights(content):
            raise ModelError(
                f"{name}: expected weights by name in {key!r}; got {_outline(content)}."
            )
        return cast(dict[str, Array], content)
    if _is_weights(content):
        return cast(dict[str, Array], content)
    if isinstance(content, dict):
        for nest in NESTS:
            if _is_weights(content.get(nest)):
                return cast(dict[str, Array], content[nest])
    raise ModelError(
        f"{name}: expected weights by name, or an entry 'state_dict' or 'model' that has them; "
        f"got {_outline(content)}. Name the entry: load_torch(path, key=...), or see all with "
        "striate.formats.read_torch(path)."
    )


def _is_weights(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, np.ndarray) for key, value in content.items()
    )


def _outline(content: Any) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    names = [f"{str(key)[:40]!r}: {type(value).__name__}" for key, value in content.items()]
    return f"a dict of {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"


# ---- the two formats ---------------------------------------------------------------------------


class _Reader:
    """A file whose reads ask for no more memory than there is file, and less while that is set."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress | None) -> None:
        self._file, self.size, self._progress = file, size, progress
        self.most = size  # bytes of one read
        self._unread = size

    def read(self, count: int | None = -1) -> bytes:
        left = max(0, self.size - self.tell())
        wanted = left if count is None or count < 0 else min(count, left)
        if wanted > self.most:
            raise Refusal("its table of contents is too long")
        return self._file.read(wanted)

    def readline(self) -> bytes:
        return self._file.readline()

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def fill(self, count: int, read: Callable[[int], bytes]) -> Array:
        """`count` bytes; all that is ever asked for together is no more than the file has."""
        self._unread -= count
        if self._unread < 0:
            raise Refusal("its storages are larger than the file")
        found = np.empty(count, np.uint8)
        done = 0
        while done < count:
            part = read(min(_CHUNK, count - done))
            if not part:
                raise Refusal("it is truncated. Copy it again")
            found[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
            if self._progress is not None:
                self._progress(self.size - self._unread - count + done, self.size)
        return found


def _read(reader: _Reader) -> Any:
    start = reader.read(512)
    reader.seek(0)
    if start[:4] == b"PK\x03\x04":
        return _read_zip(reader)
    if start[257:262] == b"ustar":
        raise Refusal(
            "got the tar format of torch before 0.2. Read and save it again with an old torch"
        )
    if start[:1] == b"\x80":
        return _read_stream(reader)
    raise Refusal(
        "got a file that begins as neither of its formats. Check that it is the right one"
    )


def _read_stream(reader: _Reader) -> Any:
    """Pickles: a number, a version, the machine, the content, the storages' keys; then those."""
    file = cast(BinaryIO, reader)
    if Machine(file).run() != _MAGIC:
        raise Refusal("got a pickle that torch did not write. Save it with torch.save")
    if Machine(file).run() != _PROTOCOL:
        raise Refusal("got another version of the stream format. Save it again with a new torch")
    system = Machine(file).run()
    little = not isinstance(system, dict) or bool(system.get("little_endian", True))
    machine = Machine(file)
    content, keys = machine.run(), Machine(file).run()
    if not isinstance(keys, list) or set(map(str, keys)) != set(machine.storages):
        raise Refusal("its list of storages does not fit its tensors")
    arrays = {}
    for key in map(str, keys):
        storage = machine.storages[key]
        count = int.from_bytes(reader.read(8), "little" if little else "big")
        if count != storage.count:
            raise Refusal(f"its storage {key[:40]!r} has {count:,} numbers, not {storage.count:,}")
        arrays[key] = reader.fill(storage.nbytes, reader.read)
    return _Tensors(arrays, reader.size, little).resolved(content)


def _read_zip(reader: _Reader) -> Any:
    try:
        reader.most = _MOST_DIRECTORY
        with zipfile.ZipFile(cast(BinaryIO, reader)) as archive:
            reader.most = reader.size
            return _read_archive(reader, archive)
    except _ZIP_ERRORS as error:
        raise Refusal(f"its archive is damaged ({str(error)[:80]!r}). Copy it again") from None


_ZIP_ERRORS = (
    *(zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError),
    struct.error,
)


def _read_archive(reader: _Reader, archive: zipfile.ZipFile) -> Any:
    entries = {info.filename: info for info in archive.infolist()}
    roots = [n[: -len(_CONTENT)] for n in entries if n.endswith(_CONTENT) and n.count("/") == 1]
    if len(roots) != 1:
        raise Refusal("got a zip archive without one data.pkl. Check that it is the right file")
    root = roots[0]
    if f"{root}/constants.pkl" in entries:
        raise Refusal(
            "got a TorchScript archive, which holds code. With torch write "
            "torch.save(torch.jit.load(path).state_dict(), other_path)"
        )

    def load(name: str, size: int | None = None) -> Array:
        info = entries.get(f"{root}/{name}")
        if info is None:
            raise Refusal(f"its entry {name[:60]!r} is missing")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise Refusal(f"its entry {name[:60]!r} is compressed or encrypted. Save it with torch")
        if size is not None and info.file_size != size:
            raise Refusal(
                f"its entry {name[:60]!r} has {info.file_size:,} bytes where its tensors need "
                f"{size:,}"
            )
        with archive.open(info) as file:
            return reader.fill(info.file_size, file.read)

    order = load("byteorder").tobytes() if f"{root}/byteorder" in entries else b"little"
    machine = Machine(io.BytesIO(load(_CONTENT[1:]).tobytes()))
    content = machine.run()
    arrays = {key: load(f"data/{key}", k.nbytes) for key, k in machine.storages.items()}
    return _Tensors(arrays, reader.size, order != b"big").resolved(content)


# ---- tensors -----------------------------------------------------------------------------------


class _Tensors:
    """Arrays in the places of a content's StoredTensors.

    Args:
        storages: the bytes of each.
        budget: bytes that expanded tensors may become, all together.
        little: whether the bytes of a number begin with the least.
    """

    def __init__(self, storages: dict[str, Array], budget: int, little: bool) -> None:
        self._bytes, self._budget = storages, budget
        self._little = little
        self._typed: dict[tuple[str, str], Array] = {}
        self._done: dict[int, Any] = {}
        self._keep: list[Any] = []  # what is replaced: else its id would be another's soon

    def resolved(self, content: Any, depth: int = 0) -> Any:
        """The content with arrays; dicts and lists are changed in place."""
        if depth > _MOST_DEPTH:
            raise Refusal("it is nested too deeply")
        if not isinstance(content, (dict, list, tuple, StoredTensor)):
            return _plain(content)
        if id(content) in self._done:
            return self._done[id(content)]
        self._done[id(content)] = content
        if isinstance(content, StoredTensor):
            self._keep.append(content)
            self._done[id(content)] = self._array(content)
        elif isinstance(content, tuple):
            self._keep.append(content)
            self._done[id(content)] = tuple(self.resolved(k, depth + 1) for k in content)
        else:
            places = content.items() if isinstance(content, dict) else enumerate(content)
            for place, value in list(places):
                content[place] = self.resolved(value, depth + 1)
        return self._done[id(content)]

    def _array(self, tensor: StoredTensor) -> Array:
        flat = self._numbers(tensor.storage.key, tensor.dtype)
        size, item = tensor.size, flat.itemsize
        if math.prod(max(1, k) for k in size) * item >= 2**62:
            raise Refusal(f"got a tensor of shape {size}, which no file holds")
        if 0 in size:
            return np.empty(size, flat.dtype)
        strides = [s if k > 1 else 0 for k, s in zip(size, tensor.stride, strict=True)]
        last = tensor.offset + sum((k - 1) * s for k, s in zip(size, strides, strict=True))
        if last >= flat.size:
            raise Refusal(
                f"got a tensor of shape {size} that ends at number {last:,} of a storage of "
                f"{flat.size:,}"
            )
        steps = [s * item for s in strides]
        view: Array = np.ndarray(size, flat.dtype, flat.data, tensor.offset * item, steps)
        expanded = any(k > 1 and s == 0 for k, s in zip(size, strides, strict=True))
        if not expanded and view.size <= flat.size:
            return view
        self._budget -= view.nbytes
        if self._budget < 0:
            raise Refusal(
                f"got expanded tensors, the last of shape {size}, that are larger than the file. "
                "Save them with .clone()"
            )
        return np.array(view)

    def _numbers(self, key: str, dtype: str) -> Array:
        """A storage as numbers of a dtype, in this machine's byte order."""
        if (key, dtype) not in self._typed:
            raw, code = self._bytes[key], CODES[dtype].newbyteorder("<" if self._little else ">")
            whole = raw[: raw.size // code.itemsize * code.itemsize].view(code)
            found = whole.astype(code.newbyteorder("="), copy=False)
            if dtype == "bfloat16":
                found = (found.astype(np.uint32) << 16).view(np.float32)
            self._typed[key, dtype] = found != 0 if dtype == "bool" else found
        return self._typed[key, dtype]


def _plain(value: Any) -> Any:
    """A number or text as it is; a dtype or a type as its name."""
    return value.name if isinstance(value, (Dtype, Name)) else value
