"""The native entry point of a program: every thread calls it and claims work inside.

Inference claims groups of samples. Training runs whole epochs: in each step the threads claim
pieces (fixed sets of groups: load, forward, loss, backward), meet, claim items (large weight
gradients by blocks of channels; sums over pieces; updates), and meet again. Pieces and items do
not depend on the number of threads, so neither do the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from striate.codegen import spmd
from striate.codegen.builder import Builder, Int, Value
from striate.codegen.compiler import Module
from striate.codegen.targets import Target
from striate.kernels.kernel import Kernel
from striate.kernels.layout import gather_samples, scatter_samples
from striate.program.lower import Call, Slot
from striate.program.memory import aligned

PIECES = 16
"""A batch's groups are dealt out to at most this many pieces."""

LANE_TABLES = {"index": (0, 8), "labels": (1, 4), "scale": (2, 4), "samples": (3, 4)}
_TABLE_BYTES = 256
LANE_FLOATS = len(LANE_TABLES) * _TABLE_BYTES // 4
_KEY_FLOATS = 16  # the random key, on a cache line of its own


def workspace_floats(values: int) -> int:
    """Floats of a thread's workspace: `values` for values, then the key and the lane tables."""
    return aligned(values) + _KEY_FLOATS + LANE_FLOATS


Work = tuple[Kernel, tuple[Slot, ...]]
"""A kernel and what its arguments are."""


@dataclass(frozen=True)
class Items:
    """`count` items of work of a training step's second half, alike but for their number k.

    Their slots, besides those of calls: "arena" (a context pointer, `number` + k·`step` floats),
    "index" (`number` + k), "rest" (what is left of `number` after k·`step`, at most `step`),
    "size" (of this step: "groups" or "pieces"), "hyper", and "whole" (a value of all groups).
    """

    count: int
    calls: tuple[Work, ...]


@dataclass
class Layout:
    """Everything the driver needs to turn slots into addresses.

    Attributes:
        context: names of the 8-byte fields of the context block, in order.
        local: float offsets of values in a thread's workspace.
        whole: for values kept for all groups: (floats a group, floats of those before it a group).
        workspace: floats of a thread's workspace, lane tables included.
        pieces: for parameters with gradients by piece: float offset in a piece's buffer.
        piece_floats: floats of a piece's buffer.
    """

    context: list[str]
    local: dict[str, int] = field(default_factory=dict)
    whole: dict[str, tuple[int, int]] = field(default_factory=dict)
    workspace: int = 0
    pieces: dict[str, int] = field(default_factory=dict)
    piece_floats: int = 0


class _Driver:
    """Emits one entry function; what is known of the running step is kept in the attributes."""

    start: Int = 0  # of the step's samples in the order
    block: Value  # the context
    thread: Value
    workspace: Value  # this thread's
    hyper: Value  # the step's hyper numbers
    key: Value  # the step's random key and counter
    share: Value  # what a sample's loss is multiplied by in this step
    sizes: dict[str, Int]  # the step's numbers of groups and pieces

    def __init__(self, target: Target, layout: Layout) -> None:
        self.b = Builder(target)
        self.layout = layout
        self.kernels: dict[str, Kernel] = {}

    # ---- addresses ----------------------------------------------------------------------------

    def read(self, name: str, pointer: bool = True) -> Value:
        """A field of the context, loaded where it is used (the block stays in L1)."""
        at = self.layout.context.index(name)
        return self.b.load_pointer(self.block, at) if pointer else self.b.load_i64(self.block, at)

    def size(self, name: str) -> Value:
        return self.read(name, pointer=False)

    def call(self, kernel: Kernel, arguments: Sequence[str]) -> None:
        self.kernels.setdefault(kernel.symbol, kernel)
        self.b.declare(kernel.declaration)
        self.b.call(kernel.symbol, *arguments)

    def address(self, slot: Slot, group: Int = 0, piece: Int = 0, item: Int = 0) -> str:
        """The text of a call's argument."""
        if slot.kind in ("number", "size", "index", "rest"):
            return f"i64 {self._integer(slot, item)}"
        return f"ptr {self._pointer(slot, group, piece, item)}"

    def _integer(self, slot: Slot, item: Int) -> Int:
        b = self.b
        if slot.kind == "size":
            return self.sizes[slot.name]
        if slot.kind == "index":
            return b.add(item, slot.number)
        if slot.kind == "rest":
            return b.minimum(b.sub(slot.number, b.mul(item, slot.step)), slot.step)
        return slot.number

    def _pointer(self, slot: Slot, group: Int, piece: Int, item: Int) -> Value:
        b, layout = self.b, self.layout
        if slot.kind == "parameter":
            return self.read("parameter:" + slot.name)
        if slot.kind == "arena":
            return b.at(self.read(slot.name), b.add(b.mul(item, slot.step), slot.number))
        if slot.kind == "sample":
            return b.at(self.read(slot.name), b.mul(group, slot.step))
        if slot.kind == "hyper":
            return b.at(self.hyper, slot.number)
        if slot.kind == "gradient":
            start = b.add(b.mul(piece, layout.piece_floats), layout.pieces[slot.name])
            return b.at(self.read("pieces"), start)
        if slot.kind == "result":
            return b.at(self.read(slot.name), b.add(self.start, b.mul(group, b.width)))
        if slot.kind == "lane":
            return self.key if slot.name == "key" else self.lane_table(slot.name)
        if slot.kind == "whole" or slot.name in layout.whole:
            return self.whole(slot.name, 0 if slot.kind == "whole" else group)
        return b.at(self.workspace, layout.local[slot.name])

    def whole(self, name: str, group: Int) -> Value:
        """A value that is kept for all groups: its place for one group."""
        b = self.b
        floats, before = self.layout.whole[name]
        base = b.at(self.read("whole"), b.mul(self.size("capacity"), before))
        return b.at(base, b.mul(group, floats))

    def lane_table(self, name: str) -> Value:
        at = self.layout.workspace - LANE_FLOATS + LANE_TABLES[name][0] * _TABLE_BYTES // 4
        return self.b.at(self.workspace, at)

    def run_calls(self, calls: Sequence[Call], group: Int, piece: Int) -> None:
        for call in calls:
            self.call(call.kernel, [self.address(s, group, piece) for s in call.slots])

    # ---- the group's lanes --------------------------------------------------------------------

    def prepare_lanes(self, group: Int, count: Value, ordered: bool, labels: bool) -> None:
        """Fill the lane tables: which samples, their labels, their weight in the mean."""
        b = self.b
        index, label = self.lane_table("index"), self.lane_table("labels")
        scale, samples = self.lane_table("scale"), self.lane_table("samples")
        first = b.mul(group, b.width)
        for lane in range(b.width):
            position = b.add(first, lane)
            safe = b.minimum(position, b.sub(count, 1))
            place: Int = safe
            if ordered:
                place = b.load_i64(self.read("order"), b.add(self.start, safe))
                alive = b.compare("slt", position, count)
                weight = b.let(f"select i1 {alive}, float {self.share}, float 0.0")
                b.store_float(weight, scale, lane)
                word = b.let(f"trunc i64 {position} to i32")
                b.emit(f"store i32 {word}, ptr {b.at(samples, lane)}, align 4")
            b.emit(f"store i64 {place}, ptr {b.at(index, lane, 8)}, align 8")
            if labels:
                found = b.load_i64(self.read("targets"), place)
                word = b.let(f"trunc i64 {found} to i32")
                b.emit(f"store i32 {word}, ptr {b.at(label, lane)}, align 4")

    def gather(self, array: str, value: str, elements: int, group: Int) -> None:
        """Load a group's samples of an array into a value's lanes."""
        kernel = gather_samples(self.b.target, elements)
        out = self.address(Slot("value", value), group, 0)
        source, index = self.read(array), self.lane_table("index")
        self.call(kernel, [out, f"ptr {source}", f"ptr {index}"])

    # ---- what every entry shares --------------------------------------------------------------

    def enter(self, thread: Value, block: Value) -> Value:
        b = self.b
        self.block, self.thread = block, thread
        step = b.mul(thread, self.layout.workspace)
        self.workspace = b.at(self.read("workspaces"), step)
        return spmd.flush_denormals(b)

    def finish(self) -> list[Module]:
        modules = [k.module for k in self.kernels.values()]
        return [Module("entry", self.b.text()), *modules]


def inference_driver(
    target: Target,
    layout: Layout,
    calls: Sequence[Call],
    inputs: Sequence[tuple[int, str, int]],
    outputs: Sequence[tuple[str, int]],
) -> list[Module]:
    """Modules of an inference program; `inputs`/`outputs` are values with their elements.

    An input says also which of the graph's it is; those that nothing reads are left out.

    Context: "samples", "input:k" and "output:k", parameters, and the common fields.
    """
    d = _Driver(target, layout)
    b = d.b
    with b.function("entry", ["thread:i64", "block"]) as (thread, block):
        old = d.enter(thread, block)
        count = d.size("samples")
        groups = b.divide(b.add(count, b.width - 1), b.width)

        def one(group: Int) -> None:
            d.prepare_lanes(group, count, ordered=False, labels=False)
            for k, name, elements in inputs:
                d.gather(f"input:{k}", name, elements, group)
            d.run_calls(calls, group, 0)
            for k, (name, elements) in enumerate(outputs):
                place = b.mul(group, b.width * elements)
                array = b.at(d.read(f"output:{k}"), place)
                source = d.address(Slot("value", name), group, 0)
                d.call(scatter_samples(target, elements), [f"ptr {array}", source])

        spmd.claim(b, d.read("shared"), groups, one)
        spmd.restore_denormals(b, old)
    return d.finish()


def channel_driver(
    target: Target, layout: Layout, packs: Sequence[Call], calls: Sequence[Call]
) -> list[Module]:
    """Modules of a program for single samples; "sample" slots are rows of the caller's arrays.

    Each thread rearranges the weights for itself, then claims samples.
    """
    d = _Driver(target, layout)
    b = d.b
    with b.function("entry", ["thread:i64", "block"]) as (thread, block):
        old = d.enter(thread, block)
        d.run_calls(packs, 0, 0)
        one = d.run_calls
        spmd.claim(b, d.read("shared"), d.size("samples"), lambda n: one(calls, n, 0))
        spmd.restore_denormals(b, old)
    return d.finish()


@dataclass(frozen=True)
class TrainingPlan:
    """What a training step does: calls a group, then items, phase by phase."""

    calls: Sequence[Call]
    phases: Sequence[Sequence[Items]]
    images: tuple[str, int]
    targets: tuple[str, int] | None  # a value for float targets; None: labels
    clear: Kernel


def training_driver(target: Target, layout: Layout, plan: TrainingPlan) -> list[Module]:
    """Modules of a training program: an entry that runs `steps` steps over arrays in memory."""
    d = _Driver(target, layout)
    b = d.b
    barrier = spmd.emit_barrier(b)
    with b.function("entry", ["thread:i64", "block"]) as (thread, block):
        old = d.enter(thread, block)
        d.key = b.at(d.workspace, layout.workspace - LANE_FLOATS - _KEY_FLOATS)
        shared = d.read("shared")

        def meet() -> None:
            threads, give = d.size("threads"), d.read("sleep")
            b.call(barrier, f"ptr {shared}", f"i64 {threads}", f"ptr {give}")

        def step(k: Int, _: list[Value]) -> None:
            halted = b.load_i64(b.at(shared, spmd.HALTED, 1))
            b.when(b.compare("eq", halted, 0), lambda: _step(d, plan, k, shared, meet))

        b.loop(0, d.size("steps"), step)
        spmd.restore_denormals(b, old)
    return d.finish()


def _step(d: _Driver, plan: TrainingPlan, k: Int, shared: Value, meet: Callable[[], None]) -> None:
    b, layout = d.b, d.layout
    d.start = b.mul(k, d.size("batch"))
    left = b.sub(d.size("samples"), d.start)
    count = b.minimum(d.size("batch"), left)
    groups = b.divide(b.add(count, b.width - 1), b.width)
    pieces = b.minimum(groups, PIECES)
    d.hyper = b.at(d.read("hyper"), b.mul(k, d.size("hypers")))
    d.share = b.load_float(d.read("scales"), k)
    d.sizes = {"groups": groups, "pieces": pieces}
    _write_key(d, k)

    def group(g: Int, piece: Int) -> None:
        d.prepare_lanes(g, str(count), ordered=True, labels=plan.targets is None)
        d.gather("images", *plan.images, g)
        if plan.targets is not None:
            d.gather("targets", *plan.targets, g)
        d.run_calls(plan.calls, g, piece)

    def piece(p: Int) -> None:
        if layout.piece_floats:
            start = b.at(d.read("pieces"), b.mul(p, layout.piece_floats))
            d.call(plan.clear, [f"ptr {start}"])
        b.loop(p, groups, lambda g, _: group(g, p), step=PIECES)

    flags, stamp = d.read("flags"), b.add(d.size("stamp"), b.mul(k, 2))
    spmd.claim_near(b, flags, pieces, _share(d, pieces), stamp, piece)
    meet()

    stamp, before = b.add(stamp, 1), PIECES
    for items in plan.phases:
        count_of_items = sum(work.count for work in items)
        places = b.at(flags, before, 8)
        spmd.claim_near(
            b,
            places,
            count_of_items,
            _share(d, count_of_items),
            stamp,
            lambda i, items=items: _one_of(d, items, i),  # type: ignore[misc]
        )
        meet()
        before += count_of_items
    done = b.add(k, 1)
    b.emit(f"store atomic i64 {done}, ptr {b.at(shared, spmd.PROGRESS, 1)} monotonic, align 8")


def _one_of(d: _Driver, items: Sequence[Items], i: Int) -> None:
    """The i-th item of a phase."""
    b, first = d.b, 0
    for work in items:
        inside = b.compare("ult", b.sub(i, first), work.count)
        b.when(inside, lambda work=work, first=first: _item(d, work, b.sub(i, first)))  # type: ignore[misc]
        first += work.count


def _share(d: _Driver, count: Int) -> Int:
    """Where this thread's share of `count` pieces begins."""
    b = d.b
    return b.let(f"udiv i64 {b.mul(d.thread, count)}, {d.size('threads')}")


def _item(d: _Driver, work: Items, k: Int) -> None:
    for kernel, slots in work.calls:
        d.call(kernel, [d.address(s, item=k) for s in slots])


def _write_key(d: _Driver, k: Int) -> None:
    """The random generator's key and counter of this step: seed (two words), step number."""
    b = d.b
    seed = d.size("seed")
    number = b.add(d.size("first_step"), k)
    for at, word in enumerate((seed, b.let(f"lshr i64 {seed}, 32"), number)):
        small = b.let(f"trunc i64 {word} to i32")
        b.emit(f"store i32 {small}, ptr {b.at(d.key, at)}, align 4")
