"""Code for loop nests (`formula.nests`) with the batch in lanes: a vector is a number of a sample.

Loops run over the outer axes in the order of the result; one of them is tiled, so that several
sums run side by side in registers and share what they read. Inside a sum, the axes that may leave
a tensor's bounds come first and run only over what is inside, where a term outside adds nothing;
elsewhere such a read is replaced by what stands outside. Axes that follow from others (in
gradients) are worked out as soon as these are known.

What the nests compute is not this file's business; nor is where the arguments come from
(`kernels.formula`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.vmath import emit, maximum
from striate.errors import CompileError
from striate.formula.expression import Call, Const, Expr, Index, Read, Reduce, Var
from striate.formula.formula import reads
from striate.formula.nests import (
    OUT,
    Nest,
    Place,
    Plan,
    abstract,
    axes_of,
    flat,
    leaves,
    rebuilt,
)
from striate.kernels.nest_bounds import Guard, Interior, interiors
from striate.kernels.nest_index import Env, IndexEmitter, Tensor

_UNROLL = 16  # terms of a sum that are written out
_CHAINS = 4  # sums that run side by side at least, since an addition takes that long
_SPARE = 8  # registers that sums side by side leave for the rest


class NestEmitter(IndexEmitter):
    """Emits the nests of a plan into a kernel being built."""

    def __init__(self, b: Builder, plan: Plan, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(b, plan.sizes)
        self.plan, self.tensors = plan, tensors
        self.nest: Nest
        self._sure: list[Guard] = []  # what the code around has made sure of
        self._near: list[Guard] = []  # the same, where a division leaves no rest

    def run(self, store: Callable[[Tensor, Sequence[Env], Sequence[Value]], None]) -> None:
        """Emit all nests; `store` puts results that go to OUT where they belong."""
        for nest in self.plan.nests:
            self.nest = nest
            self._scopes = [{}]
            self._outer(nest, store)

    # ---- the outer axes -----------------------------------------------------------------------

    def _outer(self, nest: Nest, store: Callable[..., None]) -> None:
        self._store = store if nest.out == OUT else self._keep
        self._tile = self._tiled_axis(nest)
        self._ranges = interiors(nest, self.plan, self._all_guards(nest), self._tile)
        self._level(nest, list(nest.loops), {})

    def _level(self, nest: Nest, left: list[str], env: dict[str, Int]) -> None:
        if not left:
            self._place(nest, [env])
            return
        axis, *rest = left
        size = self.plan.sizes[axis]
        if axis in self._ranges:
            self._peeled(nest, self._ranges[axis], rest, env)
            return
        if axis != self._tile:
            self.b.loop(
                0, size, lambda k, _: self._scoped(self._level, nest, rest, {**env, axis: k})
            )
            return
        if rest:  # the tiled axis comes last
            self._level(nest, [*rest, axis], env)
            return

        def some(first: Int, count: int) -> None:
            envs = [{**env, axis: self.b.add(first, k)} for k in range(count)]
            self._scoped(self._place, nest, envs)

        self.b.tiled(size, self._side_by_side(nest), some)

    def _peeled(self, nest: Nest, inner: Interior, rest: list[str], env: dict[str, Int]) -> None:
        """An axis whose border is written out, so that nothing is asked in between."""
        period, b = inner.period, self.b
        for k in (*range(inner.low), *range(inner.high, self.plan.sizes[inner.axis])):
            self._scoped(self._level, nest, rest, {**env, inner.axis: k})

        def some(turn: Int, _: list[Value]) -> None:
            for phase in range(period):
                at = b.add(b.mul(turn, period), inner.low + phase)
                if period > 1 and isinstance(at, str):
                    self._split[at] = (turn, period, inner.low + phase)
                self._near += inner.guards
                self._scoped(self._level, nest, rest, {**env, inner.axis: at})
                del self._near[len(self._near) - len(inner.guards) :]

        b.loop(0, (inner.high - inner.low) // period, some)

    def _scoped(self, function: Callable[..., None], *arguments: object) -> None:
        self._scopes.append({})
        function(*arguments)
        self._scopes.pop()

    def _place(self, nest: Nest, envs: Sequence[dict[str, Int]]) -> None:
        """The numbers at some places."""
        target = self.tensors[nest.out]
        guards = [g for g in self._guards(nest.place, target.shape) if not self._surely(g)]
        if not guards:
            self._store(target, envs, self.values(nest.body, envs))
            return
        for env in envs:
            inside = self._inside(guards, env)
            self.b.when(
                inside,
                lambda env=env: self._scoped(self._alone, nest, target, env),  # type: ignore[misc]
            )

    def _alone(self, nest: Nest, target: Tensor, env: dict[str, Int]) -> None:
        self._store(target, [env], self.values(nest.body, [env]))

    def _keep(self, target: Tensor, envs: Sequence[Env], values: Sequence[Value]) -> None:
        for env, value in zip(envs, values, strict=True):
            self.put(target, env, value)

    def put(self, target: Tensor, env: Env, value: Value) -> None:
        """Store (or add) a vector at the nest's place."""
        b = self.b
        moving, fixed = self.offset(self.nest.place, target, env)
        pointer = b.at(target.pointer, moving)
        if self.nest.adds:
            value = b.fadd(b.load(pointer, fixed), value)
        b.store(value, pointer, fixed)

    def _tiled_axis(self, nest: Nest) -> str | None:
        """The outer axis along which sums run side by side: the one that shares most reads."""
        uses = reads(nest.body)
        guarded = {a for g in self._all_guards(nest) for a, _ in g.index.terms}
        guarded |= {a for axis, index in nest.bound for a, _ in (*index.terms, (axis, 1))}
        free = [a for a in nest.loops if a not in guarded and self.plan.sizes[a] > 1]
        if not free or not nest.loops:
            return None

        last = nest.place[-1].axis if not self.tensors[nest.out].lanes else None

        def worth(axis: str) -> tuple[bool, int, int]:
            shared = sum(axis not in axes_of(r) for r in uses)
            whole = axis == last and self.plan.sizes[axis] >= self.b.width
            return whole, shared, min(self.plan.sizes[axis], 16)

        return max(free, key=worth)

    def _side_by_side(self, nest: Nest) -> int:
        if not self.tensors[nest.out].lanes:
            return self.b.width  # one vector of sums over the lanes
        if not any(isinstance(leaf, Reduce) for leaf in leaves(nest.body)):
            return 4
        sums = sum(isinstance(leaf, Reduce) for leaf in leaves(nest.body))
        return max((self.b.target.registers - _SPARE) // sums, 1)

    # ---- values -------------------------------------------------------------------------------

    def values(self, e: Expr, envs: Sequence[dict[str, Int]]) -> list[Value]:
        """The vector of `e` in each environment."""
        names: dict[Expr, Var] = {}
        scalar = abstract(e, names)
        found = {var.name: self._leaf(leaf, envs) for leaf, var in names.items()}
        return [
            emit(self.b, scalar, {name: column[k] for name, column in found.items()})
            for k in range(len(envs))
        ]

    def _leaf(self, leaf: Expr, envs: Sequence[dict[str, Int]]) -> list[Value]:
        axes = sorted(axes_of(leaf))
        if isinstance(leaf, Reduce):
            where = tuple(tuple(env[a] for a in axes if a in env) for env in envs)
            values: list[Value] | None = self._known((leaf, where))
            if values is None:
                values = self._scopes[-1][leaf, where] = self._reduce(leaf, envs)
            return values
        return [self._single(leaf, axes, env) for env in envs]

    def _single(self, leaf: Expr, axes: Sequence[str], env: Env) -> Value:
        key = (leaf, *(env[a] for a in axes))
        known: Value | None = self._known(key)
        if known is None:
            known = self._read(leaf, env) if isinstance(leaf, Read) else self._number(leaf, env)
            self._scopes[-1][key] = known
        return known

    def _number(self, leaf: Expr, env: Env) -> Value:
        if not isinstance(leaf, Place):
            raise CompileError(f"formula: no code for {leaf}.")
        b, at = self.b, self.index(leaf.index, env)
        if isinstance(at, int):
            return b.const(float(at)) if at else b.zero
        return b.splat(b.let(f"sitofp i64 {at} to float"))

    def _read(self, read: Read, env: Env) -> Value:
        b, tensor = self.b, self.tensors[read.tensor]
        guards = [g for g in self._guards(read.index, tensor.shape) if not self._surely(g)]
        inside = self._inside(guards, env)
        other = b.const(tensor.outside) if tensor.outside else b.zero
        if inside == "false":
            return other
        moving, fixed = self.offset(read.index, tensor, env, clamp=inside != "true")
        pointer = b.at(tensor.pointer, moving)
        value = b.load(pointer, fixed) if tensor.lanes else b.broadcast(pointer, fixed)
        if inside == "true":
            return value
        return b.let(f"select i1 {inside}, {b.vector} {value}, {b.vector} {other}")

    # ---- sums and maxima ----------------------------------------------------------------------

    def _reduce(self, e: Reduce, envs: Sequence[dict[str, Int]]) -> list[Value]:
        guards = self._skips(e)
        order = self._order(e.over, guards)
        self._ahead(e, envs)
        b = self.b
        if e.how == "first":
            start = [b.const(-math.inf), b.zero] * len(envs)
        else:
            start = [b.zero if e.how == "sum" else b.const(-math.inf)] * len(envs)
        run = _Run(e, guards, order)
        result = self._terms(run, 0, list(envs), start)
        return result[1::2] if e.how == "first" else result

    def _ahead(self, e: Reduce, envs: Sequence[dict[str, Int]]) -> None:
        """Read what does not depend on the loop before it begins."""
        moving = set(e.over) | {axis for axis, _ in self.nest.bound}
        for leaf in leaves(e.body):
            if not axes_of(leaf) & moving and all(axes_of(leaf) <= env.keys() for env in envs):
                self._leaf(leaf, envs)

    def _order(self, over: Sequence[str], guards: Sequence[Guard]) -> list[str]:
        """Axes with bounds first; then the long ones, so that short ones can be written out."""
        checked = {a for g in guards for a, _ in g.index.terms}
        checked |= {a for _, index in self.nest.bound for a, _ in index.terms}
        first = [a for a in over if a in checked]
        rest = [a for a in over if a not in checked]
        return first + sorted(rest, key=lambda a: -self.plan.sizes[a])

    def _terms(
        self, run: _Run, depth: int, envs: list[dict[str, Int]], totals: list[Value]
    ) -> list[Value]:
        """Add the terms of the loops from `depth` on."""
        ready = self._bind(run, envs)
        if ready is not None:
            envs, inside = ready
            if inside in (None, "true"):
                return self._terms(run, depth, envs, totals)
            if inside == "false":
                return totals
            return self._if(inside, totals, lambda c: self._terms(run, depth, envs, c))
        if depth == len(run.order):
            return self._term(run, envs, totals)
        axis = run.order[depth]
        size = self.plan.sizes[axis]
        due = self._due(run, axis, envs[0])
        low, high, others = self._span(due, axis, size, envs[0])
        left = math.prod(self.plan.sizes[a] for a in run.order[depth:])

        def one(k: Int, carry: list[Value]) -> list[Value]:
            inner = [{**env, axis: k} for env in envs]
            self._scopes.append({})
            self._sure += due
            inside = self._inside(others, inner[0])
            if inside == "false":
                pass
            elif inside != "true":
                carry = self._if(inside, carry, lambda c: self._terms(run, depth + 1, inner, c))
            else:
                carry = self._terms(run, depth + 1, inner, carry)
            del self._sure[len(self._sure) - len(due) :]
            self._scopes.pop()
            return carry

        if isinstance(low, int) and isinstance(high, int) and left <= _UNROLL:
            for k in range(low, high):
                totals = one(k, totals)
            return totals
        ways = _CHAINS // len(envs)
        if run.reduce.how == "first" or ways < 2 or (low, high) != (0, size) or size < 2 * ways:
            return self.b.loop(low, high, one, totals)
        return self._side_sums(run, size, ways, one, totals)

    def _side_sums(
        self,
        run: _Run,
        size: int,
        ways: int,
        one: Callable[[Int, list[Value]], list[Value]],
        totals: list[Value],
    ) -> list[Value]:
        """Several partial sums (or maxima) of every `ways`-th term: they need not wait in turn."""
        b, count, most = self.b, len(totals), run.reduce.how == "max"
        neutral = b.const(-math.inf) if most else b.zero

        def some(k: Int, carry: list[Value]) -> list[Value]:
            parts = [carry[w * count : (w + 1) * count] for w in range(ways)]
            return [v for w, part in enumerate(parts) for v in one(b.add(k, w), part)]

        start = [*totals, *[neutral] * (count * (ways - 1))]
        whole = size // ways * ways
        carry = b.loop(0, whole, some, start, ways)
        parts = [carry[w * count : (w + 1) * count] for w in range(ways)]
        for k in range(whole, size):
            parts[k - whole] = one(k, parts[k - whole])
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            join = maximum if most else Builder.fadd
            parts = [[join(b, p, q) for p, q in zip(*pair, strict=True)] for pair in pairs]
        return parts[0]

    def _bind(
        self, run: _Run, envs: list[dict[str, Int]]
    ) -> tuple[list[dict[str, Int]], Value | None] | None:
        """Work out an axis that follows from those known by now, if there is one."""
        for axis, index in self.nest.bound:
            if axis not in envs[0] and all(a in envs[0] for a, _ in index.terms):
                value = self.index(index, envs[0])
                guard = Guard(Index(((axis, 1),)), self.plan.sizes[axis])
                new = [{**env, axis: value} for env in envs]
                if index.div == 1 and guard in run.done:
                    return new, None
                if isinstance(value, str) and self._holds(Guard(index, guard.size), envs[0]):
                    return new, None
                return new, self._inside([guard], new[0])
        return None

    def _span(
        self, due: Sequence[Guard], axis: str, size: int, env: Env
    ) -> tuple[Int, Int, list[Guard]]:
        """From where to where a loop has to run, and the guards that are still to be asked."""
        low: Int = 0
        high: Int = size
        others: list[Guard] = []
        for guard in due:
            steps = dict(guard.index.terms)
            if not guard.index.affine:
                others.append(guard)
                continue
            rest = self.index(
                Index(tuple(t for t in guard.index.terms if t[0] != axis), guard.index.const), env
            )
            first, last = self._clip(rest, steps[axis], guard.size)
            low, high = self._most(low, first), self.b.minimum(high, last)
        return low, high, others

    def _due(self, run: _Run, axis: str, env: Env) -> list[Guard]:
        """The guards that are decided once this axis is known."""
        found = []
        for guard in (*run.guards, *self._bound_guards(run)):
            names = {a for a, _ in guard.index.terms}
            if guard.index.div == 1 and guard in self._near:
                continue
            if axis in names and all(a == axis or a in env for a in names):
                found.append(guard)
        return found

    def _bound_guards(self, run: _Run) -> list[Guard]:
        """Bounds of axes that follow from others without a division."""
        found = []
        for axis, index in self.nest.bound:
            if index.affine:
                found.append(Guard(index, self.plan.sizes[axis]))
                run.done.add(Guard(Index(((axis, 1),)), self.plan.sizes[axis]))
        return found

    def _clip(self, rest: Int, step: int, size: int) -> tuple[Int, Int]:
        """First and past-the-last a with 0 ≤ rest + step·a < size (cut to a ≥ 0)."""
        b, m = self.b, abs(step)

        def share(number: Int) -> Int:
            return b.divide(self._most(number, 0), m)

        if step > 0:
            first = share(b.add(b.sub(0, rest), m - 1))
            return first, share(b.add(b.sub(size, rest), m - 1))
        return share(b.add(b.sub(rest, size), m)), share(b.add(rest, m))

    def _term(self, run: _Run, envs: list[dict[str, Int]], totals: list[Value]) -> list[Value]:
        b, body = self.b, run.reduce.body
        if run.reduce.how == "first":
            return self._first(run, envs, totals)
        if run.reduce.how == "max":
            found = self.values(body, envs)
            return [maximum(b, value, t) for t, value in zip(totals, found, strict=True)]
        if isinstance(body, Call) and body.function == "mul":
            left, right = (self.values(part, envs) for part in body.arguments)
            return [b.accumulate(t, p, q) for t, p, q in zip(totals, left, right, strict=True)]
        found = self.values(body, envs)
        return [b.fadd(t, value) for t, value in zip(totals, found, strict=True)]

    def _first(self, run: _Run, envs: list[dict[str, Int]], totals: list[Value]) -> list[Value]:
        """Where the largest is: the first of equals, or the first that is no number."""
        b, result = self.b, []
        for k, value in enumerate(self.values(run.reduce.body, envs)):
            best, place = totals[2 * k : 2 * k + 2]
            here = self._number(Place(flat(run.reduce.over, self.plan.sizes)), envs[k])
            lost = b.bitwise("and", b.fcmp("uno", value, value), b.fcmp("ord", best, best))
            take = b.bitwise("or", b.fcmp("ogt", value, best), lost)
            result += [b.select(take, value, best), b.select(take, here, place)]
        return result

    def _if(
        self, condition: Value, carry: list[Value], body: Callable[[list[Value]], list[Value]]
    ) -> list[Value]:
        """`body(carry)` where the condition holds, else `carry`."""
        b = self.b
        yes, done = b.fresh("yes"), b.fresh("end")
        before = b._block
        b.emit(f"br i1 {condition}, label %{yes}, label %{done}")
        b.label(yes)
        self._scopes.append({})
        results = body(list(carry))
        self._scopes.pop()
        after = b._block
        b.emit(f"br label %{done}")
        b.label(done)
        return [
            b.let(f"phi {b.vector} [ {old}, %{before} ], [ {new}, %{after} ]")
            for old, new in zip(carry, results, strict=True)
        ]

    # ---- bounds -------------------------------------------------------------------------------

    def _guards(self, place: Sequence[Index], shape: Sequence[int]) -> list[Guard]:
        return [Guard(index, size) for index, size in zip(place, shape, strict=True)]

    def _surely(self, guard: Guard) -> bool:
        """Whether an index is inside here, whatever the loops around do."""
        near = guard.index.div == 1 and guard in self._near
        return near or guard in self._sure or not self._may_leave(guard)

    def _all_guards(self, nest: Nest) -> list[Guard]:
        found = self._guards(nest.place, self.tensors[nest.out].shape)
        for read in reads(nest.body):
            found += self._guards(read.index, self.tensors[read.tensor].shape)
        return [g for g in found if self._may_leave(g)]

    def _skips(self, e: Reduce) -> list[Guard]:
        """Guards outside of which the reduction's terms change nothing."""
        neutral = Const(0.0) if e.how == "sum" else Const(-math.inf)
        found: dict[Guard, None] = {}
        for read in {leaf for leaf in leaves(e.body) if isinstance(leaf, Read)}:
            tensor = self.tensors[read.tensor]
            guards = [g for g in self._guards(read.index, tensor.shape) if self._may_leave(g)]
            inner = {a for g in guards for a, _ in g.index.terms}
            if guards and inner & self._inner(e):
                if rebuilt(e.body, {read: Const(tensor.outside)}) == neutral:
                    found |= dict.fromkeys(g for g in guards if self._decided(g, e))
        return list(found)

    def _inner(self, e: Reduce) -> set[str]:
        return set(e.over) | {axis for axis, _ in self.nest.bound}

    def _decided(self, guard: Guard, e: Reduce) -> bool:
        """Whether it is a loop of this reduction that decides the guard."""
        return bool({a for a, _ in guard.index.terms} & set(e.over))

    def _inside(self, guards: Sequence[Guard], env: Env) -> Value:
        """Whether all the indices are inside, as an i1."""
        b, whole = self.b, None
        for guard in guards:
            at = self.index(guard.index, env)
            if isinstance(at, str) and self._holds(guard, env):
                continue
            if isinstance(at, int):
                if not 0 <= at < guard.size:
                    return "false"
                continue
            inside = b.compare("ult", at, guard.size)
            whole = inside if whole is None else b.let(f"and i1 {whole}, {inside}")
        return "true" if whole is None else whole

    def _holds(self, guard: Guard, env: Env) -> bool:
        """Whether a guard whose index leaves no rest holds in the interior of an outer axis."""
        known = guard.index.div == 1 or self._resolved(guard.index, env) is not None
        return known and guard in self._near


class _Run:
    """One reduction being emitted."""

    def __init__(self, reduce: Reduce, guards: list[Guard], order: list[str]) -> None:
        self.reduce, self.guards, self.order = reduce, guards, order
        self.done: set[Guard] = set()
