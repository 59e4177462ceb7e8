"""Objects to running code: a small static linker and loader for the ELF objects of the workers.

The objects are position-independent and closed: they call one another and read their own
constants, nothing else. So linking is laying their sections out one behind the other and
filling in relative addresses, and loading is copying the result into executable memory. That
takes about a millisecond and keeps LLVM out of a process whose code is in the cache.

Not a general linker: an object that needs anything else is refused.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from striate.errors import CompileError

_SHF_ALLOC, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_PROGBITS = 2, 2, 4, 8, 1
_X86_64, _AARCH64 = 62, 183


@dataclass
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    address: int = -1  # in the image, once laid out


@dataclass
class _Object:
    data: bytes
    machine: int
    sections: list[_Section]
    symbols: list[tuple[str, int, int]] = field(default_factory=list)  # name, section, value


def _parse(data: bytes) -> _Object:
    if data[:6] != b"\x7fELF\x02\x01":
        raise CompileError("linker: expected a 64-bit little-endian ELF object.")
    machine = struct.unpack_from("<H", data, 18)[0]
    table = struct.unpack_from("<Q", data, 40)[0]
    size, count, names_at = struct.unpack_from("<HHH", data, 58)
    raw = [struct.unpack_from("<IIQQQQIIQQ", data, table + k * size) for k in range(count)]
    names = raw[names_at][4]
    sections = [
        _Section(_text(data, names + r[0]), r[1], r[2], r[4], r[5], r[6], r[7], max(r[8], 1))
        for r in raw
    ]
    parsed = _Object(data, machine, sections)
    for section in sections:
        if section.kind == _SHT_SYMTAB:
            strings = sections[section.link].offset
            for at in range(section.offset, section.offset + section.size, 24):
                name, _info, _other, where, value, _size = struct.unpack_from("<IBBHQQ", data, at)
                parsed.symbols.append((_text(data, strings + name), where, value))
    return parsed


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def link(objects: Sequence[bytes]) -> tuple[bytes, dict[str, int]]:
    """Lay out the objects and resolve what they refer to.

    Returns:
        The image, to be loaded at any page boundary, and the offset of every global symbol.

    Raises:
        CompileError: an object refers to something that none of them has.
    """
    parsed = [_parse(data) for data in objects]
    image = bytearray()
    for one in parsed:
        for section in one.sections:
            if section.flags & _SHF_ALLOC and section.kind in (_SHT_PROGBITS, _SHT_NOBITS):
                image.extend(bytes(-len(image) % max(section.align, 64)))
                section.address = len(image)
                stop = section.offset + section.size
                whole = one.data[section.offset : stop]
                image.extend(whole if section.kind == _SHT_PROGBITS else bytes(section.size))
    symbols = {
        name: one.sections[where].address + value
        for one in parsed
        for name, where, value in one.symbols
        if name and 0 < where < len(one.sections) and one.sections[where].address >= 0
    }
    for one in parsed:
        _relocate(image, one, symbols)
    return bytes(image), symbols


def _relocate(image: bytearray, one: _Object, symbols: dict[str, int]) -> None:
    apply = {_X86_64: _relocate_x86, _AARCH64: _relocate_arm}.get(one.machine)
    if apply is None:
        raise CompileError(f"linker: expected x86-64 or aarch64; got ELF machine {one.machine}.")
    for section in one.sections:
        if section.kind != _SHT_RELA or one.sections[section.info].address < 0:
            continue
        base = one.sections[section.info].address
        if one.sections[section.info].name.startswith(".eh_frame"):
            continue
        for at in range(section.offset, section.offset + section.size, 24):
            offset, info, addend = struct.unpack_from("<QQq", one.data, at)
            name, where, value = one.symbols[info >> 32]
            if 0 < where < len(one.sections):
                target = one.sections[where].address + value
            elif name in symbols:
                target = symbols[name]
            else:
                raise CompileError(f"linker: nothing defines {name!r}; a kernel is missing.")
            apply(image, base + offset, info & 0xFFFFFFFF, target + addend)


def _relocate_x86(image: bytearray, place: int, kind: int, target: int) -> None:
    if kind not in (2, 4):  # R_X86_64_PC32, R_X86_64_PLT32
        raise CompileError(f"linker: expected relative x86-64 relocations; got type {kind}.")
    struct.pack_into("<i", image, place, target - place)


def _relocate_arm(image: bytearray, place: int, kind: int, target: int) -> None:
    word = struct.unpack_from("<I", image, place)[0]
    if kind in (282, 283):  # JUMP26, CALL26
        word |= ((target - place) >> 2) & 0x3FFFFFF
    elif kind == 275:  # ADR_PREL_PG_HI21; the image starts at a page boundary
        pages = (target >> 12) - (place >> 12)
        word |= (pages & 3) << 29 | ((pages >> 2) & 0x7FFFF) << 5
    elif kind in _LOW12_SCALE:
        word |= ((target & 0xFFF) >> _LOW12_SCALE[kind]) << 10
    else:
        raise CompileError(f"linker: expected relative aarch64 relocations; got type {kind}.")
    struct.pack_into("<I", image, place, word)


_LOW12_SCALE = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}


class Code:
    """An image in executable memory; keep it as long as its functions are called."""

    def __init__(self, image: bytes, symbols: dict[str, int]) -> None:
        self._memory = mmap.mmap(-1, max(len(image), 1))
        self._memory.write(image)
        self._view = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)
        self._base = ctypes.addressof(self._view)
        self._symbols = symbols
        _make_executable(self._base, len(self._memory))

    def address(self, name: str) -> int:
        """The address of a global symbol."""
        return self._base + self._symbols[name]

    def function(self, name: str, *arguments: type) -> Callable[..., None]:
        """A global function, callable from Python (the GIL is released while it runs)."""
        return ctypes.CFUNCTYPE(None, *arguments)(self.address(name))


def _make_executable(address: int, size: int) -> None:
    """Turn memory from writable to executable: never both at once."""
    if sys.platform == "win32":
        old = ctypes.c_ulong()
        done = ctypes.windll.kernel32.VirtualProtect(
            ctypes.c_void_p(address), ctypes.c_size_t(size), 0x20, ctypes.byref(old)
        )
    else:
        library = ctypes.CDLL(None, use_errno=True)
        library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        done = library.mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC) == 0
    if not done:
        raise CompileError(
            "loader: the system refuses executable memory to this process; "
            "use STRIATE_BACKEND=reference, which needs none."
        )
