"""One native entry for every blocked program: it walks a table of stages.

A blocked program is data: stages in order, each with kernel calls whose arguments are affine in
the batch size, the group of samples and the part of the work that an item has. So nothing is
compiled per network but its kernels, and a program can be printed, timed stage by stage and
checked. All threads walk the table together and meet after every stage.

Here are the table's words and the entry's code. What goes into the table: `stage`, `blocked_plan`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from striate.codegen import spmd
from striate.codegen.builder import Builder, Int, Value
from striate.codegen.compiler import Module
from striate.codegen.targets import Target

FIELDS = (
    "shared",
    "threads",
    "sleep",
    "steps",
    "samples",
    "batch",
    "table",
    "stages",
    "bases",
    "base_count",
    "times",
)
"""The 8-byte fields of the context block, in order."""

STAGE_WORDS = 5  # parts, samples a group, samples first, word of the first call, calls
CALL_WORDS = 3  # function, word of the first argument, arguments
ARGUMENT_WORDS = 6  # base, constant, a sample of the batch, a group, a part; at most
BASE_WORDS = 3  # address, bytes a thread, bytes a step
MOST_ARGUMENTS = 28
MOST_BASES = 2048
NO_LIMIT = 2**62


@functools.lru_cache(maxsize=8)
def runner(target: Target) -> Module:
    """The module of the entry function "run_table" (thread, context)."""
    b = Builder(target)
    barrier = spmd.emit_barrier(b)
    _emit_item(b)
    with b.function("run_table", ["thread:i64", "block"]) as (thread, block):
        _Walk(b, barrier, thread, block).emit()
    return Module("run_table", b.text())


def _emit_item(b: Builder) -> None:
    """@item(calls, count, group, part, batch, bases, table): every call of an item."""
    names = ["calls", "count:i64", "group:i64", "part:i64", "n:i64", "bases", "table"]
    with b.function("item", names, "internal") as (calls, count, group, part, n, bases, table):
        room = b.let(f"alloca [{MOST_ARGUMENTS} x i64], align 64")

        def argument(at: Int, first: Value) -> None:
            word = b.at(first, b.mul(at, ARGUMENT_WORDS), 8)
            total = b.load_i64(bases, b.load_i64(word, 0))
            total = b.add(total, b.load_i64(word, 1))  # type: ignore[assignment]
            for k, factor in ((2, n), (3, group), (4, part)):
                total = b.add(total, b.mul(b.load_i64(word, k), factor))  # type: ignore[assignment]
            total = b.minimum(total, b.load_i64(word, 5))  # type: ignore[assignment]
            b.emit(f"store i64 {total}, ptr {b.at(room, at, 8)}, align 8")

        def call(k: Int, _: list[Value]) -> None:
            here = b.at(calls, b.mul(k, CALL_WORDS), 8)
            function = b.load_pointer(here, 0)
            first = b.at(table, b.load_i64(here, 1), 8)
            b.loop(0, b.load_i64(here, 2), lambda a, _: argument(a, first))
            # Callers clear the stack on every target, so a kernel may be given more than it takes.
            values = ", ".join(f"i64 {b.load_i64(room, a)}" for a in range(MOST_ARGUMENTS))
            b.emit(f"call void {function}({values})")

        b.loop(0, count, call)


class _Walk:
    """Emits the entry: steps, stages, items."""

    def __init__(self, b: Builder, barrier: str, thread: Value, block: Value) -> None:
        self.b, self.barrier, self.thread, self.block = b, barrier, thread, block

    def field(self, name: str) -> Value:
        return self.b.load_i64(self.block, FIELDS.index(name))

    def pointer(self, name: str) -> Value:
        return self.b.load_pointer(self.block, FIELDS.index(name))

    def emit(self) -> None:
        b = self.b
        old = spmd.flush_denormals(b)
        self.here = b.let(f"alloca [{MOST_BASES} x i64], align 64")
        self.claimed = b.let("alloca i64, align 8")
        b.emit(f"store i64 0, ptr {self.claimed}, align 8")
        self.shared, self.threads = self.pointer("shared"), self.field("threads")

        def step(k: Int, _: list[Value]) -> None:
            halted = b.load_i64(b.at(self.shared, spmd.HALTED, 1))
            b.when(b.compare("eq", halted, 0), lambda: self._step(k))

        b.loop(0, self.field("steps"), step)
        spmd.restore_denormals(b, old)

    def _step(self, k: Int) -> None:
        b = self.b
        batch = self.field("batch")
        self.n = b.minimum(b.sub(self.field("samples"), b.mul(k, batch)), batch)
        bases = self.pointer("bases")

        def base(i: Int, _: list[Value]) -> None:
            record = b.at(bases, b.mul(i, BASE_WORDS), 8)
            total = b.add(b.load_i64(record, 0), b.mul(b.load_i64(record, 1), self.thread))
            total = b.add(total, b.mul(b.load_i64(record, 2), k))
            b.emit(f"store i64 {total}, ptr {b.at(self.here, i, 8)}, align 8")

        b.loop(0, self.field("base_count"), base)
        self.table = self.pointer("table")
        b.loop(0, self.field("stages"), lambda s, _: self._stage(s))
        b.when(b.compare("eq", self.threads, 1), self._meet)  # where a wish to stop is seen
        b.emit(
            f"store atomic i64 {b.add(k, 1)}, ptr {b.at(self.shared, spmd.PROGRESS, 1)} "
            "monotonic, align 8"
        )

    def _stage(self, s: Int) -> None:
        b = self.b
        record = b.at(self.table, b.mul(s, STAGE_WORDS), 8)
        parts, samples = b.load_i64(record, 0), b.load_i64(record, 1)
        # A stage for the whole batch has one group; so has one without samples a group.
        rounded = b.sub(b.add(self.n, samples), 1)
        groups = b.let(f"sdiv i64 {rounded}, {samples}")
        total = b.mul(parts, groups)
        calls = b.at(self.table, b.load_i64(record, 3), 8)
        count, samples_first = b.load_i64(record, 4), b.load_i64(record, 2)
        divisor = b.let(f"select i1 {b.compare('ne', samples_first, 0)}, i64 {groups}, i64 {parts}")

        def item(i: Int) -> None:
            outer = b.let(f"udiv i64 {i}, {divisor}")
            inner = b.sub(i, b.mul(outer, divisor))
            swap = b.compare("ne", samples_first, 0)
            group = b.let(f"select i1 {swap}, i64 {inner}, i64 {outer}")
            part = b.let(f"select i1 {swap}, i64 {outer}, i64 {inner}")
            b.call(
                "item",
                *(f"ptr {calls}", f"i64 {count}", f"i64 {group}", f"i64 {part}"),
                *(f"i64 {self.n}", f"ptr {self.here}", f"ptr {self.table}"),
            )

        before = self._clock()
        alone = b.compare("eq", self.threads, 1)
        b.when(alone, lambda: self._alone(total, item))
        b.when(b.compare("ne", self.threads, 1), lambda: self._shared_stage(total, item))
        self._note_time(s, before)

    def _shared_stage(self, total: Int, item: Callable[[Int], None]) -> None:
        """Claim items until none are left, then meet.

        The counter is never reset: every thread takes one number too many, so after the meeting
        all know where it stands.
        """
        b = self.b
        start = b.load_i64(self.claimed)
        spmd.claim(b, self.shared, total, item, start)
        after = b.add(b.add(start, total), self.threads)
        b.emit(f"store i64 {after}, ptr {self.claimed}, align 8")
        self._meet()

    def _alone(self, total: Int, item: Callable[[Int], None]) -> None:
        self.b.loop(0, total, lambda i, _: item(i))

    def _meet(self) -> None:
        sleep = self.pointer("sleep")
        arguments = (f"ptr {self.shared}", f"i64 {self.threads}", f"ptr {sleep}")
        self.b.call(self.barrier, *arguments)

    def _clock(self) -> Value:
        self.b.declare("declare i64 @llvm.readcyclecounter()")
        return self.b.let("call i64 @llvm.readcyclecounter()")

    def _note_time(self, s: Int, before: Value) -> None:
        """Add the stage's cycles to its entry in "times", where a table is given."""
        b = self.b
        times = self.pointer("times")
        wanted = b.let(f"icmp ne ptr {times}, null")
        first = b.compare("eq", self.thread, 0)
        both = b.let(f"and i1 {wanted}, {first}")

        def note() -> None:
            at = b.at(times, s, 8)
            total = b.add(b.load_i64(at), b.sub(self._clock(), before))
            b.emit(f"store i64 {total}, ptr {at}, align 8")

        b.when(both, note)
