"""The linker and loader, on objects made by hand: layout, relocations, refusals."""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
from dataclasses import dataclass, field
from typing import Any

import pytest

from striate.codegen import image
from striate.codegen.image import Code, link
from striate.errors import CompileError

_PROGBITS, _SYMTAB, _STRTAB, _RELA, _NOBITS = 1, 2, 3, 4, 8
_X86, _ARM = 62, 183
PC32, PLT32, ABSOLUTE = 2, 4, 1
CALL26, PAGE, LOW12, LOW12_128, MOVW = 283, 275, 277, 299, 263


@dataclass
class Elf:
    """A relocatable object: sections with bytes, symbols, relocations of the first section."""

    text: bytes = b"\xc3"
    data: bytes = b""  # .rodata, section 2
    zeros: int = 0  # .bss, section 3
    symbols: list[tuple[str, int, int]] = field(default_factory=list)  # name, section, value
    relocations: list[tuple[int, int, int, int]] = field(default_factory=list)  # at,type,sym,add
    machine: int = _X86
    align: int = 16

    def bytes(self) -> bytes:
        names = b"\0.text\0.rodata\0.bss\0.symtab\0.strtab\0.rela.text\0"
        strings, table = b"\0", struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
        for name, where, value in self.symbols:
            table += struct.pack("<IBBHQQ", len(strings), 0x10, 0, where, value, 0)
            strings += name.encode() + b"\0"
        rela = b"".join(
            struct.pack("<QQq", at, symbol << 32 | kind, addend)
            for at, kind, symbol, addend in self.relocations
        )
        parts = [
            (names.index(b".text"), _PROGBITS, 6, self.text, 0, 0, self.align),
            (names.index(b".rodata"), _PROGBITS, 2, self.data, 0, 0, 16),
            (names.index(b".bss"), _NOBITS, 3, b"", 0, 0, 16),
            (names.index(b".symtab"), _SYMTAB, 0, table, 5, 1, 8),
            (names.index(b".strtab"), _STRTAB, 0, strings, 0, 0, 1),
            (names.index(b".rela.text"), _RELA, 0, rela, 4, 1, 8),
            (0, _STRTAB, 0, names, 0, 0, 1),
        ]
        body, headers = b"", struct.pack("<IIQQQQIIQQ", *[0] * 10)
        for name, kind, flags, content, link_to, info, align in parts:
            size = self.zeros if kind == _NOBITS else len(content)
            headers += struct.pack(
                "<IIQQQQIIQQ", name, kind, flags, 0, 64 + len(body), size, link_to, info, align, 24
            )
            body += content
        head = b"\x7fELF\x02\x01\x01" + bytes(9)
        head += struct.pack(
            "<HHIQQQIHHHHHH", 1, self.machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 8, 7
        )
        return head + body + headers


def test_sections_are_laid_out_and_symbols_found() -> None:
    one = Elf(b"\x90" * 5, b"abcd", 7, [("f", 1, 0), ("table", 2, 1), ("room", 3, 2)], align=128)
    two = Elf(b"\xc3" * 3, symbols=[("g", 1, 1)])
    data, symbols = link([one.bytes(), two.bytes()])
    assert data[symbols["f"] :][:5] == b"\x90" * 5 and symbols["f"] % 128 == 0
    assert data[symbols["table"] :][:3] == b"bcd"
    assert data[symbols["room"] :][:5] == bytes(5)
    assert data[symbols["g"] - 1 :][:3] == b"\xc3" * 3 and (symbols["g"] - 1) % 64 == 0
    assert set(symbols) == {"f", "table", "room", "g"}


@pytest.mark.parametrize("kind", [PC32, PLT32])
def test_relative_relocations(kind: int) -> None:
    caller = Elf(bytes(8), symbols=[("f", 1, 0), ("g", 0, 0)], relocations=[(2, kind, 2, -4)])
    callee = Elf(b"\xc3" * 4, symbols=[("g", 1, 2)])
    data, symbols = link([caller.bytes(), callee.bytes()])
    (found,) = struct.unpack_from("<i", data, symbols["f"] + 2)
    assert found == symbols["g"] - (symbols["f"] + 2) - 4


def test_a_local_symbol_comes_before_a_global_of_that_name() -> None:
    one = Elf(bytes(4), b"here", symbols=[("f", 1, 0), ("t", 2, 0)], relocations=[(0, PC32, 2, 0)])
    two = Elf(b"\xc3", b"there", symbols=[("t", 2, 0), ("g", 1, 0)])
    data, symbols = link([one.bytes(), two.bytes()])
    (found,) = struct.unpack_from("<i", data, symbols["f"])
    assert data[symbols["f"] + found :][:4] == b"here"


def test_aarch64_relocations() -> None:
    """A call, and the two instructions that make an address."""
    text = struct.pack("<IIII", 0x94000000, 0x90000000, 0x91000000, 0x3DC00000)
    relocations = [(0, CALL26, 2, 0), (4, PAGE, 3, 0), (8, LOW12, 3, 0), (12, LOW12_128, 3, 0)]
    one = Elf(text, symbols=[("f", 1, 0), ("g", 0, 0), ("t", 0, 0)], relocations=relocations)
    one.machine = _ARM
    two = Elf(bytes(8192), b"x" * 64, symbols=[("g", 1, 4096), ("t", 2, 32)], machine=_ARM)
    data, symbols = link([one.bytes(), two.bytes()])
    call, page, low, low128 = struct.unpack_from("<IIII", data, symbols["f"])
    at = symbols["f"]
    assert call == 0x94000000 | (symbols["g"] - at) >> 2
    pages = (symbols["t"] >> 12) - (at + 4 >> 12)
    assert page == 0x90000000 | (pages & 3) << 29 | pages >> 2 << 5
    assert low == 0x91000000 | (symbols["t"] & 0xFFF) << 10
    assert low128 == 0x3DC00000 | (symbols["t"] & 0xFFF) >> 4 << 10


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([Elf(bytes(4), symbols=[("h", 0, 0)], relocations=[(0, PC32, 1, 0)])], "defines 'h'"),
        (
            [Elf(bytes(8), symbols=[("f", 1, 0)], relocations=[(0, ABSOLUTE, 1, 0)])],
            "relative x86-64 relocations; got type 1",
        ),
        (
            [Elf(bytes(8), symbols=[("f", 1, 0)], relocations=[(0, MOVW, 1, 0)], machine=_ARM)],
            "relative aarch64 relocations; got type 263",
        ),
        ([Elf(bytes(8), machine=243)], "got ELF machine 243"),
    ],
    ids=["undefined", "absolute", "aarch64 absolute", "machine"],
)
def test_what_cannot_be_linked_is_refused(objects: list[Elf], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        link([one.bytes() for one in objects])


@pytest.mark.parametrize("data", [b"", b"MZ" + bytes(80), b"\x7fELF\x01\x01" + bytes(80)])
def test_what_is_no_elf_object_is_refused(data: bytes) -> None:
    with pytest.raises(CompileError, match="expected a 64-bit little-endian ELF object"):
        link([data])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86-64 code")
def test_linked_code_runs() -> None:
    """f stores what g's constant holds: mov eax,[rip+t]; mov [rdi],eax; ret, called from f."""
    f = Elf(
        b"\xe8\0\0\0\0\xc3", symbols=[("f", 1, 0), ("g", 0, 0)], relocations=[(1, PLT32, 2, -4)]
    )
    g = Elf(
        b"\x8b\x05\0\0\0\0\x89\x07\xc3",
        struct.pack("<i", 123456),
        symbols=[("g", 1, 0), ("t", 2, 0)],
        relocations=[(2, PC32, 2, -4)],
    )
    code = Code(*link([f.bytes(), g.bytes()]))
    out = ctypes.c_int32()
    code.function("f", ctypes.c_void_p)(ctypes.addressof(out))
    assert out.value == 123456
    assert code.address("g") % mmap.PAGESIZE == 64


def test_memory_is_never_writable_and_executable() -> None:
    code = Code(*link([Elf(symbols=[("f", 1, 0)]).bytes()]))
    with open("/proc/self/maps", encoding="ascii") as file:
        ranges = [line.split()[:2] for line in file]
    for span, rights in ranges:
        low, high = (int(end, 16) for end in span.split("-"))
        if low <= code.address("f") < high:
            assert "x" in rights and "w" not in rights
            return
    raise AssertionError("the code is in no range of memory")


def test_a_system_that_refuses_executable_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        class mprotect:
            argtypes: Any = None

            def __new__(cls, *arguments: int) -> int:  # type: ignore[misc]
                return -1

    monkeypatch.setattr(image.ctypes, "CDLL", lambda *a, **k: Library)
    with pytest.raises(CompileError, match="STRIATE_BACKEND=reference"):
        Code(b"\xc3", {"f": 0})
