"""Small networks that between them hold every operation and every way to join them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.formula.activation import map_attributes
from striate.formula.expression import Var, exp, maximum, sigmoid, sqrt, where
from striate.graph.graph import Graph, Node
from striate.models import lenet5

X, Y = Var("x"), Var("y")


class Net:
    """Builds a graph; every method returns the name of the new node."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph([Node("x", "input", shape=shape)])

    def parameter(self, stem: str, *shape: int) -> str:
        name = self.graph.unique(stem)
        return self.graph.append(Node(name, "parameter", shape=shape, batched=False)).name

    def conv(
        self,
        x: str,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: Sequence[Sequence[int]] = ((0, 0), (0, 0)),
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        weight: str | None = None,
    ) -> str:
        shape = (outputs, self.graph.nodes[x].shape[0] // groups, kernel, kernel)
        weight = weight or self.parameter("conv.weight", *shape)
        inputs = (x, weight, *([self.parameter("conv.bias", outputs)] if bias else []))
        attributes = {
            "stride": [stride, stride],
            "padding": [list(side) for side in padding],
            "dilation": [dilation, dilation],
            "groups": groups,
        }
        return self.op("conv2d", *inputs, **attributes)

    def linear(self, x: str, outputs: int, *, bias: bool = True, weight: str | None = None) -> str:
        size = self.graph.nodes[x].shape[0]
        weight = weight or self.parameter("linear.weight", outputs, size)
        inputs = (x, weight, *([self.parameter("linear.bias", outputs)] if bias else []))
        return self.op("linear", *inputs)

    def pool(self, op: str, x: str, kernel: int, stride: int, padding: int = 0, **more: Any) -> str:
        sides = [[padding, padding], [padding, padding]]
        common = {"kernel": [kernel, kernel], "stride": [stride, stride], "padding": sides}
        return self.op(op, x, **common, **more)

    def max_pool(self, x: str, kernel: int = 2, stride: int = 2, padding: int = 0) -> str:
        return self.pool("max_pool2d", x, kernel, stride, padding, dilation=[1, 1])

    def map(self, function: Any, *inputs: str) -> str:
        names = ("x", "y", "z")[: len(inputs)]
        return self.op("map", *inputs, **map_attributes(function, names))

    def flat(self, x: str) -> str:
        return self.op("reshape", x, shape=[-1])

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.apply(self.graph.unique(op), op, inputs, attributes).name

    def done(self, *outputs: str) -> Graph:
        self.graph.outputs = outputs
        return self.graph


@dataclass(frozen=True)
class Problem:
    """A network, its loss, and data for it."""

    graph: Graph
    loss: str = "cross_entropy"

    def parameters(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        found = {}
        for node in self.graph.parameters:
            fan_in = max(int(np.prod(node.shape[1:])), 4)
            found[node.name] = (rng.normal(size=node.shape) / np.sqrt(fan_in)).astype(np.float32)
        return found

    def images(self, count: int) -> Any:
        rng = np.random.default_rng(1)
        return rng.normal(size=(count, *self.graph.inputs[0].shape)).astype(np.float32)

    def targets(self, count: int) -> Any:
        rng = np.random.default_rng(2)
        shape = self.graph.nodes[self.graph.outputs[0]].shape
        if self.loss == "cross_entropy":
            return rng.integers(0, shape[0], count)
        return rng.normal(size=(count, *shape)).astype(np.float32)

    def inner(self) -> list[str]:
        return [node.name for node in self.graph.steps]


def _lenet() -> Problem:
    return Problem(lenet5().to_graph((1, 28, 28)))


def _branches() -> Problem:
    """A residual block, a gate; both convolutions' values are read twice."""
    net = Net(2, 7, 6)
    one = [[1, 1], [1, 1]]
    a = net.conv("x", 4, padding=one)
    r = net.map("relu", a)
    b = net.conv(r, 4, padding=one, bias=False)
    total = net.map(maximum(X + Y, 0), b, a)
    gate = net.map(X * sigmoid(Y), total, b)
    return Problem(net.done(net.linear(net.flat(net.max_pool(gate)), 5)))


def _input_twice() -> Problem:
    net = Net(3, 5, 5)
    a = net.conv("x", 3, padding=[[1, 1], [1, 1]])
    total = net.map(X + Y, "x", a)
    doubled = net.map(X * X - Y, total, "x")
    return Problem(net.done(net.linear(net.flat(doubled), 3)))


def _concat_and_slice() -> Problem:
    net = Net(2, 6, 6)
    a, b = net.conv("x", 3), net.map("tanh", net.conv("x", 2))
    joined = net.op("concat", a, b, a, axis=1)
    part = net.op("slice", joined, axis=1, start=2, stop=7)
    lines = net.op("slice", part, axis=2, start=1, stop=3)
    wide = net.op("concat", lines, lines, axis=3)
    return Problem(net.done(net.linear(net.flat(net.map("relu", wide)), 4)))


def _reshapes() -> Problem:
    net = Net(2, 4, 6)
    flat = net.map("tanh", net.flat(net.conv("x", 3, 1)))
    image = net.op("reshape", flat, shape=[6, 3, 4])
    out = net.map("relu", net.conv(image, 2, 2))
    square = net.op("reshape", net.op("reshape", out, shape=[3, 4]), shape=[-1])
    return Problem(net.done(net.linear(square, 3)))


def _shared_weights() -> Problem:
    net = Net(2, 6, 6)
    w = net.parameter("shared", 2, 2, 3, 3)
    one = [[1, 1], [1, 1]]
    a = net.map("relu", net.conv("x", 2, padding=one, weight=w, bias=False))
    b = net.map("relu", net.conv(a, 2, padding=one, weight=w))
    v = net.parameter("square", 72, 72)
    c = net.map("tanh", net.linear(net.flat(b), 72, weight=v))
    return Problem(net.done(net.linear(net.linear(c, 72, weight=v), 3)))


def _dropouts() -> Problem:
    net = Net(2, 6, 6)
    a = net.op("dropout", net.map("relu", net.conv("x", 3)), p=0.25, site=0)
    b = net.map("relu", net.linear(net.flat(a), 13))
    c = net.op("dropout", b, p=0.5, site=7)
    return Problem(net.done(net.linear(net.map(X * 2, c), 4)))


def _random_numbers() -> Problem:
    """Slopes drawn anew for every number, and one drawn for each channel."""
    net = Net(2, 6, 6)
    a = net.conv("x", 3)
    u = net.op("uniform", a, site=2, shape=[3, 4, 4])
    b = net.map(where(X > 0, X, X * (0.125 + 0.25 * Y)), a, u)
    c = net.linear(net.flat(b), 7)
    v = net.op("uniform", "x", site=0, shape=[7])
    return Problem(net.done(net.linear(net.map(X * (Y + 0.5), c, v), 4)))


def _average_pools() -> Problem:
    net = Net(2, 9, 8)
    a = net.pool("avg_pool2d", net.conv("x", 3), 2, 2, count_include_pad=True)
    b = net.map("scaled_tanh", a)
    c = net.pool("avg_pool2d", b, 3, 1, 1, count_include_pad=False)
    return Problem(net.done(net.linear(net.flat(c), 3)))


def _max_pools() -> Problem:
    net = Net(2, 9, 9)
    a = net.map("relu", net.max_pool(net.conv("x", 3, padding=[[1, 1], [1, 1]]), 3, 2, 1))
    b = net.map("tanh", net.max_pool(a, 2, 1))
    return Problem(net.done(net.linear(net.flat(b), 3)))


def _groups() -> Problem:
    net = Net(6, 6, 5)
    one = [[1, 0], [0, 1]]
    depth = net.map("relu", net.conv("x", 6, 2, padding=one, groups=6))
    grouped = net.conv(depth, 9, 3, groups=3, stride=2, padding=[[1, 1], [1, 1]])
    point = net.map("relu", net.conv(grouped, 4, 1, dilation=2, bias=False))
    return Problem(net.done(net.linear(net.flat(point), 3)))


def _large_conv() -> Problem:
    """A weight gradient that is summed over the whole batch at once."""
    net = Net(16, 5, 4)
    a = net.map("relu", net.conv("x", 33, 3, padding=[[1, 1], [1, 1]]))
    return Problem(net.done(net.linear(net.flat(net.max_pool(a)), 3)))


def _linear_only() -> Problem:
    """Flat inputs, sizes that are no multiple of anything."""
    net = Net(131)
    a = net.map("relu", net.linear("x", 33))
    return Problem(net.done(net.linear(net.map("sigmoid", net.linear(a, 129)), 7)))


def _no_activation() -> Problem:
    net = Net(1, 4, 4)
    return Problem(net.done(net.linear(net.flat(net.conv(net.conv("x", 2, 2), 3, 2)), 3)))


def _own_activation() -> Problem:
    net = Net(1, 5, 5)
    a = net.map(where(X > 0, X, X / sqrt(1 + 0.5 * X * X)), net.conv("x", 3))
    b = net.map(X * X * exp(-X) + 0.5 * X, net.linear(net.flat(a), 6))
    return Problem(net.done(net.linear(b, 3)))


def _vector_targets() -> Problem:
    net = Net(5)
    return Problem(net.done(net.linear(net.map("tanh", net.linear("x", 9)), 3)), "mse")


def _image_targets() -> Problem:
    net = Net(1, 5, 6)
    a = net.map("tanh", net.conv("x", 4, padding=[[1, 1], [1, 1]]))
    return Problem(net.done(net.map("sigmoid", net.conv(a, 2, padding=[[1, 1], [1, 1]]))), "mse")


def _softmax_inside() -> Problem:
    net = Net(6)
    soft = net.op("softmax", net.linear("x", 5))
    return Problem(net.done(net.linear(net.map(X * Y, soft, net.linear("x", 5)), 3)), "mse")


def _one_class() -> Problem:
    net = Net(1, 3, 3)
    return Problem(net.done(net.linear(net.flat(net.map("sigmoid", net.conv("x", 1))), 1)), "mse")


def _unused_parameter() -> Problem:
    net = Net(4)
    net.parameter("unused", 3, 3)
    dead = net.linear("x", 2)
    net.map("relu", dead)
    return Problem(net.done(net.linear("x", 3)))


BUILDERS: dict[str, Callable[[], Problem]] = {
    name.lstrip("_").replace("_", " "): build
    for name, build in list(globals().items())
    if name.startswith("_") and callable(build) and getattr(build, "__module__", "") == __name__
}
