"""A pickle machine that knows only what a checkpoint of weights is made of, and calls nothing.

Pickle is a language that can call any function. This machine has the instructions for numbers,
texts, lists, dicts and tuples, and a table of a few names (`OrderedDict`, `_rebuild_tensor_v2`,
storages, dtypes) that stand for functions of this file. Any other name is refused. Tensors come
out as `StoredTensor`: which part of which storage they are. The bytes are somebody else's.

Memory is bounded by a count of instructions (`MOST_STEPS`): each makes at most one small object.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np

from striate.errors import ModelError

MOST_STEPS = 500_000
_MOST_AXES = 32
_KEYS = (str, int, float, type(None))  # of dicts: the hash of a deep tuple could end the process


class Refusal(ModelError):
    """What is wrong with the file, as the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class Dtype:
    """A dtype of torch, by its name there ("float32")."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A row of numbers in the file; `dtype` is "" where the tensor says it (untyped)."""

    key: str
    dtype: str
    count: int
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return self.count * CODES[self.dtype].itemsize


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """Which numbers of a storage a tensor is: element (i, j, …) is at offset + i·s₀ + j·s₁ …"""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


# ---- the few names -----------------------------------------------------------------------------

STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "",
}
# As which NumPy dtypes their bytes are read; "" is an untyped storage, whose bytes are counted.
CODES = {
    **{k: np.dtype(k) for k in STORAGES.values() if k not in ("", "bfloat16", "bool")},
    **{k: np.dtype(k) for k in ("uint16", "uint32", "uint64")},
    "bfloat16": np.dtype("u2"),
    "bool": np.dtype("u1"),
    "": np.dtype("u1"),
}
_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "long": "int64"}


@dataclass(frozen=True)
class Name:
    """A name of the table, as it lies on the stack; `call` is a function of this file."""

    name: str
    call: Callable[..., Any] | None = None
    storage: str | None = None


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise Refusal("got an OrderedDict of what are no pairs")
        _set(found, pair[0], pair[1])
    return found


def _size(numbers: Any = ()) -> tuple[int, ...]:
    if not isinstance(numbers, (tuple, list)) or len(numbers) > _MOST_AXES:
        raise Refusal(f"got a shape that is no row of at most {_MOST_AXES} numbers")
    if not all(type(k) is int and 0 <= k < 2**62 for k in numbers):
        raise Refusal("got a shape with something else than whole numbers from 0")
    return tuple(numbers)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    """`_rebuild_tensor` and `_rebuild_tensor_v2`; gradients and hooks are left out."""
    if not isinstance(storage, Storage):
        raise Refusal("got a tensor without a storage")
    return _typed(storage, offset, size, stride, storage.dtype)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, Dtype):
        raise Refusal("got a tensor without a storage or a dtype")
    return _typed(storage, offset, size, stride, dtype.name)


def _typed(storage: Storage, offset: Any, size: Any, stride: Any, dtype: str) -> StoredTensor:
    sizes, strides = _size(size), _size(stride)
    if type(offset) is not int or not 0 <= offset < 2**62 or len(sizes) != len(strides):
        raise Refusal("got a tensor whose offset or strides are none")
    if not dtype:
        raise Refusal("got a tensor without a dtype")
    return StoredTensor(storage, dtype, storage.offset + offset, sizes, strides)


def _parameter(data: Any, *_: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise Refusal("got a parameter that is no tensor")
    return data


def _device(kind: Any = "cpu", *_: Any) -> str:
    return str(kind)[:40]


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
}


def find_name(module: Any, name: Any) -> Any:
    """What a global name stands for, or a refusal that tells it."""
    full = f"{module}.{name}"
    if full in _CALLS:
        return Name(full, call=_CALLS[full])
    if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
        return Name(full, storage=STORAGES[name])
    if module == "torch" and name and _ALIASES.get(name, name) in CODES:
        return Dtype(_ALIASES.get(name, name))
    raise Refusal(
        f"its pickle asks for {full[:80]!r}, which is not data. Nothing was run: in a Python that "
        "trusts the file write torch.save(net.state_dict(), path)"
    )


# ---- the machine -------------------------------------------------------------------------------


class Machine:
    """Runs one pickle.

    Args:
        file: open at the pickle's first byte; after `run` it is behind the last one.
        most_steps: the most instructions.
    """

    def __init__(self, file: BinaryIO, most_steps: int = MOST_STEPS) -> None:
        self._file, self._left = file, most_steps
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """What the pickle describes: dicts, lists, tuples, numbers, texts, StoredTensors.

        Raises:
            Refusal: it is damaged, too long, or asks for something that is not data.
        """
        try:
            for opcode, argument, _ in pickletools.genops(self._file):
                self._left -= 1
                if self._left < 0:
                    raise Refusal("its pickle has more instructions than a checkpoint needs")
                if opcode.name == "STOP":
                    return self._pop()
                self._step(opcode.name, argument)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            raise Refusal(f"its pickle is damaged ({str(error)[:120]!r})") from None
        raise Refusal("its pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self._push(_VALUES[name](argument))
        elif name in _CONSTANTS:
            self._push(_CONSTANTS[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _NOTHING:
            raise Refusal(f"its pickle has the instruction {name}, which checkpoints do not need")

    # ---- the stack ---------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise Refusal("its pickle is damaged (the stack is empty)")
        return self._stack.pop()

    def _top(self, kind: type) -> Any:
        value = self._pop()
        self._push(value)
        if not isinstance(value, kind):
            raise Refusal(f"its pickle fills a {type(value).__name__} as a {kind.__name__}")
        return value

    def _from_mark(self) -> list[Any]:
        if not self._marks:
            raise Refusal("its pickle is damaged (a mark is missing)")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop_mark(self, _: Any) -> None:
        self._from_mark()

    def _drop(self, _: Any) -> None:
        self._pop()

    def _duplicate(self, _: Any) -> None:
        value = self._pop()
        self._stack += [value, value]

    # ---- containers --------------------------------------------------------------------------

    def _tuple(self, _: Any) -> None:
        self._push(tuple(self._from_mark()))

    def _short_tuple(self, count: int) -> None:
        self._push(tuple(reversed([self._pop() for _ in range(count)])))

    def _list(self, _: Any) -> None:
        self._push(self._from_mark())

    def _dict(self, _: Any) -> None:
        items = self._from_mark()
        self._push({})
        self._set_all(items)

    def _append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self, _: Any) -> None:
        items = self._from_mark()
        self._top(list).extend(items)

    def _set_item(self, _: Any) -> None:
        value = self._pop()
        self._set_all([self._pop(), value])

    def _set_items(self, _: Any) -> None:
        self._set_all(self._from_mark())

    def _set_all(self, items: list[Any]) -> None:
        target = self._top(dict)
        if len(items) % 2:
            raise Refusal("its pickle is damaged (a key without a value)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(target, key, value)

    # ---- memo, names, calls ------------------------------------------------------------------

    def _put(self, place: int) -> None:
        self._memo[int(place)] = self._top(object)

    def _memoize(self, _: Any) -> None:
        self._put(len(self._memo))

    def _get(self, place: int) -> None:
        if int(place) not in self._memo:
            raise Refusal("its pickle is damaged (a reference to nothing)")
        self._push(self._memo[int(place)])

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push(find_name(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refusal("its pickle is damaged (a name that is no text)")
        self._push(find_name(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or function.call is None:
            raise Refusal("its pickle calls something that is no function")
        if not isinstance(arguments, tuple):
            raise Refusal("its pickle is damaged (a call without arguments)")
        self._push(function.call(*arguments))

    def _build(self, _: Any) -> None:
        """Attributes of an OrderedDict, which are versions of layers, are left out."""
        self._pop()
        self._top(dict)

    def _persistent(self, _: Any) -> None:
        found = _storage(self._pop())
        first = self.storages.setdefault(found.key, found)
        if (first.dtype, first.count) != (found.dtype, found.count):
            raise Refusal(f"its storage {found.key[:40]!r} has two sizes")
        self._push(found)


def _set(target: dict[Any, Any], key: Any, value: Any) -> None:
    if not isinstance(key, _KEYS) or (type(key) is int and key.bit_length() > 64):
        raise Refusal(f"got a dict with a {type(key).__name__} as a key")
    target[key] = value


def _storage(given: Any) -> Storage:
    """("storage", type, key, device, count) and, in old files, the part that is viewed."""
    fits = isinstance(given, tuple) and len(given) in (5, 6) and given[0] == "storage"
    if not fits or not isinstance(given[1], Name) or given[1].storage is None:
        raise Refusal("its pickle refers to something outside that is no storage")
    key, count = given[2], given[4]
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**62:
        raise Refusal("got a storage without a name or a count")
    view = given[5] if len(given) == 6 else None
    offset = 0 if view is None else view[1]
    if type(offset) is not int or not 0 <= offset < 2**62:
        raise Refusal("got a view of a storage without an offset")
    return Storage(key, given[1].storage, count, offset)


def _whole(value: Any) -> Any:
    if type(value) is int and value.bit_length() > 128:
        raise Refusal("got a whole number of more than 128 bits")
    return value


def _same(value: Any) -> Any:
    return value


def _refuse(value: Any) -> NoReturn:
    raise Refusal("got a reference that checkpoints do not need")


_NOTHING = ("PROTO", "FRAME")
_VALUES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"), _whole),
    **dict.fromkeys(("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"), _same),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _same),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _same),
    "PERSID": _refuse,
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine._mark,
    "POP": Machine._drop,
    "POP_MARK": Machine._pop_mark,
    "DUP": Machine._duplicate,
    "TUPLE": Machine._tuple,
    "TUPLE1": lambda machine, _: machine._short_tuple(1),
    "TUPLE2": lambda machine, _: machine._short_tuple(2),
    "TUPLE3": lambda machine, _: machine._short_tuple(3),
    "LIST": Machine._list,
    "DICT": Machine._dict,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "SETITEM": Machine._set_item,
    "SETITEMS": Machine._set_items,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine._get),
    "MEMOIZE": Machine._memoize,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent,
}
