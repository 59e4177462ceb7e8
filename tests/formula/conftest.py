"""Operations with inputs: every test here that takes a `case` runs over all of them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from striate.formula.activation import map_attributes
from striate.formula.expression import Var, exp, maximum, where

Case = tuple[str, dict[str, Any], list[NDArray[Any]]]


def conv(
    stride: Any = (1, 1), padding: Any = ((0, 0), (0, 0)), dilation: Any = (1, 1), groups: int = 1
) -> dict[str, Any]:
    return {
        "stride": list(stride),
        "padding": [list(side) for side in padding],
        "dilation": list(dilation),
        "groups": groups,
    }


def pool(kernel: Any, stride: Any, padding: Any = ((0, 0), (0, 0)), **more: Any) -> dict[str, Any]:
    sides = [list(side) for side in padding]
    return {"kernel": list(kernel), "stride": list(stride), "padding": sides, **more}


def _normal(*shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    rng = np.random.default_rng(sum(sum(shape) for shape in shapes))
    return [rng.normal(size=shape) for shape in shapes]


def _conv_cases() -> dict[str, Case]:
    uneven = ((1, 2), (0, 3))
    return {
        "conv": ("conv2d", conv(), _normal((2, 3, 7, 6), (4, 3, 3, 2), (4,))),
        "conv without bias": ("conv2d", conv(), _normal((2, 3, 7, 6), (4, 3, 3, 2))),
        "conv stride": (
            "conv2d",
            conv((2, 3), ((1, 1), (2, 2))),
            _normal((2, 2, 9, 8), (3, 2, 3, 3), (3,)),
        ),
        "conv uneven dilation": (
            "conv2d",
            conv((1, 2), uneven, (2, 3)),
            _normal((2, 2, 8, 9), (3, 2, 3, 2), (3,)),
        ),
        "conv groups": (
            "conv2d",
            conv((1, 1), ((1, 1), (1, 1)), groups=2),
            _normal((2, 4, 5, 5), (6, 2, 3, 3), (6,)),
        ),
        "conv depthwise": (
            "conv2d",
            conv((2, 1), ((1, 1), (1, 1)), groups=4),
            _normal((2, 4, 6, 5), (4, 1, 3, 3), (4,)),
        ),
        "conv of one sample": ("conv2d", conv(), _normal((1, 1, 3, 3), (1, 1, 3, 3), (1,))),
    }


def transposed(
    stride: Any, padding: Any, more: Any = (0, 0), dilation: Any = (1, 1), groups: int = 1
) -> dict[str, Any]:
    return {**conv(stride, padding, dilation, groups), "output_padding": list(more)}


def _more_conv_cases() -> dict[str, Case]:
    one, op = ((1, 1), (1, 1)), "conv_transpose2d"
    return {
        "conv of sequences": (
            "conv1d",
            conv((1,), ((0, 0),), (1,)),
            _normal((2, 3, 7), (4, 3, 3), (4,)),
        ),
        "conv of sequences, groups": (
            "conv1d",
            conv((2,), ((1, 2),), (2,), groups=2),
            _normal((2, 4, 9), (6, 2, 3)),
        ),
        "conv of volumes": (
            "conv3d",
            conv((1, 2, 1), ((1, 1), (0, 1), (0, 0)), (1, 1, 2)),
            _normal((2, 2, 4, 5, 6), (3, 2, 2, 3, 2), (3,)),
        ),
        "conv of volumes, depthwise": (
            "conv3d",
            conv((1, 1, 1), ((0, 0),) * 3, (1, 1, 1), groups=2),
            _normal((1, 2, 3, 3, 4), (2, 1, 2, 2, 2)),
        ),
        "transposed conv": (
            op,
            transposed((2, 2), ((0, 0), (0, 0))),
            _normal((2, 3, 3, 4), (3, 4, 2, 2), (4,)),
        ),
        "transposed conv overlapping": (
            op,
            transposed((2, 3), one, (1, 2)),
            _normal((2, 2, 4, 3), (2, 3, 3, 4)),
        ),
        "transposed conv dilation": (
            op,
            transposed((1, 2), one, (0, 1), (2, 1)),
            _normal((2, 2, 4, 3), (2, 3, 3, 2), (3,)),
        ),
        "transposed conv groups": (
            op,
            transposed((2, 1), one, (1, 0), groups=2),
            _normal((2, 4, 3, 4), (4, 3, 3, 3), (6,)),
        ),
    }


def _pool_cases() -> dict[str, Case]:
    return {
        "max pool": ("max_pool2d", pool((2, 2), (2, 2), dilation=[1, 1]), _normal((2, 3, 6, 7))),
        "max pool overlapping": (
            "max_pool2d",
            pool((3, 2), (2, 1), ((1, 1), (0, 1)), dilation=[1, 2]),
            _normal((2, 3, 7, 6)),
        ),
        "avg pool": (
            "avg_pool2d",
            pool((2, 3), (2, 2), count_include_pad=True),
            _normal((2, 3, 6, 7)),
        ),
        "avg pool padding": (
            "avg_pool2d",
            pool((3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=True),
            _normal((2, 3, 6, 7)),
        ),
        "avg pool inside": (
            "avg_pool2d",
            pool((3, 3), (2, 2), ((1, 0), (1, 1)), count_include_pad=False),
            _normal((2, 3, 6, 7)),
        ),
    }


def _norm_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for op in ("batch_norm", "batch_norm_training"):
        for shape in ((5, 3), (4, 3, 7), (2, 3, 4, 5), (2, 2, 3, 2, 4)):
            x, w, b, mean, var = _normal(shape, *[(shape[1],)] * 4)
            settings = {"eps": 1e-3, "momentum": 0.1}
            found[f"{op} of {len(shape)} axes"] = (op, settings, [x, w, b, mean, var**2 + 0.5])
    response = {"size": 3, "alpha": 0.5, "beta": 0.75, "k": 1.0}
    found["response norm"] = ("local_response_norm", response, _normal((2, 5, 3, 4)))
    wide = {"size": 4, "alpha": 0.3, "beta": 0.5, "k": 2.0}
    found["response norm, wide"] = ("local_response_norm", wide, _normal((2, 3, 4)))
    return found


def _adaptive_cases() -> dict[str, Case]:
    sizes = {"even": (2, 3), "uneven": (3, 4), "one": (1, 1), "whole": (6, 6), "more": (8, 2)}
    return {
        f"adaptive pool {name}": (
            "adaptive_avg_pool2d",
            {"output": list(size)},
            _normal((2, 3, 6, 6 if name in ("whole", "even") else 5)),
        )
        for name, size in sizes.items()
    }


def _other_cases() -> dict[str, Case]:
    x, y = Var("x"), Var("y")
    elu = map_attributes(where(x > 0, x, exp(x) - 1))
    two = map_attributes(maximum(x, y) * x + y / (1 + y * y), ("x", "y"))
    return {
        "linear": ("linear", {}, _normal((3, 5), (4, 5), (4,))),
        "linear without bias": ("linear", {}, _normal((3, 5), (4, 5))),
        "map of one": ("map", elu, _normal((2, 3, 4))),
        "map of two": ("map", two, _normal((2, 3, 4, 2), (2, 3, 4, 2))),
        "concat": ("concat", {"axis": 1}, _normal((2, 3, 4), (2, 1, 4), (2, 2, 4))),
        "concat last": ("concat", {"axis": 2}, _normal((2, 3, 4), (2, 3, 1))),
        "slice": ("slice", {"axis": 2, "start": 1, "stop": 3}, _normal((2, 3, 4, 2))),
        "reshape": ("reshape", {"shape": [2, -1]}, _normal((2, 3, 4))),
        "dropout": ("dropout", {"p": 0.5, "site": 0}, _normal((2, 3))),
        "softmax": ("softmax", {}, _normal((3, 5))),
        "cross entropy": ("cross_entropy", {}, [*_normal((3, 5)), np.array([4, 0, 2])]),
        "mse": ("mse_loss", {}, _normal((3, 2, 4), (3, 2, 4))),
    }


def _families() -> list[Any]:
    """The modules `cases_NAME.py` beside this one: each has CASES, and LINEAR and PEERS if any."""
    found = sorted(Path(__file__).parent.glob("cases_*.py"))
    return [import_module(f"tests.formula.{path.stem}") for path in found]


FAMILIES = _families()
CASES: dict[str, Case] = {
    **_conv_cases(),
    **_more_conv_cases(),
    **_pool_cases(),
    **_adaptive_cases(),
    **_norm_cases(),
    **_other_cases(),
    **{name: case for family in FAMILIES for name, case in family.CASES.items()},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES.values(), ids=list(CASES))
