"""The hot loops of Winograd convolutions keep their sums in registers."""

from __future__ import annotations

import pytest
from spills import spills_in_loops

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS
from striate.kernels.routine import Recipe
from striate.kernels.winograd import Options, Winograd, transform_weights, winograd, winograd_weight
from striate.kernels.winograd_plan import WeightOptions

ONE = ((1, 1), (1, 1))


def _spills(made: Recipe, level: str) -> list[int]:
    target = TARGETS[level]
    return [spills_in_loops(assembly(r.kernel.module.text, target)) for r in made.steps]


def _layer(channels: int, size: int, m: int, batch: int = 1) -> Winograd:
    return Winograd(channels, channels, (size, size), ONE, m, True, batch)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("channels", "size"), [(64, 56), (40, 14), (96, 7)])
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_forward(level: str, channels: int, size: int, m: int) -> None:
    target, p = TARGETS[level], _layer(channels, size, m, 8)
    assert not any(_spills(winograd(target, p), level))
    assert not any(_spills(winograd(target, p, None, Options(1, panels=1, phases=True)), level))


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("pieces", [0, 3])
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_gradient_to_weights(level: str, pieces: int, m: int) -> None:
    """Bringing the sums back may keep some of the 18 columns on the stack; sums never are."""
    target, p = TARGETS[level], _layer(64, 28, m)
    *sums, back = _spills(winograd_weight(target, p, WeightOptions(2, 2, pieces)), level)
    assert not any(sums)
    assert back <= 40


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_transform_of_weights_has_few(level: str, m: int) -> None:
    (count,) = _spills(transform_weights(TARGETS[level], _layer(64, 28, m)), level)
    assert count <= 40
