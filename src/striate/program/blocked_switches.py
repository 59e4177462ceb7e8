"""Rules for the switches of max pooling, and for unpooling, in blocked programs."""

from __future__ import annotations

from striate.graph.graph import Node, Shape
from striate.kernels.unpool import Switches, are_apart, max_switches, max_unpool
from striate.program.blocked import BLOCKED, Lowering
from striate.program.fuse import Fused


class SwitchRules(Lowering):
    """Where windows do not overlap; other windows are computed by their formula."""

    def op_max_pool_indices(self, step: Fused) -> None:
        x = step.node.inputs[0]
        switches = self.switches_of(step.node, self.shape(x), step.node.shape)
        if switches is None:
            self.other(step)
            return
        operands = {"x": self.value(x, BLOCKED), "y": self.make(step.output, BLOCKED)}
        kernel = max_switches(self.target, switches)
        self.run_blocks(step.output, kernel, operands, self.blocks(x))

    def op_max_unpool(self, step: Fused) -> None:
        x, indices = step.node.inputs
        switches = self.switches_of(step.node, step.node.shape, self.shape(x))
        if switches is None:
            self.other(step)
            return
        operands = {"x": self.value(x, BLOCKED), "indices": self.value(indices, BLOCKED)}
        operands["y"] = self.make(step.output, BLOCKED)
        kernel = max_unpool(self.target, switches)
        self.run_blocks(step.output, kernel, operands, self.blocks(x))

    def switches_of(self, node: Node, image: Shape, pooled: Shape) -> Switches | None:
        """The windows, if they are of images, lie apart, and need no padding."""
        a = node.attributes
        stride, kernel, dilation = (tuple(a[k]) for k in ("stride", "kernel", "dilation"))
        if len(kernel) != 2 or any(map(any, a["padding"])):
            return None
        if not are_apart(stride, kernel, dilation):
            return None
        return Switches(image[1:], pooled[1:], kernel, stride, dilation)  # type: ignore[arg-type]
