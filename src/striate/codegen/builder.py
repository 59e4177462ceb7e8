"""A staged builder of textual LLVM IR: Python loops unroll, `loop` emits loops that run.

A value is the text of an SSA name or of a literal; an index is such a text or a Python int, and
arithmetic on ints folds. Vectors are `<width x float>` of the target.

Not here: what the kernels compute (kernels/), and how text becomes code (compiler).
Three habits below were measured, not guessed: an empty asm (`fence`) between rank-1 steps keeps
LLVM from keeping loads alive in registers that accumulators need; no IR pass is ever run; loops
are emitted with their test at the end and their accumulators as phi nodes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from striate.codegen.targets import Target
from striate.errors import CompileError

Value = str
Int = int | str
Body = Callable[[Int, list[Value]], "Sequence[Value] | None"]


class Builder:
    """Builds one module: functions of `ptr` and `i64` arguments, and constant tables."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.width = target.width
        self.vector = f"<{target.width} x float>"
        self.integers = f"<{target.width} x i32>"
        self.bits = f"<{target.width} x i1>"
        self._declarations: dict[str, None] = {}
        self._functions: list[str] = []
        self._tables: dict[str, str] = {}
        self._lines: list[str] = []
        self._count = 0
        self._block = "entry"

    # ---- module ------------------------------------------------------------------------------

    def text(self) -> str:
        """The module's IR."""
        bits = 32 * self.width
        attributes = (
            f'attributes #0 = {{ nounwind "prefer-vector-width"="{bits}" '
            f'"min-legal-vector-width"="{bits}" }}'
        )
        tables = [
            f"{name} = private constant {items}, align 64" for items, name in self._tables.items()
        ]
        parts = [*self._declarations, *tables, *self._functions, attributes]
        return "\n".join(parts) + "\n"

    def declare(self, line: str) -> None:
        """Declare something external once (an intrinsic, or a kernel in another object)."""
        self._declarations.setdefault(line)

    def raw(self, text: str) -> None:
        """Add a function written as text."""
        self._functions.append(text)

    def table(self, values: Sequence[int]) -> Value:
        """A constant table of i64, as a pointer."""
        return self._constant("i64", [str(v) for v in values] or ["0"])

    def float_table(self, values: Sequence[float]) -> Value:
        """A constant table of float32, as a pointer."""
        return self._constant("float", [float_literal(v) for v in values] or ["0.0"])

    def _constant(self, kind: str, values: Sequence[str]) -> Value:
        items = f"[{len(values)} x {kind}] [{', '.join(f'{kind} {v}' for v in values)}]"
        return self._tables.setdefault(items, f"@table{len(self._tables)}")

    @contextmanager
    def function(
        self, name: str, arguments: Sequence[str], linkage: str = ""
    ) -> Iterator[list[Value]]:
        """Build a function; arguments are "name" (a pointer) or "name:i64"."""
        typed = [a.split(":") if ":" in a else [a, "ptr"] for a in arguments]
        self._lines, self._block = [], "entry"
        yield [f"%{n}" for n, _ in typed]
        head = ", ".join(f"{t} %{n}" for n, t in typed)
        body = "\n".join(self._lines)
        self._functions.append(
            f"define {linkage} void @{name}({head}) #0 {{\nentry:\n{body}\n  ret void\n}}"
        )

    # ---- the plumbing -------------------------------------------------------------------------

    def emit(self, line: str) -> None:
        self._lines.append("  " + line)

    def let(self, right: str) -> Value:
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {right}")
        return name

    def label(self, name: str) -> None:
        self._lines.append(f"{name}:")
        self._block = name

    def fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def call(self, name: str, *arguments: str) -> None:
        """Call a void function; an argument is "ptr %x" or "i64 3"."""
        self.emit(f"call void @{name}({', '.join(arguments)})")

    # ---- integers ----------------------------------------------------------------------------

    def add(self, a: Int, b: Int) -> Int:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        return a if b == 0 else self.let(f"add nsw i64 {a}, {b}")

    def sub(self, a: Int, b: Int) -> Int:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self.let(f"sub nsw i64 {a}, {b}")

    def mul(self, a: Int, b: Int) -> Int:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        if a == 1:
            return b
        return a if b == 1 else self.let(f"mul nsw i64 {a}, {b}")

    def divide(self, a: Int, b: int) -> Int:
        """`a // b` for a ≥ 0."""
        if isinstance(a, int):
            return a // b
        return a if b == 1 else self.let(f"udiv i64 {a}, {b}")

    def minimum(self, a: Int, b: Int) -> Int:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        self.declare("declare i64 @llvm.smin.i64(i64, i64)")
        return self.let(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def compare(self, how: str, a: Int, b: Int) -> Value:
        return self.let(f"icmp {how} i64 {a}, {b}")

    # ---- addresses and memory ------------------------------------------------------------------

    def at(self, pointer: Value, offset: Int, size: int = 4) -> Value:
        """The address `offset` elements of `size` bytes behind `pointer`."""
        if offset == 0:
            return pointer
        if isinstance(offset, int):
            return self.let(f"getelementptr i8, ptr {pointer}, i64 {offset * size}")
        if size in (1, 2, 4, 8):
            return self.let(f"getelementptr i{8 * size}, ptr {pointer}, i64 {offset}")
        return self.let(f"getelementptr i8, ptr {pointer}, i64 {self.mul(offset, size)}")

    def fence(self) -> None:
        """Zero instructions; keeps loads from being merged across it (see the file's head)."""
        self.emit('call void asm sideeffect "", "~{memory}"()')

    def load(self, pointer: Value, offset: Int = 0, align: int | None = None) -> Value:
        """A vector from `pointer` + `offset` floats."""
        align = 4 * self.width if align is None else align
        return self.let(f"load {self.vector}, ptr {self.at(pointer, offset)}, align {align}")

    def store(
        self, value: Value, pointer: Value, offset: Int = 0, align: int | None = None
    ) -> None:
        align = 4 * self.width if align is None else align
        self.emit(f"store {self.vector} {value}, ptr {self.at(pointer, offset)}, align {align}")

    def load_part(self, pointer: Value, offset: Int, count: int) -> Value:
        """The first `count` lanes from memory, the rest 0; nothing behind them is read."""
        if count == self.width:
            return self.load(pointer, offset, align=4)
        name = f"llvm.masked.load.v{self.width}f32.p0"
        self.declare(f"declare {self.vector} @{name}(ptr, i32, {self.bits}, {self.vector})")
        place = f"ptr {self.at(pointer, offset)}, i32 4, {self._first(count)}"
        return self.let(f"call {self.vector} @{name}({place}, {self.vector} zeroinitializer)")

    def store_part(self, value: Value, pointer: Value, offset: Int, count: int) -> None:
        """Store the first `count` lanes."""
        if count == self.width:
            self.store(value, pointer, offset, align=4)
            return
        name = f"llvm.masked.store.v{self.width}f32.p0"
        self.declare(f"declare void @{name}({self.vector}, ptr, i32, {self.bits})")
        place = f"ptr {self.at(pointer, offset)}, i32 4, {self._first(count)}"
        self.emit(f"call void @{name}({self.vector} {value}, {place})")

    def first_lanes(self, value: Value, count: int) -> Value:
        """The first `count` lanes of a vector, the rest 0."""
        _, _, lanes = self._first(count).partition("> ")
        return self.select(lanes, value, self.zero)

    def _first(self, count: int) -> Value:
        lanes = ", ".join(f"i1 {'true' if k < count else 'false'}" for k in range(self.width))
        return f"{self.bits} <{lanes}>"

    def load_float(self, pointer: Value, offset: Int = 0) -> Value:
        return self.let(f"load float, ptr {self.at(pointer, offset)}, align 4")

    def store_float(self, value: Value, pointer: Value, offset: Int = 0) -> None:
        self.emit(f"store float {value}, ptr {self.at(pointer, offset)}, align 4")

    def load_i64(self, pointer: Value, offset: Int = 0) -> Value:
        return self.let(f"load i64, ptr {self.at(pointer, offset, 8)}, align 8")

    def load_pointer(self, pointer: Value, offset: Int = 0) -> Value:
        return self.let(f"load ptr, ptr {self.at(pointer, offset, 8)}, align 8")

    def broadcast(self, pointer: Value, offset: Int = 0) -> Value:
        """One float from memory in every lane."""
        return self.splat(self.load_float(pointer, offset))

    def splat(self, scalar: Value) -> Value:
        first = self.let(f"insertelement {self.vector} poison, float {scalar}, i32 0")
        zeros = f"<{self.width} x i32> zeroinitializer"
        return self.let(f"shufflevector {self.vector} {first}, {self.vector} poison, {zeros}")

    # ---- vectors -----------------------------------------------------------------------------

    @property
    def zero(self) -> Value:
        return "zeroinitializer"

    def const(self, value: float) -> Value:
        """A float32 constant in every lane."""
        return "<" + ", ".join([f"float {float_literal(value)}"] * self.width) + ">"

    def const_int(self, value: int) -> Value:
        return "<" + ", ".join([f"i32 {value}"] * self.width) + ">"

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a·b + c; rounded once where the target has the instruction, else twice."""
        if not self.target.fma:
            return self.fadd(self.fmul(a, b), c)
        v = self.vector
        self.declare(f"declare {v} @llvm.fma.v{self.width}f32({v}, {v}, {v})")
        return self.let(f"call {v} @llvm.fma.v{self.width}f32({v} {a}, {v} {b}, {v} {c})")

    def accumulate(self, total: Value, a: Value, b: Value) -> Value:
        """total + a·b, in the register that total is in.

        For loops of single-use products: left alone, LLVM lets each sum move into the register of
        a factor, and with 16 registers has to put some of them in memory at the loop's end.
        """
        if not (self.target.fma and self.target.is_x86 and self.target.registers == 16):
            return self.fma(a, b, total)
        v = self.vector
        code = 'asm "vfmadd231ps $2, $1, $0", "=x,x,x,0"'
        return self.let(f"call {v} {code}({v} {a}, {v} {b}, {v} {total})")

    def fadd(self, a: Value, b: Value) -> Value:
        return self.let(f"fadd {self.vector} {a}, {b}")

    def fsub(self, a: Value, b: Value) -> Value:
        return self.let(f"fsub {self.vector} {a}, {b}")

    def fmul(self, a: Value, b: Value) -> Value:
        return self.let(f"fmul {self.vector} {a}, {b}")

    def fdiv(self, a: Value, b: Value) -> Value:
        return self.let(f"fdiv {self.vector} {a}, {b}")

    def fneg(self, a: Value) -> Value:
        return self.let(f"fneg {self.vector} {a}")

    def unary(self, name: str, a: Value) -> Value:
        """An LLVM intrinsic of one vector: fabs, sqrt."""
        v = self.vector
        self.declare(f"declare {v} @llvm.{name}.v{self.width}f32({v})")
        return self.let(f"call {v} @llvm.{name}.v{self.width}f32({v} {a})")

    def copysign(self, a: Value, sign: Value) -> Value:
        v = self.vector
        self.declare(f"declare {v} @llvm.copysign.v{self.width}f32({v}, {v})")
        return self.let(f"call {v} @llvm.copysign.v{self.width}f32({v} {a}, {v} {sign})")

    def fcmp(self, how: str, a: Value, b: Value) -> Value:
        return self.let(f"fcmp {how} {self.vector} {a}, {b}")

    def select(self, mask: Value, a: Value, b: Value) -> Value:
        return self.let(f"select {self.bits} {mask}, {self.vector} {a}, {self.vector} {b}")

    def bitwise(self, how: str, a: Value, b: Value) -> Value:
        return self.let(f"{how} {self.bits} {a}, {b}")

    def integer(self, how: str, a: Value, b: Value) -> Value:
        return self.let(f"{how} {self.integers} {a}, {b}")

    def as_integers(self, a: Value) -> Value:
        return self.let(f"bitcast {self.vector} {a} to {self.integers}")

    def as_floats(self, a: Value) -> Value:
        return self.let(f"bitcast {self.integers} {a} to {self.vector}")

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        mask = f"<{self.width} x i32> <" + ", ".join(f"i32 {k}" for k in lanes) + ">"
        return self.let(f"shufflevector {self.vector} {a}, {self.vector} {b}, {mask}")

    def extract(self, a: Value, lane: int) -> Value:
        return self.let(f"extractelement {self.vector} {a}, i32 {lane}")

    def insert(self, a: Value, scalar: Value, lane: int) -> Value:
        return self.let(f"insertelement {self.vector} {a}, float {scalar}, i32 {lane}")

    # ---- rearrangements ------------------------------------------------------------------------

    def transpose(self, rows: Sequence[Value]) -> list[Value]:
        """A width × width block transposed, as a butterfly of two-vector shuffles."""
        rows, step = list(rows), 1
        while step < self.width:
            for i in range(self.width):
                if not i & step:
                    rows[i], rows[i + step] = self._exchange(rows[i], rows[i + step], step)
            step *= 2
        return rows

    def _exchange(self, a: Value, b: Value, step: int) -> tuple[Value, Value]:
        w = self.width
        low = [k if not k & step else w + k - step for k in range(w)]
        high = [k + step if not k & step else w + k for k in range(w)]
        return self.shuffle(a, b, low), self.shuffle(a, b, high)

    def sum_lanes(self, vectors: Sequence[Value]) -> Value:
        """Lane k of the result is the sum over the lanes of vectors[k]; at most `width` of them.

        The order of the additions is fixed: lanes a power of two apart, largest distance last.
        """
        if len(vectors) > self.width:
            raise CompileError(
                f"builder: expected at most {self.width} vectors to sum; got {len(vectors)}."
            )
        rows = [*vectors] + [self.zero] * (self.width - len(vectors))
        step = 1
        while step < self.width:
            rows = [self._sum_pair(rows[i], rows[i + 1], step) for i in range(0, len(rows), 2)]
            step *= 2
        return rows[0]

    def _sum_pair(self, a: Value, b: Value, step: int) -> Value:
        if a == self.zero and b == self.zero:
            return self.zero
        low, high = self._exchange(a, b, step)
        return self.fadd(low, high)

    # ---- control ------------------------------------------------------------------------------

    def loop(
        self, start: Int, stop: Int, body: Body, carry: Sequence[Value] = (), step: int = 1
    ) -> list[Value]:
        """Run `body(index, carried vectors) -> carried vectors` for start ≤ index < stop.

        A loop with constant bounds and one trip is inlined; one with none vanishes. Where the
        bounds are only known at run time, no trip is also possible.
        """
        known = isinstance(start, int) and isinstance(stop, int)
        if known and stop <= start:  # type: ignore[operator]
            return list(carry)
        if known and start + step >= stop:  # type: ignore[operator]
            return list(body(start, list(carry)) or [])
        return self._emit_loop(start, stop, body, list(carry), step, guard=not known)

    def _emit_loop(
        self, start: Int, stop: Int, body: Body, carry: list[Value], step: int, guard: bool
    ) -> list[Value]:
        head, done, index = self.fresh("loop"), self.fresh("done"), self.fresh("%i")
        before = self._block
        if guard:
            enter = self.compare("slt", start, stop)
            self.emit(f"br i1 {enter}, label %{head}, label %{done}")
        else:
            self.emit(f"br label %{head}")
        self.label(head)
        place = len(self._lines)
        self._lines.append("")
        phis = [self.fresh("%c") for _ in carry]
        results = list(body(index, list(phis)) or [])
        after = self.let(f"add nsw i64 {index}, {step}")
        again = self.compare("slt", after, stop)
        latch = self._block
        self.emit(f"br i1 {again}, label %{head}, label %{done}")
        lines = [f"  {index} = phi i64 [ {start}, %{before} ], [ {after}, %{latch} ]"]
        for phi, first, last in zip(phis, carry, results, strict=True):
            lines.append(
                f"  {phi} = phi {self.vector} [ {first}, %{before} ], [ {last}, %{latch} ]"
            )
        self._lines[place] = "\n".join(lines)
        self.label(done)
        if not guard:
            return results
        return [
            self.let(f"phi {self.vector} [ {a}, %{before} ], [ {b}, %{latch} ]")
            for a, b in zip(carry, results, strict=True)
        ]

    def tiled(self, count: int, step: int, body: Callable[[Int, int], None]) -> None:
        """Run `body(first, step)` for whole tiles of `count`, then `body(first, rest)` once."""
        whole = count // step * step
        self.loop(0, whole, lambda i, _: body(i, step), step=step)
        if whole < count:
            body(whole, count - whole)

    def tiled_range(
        self, start: Int, stop: Int, step: int, body: Callable[[Int, int], None]
    ) -> None:
        """Run `body(first, step)` from `start` on, and `body(i, 1)` for what is left before `stop`.

        For bounds known only at run time.
        """
        whole = self.add(start, self.mul(self.divide(self.sub(stop, start), step), step))
        self.loop(start, whole, lambda i, _: body(i, step), step=step)
        if step > 1:
            self.loop(whole, stop, lambda i, _: body(i, 1))

    def when(self, condition: Value, body: Callable[[], None]) -> None:
        """Run `body` if the condition (an i1) holds."""
        yes, done = self.fresh("yes"), self.fresh("end")
        self.emit(f"br i1 {condition}, label %{yes}, label %{done}")
        self.label(yes)
        body()
        self.emit(f"br label %{done}")
        self.label(done)


def float_literal(value: float) -> str:
    """A float32 as LLVM writes it: the bits of the double that equals it."""
    single = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) < 3.5e38 else value
    return f"0x{struct.unpack('<Q', struct.pack('<d', single))[0]:016X}"
