"""Runs aarch64 kernels in qemu's user-mode emulator, on any Linux machine that has it.

There is no Python inside, so every run is a program of its own: a static ELF executable whose
segments are the linked kernel, a table of calls, and the buffers, made here byte by byte. Its
entry walks the table; system calls (write the results, exit) are calls like any other.

The buffers lie as in `harness`: flush with a page that is not there (a stray access ends the
program), inputs on pages that may not be written, and what is left of a page holds a pattern that
is compared afterwards. `emulate` lets the checks of other test modules run that way, and
`emulate_programs` whole networks.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from harness import Argument, Array, Changed, Given, Wanted

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.compiler import Module, compile_modules
from striate.codegen.image import link
from striate.codegen.targets import TARGETS, Target
from striate.kernels.kernel import Kernel
from striate.program import blocked_native, blocked_train, native, threads, training

AARCH64 = TARGETS["aarch64"]
ABSENT = "neither qemu-aarch64-static nor qemu-aarch64 is installed"

_PAGE, _LINE = 4096, 64
_TABLE, _ROUTINE_CODE, _CODE, _BUFFERS = 0x100000, 0x300000, 0x400000, 0x40000000
_MOST_ARGUMENTS = 32
_RECORD = 1 + _MOST_ARGUMENTS  # function, arguments; those that it does not take are 0
_WRITE, _EXIT = 64, 94
_SECONDS = 120.0
_CPU = "cortex-a57"  # has what ARMv8.0 demands, and little more
_PATTERN = 0xA5

# What LLVM's IR has no words for, as machine code.
_ROUTINES: dict[str, tuple[int, ...]] = {
    "system_call": (  # (number, three arguments)
        *(0xAA0003E8, 0xAA0103E0),  # mov x8, x0; mov x0, x1
        *(0xAA0203E1, 0xAA0303E2),  # mov x1, x2; mov x2, x3
        *(0xD4000001, 0xD65F03C0),  # svc #0; ret
    ),
    "spawn": (  # (function, its two arguments, end of a stack, a word that is 0 at the end)
        *(0xA9BE0460, 0xF9000862),  # stp x0, x1, [x3, #-32]!; str x2, [x3, #16]
        *(0xAA0303E1, 0xAA1F03E2, 0xAA1F03E3),  # mov x1, x3; mov x2, xzr; mov x3, xzr
        *(0xD281E000, 0xF2A004A0),  # mov x0, #0x250f00: a thread, its word cleared at its end
        *(0xD2801B88, 0xD4000001),  # mov x8, #220 (clone); svc #0
        *(0xB4000040, 0xD65F03C0),  # cbz x0, child; ret
        *(0xA94003E9, 0xF9400BE1),  # child: ldp x9, x0, [sp]; ldr x1, [sp, #16]
        *(0xD63F0120, 0xD2800000),  # blr x9; mov x0, #0
        *(0xD2800BA8, 0xD4000001),  # mov x8, #93 (exit); svc #0
    ),
    "wait": (  # (a word): until it is 0
        *(0xAA0003E9, 0x88DFFD21),  # mov x9, x0; again: ldar w1, [x9]
        *(0x34000081, 0xD2800F88),  # cbz w1, done; mov x8, #124 (sched_yield)
        *(0xD4000001, 0x17FFFFFC),  # svc #0; b again
        *(0xD65F03C0,),  # done: ret
    ),
    "sleep": (0xD2800F88, 0xD4000001, 0xD65F03C0),  # mov x8, #124 (sched_yield); svc #0; ret
}
_ROUTINE_BYTES = 256
_STACK_BYTES = 1 << 16


def _routine(name: str) -> int:
    """A routine's address."""
    return _ROUTINE_CODE + _ROUTINE_BYTES * list(_ROUTINES).index(name)


def _routines() -> bytes:
    codes = (struct.pack(f"<{len(words)}I", *words) for words in _ROUTINES.values())
    return b"".join(code.ljust(_ROUTINE_BYTES, b"\0") for code in codes)


def emulator() -> str:
    """The path of qemu's emulator, or "" where there is none."""
    found = (shutil.which(name) for name in ("qemu-aarch64-static", "qemu-aarch64"))
    return next(filter(None, found), "")


@dataclass(frozen=True)
class Segment:
    """Bytes at a page boundary; `access`: 4 to read, 2 to write, 1 to execute."""

    address: int
    content: bytes
    access: int


@dataclass(frozen=True)
class Call:
    """A function, by its symbol or its address, and its arguments."""

    function: str | int
    arguments: tuple[int, ...]


# ---- the program -------------------------------------------------------------------------------


@functools.cache
def _entry() -> Module:
    """`_start`: make the calls of the table; the last one does not come back."""
    b = Builder(AARCH64)

    def call(k: Int, _: list[Value]) -> None:
        record = b.at(f"inttoptr (i64 {_TABLE} to ptr)", b.mul(k, _RECORD), 8)
        words = (f"i64 {b.load_i64(record, 1 + a)}" for a in range(_MOST_ARGUMENTS))
        values = ", ".join(words)
        b.emit(f"call void {b.load_pointer(record)}({values})")

    with b.function("_start", []):
        b.loop(0, 2**40, call)
    return Module("_start", b.text())


@functools.lru_cache(maxsize=256)
def _code(modules: tuple[Module, ...], target: Target) -> tuple[bytes, dict[str, int]]:
    """The modules and the entry, linked to lie at _CODE, and where their symbols are."""
    objects = [*compile_modules(modules, target), *compile_modules([_entry()], AARCH64)]
    image, symbols = link(objects)
    return image, {name: _CODE + at for name, at in symbols.items()}


def run_program(
    modules: Sequence[Module], target: Target, calls: Sequence[Call], segments: Sequence[Segment]
) -> list[bytes]:
    """Make the calls; what the writable segments hold afterwards."""
    image, symbols = _code(tuple(modules), target)
    results = [s for s in segments if s.access & 2]
    system = _routine("system_call")
    ends = [Call(system, (_WRITE, 1, s.address, len(s.content))) for s in results]
    table = b""
    for call in (*calls, *ends, Call(system, (_EXIT, 0))):
        function = call.function
        words = [function if isinstance(function, int) else symbols[function], *call.arguments]
        assert len(words) <= _RECORD, f"{call.function} takes {len(call.arguments)} arguments"
        table += struct.pack(f"<{_RECORD}q", *words, *[0] * (_RECORD - len(words)))
    whole = [Segment(_TABLE, table, 4), Segment(_ROUTINE_CODE, _routines(), 5)]
    whole += [Segment(_CODE, image, 5), *segments]
    output = _execute(_executable(whole, symbols["_start"]))
    sizes = [len(s.content) for s in results]
    assert len(output) == sum(sizes), "the program wrote less than its results"
    stops = itertools.accumulate(sizes)
    return [output[stop - size : stop] for size, stop in zip(sizes, stops, strict=True)]


def _executable(segments: Sequence[Segment], entry: int) -> bytes:
    """An ELF file that Linux maps just so: a header, a program header each, whole pages."""
    headers, body = b"", b""
    first = -(-(64 + 56 * len(segments)) // _PAGE) * _PAGE
    for s in segments:
        size = len(s.content)
        places = (first + len(body), s.address, s.address, size, size, _PAGE)
        headers += struct.pack("<IIQQQQQQ", 1, s.access, *places)
        body += s.content + bytes(-size % _PAGE)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    sizes = (64, 56, len(segments), 64, 0, 0)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, entry, 64, 0, 0, *sizes)
    return (head + headers).ljust(first, b"\0") + body


def _execute(program: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program"
        path.write_bytes(program)
        path.chmod(0o700)
        command = [emulator(), "-cpu", _CPU, str(path)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, timeout=_SECONDS
        )
    said = done.stderr.decode(errors="replace").strip()
    assert done.returncode == 0, f"the emulated program ended with {done.returncode}: {said}"
    return done.stdout


# ---- kernels -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Buffer:
    """An array within its segment, the rest of which holds the pattern."""

    segment: Segment
    offset: int
    array: Array

    @property
    def address(self) -> int:
        return self.segment.address + self.offset

    def after(self, content: bytes) -> Array:
        """The array, out of the segment as it was left."""
        before = self.segment.content
        stop = self.offset + self.array.nbytes
        assert content[: self.offset] == before[: self.offset], "written before a buffer"
        assert content[stop:] == before[stop:], "written behind a buffer"
        found: Array = np.frombuffer(content[self.offset : stop], self.array.dtype)
        return found.reshape(self.array.shape).copy()


def _room(size: int) -> int:
    """Bytes of the pages that so many bytes take."""
    return max(-(-size // _PAGE), 1) * _PAGE


def _buffer(array: Array, segment: int, offset: int, writable: bool) -> _Buffer:
    border = bytes([_PATTERN]) * (_room(offset + array.nbytes) - array.nbytes)
    content = border[:offset] + array.tobytes() + border[offset:]
    return _Buffer(Segment(segment, content, 6 if writable else 4), offset, array)


def _argument(argument: Given | Changed | Wanted, segment: int, high: bool) -> _Buffer:
    if isinstance(argument, Wanted):
        array: Array = np.full(argument.shape, np.nan, np.float32)
    else:
        array = argument.array
    offset = _room(array.nbytes) - array.nbytes if high else 0
    return _buffer(array, segment, offset, not isinstance(argument, Given))


def _written(buffers: Sequence[_Buffer], contents: Sequence[bytes]) -> list[tuple[Array, Array]]:
    """Of each writable buffer the array before the run, and after it."""
    writable = [b for b in buffers if b.segment.access & 2]
    return [(b.array, b.after(c)) for b, c in zip(writable, contents, strict=True)]


def run_emulated(kernel: Kernel, target: Target, *arguments: Argument) -> list[Array]:
    """As `harness.run_kernel`: the outputs, the same with the buffers at either end."""
    assert len(kernel.arguments) == len(arguments), f"{kernel.symbol} takes {kernel.arguments}"
    calls: list[Call] = []
    buffers: list[_Buffer] = []
    free = _BUFFERS
    for high in (True, False):
        values: list[int] = []
        for argument in arguments:
            if isinstance(argument, int):
                values.append(argument)
                continue
            buffers.append(_argument(argument, free, high))
            values.append(buffers[-1].address)
            free += len(buffers[-1].segment.content) + _PAGE
        calls.append(Call(kernel.symbol, tuple(values)))
    contents = run_program([kernel.module], target, calls, [b.segment for b in buffers])
    found = [array for _, array in _written(buffers, contents)]
    results, again = found[: len(found) // 2], found[len(found) // 2 :]
    for one, other in zip(results, again, strict=True):
        assert one.tobytes() == other.tobytes(), "the result depends on where the buffers lie"
    return results


def emulate(patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Let the checks in these modules, which call `run_kernel`, run in the emulator."""
    for module in modules:
        patch.setattr(module, "run_kernel", run_emulated)


# ---- programs ----------------------------------------------------------------------------------


class Memory:
    """This process's arrays as an emulated program sees them: at addresses of its own.

    An array is known from the first time that its address is asked for; every call takes along
    what all known arrays hold, and brings back what they hold afterwards.
    """

    def __init__(self) -> None:
        self._free = _BUFFERS
        self._owners: dict[int, tuple[Array, int, int]] = {}  # array, segment, offset in it

    def address_of(self, array: Array) -> int:
        """Instead of `striate.program.arrays.address_of`: as far from a cache line's begin."""
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        start = owner.ctypes.data
        if id(owner) not in self._owners:
            assert owner.flags.forc, "an owner of memory with gaps"
            room = _room(owner.nbytes + _LINE)
            spare = room - owner.nbytes
            self._owners[id(owner)] = (owner, self._free, spare - (spare - start) % _LINE)
            self._free += room + _PAGE
        _, segment, offset = self._owners[id(owner)]
        return segment + offset + int(array.ctypes.data) - int(start)

    def call(self, modules: Sequence[Module], target: Target, calls: Sequence[Call]) -> None:
        """Make the calls, and put what they wrote into the arrays."""
        owners = self._owners.values()
        buffers = [_buffer(a, at, offset, a.flags.writeable) for a, at, offset in owners]
        contents = run_program(modules, target, calls, [b.segment for b in buffers])
        for array, after in _written(buffers, contents):
            ctypes.memmove(array.ctypes.data, after.ctypes.data, array.nbytes)


@dataclass(frozen=True)
class EmulatedCode:
    """Instead of `striate.codegen.image.Code`: its functions run in the emulator."""

    memory: Memory
    modules: tuple[Module, ...]
    target: Target

    def address(self, name: str) -> int:
        return _code(self.modules, self.target)[1][name]

    def function(self, name: str, *_kinds: type) -> EmulatedFunction:
        return EmulatedFunction(self, self.address(name))


@dataclass(frozen=True)
class EmulatedFunction:
    """A program's entry (thread, context)."""

    code: EmulatedCode
    address: int

    def __call__(self, thread: int, context: int) -> None:
        self.run([Call(self.address, (thread, context))])

    def run(self, calls: Sequence[Call]) -> None:
        self.code.memory.call(self.code.modules, self.code.target, calls)

    def on_threads(self, context: int, count: int) -> None:
        """Thread 0 is the program's own; the others begin before it, and it waits for them."""
        memory = self.code.memory
        running = np.ones((count, 16), np.int32)
        stacks = np.zeros((count, _STACK_BYTES // 64, 64), np.uint8)
        before, after = [], []
        for k in range(1, count):
            word = memory.address_of(running[k])
            top = memory.address_of(stacks[k]) + stacks[k].nbytes
            before.append(Call(_routine("spawn"), (self.address, k, context, top // 16 * 16, word)))
            after.append(Call(_routine("wait"), (word,)))
        self.run([*before, Call(self.address, (0, context)), *after])


def emulate_programs(patch: pytest.MonkeyPatch, count: int = 1) -> None:
    """Let programs run in the emulator, each on `count` threads."""
    memory = Memory()

    def load(modules: Sequence[Module], target: Target) -> EmulatedCode:
        return EmulatedCode(memory, tuple({m.symbol: m for m in modules}.values()), target)

    def run(entry: EmulatedFunction, context: int, number: int, *_: Any) -> None:
        entry.on_threads(context, number)

    for module in (native, blocked_native, blocked_train, training):
        patch.setattr(module, "address_of", memory.address_of)
    for module in (native, blocked_native):
        patch.setattr(module, "load", load)
    for module in (native, blocked_native, training):
        patch.setattr(module, "get_num_threads", lambda: count)
    patch.setattr(threads, "run", run)
    patch.setattr(threads, "run_watched", run)
    patch.setattr(threads, "sleep_address", lambda: _routine("sleep"))
