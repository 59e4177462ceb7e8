"""What a kernel is to the program: a symbol, its module, and the fused tail that it may carry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.compiler import Module
from striate.codegen.targets import Target
from striate.codegen.vmath import emit
from striate.formula.expression import Expr

_PLACEHOLDER = "KERNEL"


@dataclass(frozen=True)
class Kernel:
    """A native function: outputs first, then inputs, then sizes; all pointers or i64."""

    module: Module
    arguments: tuple[str, ...]

    @property
    def symbol(self) -> str:
        return self.module.symbol

    @property
    def declaration(self) -> str:
        kinds = ", ".join(a.partition(":")[2] or "ptr" for a in self.arguments)
        return f"declare void @{self.symbol}({kinds})"


def make_kernel(
    target: Target,
    name: str,
    arguments: Sequence[str],
    build: Callable[[Builder, list[Value]], None],
) -> Kernel:
    """Build a kernel; its symbol is its name and a digest of its text, so equal kernels are one.

    Arguments are "name" (a pointer) or "name:i64". The names are for readers; in the code they
    are numbers, since some come from users' expressions and model files.
    """
    b = Builder(target)
    kinds = [a.partition(":")[2] or "ptr" for a in arguments]
    with b.function(_PLACEHOLDER, [f"a{k}:{kind}" for k, kind in enumerate(kinds)]) as values:
        build(b, values)
    text = b.text()
    digest = hashlib.sha256(f"{target}{text}".encode()).hexdigest()[:16]
    symbol = f"{name}_{digest}"
    return Kernel(
        Module(symbol, text.replace(f"@{_PLACEHOLDER}(", f"@{symbol}(")), tuple(arguments)
    )


@dataclass(frozen=True)
class Tail:
    """An elementwise expression fused into the end of a kernel.

    `expr` reads the kernel's own value as "v" and tensors of the same shape as "e0", "e1" …;
    with `keep`, v itself is stored too (some other node reads it).
    """

    expr: Expr
    extras: int = 0
    keep: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """The kernel's further arguments, in order: the kept value, then the extras."""
        kept = ("kept",) if self.keep else ()
        return kept + tuple(f"e{k}" for k in range(self.extras))


def store_with_tail(
    b: Builder, tail: Tail | None, value: Value, out: Value, offset: Int, rest: Sequence[Value]
) -> None:
    """Store a kernel's vector at `offset` floats, through its tail; `rest` = Tail.arguments."""
    if tail is None:
        b.store(value, out, offset)
        return
    pointers = list(rest)
    if tail.keep:
        b.store(value, pointers.pop(0), offset)
    values = {"v": value}
    values |= {f"e{k}": b.load(pointers[k], offset) for k in range(tail.extras)}
    b.store(emit(b, tail.expr, values), out, offset)
