"""Losses of images in blocked programs: the places of one sample in the lanes.

Where a loss is the mean (or the sum) of what each place of an image gives alone, a sample of
(classes, places) lies in memory as a group of samples of (classes, places/width) would: so the
kernels with the batch in lanes read it where it is, and nothing is gathered.
"""

from __future__ import annotations

import functools
import math

from striate.codegen.builder import Builder, Value
from striate.codegen.targets import Target
from striate.formula.loss import Loss
from striate.formula.operations import find_operation
from striate.graph.graph import Graph, Node
from striate.kernels.kernel import Kernel, make_kernel
from striate.program.blocked import PLAIN, Lowering
from striate.program.fuse import Fused
from striate.program.lower import Call, Context, Slot, calls_of
from striate.program.memory import aligned
from striate.program.stage import Argument, Ref, Stage, Work


def loss_stage(low: Lowering, step: Fused) -> Stage | None:
    """The stage of a loss with places in the lanes; None where it cannot be done so."""
    node = step.node
    operation = find_operation(node.operation)
    if not isinstance(operation, Loss) or node.gradient_of != "x":
        return None
    x, t = (low.shape(name) for name in node.inputs[:2])
    parts, width = math.prod(x[1:]), low.target.width
    found = operation.by_place(node.attributes, x)
    if found is None or parts % width or not parts:
        return None
    attributes, mean = found
    fewer = parts // width
    small = Graph([Node("x", "input", shape=(x[0], fewer))])
    small.append(Node("t", "input", shape=(x[0], fewer) if t == x else (fewer,)))
    made = small.apply("dx", node.op, ("x", "t"), attributes)
    calls = calls_of(Context(small, low.target, training=True), Fused(made, made.name))
    return _Item(low, step, 1 / width if mean else 1.0).stage(calls)


class _Item:
    """What the calls of one sample are given."""

    def __init__(self, low: Lowering, step: Fused, share: float) -> None:
        self.low, self.step, self.share = low, step, share
        x, t = step.node.inputs[:2]
        self.known: dict[str, Argument] = {
            "x": Ref("value", low.value(x, PLAIN)),
            "t": Ref("value", low.value(t, PLAIN)),
        }
        self.known["dx"] = Ref("value", low.make(step.output, PLAIN))
        self.room = 0

    def stage(self, calls: list[Call]) -> Stage:
        target = self.low.target
        before = Work(_spread(target, self.share), (self._take("scale"), Ref("array", "scales")))
        works = [Work(c.kernel, tuple(map(self._argument, c.slots))) for c in calls]
        losses = Ref("array", "losses", step=4)
        after = Work(_gathered(target, self.share), (losses, self._take("losses")))
        return Stage(self.step.output, (before, *works, after), 1, scratch=self.room)

    def _argument(self, slot: Slot) -> Argument:
        if slot.kind == "value":
            return self.known[slot.name]
        return self._take(slot.name, slot.number)

    def _take(self, name: str, floats: int = 0) -> Argument:
        """A piece of the thread's memory by its name; a vector unless said."""
        if name not in self.known:
            self.known[name] = Ref("scratch", offset=self.room)
            self.room += aligned(floats or self.low.target.width)
        return self.known[name]


@functools.lru_cache(maxsize=16)
def _spread(target: Target, share: float) -> Kernel:
    """out = scale·share in every lane; arguments out, scale."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, scale = arguments
        b.store(b.fmul(b.broadcast(scale), b.const(share)), out)

    return make_kernel(target, "spread", ["out", "scale"], build)


@functools.lru_cache(maxsize=16)
def _gathered(target: Target, share: float) -> Kernel:
    """out = share·Σ source over the lanes; arguments out (one float), source."""

    def build(b: Builder, arguments: list[Value]) -> None:
        out, source = arguments
        vector = b.fmul(b.load(source), b.const(share))
        total = b.extract(vector, 0)
        for lane in range(1, b.width):
            total = b.let(f"fadd float {total}, {b.extract(vector, lane)}")
        b.store_float(total, out)

    return make_kernel(target, "gathered", ["out", "source"], build)
