"""Networks for blocked programs only: whole blocks of channels, batch norm, Winograd's sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from networks import Net, Problem, X, Y

from striate.formula.expression import maximum

ONE = [[1, 1], [1, 1]]


def _norm(net: Net, x: str, momentum: float = 0.1) -> str:
    channels = net.graph.nodes[x].shape[0]
    stems = ("norm.weight", "norm.bias", "norm.mean", "norm.var")
    names = [net.parameter(stem, channels) for stem in stems]
    return net.op("batch_norm", x, *names, eps=1e-5, momentum=momentum)


class _NormProblem(Problem):
    """Variances are positive."""

    def parameters(self) -> dict[str, np.ndarray]:
        found = super().parameters()
        for name, array in found.items():
            if "norm.var" in name or "norm.weight" in name:
                found[name] = np.abs(array) + np.float32(0.5)
        return found


def _residual_norms() -> Problem:
    """A stem, a residual block with a projection, another one without; global pooling."""
    net = Net(3, 12, 11)
    a = net.map("relu", _norm(net, net.conv("x", 16, padding=ONE, bias=False)))
    b = net.map("relu", _norm(net, net.conv(a, 24, stride=2, padding=ONE, bias=False)))
    b = _norm(net, net.conv(b, 24, padding=ONE, bias=False), momentum=0.3)
    side = _norm(net, net.conv(a, 24, 1, stride=2, bias=False))
    c = net.map(maximum(X + Y, 0), b, side)
    d = net.map("relu", _norm(net, net.conv(c, 24, padding=ONE)))
    e = net.map(maximum(X + Y, 0), net.conv(d, 24, padding=ONE), c)
    pooled = net.op("adaptive_avg_pool2d", e, output=[1, 1])
    return _NormProblem(net.done(net.linear(net.flat(pooled), 5)))


def _norm_alone() -> Problem:
    """Batch norm on the input, behind a branch, and on flat features."""
    net = Net(5, 6, 7)
    a = _norm(net, "x")
    b = net.conv(a, 9, padding=ONE)
    c = net.map("relu", _norm(net, b))
    d = net.map(X + Y, c, b)
    return _NormProblem(net.done(net.linear(_norm(net, net.linear(net.flat(d), 13)), 4)))


def _joined_blocks() -> Problem:
    """Concatenations that are made in place, one inside the other, and one that is not."""
    net = Net(2, 8, 8)
    a = net.map("relu", net.conv("x", 16, padding=ONE))
    b = net.map("relu", net.conv(a, 8, padding=ONE))
    inner = net.op("concat", a, b, axis=1)
    c = net.conv(inner, 5, 1)
    outer = net.op("concat", inner, c, net.map("tanh", c), axis=1)
    part = net.op("slice", outer, axis=1, start=8, stop=27)
    return Problem(net.done(net.linear(net.flat(net.max_pool(part)), 4)))


def _mobile() -> Problem:
    """An inverted residual: expand, depthwise, project, add."""
    net = Net(3, 9, 9)
    a = net.map("relu", _norm(net, net.conv("x", 16, stride=2, padding=ONE, bias=False)))
    b = net.map("relu", _norm(net, net.conv(a, 33, 1, bias=False)))
    c = net.map("relu", _norm(net, net.conv(b, 33, groups=33, padding=ONE, bias=False)))
    d = net.map(X + Y, _norm(net, net.conv(c, 16, 1, bias=False)), a)
    e = net.conv(d, 16, 3, groups=16, stride=2, padding=ONE)
    return _NormProblem(net.done(net.linear(net.flat(net.map("relu", e)), 3)))


def _winograd_sizes(size: Sequence[int], channels: int = 16) -> Problem:
    net = Net(channels, *size)
    a = net.map("relu", net.conv("x", channels + 8, padding=ONE))
    b = net.map("relu", net.conv(a, channels, padding=[[0, 1], [2, 0]]))
    return Problem(net.done(net.linear(net.flat(net.max_pool(b)), 3)))


def _winograd_small() -> Problem:
    return _winograd_sizes((7, 6), 19)


def _winograd_large() -> Problem:
    return _winograd_sizes((25, 30))


def _response_norm() -> Problem:
    net = Net(2, 7, 7)
    a = net.map("relu", net.conv("x", 20, padding=ONE))
    b = net.op("local_response_norm", a, size=5, alpha=0.3, beta=0.75, k=1.0)
    return Problem(net.done(net.linear(net.flat(net.max_pool(b, 3, 2)), 3)))


def _adaptive_pools() -> Problem:
    net = Net(3, 7, 10)
    a = net.op("adaptive_avg_pool2d", net.conv("x", 9), output=[3, 5])
    b = net.op("adaptive_avg_pool2d", a, output=[5, 6])
    return Problem(net.done(net.linear(net.flat(b), 3)))


def _flipped(net: Net, x: str, outputs: int, *kernel: int, **settings: Any) -> str:
    """A true convolution with a bias."""
    rank = len(kernel)
    usual = {"stride": [1] * rank, "padding": [[1, 1]] * rank, "dilation": [1] * rank, "groups": 1}
    attributes = {**usual, **settings}
    inputs = net.graph.nodes[x].shape[0] // attributes["groups"]
    weight = net.parameter("true.weight", outputs, inputs, *kernel)
    return net.op(f"true_conv{rank}d", x, weight, net.parameter("true.bias", outputs), **attributes)


def _true_convolutions() -> Problem:
    """By Winograd, directly, depthwise, in groups; a weight that a plain convolution has too."""
    net = Net(18, 13, 12)
    a = net.map("relu", _flipped(net, "x", 17, 3, 3))
    b = _flipped(net, a, 17, 2, 3, stride=[1, 2], groups=17)
    c = _flipped(net, b, 34, 3, 2, padding=[[2, 1], [0, 1]], groups=17)
    weight = net.graph.nodes[c].inputs[1]
    d = net.op("conv2d", b, weight, **net.graph.nodes[c].attributes)
    both = net.map(X + Y, c, d)
    wide = net.op("reshape", both, shape=[34, -1])
    e = _flipped(net, wide, 5, 4, padding=[[3, 0]], dilation=[2])
    return Problem(net.done(net.linear(net.flat(e), 3)))


def _true_volumes() -> Problem:
    net = Net(2, 5, 6, 7)
    a = net.map("relu", _flipped(net, "x", 6, 2, 3, 2, stride=[1, 2, 1]))
    weight = net.parameter("back.weight", 6, 3, 2, 2, 3)
    settings = {"stride": [2, 1, 2], "padding": [[1, 0]] * 3, "output_padding": [1, 0, 0]}
    b = net.op("conv_transpose3d", a, weight, **settings, dilation=[1, 1, 1], groups=1)
    return Problem(net.done(net.linear(net.flat(net.map("tanh", b)), 3)))


BLOCKED_BUILDERS: dict[str, Callable[[], Problem]] = {
    "residual norms": _residual_norms,
    "norm alone": _norm_alone,
    "joined blocks": _joined_blocks,
    "mobile": _mobile,
    "winograd small": _winograd_small,
    "winograd large": _winograd_large,
    "response norm": _response_norm,
    "adaptive pools": _adaptive_pools,
    "true convolutions": _true_convolutions,
    "true volumes": _true_volumes,
}
