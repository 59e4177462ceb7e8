"""Direct convolutions in blocked layout: sums and operands stay in registers."""

from __future__ import annotations

import pytest
from conv_case import ConvCase
from spills import spills_in_loops

from striate.codegen.compiler import assembly
from striate.codegen.targets import TARGETS
from striate.kernels.direct import Direct, candidates, direct
from striate.kernels.window import reversed_taps

ONE = ((1, 1), (1, 1))
LAYERS = {
    "3×3": ConvCase(64, 64, (56, 56), padding=ONE),
    "3×3 of 14×14": ConvCase(256, 256, (14, 14), padding=ONE),
    "3×3 of 7×7": ConvCase(512, 512, (7, 7), padding=ONE),
    "3×3 stride 2": ConvCase(64, 128, (56, 56), (3, 3), (2, 2), ONE),
    "1×1": ConvCase(256, 64, (56, 56), (1, 1)),
    "1×1 stride 2": ConvCase(256, 512, (28, 28), (1, 1), (2, 2)),
    "5×5": ConvCase(64, 192, (27, 27), (5, 5), padding=((2, 2), (2, 2))),
    "1×7": ConvCase(128, 128, (17, 17), (1, 7), padding=((0, 0), (3, 3))),
}
FIRST = {
    "3×3": ConvCase(3, 64, (224, 224), padding=ONE),
    "7×7": ConvCase(3, 64, (224, 224), (7, 7), (2, 2), ((3, 3), (3, 3))),
    "11×11": ConvCase(3, 64, (224, 224), (11, 11), (4, 4), ((2, 2), (2, 2))),
}


def _forward(case: ConvCase, plain: bool = False) -> Direct:
    rows, cols = case.along(0), case.along(1)
    return Direct(case.outputs, case.channels, 1, case.size, rows, cols, case.kernel, True, plain)


def _to_input(case: ConvCase) -> Direct:
    rows, cols = (reversed_taps(case.along(k), case.size[k]) for k in (0, 1))
    return Direct(
        case.channels,
        case.outputs,
        1,
        case.out,
        rows,
        cols,
        case.kernel,
        period=case.stride[1],
    )


def _spills(p: Direct, level: str, count: int = 1) -> list[int]:
    """Of the first candidates; each has another tile."""
    target = TARGETS[level]
    steps = [direct(target, p, None, way).steps[0] for way in candidates(target, p)[:count]]
    return [spills_in_loops(assembly(step.kernel.module.text, target)) for step in steps]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_forward(level: str, layer: str) -> None:
    assert _spills(_forward(LAYERS[layer]), level, 2) == [0, 0]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_to_input(level: str, layer: str) -> None:
    assert _spills(_to_input(LAYERS[layer]), level) == [0]


@pytest.mark.parametrize("layer", FIRST)
@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
def test_first_layers(level: str, layer: str) -> None:
    assert _spills(_forward(FIRST[layer], plain=True), level) == [0]


@pytest.mark.parametrize("layer", ["3×3", "3×3 stride 2", "1×1"])
def test_without_multiply_add(layer: str) -> None:
    """16 registers and products that need one of their own."""
    assert max(_spills(_forward(LAYERS[layer]), "x86-64-v2")) <= 4
