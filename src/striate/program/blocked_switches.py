"""Rules for the switches of max pooling, and for unpooling, in blocked programs."""

from __future__ import annotations

from striate.kernels.unpool import max_switches, max_unpool
from striate.program.blocked import BLOCKED, Lowering
from striate.program.fuse import Fused, switches_of


class SwitchRules(Lowering):
    """Where windows do not overlap; other windows are computed by their formula."""

    def op_max_pool_indices(self, step: Fused) -> None:
        x = step.node.inputs[0]
        switches = switches_of(step.node, self.shape(x), step.node.shape)
        if switches is None:
            self.other(step)
            return
        operands = {"x": self.value(x, BLOCKED), "y": self.make(step.output, BLOCKED)}
        kernel = max_switches(self.target, switches)
        self.run_blocks(step.output, kernel, operands, self.blocks(x))

    def op_max_unpool(self, step: Fused) -> None:
        x, indices = step.node.inputs
        switches = switches_of(step.node, step.node.shape, self.shape(x))
        if switches is None:
            self.other(step)
            return
        operands = {"x": self.value(x, BLOCKED), "indices": self.value(indices, BLOCKED)}
        operands["y"] = self.make(step.output, BLOCKED)
        kernel = max_unpool(self.target, switches)
        self.run_blocks(step.output, kernel, operands, self.blocks(x))
