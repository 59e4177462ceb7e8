"""Rules for locally connected layers in blocked programs; their images are plain."""

from __future__ import annotations

from striate.graph.graph import Node
from striate.kernels.local import Local, local, local_input_gradient
from striate.program.blocked import PLAIN, Lowering, Operand
from striate.program.convolution import Windows, windows_of
from striate.program.fuse import Fused
from striate.program.stage import Ref


class LocalRules(Lowering):
    """Forward passes, and the transposed ones."""

    def op_local2d(self, step: Fused) -> None:
        x, weight, *bias = step.node.inputs
        w = self.local_windows(step.node, x, weight, step.node.name)
        if w is None:
            self.other(step)
            return
        operands: dict[str, Operand] = {"source": self.rows(x)}
        operands["weight"] = Ref("parameter", weight)
        kind = ""
        if bias:
            operands["bias"] = Ref("parameter", bias[0])
            kind = "place" if len(self.shape(bias[0])) > 1 else "channel"
        operands["out"] = self.caller_place(step.output) or self.make(step.output, PLAIN)
        self.run(step.output, local(self.target, local_form(w), kind), operands)

    op_local1d = op_local3d = op_local2d

    def op_local_transpose2d(self, step: Fused) -> None:
        x, weight, *bias = step.node.inputs
        w = self.local_windows(step.node, x, weight, step.node.name)
        if w is None or bias:
            self.other(step)
            return
        self.local_back(step, w, x, weight)

    op_local_transpose1d = op_local_transpose3d = op_local_transpose2d

    def local_back(self, step: Fused, w: Windows, source: str, weight: str) -> None:
        """The transpose of a locally connected layer."""
        operands: dict[str, Operand] = {"dy": self.rows(source)}
        operands["weight"] = Ref("parameter", weight)
        operands["out"] = self.caller_place(step.output) or self.make(step.output, PLAIN)
        self.run(step.output, local_input_gradient(self.target, local_form(w)), operands)

    def local_windows(self, node: Node, x: str, weight: str, y: str) -> Windows | None:
        """The windows of a locally connected layer, if its kernels serve it."""
        w = windows_of(node, self.shape(x), self.shape(weight), self.shape(y))
        return w if w.stride[-1] == 1 else None


def local_form(w: Windows) -> Local:
    """The locally connected layer of these windows; its columns' stride is 1."""
    along = (w.out[1], w.dilation[-1], w.padding[-1][0])
    return Local(w.outputs, w.contracted, w.groups, w.kernel, w.source, w.rows, *along)
