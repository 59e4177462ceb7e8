"""Cases of random numbers and of activations that are no plain map, and torch's functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.formula.channel_map import apl, bipolar_relu, channel_map_attributes, prelu, srelu
from striate.formula.expression import Var, exp

RNG = np.random.default_rng(11)


def _of(*shapes: tuple[int, ...]) -> list[Any]:
    return [RNG.normal(size=shape) for shape in shapes]


def _sides(channels: int) -> list[Any]:
    """Parameters of SReLU: the left place below the right one."""
    left, right = -0.5 - RNG.random(channels), 0.5 + RNG.random(channels)
    return [left, RNG.normal(size=channels), right, RNG.normal(size=channels)]


SWISH = channel_map_attributes(Var("x") / (1 + exp(-Var("p0") * Var("x"))) * Var("k0"), [[1, 2, 3]])

CASES: dict[str, Any] = {
    "uniform": ("uniform", {"site": 3, "shape": [2, 5]}, _of((3, 4))),
    "prelu": ("channel_map", prelu(), _of((2, 3, 4, 5), (3,))),
    "prelu shared": ("channel_map", prelu(), _of((2, 3, 4), (1,))),
    "prelu of vectors": ("channel_map", prelu(), _of((3, 5), (5,))),
    "srelu": ("channel_map", srelu(), [*_of((2, 4, 3, 3)), *_sides(4)]),
    "srelu shared": ("channel_map", srelu(), [*_of((2, 3, 5)), *_sides(1)]),
    "apl": ("channel_map", apl(3), _of((2, 4, 3, 2), (3, 4), (3, 4))),
    "apl of one hinge, shared": ("channel_map", apl(1), _of((3, 2, 2, 1), (1, 1), (1, 1))),
    "bipolar relu": ("channel_map", bipolar_relu(), _of((2, 5, 3, 4))),
    "channel map with constants": ("channel_map", SWISH, _of((2, 7, 3), (7,))),
    "softmax of channels": ("softmax_along", {"axis": 1}, _of((2, 5, 3, 2))),
    "softmax of rows": ("softmax_along", {"axis": 3}, _of((2, 2, 3, 7))),
    "softmin": ("softmin", {"axis": 2}, _of((2, 3, 4))),
    "log softmax": ("log_softmax", {"axis": 1}, _of((3, 7))),
    "log softmax of images": ("log_softmax", {"axis": 2}, _of((2, 3, 4, 2))),
    "glu": ("glu", {"axis": 1}, _of((2, 6, 3, 2))),
    "glu of vectors": ("glu", {"axis": 1}, _of((3, 10))),
    "glu, last axis": ("glu", {"axis": 2}, _of((2, 3, 2))),
}
LINEAR: dict[str, int] = {}


def _softmax(a: Any, x: Any) -> Any:
    return x.softmax(a["axis"])


def _glu(a: Any, x: Any) -> Any:
    import torch

    return torch.nn.functional.glu(x, a["axis"])


PEERS: dict[str, Any] = {
    "softmax_along": _softmax,
    "softmin": lambda a, x: (-x).softmax(a["axis"]),
    "log_softmax": lambda a, x: x.log_softmax(a["axis"]),
    "glu": _glu,
}
