"""The weight gradient of fully connected layers over a whole batch.

Lanes run along the inputs here, so a tile of the gradient comes out as whole vectors of weights
in torch's layout and no lanes need summing. It reads the inputs sample by sample (`rows`, made
by `layout.scatter_samples`) and broadcasts the upstream gradients. Forward and gradient to the
input are gathers on a 1×1 image, see conv.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from striate.codegen.builder import Builder, Int, Value
from striate.codegen.targets import Target
from striate.kernels.conv import ROW_BLOCK
from striate.kernels.kernel import Kernel, make_kernel


def _tile(target: Target, vectors: int) -> tuple[int, int]:
    """Outputs and input vectors of a register tile: about square, a few registers to spare."""
    spare = 1 if target.fma else 2
    shapes = [(o, v) for o in (1, 2, 4, 8) for v in (1, 2, 3, 4) if v <= vectors]
    fitting = [(o, v) for o, v in shapes if o * v + v + spare <= target.registers]
    return max(fitting, key=lambda s: (s[0] * s[1] / (s[0] + s[1]), s[1]))


@functools.lru_cache(maxsize=64)
def batch_weight_gradient(target: Target, outputs: int, inputs: int) -> Kernel:
    """dw[o, k] = Σ over samples of dy[o] · x[k], for blocks first … last of 16 outputs.

    Arguments dw, rows (group, lane, input), dy (group, output, lane), first, last, groups, and
    the floats from one group to the next in rows and in dy.
    """

    def build(b: Builder, arguments: list[Value]) -> None:
        _BatchGradient(b, arguments, outputs, inputs).emit()

    names = ["dw", "rows", "dy", "first:i64", "last:i64", "groups:i64"]
    names += ["rows_step:i64", "dy_step:i64"]
    return make_kernel(target, "batch_weight_gradient", names, build)


class _BatchGradient:
    """Tiles of inputs outside, so that they stay in the cache while the outputs go by."""

    def __init__(self, b: Builder, arguments: list[Value], outputs: int, inputs: int) -> None:
        self.b, self.outputs, self.inputs = b, outputs, inputs
        self.dw, self.rows, self.dy, self.first, self.last, self.groups = arguments[:6]
        self.rows_step, self.dy_step = arguments[6:]
        self.to, self.vectors = _tile(b.target, max(inputs // b.width, 1))

    def emit(self) -> None:
        b = self.b
        b.loop(self.first, self.last, lambda n, _: self._block(b.mul(n, ROW_BLOCK)))

    def _block(self, start: Int) -> None:
        b = self.b
        stop = b.minimum(b.add(start, ROW_BLOCK), self.outputs)
        step = self.vectors * b.width
        wide = self.inputs // step * step
        whole = self.inputs // b.width * b.width

        def columns(k: Int, count: int) -> None:
            self._outputs(start, stop, lambda o, to: self._vectors(o, to, k, count))

        b.loop(0, wide, lambda k, _: columns(k, self.vectors), step=step)
        if wide < whole:
            columns(wide, (whole - wide) // b.width)
        for k in range(whole, self.inputs):
            self._outputs(start, stop, lambda o, to, k=k: self._column(o, to, k))  # type: ignore[misc]

    def _outputs(self, start: Int, stop: Int, body: Callable[[Int, int], None]) -> None:
        self.b.tiled_range(start, stop, self.to, body)

    def _group(self, g: Int, o: Int) -> tuple[Value, Value]:
        """A group's rows, and its gradients from output o on."""
        b = self.b
        dy = b.at(self.dy, b.add(b.mul(g, self.dy_step), b.mul(o, b.width)))
        return b.at(self.rows, b.mul(g, self.rows_step)), dy

    def _samples(
        self, o: Int, start: list[Value], step: Callable[[Value, Value, int, list[Value]], None]
    ) -> list[Value]:
        """Accumulate over all samples: step(inputs of the sample, gradients, lane, sums)."""
        b = self.b

        def group(g: Int, sums: list[Value]) -> list[Value]:
            rows, dy = self._group(g, o)
            for lane in range(b.width):
                step(rows, dy, lane, sums)
            return sums

        return b.loop(0, self.groups, group, start)

    def _vectors(self, o: Int, to: int, k: Int, count: int) -> None:
        """`to` outputs × `count` vectors of inputs from input k."""
        b = self.b

        def step(rows: Value, dy: Value, lane: int, sums: list[Value]) -> None:
            b.fence()
            here = b.at(rows, b.add(k, lane * self.inputs))
            xs = [b.load(here, v * b.width, align=4) for v in range(count)]
            for t in range(to):
                b.fence()
                d = b.broadcast(dy, t * b.width + lane)
                for v, x in enumerate(xs):
                    sums[t * count + v] = b.fma(x, d, sums[t * count + v])

        sums = self._samples(o, [b.zero] * (to * count), step)
        for t in range(to):
            out = b.at(self.dw, b.add(b.mul(b.add(o, t), self.inputs), k))
            for v in range(count):
                b.store(sums[t * count + v], out, v * b.width, align=4)

    def _column(self, o: Int, to: int, k: int) -> None:
        """`to` outputs × one input, for what is left of a vector: the lanes are samples."""
        b = self.b
        column = [k + lane * self.inputs for lane in range(b.width)]

        def group(g: Int, sums: list[Value]) -> list[Value]:
            rows, dy = self._group(g, o)
            x = "poison"
            for lane, at in enumerate(column):
                x = b.insert(x, b.load_float(rows, at), lane)
            return [b.fma(b.load(dy, t * b.width), x, sums[t]) for t in range(to)]

        sums = b.loop(0, self.groups, group, [b.zero] * to)
        for first in range(0, to, b.width):  # a tile may have more outputs than a vector lanes
            some = sums[first : first + b.width]
            total = b.sum_lanes(some)
            for t in range(len(some)):
                place = b.add(b.mul(b.add(o, first + t), self.inputs), k)
                b.store_float(b.extract(total, t), self.dw, place)
