"""Depthwise convolution and batch normalisation: no vector register through the stack."""

from __future__ import annotations

import pytest
from spills import spills_in_loops

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS, Target
from striate.kernels import norm
from striate.kernels.depthwise import Depthwise, depthwise, depthwise_weight_gradient
from striate.kernels.kernel import Kernel
from striate.kernels.routine import Recipe
from striate.kernels.window import reversed_taps, taps

LAYERS = {  # channels, size, kernel, stride
    "3×3": (128, 56, 3, 1),
    "3×3 stride 2": (96, 112, 3, 2),
    "3×3 of 7×7": (960, 7, 3, 1),
    "5×5": (240, 14, 5, 1),
    "5×5 stride 2": (72, 56, 5, 2),
    "7×7": (96, 56, 7, 1),
}
ROLES = ("forward", "to input", "to weight")


def _kernel(layer: str, role: str, target: Target) -> Kernel:
    channels, size, kernel, stride = LAYERS[layer]
    before = kernel // 2
    out = (size + 2 * before - kernel) // stride + 1
    along = taps(size, out, kernel, stride, 1, before)
    forward = Depthwise(channels, (size, size), along, along, (kernel, kernel), True)
    if role == "forward":
        return _only(depthwise(target, forward))
    if role == "to weight":
        return _only(depthwise_weight_gradient(target, forward))
    back = reversed_taps(along, size)
    problem = Depthwise(channels, (out, out), back, back, (kernel, kernel), period=stride)
    return _only(depthwise(target, problem))


def _only(recipe: Recipe) -> Kernel:
    return recipe.steps[0].kernel


def _spills(kernel: Kernel, level: str) -> int:
    return spills_in_loops(assembly(kernel.module.text, TARGETS[f"x86-64-{level}"]))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("level", ["v2", "v3", "v4"])
def test_depthwise_convolution(level: str, layer: str, role: str) -> None:
    most = 2 if level == "v2" else 0  # products need a register of their own there
    assert _spills(_kernel(layer, role, TARGETS[f"x86-64-{level}"]), level) <= most


@pytest.mark.parametrize("positions", [49, 3136])
@pytest.mark.parametrize("level", ["v3", "v4"])
def test_batch_normalisation(level: str, positions: int) -> None:
    target = TARGETS[f"x86-64-{level}"]
    for recipe in (
        norm.batch_statistics(target, 64, positions, 1e-5, 0.1),
        norm.batch_norm(target, 64, positions),
        norm.batch_norm_sums(target, 64, positions),
        norm.batch_norm_gradient(target, 64, positions),
    ):
        assert _spills(_only(recipe), level) == 0
