"""Cases of broadcast arithmetic, reductions, einsum and operations that move numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.formula.broadcast import broadcast_attributes
from striate.formula.expression import Expr, Var, exp, log
from striate.formula.reduce import p_norm, reduce_attributes

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]
X, Y, P, Q, T = (Var(name) for name in "xypqt")


def normal(*shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    rng = np.random.default_rng(sum(sum(shape) for shape in shapes) + len(shapes))
    return [rng.normal(size=shape) for shape in shapes]


def spread(expr: Expr, names: str, *shapes: tuple[int, ...]) -> Case:
    return "broadcast_map", broadcast_attributes(expr, tuple(names)), normal(*shapes)


def reduced(
    shape: tuple[int, ...], over: list[int], keepdim: bool, how: str, *formulas: Expr
) -> Case:
    return "reduce", reduce_attributes(how, over, keepdim, *formulas), normal(shape)


def _norms() -> dict[str, Case]:
    cases = {}
    for p in (0.5, 1, 2, 3, float("inf"), float("-inf")):
        cases[f"norm {p}"] = reduced((2, 3, 4), [2], False, *p_norm(p))
    return cases


def einsum(equation: str, inputs: str, *shapes: tuple[int, ...]) -> Case:
    return "einsum", {"equation": equation, "inputs": list(inputs)}, normal(*shapes)


CASES: dict[str, Case] = {
    "broadcast channels": spread(X * Y, "xy", (2, 3, 4, 5), (2, 3, 1, 1)),
    "broadcast both ways": spread(X * Y + X, "xy", (2, 3, 1, 5), (2, 1, 4, 1)),
    "broadcast one sample, one pixel": spread(X - Y, "xy", (1, 3, 1, 1), (1, 3, 1, 1)),
    "broadcast weight": spread(X * P, "xp", (2, 3, 4, 5), (3, 1, 1)),
    "broadcast weight with a batch of one": spread(X / P, "xp", (2, 3, 4), (1, 3, 1)),
    "broadcast last": spread(X * P + Q, "xpq", (3, 2, 5), (5,), (2, 1)),
    "broadcast single weight": spread(X * exp(P), "xp", (2, 3), ()),
    "broadcast wider weight": spread(X * P, "xp", (2, 1, 2), (4, 1)),
    "broadcast of the batch alone": spread(X * P, "xp", (3,), ()),
    "broadcast three": spread((X - Y) / exp(T := Var("z")), "xyz", (2, 4, 3), (2, 4, 1), (2, 1, 3)),
    "tile": ("tile", {"repeats": [2, 1, 3]}, normal((2, 3, 4, 2))),
    "tile one": ("tile", {"repeats": [3, 2]}, normal((2, 1, 5))),
    "sum": reduced((2, 3, 4), [1], False, "sum"),
    "sum keepdim": reduced((2, 3, 4, 2), [1, 3], True, "sum"),
    "sum all": reduced((2, 3, 4), [1, 2], False, "sum"),
    "mean": reduced((2, 3, 4), [2], True, "sum", X, Var("t") / 4),
    "max": reduced((2, 3, 4, 5), [2, 3], False, "max"),
    "min": reduced((2, 3, 4), [2], True, "max", -X, -Var("t")),
    "max of one": reduced((2, 1, 4), [1], False, "max"),
    "log of the sum of squares": reduced((2, 3, 4), [1], False, "sum", X * X, log(Var("t"))),
    **_norms(),
    "logsumexp": ("logsumexp", {"axes": [2], "keepdim": False}, normal((2, 3, 4))),
    "logsumexp of all": ("logsumexp", {"axes": [1, 2], "keepdim": True}, normal((2, 3, 4))),
    "cumsum": ("cumsum", {"axis": 2}, normal((2, 3, 5, 2))),
    "cumsum of one": ("cumsum", {"axis": 1}, normal((2, 1))),
    "einsum channels": einsum("nchw,oc->nohw", "xw", (2, 3, 4, 5), (6, 3)),
    "einsum attention": einsum("nqd,nkd->nqk", "xy", (2, 3, 4), (2, 5, 4)),
    "einsum capsules": einsum("bik,ijkd->bijd", "xw", (2, 3, 4), (3, 2, 4, 5)),
    "einsum outer": einsum("na,nb->nab", "xy", (2, 3), (2, 4)),
    "einsum diagonal": einsum("naa->na", "x", (2, 3, 3)),
    "einsum trace": einsum("bnn->b", "x", (2, 3, 3)),
    "einsum three": einsum("nk,okl,nl->no", "xwy", (2, 3), (4, 3, 5), (2, 5)),
    "dense": ("dense", {}, normal((2, 3, 4, 5), (6, 5), (6,))),
    "dense without bias": ("dense", {}, normal((2, 1, 5), (3, 5))),
    "bilinear": ("bilinear", {}, normal((3, 4), (3, 5), (2, 4, 5), (2,))),
    "bilinear of rows": ("bilinear", {}, normal((2, 3, 4), (2, 3, 1), (2, 4, 1))),
    "flip": ("flip", {"axes": [1, 3]}, normal((2, 3, 4, 5))),
    "roll": ("roll", {"axes": [2, 1], "shifts": [-2, 4]}, normal((2, 3, 5))),
}

LINEAR = {
    "tile": 1,
    "cumsum": 1,
    "flip": 1,
    "roll": 1,
    "dense": 2,
}


def _torch() -> Any:
    import torch

    return torch


def _broadcast(a: dict[str, Any], *inputs: Any) -> Any:
    """The expression on torch's tensors, walked here."""
    torch, values = _torch(), dict(zip(a["inputs"], inputs, strict=True))
    functions = {"mul": torch.mul, "add": torch.add, "sub": torch.sub, "div": torch.div}

    def value(e: Any) -> Any:
        if isinstance(e, str):
            return values[e]
        if isinstance(e, list):
            return (functions.get(e[0]) or getattr(torch, e[0]))(*map(value, e[1:]))
        return e

    return value(a["expr"])


PEERS = {
    "broadcast_map": _broadcast,
    "tile": lambda a, x: x.repeat(1, *a["repeats"]),
    "logsumexp": lambda a, x: _torch().logsumexp(x, a["axes"], a["keepdim"]),
    "cumsum": lambda a, x: x.cumsum(a["axis"]),
    "einsum": lambda a, *inputs: _torch().einsum(a["equation"], *inputs),
    "dense": lambda a, *inputs: _torch().nn.functional.linear(*inputs),
    "bilinear": lambda a, *inputs: _torch().nn.functional.bilinear(*inputs),
    "flip": lambda a, x: x.flip(a["axes"]),
    "roll": lambda a, x: x.roll(a["shifts"], a["axes"]),
}
