"""Direct weight gradients keep their sums in registers in all loops that run often."""

from __future__ import annotations

import re
from functools import cache

import pytest
from spills import spills_in_loops

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS, Target
from striate.kernels.direct_weight import DirectWeight, candidates, weight_gradient
from striate.kernels.window import taps

# outputs, contracted, size, kernel, stride, padding, plain
LAYERS = {
    "3×3": (64, 64, 56, 3, 1, 1, False),
    "3×3 of small images": (128, 128, 7, 3, 1, 1, False),
    "3×3 stride 2": (128, 64, 28, 3, 2, 1, False),
    "3×3 of 16 channels": (16, 16, 32, 3, 1, 1, False),
    "5×5": (32, 32, 14, 5, 1, 2, False),
    "1×1": (128, 64, 28, 1, 1, 0, False),
    "1×1 stride 2": (128, 64, 28, 1, 2, 0, False),
    "3×3 of 3 channels": (64, 3, 224, 3, 1, 1, True),
    "7×7 of 3 channels": (64, 3, 224, 7, 2, 3, True),
}


def problem(layer: str) -> DirectWeight:
    outputs, contracted, size, kernel, stride, padding, plain = LAYERS[layer]
    out = (size + 2 * padding - kernel) // stride + 1
    along = taps(size, out, kernel, stride, 1, padding)
    square = (kernel, kernel)
    return DirectWeight(outputs, contracted, 1, square, (size, size), along, along, plain)


@cache
def texts(layer: str, target: Target) -> list[str]:
    """The assembly of a layer's kernels, for the two best register tiles."""
    p = problem(layer)
    tiles = {(o.blocks, o.channels, o.columns): o for o in reversed(candidates(target, p))}
    best = [weight_gradient(target, p, o).steps[0] for o in list(tiles.values())[-2:]]
    return [assembly(step.kernel.module.text, target) for step in best]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("level", ["v3", "v4"])
def test_no_spills(level: str, layer: str) -> None:
    for text in texts(layer, TARGETS[f"x86-64-{level}"]):
        assert spills_in_loops(text) == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_hardly_any_spills_on_the_oldest_target(layer: str) -> None:
    for text in texts(layer, TARGETS["x86-64-v2"]):
        assert spills_in_loops(text) <= 2


@pytest.mark.parametrize("layer", LAYERS)
def test_no_spills_on_aarch64(layer: str) -> None:
    """Whole vectors neither go to the stack nor come from there."""
    for text in texts(layer, TARGETS["aarch64"]):
        assert not re.search(r"\b(?:ldr|str|ldp|stp)\s+q\d+,.*\[sp", text)
