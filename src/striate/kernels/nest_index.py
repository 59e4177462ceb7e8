"""Code for the indices of loop nests: their values, and where in a tensor they lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from striate.codegen.builder import Builder, Int, Value
from striate.formula.expression import Index
from striate.kernels.nest_bounds import Guard, extent

Env = Mapping[str, Int]


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: a vector a number (`lanes`), or a number that all lanes share."""

    pointer: Value
    shape: tuple[int, ...]
    lanes: bool
    outside: float = 0.0

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers from one place to the next along each axis."""
        return tuple(math.prod(self.shape[k + 1 :]) for k in range(len(self.shape)))


class IndexEmitter:
    """Emits indices; what was worked out before in the same scope is not worked out again."""

    def __init__(self, b: Builder, sizes: Mapping[str, int]) -> None:
        self.b, self.sizes = b, sizes
        self._scopes: list[dict[object, Any]] = []
        self._split: dict[Value, tuple[Int, int, int]] = {}  # turn·period + phase, by its name

    def _known(self, key: object) -> Any:
        return next((scope[key] for scope in reversed(self._scopes) if key in scope), None)

    def _most(self, a: Int, c: Int) -> Int:
        if isinstance(a, int) and isinstance(c, int):
            return max(a, c)
        self.b.declare("declare i64 @llvm.smax.i64(i64, i64)")
        return self.b.let(f"call i64 @llvm.smax.i64(i64 {a}, i64 {c})")

    def _may_leave(self, guard: Guard) -> bool:
        low, high = extent(guard.index, self.sizes)
        return low < 0 or high >= guard.size

    def offset(
        self, place: Sequence[Index], tensor: Tensor, env: Env, clamp: bool = False
    ) -> tuple[Int, int]:
        """Floats from a tensor's beginning to a place: what moves, and what is fixed."""
        b = self.b
        unit = b.width if tensor.lanes else 1
        steps: dict[str, int] = {}
        moving: Int = 0
        fixed = 0
        for index, size, step in zip(place, tensor.shape, tensor.steps, strict=True):
            beyond = clamp and self._may_leave(Guard(index, size))
            if index.affine and not beyond:
                fixed += index.const * step * unit
                for axis, times in index.terms:
                    steps[axis] = steps.get(axis, 0) + times * step * unit
                continue
            at = self.index(index, env)
            if beyond:
                at = b.minimum(self._most(at, 0), size - 1)
            moving = b.add(moving, b.mul(at, step * unit))
        for axis, at in env.items():  # outermost first: those sums leave the inner loops
            part = b.mul(at, steps.get(axis, 0))
            if isinstance(part, int):
                fixed += part
            else:
                moving = b.add(moving, part)
        if isinstance(moving, int):
            return 0, fixed + moving
        return moving, fixed

    def index(self, index: Index, env: Env) -> Int:
        """The value of an index; −1 or another number outside where it has none."""
        key = (index, *(env[a] for a, _ in index.terms))
        known = self._known(key)
        if known is None:
            known = self._fresh_index(index, env)
            self._scopes[-1][key] = known
        return known  # type: ignore[no-any-return]

    def _fresh_index(self, index: Index, env: Env) -> Int:
        resolved = self._resolved(index, env)
        if resolved is not None:
            return resolved
        b, fixed = self.b, index.const
        value: Int = 0
        for axis, step in index.terms:
            part = b.mul(env[axis], step)
            if isinstance(part, int):
                fixed += part
            else:
                value = b.add(value, part)
        value = b.add(value, fixed)
        if isinstance(value, int):
            return int(Index((), value, index.mod, index.div, index.table).at({}))
        plain = Index(index.terms, index.const)
        if index.mod:
            value = self._remainder(value, index.mod, extent(plain, self.sizes)[0] < 0)
            plain = plain % index.mod
        if index.div != 1:
            value = self._quotient(value, index.div)
            plain = plain // index.div
        return self._looked_up(value, index.table, plain) if index.table else value

    def _resolved(self, index: Index, env: Env) -> Int | None:
        """A quotient whose rest is known here: −1, or the sum of what each axis gives."""
        if index.div == 1 or index.mod or index.table:
            return None
        b, fixed = self.b, index.const
        value: Int = 0
        for axis, step in index.terms:
            at = env[axis]
            turn, period, phase = (
                self._split.get(at, (0, 0, 0)) if isinstance(at, str) else (0, 0, at)
            )
            if isinstance(at, str) and (not period or step * period % index.div):
                return None
            fixed += step * phase
            value = b.add(value, b.mul(turn, step * period // index.div))
        return b.add(value, fixed // index.div) if fixed % index.div == 0 else -1

    def _remainder(self, value: Int, mod: int, signed: bool) -> Int:
        b = self.b
        if not signed:
            return b.let(f"urem i64 {value}, {mod}")
        rest = b.let(f"srem i64 {value}, {mod}")
        return b.let(f"select i1 {b.compare('slt', rest, 0)}, i64 {b.add(rest, mod)}, i64 {rest}")

    def _quotient(self, value: Int, div: int) -> Int:
        b = self.b
        whole = b.let(f"sdiv i64 {value}, {div}")
        rest = b.let(f"srem i64 {value}, {div}")
        return b.let(f"select i1 {b.compare('eq', rest, 0)}, i64 {whole}, i64 -1")

    def _looked_up(self, value: Int, table: tuple[int, ...], plain: Index) -> Int:
        b = self.b
        low, high = extent(plain, self.sizes)
        base = b.table(table)
        if 0 <= low and high < len(table):
            return b.load_i64(base, value)
        inside = b.compare("ult", value, len(table))
        safe = b.minimum(self._most(value, 0), len(table) - 1)
        return b.let(f"select i1 {inside}, i64 {b.load_i64(base, safe)}, i64 -1")
